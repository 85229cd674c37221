"""The judge: a float64 Monte-Carlo of the published formulas, clamps and spread included.

It shares no code with `sim/`: the formulas and their numbers are typed here a second time, from their sources
(docs/technologies.md), and drawn with numpy's own generator. Conductances are in the unit of the source.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["JUDGES", "PULSE_JUDGES", "Judge", "PcmTile", "PulseJudge", "mvm_error", "pair_errors"]

Floats = NDArray[np.float64]
Rng = np.random.Generator
DAY = 86_400.0


@dataclasses.dataclass(frozen=True)
class Judge:
    """One published model of a device: everything about one target g in 0...1, for n devices."""

    gmax: float
    gmin: float
    sigma: Callable[[float, float], float]
    """(g, age) -> spread of programmed devices."""
    shift: Callable[[float, float], float]
    """(g, age) -> shift of their mean."""
    nu: Callable[[float], tuple[float, float]]
    """g -> mean and spread of the drift exponent."""
    flicker: Callable[[Floats], Floats]
    """programmed G -> 1/f noise over the root of the logarithm: relative to the conductance."""
    t0: float = 1.0
    t_read: float = 1.0
    clamp: bool = True

    def conductance(self, g: float) -> float:
        """Return the target of g."""
        return self.gmin + g * (self.gmax - self.gmin)

    def programmed(self, rng: Rng, g: float, n: int, age: float = 0.0) -> Floats:
        """Return n programmed devices at their first read, or, where spread is known against time, at an age."""
        values = self.conductance(g) + self.shift(g, age) + self.sigma(g, age) * rng.standard_normal(n)
        return np.maximum(values, 0) if self.clamp else values

    def exponents(self, rng: Rng, g: float, n: int) -> Floats:
        """Return n drift exponents."""
        mean, spread = self.nu(g)
        return np.abs(mean + spread * rng.standard_normal(n))

    def at(self, rng: Rng, programmed: Floats, nu: Floats, age: float, *, flicker: bool = True) -> Floats:
        """Return devices at an age."""
        drifted = programmed * ((age + self.t0) / self.t0) ** -nu if self.t0 else programmed
        if not flicker:
            return drifted
        share = self.flicker(programmed) * math.sqrt(math.log((age + self.t0 + self.t_read) / (2 * self.t_read)))
        return np.maximum(drifted + np.abs(drifted) * share * rng.standard_normal(len(drifted)), 0)


def _none(_g: float, _age: float) -> float:
    return 0.0


def _still(_g: float) -> tuple[float, float]:
    return 0.0, 0.0


def _quiet(values: Floats) -> Floats:
    return np.zeros_like(values)


# --- phase-change memory --------------------------------------------------------------------------------------------

def _pcm_nu(g: float) -> tuple[float, float]:
    log = math.log(max(g, 1e-7))
    return min(max(0.0244 - 0.0155 * log, 0.049), 0.1), min(max(-0.0059 - 0.0125 * log, 0.008), 0.045)


PCM = Judge(
    gmax=25.0, gmin=0.0, sigma=lambda g, _age: 0.26348 + 1.9650 * g - 1.1731 * g * g, shift=_none, nu=_pcm_nu,
    flicker=lambda value: np.minimum(0.0088 / np.maximum((value / 25.0)**0.65, 1e-3), 0.2), t0=20.0, t_read=250e-9)


def _hermes_mean(g: float) -> float:
    if g < 0.0945:
        return min(max(-0.0387 * math.log(max(g, 1e-7)) - 0.0182, 0.072), 0.13)
    return -0.0436 * g**2 - 0.0126 * g + 0.0736


def _hermes_1_nu(g: float) -> tuple[float, float]:
    if g < 0.3039:
        return _hermes_mean(g), min(max(-0.0120 * math.log(max(g, 1e-7)) - 0.0023, 0.0124), 0.04)
    return _hermes_mean(g), -0.0165 * g**2 + 0.0116 * g + 0.0104


def _hermes_2_nu(g: float) -> tuple[float, float]:
    if g < 0.3055:
        return _hermes_mean(g), min(max(-0.0117 * math.log(max(g, 1e-7)) - 0.0057, 0.0091), 0.04)
    return _hermes_mean(g), -0.0118 * g**2 + 0.0093 * g + 0.0073


def _hermes_1_q(value: Floats) -> Floats:
    g = np.maximum(value / 10.35, 1e-12)
    low = np.clip(-0.0078 * np.log(g) + 0.0038, 0.0179, 0.04)
    return np.where(g < 0.1591, low, 0.0664 * g**3 - 0.1352 * g**2 + 0.0768 * g + 0.0088)


def _hermes_2_q(value: Floats) -> Floats:
    g = np.maximum(value / 20.7, 1e-12)
    low = np.clip(-0.0117 * np.log(g) - 0.0069, 0.015, 0.04)
    return np.where(g < 0.16, low, 0.0069 * g**3 - 0.0280 * g**2 + 0.0211 * g + 0.0123)


HERMES_1 = Judge(
    gmax=10.35, gmin=0.0, shift=_none, nu=_hermes_1_nu, flicker=_hermes_1_q, t0=200.0, t_read=512e-9,
    sigma=lambda g, _age: 0.15781817 + 2.32443916 * g - 2.16310839 * g**2 + 0.68841818 * g**3)
HERMES_2 = Judge(
    gmax=20.7, gmin=0.0, shift=_none, nu=_hermes_2_nu, flicker=_hermes_2_q, t0=300.0, t_read=512e-9,
    sigma=lambda g, _age: 0.16603222 + 4.71806468 * g - 8.48101252 * g**2 + 4.68961419 * g**3)


# --- RRAM, flash ----------------------------------------------------------------------------------------------------

_WAN = {1.0: (0.348, 16.030, -43.853, 45.393, -16.815), DAY: (0.701, 22.086, -50.773, 47.095, -16.458),
        2 * DAY: (0.782, 20.274, -43.507, 37.062, -11.934)}

RRAM_WAN = Judge(
    gmax=40.0, gmin=0.0, shift=_none, nu=_still, flicker=_quiet,
    sigma=lambda g, age: sum(c * g**k for k, c in enumerate(_WAN[age or 1.0])))
RRAM_MILO = Judge(
    gmax=225.0, gmin=50.0, shift=_none, nu=_still, flicker=_quiet, clamp=False,
    sigma=lambda g, _age: 4.782321 - 0.009107 * (50 + 175 * g))
RRAM_CMO = Judge(
    gmax=88.2, gmin=9.0, nu=_still, flicker=lambda value: 0.02773 * np.log10(value) / value, t0=0.0, t_read=1e-6,
    sigma=lambda g, age: (0.04201137 * math.log(age) + 0.41183342 if age else
                          0.00081107 + 0.00106879 * (9 + 79.2 * g)),
    shift=lambda g, age: (-0.08900206 * math.log(age) + (49.92383444 / 50 - 1) * (9 + 79.2 * g)) if age else 0.0)

_SONOS = (
    ((19.88665, 176.3115), (0.0,)),
    ((25.59102, 186.85544), (6.83650e-01, 6.51250e-03, -4.03163e-04, 3.37944e-06, -1.87435e-08, 5.88902e-11,
                             -1.07685e-13, 1.17751e-16, -7.60016e-20, 2.67255e-23, -3.94954e-27)),
    ((28.72753, 193.56834), (6.60925e-01, 8.60627e-03, -1.72936e-04, 7.44096e-07, -5.94866e-09, 2.36734e-11,
                             -4.83740e-14, 5.56072e-17, -3.65397e-20, 1.28405e-23, -1.87450e-27)),
    ((31.04318, 198.90332), (1.15821e00, 1.96116e-02, -4.70807e-04, 3.67510e-06, -2.08786e-08, 6.59752e-11,
                             -1.19499e-13, 1.28435e-16, -8.11574e-20, 2.78802e-23, -4.02057e-27)),
    ((33.76214, 204.77023), (8.72216e-01, 1.70926e-02, -2.23370e-04, 1.57526e-06, -1.32779e-08, 5.08256e-11,
                             -1.01251e-13, 1.14633e-16, -7.46124e-20, 2.60559e-23, -3.78724e-27)),
    ((34.57909, 207.34309), (1.15294e00, 1.03149e-02, -6.05199e-05, 1.76086e-08, -6.46690e-09, 3.39044e-11,
                             -7.53872e-14, 8.98185e-17, -6.00346e-20, 2.12615e-23, -3.11099e-27)),
)


def _sonos(g: float, age: float) -> tuple[float, float]:
    """Return shift of the mean and spread; between days the source interpolates the coefficients."""
    day = age / DAY
    low = min(int(day), 4)
    share = day - low
    (first, shift_0), (second, shift_1) = _SONOS[low], _SONOS[low + 1]
    height, width = ((1 - share) * a + share * b for a, b in zip(first, second, strict=True))
    current = 1600.0 * g

    def polynomial(powers: tuple[float, ...]) -> float:
        return sum(c * current**k for k, c in enumerate(powers))

    shift = (1 - share) * polynomial(shift_0) + share * polynomial(shift_1)
    return shift, height * (1 - math.exp(-(current + shift) / width))


SONOS = Judge(gmax=1600.0, gmin=0.0, shift=lambda g, age: _sonos(g, age)[0], sigma=lambda g, age: _sonos(g, age)[1],
              nu=_still, flicker=_quiet)

JUDGES = {"pcm": PCM, "pcm-hermes-1": HERMES_1, "pcm-hermes-2": HERMES_2, "rram-wan2022": RRAM_WAN,
          "rram-milo": RRAM_MILO, "rram-cmo": RRAM_CMO, "sonos": SONOS}


# --- pulses ---------------------------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class PulseJudge:
    """One published model of pulses: weights w from `low` to `high`, which become g from 0 to 1; for n devices."""

    dw: float
    low: float
    high: float
    up: Callable[[Floats], Floats]
    """w -> step up, in units of dw."""
    down: Callable[[Floats], Floats]
    device: float
    """Spread of the size of steps from device to device, of its logarithm if `log_normal`."""
    cycle: float
    """Spread from pulse to pulse, of dw if `additive`, else of the step."""
    between: float = 0.0
    """Difference of the directions of one device, spread."""
    up_down: float = 0.0
    """Steps down are so much smaller."""
    log_normal: bool = False
    additive: bool = False
    one_way: bool = False

    def sizes(self, rng: Rng, n: int, *, down: bool) -> Floats:
        """Return the sizes of the steps of n devices, 1 if nominal."""
        xi = self.device * rng.standard_normal(n)
        gain = np.exp(xi) if self.log_normal else 1 + xi
        side = self.between * rng.standard_normal(n)
        return gain - self.up_down - side if down else gain + side

    def pulsed(self, rng: Rng, sizes: Floats, g: float, count: int, *, down: bool) -> Floats:
        """Return g of devices with these sizes of steps after so many pulses from g on."""
        w = np.full(len(sizes), self.low + g * (self.high - self.low))
        for _ in range(count):
            step = np.maximum(self.down(w) if down else self.up(w), 0)
            noise = self.cycle * rng.standard_normal(len(w))
            step = sizes * self.dw * (step + noise if self.additive else step * (1 + noise))
            w = np.clip(w - step if down else w + step, self.low, self.high)
        return (w - self.low) / (self.high - self.low)


def _soft_up(high: float, gamma: float = 1.0) -> Callable[[Floats], Floats]:
    return lambda w: 1 - gamma * w / high


def _soft_down(low: float, gamma: float = 1.0) -> Callable[[Floats], Floats]:
    return lambda w: 1 - gamma * w / low


PULSE_JUDGES = {
    "pcm-set": PulseJudge(dw=0.01, low=0.0, high=2.0, up=lambda w: 1 + 27.235 * np.exp(-2.5 * w), down=np.zeros_like,
                          device=0.2, cycle=0.6, one_way=True),
    "rram-om": PulseJudge(dw=0.0949, low=-1.0, high=1.0, up=_soft_up(1.0), down=_soft_down(-1.0), device=0.783,
                          cycle=0.416, between=0.01, log_normal=True, additive=True),
    "rram-hfo2": PulseJudge(dw=0.4622, low=-1.0, high=1.0, up=_soft_up(1.0), down=_soft_down(-1.0), device=0.713,
                            cycle=0.217, between=0.01, log_normal=True, additive=True),
    "rram-sb": PulseJudge(dw=0.002, low=-0.75, high=1.25, up=_soft_up(1.25), down=_soft_down(-0.75), device=0.3,
                          cycle=3.75, between=0.01, additive=True),
    "rram-es": PulseJudge(dw=0.00135, low=-1.0, high=1.0, up=lambda w: 1 + 1.18445 * np.exp(5 * (-0.5 * w - 0.5)),
                          down=lambda w: 1 + 0.081404 * np.exp(5 * (0.5 * w + 0.5)), device=0.2, cycle=5.0,
                          between=0.05, up_down=0.259359),
    "ecram": PulseJudge(dw=0.002, low=-0.8276, high=1.1724, up=_soft_up(1.1724, 0.1153),
                        down=_soft_down(-0.8276, 0.5085), device=0.1, cycle=0.3, between=0.01),
    "ecram-mo": PulseJudge(dw=2.8214e-4, low=-0.8286, high=1.1714, up=_soft_up(1.1714, 0.4152),
                           down=_soft_down(-0.8286, 0.7342), device=0.1, cycle=2.0, between=0.01),
}


# --- whole arrays ---------------------------------------------------------------------------------------------------

def mvm_error(rng: Rng, *, size: int = 512, vectors: int = 100, age: float = 1.0) -> float:
    """Return the relative error of an MVM on statistical PCM: weights N(0, 0.246) within 1, half of the inputs 0."""
    w = np.clip(0.246 * rng.standard_normal((size, size)), -1, 1)
    x = rng.uniform(-1, 1, (vectors, size)) * (rng.random((vectors, size)) < 0.5)
    got = sum(sign * _pcm_array(rng, np.maximum(sign * w, 0), age) for sign in (1, -1)) / PCM.gmax
    wanted = x @ w
    return float(np.linalg.norm(x @ got - wanted) / np.linalg.norm(wanted))


def pair_errors(rng: Rng, *, size: int = 512, significance: float = 1.0, age: float = 0.0) -> tuple[float, float]:
    """Return the rms error of the same weights in one pair, and in two whose minor pair mends the main one's error."""
    w = np.clip(0.246 * rng.standard_normal((size, size)), -1, 1)
    main = w / significance
    pairs = []
    targets = main
    for _ in range(2):
        parts = []
        for sign in (1, -1):
            target = np.clip(sign * targets, 0, 1)
            programmed = _pcm_programmed(rng, target)
            parts.append((sign, target, programmed))
        net = sum(sign * programmed for sign, _, programmed in parts) / PCM.gmax
        pairs.append(parts)
        targets = w - significance * net

    def value(parts: list[tuple[int, Floats, Floats]]) -> Floats:
        positive, negative = (_pcm_aged(rng, target, programmed, age) if age else programmed
                              for _, target, programmed in parts)
        return (positive - negative) / PCM.gmax

    single = [(sign, np.clip(sign * w, 0, 1), _pcm_programmed(rng, np.clip(sign * w, 0, 1))) for sign in (1, -1)]
    one = value(single) - w
    two = significance * value(pairs[0]) + value(pairs[1]) - w
    return float(np.sqrt((one**2).mean())), float(np.sqrt((two**2).mean()))


