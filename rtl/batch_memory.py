"""The memory of the batch, in block RAM: written by the bus, read in runs. In SDRAM it is
`rtl/batch_store.py`."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rtl.params import BATCH_BUS_WORDS_MAX, Geometry, PortRegion
from rtl.params.registers import register

__all__ = ["BatchMemory", "batch_members", "bus_write_layout", "word_layout"]

_BUS_ELEMENTS = 4  # activations in a word of the bus

bus_write_layout = data.StructLayout({"place": range(BATCH_BUS_WORDS_MAX), "data": 32})
"""Four activations, and where: `word * batch_parts + part`."""


def word_layout(geometry: Geometry) -> data.StructLayout:
    """Return the layout of W bytes of a vector, and whether they are the last."""
    return data.StructLayout({"bytes": unsigned(8 * geometry.transport), "last": unsigned(1)})


def batch_members(geometry: Geometry) -> dict[str, wiring.Member]:
    """Return the members of a memory of the batch, wherever it is.

    Members
    -------
    write : stream of four activations; those past the end are lost
    i : runs of `words` (at least one) from `word` on; the memory wraps
    o : their words; the last of a run is marked
    """
    run = data.StructLayout({"word": exact_log2(geometry.batch_words),
                             "words": register("port", PortRegion.REGISTERS, "vector_words").bits})
    return {"write": In(stream.Signature(bus_write_layout)), "i": In(stream.Signature(run)),
            "o": Out(stream.Signature(word_layout(geometry)))}


class BatchMemory(wiring.Component):
    """Block RAM that takes a write in each clock; a run's words come one a clock, the first after two.

    Members as of `batch_members`.
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        super().__init__(batch_members(geometry))

    def elaborate(self, platform):
        m = Module()
        geometry = self.geometry
        transport, parts = geometry.transport, exact_log2(geometry.batch_parts)
        m.submodules.words = words = memory.Memory(
            shape=unsigned(8 * transport), depth=geometry.batch_words, init=[], attrs={"no_rw_check": 1})
        # A word that the bus fills at once has one enable: block RAM with several would be narrower.
        enabled = 1 if parts else transport
        write, read = words.write_port(granularity=8 * enabled), words.read_port()
        written = self.write.payload
        part, word = written.place[:parts], written.place[parts:]
        store = Signal()
        m.d.comb += [self.write.ready.eq(1), write.addr.eq(word),
                     store.eq(self.write.valid & (word < geometry.batch_words))]
        for k in range(transport):
            m.d.comb += write.data.word_select(k, 8).eq(written.data.word_select(k % _BUS_ELEMENTS, 8))
        for k in range(transport // enabled):
            m.d.comb += write.en[k].eq(store & (part == k * enabled // _BUS_ELEMENTS))

        left, last = Signal.like(self.i.payload.words), Signal(reset_less=True)
        place = Signal.like(self.i.payload.word, reset_less=True)
        m.d.comb += [
            self.i.ready.eq(left == 0), read.addr.eq(place),
            read.en.eq((left != 0) & (~self.o.valid | self.o.ready)),
            self.o.payload.bytes.eq(read.data), self.o.payload.last.eq(last),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(read.en):
            m.d.sync += [self.o.valid.eq(1), last.eq(left == 1), left.eq(left - 1), place.eq(place + 1)]
        with m.Elif(self.i.valid & self.i.ready):
            m.d.sync += [left.eq(self.i.payload.words), place.eq(self.i.payload.word)]
        return m
