# amaranth: UnusedElaboratable=no
"""A delay gives everything back, in time, whichever way it is built."""

import numpy as np
import pytest

from rtl.delay import Delay
from tests.rtl.bench import run_pipeline


@pytest.mark.parametrize("clocks", [1, 3, 4, 5, 13, 24])
def test_delay(clocks):
    rng = np.random.default_rng(clocks)
    values, valid = rng.integers(0, 1 << 20, 100), rng.integers(0, 2, 100)
    got = run_pipeline(Delay(shape=20, clocks=clocks), {"i": values, "i_valid": valid}, ["o", "o_valid"], clocks)
    np.testing.assert_array_equal(got["o"], values)
    np.testing.assert_array_equal(got["o_valid"], valid)


@pytest.mark.parametrize("clocks", [-1, 1.5])
def test_clocks_are_checked(clocks):
    with pytest.raises(ValueError, match="clocks must be a non-negative integer, not"):
        Delay(shape=1, clocks=clocks)
