"""A Gaussian sample from one word of the hash, by two looks into a table of quantiles."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.params.formats import GAUSS_BITS, GAUSS_INDEX_BITS, gaussian_table

__all__ = ["Gaussian"]


class Gaussian(wiring.Component):
    """xi ~ N(0, 1) in units of 2**-14, feed-forward: a word each clock, its sample `latency` clocks later.

    Bits 0...9 of the word are the first index, bit 10 its sign (1 is negative), bits 11...20 and 21 the second; the
    two values are added. One table with two read ports: a single true-dual-port block RAM on parts that have one.

    Members
    -------
    word : In(32)
    xi : Out(signed(18))
    """

    def __init__(self):
        super().__init__({"word": In(32), "xi": Out(signed(GAUSS_BITS))})

    @property
    def latency(self) -> int:
        """Clocks from word to sample: table, sign, sum."""
        return 3

    def elaborate(self, platform):
        """Read the table twice, apply the signs, add."""
        m = Module()
        table = gaussian_table()
        m.submodules.table = memory = Memory(
            shape=unsigned(max(table).bit_length()), depth=len(table), init=table)
        halves = []
        for k in range(2):
            index = self.word[k * GAUSS_INDEX_BITS:(k + 1) * GAUSS_INDEX_BITS]
            port = memory.read_port()
            negative = Signal(name=f"negative{k}", reset_less=True)
            half = Signal(signed(GAUSS_BITS - 1), name=f"half{k}", reset_less=True)
            m.d.comb += [port.addr.eq(index[:-1]), port.en.eq(1)]
            m.d.sync += [negative.eq(index[-1]), half.eq(Mux(negative, -port.data, port.data))]
            halves.append(half)
        m.d.sync += self.xi.eq(halves[0] + halves[1])
        return m
