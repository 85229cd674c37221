"""Two devices give the same integers, and where they do not the comparison sees it."""

import numpy as np
import pytest

from host.api import open_device
from host.backend import LinkBackend
from host.channels import LoopbackChannel
from host.compare import compare
from host.device import Device
from host.link import Link
from rtl.params import EngineRegion, preset
from sim.chip import Chip
from sim.link import Endpoint
from sim.presets import technology
from tests.host.small import placement, vectors

GEOMETRY = preset("small")


def through_the_link():
    """A model behind the protocol: every register access a request."""
    endpoint = Endpoint(Chip(GEOMETRY), GEOMETRY)
    return Device(LinkBackend(Link(LoopbackChannel(endpoint), GEOMETRY)), seed=5)


def compared(device, **options):
    with device, open_device("model:small?seed=5") as reference:
        return compare(device, reference, placement(), technology("pcm"), vectors()[:6], ages=(3600.0,),
                       progress=lambda _label, _total: lambda _done: None, **options)


def test_register_by_register_is_the_same():
    found = compared(through_the_link())
    cells = sum(tile.rows * tile.columns for tile in placement().tiles)
    assert found.differing == 0
    assert found.images == 6
    assert found.parts["write-verify"] == (5 * cells, 0)
    assert found.parts["device states"] == (2 * cells, 0)
    assert found.parts["outputs"] == (2 * 6 * 5, 0)
    assert found.parts["target time"] == (2 * 6, 0)
    assert found.parts["counters"][0] > 10


def test_nets_are_read_only_when_asked_for():
    cells = sum(tile.rows * tile.columns for tile in placement().tiles)
    assert compared(open_device("model:small?seed=5")).parts["nets"] == (cells, 0)
    assert "nets" not in compared(open_device("model:small?seed=5"), nets=False).parts


class Spoiled(Device):
    """A device that programs all, and then changes the lowest bit of one state."""

    def program(self, *arguments, **options):
        result = super().program(*arguments, **options)
        word = int(self.backend.read(1, EngineRegion.STATES, 3)[0])
        self.backend.write(1, EngineRegion.STATES, 3, [word ^ 1])
        return result


def test_one_bit_of_one_state_is_seen():
    endpoint = Endpoint(Chip(GEOMETRY), GEOMETRY)
    found = compared(Spoiled(LinkBackend(Link(LoopbackChannel(endpoint), GEOMETRY)), seed=5))
    assert found.parts["device states"][1] == 1
    assert found.differing >= 1


class Reseeded(Device):
    """A device whose seed is another one than it is told."""

    def _set(self, unit, **registers):
        if "seed" in registers:
            registers["seed"] ^= 1
        super()._set(unit, **registers)


def test_another_seed_is_seen():
    found = compared(Reseeded(open_device("model:small").backend))
    assert found.parts["device states"][1] > 100
    assert found.parts["outputs"][1] > 0


@pytest.mark.parametrize("effect", ["programming", "drift", "flicker_noise", "read"])
def test_switching_an_effect_off_changes_the_numbers(effect):
    outputs = []
    for kind in (technology("pcm"), technology("pcm").replace(**{effect: False})):
        with open_device("model:small") as device:
            device.configure(placement())
            device.program(kind)
            device.age(86400)
            outputs.append(device.infer_codes(vectors())[0])
    assert (outputs[0] != outputs[1]).any()
    assert np.corrcoef(outputs[0].ravel(), outputs[1].ravel())[0, 1] > 0.9
