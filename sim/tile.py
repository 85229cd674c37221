"""The tiles of one engine, a batch of vectors at a time. Numbers as in `rtl/tile.py`."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtl.params import ACTIVATION_MAX, FlitKind, Geometry, Purpose, hash_counter, hash_key, probe_place
from rtl.params.formats import NORM_FRACTION
from rtl.params.registers import COLUMN_STRIDE, EngineRegion, column_fields, fields
from sim.adc import Converters, convert, mismatched, noise_charge, noise_factors, norm, sample_factors
from sim.affine import AffineWords, affine
from sim.dac import word_sums
from sim.engine import Weights
from sim.fixed import Doubles, Floats, Ints, Narrow
from sim.gauss import Reader, gaussian_hash, read_samples
from sim.hash import BLOCK
from sim.message import Message, served
from sim.passage import FEW, Course, Sent

_VERIFY_NORM = ACTIVATION_MAX << NORM_FRACTION
_INPUT_VALID = 1 << 6


class Drive(NamedTuple):
    """What a read drives, and its range; numbers as in `rtl/read.py`."""

    ticks: int = ACTIVATION_MAX
    dense: bool = False
    inference_range: bool = False

    def place(self, rows: Ints) -> Ints:
        """Return the row coordinate of the noise of reads that ask for `rows`."""
        place: Ints = probe_place(rows, dense=int(self.dense), inference_range=int(self.inference_range),
                                  negative=int(self.ticks < 0), idle=int(self.ticks == 0))
        return place


VERIFY = Drive()
"""One row at full pulse, in the verify range."""


def walsh(patterns: Ints, rows: int) -> Ints:
    """Return the signs (len(patterns), rows) of dense reads: -1 where row & pattern has odd parity."""
    odd = np.bitwise_count(np.asarray(patterns, np.int64)[:, None] & np.arange(rows)) & 1
    return 1 - 2 * odd.astype(np.int64)


def context_of(geometry: Geometry, number: int) -> int:
    """Return the context that a register's number names: its high bits reach no memory."""
    return number & (1 << (geometry.contexts - 1).bit_length()) - 1


class _Output(NamedTuple):
    """A message of partial sums: whose, where to, and its columns among those of a plan."""

    context: int
    route: int
    latency: int
    columns: slice


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What inference reads of contexts at once compute with: rows and columns of one context after those of another.

    Made from registers and nets when they have changed. Rows and columns of each context are padded to whole words with
    such as give 0. What joins arrays (N, columns) is (1, columns): numpy then takes half the time for a vector alone.
    """

    contexts: tuple[int, ...]
    records: list[dict[str, int]]
    seeds: tuple[int, int]
    """Seed and chip; the plan holds as long as these two and the records are the engine's."""
    used: list[int]
    """Activations of a vector of each context."""
    reads: list[tuple[slice, Weights]]
    """Rows and nets of each context."""
    parts: Floats
    """1 where a row (first axis) belongs to a context."""
    conversions: int
    readers: tuple[Reader, ...]
    noise: Doubles | None
    """`noise_factors` of a context (first axis) in its columns, 0 elsewhere: norms (N, contexts) times these are sigma;
    None if there is no noise.
    """
    converters: Converters
    words: AffineWords
    outputs: list[_Output]


def _alike(messages: list[Message]) -> bool:
    """Tell whether batches are known to be of the same vectors, and are small."""
    events, position = messages[0].events, messages[0].position
    return len(events) < FEW and all(one.events is events and one.position is position for one in messages)


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays (N, ...) side by side; one alone is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _spans(sizes: list[int]) -> list[slice]:
    """Return where things of these sizes lie, one after the other."""
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


@dataclasses.dataclass(frozen=True)
class _Reading:
    """Reads of the same vectors on some routes at once, as a `Course`."""

    tiles: "Tiles"
    routes: list[int]
    entries: list[int]
    """What INPUTS has for the routes."""
    position: int
    plan: Plan

    def holds(self) -> bool:
        """Tell whether the routes lead to the same contexts and their plan is the same."""
        return (self.tiles.entries(self.routes) == self.entries
                and self.tiles.plan_kept(self.plan.contexts) is self.plan)

    def through(self, events: Ints, taken: list[Sent]) -> list[Sent]:
        """Return the partial sums."""
        return self.tiles.through(self.plan, self.position, events, taken)


