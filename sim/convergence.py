"""How write-verify ends, by integration: the spread that it leaves, the pulses that it takes, who converges.

A cell's pulse lands at x = a + s, where a is the error of its amplitude and s ~ N(0, sigma). A verify reads y = x + r
with r ~ N(0, read); within the window the cell is done, else the next amplitude has the error a - step * y. Since
pulses of a melt device have no memory, only a is carried on: a chain of one variable, followed here on a grid.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from sim.law import Floats

__all__ = ["Convergence", "Loop", "converge"]

_GRID = 161
_WIDTH = 5.0  # of the grid, in spreads of a reading
_erf: Callable[[Floats], Floats] = np.vectorize(math.erf, otypes=[np.float64])


@dataclasses.dataclass(frozen=True)
class Loop:
    """Write-verify of one cell, everything in one unit of conductance."""

    window: float
    read: float
    """Spread of the error of a verify."""
    step: float
    iterations: int


@dataclasses.dataclass(frozen=True, eq=False)
class Convergence:
    """What write-verify comes to, for each spread of a pulse.

    Attributes
    ----------
    sigma : (N,)
        Spread of what is left, converged or not.
    pulses : (N, iterations)
        Share of the cells that take 1, 2, ... pulses, RESET not counted; those that never converge are not in it.
    """

    sigma: Floats
    pulses: Floats

    @property
    def converged(self) -> Floats:
        """Share of the cells that end in their window, (N,)."""
        return self.pulses.sum(axis=1)


def converge(loop: Loop, sigma: Floats) -> Convergence:
    """Return how cells end whose pulses spread by each of `sigma` (N,)."""
    found = [_one(loop, float(s)) for s in sigma]
    return Convergence(np.array([left for left, _ in found]), np.array([pulses for _, pulses in found]))


def _one(loop: Loop, sigma: float) -> tuple[float, Floats]:
    pulses = np.zeros(loop.iterations)
    reading = math.hypot(sigma, loop.read)
    if reading < 1e-9 * loop.window:
        pulses[0] = 1.0
        return sigma, pulses
    edge = _WIDTH * reading * max(1.0, loop.step)
    a = np.linspace(-edge, edge, _GRID)
    accepted, square = _accepted(a, loop, sigma, reading)
    onward = _onward(a, loop, reading)
    share = np.zeros(_GRID)
    share[_GRID // 2] = 1.0
    total = 0.0
    for k in range(loop.iterations):
        pulses[k] = share @ accepted
        total += float(share @ square)
        if k + 1 < loop.iterations:
            share = share @ onward
    # Those that never converged keep their last pulse: all of the spread but that of the accepted.
    total += max(float(share @ (a * a + sigma * sigma - square)), 0.0)
    return math.sqrt(total), pulses


def _accepted(a: Floats, loop: Loop, sigma: float, reading: float) -> tuple[Floats, Floats]:
    """Return, for each a, the chance that a reading lies in the window, and the mean of x**2 of those that do."""
    y = (np.arange(_GRID) + 0.5) / _GRID * 2 * loop.window - loop.window
    weight = np.exp(-0.5 * ((y - a[:, None]) / reading)**2) * (2 * loop.window / _GRID)
    weight /= reading * math.sqrt(2 * math.pi)
    trust = (sigma / reading)**2
    mean = a[:, None] + trust * (y - a[:, None])
    inside = _normal((loop.window - a) / reading) - _normal((-loop.window - a) / reading)
    scale = np.where(weight.sum(axis=1) > 0, inside / np.maximum(weight.sum(axis=1), 1e-300), 0.0)
    return inside, scale * (weight * (mean**2 + trust * loop.read**2)).sum(axis=1)


def _onward(a: Floats, loop: Loop, reading: float) -> Floats:
    """Return the chances of going from each a to each other one by a rejected reading."""
    y = (a[:, None] - a) / loop.step  # [from, to]
    weight = np.where(np.abs(y) > loop.window, np.exp(-0.5 * ((y - a[:, None]) / reading)**2), 0.0)
    rejected = 1 - (_normal((loop.window - a) / reading) - _normal((-loop.window - a) / reading))
    sums = weight.sum(axis=1)
    return weight * np.where(sums > 0, rejected / np.maximum(sums, 1e-300), 0.0)[:, None]


def _normal(z: Floats) -> Floats:
    return 0.5 * (1 + _erf(z / math.sqrt(2)))
