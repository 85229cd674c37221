# amaranth: UnusedElaboratable=no
"""The sequential square root against its model."""

import numpy as np
import pytest

from rtl.isqrt import Isqrt
from sim.fixed import isqrt
from tests.rtl.bench import simulate


def run(width, values):
    """Return the roots of values, checking when `done` comes and that the root then holds."""
    dut = Isqrt(width=width)
    roots = []

    async def testbench(ctx):
        for value in values:
            ctx.set(dut.start, 1)
            ctx.set(dut.value, int(value))
            await ctx.tick()
            ctx.set(dut.start, 0)
            ctx.set(dut.value, 0)
            for _ in range(dut.latency - 1):
                assert ctx.get(dut.done) == 0
                await ctx.tick()
            assert ctx.get(dut.done) == 1
            roots.append(ctx.get(dut.root))
            await ctx.tick().repeat(2)
            assert ctx.get(dut.done) == 0
            assert ctx.get(dut.root) == roots[-1]

    simulate(dut, testbench)
    return roots


@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_every_value_of_a_narrow_root(width):
    values = np.arange(1 << width)
    np.testing.assert_array_equal(run(width, values), isqrt(values))


@pytest.mark.parametrize("width", [31, 32, 51])
def test_wide_roots_around_squares(width):
    rng = np.random.default_rng(width)
    roots = np.append(rng.integers(1, 1 << width // 2, 40), (1 << width // 2) - 1)
    squares = roots * roots
    values = np.concatenate([squares, squares - 1, squares + 1, rng.integers(0, 1 << width, 40), [(1 << width) - 1]])
    np.testing.assert_array_equal(run(width, values), isqrt(values))


def test_a_new_start_drops_the_old_value():
    dut = Isqrt(width=16)

    async def testbench(ctx):
        for value, clocks in ((65535, 3), (144, dut.latency)):
            ctx.set(dut.value, value)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for _ in range(clocks - 1):
                assert ctx.get(dut.done) == 0
                await ctx.tick()
        assert ctx.get(dut.done) == 1
        assert ctx.get(dut.root) == 12

    simulate(dut, testbench)


@pytest.mark.parametrize("width", [0, -1, True, 8.0])
def test_widths_that_cannot_be_are_refused(width):
    with pytest.raises(ValueError, match="width must be a positive integer"):
        Isqrt(width=width)
