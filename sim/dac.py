"""The converters at the rows: an activation to a pulse's duration and path."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params.formats import ACTIVATION_MAX
from sim.fixed import Floats, Ints


def sign_magnitude(activations: Any) -> tuple[Ints, Ints]:
    """Return (path, ticks): 1 where the row takes its paths the other way round, and its duration, 0 to 127."""
    activations = np.asarray(activations, np.int64)
    return (activations < 0).astype(np.int64), np.abs(activations)


def word_sums(activations: Any, parts: Floats) -> tuple[Floats, Floats]:
    """Return the sums of |a| and of a * a over parts of the last axis, each of at most 1,024 activations.

    `parts`, (activations, parts), is 1 where an activation belongs to a part; a product sums faster than a sum does.
    """
    exact: Floats = np.asarray(activations, np.float32)  # neither sum passes 127 * 127 * 1,024 < 2**24
    ticks: Floats = np.abs(exact).dot(parts)
    squares: Floats = np.square(exact).dot(parts)
    return ticks, squares


def pulses(activations: Any) -> NDArray[np.bool_]:
    """Return the pulse lines, (..., rows) -> (..., 127 ticks, rows): a row with |a| = n is high in the first n."""
    _, ticks = sign_magnitude(activations)
    result: NDArray[np.bool_] = np.arange(ACTIVATION_MAX)[:, None] < ticks[..., None, :]
    return result
