"""Bit slices on the verilated chip: exact without errors, and the model's integers with them."""

import numpy as np
import pytest

from host.slicing import integers, slice_network
from rtl.params import preset
from sim.presets import technology
from tests.chip.machine import images, model, network, registers, verilated
from tests.chip.test_equivalence import check
from tests.host.test_slicing import plain

SMALL = preset("small")


def sliced(sizes, seed):
    net, x = network(sizes, seed), images(sizes, seed + 1, 16)
    return net, slice_network(net, SMALL, x, 200), integers(net, x)


@pytest.mark.parametrize("sizes", [(20, 8), (30, 4, 4)], ids=str)
def test_the_models_two_ways(sizes):
    """Batches, or one vector after another through the protocol: the same target times, too."""
    _, placement, _ = sliced(sizes, 3)
    with registers(SMALL) as device, model(SMALL, seed=9, chip=4) as reference:
        check(device, reference, placement, technology("pcm"), images(sizes, 5, 9), ages=(1e4,))


@pytest.mark.parametrize("sizes", [(20, 8), (30, 4, 4)], ids=str)
def test_gates_and_model_agree_with_every_error_on(sizes):
    """Each plane is a message of its own: its read noise is the same on both, and unlike that of the others."""
    _, placement, _ = sliced(sizes, 3)
    with verilated(SMALL) as device, model(SMALL, seed=9, chip=4) as reference:
        check(device, reference, placement, technology("pcm"), images(sizes, 5, 6), ages=(1e4,))


def test_gates_compute_the_integer_network():
    sizes = (30, 4, 4)
    net, placement, layers = sliced(sizes, 7)
    x = images(sizes, 8, 6)
    with verilated(SMALL) as device:
        device.configure(placement)
        device.program(technology("ideal"))
        codes, _ = device.infer_codes(x)
    np.testing.assert_array_equal(codes, plain(net, layers, x))
