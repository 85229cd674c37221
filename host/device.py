"""A device: a chip somewhere, the network placed on it, and what has been done to it.

The same calls serve the numpy model, the verilated RTL and a board, over the register map alone.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from host.backend import Backend, Job, Landing, Report
from host.errors import BitlineError
from host.placement import Placement, Tile
from rtl.params import DigitalRegion, EngineOperation, EngineRegion, PortRegion, Table
from rtl.params.registers import (
    COLUMN_STRIDE,
    CONTEXT_STRIDE,
    PROGRAM_STRIDE,
    ROUTE_STRIDE,
    ROUTES,
    fields,
    register,
)
from sim.fixed import Ints
from sim.tables import age_settings, column_noise, noise_gain, tables, verify_settings
from sim.technology import CLOSED_LOOP, Technology

__all__ = ["Device", "ProgramResult"]

Floats = NDArray[np.float64]
Progress = Callable[[str, int], Report]
"""Called with a label and a total when long work begins; returns what is told of each step."""

_SCALE_MAX = (1 << 15) - 1
_WINDOW = 2  # vectors in the mesh: one at work, one behind it; every endpoint has two slots
_ELEMENT_STRIDE = 16  # of a word of the digital unit's memory in the register map
_RECORD = fields("engine", EngineRegion.CONTEXTS)
_NOISE = register("engine", EngineRegion.COLUMNS, "noise").offset
_OF_AGE = (Table.RELAX_SIGMA, Table.FLICKER, Table.SHIFT)
"""Tables that change with age."""



def _silent(_label: str, _total: int) -> Report:
    return lambda _done: None


class ProgramResult:
    """How write-verify ended, cell by cell.

    Attributes
    ----------
    targets, sums, pulses, converged : one array (rows, columns) for each tile of the placement
        Targets in g16; sums of codes of the last verify; pulses, RESET included; whether it ended in its window.
    """

    def __init__(self) -> None:
        self.targets: list[Ints] = []
        self.sums: list[Ints] = []
        self.pulses: list[Ints] = []
        self.converged: list[NDArray[np.bool_]] = []

    def add(self, targets: Ints, outcomes: Ints) -> None:
        """Take the OUTCOMES words of one tile."""
        self.targets.append(targets)
        self.sums.append(((outcomes >> 16) ^ 0x8000) - 0x8000)
        self.pulses.append(outcomes >> 8 & 0xFF)
        self.converged.append((outcomes & 1).astype(np.bool_))

    @property
    def devices(self) -> int:
        """Cells written."""
        return sum(array.size for array in self.pulses)

    @property
    def pulses_mean(self) -> float:
        """Pulses a cell."""
        return float(np.concatenate([array.ravel() for array in self.pulses]).mean())

    @property
    def converged_fraction(self) -> float:
        """Share of the cells that ended in their window."""
        return float(np.concatenate([array.ravel() for array in self.converged]).mean())


class Device:
    """A chip behind a backend; `bitline.open` makes one. A context manager.

    Nothing is kept that the chip does not hold, but for the placement and the technology in use.
    """

    def __init__(self, backend: Backend, *, url: str = "", seed: int = 1, chip: int = 0) -> None:
        self.backend = backend
        self.geometry = backend.geometry
        self.url = url
        self.seed = seed
        self.chip = chip
        self.epoch = 0
        self.event = 0
        """Index of the next vector."""
        self.age_seconds: float | None = None
        self.placement: Placement | None = None
        self.technology: Technology | None = None
        self.way = CLOSED_LOOP
        """How the devices were programmed: one of `sim.technology.WAYS`."""
        self.gains: list[float] = []
        """Compensation gain of each tile."""
        self._reference: list[int] = []
        self._vectors = 0  # since the placement was written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the device; its state stays in it."""
        self.backend.close()

    # --- configuration ----------------------------------------------------------------------------------------------

    def configure(self, placement: Placement) -> None:
        """Write routes, plan, programs, contexts and column constants of a placement.

        Raises
        ------
        BitlineError
            If the placement was made for another geometry; nothing is written then.
        """
        if placement.geometry != self.geometry:
            raise BitlineError(f"the placement was made for geometry {placement.geometry.name!r}, "
                               f"this device has {self.geometry.name!r}: compile the network again")
        self._write_mesh(placement)
        self._write_digital(placement)
        for unit in self._engines():
            self._write_inputs(unit, placement)
        for tile in placement.tiles:
            self._write_tile(tile)
        self.placement = placement
        self.gains = [1.0] * len(placement.tiles)
        self.technology = None
        self.age_seconds = None
        self._vectors = 0

    def _write_mesh(self, placement: Placement) -> None:
        masks = np.zeros((self.geometry.nodes, self.geometry.routes), np.int64)
        for route in placement.routes:
            for node, mask in route.nodes:
                masks[node, route.route] = mask
        for node, table in enumerate(masks):
            self.backend.write(node, ROUTES, 0, table)
        self.backend.write(0, PortRegion.PLAN, 0, [route | words << 8 for route, words in placement.plan])
        self.backend.write(0, PortRegion.REGISTERS, 0, [_WINDOW, len(placement.plan)])

    def _write_inputs(self, unit: int, placement: Placement) -> None:
        inputs = np.zeros(self.geometry.routes, np.int64)
        for route in placement.inputs:
            for engine, context in route.contexts:
                if engine == unit:
                    inputs[route.route] = context | 1 << 6
        self.backend.write(unit, EngineRegion.INPUTS, 0, inputs)

    def _write_digital(self, placement: Placement) -> None:
        """Write memory and programs; the records come last, since writing them resets programs and routes."""
        unit, region = self.geometry.digital_unit, DigitalRegion
        elements = np.zeros((len(placement.memory), _ELEMENT_STRIDE), np.int64)
        elements[:, :self.geometry.transport] = placement.memory
        self.backend.write(unit, region.MEMORY, 0, elements.ravel())
        words = [word for instruction in placement.instructions for word in instruction.words()]
        self.backend.write(unit, region.INSTRUCTIONS, 0, words)
        for number, program in enumerate(placement.programs):
            self.backend.write(unit, region.PROGRAMS, number * PROGRAM_STRIDE,
                               [program.start, program.messages, program.slot, program.latency])
        landings = np.zeros((self.geometry.routes, ROUTE_STRIDE), np.int64)
        for landing in placement.landings:
            landings[landing.route, :2] = landing.base, landing.program | 1 << 4
        self.backend.write(unit, region.INPUT_ROUTES, 0, landings.ravel())

    def _write_tile(self, tile: Tile) -> None:
        record = {"tile": tile.number, "adc_offset": 0} | {
            r.name: getattr(tile, r.name) for r in _RECORD if r.name not in ("tile", "adc_offset")}
        self.backend.write(tile.unit, EngineRegion.CONTEXTS, tile.context * CONTEXT_STRIDE,
                           [record[r.name] for r in _RECORD])
        self._write_scales(tile, 1.0)

    def _write_scales(self, tile: Tile, gain: float) -> None:
        scales = np.rint(tile.scales * gain)
        if np.abs(scales).max(initial=0) > _SCALE_MAX:
            raise BitlineError(f"tile {tile.number} cannot be compensated by {gain:.2f}: "
                               "its affine scale would overflow")
        for column, (scale, bias) in enumerate(zip(scales.astype(np.int64).tolist(), tile.biases.tolist(),
                                                   strict=True)):
            offset = (tile.column_base + column) * COLUMN_STRIDE
            self.backend.write(tile.unit, EngineRegion.COLUMNS, offset, [scale, bias])

    def _set(self, unit: int, **registers: int) -> None:
        for name, value in registers.items():
            offset = register("engine", EngineRegion.REGISTERS, name).offset
            self.backend.write(unit, EngineRegion.REGISTERS, offset, [value])

    def _engines(self) -> range:
        return range(1, self.geometry.engines + 1)

    # --- programming and time ---------------------------------------------------------------------------------------

    def program(self, technology: Technology, *, how: str = CLOSED_LOOP,
                progress: Progress = _silent) -> ProgramResult:
        """Program every tile of the placement, engines side by side, and make the array fresh (age 0).

        Each call is a new programming epoch, with new random values.

        Parameters
        ----------
        how : `closed-loop`, by write-verify in the chip, or `statistical`, the published distribution in one step

        Raises
        ------
        BitlineError
            If nothing is placed, the technology cannot be programmed in this way, or a number of it does not fit the
            chip; nothing is written then.
        """
        placement = self._placed()
        try:
            self._noise_gains(technology)
            technology.check_way(how)
            settings = verify_settings(technology, self.geometry, how)
            content = tables(technology, way=how, geometry=self.geometry)
        except ValueError as error:
            raise BitlineError(str(error)) from None
        self.technology, self.way = technology, how
        self.epoch = (self.epoch + 1) % 256
        for unit in self._engines():
            self._set(unit, seed=self.seed, chip=self.chip, epoch=self.epoch, **settings)
            self._write_tables(unit, content)
        for tile, gain in zip(placement.tiles, self.gains, strict=True):
            if gain != 1.0:
                self._write_scales(tile, 1.0)
        self.gains = [1.0] * len(placement.tiles)
        result = ProgramResult()
        report = progress("write-verify", sum(len(tile.targets) for tile in placement.tiles))
        by_unit = [[tile for tile in placement.tiles if tile.unit == unit] for unit in self._engines()]
        outcomes: dict[int, Ints] = {}
        for tiles in zip_longest(*by_unit):
            side_by_side = [tile for tile in tiles if tile is not None]
            found = self.backend.program([Job(tile.unit, tile.context, tile.targets) for tile in side_by_side], report)
            outcomes |= {tile.number: words for tile, words in zip(side_by_side, found, strict=True)}
        for tile in placement.tiles:
            result.add(tile.targets, outcomes[tile.number])
        self.age_seconds = None
        self.age(0, progress=progress)
        self._reference = self._probe()
        return result

    def age(self, seconds: float, *, progress: Progress = _silent) -> None:
        """Set the time since programming, in seconds; 0 is fresh (the technology's t0).

        Raises
        ------
        BitlineError
            If nothing is programmed, the age is negative, not finite or outside the technology's data, or it lies
            before the present one.
        """
        placement, technology = self._placed(), self._programmed()
        try:
            coordinate = age_settings(technology, seconds)
            content = tables(technology, seconds, way=self.way, geometry=self.geometry)
            gains = self._noise_gains(technology)
        except ValueError as error:
            raise BitlineError(str(error)) from None
        if self.age_seconds is not None and seconds < self.age_seconds:
            raise BitlineError(f"age {seconds:g} s lies before the present {self.age_seconds:g} s: "
                               "time does not run back, program again")
        for unit in self._engines():
            self._set(unit, **coordinate)
            self._write_tables(unit, {table: content[table] for table in _OF_AGE})
        report = progress("ageing", len(placement.tiles))
        for tile, gain in zip(placement.tiles, gains, strict=True):
            self._set(tile.unit, context=tile.context, noise_gain=gain)
            self._operate(tile.unit, EngineOperation.AGE)
            self._write_column_noise(tile, technology)
            report(1)
        self.age_seconds = seconds

    def _write_column_noise(self, tile: Tile, technology: Technology) -> None:
        """Write the noise constants of a tile where AGE cannot make them of the nets."""
        noise = column_noise(technology, self.geometry, tile.targets)
        for column, value in enumerate([] if noise is None else noise.tolist()):
            self.backend.write(tile.unit, EngineRegion.COLUMNS,
                               (tile.column_base + column) * COLUMN_STRIDE + _NOISE, [value])

    def _noise_gains(self, technology: Technology) -> list[int]:
        """Return the gain of the read noise of each tile, or raise ValueError if one does not fit its register."""
        return [noise_gain(technology, self.geometry, tile.rows) for tile in self._placed().tiles]

    def compensate(self, kind: str = "global") -> list[float]:
        """Measure each tile's gain through its own read path and put its inverse into the affine scales.

        `global` compares the sum of |codes| of one-hot probes with that taken right after programming; `none` undoes
        any compensation. Returns the gain applied to each tile.

        Raises
        ------
        BitlineError
            If the kind is unknown or nothing is programmed.
        """
        placement = self._placed()
        if kind not in ("global", "none"):
            raise BitlineError(f"unknown compensation {kind!r}: choose global or none")
        self._programmed()
        if kind == "none":
            gains = [1.0] * len(placement.tiles)
        else:
            gains = [before / now if now else 1.0 for before, now in zip(self._reference, self._probe(), strict=True)]
        for tile, gain in zip(placement.tiles, gains, strict=True):
            self._write_scales(tile, gain)
        self.gains = gains
        return gains

    def _probe(self) -> list[int]:
        """Return each tile's sum of |codes| over one-hot probes of all rows."""
        sums = []
        for tile in self._placed().tiles:
            self._set(tile.unit, context=tile.context, row=0, row_count=tile.rows)
            self._operate(tile.unit, EngineOperation.PROBE)
            sums.append(int(self.backend.read(tile.unit, EngineRegion.OUTCOMES, 0, tile.columns).sum()))
        return sums

    def _write_tables(self, unit: int, content: dict[Table, Ints]) -> None:
        for table, values in content.items():
            self.backend.write(unit, EngineRegion.TABLES, table << 8, values)

    def _operate(self, unit: int, operation: EngineOperation) -> None:
        self._set(unit, operation=operation)

    # --- inference --------------------------------------------------------------------------------------------------

    def infer(self, x: Any, *, progress: Progress = _silent) -> Floats:
        """Return the outputs (N, outputs) of the network for inputs (N, inputs) in the units of the ONNX file.

        Raises
        ------
        BitlineError
            If the shape does not fit or a value is not finite; nothing is sent then.
        """
        codes, _ = self.infer_codes(x, progress=progress)
        return codes.astype(np.float64) * self._placed().output_scale

    def infer_codes(self, x: Any, *, progress: Progress = _silent) -> tuple[Ints, Ints]:
        """Return the outputs as the chip gives them, integers (N, outputs), and their target times (N,) in ps."""
        placement = self._placed()
        self._programmed()
        activations, events = self._vectors_of(x)
        if not len(events):
            return np.zeros((0, placement.outputs), np.int64), np.zeros(0, np.int64)
        report = progress("inference", len(events))
        elements, times = self.backend.infer(events, np.zeros(len(events), np.int64), activations, report)
        self._advance(len(events))
        return elements[:, :placement.outputs], times

    def stream(self, vectors: Iterable[Any], *, batch: int = 16) -> Iterator[Floats]:
        """Yield the outputs (outputs,) of each vector of any iterable, in order, several of them under way."""
        waiting: list[Any] = []
        for vector in vectors:
            waiting.append(vector)
            if len(waiting) == batch:
                yield from self.infer(np.stack(waiting))
                waiting = []
        if waiting:
            yield from self.infer(np.stack(waiting))

    def trace(self, x: Any) -> list[Floats]:
        """Return the sums of every layer, before its activation function, for inputs (N, inputs).

        One array (N, layer's outputs) a layer, in the units of the ONNX file, from what reached the digital unit.
        """
        found = self.partial_sums(x)
        placement = self._placed()
        return [self._layer_sums(placement, number, found) for number in range(len(placement.layers))]

    def partial_sums(self, x: Any) -> list[Ints]:
        """Return what each tile of the placement sent to the digital unit, (N, words * W), for inputs (N, inputs)."""
        placement = self._placed()
        self._programmed()
        activations, events = self._vectors_of(x)
        found = self.backend.trace(events, np.zeros(len(events), np.int64), activations, [
            Landing(route=landing.route, program=landing.program, base=landing.base,
                    slot=placement.programs[landing.program].slot, words=-(-tile.columns // self.geometry.transport))
            for landing, tile in zip(placement.landings, placement.tiles, strict=True)
        ], self._vectors)
        self._advance(len(events))
        return found

    def _layer_sums(self, placement: Placement, number: int, found: list[Ints]) -> Floats:
        layer = placement.layers[number]
        first = layer.bias_words[0]
        bias = placement.memory[first:first + layer.words].ravel()[:layer.outputs]
        sums = np.tile(bias, (len(found[0]), 1))
        for tile, elements in zip(placement.tiles, found, strict=True):
            if tile.layer == number:
                used = min(tile.columns, layer.outputs - tile.first_column)
                sums[:, tile.first_column:tile.first_column + used] += elements[:, :used]
        return sums.astype(np.float64) * layer.unit

    def _vectors_of(self, x: Any) -> tuple[Ints, Ints]:
        """Return activations in the order of the plan, and the events of as many new vectors."""
        placement = self._placed()
        activations = placement.arrange(placement.quantize(self._checked(x)))
        return activations, np.arange(self.event, self.event + len(activations), dtype=np.int64) & 0xFFFFFFFF

    def _advance(self, vectors: int) -> None:
        self.event += vectors
        self._vectors += vectors

    def _checked(self, x: Any) -> Floats:
        placement = self._placed()
        try:
            x = np.asarray(x, np.float64)
        except (TypeError, ValueError):
            raise BitlineError("inputs must be an array of numbers") from None
        if x.ndim < 2:
            x = x.reshape(1, -1)
        x = x.reshape(len(x), math.prod(x.shape[1:]))
        if x.shape[1] != placement.layers[0].inputs:
            raise BitlineError(f"the network takes {placement.layers[0].inputs} inputs, not {x.shape[1]}")
        if not np.isfinite(x).all():
            raise BitlineError(f"input {int(np.argmin(np.isfinite(x).all(axis=1)))} holds NaN or infinity")
        return x

    # --- looking inside ---------------------------------------------------------------------------------------------

    def counters(self) -> dict[str, int]:
        """Return every counter that model and gates share, by "unit.name"; those of board time are left out."""
        out = {}
        kinds = [(0, "port"), *((unit, "engine") for unit in self._engines()), (self.geometry.digital_unit, "digital")]
        for unit, kind in kinds:
            for counter in fields(kind, PortRegion.COUNTERS):
                if "(board)" not in counter.text:
                    low, high = self.backend.read(unit, PortRegion.COUNTERS, counter.offset, 2).tolist()
                    name = kind if kind != "engine" else f"engine{unit - 1}"
                    out[f"{name}.{counter.name}"] = low | high << 32
        return out

    def read_back(self) -> list[Ints]:
        """Return the states (rows, columns, devices) of each tile: G+, G- and, with two pairs, g+, g-."""
        pairs = self.geometry.pairs
        out = []
        for tile in self._placed().tiles:
            words = self.backend.read(tile.unit, EngineRegion.STATES, tile.state_base * pairs,
                                      tile.rows * tile.columns * pairs)
            states = np.stack([words & 0xFFFF, words >> 16], axis=-1).reshape(tile.columns, tile.rows, 2 * pairs)
            out.append(states.transpose(1, 0, 2))
        return out

    def _placed(self) -> Placement:
        if self.placement is None:
            raise BitlineError("no network is placed on this device: call configure first")
        return self.placement

    def _programmed(self) -> Technology:
        if self.technology is None:
            raise BitlineError("the devices are not programmed: call program first")
        return self.technology
