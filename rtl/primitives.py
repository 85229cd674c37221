"""The two parts an engine repeats most, in portable form: what a board may replace by its vendor's cells.

A replacement keeps the ports; its `latency` may differ, the engine follows it.
"""

from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["Multiplier", "WeightMemory", "product_bits"]


def product_bits(a_bits: int, b_bits: int) -> int:
    """Return the bits of a signed product of which not both factors are the most negative number."""
    return a_bits + b_bits - 1


class Multiplier(wiring.Component):
    """Multiply signed `a` and `b`: registers, product, two registers.

    Parameters
    ----------
    a_bits, b_bits : int
        Widths; not both factors may be the most negative number.

    Members
    -------
    a, b : signed, in
    p : signed, out
        Their product, `latency` clocks later.
    """

    latency = 3

    def __init__(self, *, a_bits: int, b_bits: int):
        self.p_bits = product_bits(a_bits, b_bits)
        super().__init__({"a": In(signed(a_bits)), "b": In(signed(b_bits)), "p": Out(signed(self.p_bits))})

    def elaborate(self, platform):
        m = Module()
        a, b = Signal.like(self.a, reset_less=True), Signal.like(self.b, reset_less=True)
        product, after = (Signal.like(self.p, name=name, reset_less=True) for name in ("product", "after"))
        m.d.sync += [a.eq(self.a), b.eq(self.b), product.eq(a * b), after.eq(product)]
        m.d.comb += self.p.eq(after)
        return m


class WeightMemory(wiring.Component):
    """Nets of the lanes of one group: a word read every clock, single nets written at the same time.

    Parameters
    ----------
    depth : int
        Words.
    nets, net_bits : int
        Nets in a word, and their width.

    Members
    -------
    address : in
        Word to read.
    word : out
        Its nets, `latency` clocks later. Read in the clock of its own write, a word is undefined on a board.
    w_address, w_mask, w_net : in
        Write `w_net` to each net of the word that `w_mask` names.
    """

    latency = 2

    def __init__(self, *, depth: int, nets: int, net_bits: int):
        self.depth = depth
        self.shape = data.ArrayLayout(signed(net_bits), nets)
        super().__init__({
            "address": In(ceil_log2(depth)),
            "word": Out(self.shape),
            "w_address": In(ceil_log2(depth)),
            "w_mask": In(unsigned(nets)),
            "w_net": In(signed(net_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        # Nets are written while their tile is held: no word that is used was read in the clock of its own write.
        m.submodules.memory = store = memory.Memory(shape=self.shape, depth=self.depth, init=[],
                                                    attrs={"no_rw_check": 1})
        read, write = store.read_port(), store.write_port(granularity=1)

        word = Signal(self.shape, reset_less=True)  # a rank of wire between the memory and whatever comes
        m.d.comb += [read.addr.eq(self.address), read.en.eq(1), self.word.eq(word)]
        m.d.sync += word.eq(read.data)

        m.d.comb += [write.addr.eq(self.w_address), write.en.eq(self.w_mask)]
        m.d.comb += [write.data[net].eq(self.w_net) for net in range(self.shape.length)]
        return m
