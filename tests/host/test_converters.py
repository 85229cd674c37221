"""Converters that differ from column to column: what a build gives them, and what calibration finds and takes off."""

import functools
import itertools

import numpy as np
import pytest

from host.backend import ModelBackend
from host.compiler import compile_network
from host.device import Device
from host.errors import BitlineError
from host.network import Dense, Network
from rtl.params import EngineRegion, preset
from rtl.params.registers import COLUMN_STRIDE
from sim.law import Number
from sim.presets import technology

GEOMETRY = preset("faulty")
SIZES = (112, 64, 10)
OFFSETS = Number(2.0, "codes", "U", "test")


@functools.cache
def network():
    rng = np.random.default_rng(3)
    return Network(SIZES[0], tuple(
        Dense(f"l{k}", rng.normal(size=(o, i)) / np.sqrt(i), rng.normal(size=o) / 4, relu=k == 0)
        for k, (i, o) in enumerate(itertools.pairwise(SIZES))))


@functools.cache
def vectors():
    return np.random.default_rng(4).random((40, SIZES[0]))


@functools.cache
def placement():
    return compile_network(network(), GEOMETRY, vectors())


def programmed(spread=0.07, how="statistical", **changes):
    kind = technology("pcm-hermes-2").with_fault(f"converters={spread}").replace(**changes)
    device = Device(ModelBackend(GEOMETRY), seed=3)
    device.configure(placement())
    device.program(kind, how=how)
    return device


def first_layer_error(device):
    exact = vectors() @ network().layers[0].weight.T + network().layers[0].bias
    return float(np.sqrt(((device.trace(vectors())[0] - exact) ** 2).mean() / exact.var()))


def words(device):
    """Errors of gain and offset (codes) as the chip has them, of the first tile."""
    tile = placement().tiles[0]
    raw = device.backend.read(tile.unit, EngineRegion.COLUMNS, tile.column_base * COLUMN_STRIDE,
                              tile.columns * COLUMN_STRIDE).reshape(-1, COLUMN_STRIDE)[:, 3]
    gain, offset = raw >> 16, raw & 0xFFFF
    return ((gain ^ 0x800) - 0x800) / 4096, ((offset ^ 0x8000) - 0x8000) / 256


def test_errors_have_their_spread_and_belong_to_the_chip():
    device, again = programmed(converter_offset_spread=OFFSETS), programmed(converter_offset_spread=OFFSETS)
    gain, offset = words(device)
    assert gain.std() == pytest.approx(0.07, rel=0.25)
    assert offset.std() == pytest.approx(2.0, rel=0.25)
    np.testing.assert_array_equal(words(again)[0], gain)
    again.program(technology("pcm-hermes-2"), how="statistical")
    assert not words(again)[0].any()


@pytest.mark.parametrize("quiet", [False, True])
def test_calibration_finds_gains_and_offsets_and_takes_them_off(quiet):
    """Within what programming leaves of a column (1 %), and half a code; what is left is near that of equal ones."""
    device = programmed(converter_offset_spread=OFFSETS, programming=not quiet, flicker_noise=not quiet)
    gain, offset = words(device)
    before = first_layer_error(device)
    found = device.calibrate()
    assert np.abs(found.gains[0] - 1 - gain).std() < (0.006 if quiet else 0.02)
    assert np.abs(found.inference[0] - offset).max() < 0.6
    assert found.weak == ()
    assert found.cost.conversions > 0
    assert found.cost.target_time_ps > 0
    equal = programmed(0.0, programming=not quiet, flicker_noise=not quiet)
    equal.calibrate()
    assert before > (1.5 if quiet else 1.1) * first_layer_error(device)
    assert first_layer_error(device) < 1.1 * first_layer_error(equal) + 0.002


def test_closed_loop_takes_gains_into_the_cells():
    """Its reads have the errors that inference has: products come out right, conductances do not."""
    device = programmed(how="closed-loop", relaxation=False)
    gain, _ = words(device)
    assert np.abs(device.calibrate().gains[0] - 1).std() < 0.3 * gain.std()
    nets, targets = device.nets()[0], placement().tiles[0].targets / 256
    slopes = (nets * targets).sum(axis=0) / (targets**2).sum(axis=0)
    assert np.corrcoef(slopes, -gain)[0, 1] > 0.95


def test_nets_are_exact_all_the_same():
    """Looking inside goes around the converters' errors, and leaves them as they were."""
    device = programmed()
    gain, _ = words(device)
    core = device.backend.chip.cores[0]
    np.testing.assert_array_equal(device.nets()[0], core.tiles._weights[0].nets)
    np.testing.assert_array_equal(words(device)[0], gain)


def test_later_calibrations_keep_the_gains_of_fresh_devices():
    """An aged array has lost what drift took: that is no error of its converters."""
    device = programmed()
    fresh = device.calibrate()
    device.age(3e6)
    later = device.calibrate()
    assert later.gains is None
    np.testing.assert_array_equal(device._converters[0], fresh.gains[0])


@pytest.mark.parametrize(("geometry", "name", "fault", "sentence"), [
    ("demo", "pcm-hermes-1", "converters", "geometry 'demo' has converters that are all alike"),
    ("demo", "pcm-hermes-1", "wear=1000", "geometry 'demo' counts no wear"),
])
def test_what_a_build_cannot_do_is_refused(geometry, name, fault, sentence):
    device = Device(ModelBackend(preset(geometry)))
    device.configure(compile_network(network(), preset(geometry), vectors()))
    with pytest.raises(BitlineError, match=sentence):
        device.program(technology(name).with_fault(fault))
    assert device.technology is None


@pytest.mark.parametrize(("fault", "sentence"), [
    ("converters", "has no converter gain spread: no source tells it"),
    ("rust", "unknown fault 'rust': choose from stuck, wear, converters"),
    ("stuck=2", "stuck=2: stuck rate must be 0 to 1"), ("stuck=many", "stuck=many: stuck rate must be 0 to 1"),
    ("wear", "has its endurance from memory only"), ("stuck", "has no stuck rate"),
])
def test_faults_without_a_source_are_refused(fault, sentence):
    with pytest.raises(ValueError, match=sentence):
        technology("pcm").with_fault(fault)
