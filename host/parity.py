"""The emulated devices against the judge: every statistic that their sources publish, seed by seed.

A comparison holds if it is within 2 % or three standard errors, whichever is larger; nothing can agree better than half
a unit of a state, which is 1/102,400 of the range.
"""

import dataclasses
import itertools
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host import judge
from host.crossbar import Crossbar
from rtl.params.formats import GMAX_CODE, GMAX_G16
from sim.law import Number
from sim.presets import TECHNOLOGIES, technology
from sim.pulses import train
from sim.tables import convergence
from sim.technology import CLOSED_LOOP, STATISTICAL, Technology

__all__ = ["LOOP_SEEDS", "LOOP_SIDE", "PULSES", "Comparison", "Convergence", "array_errors", "convergence_of_assumed",
           "pairs_against_one", "pulse_statistics", "statistics"]

Floats = NDArray[np.float64]

DAY = 86_400.0
SIDE = 128
"""Rows and columns of the tile of each seed and target."""
JUDGED = 1_000_000
"""Devices of the judge."""
G_VALUES = (0.0525, 0.1025, 0.2525, 0.5025, 0.9975)
"""Middles of entries of the device tables: an entry has one value, and targets in use lie anywhere in it."""

EDGES = (0.05, 0.1, 0.25)
"""Edges of entries, where a table is farthest from its law."""
AGES = {"pcm": (3600.0, DAY, 365 * DAY), "pcm-hermes-1": (3600.0, DAY), "pcm-hermes-2": (3600.0, DAY),
        "rram-wan2022": (1.0, DAY, 2 * DAY), "rram-cmo": (1.0, 3600.0), "sonos": (DAY, 2.5 * DAY, 5 * DAY)}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One statistic: as emulated (mean over seeds) and as published, and what difference is allowed."""

    technology: str
    way: str
    quantity: str
    g: float
    emulated: float
    published: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether the two agree."""
        return abs(self.emulated - self.published) <= self.allowed

    @property
    def difference(self) -> float:
        """Relative difference."""
        return self.emulated / self.published - 1 if self.published else math.inf


_Statistic = tuple[str, Callable[[Floats], float], Callable[[Floats], float]]


def _mean_error(x: Floats) -> float:
    return float(x.std()) / math.sqrt(len(x))


def _spread_error(x: Floats) -> float:
    """Standard error of a spread, from the sample's own fourth moment."""
    centred = x - x.mean()
    variance = float((centred**2).mean())
    kurtosis = float((centred**4).mean()) / variance**2 if variance else 3.0
    return math.sqrt(variance * max(kurtosis - 1, 0.0) / 4 / len(x))


MEAN: _Statistic = ("mean", lambda x: float(x.mean()), _mean_error)
SPREAD: _Statistic = ("spread", lambda x: float(x.std()), _spread_error)


class _Comparer:
    """Compares samples; `unit` is that of a state, where conductances are compared."""

    def __init__(self, name: str, way: str) -> None:
        self.name, self.way = name, way

    def __call__(self, what: str, statistic: _Statistic, g: float, seen: Sequence[Floats], wanted: Floats, *,
                 unit: float = 0.0) -> Comparison:
        word, value, error = statistic
        emulated = float(np.mean([value(sample) for sample in seen]))
        published = value(wanted)
        errors = math.hypot(error(np.concatenate(seen)), error(wanted))
        return Comparison(self.name, self.way, f"{word} of {what}", g, emulated, published,
                          max(0.02 * abs(published), 3 * errors, unit / 2))


