"""Replays on the gates against the model, over good lines, slow ones, bad ones and torn ones."""

import numpy as np
import pytest

from host.backend import LinkBackend
from host.device import Device
from host.link import Link
from rtl.params import EngineOperation, EngineRegion, PortRegion, preset
from sim.presets import technology
from tests.chip.machine import OwnedChip, images, linked, model, place, verilated
from tests.chip.test_link_errors import Cable, Patient, gates
from tests.host.faults import NoisyLine, at_random

TINY = preset("tiny")
SIZES = (13, 8, 6)
COUNT = 12


def ready(device, geometry=TINY):
    """Return a programmed device with inputs loaded."""
    device.configure(place(SIZES, 1, geometry))
    device.program(technology("pcm"), how="statistical")
    device.load(images(SIZES, 2, COUNT))
    return device


def course(device):
    """Replay at two ages and in parts, stream in between; return all that comes of it."""
    found = [*device.replay_codes(), *device.infer_codes(images(SIZES, 3, 3))]
    device.age(86400.0)
    found += [*device.replay_codes(), *device.replay_codes(5, 3)]
    registers = device.backend.read(0, PortRegion.REGISTERS, 0, 8)
    return [*found, registers, np.array(list(device.counters().values()))]


@pytest.fixture(scope="module")
def expected():
    """What comes of it in the model."""
    with ready(model(TINY, seed=5)) as device:
        return course(device)


def check(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_gates_replay_what_the_model_does(expected):
    with ready(verilated(TINY, rx=3, tx=11, seed=5)) as device:
        check(course(device), expected)


@pytest.mark.parametrize(("name", "pace"), [("tiny-sdram", {}), ("tiny-sdram", {"rx": 3, "tx": 11}), ("pumped", {})],
                         ids=["at once", "a slow line", "two clocks"])
def test_a_batch_in_sdram(name, pace):
    """Beside the states: written no faster than SDRAM takes it, replayed while engines read their states there."""
    geometry = preset(name)
    opened = verilated(geometry, seed=5, **pace), model(geometry, seed=5)
    with ready(opened[0], geometry) as device, ready(opened[1], geometry) as twin:
        check(*(course(one) for one in (device, twin)))
        for _ in range(2):
            found = []
            for one in (device, twin):
                for unit in range(1, geometry.digital_unit):  # sweeps that nobody waits for
                    one.backend.write(unit, EngineRegion.REGISTERS, 0, [EngineOperation.AGE])
                found.append(one.replay_codes(1))
            check(*found)
        check(*(one.read_back() for one in (device, twin)))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_gates_over_a_noisy_line(expected, seed):
    line = NoisyLine(gates(), at_random(seed))
    with ready(linked(line, TINY, tries=40, seed=5)) as device:
        check(course(device), expected)
        assert line.spoiled > 10


def test_gates_over_a_torn_line(expected):
    """The cable is pulled again and again, within loads and replays; the session goes on where it was."""
    channel = gates()
    with ready(Device(LinkBackend(Patient(Link(Cable(channel, 150), TINY, tries=40), channel)), seed=5)) as device:
        check(course(device), expected)
        assert device.backend.link.resumed == 4
    channel.close()


def test_a_new_session_ends_a_replay():
    """Whoever comes next gets results of its own vectors only, and a replay of its own begins anew."""
    channel = OwnedChip(TINY)
    with linked(Cable(channel), TINY, seed=5) as first, ready(model(TINY, seed=5)) as reference:
        ready(first)
        for asked in (0, 1, 3):
            with linked(Cable(channel), TINY, seed=5) as former:
                former.backend.write(0, PortRegion.REGISTERS, 4, [0, 1000, COUNT])
                for _ in range(asked):
                    while former.backend.link.receive() is None:
                        pass
            with linked(Cable(channel), TINY, seed=5) as second:
                assert second.backend.read(0, PortRegion.REGISTERS, 6) == [0]
                second.placement, second.technology = first.placement, first.technology
                for device in (second, reference):
                    device.event = 77 + asked
                np.testing.assert_array_equal(*(one.infer_codes(images(SIZES, 3, 5))[0] for one in (second, reference)))
                second.load(images(SIZES, 2, COUNT))
                np.testing.assert_array_equal(second.replay(), reference.replay())
    channel.close()
