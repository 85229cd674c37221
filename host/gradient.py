"""Programming by gradient descent (Büchel and others, 2023): whole arrays are read, never a cell.

A step drives all rows at once, row r with its sign changed where r & k has odd parity (Walsh functions k), and takes
the products' error E = X W_target - Y. Its gradient for the weights is X' E; as Walsh functions are orthogonal, that
is, up to a factor, the error of each weight, with the noise of all reads averaged. Cells whose gradient, averaged
since their last pulse, leaves the window get a pulse of its sign and size. What is left then goes to the minor pair,
or to the other device of gradual ones.

Arithmetic only; `host/programming.py` reads and pulses.
"""

import numpy as np
from numpy.typing import NDArray

from host.compensation import Probing, walsh_probing
from host.placement import Tile
from rtl.params import ADC_SHIFT, GMAX_CODE, Geometry
from rtl.params.formats import (
    AMPLITUDE_FRACTION,
    CODE_BITS,
    DIRECT_DOWN,
    DIRECT_MINOR,
    G16_BITS,
    G16_MAX,
    GMAX_G16,
    LOG_TIME_BITS,
)
from sim.fixed import Ints
from sim.pulses import largest_move
from sim.tables import verify_settings
from sim.technology import GRADIENT, Technology
from sim.tile import walsh
from sim.write_verify import STILL, Tally

