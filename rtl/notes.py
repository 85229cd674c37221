"""What is noted of a vector under its ticket, for one reader."""

from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from rtl.schedule import TICKET_BITS

__all__ = ["Notes"]


class Notes(wiring.Component):
    """A small memory by ticket: `o` is the note of the `ticket` of the clock before."""

    def __init__(self, *, shape):
        self.shape = shape
        super().__init__({
            "write": In(1), "w_ticket": In(TICKET_BITS), "i": In(shape),
            "ticket": In(TICKET_BITS), "o": Out(shape),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.notes = notes = memory.Memory(shape=self.shape, depth=1 << TICKET_BITS, init=[])
        read, write = notes.read_port(), notes.write_port()
        m.d.comb += [
            write.en.eq(self.write), write.addr.eq(self.w_ticket), write.data.eq(self.i),
            read.en.eq(1), read.addr.eq(self.ticket), self.o.eq(read.data),
        ]
        return m
