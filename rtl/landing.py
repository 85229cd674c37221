"""Where messages land in the digital unit: each route has a zone, each zone two slots that take turns.

What run n of a program needs of a route lands in slot n % 2, as soon as run n - 2 has ended; until then it waits at the
input. It is one message, or 1 + `more` that land one after another, so that a whole feature map gathers without a run
between. A slot is full when `messages` messages of all routes have landed in it.

Writing `messages` of a program's record resets the program: no message has come, none has run, its resource is free at
time 0. Writing `program` of a route's record resets the route: its next message is the first.

One data flit a clock; a message costs five clocks more. A flit on a route that no program takes is dropped.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from rtl.address_generator import ADDRESS_BITS
from rtl.mesh import flit_layout
from rtl.params import ELEMENT_BITS, EVENT_BITS, TIME_BITS, DigitalRegion, FlitKind, Geometry
from rtl.params.registers import PROGRAM_STRIDE, ROUTE_STRIDE, register

__all__ = ["AccessSignature", "Landing", "program_bits", "record_memory"]

_TARGET_BITS = register("digital", DigitalRegion.INPUT_ROUTES, "program").bits - 1
_MESSAGE_BITS = register("digital", DigitalRegion.PROGRAMS, "messages").bits
_PART_BITS = register("digital", DigitalRegion.INPUT_ROUTES, "more").bits


def program_bits(geometry: Geometry) -> int:
    """Return the bits of a program's number."""
    return bits_for(geometry.programs - 1)


class AccessSignature(wiring.Signature):
    """A register access, seen from the bus: `write` is high for one clock, region and offset hold still around it."""

    def __init__(self):
        super().__init__({"write": Out(1), "region": Out(4), "offset": Out(20), "data": Out(32)})


def record_memory(m: Module, name: str, bits: int, depth: int, access, region: DigitalRegion, stride: int,
                  offset: int) -> tuple[Memory, Value]:
    """Make a memory of one field of a region's records, written by `access`; return it and the value at the offset."""
    m.submodules[name] = memory = Memory(shape=unsigned(bits), depth=depth, init=[])
    write, read = memory.write_port(), memory.read_port(domain="comb")
    index = access.offset[(stride - 1).bit_length():]
    m.d.comb += [
        write.addr.eq(index), write.data.eq(access.data), read.addr.eq(index),
        write.en.eq(access.write & (access.region == region) & (access.offset[:2] == offset) & (index < depth)),
    ]
    return memory, Mux(index < depth, read.data, 0)


