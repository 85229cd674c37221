"""The device states of one engine: pulses change them, ageing reads them, nets and noise constants follow from them."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rtl.params import Geometry, PulseKind, Purpose, Table, hash_counter, hash_key
from rtl.params.formats import AGE_BITS, EPOCH_SHIFT, G16_BITS, ITERATION_SHIFT, REPEAT_BITS
from sim.device import (
    Born,
    aged_codes,
    born,
    pulsed_states,
    relaxed_and_exponent,
    state_codes,
    stepped_states,
    stuck_state,
)
from sim.fixed import Ints, Narrow, isqrt
from sim.gauss import gaussian, gaussian_hash
from sim.hash import Words as HashWords
from sim.hash import threefry2x32

__all__ = ["NOISE_MAX", "Array", "Pulses"]

NOISE_MAX = 65_535
"""Largest column noise constant."""

Words = Mapping[str, int]


Shape = tuple[int, int, int]
"""Columns, rows and devices of a cell."""

_CELLS = 1 << 14
"""Aged at a time, to keep their arrays in the cache."""


@functools.lru_cache(maxsize=32)
def _counters(shape: Shape, first: int = 0) -> NDArray[np.uint32]:
    """Return the first counter word of every device of a tile's columns from the `first` on."""
    column, row, device = (np.arange(size) for size in shape)
    return np.asarray(hash_counter(row[:, None], first + column[:, None, None], device), np.uint32)


@functools.lru_cache(maxsize=512)
def _static_samples(key: tuple[int, int], event: int, shape: Shape, first: int) -> tuple[Narrow, Narrow]:
    """Return the samples of relaxation and drift exponent: no age changes them."""
    relax, nu = (gaussian(words).astype(np.int32) for words in threefry2x32(*key, _counters(shape, first), event))
    return relax, nu


@functools.lru_cache(maxsize=32)
def _variation_words(key: tuple[int, int], shape: Shape) -> tuple[HashWords, HashWords]:
    """Return the hash words of what devices are born with, (columns, rows, devices)."""
    return threefry2x32(*key, _counters(shape), 0)


@dataclasses.dataclass(frozen=True)
class Pulses:
    """Pulses to cells, all arrays of one shape but `mask`, which has one more axis: devices.

    `amplitude` is a g16, or has 12 fraction bits where the pulse is `gradual`; `down` is of gradual pulses.
    """

    mask: NDArray[np.bool_]
    amplitude: Ints
    gradual: NDArray[np.bool_]
    down: NDArray[np.bool_]

    @classmethod
    def melt(cls, mask: NDArray[np.bool_], amplitude: Ints) -> "Pulses":
        """Return melt pulses."""
        none = np.zeros(amplitude.shape, bool)
        return cls(mask, amplitude, none, none)


