"""Codes to partial sums: a column's scale and bias."""

from typing import Any, NamedTuple

import numpy as np

from rtl.params.formats import AFFINE_SHIFT, ELEMENT_BITS
from sim.fixed import Doubles, Narrow, operand, saturate

_MIN, _MAX = (operand(limit, np.float64) for limit in (-(1 << ELEMENT_BITS - 1), (1 << ELEMENT_BITS - 1) - 1))


class AffineWords(NamedTuple):
    """Scales and biases as they are multiplied and added; partial sums are not limited where that is proven."""

    scale: Doubles
    """Partial sum per code: 8 fraction bits."""
    bias: Doubles
    """With the half of rounding."""
    limited: bool
    """Whether a partial sum could leave 24 bits."""

    @classmethod
    def of(cls, scale: Any, bias: Any, code_max: int) -> "AffineWords":
        """Return the words of scales and biases as the registers have them, for codes up to `code_max`."""
        scale, bias = np.asarray(scale, np.float64) / (1 << AFFINE_SHIFT), np.asarray(bias, np.float64) + 0.5
        largest = (np.abs(scale) * code_max + np.abs(bias)).max(initial=0)
        return cls(scale, bias, bool(largest > _MAX))


def affine(code: Any, words: AffineWords) -> Narrow:
    """Return round(code * scale / 2**8) + bias, limited to 24 bits, of codes that broadcast against the words."""
    total = code * words.scale
    total += words.bias
    np.floor(total, out=total)
    if words.limited:
        total = saturate(total, _MIN, _MAX)
    result: Narrow = total.astype(np.int32)
    return result
