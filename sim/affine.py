"""Codes to partial sums: a column's scale and bias."""

from typing import Any

import numpy as np

from rtl.params.formats import AFFINE_SHIFT, ELEMENT_BITS
from sim.fixed import Ints, round_shift, saturate


def affine(code: Any, scale: Any, bias: Any) -> Ints:
    """Return round(code * scale / 2**8) + bias, limited to 24 bits, of broadcast integers."""
    limit = 1 << (ELEMENT_BITS - 1)
    total = round_shift(np.asarray(code, np.int64) * scale, AFFINE_SHIFT) + bias
    result: Ints = saturate(total, -limit, limit - 1)
    return result
