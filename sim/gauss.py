"""A Gaussian sample from one word of the hash, by two looks into a table of quantiles."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params.formats import GAUSS_INDEX_BITS, HASH_ROUNDS, gaussian_table, hash_counter
from sim.adc import sample_factors
from sim.fixed import Doubles, Floats, Ints
from sim.hash import BLOCK, Schedule, Words, key_block, key_schedule, mix, prepare, turn

Samples = NDArray[Any]
"""Gaussian samples, int32, 14 fraction bits, below 2**17 in magnitude."""

Reader = tuple[tuple[int, int], int]
"""Key of the hash and columns of a tile."""

AHEAD = 32
"""Events whose samples are made at once for vectors that come one by one; a power of two."""

_HALF = np.array(gaussian_table(), np.int32)
_SIGNED = np.concatenate([_HALF, -_HALF])
"""Value of each half of the word, its sign bit on top of its index."""

_FACTORS = sample_factors(_SIGNED).astype(np.float32)  # 17 bits

_MASK = np.uint32((1 << GAUSS_INDEX_BITS) - 1)


def gaussian(word: Any) -> Samples:
    """Return xi ~ N(0, 1) in units of 2**-14 for each 32-bit word; bits 22 and up do not count."""
    word = np.asarray(word)
    xi: Samples = _SIGNED.take(word & int(_MASK))
    xi += _SIGNED.take((word >> GAUSS_INDEX_BITS) & int(_MASK))
    return xi


def gaussian_hash(key0: Any, key1: Any, counter: Any, event: Any) -> Samples:
    """Return `gaussian` of the first word of the hash of broadcast arguments, block by block.

    The same as ``gaussian(threefry2x32(key0, key1, counter, event)[0])``, without its large intermediate arrays.
    """
    x0, x1, schedule = prepare(key0, key1, counter, event)
    xi = np.empty(x0.shape, np.int32)
    flat0, flat1, flat_xi = x0.reshape(-1), x1.reshape(-1), xi.reshape(-1)
    scratch = _Scratch(min(BLOCK, x0.size), _SIGNED)
    for start in range(0, x0.size, BLOCK):
        block = slice(start, start + BLOCK)
        scratch.samples(flat0[block], flat1[block], key_block(schedule, block), 0, flat_xi[block])
    return xi


def read_samples(tiles: tuple[Reader, ...], position: int, events: Ints) -> Floats | Doubles:
    """Return the samples (len(events), columns) of inference reads: `gaussian_hash` of position, columns and events.

    They are `sample_factors`, as a read needs them.

    Columns of one tile stand after those of another, each counted from 0. Vectors that come one by one have events one
    after the other: the samples of a few are made at once and kept, unless a vector sends so many messages that they
    would not be there when the next one comes. What is kept cannot be written to.
    """
    if len(events) == 1 and position == 0:
        event = events.item()
        k = event % AHEAD
        return _few_samples(tiles, event - k)[k:k + 1]
    if len(events) < AHEAD and position == 0:
        numbers = events.tolist()
        first = min(numbers) & -AHEAD
        if max(numbers) < first + AHEAD:
            return _few_samples(tiles, first).take(events - first, axis=0)
    return _samples_of(tiles, position, events)


@functools.lru_cache(maxsize=256)
def _few_samples(tiles: tuple[Reader, ...], first: int) -> Doubles:
    samples = _samples_of(tiles, 0, np.arange(first, first + AHEAD)).astype(np.float64)
    samples.flags.writeable = False
    return samples


def _samples_of(tiles: tuple[Reader, ...], position: int, events: Ints) -> Floats:
    several = [_read_samples(*key, position, columns, events) for key, columns in tiles]
    return several[0] if len(several) == 1 else np.concatenate(several, axis=1)


def _read_samples(key0: int, key1: int, position: int, columns: int, events: Ints) -> Floats:
    """Before round 0 a word depends on the column alone, the other on the event alone: part of the round is saved."""
    k0, k1 = np.uint32(key0), np.uint32(key1)
    column = hash_counter(np.uint32(position), np.arange(columns, dtype=np.uint32)) + k0
    event0 = np.asarray(events).astype(np.uint32) + k1
    event1 = event0.copy()
    turn(event1, 0, np.empty_like(event1))
    schedule = key_schedule(np.array(k0), np.array(k1))
    xi = np.empty((len(event0), len(column)), np.float32)
    rows = min(len(event0), max(1, BLOCK // len(column)))
    scratch = _Scratch(rows * len(column), _FACTORS)
    words = np.empty((2, rows, len(column)), np.uint32)
    for start in range(0, len(event0), rows):
        block = slice(start, start + rows)
        x0, x1 = words[:, :len(event0[block])]
        np.add(column, event0[block, None], out=x0)
        np.bitwise_xor(x0, event1[block, None], out=x1)
        scratch.samples(x0.reshape(-1), x1.reshape(-1), schedule, 1, xi[block].reshape(-1))
    return xi


class _Scratch:
    """Memory for the samples of one block, small enough for the second-level cache; what halves of words give."""

    def __init__(self, size: int, table: NDArray[Any]) -> None:
        self.table = table
        self.word = np.empty(size, np.uint32)
        self.index = np.empty(size, np.intp)
        self.half = np.empty(size, table.dtype)

    def samples(self, x0: Words, x1: Words, schedule: Schedule, first: int, xi: NDArray[Any]) -> None:
        """Write to `xi` the samples of words that have gone through `first` rounds; spoils the words."""
        mix(x0, x1, schedule, range(first, HASH_ROUNDS - 1), self.word)
        x0 += x1  # all that the last round does to the first word
        index, half = self.index[:len(x0)], self.half[:len(x0)]
        np.bitwise_and(x0, _MASK, out=index)
        self.table.take(index, out=xi, mode="wrap")
        x0 >>= np.uint32(GAUSS_INDEX_BITS)
        np.bitwise_and(x0, _MASK, out=index)
        self.table.take(index, out=half, mode="wrap")
        xi += half


assert HASH_ROUNDS % 4, "after a fourth round the first word is not yet whole"