def statistics(name: str, way: str, *, seeds: Sequence[int] = (1, 2, 3, 4, 5), g_values: Sequence[float] = G_VALUES,
               side: int = SIDE, judged: int = JUDGED) -> Iterator[Comparison]:
    """Yield every comparison of a technology programmed in a way."""
    kind, judge_of = technology(name), judge.JUDGES[name]
    quiet = kind.replace(flicker_noise=False, read=way == CLOSED_LOOP)
    rng = np.random.default_rng(20261124)
    compare = _Comparer(name, way)
    unit = kind.range / GMAX_G16

    def tiles(device: Technology, g: float, **options: Any) -> list[Crossbar]:
        # A place of its own for each comparison's draws: devices of one place are the same in every technology.
        place = zlib.crc32(f"{name} {g}".encode()) & 0xFFFF
        return [Crossbar(device, side, side, way=way, seed=seed, tile=place, **options).program(g) for seed in seeds]

    for g in g_values:
        target = judge_of.conductance(g)
        alone = tiles(quiet, g, ideal_partner=True)
        whole = tiles(quiet, g)
        programmed = judge_of.programmed(rng, g, judged)
        cells = programmed - judge_of.programmed(rng, 0.0, judged)
        devices = [tile.devices()[0][..., 0].ravel() - target for tile in alone]
        yield compare("programmed devices", SPREAD, g, devices, programmed - target, unit=unit)
        if judge_of.gmin == 0:
            found = [_cells(tile) for tile in whole]
            yield compare("programmed cells", SPREAD, g, found, cells, unit=unit)
        if kind.drift_mean is not None:
            yield from _drift(compare, kind, judge_of, rng, g, whole, judged)
        yield from _ages(compare, quiet, judge_of, rng, g, alone, judged)
        if kind.flicker is not None:
            yield from _flicker(compare, kind, judge_of, rng, g, tiles, judged)
    if judge_of.gmin == 0 and judge_of.sigma(0.0, 0.0) > 0:
        reset = [tile.devices()[0][..., 1].ravel() for tile in whole]
        wanted = judge_of.programmed(rng, 0.0, judged)
        yield compare("RESET devices", MEAN, 0.0, reset, wanted)
        yield compare("RESET devices", SPREAD, 0.0, reset, wanted)


def _cells(tile: Crossbar) -> Floats:
    devices = tile.devices()[0]
    return (devices[..., 0] - devices[..., 1]).ravel()


def _drift(compare: _Comparer, kind: Technology, judge_of: judge.Judge, rng: np.random.Generator, g: float,
           whole: list[Crossbar], judged: int) -> Iterator[Comparison]:
    """Yield drift exponents, and the mean of G(t) / G of then."""
    nu = judge_of.exponents(rng, g, judged)
    seen = [tile.devices()[1][..., 0].ravel() for tile in whole]
    yield compare("drift exponents", MEAN, g, seen, nu)
    yield compare("drift exponents", SPREAD, g, seen, nu)
    for age in AGES[kind.name]:
        kept = judge_of.at(rng, np.ones(judged), nu, age, flicker=False)
        log = math.log((age + kind.number("t0").one) / kind.number("t0").one)
        yield compare(f"G(t) / G after {age:g} s", MEAN, g, [np.exp(-log * values) for values in seen], kept)


def _ages(compare: _Comparer, quiet: Technology, judge_of: judge.Judge, rng: np.random.Generator, g: float,
          alone: list[Crossbar], judged: int) -> Iterator[Comparison]:
    """Yield the mean of drifting devices at ages, as the engine reads them; or mean and spread known against time."""
    for age in AGES.get(quiet.name, ()):
        if quiet.drift_mean is not None:
            seen = [tile.age(age).weights().ravel() * quiet.range for tile in alone]
            programmed = judge_of.programmed(rng, g, judged)
            wanted = judge_of.at(rng, programmed, judge_of.exponents(rng, g, judged), age, flicker=False)
            yield compare(f"devices after {age:g} s", MEAN, g, seen, wanted)
            continue
        target = judge_of.conductance(g)
        seen = [tile.age(age).devices()[0][..., 0].ravel() - target for tile in alone]
        wanted = judge_of.programmed(rng, g, judged, age) - target
        unit = quiet.range / GMAX_G16
        yield compare(f"devices less their targets after {age:g} s", MEAN, g, seen, wanted, unit=unit)
        yield compare(f"devices after {age:g} s", SPREAD, g, seen, wanted, unit=unit)


