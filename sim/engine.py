"""The engine's charges, exactly, and its weight store. Numbers as in `rtl/engine.py`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params import Geometry
from sim.fixed import Ints

_FLOAT32_EXACT = 1 << 24
_LARGEST_ACTIVATION = 128


class Weights:
    """Nets (rows, columns) that multiply many activations.

    Floating point is exact as long as no partial sum passes its mantissa: single precision where none can, else double.
    """

    def __init__(self, nets: Any):
        self.nets: Ints = np.asarray(nets, np.int64)
        largest = int(np.abs(self.nets).max(initial=0)) * _LARGEST_ACTIVATION * len(self.nets)
        self._float: NDArray[Any] = self.nets.astype(np.float32 if largest <= _FLOAT32_EXACT else np.float64)

    def charges(self, activations: NDArray[Any]) -> Ints:
        """Return activations (N, rows) @ nets, with |activations| <= 128."""
        charge: Ints = (activations.astype(self._float.dtype) @ self._float).astype(np.int64)
        return charge


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
        return Weights(self.nets[base:base + columns].T).charges(np.asarray(activations))

    def backward(self, deltas: Any, base: int) -> Ints:
        """Return the row sums (N, lanes) of deltas (N, columns)."""
        deltas = np.asarray(deltas)
        return Weights(self.nets[base:base + deltas.shape[1]]).charges(deltas)
