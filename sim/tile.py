"""The tiles of one engine, a batch of vectors at a time. Numbers as in `rtl/tile.py`."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtl.params import ACTIVATION_MAX, FlitKind, Geometry, Purpose, hash_counter, hash_key, probe_place
from rtl.params.formats import NORM_FRACTION
from rtl.params.registers import COLUMN_STRIDE, EngineRegion, column_fields, fields
from sim.adc import Converters, convert, is_narrow, mismatched, noise_charge, norm
from sim.affine import AffineWords, affine
from sim.dac import word_sums
from sim.engine import Weights
from sim.fixed import Floats, Ints, Narrow, Words
from sim.gauss import Reader, Samples, gaussian_hash, read_samples
from sim.message import Message, served

_VERIFY_NORM = ACTIVATION_MAX << NORM_FRACTION
_INPUT_VALID = 1 << 6
_LARGE = 32
"""Vectors from which on each context is computed alone: arrays of several would leave the cache."""


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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What inference reads of contexts at once compute with: rows and columns of one context after those of another.

    Made from registers and nets when they have changed. Columns of each context are padded to whole words with such as
    give 0.
    """

    contexts: tuple[int, ...]
    records: list[dict[str, int]]
    seeds: tuple[int, int]
    """Seed and chip; the plan holds as long as these two and the records are the engine's."""
    used: list[int]
    """Activations of a vector, padded to whole words."""
    weights: list[Weights]
    rows: list[slice]
    columns: list[slice]
    parts: Floats
    """1 where a row (first axis) belongs to a context."""
    context_of: Ints | None
    """Number, among these contexts, of each column; None if there is only one."""
    conversions: int
    readers: tuple[Reader, ...]
    noise: Words | None
    narrow: bool
    converters: Converters
    words: AffineWords


