"""Closed-loop programming of rows: pulse, read through the tile, compare with the target, pulse again.

Every decision comes from codes that `read` returns; states are never looked at. Rows do not depend on each other, so
the model programs any number of them at once.

PROGRAM has two phases. The first works on the main pair, on the side (device) of the target's sign. The second works
on what is left: on the minor pair, or on the other side of the only pair. What a pulse is depends on the kind of
device:

- melt: the amplitude follows the error; side as above.
- bipolar: up or down by the sign of the error; while that stays, the amplitude grows with each error, and starts again
  when it changes.
- one-way: up, on the side that the error calls for. A pulse of the partner counts, and when there were `refresh_limit`
  of them the pair is RESET, the partner first, the other with the next pulse. With `restart` an overshoot is no matter
  for the partner: the device itself is RESET. Both start over, and are counted as refreshes.

With `direct` PROGRAM is one pulse a column, as the host says in TARGETS: no RESET, no verify.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from rtl.params import Geometry, PulseKind, Purpose
from rtl.params.formats import (
    DIRECT_DOWN,
    DIRECT_MINOR,
    EPOCH_SHIFT,
    G16_BITS,
    ITERATION_SHIFT,
    iteration_coordinate,
)
from sim.array import Pulses
from sim.fixed import Ints, round_shift
from sim.tile import VERIFY, Drive

__all__ = ["ERROR_MAX", "MAX_AVERAGES", "STILL", "Tally", "WriteVerify"]

MAX_AVERAGES = 16

ERROR_MAX = (1 << 18) - 1
"""Larger errors, and the one larger magnitude of a target, count as this."""

STILL = 7
"""A cell whose sum so many pulses in a row moved by no more than the window is unresponsive."""

REFRESHES_MAX = 15
PARTNER_MAX = 63

Words = Mapping[str, int]
Flags = NDArray[np.bool_]
Read = Callable[[Ints, Purpose, Ints, Drive], Ints]
"""(rows, purpose, events, drive) -> codes (len(rows), columns), a read for each entry of `rows`."""

Pulse = Callable[[Ints, Pulses, int], None]
"""(rows, pulses to the cells (len(rows), columns), coordinate of the iteration)."""


@dataclasses.dataclass
class Tally:
    """How the columns of each row end, all (len(rows), columns)."""

    sums: Ints
    pulses: Ints
    converged: Flags
    unresponsive: Flags
    refreshes: Ints

    def words(self) -> Ints:
        """Return the OUTCOMES registers."""
        return ((self.sums & 0xFFFF) << 16 | np.minimum(self.pulses, 255) << 8 | self.refreshes << 4
                | self.unresponsive << 1 | self.converged)


@dataclasses.dataclass
class _Plan:
    """What a controller keeps of its columns between two pulses, all (len(rows), columns)."""

    expected: Ints
    reference: Ints
    """Sum of codes from which a cell has not moved by more than the window, in `still` pulses."""
    still: Ints
    negative: Flags
    """Side of the pair at work."""
    amplitude: Ints
    down: Flags
    """Way that the last error called for."""
    fresh: Flags
    """No gradual pulse yet: the next adds to none before it."""
    partner: Ints
    """Pulses of the partner since it was RESET."""
    draining: Flags
    """The partner has been RESET: this device is next."""


class WriteVerify:
    """The controller's rules, with the engine's registers by name in `settings`."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    def program(self, settings: Words, rows: Ints, targets: Ints, pulse: Pulse, read: Read) -> Tally:
        """Program `rows` to net `targets` (len(rows), columns), g16, signed; or pulse them, as `direct` targets say."""
        if settings["direct"]:
            return self._direct(settings, rows, targets, pulse)
        return _Loop(self.geometry, settings, rows, targets, pulse, read).run()

    def _direct(self, settings: Words, rows: Ints, targets: Ints, pulse: Pulse) -> Tally:
        magnitude = np.minimum(np.abs(targets), ERROR_MAX)
        amplitude = np.minimum(magnitude & (1 << G16_BITS) - 1, settings["amplitude_limit"])
        pulsed = (magnitude & (1 << G16_BITS) - 1) != 0
        device = (targets < 0) + (2 * (magnitude >> DIRECT_MINOR & 1) if self.geometry.pairs == 2 else 0)
        gradual = np.full(targets.shape, settings["pulse_kind"] != PulseKind.MELT)
        down = (magnitude >> DIRECT_DOWN & 1).astype(bool) & bool(settings["pulse_kind"] & PulseKind.BIPOLAR)
        mask = pulsed[..., None] & (device[..., None] == np.arange(self.geometry.devices))
        pulse(rows, Pulses(mask, amplitude, gradual, down), iteration_coordinate(settings["iterations"], 0))
        none = np.zeros(targets.shape, np.int64)
        return Tally(none, pulsed.astype(np.int64), none.astype(bool), none.astype(bool), none)

    def probe(self, settings: Words, rows: Ints, read: Read) -> Ints:
        """Return the sums of codes (len(rows), columns) of rows read at the present age, driven as registers say."""
        mode = settings["probe_mode"]
        drive = Drive(settings["probe_ticks"], dense=bool(mode & 1), inference_range=bool(mode & 2))
        return _read(settings, rows, read, Purpose.PROBE, settings["age"], drive)


