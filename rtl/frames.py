"""Frames of the host link: checked and stored as they come, built and sent as they go."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from rtl.cobs import CobsDecoder, CobsEncoder
from rtl.crc import CRC_INIT, CRC_RESIDUE, crc32_step
from rtl.params.protocol import (
    CRC_BYTES,
    HEADER_BYTES,
    LENGTH_OFFSET,
    MAGIC,
    PROTOCOL_VERSION,
    RECEIVE_BYTES,
    REPLY_BYTES,
    REQUEST_BYTES,
    WINDOW,
)

__all__ = ["FrameReceiver", "FrameTransmitter", "Identity", "Reply", "ReplyWrite"]

_FRAME_BYTES = HEADER_BYTES + REQUEST_BYTES + CRC_BYTES
_RING_BITS = ceil_log2(RECEIVE_BYTES)
_BODY_BITS = ceil_log2(REPLY_BYTES)


class FrameReceiver(wiring.Component):
    """Passes on the frames that are whole and right, header and body, and drops every other without a trace.

    A frame is written to a ring memory as it comes, and seen by the reader only once its length and its CRC were
    right; else its place is used again. When the ring is full, `i` waits.

    Members
    -------
    i : In(stream of 8)
        Coded bytes, one a clock.
    o : Out(stream of 8)
        Header and body of one frame after the other; the length in the header tells where each ends.
    """

    def __init__(self):
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()

        m.submodules.decoder = decoder = CobsDecoder()
        m.submodules.ring = ring = Memory(shape=8, depth=1 << _RING_BITS, init=[])
        write, read = ring.write_port(), ring.read_port()
        connect(m, flipped(self.i), decoder.i)

        head, commit, tail = Signal(_RING_BITS), Signal(_RING_BITS), Signal(_RING_BITS)
        count = Signal(range(_FRAME_BYTES + 2))
        crc = Signal(32, init=CRC_INIT)
        length = Signal(16, reset_less=True)
        token, taken = decoder.o.payload, Signal()
        full, right, oversized = Signal(), Signal(), Signal()
        m.d.comb += [
            full.eq((head + 1)[:_RING_BITS] == tail),
            oversized.eq(count > _FRAME_BYTES),
            decoder.o.ready.eq(token.end | ~full),
            taken.eq(decoder.o.valid & decoder.o.ready),
            right.eq(~token.bad & ~oversized & (crc == CRC_RESIDUE) & (count == length + (HEADER_BYTES + CRC_BYTES))),
            write.addr.eq(head), write.data.eq(token.byte), write.en.eq(taken & ~token.end),
        ]
        with m.If(taken & token.end):
            m.d.sync += [count.eq(0), crc.eq(CRC_INIT), head.eq(commit)]
            with m.If(right):
                m.d.sync += [head.eq(head - CRC_BYTES), commit.eq(head - CRC_BYTES)]
        with m.Elif(taken & ~oversized):
            m.d.sync += [count.eq(count + 1), head.eq(head + 1), crc.eq(crc32_step(crc, token.byte))]
            with m.If((count == LENGTH_OFFSET) | (count == LENGTH_OFFSET + 1)):
                m.d.sync += length.eq(Cat(length[8:], token.byte))

        advance = Signal()
        m.d.comb += [
            advance.eq((tail != commit) & (~self.o.valid | self.o.ready)),
            read.addr.eq(tail), read.en.eq(advance), self.o.payload.eq(read.data),
        ]
        m.d.sync += tail.eq(tail + advance)
        with m.If(self.o.ready | advance):
            m.d.sync += self.o.valid.eq(advance)
        return m


class Reply(data.Struct):
    """What is sent: `length` bytes of the stored body of `slot`, or with `identity` the answer to IDENTIFY."""

    status: unsigned(8)
    sequence: unsigned(8)
    length: unsigned(_BODY_BITS + 1)
    slot: unsigned(ceil_log2(WINDOW))
    identity: unsigned(1)


class ReplyWrite(data.Struct):
    """A byte for the store of reply bodies."""

    slot: unsigned(ceil_log2(WINDOW))
    index: unsigned(_BODY_BITS)
    byte: unsigned(8)


class Identity(data.Struct):
    """The session that replies name, and what of the answer to IDENTIFY is not fixed when the chip is built."""

    session: unsigned(32)
    digest: unsigned(32)
    commands: unsigned(32)
    executed: unsigned(32)


class FrameTransmitter(wiring.Component):
    """Keeps the bodies of the last WINDOW replies and sends the one that is asked for, a byte a clock.

    Parameters
    ----------
    geometry_hash : int
        Third word of the answer to IDENTIFY.

    Members
    -------
    store : In(stream of ReplyWrite)
        Bytes of bodies, always accepted.
    reply : In(stream of Reply)
        Accepted when the one before has been sent; ready tells that no body is in use.
    identity : In
        Must not change while it is sent; the session not while anything is sent.
    o : Out(stream of 8)
        Coded bytes.
    """

    def __init__(self, *, geometry_hash: int):
        self.geometry_hash = geometry_hash
        super().__init__({
            "store": In(stream.Signature(ReplyWrite, always_ready=True)),
            "reply": In(stream.Signature(Reply)),
            "identity": In(Identity),
            "o": Out(stream.Signature(8)),
        })

    def elaborate(self, platform):
        m = Module()

        m.submodules.encoder = encoder = CobsEncoder()
        m.submodules.bodies = bodies = Memory(shape=8, depth=WINDOW << _BODY_BITS, init=[])
        write, read = bodies.write_port(), bodies.read_port()
        connect(m, encoder.o, flipped(self.o))
        m.d.comb += [
            write.addr.eq(Cat(self.store.payload.index, self.store.payload.slot)),
            write.data.eq(self.store.payload.byte), write.en.eq(self.store.valid),
        ]

        # A byte is chosen in one clock and handed to the encoder in the next: the store needs a clock to read.
        reply, index = Signal(Reply, reset_less=True), Signal(_BODY_BITS + 1, reset_less=True)
        crc = Signal(32, reset_less=True)
        chosen, made = Signal(), Signal(8, reset_less=True)
        is_stored, is_crc, is_last = Signal(reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
        busy, advance = Signal(), Signal()
        byte = Mux(is_crc, ~crc[:8], Mux(is_stored, read.data, made))
        identity = self.identity
        header = Cat(reply.status, reply.sequence, reply.length, Const(0, 16 - len(reply.length)), identity.session)
        words = Cat(*(Const(w, 32) for w in (MAGIC, PROTOCOL_VERSION, self.geometry_hash)),
                    identity.digest, identity.commands, identity.executed)

        m.d.comb += [
            advance.eq(~chosen | encoder.i.ready),
            encoder.i.valid.eq(chosen), encoder.i.payload.byte.eq(byte), encoder.i.payload.last.eq(is_last),
            read.addr.eq(Cat(index[:_BODY_BITS], reply.slot)), read.en.eq(advance),
        ]
        with m.If(chosen & encoder.i.ready):
            m.d.sync += crc.eq(Mux(is_crc, crc >> 8, crc32_step(crc, byte)))
        with m.If(advance):
            m.d.sync += [
                chosen.eq(busy), index.eq(index + 1), is_stored.eq(0), is_crc.eq(0), is_last.eq(0),
            ]

        with m.FSM():
            with m.State("Idle"):
                m.d.comb += self.reply.ready.eq(~chosen)
                with m.If(self.reply.valid & ~chosen):
                    m.d.sync += [reply.eq(self.reply.payload), index.eq(0), crc.eq(CRC_INIT)]
                    m.next = "Header"
            with m.State("Header"):
                m.d.comb += busy.eq(1)
                with m.If(advance):
                    m.d.sync += made.eq(header.word_select(index[:3], 8))
                    with m.If(index == HEADER_BYTES - 1):
                        m.d.sync += index.eq(0)
                        with m.If(reply.length == 0):
                            m.next = "Crc"
                        with m.Else():
                            m.next = "Body"
            with m.State("Body"):
                m.d.comb += busy.eq(1)
                with m.If(advance):
                    m.d.sync += [made.eq(words.word_select(index[:5], 8)), is_stored.eq(~reply.identity)]
                    with m.If(index == reply.length - 1):
                        m.d.sync += index.eq(0)
                        m.next = "Crc"
            with m.State("Crc"):
                m.d.comb += busy.eq(1)
                with m.If(advance):
                    m.d.sync += [is_crc.eq(1), is_last.eq(index == CRC_BYTES - 1)]
                    with m.If(index == CRC_BYTES - 1):
                        m.next = "Idle"
        return m
