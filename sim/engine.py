"""The engine's charges, exactly, and its weight store. Numbers as in `rtl/engine.py`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params import Geometry
from sim.fixed import Ints

_FLOAT32_EXACT = 1 << 24


class Engine:
    """Weight memory of one engine, and its reads in both directions.

    Attributes
    ----------
    nets : int64 (net_words, lanes)
        The weight memory.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        self.nets = np.zeros((geometry.net_words, geometry.lanes), np.int64)

    def write(self, lane: int, address: int, net: int) -> None:
        """Store one net."""
        self.nets[address, lane] = net

    def forward(self, activations: Any, base: int, columns: int) -> Ints:
        """Return the column sums (N, columns) of activations (N, lanes)."""
        return charges(np.asarray(activations), self.nets[base:base + columns].T)

    def backward(self, deltas: Any, base: int) -> Ints:
        """Return the row sums (N, lanes) of deltas (N, columns)."""
        deltas = np.asarray(deltas)
        return charges(deltas, self.nets[base:base + deltas.shape[1]])


def charges(activations: NDArray[Any], nets: NDArray[Any]) -> Ints:
    """Return activations (N, rows) @ nets (rows, columns), exact, |activations| <= 128.

    Floating point is exact as long as no partial sum passes its mantissa: single precision where none can, else double.
    """
    largest = int(np.abs(nets).max(initial=0)) * 128
    exact = np.float32 if largest * len(nets) <= _FLOAT32_EXACT else np.float64
    return (activations.astype(exact) @ nets.astype(exact)).astype(np.int64)
