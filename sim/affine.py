"""Codes to partial sums: a column's scale and bias."""

from typing import Any, NamedTuple

import numpy as np

from rtl.params.formats import AFFINE_SHIFT, ELEMENT_BITS
from sim.fixed import Narrow, operand, saturate

_LIMIT = 1 << (ELEMENT_BITS - 1)


class AffineWords(NamedTuple):
    """Scales and biases as they are multiplied and added: in 32 bits, and not limited after, where that is proven."""

    scale: Any
    bias: Any
    """8 fraction bits, with the half of rounding."""
    limited: bool
    """Whether a partial sum could leave 24 bits."""

    @classmethod
    def of(cls, scale: Any, bias: Any, code_max: int) -> "AffineWords":
        """Return the words of scales and biases as the registers have them, for codes up to `code_max`."""
        scale, shifted = np.asarray(scale, np.int64), (np.asarray(bias, np.int64) << AFFINE_SHIFT) + _HALF
        largest = int((np.abs(scale) * code_max + np.abs(shifted)).max(initial=0))
        kind = np.int32 if largest < 1 << 31 else np.int64
        return cls(scale.astype(kind), shifted.astype(kind), largest >= _LIMIT << AFFINE_SHIFT)


_HALF = 1 << AFFINE_SHIFT >> 1


def affine(code: Any, words: AffineWords) -> Narrow:
    """Return round(code * scale / 2**8) + bias, limited to 24 bits, of codes to whose shape the words broadcast."""
    total = code.astype(words.scale.dtype)
    total *= words.scale
    total += words.bias
    total >>= operand(AFFINE_SHIFT, total.dtype)
    if words.limited:
        total = saturate(total, -_LIMIT, _LIMIT - 1)
    result: Narrow = total.astype(np.int32, copy=False)
    return result
