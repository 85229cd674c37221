"""A channel that spoils chosen frames, in either direction."""

import random
from collections.abc import Callable

from sim.link import Endpoint

Fault = Callable[[bytes], bytes]
"""What becomes of a frame, its closing zero included."""


def drop(frame: bytes) -> bytes:
    return b""


def duplicate(frame: bytes) -> bytes:
    return frame + frame


def corrupt(frame: bytes) -> bytes:
    k = len(frame) // 2
    return frame[:k] + bytes([frame[k] ^ 0x10 or 1]) + frame[k + 1:]


def truncate(frame: bytes) -> bytes:
    """Lose the end, zero included: the frame runs into the one after it."""
    return frame[:len(frame) // 2]


def cut(frame: bytes) -> bytes:
    """Lose some of the middle."""
    return frame[:len(frame) // 3] + frame[-2:]


FAULTS: tuple[Fault, ...] = (drop, duplicate, corrupt, truncate, cut)


class FaultyChannel:
    """Leads to an endpoint in this process; `choose` tells a frame's fault, given direction and number."""

    def __init__(self, endpoint: Endpoint, choose: Callable[[str, int], Fault | None]) -> None:
        self.endpoint = endpoint
        self.choose = choose
        self.counts = {"request": 0, "reply": 0}
        self.carried = bytearray()
        """All that reached the endpoint."""
        self._answered = bytearray()

    def _spoil(self, direction: str, payload: bytes) -> bytes:
        out = bytearray()
        *frames, rest = payload.split(b"\0")
        for frame in frames:
            if frame:
                fault = self.choose(direction, self.counts[direction])
                self.counts[direction] += 1
                out += fault(frame + b"\0") if fault else frame + b"\0"
            else:
                out += b"\0"
        return bytes(out) + rest

    def write(self, payload: bytes) -> None:
        received = self._spoil("request", payload)
        self.carried += received
        self._answered += self._spoil("reply", self.endpoint.exchange(received))

    def read(self, timeout: float) -> bytes:
        answered = bytes(self._answered)
        self._answered.clear()
        return answered

    def close(self) -> None:
        pass


class NoisyLine:
    """A channel that spoils frames at random both ways, or as `choose` says by direction and number."""

    def __init__(self, channel, choose):
        self.channel, self.choose = channel, choose
        self.counts = {"request": 0, "reply": 0}
        self.spoiled = 0
        self._parts = {"request": b"", "reply": b""}

    def _spoil(self, direction, payload):
        *frames, self._parts[direction] = (self._parts[direction] + payload).split(b"\0")
        out = bytearray()
        for frame in frames:
            fault = self.choose(direction, self.counts[direction]) if frame else None
            self.counts[direction] += bool(frame)
            self.spoiled += fault is not None
            out += fault(frame + b"\0") if fault else frame + b"\0"
        return bytes(out)

    def write(self, payload):
        self.channel.write(self._spoil("request", payload))

    def read(self, timeout):
        return self._spoil("reply", self.channel.read(timeout))

    def close(self):
        self.channel.close()


def at_random(seed):
    """Choose for some frames of a hundred one of the faults."""
    rng = random.Random(seed)
    return lambda _direction, _number: rng.choice(FAULTS) if rng.random() < 0.08 else None
