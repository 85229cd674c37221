"""Spare rows and columns: hidden neurons more than a network needs, and an order of all that puts them on bad cells.

A hidden neuron is a column of one layer's array and a row of the next one's. Their order is free: with it, weights move
among columns and rows while cells stay where they are. A spare neuron has no weights, so it costs nothing where cells
are bad. Inputs of the network and its outputs have no spares.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.network import Network
from host.placement import Placement, Tile
from host.programming import ProgramResult
from host.results import Outcome
from rtl.params import Purpose, hash_counter, hash_key
from rtl.params.formats import GMAX_G16
from sim.fixed import Ints
from sim.hash import threefry2x32
from sim.tables import verify_settings
from sim.technology import Technology

__all__ = ["Found", "found_cells", "reordered", "with_spares"]

Floats = NDArray[np.float64]


def with_spares(network: Network, spares: int) -> Network:
    """Return a network that computes the same, with so many neurons without weights in each hidden layer."""
    layers = []
    for k, layer in enumerate(network.layers):
        inputs, outputs = spares if k else 0, spares if k + 1 < len(network.layers) else 0
        layers.append(dataclasses.replace(layer, weight=np.pad(layer.weight, ((0, outputs), (0, inputs))),
                                          bias=np.pad(layer.bias, (0, outputs))))
    return dataclasses.replace(network, layers=tuple(layers))


def reordered(network: Network, placement: Placement, technology: Technology, result: ProgramResult) -> Network:
    """Return the network with its hidden neurons in the order that suffers least from the cells that did not converge.

    What a neuron suffers in a place is the error of its weights there, if bad cells keep the conductances that they
    ended with, times the size of what it multiplies or is multiplied by.
    """
    layers = list(network.layers)
    bad, kept = _layers(placement, [outcome != Outcome.CONVERGED for outcome in result.outcomes],
                        _attained(placement, technology, result))
    for k in range(len(layers) - 1):
        first, second = layers[k], layers[k + 1]
        largest, following = (np.abs(layer.weight).max(axis=1) for layer in (first, second))
        into, out = (first.weight**2).sum(axis=1), (second.weight**2).sum(axis=0)
        shares = first.weight / np.where(largest > 0, largest, 1)[:, None]
        suffered = (out * largest**2)[:, None] * _misfit(shares, bad[k].T, kept[k].T)
        suffered += into[:, None] * _misfit(second.weight.T, bad[k + 1], kept[k + 1] * following)
        order = _order(suffered)
        layers[k] = dataclasses.replace(first, weight=first.weight[order], bias=first.bias[order])
        layers[k + 1] = dataclasses.replace(second, weight=second.weight[:, order])
    return dataclasses.replace(network, layers=tuple(layers))


def _misfit(weights: Floats, bad: NDArray[np.bool_], kept: Floats) -> Floats:
    """Return, for each neuron and place, the sum over bad cells of (weight - kept)**2, from (n, cells) arrays."""
    counted = bad.astype(np.float64)
    return np.asarray(weights**2 @ counted.T - 2 * weights @ (counted * kept).T + (counted * kept**2).sum(axis=1))


def _order(suffered: Floats) -> Ints:
    """Return which neuron each place has, from what neuron n suffers in place p: the best swaps, one by one."""
    order = np.arange(len(suffered))
    for _ in range(4 * len(order)):
        now = suffered[order]  # of the neuron in each place, in all places
        own = now.diagonal()
        gain = own[:, None] + own - now - now.T
        first, second = divmod(int(gain.argmax()), len(order))
        if gain[first, second] <= 1e-12 * own.sum():
            break
        order[[first, second]] = order[[second, first]]
    return order


def _attained(placement: Placement, technology: Technology, result: ProgramResult) -> list[Floats]:
    """Return the weights that the last reads told, in units of Gmax, (rows, columns) of each tile."""
    counts = verify_settings(technology, placement.geometry)["counts_per_g"] / (1 << 16)
    return [sums / (counts * GMAX_G16 * placement.geometry.significance) for sums in result.sums]


def _layers(placement: Placement, *values: Sequence[NDArray[Any]]) -> list[list[NDArray[Any]]]:
    """Return what is told of each tile as arrays of whole layers, (inputs, outputs)."""
    found = []
    for one in values:
        arrays = [np.zeros((layer.inputs, layer.outputs), one[0].dtype) for layer in placement.layers]
        for tile, part in zip(placement.tiles, one, strict=True):
            rows, columns = _place(tile, arrays[tile.layer])
            arrays[tile.layer][rows, columns] = part[:, :columns.stop - columns.start]
        found.append(arrays)
    return found


def _place(tile: Tile, layer: NDArray[Any]) -> tuple[slice, slice]:
    return (slice(tile.first_row, tile.first_row + tile.rows),
            slice(tile.first_column, min(tile.first_column + tile.columns, layer.shape[1])))


@dataclasses.dataclass(frozen=True)
class Found:
    """How cells ended, and what became of those that have a stuck device (which only an emulated chip can tell)."""

    cells: dict[str, int]
    stuck: int
    mended: int

    def __str__(self) -> str:
        text = "cells: " + ", ".join(f"{count:,} {name}" for name, count in self.cells.items())
        if self.stuck:
            text += (f"; {self.stuck:,} have a stuck device, {self.mended:,} of these converged all the "
                     "same")
        return text


def found_cells(placement: Placement, technology: Technology, result: ProgramResult, *, seed: int,
                chip: int) -> Found:
    """Return how the cells of a placement ended."""
    outcomes = np.concatenate([one.ravel() for one in result.outcomes])
    cells = {outcome.name.lower(): int((outcomes == outcome).sum()) for outcome in Outcome}
    stuck = mended = 0
    if technology.stuck:
        rate = min(round(technology.number("stuck_rate").one * 2**32), 2**32 - 1)
        for tile, outcome in zip(placement.tiles, result.outcomes, strict=True):
            row, column, device = np.ogrid[:tile.rows, :tile.columns, :placement.geometry.devices]
            counter = np.asarray(hash_counter(row, column, device), np.uint32)
            words = threefry2x32(*hash_key(seed, Purpose.VARIATION, chip, tile.number), counter, 0)
            struck = (words[1] < rate).any(axis=2)
            stuck += int(struck.sum())
            mended += int((struck & (outcome == Outcome.CONVERGED)).sum())
    return Found(cells, stuck, mended)
