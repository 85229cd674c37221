"""What a chip is told of a technology: fixed-point tables and registers.

Tables have 256 entries, indexed by the top byte of a g16; entry 0 is a RESET device. How the published spread comes
about depends on the way of programming:

- *closed loop*: pulses scatter, write-verify keeps what its window accepts (spread sigma_loop), and a relaxation, drawn
  once for each device, fills up to the published spread: sigma_rel**2 = sigma_p**2 - sigma_loop**2;
- *statistical*, one pair: a pulse lands on its target and the whole spread is drawn once for each device, so that the
  drift exponent is drawn from the target, too;
- *statistical*, two pairs: each pulse has the whole spread, since the minor pair must see what the main one left.
"""

import functools
import math
from typing import Any

import numpy as np

from rtl.params import ACTIVATION_MAX, ADC_SHIFT, GMAX_CODE, Geometry, PulseKind, Table, preset
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
from sim.convergence import Convergence, Loop, converge
from sim.fixed import Ints
from sim.law import Floats
from sim.pulses import program_tables, pulse_kind, pulse_settings, pulse_tables
from sim.technology import (
    CLOSED_LOOP,
    STATISTICAL,
    Technology,
    drift_mean,
    drift_spread,
    heat_shift,
    mean_shift,
    sigma_flicker,
    sigma_programmed,
    sigma_pulse,
    sigma_read,
)

__all__ = ["age_settings", "column_noise", "convergence", "log_time", "noise_gain", "probe_settings",
           "programming_tables", "sigma_loop", "sigma_relaxed", "tables", "verify_settings", "window_counts"]

_ENTRIES = 256
_FULL_SCALE = 1.25  # of Gmax: what the largest code of a verify read stands for
_WORD_MAX = 65_535
_SHIFT_MAX = 32_767
_NOMINAL = preset("tiny")
_PROBE_AVERAGES = 4  # of a technology that is never verified
_STATISTICAL_AVERAGES = 16


def tables(device: Technology, age_seconds: float = 0.0, *, way: str = CLOSED_LOOP,
           geometry: Geometry = _NOMINAL) -> dict[Table, Ints]:
    """Return the tables of the device pipeline at an age, 256 integers each, indexed by the top byte of a g16.

    Raises
    ------
    ValueError
        If the age is none or outside the data, or the technology cannot be programmed in this way.
    """
    device.check_age(age_seconds)
    return {table: values.copy() for table, values in _tables(device, age_seconds, way, geometry).items()}


def programming_tables(device: Technology, *, way: str = CLOSED_LOOP,
                       geometry: Geometry = _NOMINAL) -> dict[Table, Ints]:
    """Return the tables that PROGRAM needs; AGE needs those of its age.

    Raises
    ------
    ValueError
        As `tables`.
    """
    found = tables(device, way=way, geometry=geometry)
    if pulse_kind(device, way) != PulseKind.MELT:
        found |= program_tables(device)
    return found


@functools.lru_cache(maxsize=64)
def _tables(device: Technology, age_seconds: float, way: str, geometry: Geometry) -> dict[Table, Ints]:
    device.check_way(way)
    g = _entries()
    per_unit = GMAX_G16 / device.range
    pulse = _sigma_landed(device, g, way, geometry)
    relaxed = sigma_relaxed(device, g, age_seconds, way=way, geometry=geometry)
    mean, spread = _exponents(device, g, way, geometry)
    headroom = 0.0 if device.headroom is None else device.headroom.one * device.range
    return {
        Table.PULSE_SIGMA: _words(pulse * per_unit),
        Table.RELAX_SIGMA: _words(relaxed * per_unit),
        Table.NU_MEAN: _words(mean * (1 << NU_FRACTION)),
        Table.NU_SIGMA: _words(spread * (1 << NU_FRACTION)),
        Table.FLICKER: _words(sigma_flicker(device, g, age_seconds) * (1 << NU_FRACTION)),
        Table.SHIFT: _signed_words((mean_shift(device, g, age_seconds) + heat_shift(device, g) + headroom) * per_unit),
    } | pulse_tables(device, geometry, way)


