"""What a chip is told of the pulses of a technology: how devices step, differ, stick and wear.

Write-verify of one-way and bipolar devices gives *gradual* pulses. Amplitude 1 stands for a train of nominal pulses:
as many as move a device by 1/200 of its range, or more where its steps shrink so much towards its bounds that sixteen
trains a read would not get there, or one, where one moves it further. The amplitude follows the measured error; where
nominal pulses are coarse, weaker ones than nominal are given. No source tells how programming pulses of devices known
from training grow: this is assumed.

A train is one step, but its pulses meet a bound one by one, and those that follow scatter away from it: a train comes
no nearer to a bound than a random *floor*, whose spread stands in the tables of the drift exponent during PROGRAM.
"""

import functools
import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from rtl.params import Geometry, PulseKind, Table
from rtl.params.formats import AMPLITUDE_FRACTION, G16_BITS, G16_MAX, GMAX_G16, SPREAD_SHIFT, VARIATION_FRACTION
from sim.fixed import Ints
from sim.law import Floats
from sim.technology import STATISTICAL, Technology

__all__ = ["ENTRIES", "check_pulses", "largest_move", "nominal_move", "program_tables", "pulse_kind", "pulse_settings",
           "pulse_tables", "train", "wear_begins"]

ENTRIES = 256
_SIZES = 128
_OF_GMAX = GMAX_G16 * ENTRIES >> G16_BITS  # entries up to Gmax
_ASSUMED = {"train_move": 1 / 200, "sweep_reads": 9.0, "least_move": 0.5, "refresh_share": 0.25}
"""Of a technology that has none of its own."""
_TRAIN_MAX = 64
_LARGEST = 1 << G16_BITS - AMPLITUDE_FRACTION  # amplitude
_NEARLY = 0.975  # of Gmax
_SLOPE = 1e-6
_GRID = 400

_WORD_MAX = (1 << 16) - 1
_KINDS = {"melt": PulseKind.MELT, "one-way": PulseKind.ONE_WAY, "bipolar": PulseKind.BIPOLAR}


def pulse_kind(device: Technology, way: str) -> PulseKind:
    """Return the kind of pulses; what is statistical is written in one melt pulse, whatever the device."""
    return PulseKind.MELT if way == STATISTICAL else _KINDS[device.pulse]


def pulse_tables(device: Technology, geometry: Geometry, way: str) -> dict[Table, Ints]:
    """Return the tables of steps, of what devices are born with, and for gradual pulses that of their spread."""
    sizes = np.concatenate([_sizes(device, down=down) for down in (False, True)])
    found = {Table.STEP_UP: np.zeros(ENTRIES), Table.STEP_DOWN: np.zeros(ENTRIES),
             Table.VARIATION: sizes * (1 << VARIATION_FRACTION), Table.ENDURANCE: _endurance(device, geometry)[0]}
    if pulse_kind(device, way) != PulseKind.MELT:
        (up, sigma), (down, _) = (_train_of(device, down=down) for down in (False, True))
        sigma *= 1 << SPREAD_SHIFT
        sigma[0] = 0.0  # of RESET: its spread is all relaxation
        found |= {Table.STEP_UP: up * GMAX_G16, Table.STEP_DOWN: down * GMAX_G16, Table.PULSE_SIGMA: sigma * GMAX_G16}
    return {table: _words(values) for table, values in found.items()}


