"""Device technologies: published numbers, and the small fixed-point tables that they become.

Every number names its source and how far to trust it: C read in a program's source code, A abstract or publisher's
page, N second-hand note, D derived here, M from memory, X assumed (no source; see docs/physics.md for what half and
double of it do). A number that a technology does not have is absent; asking for it is refused by name.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rtl.params import ACTIVATION_MAX, ADC_SHIFT, GMAX_CODE, Geometry, Table
from rtl.params.formats import (
    ADC_GAIN_BITS,
    AGE_BITS,
    CODE_BITS,
    G16_BITS,
    GMAX_G16,
    LOG_TIME_BITS,
    LOG_TIME_FRACTION,
    NOISE_ROOT_FRACTION,
    NU_FRACTION,
)
from rtl.params.registers import EngineRegion, register
from sim.fixed import Ints

__all__ = ["TECHNOLOGIES", "Number", "Technology", "age_settings", "noise_gain", "sigma_loop", "sigma_programmed",
           "tables", "technology", "verify_settings"]

Floats = NDArray[np.float64]

_AIHWKIT = "IBM/aihwkit@4545f11, PCMLikeNoiseModel (Nandakumar 2019, Joshi 2020)"
_ENTRIES = 256
_FULL_SCALE = 1.25  # of Gmax: what the largest code of a verify read stands for
_WORD_MAX = 65_535


@dataclasses.dataclass(frozen=True)
class Number:
    """One published number, or the coefficients of one published law."""

    value: float | tuple[float, ...]
    unit: str
    trust: str
    source: str

    @property
    def one(self) -> float:
        """The number itself, where it is one."""
        assert not isinstance(self.value, tuple)
        return float(self.value)

    @property
    def many(self) -> tuple[float, ...]:
        """The coefficients."""
        assert isinstance(self.value, tuple)
        return self.value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Technology:
    """What is known of one kind of device; g is a conductance in units of Gmax. The four switches turn effects off."""

    name: str
    gmax: Number
    t0: Number
    """Time of the first read after programming: age 0."""
    programmed: Number | None = None
    """Spread of a programmed device: powers of g, ascending."""
    drift_mean: Number | None = None
    """Mean drift exponent: clip(first + second * ln g, third, fourth)."""
    drift_spread: Number | None = None
    """Its spread from device to device, the same law."""
    flicker_share: Number | None = None
    """1/f noise: min(third, first / max(g**second, fourth)), times sqrt(ln((t + t_read) / (2 t_read)))."""
    t_read: Number | None = None
    read_noise_share: Number | None = None
    """White noise of a read: this times sqrt(sum of |w| x**2), w and x in units of their largest."""
    pulse_share: Number
    """Spread of one programming pulse, in units of the spread of a programmed device."""
    window: Number
    """Accepted difference to the target in a verify read."""
    averages: Number
    iterations: Number
    step: Number
    """Share of a measured error that the next pulse corrects."""

    programming: bool = True
    """Spread of pulses, and relaxation after them."""
    drift: bool = True
    flicker: bool = True
    read: bool = True

    def replace(self, **changes: object) -> "Technology":
        """Return a copy with some numbers or switches changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def number(self, name: str) -> Number:
        """Return a number by name, or raise ValueError if this technology has none."""
        found = getattr(self, name, None)
        if not isinstance(found, Number):
            raise ValueError(f"technology {self.name!r} has no {name}: no source tells it")
        return found


_AVERAGES = Number(4, "reads", "X", "assumed")
_ITERATIONS = Number(30, "reads", "N", "HERMES project chip, at most 30 iterations (Le Gallo 2023)")

PCM = Technology(
    name="pcm",
    gmax=Number(25.0, "uS", "C", _AIHWKIT),
    t0=Number(20.0, "s", "C", _AIHWKIT),
    programmed=Number((0.26348, 1.9650, -1.1731), "uS", "C", _AIHWKIT),
    drift_mean=Number((0.0244, -0.0155, 0.049, 0.1), "1", "C", _AIHWKIT),
    drift_spread=Number((-0.0059, -0.0125, 0.008, 0.045), "1", "C", _AIHWKIT),
    flicker_share=Number((0.0088, 0.65, 0.2, 1e-3), "1", "C", _AIHWKIT),
    t_read=Number(250e-9, "s", "C", _AIHWKIT),
    read_noise_share=Number(0.0175, "1", "C", "IBM/aihwkit@4545f11, WeightNoiseType.PCM_READ, w_noise"),
    pulse_share=Number(0.5, "1", "X", "assumed"),
    window=Number(0.6, "uS", "X", "assumed: 2.4 % of Gmax; HERMES project chip: 5 ADC counts [N]"),
    averages=_AVERAGES,
    iterations=_ITERATIONS,
    step=Number(0.5, "1", "X", "assumed"),
)