def _flicker(compare: _Comparer, kind: Technology, judge_of: judge.Judge, rng: np.random.Generator, g: float,
             tiles: Callable[..., list[Crossbar]], judged: int) -> Iterator[Comparison]:
    """Yield 1/f noise, relative to the conductance, without programming noise and drift.

    The engine reads present conductances in steps of Gmax / 200, and so the judge's are rounded; a partner that rests
    at a Gmin above 0 has its noise, too.
    """
    silent = kind.replace(programming=False, drift=False, read=False)
    target = judge_of.conductance(g)
    code = kind.range / GMAX_CODE
    lowest = judge_of.gmin - (0.0 if kind.headroom is None else kind.headroom.one * kind.range)

    def read(value: float, age: float) -> Floats:
        noisy = judge_of.at(rng, np.full(judged, value), np.zeros(judged), age)
        return np.rint((noisy - lowest) / code) * code

    for age in (1.0, DAY):
        wanted = read(target, age) - (read(judge_of.gmin, age) if judge_of.gmin else 0.0)
        seen = [tile.age(age).weights().ravel() * kind.range for tile in tiles(silent, g, ideal_partner=True)]
        yield compare(f"1/f noise after {age:g} s", SPREAD, g, [values / target for values in seen], wanted / target)


# --- pulses ---------------------------------------------------------------------------------------------------------

PULSE_G = (0.25, 0.5, 0.75)
"""Where pulses begin; and the range of an array ends at 1."""
BOUND_TRAINS = 40