def program_tables(device: Technology) -> dict[Table, Ints]:
    """Return what tables hold during PROGRAM of gradual pulses alone: the spread of pulses down, and floors."""
    low, high = (floor(device, down=down) for down in (True, False))
    floors = np.where(np.arange(ENTRIES) < _OF_GMAX // 2, low, high) * GMAX_G16
    return {Table.RELAX_SIGMA: _words(_train_of(device, down=True)[1] * (GMAX_G16 << SPREAD_SHIFT)),
            Table.NU_MEAN: _words(floors), Table.NU_SIGMA: _words(floors / 2)}


@functools.lru_cache(maxsize=64)
def floor(device: Technology, *, down: bool) -> float:
    """Return q, as g, for the floor |q (1 + xi / 2)| of a train at a bound.

    A device of nominal size at the bound is then left by one train, max(step + spread, floor), as far from it on
    average as its pulses would leave it, each clipped: by Spitzer's identity the sum of E[max(S_k, 0)] / k, where S_k
    is what k pulses come to.
    """
    end = 0.0 if down else 1.0
    step, count = _step(device, np.array([end]), down=down), train(device)
    k: Floats = np.arange(1, count + 1, dtype=np.float64)
    away, spread = -step[0] * k, _cycle_spread(device, step)[0] * np.sqrt(k)
    if count == 1 or not spread[0]:
        return 0.0
    wanted = float((_above_zero(away, spread) / k).sum())
    low, high = 0.0, 2 * wanted
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _floored(away[-1], spread[-1], middle) < wanted else (low, middle)
    return low


def _above_zero(mean: Floats, spread: Floats) -> Floats:
    """Return E[max(x, 0)] of normal x."""
    z = mean / spread
    return spread * np.exp(-z**2 / 2) / math.sqrt(2 * math.pi) + mean * _normal_cdf(z)


def _floored(mean: float, spread: float, q: float) -> float:
    """Return E[max(x, |q (1 + xi / 2)|)] of a normal x."""
    edge = 6 * (spread + q)
    x = (np.arange(_GRID) + 0.5) * edge / _GRID
    u = 2 * x / max(q, 1e-12)
    below = _normal_cdf((x - mean) / spread) * (_normal_cdf(u - 2) - _normal_cdf(-u - 2))
    return float((1 - below).sum() * edge / _GRID)


def _words(values: Floats) -> Ints:
    return np.clip(np.rint(values), 0, _WORD_MAX).astype(np.int64)


def pulse_settings(device: Technology, geometry: Geometry, way: str, counts_per_g: float) -> dict[str, int]:
    """Return the registers of pulses. `counts_per_g` is the sum of codes of a verify for each g16.

    Raises
    ------
    ValueError
        If the build cannot hold the technology, or wear or stuck devices are asked for and have no source.
    """
    check_pulses(device, geometry, way)
    kind = pulse_kind(device, way)
    settings = {"pulse_kind": int(kind), "amplitude_limit": G16_MAX, "least_amplitude": 0, "restart": 0,
                "refresh_limit": 0, "absorb": 0, "minor_only": 0, "common_variation": 1, "stuck_rate": 0,
                "stuck_value": 0, "wear_rate": 0, "direct": 0}
    if device.stuck or device.wear:
        settings["absorb"] = 1
    if device.stuck:
        rate, value = device.number("stuck_rate").one, device.number("stuck_value").one
        settings |= {"stuck_rate": min(round(rate * 2**32), 2**32 - 1),
                     "stuck_value": min(round(value * GMAX_G16), G16_MAX)}
    if device.wear:
        settings["wear_rate"] = min(round(_endurance(device, geometry)[1] * 2**32), 2**32 - 1)
    if kind != PulseKind.MELT:
        unit, largest = nominal_move(device), largest_move(device)
        one = 1 << AMPLITUDE_FRACTION
        step = device.number("step").one * one / (largest * GMAX_G16 * counts_per_g)
        least = min(_constant(device, "least_move") * device.number("window").one / (device.range * largest), 1.0)
        spreads = [0.0 if number is None else number.one for number in (device.asymmetry_spread, device.device_spread)]
        settings |= {
            "main_step": _factor(step / geometry.significance), "minor_step": _factor(step),
            "least_amplitude": max(round(least * one), 1), "absorb": 1,
            "refresh_limit": min(max(round(_constant(device, "refresh_share") / unit), 1), 63),
            "common_variation": int(spreads[0] <= spreads[1]),
        }
    return settings


def wear_begins(device: Technology) -> float:
    """Return the pulses after which the first devices in two hundred are worn; infinite where none wears."""
    if not device.wear:
        return math.inf
    spread = 0.0 if device.endurance_spread is None else device.endurance_spread.one
    return device.number("endurance").one * math.exp(-2.6 * spread)


def check_pulses(device: Technology, geometry: Geometry, way: str) -> None:
    """Raise ValueError if a build cannot hold what the pulses of a technology do."""
    if device.wear:
        device.number("endurance")
        if not geometry.wear_bits:
            raise ValueError(f"geometry {geometry.name!r} counts no wear (wear_bits is 0): technology {device.name!r} "
                             "cannot wear in it")
    if pulse_kind(device, way) == PulseKind.MELT:
        return
    states = nominal_move(device) * GMAX_G16 / (1 << G16_BITS - geometry.state_bits)
    if states < 1:
        raise ValueError(f"technology {device.name!r} moves by {states:.2g} states with {train(device)} pulses: "
                         f"geometry {geometry.name!r} cannot hold it in {geometry.state_bits} state_bits")


def _train_of(device: Technology, *, down: bool) -> tuple[Floats, Floats]:
    """Return the move of a device of nominal size by a pulse of amplitude 1, and its spread, for each entry of a table.

    Pulse after pulse of a train: each steps from where the one before left the device, and so does its spread. Bounds
    are those of the device: gates know them.
    """
    g = (np.arange(ENTRIES) + 0.5) * (1 << G16_BITS) / ENTRIES / GMAX_G16
    place, variance = g, np.zeros(ENTRIES)
    for _ in range(train(device)):
        step = _step(device, place, down=down)
        ahead = _step(device, place + _SLOPE, down=down)
        slope = (ahead - step) / _SLOPE * (-1 if down else 1)
        variance = variance * (1 + slope)**2 + _cycle_spread(device, step)**2
        place = place - step if down else place + step
    return np.abs(place - g), np.sqrt(variance)


def _cycle_spread(device: Technology, step: Floats) -> Floats:
    """Return the spread of one nominal pulse from cycle to cycle, of a device of nominal size."""
    if device.cycle_spread is None or not device.programming:
        return np.zeros_like(step)
    return np.full_like(step, device.cycle_spread.one) if device.cycle_spread.unit == "g" else (
        device.cycle_spread.one * step)


def _step(device: Technology, g: Floats, *, down: bool) -> Floats:
    """Return gain or loss of g by a nominal pulse; 0 where a technology has no such pulse."""
    if down and device.pulse != "bipolar":
        return np.zeros_like(g)
    return np.maximum(device.law("step_down" if down else "step_up")(g), 0) * _share(device, down=down)


def _share(device: Technology, *, down: bool) -> float:
    """Return how much asymmetry leaves of the steps one way."""
    asymmetry = 0.0 if device.asymmetry is None else device.asymmetry.one
    return 1 - max(asymmetry, 0.0) if down else 1 + min(asymmetry, 0.0)


def train(device: Technology) -> int:
    """Return the nominal pulses that amplitude 1 stands for."""
    fine = _constant(device, "train_move") / max(_nominal(device), 1e-9)
    sweep = _sweep(device) / (_LARGEST * _constant(device, "sweep_reads"))
    return min(max(round(max(fine, sweep)), 1), _TRAIN_MAX)


def _constant(device: Technology, name: str) -> float:
    number = getattr(device, name)
    return _ASSUMED[name] if number is None else float(number.one)


def nominal_move(device: Technology) -> float:
    """Return the median step of amplitude 1, as g."""
    return _nominal(device) * train(device)


def _sweep(device: Technology) -> float:
    """Return the nominal pulses that bring a device from its lowest conductance nearly to its largest."""
    g = np.arange(0.0, _NEARLY, 1 / 400)
    return float((1 / 400 / np.maximum(_step(device, g, down=False), 1e-9)).sum())


def largest_move(device: Technology) -> float:
    """Return the largest step of amplitude 1 of a device of nominal size, as g."""
    return float(max(_train_of(device, down=down)[0][:_OF_GMAX].max() for down in (False, True)))


def _factor(value: float) -> int:
    return min(max(round(value), 1), _WORD_MAX)


def _nominal(device: Technology) -> float:
    """Return the median step of one nominal pulse, as g."""
    return float(np.median(device.law("step_up")(np.linspace(0.0, 1.0, 101))))


def _sizes(device: Technology, *, down: bool) -> Floats:
    """Return sizes of a device's steps one way, median 1: normal, or log-normal where the spread is large.

    Each stands for as many devices, and is their mean. aihwkit draws both ways; its presets with spreads above one half
    are the log-normal ones. What differs between the directions of one device adds to the spread of each.
    """
    if device.device_spread is None or not device.programming:
        return np.ones(_SIZES)
    spread = device.device_spread.one
    if spread > 0.5:
        return math.exp(spread**2 / 2) * _SIZES * np.diff(_normal_cdf(_EDGES - spread))
    between = 0.0 if device.asymmetry_spread is None else device.asymmetry_spread.one
    density = np.exp(-_EDGES**2 / 2) / math.sqrt(2 * math.pi)
    return np.maximum(1 - math.hypot(spread, between) / _share(device, down=down) * _SIZES * np.diff(density), 0)


def _endurance(device: Technology, geometry: Geometry) -> tuple[Floats, float]:
    """Return quantiles of the wear that devices endure, and the wear of a pulse, for a counter of `wear_bits`."""
    if not device.wear or not geometry.wear_bits:
        return np.full(ENTRIES, float(_WORD_MAX)), 0.0
    spread = 0.0 if device.endurance_spread is None else device.endurance_spread.one
    pulses = device.number("endurance").one * np.exp(spread * _quantiles())
    largest = (1 << geometry.wear_bits) - 2
    rate = min(1.0, largest / pulses.max())
    return pulses * rate, rate


def _quantiles() -> Floats:
    normal = NormalDist()
    return np.array([normal.inv_cdf((k + 0.5) / ENTRIES) for k in range(ENTRIES)])


_normal_cdf: Callable[[Floats], Floats] = np.vectorize(NormalDist().cdf, otypes=[np.float64])
_EDGES = np.array([-np.inf, *(NormalDist().inv_cdf(k / _SIZES) for k in range(1, _SIZES)), np.inf])
"""Between equal shares of a normal distribution."""
