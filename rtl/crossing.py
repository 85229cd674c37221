"""Between the chip's clock and the calculation clock, which one loop makes, one `pump` times as fast as the other.

Their phase is not known: the loop, the clock trees and the tool's model of both may shift it. So a value that crosses
is held for a whole clock of the chip and taken in its middle, and the middle is found by looking at a bit that changes
with every clock of the chip.
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

__all__ = ["CALC", "Middle"]

CALC = "calc"
"""The domain of the calculation clock. It has no reset: its registers begin with their initial values."""


class Middle(wiring.Component):
    """The edge of the calculation clock that is nearest to the middle of the chip's clock, once every such clock.

    Both ways cross at that edge: registers of the chip are taken, and registers for the chip change. The edge that
    first sees a change of the chip's registers comes between 0 and 1 calculation clocks after it; so a path into the
    calculation has at least (pump - 1) // 2 of them and a path out of it, as its value stays, at least pump // 2.
    With a pump of 2 that leaves nothing for the way in where the phase is worst: shift one clock by half a calculation
    clock there.

    The phase is looked at once, after the clocks have begun: the clocks come from one loop, so it stays, and an edge
    that meets the change must not be taken for another one each time.

    Parameters
    ----------
    pump : int
        Calculation clocks in a clock of the chip, 2 or more.

    Members
    -------
    tick : Out(1)
        In CALC: the next edge is in the middle. High once in `pump` clocks, from the 5th clock of the chip on.
    """

    def __init__(self, *, pump: int):
        self._pump = pump
        super().__init__({"tick": Out(1)})

    def elaborate(self, platform):
        m = Module()
        pump = self._pump

        toggle = Signal(reset_less=True)
        m.d.sync += toggle.eq(~toggle)

        # The first two registers also end what an edge that meets the change begins.
        seen = Signal(3, reset_less=True)
        m.d[CALC] += seen.eq(seen << 1 | toggle)
        change = seen[1] ^ seen[2]

        # What looks like the first change may be the bit's value before this clock began.
        changed = Signal(reset_less=True)
        wait = Signal(pump, reset_less=True)  # one bit is set: the tick comes in as many clocks
        with m.If(wait.any()):
            m.d[CALC] += wait.eq(wait.rotate_right(1))
        with m.Elif(change):
            m.d[CALC] += changed.eq(1)
            with m.If(changed):
                # The edge that saw the change was 2 clocks ago when `wait` is set.
                m.d[CALC] += wait.eq(1 << ((pump - 1) // 2 - 3) % pump)
        m.d.comb += self.tick.eq(wait[0])
        return m
