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

from host import compensation, gradient
from host.backend import Backend, Job, Landing, Probe, Report
from host.bits import written_at_once
from host.compensation import Affine, Calibration, Compensation, Cost, Gains, Plan, Probing, Statistics
from host.errors import BitlineError
from host.gradient import Descent
from host.placement import Placement, Tile
from host.results import Outcome
from rtl.params import ADC_SHIFT, DigitalRegion, EngineOperation, EngineRegion, PortRegion, Table
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
from sim.pulses import wear_begins
from sim.tables import age_settings, column_noise, noise_gain, probe_settings, tables, verify_settings
from sim.technology import CLOSED_LOOP, GRADIENT, STATISTICAL, Technology

__all__ = ["Device", "ProgramResult"]

Floats = NDArray[np.float64]
Progress = Callable[[str, int], Report]
"""Called with a label and a total when long work begins; returns what is told of each step."""

_WINDOW = 2  # vectors in the mesh: one at work, one behind it; every endpoint has two slots
_REPORTED = 16  # vectors of a calibration set between two reports of progress
_NET_TICKS = 32  # pulse that reads nets: with it the gain of every range is a whole number
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
    refreshes : the same
        How often a pair of one-way devices, or an overshot device, was RESET and begun anew; at most 15 are told.
    outcomes : the same
        An `Outcome` each.
    conversions : int
        ADC conversions that programming took.
    """

    def __init__(self) -> None:
        self.refreshes: list[Ints] = []
        self.outcomes: list[Ints] = []
        self.targets: list[Ints] = []
        self.sums: list[Ints] = []
        self.pulses: list[Ints] = []
        self.converged: list[NDArray[np.bool_]] = []
        self.conversions = 0

    def add(self, targets: Ints, outcomes: Ints, *, worn: NDArray[np.bool_]) -> None:
        """Take the OUTCOMES words of one tile; `worn` tells where devices may be, if they do not respond."""
        self.targets.append(targets)
        self.sums.append(((outcomes >> 16) ^ 0x8000) - 0x8000)
        self.pulses.append(outcomes >> 8 & 0xFF)
        self.converged.append((outcomes & 1).astype(np.bool_))
        self.refreshes.append(outcomes >> 4 & 0xF)
        unresponsive = (outcomes & 3) == 2
        found = np.where(outcomes & 1, Outcome.CONVERGED, Outcome.FAILED)
        self.outcomes.append(np.where(unresponsive, np.where(worn, Outcome.WORN, Outcome.STUCK), found))

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
        self.probes = "one-hot"
        """Kind of probes that `program` takes its reference with, and `compensate` its gains."""
        self.gains: list[float] = []
        """Compensation gain of each tile."""
        self.affine: list[Affine] = []
        """Affine words of each tile, as the chip has them."""
        self.plans: list[Plan] = []
        """How the gains of each tile are measured."""
        self.reference: list[Floats] = []
        """Weighted sums of codes (columns,) of each tile at t0."""
        self.statistics: list[Statistics] = []
        """Of the partial sums of each tile at t0, if `take_statistics` was called."""
        self._converter_offset = 0.0
        self._trims: list[int] = [0] * self.geometry.engines  # of the verify range, 2**-24 codes
        self._offsets: list[Floats] = []  # of the inference range as calibrated, codes
        self._target_time = 0  # of probes, ps
        self._vectors = 0  # since the placement was written
        self._pulses: dict[int, Ints] = {}  # of each cell of a tile, since then

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
        self._offsets = [np.zeros(tile.columns) for tile in placement.tiles]
        self._apply(self._uncompensated())
        self.gains = [1.0] * len(placement.tiles)
        self.technology = None
        self.reference, self.statistics = [], []
        self.age_seconds = None
        self._vectors = 0
        self._pulses = {}

    def _write_mesh(self, placement: Placement) -> None:
        masks = np.zeros((self.geometry.nodes, self.geometry.routes), np.int64)
        for route in placement.routes:
            for node, mask in route.nodes:
                masks[node, route.route] = mask
        for node, table in enumerate(masks):
            self.backend.write(node, ROUTES, 0, table)
        self.backend.write(0, PortRegion.PLAN, 0, [
            route | words << 8 | position << 16 for route, words, position in placement.plan])
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
        self.backend.write(unit, region.ACTIVATION_TABLES, 0, placement.tables.ravel())
        for number, program in enumerate(placement.programs):
            self.backend.write(unit, region.PROGRAMS, number * PROGRAM_STRIDE,
                               [program.start, program.messages, program.slot, program.latency])
        landings = np.zeros((self.geometry.routes, ROUTE_STRIDE), np.int64)
        for landing in placement.landings:
            landings[landing.route, :3] = landing.base, landing.program | 1 << 4, landing.more
        self.backend.write(unit, region.INPUT_ROUTES, 0, landings.ravel())

    def _write_tile(self, tile: Tile) -> None:
        record = {"tile": tile.number, "adc_offset": self._offset_word()} | {
            r.name: getattr(tile, r.name) for r in _RECORD if r.name not in ("tile", "adc_offset")}
        self.backend.write(tile.unit, EngineRegion.CONTEXTS, tile.context * CONTEXT_STRIDE,
                           [record[r.name] for r in _RECORD])

    def _apply(self, words: list[Affine]) -> None:
        """Write the affine words of all tiles."""
        for tile, affine in zip(self._placed().tiles, words, strict=True):
            for column, pair in enumerate(zip(affine.scales.tolist(), affine.biases.tolist(), strict=True)):
                offset = (tile.column_base + column) * COLUMN_STRIDE
                self.backend.write(tile.unit, EngineRegion.COLUMNS, offset, pair)
        self.affine = words

    def _uncompensated(self) -> list[Affine]:
        tiles = self._placed().tiles
        return self._words([np.ones(tile.columns) for tile in tiles], [np.zeros(tile.columns) for tile in tiles])

    def _words(self, factors: list[Floats], shifts: list[Floats]) -> list[Affine]:
        return [compensation.affine(*values) for values in
                zip(self._placed().tiles, factors, self._offsets, shifts, strict=True)]

    def _offset_word(self) -> int:
        return round(self._converter_offset * (1 << ADC_SHIFT))

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
        how : `closed-loop`, by write-verify in the chip; `statistical`, the published distribution in one step; or
            `gradient`, by gradient descent on products of the whole array, never reading a cell; a technology of bits
            is written once, whatever it says

        Raises
        ------
        BitlineError
            If nothing is placed, the technology cannot be programmed in this way, or a number of it does not fit the
            chip; nothing is written then.
        """
        placement = self._placed()
        if technology.pulse == "bits":
            if not placement.bit:
                raise BitlineError(f"technology {technology.name!r} holds bits, but the network was compiled for cells "
                                   f"that hold weights: compile it with --technology {technology.name}")
            technology, how = written_at_once(technology), STATISTICAL
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
        self._write_verify_offsets()
        self._apply(self._uncompensated())
        self.gains = [1.0] * len(placement.tiles)
        self.reference, self.statistics = [], []
        result = ProgramResult()
        before = self._conversions()
        outcomes = self._descend(settings, progress) if how == GRADIENT else self._program_rows(progress)
        result.conversions = self._conversions() - before
        for tile in placement.tiles:
            # Pulses are counted to 255 a row: a cell that took more counts as so many.
            total = self._pulses.get(tile.number, np.zeros_like(tile.targets)) + (outcomes[tile.number] >> 8 & 0xFF)
            self._pulses[tile.number] = total
            result.add(tile.targets, outcomes[tile.number], worn=total > wear_begins(technology))
        self.age_seconds = None
        self.age(0, progress=progress)
        self.plans = [compensation.plan(self.probes, tile, technology, self.geometry) for tile in placement.tiles]
        self.reference = self._weighted_sums(progress)
        return result

    def _program_rows(self, progress: Progress) -> dict[int, Ints]:
        """PROGRAM every row to its targets; return the OUTCOMES (rows, columns) of each tile by number."""
        report = progress("write-verify", sum(len(tile.targets) for tile in self._placed().tiles))
        outcomes: dict[int, Ints] = {}
        for tiles in self._side_by_side():
            jobs = [Job(tile.unit, tile.context, np.arange(tile.rows), tile.targets) for tile in tiles]
            outcomes |= {tile.number: words for tile, words in
                         zip(tiles, self.backend.program(jobs, report), strict=True)}
        return outcomes

    def _descend(self, settings: dict[str, int], progress: Progress) -> dict[int, Ints]:
        """Program by gradient descent; return what write-verify would have told, as `_program_rows` does."""
        technology, tiles = self._programmed(), self._placed().tiles
        descents = [Descent(tile, technology, self.geometry) for tile in tiles]
        for unit in self._engines():
            self._set(unit, **gradient.START)
        self._program_rows(progress)
        for tile in tiles:
            noise = compensation.dense_noise(tile, technology, self.geometry) * technology.verify_noise
            self._write_noise(tile, np.rint(noise).astype(np.int64))
        for unit in self._engines():
            self._set(unit, direct=1)
        steps, phases = descents[0].steps, descents[0].phases  # those of the technology
        report = progress("gradient descent", steps * phases)
        for step in range(steps * phases):
            self._learn(descents, step, settings)
            if step == steps:
                for one in descents:
                    one.turn()
            if not self._pulse_rows(descents, step):
                break
            report(1)
        else:
            self._learn(descents, steps * phases, settings)
        for unit in self._engines():
            self._set(unit, direct=0, **{name: settings[name] for name in gradient.START})
        return {tile.number: one.outcomes() for tile, one in zip(tiles, descents, strict=True)}

    def _learn(self, descents: list[Descent], step: int, settings: dict[str, int]) -> None:
        """Read all arrays, and without a row driven, for one step."""
        registers = self._reading() | {"verify_noise": settings["verify_noise"]} | gradient.reading(step)
        idles = [compensation.idle(tile) for tile in self._placed().tiles]
        nothing = self._probe(idles, registers, lambda _done: None)
        sums = self._probe([one.probing for one in descents], registers, lambda _done: None)
        for one, codes, empty, idle in zip(descents, sums, nothing, idles, strict=True):
            one.learn(codes, empty[0] / idle.count)

    def _pulse_rows(self, descents: list[Descent], step: int) -> bool:
        """Give the pulses of one step; return whether there were any."""
        words = {tile.number: one.pulse() for tile, one in zip(self._placed().tiles, descents, strict=True)}
        for unit in self._engines():
            self._set(unit, iterations=gradient.coordinate(step))
        for tiles in self._side_by_side():
            jobs = []
            for tile in tiles:
                rows = np.flatnonzero(words[tile.number].any(axis=1))
                if len(rows):
                    jobs.append(Job(tile.unit, tile.context, rows, words[tile.number][rows]))
            if jobs:
                self.backend.program(jobs, lambda _done: None)
        return any(one.any() for one in words.values())

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
        if noise is not None:
            self._write_noise(tile, noise)

    def _write_noise(self, tile: Tile, noise: Ints) -> None:
        for column, value in enumerate(noise.tolist()):
            self.backend.write(tile.unit, EngineRegion.COLUMNS,
                               (tile.column_base + column) * COLUMN_STRIDE + _NOISE, [value])

    def _noise_gains(self, technology: Technology) -> list[int]:
        """Return the gain of the read noise of each tile, or raise ValueError if one does not fit its register."""
        return [noise_gain(technology, self.geometry, tile.rows) for tile in self._placed().tiles]

    # --- compensation -----------------------------------------------------------------------------------------------

    def compensate(self, kind: str = "global", *, calibration: Any = None,
                   progress: Progress = _silent) -> Compensation:
        """Undo drift in the affine words, as far as the tiles' own noisy read path tells it.

        Parameters
        ----------
        kind
            `global`: one gain a tile, from probes against those taken right after programming. `column`: one a column;
            one that lies in the noise has its tile's. `adabs`: scale and bias of each column, so that mean and variance
            of its partial sums are those of `take_statistics`, one layer after the other. `none`: nothing.
        calibration : (N, inputs), for adabs

        Raises
        ------
        BitlineError
            If the kind is unknown, nothing is programmed, something that the kind needs is missing, or a word would
            overflow; the words in force stay then.
        """
        placement = self._placed()
        if kind not in compensation.KINDS:
            raise BitlineError(f"unknown compensation {kind!r}: choose {', '.join(compensation.KINDS)}")
        self._programmed()
        meter = self._meter()
        if kind == "adabs":
            found = self._restore_statistics(calibration, progress)
        else:
            if kind == "none":
                found = [Gains(1.0, np.ones(tile.columns), np.zeros(tile.columns, np.bool_))
                         for tile in placement.tiles]
            else:
                now = self._weighted_sums(progress)
                found = [compensation.gains(before, after, plan.noise)
                         for before, after, plan in zip(self.reference, now, self.plans, strict=True)]
            if kind == "global":
                found = [Gains(one.tile, np.full_like(one.columns, one.tile), np.zeros_like(one.weak))
                         for one in found]
            self._apply(self._words([one.columns for one in found], [np.zeros_like(one.columns) for one in found]))
        self.gains = [one.tile for one in found]
        return Compensation(kind=kind, gains=self.gains, columns=[one.columns for one in found],
                            weak=compensation.weak_columns(found), cost=meter())

    def take_statistics(self, calibration: Any, *, progress: Progress = _silent) -> Cost:
        """Store mean and variance of every column's partial sums over a calibration set (N, inputs), for `adabs`.

        They are those of fresh devices: any compensation is undone. Returns what it took.

        Raises
        ------
        BitlineError
            If the devices are not fresh, or the calibration set is not one.
        """
        self._programmed()
        self._checked_set(calibration)
        if self.age_seconds != 0:
            raise BitlineError(f"statistics are those of fresh devices, but these are {self.age_seconds:g} s old: "
                               "take them after programming, before ageing")
        meter = self._meter()
        self._apply(self._uncompensated())
        self.gains = [1.0] * len(self.affine)
        self.statistics = self._measure_statistics(calibration, progress("statistics", len(calibration)))
        return meter()

    def _restore_statistics(self, calibration: Any, progress: Progress) -> list[Gains]:
        """Compensate layer by layer: each sees what the layers before it send when they are compensated."""
        placement = self._placed()
        if calibration is None:
            raise BitlineError("compensation adabs needs a calibration set: give the one that take_statistics had")
        if not self.statistics:
            raise BitlineError("compensation adabs has no reference: call take_statistics after programming, "
                               "before ageing")
        self._checked_set(calibration)
        report = progress("statistics", len(placement.layers) * len(calibration))
        before = self.affine
        words = self._uncompensated()
        found: dict[int, Gains] = {}
        try:
            self._apply(words)
            for layer in range(len(placement.layers)):
                now = self._measure_statistics(calibration, report)
                for k, tile in enumerate(placement.tiles):
                    if tile.layer == layer:
                        found[k], shifts = compensation.statistics_gains(tile, self.statistics[k], now[k])
                        words[k] = compensation.affine(tile, found[k].columns, self._offsets[k], shifts)
                self._apply(words)
        except BaseException:
            self._apply(before)
            raise
        return [found[k] for k in range(len(words))]

    def _measure_statistics(self, calibration: Any, report: Report) -> list[Statistics]:
        placement, x = self._placed(), self._checked(calibration)
        parts = []
        for start in range(0, len(x), _REPORTED):
            part = x[start:start + _REPORTED]
            parts.append(self.partial_sums(part))
            report(len(part))
        sums = [np.concatenate(one) for one in zip(*parts, strict=True)]
        steps = [*(tile.latency for tile in placement.tiles), *(program.latency for program in placement.programs)]
        self._target_time += sum(steps) + (len(x) - 1) * max(steps)
        return [Statistics.of(one[:, :tile.columns]) for one, tile in zip(sums, placement.tiles, strict=True)]

    def _checked_set(self, calibration: Any) -> None:
        if len(self._checked(calibration)) < 2:
            raise BitlineError("a calibration set must have at least 2 vectors")

    def calibrate(self) -> Calibration:
        """Measure the converters' offsets through the tiles and take them off from now on.

        In the verify range: reads without a row driven; the register `verify_offset` then opposes what they give. In
        the inference range: pairs of opposite dense probes; the affine biases then oppose it. Compensation in force is
        undone; compensate again.

        Raises
        ------
        BitlineError
            If nothing is programmed, or a word would overflow.
        """
        placement = self._placed()
        self._programmed()
        meter = self._meter()
        averages = self._reading()["averages"]
        verify = [float(one.mean() / averages) for one in self._idle_sums()]
        pairs = [compensation.balanced(tile, self.geometry) for tile in placement.tiles]
        up, down = (self.probe([pair[k] for pair in pairs]) for k in range(2))
        offsets = [(a + b).sum(axis=0) / (2 * averages * len(a)) for a, b in zip(up, down, strict=True)]
        words = [compensation.affine(tile, np.ones(tile.columns), one, np.zeros(tile.columns))
                 for tile, one in zip(placement.tiles, offsets, strict=True)]
        for unit in self._engines():
            mean = [one for one, tile in zip(verify, placement.tiles, strict=True) if tile.unit == unit]
            self._trims[unit - 1] -= round(float(np.mean(mean or [0.0])) * (1 << ADC_SHIFT))
        self._offsets = offsets
        self._write_verify_offsets()
        self._apply(words)
        self.gains = [1.0] * len(words)
        return Calibration(verify=verify, inference=offsets, cost=meter())

    def set_converter_offset(self, codes: float) -> None:
        """Give every converter an offset, in codes of either range: a fault that only an emulated chip can be given.

        Raises
        ------
        BitlineError
            If it is not within the codes.
        """
        if not abs(codes) <= self.geometry.code_max:
            raise BitlineError(f"an offset must be within +-{self.geometry.code_max} codes, not {codes!r}")
        self._converter_offset = codes
        if self.placement is not None:
            for tile in self.placement.tiles:
                self._write_tile(tile)
        if self.technology is not None:
            self._write_verify_offsets()

    def _write_verify_offsets(self) -> None:
        for unit in self._engines():
            self._set(unit, verify_offset=self._offset_word() + self._trims[unit - 1])

    def inner_state(self) -> dict[str, Any]:
        """Return what a session must keep besides the public attributes, as JSON has it."""
        return {"trims": self._trims, "offsets": [one.tolist() for one in self._offsets],
                "converter_offset": self._converter_offset, "vectors": self._vectors}

    def set_inner_state(self, state: dict[str, Any]) -> None:
        """Take what `inner_state` returned."""
        self._trims, self._converter_offset = state["trims"], state["converter_offset"]
        self._offsets = [np.asarray(one, np.float64) for one in state["offsets"]]
        self._vectors = state["vectors"]

    def probe(self, probings: list[Probing], *, progress: Progress = _silent) -> list[Ints]:
        """Probe each tile; return its sums of codes (probes, columns)."""
        reading = self._reading()
        self._target_time += max(one.reads * reading["averages"] * tile.latency
                                 for one, tile in zip(probings, self._placed().tiles, strict=True))
        return self._probe(probings, reading, progress("probes", len(probings)))

    def _probe(self, probings: list[Probing], reading: dict[str, int], report: Report) -> list[Ints]:
        found: dict[int, Ints] = {}
        for unit in self._engines():
            self._set(unit, **reading)
        for group in self._side_by_side():
            for tile in group:
                one = probings[tile.number]
                self._set(tile.unit, probe_ticks=one.ticks, probe_mode=one.mode)
            jobs = [Probe(tile.unit, tile.context, tile.columns, probings[tile.number].rows,
                          probings[tile.number].count) for tile in group]
            found |= {tile.number: sums for tile, sums in zip(group, self.backend.probe(jobs), strict=True)}
            report(len(group))
        return [found[tile.number] for tile in self._placed().tiles]

    def _weighted_sums(self, progress: Progress) -> list[Floats]:
        """Return the weighted sums (columns,) of each tile now, the converters' offset taken off."""
        idle = self._idle_sums()
        sums = self.probe([plan.probing for plan in self.plans], progress=progress)
        return [plan.weigh(codes, none) for plan, codes, none in zip(self.plans, sums, idle, strict=True)]

    def _idle_sums(self) -> list[Floats]:
        """Return the sum of codes (columns,) that a verify of each tile gives when no row is driven."""
        probings = [compensation.idle(tile) for tile in self._placed().tiles]
        return [sums[0] / one.count for sums, one in zip(self.probe(probings), probings, strict=True)]

    def _reading(self) -> dict[str, int]:
        """Return the registers that a probe reads with: those of write-verify, whichever way programming went."""
        return probe_settings(self._programmed(), self.geometry)

    def _meter(self) -> Callable[[], Cost]:
        """Return what tells the cost since now."""
        before, cycles, time = self._conversions(), self.backend.cycles(), self._target_time

        def cost() -> Cost:
            now = self.backend.cycles()
            return Cost(conversions=self._conversions() - before, target_time_ps=self._target_time - time,
                        board_cycles=None if cycles is None or now is None else now - cycles)
        return cost

    def _conversions(self) -> int:
        return sum(value for name, value in self.counters().items() if name.endswith("conversions"))

    def _side_by_side(self) -> Iterator[list[Tile]]:
        """Yield all tiles in groups of different engines, which work at the same time."""
        tiles = self._placed().tiles
        for group in zip_longest(*([tile for tile in tiles if tile.unit == unit] for unit in self._engines())):
            yield [tile for tile in group if tile is not None]

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
        if placement.bit:
            raise BitlineError("what bit slices send to the digital unit cannot be traced")
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

    def nets(self, *, progress: Progress = _silent) -> list[Ints]:
        """Return the present nets (rows, columns) of each tile, exactly, as the engines multiply by them.

        They come through the tiles' own read path with its read noise switched off, which only an emulated chip can do:
        the sum over k < m of round(net / m + k / m) is net + m / 2 (Hermite), and with m large enough no code clips.
        """
        tiles, settings = self._placed().tiles, self._reading()
        parts = 2
        while self.geometry.net_max / parts + 2 > self.geometry.code_max:
            parts *= 2
        exact = {"averages": 1, "verify_noise": 0, "verify_gain": (1 << ADC_SHIFT) // (_NET_TICKS * parts)}
        rows = [Probing(np.arange(tile.rows), _NET_TICKS) for tile in tiles]
        found = [np.full((tile.rows, tile.columns), -parts // 2) for tile in tiles]
        report = progress("nets", parts * len(tiles))
        for k in range(parts):
            for nets, codes in zip(found, self._probe(rows, exact | {"verify_offset": (k << ADC_SHIFT) // parts},
                                                      report), strict=True):
                nets += codes
        for unit in self._engines():
            self._set(unit, **settings)
        self._write_verify_offsets()
        return found

    def column_constants(self) -> list[Ints]:
        """Return the words (columns, 3) of each tile: scale and bias of the affine stage, noise constant; unsigned."""
        return [self.backend.read(tile.unit, EngineRegion.COLUMNS, tile.column_base * COLUMN_STRIDE,
                                  tile.columns * COLUMN_STRIDE).reshape(tile.columns, COLUMN_STRIDE)[:, :3]
                for tile in self._placed().tiles]

    def _placed(self) -> Placement:
        if self.placement is None:
            raise BitlineError("no network is placed on this device: call configure first")
        return self.placement

    def _programmed(self) -> Technology:
        if self.technology is None:
            raise BitlineError("the devices are not programmed: call program first")
        return self.technology
