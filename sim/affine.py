"""Codes to partial sums: a column's scale and bias."""

from typing import Any

import numpy as np

from rtl.params.formats import AFFINE_SHIFT, ELEMENT_BITS
from sim.fixed import Narrow, round_shift, saturate


def affine(code: Any, scale: Any, bias: Any) -> Narrow:
    """Return round(code * scale / 2**8) + bias, limited to 24 bits, of broadcast integers."""
    limit = 1 << (ELEMENT_BITS - 1)
    total = round_shift(np.multiply(code, scale), AFFINE_SHIFT)  # 28 bits at most, and with the bias still
    total += bias
    result: Narrow = saturate(total, -limit, limit - 1)
    return result
