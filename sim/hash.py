"""The hash behind every random value: Threefry-2x32 (Salmon et al., SC 2011) on whole arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params.formats import HASH_ROUNDS

Words = NDArray[np.uint32]

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
    x0, x1, words = prepare(key0, key1, counter, event)
    flat0, flat1 = x0.reshape(-1), x1.reshape(-1)
    spare = np.empty(min(BLOCK, x0.size), np.uint32)
    for start in range(0, x0.size, BLOCK):
        block = slice(start, start + BLOCK)
        mix(flat0[block], flat1[block], key_block(words, block), rounds, spare)
    return x0, x1


def prepare(key0: Any, key1: Any, counter: Any, event: Any) -> tuple[Words, Words, list[Words]]:
    """Return the two words before round 0, as fresh arrays, and the three key words for `mix`.

    A key word is 0-dimensional where both keys are, else flat and as long as the words.
    """
    k0, k1, c, e = (_words(value) for value in (key0, key1, counter, event))
    shape = np.broadcast_shapes(k0.shape, k1.shape, c.shape, e.shape)
    x0, x1 = np.empty(shape, np.uint32), np.empty(shape, np.uint32)
    np.add(c, k0, out=x0)
    np.add(e, k1, out=x1)
    words = [k0, k1, k0 ^ k1 ^ np.uint32(PARITY)]
    if k0.size > 1 or k1.size > 1:
        words = [np.broadcast_to(word, shape).reshape(-1) for word in words]
    else:
        words = [word.reshape(()) for word in words]
    return x0, x1, words


def key_block(words: list[Words], block: slice) -> list[Words]:
    """Return the key words that belong to one block of values."""
    return words if words[0].ndim == 0 else [word[block] for word in words]


def mix(x0: Words, x1: Words, words: list[Words], rounds: int, spare: Words) -> None:
    """Run the rounds on `x0` and `x1` in place; `spare` is scratch at least as long."""
    turned = spare[:x0.size]
    for k in range(rounds):
        x0 += x1
        np.left_shift(x1, np.uint32(ROTATIONS[k % 8]), out=turned)
        np.right_shift(x1, np.uint32(32 - ROTATIONS[k % 8]), out=x1)
        x1 |= turned
        x1 ^= x0
        index, rest = divmod(k + 1, 4)
        if rest == 0:
            x0 += words[index % 3]
            np.add(words[(index + 1) % 3], np.uint32(index), out=turned)
            x1 += turned


def _words(value: Any) -> Words:
    value = np.asarray(value)
    words: Words = value if value.dtype == np.uint32 else (value & 0xFFFFFFFF).astype(np.uint32)
    return words