def _alike(one: Message, other: Message) -> bool:
    """Tell whether two batches are known to be of the same vectors."""
    return one.events is other.events and one.position is other.position


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays (N, ...) side by side; one alone is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _spans(sizes: list[int]) -> list[slice]:
    """Return where things of these sizes lie, one after the other."""
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


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
    inputs : int64 (64,)
        Route -> context | valid << 6.
    free : int64 (contexts,)
        Target time at which a context is free again, ps.
    counters : dict
        vectors, row_ticks, conversions, clips, verify_conversions.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        self.settings = {r.name: 0 for r in fields("engine", EngineRegion.REGISTERS)}
        self.records = [{r.name: 0 for r in fields("engine", EngineRegion.CONTEXTS)} for _ in range(geometry.contexts)]
        self._constants = {r.name: np.zeros(geometry.column_words, np.int32 if r.signed else np.uint32)
                           for r in fields("engine", EngineRegion.COLUMNS)}
        self.constants = {name: values.view() for name, values in self._constants.items()}
        for values in self.constants.values():
            values.flags.writeable = False
        self.inputs: Ints = np.zeros(64, np.int64)
        self.free: Ints = np.zeros(geometry.contexts, np.int64)
        self.counters = dict.fromkeys(("vectors", "row_ticks", "conversions", "clips", "verify_conversions"), 0)
        self._weights: dict[int, Weights] = {}
        self._lost: dict[int, NDArray[np.bool_]] = {}  # rows of a context whose nets those of another were written over
        self._plans: dict[tuple[int, ...], _Plan] = {}

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
            return int(self.inputs[offset % len(self.inputs)])
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
        if len(taken) > 1 and not (len(taken[0].events) < _LARGE and all(_alike(taken[0], one) for one in taken[1:])):
            return [answer for message in taken for answer in self._answers([message])]
        return self._answers(taken) if taken else []

    def _answers(self, messages: list[Message]) -> list[Message]:
        """Return the partial sums of batches of the same vectors."""
        plan = self._plan(tuple([context_of(self.geometry, int(self.inputs[message.route]) & _INPUT_VALID - 1)
                                 for message in messages]))
        lengths = [message.elements.shape[1] for message in messages]
        if lengths != plan.used:
            context, used, length = next(found for found in zip(plan.contexts, plan.used, lengths, strict=True)
                                         if found[1] != found[2])
            raise ValueError(f"context {context} takes {used} activations, not {length}")
        partial = self._partial_sums(plan, messages)
        return [Message(route=record["route"], kind=FlitKind.PARTIAL, events=message.events,
                        times=self._times(context, message.times, record["latency"]), elements=partial[:, columns])
                for context, record, columns, message in zip(plan.contexts, plan.records, plan.columns, messages,
                                                             strict=True)]

    def _plan(self, contexts: tuple[int, ...]) -> _Plan:
        """Return the plan of contexts, a new one if what it was made from has changed."""
        plan, seeds = self._plans.get(contexts), (self.settings["seed"], self.settings["chip"])
        records = [self.records[context] for context in contexts]
        if plan is None or plan.seeds != seeds or plan.records != records:
            plan = self._plans[contexts] = self._new_plan(contexts, seeds)
        return plan

    def _new_plan(self, contexts: tuple[int, ...], seeds: tuple[int, int]) -> _Plan:
        for context in contexts:
            self._check_held(context)
        found = [self._context(context) for context in contexts]
        records = [record.copy() for record, _ in found]
        widths = [record["columns"] + -record["columns"] % self.geometry.transport for record in records]
        spans = [self._span(record) for record in records]

        def padded(parts: list[Any]) -> NDArray[Any]:
            return np.concatenate([np.pad(np.broadcast_to(part, record["columns"]), (0, width - record["columns"]))
                                   for part, record, width in zip(parts, records, widths, strict=True)])

        converters = [self._converters(record, record["adc_gain"], record["adc_offset"]) for record in records]
        noise = padded([self.constants["noise"][span] for span in spans])
        loudest = norm(ACTIVATION_MAX * ACTIVATION_MAX * max(record["rows"] for record in records))
        return _Plan(
            contexts=contexts, records=records, seeds=seeds,
            used=[record["rows"] + -record["rows"] % self.geometry.transport for record in records],
            weights=[weights.padded(width) for (_, weights), width in zip(found, widths, strict=True)],
            rows=_spans([record["rows"] for record in records]), columns=_spans(widths),
            parts=np.repeat(np.eye(len(records), dtype=np.float32), [record["rows"] for record in records], axis=0),
            context_of=np.repeat(np.arange(len(records)), widths) if len(records) > 1 else None,
            conversions=sum(record["columns"] for record in records),
            readers=tuple((self._key(record, Purpose.READ), width)
                          for record, width in zip(records, widths, strict=True)),
            noise=noise if noise.any() else None, narrow=is_narrow(int(noise.max(initial=0)), int(loudest)),
            converters=Converters(*(padded(list(part)) for part in zip(*converters, strict=True))),
            words=AffineWords.of(padded([self.constants["scale"][span] for span in spans]),
                                 padded([self.constants["bias"][span] for span in spans]), self.geometry.code_max))

    def _partial_sums(self, plan: _Plan, messages: Sequence[Message]) -> Narrow:
        """Return the partial sums (N, columns of the plan) of batches of the same vectors, and count."""
        x: Floats = _joined([message.elements[:, :weights.rows]
                             for message, weights in zip(messages, plan.weights, strict=True)]).astype(np.float32)
        ticks, squares = word_sums(x, plan.parts)
        charge: Narrow = _joined([weights.charges(x[:, rows])
                                  for weights, rows in zip(plan.weights, plan.rows, strict=True)])
        if plan.noise is not None:
            size = norm(squares)
            if plan.context_of is not None:
                size = size.take(plan.context_of, axis=1)
            charge += noise_charge(plan.noise, size, self._read_samples(plan, messages[0]), narrow=plan.narrow)
        code, clipped = convert(charge, plan.converters, self.geometry.code_max)
        partial = affine(code, plan.words)

        counters = self.counters
        counters["vectors"] += ticks.size
        counters["row_ticks"] += int(sum(ticks.ravel().tolist()))  # exactly, where single precision might not
        counters["conversions"] += len(x) * plan.conversions
        counters["clips"] += int(np.count_nonzero(clipped))
        return partial

    def read_rows(self, context: int, rows: Any, purpose: Purpose, events: Any, drive: Drive = VERIFY) -> Narrow:
        """Return the codes (len(rows), columns) of reads of `rows` with their `events`, driven as `drive` says."""
        record, weights = self._context(context)
        rows, events = np.broadcast_arrays(np.asarray(rows, np.int64), np.asarray(events, np.int64))
        self._check_held(context, np.s_[:] if drive.dense else rows)
        noise, size = np.asarray(self.settings["verify_noise"]), np.asarray(_VERIFY_NORM)
        if drive.dense:
            x = drive.ticks * walsh(rows, record["rows"])
            ticks, squares = word_sums(x, np.ones((record["rows"], 1), np.float32))
            charge: NDArray[Any] = weights.charges(x)
            noise, size = self.constants["noise"][self._span(record)], norm(squares)
            self.counters["row_ticks"] += int(ticks.astype(np.int64).sum())
        else:
            charge = drive.ticks * weights.nets[rows]
        if noise.any():
            charge += noise_charge(noise, size, self._samples(record, purpose, drive.place(rows), events),
                                   narrow=is_narrow(int(noise.max()), int(size.max())))
        gain, offset = ((record["adc_gain"], record["adc_offset"]) if drive.inference_range else
                        (self.settings["verify_gain"], self.settings["verify_offset"]))
        code, _ = convert(charge, self._converters(record, gain, offset), self.geometry.code_max)
        self.counters["verify_conversions"] += code.size
        return code

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
    def _read_samples(plan: _Plan, message: Message) -> Samples:
        """Return xi (N, columns) of inference reads."""
        position = message.position
        if isinstance(position, int):
            return read_samples(plan.readers, position, message.events)
        xi = np.empty((len(position), plan.columns[-1].stop), np.int32)
        for one in np.unique(position).tolist():
            chosen = position == one
            xi[chosen] = read_samples(plan.readers, one, message.events[chosen])
        return xi

    def _key(self, record: dict[str, int], purpose: Purpose) -> tuple[int, int]:
        return hash_key(self.settings["seed"], purpose, self.settings["chip"], record["tile"])

    def _times(self, context: int, times: Ints, latency: int) -> Ints:
        """Return when each vector leaves."""
        out = served(times, int(self.free[context]), latency)
        self.free[context] = out[-1]
        return out
