"""A chip at its serial line, as a host's port sees it."""

import pytest

from boards.board import SerialChip
from tests.boards.standin import Echo
from tests.cocotb.harness import run_bench


@pytest.mark.cocotb
def test_echo_over_a_serial_line(tmp_path):
    component = SerialChip(chip=Echo(depth=16), clock_hz=50e6, baud=3_000_000)
    run_bench(component, "tests.cocotb.bench_serial", tests=3, where=tmp_path, SEED="7")
