"""Consistent overhead byte stuffing: frames of any bytes between zero bytes (Cheshire and Baker, 1999)."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["CobsDecoder", "CobsEncoder", "FrameByte", "FrameToken"]

_BLOCK = 254
"""Most bytes of a block; one of so many has no zero after it."""


class FrameToken(data.Struct):
    """A byte of a frame, or with `end` the end of one (`byte` means nothing); `bad` there: a block was cut short."""

    byte: unsigned(8)
    end: unsigned(1)
    bad: unsigned(1)


class FrameByte(data.Struct):
    """A byte of a frame; the final one has `last`."""

    byte: unsigned(8)
    last: unsigned(1)


class CobsDecoder(wiring.Component):
    """Decodes a byte a clock; each zero byte ends a frame, empty ones included. Combinational from `i` to `o`.

    Members
    -------
    i : In(stream of 8)
    o : Out(stream of FrameToken)
    """

    def __init__(self):
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(FrameToken))})

    def elaborate(self, platform):
        m = Module()

        left = Signal(8)
        zero_due = Signal()
        byte, is_code, is_end = self.i.payload, Signal(), Signal()

        m.d.comb += [
            is_end.eq(byte == 0),
            is_code.eq(~is_end & (left == 0)),
            # A code byte stands for the zero between its block and the one before, or for nothing.
            self.o.valid.eq(self.i.valid & ~(is_code & ~zero_due)),
            self.i.ready.eq(self.o.ready | (is_code & ~zero_due)),
            self.o.payload.byte.eq(Mux(is_code, 0, byte)),
            self.o.payload.end.eq(is_end),
            self.o.payload.bad.eq(left != 0),
        ]
        with m.If(self.i.valid & self.i.ready):
            with m.If(is_end):
                m.d.sync += [left.eq(0), zero_due.eq(0)]
            with m.Elif(is_code):
                m.d.sync += [left.eq(byte - 1), zero_due.eq(byte != _BLOCK + 1)]
            with m.Else():
                m.d.sync += left.eq(left - 1)
        return m


class CobsEncoder(wiring.Component):
    """Encodes a byte a clock and adds the zero that ends a frame.

    A block waits in a ring memory until its code byte is known, so a byte leaves up to 254 clocks after it came.

    Members
    -------
    i : In(stream of FrameByte)
    o : Out(stream of 8)
    """

    def __init__(self):
        super().__init__({"i": In(stream.Signature(FrameByte)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()

        m.submodules.ring = ring = Memory(shape=8, depth=512, init=[])
        write, read = ring.write_port(), ring.read_port()

        # `start` is the place of the open block's code byte: all before it is final, the next byte goes to `head`.
        start, head, tail = Signal(9), Signal(9, init=1), Signal(9)
        count = Signal(range(_BLOCK + 1))
        space = Signal()
        m.d.comb += [write.addr.eq(start), write.data.eq(count + 1)]
        # Looked at a clock ahead: what may still follow (delimiter, byte, delimiter) takes less than 8 places.
        m.d.sync += space.eq((tail - head - 1)[:9] > 7)

        with m.FSM():
            with m.State("Byte"):
                m.d.comb += [self.i.ready.eq(space), write.en.eq(self.i.valid & space)]
                with m.If(write.en):
                    with m.If(self.i.payload.byte == 0):
                        m.d.sync += [start.eq(head), count.eq(0)]
                    with m.Else():
                        m.d.comb += [write.addr.eq(head), write.data.eq(self.i.payload.byte)]
                        m.d.sync += count.eq(count + 1)
                    m.d.sync += head.eq(head + 1)
                    with m.If(self.i.payload.last):
                        m.next = "Close"
                    with m.Elif((self.i.payload.byte != 0) & (count == _BLOCK - 1)):
                        m.next = "Full"
            with m.State("Full"):
                m.d.comb += write.en.eq(1)
                m.d.sync += [start.eq(head), head.eq(head + 1), count.eq(0)]
                m.next = "Byte"
            with m.State("Close"):
                m.d.comb += write.en.eq(1)
                m.next = "Delimit"
            with m.State("Delimit"):
                m.d.comb += [write.en.eq(1), write.addr.eq(head), write.data.eq(0)]
                m.d.sync += [start.eq(head + 1), head.eq(head + 2), count.eq(0)]
                m.next = "Byte"

        advance = Signal()
        m.d.comb += [
            advance.eq((tail != start) & (~self.o.valid | self.o.ready)),
            read.addr.eq(tail), read.en.eq(advance), self.o.payload.eq(read.data),
        ]
        m.d.sync += tail.eq(tail + advance)
        with m.If(self.o.ready | advance):
            m.d.sync += self.o.valid.eq(advance)
        return m
