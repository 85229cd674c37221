"""One complete read path in pulse fidelity over the macro boundary: codes equal those of charge fidelity."""

import numpy as np
import pytest

from rtl.params import PRESETS, Geometry
from rtl.pulse import PulseTile
from rtl.ramp import RampAdc
from sim.adc import Converters, convert
from sim.crossbar import integrate, trip
from sim.ramp import ramp
from tests.rtl.bench import simulate
from tests.rtl.pulse_top import PulseTop

GEOMETRIES = [PRESETS["tiny"], PRESETS["pairs"].replace(adc_bits=6), Geometry(
    name="oblong", rows=12, lanes=4, columns=5, adc_bits=4)]


def _stimulus(g, rng):
    """Return nets, vectors, noise a vector and column, and gain and offset with which some codes clip, others not."""
    nets = rng.integers(-g.net_max, g.net_max + 1, (g.rows, g.columns))
    nets[:, 0] = g.net_max
    vectors = np.stack([np.full(g.rows, 127), np.full(g.rows, -127), np.zeros(g.rows, np.int64),
                        *rng.integers(-127, 128, (4, g.rows)), *rng.integers(-9, 10, (2, g.rows))])
    noise = rng.integers(-(1 << 12), 1 << 12, (len(vectors), g.columns))
    gain = (g.code_max << 24) // (np.abs(vectors @ nets).max() // 2)
    gain = min(int(gain), (1 << 20) - 1)
    edge = int((vectors @ nets + noise)[-1, -1]) * gain + (1 << 23)  # this one shall lie between two codes
    return nets, vectors, noise, gain, -edge % (1 << 24) - (1 << 24)


async def _write(ctx, port, **fields):
    """Hold a port's fields for one clock, with `valid` high."""
    ctx.set(port, {"valid": 1} | {name: int(value) for name, value in fields.items()})
    await ctx.tick()
    ctx.set(port.valid, 0)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: g.name)
def test_codes_equal_charge_fidelity(geometry):
    g = geometry
    rng = np.random.default_rng(11)
    nets, vectors, noise, gain, offset = _stimulus(g, rng)
    dut = PulseTop(geometry=g)
    codes, clipped = [], []

    async def send(ctx):
        emulation = dut.emulation
        ctx.set(emulation.gain, gain)
        ctx.set(emulation.offset, offset)
        for row, column in np.ndindex(nets.shape):
            await _write(ctx, emulation.net, row=row, column=column, value=nets[row, column])
        for word in vectors.reshape(-1, g.transport):
            await ctx.tick().repeat(int(rng.integers(1, 3)))
            ctx.set(dut.i.payload, word.tolist())
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def make_noise(ctx):
        for vector in noise:
            await ctx.tick().until(dut.discharge)
            for column, value in enumerate(vector):
                await _write(ctx, dut.emulation.noise, column=column, value=value)

    async def receive(ctx):
        for _ in vectors:
            await ctx.tick().repeat(int(rng.integers(1, 400)))
            ctx.set(dut.o.ready, 1)
            payload, = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)
            ctx.set(dut.o.ready, 0)
            codes.append([payload.codes[column] for column in range(g.columns)])
            clipped.append(payload.clipped)

    simulate(dut, send, make_noise, receive)
    expected_codes, expected_clipped = convert(vectors @ nets + noise, Converters.of(gain, offset), g.code_max)
    by_counting = ramp(integrate(nets, vectors) + noise, gain, offset, g.code_max)
    np.testing.assert_array_equal(codes, expected_codes)
    np.testing.assert_array_equal(np.array(clipped)[:, None] >> np.arange(g.columns) & 1, expected_clipped)
    np.testing.assert_array_equal(codes, by_counting[0])
    assert 0 < expected_clipped.sum() < expected_clipped.size


