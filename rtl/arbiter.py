"""A round-robin arbiter: nobody waits for more than the others once each."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Arbiter"]


class Arbiter(wiring.Component):
    """Grants at most one of `count` requests in a clock in which `enable` is high; combinational.

    Parameters
    ----------
    count : number of those who may ask

    Members
    -------
    requests, grants : a bit each; the one granted is the next after the one granted before
    choice : number of the one granted, if any
    """

    def __init__(self, count: int):
        if count < 1:
            raise ValueError(f"count must be a positive integer, not {count!r}")
        self._count = count
        super().__init__({"requests": In(count), "enable": In(1), "grants": Out(count),
                          "choice": Out(range(max(2, count)))})

    def elaborate(self, _platform):
        m = Module()
        previous = Signal(range(max(2, self._count)))
        with m.Switch(previous):
            for turn in range(self._count):
                with m.Case(turn):
                    # Assignments further down win, so the next in turn comes last.
                    for distance in range(self._count, 0, -1):
                        candidate = (turn + distance) % self._count
                        with m.If(self.requests[candidate] & self.enable):
                            m.d.comb += [self.grants.eq(1 << candidate), self.choice.eq(candidate)]
                            m.d.sync += previous.eq(candidate)
        return m
