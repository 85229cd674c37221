"""Randomness is a function: the hash is the published one, mixes every bit, and no two neighbours know each other."""

import numpy as np
import pytest

from rtl import hash as gateware
from rtl.params import Purpose, hash_counter, hash_key
from sim import hash as model
from sim.gauss import gaussian_hash
from sim.hash import BLOCK, threefry2x32

PUBLISHED = [  # Random123, kat_vectors: threefry2x32, 20 rounds: counter, key, words
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


def by_hand(key0, key1, counter, event, rounds):
    """Return the words of one request in plain integers, written from the paper."""
    mask = 0xFFFFFFFF
    schedule = (key0, key1, key0 ^ key1 ^ 0x1BD11BDA)
    x0, x1 = counter + key0 & mask, event + key1 & mask
    for k in range(rounds):
        x0 = x0 + x1 & mask
        turn = (13, 15, 26, 6, 17, 29, 16, 24)[k & 7]
        x1 = (x1 << turn | x1 >> 32 - turn) & mask ^ x0
        if k & 3 == 3:
            injection = k // 4 + 1
            x0 = x0 + schedule[injection % 3] & mask
            x1 = x1 + schedule[(injection + 1) % 3] + injection & mask
    return x0, x1


@pytest.mark.parametrize(("counter", "key", "words"), PUBLISHED)
def test_published_vectors(counter, key, words):
    assert tuple(int(word) for word in threefry2x32(*key, *counter, rounds=20)) == words
    assert by_hand(*key, *counter, 20) == words


@pytest.mark.parametrize("rounds", range(21))
def test_every_number_of_rounds(rounds):
    rng = np.random.default_rng(rounds)
    requests = rng.integers(0, 1 << 32, (20, 4))
    words = threefry2x32(*requests.T, rounds=rounds)
    np.testing.assert_array_equal(np.stack(words, -1), [by_hand(*map(int, row), rounds) for row in requests])


def test_broadcast_over_more_than_a_block():
    rng = np.random.default_rng(5)
    rows, columns = 3, BLOCK // 2 + 1
    key1, event = rng.integers(0, 1 << 32, (rows, 1)), rng.integers(0, 1 << 32, columns)
    for keys in ((7, 9), (7, key1), (key1, 9)):
        words = threefry2x32(*keys, hash_counter(2, 3), event)
        assert words[0].shape == np.broadcast_shapes(np.shape(keys[1]), event.shape, np.shape(keys[0]))
        flat = [np.broadcast_to(value, words[0].shape).reshape(-1) for value in (*keys, event)]
        for place in rng.integers(0, words[0].size, 50):
            key0_, key1_, event_ = (int(value[place]) for value in flat)
            expected = by_hand(key0_, key1_, hash_counter(2, 3), event_, 13)
            assert (int(words[0].flat[place]), int(words[1].flat[place])) == expected


def test_arguments_are_left_alone_and_taken_modulo_2_to_32():
    counter, event = np.arange(8, dtype=np.uint32), np.arange(8, dtype=np.int64)
    words = threefry2x32(1, 2, counter, event)
    np.testing.assert_array_equal(counter, np.arange(8))
    np.testing.assert_array_equal(event, np.arange(8))
    np.testing.assert_array_equal(words, threefry2x32(1 + (1 << 32), 2, counter, event - (1 << 32)))


def test_gateware_and_model_state_the_same_constants():
    assert (gateware.ROTATIONS, gateware.PARITY) == (model.ROTATIONS, model.PARITY)


def test_avalanche():
    """Each of the 128 input bits turns each of the 64 output bits with probability 1/2."""
    rng = np.random.default_rng(6)
    count = 1 << 14
    inputs = [rng.integers(0, 1 << 32, count).astype(np.uint32) for _ in range(4)]
    before = threefry2x32(*inputs)
    worst = 0.0
    for argument in range(4):
        for bit in range(32):
            turned = list(inputs)
            turned[argument] = inputs[argument] ^ np.uint32(1 << bit)
            after = threefry2x32(*turned)
            for word in range(2):
                changed = before[word] ^ after[word]
                bits = np.unpackbits(changed.view(np.uint8).reshape(count, 4), axis=1)
                worst = max(worst, float(np.abs(bits.mean(0) - 0.5).max()))
    assert worst < 5.5 * 0.5 / count**0.5  # 8,192 frequencies: beyond 5.5 sigma once in 3,000 seeds


def test_avalanche_of_small_coordinates():
    """The same from the coordinates as they really are: small numbers that differ in one bit."""
    count = 1 << 14
    event = np.arange(count, dtype=np.uint32)
    key = hash_key(0, Purpose.READ, 0, 0)
    before = threefry2x32(*key, hash_counter(0, 0), event)
    changes = [(key, hash_counter(0, 1), event), (key, hash_counter(1, 0), event), (key, hash_counter(0, 0, 1), event),
               (key, hash_counter(0, 0), event ^ np.uint32(1)), (hash_key(1, Purpose.READ, 0, 0), 0, event),
               (hash_key(0, Purpose.READ, 0, 1), 0, event), (hash_key(0, Purpose.READ, 1, 0), 0, event),
               (hash_key(0, Purpose.READ ^ 2, 0, 0), 0, event)]
    for key_, counter, event_ in changes:
        for one, other in zip(before, threefry2x32(*key_, counter, event_), strict=True):
            bits = np.unpackbits((one ^ other).view(np.uint8).reshape(count, 4), axis=1)
            assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / count**0.5


COUNT = 1 << 20
NEIGHBOURS = {
    "row": ((1, Purpose.PULSE, 0, 0), (1, 0, 0), 0),
    "column": ((1, Purpose.READ, 0, 0), (0, 1, 0), 0),
    "device": ((1, Purpose.STATIC, 0, 0), (0, 0, 1), 0),
    "event": ((1, Purpose.READ, 0, 0), (0, 0, 0), 1),
    "iteration": ((1, Purpose.VERIFY, 0, 0), (0, 0, 0), 1 << 4),
    "epoch": ((1, Purpose.PULSE, 0, 0), (0, 0, 0), 1 << 24),
}


def _samples(key, shift, event_step):
    """Return samples over 32 rows x 32 columns x 4 devices x 256 events, all coordinates moved by a step."""
    row, column, device, event = np.ogrid[:32, :32, :4, :256]
    counter = hash_counter(row + shift[0], column + shift[1], device + shift[2])
    return gaussian_hash(*key, counter, event + event_step).reshape(-1).astype(np.float64)


def _assert_strangers(one, other):
    """Neither the samples nor their squares correlate; 5 sigma."""
    for power in (1, 2):
        correlation = np.corrcoef(one**power, other**power)[0, 1]
        assert abs(correlation) < 5 / COUNT**0.5


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_do_not_correlate(name):
    coordinates, shift, event_step = NEIGHBOURS[name]
    key = hash_key(*coordinates)
    _assert_strangers(_samples(key, (0, 0, 0), 0), _samples(key, shift, event_step))


@pytest.mark.parametrize("change", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)],
                         ids=["seed", "purpose", "chip", "tile"])
def test_neighbouring_keys_do_not_correlate(change):
    base = (20, int(Purpose.READ), 3, 4)
    other = tuple(a + b for a, b in zip(base, change, strict=True))
    _assert_strangers(_samples(hash_key(*base), (0, 0, 0), 0), _samples(hash_key(*other), (0, 0, 0), 0))