class Array:
    """States of all cells, (cells, devices), tables of the device pipeline, and what they count.

    A tile's record says where its cells lie; `settings` holds the engine's registers by name.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.states = np.zeros((geometry.cells, geometry.devices), np.int64)
        self.wear = np.zeros((geometry.cells, geometry.devices), np.int64)
        self.tables = np.zeros((len(Table), 256), np.int64)
        self.pulses = 0
        self.aged = 0

    def pulse(self, settings: Words, record: Words, rows: Ints, pulses: Pulses, iteration: int) -> None:
        """Pulse cells (len(rows), columns); `iteration` is a coordinate of the hash."""
        n, column, device = np.nonzero(pulses.mask)
        row = np.asarray(rows)[n]
        where, amplitude, gradual = (column, row, device), pulses.amplitude[n, column], pulses.gradual[n, column]
        event = (settings["epoch"] << EPOCH_SHIFT | iteration << ITERATION_SHIFT) & 0xFFFFFFFF
        key, counter = self._key(settings, record, Purpose.PULSE), hash_counter(row, column, device)
        bits, states = self.geometry.state_bits, self._of(record, self.states)
        if not self._plain(settings):
            word, wearing = threefry2x32(*key, counter, event)
            xi, xi_floor, births = gaussian(word), gaussian(wearing), self._born(settings, record).at(where)
            after = pulsed_states(self.tables, np.where(gradual, 0, amplitude), xi, bits)
            stepped = stepped_states(self.tables, states[where], amplitude, pulses.down[n, column], births, xi,
                                     xi_floor, bits)
            after = np.where(gradual, stepped, after)
            if self.geometry.wear_bits:
                wear, most = self._of(record, self.wear), (1 << self.geometry.wear_bits) - 1
                after = np.where(wear[where] > births.endurance, states[where], after)
                wear[where] = np.minimum(wear[where] + (wearing < settings["wear_rate"]), most)
            after = np.where(births.stuck, stuck_state(settings["stuck_value"], bits), after)
        else:
            after = pulsed_states(self.tables, amplitude, gaussian_hash(*key, counter, event), bits)
        states[where] = after
        self.pulses += len(n)

    def nets(self, record: Words, rows: Ints) -> Ints:
        """Return the nets (len(rows), columns) of devices that neither relaxed nor drifted yet."""
        states = self._of(record, self.states)[:, rows]
        return self._net(state_codes(states, self.geometry.state_bits)).T

    def age(self, settings: Words, record: Words) -> tuple[Ints, Ints]:
        """Return the nets (rows, columns) of a tile at the age in `settings`, and its column noise constants."""
        cells = self._of(record, self.states)
        step = max(1, _CELLS // record["rows"])
        nets = np.concatenate([self._net(self._aged(settings, record, cells[first:first + step], first))
                               for first in range(0, len(cells), step)])
        self.aged += cells.size
        noise = np.minimum(isqrt(np.abs(nets).sum(axis=1) * settings["noise_gain"]), NOISE_MAX)
        return nets.T, noise

    def _aged(self, settings: Words, record: Words, cells: Ints, first: int) -> Ints:
        """Return the codes of a tile's columns from the `first` on."""
        g16 = cells << (G16_BITS - self.geometry.state_bits)
        epoch = settings["epoch"] << EPOCH_SHIFT
        static = _static_samples(self._key(settings, record, Purpose.STATIC), epoch, cells.shape, first)
        event = epoch | (settings["age"] & ((1 << AGE_BITS) - 1)) << REPEAT_BITS
        flicker = gaussian_hash(*self._key(settings, record, Purpose.FLICKER), _counters(cells.shape, first), event)
        relaxed, nu = relaxed_and_exponent(self.tables, g16, *static)
        codes = aged_codes(self.tables, g16, relaxed, nu, flicker, settings["log_time"])
        if settings["stuck_rate"]:
            stuck = stuck_state(settings["stuck_value"], self.geometry.state_bits)
            where = self._born(settings, record).stuck[first:first + len(cells)]
            codes[where] = state_codes(stuck, self.geometry.state_bits)
        return codes

    def _plain(self, settings: Words) -> bool:
        """Tell whether a pulse leaves the same in every device: nothing of what they are born with counts."""
        return (settings["pulse_kind"] == PulseKind.MELT and not settings["stuck_rate"]
                and not self.geometry.wear_bits)

    def _born(self, settings: Words, record: Words) -> Born:
        """Return what the devices of a tile are born with, (columns, rows, devices)."""
        shape = self._of(record, self.states).shape
        words = _variation_words(self._key(settings, record, Purpose.VARIATION), shape)
        return born(self.tables, words, common=bool(settings["common_variation"]), stuck_rate=settings["stuck_rate"])

    def _of(self, record: Words, cells: Ints) -> Ints:
        """Return what belongs to a tile as a view, (columns, rows, devices)."""
        base, rows, columns = (record[name] for name in ("state_base", "rows", "columns"))
        if base + rows * columns > self.geometry.cells:
            raise ValueError(f"state_base ({base}) + rows ({rows}) * columns ({columns}) exceeds the "
                             f"{self.geometry.cells} cells of an engine")
        return cells[base:base + rows * columns].reshape(columns, rows, self.geometry.devices)

    def _net(self, codes: Ints) -> Ints:
        """Return F (G+ - G-) + (g+ - g-), or G+ - G- with one pair; devices are the last axis."""
        net = codes[..., 0] - codes[..., 1]
        if self.geometry.pairs == 1:
            return net
        return self.geometry.significance * net + codes[..., 2] - codes[..., 3]

    @staticmethod
    def _key(settings: Words, record: Words, purpose: Purpose) -> tuple[int, int]:
        return hash_key(settings["seed"], purpose, settings["chip"], record["tile"])