@pytest.mark.parametrize("adc_bits", [4, 8])
def test_ramp_visits_every_code(adc_bits):
    """Charges in the middle, at both edges and beyond both ends of the range, at a gain of one code a charge."""
    g = Geometry(name="ramp", columns=2 * (1 << adc_bits) + 8, adc_bits=adc_bits)
    offsets = ((np.arange(g.columns) - g.columns // 2) << 23) + np.arange(g.columns) % 3 - 1
    dut = RampAdc(geometry=g)
    codes, clocks = [], []

    async def testbench(ctx):
        level = -g.code_max - 5
        for _ in range(2):
            ctx.set(dut.start, 1)
            for clock in range(dut.latency + 1):
                if ctx.get(dut.ramp_start):
                    level = -g.code_max
                elif ctx.get(dut.ramp_step):
                    level += 1
                    assert level <= g.code_max + 1
                start, step = ctx.get(dut.ramp_start), ctx.get(dut.ramp_step)
                await ctx.tick()
                assert not (start and step)
                ctx.set(dut.start, int(rng.integers(0, 2)) if clock < dut.latency - 2 else 0)
                answers = trip(np.zeros(g.columns, np.int64), 0, offsets, level)
                ctx.set(dut.trip, sum(int(answer) << column for column, answer in enumerate(answers)))
                if ctx.get(dut.done):
                    clocks.append(clock + 1)
                    codes.append([ctx.get(dut.codes[column]) for column in range(g.columns)])

    rng = np.random.default_rng(1)
    simulate(dut, testbench)
    expected, clipped = convert(np.zeros(g.columns, np.int64), Converters.of(0, offsets), g.code_max)
    np.testing.assert_array_equal(codes, [expected, expected])
    assert clocks == [dut.latency, dut.latency]
    assert set(expected) == set(range(-g.code_max, g.code_max + 1))
    assert clipped[0]
    assert clipped[-1]


def test_a_read_has_the_course_that_the_macro_page_draws():
    g = Geometry(name="course", rows=4, lanes=4, columns=4, adc_bits=5)
    dut = PulseTile(geometry=g)
    ticks = [5, -127, 0, -1]
    length = 140 + 2 * g.code_max
    seen = {name: [] for name in ("reset", "integrate", "pulse", "path", "ramp_start", "ramp_step")}

    async def testbench(ctx):
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.payload, ticks)
        ctx.set(dut.i.valid, 1)
        assert ctx.get(dut.idle)
        await ctx.tick()
        ctx.set(dut.i.valid, 0)
        assert not ctx.get(dut.idle)
        await ctx.tick()
        for _ in range(length):
            for name, values in seen.items():
                values.append(ctx.get(getattr(dut.macro, name)))
            await ctx.tick()
        assert ctx.get(dut.idle)

    simulate(dut, testbench)
    clock = np.arange(length)
    drawn = {
        "reset": clock == 0, "integrate": (clock >= 1) & (clock <= 127), "ramp_start": clock == 130,
        "ramp_step": (clock >= 131) & (clock < 131 + 2 * g.code_max + 1),
        "pulse": sum(((clock >= 1) & (clock <= abs(n))).astype(int) << row for row, n in enumerate(ticks)),
        "path": np.full(length, 0b1010),
    }
    for name, values in seen.items():
        np.testing.assert_array_equal(values, drawn[name], name)


def test_programming_lines_arm_columns_and_fire_once():
    g = PRESETS["pairs"]
    dut = PulseTop(geometry=g)
    rng = np.random.default_rng(2)
    seen, expected = [], []

    async def program(ctx):
        levels = np.zeros(g.columns, np.int64)
        for _ in range(5):
            armed = rng.permutation(g.columns)[:int(rng.integers(1, g.columns))]
            for column in armed:
                levels[column] = rng.integers(0, 1 << 16)
                await _write(ctx, dut.level, column=column, value=levels[column])
            row, device = int(rng.integers(g.rows)), int(rng.integers(4))
            expected.append((row, device, sum(1 << int(column) for column in armed), levels[armed].tolist()))
            seen_before = len(seen)
            await _write(ctx, dut.fire, row=row, device=device)
            await ctx.tick().repeat(3)
            assert len(seen) == seen_before + 1
            row_, device_, armed_, levels_ = seen[-1]
            seen[-1] = (row_, device_, armed_, [levels_[int(column)] for column in armed])

    async def watch(ctx):
        async for _, _, fired in ctx.tick().sample(dut.emulation.fired):
            if fired.valid:
                seen.append((fired.row, fired.device, fired.armed, [fired.levels[k] for k in range(g.columns)]))

    simulate(dut, program, processes=[watch])
    assert seen == expected
