"""Device URLs: what they mean, and what is refused by name."""

import pytest

from host.errors import BitlineError
from host.urls import DEFAULT_BAUD, DEFAULT_PORT, parse_url


@pytest.mark.parametrize(("text", "scheme", "place", "geometry", "seed"), [
    ("model:", "model", "", "demo", None),
    ("model:tiny", "model", "", "tiny", None),
    ("model:tiny?seed=3", "model", "", "tiny", 3),
    ("sim:?geometry=small&seed=4294967295", "sim", "", "small", 2**32 - 1),
    ("serial:/dev/ttyUSB0?geometry=board-small", "serial", "/dev/ttyUSB0", "board-small", None),
    ("tcp:localhost", "tcp", f"localhost:{DEFAULT_PORT}", "demo", None),
    ("tcp:[::1]:99", "tcp", "[::1]:99", "demo", None),
])
def test_parts(text, scheme, place, geometry, seed):
    url = parse_url(text)
    assert (url.scheme, url.place, url.geometry.name, url.seed) == (scheme, place, geometry, seed)


def test_numbers():
    assert parse_url("serial:/dev/x?baud=115200&chip=7").baud == 115200
    assert parse_url("serial:/dev/x?baud=115200&chip=7").chip == 7
    assert parse_url("serial:/dev/x").baud == DEFAULT_BAUD
    assert parse_url("tcp:[::1]:99").address == ("::1", 99)
    assert parse_url("tcp:10.0.0.2:99").address == ("10.0.0.2", 99)


@pytest.mark.parametrize(("text", "words"), [
    ("", "model:"), ("demo", "unknown device 'demo'"), ("usb:0", "unknown device 'usb:0'"),
    ("model:nano", "unknown geometry 'nano'"), ("model:tiny?geometry=demo", "two geometries"),
    ("model:?sead=3", "unknown option 'sead'"), ("model:?baud=9600", "unknown option 'baud'"),
    ("model:?seed=x", "seed must be"), ("model:?seed=-1", "seed must be"), ("model:?seed=4294967296", "seed must be"),
    ("model:?seed=", "seed must be"), ("model:?seed", "name=value"), ("model:?seed=1&seed=2", "twice"),
    ("serial:", "names no serial line"), ("tcp:", "no host and port"), ("tcp::80", "no host and port"),
    ("tcp:host:0", "no host and port"), ("tcp:host:http", "no host and port"),
])
def test_refused(text, words):
    with pytest.raises(BitlineError, match=words.replace("(", r"\(")):
        parse_url(text)
