"""The affine stage against its model."""

import numpy as np

from rtl.affine import Affine
from rtl.params import PRESETS, Geometry
from sim.affine import AffineWords, affine
from tests.rtl.bench import run_requests


def test_partial_sums_equal_the_model():
    rng = np.random.default_rng(4)
    for g in (PRESETS["tiny"], Geometry(name="fine", adc_bits=12), Geometry(name="coarse", adc_bits=4)):
        limit = g.code_max
        code = np.concatenate([rng.choice([-limit, -1, 0, 1, limit], 150), rng.integers(-limit, limit + 1, 150)])
        scale = np.concatenate([rng.choice([-32768, -129, -128, -127, 0, 127, 128, 32767], 150),
                                rng.integers(-32768, 32768, 150)])
        bias = np.concatenate([rng.choice([-(1 << 23), -1, 0, (1 << 23) - 1], 150),
                               rng.integers(-(1 << 23), 1 << 23, 150)])
        tag = rng.integers(0, 32, 300)
        seen = run_requests(Affine(geometry=g, tag=5), {"code": code, "scale": scale, "bias": bias, "tag": tag},
                            ("partial", "tag"), rng)
        expected = affine(code, AffineWords.of(scale, bias, limit))
        np.testing.assert_array_equal(seen["partial"], expected)
        np.testing.assert_array_equal(seen["tag"], tag)
        assert expected.max() == (1 << 23) - 1
        assert expected.min() == -(1 << 23)
