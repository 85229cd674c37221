"""The Gaussian table against its model."""

import numpy as np

from rtl.gauss import Gaussian
from sim.gauss import gaussian
from tests.rtl.bench import run_pipeline


def test_samples_equal_the_model():
    rng = np.random.default_rng(1)
    every_index = np.arange(1 << 11)
    words = np.concatenate([
        [0, 0xFFFFFFFF, 0x003FFFFF, 0x001FFBFF, 0x00200400],
        every_index | rng.integers(0, 1 << 21, every_index.size) << 11,
        every_index << 11 | rng.integers(0, 1 << 11, every_index.size),
    ])
    dut = Gaussian()
    seen = run_pipeline(dut, {"word": words}, ("xi",), dut.latency)
    np.testing.assert_array_equal(seen["xi"], gaussian(words))