def _exponents(device: Technology, g: Floats, way: str, geometry: Geometry) -> tuple[Floats, Floats]:
    """Return mean and spread of the drift exponent of devices whose state is g.

    Sources draw it from the target, and write-verify leaves states beside it: their own spread and the law's bend are
    taken off, so that devices of one target have its mean and spread.
    """
    mean, spread = drift_mean(device, g), drift_spread(device, g)
    if way != CLOSED_LOOP or device.pulse != "melt":
        return mean, spread
    left = sigma_loop(device, g, geometry) / device.range
    slope = np.gradient(mean[1:], g[1:])
    bend = np.gradient(slope, g[1:])
    mean[1:] -= bend * left[1:]**2 / 2
    spread[1:] = np.sqrt(np.maximum(spread[1:]**2 - (slope * left[1:])**2, 0))
    return mean, spread


def _static(way: str, geometry: Geometry) -> bool:
    """Tell whether a state is exactly its target, the spread being drawn when it is aged."""
    return way == STATISTICAL and geometry.pairs == 1


def _sigma_landed(device: Technology, g: Floats, way: str, geometry: Geometry) -> Floats:
    """Return the spread of a single pulse."""
    if pulse_kind(device, way) != PulseKind.MELT:
        return np.zeros_like(g)
    if way != STATISTICAL:
        return sigma_pulse(device, g)
    return np.zeros_like(g) if _static(way, geometry) else sigma_programmed(device, g)


def sigma_relaxed(device: Technology, g: Floats, age_seconds: float = 0.0, *, way: str = CLOSED_LOOP,
                  geometry: Geometry = _NOMINAL) -> Floats:
    """Return the spread that is drawn when a device is aged, so that it has the published one at that age.

    A RESET device has all of it, as no loop works on it.

    Raises
    ------
    ValueError
        If write-verify leaves more than the published spread.
    """
    if not device.relaxation:
        return np.zeros_like(g)
    total = sigma_programmed(device, g, age_seconds)
    if way == STATISTICAL:
        return np.sqrt(np.maximum(total**2 - _sigma_landed(device, g, way, geometry)**2, 0))
    if pulse_kind(device, way) != PulseKind.MELT:  # small steps end anywhere in the window
        return np.sqrt(np.maximum(total**2 - np.where(g > 0, device.number("window").one**2 / 3, 0.0), 0))
    left = np.where(g > 0, sigma_loop(device, g, geometry), 0.0)
    _check_loop(device, geometry, g, left, sigma_programmed(device, g))
    return np.sqrt(np.maximum(total**2 - left**2, 0))


def _check_loop(device: Technology, geometry: Geometry, g: Floats, left: Floats, published: Floats) -> None:
    excess = np.where((g <= 1) & (published > 0), left - published, 0.0)
    k = int(excess.argmax())
    if excess[k] <= 0:
        return
    loop = _loop(device, geometry)
    if loop.read > loop.window / math.sqrt(3):
        what = f"{device.number('averages')} a verify are too few"
    else:
        what = f"the window of {device.number('window')} is too wide"
    raise ValueError(f"technology {device.name!r}: {what}: write-verify leaves {left[k]:.3g} {device.gmax.unit} at "
                     f"g = {g[k]:.2f}, more than the published {published[k]:.3g} {device.gmax.unit}")


def convergence(device: Technology, g: Floats, geometry: Geometry = _NOMINAL) -> Convergence:
    """Return how write-verify of one pair ends at each g > 0: spread, pulses, share of cells that converge."""
    return converge(_loop(device, geometry), np.asarray(sigma_pulse(device, g)))


def sigma_loop(device: Technology, g: Floats, geometry: Geometry = _NOMINAL) -> Floats:
    """Return the spread that write-verify leaves at g, in the unit of Gmax."""
    return np.interp(g, *_sigma_loop(device, geometry))


