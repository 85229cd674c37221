"""Compensation of drift and of converter offsets: what is probed, what follows from it, and the words it becomes.

Arithmetic only; `host/device.py` does what it says. A gain is a ratio of two sums of codes, each with a weight that
does not depend on what is read: the sign of its cell's target (one-hot), or what the targets would give (dense probes).
Read noise then averages out; a sum of |code| would grow by it, the more the smaller the conductances.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from host.errors import BitlineError
from host.placement import Tile
from rtl.params import ACTIVATION_MAX, ADC_SHIFT, Geometry
from rtl.params.formats import (
    AFFINE_SCALE_BITS,
    AFFINE_SHIFT,
    CODE_BITS,
    ELEMENT_BITS,
    G16_BITS,
    NOISE_ROOT_FRACTION,
)
from sim.array import NOISE_MAX
from sim.fixed import Ints
from sim.tables import column_noise, noise_gain, probe_settings
from sim.technology import Technology
from sim.tile import walsh

__all__ = ["BALANCED", "IDLE", "KINDS", "PROBES", "Affine", "Calibration", "Compensation", "Cost", "Gains", "Plan",
           "Probing", "Statistics", "affine", "balanced", "converter_gains", "dense_noise", "gains", "idle", "plan",
           "statistics_gains", "walsh_probing"]

Floats = NDArray[np.float64]

KINDS = ("none", "global", "column", "adabs")
PROBES = ("one-hot", "dense")

PATTERNS = 64
"""Dense probes of a tile: enough that one gain of them is known to some per mille."""
IDLE = 16
"""Reads without a row driven (times the averages, and at most as many as rows) that measure the converters' offset in
the verify range."""
BALANCED = 128
"""Pairs of opposite dense probes that measure it, and the gains, in the inference range: as many as tell most rows
apart, so that what programming left of a column's cells averages out."""
FILL = 0.8
"""Share of the converter's range that a dense probe of the targets would fill at most."""
ACCURACY = 0.02
"""A gain that read noise leaves less sure than this is not used: the noise floor."""
FAINT = 1.0
"""ADC codes of spread over the calibration set below which a column's statistics tell nothing."""


@dataclasses.dataclass(frozen=True, eq=False)
class Probing:
    """PROBEs of one tile: `count` rows (or Walsh functions, if dense) from each of `rows` on, `ticks` long."""

    rows: Ints
    ticks: int = ACTIVATION_MAX
    dense: bool = False
    inference_range: bool = False
    count: int = 1

    @property
    def mode(self) -> int:
        """The register `probe_mode`."""
        return self.dense | self.inference_range << 1

    @property
    def reads(self) -> int:
        """Reads of the tile, times the averages."""
        return len(self.rows) * self.count


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """How the gains of a tile are measured.

    Attributes
    ----------
    weights : (probes, columns), of each sum of codes
    noise : (columns,), standard deviation of a weighted sum by read noise and rounding
    """

    probing: Probing
    weights: Floats
    noise: Floats

    def weigh(self, sums: Ints, idle: Floats) -> Floats:
        """Return the weighted sums (columns,) of `sums` (probes, columns), less what a read without rows gives."""
        return np.asarray(((sums - idle) * self.weights).sum(axis=0))


def plan(probes: str, tile: Tile, device: Technology, geometry: Geometry) -> Plan:
    """Return how a tile's gains are measured, one-hot or dense, in the verify range."""
    settings = probe_settings(device, geometry)
    gain = settings["verify_gain"] / (1 << ADC_SHIFT)
    nets = tile.targets / (1 << (G16_BITS - CODE_BITS))
    if probes == "one-hot":
        probing, weights = Probing(np.arange(tile.rows)), np.sign(nets)
        charge = np.full(tile.columns, settings["verify_noise"] * ACTIVATION_MAX / (1 << NOISE_ROOT_FRACTION))
    else:
        probing = walsh_probing(tile, gain, geometry, most=PATTERNS)
        weights = walsh(probing.rows, tile.rows) @ nets
        roots = dense_noise(tile, device, geometry)
        charge = roots / (1 << NOISE_ROOT_FRACTION) * probing.ticks * np.sqrt(tile.rows)
    variance = (charge * gain) ** 2 + 1 / 12
    return Plan(probing, weights, np.sqrt(settings["averages"] * variance * (weights**2).sum(axis=0)))


