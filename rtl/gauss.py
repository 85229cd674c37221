"""A Gaussian sample from one word of the hash, by two looks into a table."""

from amaranth.hdl import Module, Mux, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.params.formats import GAUSS_BITS, GAUSS_INDEX_BITS, gaussian_table
from rtl.pipeline import delay, register

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
        """Clocks from word to sample: table, its register, sign, sum."""
        return 4

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
            m.d.comb += [port.addr.eq(index[:-1]), port.en.eq(1)]
            negative = delay(m, index[-1], 2, f"negative{k}")
            value = register(m, port.data, f"value{k}")  # a block RAM's output is slow: nothing else in its clock
            halves.append(register(m, Mux(negative, -value, value), f"half{k}"))
        m.d.comb += self.xi.eq(register(m, halves[0] + halves[1], "sum"))
        return m
