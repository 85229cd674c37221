"""Number formats that no geometry changes, the coordinates of the hash, and the fixed tables.

Conductances have three forms. A *state* is what programming left behind, `state_bits` wide. *g16* is a conductance on
a common 16-bit scale that every table and target uses (a state is g16 without its low bits). A *code* is the 8-bit
present conductance that the engine multiplies. Full scale lies above Gmax, because programmed devices scatter past it.
"""

import enum
import functools
import itertools
from statistics import NormalDist
from typing import Any

ACTIVATION_BITS = 8
"""An activation: sign and 7-bit magnitude, in two's complement; -128 never occurs."""

ACTIVATION_MAX = 127
"""Largest magnitude of an activation, in ticks of the row pulse."""

ELEMENT_BITS = 24
"""A partial sum, and each element of a flit, signed."""

EVENT_BITS = 32
"""Index of a vector, which travels with it and is its coordinate in the hash."""

TIME_BITS = 48
"""Target time, in picoseconds since the start of a run."""

POSITION_BITS = 12
"""Place of a message among those that one vector sends on one route (a bit plane, a patch of a convolution)."""

CODE_BITS = 8
CODE_MAX = 255
"""Largest present conductance of one device."""

GMAX_CODE = 200
"""Present conductance of a device at Gmax: full scale is 1.275 Gmax."""

G16_BITS = 16
G16_MAX = (1 << G16_BITS) - 1
GMAX_G16 = GMAX_CODE << (G16_BITS - CODE_BITS)

ADC_GAIN_BITS = 20
ADC_SHIFT = 24
"""Code = round((charge + noise) * gain + offset), gain and offset in units of 2**-24 codes."""

MISMATCH_GAIN_BITS, MISMATCH_OFFSET_BITS = 12, 16
MISMATCH_GAIN_FRACTION, MISMATCH_OFFSET_FRACTION = 12, 8
"""Errors of one column's converter: of its gain, relative, in 2**-12, and of its offset, in 2**-8 codes; signed."""
MISMATCH_CUT = 4
"""Low bits of a gain that its error is not a share of, so that one hard multiplier takes the others."""

AFFINE_SCALE_BITS = 16
AFFINE_SHIFT = 8
"""Partial sum = round(code * scale / 2**8) + bias."""

GAUSS_BITS = 18
GAUSS_FRACTION = 14
"""A Gaussian sample: signed 18 bits, one sigma = 2**14."""

GAUSS_INDEX_BITS = 11
"""Bits of the hash that each of the two table reads of a Gaussian consumes: 10 of index, 1 of sign."""

NOISE_ROOT_FRACTION = 12
"""Fraction bits of a column's noise constant (charge per root of the sum of squared activations)."""

NORM_FRACTION = 4
"""Fraction bits of the root of the sum of squared activations."""

SIGMA_BITS = 18
SIGMA_FRACTION = 2
"""The standard deviation of one conversion, in charge units."""

NU_FRACTION = 16
"""Fraction bits of a drift exponent."""

LOG_TIME_FRACTION = 12
LOG_TIME_BITS = 18
"""log2((t + t0) / t0)."""

EXPONENT_FRACTION = 12
EXPONENT_BITS = 16
"""nu * log2((t + t0) / t0), saturated."""

EXP2_INDEX_BITS = 10
EXP2_BITS = 16
"""2**-fraction, read at the middle of each of 1,024 intervals, in units of 2**-16."""


class FlitKind(enum.IntEnum):
    """What the elements of a flit are."""

    HEADER = 0
    """Event (32 bits), target time (48 bits) and position (12 bits) of the message that follows on this route."""
    ACTIVATION = 1
    PARTIAL = 2


class Purpose(enum.IntEnum):
    """What a random value is for: the first coordinate of the hash."""

    READ = 1
    """White noise of an inference read: (position of its message, column), event = index of the vector."""
    VERIFY = 2
    """White noise of a verify read: (row, column), event = epoch, iteration, repeat."""
    PULSE = 3
    """Spread of a programming pulse (first word), and how near a train comes to a bound (second word, which also tells
    whether it wears): (row, column, device), event = epoch, iteration."""
    STATIC = 4
    """Relaxation (first word) and drift exponent (second word): (row, column, device), event = epoch."""
    FLICKER = 5
    """1/f noise of one age: (row, column, device), event = epoch, age."""
    PROBE = 6
    """White noise of a compensation probe: (probe, column), event = epoch, age, repeat. What is driven is part of the
    first coordinate (`probe_place`), so that different probes have different noise."""
    VARIATION = 7
    """What a device is born with: (row, column, device), event = 0. Bytes of the first word choose its step up, its
    step down and its endurance; the second word tells whether it is stuck."""
    CONVERTER = 8
    """Error of a column's converter, drawn by the host: (0, column), event = 0; of its gain (first word) and offset."""


