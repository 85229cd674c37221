"""A device for tests of the link: registers in a dictionary, results made of what was sent, and a log of it all."""

import struct

DEAD_REGION = 9
"""Registers that never answer."""

COUNT_REGION = 5
"""Each read returns how many there have been before, as a counter that must not be read twice would."""


class FakeDevice:
    """Registers that do not exist read as their address; a result is the vector's header, then `stretch` copies."""

    def __init__(self, *, vectors: int = 3, stretch: int = 1) -> None:
        self.registers: dict[tuple[int, int, int], int] = {}
        self.log: list[tuple[object, ...]] = []
        self.results: list[bytes] = []
        self.sessions: list[int] = []
        """Length of the log when each began."""
        self.vectors, self.stretch = vectors, stretch
        self.reads = 0

    @property
    def credit(self) -> bool:
        return len(self.results) < self.vectors

    def read(self, unit: int, region: int, offset: int) -> int:
        if region == DEAD_REGION:
            raise TimeoutError
        self.log.append(("read", unit, region, offset))
        if region == COUNT_REGION:
            self.reads += 1
            return self.reads - 1
        return self.registers.get((unit, region, offset), unit << 24 | region << 20 | offset)

    def write(self, unit: int, region: int, offset: int, value: int) -> None:
        if region == DEAD_REGION:
            raise TimeoutError
        self.log.append(("write", unit, region, offset, value))
        self.registers[unit, region, offset] = value

    def send(self, packet: bytes) -> None:
        self.log.append(("send", packet))
        values = struct.unpack(f"{len(packet) - 10}b", packet[10:])
        self.results.append(packet[:10] + struct.pack(f"<{len(values)}i", *values) * self.stretch)

    def receive(self) -> bytes | None:
        if not self.results:
            return None
        self.log.append(("receive",))
        return self.results.pop(0)

    def new_session(self) -> None:
        self.sessions.append(len(self.log))
