"""The executor: does each request of a session exactly once, and asks for the reply to it and to its repeats."""

import dataclasses
import struct

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.cobs import FrameByte
from rtl.frames import Identity, Reply, ReplyWrite
from rtl.initiator import Access
from rtl.params import Geometry
from rtl.params.protocol import (
    HEADER_BYTES,
    IDENTIFY_FIELDS,
    READ_FORMAT,
    READ_WORDS,
    REPLY_BYTES,
    SESSION_OFFSET,
    VECTOR_BYTES,
    WRITE_FORMAT,
    Opcode,
    Status,
)
from rtl.params.registers import UNIT_SHIFT
from rtl.session import Session

__all__ = ["Executor"]

_SESSION_BYTES = HEADER_BYTES - SESSION_OFFSET
_READ_BYTES, _WRITE_BYTES = map(struct.calcsize, (READ_FORMAT, WRITE_FORMAT))
_IDENTITY_BYTES = 4 * len(IDENTIFY_FIELDS)
_ARGUMENT_BITS = 8 * max(_SESSION_BYTES, _READ_BYTES, _WRITE_BYTES)


def _register(*shape) -> Signal:
    return dataclasses.field(default_factory=lambda: Signal(*shape, reset_less=True))


class Executor(wiring.Component):
    """Takes requests byte by byte, makes bus accesses, passes vectors and results on.

    It works on one request at a time, in the order of their coming; the reply of one is sent while the next is
    executed, unless that one would write over it. A SEND takes about 12 clocks and one a byte, a WRITE as many and 5 a
    word, a READ 6 a word, with a bus that answers in 3.

    Members
    -------
    i : In(stream of 8)
        Header and body of right frames.
    store, reply, identity : Out
        To `FrameTransmitter`.
    access, start, accepted, done, timeout, word
        To `BusInitiator`.
    send, credit, result, available
        To the port: vectors in, and whether one is welcome; results out, and whether a whole one is ready.
    new_session : Out(1)
        Another session begins in this clock.
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        super().__init__({
            "i": In(stream.Signature(8)),
            "store": Out(stream.Signature(ReplyWrite, always_ready=True)),
            "reply": Out(stream.Signature(Reply)),
            "identity": Out(Identity),
            "access": Out(Access(geometry)), "start": Out(1), "accepted": In(1),
            "done": In(1), "timeout": In(1), "word": In(32),
            "send": Out(stream.Signature(FrameByte)), "credit": In(1),
            "result": In(stream.Signature(FrameByte)), "available": In(1), "new_session": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.session = session = Session()
        regs = _Registers(address=Signal(UNIT_SHIFT + self.geometry.unit_bits, reset_less=True))

        reply = regs.reply
        m.d.comb += [
            session.sequence.eq(regs.sequence), session.named.eq(regs.arguments[-8 * _SESSION_BYTES:]),
            session.byte.eq(self.i.payload),
            session.outcome.status.eq(reply.status), session.outcome.length.eq(reply.length),
            session.changes.eq(regs.changes), self.identity.eq(session.identity), self.reply.payload.eq(reply),
            self.access.address.eq(regs.address), self.access.data.eq(regs.word),
            self.access.write.eq(regs.opcode == Opcode.WRITE), self.send.payload.byte.eq(self.i.payload),
            self.send.payload.last.eq(regs.body_left == 1), self.store.payload.slot.eq(reply.slot),
        ]
        with m.If(self.accepted):
            m.d.sync += [regs.address.eq(regs.address + regs.step), regs.outstanding.eq(1)]
        with m.If(self.done):
            m.d.sync += regs.outstanding.eq(0)

        with m.FSM():
            self._header(m, regs, session)
            self._decide(m, regs, session)
            self._arguments(m, regs, session)
            self._read(m, regs)
            self._write(m, regs, session)
            self._vectors(m, regs, session)
            self._finish(m, regs, session)
        return m

    def _header(self, m, regs, session):
        with m.State("Header"):
            m.d.comb += [
                self.i.ready.eq(1), session.is_first.eq(regs.count == 0),
                session.feed.eq(self.i.valid & session.is_first),
            ]
            with m.If(self.i.valid):
                m.d.sync += [
                    Cat(regs.opcode, regs.sequence, regs.body_left).eq(
                        Cat(regs.opcode, regs.sequence, regs.body_left, self.i.payload)[8:]),
                    regs.count.eq(regs.count + 1),
                ]
                with m.If(regs.count == SESSION_OFFSET - 1):
                    m.next = "Session"
        with m.State("Session"):
            m.d.comb += self.i.ready.eq(1)
            with m.If(self.i.valid):
                m.d.sync += [
                    regs.arguments.eq(Cat(regs.arguments, self.i.payload)[8:]), regs.count.eq(regs.count + 1),
                ]
                with m.If(regs.count == HEADER_BYTES - 1):
                    m.next = "Decide"

    def _decide(self, m, regs, session):
        reply = regs.reply
        in_use, identify = Signal(), regs.opcode == Opcode.IDENTIFY
        same_slot = reply.slot == regs.sequence[:len(reply.slot)]
        m.d.comb += in_use.eq(~self.reply.ready & (same_slot | identify))
        with m.State("Decide"):
            m.d.sync += [regs.executing.eq(0), regs.changes.eq(0), regs.count.eq(0)]
            with m.If(~in_use):
                m.d.sync += [
                    reply.status.eq(Status.OK), reply.sequence.eq(regs.sequence), reply.slot.eq(regs.sequence),
                    reply.length.eq(0), reply.identity.eq(0),
                ]
                m.next = "Drain"
                with m.If(identify):
                    with m.If(regs.body_left == 0):
                        m.d.sync += [reply.identity.eq(1), reply.length.eq(_IDENTITY_BYTES)]
                        m.d.comb += [session.begin.eq(1), self.new_session.eq(~session.is_present)]
                        # The rest of a result that was handed out in part belonged to the session before.
                        with m.If(~session.is_present & regs.partial):
                            m.next = "Drop"
                    with m.Else():
                        m.d.sync += reply.status.eq(Status.BAD_REQUEST)
                with m.Elif(~session.is_present):
                    m.d.sync += [reply.status.eq(Status.NO_SESSION), reply.sequence.eq(0)]
                with m.Elif(session.is_next):
                    m.d.sync += regs.executing.eq(1)
                    self._begin(m, regs)
                with m.Elif(session.is_repeat):
                    m.d.sync += [reply.status.eq(session.repeated.status), reply.length.eq(session.repeated.length)]
                with m.Else():
                    m.d.sync += [reply.status.eq(Status.OUT_OF_SEQUENCE), reply.sequence.eq(session.expected)]

    def _begin(self, m, regs):
        """First step of a request that is to be executed: its length, and what needs no arguments."""
        reply, length = regs.reply, regs.body_left
        m.d.sync += reply.status.eq(Status.BAD_REQUEST)
        with m.Switch(regs.opcode):
            with m.Case(Opcode.READ):
                with m.If(length == _READ_BYTES):
                    m.d.sync += regs.count.eq(_READ_BYTES - 1)
                    m.next = "Arguments"
            with m.Case(Opcode.WRITE):
                with m.If((length > _WRITE_BYTES) & (length[:2] == _WRITE_BYTES % 4)):
                    m.d.sync += regs.count.eq(_WRITE_BYTES - 1)
                    m.next = "Arguments"
            with m.Case(Opcode.SEND):
                with m.If(length > VECTOR_BYTES):
                    m.d.sync += reply.status.eq(Status.NO_CREDIT)
                    with m.If(self.credit):
                        m.d.sync += [reply.status.eq(Status.OK), regs.changes.eq(1)]
                        m.next = "Send"
            with m.Case(Opcode.RECEIVE):
                with m.If(length == 0):
                    m.d.sync += reply.status.eq(Status.OK)
                    with m.If(regs.partial | self.available):
                        m.next = "Receive"

    def _take(self, m, regs, session, ready):
        """Take a byte of the body when `ready`; every one is fed to the digest."""
        m.d.comb += [self.i.ready.eq(ready), session.feed.eq(self.i.valid & ready)]
        with m.If(session.feed):
            m.d.sync += regs.body_left.eq(regs.body_left - 1)

    def _arguments(self, m, regs, session):
        reply, arguments = regs.reply, regs.arguments
        with m.State("Arguments"):
            self._take(m, regs, session, 1)
            with m.If(self.i.valid):
                m.d.sync += [arguments.eq(Cat(arguments, self.i.payload)[8:]), regs.count.eq(regs.count - 1)]
                with m.If(regs.count == 0):
                    m.next = "Check"
        with m.State("Check"):
            address, words, step = Signal(32), Signal(16), arguments[-8:]
            read = regs.opcode == Opcode.READ
            m.d.comb += Cat(address, words).eq(arguments)
            with m.If(~read):
                m.d.comb += [address.eq(arguments[-40:-8]), words.eq(1)]
            m.d.sync += [
                regs.address.eq(address), regs.step.eq(step), regs.words_left.eq(words), regs.store_left.eq(0),
                self.store.payload.index.eq(0), regs.count.eq(0),
            ]
            with m.If((step > 1) | (address[len(regs.address):] != 0) | (words == 0) | (words > READ_WORDS)):
                m.d.sync += reply.status.eq(Status.BAD_REQUEST)
                m.next = "Drain"
            with m.Else():
                m.d.sync += [reply.status.eq(Status.OK), regs.changes.eq(~read)]
                m.next = "Write"
                with m.If(read):
                    m.d.sync += reply.length.eq(words << 2)
                    m.next = "Read"

    def _read(self, m, regs):
        reply = regs.reply
        with m.State("Read"):
            # An access takes 3 clocks or more: the bytes of the word before are stored by then.
            m.d.comb += [
                self.start.eq((regs.words_left != 0) & (regs.store_left <= 2) & ~regs.outstanding),
                self.store.valid.eq(regs.store_left != 0), self.store.payload.byte.eq(regs.word[:8]),
            ]
            with m.If(self.store.valid):
                m.d.sync += [regs.word.eq(regs.word >> 8), regs.store_left.eq(regs.store_left - 1),
                             self.store.payload.index.eq(self.store.payload.index + 1)]
            with m.If(self.done & self.timeout):
                m.d.sync += [reply.status.eq(Status.BUS_TIMEOUT), reply.length.eq(0)]
                m.next = "Finish"
            with m.Elif(self.done):
                m.d.sync += [regs.word.eq(self.word), regs.store_left.eq(4), regs.words_left.eq(regs.words_left - 1)]
            with m.Elif((regs.words_left == 0) & (regs.store_left == 0)):
                m.next = "Finish"

    def _write(self, m, regs, session):
        whole = regs.count == 4
        with m.State("Write"):
            self._take(m, regs, session, ~whole & (regs.body_left != 0))
            m.d.comb += self.start.eq(whole)
            with m.If(session.feed):
                m.d.sync += [regs.word.eq(Cat(regs.word, self.i.payload)[8:]), regs.count.eq(regs.count + 1)]
            with m.If(self.accepted):
                m.d.sync += regs.count.eq(0)
            with m.If(self.done & self.timeout):
                m.d.sync += regs.reply.status.eq(Status.BUS_TIMEOUT)
                m.next = "Drain"
            with m.Elif((regs.body_left == 0) & (regs.count == 0) & ~regs.outstanding):
                m.next = "Finish"

    def _vectors(self, m, regs, session):
        reply, result = regs.reply, self.result
        with m.State("Send"):
            self._take(m, regs, session, self.send.ready)
            m.d.comb += self.send.valid.eq(self.i.valid)
            with m.If(session.feed & self.send.payload.last):
                m.next = "Finish"
        with m.State("Receive"):
            m.d.comb += [
                result.ready.eq(1), self.store.valid.eq(result.valid), self.store.payload.byte.eq(result.payload.byte),
            ]
            with m.If(result.valid):
                m.d.sync += [
                    self.store.payload.index.eq(self.store.payload.index + 1),
                    reply.length.eq(reply.length + 1),
                ]
                with m.If(result.payload.last):
                    m.d.sync += regs.partial.eq(0)
                    m.next = "Finish"
                with m.Elif(reply.length == REPLY_BYTES - 1):
                    m.d.sync += [regs.partial.eq(1), reply.status.eq(Status.MORE)]
                    m.next = "Finish"
        with m.State("Drop"):
            m.d.comb += result.ready.eq(1)
            with m.If(result.valid & result.payload.last):
                m.d.sync += regs.partial.eq(0)
                m.next = "Post"

    def _finish(self, m, regs, session):
        with m.State("Drain"):
            self._take(m, regs, session, regs.body_left != 0)
            with m.If(regs.body_left == 0):
                m.next = "Post"
                with m.If(regs.executing):
                    m.next = "Finish"
        with m.State("Finish"):
            m.d.comb += session.record.eq(1)
            m.next = "Post"
        with m.State("Post"):
            m.d.sync += [regs.count.eq(0), self.store.payload.index.eq(0)]
            m.d.comb += self.reply.valid.eq(1)
            with m.If(self.reply.ready):
                m.next = "Header"
                with m.If(regs.reply.identity):
                    m.next = "Identity"
        with m.State("Identity"):
            # Digest and count must not change under the transmitter.
            with m.If(self.reply.ready):
                m.next = "Header"


@dataclasses.dataclass(frozen=True)
class _Registers:
    """What the executor remembers of the request in hand, and `partial`: a result is not yet wholly handed out."""

    address: Signal
    opcode: Signal = _register(8)
    sequence: Signal = _register(8)
    body_left: Signal = _register(16)
    count: Signal = dataclasses.field(default_factory=lambda: Signal(range(8)))
    arguments: Signal = _register(_ARGUMENT_BITS)
    step: Signal = _register(1)
    words_left: Signal = _register(range(READ_WORDS + 1))
    word: Signal = _register(32)
    store_left: Signal = _register(range(5))
    outstanding: Signal = dataclasses.field(default_factory=Signal)
    executing: Signal = _register(1)
    changes: Signal = _register(1)
    partial: Signal = dataclasses.field(default_factory=Signal)
    reply: Signal = _register(Reply)
