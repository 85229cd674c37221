"""A whole run over a line that spoils frames, to the gates and to their twin: the same end as over a good line."""

import itertools

import numpy as np
import pytest

from host.backend import LinkBackend
from host.channels import ChannelError, LoopbackChannel
from host.device import Device
from host.link import Link, LinkError
from rtl.params import EngineRegion, address, geometry_hash, preset
from sim.chip import Chip
from sim.link import Endpoint
from sim.presets import technology
from tests.chip.machine import OwnedChip, images, linked, place, registers
from tests.host.faults import FAULTS, NoisyLine, at_random

TINY = preset("tiny")
SIZES = (13, 8, 6)


def twin():
    return LoopbackChannel(Endpoint(Chip(TINY), TINY))


def gates():
    # A row takes the chip some thousand clocks; a repeat sent too early would only cost simulated time.
    return OwnedChip(TINY, cycles=60_000, step=500)


def run(device):
    """Do everything that a host does with a chip, and return every integer that came of it."""
    device.configure(place(SIZES, 1, TINY))
    programmed = device.program(technology("pcm"))
    found = [*programmed.sums, *programmed.pulses, *programmed.converged, *device.infer_codes(images(SIZES, 2, 6))]
    device.age(86400.0)
    found += [np.array(device.compensate().gains)]
    found += [*device.infer_codes(images(SIZES, 3, 6)), *device.partial_sums(images(SIZES, 4, 2))]
    return [*found, *device.read_back(), np.array(list(device.counters().values()))]


@pytest.fixture(scope="module")
def clean():
    """What comes of a run over a good line, and the digest it leaves."""
    with registers(TINY, seed=5) as device:
        found = run(device)
        link = device.backend.link
        assert link.repeats == 0
        return found, (link._digest, link._commands)


def check(clean, line, **options):
    with linked(line, TINY, tries=40, seed=5, **options) as device:
        found, (expected, digest) = run(device), clean
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        link = device.backend.link
        assert (link._digest, link._commands) == digest
        link.resume()  # asks the device: it holds the same digest
        return line.spoiled, link.repeats


@pytest.mark.parametrize("seed", range(4))
def test_twin_over_a_noisy_line(clean, seed):
    spoiled, repeats = check(clean, NoisyLine(twin(), at_random(seed)))
    assert spoiled > 20
    assert repeats > 10


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_gates_over_a_noisy_line(clean, seed):
    spoiled, repeats = check(clean, NoisyLine(gates(), at_random(seed)))
    assert spoiled > 20
    assert repeats > 10


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("direction", ["request", "reply"])
def test_each_fault_by_itself(clean, fault, direction):
    """Every ninth frame of one direction, while rows are written, vectors under way and counters read."""
    line = NoisyLine(twin(), lambda way, number: fault if way == direction and number % 9 == 4 else None)
    assert check(clean, line)[0] > 20


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_on_the_gates(clean, fault):
    line = NoisyLine(gates(), lambda _way, number: fault if number % 9 == 4 else None)
    assert check(clean, line)[0] > 20


class PulledError(ChannelError):
    """The cable is out."""


class Cable:
    """A channel to something that stays, until it is pulled at the n-th write, heard or not by the other end."""

    def __init__(self, channel, at=None, *, heard=True):
        self.channel, self.at, self.heard = channel, at, heard
        self.writes = itertools.count(1)

    def write(self, payload):
        number = next(self.writes)
        if self.at is None or number < self.at or (self.heard and number == self.at):
            self.channel.write(payload)
        if self.at is not None and number >= self.at:
            raise PulledError("the cable was pulled")

    def read(self, timeout):
        if self.at is not None and next(self.writes) >= self.at:
            raise PulledError("the cable was pulled")
        return self.channel.read(timeout)

    def close(self):
        """Leave the chip alone: it is somebody else's."""


