"""The device states of one engine: pulses change them, ageing reads them, nets and noise constants follow from them."""

import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rtl.params import Geometry, Purpose, Table, hash_counter, hash_key
from rtl.params.formats import AGE_BITS, EPOCH_SHIFT, G16_BITS, ITERATION_SHIFT, REPEAT_BITS
from sim.device import aged_codes, pulsed_states, relaxed_and_exponent, state_codes
from sim.fixed import Ints, isqrt
from sim.gauss import gaussian, gaussian_hash
from sim.hash import threefry2x32

__all__ = ["NOISE_MAX", "Array"]

NOISE_MAX = 65_535
"""Largest column noise constant."""

Words = Mapping[str, int]


@functools.lru_cache(maxsize=32)
def _counters(rows: int, columns: int, devices: int) -> NDArray[np.uint32]:
    """Return the first counter word of every device of a tile, (columns, rows, devices)."""
    column, row, device = np.ogrid[:columns, :rows, :devices]
    return np.asarray(hash_counter(row, column, device), np.uint32)


@functools.lru_cache(maxsize=32)
def _static_samples(key: tuple[int, int], event: int, shape: tuple[int, int, int]) -> tuple[Ints, Ints]:
    """Return the samples of relaxation and drift exponent, (columns, rows, devices): no age changes them."""
    columns, rows, devices = shape
    relax, nu = threefry2x32(*key, _counters(rows, columns, devices), event)
    return gaussian(relax), gaussian(nu)


class Array:
    """States of all cells, (cells, devices), tables of the device pipeline, and what they count.

    A tile's record says where its cells lie; `settings` holds the engine's registers by name.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.states = np.zeros((geometry.cells, geometry.devices), np.int64)
        self.tables = np.zeros((len(Table), 256), np.int64)
        self.pulses = 0
        self.aged = 0

    def pulse(self, settings: Words, record: Words, rows: Ints, mask: NDArray[np.bool_], amplitude: Ints,
              iteration: int) -> None:
        """Give a melt pulse to the devices that `mask` (len(rows), columns, devices) names.

        amplitude : (len(rows), columns), g16
        """
        n, column, device = np.nonzero(mask)
        row = np.asarray(rows)[n]
        event = (settings["epoch"] << EPOCH_SHIFT | (iteration & 0xFF) << ITERATION_SHIFT) & 0xFFFFFFFF
        xi = gaussian_hash(*self._key(settings, record, Purpose.PULSE), hash_counter(row, column, device), event)
        states = pulsed_states(self.tables, amplitude[n, column], xi, self.geometry.state_bits)
        self._cells(record)[column, row, device] = states
        self.pulses += len(n)

    def nets(self, record: Words, rows: Ints) -> Ints:
        """Return the nets (len(rows), columns) of devices that neither relaxed nor drifted yet."""
        states = self._cells(record)[:, rows]
        return self._net(state_codes(states, self.geometry.state_bits)).T

    def age(self, settings: Words, record: Words) -> tuple[Ints, Ints]:
        """Return the nets (rows, columns) of a tile at the age in `settings`, and its column noise constants."""
        cells = self._cells(record)
        g16 = cells << (G16_BITS - self.geometry.state_bits)
        epoch = settings["epoch"] << EPOCH_SHIFT
        static = _static_samples(self._key(settings, record, Purpose.STATIC), epoch, cells.shape)
        event = epoch | (settings["age"] & ((1 << AGE_BITS) - 1)) << REPEAT_BITS
        flicker = gaussian_hash(*self._key(settings, record, Purpose.FLICKER),
                                _counters(record["rows"], record["columns"], self.geometry.devices), event)
        relaxed, nu = relaxed_and_exponent(self.tables, g16, *static)
        nets = self._net(aged_codes(self.tables, g16, relaxed, nu, flicker, settings["log_time"]))
        self.aged += cells.size
        noise = np.minimum(isqrt(np.abs(nets).sum(axis=1) * settings["noise_gain"]), NOISE_MAX)
        return nets.T, noise

    def _cells(self, record: Words) -> Ints:
        """Return the states of a tile as a view, (columns, rows, devices)."""
        base, rows, columns = (record[name] for name in ("state_base", "rows", "columns"))
        if base + rows * columns > self.geometry.cells:
            raise ValueError(f"state_base ({base}) + rows ({rows}) * columns ({columns}) exceeds the "
                             f"{self.geometry.cells} cells of an engine")
        return self.states[base:base + rows * columns].reshape(columns, rows, self.geometry.devices)

    def _net(self, codes: Ints) -> Ints:
        """Return F (G+ - G-) + (g+ - g-), or G+ - G- with one pair; devices are the last axis."""
        net = codes[..., 0] - codes[..., 1]
        if self.geometry.pairs == 1:
            return net
        return self.geometry.significance * net + codes[..., 2] - codes[..., 3]

    @staticmethod
    def _key(settings: Words, record: Words, purpose: Purpose) -> tuple[int, int]:
        return hash_key(settings["seed"], purpose, settings["chip"], record["tile"])
