"""The port: cuts sent vectors into messages by the plan, and keeps results until the link takes them.

A vector is header (u32 event, u48 time) and activations (i8), little-endian; segment k of the plan sends the next
`words` flits on its route, under its position. A body too short for the plan is filled with zeros and one too long is
cut: nothing hangs.
One byte a clock comes in and goes out. At most `window` vectors are inside the mesh; the bytes of the next ones are
taken in meanwhile, as many as there is room for, and leave W elements a clock when their turn comes: so the mesh never
waits for a vector to come in byte by byte.

Vectors come from the link or, while a replay is busy, from the batch (`rtl/batch.py`).

Results of one vector are one message. The result memory must hold all results outstanding: the host sees to it.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.batch import HEADER_BYTES, Batch
from rtl.batch_memory import word_layout
from rtl.bus import BusSignature
from rtl.memory_share import batch_memory
from rtl.mesh import flit_layout
from rtl.params import ELEMENT_BITS, EVENT_BITS, POSITION_BITS, TIME_BITS, FlitKind, Geometry, PortRegion
from rtl.queue import Queue
from rtl.totals import COUNTER_BITS, Totals

__all__ = ["ByteLayout", "Port"]

_SEGMENT_BITS = 6
_WORD_BITS = 8
_ELEMENT_BYTES = 4

ByteLayout = data.StructLayout({"byte": unsigned(8), "last": unsigned(1)})
"""A byte of the body of SEND or of a result, and whether it is the last."""

_WAITING_WORDS = 512
"""Words (of W elements) that wait for their turn: as many as a block RAM has."""

_plan_layout = data.StructLayout({
    "route": unsigned(6), "_": unsigned(2), "words": unsigned(_WORD_BITS), "position": unsigned(POSITION_BITS)})


class _Gatherer(wiring.Component):
    """Packs the bytes of vectors into words of W bytes, a byte a clock.

    The header takes whole words of its own. A word that the end of header or vector cuts short is filled with zeros.

    Members
    -------
    i : bytes of vectors
    o : words, registered
    """

    def __init__(self, geometry: Geometry):
        self._transport = geometry.transport
        super().__init__({"i": In(stream.Signature(ByteLayout)), "o": Out(stream.Signature(word_layout(geometry)))})

    def elaborate(self, _platform):
        m = Module()
        place, header_left = Signal(range(self._transport)), Signal(range(HEADER_BYTES + 1), init=HEADER_BYTES)
        word = Signal(self.o.payload.shape(), reset_less=True)
        byte, last = self.i.payload.byte, self.i.payload.last
        m.d.comb += [self.i.ready.eq(~self.o.valid | self.o.ready), self.o.payload.eq(word)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            with m.If(place == 0):
                m.d.sync += word.bytes.eq(byte)
            with m.Else():
                m.d.sync += word.bytes.word_select(place, 8).eq(byte)
            m.d.sync += [word.last.eq(last), place.eq(place + 1), header_left.eq(header_left - (header_left != 0))]
            with m.If((place == self._transport - 1) | (header_left == 1) | last):
                m.d.sync += [self.o.valid.eq(1), place.eq(0)]
            with m.If(last):
                m.d.sync += header_left.eq(HEADER_BYTES)
        return m


class _Cutter(wiring.Component):
    """Turns the words of a vector into the messages of the plan.

    Members
    -------
    i : words of vectors
    o : flits of messages, registered
    go : a new vector may enter
    segments : messages of a vector
    segment, plan : number of a segment, and its entry of the plan in the clock after
    entered : a vector enters the mesh in this clock
    """

    def __init__(self, geometry: Geometry):
        self._transport = geometry.transport
        super().__init__({
            "i": In(stream.Signature(word_layout(geometry))),
            "o": Out(stream.Signature(flit_layout(geometry))),
            "go": In(1),
            "segments": In(_SEGMENT_BITS),
            "segment": Out(_SEGMENT_BITS),
            "plan": In(_plan_layout),
            "entered": Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        header_words = -(-HEADER_BYTES // self._transport)
        header = Signal(8 * self._transport * header_words, reset_less=True)
        count = Signal(range(header_words))
        words = Signal(_WORD_BITS, reset_less=True)
        segment = Signal(_SEGMENT_BITS)
        flit = Signal(self.o.payload.shape(), reset_less=True)
        ended = Signal()  # the last word has come: zeros stand in for what the plan still wants

        word = Mux(ended, 0, self.i.payload.bytes)
        here = self.i.valid | ended
        free = ~self.o.valid | self.o.ready
        last = self.i.valid & self.i.ready & self.i.payload.last
        m.d.comb += [self.o.payload.eq(flit), self.segment.eq(segment)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(last):
            m.d.sync += ended.eq(1)

        with m.FSM(name="cutter"):
            with m.State("Header"):
                m.d.comb += self.i.ready.eq(self.go & ~ended)
                with m.If((self.i.valid & self.go) | ended):
                    m.d.sync += [header.eq(Cat(header, word)[8 * self._transport:]), count.eq(count + 1)]
                    with m.If(count == header_words - 1):
                        m.d.sync += [count.eq(0), segment.eq(0)]
                        m.d.comb += self.entered.eq(self.segments != 0)
                        m.next = "Plan"
            with m.State("Plan"):
                # The entry of this segment leaves the memory at the end of this clock.
                m.next = "Announce"
                with m.If(segment == self.segments):
                    m.next = "Rest"
            with m.State("Announce"):
                with m.If(free):
                    m.d.sync += [
                        flit.route.eq(self.plan.route), flit.kind.eq(FlitKind.HEADER.value), flit.last.eq(0),
                        flit.data.eq(Cat(header[:8 * HEADER_BYTES], self.plan.position)), self.o.valid.eq(1),
                        words.eq(self.plan.words),
                    ]
                    m.next = "Words"
            with m.State("Words"):
                m.d.comb += self.i.ready.eq(~ended & free)
                with m.If(here & free):
                    m.d.sync += [
                        flit.route.eq(self.plan.route), flit.kind.eq(FlitKind.ACTIVATION.value),
                        flit.last.eq(words == 1), self.o.valid.eq(1), words.eq(words - 1),
                    ]
                    m.d.sync += [
                        flit.data[ELEMENT_BITS * k:ELEMENT_BITS * (k + 1)].eq(word.word_select(k, 8).as_signed())
                        for k in range(self._transport)
                    ]
                    with m.If(words == 1):
                        m.d.sync += segment.eq(segment + 1)
                        m.next = "Plan"
            with m.State("Rest"):
                m.d.comb += self.i.ready.eq(~ended)
                with m.If(ended | last):
                    m.d.sync += ended.eq(0)
                    m.next = "Header"
        return m


class _Results(wiring.Component):
    """Stores results and hands them out as bytes, each only when it is complete.

    Members
    -------
    i : flits of results
    o : bytes of results
    available : a complete result waits, or is being handed out
    arrived : a result is complete in this clock
    taken : the last byte of a result leaves in this clock
    """

    def __init__(self, geometry: Geometry):
        self._geometry = geometry
        super().__init__({
            "i": In(stream.Signature(flit_layout(geometry))),
            "o": Out(stream.Signature(ByteLayout)),
            "available": Out(1),
            "arrived": Out(1),
            "taken": Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        transport, depth = self._geometry.transport, self._geometry.result_words
        width = max(transport * ELEMENT_BITS, EVENT_BITS + TIME_BITS)  # a result's position is not told
        m.submodules.memory = memory = Queue(shape=unsigned(width + 1), depth=depth)
        complete = Signal(range(depth + 1))
        m.d.comb += [
            memory.i.payload.eq(Cat(self.i.payload.data[:width], self.i.payload.last)),
            memory.i.valid.eq(self.i.valid),
            self.i.ready.eq(memory.i.ready),
            self.arrived.eq(self.i.valid & self.i.ready & self.i.payload.last),
            self.taken.eq(self.o.valid & self.o.ready & self.o.payload.last),
            self.available.eq(complete != 0),
        ]
        m.d.sync += complete.eq(complete + self.arrived - self.taken)

        word_bytes = transport * _ELEMENT_BYTES
        longest = max(word_bytes, HEADER_BYTES)
        shift = Signal(8 * longest, reset_less=True)
        left = Signal(range(longest + 1))
        final = Signal(reset_less=True)
        header = Signal(init=1)  # the next flit out of the memory is a header
        extended = Signal(8 * word_bytes)
        for k in range(transport):
            element = memory.o.payload[:width].word_select(k, ELEMENT_BITS).as_signed()
            m.d.comb += extended.word_select(k, 8 * _ELEMENT_BYTES).eq(element)
        m.d.comb += [
            self.o.valid.eq(left != 0),
            self.o.payload.byte.eq(shift[:8]),
            self.o.payload.last.eq(final & (left == 1)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [shift.eq(shift >> 8), left.eq(left - 1)]
        # A word follows the last byte of the one before without a gap; a result's end leaves one, for `complete`.
        emptied = (left == 0) | ((left == 1) & self.o.ready & ~final)
        with m.If(emptied & memory.o.valid & self.available):
            m.d.comb += memory.o.ready.eq(1)
            m.d.sync += [
                shift.eq(Mux(header, memory.o.payload[:EVENT_BITS + TIME_BITS], extended)),
                left.eq(Mux(header, HEADER_BYTES, word_bytes)),
                final.eq(memory.o.payload[-1]),
                header.eq(memory.o.payload[-1]),
            ]
        return m


class Port(wiring.Component):
    """Unit 0, between the link and the mesh.

    Members
    -------
    send : bodies of SEND, a byte at a time
    credit : fewer than `result_vectors` vectors are outstanding, and no replay is busy
    stop : start no vector of a replay any more
    result : results, a byte at a time
    available : a complete result waits, or is being handed out
    i, o : flits from and to the mesh
    bus : regions REGISTERS, COUNTERS, PLAN and BATCH; waits for nothing but a word that goes to SDRAM
    hops : flits that crossed a link in this clock, to be counted
    memory : MemorySignature, out, in builds with the batch in SDRAM
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        flits = stream.Signature(flit_layout(geometry))
        super().__init__({
            "send": In(stream.Signature(ByteLayout)),
            "credit": Out(1),
            "stop": In(1),
            "result": Out(stream.Signature(ByteLayout)),
            "available": Out(1),
            "i": In(flits),
            "o": Out(flits),
            "bus": In(BusSignature()),
            "hops": In(range(4 * geometry.nodes + 1)),
            **({"memory": Out(batch_memory(geometry))} if geometry.batch_in_sdram else {}),
        })

    def elaborate(self, _platform):
        m = Module()
        window, segments = Signal(4, init=1), Signal(_SEGMENT_BITS)
        m.submodules.gatherer = gatherer = _Gatherer(self.geometry)
        m.submodules.waiting = waiting = Queue(shape=gatherer.o.payload.shape(), depth=_WAITING_WORDS)
        m.submodules.cutter = cutter = _Cutter(self.geometry)
        m.submodules.batch = batch = Batch(geometry=self.geometry)
        m.submodules.results = results = _Results(self.geometry)
        m.submodules.plan = plan = Memory(shape=_plan_layout, depth=1 << _SEGMENT_BITS, init=[])
        connect(m, flipped(self.send), gatherer.i)
        connect(m, gatherer.o, waiting.i)
        for source, chosen in ((batch.o, batch.active), (waiting.o, ~batch.active)):
            with m.If(chosen):
                m.d.comb += [cutter.i.payload.eq(source.payload), cutter.i.valid.eq(source.valid),
                             source.ready.eq(cutter.i.ready)]
        if self.geometry.batch_in_sdram:
            connect(m, batch.memory, flipped(self.memory))
        connect(m, cutter.o, flipped(self.o))
        connect(m, flipped(self.i), results.i)
        connect(m, results.o, flipped(self.result))

        inside, outstanding = Signal(4), Signal(range(self.geometry.result_vectors + 1))
        accepted = self.send.valid & self.send.ready & self.send.payload.last
        arrived = results.arrived & (inside != 0)
        has_room = outstanding < self.geometry.result_vectors
        m.d.sync += [
            inside.eq(inside + cutter.entered - arrived),
            outstanding.eq(outstanding + (accepted & has_room | batch.started)
                           - (results.taken & (outstanding != 0))),
        ]
        plan_read = plan.read_port()
        m.d.comb += [
            cutter.go.eq(inside < window),
            cutter.segments.eq(segments),
            plan_read.addr.eq(cutter.segment),
            cutter.plan.eq(plan_read.data),
            self.credit.eq(has_room & ~batch.busy),
            self.available.eq(results.available),
            batch.outstanding.eq(outstanding), batch.stop.eq(self.stop),
        ]
        sent, received, cycles, hops = (Signal(COUNTER_BITS, name=n) for n in ("sent", "received", "cycles", "hops"))
        m.d.sync += [
            sent.eq(sent + (accepted | batch.started)), received.eq(received + results.taken), cycles.eq(cycles + 1),
            hops.eq(hops + self.hops),
        ]
        m.submodules.totals = totals = Totals(count=4)
        m.d.comb += totals.counters.eq(Cat(sent, received, cycles, hops))
        self._bus(m, window, segments, plan, totals, batch)
        return m

    def _bus(self, m: Module, window: Signal, segments: Signal, plan: Memory, totals: Totals, batch: Batch) -> None:
        write, read = plan.write_port(), plan.read_port(domain="comb")
        request, response = self.bus.request, self.bus.response
        access, offset = request.payload, request.payload.offset
        in_plan = offset < (1 << _SEGMENT_BITS)
        accept, store = Signal(), Signal()
        m.d.comb += [
            request.ready.eq(~response.valid & batch.ready),
            accept.eq(request.valid & request.ready),
            store.eq(accept & access.write),
            write.addr.eq(offset),
            read.addr.eq(offset),
            write.data.eq(access.data),
            write.en.eq(store & (access.region == PortRegion.PLAN) & in_plan),
            batch.access.eq(access), batch.write.eq(store),
        ]
        # The upper half of a counter is that of the moment when its lower half was read.
        high = Signal(len(totals.total) - 32)
        m.d.comb += totals.index.eq(offset[1:3])
        with m.If(response.valid & response.ready):
            m.d.sync += response.valid.eq(0)
        with m.If(accept):
            m.d.sync += [response.valid.eq(1), response.payload.eq(0)]
        with m.If(accept & ~access.write):
            with m.Switch(access.region):
                with m.Case(PortRegion.REGISTERS):
                    m.d.sync += response.payload.eq(batch.value)
                    with m.If(offset < 2):
                        m.d.sync += response.payload.eq(Mux(offset[0], segments, window))
                with m.Case(PortRegion.COUNTERS):
                    m.d.comb += totals.read.eq(1)
                    with m.If(offset < 8):
                        with m.If(offset[0]):
                            m.d.sync += response.payload.eq(high)
                        with m.Else():
                            m.d.sync += [response.payload.eq(totals.total[:32]), high.eq(totals.total[32:])]
                with m.Case(PortRegion.PLAN):
                    m.d.sync += response.payload.eq(Mux(in_plan, read.data, 0))
        with m.If(store & (access.region == PortRegion.REGISTERS)):
            with m.Switch(offset):
                with m.Case(0):
                    m.d.sync += window.eq(access.data)
                with m.Case(1):
                    m.d.sync += segments.eq(access.data)
