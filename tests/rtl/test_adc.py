"""The converter in charge fidelity against its model."""

import math

import numpy as np
import pytest

from rtl.adc import Adc, norm_bits
from rtl.params import PRESETS, Geometry
from sim.adc import Converters, convert, mismatched, noise_charge, noise_factors, sample_factors
from tests.rtl.bench import run_requests

GEOMETRIES = [PRESETS["tiny"], PRESETS["pairs"], PRESETS["demo"], PRESETS["faulty"],
              Geometry(name="large", rows=1024, columns=1024, lanes=64, pairs=2, significance=4, adc_bits=12),
              Geometry(name="coarse", rows=4, lanes=4, columns=4, adc_bits=4)]


def _noise(requests):
    sigma = noise_factors(requests["noise"]) * requests["norm"]
    return noise_charge(sigma, sample_factors(requests["xi"])).astype(np.int64)


def _corners(rng, count, *values):
    return rng.choice(np.array(values, np.int64), count)


def _requests(g, rng, count):
    """Conversions of three sorts: all corners, all random, and those that end at the edge between two codes."""
    charge, norm, sigma = g.charge_max, (1 << norm_bits(g)) - 1, 1 << 17
    low = {
        "charge": _corners(rng, count, -charge, -1, 0, 1, charge), "noise": _corners(rng, count, 0, 1, 65535),
        "norm": _corners(rng, count, 0, 1, norm), "xi": _corners(rng, count, -sigma, -1, 0, 1, sigma - 1),
        "gain": _corners(rng, count, 0, 1, 1 << 18, (1 << 20) - 1),
        "offset": _corners(rng, count, -(1 << 31), -1, 0, (1 << 31) - 1),
    }
    typical = max(1, min((1 << 20) - 1, (g.code_max << 24) // (charge // 4)))
    middle = {
        "charge": rng.integers(-charge, charge + 1, count), "noise": rng.integers(0, 4096, count),
        "norm": rng.integers(0, norm + 1, count), "xi": rng.integers(-60000, 60000, count),
        "gain": rng.integers(1, 2 * typical, count).clip(0, (1 << 20) - 1),
        "offset": rng.integers(-(1 << 26), 1 << 26, count),
    }
    edge = middle | {"charge": rng.integers(-charge // 8, charge // 8 + 1, count)}
    scaled = (edge["charge"] + _noise(edge)) * edge["gain"]
    edge["offset"] = ((scaled >> 24) * 2 + 1 << 23) - scaled - rng.integers(0, 2, count)
    parts = (low, middle, edge)
    return {name: np.concatenate([part[name] for part in parts]) for name in low}


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: g.name)
def test_codes_equal_the_model(geometry):
    rng = np.random.default_rng(3)
    requests = _requests(geometry, rng, 150)
    count = len(requests["charge"])
    requests["tag"] = rng.integers(0, 1 << 9, count)
    gain_error = np.concatenate([_corners(rng, count // 2, -2048, -1, 0, 1, 2047),
                                 rng.integers(-400, 400, count - count // 2)])
    offset_error = np.concatenate([rng.integers(-1000, 1000, count - count // 2),
                                   _corners(rng, count // 2, -32768, -1, 0, 1, 32767)])
    words = (gain_error & 0xFFF) << 16 | offset_error & 0xFFFF
    requests |= {"gain_error": gain_error, "offset_error": offset_error}
    seen = run_requests(Adc(geometry=geometry, tag=9), requests, ("code", "clipped", "tag"), rng)
    gain, offset = requests["gain"], requests["offset"]
    if geometry.mismatch:
        gain, offset = mismatched(gain, offset, words)
    code, clipped = convert(requests["charge"] + _noise(requests), Converters.of(gain, offset), geometry.code_max)
    np.testing.assert_array_equal(seen["code"], code)
    np.testing.assert_array_equal(seen["clipped"], clipped)
    np.testing.assert_array_equal(seen["tag"], requests["tag"])
    assert 0.05 < clipped.mean() < 0.95  # both kinds were there


def test_norm_never_needs_more_than_a_hard_multiplier_takes():
    for g in GEOMETRIES:
        assert norm_bits(g) == math.isqrt(127 * 127 * max(g.rows, g.columns) << 8).bit_length() <= 16