def walsh_probing(tile: Tile, gain: float, geometry: Geometry, *, most: int = 1024) -> Probing:
    """Return dense probes in the verify range, as many as tell all rows apart, or `most`, and as long as targets allow.

    gain : codes a charge unit
    """
    patterns = np.arange(min(most, 1 << (tile.rows - 1).bit_length()))
    expected = walsh(patterns, tile.rows) @ tile.targets / (1 << (G16_BITS - CODE_BITS))
    return Probing(patterns, _ticks(expected, gain, geometry), dense=True)


def dense_noise(tile: Tile, device: Technology, geometry: Geometry) -> Floats:
    """Return the noise constants (columns,) of a tile whose devices are at their targets."""
    roots = column_noise(device, geometry, tile.targets)
    if roots is not None:
        return roots.astype(np.float64)
    size = np.abs(tile.targets / (1 << (G16_BITS - CODE_BITS))).sum(axis=0)
    return np.minimum(np.sqrt(noise_gain(device, geometry, tile.rows) * size), NOISE_MAX)


def idle(tile: Tile) -> Probing:
    """Return reads of a tile without a row driven."""
    return Probing(np.zeros(1, np.int64), 0, count=min(IDLE, tile.rows))


def balanced(tile: Tile, geometry: Geometry) -> tuple[Probing, Probing]:
    """Return dense probes of a tile in the inference range, and their opposites: their sums add up to the offset."""
    patterns = np.arange(1, 1 + min(BALANCED, (1 << (tile.rows - 1).bit_length()) - 1 or 1))
    expected = walsh(patterns, tile.rows) @ tile.targets / (1 << (G16_BITS - CODE_BITS))
    ticks = _ticks(expected, tile.adc_gain / (1 << ADC_SHIFT), geometry)
    return (Probing(patterns, ticks, dense=True, inference_range=True),
            Probing(patterns, -ticks, dense=True, inference_range=True))


def _ticks(expected: Floats, gain: float, geometry: Geometry) -> int:
    """Return the longest pulse with which the targets' largest charge (`expected` a tick) stays in the range."""
    largest = float(np.abs(expected).max(initial=0)) * gain
    return int(np.clip(FILL * geometry.code_max / largest if largest else ACTIVATION_MAX, 1, ACTIVATION_MAX))


@dataclasses.dataclass(frozen=True, eq=False)
class Gains:
    """Of one tile: what undoes its drift, as one factor and one a column; `weak` columns have the tile's."""

    tile: float
    columns: Floats
    weak: NDArray[np.bool_]


def gains(reference: Floats, now: Floats, noise: Floats) -> Gains:
    """Return the gains of a tile from its weighted sums (columns,) at t0 and now, and their noise.

    A column whose sums lie in the noise falls back to the tile's gain, and a tile to 1. Columns without weights (their
    noise is 0: no target is set) have the tile's gain and are not weak.
    """
    total = _ratio(reference.sum(), now.sum(), np.sqrt((noise**2).sum()))
    tile = 1.0 if total is None else total
    found = [_ratio(*values) for values in zip(reference, now, noise, strict=True)]
    weak = np.array([gain is None for gain in found]) & (noise > 0)
    return Gains(tile, np.array([tile if gain is None else gain for gain in found]), weak)


def converter_gains(tile: Tile, device: Technology, geometry: Geometry, up: Floats, down: Floats) -> Gains:
    """Return the gains of a tile's converters from `balanced` probes, (patterns, columns) mean codes of each.

    They are against what the targets would give, so they hold for fresh devices.
    """
    probing, _ = balanced(tile, geometry)
    gain = tile.adc_gain / (1 << ADC_SHIFT)
    expected = walsh(probing.rows, tile.rows) @ tile.targets / (1 << (G16_BITS - CODE_BITS)) * probing.ticks * gain
    charge = dense_noise(tile, device, geometry) / (1 << NOISE_ROOT_FRACTION) * probing.ticks * np.sqrt(tile.rows)
    size = (expected**2).sum(axis=0)
    noise = np.sqrt(((charge * gain)**2 + 1 / 12) / 2 * size)
    return gains((expected * (up - down) / 2).sum(axis=0), size, noise)