class PcmTile:
    """Statistical PCM programmed to g `targets` (rows, columns), signed, one pair a cell; at age 0.

    With `net`, as aihwkit's code has it and the formulas do not: the partner's residual is taken off the weight before
    it ages, so it drifts as the weight does; and 1/f noise is that of weights scaled so that the largest is Gmax.
    """

    def __init__(self, targets: Floats, seed: int, *, net: bool) -> None:
        self._rng = np.random.default_rng((seed, 1))  # a layer draws the noise of its reads from (seed)
        self.rows = len(targets)
        self._targets = [np.maximum(sign * targets, 0) for sign in (1, -1)]
        self._programmed = [_pcm_programmed(self._rng, target) for target in self._targets]
        self._nus = [_pcm_nus(self._rng, target) for target in self._targets]
        self._scale = 1.0
        if net:
            difference = self._programmed[0] - self._programmed[1]
            self._scale = float(np.abs(difference).max()) / PCM.gmax
            self._programmed = [np.maximum(sign * difference, 0) / self._scale for sign in (1, -1)]
        self._weights = self._net(self._programmed)

    def age(self, seconds: float) -> None:
        """Draw the weights at an age."""
        self._weights = self._net([_pcm_drifted(self._rng, programmed, nus, seconds)
                                   for programmed, nus in zip(self._programmed, self._nus, strict=True)])

    def _net(self, devices: list[Floats]) -> Floats:
        return (devices[0] - devices[1]) * (self._scale / PCM.gmax)

    def weights(self) -> Floats:
        """Return the weights of now, in units of Gmax."""
        return self._weights

    def probe(self) -> float:
        """Return the mean magnitude of the outputs of one-hot inputs."""
        return float(np.abs(self._weights).mean())


