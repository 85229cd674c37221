"""Cutting layers into tiles and giving each a context and memory on an engine."""

import dataclasses
import itertools
from collections.abc import Sequence

from rtl.params import Geometry

__all__ = ["CapacityError", "Cut", "Place", "assign", "cuts", "enough", "split"]

MIN_COLUMNS = 4
SEARCH = 256
"""Most combinations of cuts that are compared."""


class CapacityError(Exception):
    """The network does not fit the chip; the sentence tells what it needs and what the chip has."""


def enough(name: str, need: int, have: int) -> None:
    """Raise CapacityError if a chip has too little of something."""
    if need > have:
        raise CapacityError(f"the network needs {need} {name}, but the chip has {have}")


@dataclasses.dataclass(frozen=True)
class Cut:
    """A layer cut into row tiles of `row_size` rows (the last may have fewer) and column tiles (first, outputs)."""

    inputs: int
    row_size: int
    columns: tuple[tuple[int, int], ...]

    @property
    def row_tiles(self) -> int:
        """How many row tiles there are."""
        return -(-self.inputs // self.row_size)

    def rows(self, row_tile: int) -> int:
        """Return the rows of a row tile."""
        return min(self.row_size, self.inputs - row_tile * self.row_size)

    def pieces(self) -> list[tuple[int, int, int, int]]:
        """Return (row tile, column tile, rows, columns) of each tile, its columns padded to the fewest possible."""
        return [(t, c, self.rows(t), max(width, MIN_COLUMNS))
                for t in range(self.row_tiles) for c, (_, width) in enumerate(self.columns)]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a tile is: engine's unit, context, and where its nets, cells and column constants begin."""

    unit: int
    context: int
    net_base: int
    state_base: int
    column_base: int


def cuts(geometry: Geometry, name: str, inputs: int, outputs: int) -> list[Cut]:
    """Return the ways to cut a layer that are worth comparing: fewest tiles or folds, and columns over all engines.

    Row tiles begin at whole words of W inputs and column tiles at whole words of W outputs, so that the words of one
    layer's outputs are the words of the next layer's inputs.
    """
    width = geometry.transport
    words = -(-outputs // width)
    if outputs <= geometry.columns:
        fewest = 1
    elif geometry.columns < width:
        raise CapacityError(f"layer {name!r} has {outputs} outputs, which tiles cannot share: their "
                            f"{geometry.columns} columns are less than the {width} of a word")
    else:
        fewest = -(-words // (geometry.columns // width))
    even = -(-fewest // geometry.engines) * geometry.engines
    return [Cut(inputs, min(size, inputs), split(outputs, words, parts, width))
            for size in _row_sizes(geometry, inputs) for parts in sorted({fewest, min(even, words)})]


def _row_sizes(geometry: Geometry, inputs: int) -> list[int]:
    """Return the rows of the fewest row tiles: even, and whole folds where even tiles read one more.

    784 rows on 128 lanes take seven folds: 512 and 272 rows do, 392 and 392 take eight.
    """
    width, lanes = geometry.transport, geometry.lanes
    tiles, folds = -(-inputs // geometry.rows), -(-inputs // lanes)
    even = -(-inputs // (tiles * width)) * width
    whole = -(-folds // tiles) * lanes
    even_folds = sum(-(-Cut(inputs, even, ()).rows(tile) // lanes) for tile in range(tiles))
    return [even, whole] if even_folds > folds and whole <= geometry.rows else [even]


def split(outputs: int, words: int, parts: int, width: int) -> tuple[tuple[int, int], ...]:
    """Return (first, outputs) of parts of whole words of `width` outputs, as even as can be."""
    small, larger = divmod(words, parts)
    tiles, first = [], 0
    for part in range(parts):
        last = min(first + (small + (part < larger)) * width, outputs)
        tiles.append((first, last - first))
        first = last
    return tuple(tiles)


def assign(geometry: Geometry, options: Sequence[Sequence[Cut]], *,
           resident: bool = False) -> tuple[list[Cut], list[Place], list[int]]:
    """Return one cut of each layer, the places of all tiles in order, and the first layer of each phase.

    Nets of the layers of a phase are in the weight memories at the same time, all other memories hold all layers at
    once. Fewest phases count first, then the least work for the busiest engine. `resident` allows one phase only.

    Raises
    ------
    CapacityError
        If no combination fits.
    """
    best: tuple[tuple[int, int, int], list[Cut], list[Place], list[int]] | None = None
    failure: CapacityError | None = None
    for chosen in itertools.islice(itertools.product(*options), SEARCH):
        try:
            places, starts, load = _Engines(geometry).place(chosen, resident=resident)
        except CapacityError as error:
            failure = failure or error
            continue
        key = (len(starts), load, len(places))
        if best is None or key < best[0]:
            best = key, list(chosen), places, starts
    if best is None:
        raise failure or CapacityError("the network has no layers")
    return best[1:]


class _Engines:
    """What is taken on each engine so far."""

    RESOURCES = ("contexts", "weight memory words", "cells", "column constants")
    NETS = RESOURCES.index("weight memory words")

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.have = (geometry.contexts, geometry.net_places, geometry.cells, geometry.column_words)
        self.taken = [[0, 0, 0, 0] for _ in range(geometry.engines)]

    def place(self, chosen: Sequence[Cut], *, resident: bool) -> tuple[list[Place], list[int], int]:
        """Return the places of all tiles, the first layer of each phase, and the clocks of the busiest engines.

        A phase has as many layers as there is room for; one more begins with the weight memories empty.
        """
        layers = [[piece[2:] for piece in cut.pieces()] for cut in chosen]
        places: list[Place] = []
        starts, clocks = [0], 0
        for number, sizes in enumerate(layers):
            found = self._layer(sizes)
            if found is None and number > starts[-1] and not resident:
                clocks += self._busiest()
                starts.append(number)
                for taken in self.taken:
                    taken[self.NETS] = 0
                found = self._layer(sizes)
            if found is None:
                raise self._failure(layers, resident=resident)
            places += found
        return places, starts, clocks + self._busiest()

    def _busiest(self) -> int:
        # Clocks of an image are the words of weight memory that it reads.
        return max(taken[self.NETS] for taken in self.taken)

    def _layer(self, sizes: Sequence[tuple[int, int]]) -> list[Place] | None:
        """Return the places of a layer's tiles, each on the least busy engine with room; None, and none taken, if not.
        """
        before, places = [list(taken) for taken in self.taken], []
        for size in sizes:
            need = self._need(*size)
            room = [k for k, taken in enumerate(self.taken)
                    if all(t + n <= h for t, n, h in zip(taken, need, self.have, strict=True))]
            if not room:
                self.taken = before
                return None
            engine = min(room, key=lambda k: (self.taken[k][self.NETS], k))
            context, net_base, state_base, column_base = self.taken[engine]
            places.append(Place(engine + 1, context, net_base, state_base, column_base))
            self.taken[engine] = [t + n for t, n in zip(self.taken[engine], need, strict=True)]
        return places

    def _need(self, rows: int, columns: int) -> tuple[int, int, int, int]:
        return 1, -(-rows // self.geometry.lanes) * columns, rows * columns, columns

    def _failure(self, layers: list[list[tuple[int, int]]], *, resident: bool) -> CapacityError:
        engines, names = self.geometry.engines, list(self.RESOURCES)
        by_layer = [[sum(n) for n in zip(*(self._need(*size) for size in sizes), strict=True)] for sizes in layers]
        needs = [sum(n) for n in zip(*by_layer, strict=True)]
        if not resident and len(layers) > 1:
            names[self.NETS] += " for one layer"
            needs[self.NETS] = max(need[self.NETS] for need in by_layer)
        for name, need, have in zip(names, needs, self.have, strict=True):
            if need > have * engines:
                return CapacityError(f"the network needs {need} {name}, but the chip has {have * engines} "
                                     f"({engines} engines of {have})")
        totals = ", ".join(f"{need} of {have * engines} {name}"
                           for name, need, have in zip(names, needs, self.have, strict=True))
        return CapacityError(f"the tiles do not divide over the {engines} engines, though they need only {totals}")