IDEAL = Technology(
    name="ideal",
    gmax=Number(25.0, "uS", "C", _AIHWKIT),
    t0=Number(20.0, "s", "C", _AIHWKIT),
    pulse_share=Number(0.0, "1", "D", "no noise"),
    window=Number(0.15, "uS", "X", "assumed: half a code of a verify read"),
    averages=_AVERAGES,
    iterations=_ITERATIONS,
    step=Number(1.0, "1", "D", "nothing else disturbs"),
)

TECHNOLOGIES = {preset.name: preset for preset in (PCM, IDEAL)}


def technology(name: str) -> Technology:
    """Return a technology by name, or raise ValueError that lists the names."""
    if name not in TECHNOLOGIES:
        raise ValueError(f"unknown technology {name!r}: choose from {', '.join(TECHNOLOGIES)}")
    return TECHNOLOGIES[name]


def sigma_programmed(device: Technology, g: Floats) -> Floats:
    """Return the published spread (uS) of devices programmed to g; 0 if programming noise is off or absent."""
    g = np.asarray(g, np.float64)
    if not device.programming or device.programmed is None:
        return np.zeros_like(g)
    return np.asarray(np.polynomial.polynomial.polyval(g, device.programmed.many), np.float64)


def sigma_pulse(device: Technology, g: Floats) -> Floats:
    """Return the spread (uS) of one pulse to g; a pulse to 0 (RESET) is not verified, so it has the full spread."""
    g = np.asarray(g, np.float64)
    return sigma_programmed(device, g) * np.where(g > 0, device.pulse_share.one, 1.0)


def sigma_loop(device: Technology, g: Floats) -> Floats:
    """Return the spread (uS) that write-verify leaves at g: that of pulses accepted by a noisy read.

    A pulse x ~ N(0, sigma_pulse) is kept if |x + r| <= window with the read's r ~ N(0, sigma_read); the spread of the
    kept is integrated numerically.
    """
    sigma = sigma_pulse(device, g)
    z = np.linspace(-5, 5, 401)
    x = sigma[:, None] * z
    read = max(_verify_read_sigma(device), 1e-9)
    window = device.window.one
    kept = np.exp(-z * z / 2) * (_normal_cdf((window - x) / read) - _normal_cdf((-window - x) / read))
    return np.sqrt((kept * x * x).sum(axis=1) / kept.sum(axis=1))


def sigma_relaxed(device: Technology, g: Floats) -> Floats:
    """Return the spread (uS) that must follow write-verify so that programmed devices have the published one.

    Below three times the spread of a RESET device a programmed device cannot be told from a RESET one, which already
    has its full spread: there relaxation fades, with the square of g.
    """
    total = sigma_programmed(device, g)
    missing = np.sqrt(np.maximum(total**2 - sigma_loop(device, g)**2, 0))
    reset = 3 * float(sigma_programmed(device, np.zeros(1))[0]) / device.gmax.one
    return missing * (np.minimum(g / reset, 1)**2 if reset else 1.0)


def drift_mean(device: Technology, g: Floats) -> Floats:
    """Return the mean drift exponent at g; 0 if drift is off or absent."""
    return _log_law(device.drift_mean if device.drift else None, g)


def drift_spread(device: Technology, g: Floats) -> Floats:
    """Return the spread of the drift exponent from device to device at g; 0 if drift is off or absent."""
    return _log_law(device.drift_spread if device.drift else None, g)


def sigma_flicker(device: Technology, g: Floats, age_seconds: float) -> Floats:
    """Return the spread of 1/f noise at an age relative to the drifted conductance; 0 if off or absent."""
    g = np.asarray(g, np.float64)
    if not device.flicker or device.flicker_share is None:
        return np.zeros_like(g)
    first, power, top, floor = device.flicker_share.many
    t_read = device.number("t_read").one
    decades = math.log((age_seconds + device.t0.one + t_read) / (2 * t_read))
    return np.minimum(first / np.maximum(g**power, floor), top) * math.sqrt(decades)


def tables(device: Technology, age_seconds: float = 0.0) -> dict[Table, Ints]:
    """Return the tables of the device pipeline at an age, 256 integers each, indexed by the top byte of a g16.

    Raises
    ------
    ValueError
        If the age is negative.
    """
    _check_age(age_seconds)
    static = _static_tables(device)
    flicker = sigma_flicker(device, _entries(), age_seconds)
    return {table: values.copy() for table, values in static.items()} | {
        Table.FLICKER: _words(flicker * (1 << NU_FRACTION))}


@functools.lru_cache(maxsize=16)
def _static_tables(device: Technology) -> dict[Table, Ints]:
    """Return the tables that no age changes."""
    g = _entries()
    per_us = GMAX_G16 / device.gmax.one
    amplitude = np.where(np.arange(_ENTRIES) == 0, 0.0, g)  # entry 0 is RESET
    return {
        Table.PULSE_SIGMA: _words(sigma_pulse(device, amplitude) * per_us),
        Table.RELAX_SIGMA: _words(sigma_relaxed(device, g) * per_us),
        Table.NU_MEAN: _words(drift_mean(device, g) * (1 << NU_FRACTION)),
        Table.NU_SIGMA: _words(drift_spread(device, g) * (1 << NU_FRACTION)),
    }


