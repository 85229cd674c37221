"""The device pipeline against its model."""

import types
from pathlib import Path

import numpy as np
import pytest
from amaranth.sim import Simulator

import rtl.device
from rtl.device import SLOTS, Device
from rtl.params import Purpose, Table, hash_counter, hash_key, preset
from sim.device import (
    aged_codes,
    born,
    pulsed_states,
    relaxed_and_exponent,
    state_codes,
    stepped_states,
    stuck_state,
)
from sim.gauss import gaussian
from sim.hash import threefry2x32
from tests.rtl.bench import with_hashes

CORNERS = np.array([0, 1, 127, 128, 255, 256, 32767, 51200, 65407, 65408, 65535])


def random_tables(rng, largest):
    """Tables that leave no limit unreached."""
    tables = np.stack([rng.integers(0, limit + 1, 256) for limit in largest])
    tables[:, :2] = 0
    tables[:, -1] = 65535
    return tables


def run(dut, settings, tile, aging, tables, requests):
    """Write the tables, send a request in every last slot and noise between, return what comes out, by name."""
    rng = np.random.default_rng(7)
    names = ("state", "stuck", "wears", "endurance", "code")
    seen = []

    async def bench(ctx):
        for name, value in settings.items():
            ctx.set(dut.settings[name], value)
        ctx.set(dut.tile, tile)
        ctx.set(dut.aging, aging)
        for table in Table:
            for index in range(256):
                ctx.set(dut.table_write, {"valid": 1, "table": int(table), "index": index,
                                          "value": int(tables[table, index])})
                await ctx.tick()
        ctx.set(dut.table_write.valid, 0)
        for clock in range(1, SLOTS * len(requests) + dut.latency + 1):
            number, slot = divmod(clock, SLOTS)
            ctx.set(dut.slot, (slot - 1) % SLOTS)
            taken = slot == 0 and number <= len(requests)
            ctx.set(dut.i, requests[number - 1 if taken else int(rng.integers(len(requests)))])
            if slot == 0 and clock > dut.latency:
                seen.append([ctx.get(getattr(dut, name)) for name in names])
            await ctx.tick()

    simulator = Simulator(with_hashes(dut, dut.hash))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return dict(zip(names, np.array(seen, np.int64).T, strict=True))


@pytest.mark.parametrize(("state_bits", "log_time", "common", "largest"), [
    (16, 0, 0, (3000, 3000, 8000, 3000, 30000, 65535, 2000, 3000, 1 << 15, 65535)),
    (9, 85_000, 1, (9000, 9000, 8000, 3000, 60000, 20_000, 9000, 9000, 1 << 15, 200)),
    (12, (1 << 18) - 1, 0, (65535,) * 10),
])
def test_device_equals_model(state_bits, log_time, common, largest):
    """Melt and gradual pulses mixed, and ageing, of devices of which a quarter is stuck."""
    check(Device, state_bits, log_time, common, largest, count=600)


MUTATIONS = {
    "VARIATION in another slot": ("with m.Elif(self._at(2)):", "with m.Elif(self._at(3)):"),
    "PULSE in another slot": ("with m.If(self._at(0)):", "with m.If(self._at(1)):"),
    "samples of two hashes exchanged": ("Mux(self._at(HASH_LATENCY + 1), second, first)",
                                        "Mux(self._at(HASH_LATENCY + 1), first, second)"),
    "size of the other way": ("Mux(own, word0[8:], word0)", "Mux(own, word0, word0[8:])"),
    "sizes of steps up for steps down": ("_INDEX_BITS - 1], down, variation)", "_INDEX_BITS - 1], ~down, variation)"),
    "trains that scatter as their length": ("Mux(amplitude[bit:].any(), xi >> 1, xi)",
                                            "Mux(amplitude[bit:].any(), xi, xi)"),
    "half the strength": ("saturate(product[VARIATION_FRACTION:]", "saturate(product[VARIATION_FRACTION + 1:]"),
    "unit limited early": ("limit = (1 << G16_BITS - 1) - 1", "limit = (1 << G16_BITS - 2) - 1"),
    "stuck by the other word": ("self._words[1] < self", "self._words[0] < self"),
    "pulses of all epochs alike": ("iteration, settings.epoch)", "iteration)"),
    "beyond Gmax": ("Mux(above, GMAX_G16, moved(merged_at))", "moved(merged_at)"),
    "trains that reach Gmax": ("GMAX_G16 - floor), floor_at", "GMAX_G16), floor_at"),
    "trains that reach 0": ("Mux(pulse(floor_at)[1], floor, GMAX", "Mux(pulse(floor_at)[1], 0, GMAX"),
    "floors for every pulse": ("with m.If(pulse(floor_at)[2]):", "with m.If(1):"),
    "up for down": ("Mux(pulse(moved_at)[1], -unit, unit)", "Mux(pulse(moved_at)[1], unit, -unit)"),
}
"""Of the pipeline's text; each must be seen."""


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_pipeline_is_seen(name):
    right, wrong = MUTATIONS[name]
    source = Path(rtl.device.__file__).read_text("utf-8")
    assert source.count(right) == 1
    module = types.ModuleType("mutated")
    exec(compile(source.replace(right, wrong), name, "exec"), module.__dict__)
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        check(module.Device, 16, 0, 0, (3000, 3000, 8000, 3000, 30000, 65535, 20_000, 30_000, 1 << 15, 65535),
              count=150)


