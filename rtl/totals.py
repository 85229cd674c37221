"""Long counts from short counters: the upper bits of all of them stand in one memory, behind one adder."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["COUNTER_BITS", "Totals"]

COUNTER_BITS = 16
"""Bits of a short counter: it must not move by half its range while all of them are visited, a clock each."""

_TOTAL_BITS = 48


class Totals(wiring.Component):
    """Visit short counters in turn, and count how often each has wrapped.

    Parameters
    ----------
    count : int
        Counters, 2 or more.

    Members
    -------
    counters : In
        They begin at 0.
    read, index : In
        Visit this counter now: `total` is its whole count. The others wait meanwhile.
    total : Out(48)
    """

    def __init__(self, *, count: int):
        self._count = count
        super().__init__({
            "counters": In(data.ArrayLayout(unsigned(COUNTER_BITS), count)), "read": In(1), "index": In(range(count)),
            "total": Out(_TOTAL_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        layout = data.StructLayout({"upper": _TOTAL_BITS - COUNTER_BITS, "half": 1})  # `half`: its highest bit then
        m.submodules.words = words = memory.Memory(shape=layout, depth=self._count, init=[])
        read, write = words.read_port(domain="comb"), words.write_port()
        turn = Signal(range(self._count))
        place = Mux(self.read, self.index, turn)
        counter = Array(self.counters[k] for k in range(self._count))[place]
        upper = Signal(layout["upper"].shape)
        with m.If(~self.read):
            m.d.sync += turn.eq(Mux(turn == self._count - 1, 0, turn + 1))
        m.d.comb += [
            read.addr.eq(place), write.addr.eq(place), write.en.eq(1),
            upper.eq(read.data.upper + (read.data.half & ~counter[-1])),
            write.data.upper.eq(upper), write.data.half.eq(counter[-1]),
            self.total.eq(Cat(counter, upper)),
        ]
        return m
