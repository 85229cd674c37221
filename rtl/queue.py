"""A first-in first-out queue in one memory, block RAM or LUT RAM alike: no word is read in the clock that writes it."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


class Queue(wiring.Component):
    """Holds `depth` values, and one more at the output; a value comes out two clocks after it went in.

    Parameters
    ----------
    shape : ShapeLike
    depth : int
        2 or more.

    Members
    -------
    i, o : stream of shape
        `o.payload` is the memory's output, `o.valid` a register.
    """

    def __init__(self, *, shape, depth: int):
        if isinstance(depth, bool) or not isinstance(depth, int) or depth < 2:
            raise ValueError(f"depth must be an integer of at least 2, not {depth!r}")
        self._shape, self._depth = shape, depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        depth = self._depth
        m.submodules.words = words = memory.Memory(shape=self._shape, depth=depth, init=[], attrs={"no_rw_check": 1})
        write, read = words.write_port(), words.read_port()
        stored = Signal(range(depth + 1))  # in the memory since the clock before: it may be read
        m.d.comb += [
            self.i.ready.eq(stored != depth),
            write.en.eq(self.i.valid & self.i.ready),
            write.data.eq(self.i.payload),
            read.en.eq((stored != 0) & (~self.o.valid | self.o.ready)),
            self.o.payload.eq(read.data),
        ]
        m.d.sync += stored.eq(stored + write.en - read.en)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(read.en):
            m.d.sync += self.o.valid.eq(1)
        for port, name in ((write, "write_place"), (read, "read_place")):
            place = Signal(range(depth), name=name)
            m.d.comb += port.addr.eq(place)
            with m.If(port.en):
                m.d.sync += place.eq(Mux(place == depth - 1, 0, place + 1))
        return m
