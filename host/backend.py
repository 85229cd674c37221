"""What a device must be able to do, and the two ways to do it: the numpy model, and a link to a chip.

Everything goes through the register map. The model overrides what would be slow register by register; a test holds
that both ways give the same.
"""

import dataclasses
import struct
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from host.link import LinkError
from rtl.params import ELEMENT_BITS, DigitalRegion, EngineOperation, EngineRegion, Geometry, Opcode, PortRegion, address
from rtl.params.protocol import READ_FORMAT, READ_WORDS, REPLY_BYTES, VECTOR_BYTES, WINDOW, WRITE_FORMAT
from rtl.params.registers import register
from sim.chip import Chip
from sim.fixed import Ints

__all__ = ["Backend", "Job", "Landing", "LinkBackend", "LinkLike", "ModelBackend", "Probe", "Report"]

Report = Callable[[int], None]
"""Told how many more items are done."""


@dataclasses.dataclass(frozen=True)
class Landing:
    """Where the messages of one route land in the digital unit: two slots in turn, `slot` words apart."""

    route: int
    program: int
    base: int
    slot: int
    words: int

WRITE_WORDS = 256
"""Words of one WRITE: long enough that its header does not count, short enough that two are under way."""

_CONTEXT = register("engine", EngineRegion.REGISTERS, "context").offset
assert register("engine", EngineRegion.REGISTERS, "row").offset == _CONTEXT + 1
assert register("engine", EngineRegion.REGISTERS, "row_count").offset == _CONTEXT + 2

_SENT = register("port", PortRegion.COUNTERS, "sent").offset
assert register("port", PortRegion.COUNTERS, "received").offset == _SENT + 2

_REPLAY_WORD, _REPLAY = (register("port", PortRegion.REGISTERS, name).offset for name in ("replay_word", "replay"))
assert register("port", PortRegion.REGISTERS, "replay_event").offset == _REPLAY_WORD + 1 == _REPLAY - 1

_LOADED_VECTORS = 16
"""Vectors that are loaded between two reports of progress."""

_SIGN = 1 << 31  # of an OUTCOMES word after PROBE

_EMPTY_MAX = 10_000
"""Times that the device may say that no result is ready: far more than any vector takes, whatever the line."""

_LATE_MAX = 1_000
"""The same where nobody waits for a result."""

_VECTOR_HEAD = struct.Struct("<IIH")  # event, and target time as low word and high half-word
assert _VECTOR_HEAD.size == VECTOR_BYTES


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """`rows` of a context to PROGRAM to `targets` (len(rows), columns)."""

    unit: int
    context: int
    rows: Ints
    targets: Ints


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """PROBEs of a context of `columns`, as the engine's registers say: of `count` rows from each of `rows` on."""

    unit: int
    context: int
    columns: int
    rows: Ints
    count: int = 1


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Operations of one engine, one a row: `start(row)` sends one and returns tickets; OUTCOMES has `columns`."""

    unit: int
    count: int
    columns: int
    start: Callable[[int], list[Any]]


@dataclasses.dataclass(frozen=True)
class _RowUnderWay:
    """Requests of one row of one job that have not been answered."""

    job: int
    writes: list[Any]
    reads: list[Any]


class Backend(Protocol):
    """Registers of a chip, and the two operations that come in bulk."""

    geometry: Geometry

    def read(self, unit: int, region: int, offset: int, count: int = 1) -> Ints:
        """Return `count` words from `offset` on, unsigned."""

    def write(self, unit: int, region: int, offset: int, values: Sequence[int] | Ints) -> None:
        """Write words from `offset` on."""

    def program(self, jobs: Sequence[Job], report: Report) -> list[Ints]:
        """PROGRAM rows of contexts of different engines; return the OUTCOMES (rows, columns) of each."""

    def probe(self, jobs: Sequence[Probe]) -> list[Ints]:
        """Probe contexts of different engines; return each one's sums of codes (len(rows), columns)."""

    def infer(self, events: Ints, times: Ints, activations: Ints, report: Report) -> tuple[Ints, Ints]:
        """Return (elements (N, M), times (N,)) of vectors (N, inputs) with their events and times (ps)."""

    def load(self, activations: Ints, report: Report) -> None:
        """Write vectors (N, words * W), as planned, to the batch memory, one after another from its first word on."""

    def replay(self, word: int, events: Ints, report: Report) -> tuple[Ints, Ints]:
        """Return what `infer` would of vectors loaded from a word on, at time 0; events count up, modulo 2**32."""

    def trace(self, events: Ints, times: Ints, activations: Ints, landings: Sequence[Landing],
              earlier: int) -> list[Ints]:
        """Infer vectors and return what each brought to each landing, (N, elements); `earlier` vectors came before."""

    def cycles(self) -> int | None:
        """Return the clock cycles since power-up, or None where no clock runs."""

    def close(self) -> None:
        """Let go of the device."""


