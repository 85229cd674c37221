"""The hash behind every random value: Threefry-2x32 (Salmon et al., SC 2011) on whole arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params.formats import HASH_ROUNDS

Words = NDArray[np.uint32]
Schedule = list[tuple[Words, Words]]
"""What is added to the first and the second word after each fourth round."""

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
"""Left rotation of the second word in round k modulo 8."""

PARITY = 0x1BD11BDA
"""The third key word is this, exclusive-or the other two."""

BLOCK = 1 << 15
"""Values hashed at a time: three arrays of them stay in the second-level cache."""


def threefry2x32(key0: Any, key1: Any, counter: Any, event: Any,
                 rounds: int = HASH_ROUNDS) -> tuple[Words, Words]:
    """Return the two words that key and counter hash to.

    Parameters
    ----------
    key0, key1, counter, event : integer or integer array
        Taken modulo 2**32 and broadcast against each other.
    rounds : int
        0 to 20.

    Returns
    -------
    tuple of two uint32 arrays
        Of the broadcast shape.
    """
    x0, x1, schedule = prepare(key0, key1, counter, event)
    flat0, flat1 = x0.reshape(-1), x1.reshape(-1)
    spare = np.empty(min(BLOCK, x0.size), np.uint32)
    for start in range(0, x0.size, BLOCK):
        block = slice(start, start + BLOCK)
        mix(flat0[block], flat1[block], key_block(schedule, block), range(rounds), spare)
    return x0, x1


def prepare(key0: Any, key1: Any, counter: Any, event: Any) -> tuple[Words, Words, Schedule]:
    """Return the two words before round 0, as fresh arrays, and the key schedule for `mix`.

    The schedule's words are 0-dimensional where both keys are, else flat and as long as the words.
    """
    k0, k1, c, e = (_words(value) for value in (key0, key1, counter, event))
    shape = np.broadcast_shapes(k0.shape, k1.shape, c.shape, e.shape)
    x0, x1 = np.empty(shape, np.uint32), np.empty(shape, np.uint32)
    np.add(c, k0, out=x0)
    np.add(e, k1, out=x1)
    if k0.size > 1 or k1.size > 1:
        return x0, x1, key_schedule(*(np.broadcast_to(word, shape).reshape(-1) for word in (k0, k1)))
    return x0, x1, key_schedule(k0.reshape(()), k1.reshape(()))


def key_schedule(key0: Words, key1: Words) -> Schedule:
    """Return what is added to the two words after every fourth round, up to the twentieth."""
    keys = [key0, key1, key0 ^ key1 ^ np.uint32(PARITY)]
    return [(keys[k % 3], np.add(keys[(k + 1) % 3], np.uint32(k))) for k in range(1, 6)]


def key_block(schedule: Schedule, block: slice) -> Schedule:
    """Return the part of a schedule that belongs to one block of values."""
    return schedule if schedule[0][0].ndim == 0 else [(word0[block], word1[block]) for word0, word1 in schedule]


def mix(x0: Words, x1: Words, schedule: Schedule, rounds: range, spare: Words) -> None:
    """Run some of the rounds on `x0` and `x1` in place; `spare` is scratch of at least their length."""
    turned = spare[:len(x0)]
    for k in rounds:
        x0 += x1
        turn(x1, k, turned)
        x1 ^= x0
        if k % 4 == 3:
            added0, added1 = schedule[k // 4]
            x0 += added0
            x1 += added1


def turn(x1: Words, k: int, spare: Words) -> None:
    """Rotate the second word in place as round k does; `spare` is scratch of its shape."""
    np.left_shift(x1, np.uint32(ROTATIONS[k % 8]), out=spare)
    np.right_shift(x1, np.uint32(32 - ROTATIONS[k % 8]), out=x1)
    x1 |= spare


def _words(value: Any) -> Words:
    value = np.asarray(value)
    words: Words = value if value.dtype == np.uint32 else (value & 0xFFFFFFFF).astype(np.uint32)
    return words
