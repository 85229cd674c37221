"""The converter: a column's charge, with its read noise, to a code."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtl.params.formats import (
    ADC_GAIN_BITS,
    ADC_SHIFT,
    GAUSS_FRACTION,
    MISMATCH_CUT,
    MISMATCH_GAIN_BITS,
    MISMATCH_GAIN_FRACTION,
    MISMATCH_OFFSET_BITS,
    MISMATCH_OFFSET_FRACTION,
    NOISE_ROOT_FRACTION,
    NORM_FRACTION,
    SIGMA_BITS,
    SIGMA_FRACTION,
    gaussian_table,
)
from sim.fixed import Doubles, Ints, Narrow, Words, operand, round_shift, saturate

_GAIN_SIGN, _OFFSET_SIGN = 1 << (MISMATCH_GAIN_BITS - 1), 1 << (MISMATCH_OFFSET_BITS - 1)
_SIGMA_MAX = (1 << SIGMA_BITS) - 1
_SIGMA_SHIFT = NOISE_ROOT_FRACTION + NORM_FRACTION - SIGMA_FRACTION
_NARROW_SIGMA = (1 << 31) // (2 * max(gaussian_table()) + 1) - 1
"""Up to here sigma * xi and half a unit of its rounding fit 32 bits."""


def norm(squares: Any) -> Words:
    """Return the root of a sum of squared activations, rounded down, 4 fraction bits.

    As `isqrt` of the sum with twice as many fraction bits: a power of four changes no rounding of a root.
    """
    root = np.sqrt(squares, dtype=np.float64)
    root *= operand(1 << NORM_FRACTION, np.float64)
    return root.astype(np.uint32)


def is_narrow(noise: int, norm: int) -> bool:
    """Tell whether `noise_charge` of constants and norms up to these can be computed in 32 bits."""
    return noise * norm >> _SIGMA_SHIFT <= _NARROW_SIGMA


def noise_charge(noise: Any, norm: Any, xi: Any, *, narrow: bool = False) -> Any:
    """Return round(sigma xi), the read noise of each conversion in charge units, int32.

    Parameters
    ----------
    noise : noise constants of the columns, 12 fraction bits
    norm : roots of the sums of squared activations, 4 fraction bits
    xi : Gaussian samples, 14 fraction bits; all broadcast against each other
    narrow : what `is_narrow` says of the largest of them
    """
    sigma = np.asarray(noise, np.uint32) * np.asarray(norm, np.uint32)  # 16 bits by 16 bits
    sigma >>= operand(_SIGMA_SHIFT, np.uint32)
    if narrow:
        return round_shift(sigma.view(np.int32) * xi, SIGMA_FRACTION + GAUSS_FRACTION)
    limited = np.minimum(sigma, _SIGMA_MAX).astype(np.int64)
    return round_shift(limited * xi, SIGMA_FRACTION + GAUSS_FRACTION).astype(np.int32)


def mismatched(gain: Any, offset: Any, words: Any) -> tuple[Ints, Ints]:
    """Return gain and offset of converters with errors, `words` as the registers `mismatch` have them."""
    words = np.asarray(words, np.int64)
    of_gain = (words >> MISMATCH_OFFSET_BITS ^ _GAIN_SIGN) - _GAIN_SIGN
    of_offset = (words & (1 << MISMATCH_OFFSET_BITS) - 1 ^ _OFFSET_SIGN) - _OFFSET_SIGN
    change = (gain >> MISMATCH_CUT) * of_gain >> (MISMATCH_GAIN_FRACTION - MISMATCH_CUT)
    return (saturate(gain + change, 0, (1 << ADC_GAIN_BITS) - 1),
            offset + (of_offset << ADC_SHIFT - MISMATCH_OFFSET_FRACTION))


class Converters(NamedTuple):
    """What converters multiply and add, in codes: 24 fraction bits and at most 50 bits after every step."""

    gain: Doubles
    offset: Doubles
    """With the half code of rounding."""

    @classmethod
    def of(cls, gain: Any, offset: Any) -> "Converters":
        """Return converters of a gain (2**-24 codes per charge unit) and an offset (2**-24 codes)."""
        unit = 1 << ADC_SHIFT
        return cls(np.asarray(gain, np.float64) / unit, np.asarray(offset, np.float64) / unit + 0.5)


def convert(charge: Any, converters: Converters, code_max: int) -> tuple[Narrow, NDArray[np.bool_]]:
    """Return codes of complete charges (noise included) and which of them were limited.

    Parameters
    ----------
    charge : integer array
    converters : broadcast against the charges
    code_max : int
        Largest magnitude of a code.
    """
    level = charge.astype(np.float64)
    level *= converters.gain
    level += converters.offset
    rounded = np.floor(level, out=level).astype(np.int32)
    code = saturate(rounded, operand(-code_max, np.int32), operand(code_max, np.int32))
    return code, code != rounded
