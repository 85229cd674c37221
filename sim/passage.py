"""The way of vectors through a chip, kept: what takes their messages, one after another, and what it takes.

A few vectors cost more for finding the way than for what is computed on it. It is the same for every vector until
something is written: it is recorded while messages are brought from unit to unit, and each step tells whether it still
holds. Batches differ from single vectors in nothing else.
"""

from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from sim.fixed import Ints
from sim.message import Message

__all__ = ["FEW", "Course", "Passage", "Recorder", "Sent"]

FEW = 32
"""Vectors from which on finding the way costs little."""

Sent = tuple[NDArray[Any], Ints]
"""Elements (N, words * W) and times (N,) of N messages on one route."""


class Course(Protocol):
    """What a unit does with messages of the same vectors that come together."""

    def holds(self) -> bool:
        """Tell whether `accept` would do the same as when this was made."""

    def through(self, events: Ints, taken: list[Sent]) -> list[Sent]:
        """Do what `accept` does with messages (in the order in which they came then); return what it sends."""


class Passage(NamedTuple):
    """All steps of vectors from the port to their result.

    Messages have numbers: those of the port first, then those that each step sends.
    """

    steps: list[tuple[Course, list[int]]]
    """With the messages that each takes."""
    landed: list[tuple[int, int]]
    """Route and message of what comes to the digital unit."""
    result: int
    hops: int
    """Links that the flits of a vector cross."""

    def holds(self) -> bool:
        """Tell whether vectors still go this way, as far as the units know that they go through."""
        return all(course.holds() for course, _ in self.steps)

    def through(self, messages: list[Message]) -> list[Sent]:
        """Bring what the port sent to its end; return all messages by their numbers."""
        events = messages[0].events
        sent = [(message.elements, message.times) for message in messages]
        for course, taken in self.steps:
            sent += course.through(events, [sent[k] for k in taken])
        return sent


class Recorder:
    """Makes a passage of what units take and send, unless one of them has no course for it."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = list(messages)  # keeps them: an object's id is its own as long as it lives
        self._numbers = {id(message): k for k, message in enumerate(messages)}
        self._steps: list[tuple[Course, list[int]]] | None = []

    def add(self, course: Course | None, taken: list[Message], sent: list[Message]) -> None:
        """Take note of a step."""
        if course is None or self._steps is None:
            self._steps = None
            return
        self._steps.append((course, [self._numbers[id(message)] for message in taken]))
        for message in sent:
            self._numbers[id(message)] = len(self._messages)
            self._messages.append(message)

    def passage(self, result: Message, landed: list[Message], hops: int) -> Passage | None:
        """Return the passage of vectors that gave a result and landed these in the digital unit, if they have one."""
        if self._steps is None:
            return None
        return Passage(self._steps, [(message.route, self._numbers[id(message)]) for message in landed],
                       self._numbers[id(result)], hops // len(result.events))
