"""Fixed-point arithmetic on integer arrays, with the same names and the same meaning as `rtl/fixed.py`."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Narrow = NDArray[np.int32]
"""Integers whose range is proven to fit: half the memory, twice the speed."""

Floats = NDArray[np.float32]
"""Integers up to 2**24 in magnitude, which single precision holds exactly."""

Doubles = NDArray[np.float64]
"""Whole numbers and binary fractions of at most 53 bits, which double precision holds exactly."""

Words = NDArray[np.uint32]


@functools.cache
def operand(value: int, kind: Any) -> NDArray[Any]:
    """Return a number as an operand for arrays of a type: numpy takes it in half the time of a Python integer."""
    return np.array(value, kind)


def round_shift(value: Any, shift: int) -> Any:
    """Return floor((value + 2**(shift - 1)) / 2**shift), the one rounding rule."""
    if shift == 0:
        return value
    if isinstance(value, np.ndarray):
        total = value + operand(1 << (shift - 1), value.dtype)
        total >>= operand(shift, value.dtype)
        return total
    return value + (1 << (shift - 1)) >> shift


def saturate(value: Any, low: Any, high: Any) -> Any:
    """Return value limited to low...high."""
    limited = np.maximum(value, low)
    return np.minimum(limited, high, out=limited if isinstance(limited, np.ndarray) else None)


def isqrt(value: Any) -> Ints:
    """Return the integer square root, rounded down, of values below 2**52.

    There the root of k * k - 1 lies further below k than two doubles lie apart, so rounding never takes it up to k.
    """
    root: Ints = np.sqrt(np.asarray(value, np.float64)).astype(np.int64)
    return root
