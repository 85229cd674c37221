"""Models that are wrong in one place each: the comparison with the gates must see every one of them."""

import dataclasses

import numpy as np
import pytest

import sim.adc
import sim.affine
import sim.array
import sim.core
import sim.device
import sim.digital
import sim.mesh
import sim.port
import sim.tile
import sim.write_verify
from host.compare import observe
from host.results import BitExact
from rtl.params import Purpose, preset
from sim.message import served
from sim.presets import technology
from tests.chip.machine import images, model, place, verilated

TINY, PAIRS = preset("tiny"), preset("pairs")
SIZES = (13, 8, 6)
AGES = (1e5,)


def silent(_label, _total):
    return lambda _done: None


def kind():
    """PCM with a pulse in twenty missing its window, so that every branch of write-verify is taken."""
    base = technology("pcm")
    return base.replace(iterations=dataclasses.replace(base.iterations, value=4))


def run(device, geometry, devices=None):
    found = observe(device, place(SIZES, 1, geometry), devices or kind(), 2 * images(SIZES, 2, 40), how="closed-loop",
                    nets=True, ages=AGES, progress=silent)
    device.close()
    return found


@pytest.fixture(scope="module", params=[TINY, PAIRS], ids=lambda geometry: geometry.name)
def gates(request):
    """What the gates do, once; every model is compared with it."""
    geometry = request.param
    found = run(verilated(geometry, seed=21, chip=9), geometry)
    assert not differing(found, run(model(geometry, seed=21, chip=9), geometry))
    return geometry, found


def differing(gates, other):
    """Return the parts in which two runs differ, counted as `host.compare` counts them."""
    parts = {name: _count(gates[name], other[name]) for name in gates}
    result = BitExact(images=40, parts=parts)
    assert bool(result.differing) == any(wrong for _, wrong in parts.values())
    return {name for name, (_, wrong) in parts.items() if wrong}


def _count(ours, theirs):
    from host.compare import _count as count
    return count(ours, theirs)


def other_purpose(name):
    class Wrong:
        """Purposes with one of them taken for another."""

        def __getattr__(self, asked):
            return Purpose.PROBE if asked == name and name != "PROBE" else (
                Purpose.READ if asked == name else getattr(Purpose, asked))

    return Wrong()


def half_down(value, shift):
    return value if shift == 0 else (value + (1 << (shift - 1)) - 1) >> shift


def wrong_convert(charge, converters, code_max):
    code, clipped = sim.adc.convert(charge, converters, code_max)
    return np.maximum(code, -code_max + 1), clipped


def low_gain(charge, converters, code_max):
    return sim.adc.convert(charge, converters._replace(gain=converters.gain * (1 + 1 / 64)), code_max)


def early_affine(code, words):
    return sim.affine.affine(code, words) & ~1


def swapped_counter(row, column, device=0):
    from rtl.params import hash_counter
    return hash_counter(column, row, device)


def one_word(words):
    from sim.gauss import gaussian
    return gaussian(words >> 1)


def small_window(self, *arguments):
    settings, *rest = arguments
    return _program(self, {**settings, "window": settings["window"] - 1}, *rest)


_program = sim.write_verify.WriteVerify.program

# What is changed (module, name), to what, and where that must show at least.
def wrong_way(tables, states, amplitude, down, *rest):
    return sim.device.stepped_states(tables, states, amplitude, ~down, *rest)


def own_ways(tables, words, *, common, stuck_rate):
    return sim.device.born(tables, words, common=not common, stuck_rate=stuck_rate)


def larger_least(self, settings, rows, targets, pulse, read):
    return _program(self, {**settings, "least_amplitude": settings["least_amplitude"] + 1}, rows, targets, pulse, read)


