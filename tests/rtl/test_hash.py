# amaranth: UnusedElaboratable=no
"""The pipelined hash against its model and against the published vectors."""

import numpy as np
import pytest

from rtl.hash import Threefry
from sim.hash import threefry2x32
from tests.rtl.bench import run_pipeline


def _requests(rng, count):
    corners = np.array([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
    key1, counter, event = (
        np.concatenate([rng.permutation(corners), rng.integers(0, 1 << 32, count)]) for _ in range(3))
    return {"key1": key1, "counter": counter, "event": event}


@pytest.mark.parametrize("rounds", [1, 3, 4, 13, 20])
def test_words_equal_the_model(rounds):
    rng = np.random.default_rng(rounds)
    requests = _requests(rng, 40)
    for key0 in (0, 0xFFFFFFFF, int(rng.integers(1 << 32))):
        dut = Threefry(rounds=rounds)
        seen = run_pipeline(dut, requests | {"key0": np.full(45, key0)}, ("word0", "word1"), dut.latency)
        word0, word1 = threefry2x32(key0, requests["key1"], requests["counter"], requests["event"], rounds)
        np.testing.assert_array_equal(seen["word0"], word0)
        np.testing.assert_array_equal(seen["word1"], word1)


def test_published_vector():
    dut = Threefry(rounds=20)
    seen = run_pipeline(dut, {"key0": [0x13198A2E], "key1": [0x03707344], "counter": [0x243F6A88],
                              "event": [0x85A308D3]}, ("word0", "word1"), dut.latency)
    assert (seen["word0"][0], seen["word1"][0]) == (0xC4923A9C, 0x483DF7A0)


@pytest.mark.parametrize("rounds", [0, 21, True, 2.0])
def test_rounds_out_of_range_are_refused(rounds):
    with pytest.raises(ValueError, match="rounds must be 1 to 20"):
        Threefry(rounds=rounds)
