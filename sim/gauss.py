"""A Gaussian sample from one word of the hash, by two looks into a table of quantiles."""

from typing import Any

import numpy as np

from rtl.params.formats import GAUSS_INDEX_BITS, HASH_ROUNDS, gaussian_table
from sim.fixed import Ints
from sim.hash import BLOCK, Words, key_block, mix, prepare

_HALF = np.array(gaussian_table(), np.int64)
_SIGNED = np.concatenate([_HALF, -_HALF])
"""Value of each half of the word, its sign bit on top of its index."""

_MASK = (1 << GAUSS_INDEX_BITS) - 1


def gaussian(word: Any) -> Ints:
    """Return xi ~ N(0, 1) in units of 2**-14 for each 32-bit word; bits 22 and up do not count."""
    word = np.asarray(word)
    xi: Ints = _SIGNED.take(word & _MASK)
    xi += _SIGNED.take((word >> GAUSS_INDEX_BITS) & _MASK)
    return xi


def gaussian_hash(key0: Any, key1: Any, counter: Any, event: Any, rounds: int = HASH_ROUNDS) -> Ints:
    """Return `gaussian` of the first word of the hash of broadcast arguments, block by block.

    The same as ``gaussian(threefry2x32(key0, key1, counter, event)[0])``, without its large intermediate arrays.
    """
    x0, x1, words = prepare(key0, key1, counter, event)
    xi = np.empty(x0.shape, np.int64)
    flat0, flat1, flat_xi = x0.reshape(-1), x1.reshape(-1), xi.reshape(-1)
    spare = np.empty(min(BLOCK, x0.size), np.uint32)
    for start in range(0, x0.size, BLOCK):
        block = slice(start, start + BLOCK)
        mix(flat0[block], flat1[block], key_block(words, block), rounds, spare)
        _samples(flat0[block], flat_xi[block])
    return xi


def _samples(word: Words, xi: Ints) -> None:
    """Write the samples of one block of words."""
    np.take(_SIGNED, word & _MASK, out=xi, mode="clip")
    xi += _SIGNED.take((word >> GAUSS_INDEX_BITS) & _MASK)
