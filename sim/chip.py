"""The chip as its host sees it: registers, vectors in, results out; the bit-exact twin of `rtl/chip.py`.

Vectors are collected by `send` and computed together when a result is wanted, which changes no integer: every random
value is a function of its coordinates, and target time is kept in program order.
"""

import struct
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params import ROUTES, Geometry
from sim.core import Core
from sim.digital import DigitalUnit
from sim.fixed import Ints
from sim.mesh import Mesh
from sim.message import Message
from sim.passage import FEW, Passage, Recorder
from sim.port import Port

__all__ = ["Chip"]

_HEAD = struct.Struct("<IIH")  # event, and target time as low word and high half-word


class Chip:
    """A chip of one geometry, all registers zero and all devices at state zero."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.mesh = Mesh(geometry)
        self.port = Port(geometry)
        self.cores = [Core(geometry) for _ in range(geometry.engines)]
        self.digital = DigitalUnit(geometry)
        self.units: list[Port | Core | DigitalUnit] = [self.port, *self.cores, self.digital]
        self._passage: Passage | None = None
        self._writes = (0, 0)  # of port and mesh, when it was recorded
        self._sent: list[tuple[int, int, bytes]] = []
        self._results: deque[bytes] = deque()
        self.landed: dict[int, NDArray[Any]] = {}
        """Elements (N, words * W) that the last batch brought to the digital unit, by route."""

    def read(self, unit: int, region: int, offset: int) -> int:
        """Return the word at an address; addresses that do not exist read as 0."""
        self.flush()
        if region == ROUTES:
            return self.mesh.read(unit, region, offset) if unit < self.geometry.nodes else 0
        if unit >= len(self.units):
            return 0
        self.port.hops = self.mesh.hops
        return self.units[unit].read(region, offset)

    def write(self, unit: int, region: int, offset: int, value: int) -> None:
        """Write the word at an address; writes to addresses that do not exist are lost."""
        self.flush()
        if region == ROUTES:
            if unit < self.geometry.nodes:
                self.mesh.write(unit, region, offset, value)
        elif unit < len(self.units):
            self.units[unit].write(region, offset, value)

    @property
    def credit(self) -> bool:
        """Whether another vector may be sent before a result is received."""
        outstanding = len(self._sent) + len(self._results)
        return outstanding < self.geometry.result_vectors and not self.port.batch.busy

    def send(self, body: bytes) -> None:
        """Take the body of a SEND request; too short a body is filled with zeros, one too long is cut."""
        event, low, high = _HEAD.unpack_from(body.ljust(_HEAD.size, b"\0"))
        self._sent.append((event, low | high << 32, self._fitted(body[_HEAD.size:])))

    def _fitted(self, activations: bytes) -> bytes:
        return activations[:self.port.vector].ljust(self.port.vector, b"\0")

    def new_session(self) -> None:
        """End a replay: whoever began it is gone."""
        self.flush()
        self.port.batch.stop()

    def receive(self) -> bytes | None:
        """Return the body of the next result, or None if every vector sent has been answered."""
        self.flush()
        if not self._results:
            return None
        self.port.taken(1)
        return self._results.popleft()

    def flush(self) -> None:
        """Compute every vector that was sent, and those of a replay whose results have room."""
        batch = self.port.batch
        due = 0 if self._sent or len(self._results) > batch.outstanding else batch.due()
        if due:
            events, vectors = batch.start(due)
            self._sent = [(event, 0, self._fitted(vector.tobytes()))
                          for event, vector in zip(events.tolist(), vectors, strict=True)]
        if not self._sent:
            return
        sent, self._sent = self._sent, []
        activations = np.frombuffer(b"".join(item[2] for item in sent), np.int8).reshape(len(sent), -1)
        elements, times = self._infer(np.array([item[0] for item in sent], np.int64),
                                      np.array([item[1] for item in sent], np.int64), activations)
        for (event, _, _), time, row in zip(sent, times.tolist(), elements.astype("<i4"), strict=True):
            self._results.append(_HEAD.pack(event, time & 0xFFFFFFFF, time >> 32) + row.tobytes())

    def infer(self, events: Ints, times: Ints, activations: NDArray[Any]) -> tuple[NDArray[Any], Ints]:
        """Return (elements (N, M), times (N,)) of N vectors at once, as sending and receiving each of them would."""
        found = self._infer(events, times, activations)
        self.port.taken(len(events))
        return found

    def _infer(self, events: Ints, times: Ints, activations: NDArray[Any]) -> tuple[NDArray[Any], Ints]:
        messages = self.port.send(events, times, activations)
        if len(events) >= FEW:
            return self._walk(messages, None)
        writes = self.port.writes, self.mesh.writes
        if self._passage is None or writes != self._writes or self.port.available or not self._passage.holds():
            self._passage, self._writes = None, writes
            return self._walk(messages, Recorder(messages))
        passage = self._passage
        found = passage.through(messages)
        self.mesh.hops += passage.hops * len(events)
        self.landed = {route: found[number][0] for route, number in passage.landed}
        return found[passage.result]

    def _walk(self, messages: list[Message], recorder: Recorder | None) -> tuple[NDArray[Any], Ints]:
        """Bring messages that the port sends, and those that answer them, from unit to unit; return the result."""
        landed: list[Message] = []
        hops, sent = self.mesh.hops, {0: messages}
        while sent:
            arrived = self._arrived(sent)
            landed += arrived.get(self.geometry.digital_unit, ())
            sent = {}
            for unit, taken in arrived.items():
                course = None if recorder is None else self.units[unit].course(taken)
                if answers := self.units[unit].accept(*taken):
                    sent[unit] = answers
                if recorder is not None and unit:
                    recorder.add(course, taken, answers)
        self.landed = {message.route: message.elements for message in landed}
        result = self.port.receive()
        if recorder is not None and not self.port.available:
            self._passage = recorder.passage(result, landed, self.mesh.hops - hops)
        return result.elements, result.times

    def _arrived(self, sent: dict[int, list[Message]]) -> dict[int, list[Message]]:
        """Return the messages that come to each unit, of those that units sent."""
        transport = self.geometry.transport
        arrived: dict[int, list[Message]] = {}
        for source, messages in sent.items():
            for message in messages:
                vectors, elements = message.elements.shape
                for unit in self.mesh.deliver(source, message.route, vectors * (1 + elements // transport)):
                    arrived.setdefault(unit, []).append(message)
        return arrived
