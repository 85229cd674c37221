"""Fixed-point arithmetic on integer arrays, with the same names and the same meaning as `rtl/fixed.py`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def round_shift(value: Any, shift: int) -> Any:
    """Return floor((value + 2**(shift - 1)) / 2**shift), the one rounding rule."""
    return value if shift == 0 else (value + (1 << (shift - 1))) >> shift


def saturate(value: Any, low: int, high: int) -> Any:
    """Return value limited to low...high."""
    return np.clip(value, low, high)


def isqrt(value: Any) -> Ints:
    """Return the integer square root, rounded down, of values below 2**52."""
    value = np.asarray(value, np.int64)
    root = np.sqrt(value.astype(np.float64)).astype(np.int64)
    root -= root * root > value
    root += (root + 1) * (root + 1) <= value
    return root