def _ratio(reference: float, now: float, noise: float) -> float | None:
    """Return reference / now, or None if noise leaves it less sure than ACCURACY."""
    if reference <= 0 or now <= 0 or noise * np.hypot(1 / reference, 1 / now) > ACCURACY:
        return None
    return float(reference / now)


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and variance (columns,) of a tile's partial sums over a calibration set."""

    mean: Floats
    variance: Floats

    @classmethod
    def of(cls, sums: Ints) -> "Statistics":
        """Return those of partial sums (N, columns)."""
        return cls(sums.mean(axis=0), sums.var(axis=0))


def statistics_gains(tile: Tile, reference: Statistics, now: Statistics) -> tuple[Gains, Floats]:
    """Return gains that restore a tile's variances, and shifts (columns,) that then restore its means.

    A column that hardly moves over the calibration set, at t0 or now, has the tile's gain.
    """
    code = np.abs(tile.scales) / (1 << AFFINE_SHIFT)  # partial sum of one ADC code
    spread = np.sqrt(np.minimum(reference.variance, now.variance))
    used = tile.scales != 0
    sure = used & (spread >= FAINT * code) & (spread > 0)
    ratio = np.sqrt(np.divide(reference.variance, now.variance, where=sure, out=np.ones_like(spread)))
    total = now.variance[sure].sum()
    whole = float(np.sqrt(reference.variance[sure].sum() / total)) if total else 1.0
    columns = np.where(sure, ratio, whole)
    return Gains(whole, columns, used & ~sure), np.where(used, reference.mean - columns * now.mean, 0.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """Words of the affine stage of one tile, (columns,): scale with 8 fraction bits, and bias."""

    scales: Ints
    biases: Ints


def affine(tile: Tile, factors: Floats, offsets: Floats, shifts: Floats) -> Affine:
    """Return the words that scale a tile's codes less their `offsets` by `factors`, and then add `shifts`.

    Raises
    ------
    BitlineError
        If one does not fit its register.
    """
    scales = np.rint(tile.scales * factors)
    biases = np.rint(tile.biases - scales * offsets / (1 << AFFINE_SHIFT) + shifts)
    for name, words, bits in (("scale", scales, AFFINE_SCALE_BITS), ("bias", biases, ELEMENT_BITS)):
        if np.abs(words).max(initial=0) >= 1 << (bits - 1):
            raise BitlineError(f"tile {tile.number} cannot be compensated by {np.abs(factors).max():.2f}: "
                               f"its affine {name} would overflow")
    return Affine(scales.astype(np.int64), biases.astype(np.int64))


@dataclasses.dataclass(frozen=True)
class Cost:
    """What measuring took: conversions, time of the emulated chip (ps), cycles of the board (None in the model)."""

    conversions: int
    target_time_ps: int
    board_cycles: int | None


@dataclasses.dataclass(frozen=True, eq=False)
class Compensation:
    """What `Device.compensate` measured and applied, a tile after the other.

    Attributes
    ----------
    gains : one factor a tile
    columns : the factors (columns,) that were applied
    weak : (tile, column) of those below the noise floor, which have their tile's gain
    """

    kind: str
    gains: list[float]
    columns: list[Floats]
    weak: tuple[tuple[int, int], ...]
    cost: Cost

    def as_dict(self) -> dict[str, object]:
        """Return what reports tell of it."""
        return {"kind": self.kind, "gains": self.gains, "columns_at_tile_gain": len(self.weak),
                "cost": dataclasses.asdict(self.cost)}


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """What `Device.calibrate` measured and applied.

    Attributes
    ----------
    verify : offsets in the verify range in codes, one a tile
    inference : offsets in the inference range in codes, (columns,) of each tile
    gains : of the converters in the inference range, (columns,) of each tile; of a column below the noise floor its
        tile's; None unless the devices are fresh
    weak : (tile, column) of those below
    """

    verify: list[float]
    inference: list[Floats]
    gains: list[Floats] | None
    weak: tuple[tuple[int, int], ...]
    cost: Cost

    def as_dict(self) -> dict[str, object]:
        """Return what reports tell of it."""
        return {"verify_offsets": self.verify, "inference_offsets": [one.tolist() for one in self.inference],
                "gains": None if self.gains is None else [one.tolist() for one in self.gains],
                "columns_at_tile_gain": len(self.weak), "cost": dataclasses.asdict(self.cost)}


def weak_columns(found: Sequence[Gains]) -> tuple[tuple[int, int], ...]:
    """Return (tile, column) of the weak ones."""
    return tuple((k, int(column)) for k, one in enumerate(found) for column in np.flatnonzero(one.weak))
