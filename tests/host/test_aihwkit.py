"""Names of aihwkit mean here what they mean there."""

import re
from pathlib import Path

import numpy as np
import pytest

import bitline
from host import aihwkit
from host.errors import BitlineError
from sim.presets import PCM
from sim.tables import tables
from sim.technology import sigma_programmed
from tests.host.small import placement, vectors

PAGE = Path(__file__).parent.parent.parent / "docs" / "aihwkit.md"


def test_the_preset_is_theirs():
    kind = aihwkit.PCMLikeNoiseModel().technology()
    assert kind == PCM
    for table, values in tables(kind, 3600).items():
        np.testing.assert_array_equal(values, tables(PCM, 3600)[table])


def test_spread_scales_with_the_largest_conductance():
    """aihwkit: sigma is given at 25 uS and multiplied by g_max / 25."""
    g = np.linspace(0, 1, 11)
    kind = aihwkit.PCMLikeNoiseModel(g_max=40.0).technology()
    np.testing.assert_allclose(sigma_programmed(kind, g), 1.6 * sigma_programmed(PCM, g))
    assert kind.gmax.one == 40.0


def test_scales_switch_effects_off():
    kind = aihwkit.PCMLikeNoiseModel(prog_noise_scale=0, drift_scale=0, read_noise_scale=0).technology()
    assert (kind.programming, kind.drift, kind.flicker_noise, kind.read) == (False, False, False, True)


@pytest.mark.parametrize("options", [{"g_max": 0}, {"g_max": -1.0}, {"g_max": float("inf")}, {"drift_scale": 0.5},
                                     {"prog_noise_scale": 2}, {"read_noise_scale": -1}])
def test_what_is_not_supported_is_named(options):
    with pytest.raises(BitlineError, match=next(iter(options))):
        aihwkit.PCMLikeNoiseModel(**options)


@pytest.mark.parametrize(("kind", "theirs"), [("global", bitline.GlobalDriftCompensation()),
                                              ("column", bitline.PerColumnDriftCompensation())])
def test_calls_do_the_same(kind, theirs):
    outputs = []
    for ours in (False, True):
        with bitline.open("model:small") as device:
            device.configure(placement())
            if ours:
                device.program(PCM)
                device.age(3600)
                device.compensate(kind)
            else:
                bitline.program_analog_weights(device, bitline.PCMLikeNoiseModel(g_max=25.0))
                bitline.drift_analog_weights(device, 3600, theirs)
            outputs.append(device.infer_codes(vectors())[0])
    np.testing.assert_array_equal(*outputs)


def test_the_page_maps_every_name():
    text = PAGE.read_text("utf-8")
    for name in aihwkit.__all__:
        assert re.search(rf"`{name}\b", text), name
