"""The model's products are exact, in single precision, up to the largest sums that any chip can have."""

import numpy as np
import pytest

from sim import engine
from sim.engine import Weights

LARGEST = 127


def extremes(rows, top):
    """Nets (rows, columns) and activations (N, rows) whose partial sums go as far as they can, and random ones."""
    rng = np.random.default_rng(rows)
    signs = np.where(np.arange(rows) % 2, 1, -1)
    halves = np.where(np.arange(rows) < rows // 2, 1, -1)
    nets = np.stack([np.full(rows, top), np.full(rows, -top), signs * top, halves * top, signs * top + 1 - signs,
                     np.full(rows, top - 1), *rng.integers(-top, top + 1, (26, rows))], axis=1)
    x = np.stack([np.full(rows, LARGEST), np.full(rows, -LARGEST), signs * LARGEST, halves * LARGEST,
                  np.full(rows, LARGEST - 1), *rng.integers(-LARGEST, LARGEST + 1, (27, rows))])
    return nets, x


@pytest.mark.parametrize(("rows", "top", "blocks"), [
    (8, 255, 1), (512, 255, 1), (518, 255, 2), (1024, 255, 2), (1024, 1275, 11)])
def test_charges_are_exact_at_the_extremes(rows, top, blocks):
    nets, x = extremes(rows, top)
    weights = Weights(nets)
    got = weights.charges(x)
    assert len(weights.blocks) == blocks
    np.testing.assert_array_equal(got, x @ nets)
    assert np.abs(got).max() == LARGEST * top * rows


def test_one_block_would_not_do():
    """What the blocks prevent: the same product at once is rounded."""
    nets, x = extremes(1024, 1275)
    at_once = (x.astype(np.float32) @ nets.astype(np.float32)).astype(np.int64)
    assert (at_once != x @ nets).any()


def test_one_row_more_in_a_block_would_be_wrong(monkeypatch):
    """514 rows of the largest nets are the most; with 515 an odd sum passes 2**24."""
    nets, x = np.full((515, 1), 255), np.full((1, 515), 128)
    x[0, 0] = 127
    exact = x @ nets
    assert Weights(nets).blocks == [slice(0, 514), slice(514, 515)]
    np.testing.assert_array_equal(Weights(nets).charges(x), exact)
    monkeypatch.setattr(engine, "_EXACT", (1 << 24) + 128 * 255)
    assert Weights(nets).blocks == [slice(0, 515)]
    assert Weights(nets).charges(x) != exact


def test_blocks_are_those_of_the_nets_at_hand():
    """1,024 rows of nets as small as real ones are one block; no row is left out or taken twice."""
    nets = np.random.default_rng(1).integers(-60, 61, (1024, 64))
    assert Weights(nets).blocks == [slice(0, 1024)]
    nets[100:700, 5] = 1275
    blocks = Weights(nets).blocks
    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate([np.arange(1024)[block] for block in blocks]), np.arange(1024))
    for block in blocks:
        assert 128 * np.abs(nets[block]).sum(axis=0).max() <= 1 << 24