class ModelBackend:
    """The numpy model in this process."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.chip = Chip(geometry)

    def read(self, unit: int, region: int, offset: int, count: int = 1) -> Ints:
        """Return `count` words from `offset` on, unsigned."""
        return np.array([self.chip.read(unit, region, offset + k) for k in range(count)], np.int64)

    def write(self, unit: int, region: int, offset: int, values: Sequence[int] | Ints) -> None:
        """Write words from `offset` on."""
        for k, value in enumerate(np.asarray(values, np.int64).tolist()):
            self.chip.write(unit, region, offset + k, value & 0xFFFFFFFF)

    def program(self, jobs: Sequence[Job], report: Report) -> list[Ints]:
        """Write-verify all rows of each context at once, which is the same as row by row."""
        outcomes = []
        for job in jobs:
            core = self.chip.cores[job.unit - 1]
            outcomes.append(core.program_rows(job.context, job.rows, job.targets))
            report(len(job.targets))
        return outcomes

    def probe(self, jobs: Sequence[Probe]) -> list[Ints]:
        """Probe all rows of each context at once, which is the same as one after another."""
        found = []
        for job in jobs:
            self.write(job.unit, EngineRegion.REGISTERS, _CONTEXT, [job.context, int(job.rows[-1]), job.count])
            found.append(self.chip.cores[job.unit - 1].probe_rows(job.context, job.rows, job.count))
        return found

    def infer(self, events: Ints, times: Ints, activations: Ints, report: Report) -> tuple[Ints, Ints]:
        """Return (elements (N, M), times (N,))."""
        elements, found = self.chip.infer(events, times, activations)
        report(len(events))
        return elements.astype(np.int64), found

    def load(self, activations: Ints, report: Report) -> None:
        """Write vectors to the batch memory."""
        words = activations.reshape(-1, self.geometry.transport)
        self.chip.port.batch.words[:len(words)] = words
        report(len(activations))

    def replay(self, word: int, events: Ints, report: Report) -> tuple[Ints, Ints]:
        """Replay all at once, which is the same as one after another."""
        self.write(0, PortRegion.REGISTERS, _REPLAY_WORD, [word, int(events[0]), len(events)])
        own, activations = self.chip.port.batch.start(len(events))
        return self.infer(own, np.zeros(len(own), np.int64), activations.astype(np.int64), report)

    def trace(self, events: Ints, times: Ints, activations: Ints, landings: Sequence[Landing],
              earlier: int) -> list[Ints]:
        """Infer vectors and return what each brought to each landing, (N, elements)."""
        self.chip.infer(events, times, activations)
        return [self.chip.landed[landing.route].astype(np.int64) for landing in landings]

    def cycles(self) -> int | None:
        """Return None: the model has no clock."""
        return None

    def close(self) -> None:
        """Nothing to let go of."""


class LinkLike(Protocol):
    """What `LinkBackend` needs of `host.link.Link`: requests, several of them unanswered at once."""

    geometry: Geometry

    def submit(self, opcode: Opcode, body: bytes) -> Any:
        """Send a request, now or as soon as the window allows; return a ticket."""

    def result(self, ticket: Any) -> bytes:
        """Wait for the reply's body."""

    def receive(self) -> bytes | None:
        """Return the next result whole, or None if none is ready."""

    def close(self) -> None:
        """Close the channel."""


