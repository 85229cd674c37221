"""Inputs loaded once and replayed: what streaming them gives, whatever is done to the devices in between."""

import numpy as np
import pytest

from host.backend import LinkBackend
from host.channels import LoopbackChannel
from host.compiler import compile_network
from host.device import Device
from host.errors import BitlineError
from host.link import Link, LinkError
from rtl.params import PortRegion, preset
from sim.chip import Chip
from sim.link import Endpoint
from sim.presets import technology
from tests.chip.machine import images, linked, model, place, registers
from tests.host.faults import FAULTS, NoisyLine, at_random
from tests.host.small import network, placement, vectors

PCM = technology("pcm")
SMALL = preset("small")
WAYS = pytest.mark.parametrize("opened", [model, registers], ids=["model", "registers"])


def ready(opened, *, count=20, geometry=SMALL, **options):
    """Return a programmed device with vectors loaded."""
    device = opened(geometry, **options)
    device.configure(compile_network(network(), geometry, vectors()))
    device.program(PCM, how="statistical")
    device.load(vectors()[:count])
    return device


def course(device, run):
    """Return outputs and times of a run at several ages, compensations and seeds, and all counters."""
    found = []
    for seconds, compensated in ((0.0, "none"), (3600.0, "global"), (1e6, "column")):
        device.age(seconds)
        device.compensate(compensated)
        found += run()
    device.seed = 77
    device.program(PCM, how="statistical")
    return [*found, *run(), *run(), np.array(list(device.counters().values()))]


