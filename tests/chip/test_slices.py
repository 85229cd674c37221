"""Bit slices on whole chips: batches, and one vector after another, with every error on."""

import pytest

from host.slicing import slice_network
from rtl.params import preset
from sim.presets import technology
from tests.chip.machine import images, model, network, registers
from tests.chip.test_equivalence import check

SMALL = preset("small")


def sliced(sizes, seed):
    net, x = network(sizes, seed), images(sizes, seed + 1, 16)
    return slice_network(net, SMALL, x, 200)


@pytest.mark.parametrize("sizes", [(20, 8), (30, 4, 4)], ids=str)
def test_the_models_two_ways(sizes):
    """Batches, or one vector after another through the protocol: the same target times, too."""
    placement = sliced(sizes, 3)
    with registers(SMALL) as device, model(SMALL, seed=9, chip=4) as reference:
        check(device, reference, placement, technology("pcm"), images(sizes, 5, 9), ages=(1e4,))
