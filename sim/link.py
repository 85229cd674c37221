"""The device end of the host link over any device that can be read, written, sent to and received from."""

import contextlib
import struct
import zlib
from collections.abc import Iterator
from typing import Protocol

from cobs import cobs

from rtl.params import Geometry, geometry_hash
from rtl.params.protocol import (
    CRC_BYTES,
    HEADER_BYTES,
    HEADER_FORMAT,
    IDENTIFY_FIELDS,
    MAGIC,
    PROTOCOL_VERSION,
    READ_FORMAT,
    READ_WORDS,
    REPLY_BYTES,
    REQUEST_BYTES,
    VECTOR_BYTES,
    WINDOW,
    WRITE_FORMAT,
    Opcode,
    Status,
)
from rtl.params.registers import REGION_SHIFT, UNIT_SHIFT

__all__ = ["Device", "Endpoint", "frame", "unframe"]

_OFFSETS = (1 << REGION_SHIFT) - 1
_NEVER_ANSWERS = (TimeoutError, ArithmeticError, LookupError, MemoryError, ValueError)
"""What a device may raise. The model refuses to compute what no chip defines (a route without end, a program without a
last instruction, rows beyond a tile); to the host that is a register that never answers, or a result that never comes.
"""
_REGIONS = (1 << UNIT_SHIFT - REGION_SHIFT) - 1


class Device(Protocol):
    """What an `Endpoint` needs. `read` and `write` may raise TimeoutError, as a register that never answers."""

    @property
    def credit(self) -> bool:
        """Whether `send` is welcome now."""

    def read(self, unit: int, region: int, offset: int) -> int:
        """Return a word, 0 to 2**32 - 1."""

    def write(self, unit: int, region: int, offset: int, value: int) -> None:
        """Write a word."""

    def send(self, packet: bytes) -> None:
        """Accept a vector, as the body of SEND."""

    def receive(self) -> bytes | None:
        """Return the next result, as the body of the reply to RECEIVE, or None."""

    def new_session(self) -> None:
        """Be told that another session begins."""


def frame(code: int, sequence: int, session: int, body: bytes = b"") -> bytes:
    """Return the bytes on the line of one request or reply, closing zero included."""
    plain = struct.pack(HEADER_FORMAT, code, sequence, len(body), session) + body
    return cobs.encode(plain + struct.pack("<I", zlib.crc32(plain))) + b"\0"


def unframe(coded: bytes) -> tuple[int, int, int, bytes] | None:
    """Return code, sequence, session and body of a frame without its closing zero, or None if any of it is wrong."""
    try:
        plain = cobs.decode(coded)
    except cobs.DecodeError:
        return None
    if len(plain) < HEADER_BYTES + CRC_BYTES:
        return None
    code, sequence, length, session = struct.unpack_from(HEADER_FORMAT, plain)
    end = len(plain) - CRC_BYTES
    if length != end - HEADER_BYTES or zlib.crc32(plain[:end]) != int.from_bytes(plain[end:], "little"):
        return None
    return code, sequence, session, plain[HEADER_BYTES:end]


