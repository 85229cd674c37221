"""A device: a chip somewhere, the network placed on it, and what has been done to it.

The same calls serve the numpy model, the verilated RTL and a board, over the register map alone. Configuration and
inference are in `host/placed.py`, traces in `host/tracing.py`, inputs that stay on the chip in `host/batch.py`,
programming and ageing in `host/programming.py`; here is what undoes drift and the converters' offsets.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from host import compensation
from host.backend import Backend, Report
from host.compensation import Calibration, Compensation, Cost, Gains, Plan, Statistics
from host.errors import BitlineError
from host.placed import Progress, changes, silent
from host.placement import Placement
from host.programming import ProgrammedChip, ProgramResult
from rtl.params import ADC_SHIFT
from sim.technology import CLOSED_LOOP, Technology

__all__ = ["Device", "ProgramResult"]

Floats = NDArray[np.float64]

_REPORTED = 16  # vectors of a calibration set between two reports of progress


class Device(ProgrammedChip):
    """A chip behind a backend; `bitline.open` makes one. A context manager."""

    def __init__(self, backend: Backend, *, url: str = "", seed: int = 1, chip: int = 0) -> None:
        super().__init__(backend, url=url, seed=seed, chip=chip)
        self.probes = "one-hot"
        """Kind of probes that `program` takes its reference with, and `compensate` its gains."""
        self.gains: list[float] = []
        """Compensation gain of each tile."""
        self.plans: list[Plan] = []
        """How the gains of each tile are measured."""
        self.reference: list[Floats] = []
        """Weighted sums of codes (columns,) of each tile at t0."""
        self.statistics: list[Statistics] = []
        """Of the partial sums of each tile at t0, if `take_statistics` was called."""

    @changes("configure")
    def configure(self, placement: Placement) -> None:
        super().configure(placement)
        self._forget()

    @changes("program")
    def program(self, technology: Technology, *, how: str = CLOSED_LOOP, progress: Progress = silent) -> ProgramResult:
        result = super().program(technology, how=how, progress=progress)
        self._forget()
        self.plans = [compensation.plan(self.probes, tile, self._programmed(), self.geometry)
                      for tile in self._placed().tiles]
        self.reference = self._weighted_sums(progress)
        return result

    def _forget(self) -> None:
        """Have no compensation and no references, as after configuration."""
        self.gains = [1.0] * len(self._placed().tiles)
        self.reference, self.statistics = [], []

    @changes("compensate")
    def compensate(self, kind: str = "global", *, calibration: Any = None,
                   progress: Progress = silent) -> Compensation:
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

    @changes("compensate")
    def take_statistics(self, calibration: Any, *, progress: Progress = silent) -> Cost:
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
                        words[k] = self._word(k, found[k].columns, shifts)
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

    @changes("compensate")
    def calibrate(self) -> Calibration:
        """Measure the converters' offsets and gains through the tiles and take them off from now on.

        In the verify range: reads without a row driven; the register `verify_offset` then opposes what they give. In
        the inference range: pairs of opposite dense probes, whose sums tell the offset and whose differences, against
        what the targets would give, the gain of each column; the affine words then oppose both. Gains are those of
        fresh devices: later, those known stay. Compensation in force is undone; compensate again.

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
        before = self._offsets, self._converters
        self._offsets = offsets
        found = None
        if self.age_seconds == 0:
            found = [compensation.converter_gains(tile, self._programmed(), self.geometry, a / averages, b / averages)
                     for tile, a, b in zip(placement.tiles, up, down, strict=True)]
            self._converters = [one.columns for one in found]
        try:
            words = self._uncompensated()
        except BitlineError:
            self._offsets, self._converters = before
            raise
        for unit in self._engines():
            mean = [one for one, tile in zip(verify, placement.tiles, strict=True) if tile.unit == unit]
            self._trims[unit - 1] -= round(float(np.mean(mean or [0.0])) * (1 << ADC_SHIFT))
        self._write_verify_offsets()
        self._apply(words)
        self.gains = [1.0] * len(words)
        return Calibration(verify=verify, inference=offsets, cost=meter(),
                           gains=None if found is None else [one.columns for one in found],
                           weak=() if found is None else compensation.weak_columns(found))

    def _weighted_sums(self, progress: Progress) -> list[Floats]:
        """Return the weighted sums (columns,) of each tile now, the converters' offset taken off."""
        idle = self._idle_sums()
        sums = self.probe([plan.probing for plan in self.plans], progress=progress)
        return [plan.weigh(codes, none) for plan, codes, none in zip(self.plans, sums, idle, strict=True)]

    def inner_state(self) -> dict[str, Any]:
        """Return what a session must keep besides the public attributes, as JSON has it."""
        return {"trims": self._trims, "offsets": [one.tolist() for one in self._offsets],
                "converters": [one.tolist() for one in self._converters],
                "converter_offset": self._converter_offset, "vectors": self._vectors}

    def set_inner_state(self, state: dict[str, Any]) -> None:
        """Take what `inner_state` returned."""
        self._trims, self._converter_offset = state["trims"], state["converter_offset"]
        self._offsets = [np.asarray(one, np.float64) for one in state["offsets"]]
        self._converters = [np.asarray(one, np.float64) for one in state["converters"]]
        self._vectors = state["vectors"]
