"""The chip as its host sees it: registers, vectors in, results out; the bit-exact twin of `rtl/chip.py`.

Vectors are collected by `send` and computed together when a result is wanted, which changes no integer: every random
value is a function of its coordinates, and target time is kept in program order.
"""

from collections import deque

import numpy as np

from rtl.params import ROUTES, Geometry
from sim.core import Core
from sim.digital import DigitalUnit
from sim.fixed import Ints
from sim.mesh import Mesh
from sim.message import Message
from sim.port import Port

__all__ = ["Chip"]


class Chip:
    """A chip of one geometry, all registers zero and all devices at state zero."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.mesh = Mesh(geometry)
        self.port = Port(geometry)
        self.cores = [Core(geometry) for _ in range(geometry.engines)]
        self.digital = DigitalUnit(geometry)
        self.units: list[Port | Core | DigitalUnit] = [self.port, *self.cores, self.digital]

    def read(self, unit: int, region: int, offset: int) -> int:
        """Return the word at an address; addresses that do not exist read as 0."""
        if region == ROUTES:
            return self.mesh.read(unit, offset) if unit < self.geometry.nodes else 0
        if unit >= len(self.units):
            return 0
        self.port.hops = self.mesh.hops
        return self.units[unit].read(region, offset)

    def write(self, unit: int, region: int, offset: int, value: int) -> None:
        """Write the word at an address; writes to addresses that do not exist are lost."""
        self.flush()
        if region == ROUTES:
            if unit < self.geometry.nodes:
                self.mesh.write(unit, offset, value)
        elif unit < len(self.units):
            self.units[unit].write(region, offset, value)

    @property
    def credit(self) -> bool:
        """Whether another vector may be sent before a result is received."""
        return self.port.credit

    def send(self, body: bytes) -> None:
        """Take the body of a SEND request."""
        self.port.send(body)

    def receive(self) -> bytes | None:
        """Return the body of the next result, or None if every vector sent has been answered."""
        self.flush()
        return self.port.receive()

    def flush(self) -> None:
        """Compute every vector that was sent."""
        if messages := self.port.take():
            self._run(messages)

    def infer(self, events: Ints, times: Ints, activations: Ints) -> tuple[Ints, Ints]:
        """Return (elements (N, M), times (N,)) of N vectors at once, as sending and receiving each of them would."""
        self.flush()
        self._run(self.port.cut(np.asarray(events), np.asarray(times), np.asarray(activations)))
        return self.port.collect()

    def _run(self, messages: list[Message]) -> None:
        pending = deque((0, message) for message in messages)
        while pending:
            source, message = pending.popleft()
            for unit in self.mesh.deliver(source, message):
                pending.extend((unit, answer) for answer in self.units[unit].accept(message))