class Patient:
    """A link that plugs the cable in again whenever it is out."""

    def __init__(self, link, channel):
        self.link, self.channel = link, channel
        self.geometry = link.geometry
        self.resumed = 0

    def _again(self, action):
        try:
            return action()
        except LinkError as error:
            if "cable was pulled" not in str(error):
                raise
            self.resumed += 1
            self.link.resume(Cable(self.channel, 60 if self.resumed < 4 else None, heard=self.resumed % 2 == 0))
            return action()

    def submit(self, opcode, body=b""):
        return self._again(lambda: self.link.submit(opcode, body))

    def result(self, ticket):
        return self._again(lambda: self.link.result(ticket))

    def receive(self):
        return self._again(self.link.receive)

    def close(self):
        self.link.close()


@pytest.mark.parametrize("open_channel", [twin, gates])
def test_a_lost_line_resumes(clean, open_channel):
    """PulledError in the middle of programming, ageing and inference; the session goes on where it was."""
    channel = open_channel()
    device = Device(LinkBackend(Patient(Link(Cable(channel, 200), TINY, tries=40), channel)), seed=5)
    found = run(device)
    assert device.backend.link.resumed == 4
    for ours, theirs in zip(found, clean[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    channel.close()


@pytest.mark.parametrize("open_channel", [twin, gates])
def test_another_host_is_noticed(open_channel):
    """A second host programs the same chip: the first one refuses to go on, in one sentence, and touches nothing."""
    channel = open_channel()
    with linked(Cable(channel), TINY, seed=5) as first:
        first.configure(place(SIZES, 1, TINY))
        first.program(technology("pcm"))
        second = linked(Cable(channel), TINY, seed=6)
        second.configure(place(SIZES, 1, TINY))
        second.program(technology("pcm"))
        second.infer(images(SIZES, 2, 3))
        states, digest = second.read_back(), second.backend.link._digest
        with pytest.raises(LinkError, match=r"^the device's state is not what this session left: .* program it again$"):
            first.infer(images(SIZES, 2, 2))
        third = linked(Cable(channel), TINY)
        assert third.backend.link.identity.digest == digest
        third.placement = second.placement
        assert all((a == b).all() for a, b in zip(states, third.read_back(), strict=True))
    channel.close()


@pytest.mark.parametrize("open_channel", [twin, gates])
def test_wrong_geometry_is_refused(open_channel):
    small, channel = preset("small"), open_channel()
    before = Link(Cable(channel), TINY).identity
    with pytest.raises(LinkError) as caught:
        linked(Cable(channel), small)
    assert str(caught.value) == (f"the device was built as tiny ({geometry_hash(TINY):08x}), "
                                 f"but small ({geometry_hash(small):08x}) is asked for")
    after = Link(Cable(channel), TINY).identity
    assert (before.digest, before.commands) == (after.digest, after.commands)
    channel.close()


def test_a_result_that_never_comes_is_an_error():
    """Routes that lead nowhere: the chip takes the vector, and says for ever that no result is ready."""
    with linked(twin(), TINY) as device:
        device.configure(place(SIZES, 1, TINY))
        device.program(technology("ideal"))
        device.backend.link._channel._endpoint.device.receive = lambda: None
        with pytest.raises(LinkError, match=r"^no result from the device: asked \d+ times for that of vector 0"):
            device.infer(images(SIZES, 2, 2))


@pytest.mark.parametrize("open_channel", [twin, gates])
def test_another_host_that_did_as_much_is_noticed(open_channel):
    """Its number is the one the device expects, or one of the last 8: only the session tells the two hosts apart."""
    channel, targets = open_channel(), address(1, EngineRegion.TARGETS, 0)
    first = Link(Cable(channel), TINY)
    first.write(targets, [1])
    second = Link(Cable(channel), TINY)
    second.write(targets, [2])
    second.write(targets + 1, [3])
    with pytest.raises(LinkError, match="state is not what this session left"):
        first.write(targets + 1, [4])
    assert Link(Cable(channel), TINY).read(targets, 2) == [2, 3]
    channel.close()
