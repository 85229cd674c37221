"""What a chip is told of the pulses of a technology: how devices step, differ, stick and wear.

Write-verify of one-way and bipolar devices gives *gradual* pulses. Amplitude 1 stands for a train of nominal pulses,
as many as move a device by 1/200 of its range (one, where one moves it further); amplitudes grow by 1 from pulse to
pulse where trains are that fine, and pulses are identical where they are not. Both are assumed; no source tells how
programming pulses of devices known from training grow.
"""

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from rtl.params import Geometry, PulseKind, Table
from rtl.params.formats import AMPLITUDE_FRACTION, G16_BITS, G16_MAX, GMAX_G16, VARIATION_FRACTION
from sim.fixed import Ints
from sim.law import Floats
from sim.technology import STATISTICAL, Technology

__all__ = ["ENTRIES", "check_pulses", "down_spread", "nominal_move", "pulse_kind", "pulse_settings", "pulse_tables",
           "train", "wear_begins"]

ENTRIES = 256
_FINE = 1 / 200
_TRAIN_MAX = 64
_REFRESH_SHARE = 0.25
"""Where the partner stands at most, as g: aihwkit refreshes one-sided pairs there (PCMPresetUnitCell)."""

_WORD_MAX = (1 << 16) - 1
_KINDS = {"melt": PulseKind.MELT, "one-way": PulseKind.ONE_WAY, "bipolar": PulseKind.BIPOLAR}


def pulse_kind(device: Technology, way: str) -> PulseKind:
    """Return the kind of pulses; what is statistical is written in one melt pulse, whatever the device."""
    return PulseKind.MELT if way == STATISTICAL else _KINDS[device.pulse]


def pulse_tables(device: Technology, geometry: Geometry, way: str, g: Floats) -> dict[Table, Ints]:
    """Return the tables of steps, of what devices are born with, and for gradual pulses that of their spread.

    g : conductance of each entry of a table of steps
    """
    found = {Table.STEP_UP: np.zeros(ENTRIES), Table.STEP_DOWN: np.zeros(ENTRIES),
             Table.VARIATION: _sizes(device) / _scale(device) * (1 << VARIATION_FRACTION),
             Table.ENDURANCE: _endurance(device, geometry)[0]}
    if pulse_kind(device, way) != PulseKind.MELT:
        up, down = _steps(device, g)
        sigma = _cycle_spread(device, up)
        up, down = up * _scale(device), down * _scale(device)
        sigma[0] = 0.0 if device.programmed is None else float(device.programmed(0.0)) / device.range
        found |= {Table.STEP_UP: up * GMAX_G16, Table.STEP_DOWN: down * GMAX_G16, Table.PULSE_SIGMA: sigma * GMAX_G16}
    return {table: _words(values) for table, values in found.items()}


def down_spread(device: Technology, g: Floats) -> Ints:
    """Return the table of the spread of gradual pulses down, which stands in RELAX_SIGMA during PROGRAM."""
    return _words(_cycle_spread(device, _steps(device, g)[1]) * GMAX_G16)


def _words(values: Floats) -> Ints:
    return np.clip(np.rint(values), 0, _WORD_MAX).astype(np.int64)


def pulse_settings(device: Technology, geometry: Geometry, way: str) -> dict[str, int]:
    """Return the registers of pulses.

    Raises
    ------
    ValueError
        If the build cannot hold the technology, or wear or stuck devices are asked for and have no source.
    """
    check_pulses(device, geometry, way)
    kind = pulse_kind(device, way)
    settings = {"pulse_kind": int(kind), "amplitude_limit": G16_MAX, "first_amplitude": 0, "increment": 0, "restart": 0,
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
        unit = nominal_move(device)
        one = 1 << AMPLITUDE_FRACTION
        spreads = [0.0 if number is None else number.one for number in (device.asymmetry_spread, device.device_spread)]
        settings |= {
            "first_amplitude": one, "increment": one if unit <= 2 * _FINE else 0, "absorb": 1,
            "refresh_limit": min(max(round(_REFRESH_SHARE / unit), 1), 63),
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


def _cycle_spread(device: Technology, step: Floats) -> Floats:
    """Return the spread of a pulse of amplitude 1 from cycle to cycle: the mean square over devices of all sizes."""
    if device.cycle_spread is None or not device.programming:
        return np.zeros_like(step)
    size = math.sqrt(float((_sizes(device)**2).mean()))
    one = np.full_like(step, device.cycle_spread.one) if device.cycle_spread.unit == "g" else (
        device.cycle_spread.one * step / train(device))
    return size * one * math.sqrt(train(device))


def _steps(device: Technology, g: Floats) -> tuple[Floats, Floats]:
    """Return gain and loss of g by a pulse of amplitude 1; 0 where a technology has no such pulse."""
    asymmetry = 0.0 if device.asymmetry is None else device.asymmetry.one
    pulses = train(device)
    up = device.law("step_up")(g) * (1 + min(asymmetry, 0.0))
    down = device.law("step_down")(g) * (1 - max(asymmetry, 0.0)) if device.pulse == "bipolar" else np.zeros_like(up)
    return np.maximum(up, 0) * pulses, np.maximum(down, 0) * pulses


def train(device: Technology) -> int:
    """Return the nominal pulses that amplitude 1 stands for."""
    return min(max(round(_FINE / max(_nominal(device), 1e-9)), 1), _TRAIN_MAX)


def nominal_move(device: Technology) -> float:
    """Return the median step of amplitude 1, as g."""
    return _nominal(device) * train(device)


def _nominal(device: Technology) -> float:
    """Return the median step of one nominal pulse, as g."""
    return float(np.median(device.law("step_up")(np.linspace(0.0, 1.0, 101))))


def _sizes(device: Technology) -> Floats:
    """Return quantiles of the size of a device's steps, median 1: normal, or log-normal where the spread is large.

    aihwkit draws both ways; its presets with spreads above one half are the log-normal ones. What differs between the
    directions of one device adds to the spread of each.
    """
    if device.device_spread is None or not device.programming:
        return np.ones(ENTRIES)
    xi = _quantiles()
    if device.device_spread.one > 0.5:
        return np.exp(device.device_spread.one * xi)
    between = 0.0 if device.asymmetry_spread is None else device.asymmetry_spread.one
    return np.maximum(1 + math.hypot(device.device_spread.one, between) * xi, 0)


def _scale(device: Technology) -> float:
    """Return the power of two that brings all sizes below 4, which is what a word of their table holds."""
    return 2.0 ** max(math.ceil(math.log2(float(_sizes(device).max()) / 3.99)), 0)


def _endurance(device: Technology, geometry: Geometry) -> tuple[Floats, float]:
    """Return quantiles of the wear that devices endure, and the wear of a pulse, for a counter of `wear_bits`."""
    if not device.wear or not geometry.wear_bits:
        return np.full(ENTRIES, float(_WORD_MAX)), 0.0
    spread = 0.0 if device.endurance_spread is None else device.endurance_spread.one
    pulses = device.number("endurance").one * np.exp(spread * _quantiles())
    largest = (1 << geometry.wear_bits) - 2
    rate = min(1.0, largest / pulses.max())
    return pulses * rate, rate


def _quantiles() -> Any:
    normal = NormalDist()
    return np.array([normal.inv_cdf((k + 0.5) / ENTRIES) for k in range(ENTRIES)])
