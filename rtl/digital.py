"""The digital unit: a micro-programmed vector unit between the tiles.

Messages land (rtl/landing.py); when all that a program wants have come, its instructions run one after another, each a
nested loop (rtl/address_generator.py) of vector words through one pipeline (rtl/vector_pipeline.py). The next
instruction is fetched meanwhile and begins when the last result of the one before is out, so it reads all of them.
An instruction must not read a word that an earlier step of its own wrote; the numpy model refuses that.

A program's results have priority over landing at the memory's write port; a send waits for room in its output buffer
before it issues a step, so the pipeline itself never stalls. One word in `digital_turns` clocks; an instruction costs
18 clocks more.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.address_generator import ADDRESS_BITS, AddressGenerator, instruction_layout
from rtl.arbiter import Arbiter
from rtl.bus import BusSignature
from rtl.landing import AccessSignature, Landing, program_bits, record_memory
from rtl.mesh import flit_layout
from rtl.params import ELEMENT_BITS, EVENT_BITS, TIME_BITS, Destination, DigitalRegion, FlitKind, Geometry, Reduce
from rtl.params.program import INSTRUCTION_WORDS
from rtl.params.registers import PROGRAM_STRIDE, register
from rtl.queue import Queue
from rtl.totals import COUNTER_BITS, Totals
from rtl.vector_pipeline import VectorPipeline

__all__ = ["DigitalUnit"]

_OUTPUT_FLITS = 32
"""Deeper than the pipeline, so that a stream of results never waits for its own credits."""

_START_BITS = register("digital", DigitalRegion.PROGRAMS, "start").bits
_LATENCY_BITS = register("digital", DigitalRegion.PROGRAMS, "latency").bits
_ELEMENT_OFFSET_BITS = 4


class _Fetch(wiring.Component):
    """Reads an instruction from its memory, a 32-bit word a clock.

    Members
    -------
    access : writes INSTRUCTIONS
    begin, number : fetch this instruction; not while one is fetched
    instruction, ready : what was fetched, all of it from `ready` until the next `begin`
    """

    def __init__(self, geometry: Geometry):
        self._depth = geometry.instructions * INSTRUCTION_WORDS
        super().__init__({
            "access": In(AccessSignature()),
            "begin": In(1),
            "number": In(_START_BITS),
            "instruction": Out(instruction_layout),
            "ready": Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        # It is written while nothing runs: a word that is read in that clock is never used.
        m.submodules.memory = memory = Memory(
            shape=unsigned(32), depth=self._depth, init=[], attrs={"no_rw_check": 1})
        write, read = memory.write_port(), memory.read_port()
        words = Signal(32 * INSTRUCTION_WORDS, reset_less=True)
        address = Signal(_START_BITS + 3, reset_less=True)
        left = Signal(range(INSTRUCTION_WORDS + 1))
        coming = Signal()
        m.d.comb += [
            write.addr.eq(self.access.offset),
            write.data.eq(self.access.data),
            write.en.eq(self.access.write & (self.access.region == DigitalRegion.INSTRUCTIONS)
                        & (self.access.offset < self._depth)),
            read.addr.eq(address),
            Value.cast(self.instruction).eq(words),
        ]
        m.d.sync += coming.eq(left != 0)
        with m.If(left != 0):
            m.d.sync += [left.eq(left - 1), address.eq(address + 1)]
        with m.If(coming):
            m.d.sync += words.eq(Cat(words[32:], read.data))
            with m.If(left == 0):
                m.d.sync += self.ready.eq(1)
        with m.If(self.begin):
            m.d.sync += [left.eq(INSTRUCTION_WORDS), address.eq(self.number << 3), self.ready.eq(0)]
        return m


class DigitalUnit(wiring.Component):
    """The vector unit at its mesh node.

    Members
    -------
    i, o : flits from and to the mesh
    bus : every region but ROUTES; a request waits while a program runs or can run
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        flits = stream.Signature(flit_layout(geometry))
        super().__init__({"i": In(flits), "o": Out(flits), "bus": In(BusSignature())})

    def elaborate(self, _platform):
        m = Module()
        m.submodules.landing = landing = Landing(geometry=self.geometry)
        m.submodules.pipeline = pipeline = VectorPipeline(geometry=self.geometry)
        m.submodules.generator = generator = AddressGenerator()
        m.submodules.fetch = fetch = _Fetch(self.geometry)
        connect(m, flipped(self.i), landing.i)

        access = AccessSignature().create(path=("access",))
        for part in (landing, fetch):
            m.d.comb += [
                part.access.write.eq(access.write), part.access.region.eq(access.region),
                part.access.offset.eq(access.offset), part.access.data.eq(access.data),
            ]
        counters = [Signal(COUNTER_BITS, name=f"{name}_count") for name in ("message", "operation", "busy")]
        idle, records = Signal(), Signal(32)
        word = self._memory(m, access, landing, generator, pipeline)
        own = (access.region == DigitalRegion.PROGRAMS) & (access.offset[0] == access.offset[1])
        self._bus(m, access, idle, Mux(own, records, landing.read), word, counters)
        self._sequencer(m, access, landing, generator, pipeline, fetch, idle, records, counters)
        return m

    def _bus(self, m: Module, access, idle, records, word, counters) -> None:
        """One access at a time, and only while nothing runs: landing and sequencer stand still meanwhile."""
        request, response = self.bus.request, self.bus.response
        held = Signal(request.payload.shape(), reset_less=True)
        landing = m.submodules.landing
        elements = Signal.like(word)
        m.submodules.totals = totals = Totals(count=len(counters))
        m.d.comb += [totals.counters.eq(Cat(counters)), totals.index.eq(held.offset[1:])]
        m.d.comb += [access.region.eq(held.region), access.offset.eq(held.offset), access.data.eq(held.data)]
        m.d.sync += elements.eq(word)
        with m.FSM(name="access"):
            with m.State("Idle"):
                m.d.comb += request.ready.eq(idle)
                with m.If(idle & request.valid):
                    m.d.comb += landing.hold.eq(1)
                    m.d.sync += held.eq(request.payload)
                    m.next = "Access"
            with m.State("Access"):
                m.d.comb += [landing.hold.eq(1), access.write.eq(held.write)]
                m.next = "Read"
            with m.State("Read"):
                # The memory's word is at its output now, and in a register in the next state.
                m.d.comb += landing.hold.eq(1)
                m.next = "Select"
            with m.State("Select"):
                m.d.comb += landing.hold.eq(1)
                m.d.sync += response.payload.eq(0)
                with m.If(~held.write), m.Switch(held.region):
                    with m.Case(DigitalRegion.COUNTERS), m.If(held.offset < 2 * len(counters)):
                        m.d.comb += totals.read.eq(1)
                        m.d.sync += response.payload.eq(Mux(held.offset[0], totals.total[32:], totals.total[:32]))
                    with m.Case(DigitalRegion.INPUT_ROUTES, DigitalRegion.PROGRAMS):
                        m.d.sync += response.payload.eq(records)
                    with m.Case(DigitalRegion.MEMORY):
                        with m.If(self._in_memory(held.offset)):
                            element = elements.word_select(held.offset[:_ELEMENT_OFFSET_BITS], ELEMENT_BITS)
                            m.d.sync += response.payload.eq(element)
                m.next = "Respond"
            with m.State("Respond"):
                m.d.comb += [landing.hold.eq(1), response.valid.eq(1)]
                with m.If(response.ready):
                    m.next = "Idle"

    def _in_memory(self, offset) -> Value:
        return ((offset[:_ELEMENT_OFFSET_BITS] < self.geometry.transport)
                & (offset[_ELEMENT_OFFSET_BITS:] < self.geometry.digital_words))

    def _memory(self, m: Module, access, landing: Landing, generator: AddressGenerator,
                pipeline: VectorPipeline) -> Value:
        """The memory and who uses it; return what its first read port shows (the bus looks there too)."""
        transport = self.geometry.transport
        m.submodules.memory = memory = Memory(shape=unsigned(transport * ELEMENT_BITS),
                                              depth=self.geometry.digital_words, init=[])
        read_a, read_b = memory.read_port(), memory.read_port()
        write = memory.write_port(granularity=ELEMENT_BITS)
        bus_word = access.offset[_ELEMENT_OFFSET_BITS:]
        bus_write = access.write & (access.region == DigitalRegion.MEMORY) & self._in_memory(access.offset)
        store = Signal()
        m.d.comb += [
            store.eq(pipeline.o.valid & (pipeline.instruction.destination == Destination.MEMORY)),
            landing.w_ready.eq(~store),
            read_a.addr.eq(Mux(landing.hold, bus_word, generator.a)),
            read_b.addr.eq(generator.b),
            read_a.en.eq(landing.hold | pipeline.i.valid),
            read_b.en.eq(pipeline.i.valid),
            pipeline.a.eq(read_a.data),
            pipeline.b.eq(read_b.data),
            pipeline.table_write.eq(access.write & (access.region == DigitalRegion.ACTIVATION_TABLES)
                                    & (access.offset < 512)),
            pipeline.table_address.eq(access.offset),
            pipeline.table_data.eq(access.data),
        ]
        with m.If(store):
            m.d.comb += [write.addr.eq(pipeline.o.d), write.data.eq(pipeline.o_data), write.en.eq(~0)]
        with m.Elif(landing.w_valid):
            m.d.comb += [write.addr.eq(landing.w_address), write.data.eq(landing.w_data), write.en.eq(~0)]
        with m.Else():
            m.d.comb += [
                write.addr.eq(bus_word),
                write.data.eq(access.data[:ELEMENT_BITS].replicate(transport)),
                write.en.eq(Mux(bus_write, 1 << access.offset[:_ELEMENT_OFFSET_BITS], 0)),
            ]
        return read_a.data

    def _output(self, m: Module, header: Signal, header_data: Value, route: Value, pipeline: VectorPipeline) -> Signal:
        """The output buffer; return its credits: flits it can take beyond those on their way."""
        layout = flit_layout(self.geometry)
        m.submodules.output = output = Queue(shape=layout, depth=_OUTPUT_FLITS)
        connect(m, output.o, flipped(self.o))
        flit = Signal(layout)
        kind = Mux(pipeline.instruction.destination == Destination.ACTIVATION, FlitKind.ACTIVATION.value,
                   FlitKind.PARTIAL.value)
        send = pipeline.o.valid & (pipeline.instruction.destination != Destination.MEMORY)
        m.d.comb += [
            flit.route.eq(route),
            flit.kind.eq(Mux(header, FlitKind.HEADER.value, kind)),
            flit.last.eq(~header & pipeline.o.final),
            flit.data.eq(Mux(header, header_data, pipeline.o_data)),
            output.i.payload.eq(flit),
            output.i.valid.eq(header | send),
        ]
        return Signal(range(_OUTPUT_FLITS + 1), init=_OUTPUT_FLITS - 2, name="credits")

    def _sequencer(self, m: Module, access, landing: Landing, generator: AddressGenerator, pipeline: VectorPipeline,
                   fetch: _Fetch, idle: Signal, records: Signal, counters: list[Signal]) -> None:
        """Chooses a program, steps through its instructions, keeps its target time."""
        programs = self.geometry.programs
        starts, start_read = record_memory(m, "starts", _START_BITS, programs, access, DigitalRegion.PROGRAMS,
                                           PROGRAM_STRIDE, 0)
        latencies, latency_read = record_memory(m, "latencies", _LATENCY_BITS, programs, access,
                                                DigitalRegion.PROGRAMS, PROGRAM_STRIDE, 3)
        m.d.comb += records.eq(Mux(access.offset[0], latency_read, start_read))
        m.submodules.frees = frees = Memory(shape=unsigned(TIME_BITS), depth=programs, init=[])
        start_port, latency_port = starts.read_port(domain="comb"), latencies.read_port(domain="comb")
        free_read, free_write = frees.read_port(domain="comb"), frees.write_port()

        program = Signal(program_bits(self.geometry), reset_less=True)
        event = Signal(EVENT_BITS, reset_less=True)
        arrived, free, time = (Signal(TIME_BITS, name=n, reset_less=True) for n in ("arrived", "free", "time"))
        latency = Signal(_LATENCY_BITS, reset_less=True)
        number = Signal(_START_BITS, reset_less=True)
        slot = Signal(ADDRESS_BITS, reset_less=True)
        code = Signal(instruction_layout, reset_less=True)
        header = Signal()
        credits = self._output(m, header, Cat(event, time, code.position), code.route, pipeline)
        m.submodules.arbiter = arbiter = Arbiter(programs)

        to_mesh = code.destination != Destination.MEMORY
        step = Signal()
        emits = generator.last | (code.reduce == Reduce.NONE)
        m.d.comb += [
            landing.program.eq(program),
            start_port.addr.eq(program), latency_port.addr.eq(program), free_read.addr.eq(program),
            free_write.addr.eq(program), free_write.data.eq(time),
            generator.instruction.eq(code), generator.slot.eq(slot), generator.step.eq(step),
            pipeline.instruction.eq(code),
            pipeline.i.valid.eq(step), pipeline.i.first.eq(generator.first), pipeline.i.last.eq(generator.last),
            pipeline.i.final.eq(generator.final), pipeline.i.d.eq(generator.d),
            arbiter.requests.eq(landing.full),
            fetch.number.eq(number),
        ]
        m.d.sync += credits.eq(credits - (header | (step & to_mesh & emits)) + (self.o.valid & self.o.ready))
        m.d.sync += counters[1].eq(counters[1] + step)

        with m.FSM(name="sequencer") as fsm:
            with m.State("Wait"):
                m.d.comb += [arbiter.enable.eq(~landing.hold), idle.eq((landing.full == 0) & landing.quiet)]
                with m.If(arbiter.grants != 0):
                    for p in range(programs):
                        with m.If(arbiter.grants[p]):
                            m.d.sync += program.eq(p)
                    m.next = "Load"
            with m.State("Load"):
                m.d.sync += [
                    number.eq(start_port.data), latency.eq(latency_port.data), event.eq(landing.event),
                    arrived.eq(landing.time), free.eq(Mux(landing.used, free_read.data, 0)),
                    slot.eq(Mux(landing.odd, landing.slot_words, 0)),
                ]
                m.next = "Start"
            with m.State("Start"):
                m.d.comb += fetch.begin.eq(1)
                m.d.sync += time.eq(Mux(arrived > free, arrived, free))
                m.next = "Time"
            with m.State("Time"):
                m.d.sync += time.eq(time + latency)
                m.next = "Fetch"
            with m.State("Fetch"):
                m.d.comb += free_write.en.eq(1)
                with m.If(fetch.ready):
                    m.d.sync += [code.eq(fetch.instruction), number.eq(number + 1)]
                    m.next = "Prepare"
            with m.State("Prepare"):
                # The generator and the pipeline derive their own registers from the new instruction now.
                m.d.comb += fetch.begin.eq(~code.last)
                m.next = "Begin"
            with m.State("Begin"):
                with m.If(~to_mesh | (credits != 0)):
                    m.d.comb += [generator.start.eq(1), header.eq(to_mesh)]
                    m.next = "Run"
            with m.State("Run"):
                m.d.comb += step.eq(pipeline.ready & (~to_mesh | (credits != 0)))
                with m.If(step & generator.final):
                    m.next = "Drain"
            with m.State("Drain"):
                with m.If(pipeline.o.valid & pipeline.o.final):
                    m.next = "Fetch"
                    with m.If(code.last):
                        m.next = "End"
            with m.State("End"):
                m.d.comb += landing.done.eq(1)
                m.d.sync += counters[0].eq(counters[0] + 1)
                m.next = "Wait"
        m.d.sync += counters[2].eq(counters[2] + ~fsm.ongoing("Wait"))
