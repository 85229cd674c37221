"""docs/protocol.md says what the code does: every number and every example byte."""

import re
import zlib
from pathlib import Path

import pytest
from cobs import cobs

from rtl.params import Opcode, Status, preset
from rtl.params.protocol import IDENTIFY_FIELDS, MAGIC, READ_WORDS, RECEIVE_BYTES, REPLY_BYTES, REQUEST_BYTES, WINDOW
from sim.link import Endpoint
from tests.fake_device import FakeDevice

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
_BLOCK = re.search(r"```example\n(.*?)```", PAGE, re.DOTALL)
assert _BLOCK is not None
LINES = [(line[0], bytes.fromhex(line[1:])) for line in _BLOCK[1].splitlines()]


def endpoint() -> Endpoint:
    end = Endpoint(FakeDevice(), preset("tiny"))
    end.geometry_hash = 0x600D_C0DE
    return end


def test_the_example_is_what_the_endpoint_answers():
    end = endpoint()
    assert [side for side, _ in LINES] == [">", "<"] * 7
    for (_, request), (_, reply) in zip(LINES[::2], LINES[1::2], strict=True):
        assert end.exchange(request) == reply
    assert end.device.registers == {(1, 0, 4): 0x12345678, (1, 0, 5): 5}
    assert (end.commands, end._executed) == (2, 4)


def test_the_example_byte_by_byte_is_the_same():
    end = endpoint()
    answered = b"".join(end.exchange(bytes([byte])) for side, line in LINES if side == ">" for byte in line)
    assert answered == b"".join(line for side, line in LINES if side == "<")


@pytest.mark.parametrize("line", [line for _, line in LINES])
def test_the_example_by_the_rules_of_the_page(line):
    """Frame layout, taken apart here without the code under test."""
    plain = cobs.decode(line[:-1])
    assert line[-1] == 0
    assert int.from_bytes(plain[2:4], "little") == len(plain) - 12
    assert plain[4:8].hex() == "44332211"
    assert zlib.crc32(plain[:-4]) == int.from_bytes(plain[-4:], "little")


def test_the_first_line_undone():
    plain = cobs.decode(LINES[0][1][:-1])
    assert plain.hex(" ") in PAGE
    assert f"CRC 0x{zlib.crc32(plain[:-4]):08X}" in PAGE


@pytest.mark.parametrize("kind", [Opcode, Status])
def test_codes_and_names(kind):
    assert {(f"0x{code:02x}", code.name) for code in kind} <= set(re.findall(r"^\| (0x\w\w) \| (\w+) \|", PAGE, re.M))


def test_tables_hold_nothing_else():
    assert len(re.findall(r"^\| 0x\w\w \|", PAGE, re.MULTILINE)) == len(Opcode) + len(Status)


def test_limits():
    assert f"| body of a request | {REQUEST_BYTES:,} bytes |" in PAGE
    assert f"| body of a reply | {REPLY_BYTES:,} bytes |" in PAGE
    assert f"| WINDOW: requests unanswered at once | {WINDOW} |" in PAGE
    assert f"unanswered at once | less than {RECEIVE_BYTES:,} |" in PAGE
    assert f"u16 count (1…{READ_WORDS})" in PAGE
    assert f"magic 0x{MAGIC:08X}" in PAGE
    names = ", ".join(name for name, _ in IDENTIFY_FIELDS[1:])
    assert f"{names} |" in PAGE
