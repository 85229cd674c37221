"""Closed-loop programming of rows: pulse, read through the tile, compare with the target, pulse again.

Every decision comes from codes that `read` returns; states are never looked at. Rows do not depend on each other, so
the model programs any number of them at once.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from rtl.params import Geometry, Purpose
from rtl.params.formats import EPOCH_SHIFT, G16_MAX, ITERATION_SHIFT
from sim.fixed import Ints, round_shift
from sim.tile import VERIFY, Drive

__all__ = ["ERROR_MAX", "MAX_AVERAGES", "MINOR", "Tally", "WriteVerify"]

MAX_AVERAGES = 16
MINOR = 128
"""Added to the iteration of every pulse and read of the minor pair."""

ERROR_MAX = (1 << 18) - 1
"""Larger errors, and the one larger magnitude of a target, count as this."""

Words = Mapping[str, int]
Read = Callable[[Ints, Purpose, Ints, Drive], Ints]
"""(rows, purpose, events, drive) -> codes (len(rows), columns), a read for each entry of `rows`."""

Pulse = Callable[[Ints, NDArray[np.bool_], Ints, int], None]
"""(rows, mask (len(rows), columns, devices), amplitude (len(rows), columns), iteration)."""


@dataclasses.dataclass(frozen=True)
class Tally:
    """How the columns of each row ended, all (len(rows), columns)."""

    sums: Ints
    pulses: Ints
    converged: NDArray[np.bool_]

    def words(self) -> Ints:
        """Return the OUTCOMES registers."""
        return (self.sums & 0xFFFF) << 16 | np.minimum(self.pulses, 255) << 8 | self.converged


@dataclasses.dataclass
class _Loop:
    """A row's columns between two iterations: arrays (len(rows), columns)."""

    rows: Ints
    expected: Ints
    sums: Ints
    pulses: Ints
    converged: NDArray[np.bool_]

    @property
    def error(self) -> Ints:
        return self.expected - self.sums


class WriteVerify:
    """The controller's rules, with the engine's registers by name in `settings`."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    def program(self, settings: Words, rows: Ints, targets: Ints, pulse: Pulse, read: Read) -> Tally:
        """Program `rows` to net `targets` (len(rows), columns), g16, signed."""
        devices = self.geometry.devices
        magnitude = np.minimum(np.abs(targets), ERROR_MAX)
        expected = np.where(targets < 0, -1, 1) * round_shift(magnitude * settings["counts_per_g"], 16)
        pulse(rows, np.ones((*targets.shape, devices), bool), np.zeros_like(targets), 0)
        loop = _Loop(rows, expected, np.zeros_like(targets), np.full_like(targets, devices),
                     np.zeros(targets.shape, bool))

        amplitude = np.minimum(round_shift(magnitude * settings["main_scale"], 15), G16_MAX)
        negative = targets < 0
        self._pulse(loop, pulse, np.arange(len(rows)), targets != 0, 0, negative, amplitude, 1)
        self._iterate(settings, loop, pulse, read, 0, negative, amplitude)
        if self.geometry.pairs == 2:
            self._minor(settings, loop, pulse, read)
        return Tally(loop.sums, loop.pulses, loop.converged)

    def probe(self, settings: Words, rows: Ints, read: Read) -> Ints:
        """Return the sums of codes (len(rows), columns) of rows read at the present age, driven as registers say."""
        mode = settings["probe_mode"]
        drive = Drive(settings["probe_ticks"], dense=bool(mode & 1), inference_range=bool(mode & 2))
        return self._read(settings, rows, read, Purpose.PROBE, settings["age"], drive)

    def _minor(self, settings: Words, loop: _Loop, pulse: Pulse, read: Read) -> None:
        """Correct with the second pair what the first one left."""
        step = round_shift(np.minimum(np.abs(loop.error), ERROR_MAX) * settings["minor_step"], 8)
        amplitude, negative = np.minimum(step, G16_MAX), loop.error < 0
        self._pulse(loop, pulse, np.arange(len(loop.rows)), ~loop.converged, 2, negative, amplitude, MINOR + 1)
        self._iterate(settings, loop, pulse, read, MINOR, negative, amplitude)

    def _iterate(self, settings: Words, loop: _Loop, pulse: Pulse, read: Read, base: int,
                 negative: NDArray[np.bool_], amplitude: Ints) -> None:
        """Read and pulse one pair until every column of a row is in its window or out of tries."""
        step = settings["minor_step" if base else "main_step"]
        for k in range(1, settings["iterations"] + 1):
            active = np.flatnonzero(~loop.converged.all(axis=1))
            if not len(active):
                return
            sums = self._read(settings, loop.rows[active], read, Purpose.VERIFY, (base + k) & 0xFF)
            loop.sums[active] = np.where(loop.converged[active], loop.sums[active], sums)
            error = loop.error[active]
            loop.converged[active] |= np.abs(error) <= settings["window"]
            if k == settings["iterations"]:
                return
            error = np.where(negative[active], -1, 1) * np.clip(error, -ERROR_MAX, ERROR_MAX)
            grown = np.clip(amplitude[active] + round_shift(error * step, 8), 0, G16_MAX)
            amplitude[active] = grown
            self._pulse(loop, pulse, active, ~loop.converged[active], 2 if base else 0, negative[active], grown,
                        base + k + 1)

    def _pulse(self, loop: _Loop, pulse: Pulse, which: Ints, mask: NDArray[np.bool_], device: int,
               negative: NDArray[np.bool_], amplitude: Ints, iteration: int) -> None:
        """Pulse the positive or negative device of a pair, in the columns of `mask`, of rows number `which`."""
        devices = np.zeros((*mask.shape, self.geometry.devices), bool)
        devices[..., device] = mask & ~negative
        devices[..., device + 1] = mask & negative
        loop.pulses[which] += mask
        pulse(loop.rows[which], devices, amplitude, iteration)

    @staticmethod
    def _read(settings: Words, rows: Ints, read: Read, purpose: Purpose, iteration: int, drive: Drive = VERIFY) -> Ints:
        """Return the sums of `averages` reads of each row, (len(rows), columns)."""
        averages = min(max(settings["averages"], 1), MAX_AVERAGES)
        first = (settings["epoch"] << EPOCH_SHIFT | iteration << ITERATION_SHIFT) & 0xFFFFFFFF
        events = np.repeat(first + np.arange(averages), len(rows))
        codes = read(np.tile(rows, averages), purpose, events, drive)
        return codes.reshape(averages, len(rows), -1).sum(axis=0)