@functools.lru_cache(maxsize=64)
def _sigma_loop(device: Technology, geometry: Geometry) -> tuple[Floats, Floats]:
    g = np.linspace(0, GMAX_G16_SPAN, 33)
    g[0] = 1e-6
    return g, convergence(device, g, geometry).sigma


GMAX_G16_SPAN = (1 << G16_BITS) / GMAX_G16
"""Full scale of a conductance, as g."""


def _loop(device: Technology, geometry: Geometry) -> Loop:
    """Return what one cell's write-verify looks like, in the unit of Gmax."""
    averages = device.number("averages").one
    per_count = device.range / (GMAX_G16 * _counts_per_g16(device, geometry))
    rounding = device.range / GMAX_CODE  # of the present conductance
    return Loop(
        # The window is whole counts, and sums of codes are whole numbers.
        window=(window_counts(device, geometry) + 0.5) * per_count,
        read=math.sqrt((_verify_read(device) * device.range)**2 / averages + (averages * per_count)**2 / 12 / averages
                       + rounding**2 / 12),
        step=device.number("step").one, iterations=int(device.number("iterations").one))


def log_time(device: Technology, age_seconds: float) -> int:
    """Return log2((t + t0) / t0), 12 fraction bits; t0 is a second where there is none.

    Raises
    ------
    ValueError
        If the age is none, outside the data, or does not fit its register.
    """
    device.check_age(age_seconds)
    t0 = 1.0 if device.t0 is None else device.t0.one
    value = round(math.log2((age_seconds + t0) / t0) * (1 << LOG_TIME_FRACTION))
    if value >> LOG_TIME_BITS:
        raise ValueError(f"age {age_seconds:g} s is too large: a chip knows ages up to "
                         f"{1 << LOG_TIME_BITS - LOG_TIME_FRACTION} doublings of t0 = {t0:g} s")
    return value


def age_settings(device: Technology, age_seconds: float) -> dict[str, int]:
    """Return the registers of an age: `log_time`, and `age`, its coordinate in the hash."""
    value = log_time(device, age_seconds)
    return {"log_time": value, "age": value % (1 << AGE_BITS)}


def noise_gain(device: Technology, geometry: Geometry, rows: int) -> int:
    """Return K of the read noise of a tile of `rows` rows: a column's noise constant is isqrt(K * sum of |net|).

    That is read noise of share * sqrt(|w|): sigma_y = share * sqrt(sum of |w| x**2), with w = net / (200 F) and
    x = a / 127; in charge units share * sqrt(200 F * mean |net| * sum of a**2). Other laws give `column_noise`.
    """
    if not _root_law(device):
        return 0
    share = float(sigma_read(device, 1.0))
    bits = register("engine", EngineRegion.REGISTERS, "noise_gain").bits
    value = round((share * (1 << NOISE_ROOT_FRACTION))**2 * _net_unit(geometry) / rows)
    if value >> bits:
        raise ValueError(f"read noise of technology {device.name!r} is too large for a tile of {rows} rows")
    return value


def column_noise(device: Technology, geometry: Geometry, targets: Ints) -> Ints | None:
    """Return the noise constants of the columns of a tile of `targets` (rows, columns; g16, signed).

    None if they follow from the nets, by `noise_gain`, or if there is no read noise.
    """
    if device.read_noise is None or not device.read or _root_law(device):
        return None
    sigma = sigma_read(device, np.minimum(np.abs(targets) / (GMAX_G16 * geometry.significance), 1))
    constant = np.sqrt((sigma**2).mean(axis=0)) * _net_unit(geometry) * (1 << NOISE_ROOT_FRACTION)
    return np.minimum(np.rint(constant), _WORD_MAX).astype(np.int64)


def _root_law(device: Technology) -> bool:
    law = device.read_noise
    return law is not None and law.form == "power" and law.coefficients[1] == 0.5


