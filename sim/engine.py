"""The engine's charges, exactly, and its weight store. Numbers as in `rtl/engine.py`."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params import Geometry
from sim.fixed import Doubles, Floats, Ints, Narrow

_EXACT = 1 << 24
"""Up to here single precision holds every integer."""

_LARGEST_ACTIVATION = 128


class Weights:
    """Nets (rows, columns) that multiply many activations, in single precision and yet exactly.

    Rows are taken in blocks whose largest possible sum of |activation * net| single precision still holds: no partial
    sum within a block can be rounded then, in whatever order they are added. Blocks are added in double precision.
    """

    def __init__(self, nets: Any):
        self.nets: Ints = np.asarray(nets, np.int64)
        self.rows, self.columns = self.nets.shape

    @functools.cached_property
    def blocks(self) -> list[slice]:
        """The blocks of rows; made when first asked for, as nets change at every pulse and need none then."""
        return _blocks(np.abs(self.nets) * _LARGEST_ACTIVATION)

    @functools.cached_property
    def _parts(self) -> list[tuple[slice, Floats]]:
        """Blocks of rows and their nets, column after column: a vector alone is multiplied a fifth faster so."""
        return [(block, self.nets[block].astype(np.float32, order="F")) for block in self.blocks]

    def padded(self, rows: int, columns: int) -> "Weights":
        """Return weights of so many rows and columns: those that are added are zero."""
        if (rows, columns) == (self.rows, self.columns):
            return self
        return Weights(np.pad(self.nets, ((0, rows - self.rows), (0, columns - self.columns))))

    def charges(self, activations: NDArray[Any]) -> Floats | Doubles:
        """Return activations (N, rows) @ nets, whole numbers, with |activations| <= 128."""
        exact = activations.astype(np.float32, copy=False)
        (block, floats), *others = self._parts
        if not others:
            return exact.dot(floats)
        charge = exact[:, block].dot(floats).astype(np.float64)
        for block, floats in others:
            charge += exact[:, block].dot(floats)
        return charge


def _blocks(largest: Ints) -> list[slice]:
    """Return the fewest runs of rows in which no column of `largest` (rows, columns) sums to more than is exact."""
    blocks, first, total = [], 0, np.zeros(largest.shape[1], np.int64)
    for row, products in enumerate(largest):
        total = total + products
        if total.max(initial=0) > _EXACT:
            blocks.append(slice(first, row))
            first, total = row, products
    return [*blocks, slice(first, len(largest))]


class Engine:
    """Weight memory of one engine, and its reads in both directions.

    Attributes
    ----------
    nets : int64 (net_places, lanes)
        The weight memory.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        self.nets = np.zeros((geometry.net_places, geometry.lanes), np.int64)

    def write(self, lane: int, address: int, net: int) -> None:
        """Store one net."""
        self.nets[address, lane] = net

    def forward(self, activations: Any, base: int, columns: int) -> Narrow:
        """Return the column sums (N, columns) of activations (N, lanes)."""
        return Weights(self.nets[base:base + columns].T).charges(np.asarray(activations)).astype(np.int32)

    def backward(self, deltas: Any, base: int) -> Narrow:
        """Return the row sums (N, lanes) of deltas (N, columns)."""
        deltas = np.asarray(deltas)
        return Weights(self.nets[base:base + deltas.shape[1]]).charges(deltas).astype(np.int32)
