"""Integer square root, a bit a clock: for what is needed once a vector or once a column, not each clock."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Isqrt"]


class Isqrt(wiring.Component):
    """root = floor(sqrt(value)), by the restoring method that takes two bits of the value a step.

    Parameters
    ----------
    width : int
        Bits of the value, at least 1.

    Members
    -------
    start : In(1)
        Take `value`; while one is being worked on, begin anew.
    value : In(width)
    done : Out(1)
        High for one clock, `latency` clocks after `start`, when `root` is ready.
    root : Out((width + 1) // 2)
        Holds until the next start.
    """

    def __init__(self, *, width: int):
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise ValueError(f"width must be a positive integer, not {width!r}")
        self._width = width
        self._steps = (width + 1) // 2
        super().__init__({
            "start": In(1), "value": In(width), "done": Out(1), "root": Out(self._steps),
        })

    @property
    def width(self) -> int:
        """Bits of the value."""
        return self._width

    @property
    def latency(self) -> int:
        """Clocks from start to done."""
        return self._steps + 1

    def elaborate(self, platform):
        """Bring down two bits, try to take the trial away, keep what is left."""
        m = Module()
        steps = self._steps
        left = Signal(range(steps + 1))
        value = Signal(2 * steps, reset_less=True)
        remainder = Signal(steps, reset_less=True)  # at most twice the root so far
        root = Signal(steps, reset_less=True)
        difference = Signal(steps + 3)
        fits = Signal()
        grown = Cat(value[-2:], remainder)
        m.d.comb += [
            difference.eq(grown - Cat(Const(1, 2), root)),
            fits.eq(~difference[-1]),
            self.root.eq(root),
        ]
        m.d.sync += self.done.eq(left == 1)
        with m.If(self.start):
            m.d.sync += [left.eq(steps), value.eq(self.value), remainder.eq(0), root.eq(0), self.done.eq(0)]
        with m.Elif(left != 0):
            m.d.sync += [
                left.eq(left - 1),
                value.eq(value << 2),
                remainder.eq(Mux(fits, difference, grown)),
                root.eq(Cat(fits, root)),
            ]
        return m
