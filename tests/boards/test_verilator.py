"""The verilated stand-in answers as it should, byte for byte, however its clock is run."""

import random
import re
from pathlib import Path

import pytest

from boards.toolchain import ToolError
from boards.verilator import VerilatedChip, component_library
from tests.boards.standin import Echo


@pytest.fixture(scope="module")
def echo():
    return Echo(depth=8)


@pytest.fixture
def chip(echo):
    with VerilatedChip(echo) as chip:
        chip.reset()
        yield chip


def expected(data):
    return bytes((byte + 1) % 256 for byte in data)


def test_every_byte_comes_back(chip):
    data = bytes(range(256)) * 20
    chip.push(data)
    chip.run(100_000, wanted=len(data))
    assert chip.pull() == expected(data)
    assert (chip.pending, chip.available) == (0, 0)


def test_runs_only_when_asked_and_no_longer(chip):
    start = chip.cycles
    chip.push(b"abc")
    assert (chip.cycles, chip.pending) == (start, 3)
    assert chip.run(7) == 7
    assert chip.cycles == start + 7
    assert chip.run(10_000, quiet=50) <= 60
    assert chip.run(0) == 0


def test_stops_when_enough_bytes_are_there(chip):
    chip.push(bytes(100))
    chip.run(10_000, wanted=10)
    assert chip.available == 10
    assert chip.pull(4) == b"\x01" * 4
    assert chip.available == 6


@pytest.mark.parametrize(("rx", "tx"), [(1, 5), (5, 1), (3, 7), (20, 20)])
def test_slow_lines_lose_nothing(chip, rx, tx):
    chip.pace(rx=rx, tx=tx)
    data = random.Random(rx * 100 + tx).randbytes(300)
    chip.push(data)
    clocks = chip.run(1_000_000, wanted=len(data))
    assert chip.pull() == expected(data)
    assert clocks >= (len(data) - 1) * max(rx, tx)


def test_instances_do_not_meet(echo):
    with VerilatedChip(echo) as one, VerilatedChip(echo) as other:
        one.push(b"one")
        other.push(b"other")
        one.run(100)
        assert other.cycles == 0
        other.run(50)
        assert (one.pull(), other.pull()) == (expected(b"one"), expected(b"other"))


def test_reset_drops_what_waits(chip):
    chip.pace(tx=1000)
    chip.push(bytes(50))
    chip.run(20)
    chip.reset()
    assert (chip.pending, chip.available) == (0, 0)
    chip.pace()
    chip.run(100)
    assert chip.available == 0


def test_second_time_nothing_is_compiled(echo):
    said = []
    component_library(echo, said.append)
    assert said == []


def test_bad_use_is_refused(chip):
    with pytest.raises(ValueError, match="must not be negative"):
        chip.run(-1)
    with pytest.raises(ValueError, match="rx and tx must be positive integers, not 0 and 1"):
        chip.pace(rx=0)
    chip.close()
    chip.close()
    with pytest.raises(ValueError, match="the verilated chip is closed"):
        chip.run(1)


def test_failing_compiler_is_one_sentence_with_a_log(monkeypatch, tmp_path):
    monkeypatch.setenv("BITLINE_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(ToolError, match=r"^compiling the verilated chip failed with code 1: see ") as caught:
        component_library(Echo(depth=8))
    log = Path(re.search(r"see (\S+)$", str(caught.value))[1])
    assert log.is_file()
    assert not list((tmp_path / "verilated").glob("making-*"))
