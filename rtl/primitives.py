"""The two parts a chip repeats most, in portable form: what a board may replace by its vendor's cells.

A platform that has cells of its own for a part offers `get_multiplier` or `get_block_memory`, as it may offer
`get_ff_sync` to Amaranth's library: called with the component, it returns what drives the component's outputs, to the
same clock, or None if its cells cannot do this one.
"""

from amaranth.hdl import Module, Shape, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["BlockMemory", "Multiplier", "product_bits"]


def product_bits(a_bits: int, b_bits: int) -> int:
    """Return the bits of a signed product of which not both factors are the most negative number."""
    return a_bits + b_bits - 1


def _replacement(platform, name: str, component):
    """Return what the platform has in place of a component, or None."""
    return getattr(platform, name)(component) if hasattr(platform, name) else None


class Multiplier(wiring.Component):
    """Multiply signed `a` and `b`: registers, product, two registers.

    Parameters
    ----------
    a_bits, b_bits : int
        Widths; not both factors may be the most negative number.
    soft : bool
        Of logic cells, where the platform has a form for it: leaves the hard multipliers to others. Then `b` should
        change seldom, since it drives a few cells for each bit of `a`.

    Members
    -------
    a, b : signed, in
    p : signed, out
        Their product, `latency` clocks later.
    """

    latency = 3

    def __init__(self, *, a_bits: int, b_bits: int, soft: bool = False):
        self.soft = soft
        self.p_bits = product_bits(a_bits, b_bits)
        super().__init__({"a": In(signed(a_bits)), "b": In(signed(b_bits)), "p": Out(signed(self.p_bits))})

    def elaborate(self, platform):
        replaced = _replacement(platform, "get_multiplier", self)
        if replaced is not None:
            return replaced

        m = Module()
        a, b = Signal.like(self.a, reset_less=True), Signal.like(self.b, reset_less=True)
        product, after = (Signal.like(self.p, name=name, reset_less=True) for name in ("product", "after"))
        m.d.sync += [a.eq(self.a), b.eq(self.b), product.eq(a * b), after.eq(product)]
        m.d.comb += self.p.eq(after)
        return m


class BlockMemory(wiring.Component):
    """A block RAM with its output register: a word read every clock, single parts of one written at the same time.

    Parameters
    ----------
    depth : int
        Words.
    parts : int
        Parts of a word.
    shape : Shape
        Of a part.

    Members
    -------
    address : in
        Word to read.
    word : out
        Its parts, `latency` clocks later. Read in the clock of its own write, a word is undefined on a board: whoever
        uses this must never look at such a word.
    w_address, w_mask, w_part : in
        Write `w_part` to each part of the word that `w_mask` names.
    """

    latency = 2

    def __init__(self, *, depth: int, parts: int, shape: Shape):
        self.depth = depth
        self.shape = data.ArrayLayout(shape, parts)
        super().__init__({
            "address": In(ceil_log2(depth)),
            "word": Out(self.shape),
            "w_address": In(ceil_log2(depth)),
            "w_mask": In(unsigned(parts)),
            "w_part": In(shape),
        })

    def elaborate(self, platform):
        replaced = _replacement(platform, "get_block_memory", self)
        if replaced is not None:
            return replaced

        m = Module()
        m.submodules.memory = store = memory.Memory(shape=self.shape, depth=self.depth, init=[],
                                                    attrs={"no_rw_check": 1})
        read, write = store.read_port(), store.write_port(granularity=1)

        word = Signal(self.shape, reset_less=True)
        m.d.comb += [read.addr.eq(self.address), read.en.eq(1), self.word.eq(word)]
        m.d.sync += word.eq(read.data)

        m.d.comb += [write.addr.eq(self.w_address), write.en.eq(self.w_mask)]
        m.d.comb += [write.data[part].eq(self.w_part) for part in range(self.shape.length)]
        return m
