"""What users import: `open` gives a device, whatever it is behind its URL."""

import glob
from collections.abc import Callable
from typing import Any

from host.backend import Backend, LinkBackend, ModelBackend
from host.boards_entry import synthesised, verilated
from host.channels import Channel, ChannelError, LoopbackChannel, SerialChannel, SimChannel, TcpChannel
from host.device import Device
from host.errors import BitlineError
from host.link import Link, LinkError
from host.urls import SCHEMES, DeviceUrl, parse_url
from rtl.params.protocol import REPLY_BYTES
from sim.chip import Chip
from sim.link import Endpoint

__all__ = ["DEFAULT_SEED", "PromptChip", "list_devices", "open_channel", "open_device"]

DEFAULT_SEED = 1
_FRAME_CYCLES = 2 * REPLY_BYTES
_FRAME_GAP = 4  # clocks without a byte that end a frame
_SERIAL_LINES = ("/dev/ttyUSB*", "/dev/ttyACM*", "/dev/cu.usbserial*")


def _silent(_text: str) -> None:
    """Tell nobody."""


class PromptChip:
    """A verilated chip that stops as soon as it has answered: no cycle is spent that the host does not wait for."""

    def __init__(self, chip: Any) -> None:
        self.push, self.pull, self.close = chip.push, chip.pull, chip.close
        self._run = chip.run

    def run(self, cycles: int, /) -> None:
        """Run until something is sent, and on to the end of that frame."""
        if self._run(cycles, wanted=1) < cycles:
            self._run(_FRAME_CYCLES, quiet=_FRAME_GAP)


class _OwnedSimChannel(SimChannel):
    """A channel to a verilated chip that nobody else holds: closed with it."""

    def __init__(self, url: DeviceUrl, progress: Callable[[str], None]) -> None:
        chip = verilated if url.scheme == "sim" else synthesised
        self._owned = PromptChip(chip(url.geometry, progress))
        super().__init__(self._owned)

    def close(self) -> None:
        """Free the chip."""
        self._owned.close()


def open_device(url: str, *, seed: int | None = None, chip: int | None = None,
                progress: Callable[[str], None] = _silent) -> Device:
    """Return a device by its URL: a context manager.

    Parameters
    ----------
    url
        `model:demo`, `sim:demo`, `serial:/dev/ttyUSB0?baud=3000000&geometry=demo` or `tcp:localhost:7440`, with
        `seed=` and `chip=` as options; see `host.urls`.
    seed, chip
        Of every random value, where the URL does not give them: 1 and 0 if nobody does.
    progress
        Told in a few words what takes long.

    Raises
    ------
    BitlineError
        If the URL is malformed, or the device cannot be reached or is of another geometry.
    """
    where = parse_url(url)
    seeds = (where.seed, seed, DEFAULT_SEED)
    return Device(_backend(where, progress), url=url, seed=next(s for s in seeds if s is not None),
                  chip=where.chip or chip or 0)


def _backend(url: DeviceUrl, progress: Callable[[str], None]) -> Backend:
    if url.scheme == "model":
        return ModelBackend(url.geometry)
    channel = _channel(url, progress)
    try:
        return LinkBackend(Link(channel, url.geometry))
    except (LinkError, ChannelError) as error:
        channel.close()
        raise BitlineError(f"{url.text}: {error}") from error


def open_channel(url: str, *, progress: Callable[[str], None] = _silent) -> Channel:
    """Return the bytes of a device, to be offered to others: `model:` answers through the twin of the link.

    Raises
    ------
    BitlineError
        If the URL is malformed or the device cannot be reached.
    """
    return _channel(parse_url(url), progress)


def _channel(url: DeviceUrl, progress: Callable[[str], None]) -> Channel:
    try:
        if url.scheme == "serial":
            return SerialChannel(url.place, baud=url.baud)
        if url.scheme == "tcp":
            return TcpChannel(*url.address)
    except ChannelError as error:
        raise BitlineError(str(error)) from error
    if url.scheme in ("sim", "netlist"):
        return _OwnedSimChannel(url, progress)
    return LoopbackChannel(Endpoint(Chip(url.geometry), url.geometry))


def list_devices() -> list[tuple[str, str]]:
    """Return (URL, text) of what can be opened here; serial lines are listed, not tried."""
    lines = sorted(path for pattern in _SERIAL_LINES for path in glob.glob(pattern))
    return [(f"{name}:", text) for name, text in SCHEMES.items() if name != "serial"] + [
        (f"serial:{path}", "a serial line, perhaps with a board") for path in lines]