def log_time(device: Technology, age_seconds: float) -> int:
    """Return log2((t + t0) / t0), 12 fraction bits."""
    _check_age(age_seconds)
    value = round(math.log2((age_seconds + device.t0.one) / device.t0.one) * (1 << LOG_TIME_FRACTION))
    return min(value, (1 << LOG_TIME_BITS) - 1)


def age_settings(device: Technology, age_seconds: float) -> dict[str, int]:
    """Return the registers of an age: `log_time`, and `age`, its coordinate in the hash."""
    value = log_time(device, age_seconds)
    return {"log_time": value, "age": value % (1 << AGE_BITS)}


def noise_gain(device: Technology, geometry: Geometry, rows: int) -> int:
    """Return K of the read noise of a tile of `rows` rows: a column's noise constant is isqrt(K * sum of |net|).

    sigma_y = share * sqrt(sum of |w| x**2), with w = net / (200 F) and x = a / 127; in charge units that is
    share * sqrt(200 F * mean |net| * sum of a**2).
    """
    share = _read_share(device)
    bits = register("engine", EngineRegion.REGISTERS, "noise_gain").bits
    value = round((share * (1 << NOISE_ROOT_FRACTION))**2 * _net_unit(geometry) / rows)
    if value >> bits:
        raise ValueError(f"read noise of technology {device.name!r} is too large for a tile of {rows} rows")
    return value


def verify_settings(device: Technology, geometry: Geometry) -> dict[str, int]:
    """Return the registers of the verify range and of the write-verify loop.

    The largest code stands for a cell whose (main) device is at 1.25 Gmax. The noise of verify reads does not depend
    on the cell: it is that of a cell at half of Gmax.
    """
    unit = _net_unit(geometry)
    full_scale = _FULL_SCALE * unit * ACTIVATION_MAX
    gain = min(round(geometry.code_max / full_scale * (1 << ADC_SHIFT)), (1 << ADC_GAIN_BITS) - 1)
    averages = int(device.averages.one)
    counts_per_g = averages * gain / (1 << ADC_SHIFT) * ACTIVATION_MAX / (1 << (G16_BITS - CODE_BITS))
    correction = device.step.one / counts_per_g * (1 << 8)
    window = device.window.one / device.gmax.one * GMAX_G16 * counts_per_g
    noise = _read_share(device) * math.sqrt(unit * unit / 2) * (1 << NOISE_ROOT_FRACTION)
    return {
        "verify_noise": min(round(noise), _WORD_MAX),
        "verify_gain": gain,
        "verify_offset": 0,
        "averages": averages,
        "window": max(1, round(window)),
        "iterations": int(device.iterations.one),
        "counts_per_g": min(round(counts_per_g * (1 << 16)), _WORD_MAX),
        "main_step": min(round(correction / geometry.significance), _WORD_MAX),
        "minor_step": min(round(correction), _WORD_MAX),
        "main_scale": round((1 << 15) / geometry.significance),
    }


def _verify_read_sigma(device: Technology) -> float:
    """Return the spread (uS) of the mean of a verify's reads; that of the ADC's rounding is not counted."""
    return _read_share(device) * math.sqrt(0.5 / device.averages.one) * device.gmax.one


def _read_share(device: Technology) -> float:
    return device.read_noise_share.one if device.read and device.read_noise_share is not None else 0.0


def _net_unit(geometry: Geometry) -> int:
    """Return the net of a cell whose main device is at Gmax."""
    return GMAX_CODE * geometry.significance


def _entries() -> Floats:
    """Return g at the middle of each entry of a table."""
    return (np.arange(_ENTRIES) + 0.5) * (1 << G16_BITS) / _ENTRIES / GMAX_G16


def _words(values: Floats) -> Ints:
    return np.clip(np.rint(values), 0, _WORD_MAX).astype(np.int64)


def _log_law(law: Number | None, g: Floats) -> Floats:
    g = np.asarray(g, np.float64)
    if law is None:
        return np.zeros_like(g)
    start, slope, low, high = law.many
    return np.clip(start + slope * np.log(np.maximum(g, 1e-7)), low, high)


_erf: Callable[[Floats], Floats] = np.vectorize(math.erf, otypes=[np.float64])


def _normal_cdf(z: Floats) -> Floats:
    return 0.5 * (1 + _erf(z / math.sqrt(2)))


def _check_age(age_seconds: float) -> None:
    if not (math.isfinite(age_seconds) and age_seconds >= 0):
        raise ValueError(f"age must be 0 or more seconds, not {age_seconds!r}")
