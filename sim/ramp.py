"""The ramp converter: counts the ramp up and keeps each column's count when it trips."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.crossbar import trip
from sim.fixed import Ints


def ramp(charge: Any, gain: Any, offset: Any, code_max: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Return codes of complete charges (noise included) and which of them were limited, by counting."""
    shape = np.broadcast_shapes(np.shape(charge), np.shape(gain), np.shape(offset))
    codes, clipped = np.full(shape, code_max, np.int64), np.ones(shape, bool)
    waiting = np.ones(shape, bool)
    for level in range(-code_max, code_max + 2):
        now = waiting & trip(charge, gain, offset, level)
        codes[now] = max(level - 1, -code_max)
        clipped[now] = level == -code_max
        waiting &= ~now
    return codes, clipped
