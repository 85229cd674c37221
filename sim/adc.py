"""The converter: a column's charge, with its read noise, to a code."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params.formats import (
    ADC_GAIN_BITS,
    ADC_SHIFT,
    GAUSS_BITS,
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
)
from sim.fixed import Ints, Narrow, isqrt, round_shift, saturate

_GAIN_SIGN, _OFFSET_SIGN = 1 << (MISMATCH_GAIN_BITS - 1), 1 << (MISMATCH_OFFSET_BITS - 1)
_SIGMA_MAX = (1 << SIGMA_BITS) - 1
_NARROW_SIGMA = (1 << 31) // (1 << (GAUSS_BITS - 1)) - 1
"""Up to here sigma * xi and half a unit of its rounding fit 32 bits."""


def norm(squares: Ints) -> Ints:
    """Return the root of a sum of squared activations, rounded down, 4 fraction bits."""
    return isqrt(squares << 2 * NORM_FRACTION)


def noise_charge(noise: Any, norm: Any, xi: Any) -> Any:
    """Return round(sigma xi), the read noise of each conversion in charge units, int32.

    Parameters
    ----------
    noise : noise constants of the columns, 12 fraction bits
    norm : roots of the sums of squared activations, 4 fraction bits
    xi : Gaussian samples, 14 fraction bits; all broadcast against each other
    """
    sigma = np.multiply(noise, norm, dtype=np.uint32, casting="unsafe")  # 16 bits by 16 bits
    sigma >>= NOISE_ROOT_FRACTION + NORM_FRACTION - SIGMA_FRACTION
    if sigma.max() <= _NARROW_SIGMA:
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


def convert(charge: Any, gain: Any, offset: Any, code_max: int) -> tuple[Narrow, NDArray[np.bool_]]:
    """Return codes of complete charges (noise included) and which of them were limited.

    Parameters
    ----------
    charge : integer array
    gain, offset : in units of 2**-24 codes per charge unit, and of 2**-24 codes
    code_max : int
        Largest magnitude of a code.
    """
    product = np.multiply(charge, gain, dtype=np.int64)
    product += offset + (1 << (ADC_SHIFT - 1))
    product >>= ADC_SHIFT
    rounded = product.astype(np.int32)
    code = saturate(rounded, -code_max, code_max)
    return code, code != rounded