__all__ = ["GROUPS", "START", "Descent", "coordinate", "dither", "reading"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

START = {"iterations": 0, "absorb": 0, "minor_step": 0, "least_amplitude": 0}
"""Registers with which PROGRAM only RESETs, and gives melt devices of the main pair their first pulse, unread."""

_G16_PER_CODE = 1 << G16_BITS - CODE_BITS
_FIRST = 2  # coordinate of the first step's pulses, after those of the start
_LAST = 255
_GOLDEN = (5**0.5 - 1) / 2  # whose multiples, modulo 1, lie farthest apart

GROUPS = 16
"""Of patterns, each read with an ADC offset of its own."""


def reading(step: int) -> dict[str, int]:
    """Return the registers that tell the reads of one step from all others; no age has such a coordinate."""
    return {"age": (1 << LOG_TIME_BITS) + step, "averages": 1}


def coordinate(step: int) -> int:
    """Return the register `iterations` of the pulses of a step."""
    return _FIRST + step


def dither(step: int, group: int, groups: int) -> int:
    """Return the ADC offset that a group of a step's patterns has beside its own, in 2**-24 codes: within half a code.

    It is taken off again. Without noise the rounding of reads would stay the same from step to step, and that of a
    column of small sums from pattern to pattern; so it differs, and averages out.
    """
    return round(((group + step * _GOLDEN) / groups % 1 - 0.5) * (1 << ADC_SHIFT))


class Descent:
    """Gradient descent of one tile. Errors are in nets: codes of the minor device."""

    def __init__(self, tile: Tile, technology: Technology, geometry: Geometry) -> None:
        self.tile, self.technology, self.geometry = tile, technology, geometry
        settings = verify_settings(technology, geometry, GRADIENT)
        self._counts = settings["counts_per_g"] / (1 << 16) * _G16_PER_CODE  # of a verify, for the report
        self._gain = settings["verify_gain"] / (1 << ADC_SHIFT)
        self._wanted = tile.targets / _G16_PER_CODE
        self.window = technology.number("window").one / technology.range * GMAX_CODE
        self.probing: Probing = walsh_probing(tile, self._gain, geometry)
        self._inputs = walsh(self.probing.rows, tile.rows)
        shape = tile.targets.shape
        self._melt = technology.pulse == "melt"
        self._amplitude: Floats = (np.clip(np.abs(tile.targets) / geometry.significance, 0, G16_MAX) if self._melt
                                   else np.zeros(shape))
        self._side: Flags = tile.targets < 0
        self._least = settings["least_amplitude"]
        self._over: Flags = np.zeros(shape, bool)
        self._second = False
        self._error = np.zeros(shape)
        self._reads = np.zeros(shape, np.int64)
        self._before = np.zeros(shape)
        self._still = np.zeros(shape, np.int64)
        self._unresponsive = np.zeros(shape, bool)
        first = self._melt & (tile.targets != 0)
        self._pulses = np.full(shape, geometry.devices) + first
        self._pulsed: Flags = np.zeros(shape, bool)

    @property
    def steps(self) -> int:
        """Most steps of a phase."""
        return min(int(self.technology.number("iterations").one), (_LAST - _FIRST) // 2)

    @property
    def phases(self) -> int:
        """The second works on the minor pair, or on the other device of a gradual one."""
        return 1 if self._melt and self.geometry.pairs == 1 else 2

    def group(self, step: int, group: int, groups: int) -> Flags:
        """Return which patterns (patterns,) are of a group, by lot."""
        return np.random.default_rng(step).permutation(len(self._inputs)) % groups == group

    def learn(self, sums: Floats, offset: Floats) -> None:
        """Take the sums of codes (patterns, columns) of a step, and what a read without rows gives (columns,)."""
        scale = self._gain * self.probing.ticks
        missing = self._inputs @ self._wanted - (sums - offset) / scale
        gradient = self._inputs.T @ missing / len(self._inputs)
        moved = np.abs(gradient - self._before) > self.window
        still = np.where(moved, 0, np.minimum(self._still + 1, STILL))
        self._still = np.where(self._pulsed, still, self._still)
        self._before = np.where(moved | ~self._pulsed, gradient, self._before)
        self._unresponsive |= self._still == STILL
        self._reads = np.where(self._pulsed, 1, self._reads + 1)
        self._error = np.where(self._pulsed, gradient, self._error + (gradient - self._error) / self._reads)

    @property
    def outside(self) -> Flags:
        """Which cells the window does not hold, (rows, columns)."""
        return np.abs(self._error) > self.window

    def turn(self) -> None:
        """Begin the second phase."""
        self._second = True
        self._side = self._error < 0 if self.geometry.pairs == 2 else ~self._side
        self._amplitude = np.zeros_like(self._amplitude)
        self._still = np.zeros_like(self._still)

    def pulse(self) -> Ints:
        """Return the pulses of a step as TARGETS of a `direct` PROGRAM, (rows, columns); 0 is none."""
        minor = self._second and self.geometry.pairs == 2
        self._pulsed = self.outside
        side, over = self._side, (self._error < 0) != self._side
        size = self._error * _G16_PER_CODE / (1 if minor else self.geometry.significance)
        size *= self.technology.number("step").one
        if self._melt:
            changed = np.clip(self._amplitude + np.where(side, -size, size), 0, G16_MAX)
            self._amplitude = np.where(self._pulsed, changed, self._amplitude)
            amplitude, down = self._amplitude, np.zeros_like(over)
        else:
            # As write-verify has it: the amplitude grows with each error while that keeps its sign.
            same = (over == self._over) & (self._amplitude > 0)
            wanted = np.abs(size) / (largest_move(self.technology) * GMAX_G16) * (1 << AMPLITUDE_FRACTION)
            amplitude = np.maximum(np.where(same, self._amplitude, 0.0) + wanted, self._least)
            amplitude = np.minimum(amplitude, G16_MAX)
            self._amplitude = np.where(self._pulsed, amplitude, self._amplitude)
            self._over = np.where(self._pulsed, over, self._over)
            down = over
        self._pulses = self._pulses + self._pulsed
        word = np.clip(np.rint(amplitude), 1, G16_MAX).astype(np.int64) | down << DIRECT_DOWN | minor << DIRECT_MINOR
        return np.where(self._pulsed, np.where(side, -word, word), 0)

    def outcomes(self) -> Ints:
        """Return how the cells ended, as OUTCOMES words (rows, columns): the sum is that of a verify."""
        sums = np.clip(np.rint((self._wanted - self._error) * self._counts), -(1 << 15), (1 << 15) - 1)
        none = np.zeros(sums.shape, np.int64)
        return Tally(sums.astype(np.int64), self._pulses, ~self.outside, self._unresponsive, none).words()
