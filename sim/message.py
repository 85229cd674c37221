"""What travels in the mesh: a batch of messages on one route, as the model passes it from unit to unit."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params import FlitKind
from sim.fixed import Ints

__all__ = ["Message", "in_turn", "served"]


@dataclasses.dataclass(kw_only=True, slots=True)
class Message:
    """N messages on one route, in the order they travel: `elements` is (N, words * W), `events`, `times` (ps) are (N,).

    `position`, (N,) or one for all, tells the messages of one vector apart.
    """

    route: int
    kind: FlitKind
    events: Ints
    times: Ints
    elements: NDArray[Any]
    position: Ints | int = 0

    def __post_init__(self) -> None:
        if not (self.elements.ndim == 2 and len(self.elements) == len(self.events) == len(self.times)):
            raise ValueError("elements must be (N, words * W) and events and times (N,)")


def served(arrived: Ints, free: int, latency: int) -> Ints:
    """Return when vectors (N,) leave a resource that takes them one after another: max(arrived, free) + latency each.

    `free` is when the resource is free for the first of them.
    """
    if len(arrived) == 1:
        return np.array([max(arrived.item(), free) + latency])
    before = np.arange(len(arrived), dtype=np.int64) * latency
    return np.maximum(np.maximum.accumulate(arrived - before), free) + before + latency


def in_turn(messages: list[Message]) -> list[Message]:
    """Return the messages with those of one route, each of N vectors, made one: vector after vector, as they travel.

    Messages of one route that differ in kind or words stay apart: no tile takes both, and a landing zone has no order.
    """
    if len(messages) == 1 or len({message.route for message in messages}) == len(messages):
        return messages
    by_route: dict[int, list[Message]] = {}
    for message in messages:
        by_route.setdefault(message.route, []).append(message)
    found: list[Message] = []
    for several in by_route.values():
        alike = len({(message.kind, message.elements.shape) for message in several}) == 1
        found += [_alternate(several)] if alike and len(several) > 1 else several
    return found


def _alternate(messages: list[Message]) -> Message:
    count, first = len(messages), messages[0]
    return dataclasses.replace(
        first, events=np.repeat(first.events, count), times=np.repeat(first.times, count),
        elements=np.stack([message.elements for message in messages], axis=1).reshape(-1, first.elements.shape[1]),
        position=np.tile([message.position for message in messages], len(first.events)))
