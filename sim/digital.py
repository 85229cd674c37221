"""The digital unit as the model sees it: the same registers, the same integers, whole batches at a time.

Vectors of a batch are computed at once where no run reads what another left in the memory, else one after another.
"""

import dataclasses
import functools
from collections import deque
from typing import NamedTuple

import numpy as np

from rtl.params import ELEMENT_BITS, INSTRUCTION_FIELDS, Destination, DigitalRegion, FlitKind, Geometry, Instruction
from rtl.params.program import INSTRUCTION_WORDS
from rtl.params.registers import PROGRAM_STRIDE, ROUTE_STRIDE, register
from sim.fixed import Ints, Narrow
from sim.instruction import Reads, Walk, compute, run_of, walk
from sim.message import Message, in_turn, served
from sim.passage import Course, Sent

_ROUTE_FIELDS = ("base", "program", "more")
_PROGRAM_FIELDS = ("start", "messages", "slot", "latency")
_COUNTERS = ("messages", "operations", "busy")
_ELEMENT_STRIDE = 16
_CHUNK_ELEMENTS = 1 << 22
"""Operands held at once: bounds the memory of a vectorised run."""


def _masked(region: DigitalRegion, name: str, value: int) -> int:
    return value & ((1 << register("digital", region, name).bits) - 1)


