"""The memory of the batch, off the chip: bursts of SDRAM through a queue, one a turn of the share.

A burst is asked for when the queue has room for all of it. So the memory never waits for whoever takes the words, and
the engines' stores wait for a burst and no longer, whatever a replay waits for.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped
from amaranth.utils import exact_log2

from rtl.batch_memory import batch_members, bus_write_layout, word_layout
from rtl.memory_share import batch_memory
from rtl.params import Geometry
from rtl.queue import Queue
from rtl.sdram import WORD_BITS

__all__ = ["BatchStore"]


class BatchStore(wiring.Component):
    """Keeps W bytes in `batch_kept_words` words of 16 bits, the first of them lowest; what nobody wrote is anything.

    A burst takes a clock a word of 16 bits and some 12 more; a write some 6, and the next is not taken before.

    Members as of `batch_members`, and

    memory : MemorySignature
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        super().__init__({**batch_members(geometry), "memory": Out(batch_memory(geometry))})

    def elaborate(self, platform):
        m = Module()
        geometry, memory = self.geometry, self.memory
        kept, burst = geometry.batch_kept_words, geometry.batch_burst
        written = min(kept, 2)  # words of 16 bits that a write fills

        write, pending = Signal(bus_write_layout, reset_less=True), Signal()
        writing, part = Signal(reset_less=True), Signal(range(2), reset_less=True)
        exists = self.write.payload.place < geometry.batch_words * geometry.batch_parts
        m.d.comb += self.write.ready.eq(~pending)
        with m.If(self.write.valid & self.write.ready):
            m.d.sync += [write.eq(self.write.payload), pending.eq(exists)]

        place, left = Signal.like(self.i.payload.word, reset_less=True), Signal.like(self.i.payload.words)
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [place.eq(self.i.payload.word), left.eq(self.i.payload.words)]

        m.submodules.queue = queue = Queue(shape=word_layout(geometry), depth=2 * burst)
        connect(m, queue.o, flipped(self.o))
        held, asked = Signal(range(2 * burst + 1)), Signal(range(burst + 1))  # words in the queue or on their way
        m.d.sync += held.eq(held + asked - (self.o.valid & self.o.ready))

        more, ends = Signal(range(burst)), Signal()  # words of the burst beyond the one at hand; it is the run's last
        to_border = ~place[:exact_log2(burst)]
        is_last = left - 1 <= to_border
        with m.FSM():
            with m.State("Idle"):
                m.d.sync += [more.eq(Mux(is_last, left - 1, to_border)), ends.eq(is_last), writing.eq(pending),
                             part.eq(0)]
                with m.If(pending | ((left != 0) & (held <= burst))):
                    m.next = "Ask"
            with m.State("Ask"):
                m.d.comb += [memory.active.eq(1), memory.request.valid.eq(1)]
                with m.If(writing):
                    m.d.comb += [
                        memory.request.payload.write.eq(1), memory.request.payload.last.eq(written - 1),
                        memory.request.payload.address.eq(Cat(Const(0, exact_log2(written)), write.place)),
                    ]
                with m.Else():
                    m.d.comb += [
                        memory.request.payload.last.eq(Cat(Const(kept - 1, exact_log2(kept)), more)),
                        memory.request.payload.address.eq(Cat(Const(0, exact_log2(kept)), place)),
                    ]
                with m.If(memory.request.ready):
                    m.next = "Write"
                    with m.If(~writing):
                        m.d.comb += asked.eq(more + 1)
                        m.d.sync += [left.eq(left - asked), place.eq(place + asked)]
                        m.next = "Read"
            with m.State("Write"):
                m.d.comb += [memory.active.eq(1), memory.w.valid.eq(1),
                             memory.w.payload.eq(write.data.word_select(part, WORD_BITS))]
                with m.If(memory.w.ready):
                    m.d.sync += part.eq(part + 1)
                    with m.If(part == written - 1):
                        m.d.sync += pending.eq(0)
                        m.next = "Idle"
            with m.State("Read"):
                self._gather(m, queue, more, ends)
        return m

    def _gather(self, m, queue, more, ends):
        """Put words of 16 bits together and queue them, until the burst has come."""
        memory, kept = self.memory, self.geometry.batch_kept_words
        gathered, count = Signal(WORD_BITS * kept, reset_less=True), Signal(range(kept))
        word = Cat(gathered, memory.r.payload)[WORD_BITS:]
        m.d.comb += [memory.active.eq(1), memory.r.ready.eq(1)]
        m.d.comb += [queue.i.payload.bytes.eq(word), queue.i.payload.last.eq(ends & (more == 0)),
                     queue.i.valid.eq(memory.r.valid & (count == kept - 1))]
        with m.If(memory.r.valid):
            m.d.sync += [gathered.eq(word), count.eq(count + 1)]
        with m.If(queue.i.valid):
            m.d.sync += [count.eq(0), more.eq(more - 1)]
            with m.If(more == 0):
                m.next = "Idle"