class _Answers:
    """Results as they come in, one for each of the vectors `events`, in their order."""

    def __init__(self, link: LinkLike, events: Ints, report: Report) -> None:
        self.bodies: list[bytes] = []
        self.asked: deque[Any] = deque()
        """Requests for results that are under way."""
        self._link, self._events, self._report = link, events, report
        self._empty = 0

    @property
    def missing(self) -> int:
        """Results that have not come."""
        return len(self._events) - len(self.bodies)

    def ask(self) -> None:
        """Ask for a result ahead, once it is known that one fits a reply; others come in parts, which are joined."""
        if self.bodies and len(self.bodies[0]) < REPLY_BYTES:
            self.asked.append(self._link.submit(Opcode.RECEIVE, b""))

    def take(self) -> None:
        """Wait for the answer to the oldest request, or to one made now; it may be that no result is ready.

        Raises
        ------
        LinkError
            If that has been so too often.
        """
        body = (self._link.result(self.asked.popleft()) or None) if self.asked else self._link.receive()
        self._empty = 0 if body is not None else self._empty + 1
        if body is not None:
            self.bodies.append(body)
            self._report(1)
        elif self._empty > _EMPTY_MAX:
            raise LinkError(f"no result from the device: asked {self._empty} times for that of vector "
                            f"{int(self._events[len(self.bodies)])}; program it again")

    def arrays(self) -> tuple[Ints, Ints]:
        """Return (elements (N, M), times (N,)).

        Raises
        ------
        LinkError
            If a result is of another vector than the one it should be of.
        """
        for ticket in self.asked:
            self._link.result(ticket)
        heads = [_VECTOR_HEAD.unpack_from(body) for body in self.bodies]
        for (event, _, _), wanted in zip(heads, self._events.tolist(), strict=True):
            if event != wanted:
                raise LinkError(f"the device answered vector {event} in place of {wanted}: results were lost")
        elements = np.array([np.frombuffer(body, "<i4", offset=VECTOR_BYTES) for body in self.bodies], np.int64)
        return elements, np.array([low | high << 32 for _, low, high in heads], np.int64)


