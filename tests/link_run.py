"""A run of every kind of request, for tests that spoil it."""

import struct

from host.link import Link
from rtl.params import Opcode
from tests.fake_device import COUNT_REGION

HEAD = bytes(range(10))
"""Event and target time of a vector."""


def place(unit: int, region: int, offset: int) -> int:
    return unit << 24 | region << 20 | offset


def run(link: Link) -> list[object]:
    """A run of every kind of request, some of them pipelined; returns what came back."""
    out: list[object] = []
    link.write(place(1, 2, 0), [3, 1, 4])
    tickets = [link.submit(Opcode.READ, struct.pack("<IHB", place(1, COUNT_REGION, 0), 1, 0)) for _ in range(5)]
    for k in range(6):
        link.post(place(1, 2, 8), [k, k + 1])
    out += [link.result(ticket) for ticket in tickets]
    link.flush()
    link.send(HEAD + b"\1\2\3")
    link.send(HEAD + b"\4\5\6")
    out += [link.receive(), link.receive(), link.receive()]
    out.append(link.read(place(1, 2, 0), 10))
    out.append(link.read(place(1, COUNT_REGION, 0)))
    return out
