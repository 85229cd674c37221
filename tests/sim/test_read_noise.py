"""How far the read noise of one constant a column is from the exact one of every cell (docs/numbers.md states it)."""

import numpy as np

from host.data import mnist
from host.demo import MODEL
from host.network import load_network


def deviations(rows=112):
    """Ratio of sqrt(mean |w| sum x^2) to sqrt(sum |w| x^2), of each tile and column of both layers, for 200 digits."""
    network, x = load_network(MODEL), mnist().test[:200].astype(np.float64)
    ratios = []
    for layer in network.layers:
        weight = np.abs(layer.weight / np.abs(layer.weight).max(axis=1, keepdims=True))
        for first in range(0, layer.inputs, rows):
            part, squares = weight[:, first:first + rows], x[:, first:first + rows] ** 2
            exact = np.sqrt(squares @ part.T)
            constant = np.sqrt(part.mean(axis=1) * squares.sum(axis=1, keepdims=True))
            ratios.append((constant[exact > 0] / exact[exact > 0]).ravel())
        x = layer(x)
    return np.concatenate(ratios)


def test_the_stated_deviation():
    ratio = deviations()
    assert 1.05 < ratio.mean() < 1.15
    assert 0.2 < ratio.std() < 0.27
