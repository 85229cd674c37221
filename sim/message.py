"""What travels in the mesh: a batch of vectors on one route, as the model passes it from unit to unit."""

import dataclasses

import numpy as np

from rtl.params import FlitKind
from sim.fixed import Ints


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message:
    """N vectors on one route: `elements` is (N, words * W), `events` and `times` (ps) are (N,).

    `position` tells messages of one vector on one route apart.
    """

    route: int
    kind: FlitKind
    events: Ints
    times: Ints
    elements: Ints
    position: int = 0

    def __post_init__(self) -> None:
        if not (np.ndim(self.elements) == 2 and len(self.events) == len(self.times) == len(self.elements)):
            raise ValueError("elements must be (N, words * W) and events and times (N,)")
