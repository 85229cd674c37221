"""The tiles of one engine, a batch of vectors at a time. Numbers as in `rtl/tile.py`."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtl.params import ACTIVATION_MAX, FlitKind, Geometry, Purpose, hash_counter, hash_key, probe_place
from rtl.params.formats import NORM_FRACTION
from rtl.params.registers import COLUMN_STRIDE, EngineRegion, column_fields, fields
from sim.adc import convert, mismatched, noise_charge, norm
from sim.affine import affine
from sim.dac import word_sums
from sim.engine import Weights
from sim.fixed import Floats, Ints, Narrow
from sim.gauss import Samples, gaussian_hash, read_samples
from sim.message import Message, served

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


class Tiles:
    """What an engine computes with its contexts.

    Attributes
    ----------
    settings : dict
        The engine's registers by name, written by the owner.
    records : list of dict
        One a context, fields by name, written by the owner.
    constants : dict of int32 or uint32 (column_words,)
        Column constants: scale, bias, noise.
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
        self.constants = {r.name: np.zeros(geometry.column_words, np.int32 if r.signed else np.uint32)
                          for r in fields("engine", EngineRegion.COLUMNS)}
        self.inputs: Ints = np.zeros(64, np.int64)
        self.free: Ints = np.zeros(geometry.contexts, np.int64)
        self.counters = dict.fromkeys(("vectors", "row_ticks", "conversions", "clips", "verify_conversions"), 0)
        self._weights: dict[int, Weights] = {}

    def set_nets(self, context: int, nets: Any) -> None:
        """Take the nets (rows, columns) of a context."""
        self._weights[context] = Weights(nets)

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
                    self.constants[register.name][index] = value - (1 << register.bits) if negative else value

    def read(self, region: int, offset: int) -> int:
        """Read a word of COLUMNS or INPUTS, as 32 bits."""
        if region == EngineRegion.INPUTS:
            return int(self.inputs[offset % len(self.inputs)])
        index, field = divmod(offset, COLUMN_STRIDE)
        for register in column_fields(self.geometry):
            if register.offset == field and index < self.geometry.column_words:
                return int(self.constants[register.name][index]) & 0xFFFFFFFF
        return 0

    def accept(self, message: Message) -> list[Message]:
        """Return the partial sums of a batch; nothing if its route is no input."""
        entry = int(self.inputs[message.route])
        if not entry & _INPUT_VALID:
            return []
        context = context_of(self.geometry, entry & (_INPUT_VALID - 1))
        record, weights = self._context(context)
        used = -(-record["rows"] // self.geometry.transport) * self.geometry.transport
        if message.elements.shape[1] != used:
            raise ValueError(f"context {context} takes {used} activations, not {message.elements.shape[1]}")
        partial = self._partial_sums(record, weights, message)
        return [Message(route=record["route"], kind=FlitKind.PARTIAL, events=message.events,
                        times=self._times(context, message.times, record["latency"]), elements=partial)]

    def _partial_sums(self, record: dict[str, int], weights: Weights, message: Message) -> Narrow:
        """Return the partial sums (N, columns, padded to whole words) of a batch, and count."""
        x: Floats = message.elements[:, :record["rows"]].astype(np.float32)
        columns, width = record["columns"], self.geometry.transport
        span = self._span(record)
        ticks, squares = word_sums(x)
        charge = weights.charges(x)
        noise = self.constants["noise"][span]
        if noise.any():
            charge += noise_charge(noise, norm(squares)[:, None], self._read_samples(record, message))
        code, clipped = convert(charge, *self._real(record, record["adc_gain"], record["adc_offset"]),
                                self.geometry.code_max)
        partial = np.zeros((len(x), -(-columns // width) * width), np.int32)
        partial[:, :columns] = affine(code, self.constants["scale"][span], self.constants["bias"][span])

        self.counters["vectors"] += len(x)
        self.counters["row_ticks"] += int(ticks.sum())
        self.counters["conversions"] += code.size
        self.counters["clips"] += int(np.count_nonzero(clipped))
        return partial

    def read_rows(self, context: int, rows: Any, purpose: Purpose, events: Any, drive: Drive = VERIFY) -> Narrow:
        """Return the codes (len(rows), columns) of reads of `rows` with their `events`, driven as `drive` says."""
        record, weights = self._context(context)
        rows, events = np.broadcast_arrays(np.asarray(rows, np.int64), np.asarray(events, np.int64))
        noise, size = np.asarray(self.settings["verify_noise"]), np.asarray(_VERIFY_NORM)
        if drive.dense:
            x = drive.ticks * walsh(rows, record["rows"])
            ticks, squares = word_sums(x)
            charge: NDArray[Any] = weights.charges(x)
            noise, size = self.constants["noise"][self._span(record)], norm(squares)[:, None]
            self.counters["row_ticks"] += int(ticks.sum())
        else:
            charge = drive.ticks * weights.nets[rows]
        if noise.any():
            charge += noise_charge(noise, size, self._samples(record, purpose, drive.place(rows), events))
        gain, offset = ((record["adc_gain"], record["adc_offset"]) if drive.inference_range else
                        (self.settings["verify_gain"], self.settings["verify_offset"]))
        code, _ = convert(charge, *self._real(record, gain, offset), self.geometry.code_max)
        self.counters["verify_conversions"] += code.size
        return code

    def _real(self, record: dict[str, int], gain: int, offset: int) -> tuple[Any, Any]:
        """Return gain and offset of the converters of a context: of each column where they differ."""
        words = self.constants["mismatch"][self._span(record)]
        return mismatched(gain, offset, words) if words.any() else (gain, offset)

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

    def _read_samples(self, record: dict[str, int], message: Message) -> Samples:
        """Return xi (N, columns) of inference reads."""
        key, columns, position = self._key(record, Purpose.READ), record["columns"], message.position
        if isinstance(position, int):
            return read_samples(*key, position, columns, message.events)
        xi = np.empty((len(position), columns), np.int32)
        for one in np.unique(position).tolist():
            chosen = position == one
            xi[chosen] = read_samples(*key, one, columns, message.events[chosen])
        return xi

    def _key(self, record: dict[str, int], purpose: Purpose) -> tuple[int, int]:
        return hash_key(self.settings["seed"], purpose, self.settings["chip"], record["tile"])

    def _times(self, context: int, times: Ints, latency: int) -> Ints:
        """Return when each vector leaves."""
        out = served(times, int(self.free[context]), latency)
        self.free[context] = out[-1]
        return out
