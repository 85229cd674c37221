"""A whole mesh in Verilator."""

import os

import pytest

from rtl.mesh import Mesh
from tests.cocotb.bench_mesh import GEOMETRY
from tests.cocotb.build import Model, missing

pytestmark = [
    pytest.mark.cocotb,
    pytest.mark.skipif(bool(missing()) and "CI" not in os.environ, reason=f"not on this machine: {missing()}"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return Model(Mesh(geometry=GEOMETRY), name="mesh", folder=tmp_path_factory.mktemp("mesh"))


@pytest.mark.parametrize("seed", [1, 2])
def test_mesh(model, seed):
    model.run("tests.cocotb.bench_mesh", tests=4, BITLINE_SEED=str(seed))
