"""The converter: a column's charge, with its read noise, to a code."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params.formats import (
    ADC_SHIFT,
    GAUSS_FRACTION,
    NOISE_ROOT_FRACTION,
    NORM_FRACTION,
    SIGMA_BITS,
    SIGMA_FRACTION,
)
from sim.fixed import Ints, isqrt, round_shift


def norm(activations: Any) -> Ints:
    """Return the root of the sum of squared activations over the last axis, rounded down, 4 fraction bits."""
    activations = np.asarray(activations, np.int64)
    return isqrt(np.einsum("...r,...r->...", activations, activations) << 2 * NORM_FRACTION)


def noise_charge(noise: Any, norm: Any, xi: Any) -> Ints:
    """Return round(sigma xi), the read noise of each conversion in charge units.

    Parameters
    ----------
    noise : noise constants of the columns, 12 fraction bits
    norm : roots of the sums of squared activations, 4 fraction bits
    xi : Gaussian samples, 14 fraction bits; all broadcast against each other
    """
    product = np.asarray(noise, np.int64) * np.asarray(norm, np.int64)
    sigma = np.minimum(product >> (NOISE_ROOT_FRACTION + NORM_FRACTION - SIGMA_FRACTION), (1 << SIGMA_BITS) - 1)
    result: Ints = round_shift(sigma * xi, SIGMA_FRACTION + GAUSS_FRACTION)
    return result


def convert(charge: Any, gain: Any, offset: Any, code_max: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Return codes of complete charges (noise included) and which of them were limited.

    Parameters
    ----------
    charge : integer array
    gain, offset : in units of 2**-24 codes per charge unit, and of 2**-24 codes
    code_max : int
        Largest magnitude of a code.
    """
    rounded = np.asarray(charge, np.int64) * gain
    rounded += np.asarray(offset + (1 << (ADC_SHIFT - 1)), np.int64)
    rounded >>= ADC_SHIFT
    code = np.clip(rounded, -code_max, code_max)
    return code, code != rounded
