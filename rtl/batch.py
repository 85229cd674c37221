"""The batch: vectors that the host loads once and has replayed as often as it likes; only results cross the link.

A replay takes the place of the link: it hands the port one vector after another, header and activations, W elements a
clock. A vector starts only when its result has room in the port, so a host may take the results as slowly as it likes.
Registers and memory are in `rtl/params/registers.py`; docs/decisions/0017 tells why a replay is no opcode.
"""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.batch_memory import BatchMemory, word_layout
from rtl.batch_store import BatchStore
from rtl.bus import BusRequest
from rtl.memory_share import batch_memory
from rtl.params import EVENT_BITS, TIME_BITS, Geometry, PortRegion
from rtl.params.registers import register

__all__ = ["HEADER_BYTES", "Batch"]

HEADER_BYTES = (EVENT_BITS + TIME_BITS) // 8
"""Of a vector, before its activations."""

_PAGE_BITS = 2  # of a region's number: which of the memory's regions

_ROOM, _VECTOR_WORDS, _WORD, _EVENT, _REPLAY = (
    register("port", PortRegion.REGISTERS, name)
    for name in ("room", "vector_words", "replay_word", "replay_event", "replay"))


class Batch(wiring.Component):
    """Replays vectors of its memory: their events count up, their target time is 0. Without memory it does nothing.

    A replay begins when no result is outstanding, and from then on starts a vector whenever fewer than `room` are.

    Members
    -------
    write, access : a register or a word of the memory is written, in this clock; only while `ready`
    ready : the memory, if it is off the chip, has taken the word that was written before
    value : what the register at `access.offset` holds, 0 if it is none of the batch's
    stop : start no vector any more
    outstanding : vectors whose results have not been taken; must count one that starts from the next clock on
    o : words of vectors
    active : a vector is on its way out at `o`
    started : a vector starts in this clock
    busy : a replay waits, runs, or has results outstanding: nobody else may send
    memory : MemorySignature, out, in builds with the batch in SDRAM
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        super().__init__({
            "write": In(1), "access": In(BusRequest), "ready": Out(1), "value": Out(32), "stop": In(1),
            "outstanding": In(range(geometry.result_vectors + 1)),
            "o": Out(stream.Signature(word_layout(geometry))),
            "active": Out(1), "started": Out(1), "busy": Out(1),
            **({"memory": Out(batch_memory(geometry))} if geometry.batch_in_sdram else {}),
        })

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.ready.eq(1)
        if not self.geometry.batch_words:
            return m
        if self.geometry.batch_in_sdram:
            m.submodules.memory = words = BatchStore(geometry=self.geometry)
            connect(m, words.memory, flipped(self.memory))
        else:
            m.submodules.memory = words = BatchMemory(geometry=self.geometry)
        room, vector_words = Signal(_ROOM.bits, init=1), Signal(_VECTOR_WORDS.bits)
        word, event, left = Signal(_WORD.bits), Signal(_EVENT.bits), Signal(_REPLAY.bits)
        begun = Signal()
        m.d.comb += [
            words.write.payload.place.eq(Cat(self.access.offset, self.access.region[:_PAGE_BITS])),
            words.write.payload.data.eq(self.access.data), self.ready.eq(words.write.ready),
            words.write.valid.eq(self.write & (self.access.region[_PAGE_BITS:] == PortRegion.BATCH >> _PAGE_BITS)),
            words.i.payload.word.eq(word), words.i.payload.words.eq(vector_words),
            self.busy.eq(self.active | begun | (left != 0)),
        ]
        with m.If((left == 0) & (self.outstanding == 0)):
            m.d.sync += begun.eq(0)
        self._vectors(m, words, room, vector_words, word, event, left, begun)

        registers = {_ROOM: room, _VECTOR_WORDS: vector_words, _WORD: word, _EVENT: event, _REPLAY: left}
        store = self.write & (self.access.region == PortRegion.REGISTERS)
        with m.Switch(self.access.offset):
            for known, signal in registers.items():
                with m.Case(known.offset):
                    m.d.comb += self.value.eq(signal)
                    with m.If(store):
                        m.d.sync += signal.eq(self.access.data)
        ends = store & (self.access.offset == _REPLAY.offset) & (self.access.data[:_REPLAY.bits] == 0)
        with m.If(self.stop | ends):
            m.d.sync += [left.eq(0), begun.eq(0)]
        return m

    def _vectors(self, m, words, room, vector_words, word, event, left, begun) -> None:
        bits = 8 * self.geometry.transport
        header_words = -(-HEADER_BYTES * 8 // bits)
        header, count = Signal(bits * header_words), Signal(range(header_words))
        m.d.comb += header.eq(event)
        empty = vector_words == 0
        with m.FSM():
            with m.State("Idle"):
                m.d.comb += self.started.eq(
                    (left != 0) & (begun | (self.outstanding == 0)) & (self.outstanding < room)
                    & (self.outstanding != self.geometry.result_vectors))
                with m.If(self.started):
                    m.d.comb += words.i.valid.eq(~empty)
                    m.d.sync += [left.eq(left - 1), begun.eq(1), word.eq(word + vector_words)]
                    m.next = "Header"
            with m.State("Header"):
                m.d.comb += [
                    self.active.eq(1), self.o.valid.eq(1), self.o.payload.bytes.eq(header.word_select(count, bits)),
                    self.o.payload.last.eq(empty & (count == header_words - 1)),
                ]
                with m.If(self.o.ready):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == header_words - 1):
                        m.d.sync += [count.eq(0), event.eq(event + 1)]
                        m.next = "Words"
                        with m.If(empty):
                            m.next = "Idle"
            with m.State("Words"):
                m.d.comb += [
                    self.active.eq(1), self.o.valid.eq(words.o.valid), self.o.payload.eq(words.o.payload),
                    words.o.ready.eq(self.o.ready),
                ]
                with m.If(self.o.valid & self.o.ready & self.o.payload.last):
                    m.next = "Idle"
