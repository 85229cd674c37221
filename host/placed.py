"""A network placed on a chip, and what goes in and out by registers: configuration, inference, probes, counters.

Nothing here knows how devices are programmed or what undoes their drift: `host/programming.py` and `host/device.py` do.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from host import compensation
from host.backend import Backend, Probe, Report
from host.compensation import Affine, Cost, Probing
from host.configuration import write_chip, write_plan, write_record
from host.converters import mismatch_words
from host.errors import BitlineError
from host.placement import Placement, Tile
from rtl.params import ADC_SHIFT, EngineOperation, EngineRegion, PortRegion, Table
from rtl.params.registers import COLUMN_STRIDE, fields, register
from sim.fixed import Ints
from sim.tables import column_noise, noise_gain, probe_settings
from sim.technology import Technology

__all__ = ["Floats", "PlacedChip", "Progress", "changes", "silent"]

Floats = NDArray[np.float64]
Progress = Callable[[str, int], Report]
"""Called with a label and a total when long work begins; returns what is told of each step."""

_STEPS = ("configure", "program", "age", "compensate", "infer")
"""What is done to a chip, each building on those before it."""

_Chip = TypeVar("_Chip", bound="PlacedChip")
_Given = ParamSpec("_Given")
_Returned = TypeVar("_Returned")

_EVENTS = np.array(0xFFFFFFFF, np.int64)
_NET_TICKS = 32  # pulse that reads nets: with it the gain of every range is a whole number
_NOISE = register("engine", EngineRegion.COLUMNS, "noise").offset
_MISMATCH = register("engine", EngineRegion.COLUMNS, "mismatch").offset


def silent(_label: str, _total: int) -> Report:
    """Tell nobody."""
    return lambda _done: None


def changes(name: str) -> Callable[[Callable[Concatenate[_Chip, _Given], _Returned]],
                                   Callable[Concatenate[_Chip, _Given], _Returned]]:
    """Make a method a step of `_STEPS`, or a part of one, that changes the chip in many requests.

    If the link is lost on the way, or someone interrupts, the chip is neither as before nor as wanted: no later step
    builds on that, until this one is called again and comes to its end. A refusal leaves everything as it was.
    """
    def decorate(method: Callable[Concatenate[_Chip, _Given], _Returned]
                 ) -> Callable[Concatenate[_Chip, _Given], _Returned]:
        @functools.wraps(method)
        def whole(self: _Chip, /, *arguments: _Given.args, **named: _Given.kwargs) -> _Returned:
            with self.change(name):
                return method(self, *arguments, **named)
        return whole
    return decorate


class PlacedChip:
    """A chip behind a backend, a network on it, and the registers of both. A context manager.

    Nothing is kept that the chip does not hold, but for the placement and the technology in use.
    """

    def __init__(self, backend: Backend, *, url: str = "", seed: int = 1, chip: int = 0) -> None:
        self.backend = backend
        self.geometry = backend.geometry
        self.url = url
        self.seed = seed
        self.chip = chip
        self.event = 0
        """Index of the next vector."""
        self.placement: Placement | None = None
        self.technology: Technology | None = None
        self.affine: list[Affine] = []
        """Affine words of each tile, as the chip has them."""
        self._converter_offset = 0.0
        self._trims: list[int] = [0] * self.geometry.engines  # of the verify range, 2**-24 codes
        self._offsets: list[Floats] = []  # of the inference range as calibrated, codes
        self._converters: list[Floats] = []  # gains of the converters as calibrated
        self._target_time = 0  # of probes, ps
        self._changing = False
        self._broken_off = ""  # the step that was
        self._vectors = 0  # since the placement was written
        self._phase: int | None = None  # whose nets are in the weight memories, and whose plan is in the port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the device; its state stays in it."""
        self.backend.close()

    @contextlib.contextmanager
    def change(self, name: str) -> Iterator[None]:
        """Enclose what `changes` tells of.

        Raises
        ------
        BitlineError
            If a step before this one was broken off.
        """
        self._check_whole(name)
        if self._changing:
            yield
            return
        before = self._broken_off
        self._changing, self._broken_off = True, name
        try:
            yield
        except BitlineError:
            self._broken_off = before
            raise
        else:
            self._broken_off = ""
        finally:
            self._changing = False

    def _check_whole(self, name: str) -> None:
        if self._broken_off and not self._changing and _STEPS.index(name) > _STEPS.index(self._broken_off):
            raise BitlineError(f"the last {self._broken_off} was broken off before its end: call it again")

    # --- configuration ----------------------------------------------------------------------------------------------

    @changes("configure")
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
        write_chip(self.backend, placement, adc_offset=self._offset_word())
        self.placement, self.technology = placement, None
        self._offsets = [np.zeros(tile.columns) for tile in placement.tiles]
        self._converters = [np.ones(tile.columns) for tile in placement.tiles]
        self._apply(self._uncompensated())
        self._vectors, self._phase = 0, None

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
        return [self._word(k, *values) for k, values in enumerate(zip(factors, shifts, strict=True))]

    def _word(self, k: int, factors: Floats, shifts: Floats) -> Affine:
        """Return the affine words of tile k that also take off what is known of its converters."""
        return compensation.affine(self._placed().tiles[k], factors / self._converters[k], self._offsets[k], shifts)

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
                write_record(self.backend, tile, adc_offset=self._offset_word())
        if self.technology is not None:
            self._write_verify_offsets()

    def _offset_word(self) -> int:
        return round(self._converter_offset * (1 << ADC_SHIFT))

    def _write_verify_offsets(self, more: int = 0) -> None:
        """Write the ADC offsets of the verify range, and `more` of them, in 2**-24 codes."""
        for unit in self._engines():
            self._set(unit, verify_offset=self._offset_word() + self._trims[unit - 1] + more)

    def _write_mismatch(self, technology: Technology | None) -> None:
        """Make converters differ as a technology says, or not at all."""
        if not self.geometry.mismatch:
            return
        for tile in self._placed().tiles:
            words = np.zeros(tile.columns, np.int64)
            if technology is not None:
                words = mismatch_words(technology, tile, seed=self.seed, chip=self.chip)
            for column, word in enumerate(words.tolist()):
                self.backend.write(tile.unit, EngineRegion.COLUMNS,
                                   (tile.column_base + column) * COLUMN_STRIDE + _MISMATCH, [word])

    def _write_noise(self, tile: Tile, noise: Ints) -> None:
        for column, value in enumerate(noise.tolist()):
            self.backend.write(tile.unit, EngineRegion.COLUMNS,
                               (tile.column_base + column) * COLUMN_STRIDE + _NOISE, [value])

    def _write_tables(self, unit: int, content: dict[Table, Ints]) -> None:
        for table, values in content.items():
            self.backend.write(unit, EngineRegion.TABLES, table << 8, values)

    def _set(self, unit: int, **registers: int) -> None:
        for name, value in registers.items():
            offset = register("engine", EngineRegion.REGISTERS, name).offset
            self.backend.write(unit, EngineRegion.REGISTERS, offset, [value])

    def _operate(self, unit: int, operation: EngineOperation) -> None:
        self._set(unit, operation=operation)

    # --- nets ---------------------------------------------------------------------------------------------------------

    def sweep(self, tiles: Sequence[Tile], report: Report = lambda _done: None) -> None:
        """Make nets and noise constants of tiles from their states, at the age in the registers; engines side by side.

        Raises
        ------
        BitlineError
            If nothing is programmed.
        """
        technology = self._programmed()
        gains = self._noise_gains(technology)
        for group in self._side_by_side(tiles):
            for tile in group:
                self._set(tile.unit, context=tile.context, noise_gain=gains[tile.number])
                self._operate(tile.unit, EngineOperation.AGE)
            for tile in group:
                self._write_column_noise(tile, technology)
                report(1)

    def _make_resident(self, number: int, report: Report = lambda _done: None) -> None:
        """Make the nets of a phase anew, and have vectors sent to it."""
        placement = self._placed()
        self._phase = None
        if len(placement.phases) > 1:
            write_plan(self.backend, placement.phases[number])
        self.sweep(placement.tiles_of(number), report)
        self._phase = number

    def _resident(self) -> Iterator[int]:
        """Yield each phase, its nets in the weight memories until the next is asked for.

        Nets of the only phase are there since the devices have an age; those of others are made from the states.
        """
        for number in range(len(self._placed().phases)):
            if len(self._placed().phases) > 1 and number != self._phase:
                self._make_resident(number)
            yield number

    def _groups(self) -> Iterator[list[Tile]]:
        """Yield all tiles in groups of different engines, their nets in the weight memories."""
        for number in self._resident():
            yield from self._side_by_side(self._placed().tiles_of(number))

    def _write_column_noise(self, tile: Tile, technology: Technology) -> None:
        """Write the noise constants of a tile where AGE cannot make them of the nets."""
        noise = column_noise(technology, self.geometry, tile.targets)
        if noise is not None:
            self._write_noise(tile, noise)

    def _noise_gains(self, technology: Technology) -> list[int]:
        """Return the gain of the read noise of each tile, or raise ValueError if one does not fit its register."""
        return [noise_gain(technology, self.geometry, tile.rows) for tile in self._placed().tiles]

    def _engines(self) -> range:
        return range(1, self.geometry.engines + 1)

    def _side_by_side(self, tiles: Sequence[Tile] | None = None) -> Iterator[list[Tile]]:
        """Yield tiles, all of them unless told, in groups of different engines, which work at the same time."""
        tiles = self._placed().tiles if tiles is None else tiles
        for group in zip_longest(*([tile for tile in tiles if tile.unit == unit] for unit in self._engines())):
            yield [tile for tile in group if tile is not None]

    def _placed(self) -> Placement:
        if self.placement is None:
            raise BitlineError("no network is placed on this device: call configure first")
        return self.placement

    def _programmed(self) -> Technology:
        if self.technology is None:
            raise BitlineError("the devices are not programmed: call program first")
        return self.technology

    # --- inference ---------------------------------------------------------------------------------------------------

    def infer(self, x: Any, *, progress: Progress = silent) -> Floats:
        """Return the outputs (N, outputs) of the network for inputs (N, inputs) in the units of the ONNX file.

        Raises
        ------
        BitlineError
            If the shape does not fit or a value is not finite; nothing is sent then.
        """
        codes, _ = self.infer_codes(x, progress=progress)
        return codes.astype(np.float64) * self._placed().output_scale

    def infer_codes(self, x: Any, *, progress: Progress = silent) -> tuple[Ints, Ints]:
        """Return the outputs as the chip gives them, integers (N, outputs), and their target times (N,) in ps."""
        self._check_whole("infer")
        placement = self._placed()
        self._programmed()
        activations, events = self._vectors_of(x)
        if not len(events):
            return np.zeros((0, placement.outputs), np.int64), np.zeros(0, np.int64)
        first = functools.partial(self.backend.infer, events, np.zeros(len(events), np.int64), activations)
        return self._through(events, first, progress("inference", len(events) * len(placement.phases)))

    def _through(self, events: Ints, first: Callable[[Report], tuple[Ints, Ints]], report: Report) -> tuple[Ints, Ints]:
        """Return outputs and target times of vectors that `first` brings through the first phase."""
        placement = self._placed()
        phases = self._resident()
        next(phases)
        elements, times = first(report)
        for number in phases:
            elements, times = self.backend.infer(events, times, placement.handed_on(elements, number), report)
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

    def _vectors_of(self, x: Any) -> tuple[Ints, Ints]:
        """Return activations in the order of the plan, and the events of as many new vectors."""
        placement = self._placed()
        activations = placement.arrange(placement.quantize(self._checked(x)))
        return activations, self._events(len(activations))

    def _events(self, count: int) -> Ints:
        return np.arange(self.event, self.event + count, dtype=np.int64) & _EVENTS

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
        if np.count_nonzero(np.isfinite(x)) < x.size:
            raise BitlineError(f"input {int(np.argmin(np.isfinite(x).all(axis=1)))} holds NaN or infinity")
        return x

    # --- probes ------------------------------------------------------------------------------------------------------

    def probe(self, probings: list[Probing], *, progress: Progress = silent) -> list[Ints]:
        """Probe each tile; return its sums of codes (probes, columns)."""
        reading = self._reading()
        self._target_time += max(one.reads * reading["averages"] * tile.latency
                                 for one, tile in zip(probings, self._placed().tiles, strict=True))
        return self._probe(probings, reading, progress("probes", len(probings)))

    def _probe(self, probings: list[Probing], reading: dict[str, int], report: Report) -> list[Ints]:
        found: dict[int, Ints] = {}
        for unit in self._engines():
            self._set(unit, **reading)
        for group in self._groups():
            for tile in group:
                one = probings[tile.number]
                self._set(tile.unit, probe_ticks=one.ticks, probe_mode=one.mode)
            jobs = [Probe(tile.unit, tile.context, tile.columns, probings[tile.number].rows,
                          probings[tile.number].count) for tile in group]
            found |= {tile.number: sums for tile, sums in zip(group, self.backend.probe(jobs), strict=True)}
            report(len(group))
        return [found[tile.number] for tile in self._placed().tiles]

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

    # --- looking inside ----------------------------------------------------------------------------------------------

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

    def nets(self, *, progress: Progress = silent) -> list[Ints]:
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
        self._write_mismatch(None)
        for k in range(parts):
            for nets, codes in zip(found, self._probe(rows, exact | {"verify_offset": (k << ADC_SHIFT) // parts},
                                                      report), strict=True):
                nets += codes
        for unit in self._engines():
            self._set(unit, **settings)
        self._write_verify_offsets()
        self._write_mismatch(self._programmed())
        return found

    def column_constants(self) -> list[Ints]:
        """Return the words (columns, 3) of each tile: scale and bias of the affine stage, noise constant; unsigned."""
        return [self.backend.read(tile.unit, EngineRegion.COLUMNS, tile.column_base * COLUMN_STRIDE,
                                  tile.columns * COLUMN_STRIDE).reshape(tile.columns, COLUMN_STRIDE)[:, :3]
                for tile in self._placed().tiles]
