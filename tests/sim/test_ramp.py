"""Pulse fidelity and charge fidelity are one: counting ticks and ramp levels gives the integers of the closed form."""

import numpy as np
import pytest

from sim.adc import Converters, convert
from sim.crossbar import integrate
from sim.ramp import ramp


@pytest.mark.parametrize("net_max", [255, 1275])
def test_charge_by_ticks_is_the_product(net_max):
    rng = np.random.default_rng(net_max)
    for rows, columns in ((1, 1), (8, 8), (24, 5)):
        nets = rng.integers(-net_max, net_max + 1, (rows, columns))
        activations = np.concatenate([rng.integers(-127, 128, (20, rows)), rng.choice([-127, 0, 127], (10, rows))])
        np.testing.assert_array_equal(integrate(nets, activations), activations @ nets)


@pytest.mark.parametrize("code_max", [7, 127, 2047])
def test_codes_by_counting_are_those_of_the_closed_form(code_max):
    rng = np.random.default_rng(code_max)
    charge = rng.integers(-300_000, 300_000, 500)
    gain = rng.integers(0, 1 << 20, 500) * rng.integers(0, 2, 500) + rng.integers(0, 300, 500)
    offset = np.where(rng.integers(0, 2, 500), rng.integers(-(1 << 31), 1 << 31, 500),
                      ((2 * rng.integers(-64, 64, 500) + 1) << 23) - charge * gain)
    codes, clipped = ramp(charge, gain, offset, code_max)
    expected_codes, expected_clipped = convert(charge, Converters.of(gain, offset), code_max)
    np.testing.assert_array_equal(codes, expected_codes)
    np.testing.assert_array_equal(clipped, expected_clipped)
    assert 0 < clipped.sum() < clipped.size