def check(device_class, state_bits, log_time, common, largest, *, count):
    """Compare a pipeline with the model: `count` pulses, and as many devices aged."""
    rng = np.random.default_rng(state_bits)
    geometry = preset("tiny").replace(state_bits=state_bits, wear_bits=3)
    settings = {"seed": int(rng.integers(1 << 32)), "chip": int(rng.integers(256)), "epoch": int(rng.integers(256)),
                "age": int(rng.integers(1 << 20)), "log_time": log_time, "common_variation": common,
                "stuck_rate": 1 << 30, "stuck_value": int(rng.integers(1 << 16)),
                "wear_rate": int(rng.integers(1 << 32))}
    tile, tables = int(rng.integers(1 << 16)), random_tables(rng, largest)
    state = np.concatenate([CORNERS, CORNERS, CORNERS, rng.integers(0, 65536, count - 3 * len(CORNERS))])
    row, column, device, iteration = (rng.integers(0, top, count) for top in (1024, 1024, 4, 512))
    gradual, down, amplitude = (rng.integers(0, top, count) for top in (2, 2, 65536))
    amplitude[::2] >>= 6
    amplitude[:3 * len(CORNERS)] = np.tile(CORNERS, 3)
    state = state >> 16 - state_bits << 16 - state_bits
    names = ("g16", "gradual", "down", "amplitude", "row", "column", "device", "iteration")

    def requests(g16, gradual):
        return [dict(zip(names, map(int, values), strict=True))
                for values in zip(g16, gradual, down, amplitude, row, column, device, iteration, strict=True)]

    dut, asked = device_class(geometry=geometry), requests(np.where(gradual, state, amplitude), gradual)
    pulsed = run(dut, settings, tile, 0, tables, asked)
    aged = run(device_class(geometry=geometry), settings, tile, 1, tables, requests(state, 0 * gradual))

    counter, epoch = hash_counter(row, column, device), settings["epoch"] << 24
    key = {p: hash_key(settings["seed"], p, settings["chip"], tile) for p in Purpose}
    word, wearing = threefry2x32(*key[Purpose.PULSE], counter, epoch | iteration << 4)
    xi = gaussian(word)
    devices = born(tables, threefry2x32(*key[Purpose.VARIATION], counter, 0), common=bool(common),
                   stuck_rate=settings["stuck_rate"])
    assert count / 6 < devices.stuck.sum() < count / 3
    stepped = stepped_states(tables, state >> 16 - state_bits, amplitude, down, devices, xi, gaussian(wearing),
                             state_bits)
    expected = np.where(gradual, stepped, pulsed_states(tables, amplitude, xi, state_bits))
    stuck = stuck_state(settings["stuck_value"], state_bits)
    np.testing.assert_array_equal(pulsed["state"], np.where(devices.stuck, stuck, expected))
    np.testing.assert_array_equal(pulsed["stuck"], devices.stuck)
    np.testing.assert_array_equal(pulsed["endurance"], devices.endurance)
    np.testing.assert_array_equal(pulsed["wears"], wearing < settings["wear_rate"])
    assert len(np.unique(stepped)) > count / 6

    xi_relax, xi_nu = (gaussian(word) for word in threefry2x32(*key[Purpose.STATIC], counter, epoch))
    xi_flicker = gaussian(threefry2x32(*key[Purpose.FLICKER], counter, epoch | settings["age"] << 4)[0])
    relaxed, nu = relaxed_and_exponent(tables, state, xi_relax, xi_nu)
    codes = aged_codes(tables, state, relaxed, nu, xi_flicker, log_time)
    np.testing.assert_array_equal(aged["code"], np.where(devices.stuck, state_codes(stuck, state_bits), codes))
