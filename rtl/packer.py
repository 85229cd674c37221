"""Partial sums to messages: header first, W elements to a flit, and a queue that never has to refuse."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import bits_for

from rtl.mesh import flit_layout
from rtl.notes import Notes
from rtl.params import ELEMENT_BITS, FlitKind, Geometry
from rtl.queue import Queue
from rtl.readout import partial_layout
from rtl.schedule import flits_bits, note_layout, output_note_layout

__all__ = ["Packer", "queue_depth"]


def queue_depth(geometry: Geometry) -> int:
    """Return the flits that the queue holds: two of the longest messages at least."""
    longest = 1 - (-geometry.columns // geometry.transport)
    return max(16, 1 << (2 * longest - 1).bit_length())


class Packer(wiring.Component):
    """Pack partial sums of one vector after the other; whoever sends them reserved the room before.

    Members
    -------
    note : In(note_layout)
    i : In(stream of partial_layout)
        Always ready.
    reserve : In
        Flits to set aside.
    room : Out
        Flits not set aside.
    o : Out(stream of flits)
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        self.depth = queue_depth(geometry)
        super().__init__({
            "note": In(note_layout),
            "i": In(stream.Signature(partial_layout(geometry), always_ready=True)),
            "reserve": In(flits_bits(geometry)),
            "room": Out(bits_for(self.depth)),
            "o": Out(stream.Signature(flit_layout(geometry))),
        })

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        layout = flit_layout(g)
        m.submodules.queue = queue = Queue(shape=layout, depth=self.depth)
        connect(m, queue.o, flipped(self.o))
        m.submodules.notes = notes = Notes(shape=output_note_layout)
        m.d.comb += [
            notes.write.eq(self.note.valid),
            notes.w_ticket.eq(self.note.ticket),
            notes.i.eq(self.note.output),
            notes.ticket.eq(self.i.payload.tag.ticket),
        ]

        valid, now = Signal(), Signal.like(self.i.payload, reset_less=True)
        m.d.sync += [valid.eq(self.i.valid), now.eq(self.i.payload)]

        # The header takes the clock of the first column: no word is full and no message ends that early.
        place = Signal(range(g.transport))
        elements = [Signal(signed(ELEMENT_BITS), name=f"element_{k}", reset_less=True) for k in range(g.transport)]
        word = [Mux(place == k, now.partial, element) for k, element in enumerate(elements)]
        header = valid & now.tag.first
        full = valid & ((place == g.transport - 1) | now.tag.last)
        with m.If(valid):
            m.d.sync += place.eq(Mux(full, 0, place + 1))
            for k, element in enumerate(elements):
                m.d.sync += element.eq(Mux(full, 0, word[k]))

        flit = Signal(layout)
        m.d.comb += [
            flit.route.eq(notes.o.route),
            flit.kind.eq(Mux(header, FlitKind.HEADER, FlitKind.PARTIAL)),
            flit.last.eq(now.tag.last),
            flit.data.eq(Mux(header, Cat(notes.o.event, notes.o.time), Cat(word))),
            queue.i.valid.eq(header | full),
            queue.i.payload.eq(flit),
        ]

        used = Signal(range(self.depth + 1))
        m.d.sync += used.eq(used + self.reserve - (self.o.valid & self.o.ready))
        m.d.comb += self.room.eq(self.depth - used)
        return m
