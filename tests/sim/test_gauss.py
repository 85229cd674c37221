"""The Gaussian samples: their exact distribution by convolution of the table, and a large sample of it."""

from statistics import NormalDist

import numpy as np
import pytest

from rtl.params import gaussian_table
from sim.gauss import gaussian, gaussian_hash
from sim.hash import BLOCK, threefry2x32

ONE = 1 << 14
SAMPLES = 1 << 23


@pytest.fixture(scope="module")
def exact():
    """Return (values, probabilities) of the sum of two signed draws from the table, by convolution."""
    table = np.array(gaussian_table())
    half = np.zeros(2 * table.max() + 1)
    np.add.at(half, table.max() + np.concatenate([table, -table]), 1 / (2 * table.size))
    size = 1 << (2 * half.size).bit_length()
    both = np.fft.irfft(np.fft.rfft(half, size) ** 2, size)[:2 * half.size - 1].clip(0)
    return np.arange(both.size) - 2 * int(table.max()), both


@pytest.fixture(scope="module")
def sample():
    """Return samples of consecutive events and columns, as reads take them."""
    return gaussian_hash(3, 1 << 24, np.arange(64) << 4, np.arange(SAMPLES // 64)[:, None]).reshape(-1)


def test_every_word_is_the_sum_of_two_signed_entries():
    table = gaussian_table()
    rng = np.random.default_rng(1)
    words = np.append(rng.integers(0, 1 << 32, 2000), [0, 0xFFFFFFFF])
    expected = [(-1) ** (word >> 10 & 1) * table[word & 1023] + (-1) ** (word >> 21 & 1) * table[word >> 11 & 1023]
                for word in map(int, words)]
    np.testing.assert_array_equal(gaussian(words), expected)
    np.testing.assert_array_equal(gaussian(words.astype(np.uint32)), expected)
    assert gaussian(int(words[0])) == expected[0]


def test_in_blocks_as_at_once():
    for shape in ((), (7,), (3, BLOCK + 5)):
        event = np.arange(int(np.prod(shape))).reshape(shape)
        np.testing.assert_array_equal(gaussian_hash(1, 2, 3, event), gaussian(threefry2x32(1, 2, 3, event)[0]))
    keys = np.arange(BLOCK + 5)
    np.testing.assert_array_equal(gaussian_hash(1, keys, 3, 4), gaussian(threefry2x32(1, keys, 3, 4)[0]))


def test_exact_moments(exact):
    values, probabilities = exact
    sigmas = values / ONE
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    mean, variance, fourth, sixth = (float((sigmas**k * probabilities).sum()) for k in (1, 2, 4, 6))
    assert abs(mean) < 1e-12
    assert variance == pytest.approx(1, abs=1e-5)
    assert fourth == pytest.approx(3, rel=0.001)
    assert sixth == pytest.approx(15, rel=0.01)


def test_exact_distribution_up_to_four_sigma(exact):
    values, probabilities = exact
    normal = NormalDist()
    cumulative = np.cumsum(probabilities)
    for place in np.linspace(-4, 4, 321):
        below = cumulative[np.searchsorted(values, place * ONE, "right") - 1]
        assert abs(below - normal.cdf(place)) < 3e-4  # half of what falls on 0, where equal entries meet
    for sigmas, tolerance in ((1, 0.001), (2, 0.001), (3, 0.005), (3.5, 0.03), (4, 0.1)):
        tail = probabilities[np.abs(values) > sigmas * ONE].sum()
        assert tail == pytest.approx(2 * normal.cdf(-sigmas), rel=tolerance)


def test_a_sample_has_the_exact_moments(exact, sample):
    values, probabilities = exact
    count = sample.size
    sigmas, drawn = values / ONE, sample / ONE
    for power in (1, 2, 3, 4):
        mean = float((sigmas**power * probabilities).sum())
        spread = float((sigmas ** (2 * power) * probabilities).sum() - mean**2) ** 0.5
        assert abs(float((drawn**power).mean()) - mean) < 5 * spread / count**0.5


def test_a_sample_has_the_exact_tails(exact, sample):
    values, probabilities = exact
    for sigmas in (0.5, 1, 2, 3, 3.5, 4):
        for side in (-1, 1):
            expected = probabilities[side * values > sigmas * ONE].sum() * sample.size
            drawn = np.count_nonzero(side * sample > sigmas * ONE)
            assert abs(drawn - expected) < 5 * expected**0.5
