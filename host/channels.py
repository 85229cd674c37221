"""Byte channels to a device: serial line, TCP, a process-local endpoint, a simulated chip."""

import socket
from collections.abc import Callable
from typing import Any, Protocol

import serial

__all__ = ["BUSY_NOTICE", "Channel", "ChannelError", "LoopbackChannel", "SerialChannel", "SimChannel", "TcpChannel"]

BUSY_NOTICE = b"\0another client is connected\0"
"""What a server says to a second client before it closes: no frame, so a link that does not know it ignores it."""

_CHUNK = 1 << 16


class ChannelError(ConnectionError):
    """The channel is broken or closed; the sentence names it."""


class Channel(Protocol):
    """Bytes both ways, in order; either way may lose or spoil some, which the link repairs.

    A channel whose other end has a time of its own tells it by a method `seconds`, in place of `time.monotonic`.
    """

    def write(self, payload: bytes) -> None:
        """Send bytes, or raise ChannelError."""

    def read(self, timeout: float) -> bytes:
        """Return the bytes that have come; wait up to `timeout` seconds for the first, b"" if none came."""

    def close(self) -> None:
        """End the channel; harmless when it has ended."""


class SerialChannel:
    """A serial line.

    Parameters
    ----------
    path : str
        Device, such as /dev/ttyUSB0.
    baud : int
        Bits a second.
    """

    def __init__(self, path: str, *, baud: int = 3_000_000) -> None:
        self.name = path
        try:
            self._line = serial.Serial(path, baud, timeout=0, write_timeout=5, exclusive=True)
        except (serial.SerialException, ValueError) as error:
            raise ChannelError(f"cannot open serial device {path} at {baud} baud: {error}") from error
        self._lower_latency()

    def _lower_latency(self) -> None:
        """Ask a USB bridge to pass bytes on at once, not every 16 ms; not every driver can."""
        try:
            self._line.set_low_latency_mode(True)
        except (AttributeError, NotImplementedError, OSError, ValueError):
            return

    def write(self, payload: bytes) -> None:
        """Send bytes, or raise ChannelError."""
        self._guard(lambda: self._line.write(payload))

    def read(self, timeout: float) -> bytes:
        """Return what has come; wait up to `timeout` seconds for the first byte."""
        self._line.timeout = timeout
        first: bytes = self._guard(lambda: self._line.read(1))
        return first + self._guard(lambda: self._line.read(self._line.in_waiting)) if first else b""

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return int(self._line.fileno())

    def close(self) -> None:
        """Close the line."""
        self._line.close()

    def _guard(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (serial.SerialException, OSError, TypeError) as error:
            raise ChannelError(f"serial device {self.name} failed: {error}") from error


class TcpChannel:
    """A TCP connection, as `host.serve` offers one.

    Parameters
    ----------
    host, port
        Where the server listens.
    patience : float
        Seconds to wait for the connection, and for a full line to take bytes.
    """

    def __init__(self, host: str, port: int, *, patience: float = 5.0) -> None:
        self.name = f"{host}:{port}"
        self._patience = patience
        try:
            self._socket = socket.create_connection((host, port), timeout=patience)
        except OSError as error:
            raise ChannelError(f"cannot connect to {self.name}: {error}") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def write(self, payload: bytes) -> None:
        """Send bytes, or raise ChannelError."""
        try:
            self._socket.settimeout(self._patience)
            self._socket.sendall(payload)
        except OSError as error:
            raise ChannelError(f"connection to {self.name} failed: {error}") from error

    def read(self, timeout: float) -> bytes:
        """Return what has come; wait up to `timeout` seconds for the first byte."""
        try:
            # A time-out of 0 would mean "do not block" and raise another error.
            self._socket.settimeout(max(timeout, 1e-6))
            payload = self._socket.recv(_CHUNK)
        except TimeoutError:
            return b""
        except OSError as error:
            raise ChannelError(f"connection to {self.name} failed: {error}") from error
        if not payload:
            raise ChannelError(f"connection to {self.name} was closed by the other end")
        if payload == BUSY_NOTICE:
            raise ChannelError(f"{self.name} is serving another client")
        return payload

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class Exchange(Protocol):
    """What a `LoopbackChannel` leads to, such as `sim.link.Endpoint`."""

    def exchange(self, received: bytes) -> bytes:
        """Take bytes and return those that answer them."""


class LoopbackChannel:
    """A channel to an endpoint in this process, which answers while `write` runs."""

    def __init__(self, endpoint: Exchange) -> None:
        self._endpoint = endpoint
        self._answered = bytearray()

    def write(self, payload: bytes) -> None:
        """Hand bytes to the endpoint."""
        self._answered += self._endpoint.exchange(payload)

    def read(self, timeout: float) -> bytes:
        """Return what was answered; never waits, for nothing comes by itself."""
        del timeout
        answered = bytes(self._answered)
        self._answered.clear()
        return answered

    def close(self) -> None:
        """Do nothing: the endpoint lives on."""


class SimulatedChip(Protocol):
    """What a `SimChannel` leads to: a chip that stands still unless it is run."""

    def push(self, data: bytes, /) -> None:
        """Queue bytes for the chip's receiver."""

    def pull(self) -> bytes:
        """Return the bytes the chip has sent since."""

    def run(self, cycles: int, /) -> Any:
        """Run clock cycles, or fewer if the chip has something to say."""


class SimChannel:
    """A channel to a simulated chip, whose clock runs only while someone reads.

    A read that finds nothing runs `cycles` for each second of its time-out, in steps of `step`: time-outs count the
    chip's time (`seconds`), not that of the machine that simulates it, which may be busy with other things.

    Parameters
    ----------
    chip
        What is run.
    step : int
        Cycles between two looks for bytes.
    cycles : int
        Cycles in a second of time-out.
    """

    def __init__(self, chip: SimulatedChip, *, step: int = 1_000, cycles: int = 1_000_000) -> None:
        self._chip, self._step, self._cycles = chip, step, cycles
        self._asked = 0  # cycles, of which the chip may have run fewer

    def seconds(self) -> float:
        """Return the seconds that have passed for the chip."""
        return self._asked / self._cycles

    def write(self, payload: bytes) -> None:
        """Queue bytes for the chip."""
        self._chip.push(payload)

    def read(self, timeout: float) -> bytes:
        """Run the chip until it has sent something, or for the cycles that stand for `timeout`."""
        answered = self._chip.pull()
        left = int(timeout * self._cycles)
        while not answered and left > 0:
            step = min(self._step, left)
            self._chip.run(step)
            self._asked += step
            left -= step
            answered = self._chip.pull()
        return answered

    def close(self) -> None:
        """Do nothing: the chip belongs to whoever made it."""
