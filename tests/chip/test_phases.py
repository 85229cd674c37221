"""Networks larger than the weight memories: nets made again from states, phase by phase, are those of a larger chip."""

import numpy as np
import pytest

from host.backend import ModelBackend
from host.device import Device
from host.errors import BitlineError
from host.link import LinkError
from rtl.params import EngineRegion, preset
from sim.presets import technology
from tests.chip.machine import images, model, place, registers, verilated

GEOMETRY = preset("tiny-sdram")
ROOMY = GEOMETRY.replace(name="roomy", net_words=64)
SIZES = (16, 16, 8, 6)
"""The first layer fills both weight memories, the other two have them next."""


def both(other, **options):
    """Return the device in phases, and the model with all nets resident, configured."""
    found = []
    for geometry, way in ((GEOMETRY, other), (ROOMY, model)):
        device = way(geometry, **options)
        device.configure(place(SIZES, 5, geometry))
        found.append(device)
    return found


@pytest.mark.parametrize("other", [model, registers, verilated], ids=["model", "registers", "verilated"])
def test_phases_change_nothing(other):
    """Outcomes, states, nets, constants, gains, outputs and target time; batches of several sizes at several ages."""
    device, roomy = both(other, seed=99, chip=17)
    assert [(phase.first, phase.last) for phase in device.placement.phases] == [(0, 0), (1, 2)]
    assert len(roomy.placement.phases) == 1
    with device, roomy:
        written = [one.program(technology("pcm")) for one in (device, roomy)]
        for name in ("sums", "pulses", "converged"):
            same(getattr(written[0], name), getattr(written[1], name))
        same(device.reference, roomy.reference)
        same(device.read_back(), roomy.read_back())
        for seconds, count in ((0, 3), (1e5, 1), (1e7, 4)):
            if seconds:
                device.age(seconds)
                roomy.age(seconds)
            for _ in range(2):
                same(device.infer_codes(images(SIZES, 6, count)), roomy.infer_codes(images(SIZES, 6, count)))
        assert device.compensate("column").gains == roomy.compensate("column").gains
        same(device.nets(), roomy.nets())
        same(device.column_constants(), roomy.column_constants())
        same(device.infer_codes(images(SIZES, 7, 5)), roomy.infer_codes(images(SIZES, 7, 5)))


def same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("places", [16, 32])
def test_any_division_into_phases(seed, places):
    """Random layers, one pair and two, programmed at once or in the loop."""
    rng = np.random.default_rng(seed)
    sizes = tuple(int(n) for n in rng.integers(4, 9, 5))
    pairs = 1 + seed % 2
    small = GEOMETRY.replace(name="small", engines=1, net_words=places, contexts=8, pairs=pairs, programs=8, cells=512,
                             column_words=64, state_store="block")
    x, found, phases = images(sizes, seed, 7), [], []
    for geometry in (small, small.replace(net_words=128)):
        placement = place(sizes, seed, geometry)
        phases.append(len(placement.phases))
        with model(geometry, seed=seed) as device:
            device.configure(placement)
            device.program(technology("pcm"), how="statistical" if seed > 1 else "closed-loop")
            device.age(3e4)
            found.append([*device.infer_codes(x), *device.infer_codes(x), *device.read_back()])
    assert phases[0] > phases[1] == 1
    same(*found)


class Losing(ModelBackend):
    """A model whose link is lost at one write to an engine's registers."""

    left = -1

    def write(self, unit, region, offset, values):
        if region == EngineRegion.REGISTERS and unit:
            self.left -= 1
            if self.left == 0:
                raise LinkError("the line is lost")
        super().write(unit, region, offset, values)


@pytest.mark.parametrize("left", [1, 4, 9, 13, 18, 23])  # twelve writes make a phase
def test_a_load_that_is_broken_off_is_begun_again(left):
    x, device = images(SIZES, 6, 3), Device(Losing(GEOMETRY), seed=3)
    device.configure(place(SIZES, 5, GEOMETRY))
    device.program(technology("pcm"))
    expected = device.infer_codes(x)
    device.event, device.backend.left = 0, left
    with pytest.raises(LinkError, match="the line is lost"):
        device.infer_codes(x)
    device.event = 0
    np.testing.assert_array_equal(device.infer_codes(x)[0], expected[0])


def test_what_needs_all_nets_is_refused_and_leaves_the_devices():
    device, _ = both(model, seed=1)
    with pytest.raises(BitlineError, match=r"by gradient descent reads whole arrays .* runs in 2 phases"):
        device.program(technology("ecram").replace(extrapolate=True), how="gradient")
    device.program(technology("pcm"))
    before = device.read_back()
    with pytest.raises(BitlineError, match="runs in 2 phases cannot be traced: choose a chip"):
        device.trace(images(SIZES, 6, 2))
    with pytest.raises(BitlineError, match="runs in 2 phases cannot be traced: choose a chip"):
        device.take_statistics(images(SIZES, 6, 4))
    same(device.read_back(), before)
