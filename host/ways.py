"""Ways of programming compared: what is left of the weights' errors, and what it took, for all that has pulses."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from host.backend import ModelBackend
from host.compiler import compile_network
from host.device import Device
from host.network import Dense, Network
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
    """How one programming of a network of random weights ended.

    Attributes
    ----------
    error, relaxed : rms error of the weights, of the largest, before and after relaxation
    converged : share of the cells
    pulses : a cell, RESETs of its devices included
    conversions : of the ADCs, in all
    """

    technology: str
    pairs: int
    way: str
    error: float
    relaxed: float
    converged: float
    pulses: float
    conversions: int


def ways_compared(report: Callable[[int], None] = lambda _done: None, *,
                  names: Iterable[str] = tuple(TECHNOLOGIES)) -> Iterator[Way]:
    """Yield every way of each technology whose devices are pulsed, with one pair and with two (F = 1)."""
    for name in names:
        kind = TECHNOLOGIES[name]
        for pairs, way in itertools.product(GEOMETRIES, (CLOSED_LOOP, GRADIENT)):
            try:
                kind.check_way(way)
            except ValueError:
                continue
            yield _way(name, kind.replace(flicker_noise=False, extrapolate=True), pairs, way)
        report(1)


def _way(name: str, kind: Technology, pairs: int, way: str) -> Way:
    rng = np.random.default_rng(0)
    layers = tuple(Dense(f"layer{k}", rng.normal(size=(o, i)) / np.sqrt(i), rng.normal(size=o) / 4, relu=k == 0)
                   for k, (i, o) in enumerate(itertools.pairwise(SIZES)))
    geometry = GEOMETRIES[pairs]
    placement = compile_network(Network(SIZES[0], layers), geometry, rng.random((50, SIZES[0])))
    errors = []
    for relaxation in (False, True):
        device = Device(ModelBackend(geometry))
        device.configure(placement)
        found = device.program(kind.replace(relaxation=relaxation), how=way)
        off = np.concatenate([(nets - tile.targets / (1 << G16_BITS - CODE_BITS)).ravel()
                              for nets, tile in zip(device.nets(), placement.tiles, strict=True)])
        errors.append(float(np.sqrt((off**2).mean())) / (GMAX_CODE * geometry.significance))
    before, after = errors
    return Way(name, pairs, way, before, after, found.converged_fraction, found.pulses_mean, found.conversions)