MUTATIONS = {
    "read noise of another purpose": (sim.tile, "Purpose", other_purpose("READ"), {"outputs"}),
    "pulses of another purpose": (sim.array, "Purpose", other_purpose("PULSE"), {"device states"}),
    "1/f noise of another purpose": (sim.array, "Purpose", other_purpose("FLICKER"), {"outputs"}),
    "relaxation of another purpose": (sim.array, "Purpose", other_purpose("STATIC"), {"outputs"}),
    "verify reads of another purpose": (sim.write_verify, "Purpose", other_purpose("VERIFY"), {"write-verify"}),
    "probes of another purpose": (sim.write_verify, "Purpose", other_purpose("PROBE"), {"compensation"}),
    "row and column exchanged": (sim.array, "hash_counter", swapped_counter, {"device states"}),
    "epoch one bit too high": (sim.array, "EPOCH_SHIFT", 23, {"device states"}),
    "iteration in other bits": (sim.write_verify, "ITERATION_SHIFT", 5, {"write-verify"}),
    "noise rounded down": (sim.adc, "_HALF", 0.0, {"outputs", "write-verify"}),
    "halves rounded down": (sim.device, "round_shift", half_down, {"outputs", "write-verify"}),
    "clipped one code early": (sim.tile, "convert", wrong_convert, {"outputs", "write-verify"}),
    "gain 1.6 % too large": (sim.tile, "convert", low_gain, {"outputs", "write-verify"}),
    "partial sums of one bit less": (sim.tile, "affine", early_affine, {"outputs"}),
    "norm of one fraction bit less": (sim.adc, "_NORM_UNIT", 8.0, {"outputs"}),
    "noise constants limited early": (sim.array, "NOISE_MAX", 500, {"outputs"}),
    "other bits of the hash": (sim.array, "gaussian", one_word, {"outputs"}),
    "largest conductance too low": (sim.device, "CODE_MAX", 40, {"outputs"}),
    "window one count smaller": (sim.write_verify.WriteVerify, "program", small_window, {"write-verify"}),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_is_seen(gates, name, monkeypatch):
    geometry, expected = gates
    owner, attribute, wrong, where = MUTATIONS[name]
    sim.array._static_samples.cache_clear()
    sim.array._counters.cache_clear()
    monkeypatch.setattr(owner, attribute, wrong)
    found = differing(expected, run(model(geometry, seed=21, chip=9), geometry))
    monkeypatch.undo()
    sim.array._static_samples.cache_clear()
    sim.array._counters.cache_clear()
    assert found & where, f"only {found or 'nothing'} differs"


GRADUAL = {
    "steps twice as large": (sim.device, "AMPLITUDE_FRACTION", 11),
    "sizes of devices twice as large": (sim.device, "VARIATION_FRACTION", 11),
    "trains that scatter more": (sim.device, "SPREAD_BITS", (9, 11, 13)),
    "Gmax too low": (sim.device, "GMAX_G16", 30_000),
    "unit limited early": (sim.device, "_UNIT_MAX", 300),
    "trains that reach their bound": (sim.device, "FLOOR_BITS", 0),
    "up for down": (sim.array, "stepped_states", wrong_way),
    "directions differ": (sim.array, "born", own_ways),
    "least amplitude one larger": (sim.write_verify.WriteVerify, "program", larger_least),
    "error's size limited early": (sim.write_verify, "ERROR_MAX", 40),
}


@pytest.fixture(scope="module")
def gradual():
    """What the gates make of devices that step both ways."""
    base = technology("rram-es")
    device = base.replace(iterations=dataclasses.replace(base.iterations, value=8), extrapolate=True)
    found = run(verilated(TINY, seed=21, chip=9), TINY, device)
    assert not differing(found, run(model(TINY, seed=21, chip=9), TINY, device))
    return device, found


@pytest.mark.parametrize("name", GRADUAL)
def test_is_seen_in_gradual_pulses(gradual, name, monkeypatch):
    device, expected = gradual
    owner, attribute, wrong = GRADUAL[name]
    monkeypatch.setattr(owner, attribute, wrong)
    found = differing(expected, run(model(TINY, seed=21, chip=9), TINY, device))
    assert "device states" in found, f"only {found or 'nothing'} differs"


def test_significance_is_seen(gates):
    """The main pair weighs 2 in a model of gates that have 3; with one pair, its states have a bit less."""
    geometry, expected = gates
    if geometry.pairs == 1:
        wrong, where = geometry.replace(state_bits=15), "device states"
    else:
        wrong, where = geometry.replace(significance=2), "outputs"
    device = model(geometry, seed=21, chip=9)
    for core in device.backend.chip.cores:
        core.programming.array.geometry = wrong
    assert where in differing(expected, run(device, geometry))


@pytest.mark.parametrize("changes", [{"seed": 22}, {"chip": 10}], ids=str)
def test_coordinates_are_seen(gates, changes):
    geometry, expected = gates
    device = model(geometry, **{"seed": 21, "chip": 9, **changes})
    assert differing(expected, run(device, geometry)) >= {"outputs", "device states", "write-verify"}


@pytest.mark.parametrize(("unit", "name"), [
    ("cores", "vectors"), ("cores", "row_ticks"), ("cores", "conversions"), ("cores", "clips")])
def test_a_miscounted_event_is_seen(gates, unit, name):
    geometry, expected = gates
    device = model(geometry, seed=21, chip=9)
    accept = device.backend.chip.cores[0].tiles.accept

    def miscount(*messages):
        answer = accept(*messages)
        getattr(device.backend.chip, unit)[0].tiles.counters[name] += 1
        return answer

    device.backend.chip.cores[0].tiles.accept = miscount
    assert differing(expected, run(device, geometry)) == {"counters"}


def test_time_is_seen(gates, monkeypatch):
    """A tile that is free one picosecond late."""
    geometry, expected = gates
    monkeypatch.setattr(sim.tile, "served", lambda arrived, free, latency: served(arrived, free + 1, latency))
    assert differing(expected, run(model(geometry, seed=21, chip=9), geometry)) == {"target time"}
