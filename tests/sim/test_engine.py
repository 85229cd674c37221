"""The model's products are exact whichever float they use."""

import numpy as np
import pytest

from sim.engine import Weights


@pytest.mark.parametrize(("rows", "top"), [(8, 255), (518, 255), (1024, 1275)])
def test_charges_are_exact(rows, top):
    rng = np.random.default_rng(rows)
    nets = rng.integers(-top, top + 1, (rows, 16))
    x = rng.integers(-127, 128, (32, rows))
    nets[:, 0], x[0] = top, 127
    nets[:, 1] = np.where(np.arange(rows) % 2, top, -top + 1)
    got = Weights(nets).charges(x)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, x @ nets)
