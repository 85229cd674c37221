"""A session: order of calls, what is refused with the state unchanged, and what must agree with what."""

import numpy as np
import pytest

from host.api import open_device
from host.backend import LinkBackend, ModelBackend
from host.channels import LoopbackChannel
from host.compiler import compile_network
from host.device import Device
from host.errors import BitlineError
from host.link import Link, LinkError
from host.results import Outcome
from rtl.params import preset
from sim.chip import Chip
from sim.law import Law, Number
from sim.link import Endpoint
from sim.presets import technology
from tests.host.small import network, placement, vectors

PCM, IDEAL = technology("pcm"), technology("ideal")


def opened(*, behind_link=False, seed=1):
    if not behind_link:
        return open_device("model:small", seed=seed)
    geometry = preset("small")
    link = Link(LoopbackChannel(Endpoint(Chip(geometry), geometry)), geometry)
    return Device(LinkBackend(link), seed=seed)


@pytest.fixture
def device():
    with opened() as found:
        found.configure(placement())
        found.program(PCM)
        yield found


def test_outputs_follow_the_network():
    with opened() as device:
        device.configure(placement())
        device.program(IDEAL)
        found = device.infer(vectors())
    exact = network().forward(vectors())
    assert np.abs(found - exact).max() < 0.08 * np.abs(exact).max()


def test_stream_is_inference(device):
    whole = device.infer(vectors())
    device.event = 0  # the same vectors again, with the same noise
    np.testing.assert_array_equal(np.array(list(device.stream(iter(vectors()), batch=7))), whole)


def test_a_placement_begins_a_new_clock(device):
    _, first = device.infer_codes(vectors())
    _, later = device.infer_codes(vectors())
    device.configure(placement())
    device.program(PCM)
    _, again = device.infer_codes(vectors())
    np.testing.assert_array_equal(again, first)
    assert later.min() > first.max()


def test_noise_differs_from_vector_to_vector(device):
    same = np.repeat(vectors()[:1], 20, axis=0)
    assert len(np.unique(device.infer_codes(same)[0], axis=0)) > 1


@pytest.mark.parametrize("behind_link", [False, True])
def test_trace_ends_in_the_outputs(behind_link):
    with opened(behind_link=behind_link) as device:
        device.configure(placement())
        device.program(PCM)
        traced = device.trace(vectors()[:5])
        device.event = 0
        outputs = device.infer(vectors()[:5])
    assert [layer.shape for layer in traced] == [(5, 9), (5, 5)]
    np.testing.assert_array_equal(traced[-1], outputs)


def test_ageing_in_two_steps_equals_one():
    outputs = []
    for steps in ((86400.0,), (60.0, 3600.0, 86400.0)):
        with opened() as device:
            device.configure(placement())
            device.program(PCM)
            before = device.read_back()
            for seconds in steps:
                device.age(seconds)
            outputs.append(device.infer_codes(vectors())[0])
            for left, right in zip(before, device.read_back(), strict=True):
                np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(*outputs)


def test_time_does_not_run_back(device):
    device.age(3600)
    before = device.counters()
    with pytest.raises(BitlineError, match="time does not run back"):
        device.age(3599)
    assert device.counters() == before
    assert device.age_seconds == 3600
    device.program(PCM)
    assert device.age_seconds == 0


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_ages_that_are_none(device, seconds):
    before = device.counters()
    with pytest.raises(BitlineError, match="age"):
        device.age(seconds)
    assert device.counters() == before


def test_each_programming_is_another_one(device):
    first = device.read_back()
    device.program(PCM)
    assert device.epoch == 2
    assert any((left != right).any() for left, right in zip(first, device.read_back(), strict=True))


def test_compensation_restores_the_gain(device):
    fresh = device.trace(vectors())
    device.age(365 * 86400)
    assert device.compensate("none").gains == [1.0] * len(placement().tiles)
    gains = {}
    for kind in ("none", "global"):
        device.compensate(kind)
        aged = device.trace(vectors())[0]
        gains[kind] = (aged * fresh[0]).sum() / (fresh[0] ** 2).sum()
    assert gains["none"] < 0.7
    assert 0.9 < gains["global"] < 1.1
    assert all(1.5 < gain < 3 for gain in device.gains)
    with pytest.raises(BitlineError, match="unknown compensation 'local'"):
        device.compensate("local")


@pytest.mark.parametrize(("x", "words"), [
    (np.ones((3, 19)), "takes 20 inputs, not 19"),
    (np.ones((2, 4, 6)), "takes 20 inputs, not 24"),
    (3.0, "takes 20 inputs, not 1"),
    (np.full((1, 20), np.nan), "input 0 holds NaN"),
    (np.vstack([np.ones((2, 20)), np.full((1, 20), np.inf)]), "input 2 holds NaN or infinity"),
    ([["a"] * 20], "array of numbers"),
    ([[1.0] * 20, [1.0]], "array of numbers"),
])
def test_bad_vectors_are_never_sent(device, x, words):
    before = device.counters()
    with pytest.raises(BitlineError, match=words):
        device.infer(x)
    assert device.counters() == before


def test_no_vectors_give_no_outputs(device):
    assert device.infer(np.zeros((0, 20))).shape == (0, 5)


