"""aihwkit's default converters around a tile, in floating point: to compare emulated devices with its results.

After its C++ engine (`rpu_forward_backward_pass.cpp`, read at commit 4545f11): 7 bits in, 9 bits out within a bound,
noise of each output and of each read device, inputs scaled to their largest, halved while an output is out of bounds.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["read"]

Singles = NDArray[np.float32]

_OUTPUT_NOISE, _READ_NOISE = np.float32(0.06), np.float32(0.0175)
_OUTPUT_BOUND = np.float32(12)
_OUTPUT_STEP = 2 * _OUTPUT_BOUND * np.float32(1 / 510)
_INPUT_STEP = 2 * np.float32(1 / 126)
"""In single precision half of the largest input is 31.499998 of these, and becomes 31 where doubles give 32. Of the
digits' light 4.8 % has that value."""
_MOST_REDUCTION = np.float32(0.25) / _INPUT_STEP


def read(x: NDArray[np.floating], weights: NDArray[np.floating], rng: np.random.Generator) -> Singles:
    """Return x (N, rows) @ weights (rows, columns; of the largest), converted; without any input it is exactly 0."""
    inputs, w = np.asarray(x, np.float32), np.asarray(weights, np.float32)
    magnitudes = np.abs(w)
    largest = np.abs(inputs).max(axis=1, keepdims=True)
    y = np.zeros((len(inputs), w.shape[1]), np.float32)
    todo, reduction = np.flatnonzero(largest), np.float32(1)
    while len(todo):
        part = np.rint(inputs[todo] * (1 / largest[todo] / reduction) / _INPUT_STEP) * _INPUT_STEP
        variance = _OUTPUT_NOISE**2 + _READ_NOISE**2 * (part * part @ magnitudes)
        got = part @ w + np.sqrt(variance) * rng.standard_normal(variance.shape, np.float32)
        got = np.rint(got / _OUTPUT_STEP) * _OUTPUT_STEP
        y[todo] = np.clip(got, -_OUTPUT_BOUND, _OUTPUT_BOUND) * reduction
        again = (np.abs(got) > _OUTPUT_BOUND).any(axis=1) & (reduction <= _MOST_REDUCTION)
        todo, reduction = todo[again], 2 * reduction
    return y * largest
