"""Two slots a context for incoming vectors: one fills while the other waits or is read.

Flits of different routes may come in any mixture; those of one route are one vector after the other. A header waits
until its context has a free slot, so nothing is lost and a full buffer only holds up the mesh. Messages of routes
without an input are dropped; words past the largest tile's are ignored.
"""

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from rtl.bus import BusSignature
from rtl.mesh import flit_layout, header_layout
from rtl.params import ACTIVATION_BITS, ELEMENT_BITS, FlitKind, Geometry

__all__ = ["InputBuffer"]

_input_layout = data.StructLayout({"context": 6, "valid": 1})


class InputBuffer(wiring.Component):
    """Sort flits into vectors, a flit a clock.

    Members
    -------
    i : In(stream of flits)
    bus : In(BusSignature)
        Region INPUTS: route -> context | valid << 6.
    ready : Out, a bit a context
        It has a complete vector.
    begun : Out, a bit a context
        It was just named as an input.
    context : In
        Whose oldest complete vector is looked at.
    header : Out
        Its header, one clock after `context`.
    address : In, word : Out
        Word of W activations of that vector, and its value one clock later.
    release : In(1)
        Gives the slot of that vector back.
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        self._word = data.ArrayLayout(unsigned(ACTIVATION_BITS), geometry.transport)
        self._address_bits = bits_for(geometry.row_words - 1)
        super().__init__({
            "i": In(stream.Signature(flit_layout(geometry))),
            "bus": In(BusSignature()),
            "ready": Out(geometry.contexts),
            "begun": Out(geometry.contexts),
            "context": In(bits_for(geometry.contexts - 1)),
            "header": Out(header_layout),
            "address": In(self._address_bits),
            "word": Out(self._word),
            "release": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        m.submodules.inputs = inputs = memory.Memory(shape=_input_layout, depth=64, init=[])
        m.submodules.headers = headers = memory.Memory(shape=header_layout, depth=2 << ceil_log2(g.contexts), init=[])
        m.submodules.words = words = memory.Memory(
            shape=self._word, depth=2 << (ceil_log2(g.contexts) + self._address_bits), init=[])

        # A flit waits here while its route is looked up, and on while its context has no free slot.
        flit = Signal(flit_layout(g), reset_less=True)
        held, advance = Signal(), Signal()
        route = inputs.read_port()
        m.d.comb += [
            self.i.ready.eq(~held | advance),
            route.addr.eq(self.i.payload.route),
            route.en.eq(self.i.ready),
        ]
        with m.If(self.i.ready):
            m.d.sync += [held.eq(self.i.valid), flit.eq(self.i.payload)]

        # State of the contexts: which slots are full, which is next to write and to read.
        full = [Signal(g.contexts, name=f"full_{slot}") for slot in range(2)]
        w_slot, r_slot = Signal(g.contexts), Signal(g.contexts)
        context = Signal(bits_for(g.contexts - 1))
        slot = w_slot.bit_select(context, 1)
        m.d.comb += [
            context.eq(route.data.context),
            self.ready.eq((full[0] & ~r_slot) | (full[1] & r_slot)),
        ]

        header, word = headers.write_port(), words.write_port()
        count, free, header_flit = Signal(range(g.row_words + 1)), Signal(), Signal()
        m.submodules.counts = counts = memory.Memory(
            shape=range(g.row_words + 1), depth=1 << ceil_log2(g.contexts), init=[])
        seen, next_seen = counts.read_port(domain="comb"), counts.write_port()
        m.d.comb += [
            header_flit.eq(flit.kind == FlitKind.HEADER),
            free.eq(~(Cat(full[0].bit_select(context, 1), full[1].bit_select(context, 1)).bit_select(slot, 1))),
            advance.eq(held & (~route.data.valid | ~header_flit | free)),
            seen.addr.eq(context),
            count.eq(seen.data),
            next_seen.addr.eq(context),
            header.addr.eq(Cat(slot, context)),
            header.data.eq(flit.data[:header_layout.size]),
            word.addr.eq(Cat(count[:self._address_bits], slot, context)),
            [word.data[k].eq(flit.data[k * ELEMENT_BITS:][:ACTIVATION_BITS]) for k in range(g.transport)],
        ]
        with m.If(advance & route.data.valid):
            m.d.comb += next_seen.en.eq(1)
            with m.If(header_flit):
                m.d.comb += header.en.eq(1)  # and the words count from 0 again
            with m.Else():
                m.d.comb += [next_seen.data.eq(count + 1), word.en.eq(1)]
                with m.If(count == g.row_words):
                    m.d.comb += [next_seen.data.eq(count), word.en.eq(0)]
                with m.If(flit.last):
                    for number, bits in enumerate(full):
                        with m.If(slot == number):
                            m.d.sync += bits.bit_select(context, 1).eq(1)
                    m.d.sync += slot.eq(~slot)

        r_header, r_word = headers.read_port(), words.read_port()
        oldest = r_slot.bit_select(self.context, 1)
        m.d.comb += [
            r_header.addr.eq(Cat(oldest, self.context)),
            r_header.en.eq(1),
            self.header.eq(r_header.data),
            r_word.addr.eq(Cat(self.address, oldest, self.context)),
            r_word.en.eq(1),
            self.word.eq(r_word.data),
        ]
        with m.If(self.release):
            for number, bits in enumerate(full):
                with m.If(oldest == number):
                    m.d.sync += bits.bit_select(self.context, 1).eq(0)
            m.d.sync += oldest.eq(~oldest)

        self._bus(m, inputs)
        return m

    def _bus(self, m, inputs):
        request, response = self.bus.request, self.bus.response
        read, write = inputs.read_port(), inputs.write_port()
        answer = Signal()
        m.d.comb += [
            request.ready.eq(~answer),
            read.addr.eq(request.payload.offset),
            read.en.eq(request.ready),
            write.addr.eq(request.payload.offset),
            write.data.eq(request.payload.data),
            write.en.eq(request.valid & request.ready & request.payload.write),
        ]
        entry = data.View(_input_layout, request.payload.data[:_input_layout.size])
        with m.If(write.en & entry.valid):
            m.d.comb += [self.begun[k].eq(entry.context == k) for k in range(self.geometry.contexts)]
        written = Signal(reset_less=True)
        with m.If(request.valid & request.ready):
            m.d.sync += [answer.eq(1), written.eq(request.payload.write)]
        m.d.comb += response.valid.eq(answer)
        with m.If(~written):
            m.d.comb += response.payload.eq(read.data)
        with m.If(response.valid & response.ready):
            m.d.sync += answer.eq(0)
