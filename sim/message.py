"""What travels in the mesh: a batch of vectors on one route, as the model passes it from unit to unit."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params import FlitKind
from sim.fixed import Ints


@dataclasses.dataclass(kw_only=True, slots=True)
class Message:
    """N vectors on one route: `elements` is (N, words * W), `events` and `times` (ps) are (N,).

    `position` tells messages of one vector on one route apart.
    """

    route: int
    kind: FlitKind
    events: Ints
    times: Ints
    elements: NDArray[Any]
    position: int = 0

    def __post_init__(self) -> None:
        if not (self.elements.ndim == 2 and len(self.events) == len(self.times) == len(self.elements)):
            raise ValueError("elements must be (N, words * W) and events and times (N,)")


def served(arrived: Ints, free: int, latency: int) -> Ints:
    """Return when vectors (N,) leave a resource that takes them one after another: max(arrived, free) + latency each.

    `free` is when the resource is free for the first of them.
    """
    if len(arrived) == 1:
        return np.maximum(arrived, free) + latency
    before = np.arange(len(arrived), dtype=np.int64) * latency
    return np.maximum(np.maximum.accumulate(arrived - before), free) + before + latency
