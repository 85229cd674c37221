"""Matrices held in bits: exact integers without noise, and the spread that mismatch makes."""

import numpy as np
import pytest

from host.crossbar import Crossbar
from host.slicing import BIT_NET, written_at_once
from rtl.params import ACTIVATION_MAX, ADC_SHIFT, GMAX_CODE
from sim.presets import technology
from sim.technology import STATISTICAL

RNG = np.random.default_rng(4)


class BitSlices:
    """A matrix of signed integers (rows, columns) in one crossbar: a column for each bit of each column's magnitudes.

    Counts are shifted and added here, in place of the digital unit, which tests/host/test_slicing.py holds.
    """

    def __init__(self, kind, weights, *, seed=1):
        self.rows, self.columns = weights.shape
        self.bits = int(np.abs(weights).max()).bit_length()
        planes = np.sign(weights)[..., None] * (np.abs(weights)[..., None] >> np.arange(self.bits) & 1)
        self.tile = Crossbar(written_at_once(kind), self.rows, self.columns * self.bits, way=STATISTICAL, seed=seed,
                             adc_bits=max(4, self.rows.bit_length() + 1))
        self.tile.program(BIT_NET / GMAX_CODE * planes.reshape(self.rows, -1))

    def multiply(self, x):
        """Return x (N, rows; signed integers) @ weights, as counts of bits shifted and added, (N, columns)."""
        gain = round((1 << ADC_SHIFT) / (BIT_NET * ACTIVATION_MAX))
        result = np.zeros((len(x), self.columns), np.int64)
        for k in range(int(np.abs(x).max()).bit_length()):
            plane = np.sign(x) * (np.abs(x) >> k & 1) * ACTIVATION_MAX
            counts = self.tile.codes(plane, gain, first_event=k * len(x)).reshape(len(x), self.columns, self.bits)
            result += (counts << np.arange(self.bits)).sum(axis=2) << k
        return result


@pytest.mark.parametrize("name", ["sram", "mram"])
@pytest.mark.parametrize(("rows", "weight_bits", "input_bits"), [(5, 1, 1), (64, 4, 3), (127, 8, 8), (250, 2, 4)])
def test_integers_are_exact_without_noise(name, rows, weight_bits, input_bits):
    weights = RNG.integers(-(1 << weight_bits) + 1, 1 << weight_bits, (rows, 6))
    x = RNG.integers(-(1 << input_bits) + 1, 1 << input_bits, (9, rows))
    slices = BitSlices(technology(name).replace(programming=False), weights)
    np.testing.assert_array_equal(slices.multiply(x), x @ weights)


def test_every_bit_at_its_largest():
    """The converter's gain is rounded: the fullest column must still count right."""
    for rows in (255, 511):
        slices = BitSlices(technology("sram"), np.full((rows, 4), 3))
        np.testing.assert_array_equal(slices.multiply(np.full((1, rows), 3)), 9 * rows)


def test_mismatch_is_that_of_the_source():
    """NeuroSim: a spread of 7 % of the conductance, 125 uS on and 41.7 uS off."""
    weights = RNG.integers(0, 2, (256, 128))
    devices = BitSlices(technology("mram"), weights, seed=3).tile.devices()[0][..., 0]
    on, off = devices[weights == 1], devices[weights == 0]
    assert on.mean() == pytest.approx(125, rel=0.003)
    assert on.std() == pytest.approx(0.07 * 125, rel=0.02)
    assert off.mean() == pytest.approx(1000 / 24, rel=0.003)
    assert off.std() == pytest.approx(0.07 * 1000 / 24, rel=0.02)


def test_errors_of_products_are_those_of_a_monte_carlo():
    """The same matrix in floating point: conductances drawn, currents summed, counts rounded, shifted and added."""
    weights, x = RNG.integers(-7, 8, (120, 40)), RNG.integers(0, 8, (50, 120))
    exact = x @ weights
    found = [np.std(BitSlices(technology("mram"), weights, seed=seed).multiply(x) - exact) for seed in range(4)]
    wanted = []
    for _ in range(8):
        got = np.zeros(exact.shape)
        for b in range(3):
            on = [(sign * weights > 0) & (np.abs(weights) >> b & 1).astype(bool) for sign in (1, -1)]
            pair = [np.where(bit, 125.0, 1000 / 24) for bit in on]
            pair = [g * (1 + 0.07 * RNG.standard_normal(g.shape)) for g in pair]
            net = (pair[0] - pair[1]) / (125 - 1000 / 24)
            for k in range(3):
                got += np.rint((x >> k & 1) @ net) * (1 << (b + k))
        wanted.append(np.std(got - exact))
    assert np.mean(found) == pytest.approx(np.mean(wanted), rel=0.06)
