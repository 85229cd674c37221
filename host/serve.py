"""Offers a device to one client at a time over TCP or a pseudo-terminal: bytes pass both ways as they are."""

import contextlib
import os
import select
import signal
import socket
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from host.channels import BUSY_NOTICE, Channel, ChannelError

__all__ = ["PtyDoor", "Server", "TcpDoor", "serve"]

_CHUNK = 1 << 16
_IDLE, _BRISK, _SLICE = 0.2, 0.02, 0.002
"""Seconds: look for a stop, look at a device that cannot be waited for, and wait for such a device's answer."""


class Door(Protocol):
    """Where clients come in."""

    @property
    def name(self) -> str:
        """What a client needs to know."""

    def waitable(self) -> list[int]:
        """File descriptors that become readable when a client comes, speaks or leaves."""

    def receive(self, ready: list[int]) -> bytes:
        """Return what the client said; never waits."""

    def send(self, payload: bytes) -> None:
        """Pass bytes to the client; drops them if there is none or it does not listen."""

    @property
    def busy(self) -> bool:
        """Whether there is a client."""

    def close(self) -> None:
        """Let nobody in any more."""


class TcpDoor:
    """Listens on a TCP port; a second client is told so and sent away.

    Parameters
    ----------
    host : str
        Address to listen on; the default lets in nobody from other machines.
    port : int
        Port; 0 takes a free one.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._client: socket.socket | None = None
        try:
            self._server = socket.create_server((host, port))
        except OSError as error:
            raise ChannelError(f"cannot listen on {host}:{port}: {error}") from error
        self._server.setblocking(False)
        self.host, self.port = self._server.getsockname()[:2]

    @property
    def name(self) -> str:
        """The device URL for a client."""
        return f"tcp:{self.host}:{self.port}"

    @property
    def busy(self) -> bool:
        """Whether a client is connected."""
        return self._client is not None

    def waitable(self) -> list[int]:
        """The listening socket and that of the client."""
        return [self._server.fileno(), *([self._client.fileno()] if self._client else [])]

    def receive(self, ready: list[int]) -> bytes:
        """Let a client in, or take what the one inside has said."""
        payload = b""
        if self._client is not None and self._client.fileno() in ready:
            try:
                payload = self._client.recv(_CHUNK)
            except OSError:
                payload = b""
            if not payload:
                self._drop()
        if self._server.fileno() in ready:
            self._let_in()
        return payload

    def _let_in(self) -> None:
        try:
            client, _ = self._server.accept()
        except OSError:
            return
        if self._client is not None:
            with client, contextlib.suppress(OSError):
                client.setblocking(False)
                client.send(BUSY_NOTICE)
            return
        try:
            client.settimeout(_IDLE)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # gone already
            client.close()
            return
        self._client = client

    def send(self, payload: bytes) -> None:
        """Pass bytes on; a client that does not take them is gone, as far as we care."""
        if self._client is None:
            return
        try:
            self._client.sendall(payload)
        except OSError:
            self._drop()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def close(self) -> None:
        """Close both sockets."""
        self._drop()
        self._server.close()


class PtyDoor:
    """A pseudo-terminal that programs open as if it were a serial device.

    Parameters
    ----------
    link : str or None
        Symbolic link to make to the terminal, for a name that stays.
    """

    def __init__(self, link: str | None = None) -> None:
        # The terminal's own end stays open here, so that a client that leaves is no hang-up for the next.
        self._master, self._terminal = os.openpty()
        tty.setraw(self._terminal)
        os.set_blocking(self._master, False)
        self._path = os.ttyname(self._terminal)
        self._link = link
        if link is not None:
            try:
                os.symlink(self._path, link)
            except OSError as error:
                os.close(self._master)
                os.close(self._terminal)
                raise ChannelError(f"cannot make {link}: {error}") from error

    @property
    def name(self) -> str:
        """The device URL for a client."""
        return f"serial:{self._link or self._path}"

    @property
    def busy(self) -> bool:
        """True: nobody can tell whether a terminal is open."""
        return True

    def waitable(self) -> list[int]:
        """Our end of the terminal."""
        return [self._master]

    def receive(self, ready: list[int]) -> bytes:
        """Take what a client has written."""
        if self._master not in ready:
            return b""
        with contextlib.suppress(OSError):
            return os.read(self._master, _CHUNK)
        return b""

    def send(self, payload: bytes) -> None:
        """Pass bytes on; those that a terminal nobody reads has no room for are lost, and asked for again."""
        with contextlib.suppress(BlockingIOError):
            while payload:
                payload = payload[os.write(self._master, payload):]

    def close(self) -> None:
        """Close the terminal and remove the link to it."""
        os.close(self._master)
        os.close(self._terminal)
        if self._link is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._link)


class Server:
    """Passes bytes between a door and the channel of a device until it is stopped.

    Parameters
    ----------
    channel : Channel
        Leads to the device; closed at the end.
    door : Door
        Where clients come in; closed at the end.
    """

    def __init__(self, channel: Channel, door: Door) -> None:
        self._channel, self._door = channel, door
        self._stopped = False
        # A channel with a descriptor wakes us; another (a simulated chip) is looked at again and again.
        fileno: Callable[[], int] | None = getattr(channel, "fileno", None)
        self._device = fileno() if fileno else None

    @property
    def name(self) -> str:
        """The device URL for a client."""
        return self._door.name

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def run(self) -> None:
        """Serve until `stop`, or raise ChannelError if the device is lost."""
        patience = _BRISK
        while not self._stopped:
            moved = self._turn(patience)
            # Grow slowly to rest: a device that answers late is not forgotten, one without a client costs nothing.
            patience = 0.0 if moved else min(patience * 1.5 + 1e-4, _BRISK if self._door.busy else _IDLE)

    def _turn(self, patience: float) -> bool:
        waitable = self._door.waitable()
        if self._device is not None:
            waitable.append(self._device)
            patience = _IDLE
        ready, _, _ = select.select(waitable, [], [], patience)
        received = self._door.receive(ready)
        if received:
            self._channel.write(received)
        if self._device is None:
            answered = self._channel.read(_SLICE if self._door.busy else 0.0)
        else:
            answered = self._channel.read(0.0) if self._device in ready else b""
        if answered:
            self._door.send(answered)
        return bool(received or answered)

    def stop(self) -> None:
        """Make `run` return soon; may be called from another thread or a signal handler."""
        self._stopped = True

    def close(self) -> None:
        """Close door and channel."""
        self._door.close()
        self._channel.close()


def serve(channel: Channel, door: Door, tell: Callable[[str], object] = print) -> None:
    """Serve until SIGINT or SIGTERM, which end it cleanly; `tell` is given the URL for clients first.

    For the main thread alone. A shell lets processes in the background ignore SIGINT; not this one.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with Server(channel, door) as server, contextlib.suppress(KeyboardInterrupt):
        tell(server.name)
        server.run()
