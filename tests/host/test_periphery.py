"""aihwkit's converters: what its engine does with one vector, told by averages far below a step."""

import numpy as np
import pytest

from host import periphery

READS = 10_000


def reads(x, weights, count=READS):
    """Return `count` reads of one vector."""
    return periphery.read(np.tile(np.float32(x), (count, 1)), np.float32(weights), np.random.default_rng(1))


def test_half_of_the_largest_input_rounds_down():
    """0.5 / (2 / 126) is 31.5 and goes to 32 in doubles; the engine divides singles and takes 31 of 63 steps."""
    assert reads([0.5, 1.0], [[10.0], [0.0]]).mean() == pytest.approx(10 * 31 / 63, abs=0.01)
    assert reads([8.0, 16.0], [[10.0], [0.0]]).mean() == pytest.approx(160 * 31 / 63, abs=0.16)


def test_no_input_gives_nothing_at_all():
    assert not reads([0.0, 0.0], [[1.0], [-1.0]]).any()


def test_noise_of_outputs_and_of_devices():
    """sqrt(0.06² + 0.0175² · Σ x² |w|), and a uniform step of 24 / 510."""
    spread = np.sqrt(0.06**2 + 0.0175**2 * (9 + 9) + (24 / 510)**2 / 12)
    assert reads([1.0, -1.0], [[9.0], [9.0]]).std() == pytest.approx(spread, rel=0.03)


def test_an_output_out_of_bounds_is_read_again_with_half_the_input():
    """All outputs of that vector: the noise of a small one doubles, too."""
    found = reads([1.0], [[20.0, 0.0]])
    assert found[:, 0].mean() == pytest.approx(2 * 20 * 31 / 63, abs=0.02)
    assert found[:, 1].std() == pytest.approx(2 * np.hypot(0.06, 24 / 510 / 12**0.5), rel=0.03)


def test_inputs_are_not_halved_below_four_of_their_steps():
    """The engine gives up at a sixteenth: 16 · 12 is the largest output."""
    assert (reads([1.0], [[1000.0]], 10) == 16 * 12).all()
