"""A place on a long way: a stream whose valid and ready are registers on both sides, so that no path leads through."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Relay"]


class Relay(wiring.Component):
    """Passes payloads on, a clock later, one a clock; holds two while `o` waits.

    Members
    -------
    i, o : streams of `shape`
    """

    def __init__(self, *, shape):
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        front, back = (Signal(self.shape, name=name, reset_less=True) for name in ("front", "back"))
        waiting = Signal()
        m.d.comb += [self.i.ready.eq(~waiting), self.o.payload.eq(front)]
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [self.o.valid.eq(waiting | self.i.valid), waiting.eq(0)]
            with m.If(waiting):
                m.d.sync += front.eq(back)
            with m.Else():
                m.d.sync += front.eq(self.i.payload)
        with m.Elif(self.i.valid & ~waiting):
            m.d.sync += waiting.eq(1)
        with m.If(~waiting):
            m.d.sync += back.eq(self.i.payload)
        return m
