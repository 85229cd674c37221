"""The pulse tile and its emulated macro in Verilator."""

import os

import pytest

from rtl.params import preset
from tests.cocotb.build import Model, missing
from tests.rtl.pulse_top import PulseTop

pytestmark = [
    pytest.mark.cocotb,
    pytest.mark.skipif(bool(missing()) and "CI" not in os.environ, reason=f"not on this machine: {missing()}"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return Model(PulseTop(geometry=preset("tiny")), name="pulse_top", folder=tmp_path_factory.mktemp("pulse"))


@pytest.mark.parametrize("seed", [1, 2])
def test_reads(model, seed):
    model.run("tests.cocotb.bench_pulse", tests=3, BITLINE_SEED=str(seed))
