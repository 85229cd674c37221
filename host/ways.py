"""Ways of programming compared: what is left of the weights' errors, and what it took, for all that has pulses."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from host.backend import ModelBackend
from host.compiler import compile_network
from host.device import Device
from host.network import Dense, Network
from host.parity import LOOP_SEEDS
from host.programming import ProgramResult
from rtl.params import GMAX_CODE, preset
from rtl.params.formats import CODE_BITS, G16_BITS
from sim.presets import TECHNOLOGIES
from sim.technology import CLOSED_LOOP, GRADIENT, Technology

__all__ = ["Way", "ways_compared"]

SIZES = (112, 64, 10)
GEOMETRIES = {1: preset("demo").replace(state_bits=16),
              2: preset("demo").replace(pairs=2, state_bits=16, program_lanes=2)}


@dataclasses.dataclass(frozen=True)
class Way:
    """How programmings of networks of random weights ended, one a seed.

    Attributes
    ----------
    error, relaxed : rms error of the weights, of the largest, before relaxation, and after it (first seed)
    converged, worst : share of the cells, of all seeds and of the one with the fewest
    pulses : a cell, RESETs of its devices included
    conversions : of the ADCs, for each seed
    """

    technology: str
    pairs: int
    way: str
    error: float
    relaxed: float
    converged: float
    worst: float
    pulses: float
    conversions: int


def ways_compared(report: Callable[[int], None] = lambda _done: None, *, names: Iterable[str] = tuple(TECHNOLOGIES),
                  seeds: Sequence[int] = LOOP_SEEDS) -> Iterator[Way]:
    """Yield every way of each technology whose devices are pulsed, with one pair and with two (F = 1)."""
    for name in names:
        kind = TECHNOLOGIES[name]
        for pairs, way in itertools.product(GEOMETRIES, (CLOSED_LOOP, GRADIENT)):
            try:
                kind.check_way(way)
            except ValueError:
                continue
            yield _way(name, kind.replace(flicker_noise=False, extrapolate=True), pairs, way, seeds)
        report(1)


def _way(name: str, kind: Technology, pairs: int, way: str, seeds: Sequence[int]) -> Way:
    relaxed, _ = _programmed(kind, pairs, way, seeds[0])
    squares, found = zip(*(_programmed(kind.replace(relaxation=False), pairs, way, seed) for seed in seeds),
                         strict=True)
    converged = [one.converged_fraction for one in found]
    return Way(name, pairs, way, float(np.sqrt(np.mean(squares))), relaxed**0.5, float(np.mean(converged)),
               min(converged), float(np.mean([one.pulses_mean for one in found])),
               round(np.mean([one.conversions for one in found])))


def _programmed(kind: Technology, pairs: int, way: str, seed: int) -> tuple[float, ProgramResult]:
    """Program a network of a seed's weights; return the mean square of their errors, of the largest, and the result."""
    rng, geometry = np.random.default_rng(seed), GEOMETRIES[pairs]
    layers = tuple(Dense(f"layer{k}", rng.normal(size=(o, i)) / np.sqrt(i), rng.normal(size=o) / 4, relu=k == 0)
                   for k, (i, o) in enumerate(itertools.pairwise(SIZES)))
    placement = compile_network(Network(SIZES[0], layers), geometry, rng.random((50, SIZES[0])))
    device = Device(ModelBackend(geometry), seed=seed)
    device.configure(placement)
    found = device.program(kind, how=way)
    off = np.concatenate([(nets - tile.targets / (1 << G16_BITS - CODE_BITS)).ravel()
                          for nets, tile in zip(device.nets(), placement.tiles, strict=True)])
    return float((off**2).mean()) / (GMAX_CODE * geometry.significance)**2, found
