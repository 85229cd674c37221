"""A device: a chip somewhere, the network placed on it, and what has been done to it.

The same calls serve the numpy model, the verilated RTL and a board, over the register map alone.
"""

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from host.backend import Backend, Report
from host.errors import BitlineError
from host.placement import Placement, Tile
from rtl.params import ACTIVATION_MAX, GMAX_CODE, DigitalRegion, EngineOperation, EngineRegion, PortRegion, Table
from rtl.params.formats import GMAX_G16
from rtl.params.program import INSTRUCTION_WORDS
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
from sim.technology import Technology, age_settings, noise_gain, tables, verify_settings

__all__ = ["Device", "ProgramResult"]

Floats = NDArray[np.float64]
Progress = Callable[[str, int], Report]
"""Called with a label and a total when long work begins; returns what is told of each step."""

_SCALE_MAX = (1 << 15) - 1


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
        self.gains: list[float] = []
        """Compensation gain of each tile."""
        self._reference: list[int] = []

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
        for unit in range(1, self.geometry.engines + 1):
            self.backend.write(unit, EngineRegion.INPUTS, 0, [0] * self.geometry.routes)
        for tile in placement.tiles:
            self._write_tile(tile)
        for unit, route, context in placement.inputs:
            self.backend.write(unit, EngineRegion.INPUTS, route, [context | 1 << 6])
        self.placement = placement
        self.gains = [1.0] * len(placement.tiles)
        self.age_seconds = None

    def _write_mesh(self, placement: Placement) -> None:
        for node, masks in placement.node_routes.items():
            table = np.zeros(self.geometry.routes, np.int64)
            for route, mask in masks.items():
                table[route] = mask
            self.backend.write(node, ROUTES, 0, table)
        self.backend.write(0, PortRegion.PLAN, 0, [route | words << 8 for route, words in placement.plan])
        self.backend.write(0, PortRegion.REGISTERS, 0, [placement.window, len(placement.plan)])

    def _write_digital(self, placement: Placement) -> None:
        unit, region = self.geometry.digital_unit, DigitalRegion
        self.backend.write(unit, region.INPUT_ROUTES, 0, [0] * (self.geometry.routes * ROUTE_STRIDE))
        for route, base, program in placement.landings:
            self.backend.write(unit, region.INPUT_ROUTES, route * ROUTE_STRIDE, [base, program | 1 << 4])
        for number, program_record in enumerate(placement.programs):
            self.backend.write(unit, region.PROGRAMS, number * PROGRAM_STRIDE, [
                program_record.start, program_record.messages, program_record.slot, program_record.latency])
        words = [word for instruction in placement.instructions for word in instruction.words()]
        assert len(words) == INSTRUCTION_WORDS * len(placement.instructions)
        self.backend.write(unit, region.INSTRUCTIONS, 0, words)
        for word, elements in placement.memory.items():
            self.backend.write(unit, region.MEMORY, word * 16, elements)

    def _write_tile(self, tile: Tile) -> None:
        record = {name: getattr(tile, name) for name in (
            "tile", "rows", "columns", "net_base", "state_base", "column_base", "route", "adc_gain", "latency")}
        record["adc_offset"] = 0
        values = [record[r.name] for r in fields("engine", EngineRegion.CONTEXTS)]
        self.backend.write(tile.unit, EngineRegion.CONTEXTS, tile.context * CONTEXT_STRIDE, values)
        self._write_scales(tile, 1.0)

    def _write_scales(self, tile: Tile, gain: float) -> None:
        scales = np.rint(tile.scales * gain)
        if np.abs(scales).max(initial=0) > _SCALE_MAX:
            raise BitlineError(f"tile {tile.tile} cannot be compensated by {gain:.2f}: its affine scale would overflow")
        first = tile.column_base * COLUMN_STRIDE
        for column, scale in enumerate(scales.astype(np.int64).tolist()):
            self.backend.write(tile.unit, EngineRegion.COLUMNS, first + column * COLUMN_STRIDE, [scale, 0])

    def _set(self, unit: int, **registers: int) -> None:
        for name, value in registers.items():
            offset = register("engine", EngineRegion.REGISTERS, name).offset
            self.backend.write(unit, EngineRegion.REGISTERS, offset, [value])

    def _engines(self) -> range:
        return range(1, self.geometry.engines + 1)

    # --- programming and time ---------------------------------------------------------------------------------------

    def program(self, technology: Technology, *, progress: Progress = _silent) -> ProgramResult:
        """Write-verify every tile of the placement, row by row, and make the array fresh (age 0).

        Each call is a new programming epoch, with new random values.
        """
        placement = self._placed()
        self.technology = technology
        self.epoch = (self.epoch + 1) % 256
        settings = verify_settings(technology, self.geometry)
        for unit in self._engines():
            self._set(unit, seed=self.seed, chip=self.chip, epoch=self.epoch, **settings)
            self._write_tables(unit, tables(technology))
        for tile, gain in zip(placement.tiles, self.gains, strict=True):
            if gain != 1.0:
                self._write_scales(tile, 1.0)
        self.gains = [1.0] * len(placement.tiles)
        result = ProgramResult()
        report = progress("write-verify", sum(len(tile.targets) for tile in placement.tiles))
        for tile in placement.tiles:
            result.add(tile.targets, self.backend.program_rows(tile.unit, tile.context, tile.targets, report))
        self.age_seconds = None
        self.age(0, progress=progress)
        self._reference = self._probe()
        return result

    def age(self, seconds: float, *, progress: Progress = _silent) -> None:
        """Set the time since programming, in seconds; 0 is fresh (the technology's t0).

        Raises
        ------
        BitlineError
            If nothing is programmed, the age is negative or not finite, or it lies before the present one.
        """
        placement, technology = self._placed(), self._programmed()
        try:
            coordinate = age_settings(technology, seconds)
            flicker = tables(technology, seconds)[Table.FLICKER]
        except ValueError as error:
            raise BitlineError(str(error)) from None
        if self.age_seconds is not None and seconds < self.age_seconds:
            raise BitlineError(f"age {seconds:g} s lies before the present {self.age_seconds:g} s: "
                               "time does not run back, program again")
        for unit in self._engines():
            self._set(unit, **coordinate)
            self._write_tables(unit, {Table.FLICKER: flicker})
        report = progress("ageing", len(placement.tiles))
        for tile in placement.tiles:
            self._set(tile.unit, context=tile.context, noise_gain=noise_gain(technology, self.geometry, tile.rows))
            self._operate(tile.unit, EngineOperation.AGE)
            report(1)
        self.age_seconds = seconds

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
        return codes * self._placed().output_scale

    def infer_codes(self, x: Any, *, progress: Progress = _silent) -> tuple[Ints, Ints]:
        """Return the outputs as the chip gives them, integers (N, outputs), and their target times (N,) in ps."""
        placement = self._placed()
        self._programmed()
        activations = placement.quantise(self._checked(x))
        events = np.arange(self.event, self.event + len(activations), dtype=np.int64) & 0xFFFFFFFF
        report = progress("inference", len(activations))
        if not len(activations):
            return np.zeros((0, placement.outputs), np.int64), np.zeros(0, np.int64)
        elements, times = self.backend.infer(events, np.zeros(len(activations), np.int64), activations, report)
        self.event += len(activations)
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
        """Return the outputs of every layer, before its activation function, for inputs (N, inputs).

        One array (N, layer's outputs) a layer, in the units of the ONNX file, read from the digital unit's memory.
        """
        placement = self._placed()
        rows: list[list[Floats]] = [[] for _ in placement.layers]
        for vector in self._checked(x):
            landed = self.event
            self.infer(vector[None])
            for k, layer in enumerate(placement.layers):
                rows[k].append(layer.scale * self._landed(placement, k, landed))
        return [np.array(layer_rows) for layer_rows in rows]

    def _landed(self, placement: Placement, layer: int, vector: int) -> Ints:
        raise NotImplementedError

    def _checked(self, x: Any) -> Floats:
        placement = self._placed()
        try:
            x = np.asarray(x, np.float64)
        except (TypeError, ValueError):
            raise BitlineError("inputs must be an array of numbers") from None
        if x.ndim == 1:
            x = x[None]
        x = x.reshape(len(x), -1)
        if x.shape[1] != placement.inputs_size:
            raise BitlineError(f"the network takes {placement.inputs_size} inputs, not {x.shape[1]}")
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