def verify_settings(device: Technology, geometry: Geometry, way: str = CLOSED_LOOP) -> dict[str, int]:
    """Return the registers of the verify range and of the write-verify loop.

    The largest code stands for a cell whose (main) device is at 1.25 Gmax. The noise of verify reads does not depend
    on the cell: it is that of a cell at half of Gmax. Statistical programming of one pair is one pulse without a
    verify; of two pairs, one pulse a pair, the minor one after a read without noise.
    """
    counts_per_g = _counts_per_g16(device, geometry, way)
    step = 1.0 if way == STATISTICAL else device.number("step").one
    correction = step / counts_per_g * (1 << 8)
    common = {
        "verify_gain": _verify_gain(geometry),
        "verify_offset": 0,
        "averages": _averages(device, way),
        "counts_per_g": min(round(counts_per_g * (1 << 16)), _WORD_MAX),
        "main_step": min(round(correction / geometry.significance), _WORD_MAX),
        "minor_step": min(round(correction), _WORD_MAX),
        "main_scale": round((1 << 15) / geometry.significance),
    } | pulse_settings(device, geometry, way, counts_per_g)
    if way == STATISTICAL:
        return common | {"verify_noise": 0, "window": 0, "iterations": geometry.pairs - 1}
    return common | {
        "verify_noise": _verify_noise(_verify_read(device), geometry),
        "window": window_counts(device, geometry),
        "iterations": int(device.number("iterations").one),
    }


def probe_settings(device: Technology, geometry: Geometry) -> dict[str, int]:
    """Return the registers that a probe reads with: those of a verify read, however programming went.

    Its noise stays when that of programming's own reads (`verify_noise`) is switched off.
    """
    return {
        "verify_gain": _verify_gain(geometry),
        "averages": _PROBE_AVERAGES if device.averages is None else int(device.averages.one),
        "verify_noise": _verify_noise(float(sigma_read(device, 0.5)), geometry),
    }


def _verify_noise(sigma: float, geometry: Geometry) -> int:
    return min(round(sigma * _net_unit(geometry) * (1 << NOISE_ROOT_FRACTION)), _WORD_MAX)


def window_counts(device: Technology, geometry: Geometry) -> int:
    """Return the window as the chip knows it: the accepted difference of a sum of codes."""
    window = device.number("window").one / device.range * GMAX_G16 * _counts_per_g16(device, geometry)
    return max(1, round(window))


def _averages(device: Technology, way: str) -> int:
    return _STATISTICAL_AVERAGES if way == STATISTICAL else int(device.number("averages").one)


def _verify_gain(geometry: Geometry) -> int:
    full_scale = _FULL_SCALE * _net_unit(geometry) * ACTIVATION_MAX
    return min(round(geometry.code_max / full_scale * (1 << ADC_SHIFT)), (1 << ADC_GAIN_BITS) - 1)


def _counts_per_g16(device: Technology, geometry: Geometry, way: str = CLOSED_LOOP) -> float:
    """Return the sum of codes of a verify for each g16 of a net."""
    return (_averages(device, way) * _verify_gain(geometry) / (1 << ADC_SHIFT) * ACTIVATION_MAX
            / (1 << (G16_BITS - CODE_BITS)))


def _verify_read(device: Technology) -> float:
    """Return the noise of one verify read, in units of the largest weight."""
    return float(sigma_read(device, 0.5)) if device.verify_noise else 0.0


def _net_unit(geometry: Geometry) -> int:
    """Return the net of a cell whose main device is at Gmax."""
    return GMAX_CODE * geometry.significance


def _entries() -> Floats:
    """Return g of each entry of a table: its middle, and 0 for entry 0, where RESET devices are."""
    g = (np.arange(_ENTRIES) + 0.5) * (1 << G16_BITS) / _ENTRIES / GMAX_G16
    g[0] = 0.0
    return g


def _words(values: Any) -> Ints:
    return np.clip(np.rint(values), 0, _WORD_MAX).astype(np.int64)


def _signed_words(values: Any) -> Ints:
    return np.clip(np.rint(values), -_SHIFT_MAX, _SHIFT_MAX).astype(np.int64)