class Endpoint:
    """Answers the requests of the host link as `rtl.link.Link` does, byte for byte.

    Parameters
    ----------
    device
        What is read, written, sent to and received from.
    geometry
        Named to the host by its hash.
    """

    def __init__(self, device: Device, geometry: Geometry) -> None:
        self.device = device
        self.geometry_hash = geometry_hash(geometry)
        self._addresses = 1 << UNIT_SHIFT + geometry.unit_bits
        self.digest = 0
        self.commands = 0
        self._coded = bytearray()
        self._session: int | None = None
        self._executed = 0
        self._kept: dict[int, tuple[Status, bytes]] = {}
        self._rest = b""

    def exchange(self, received: bytes) -> bytes:
        """Take bytes from the host, at any boundaries, and return those that answer them."""
        return b"".join(self._answers(received))

    def _answers(self, received: bytes) -> Iterator[bytes]:
        *ends, rest = received.split(b"\0")
        for end in ends:
            self._coded += end
            request = unframe(bytes(self._coded))
            self._coded.clear()
            if request is not None and len(request[-1]) <= REQUEST_BYTES:
                status, sequence, body = self._answer(*request)
                yield frame(status, sequence, self._session or 0, body)
        # What is longer than any frame is garbage up to the next zero, and need not be kept.
        if len(self._coded) <= 2 * REQUEST_BYTES:
            self._coded += rest

    def _answer(self, opcode: int, sequence: int, session: int, body: bytes) -> tuple[int, int, bytes]:
        if opcode == Opcode.IDENTIFY:
            if body:
                return Status.BAD_REQUEST, sequence, b""
            return Status.OK, sequence, self._identify(session)
        if session != self._session:
            return Status.NO_SESSION, 0, b""
        expected = (self._executed + 1) % 256
        if sequence == expected:
            status, answer = self._execute(opcode, body)
            self._kept.pop((sequence - WINDOW) % 256, None)
            self._kept[sequence] = status, answer
            self._executed = (self._executed + 1) % (1 << 32)
        elif sequence not in self._kept:
            return Status.OUT_OF_SEQUENCE, expected, b""
        status, answer = self._kept[sequence]
        return status, sequence, answer

    def _identify(self, session: int) -> bytes:
        if session != self._session:
            self._session, self._executed, self._kept, self._rest = session, 0, {}, b""
            with contextlib.suppress(*_NEVER_ANSWERS):
                self.device.new_session()
        values = {"magic": MAGIC, "version": PROTOCOL_VERSION, "geometry": self.geometry_hash, "digest": self.digest,
                  "commands": self.commands, "executed": self._executed}
        return b"".join(struct.pack("<" + code, values[name]) for name, code in IDENTIFY_FIELDS)

    def _execute(self, opcode: int, body: bytes) -> tuple[Status, bytes]:
        if opcode == Opcode.READ:
            return self._read(body)
        if opcode == Opcode.RECEIVE and not body:
            return self._receive()
        if opcode == Opcode.WRITE:
            status = self._write(body)
        elif opcode == Opcode.SEND:
            status = self._send(body)
        else:
            status = Status.BAD_REQUEST
        if status in (Status.OK, Status.BUS_TIMEOUT):
            self.digest = zlib.crc32(bytes([opcode]) + body + bytes([status]), self.digest)
            self.commands = (self.commands + 1) % (1 << 32)
        return status, b""

    def _read(self, body: bytes) -> tuple[Status, bytes]:
        if len(body) != struct.calcsize(READ_FORMAT):
            return Status.BAD_REQUEST, b""
        address, count, step = struct.unpack(READ_FORMAT, body)
        if not 1 <= count <= READ_WORDS or step > 1 or address >= self._addresses:
            return Status.BAD_REQUEST, b""
        try:
            words = [self.device.read(*self._place(address + k * step)) for k in range(count)]
        except _NEVER_ANSWERS:
            return Status.BUS_TIMEOUT, b""
        return Status.OK, struct.pack(f"<{count}I", *words)

    def _write(self, body: bytes) -> Status:
        arguments = struct.calcsize(WRITE_FORMAT)
        if len(body) <= arguments or (len(body) - arguments) % 4:
            return Status.BAD_REQUEST
        address, step = struct.unpack_from(WRITE_FORMAT, body)
        if step > 1 or address >= self._addresses:
            return Status.BAD_REQUEST
        try:
            for k, (word,) in enumerate(struct.iter_unpack("<I", body[arguments:])):
                self.device.write(*self._place(address + k * step), word)
        except _NEVER_ANSWERS:
            return Status.BUS_TIMEOUT
        return Status.OK

    def _send(self, body: bytes) -> Status:
        if len(body) <= VECTOR_BYTES:
            return Status.BAD_REQUEST
        if not self.device.credit:
            return Status.NO_CREDIT
        self.device.send(body)
        return Status.OK

    def _receive(self) -> tuple[Status, bytes]:
        try:
            result = self._rest or self.device.receive() or b""
        except _NEVER_ANSWERS:
            result = b""
        part, self._rest = result[:REPLY_BYTES], result[REPLY_BYTES:]
        return Status.MORE if self._rest else Status.OK, part

    def _place(self, address: int) -> tuple[int, int, int]:
        """Return unit, region and offset of an address, wrapped where the chip wraps it."""
        address %= self._addresses
        return address >> UNIT_SHIFT, address >> REGION_SHIFT & _REGIONS, address & _OFFSETS
