"""Row converters against their model."""

import numpy as np
import pytest

from rtl.dac import PulseDac, WordSums
from rtl.params import Geometry
from sim.dac import pulses, sign_magnitude, word_sums
from tests.rtl.bench import simulate


@pytest.mark.parametrize("width", [4, 8])
def test_sums_equal_the_model(width):
    rng = np.random.default_rng(width)
    words = np.concatenate([
        np.arange(-127, 127).repeat(width).reshape(-1, width),
        rng.choice([-127, -1, 0, 1, 127], (50, width)), rng.integers(-127, 128, (100, width))])
    dut = WordSums(width=width)
    ticks, squares = [], []

    async def testbench(ctx):
        for clock in range(len(words) + dut.latency):
            if clock < len(words):
                ctx.set(dut.activations, words[clock].tolist())
            if clock >= dut.latency:
                ticks.append(ctx.get(dut.ticks))
                squares.append(ctx.get(dut.squares))
            await ctx.tick()

    simulate(dut, testbench)
    expected_ticks, expected_squares = word_sums(words, np.ones(words.shape[-1], np.float32))
    np.testing.assert_array_equal(ticks, expected_ticks)
    np.testing.assert_array_equal(squares, expected_squares)


@pytest.mark.parametrize(("rows", "transport"), [(8, 4), (12, 4), (4, 4)])
def test_pulses_last_their_ticks(rows, transport):
    g = Geometry(name="rows", rows=rows, lanes=rows, transport=transport)
    rng = np.random.default_rng(rows)
    vectors = np.concatenate([rng.choice([-127, -126, -1, 0, 1, 126, 127], (2, rows)),
                              np.zeros((1, rows), np.int64), rng.integers(-127, 128, (2, rows))])
    dut = PulseDac(geometry=g)
    seen, paths = [], []

    async def send(ctx):
        for word in vectors.reshape(-1, transport):
            await ctx.tick().repeat(int(rng.integers(1, 3)))
            ctx.set(dut.i.payload, word.tolist())
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def watch(ctx):
        for _ in vectors:
            while not ctx.get(dut.loaded):
                assert ctx.get(dut.pulse) == 0
                await ctx.tick()
            await ctx.tick().repeat(int(rng.integers(1, 4)))
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            lines = []
            while ctx.get(dut.integrate):
                assert not ctx.get(dut.i.ready)
                lines.append(ctx.get(dut.pulse))
                paths.append(ctx.get(dut.path))
                await ctx.tick()
            assert ctx.get(dut.done) == 1
            seen.append(lines)

    simulate(dut, send, watch)
    path, _ = sign_magnitude(vectors)
    bits = np.arange(rows)
    lines = np.array(seen)[..., None] >> bits & 1
    np.testing.assert_array_equal(lines, pulses(vectors))
    taken = np.array(paths).reshape(len(vectors), -1)[..., None] >> bits & 1
    np.testing.assert_array_equal(taken, np.broadcast_to(path[:, None], taken.shape))