class Tiles:
    """What an engine computes with its contexts.

    Attributes
    ----------
    settings : dict
        The engine's registers by name, written by the owner.
    records : list of dict
        One a context, fields by name, written by the owner.
    constants : dict of int32 or uint32 (column_words,), to be read; `set_constants` changes them
        Column constants: scale, bias, noise, mismatch.
    inputs : list of int (64,)
        Route -> context | valid << 6.
    free : int64 (contexts,)
        Target time at which a context is free again, ps.
    counters : dict
        vectors, row_ticks, conversions, clips, verify_conversions.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        self._contexts_mask = context_of(geometry, _INPUT_VALID - 1)
        self.settings = {r.name: 0 for r in fields("engine", EngineRegion.REGISTERS)}
        self.records = [{r.name: 0 for r in fields("engine", EngineRegion.CONTEXTS)} for _ in range(geometry.contexts)]
        self._constants = {r.name: np.zeros(geometry.column_words, np.int32 if r.signed else np.uint32)
                           for r in fields("engine", EngineRegion.COLUMNS)}
        self.constants = {name: values.view() for name, values in self._constants.items()}
        for values in self.constants.values():
            values.flags.writeable = False
        self.inputs = [0] * 64
        self.free: Ints = np.zeros(geometry.contexts, np.int64)
        self.counters = dict.fromkeys(("vectors", "row_ticks", "conversions", "clips", "verify_conversions"), 0)
        self._weights: dict[int, Weights] = {}
        self._lost: dict[int, NDArray[np.bool_]] = {}  # rows of a context whose nets those of another were written over
        self._plans: dict[tuple[int, ...], Plan] = {}

    def set_nets(self, context: int, nets: Any, rows: Any = np.s_[:]) -> None:
        """Take the nets (rows, columns) of a context, of which `rows` are written; contexts in the same places lose
        theirs.
        """
        self._weights[context] = Weights(nets)
        self._plans.clear()
        if context in self._lost:
            self._lost[context][rows] = False
        words = self._words(context)
        for other in self._weights:
            theirs = self._words(other)
            if other != context and words.start < theirs.stop and theirs.start < words.stop:
                self._lost[other] = np.ones(self.geometry.rows, np.bool_)

    def _words(self, context: int) -> range:
        """Return where the nets of a context are in the weight memory."""
        record = self.records[context]
        folds = -(-record["rows"] // self.geometry.lanes)
        return range(record["net_base"], record["net_base"] + folds * record["columns"])

    def _check_held(self, context: int, rows: Any = np.s_[:]) -> None:
        """Raise ValueError if the nets of rows of a context are not in the weight memory: no chip defines that read."""
        if context in self._lost and self._lost[context][rows].any():
            raise ValueError(f"context {context} is read, but nets of another context were written over its own: "
                             "AGE makes them again")

    def set_constants(self, name: str, first: int, values: Any) -> None:
        """Set the constants of this name of columns from `first` on."""
        values = np.atleast_1d(values)
        self._constants[name][first:first + len(values)] = values
        self._plans.clear()

    def write(self, region: int, offset: int, value: int) -> None:
        """Write a word of COLUMNS or INPUTS; a context that an input names is free at time 0."""
        if region == EngineRegion.INPUTS:
            self.inputs[offset % len(self.inputs)] = value & (2 * _INPUT_VALID - 1)
            context = value & (_INPUT_VALID - 1)
            if value & _INPUT_VALID and context < len(self.free):
                self.free[context] = 0
        else:
            index, field = divmod(offset, COLUMN_STRIDE)
            for register in column_fields(self.geometry):
                if register.offset == field and index < self.geometry.column_words:
                    value &= (1 << register.bits) - 1
                    negative = register.signed and value >> (register.bits - 1)
                    self.set_constants(register.name, index, value - (1 << register.bits) if negative else value)

    def read(self, region: int, offset: int) -> int:
        """Read a word of COLUMNS or INPUTS, as 32 bits."""
        if region == EngineRegion.INPUTS:
            return self.inputs[offset % len(self.inputs)]
        index, field = divmod(offset, COLUMN_STRIDE)
        for register in column_fields(self.geometry):
            if register.offset == field and index < self.geometry.column_words:
                return int(self.constants[register.name][index]) & 0xFFFFFFFF
        return 0

    def accept(self, *messages: Message) -> list[Message]:
        """Return the partial sums of batches; nothing of those whose route is no input.

        Small batches of the same vectors are computed at once, whichever contexts they go to.
        """
        taken = [message for message in messages if self.inputs[message.route] & _INPUT_VALID]
        if len(taken) < 2 or _alike(taken):  # arrays of several large ones would leave the cache
            return self._answers(taken) if taken else []
        return [answer for message in taken for answer in self._answers([message])]

    def _answers(self, messages: list[Message]) -> list[Message]:
        """Return the partial sums of batches of the same vectors."""
        plan = self._plan([message.route for message in messages])
        lengths = [message.elements.shape[1] for message in messages]
        if lengths != plan.used:
            context, used, length = next((output.context, *found) for output, *found in zip(
                plan.outputs, plan.used, lengths, strict=True) if found[0] != found[1])
            raise ValueError(f"context {context} takes {used} activations, not {length}")
        events = messages[0].events
        sent = self.through(plan, messages[0].position, events,
                            [(message.elements, message.times) for message in messages])
        return [Message(route=output.route, kind=FlitKind.PARTIAL, events=events, times=times, elements=elements)
                for output, (elements, times) in zip(plan.outputs, sent, strict=True)]

    def through(self, plan: Plan, position: Ints | int, events: Ints, taken: list[Sent]) -> list[Sent]:
        """Return the partial sums of batches of the same vectors, of as many activations as a plan says."""
        partial = self._partial_sums(plan, position, events, [elements for elements, _ in taken])
        return [(partial[:, output.columns], self._times(output, times))
                for output, (_, times) in zip(plan.outputs, taken, strict=True)]

    def course(self, messages: list[Message]) -> Course | None:
        """Return what `accept` does with messages, if it takes them all at once."""
        position, routes = messages[0].position, [message.route for message in messages]
        entries = self.entries(routes)
        if not (isinstance(position, int) and _alike(messages) and all(entry & _INPUT_VALID for entry in entries)):
            return None
        return _Reading(self, routes, entries, position, self._plan(routes))

    def entries(self, routes: list[int]) -> list[int]:
        """Return what INPUTS has for routes."""
        return [self.inputs[route] for route in routes]

    def _plan(self, routes: list[int]) -> Plan:
        """Return the plan of the contexts that routes lead to, a new one if what it was made from has changed."""
        contexts = tuple([entry & self._contexts_mask for entry in self.entries(routes)])
        plan = self.plan_kept(contexts)
        if plan is None:
            plan = self._plans[contexts] = self._new_plan(contexts)
        return plan

    def plan_kept(self, contexts: tuple[int, ...]) -> Plan | None:
        """Return the plan of contexts, if there is one and nothing of it has changed."""
        plan, seeds = self._plans.get(contexts), (self.settings["seed"], self.settings["chip"])
        records = [self.records[context] for context in contexts]
        return plan if plan is not None and plan.seeds == seeds and plan.records == records else None

    def _new_plan(self, contexts: tuple[int, ...]) -> Plan:
        for context in contexts:
            self._check_held(context)
        found = [self._context(context) for context in contexts]
        records = [record.copy() for record, _ in found]
        used, widths = ([record[side] + -record[side] % self.geometry.transport for record in records]
                        for side in ("rows", "columns"))
        spans = [self._span(record) for record in records]

        def padded(parts: list[Any]) -> NDArray[Any]:
            return np.concatenate([np.pad(np.broadcast_to(part, record["columns"]), (0, width - record["columns"]))
                                   for part, record, width in zip(parts, records, widths, strict=True)])[None]

        def constants(name: str) -> NDArray[Any]:
            return padded([self.constants[name][span] for span in spans])

        converters = [self._converters(record, record["adc_gain"], record["adc_offset"]) for record in records]
        noise, owners = noise_factors(constants("noise")), np.eye(len(records))
        rows = [np.arange(length) < record["rows"] for length, record in zip(used, records, strict=True)]
        return Plan(
            contexts=contexts, records=records, seeds=(self.settings["seed"], self.settings["chip"]), used=used,
            reads=[(span, weights.padded(length, width)) for span, (_, weights), length, width
                   in zip(_spans(used), found, used, widths, strict=True)],
            parts=(np.repeat(owners, used, axis=0) * np.concatenate(rows)[:, None]).astype(np.float32),
            conversions=sum(record["columns"] for record in records),
            readers=tuple((self._key(record, Purpose.READ), width)
                          for record, width in zip(records, widths, strict=True)),
            noise=np.repeat(owners, widths, axis=1) * noise if noise.any() else None,
            converters=Converters(*(padded(list(part)) for part in zip(*converters, strict=True))),
            words=AffineWords.of(constants("scale"), constants("bias"), self.geometry.code_max),
            outputs=[_Output(context, record["route"], record["latency"], columns)
                     for context, record, columns in zip(contexts, records, _spans(widths), strict=True)])

    def _partial_sums(self, plan: Plan, position: Ints | int, events: Ints, elements: list[NDArray[Any]]) -> Narrow:
        """Return the partial sums (N, columns of the plan) of batches of the same vectors, and count."""
        x: Floats = _joined(elements).astype(np.float32)
        ticks, squares = word_sums(x, plan.parts)
        self.counters["vectors"] += ticks.size
        self.counters["row_ticks"] += int(sum(ticks.ravel().tolist()))  # exactly, where single precision might not
        charge = _joined([weights.charges(x[:, rows]) for rows, weights in plan.reads])
        xi = None if plan.noise is None else self._read_samples(plan, position, events)
        if charge.size <= BLOCK:
            return self._converted(plan, charge, squares, xi)
        vectors = max(1, BLOCK // charge.shape[1])  # as many as stay in the cache
        return np.concatenate([
            self._converted(plan, charge[block], squares[block], None if xi is None else xi[block])
            for block in (slice(k, k + vectors) for k in range(0, len(x), vectors))])

    def _converted(self, plan: Plan, charge: NDArray[Any], squares: Floats, xi: Floats | Doubles | None) -> Narrow:
        """Return the partial sums (N, columns) of charges without noise, and count."""
        charge = charge.astype(np.float64)
        if plan.noise is not None and xi is not None:
            charge += noise_charge(norm(squares).dot(plan.noise), xi)
        code, clipped = convert(charge, plan.converters, self.geometry.code_max)
        self.counters["conversions"] += len(code) * plan.conversions
        self.counters["clips"] += int(np.count_nonzero(clipped))
        return affine(code, plan.words)

    def read_rows(self, context: int, rows: Any, purpose: Purpose, events: Any, drive: Drive = VERIFY) -> Narrow:
        """Return the codes (len(rows), columns) of reads of `rows` with their `events`, driven as `drive` says."""
        record, weights = self._context(context)
        rows, events = np.broadcast_arrays(np.asarray(rows, np.int64), np.asarray(events, np.int64))
        self._check_held(context, np.s_[:] if drive.dense else rows)
        noise, size = np.array([[self.settings["verify_noise"]]]), np.array([[_VERIFY_NORM]], np.float64)
        if drive.dense:
            x = drive.ticks * walsh(rows, record["rows"])
            ticks, squares = word_sums(x, np.ones((record["rows"], 1), np.float32))
            charge: NDArray[Any] = weights.charges(x)
            noise, size = self.constants["noise"][self._span(record)][None], norm(squares)
            self.counters["row_ticks"] += int(ticks.astype(np.int64).sum())
        else:
            charge = drive.ticks * weights.nets[rows]
        if noise.any():
            xi = sample_factors(self._samples(record, purpose, drive.place(rows), events))
            charge = noise_charge(size.dot(noise_factors(noise)), xi) + charge
        gain, offset = ((record["adc_gain"], record["adc_offset"]) if drive.inference_range else
                        (self.settings["verify_gain"], self.settings["verify_offset"]))
        code, _ = convert(charge, self._converters(record, gain, offset), self.geometry.code_max)
        self.counters["verify_conversions"] += code.size
        return code.astype(np.int32)

    def _converters(self, record: dict[str, int], gain: int, offset: int) -> Converters:
        """Return the converters of a context: one of each column where they differ."""
        words = self.constants["mismatch"][self._span(record)]
        return Converters.of(*mismatched(gain, offset, words)) if words.any() else Converters.of(gain, offset)

    @staticmethod
    def _span(record: dict[str, int]) -> slice:
        """Return where the column constants of a context are."""
        return slice(record["column_base"], record["column_base"] + record["columns"])

    def _context(self, context: int) -> tuple[dict[str, int], Weights]:
        """Return record and nets; nets are zero until they are set."""
        record = self.records[context]
        shape = (record["rows"], record["columns"])
        weights = self._weights.get(context)
        if weights is None or weights.nets.shape != shape:
            weights = self._weights[context] = Weights(np.zeros(shape, np.int64))
        return record, weights

    def _samples(self, record: dict[str, int], purpose: Purpose, rows: Ints, events: Ints) -> Ints:
        """Return xi (len(events), columns) of reads of `rows`."""
        return gaussian_hash(*self._key(record, purpose), hash_counter(rows[:, None], np.arange(record["columns"])),
                             events[:, None])

    @staticmethod
    def _read_samples(plan: Plan, position: Ints | int, events: Ints) -> Floats | Doubles:
        """Return the samples (N, columns) of inference reads."""
        if isinstance(position, int):
            return read_samples(plan.readers, position, events)
        xi = np.empty((len(position), plan.outputs[-1].columns.stop))
        for one in np.unique(position).tolist():
            chosen = position == one
            xi[chosen] = read_samples(plan.readers, one, events[chosen])
        return xi

    def _key(self, record: dict[str, int], purpose: Purpose) -> tuple[int, int]:
        return hash_key(self.settings["seed"], purpose, self.settings["chip"], record["tile"])

    def _times(self, output: _Output, times: Ints) -> Ints:
        """Return when each vector leaves."""
        out = served(times, int(self.free[output.context]), output.latency)
        self.free[output.context] = out[-1]
        return out