ROW_SHIFT, COLUMN_SHIFT, DEVICE_SHIFT = 18, 4, 0
"""Places of row (14 bits), column (14 bits) and device (4 bits) in the first counter word."""

ITERATION_SHIFT, REPEAT_BITS, EPOCH_SHIFT, AGE_BITS = 4, 4, 24, 20
"""Event of a VERIFY: epoch << 24 | iteration << 4 | repeat; of a PULSE: epoch << 24 | iteration << 4, where
`iteration_coordinate` tells the iteration;
of a STATIC: epoch << 24; of a FLICKER: epoch << 24 | age << 4; of a PROBE: epoch << 24 | age << 4 | repeat."""

ITERATION_BITS = 9
"""Of the coordinate of an iteration."""

AMPLITUDE_FRACTION = 12
"""Fraction bits of the amplitude of a gradual pulse: 1 is the nominal one."""

SPREAD_BITS, SPREAD_SHIFT = (9, 11, 13, 15), 2
"""The spread of a unit is halved for each of these that an amplitude reaches; at amplitude 1 it is shifted so far."""

FLOOR_BITS = 12
"""Of the distance from a bound at which a train of gradual pulses may leave a device, g16."""

FLOOR_AMPLITUDE_BIT = 11
"""Pulses of an amplitude with this bit or a higher one are such a train."""

DIRECT_DOWN, DIRECT_MINOR = 16, 17
"""Bits of |target| of a `direct` pulse above its amplitude: it takes away; it is for the minor pair."""

VARIATION_FRACTION = 12
"""Fraction bits of what a device's steps are multiplied by."""

HASH_ROUNDS = 13
"""Rounds of Threefry-2x32 (Salmon et al., SC 2011): the fewest that pass BigCrush there."""


def hash_key(seed: int, purpose: int, chip: int, tile: int) -> tuple[int, int]:
    """Return the two 32-bit key words of the hash for 32-bit `seed`, 8-bit `chip` and 16-bit `tile`."""
    return seed & 0xFFFFFFFF, int(purpose) << 24 | (chip & 0xFF) << 16 | (tile & 0xFFFF)


def hash_counter(row: Any, column: Any, device: Any = 0) -> Any:
    """Return the first counter word; the second is the event. Works on integers and on numpy arrays."""
    return row << ROW_SHIFT | column << COLUMN_SHIFT | device << DEVICE_SHIFT


PLACE_BITS = 14
"""Row coordinate of the noise of a read: the row, the place of a probe, or the position of a message."""


def probe_place(row: Any, *, dense: Any, inference_range: Any, negative: Any, idle: Any) -> Any:
    """Return the row coordinate of the noise of a probe: the row, and what else tells probes apart."""
    return row | dense << 10 | inference_range << 11 | negative << 12 | idle << 13


def iteration_coordinate(iteration: Any, phase: Any) -> Any:
    """Return the coordinate of an iteration (8 bits) of the first or the second phase of PROGRAM (0 or 1)."""
    return iteration & 0x7F | phase << 7 | iteration >> 7 << 8


@functools.cache
def gaussian_table() -> tuple[int, ...]:
    """Return 1,024 positive values of N(0, 1/2) in units of 2**-14: two of them, signed, sum to N(0, 1).

    Each is the root of the mean square of one of 1,024 intervals of equal probability, so none of the variance is lost
    and little of the tails (within 9 % of the exact probability beyond 4 sigma).
    """
    size = 1 << (GAUSS_INDEX_BITS - 1)
    normal = NormalDist()
    edges = [normal.inv_cdf(0.5 + k / (2 * size)) for k in range(size)]
    squares = [normal.cdf(z) - z * normal.pdf(z) for z in edges] + [1.0]  # mean square of all that lies below an edge
    mean_squares = [(high - low) * 2 * size for low, high in itertools.pairwise(squares)]
    return tuple(round((0.5 * m) ** 0.5 * (1 << GAUSS_FRACTION)) for m in mean_squares)


@functools.cache
def exp2_table() -> tuple[int, ...]:
    """Return 2**-((k + 0.5) / 1024) in units of 2**-16 for k = 0..1023."""
    size = 1 << EXP2_INDEX_BITS
    return tuple(round(2.0 ** (-(k + 0.5) / size) * (1 << EXP2_BITS)) for k in range(size))