@WAYS
def test_a_replay_is_what_streaming_gives(opened):
    with ready(opened, seed=3) as device, ready(opened, seed=3) as other:
        replayed = course(device, lambda: device.replay_codes())
        streamed = course(other, lambda: other.infer_codes(vectors()[:20]))
        assert (device.event, device._vectors) == (other.event, other._vectors) == (100, 100)
        np.testing.assert_array_equal(device.replay(), other.infer(vectors()[:20]))
    for ours, theirs in zip(replayed, streamed, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("transport", [2, 8])
def test_words_of_other_widths(transport):
    geometry = SMALL.replace(transport=transport)
    found = []
    for opened in (model, registers):
        with ready(opened, geometry=geometry, seed=3) as device:
            found.append(device.replay(4, 9))
            device.event = 0
            found.append(device.infer(vectors()[4:13]))
    for one in found[1:]:
        np.testing.assert_array_equal(one, found[0])


@WAYS
def test_a_network_in_phases(opened):
    """The first phase is replayed; the others get what it hands on."""
    geometry = preset("tiny-sdram").replace(batch_words=256)
    sizes = (16, 16, 8, 6)
    found = []
    with opened(geometry, seed=3) as device:
        device.configure(place(sizes, 5, geometry))
        assert len(device.placement.phases) > 1
        device.program(PCM, how="statistical")
        device.load(images(sizes, 2, 9))
        for run in (lambda: device.replay_codes(2, 6), lambda: device.infer_codes(images(sizes, 2, 9)[2:8])):
            device.event = 0
            found.append(run()[0])
    np.testing.assert_array_equal(*found)


@WAYS
def test_a_part_is_replayed(opened):
    with ready(opened, seed=3) as device:
        part = device.replay(15, 3)
        device.event = 0
        rest = device.replay(15)
        device.event = 0
        np.testing.assert_array_equal(device.infer(vectors()[15:20]), rest)
        np.testing.assert_array_equal(part, rest[:3])


@WAYS
def test_events_wrap(opened):
    with ready(opened, seed=3) as device:
        device.event = (1 << 32) - 7
        replayed = device.replay_codes()
        device.event = (1 << 32) - 7
        np.testing.assert_array_equal(replayed[0], device.infer_codes(vectors()[:20])[0])


@WAYS
@pytest.mark.parametrize(("first", "count", "sentence"), [
    (0, 21, "21 vectors from 0 on cannot be replayed: 20 are loaded"),
    (19, 2, "2 vectors from 19 on cannot be replayed: 20 are loaded"),
    (-1, 2, "2 vectors from -1 on cannot be replayed: 20 are loaded"),
    (0, 0, "0 vectors from 0 on cannot be replayed: 20 are loaded"),
    (20, None, "0 vectors from 20 on cannot be replayed: 20 are loaded"),
])
def test_what_is_not_loaded_is_refused(opened, first, count, sentence):
    with ready(opened) as device:
        before = device.counters()
        with pytest.raises(BitlineError, match=f"^{sentence}$"):
            device.replay(first, count)
        assert device.counters() == before


def test_what_is_missing_is_told():
    with model(SMALL) as device:
        with pytest.raises(BitlineError, match=r"^no network is placed on this device: call configure first$"):
            device.load(vectors())
        device.configure(placement())
        with pytest.raises(BitlineError, match=r"^the network takes 20 inputs, not 3$"):
            device.load(np.zeros((2, 3)))
        with pytest.raises(BitlineError, match=r"^the devices are not programmed: call program first$"):
            device.replay()
        device.program(PCM)
        with pytest.raises(BitlineError, match=r"^nothing is loaded on this device: call load first$"):
            device.replay()
        device.load(vectors()[:4])
        device.configure(placement())
        device.program(PCM)
        assert device.loaded == 0
        with pytest.raises(BitlineError, match=r"^nothing is loaded on this device: call load first$"):
            device.replay()


def test_a_batch_that_does_not_fit_is_refused_and_the_one_there_stays():
    with ready(model) as device:
        assert device.batch_capacity == 2048 // 5
        before = device.replay()
        with pytest.raises(BitlineError, match=r"^410 vectors of 5 words do not fit the batch memory of 2,048 words: "
                                               r"load 409 at most$"):
            device.load(np.zeros((410, 20)))
        device.event = 0
        np.testing.assert_array_equal(device.replay(), before)
        device.load(np.ones((409, 20)))
        assert device.loaded == 409


def test_a_build_without_batch_memory_says_so():
    with model(preset("demo")) as device:
        device.configure(placement("demo"))
        assert device.batch_capacity == 0
        with pytest.raises(BitlineError, match=r"^geometry 'demo' has no batch memory: stream the inputs, or take a "
                                               r"build that has one \(tiny, small, .*\)$"):
            device.load(vectors())


class StoppedError(Exception):
    """Somebody interrupts."""


def interrupted(after):
    """Return a progress that stops the work after so many steps."""
    def progress(_label, _total):
        steps = iter(range(after))

        def report(_done):
            if next(steps, None) is None:
                raise StoppedError
        return report
    return progress


@WAYS
def test_a_load_that_is_broken_off_blocks_replays_and_nothing_else(opened):
    with ready(opened, count=40, seed=3) as device:
        with pytest.raises(StoppedError):
            device.load(vectors()[::-1], progress=interrupted(0))
        with pytest.raises(BitlineError, match=r"^the last load was broken off before its end: call it again$"):
            device.replay()
        device.age(60.0)
        device.infer(vectors()[:2])
        device.load(vectors())
        assert len(device.replay()) == 40


def test_a_replay_that_is_broken_off_leaves_nothing_behind():
    """Its results are thrown away, and it is over, before anything else is done."""
    with ready(registers, seed=3) as device, ready(registers, seed=3) as other:
        for step in (lambda one: one.infer(vectors()[:3]), lambda one: one.replay(2), lambda one: one.age(100.0),
                     lambda one: one.infer(vectors()[:3])):
            with pytest.raises(StoppedError):
                device.replay(progress=interrupted(4))
            device.event = other.event
            found = [step(one) for one in (device, other)]
            np.testing.assert_array_equal(*[[] if one is None else one for one in found])
        with pytest.raises(StoppedError):
            device.infer(vectors(), progress=interrupted(4))
        np.testing.assert_array_equal(device.replay(), other.replay())
        assert device.backend.read(0, PortRegion.REGISTERS, 6).tolist() == [0]


def test_another_host_ends_a_replay():
    """It gets its own results only; the first host is told."""
    endpoint = Endpoint(Chip(SMALL), SMALL)
    with ready(lambda geometry, **options: linked(LoopbackChannel(endpoint), geometry, **options), seed=3) as first:
        def intrude(_label, _total):
            second = linked(LoopbackChannel(endpoint), SMALL, seed=3)
            second.placement, second.technology, second.event = first.placement, first.technology, 500
            assert endpoint.device.port.batch.registers["replay"] == 0
            found.append(second.infer_codes(vectors()[:4])[0])
            return lambda _done: None

        def later(label, total):
            steps = iter([None, None, intrude])
            return lambda _done: (next(steps, None) or (lambda *_: None))(label, total)

        found = []
        with pytest.raises(LinkError, match="state is not what this session left"):
            first.replay(progress=later)
    with ready(registers, seed=3) as alone:
        alone.event = 500
        np.testing.assert_array_equal(alone.infer_codes(vectors()[:4])[0], found[0])


def test_a_result_of_another_vector_is_an_error():
    """The device answers a vector that nobody asked for."""
    with ready(registers) as device:
        link = device.backend.link
        ours, receive = device.backend._settle, link.receive
        device.backend._settle = lambda: None
        link.receive = lambda: (lambda body: body and bytes([body[0] ^ 4]) + body[1:])(receive())
        with pytest.raises(LinkError, match=r"^the device answered vector 4 in place of 0: results were lost$"):
            device.infer(vectors()[:1])
        device.backend._settle, link.receive = ours, receive


def noisy(choose):
    return lambda geometry, **options: linked(
        NoisyLine(LoopbackChannel(Endpoint(Chip(geometry), geometry)), choose), geometry, tries=40, **options)


@pytest.mark.parametrize("choose", [
    *(pytest.param(at_random(seed), id=f"seed {seed}") for seed in range(3)),
    *(pytest.param(lambda _way, number, fault=fault: fault if number % 9 == 4 else None, id=fault.__name__)
      for fault in FAULTS)])
def test_over_a_line_that_spoils_frames(choose):
    """Nothing is replayed twice, no event is skipped, no result lost; the digest is that of a good line."""
    found = []
    for opened in (noisy(choose), registers):
        with ready(opened, seed=3) as device:
            results = [*device.replay_codes(), *device.replay_codes(3, 11)]
            device.load(vectors()[5:])
            device.age(1e5)
            results += [*device.replay_codes(), np.array(list(device.counters().values()))]
            link = device.backend.link
            found.append((results, (link._digest, link._commands)))
            if opened is not registers:
                assert link._channel.spoiled > 20
    assert found[0][1] == found[1][1]
    for ours, theirs in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_more_under_way_than_have_room():
    """The number that the compiler gives the chip is the one that the host keeps to."""
    for geometry in (SMALL, SMALL.replace(result_words=9), SMALL.replace(result_vectors=2)):
        with ready(registers, geometry=geometry) as device:
            room = device.backend.read(0, PortRegion.REGISTERS, 2).tolist()
            assert room == [device.placement.room] == [device.backend._room(10 + 4 * 8)]
            chip = device.backend.link._channel._endpoint.device
            most, start = [], chip.port.batch.start
            chip.port.batch.start = lambda count, most=most, start=start: (most.append(count), start(count))[1]
            device.replay()
            assert max(most) == room[0]


def test_a_serial_line_carries_results_only():
    """Bytes to the chip for a vector: those of a request for its result."""
    class Counting(LoopbackChannel):
        written = 0

        def write(self, payload):
            self.written += len(payload)
            super().write(payload)

    channel = Counting(Endpoint(Chip(SMALL), SMALL))
    device = Device(LinkBackend(Link(channel, SMALL)))
    device.configure(placement())
    device.program(PCM)
    device.load(vectors())
    device.infer(vectors()[:1])
    before = channel.written
    device.replay()
    assert channel.written - before <= 40 * 14 + 2 * 40