def _signed(value: int) -> int:
    value &= (1 << ELEMENT_BITS) - 1
    return value - (1 << ELEMENT_BITS) if value >> (ELEMENT_BITS - 1) else value


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What a program does with one slot: its instructions' addresses, and which words it reads before writing them."""

    walks: tuple[Walk, ...]
    reads_before: frozenset[int]
    writes: frozenset[int]

    @functools.cached_property
    def steps(self) -> int:
        return sum(step.steps for step in self.walks)

    @functools.cached_property
    def most_steps(self) -> int:
        return max(step.steps for step in self.walks)


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The words of memory that a run touches, close together, and where messages (by elements) and instructions find
    theirs.
    """

    size: int
    touched: slice | Ints
    landings: list[slice]
    reads: tuple[Reads, ...]


class _Emission(NamedTuple):
    """A message that a run sends: the results of one of its instructions."""

    elements: int
    route: int
    kind: FlitKind
    position: int

    @classmethod
    def of(cls, step: Walk, transport: int) -> "_Emission":
        """Return what an instruction sends."""
        code = step.code
        kind = FlitKind.ACTIVATION if code.destination == Destination.ACTIVATION else FlitKind.PARTIAL
        return cls(len(step.d) * transport, code.route, kind, code.position)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramCourse:
    """What a run of a program takes and sends, as long as nothing is written and nothing else is sent to the unit."""

    program: int
    routes: list[int]
    latency: int
    sequential: bool
    """Whether a run reads what another left."""
    plan: _Plan
    """With the first slot."""
    emissions: list[_Emission]
    layouts: dict[tuple[int, ...], _Layout] = dataclasses.field(default_factory=dict)
    """By slot, whether a vector runs alone, and the elements from each route."""


@dataclasses.dataclass(frozen=True)
class _Run:
    """A run of a program with all its messages at once, as a `Course`."""

    unit: "DigitalUnit"
    course: ProgramCourse
    order: list[int]
    """Of the messages, by their routes."""

    def holds(self) -> bool:
        """Tell whether nothing has changed and nothing waits."""
        return self.unit.awaits(self.course)

    def through(self, events: Ints, taken: list[Sent]) -> list[Sent]:
        """Return what the run sends."""
        return self.unit.through(self.course, [taken[k] for k in self.order])


class DigitalUnit:
    """The vector unit with its memory, programs and landing zones.

    Attributes
    ----------
    memory : (digital_words, W) elements
    tables : (2, 256) entries of the activation tables
    messages, operations : programs run, words through the pipeline
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.memory = np.zeros((geometry.digital_words, geometry.transport), np.int32)
        self.tables = np.zeros((2, 256), np.int32)
        self.messages = self.operations = 0
        self.busy = 0
        """Always 0: the model has no clock."""
        self._routes = [[0] * len(_ROUTE_FIELDS) for _ in range(geometry.routes)]
        self._programs = [[0] * len(_PROGRAM_FIELDS) for _ in range(geometry.programs)]
        self._words = np.zeros(geometry.instructions * INSTRUCTION_WORDS, np.int64)
        self._parts: dict[int, Message] = {}
        self._waiting: dict[int, deque[Message]] = {}
        self._runs = [0] * geometry.programs
        self._free = [0] * geometry.programs
        self._extents: dict[int, int] = {}
        self._plans: dict[tuple[int, int], _Plan] = {}
        self._carries: dict[int, bool] = {}
        self._known: dict[tuple[int, int], list[int]] = {}  # what `_new_sender` said, by a route and its words
        self._courses: dict[int, ProgramCourse] = {}

    def write(self, region: int, offset: int, value: int) -> None:
        """Write a word as the bus does; what is not there is ignored.

        `messages` of a program resets it (no message has come, its resource is free at time 0); `program` of a route
        makes its next message the first.
        """
        if region == DigitalRegion.INPUT_ROUTES:
            index, field = divmod(offset, ROUTE_STRIDE)
            if index < len(self._routes) and field < len(_ROUTE_FIELDS):
                self._routes[index][field] = _masked(DigitalRegion.INPUT_ROUTES, _ROUTE_FIELDS[field], value)
                if field == _ROUTE_FIELDS.index("program"):
                    self._waiting.pop(index, None)
                    self._parts.pop(index, None)
                    self._extents.pop(index, None)
        elif region == DigitalRegion.PROGRAMS:
            index, field = divmod(offset, PROGRAM_STRIDE)
            if index < len(self._programs):
                self._programs[index][field] = _masked(DigitalRegion.PROGRAMS, _PROGRAM_FIELDS[field], value)
                if field == _PROGRAM_FIELDS.index("messages"):
                    self._runs[index] = self._free[index] = 0
                    self._waiting = {r: q for r, q in self._waiting.items() if self._program_of(r) != index}
        elif region == DigitalRegion.INSTRUCTIONS and offset < len(self._words):
            self._words[offset] = value & 0xFFFFFFFF
        elif region == DigitalRegion.MEMORY and self._in_memory(offset):
            self.memory[divmod(offset, _ELEMENT_STRIDE)] = _signed(value)
        elif region == DigitalRegion.ACTIVATION_TABLES and offset < self.tables.size:
            self.tables[divmod(offset, 256)] = _signed(value)
        self._plans.clear()
        self._carries.clear()
        self._known.clear()
        self._courses.clear()

    def read(self, region: int, offset: int) -> int:
        """Read a word as the bus does, unsigned; what is not there or cannot be read is 0."""
        if region == DigitalRegion.COUNTERS and offset < 2 * len(_COUNTERS):
            return int(getattr(self, _COUNTERS[offset // 2])) >> 32 * (offset % 2) & 0xFFFFFFFF
        if region == DigitalRegion.INPUT_ROUTES:
            index, field = divmod(offset, ROUTE_STRIDE)
            inside = index < len(self._routes) and field < len(_ROUTE_FIELDS)
            return self._routes[index][field] if inside else 0
        if region == DigitalRegion.PROGRAMS:
            index, field = divmod(offset, PROGRAM_STRIDE)
            return self._programs[index][field] if index < len(self._programs) else 0
        if region == DigitalRegion.MEMORY and self._in_memory(offset):
            return int(self.memory[divmod(offset, _ELEMENT_STRIDE)]) & ((1 << ELEMENT_BITS) - 1)
        return 0

    def _in_memory(self, offset: int) -> bool:
        word, element = divmod(offset, _ELEMENT_STRIDE)
        return word < self.geometry.digital_words and element < self.geometry.transport

    def instructions(self, program: int) -> list[Instruction]:
        """Return a program's instructions.

        Raises
        ------
        ValueError
            If it runs off the end of the instruction memory, or an instruction is not one.
        """
        number = self._programs[program][0]
        codes = []
        while True:
            words = self._words[number * INSTRUCTION_WORDS:(number + 1) * INSTRUCTION_WORDS].tolist()
            if not words:
                raise ValueError(f"program {program} has no last instruction")
            codes.append(self._decode(words, number))
            if codes[-1].last:
                return codes
            number += 1

    @staticmethod
    def _decode(words: list[int], number: int) -> Instruction:
        from_bits = Instruction.from_words(words)
        kinds = {field.name: field.type for field in dataclasses.fields(Instruction)}
        try:
            values = {name: kinds[name](getattr(from_bits, name))  # type: ignore[operator]
                      for name, _, _ in INSTRUCTION_FIELDS}
        except ValueError as error:
            raise ValueError(f"instruction {number}: {error}") from error
        return Instruction(**values)

    def carries_state(self, program: int) -> bool:
        """Tell whether a run of `program` can read what another run, or another program, left in the memory."""
        if program not in self._carries:
            written = frozenset[int]().union(*(self._plan(p, 0).writes for p in self._used()))
            self._carries[program] = any(
                self._plan(program, slot).reads_before & (written | self._foreign(program, slot)) for slot in range(2))
        return self._carries[program]

    def _foreign(self, program: int, slot: int) -> set[int]:
        """Return words where messages land that are not those of this run: of other programs, or in the other slot."""
        own: set[int] = set()
        foreign: set[int] = set()
        for route, words in self._extents.items():
            for k in range(2):
                zone = self._zone(route, k, words)
                (own if self._program_of(route) == program and k == slot else foreign).update(zone)
        return foreign - own

    def _used(self) -> list[int]:
        return sorted({self._program_of(route) for route in range(len(self._routes)) if self._routes[route][1] & 16})

    def _program_of(self, route: int) -> int:
        return self._routes[route][1] & 15

    def _zone(self, route: int, slot: int, words: int) -> range:
        first = self._routes[route][0] + slot * self._programs[self._program_of(route)][2]
        if first + words > self.geometry.digital_words:
            raise ValueError(f"a message on route {route} lands at word {first + words - 1} "
                             f"of a memory of {self.geometry.digital_words}")
        return range(first, first + words)

    def _plan(self, program: int, slot: int) -> _Plan:
        if (program, slot) not in self._plans:
            offset = slot * self._programs[program][2]
            written: set[int] = set()
            before: set[int] = set()
            walks = []
            for code in self.instructions(program):
                step = walk(code, offset, self.geometry.digital_words)
                for addresses in (step.a, step.b):
                    if addresses is not None:
                        before |= set(np.unique(addresses).tolist()) - written
                if code.destination == Destination.MEMORY:
                    written |= set(np.unique(step.d).tolist())
                walks.append(step)
            self._plans[program, slot] = _Plan(tuple(walks), frozenset(before), frozenset(written))
        return self._plans[program, slot]

    def accept(self, *messages: Message) -> list[Message]:
        """Take batches of messages; return what the programs that can run with them send, in the order they send it.

        Raises
        ------
        ValueError
            If no program takes the route, or the program is not a legal one.
        """
        sent: list[Message] = []
        for message in messages:
            sent += self._accept(message)
        return sent

    def _accept(self, message: Message) -> list[Message]:
        route = message.route
        if not (0 <= route < len(self._routes) and self._routes[route][1] & 16):
            raise ValueError(f"no program of the digital unit takes route {route}")
        whole = self._gather(message) if self._routes[route][2] else message
        if whole is None:
            return []
        words = whole.elements.shape[1] // self.geometry.transport
        routes = self._known.get((route, words))
        if routes is None:
            routes = self._new_sender(route, words)
        self._waiting.setdefault(route, deque()).append(whole)
        sent: list[Message] = []
        while routes and all(map(self._waiting.get, routes)):
            sent += self._run_batch(self._program_of(route), routes)
        return sent

    def _new_sender(self, route: int, words: int) -> list[int]:
        """Take note that a route sends `words`; return the routes that a run takes from, none if more have to send."""
        program = self._program_of(route)
        if program >= len(self._programs):
            raise ValueError(f"route {route} names program {program} of {len(self._programs)}")
        wanted = self._programs[program][1]
        if wanted == 0:
            raise ValueError(f"program {program} takes no messages: it never runs")
        self._zone(route, 1, words)
        self._extents[route] = words
        self._carries.clear()
        self._courses.clear()
        routes = [r for r in sorted(self._extents) if self._program_of(r) == program]
        sent = sum(self._routes[r][2] + 1 for r in routes)
        if sent > wanted:
            raise ValueError(f"messages come on routes {routes}, but a run of program {program} takes {wanted}")
        self._known = {key: others for key, others in self._known.items() if self._program_of(key[0]) != program}
        self._known |= {(r, self._extents[r]): routes if sent == wanted else [] for r in routes}
        return self._known[route, words]

    def _gather(self, message: Message) -> Message | None:
        """Return a route's share of the runs for which all its messages have come, one behind the other."""
        share = self._routes[message.route][2] + 1
        before = self._parts.pop(message.route, None)
        if before is not None:
            message = dataclasses.replace(
                message, events=np.concatenate([before.events, message.events]),
                times=np.concatenate([before.times, message.times]),
                elements=np.concatenate([before.elements, message.elements]))
        runs = len(message.events) // share
        if runs * share < len(message.events):
            self._parts[message.route] = _part(message, slice(runs * share, None))
        if runs == 0:
            return None
        whole = _part(message, slice(0, runs * share))
        events = whole.events.reshape(runs, share)
        if (events != events[:, :1]).any():
            raise ValueError(f"the messages that one run takes from route {message.route} differ in their events")
        return dataclasses.replace(whole, events=events[:, 0], times=whole.times.reshape(runs, share).max(axis=1),
                                   elements=whole.elements.reshape(runs, -1), position=0)

    def _run_batch(self, program: int, routes: list[int]) -> list[Message]:
        """Run a program on as many vectors as all of its routes have."""
        course = self._courses.get(program) or self._new_course(program, routes)
        queues = [self._waiting[route] for route in routes]
        count = min([len(queue[0].events) for queue in queues])
        inputs = [_first(queue, count) for queue in queues]
        sent = self.through(course, [(message.elements, message.times) for message in inputs])
        return in_turn([Message(route=one.route, kind=one.kind, events=inputs[0].events, times=times,
                                position=one.position, elements=elements)
                        for one, (elements, times) in zip(course.emissions, sent, strict=True)])

    def through(self, course: ProgramCourse, taken: list[Sent]) -> list[Sent]:
        """Run a program on vectors, a batch of messages from each of its routes; return what it sends."""
        program, (_, arrived) = course.program, taken[0]
        count = len(arrived)
        for _, others in taken[1:]:
            arrived = np.maximum(arrived, others)
        times = served(arrived, self._free[program], course.latency)
        self._free[program] = int(times[-1])
        results = self._runs_of(course, count, [elements for elements, _ in taken])
        self._runs[program] += count
        self.messages += count
        self.operations += count * course.plan.steps
        return [(elements, times) for elements in results]

    def course(self, messages: list[Message]) -> Course | None:
        """Return what `accept` does with messages, if they make one whole run and have done so before."""
        routes = [message.route for message in messages]
        course = self._courses.get(self._program_of(routes[0]))
        if (course is None or sorted(routes) != course.routes or any(self._routes[route][2] for route in routes)
                or len({one.route for one in course.emissions}) < len(course.emissions)):
            return None
        run = _Run(self, course, [routes.index(route) for route in course.routes])
        return run if run.holds() else None

    def awaits(self, course: ProgramCourse) -> bool:
        """Tell whether a course still holds and no message waits for the next run."""
        return self._courses.get(course.program) is course and not any(map(self._waiting.get, course.routes))

    def _new_course(self, program: int, routes: list[int]) -> ProgramCourse:
        plan = self._plan(program, 0)
        emissions = [_Emission.of(step, self.geometry.transport) for step in plan.walks
                     if step.code.destination != Destination.MEMORY]
        course = self._courses[program] = ProgramCourse(
            program=program, routes=routes, latency=self._programs[program][3],
            sequential=self.carries_state(program), plan=plan, emissions=emissions)
        return course

    def _runs_of(self, course: ProgramCourse, count: int, data: list[Narrow]) -> list[Narrow]:
        """Return the elements (count, words * W) of each message that leaves."""
        first = self._runs[course.program] % 2
        if count == 1:
            return self._run(course, first, data)
        results = [np.empty((count, one.elements), np.int32) for one in course.emissions]
        for group in self._groups(count, course):
            found = self._run(course, (first + group.start) % 2, [elements[group] for elements in data])
            for result, part in zip(results, found, strict=True):
                result[group] = part
        return results

    def _groups(self, count: int, course: ProgramCourse) -> list[slice]:
        """Return the vectors of one slot each that are computed at once; the last group holds the last vector."""
        if course.sequential:
            return [slice(k, k + 1) for k in range(count)]
        size = 2 * max(1, _CHUNK_ELEMENTS // (course.plan.most_steps * self.geometry.transport))
        return [slice(k, min(k + size, count), 2) for first in (count % 2, (count + 1) % 2)
                for k in range(first, count, size)]

    def _run(self, course: ProgramCourse, slot: int, data: list[Narrow]) -> list[Narrow]:
        """Run the program on vectors of one slot, and leave the memory as the last of them does.

        A vector alone runs in the memory itself, each of several in a copy of what they touch.
        """
        vectors = len(data[0])
        layout = self._layout(course, slot, vectors == 1, [elements.shape[1] for elements in data])
        local = self.memory[None]
        if vectors > 1:
            local = np.empty((vectors, layout.size, self.geometry.transport), np.int32)
            local[:] = self.memory[layout.touched]
        flat = local.reshape(vectors, -1)
        for landing, elements in zip(layout.landings, data, strict=True):
            flat[:, landing] = elements
        sent = []
        for reads in layout.reads:
            value = compute(reads, local, self.tables)
            if reads.d is not None:
                local[:, reads.d] = value
            else:
                sent.append(value.reshape(vectors, -1))
        if vectors > 1:
            self.memory[layout.touched] = local[-1]
        return sent

    def _layout(self, course: ProgramCourse, slot: int, alone: bool, lengths: list[int]) -> _Layout:
        key = (slot, alone, *lengths)
        if key not in course.layouts:
            walks = self._plan(course.program, slot).walks
            transport = self.geometry.transport
            zones = [self._zone(route, slot, length // transport)
                     for route, length in zip(course.routes, lengths, strict=True)]
            touched = np.arange(self.geometry.digital_words) if alone else np.unique(np.concatenate(
                [*(np.array(zone) for zone in zones),
                 *(x.ravel() for step in walks for x in (step.a, step.b) if x is not None),
                 *(step.d for step in walks if step.code.destination == Destination.MEMORY)]))
            place = np.zeros(self.geometry.digital_words, np.int64)
            place[touched] = np.arange(len(touched))
            landings = [slice(place[zone[0]] * transport, (place[zone[-1]] + 1) * transport) for zone in zones]
            course.layouts[key] = _Layout(len(touched), run_of(touched), landings,
                                          tuple(Reads.of(step, place) for step in walks))
        return course.layouts[key]


def _first(queue: deque[Message], count: int) -> Message:
    """Take the next `count` vectors that wait; those of one batch that are left wait on."""
    whole = queue.popleft()
    if count < len(whole.events):
        queue.appendleft(_part(whole, slice(count, None)))
        whole = _part(whole, slice(0, count))
    return whole


def _part(message: Message, chosen: slice) -> Message:
    return dataclasses.replace(message, events=message.events[chosen], times=message.times[chosen],
                               elements=message.elements[chosen])
