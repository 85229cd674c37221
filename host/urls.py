"""Device URLs: `model:`, `sim:`, `serial:/dev/ttyUSB0?baud=3000000`, `tcp:host:port`, each with options after `?`."""

import dataclasses
from urllib.parse import parse_qsl

from host.errors import BitlineError
from rtl.params import Geometry, preset

__all__ = ["DEFAULT_GEOMETRY", "DEFAULT_PORT", "SCHEMES", "DeviceUrl", "parse_url"]

DEFAULT_GEOMETRY = "demo"
DEFAULT_BAUD = 3_000_000
DEFAULT_PORT = 7440
"""Where `bitline serve` listens unless told otherwise."""

SCHEMES = {
    "model": "the numpy model in this process: model:GEOMETRY",
    "sim": "the verilated RTL in this process: sim:GEOMETRY",
    "netlist": "the chip as synthesis for an ECP5 left it, in this process: netlist:GEOMETRY",
    "serial": "a board on a serial line: serial:/dev/ttyUSB0?baud=3000000",
    "tcp": "a device that `bitline serve` offers: tcp:HOST:PORT",
}

_OPTIONS = {
    "model": ("geometry", "seed", "chip"),
    "sim": ("geometry", "seed", "chip"),
    "netlist": ("geometry", "seed", "chip"),
    "serial": ("geometry", "seed", "chip", "baud"),
    "tcp": ("geometry", "seed", "chip"),
}
_LIMITS = {"seed": (0, 2**32 - 1), "chip": (0, 255), "baud": (1, 12_000_000)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceUrl:
    """A device URL, taken apart and checked. `place` is a path or HOST:PORT, or empty."""

    text: str
    scheme: str
    place: str
    geometry: Geometry
    seed: int | None = None
    chip: int = 0
    baud: int = DEFAULT_BAUD

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of a `tcp:` URL."""
        host, _, port = self.place.rpartition(":")
        return host.strip("[]"), int(port)


def parse_url(text: str) -> DeviceUrl:
    """Return the parts of a device URL.

    Raises
    ------
    BitlineError
        If the scheme, an option or a value is unknown or missing.
    """
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in SCHEMES:
        raise BitlineError(f"unknown device {text!r}: a device is {', '.join(f'{name}:' for name in SCHEMES)} "
                           "with what follows, for example model:demo")
    place, _, query = rest.partition("?")
    options = _options(text, scheme, query)
    name = options.pop("geometry", "")
    if scheme in ("model", "sim", "netlist"):
        if place and name:
            raise BitlineError(f"device {text!r} names two geometries, {place!r} and {name!r}")
        name, place = place or name, ""
    try:
        geometry = preset(name or DEFAULT_GEOMETRY)
    except ValueError as error:
        raise BitlineError(f"device {text!r}: {error}") from None
    return DeviceUrl(text=text, scheme=scheme, place=_place(text, scheme, place), geometry=geometry,
                     **{key: _integer(text, key, value) for key, value in options.items()})


def _options(text: str, scheme: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise BitlineError(f"device {text!r}: options are name=value, joined by &, not {query!r}") from None
    for name, _ in pairs:
        if name not in _OPTIONS[scheme]:
            raise BitlineError(f"device {text!r}: unknown option {name!r}, choose from {', '.join(_OPTIONS[scheme])}")
    if len(dict(pairs)) < len(pairs):
        raise BitlineError(f"device {text!r} gives an option twice")
    return dict(pairs)


def _place(text: str, scheme: str, place: str) -> str:
    if scheme == "serial" and not place:
        raise BitlineError(f"device {text!r} names no serial line: write for example serial:/dev/ttyUSB0")
    if scheme == "tcp":
        host, colon, port = place.rpartition(":")
        if not colon:
            host, port = place, str(DEFAULT_PORT)
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise BitlineError(f"device {text!r} names no host and port: "
                               f"write for example tcp:localhost:{DEFAULT_PORT}")
        return f"{host}:{port}"
    return place


def _integer(text: str, name: str, value: str) -> int:
    low, high = _LIMITS[name]
    if not value.isdecimal() or not low <= int(value) <= high:
        raise BitlineError(f"device {text!r}: {name} must be {low} to {high}, not {value!r}")
    return int(value)

