"""The session: which request is the next, which were the last, and what was done since power-up."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rtl.crc import CRC_INIT, crc32_step
from rtl.frames import Identity
from rtl.params.protocol import REPLY_BYTES, WINDOW

__all__ = ["Outcome", "Session"]

_SLOT_BITS = exact_log2(WINDOW)


class Outcome(data.Struct):
    """How a request ended: a `Status`, and the bytes of the reply's body."""

    status: unsigned(8)
    length: unsigned(REPLY_BYTES.bit_length())


class Session(wiring.Component):
    """Judges sequence numbers and keeps outcomes, digest and count of commands.

    Members
    -------
    sequence : In(8)
        Of the request in hand.
    is_next, is_repeat, expected, repeated : Out
        Combinational: the request is the next; it is one of the last WINDOW executed; the number of the next; how the
        repeated one ended.
    named : In(32), is_present : Out(1)
        Session that the request in hand names; combinational: it is the present one.
    begin : In(1)
        For one clock: the one named is the present one from now on.
    byte, feed, is_first : In
        Opcode (`is_first`) and body bytes of the request in hand, for the digest.
    record, outcome, changes : In
        For one clock: the request in hand, the next, was executed, ended so, and counts as a command.
    identity : Out
    """

    def __init__(self):
        super().__init__({
            "sequence": In(8), "is_next": Out(1), "is_repeat": Out(1), "expected": Out(8),
            "repeated": Out(Outcome),
            "named": In(32), "is_present": Out(1), "begin": In(1),
            "byte": In(8), "feed": In(1), "is_first": In(1),
            "record": In(1), "outcome": In(Outcome), "changes": In(1),
            "identity": Out(Identity),
        })

    def elaborate(self, platform):
        m = Module()

        m.submodules.outcomes = outcomes = Memory(shape=Outcome, depth=WINDOW, init=[])
        write, read = outcomes.write_port(), outcomes.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(self.sequence[:_SLOT_BITS]), write.data.eq(self.outcome), write.en.eq(self.record),
            read.addr.eq(self.sequence[:_SLOT_BITS]), self.repeated.eq(read.data),
        ]

        active, kept = Signal(), Signal(range(WINDOW + 1))
        age = (self.expected - self.sequence - 1)[:8]
        executed = self.identity.executed
        m.d.comb += [
            self.expected.eq(executed[:8] + 1),
            self.is_next.eq(self.sequence == self.expected), self.is_repeat.eq(age < kept),
            self.is_present.eq(active & (self.named == self.identity.session)),
        ]
        with m.If(self.begin & ~self.is_present):
            m.d.sync += [active.eq(1), executed.eq(0), kept.eq(0), self.identity.session.eq(self.named)]
        with m.Elif(self.record):
            m.d.sync += [executed.eq(executed + 1), kept.eq(Mux(kept == WINDOW, WINDOW, kept + 1))]

        # What a request that is refused has fed goes no further than `fed`.
        digest, fed = Signal(32, init=CRC_INIT), Signal(32, reset_less=True)
        stepped = crc32_step(Mux(self.is_first, digest, fed), Mux(self.record, self.outcome.status, self.byte))
        m.d.comb += self.identity.digest.eq(~digest)
        with m.If(self.feed):
            m.d.sync += fed.eq(stepped)
        with m.If(self.record & self.changes):
            m.d.sync += [digest.eq(stepped), self.identity.commands.eq(self.identity.commands + 1)]
        return m
