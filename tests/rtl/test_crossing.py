# amaranth: UnusedElaboratable=no
"""Crossings between two clocks of one loop, at any phase: each value arrives once, in order, at a constant distance."""

import random

import pytest
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.sim import Simulator

from rtl.crossing import CALC, Middle

FINE = 240  # parts of a clock of the chip
CLOCK = FINE * 1e-7


class There(Elaboratable):
    """A counter of the chip's clock, taken and given back in the middles; `now` counts parts of a clock."""

    def __init__(self, pump):
        self.middle = Middle(pump=pump)
        self.sent, self.taken, self.given, self.back = (Signal(8, name=name) for name in
                                                        ("sent", "taken", "given", "back"))
        self.now = Signal(16)

    def elaborate(self, platform):
        m = Module()
        m.submodules.middle = self.middle
        m.d.sync += [self.sent.eq(self.sent + 1), self.back.eq(self.given)]
        with m.If(self.middle.tick):
            m.d[CALC] += [self.taken.eq(self.sent), self.given.eq(self.taken)]
        m.d.fine += self.now.eq(self.now + 1)
        return m


def run(pump, after, clocks=24):
    """Return how old what comes back is, clock by clock, and how long after the chip's edge values are taken.

    Parameters
    ----------
    pump : int
    after : int
        Parts of a clock from the chip's first edge to the first one of the calculation.
    """
    dut = There(pump)
    simulator = Simulator(dut)
    simulator.add_clock(CLOCK, phase=CLOCK)
    simulator.add_clock(CLOCK / pump, phase=CLOCK + after * CLOCK / FINE, domain=CALC)
    simulator.add_clock(CLOCK / FINE, phase=CLOCK, domain="fine")
    ages, middles = [], []

    async def chip(ctx):
        for _ in range(clocks):
            _, _, sent, value = await ctx.tick().sample(dut.sent, dut.back)
            ages.append((sent - value) % 256)

    async def calculation(ctx):
        while True:
            _, _, tick, now = await ctx.tick(CALC).sample(dut.middle.tick, dut.now)
            if tick:
                middles.append(now % FINE)

    simulator.add_testbench(chip)
    simulator.add_testbench(calculation, background=True)
    simulator.run()
    return ages, middles


@pytest.mark.parametrize("pump", [2, 3, 4])
def test_every_value_arrives_once_whatever_the_phase(pump):
    period = FINE // pump
    for after in [0, 1, period // 2, period - 1, *random.Random(pump).sample(range(2, period - 1), 12)]:
        ages, middles = run(pump, after)
        assert set(ages[8:]) == {2}, after
        # An edge that comes with the change does not see it.
        assert set(middles) == {(pump - 1) // 2 * period + (after or period)}


@pytest.mark.parametrize("clocks", [1, 2, 3, 4, 5])
def test_the_calculation_begins_later(clocks):
    """The chip's clock is under way: its bit may be 1 by then, which is no change."""
    ages, middles = run(3, clocks * FINE + 31, clocks=24 + clocks)
    assert set(ages[8 + clocks:]) == {2}
    assert set(middles) == {FINE // 3 + 31}