def test_order_of_calls():
    with opened() as device:
        for call in (lambda: device.program(PCM), lambda: device.age(1), device.compensate, device.read_back,
                     lambda: device.infer(vectors())):
            with pytest.raises(BitlineError, match="call configure first"):
                call()
        device.configure(placement())
        for call in (lambda: device.age(1), device.compensate, lambda: device.infer(vectors())):
            with pytest.raises(BitlineError, match="call program first"):
                call()


def test_a_placement_for_another_chip_changes_nothing(device):
    before = device.infer_codes(vectors()[:2])[0]
    with pytest.raises(BitlineError, match="geometry 'demo'"):
        device.configure(placement("demo"))
    device.event = 0
    np.testing.assert_array_equal(device.infer_codes(vectors()[:2])[0], before)


def test_seeds():
    outputs = []
    for seed in (4, 4, 5):
        with opened(seed=seed) as device:
            device.configure(placement())
            device.program(PCM)
            outputs.append(device.infer_codes(vectors())[0])
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert (outputs[0] != outputs[2]).any()


def test_outcomes_tell_stuck_from_failed_and_worn():
    """A tenth of the devices is stuck; the same cells, once they have had their pulses, count as worn."""
    kind = technology("rram-om").replace(stuck=True)
    with opened() as device:
        device.configure(placement())
        result = device.program(kind)
        outcomes = np.concatenate([array.ravel() for array in result.outcomes])
        converged = np.concatenate([array.ravel() for array in result.converged])
        assert set(np.unique(outcomes)) >= {Outcome.CONVERGED, Outcome.STUCK}
        np.testing.assert_array_equal(outcomes == Outcome.CONVERGED, converged)
    geometry = preset("small").replace(wear_bits=8)
    with Device(ModelBackend(geometry), seed=1) as device:
        device.configure(compile_network(network(), geometry, vectors()))
        endurance = Number(8.0, "pulses", "X", "assumed")
        kind = technology("rram-om").replace(wear=True, endurance=endurance)
        first = np.concatenate([array.ravel() for array in device.program(kind).outcomes])
        again = np.concatenate([array.ravel() for array in device.program(kind).outcomes])
    assert Outcome.STUCK not in again
    assert (again == Outcome.WORN).mean() > 1.5 * (first == Outcome.WORN).mean()


@pytest.mark.parametrize(("kind", "sentence"), [
    (PCM.replace(wear=True, illustrative=True), "geometry .small. counts no wear .wear_bits is 0.: .* .pcm. cannot"),
    (PCM.replace(wear=True), "has its endurance from memory only"),
    (PCM.replace(stuck=True), "technology 'pcm' has no stuck rate: no source tells it"),
    (technology("ecram").replace(step_up=Law("polynomial", (1e-7,), "1", "X", "assumed")),
     "technology 'ecram' moves by 0.33 states with 64 pulses: geometry 'small' cannot hold it in 16 state_bits"),
])
def test_what_a_build_cannot_hold_is_refused_before_anything_is_written(device, kind, sentence):
    before = device.read_back(), device.counters(), device.epoch
    with pytest.raises(BitlineError, match=sentence):
        device.program(kind)
    assert device.technology is PCM
    assert (device.counters(), device.epoch) == before[1:]
    assert all((a == b).all() for a, b in zip(before[0], device.read_back(), strict=True))


STEPS = {
    "configure": lambda device: device.configure(placement()),
    "program": lambda device: device.program(PCM),
    "age": lambda device: device.age(3600.0),
    "compensate": lambda device: device.compensate("global"),
    "infer": lambda device: device.infer(vectors()),
}


@pytest.mark.parametrize("error", [LinkError("no answer"), KeyboardInterrupt()], ids=["link", "interrupt"])
@pytest.mark.parametrize("request_number", [3, 15])
@pytest.mark.parametrize("broken", [name for name in STEPS if name != "infer"])
def test_nothing_builds_on_a_step_broken_off(broken, request_number, error, device, monkeypatch):
    """Until it is called again; then all is as if it had never happened."""
    for name, do in STEPS.items():
        if name == broken:
            break
        do(device)
    left, write = [request_number], device.backend.write

    def failing(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise error
        return write(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(device.backend, "write", failing)
        with pytest.raises(type(error)):
            STEPS[broken](device)
    for name in list(STEPS)[list(STEPS).index(broken) + 1:]:
        with pytest.raises(BitlineError, match=f"the last {broken} was broken off before its end: call it again"):
            STEPS[name](device)
    with pytest.raises(BitlineError, match="broken off"):
        device.trace(vectors())
    for name in list(STEPS)[list(STEPS).index(broken):]:
        found = STEPS[name](device)
    assert np.abs(found - network().forward(vectors())).max() < 0.3 * np.abs(found).max()


def test_a_refusal_breaks_nothing_off(device):
    before = device.infer(vectors())
    device.event = 0
    for refused in (lambda: device.program(PCM, how="hopeful"), lambda: device.age(-1),
                    lambda: device.compensate("some"), lambda: device.compensate("adabs")):
        with pytest.raises(BitlineError):
            refused()
    np.testing.assert_array_equal(device.infer(vectors()), before)
