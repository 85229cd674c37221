"""The device pipeline against its model."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from rtl.device import SLOTS, Device
from rtl.params import Purpose, Table, hash_counter, hash_key, preset
from sim.device import aged_codes, pulsed_states, relaxed_and_exponent
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
    """Write the tables, send a request in every last slot and noise between, return (state, code) of each."""
    rng = np.random.default_rng(7)
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
                seen.append((ctx.get(dut.state), ctx.get(dut.code)))
            await ctx.tick()

    simulator = Simulator(with_hashes(dut, dut.hash))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return np.array(seen, np.int64).T


@pytest.mark.parametrize(("state_bits", "log_time", "largest"), [
    (16, 0, (3000, 3000, 8000, 3000, 30000, 65535)),
    (9, 85_000, (9000, 9000, 8000, 3000, 60000, 20_000)),
    (12, (1 << 18) - 1, (65535,) * 6),
])
def test_device_equals_model(state_bits, log_time, largest):
    rng = np.random.default_rng(state_bits)
    geometry = preset("tiny").replace(state_bits=state_bits)
    settings = {"seed": int(rng.integers(1 << 32)), "chip": int(rng.integers(256)), "epoch": int(rng.integers(256)),
                "age": int(rng.integers(1 << 20)), "log_time": log_time}
    tile, tables, count = int(rng.integers(1 << 16)), random_tables(rng, largest), 400
    g16 = np.concatenate([CORNERS, CORNERS, rng.integers(0, 65536, count - 2 * len(CORNERS))])
    row, column, device, iteration = (rng.integers(0, top, count) for top in (1024, 1024, 4, 256))
    names = ("g16", "row", "column", "device", "iteration")
    requests = [dict(zip(names, map(int, values), strict=True))
                for values in zip(g16, row, column, device, iteration, strict=True)]

    states, _ = run(Device(geometry=geometry), settings, tile, 0, tables, requests)
    _, codes = run(Device(geometry=geometry), settings, tile, 1, tables, requests)

    counter, epoch = hash_counter(row, column, device), settings["epoch"] << 24
    key = {p: hash_key(settings["seed"], p, settings["chip"], tile) for p in Purpose}
    xi = gaussian(threefry2x32(*key[Purpose.PULSE], counter, epoch | iteration << 4)[0])
    np.testing.assert_array_equal(states, pulsed_states(tables, g16, xi, state_bits))

    xi_relax, xi_nu = (gaussian(word) for word in threefry2x32(*key[Purpose.STATIC], counter, epoch))
    xi_flicker = gaussian(threefry2x32(*key[Purpose.FLICKER], counter, epoch | settings["age"] << 4)[0])
    relaxed, nu = relaxed_and_exponent(tables, g16, xi_relax, xi_nu)
    np.testing.assert_array_equal(codes, aged_codes(tables, g16, relaxed, nu, xi_flicker, log_time))
