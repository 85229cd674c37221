"""The fast way to the samples of inference reads is the plain one: the hash of coordinates, one by one."""

import numpy as np
import pytest

from rtl.params import Purpose, hash_counter, hash_key
from sim.gauss import AHEAD, gaussian, read_samples
from sim.hash import BLOCK, threefry2x32

KEY = hash_key(0x89ABCDEF, Purpose.READ, 200, 4321)


def plain(position, columns, events):
    return gaussian(threefry2x32(*KEY, hash_counter(position, np.arange(columns)), events[:, None])[0]) / 2**16


@pytest.mark.parametrize("events", [
    [0], [5], [AHEAD - 1, AHEAD], [3, 1, 2], [7, 7], [2**32 - 1], [2**32 - 1, 0], [40, 35, 60], range(AHEAD),
    range(100, 100 + 3 * AHEAD)], ids=str)
@pytest.mark.parametrize("position", [0, 1, 4095])
def test_any_events(events, position):
    events = np.array(events, np.int64)
    np.testing.assert_array_equal(read_samples(((KEY, 10),), position, events), plain(position, 10, events))


def test_more_than_a_block():
    events = np.random.default_rng(1).integers(0, 2**32, 5)
    columns = BLOCK // 2 + 3
    columns = min(columns, 1 << 14)  # as many as the counter has room for
    np.testing.assert_array_equal(read_samples(((KEY, columns),), 0, events), plain(0, columns, events))


def test_what_is_kept_does_not_change():
    events = np.arange(4)
    first = read_samples(((KEY, 6),), 0, events)
    expected = first.copy()
    first += 1
    np.testing.assert_array_equal(read_samples(((KEY, 6),), 0, events), expected)
    with pytest.raises(ValueError, match="read-only"):
        read_samples(((KEY, 6),), 0, events[:1])[:] = 0


@pytest.mark.parametrize("count", [1, 7, 100])
def test_several_tiles(count):
    other = hash_key(5, Purpose.READ, 1, 2)
    events = np.arange(40, 40 + count)
    together = read_samples(((KEY, 6), (other, 4)), 0, events)
    np.testing.assert_array_equal(together[:, :6], read_samples(((KEY, 6),), 0, events))
    np.testing.assert_array_equal(together[:, 6:], read_samples(((other, 4),), 0, events))