class Landing(wiring.Component):
    """Takes flits from the mesh, writes them to the memory, and tells which programs can run.

    Members
    -------
    i : flits
    hold : take nothing (the bus is at work)
    access, read : register access to INPUT_ROUTES, PROGRAMS.messages and PROGRAMS.slot, and what is read there
    w_valid, w_address, w_data, w_ready : words to the memory
    full : program -> its next slot is full
    program, slot : the slot asked about and, with `done`, emptied: the program's next one
    odd : the next slot of `program` is the second
    slot_words : words between the program's slots
    event, time : of the messages in that slot; time is the latest of them
    done : the run of `program` has ended
    used : the program has run since its reset
    quiet : between two flits, all words written
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        super().__init__({
            "i": In(stream.Signature(flit_layout(geometry))),
            "hold": In(1),
            "access": In(AccessSignature()),
            "read": Out(32),
            "w_valid": Out(1),
            "w_address": Out(ADDRESS_BITS),
            "w_data": Out(geometry.transport * ELEMENT_BITS),
            "w_ready": In(1),
            "full": Out(geometry.programs),
            "program": In(program_bits(geometry)),
            "odd": Out(1),
            "slot_words": Out(ADDRESS_BITS),
            "event": Out(EVENT_BITS),
            "time": Out(TIME_BITS),
            "done": In(1),
            "used": Out(1),
            "quiet": Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        programs, routes = self.geometry.programs, self.geometry.routes
        access = self.access

        # What the host wrote.
        def record(name: str, bits: int, region: DigitalRegion, offset: int) -> tuple[Memory, Value]:
            depth, stride = ((routes, ROUTE_STRIDE) if region == DigitalRegion.INPUT_ROUTES
                             else (programs, PROGRAM_STRIDE))
            return record_memory(m, name, bits, depth, access, region, stride, offset)

        base, base_read = record("base", ADDRESS_BITS, DigitalRegion.INPUT_ROUTES, 0)
        more, more_read = record("more", _PART_BITS, DigitalRegion.INPUT_ROUTES, 2)
        target, target_read = record("target", _TARGET_BITS + 1, DigitalRegion.INPUT_ROUTES, 1)
        messages, messages_read = record("messages", _MESSAGE_BITS, DigitalRegion.PROGRAMS, 1)
        slot, slot_read = record("slot", ADDRESS_BITS, DigitalRegion.PROGRAMS, 2)
        with m.If(access.region == DigitalRegion.INPUT_ROUTES):
            with m.Switch(access.offset[:2]):
                for k, value in enumerate((base_read, target_read, more_read)):
                    with m.Case(k):
                        m.d.comb += self.read.eq(value)
        with m.Else():
            m.d.comb += self.read.eq(Mux(access.offset[0], messages_read, slot_read))
        reset_route = access.write & (access.region == DigitalRegion.INPUT_ROUTES) & (access.offset[:2] == 1)
        reset_program = access.write & (access.region == DigitalRegion.PROGRAMS) & (access.offset[:2] == 1)

        # What has come: a route's share of how many runs and the runs of a program, both modulo 4; the messages of a
        # share that is not complete; and the state of each slot.
        bits = program_bits(self.geometry)
        runs = Signal(data.ArrayLayout(2, 1 << bits))
        started, counted, full = (Signal(2 << bits, name=n) for n in ("started", "counted", "full"))
        used = Signal(1 << bits)
        m.submodules.numbers = numbers = Memory(shape=unsigned(2), depth=routes, init=[])
        m.submodules.parts = parts = Memory(shape=unsigned(_PART_BITS), depth=routes, init=[])
        m.submodules.places = places = Memory(shape=unsigned(ADDRESS_BITS), depth=routes, init=[])
        m.submodules.arrivals = arrivals = Memory(shape=unsigned(_MESSAGE_BITS), depth=2 * programs, init=[])
        stamp_layout = data.StructLayout({"event": EVENT_BITS, "time": TIME_BITS})
        m.submodules.stamps = stamps = Memory(shape=stamp_layout, depth=2 * programs, init=[])

        # The flit at hand, with its route's record.
        held = Signal()
        flit = Signal(flit_layout(self.geometry), reset_less=True)
        zone = Signal(ADDRESS_BITS, reset_less=True)
        program = Signal(bits, reset_less=True)
        final_part = Signal(_PART_BITS, reset_less=True)
        wanted = Signal(reset_less=True)
        release = Signal()
        base_port, target_port = base.read_port(domain="comb"), target.read_port(domain="comb")
        more_port = more.read_port(domain="comb")
        m.d.comb += [
            base_port.addr.eq(self.i.payload.route),
            target_port.addr.eq(self.i.payload.route),
            more_port.addr.eq(self.i.payload.route),
            self.i.ready.eq(~held | release),
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                held.eq(self.i.valid), flit.eq(self.i.payload), zone.eq(base_port.data),
                program.eq(target_port.data[:bits]),
                wanted.eq(target_port.data[-1] & (target_port.data[:_TARGET_BITS] < programs)),
                final_part.eq(more_port.data),
            ]

        number_read, number_write = numbers.read_port(domain="comb"), numbers.write_port()
        part_read, part_write = parts.read_port(domain="comb"), parts.write_port()
        place_read, place_write = places.read_port(domain="comb"), places.write_port()
        slot_port, messages_port = slot.read_port(domain="comb"), messages.read_port(domain="comb")
        number = Signal(2, reset_less=True)
        part = Signal(_PART_BITS, reset_less=True)
        start = Signal(ADDRESS_BITS, reset_less=True)
        allowed = Signal(reset_less=True)
        which = Signal(bits + 1, reset_less=True)
        m.d.sync += [
            number.eq(number_read.data),
            part.eq(part_read.data),
            which.eq(Cat(number_read.data[0], program)),
            allowed.eq((number_read.data - runs[program])[:2] < 2),
        ]
        m.d.comb += [
            number_read.addr.eq(flit.route),
            part_read.addr.eq(flit.route),
            place_read.addr.eq(flit.route),
            slot_port.addr.eq(program),
            messages_port.addr.eq(program),
            place_write.addr.eq(flit.route),
            place_write.data.eq(place_read.data + 1),
        ]

        stamp_read, stamp_write = stamps.read_port(domain="comb"), stamps.write_port()
        arrival_read, arrival_write = arrivals.read_port(domain="comb"), arrivals.write_port()
        stamp = Signal(stamp_layout)
        come, wanted_messages = (Signal(_MESSAGE_BITS, name=n, reset_less=True) for n in ("come", "wanted_messages"))
        later = ~started.bit_select(which, 1) | (stamp.time > stamp_read.data.time)
        m.d.comb += [
            stamp.eq(flit.data),
            stamp_read.addr.eq(which),
            stamp_write.addr.eq(which),
            stamp_write.data.event.eq(stamp.event),
            stamp_write.data.time.eq(Mux(later, stamp.time, stamp_read.data.time)),
            arrival_read.addr.eq(which),
            arrival_write.addr.eq(which),
            arrival_write.data.eq(come),
        ]
        m.d.sync += [
            come.eq(Mux(counted.bit_select(which, 1), arrival_read.data, 0) + 1),
            wanted_messages.eq(messages_port.data),
        ]

        w_data = Signal(len(self.w_data), reset_less=True)
        w_address = Signal(ADDRESS_BITS, reset_less=True)
        m.d.comb += [self.w_data.eq(w_data), self.w_address.eq(w_address)]
        with m.If(self.w_ready):
            m.d.sync += self.w_valid.eq(0)

        with m.FSM(name="landing") as fsm:
            with m.State("Flit"):
                with m.If(held & ~self.hold):
                    with m.If(~wanted):
                        m.d.comb += release.eq(1)
                    with m.Elif(flit.kind == FlitKind.HEADER.value):
                        m.next = "Number"
                    with m.Elif(~self.w_valid | self.w_ready):
                        m.d.sync += [self.w_valid.eq(1), w_address.eq(place_read.data), w_data.eq(flit.data)]
                        m.d.comb += [place_write.en.eq(1), release.eq(~flit.last)]
                        with m.If(flit.last):
                            m.next = "Count"
            with m.State("Number"):
                # Number and permission are registers of the clock before: they are right from the next state on.
                m.d.sync += start.eq(zone + Mux(number_read.data[0], slot_port.data, 0))
                m.next = "Header"
            with m.State("Header"):
                with m.If(~allowed):
                    m.next = "Flit"
                with m.Else():
                    m.d.comb += [place_write.data.eq(start), place_write.en.eq(part == 0), stamp_write.en.eq(1),
                                 release.eq(1)]
                    m.d.sync += started.bit_select(which, 1).eq(1)
                    m.next = "Flit"
            with m.State("Count"):
                # So are the messages that have come and those that are wanted, from the next state on.
                m.next = "Arrival"
            with m.State("Arrival"):
                m.d.comb += [arrival_write.en.eq(1), number_write.en.eq(part == final_part), part_write.en.eq(1),
                             release.eq(1)]
                m.d.sync += counted.bit_select(which, 1).eq(1)
                with m.If(come == wanted_messages):
                    m.d.sync += [full.bit_select(which, 1).eq(1), counted.bit_select(which, 1).eq(0)]
                m.next = "Flit"
        m.d.comb += [
            number_write.addr.eq(flit.route),
            number_write.data.eq(number + 1),
            part_write.addr.eq(flit.route),
            part_write.data.eq(Mux(part == final_part, 0, part + 1)),
        ]

        m.d.comb += self.quiet.eq(fsm.ongoing("Flit") & ~self.w_valid)

        # The program that runs, or is about to.
        current = Signal(bits + 1)
        ended_stamp, ended_slot = stamps.read_port(domain="comb"), slot.read_port(domain="comb")
        m.d.comb += [
            self.odd.eq(runs[self.program][0]),
            current.eq(Cat(self.odd, self.program)),
            ended_stamp.addr.eq(current),
            ended_slot.addr.eq(self.program),
            self.event.eq(ended_stamp.data.event),
            self.time.eq(ended_stamp.data.time),
            self.slot_words.eq(ended_slot.data),
            self.used.eq(used.bit_select(self.program, 1)),
        ]
        m.d.comb += [self.full[p].eq(Mux(runs[p][0], full[2 * p + 1], full[2 * p])) for p in range(programs)]
        with m.If(self.done):
            m.d.sync += [
                full.bit_select(current, 1).eq(0), started.bit_select(current, 1).eq(0),
                used.bit_select(self.program, 1).eq(1), runs[self.program].eq(runs[self.program] + 1),
            ]

        # The bus comes only while `hold` is high, so these never meet with the above.
        record_index = access.offset[(ROUTE_STRIDE - 1).bit_length():]
        with m.If(reset_route & (record_index < routes)):
            for port in (number_write, part_write):
                m.d.comb += [port.en.eq(1), port.addr.eq(record_index), port.data.eq(0)]
        with m.If(reset_program & (record_index < programs)):
            named = record_index[:bits]
            m.d.sync += [runs[named].eq(0), used.bit_select(named, 1).eq(0)]
            m.d.sync += [flags.word_select(named, 2).eq(0) for flags in (started, counted, full)]
        return m