class LinkBackend:
    """A chip behind the protocol: verilated, on a board, or on another machine."""

    def __init__(self, link: LinkLike) -> None:
        self.link = link
        self.geometry = link.geometry
        self._owing = True  # results may be on their way that nobody waits for: of who was here before, or broken off
        self._replaying = False

    def read(self, unit: int, region: int, offset: int, count: int = 1) -> Ints:
        """Return `count` words from `offset` on, unsigned."""
        under_way: deque[Any] = deque()
        words: list[Ints] = []
        for k in range(0, count, READ_WORDS):
            under_way.append(self._read(unit, region, offset + k, min(READ_WORDS, count - k)))
            if len(under_way) >= WINDOW:
                words.append(self._words(under_way.popleft()))
        words += [self._words(ticket) for ticket in under_way]
        return np.concatenate(words) if words else np.zeros(0, np.int64)

    def write(self, unit: int, region: int, offset: int, values: Sequence[int] | Ints) -> None:
        """Write words from `offset` on; returns when all are written."""
        for ticket in self._write(unit, region, offset, values):
            self.link.result(ticket)

    def program(self, jobs: Sequence[Job], report: Report) -> list[Ints]:
        """Write-verify row by row: engines work side by side, and the next rows' targets travel meanwhile."""
        for job in jobs:
            self.write(job.unit, EngineRegion.REGISTERS, _CONTEXT, [job.context])
        return self._by_row(
            [_Rows(job.unit, len(job.targets), job.targets.shape[1], partial(self._start_row, job)) for job in jobs],
            report)

    def probe(self, jobs: Sequence[Probe]) -> list[Ints]:
        """Probe row by row: engines work side by side."""
        for job in jobs:
            self.write(job.unit, EngineRegion.REGISTERS, _CONTEXT, [job.context, 0, job.count])
        found = self._by_row([_Rows(job.unit, len(job.rows), job.columns, partial(self._start_probe, job))
                              for job in jobs], lambda _done: None)
        return [(words ^ _SIGN) - _SIGN for words in found]

    def _by_row(self, jobs: Sequence[_Rows], report: Report) -> list[Ints]:
        """Start an operation for each row of each job and return the OUTCOMES (rows, columns)."""
        outcomes: list[list[Ints]] = [[] for _ in jobs]
        under_way: deque[_RowUnderWay] = deque()

        def finish() -> None:
            row = under_way.popleft()
            for ticket in row.writes:
                self.link.result(ticket)
            outcomes[row.job].append(np.concatenate([self._words(ticket) for ticket in row.reads]))
            report(1)

        for row in range(max(job.count for job in jobs)):
            started = [(k, job.start(row)) for k, job in enumerate(jobs) if row < job.count]
            # Reading outcomes waits for the end of the row: it must not keep another engine from its start.
            for k, writes in started:
                reads = self._read_outcomes(jobs[k].unit, jobs[k].columns)
                under_way.append(_RowUnderWay(job=k, writes=writes, reads=reads))
            while len(under_way) > len(started):
                finish()
        while under_way:
            finish()
        return [np.array(rows, np.int64) for rows in outcomes]

    def _start_probe(self, job: Probe, row: int) -> list[Any]:
        return [
            *self._write(job.unit, EngineRegion.REGISTERS, _CONTEXT + 1, [int(job.rows[row])]),
            *self._write(job.unit, EngineRegion.REGISTERS, 0, [EngineOperation.PROBE]),
        ]

    def _start_row(self, job: Job, row: int) -> list[Any]:
        return [
            *self._write(job.unit, EngineRegion.TARGETS, 0, job.targets[row]),
            *self._write(job.unit, EngineRegion.REGISTERS, _CONTEXT + 1, [int(job.rows[row])]),
            *self._write(job.unit, EngineRegion.REGISTERS, 0, [EngineOperation.PROGRAM]),
        ]

    def _read_outcomes(self, unit: int, columns: int) -> list[Any]:
        return [self._read(unit, EngineRegion.OUTCOMES, k, min(READ_WORDS, columns - k))
                for k in range(0, columns, READ_WORDS)]

    def infer(self, events: Ints, times: Ints, activations: Ints, report: Report) -> tuple[Ints, Ints]:
        """Return (elements (N, M), times (N,)): vectors are sent as long as the device has room for their results.

        Each vector has a request for a result in its wake, so that none waits at the host while the next one travels.
        """
        self._settle()
        self._owing = True
        answers = _Answers(self.link, events, report)
        sends: deque[Any] = deque()
        sent = 0
        while answers.missing:
            # The first result tells how many of them the device can hold.
            room = self._room(len(answers.bodies[0])) if answers.bodies else 1
            while sent < len(events) and sent - len(answers.bodies) < room:
                time = int(times[sent])
                head = _VECTOR_HEAD.pack(int(events[sent]), time & 0xFFFFFFFF, time >> 32)
                sends.append(self.link.submit(Opcode.SEND, head + np.asarray(activations[sent], np.int8).tobytes()))
                sent += 1
                answers.ask()
            while len(sends) > WINDOW // 2 or (sends and sent == len(events)):
                self.link.result(sends.popleft())
            answers.take()
        found = answers.arrays()
        self._owing = False
        return found

    def _room(self, size: int) -> int:
        """Return how many vectors may be under way whose results have `size` bytes.

        A result that finds no room waits in the mesh, and a SEND behind it waits for the mesh: the RECEIVE that would
        make room must not stand behind that SEND.
        """
        return self.geometry.results_held((size - VECTOR_BYTES) // (4 * self.geometry.transport))

    def load(self, activations: Ints, report: Report) -> None:
        """Write vectors to the batch memory; a word of the bus takes four activations of one of its words."""
        geometry = self.geometry
        for first in range(0, len(activations), _LOADED_VECTORS):
            part = activations[first:first + _LOADED_VECTORS].astype(np.int8)
            words = part.reshape(-1, geometry.transport)
            padded = np.pad(words, ((0, 0), (0, 4 * geometry.batch_parts - geometry.transport)))
            offset = first * activations.shape[1] // geometry.transport * geometry.batch_parts
            self.write(0, PortRegion.BATCH, offset, padded.ravel().view("<u4"))
            report(len(part))

    def replay(self, word: int, events: Ints, report: Report) -> tuple[Ints, Ints]:
        """Begin a replay and take its results: the chip starts no vector whose result has no room."""
        self._settle()
        self._owing = self._replaying = True
        for ticket in self._submit_writes(0, PortRegion.REGISTERS, _REPLAY_WORD, [word, int(events[0]), len(events)]):
            self.link.result(ticket)
        answers = _Answers(self.link, events, report)
        while answers.missing:
            for _ in range(min(WINDOW, answers.missing) - len(answers.asked)):
                answers.ask()
            answers.take()
        found = answers.arrays()
        self._owing = self._replaying = False
        return found

    def _settle(self) -> None:
        """End what was broken off: stop a replay, and take results until none is outstanding or none comes any more."""
        if not self._owing:
            return
        if self._replaying:
            for ticket in self._submit_writes(0, PortRegion.REGISTERS, _REPLAY, [0]):
                self.link.result(ticket)
        empty = 0
        while empty <= _LATE_MAX:
            # The first one may be the answer to a request that was broken off.
            empty = 0 if self.link.receive() is not None else empty + 1
            sent, _, received, _ = self.read(0, PortRegion.COUNTERS, _SENT, 4).tolist()
            if sent == received:
                break
        self._owing = self._replaying = False

    def trace(self, events: Ints, times: Ints, activations: Ints, landings: Sequence[Landing],
              earlier: int) -> list[Ints]:
        """Infer one vector after another and read the digital unit's memory after each."""
        found: list[list[Ints]] = [[] for _ in landings]
        for k in range(len(events)):
            self.infer(events[k:k + 1], times[k:k + 1], activations[k:k + 1], lambda _done: None)
            for landing, rows in zip(landings, found, strict=True):
                rows.append(self._elements(landing.base + (earlier + k) % 2 * landing.slot, landing.words))
        return [np.array(rows) for rows in found]

    def _elements(self, word: int, words: int) -> Ints:
        """Return elements of the digital unit's memory."""
        transport = self.geometry.transport
        stride = 16  # elements of a word in the register map
        raw = self.read(self.geometry.digital_unit, DigitalRegion.MEMORY, word * stride, words * stride)
        elements = raw.reshape(words, stride)[:, :transport].ravel() & ((1 << ELEMENT_BITS) - 1)
        sign = 1 << (ELEMENT_BITS - 1)
        return (elements ^ sign) - sign

    def cycles(self) -> int | None:
        """Return the clock cycles since power-up."""
        offset = register("port", PortRegion.COUNTERS, "cycles").offset
        low, high = self.read(0, PortRegion.COUNTERS, offset, 2).tolist()
        return int(low | high << 32)

    def close(self) -> None:
        """Close the channel."""
        self.link.close()

    def _read(self, unit: int, region: int, offset: int, count: int) -> Any:
        return self.link.submit(Opcode.READ, struct.pack(READ_FORMAT, address(unit, region, offset), count, 1))

    def _words(self, ticket: Any) -> Ints:
        return np.frombuffer(self.link.result(ticket), "<u4").astype(np.int64)

    def _write(self, unit: int, region: int, offset: int, values: Sequence[int] | Ints) -> list[Any]:
        self._settle()
        return self._submit_writes(unit, region, offset, values)

    def _submit_writes(self, unit: int, region: int, offset: int, values: Sequence[int] | Ints) -> list[Any]:
        words = np.asarray(values, np.int64) & 0xFFFFFFFF
        tickets = []
        for k in range(0, len(words), WRITE_WORDS):
            head = struct.pack(WRITE_FORMAT, address(unit, region, offset + k), 1)
            body = words[k:k + WRITE_WORDS].astype("<u4").tobytes()
            tickets.append(self.link.submit(Opcode.WRITE, head + body))
        return tickets
