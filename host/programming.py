"""Programming and ageing: by write-verify in the chip, in one statistical step, or by gradient descent from here."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from host import compensation, gradient
from host.backend import Backend, Job
from host.batch import BatchChip
from host.converters import check_converters
from host.errors import BitlineError
from host.gradient import Descent
from host.placed import Progress, changes, silent
from host.placement import Placement
from host.results import Outcome
from host.slicing import written_at_once
from rtl.params import ADC_SHIFT, PulseKind, Table
from sim.fixed import Ints
from sim.pulses import pulse_kind, wear_begins
from sim.tables import age_settings, programming_tables, tables, verify_settings
from sim.technology import CLOSED_LOOP, GRADIENT, STATISTICAL, Technology

__all__ = ["ProgramResult", "ProgrammedChip"]

_OF_AGE = (Table.RELAX_SIGMA, Table.FLICKER, Table.SHIFT)
"""Tables that change with age."""

_OF_TIME = (*_OF_AGE, Table.NU_MEAN, Table.NU_SIGMA)
"""Tables that programming with gradual pulses uses for something else."""


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


class ProgrammedChip(BatchChip):
    """A placed network whose devices are programmed and grow old."""

    def __init__(self, backend: Backend, *, url: str = "", seed: int = 1, chip: int = 0) -> None:
        super().__init__(backend, url=url, seed=seed, chip=chip)
        self.epoch = 0
        self.age_seconds: float | None = None
        self.way = CLOSED_LOOP
        """How the devices were programmed: one of `sim.technology.WAYS`."""
        self._pulses: dict[int, Ints] = {}  # of each cell of a tile, since the placement was written

    def configure(self, placement: Placement) -> None:
        super().configure(placement)
        self.age_seconds = None
        self._pulses = {}

    @changes("program")
    def program(self, technology: Technology, *, how: str = CLOSED_LOOP,
                progress: Progress = silent) -> ProgramResult:
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
            check_converters(technology, self.geometry)
            settings = verify_settings(technology, self.geometry, how)
            content = programming_tables(technology, way=how, geometry=self.geometry)
        except ValueError as error:
            raise BitlineError(str(error)) from None
        if how == GRADIENT and len(placement.phases) > 1:
            raise BitlineError("programming by gradient descent reads whole arrays between pulses, but the network "
                               f"runs in {len(placement.phases)} phases: choose a chip whose weight memory holds it, "
                               "or another way of programming")
        self.technology, self.way, self._phase = technology, how, None
        self.epoch = (self.epoch + 1) % 256
        for unit in self._engines():
            self._set(unit, seed=self.seed, chip=self.chip, epoch=self.epoch, **settings)
            self._write_tables(unit, content)
        self._write_verify_offsets()
        self._write_mismatch(technology)
        self._apply(self._uncompensated())
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
        sums = [np.zeros((len(one.probing.rows), one.tile.columns)) for one in descents]
        groups = min(gradient.GROUPS, *map(len, sums))
        for group in range(groups):
            offset = gradient.dither(step, group, groups)
            self._write_verify_offsets(offset)
            parts = [one.group(step, group, groups) for one in descents]
            probings = [dataclasses.replace(one.probing, rows=one.probing.rows[part])
                        for one, part in zip(descents, parts, strict=True)]
            for codes, part, found in zip(sums, parts, self._probe(probings, registers, lambda _done: None),
                                          strict=True):
                codes[part] = found - offset / (1 << ADC_SHIFT)
        self._write_verify_offsets()
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

    @changes("age")
    def age(self, seconds: float, *, progress: Progress = silent) -> None:
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
            self._noise_gains(technology)
        except ValueError as error:
            raise BitlineError(str(error)) from None
        if self.age_seconds is not None and seconds < self.age_seconds:
            raise BitlineError(f"age {seconds:g} s lies before the present {self.age_seconds:g} s: "
                               "time does not run back, program again")
        programmed = self.age_seconds is None and pulse_kind(technology, self.way) != PulseKind.MELT
        for unit in self._engines():
            self._set(unit, **coordinate)
            self._write_tables(unit, {table: content[table] for table in (_OF_TIME if programmed else _OF_AGE)})
        report = progress("ageing", len(placement.tiles))
        for number in range(len(placement.phases)):
            self._make_resident(number, report)
        self.age_seconds = seconds
