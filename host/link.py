"""The host end of the link: requests in order, each executed exactly once, whatever the line does to frames."""

import dataclasses
import secrets
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from host.channels import Channel, ChannelError
from rtl.params import PRESETS, Geometry, geometry_hash
from rtl.params.protocol import (
    CRC_BYTES,
    HEADER_BYTES,
    IDENTIFY_FIELDS,
    MAGIC,
    PROTOCOL_VERSION,
    READ_FORMAT,
    READ_WORDS,
    RECEIVE_BYTES,
    REQUEST_BYTES,
    WINDOW,
    WRITE_FORMAT,
    Opcode,
    Status,
)
from sim.link import frame, unframe

__all__ = ["Identity", "Link", "LinkError", "RequestError"]

BURST_WORDS = 240
"""Words of one WRITE of a long burst: four of them fit what the device holds, so the line never waits."""

_CHANGES = (Opcode.WRITE, Opcode.SEND)
_DONE = (Status.OK, Status.MORE, Status.BUS_TIMEOUT)
_LONGEST_TURN = 8
"""Most that a time-out grows, in units of the first."""


class LinkError(Exception):
    """The device cannot be reached, is not the one expected, or its state is not what this session left."""


class RequestError(LinkError):
    """The device refused a request or could not end it; `status` tells how."""

    def __init__(self, opcode: int, status: Status) -> None:
        self.opcode, self.status = opcode, status
        super().__init__(f"{_name(opcode)} ended with {status.name}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """The answer to IDENTIFY; see `rtl.params.protocol.IDENTIFY_FIELDS`."""

    magic: int
    version: int
    geometry: int
    digest: int
    commands: int
    executed: int

    @classmethod
    def parse(cls, body: bytes) -> "Identity | None":
        """Return the parts of a reply's body, or None if it is of another kind."""
        code = "<" + "".join(code for _, code in IDENTIFY_FIELDS)
        if len(body) != struct.calcsize(code):
            return None
        values = struct.unpack(code, body)
        return cls(**{name: value for (name, _), value in zip(IDENTIFY_FIELDS, values, strict=True)})


@dataclasses.dataclass
class _Request:
    """A request that was submitted and not yet settled in the order of sequence numbers."""

    ticket: int
    sequence: int
    opcode: int
    body: bytes
    reply: tuple[Status, bytes] | None = None

    @property
    def size(self) -> int:
        return HEADER_BYTES + len(self.body) + CRC_BYTES

    def coded(self, session: int) -> bytes:
        return frame(self.opcode, self.sequence, session, self.body)


class Link:
    """A session with a device. Not for use by several threads at once.

    Parameters
    ----------
    channel : Channel
        Leads to the device; closed by `close`, and if no session can begin.
    geometry : Geometry
        What the device must have been built as.
    timeout : float
        Seconds of silence before requests are repeated; doubled at each repeat, up to eightfold.
    tries : int
        Repeats without any answer before the device is given up.

    Raises
    ------
    LinkError
        If the device does not answer, or is of another protocol or geometry.
    """

    def __init__(self, channel: Channel, geometry: Geometry, *, timeout: float = 0.25, tries: int = 8) -> None:
        if not (timeout > 0 and tries > 0):
            raise ValueError(f"timeout ({timeout!r}) and tries ({tries!r}) must be positive")
        self.geometry = geometry
        self.repeats = 0
        """Requests sent again, for reports."""
        self._channel = channel
        self._timeout, self._tries = timeout, tries
        self._coded = bytearray()
        self._pending: deque[_Request] = deque()
        self._settled: dict[int, tuple[int, Status, bytes]] = {}
        self._posted: list[int] = []
        self._tickets = 0
        self._asked: int | None = None  # ticket of a RECEIVE that was broken off, and the parts that came before
        self._parts = b""
        self._back: int | None = None
        self._lost = False
        self._broken: ChannelError | None = None
        self._session = secrets.randbits(32)
        try:
            self.identity = self._identify()
        except LinkError:
            channel.close()
            raise
        self._acked = self.identity.executed
        self._digest, self._commands = self.identity.digest, self.identity.commands

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel; the device keeps its state."""
        self._channel.close()

    # Requests

    def request(self, opcode: int, body: bytes = b"") -> bytes:
        """Return the body of the reply, or raise RequestError or LinkError."""
        return self.result(self.submit(opcode, body))

    def submit(self, opcode: int, body: bytes = b"") -> int:
        """Send a request, as soon as fewer than WINDOW are unanswered, and return a ticket for its reply."""
        if len(body) > REQUEST_BYTES:
            raise ValueError(f"body of {len(body)} bytes is longer than {REQUEST_BYTES}")
        room = RECEIVE_BYTES - 1 - HEADER_BYTES - len(body) - CRC_BYTES
        self._wait(lambda: len(self._pending) < WINDOW and sum(r.size for r in self._pending) <= max(room, 0))
        self._tickets += 1
        sequence = (self._acked + len(self._pending) + 1) % 256
        request = _Request(self._tickets, sequence, opcode, body)
        self._pending.append(request)
        self._transmit(request.coded(self._session))
        return request.ticket

    def result(self, ticket: int) -> bytes:
        """Return the body of the reply that a ticket stands for, once."""
        status, body = self._result(ticket)
        del status
        return body

    def _result(self, ticket: int) -> tuple[Status, bytes]:
        if ticket not in self._settled and all(request.ticket != ticket for request in self._pending):
            raise ValueError(f"ticket {ticket} was never given or is used up")
        self._wait(lambda: ticket in self._settled)
        opcode, status, body = self._settled.pop(ticket)
        if status not in (Status.OK, Status.MORE):
            raise RequestError(opcode, status)
        return status, body

    # Registers and vectors

    def read(self, address: int, count: int = 1, step: int = 1) -> list[int]:
        """Return words from an address on, or with step 0 from the one address again and again."""
        parts = [(address + k * step, min(READ_WORDS, count - k)) for k in range(0, count, READ_WORDS)]
        tickets = [self.submit(Opcode.READ, struct.pack(READ_FORMAT, at, words, step)) for at, words in parts]
        return [word for ticket in tickets for (word,) in struct.iter_unpack("<I", self.result(ticket))]

    def write(self, address: int, words: int | Sequence[int] | NDArray[np.integer], step: int = 1) -> None:
        """Write words (modulo 2**32, so negative ones too) from an address on, and wait until it is done."""
        self.post(address, words, step)
        self.flush()

    def post(self, address: int, words: int | Sequence[int] | NDArray[np.integer], step: int = 1) -> None:
        """Write without waiting; `flush` tells of errors, and later requests come after it."""
        values = (np.atleast_1d(np.asarray(words, dtype=np.int64)) & 0xFFFF_FFFF).astype("<u4")
        for k in range(0, len(values), BURST_WORDS):
            body = struct.pack(WRITE_FORMAT, address + k * step, step) + values[k:k + BURST_WORDS].tobytes()
            self._posted.append(self.submit(Opcode.WRITE, body))

    def flush(self) -> None:
        """Wait until all that was posted is done, or raise the first error."""
        posted, self._posted = self._posted, []
        errors = []
        for ticket in posted:
            try:
                self.result(ticket)
            except RequestError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def send(self, packet: bytes) -> None:
        """Send a vector (the body of SEND), or raise RequestError with NO_CREDIT if results must be received first."""
        self.request(Opcode.SEND, packet)

    def receive(self) -> bytes | None:
        """Return the next result (the body of the reply to RECEIVE), or None if none is ready.

        Broken off by a LinkError and called again after `resume`, it goes on where it was.
        """
        status = Status.MORE
        while status is Status.MORE:
            if self._asked is None:
                self._asked = self.submit(Opcode.RECEIVE)
            status, part = self._result(self._asked)
            self._asked = None
            self._parts += part
        result, self._parts = self._parts, b""
        return result or None

    # Session

    def resume(self, channel: Channel | None = None) -> None:
        """Go on after the line was lost, on another channel if one is given, with the requests in hand kept.

        Raises
        ------
        LinkError
            If the device was reset or used by another host so that nobody can tell what became of a request.
        """
        if channel is not None:
            self._channel.close()
            self._channel = channel
        self._broken = None
        self._coded.clear()
        identity = self._identify()
        done = (identity.executed - self._acked) % (1 << 32)
        untouched = (identity.digest, identity.commands) == (self._digest, self._commands)
        # The session is ours alone: a device that has executed anything under it is still in this session.
        if done <= len(self._pending) and (identity.executed > 0 or untouched):
            self._lost = False
            self._repeat()
        else:
            self._session = secrets.randbits(32)
            self._restart(self._identify())

    def _executed(self, identity: Identity) -> int | None:
        """Return how many requests in hand, the first ones, the digest proves to be done, or None if it cannot be."""
        digest, commands = self._digest, self._commands
        for k, request in enumerate([None, *self._pending]):
            status = request.reply[0] if request and request.reply else Status.OK
            if request and request.opcode in _CHANGES and status in _DONE:
                digest, commands = _advance(digest, request, status), (commands + 1) % (1 << 32)
            if (digest, commands) == (identity.digest, identity.commands):
                return k
        return None

    def _restart(self, identity: Identity) -> None:
        """Settle what the digest proves to be done, and submit the rest in the new session."""
        done = self._executed(identity)
        if done is None:
            raise LinkError(
                f"the device's state is not what this session left: digest {identity.digest:08x} after "
                f"{identity.commands} commands, expected {self._digest:08x} after {self._commands} or a few more; "
                "program it again")
        if self._parts:
            raise LinkError("the device began a new session while a result was received in parts; the rest is lost")
        for k, request in enumerate(self._pending):
            in_doubt = request.opcode == Opcode.RECEIVE or (k < done and request.opcode not in _CHANGES)
            if request.reply is None and in_doubt:
                raise LinkError(f"the device began a new session before the reply to {_name(request.opcode)} came; "
                                "what it read is lost")
            if request.reply is None and k < done:
                request.reply = Status.OK, b""
        waiting, self._pending = self._pending, deque()
        self._lost, self._acked, self._back = False, 0, None
        for request in waiting:
            if request.reply is not None:
                self._keep(request)
                continue
            request.sequence = (len(self._pending) + 1) % 256
            self._pending.append(request)
        self._repeat()

    def _identify(self) -> Identity:
        """Ask the device who it is until it answers, and check that it is the one expected."""
        turn = self._timeout
        for _ in range(self._tries):
            self._transmit(b"\0" + frame(Opcode.IDENTIFY, 0, self._session))
            left = turn
            while left > 0:
                replies, spent = self._listen(left)
                left -= spent
                for status, _, session, body in replies:
                    identity = Identity.parse(body) if (status, session) == (Status.OK, self._session) else None
                    if identity is not None and identity.magic == MAGIC:
                        return self._checked(identity)
            turn = min(2 * turn, _LONGEST_TURN * self._timeout)
        raise LinkError(f"no answer from the device: {self._tries} times asked who it is")

    def _checked(self, identity: Identity) -> Identity:
        if identity.version != PROTOCOL_VERSION:
            raise LinkError(f"the device speaks protocol {identity.version}, this host {PROTOCOL_VERSION}")
        expected = geometry_hash(self.geometry)
        if identity.geometry != expected:
            names = [name for name, known in PRESETS.items() if geometry_hash(known) == identity.geometry]
            raise LinkError(
                f"the device was built as {names[0] if names else 'an unknown geometry'} ({identity.geometry:08x}), "
                f"but {self.geometry.name} ({expected:08x}) is asked for")
        return identity

    # Frames

    def _wait(self, met: Callable[[], bool]) -> None:
        """Listen until a condition is met, repeating what is not answered; every wait ends."""
        turn, silent, tries = self._timeout, 0.0, 0
        while not met():
            before = len(self._pending), sum(request.reply is None for request in self._pending)
            replies, spent = self._listen(turn - silent)
            for reply in replies:
                self._take(*reply)
            self._settle()
            if self._lost:
                self.resume()
            if before != (len(self._pending), sum(request.reply is None for request in self._pending)):
                turn, silent, tries = self._timeout, 0.0, 0
                continue
            silent += spent
            if silent >= turn:
                tries += 1
                if tries > self._tries:
                    oldest = self._pending[0].opcode if self._pending else 0
                    raise LinkError(f"no answer from the device: {_name(oldest)} repeated {self._tries} times")
                turn, silent = min(2 * turn, _LONGEST_TURN * self._timeout), 0.0
                self._back = None
                self._repeat()

    def _listen(self, timeout: float) -> tuple[list[tuple[int, int, int, bytes]], float]:
        """Return the right frames that came, and the seconds that passed.

        A channel that had nothing to say is taken to have waited as long as it was asked to: a simulated chip's time
        is not the machine's, and an endpoint in this process never has more to say later.
        """
        clock: Callable[[], float] = getattr(self._channel, "seconds", time.monotonic)
        begin = clock()
        try:
            if self._broken is not None:
                raise self._broken
            received = self._channel.read(timeout)
        except ChannelError as error:
            raise LinkError(str(error)) from error
        if not received:
            return [], timeout
        *ends, rest = received.split(b"\0")
        replies = []
        for end in ends:
            self._coded += end
            reply = unframe(bytes(self._coded))
            self._coded.clear()
            if reply is not None:
                replies.append(reply)
        if len(self._coded) <= 2 * REQUEST_BYTES:
            self._coded += rest
        return replies, clock() - begin

    def _transmit(self, payload: bytes) -> None:
        """Send bytes; a broken channel is told of where an answer is awaited, when the request is safely in hand."""
        try:
            self._channel.write(payload)
        except ChannelError as error:
            self._broken = error

    def _take(self, status: int, sequence: int, session: int, body: bytes) -> None:
        if status == Status.NO_SESSION:
            self._lost = True
        elif session != self._session:
            return
        elif status == Status.OUT_OF_SEQUENCE:
            self._go_back(sequence)
        elif status in set(Status):
            for request in self._pending:
                if request.sequence == sequence and request.reply is None:
                    request.reply = Status(status), body

    def _go_back(self, expected: int) -> None:
        """Repeat from the request the device waits for; once, as every one after the gap is refused alike."""
        first = (self._acked + 1) % 256
        ahead = (expected - first) % 256
        if ahead < len(self._pending):
            if self._back != expected:
                self._back = expected
                self._repeat(ahead)
        elif ahead > len(self._pending) and ahead < 256 - 2 * WINDOW:
            # Neither in hand nor just behind, as a late refusal would be: another host has begun a session.
            self._lost = True

    def _repeat(self, skip: int = 0) -> None:
        """Send again what is not answered; the zero in front ends whatever the device has half received."""
        again = [request.coded(self._session) for k, request in enumerate(self._pending)
                 if k >= skip and request.reply is None]
        self.repeats += len(again)
        if again:
            self._transmit(b"\0" + b"".join(again))

    def _settle(self) -> None:
        """Move answered requests, in order, to where `result` finds them."""
        while self._pending and self._pending[0].reply is not None:
            self._keep(self._pending.popleft())
            self._acked = (self._acked + 1) % (1 << 32)
            self._back = None

    def _keep(self, request: _Request) -> None:
        """Keep the reply of a request for `result`, and count the request."""
        if request.reply is None:
            return
        status, body = request.reply
        self._settled[request.ticket] = request.opcode, status, body
        if request.opcode in _CHANGES and status in _DONE:
            self._digest = _advance(self._digest, request, status)
            self._commands = (self._commands + 1) % (1 << 32)


def _advance(digest: int, request: _Request, status: Status) -> int:
    return zlib.crc32(bytes([request.opcode]) + request.body + bytes([status]), digest)


def _name(opcode: int) -> str:
    return Opcode(opcode).name if opcode in set(Opcode) else f"request {opcode:#x}"