class _Loop:
    """One PROGRAM of some rows. Methods work on some of the rows, `which`, numbers from 0."""

    def __init__(self, geometry: Geometry, settings: Words, rows: Ints, targets: Ints, pulse: Pulse,
                 read: Read) -> None:
        self.geometry, self.settings, self.rows, self.pulse, self.read = geometry, settings, rows, pulse, read
        self.gradual = settings["pulse_kind"] != PulseKind.MELT
        self.bipolar = bool(settings["pulse_kind"] & PulseKind.BIPOLAR)
        self.second = 0
        self.magnitude = np.minimum(np.abs(targets), ERROR_MAX)
        shape = targets.shape
        self.work = self.magnitude >= (settings["minor_only"] if geometry.pairs == 2 else 0)
        """What the phase works on."""
        expected = np.where(targets < 0, -1, 1) * round_shift(self.magnitude * settings["counts_per_g"], 16)
        self.plan = _Plan(
            expected=expected, reference=np.zeros(shape, np.int64), still=np.zeros(shape, np.int64),
            negative=targets < 0, amplitude=np.zeros(shape, np.int64), down=np.zeros(shape, bool),
            fresh=np.ones(shape, bool), partner=np.zeros(shape, np.int64), draining=np.zeros(shape, bool))
        self.tally = Tally(np.zeros(shape, np.int64), np.full(shape, geometry.devices), np.zeros(shape, bool),
                           np.zeros(shape, bool), np.zeros(shape, np.int64))

    def run(self) -> Tally:
        """RESET all, then both phases."""
        shape = self.magnitude.shape
        every_device = np.ones((*shape, self.geometry.devices), bool)
        self.pulse(self.rows, Pulses.melt(every_device, np.zeros(shape, np.int64)), 0)
        every = np.arange(len(self.rows))
        if not self.gradual:
            scaled = round_shift(self.magnitude * self.settings["main_scale"], 15)
            self.plan.amplitude = np.minimum(scaled, self.settings["amplitude_limit"])
            mask = self._mask(every, self.work & (self.magnitude != 0), self.plan.negative)
            self.pulse(self.rows, Pulses.melt(mask, self.plan.amplitude), iteration_coordinate(1, 0))
        self._iterate()
        if self.geometry.pairs == 2 or self.settings["absorb"]:
            self._begin_second()
            self._iterate()
        return self.tally

    def _begin_second(self) -> None:
        """Turn to what is left: the minor pair, or the other side."""
        plan, tally, every = self.plan, self.tally, np.arange(len(self.rows))
        self.second = 1
        self.work = ~tally.converged
        plan.negative = self.error(every) < 0 if self.geometry.pairs == 2 else ~plan.negative
        plan.amplitude = np.zeros_like(plan.amplitude)
        plan.fresh = np.ones_like(plan.fresh)
        plan.partner = np.zeros_like(plan.partner)
        plan.draining = np.zeros_like(plan.draining)
        plan.still = np.zeros_like(plan.still)
        self._decide(every, self.work, 1)

    def _iterate(self) -> None:
        """Read and pulse until every column of a row that the phase works on is in its window, or out of tries."""
        tally, settings = self.tally, self.settings
        unfinished: Flags = np.array(self.work.any(axis=1)) | (not self.second)
        for k in range(1, settings["iterations"] + 1):
            which = np.flatnonzero(unfinished)
            if not len(which):
                return
            sums = _read(settings, self.rows[which], self.read, Purpose.VERIFY, iteration_coordinate(k, self.second))
            tally.sums[which] = np.where(tally.converged[which], tally.sums[which], sums)
            self._watch(which)
            tally.converged[which] |= np.abs(self.error(which)) <= settings["window"]
            work = self.work[which] & ~tally.converged[which]
            unfinished[which] = work.any(axis=1)
            if k < settings["iterations"]:
                self._decide(which, work, k + 1)

    def error(self, which: Ints) -> Ints:
        """Return how much is missing."""
        return self.plan.expected[which] - self.tally.sums[which]

    def _watch(self, which: Ints) -> None:
        """See whether the cells at work still move."""
        plan, tally = self.plan, self.tally
        watched = self.work[which] & ~tally.converged[which]
        moved = np.abs(tally.sums[which] - plan.reference[which]) > self.settings["window"]
        still = np.where(moved, 0, np.minimum(plan.still[which] + 1, STILL))
        plan.still[which] = np.where(watched, still, plan.still[which])
        plan.reference[which] = np.where(watched & moved, tally.sums[which], plan.reference[which])
        tally.unresponsive[which] |= plan.still[which] == STILL

    def _decide(self, which: Ints, work: Flags, iteration: int) -> None:
        """Give the next pulse of the phase to the columns `work` of some rows."""
        plan, settings = self.plan, self.settings
        error, negative, old = self.error(which), plan.negative[which], plan.amplitude[which]
        down = error < 0
        over = down != negative
        step = settings["minor_step" if self.second and self.geometry.pairs == 2 else "main_step"]
        if not self.gradual:
            size = np.where(negative, -1, 1) * np.clip(error, -ERROR_MAX, ERROR_MAX)
            amplitude = np.clip(old + round_shift(size * step, 8), 0, settings["amplitude_limit"])
            reset = np.zeros_like(down)
            side = negative
        else:
            grow = ~plan.fresh[which] & (down == plan.down[which])
            wanted = np.where(grow, old, 0) + np.minimum(np.abs(error), ERROR_MAX) * step
            amplitude = np.minimum(np.maximum(wanted, settings["least_amplitude"]), settings["amplitude_limit"])
            side, reset = (negative, np.zeros_like(down)) if self.bipolar else self._one_way(which, work, down, over)
        plan.fresh[which] = np.where(work, reset, plan.fresh[which])
        plan.down[which] = np.where(work, down, plan.down[which])
        plan.amplitude[which] = np.where(work, amplitude, old)
        pulses = Pulses(self._mask(which, work, side), np.where(reset, 0, amplitude), ~reset & self.gradual,
                        over & self.bipolar)
        self.pulse(self.rows[which], pulses, iteration_coordinate(iteration, self.second))

    def _one_way(self, which: Ints, work: Flags, down: Flags, over: Flags) -> tuple[Flags, Flags]:
        """Return the side of each pulse of one-way devices, and whether it is a RESET; count those."""
        plan, settings = self.plan, self.settings
        negative, partner, draining = plan.negative[which], plan.partner[which], plan.draining[which]
        restart = over & ~draining & bool(settings["restart"])
        drain = over & ~draining & ~restart & (partner >= settings["refresh_limit"])
        plan.draining[which] = np.where(work, drain, draining)
        counted = np.where(over & ~draining & ~restart & ~drain, np.minimum(partner + 1, PARTNER_MAX), partner)
        plan.partner[which] = np.where(work, np.where(drain | draining, 0, counted), partner)
        refreshes = self.tally.refreshes[which]
        self.tally.refreshes[which] = np.where(
            work & (restart | drain), np.minimum(refreshes + 1, REFRESHES_MAX), refreshes)
        return np.where(draining | restart, negative, np.where(drain, ~negative, down)), restart | drain | draining

    def _mask(self, which: Ints, work: Flags, side: Flags) -> Flags:
        """Return which devices are pulsed, (rows, columns, devices): one of the pair at work. Count the pulses."""
        devices = np.zeros((*work.shape, self.geometry.devices), bool)
        first = 2 * (self.second and self.geometry.pairs == 2)
        devices[..., first] = work & ~side
        devices[..., first + 1] = work & side
        self.tally.pulses[which] += work
        return devices


def _read(settings: Words, rows: Ints, read: Read, purpose: Purpose, iteration: int,
          drive: Drive = VERIFY) -> Ints:
    """Return the sums of `averages` reads of each row, (len(rows), columns)."""
    averages = min(max(settings["averages"], 1), MAX_AVERAGES)
    first = (settings["epoch"] << EPOCH_SHIFT | iteration << ITERATION_SHIFT) & 0xFFFFFFFF
    events = np.repeat(first + np.arange(averages), len(rows))
    codes = read(np.tile(rows, averages), purpose, events, drive)
    return codes.reshape(averages, len(rows), -1).sum(axis=0)
