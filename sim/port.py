"""The port as the model sees it: vectors become messages by the plan, messages become results."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params import ACTIVATION_MAX, POSITION_BITS, FlitKind, Geometry, PortRegion
from sim.batch import Batch
from sim.fixed import Ints
from sim.message import Message, in_turn

SEGMENTS = 63
"""Most messages a vector can be cut into."""

_WORDS, _POSITION = 8, 16
"""Places of the words and of the position in an entry of the plan."""

_COUNTERS = ("sent", "received", "cycles", "hops")


class Port:
    """Unit 0: cuts sent vectors into messages and keeps results until they are taken.

    Attributes
    ----------
    sent, received : vectors accepted, results handed out
    hops : flits that crossed a link; whoever moves the messages counts them here
    batch : vectors that were loaded, and their replay
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.batch = Batch(geometry)
        self.writes = 0
        """Registers and entries of the plan written since power-up."""
        self.window = 1
        self.segments = 0
        self.plan = np.zeros(SEGMENTS + 1, np.int64)
        self.sent = self.received = self.hops = 0
        self.cycles = 0
        """Always 0: the model has no clock."""
        self._results: deque[Message] = deque()
        self._cuts: list[tuple[int, slice, int]] = []
        """Route, elements and position of each message of a vector, as planned."""

    def write(self, region: int, offset: int, value: int) -> None:
        """Write a register, an entry of the plan or a word of the batch; anything else is ignored."""
        if region == PortRegion.REGISTERS and offset == 0:
            self.window = value & 0xF
        elif region == PortRegion.REGISTERS and offset == 1:
            self.segments = value & 0x3F
        elif region == PortRegion.PLAN and offset < len(self.plan):
            self.plan[offset] = value & ((1 << _POSITION + POSITION_BITS) - 1)
        else:
            self.batch.write(region, offset, value)
            return
        self.writes += 1
        self._cuts = []
        first = 0
        for entry in self.plan[:self.segments].tolist():
            last = first + (entry >> _WORDS & 0xFF) * self.geometry.transport
            self._cuts.append((entry & 0x3F, slice(first, last), entry >> _POSITION))
            first = last

    def read(self, region: int, offset: int) -> int:
        """Read a register, a half of a counter or an entry of the plan; anything else reads as 0."""
        if region == PortRegion.REGISTERS:
            return (self.window, self.segments)[offset] if offset < 2 else self.batch.read(offset)
        if region == PortRegion.COUNTERS and offset < 2 * len(_COUNTERS):
            return int(getattr(self, _COUNTERS[offset // 2])) >> 32 * (offset % 2) & 0xFFFFFFFF
        if region == PortRegion.PLAN and offset < len(self.plan):
            return int(self.plan[offset])
        return 0

    @property
    def vector(self) -> int:
        """Activations of one sent vector, padding included."""
        return self._cuts[-1][1].stop if self._cuts else 0

    def send(self, events: Ints, times: Ints, activations: NDArray[Any]) -> list[Message]:
        """Cut N vectors into messages, one for each segment of the plan; those of one route come in one batch.

        Parameters
        ----------
        events, times : (N,), times in ps
        activations : (N, vector), -127 to 127, in the order of the plan, padded to whole words by the caller

        Raises
        ------
        ValueError
            If the plan is empty, or the activations do not fill it exactly or exceed their range.
        """
        activations = np.asarray(activations)
        if self.segments == 0:
            raise ValueError("the port has no plan: its segments are 0")
        if activations.ndim != 2 or activations.shape[1] != self.vector:
            raise ValueError(f"activations must be (N, {self.vector}) as planned, not {activations.shape}")
        if np.count_nonzero(activations > ACTIVATION_MAX) or np.count_nonzero(activations < -ACTIVATION_MAX):
            raise ValueError(f"activations must be -{ACTIVATION_MAX} to {ACTIVATION_MAX}")
        events, times = np.asarray(events, np.int64), np.asarray(times, np.int64)
        messages = []
        for route, part, position in self._cuts:
            if part.start == part.stop:
                raise ValueError(f"the segment of route {route} must have at least one word")
            messages.append(Message(route=route, kind=FlitKind.ACTIVATION, events=events, times=times,
                                    elements=activations[:, part], position=position))
        self.sent += len(activations)
        return in_turn(messages)

    def accept(self, *messages: Message) -> list[Message]:
        """Keep results until they are taken; a port emits nothing in return."""
        self._results.extend(messages)
        return []

    def course(self, messages: list[Message]) -> None:
        """Return None: results end here."""

    @property
    def available(self) -> bool:
        """True if a batch of results waits."""
        return bool(self._results)

    def receive(self) -> Message:
        """Hand out the oldest batch of results.

        Raises
        ------
        ValueError
            If there is none.
        """
        if not self._results:
            raise ValueError("no result is ready")
        return self._results.popleft()

    def taken(self, count: int) -> None:
        """Results have been handed out: those of a replay first, if there are any."""
        self.received += count
        self.batch.outstanding = max(0, self.batch.outstanding - count)
