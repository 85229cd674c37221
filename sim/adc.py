"""The converter: a column's charge, with its read noise, to a code."""

import functools
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
    SIGMA_FRACTION,
)
from sim.fixed import Doubles, Floats, Ints, operand, saturate

_GAIN_SIGN, _OFFSET_SIGN = 1 << (MISMATCH_GAIN_BITS - 1), 1 << (MISMATCH_OFFSET_BITS - 1)
_SIGMA_UNIT = 1 << NOISE_ROOT_FRACTION + NORM_FRACTION - SIGMA_FRACTION
_CHARGE_UNIT = 1 << SIGMA_FRACTION + GAUSS_FRACTION
_NORM_UNIT = operand(1 << NORM_FRACTION, np.float64)
_HALF = operand(0.5, np.float64)


def norm(squares: Any) -> Doubles:
    """Return the root of a sum of squared activations, rounded down, in units of its 4 fraction bits.

    As `isqrt` of the sum with twice as many fraction bits: a power of four changes no rounding of a root.
    """
    root = np.sqrt(squares, dtype=np.float64)
    root *= _NORM_UNIT
    return np.floor(root, out=root)


def noise_factors(noise: Any) -> Doubles:
    """Return noise constants of columns, 12 fraction bits, as what they give sigma when a norm multiplies them."""
    return np.asarray(noise, np.float64) / _SIGMA_UNIT


def sample_factors(xi: Any) -> Doubles:
    """Return Gaussian samples, 14 fraction bits, as what sigma multiplies to give charge."""
    return np.asarray(xi, np.float64) / _CHARGE_UNIT


def noise_charge(sigma: Doubles, xi: Floats | Doubles) -> Doubles:
    """Return round(sigma xi), the read noise of each conversion in charge units.

    Parameters
    ----------
    sigma : `noise_factors` times norms, rounded down in place: 18 bits are left
    xi : `sample_factors`; of sigma's shape, or sigma broadcasts to it
    """
    np.floor(sigma, out=sigma)
    charge: Doubles = sigma * xi
    charge += _HALF
    return np.floor(charge, out=charge)


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


def convert(charge: Any, converters: Converters, code_max: int) -> tuple[Doubles, NDArray[np.bool_]]:
    """Return codes, whole numbers, of complete charges (noise included) and which of them were limited.

    Parameters
    ----------
    charge : whole numbers; an array of float64 is spoiled
    converters : broadcast against the charges
    code_max : int
        Largest magnitude of a code.
    """
    level = charge.astype(np.float64, copy=False)
    level *= converters.gain
    level += converters.offset
    np.floor(level, out=level)
    code = saturate(level, *_limits(code_max))
    return code, code != level


@functools.cache
def _limits(code_max: int) -> tuple[Doubles, Doubles]:
    return operand(-code_max, np.float64), operand(code_max, np.float64)
