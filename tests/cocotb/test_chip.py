"""A whole chip as a simulator sees it: program, infer, age, with back-pressure and a line that spoils."""

import pytest

from boards.sdram import simulated_chip
from rtl.chip import Chip
from rtl.params import preset
from tests.cocotb.harness import run_bench


@pytest.mark.cocotb
def test_a_whole_chip(tmp_path):
    run_bench(Chip(geometry=preset("tiny")), "tests.cocotb.bench_chip", tests=11, where=tmp_path, GEOMETRY="tiny")


@pytest.mark.cocotb
@pytest.mark.slow
def test_a_chip_with_two_clocks(tmp_path):
    """Reset in the middle, which the faster clock does not know of; the clocks begin once only."""
    run_bench(simulated_chip(preset("pumped")), "tests.cocotb.bench_chip", tests=1, where=tmp_path, GEOMETRY="pumped",
              COCOTB_TEST_FILTER="reset_in_the_middle")
