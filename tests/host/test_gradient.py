"""Programming by gradient descent: what is left of the error, what it costs, what it never does."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from host.backend import ModelBackend
from host.compiler import compile_network
from host.device import Device
from host.errors import BitlineError
from host.network import Dense, Network
from host.results import Outcome
from rtl.params import EngineRegion, preset
from rtl.params.registers import register
from sim.presets import technology

SIZES = (100, 60, 10)
GEOMETRIES = {1: preset("demo"), 2: preset("demo").replace(pairs=2, significance=2, state_bits=16, adc_bits=10)}


def offset(name):
    return register("engine", EngineRegion.REGISTERS, name).offset


@functools.cache
def placement(pairs):
    rng = np.random.default_rng(0)
    layers = tuple(Dense(f"l{k}", rng.normal(size=(o, i)) / np.sqrt(i), rng.normal(size=o) / 4, relu=k == 0)
                   for k, (i, o) in enumerate(itertools.pairwise(SIZES)))
    return compile_network(Network(SIZES[0], layers), GEOMETRIES[pairs], rng.random((50, SIZES[0])))


def programmed(name, how, pairs=1, seed=1, **switches):
    """Program a device; return it, the result, and the rms error of its weights in units of the largest."""
    kind = technology(name).replace(flicker_noise=False, relaxation=False, extrapolate=True, **switches)
    device = Device(ModelBackend(GEOMETRIES[pairs]), seed=seed)
    device.configure(placement(pairs))
    found = device.program(kind, how=how)
    largest = 200 * GEOMETRIES[pairs].significance
    errors = [(nets - tile.targets / 256) / largest for nets, tile in
              zip(device.nets(), placement(pairs).tiles, strict=True)]
    return device, found, float(np.sqrt(np.mean(np.concatenate([one.ravel() for one in errors])**2)))


@pytest.mark.parametrize("pairs", [1, 2])
def test_pcm_ends_closer_than_by_closed_loop(pairs):
    """Reads of the whole array cost no more noise than reads of cells, and those of all steps count."""
    _, loop, of_loop = programmed("pcm", "closed-loop", pairs)
    _, found, error = programmed("pcm", "gradient", pairs)
    assert found.converged_fraction > 0.99
    assert error < 0.9 * of_loop
    assert found.pulses_mean < 1.2 * loop.pulses_mean


@pytest.mark.parametrize(("name", "limit"), [("ecram", 0.02), ("pcm-hermes-1", 0.02), ("ideal", 0.006)])
def test_other_devices_converge(name, limit):
    """Both ways of pulsing: melt, and steps up and down."""
    assert programmed(name, "gradient")[2] < limit


def test_devices_without_noise_converge():
    """Nothing but the offsets of its groups dithers the rounding of reads: 31 nets a code here, the window is 1.2."""
    device, found, _ = programmed("ideal", "gradient")
    assert found.converged_fraction > 0.995
    far = [np.abs(nets - tile.targets / 256).max() for nets, tile in
           zip(device.nets(), placement(1).tiles, strict=True)]
    assert max(far) < 2.5, far


def test_without_steps_the_error_stays():
    """What brings the error down is the descent: with one step it is that of a pulse without a verify."""
    one = dataclasses.replace(technology("pcm").number("iterations"), value=1)
    assert programmed("pcm", "gradient", iterations=one)[2] > 1.2 * programmed("pcm", "gradient")[2]


def test_outcomes_tell_what_is_left():
    """The host's idea of each cell's error, from noisy products, is close to the truth; it never sees a state."""
    device, found, _ = programmed("pcm", "gradient")
    assert set(np.unique(np.concatenate([one.ravel() for one in found.outcomes]))) <= {
        Outcome.CONVERGED, Outcome.FAILED, Outcome.STUCK}
    for nets, tile, sums in zip(device.nets(), placement(1).tiles, found.sums, strict=True):
        counts = device.backend.read(tile.unit, EngineRegion.REGISTERS, offset("counts_per_g"))[0] / 65536 * 256
        off = sums / counts - nets
        assert abs(off.mean()) < 0.1
        assert off.std() < 2.0  # codes of 200; the window is 4.8


def test_no_cell_is_read(monkeypatch):
    """Every probe drives all rows, or none."""
    seen = []
    probe = ModelBackend.probe

    def watched(self, jobs):
        for job in jobs:
            ticks, mode = (int(self.read(job.unit, EngineRegion.REGISTERS, offset(name))[0])
                           for name in ("probe_ticks", "probe_mode"))
            seen.append((ticks, mode))
        return probe(self, jobs)

    device = Device(ModelBackend(GEOMETRIES[1]))
    device.configure(placement(1))
    device.probes = "dense"
    monkeypatch.setattr(ModelBackend, "probe", watched)
    verified = device.counters()["engine0.verify_conversions"]
    device.program(technology("pcm"), how="gradient")
    assert device.counters()["engine0.verify_conversions"] > verified
    assert seen
    assert all(ticks == 0 or mode == 1 for ticks, mode in seen)


def test_epochs_differ_and_repeat_with_their_seed():
    """Each programming is another one, each seed too; the same seed gives the same."""
    states = [programmed("pcm", "gradient", seed=seed)[0].read_back()[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(states[0], states[1])
    assert (states[0] != states[2])[states[0] > 0].mean() > 0.8, "RESET devices are at 0"


@pytest.mark.parametrize(("name", "sentence"), [
    ("pcm-set", "steps one way only"), ("rram-wan2022", "choose programming statistical")])
def test_what_cannot_descend_is_refused(name, sentence):
    device = Device(ModelBackend(GEOMETRIES[1]))
    device.configure(placement(1))
    with pytest.raises(BitlineError, match=sentence):
        device.program(technology(name), how="gradient")
    assert device.technology is None