def pulse_statistics(name: str, *, seeds: Sequence[int] = (1, 2, 3, 4, 5), side: int = SIDE,
                     judged: int = JUDGED) -> Iterator[Comparison]:
    """Yield every comparison of the pulses of a technology: of a pulse of amplitude 1, and of many towards the bounds.

    Spread from cycle to cycle is that of one device, in the mean square over devices.
    """
    kind, judge_of = technology(name), judge.PULSE_JUDGES[name]
    rng = np.random.default_rng(20261125)
    compare = _Comparer(name, PULSES)
    count = train(kind)
    tiles = [Crossbar(kind, side, side, seed=seed) for seed in seeds]
    for down in (False, True)[:1 if judge_of.one_way else 2]:
        word = "down" if down else "up"
        for g in PULSE_G:
            twice = [[_pulsed(tile, g, down=down, trains=1, first=first) - g for first in (0, 1)] for tile in tiles]
            sizes = judge_of.sizes(rng, judged, down=down)
            wanted = [judge_of.pulsed(rng, sizes, g, count, down=down) - g for _ in range(2)]
            yield compare(f"steps {word}", MEAN, g, [one for one, _ in twice], wanted[0])
            yield compare(f"steps {word} from cycle to cycle", SPREAD, g, [(a - b) / math.sqrt(2) for a, b in twice],
                          (wanted[0] - wanted[1]) / math.sqrt(2))
            yield compare(f"steps {word}, of all", SPREAD, g, [one for one, _ in twice], wanted[0])
            between = [_between(*pair) for pair in twice]
            published = _between(*wanted)
            error = 3 * math.hypot(float(np.std(between)) / math.sqrt(len(seeds)), wanted[0].std() / math.sqrt(judged))
            yield Comparison(name, PULSES, f"spread of steps {word} from device to device", g, float(np.mean(between)),
                             published, max(0.02 * published, error))
        start = 0.1 if down else 0.9
        seen = [_pulsed(tile, start, down=down, trains=BOUND_TRAINS, first=2) for tile in tiles]
        few = judge_of.sizes(rng, judged // 10, down=down)
        ends = judge_of.pulsed(rng, few, start, count * BOUND_TRAINS, down=down)
        # A spread of less than a code, which is what engines multiply with, is none.
        for statistic in (MEAN, SPREAD)[:1 + (ends.std() > 1 / GMAX_CODE)]:
            yield compare(f"devices after {count * BOUND_TRAINS} pulses {word}", statistic, start, seen, ends,
                          unit=1 / GMAX_G16)


PULSES = "pulses"


def _between(first: Floats, second: Floats) -> float:
    """Return the spread from device to device, from two pulses of the same devices."""
    return math.sqrt(max(float(((first - first.mean()) * (second - second.mean())).mean()), 0.0))


def _pulsed(tile: Crossbar, g: float, *, down: bool, trains: int, first: int) -> Floats:
    """Return g of the first device of every cell after gradual pulses of amplitude 1 from g on."""
    tile.begin(g)
    return [tile.pulse(down=down, number=1 + first + k) for k in range(trains)][-1].ravel()


# --- whole arrays ---------------------------------------------------------------------------------------------------

def _weights(rng: np.random.Generator, size: int) -> Floats:
    return np.clip(0.246 * rng.standard_normal((size, size)), -1, 1)


def _relative(got: Floats, wanted: Floats) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def array_errors(*, seeds: Sequence[int] = (1, 2, 3, 4, 5), size: int = 512,
                 progress: Callable[[], None] = lambda: None) -> dict[str, list[float]]:
    """Return the relative error of an MVM (weights N(0, 0.246) within 1, half of the inputs 0) at t = 1 s.

    One list over seeds for each set of effects; the first is the published case, each other one adds its effect to it.
    """
    pcm = technology("pcm")
    found: dict[str, list[float]] = {}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        w = _weights(rng, size)
        x = rng.uniform(-1, 1, (100, size)) * (rng.random((100, size)) < 0.5)
        exact = x @ w

        def add(name: str, got: Floats, wanted: Floats = exact) -> None:
            found.setdefault(name, []).append(_relative(got, wanted))

        tile = Crossbar(pcm, size, size, way=STATISTICAL, seed=seed).program(w).age(1.0)
        add("statistical PCM, 1/f, no converters, no white noise", x @ tile.weights())
        silent = Crossbar(pcm.replace(read=False), size, size, way=STATISTICAL, seed=seed).program(w).age(1.0)
        add("and converters of 8 bits", silent.multiply(x))
        add("and converters and white noise of reads", tile.multiply(x))
        for name, age in (("after an hour", 3600.0), ("after a day", DAY), ("after a year", 365 * DAY)):
            y = x @ tile.age(age).weights()
            add(f"{name}, without compensation", y)
            add(f"{name}, the common factor taken out", y * float((y * exact).sum() / (y * y).sum()))
        loop = Crossbar(pcm, size, size, seed=seed).program(w).age(1.0)
        add("closed loop in place of statistical programming", x @ loop.weights())
        for name, switches in (("without 1/f noise", {"flicker_noise": False}),
                               ("without programming noise", {"programming": False})):
            part = Crossbar(pcm.replace(**switches), size, size, way=STATISTICAL, seed=seed).program(w).age(1.0)
            add(name, x @ part.weights())
        progress()
    return found


def pairs_against_one(*, seeds: Sequence[int] = (1, 2, 3, 4, 5), size: int = 256,
                      factors: Sequence[int] = (1, 2, 3, 4)) -> dict[tuple[int, float], list[float]]:
    """Return how much smaller the rms error of weights in two pairs is, by (F, age), one value a seed.

    A weight of 1 is F Gmax in two pairs, and Gmax in one.
    """
    found: dict[tuple[int, float], list[float]] = {}
    for seed in seeds:
        w = _weights(np.random.default_rng(seed), size)
        for age in (0.0, DAY):
            # Fresh is before any 1/f noise, as the published error of programming is.
            pcm = technology("pcm").replace(flicker_noise=age > 0)
            one = Crossbar(pcm, size, size, way=STATISTICAL, seed=seed).program(w).age(age).weights() - w
            for factor in factors:
                two = Crossbar(pcm, size, size, way=STATISTICAL, seed=seed, pairs=2, significance=factor,
                               adc_bits=12).program(w).age(age).weights() - w
                found.setdefault((factor, age), []).append(float(np.sqrt((one**2).mean() / (two**2).mean())))
    return found


# --- write-verify ---------------------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Convergence:
    """How cells of uniformly spread targets end: share converged, pulses a cell (RESETs of its devices counted)."""

    technology: str
    pairs: int
    constants: str
    converged: float
    worst: float
    """Share converged of the seed with the fewest."""
    error: float
    """Root mean square of all cells, of Gmax."""
    pulses: tuple[int, ...]
    """Cells by pulses after RESET."""
    expected: float
    """Mean of those of melt devices, by integration (sim/convergence.py)."""
    refused: str = ""

    @property
    def mean(self) -> float:
        """Pulses a cell after RESET."""
        return float(np.average(np.arange(len(self.pulses)), weights=self.pulses))


def _varied(kind: Technology) -> Iterator[tuple[str, Technology]]:
    yield "as it is", kind
    for name in ("pulse_share", "window", "averages", "step", "train_move", "sweep_reads", "least_move",
                 "refresh_share"):
        number = getattr(kind, name)
        if isinstance(number, Number) and number.trust == "X":
            for word, factor in (("half", 0.5), ("double", 2.0)):
                yield (f"{word} the {name.replace('_', ' ')}",
                       kind.replace(**{name: dataclasses.replace(number, value=number.one * factor)}))


VERIFIED = ("pcm", "pcm-hermes-1", "pcm-hermes-2", "pcm-set", "rram-om", "rram-hfo2", "rram-sb", "rram-es", "ecram",
            "ecram-mo")
"""Technologies that write-verify programs."""


LOOP_SEEDS = (2, 3, 4, 5, 6)
"""None of which a constant was ever chosen on."""
LOOP_SIDE = 64


def convergence_of_assumed(names: Iterable[str] = VERIFIED, *, pairs: Sequence[int] = (1, 2),
                           seeds: Sequence[int] = LOOP_SEEDS, side: int = LOOP_SIDE) -> Iterator[Convergence]:
    """Yield how write-verify converges with the constants as they are, and with each assumed one halved and doubled."""
    for name, count in itertools.product(names, pairs):
        for words, kind in _varied(TECHNOLOGIES[name]):
            try:
                ends = [_verified(kind, count, seed, side) for seed in seeds]
            except ValueError as error:
                yield Convergence(name, count, words, 0.0, 0.0, 0.0, (), 0.0, refused=str(error))
                continue
            converged = [float((outcomes & 1).mean()) for _, outcomes in ends]
            left = float(np.sqrt(np.mean([(off**2).mean() for off, _ in ends])))
            counts = np.bincount(np.concatenate([outcomes >> 8 & 0xFF for _, outcomes in ends]).ravel() - 2 * count)
            expected = _expected_pulses(kind) if kind.pulse == "melt" else math.nan
            yield Convergence(name, count, words, float(np.mean(converged)), min(converged), left,
                              tuple(counts.tolist()), expected)


def _verified(kind: Technology, pairs: int, seed: int, side: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return what write-verify leaves of uniform targets, as g, and the outcomes, (side, side)."""
    targets = np.random.default_rng(seed).uniform(-1, 1, (side, side))
    tile = Crossbar(kind, side, side, seed=seed, pairs=pairs).program(targets)
    return tile.states @ np.resize([1, -1], 2 * pairs) / GMAX_G16 - targets, tile.outcomes


def _expected_pulses(kind: Technology) -> float:
    found = convergence(kind, np.linspace(0.02, 1, 50))
    return float((found.pulses @ np.arange(1, found.pulses.shape[1] + 1) / found.converged).mean())
