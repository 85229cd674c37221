"""A placed network: every tile, route, program and constant that makes a chip of one geometry compute it.

Nothing here computes; `host/compiler.py` makes placements and sessions write them into chips.
"""

import dataclasses
import functools
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params import ACTIVATION_MAX, Geometry, Instruction, geometry_hash
from sim.fixed import operand

__all__ = ["InputRoute", "Landing", "LayerPlan", "Phase", "Placement", "PlacementError", "Program", "Route", "Tile"]

FORMAT = 3
Ints = NDArray[np.int64]


class PlacementError(Exception):
    """A placement cannot be read, or belongs to another chip."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Tile:
    """A part of a layer's weights in one context of one engine.

    Attributes
    ----------
    number : logical tile, a coordinate of the hash; the same wherever the tile is placed
    first_row, first_column : where its weights begin in those of the layer
    rows, columns : its size; at least 4 columns, those past the layer's outputs are zero
    adc_gain : in units of 2**-24 codes per charge unit
    latency : ps of one vector, transport of the partial sums included
    targets : (rows, columns) net targets, g16, signed
    scales : (columns,) affine scales, signed, 8 fraction bits
    biases : (columns,) affine biases: zero, as biases are added once, in the digital unit
    """

    layer: int
    row_tile: int
    column_tile: int
    number: int
    unit: int
    context: int
    first_row: int
    first_column: int
    rows: int
    columns: int
    net_base: int
    state_base: int
    column_base: int
    route: int
    adc_gain: int
    latency: int
    targets: Ints
    scales: Ints

    @property
    def biases(self) -> Ints:
        """Affine biases of the columns."""
        return np.zeros(self.columns, np.int64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputRoute:
    """The route of a row tile's activations to one context on each of some engines.

    An engine maps a route to one context: if it holds several column tiles of a row tile, `copy` counts their routes.
    """

    route: int
    layer: int
    row_tile: int
    copy: int
    words: int
    contexts: tuple[tuple[int, int], ...]
    """(unit, context), in order of units."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Route:
    """A route through the mesh: (node, mask of outputs) pairs; bit 0 local, 1 north, 2 east, 3 south, 4 west."""

    route: int
    source: int
    destinations: tuple[int, ...]
    nodes: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Landing:
    """Where a tile's partial sums land in the digital unit: INPUT_ROUTES[route] = base, program, more."""

    route: int
    base: int
    program: int
    more: int = 0
    """Messages of a run beyond the first: bit planes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """The digital work of one layer.

    Attributes
    ----------
    start : its first instruction
    messages : partial sums, of all tiles and bit planes, that one run consumes
    slot : words between the landing slots
    latency : ps of one run, transport included
    """

    start: int
    messages: int
    slot: int
    latency: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """Layers whose nets are in the weight memories at the same time; those of other phases have the same places there.

    Attributes
    ----------
    first, last : the layers, both included
    plan : (route, words, position) segments of a vector sent to the first of them
    """

    first: int
    last: int
    plan: tuple[tuple[int, int, int], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """How one layer is cut, scaled and gathered.

    Attributes
    ----------
    row_tiles, row_size : its row tiles and the rows of each but the last, which may have fewer
    column_tiles : (first column, outputs) of each column tile
    input_scale : activation = round(real value * input_scale), to +-127
    unit : real value of one unit of its partial sums
    shift : the digital unit divides sums by 2**shift to make activations of the next layer; 0 for the last
    base, words : word j of row tile t lands at base + slot * words * (row_tiles + 1) + t * words + j; the biases stand
        at t = row_tiles. Of a layer of bits, the words of its outputs and where its landing zones begin
        (`host/slicing.py`)
    slices, planes : columns of an output and messages of an input; 1 unless weights are bits
    """

    name: str
    inputs: int
    outputs: int
    relu: bool
    row_tiles: int
    row_size: int
    column_tiles: tuple[tuple[int, int], ...]
    input_scale: float
    unit: float
    shift: int
    base: int
    words: int
    slices: int = 1
    planes: int = 1

    @property
    def slot(self) -> int:
        """Words between the two landing slots."""
        return self.words * (self.row_tiles + 1)

    @property
    def bias_words(self) -> tuple[int, int]:
        """First words of the biases in the two slots."""
        first = self.base + self.row_tiles * self.words
        return first, first + self.slot


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Placement:
    """A network on a chip of `geometry`.

    Attributes
    ----------
    routes : every route; write mask to ROUTES[route] of node
    phases : in their order; the outputs of one, as activations, are sent to the next
    result_route, outputs : of results, and how many of the last ones' elements are logits
    memory : (words, W) first words of the digital unit's memory
    tables : (n, 256) activation tables
    bit : charge of an on cell in one tick, where each cell holds a bit of a weight and each message a bit of an input;
        0 where a cell holds a weight
    """

    geometry: Geometry
    layers: tuple[LayerPlan, ...]
    tiles: tuple[Tile, ...]
    inputs: tuple[InputRoute, ...]
    routes: tuple[Route, ...]
    phases: tuple[Phase, ...]
    landings: tuple[Landing, ...]
    programs: tuple[Program, ...]
    instructions: tuple[Instruction, ...]
    memory: Ints
    result_route: int
    outputs: int
    tables: Ints = dataclasses.field(default_factory=lambda: np.zeros((0, 256), np.int64))
    bit: int = 0

    @property
    def plan(self) -> tuple[tuple[int, int, int], ...]:
        """Segments of a vector sent to the first phase."""
        return self.phases[0].plan

    def tiles_of(self, phase: int) -> list[Tile]:
        """Return the tiles of a phase."""
        span = self.phases[phase]
        return [tile for tile in self.tiles if span.first <= tile.layer <= span.last]

    @property
    def input_scale(self) -> float:
        """Activation per real value of an input."""
        return self.layers[0].input_scale

    @property
    def hidden_scales(self) -> tuple[float, ...]:
        """Activation per real value of each hidden layer's outputs."""
        return tuple(layer.input_scale for layer in self.layers[1:])

    @property
    def output_scale(self) -> float:
        """Real value of one unit of the result: logit = element * output_scale."""
        return self.layers[-1].unit

    def quantize(self, x: Any) -> NDArray[np.int8]:
        """Return the activations of inputs (N, inputs) in real values."""
        steps = np.asarray(x, np.float64) * self.input_scale
        np.rint(steps, out=steps)
        np.minimum(steps, operand(ACTIVATION_MAX, np.float64), out=steps)
        np.maximum(steps, operand(-ACTIVATION_MAX, np.float64), out=steps)
        return steps.astype(np.int8)

    def arrange(self, activations: NDArray[Any], phase: int = 0) -> NDArray[Any]:
        """Return activations (N, inputs) in the order of a phase's plan, padded with zeros: (N, words * W).

        Where cells hold bits, position p of the plan is plane p: bit p of the magnitude, with the activation's sign.
        """
        elements, pieces = self._pieces[phase]
        arranged = np.zeros((len(activations), elements), activations.dtype)
        for inputs, place, position in pieces:
            part = activations[:, inputs]
            if self.bit:
                part = np.sign(part) * (np.abs(part) >> position & 1)
            arranged[:, place] = part
        return arranged

    def handed_on(self, elements: NDArray[Any], phase: int) -> NDArray[Any]:
        """Return what is sent to a phase, whose inputs are the results (N, elements) of the one before."""
        inputs = self.layers[self.phases[phase].first].inputs
        return self.arrange(elements[:, :inputs].astype(np.int8), phase)

    @functools.cached_property
    def _pieces(self) -> list[tuple[int, list[tuple[slice, slice, int]]]]:
        """Of each phase: elements of a vector, inputs of each message of the plan, where they lie, and its position."""
        return [self._pieces_of(phase) for phase in self.phases]

    def _pieces_of(self, phase: Phase) -> tuple[int, list[tuple[slice, slice, int]]]:
        layer = self.layers[phase.first]
        tiles = {route.route: route.row_tile for route in self.inputs if route.layer == phase.first}
        pieces, at = [], 0
        for route, words, position in phase.plan:
            first = tiles[route] * layer.row_size
            last = min(first + layer.row_size, layer.inputs)
            pieces.append((slice(first, last), slice(at, at + last - first), position))
            at += words * self.geometry.transport
        return at, pieces

    def logits(self, elements: Any) -> NDArray[np.float64]:
        """Return the real logits (N, outputs) of results (N, elements)."""
        return np.asarray(elements)[:, :self.outputs] * self.output_scale

    @property
    def vector_words(self) -> int:
        """Words of W activations of a vector sent to the first phase."""
        return sum([words for _, words, _ in self.plan])

    @property
    def room(self) -> int:
        """Vectors that may be under way in the first phase, so that the results of all find room in the port."""
        return self.geometry.results_held(self.layers[self.phases[0].last].words)

    def cycles_of(self, unit: int, phase: int) -> int:
        """Return the clocks an engine computes for one image in a phase."""
        return sum(self._cycles(tile) for tile in self.tiles_of(phase) if tile.unit == unit)

    def _cycles(self, tile: Tile) -> int:
        return -(-tile.rows // self.geometry.lanes) * tile.columns * self.layers[tile.layer].planes

    @property
    def cycles_per_image(self) -> int:
        """Clocks of the busiest engine of each phase for one image."""
        return sum(max(self.cycles_of(unit, phase) for unit in range(1, self.geometry.engines + 1))
                   for phase in range(len(self.phases)))

    @property
    def lower_bound_cycles(self) -> int:
        """Clocks that no placement on these engines can beat for one image.

        A column of a layer takes an engine at least ceil(inputs / lanes) clocks, however its rows are divided.
        """
        clocks = sum(-(-layer.inputs // self.geometry.lanes) * layer.outputs * layer.slices * layer.planes
                     for layer in self.layers)
        return -(-clocks // self.geometry.engines)

    @property
    def cell_utilisation(self) -> float:
        """Share of the chip's cells that hold weights."""
        weights = sum(layer.inputs * layer.outputs * layer.slices for layer in self.layers)
        return weights / (self.geometry.engines * self.geometry.cells)

    @property
    def lane_utilisation(self) -> float:
        """Share of the multiplications that are the network's own while the busiest engine computes."""
        products = sum(layer.inputs * layer.outputs * layer.slices * layer.planes for layer in self.layers)
        return products / (self.cycles_per_image * self.geometry.total_lanes)

    def table(self) -> list[tuple[str, ...]]:
        """Return a line for every layer under a line of headings."""
        lines: list[tuple[str, ...]] = [("layer", "size", "tiles", "engines", "contexts", "cells", "cycles")
                                        + (("slices", "planes") if self.bit else ())]
        for number, layer in enumerate(self.layers):
            tiles = [tile for tile in self.tiles if tile.layer == number]
            units = sorted({tile.unit for tile in tiles})
            cycles = [sum(self._cycles(tile) for tile in tiles if tile.unit == unit) for unit in units]
            sliced = (str(layer.slices), str(layer.planes)) if self.bit else ()
            lines.append((layer.name, f"{layer.inputs} x {layer.outputs}",
                          f"{layer.row_tiles} x {len(layer.column_tiles)} of {layer.row_size} x "
                          f"{max(tile.columns for tile in tiles)}", ", ".join(map(str, units)), str(len(tiles)),
                          str(sum(tile.rows * tile.columns for tile in tiles)), str(max(cycles)), *sliced))
        return lines

    def save(self, path: str | Path) -> None:
        """Write the placement as one .npz file."""
        tiles = [{k: v for k, v in vars(tile).items() if not isinstance(v, np.ndarray)} for tile in self.tiles]
        listed = ("layers", "inputs", "routes", "landings", "programs", "phases")
        meta = {
            "format": FORMAT, "hash": geometry_hash(self.geometry), "geometry": dataclasses.asdict(self.geometry),
            "tiles": tiles, "result_route": self.result_route, "outputs": self.outputs,
            "bit": self.bit,
            "instructions": [instruction.words() for instruction in self.instructions],
            **{name: [dataclasses.asdict(item) for item in getattr(self, name)] for name in listed},
        }
        arrays: dict[str, NDArray[Any]] = {
            "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8), "memory": self.memory,
            "tables": self.tables}
        for k, tile in enumerate(self.tiles):
            arrays[f"targets{k}"], arrays[f"scales{k}"] = tile.targets, tile.scales
        with Path(path).open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, digest=_digest(arrays), **arrays)

    @classmethod
    def load(cls, path: str | Path, geometry: Geometry | None = None) -> "Placement":
        """Read a placement, and check that it is for `geometry` if that is given.

        Raises
        ------
        PlacementError
            If the file cannot be read, was compiled for another geometry or register map, or holds anything else than
            `save` has written: what reaches a chip was made by the compiler.
        """
        try:
            with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if arrays.pop("digest") != _digest(arrays):
                raise PlacementError(f"{path} is not as it was compiled: compile the network again")
            meta = json.loads(arrays["meta"].tobytes())
            if meta["format"] != FORMAT:
                raise PlacementError(f"{path} has format {meta['format']}, not {FORMAT}: compile the network again")
            own = Geometry(**meta["geometry"])
            _check_hash(path, meta["hash"], own, geometry)
            return cls(**_restored(meta, arrays), geometry=own)
        except FileNotFoundError as error:
            raise PlacementError(f"{path} does not exist") from error
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
            raise PlacementError(f"{path} is not a placement ({type(error).__name__}): compile the network again") \
                from error


def _digest(arrays: dict[str, NDArray[Any]]) -> int:
    """Return the CRC-32 of the names, types, shapes and values of arrays."""
    digest = 0
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest = zlib.crc32(array.tobytes(), zlib.crc32(f"{name} {array.dtype} {array.shape} ".encode(), digest))
    return digest


def _check_hash(path: str | Path, found: int, own: Geometry, wanted: Geometry | None) -> None:
    if wanted is not None and found != geometry_hash(wanted):
        raise PlacementError(f"{path} was compiled for geometry {own.name!r} ({found:08x}), "
                             f"not for {wanted.name!r} ({geometry_hash(wanted):08x}): compile the network again")
    if found != geometry_hash(own):
        raise PlacementError(f"{path} was compiled for another register map ({found:08x}): compile the network again")


def _restored(meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the fields of a placement but for its geometry."""
    def pairs(value: Any) -> tuple[Any, ...]:
        return tuple(tuple(item) for item in value)

    return {
        "layers": tuple(LayerPlan(**{**d, "column_tiles": pairs(d["column_tiles"])}) for d in meta["layers"]),
        "tiles": tuple(Tile(**d, targets=arrays[f"targets{k}"], scales=arrays[f"scales{k}"])
                       for k, d in enumerate(meta["tiles"])),
        "inputs": tuple(InputRoute(**{**d, "contexts": pairs(d["contexts"])}) for d in meta["inputs"]),
        "routes": tuple(Route(**{**d, "nodes": pairs(d["nodes"]), "destinations": tuple(d["destinations"])})
                        for d in meta["routes"]),
        "phases": tuple(Phase(**{**d, "plan": pairs(d["plan"])}) for d in meta["phases"]),
        "landings": tuple(Landing(**d) for d in meta["landings"]),
        "programs": tuple(Program(**d) for d in meta["programs"]),
        "instructions": tuple(Instruction.from_words(words) for words in meta["instructions"]),
        "memory": arrays["memory"],
        "tables": arrays["tables"],
        "bit": meta["bit"],
        "result_route": meta["result_route"],
        "outputs": meta["outputs"],
    }