def _pcm_programmed(rng: Rng, g: Floats) -> Floats:
    sigma = 0.26348 + 1.9650 * g - 1.1731 * g * g
    return np.maximum(g * PCM.gmax + sigma * rng.standard_normal(g.shape), 0)


def _pcm_nus(rng: Rng, g: Floats) -> Floats:
    log = np.log(np.maximum(g, 1e-7))
    return np.abs(np.clip(0.0244 - 0.0155 * log, 0.049, 0.1)
                  + np.clip(-0.0059 - 0.0125 * log, 0.008, 0.045) * rng.standard_normal(g.shape))


def _pcm_drifted(rng: Rng, programmed: Floats, nu: Floats, age: float) -> Floats:
    drifted = programmed * ((age + PCM.t0) / PCM.t0) ** -nu
    share = PCM.flicker(programmed) * math.sqrt(math.log((age + PCM.t0 + PCM.t_read) / (2 * PCM.t_read)))
    return np.maximum(drifted * (1 + share * rng.standard_normal(programmed.shape)), 0)


def _pcm_aged(rng: Rng, g: Floats, programmed: Floats, age: float) -> Floats:
    return _pcm_drifted(rng, programmed, _pcm_nus(rng, g), age)


def _pcm_array(rng: Rng, g: Floats, age: float) -> Floats:
    return _pcm_aged(rng, g, _pcm_programmed(rng, g), age)
