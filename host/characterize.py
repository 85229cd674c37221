"""The work behind `bitline characterize`: what a technology does, a page a subject, beside the published curve.

Blue is emulated, by the bit-exact model; grey is what the source says. A page without a source is left out, by name.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from host.console import Screen
from host.crossbar import Crossbar
from host.errors import BitlineError
from host.figures import COMPENSATED, EXACT, MUTED, PLAIN, picture
from host.honesty import assumed, marks, modelled, not_modelled
from host.results import age_name
from rtl.params import GMAX_CODE
from rtl.params.formats import GMAX_G16
from sim.array import Pulses
from sim.pulses import nominal_move, train
from sim.tables import convergence, window_counts
from sim.technology import (
    CLOSED_LOOP,
    STATISTICAL,
    Technology,
    drift_mean,
    mean_shift,
    sigma_flicker,
    sigma_programmed,
    sigma_pulse,
    sigma_read,
)

__all__ = ["characterize"]

Floats = NDArray[np.float64]
Page = Callable[[Technology, int], bytes]

CELLS = 400
"""Devices of each target."""
FAN = (0.1, 0.25, 0.5, 1.0)
DAY = 86_400.0
_PULSES_MAX = 250  # up, and down: their numbers are below 2**9
_AGES = (0.0, 600.0, 3600.0, DAY, 30 * DAY, 365 * DAY)
_SHADES = ("#9ecae1", "#6baed6", "#3182bd", "#08519c")


class _AbsentError(Exception):
    """A page that nothing is known for; the sentence says what."""


def characterize(kind: Technology, directory: Path, seed: int, screen: Screen) -> dict[str, Any]:
    """Draw every page that the technology has numbers for; print and return what was drawn and what was not.

    Raises
    ------
    BitlineError
        If the directory cannot be written.
    """
    drawn: dict[str, str] = {}
    absent: dict[str, str] = {}
    for name, page in _PAGES.items():
        with screen.stage(name):
            try:
                content = page(kind, seed)
            except _AbsentError as error:
                absent[name] = str(error)
                continue
        path = directory / f"{name}.png"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise BitlineError(f"the pages cannot be written to {directory}: {error.strerror}") from error
        drawn[name] = str(path)
        screen.say(f"{name}: {path}")
    for name, why in absent.items():
        screen.say(f"{name}: left out: {why}")
    way = CLOSED_LOOP if _has_loop(kind) else STATISTICAL
    geometry = Crossbar(_nominal(kind), 4, 4, way=STATISTICAL).geometry
    said = {"modelled": modelled(kind, geometry, way), "not_modelled": not_modelled(kind), "assumed": assumed(kind)}
    for title, lines in said.items():
        screen.say(f"{title.replace('_', ' ')}: {'; '.join(lines)}")
    for mark in marks(kind, 0.0):
        screen.say(mark)
    return {"technology": kind.name, "pages": drawn, "absent": absent, **said}


def _has_loop(kind: Technology) -> bool:
    return kind.pulse == "melt" and kind.pulse_share is not None


def _nominal(kind: Technology) -> Technology:
    """Return a technology whose geometry stands for any: that of a tile does not depend on it."""
    return kind.replace(pulse="melt", steady=True)


def _published(kind: Technology) -> None:
    if kind.programmed is None and not kind.steady:
        raise _AbsentError(f"{kind.name} has no spread of programmed devices")
    if kind.pulse == "bits":
        raise _AbsentError(f"{kind.name} holds bits: there is no pulse response to draw")


def _tile(kind: Technology, g: Floats, seed: int, way: str) -> Crossbar:
    """Return a tile with a row of `CELLS` devices for each target g, partners ideal."""
    return Crossbar(kind, len(g), CELLS, way=way, seed=seed, ideal_partner=True).program(g[:, None])


def _unit(kind: Technology) -> str:
    return kind.gmax.unit.replace("uS", "µS")


def _spread_source(kind: Technology) -> str:
    return "there is none, by definition" if kind.programmed is None else kind.programmed.source


def _lowest(kind: Technology) -> float:
    return 0.0 if kind.gmin is None else kind.gmin.one


def _note(figure: Figure, kind: Technology, text: str) -> None:
    figure.suptitle(f"{kind.name}: {kind.title}", x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.supxlabel(text, x=0.01, ha="left", fontsize=7.5, color=MUTED)


# --- pages ----------------------------------------------------------------------------------------------------------

def _pulse_response(kind: Technology, seed: int) -> bytes:
    """What a pulse does: a new state of a melt device, or steps up and down."""
    if _has_loop(kind):
        return _melt_response(kind, seed)
    if kind.step_up is None:
        raise _AbsentError(f"{kind.name} has no pulse response")
    return _step_response(kind, seed)


def _melt_response(kind: Technology, seed: int) -> bytes:
    g = np.linspace(0.02, 1.1, 41)
    tile = Crossbar(kind, len(g), CELLS, seed=seed).program(np.zeros((len(g), CELLS)))
    mask = np.zeros((len(g), CELLS, 2), bool)
    mask[..., 0] = True
    amplitude = np.broadcast_to(np.rint(g * GMAX_G16).astype(np.int64)[:, None], (len(g), CELLS))
    tile.core.programming.array.pulse(tile.core.settings, tile.core.records[0], np.arange(len(g)),
                                      Pulses.melt(mask, amplitude), 1)
    states = tile.states[..., 0] * kind.range / GMAX_G16
    law = sigma_pulse(kind, g)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        wanted = g * kind.range
        left.fill_between(wanted, wanted - 2 * law, wanted + 2 * law, color=EXACT, alpha=0.3, linewidth=0,
                          label="law: two spreads about the amplitude")
        left.plot(np.repeat(wanted, 40), states[:, :40].ravel(), ".", color=COMPENSATED, markersize=1.6,
                  label="emulated: one pulse each, after RESET")
        left.set_title(f"State left by one pulse, {_unit(kind)}")
        left.set_xlabel(f"amplitude: the conductance aimed at, {_unit(kind)}")
        left.legend(loc="upper left")
        right.plot(wanted, law, color=EXACT, linewidth=3, label=f"assumed: {kind.number('pulse_share').one:g} of the "
                                                                "published spread")
        right.plot(wanted, states.std(axis=1), "o", color=COMPENSATED, markersize=3.5, label="emulated")
        right.set_ylim(0, None)
        right.set_title(f"Spread of one pulse, {_unit(kind)}")
        right.set_xlabel(f"amplitude, {_unit(kind)}")
        right.legend(loc="lower right")
        _note(figure, kind, f"source of the spread: {_spread_source(kind)}")

    return picture(10, 4, draw)


def _step_response(kind: Technology, seed: int) -> bytes:
    """Pulses up, then down: devices of the model, and the mean law in floating point."""
    up, down = kind.law("step_up"), kind.step_down
    nominal = train(kind)
    pulses = int(np.clip(2.5 / nominal_move(kind), 10, _PULSES_MAX))
    ways = (False, True) if down else (False,)
    tile = Crossbar(kind, 3, 4, seed=seed).begin(0.0)
    devices = np.array([tile.pulse(down=falls, number=1 + falls * _PULSES_MAX + k).ravel()
                        for falls in ways for k in range(pulses)])
    count = nominal * np.arange(1, len(devices) + 1)
    g, mean = 0.0, []
    for law, sign in ((up, 1.0), *([(down, -1.0)] if down else [])):
        for _ in range(nominal * pulses):
            g = float(np.clip(g + sign * law(g), 0, 1))
            mean.append(g)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        left.plot(count, devices, color=COMPENSATED, linewidth=0.6, alpha=0.6)
        left.plot([], color=COMPENSATED, label=f"emulated: {devices.shape[1]} devices")
        left.plot(range(1, len(mean) + 1), mean, color=PLAIN, label="mean law, published")
        left.set_ylim(-0.03, 1.03)
        single = nominal * pulses
        left.set_title(f"g over {single:,} pulses up" + (f", then {single:,} down" if down else " (RESET goes back)"))
        left.set_xlabel("pulse")
        left.legend(loc="upper right" if down else "lower right")
        at = np.linspace(0, 1, 101)
        right.plot(at, up(at), color=COMPENSATED, label="up")
        if down is not None:
            right.plot(at, down(at), color=PLAIN, label="down")
        right.set_ylim(0, None)
        right.set_title("Step of one pulse, published")
        right.set_xlabel("g")
        right.legend()
        together = f"; the model gives {nominal} pulses at once" if nominal > 1 else ""
        _note(figure, kind, f"source: {up.source}{together}")

    return picture(10, 4, draw)


def _one(number: Any) -> float:
    return 0.0 if number is None else float(number.one)


def _programming_error(kind: Technology, seed: int) -> bytes:
    """Spread of programmed devices against their target, in each way of programming that there is."""
    _published(kind)
    quiet = kind.replace(flicker_noise=False)
    g = np.linspace(0.02, 1.0, 50)
    ways = {STATISTICAL: COMPENSATED} | ({CLOSED_LOOP: PLAIN} if _has_loop(kind) else {})
    errors = {way: _tile(quiet, g, seed, way).devices()[0][..., 0] - (_lowest(kind) + g[:, None] * kind.range)
              for way in ways}

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        x = _lowest(kind) + g * kind.range
        left.plot(x, sigma_programmed(kind, g), color=EXACT, linewidth=3, label="published")
        for way, colour in ways.items():
            left.plot(x, errors[way].std(axis=1), "o", color=colour, markersize=3.5, label=f"emulated, {way}")
        left.set_ylim(0, None)
        left.set_title(f"Spread of programmed devices, {_unit(kind)}")
        left.set_xlabel(f"target, {_unit(kind)}")
        left.legend(loc="lower right")
        for way, colour in ways.items():
            right.plot(np.repeat(x, 30), errors[way][:, :30].ravel(), ".", color=colour, markersize=1.8, alpha=0.7)
        right.plot(x, 2 * sigma_programmed(kind, g), x, -2 * sigma_programmed(kind, g), color=EXACT, linewidth=1.2)
        right.set_title(f"Programmed less target, {_unit(kind)}; lines: two published spreads")
        right.set_xlabel(f"target, {_unit(kind)}")
        _note(figure, kind, f"{CELLS} devices a target; source: {_spread_source(kind)}")

    return picture(10, 4, draw)


def _ages(kind: Technology) -> tuple[float, ...]:
    """Return the ages to draw: those that the data reach."""
    laws = [law for law in (kind.spread, kind.shift) if law is not None]
    if not laws:
        if kind.drift_mean is None and not kind.steady:
            raise _AbsentError(f"{kind.name} has no law of time")
        return _AGES
    if laws[0].between == "refused":
        return laws[0].ages
    if laws[0].between == "linear":
        return tuple(np.linspace(laws[0].ages[0], laws[0].ages[-1], 6).tolist())
    return (laws[0].ages[0], *_AGES[1:])


def _drift_fan(kind: Technology, seed: int) -> bytes:
    """Conductances over time: percentiles of devices of four targets."""
    _published(kind)
    ages, g = _ages(kind), np.array(FAN)
    tile = _tile(kind.replace(read=False), g, seed, STATISTICAL)
    seen = []
    for age in ages:
        tile.age(age)
        values = tile.devices()[0][..., 0] if kind.drift_mean is None else \
            _lowest(kind) + tile.nets / GMAX_CODE * kind.range
        seen.append(np.percentile(values, (5, 25, 50, 75, 95), axis=1))
    bands = np.array(seen)  # (ages, percentiles, targets)
    t0 = 1.0 if kind.t0 is None else kind.t0.one

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        x = np.array(ages) + (0.0 if kind.spread else t0)
        x = np.maximum(x, 1.0) if not _linear(kind) else x
        for k, (value, colour) in enumerate(zip(g, _SHADES, strict=True)):
            axis.fill_between(x, bands[:, 0, k], bands[:, 4, k], color=colour, alpha=0.2, linewidth=0)
            axis.fill_between(x, bands[:, 1, k], bands[:, 3, k], color=colour, alpha=0.35, linewidth=0)
            axis.plot(x, bands[:, 2, k], "o-", color=colour, markersize=3.5, label=f"g = {value:g}: emulated median")
            mean = [_expected(kind, float(value), age, t0) for age in ages]
            axis.plot(x, mean, "--", color="black", linewidth=1, label="published mean" if not k else None)
        _over_time(axis, kind, ages, x)
        axis.set_ylim(0, 1.2 * float(bands.max()))
        axis.set_title(f"Conductance over time, {_unit(kind)}: median, half and nine tenths of the devices")
        axis.legend(loc="upper right", ncols=2, fontsize=7.5)
        source = (kind.drift_mean or kind.spread or kind.gmax).source
        noise = ", 1/f noise included" if kind.flicker else ""
        _note(figure, kind, f"{CELLS} devices a target{noise}; source: {source}")

    return picture(8, 4.6, draw)


def _expected(kind: Technology, g: float, age: float, t0: float) -> float:
    target = _lowest(kind) + g * kind.range
    return float((target + mean_shift(kind, g, age)) * ((age + t0) / t0) ** -drift_mean(kind, g))


def _linear(kind: Technology) -> bool:
    return kind.spread is not None and kind.spread.between == "linear"


def _over_time(axis: Axes, kind: Technology, ages: tuple[float, ...], x: Floats) -> None:
    if not _linear(kind):
        axis.set_xscale("log")
    axis.set_xticks(x, [age_name(age) for age in ages], rotation=20, ha="right")
    axis.set_xticks([], minor=True)
    axis.set_xlabel("time since programming")


def _read_noise(kind: Technology, seed: int) -> bytes:
    """1/f noise over time, and white noise of reads."""
    _published(kind)
    if kind.flicker is None and kind.read_noise is None:
        raise _AbsentError(f"{kind.name} has no read noise")
    ages = _AGES if kind.drift_mean is not None else (1.0, *_AGES[1:])
    silent = kind.replace(programming=False, drift=False, read=False, extrapolate=True)
    g = np.array(FAN)
    tile = _tile(silent, g, seed, STATISTICAL)
    fixed = np.array([tile.age(age).nets.std(axis=1) for age in ages]) / GMAX_CODE  # in units of the range

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        t0 = 1.0 if kind.t0 is None else kind.t0.one
        x = np.array(ages) + (t0 if kind.drift_mean is not None else 0.0)
        for k, (value, colour) in enumerate(zip(g, _SHADES, strict=True)):
            if kind.flicker is None:
                continue
            law = [float(sigma_flicker(silent, value, age)) * (value + _one(kind.headroom)) for age in ages]
            left.plot(x, 100 * np.array(law), color=EXACT, linewidth=3, label="published" if not k else None)
            left.plot(x, 100 * fixed[:, k], "o", color=colour, markersize=4, label=f"g = {value:g}: emulated")
        if kind.flicker is None:
            left.text(0.5, 0.5, "no 1/f noise: no source tells it", transform=left.transAxes, ha="center", color=MUTED)
        else:
            left.legend(loc="upper left", fontsize=7.5, ncols=2)
            left.set_ylim(0, 1.3 * left.get_ylim()[1])
        left.set_xscale("log")
        left.set_xticks(x, [age_name(age) for age in ages], rotation=20, ha="right")
        left.set_xticks([], minor=True)
        left.set_ylim(0, left.get_ylim()[1])
        left.set_title("1/f noise of one device, % of the range")
        left.set_xlabel("time since programming")
        at = np.linspace(0, 1, 101)
        if kind.read_noise is None:
            right.text(0.5, 0.5, "no white noise: no source tells it", transform=right.transAxes, ha="center",
                       color=MUTED)
        else:
            right.plot(at, 100 * sigma_read(kind, at), color=EXACT, linewidth=3, label="published")
            right.plot(g, 100 * _white(kind, g, seed), "o", color=COMPENSATED, label="emulated, one read of one row")
            right.legend(loc="lower right")
        right.set_ylim(0, 1.15 * right.get_ylim()[1])
        right.set_title("White noise of one read, % of the range")
        right.set_xlabel("g")
        partner = "" if kind.headroom is None else "; a partner at Gmin adds its own"
        _note(figure, kind, f"1/f noise is read in steps of the engine's code, 0.5 % of the range{partner}; source: "
              f"{(kind.flicker or kind.read_noise or kind.gmax).source}")

    return picture(10, 4, draw)


def _white(kind: Technology, g: Floats, seed: int) -> Floats:
    """Return the white noise of many reads of one row, for weights g, in units of the range."""
    silent = kind.replace(programming=False, drift=False, flicker_noise=False)
    reads, found = 2000, []
    for value in g:
        tile = Crossbar(silent, 4, 4, way=STATISTICAL, seed=seed, adc_bits=12, ideal_partner=True).program(
            np.full((4, 4), value))
        found.append(float(tile.multiply(np.full((reads, 4), 1.0)).std()) / 2)  # four rows: twice one row's
    return np.array(found)


def _convergence(kind: Technology, seed: int) -> bytes:
    """How write-verify ends: cells that have converged after each pulse, and pulses against the target."""
    try:
        kind.check_way(CLOSED_LOOP)
    except ValueError as error:
        raise _AbsentError(str(error)) from None
    g = np.linspace(0.02, 1.0, 50)
    tile = Crossbar(kind, len(g), CELLS, seed=seed).program(g[:, None])
    pulses = (tile.outcomes >> 8 & 0xFF) - 2
    done = (tile.outcomes & 1).astype(bool)
    law = convergence(kind, g, tile.geometry) if _has_loop(kind) else None
    most = max(int(kind.number("iterations").one), int(pulses.max()))
    count = np.arange(1, most + 1)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        shares = [100 * float((done & (pulses <= k)).mean()) for k in count]
        if law is not None:
            left.plot(count[:law.pulses.shape[1]], 100 * np.cumsum(law.pulses.mean(axis=0)), color=EXACT, linewidth=3,
                      label="by integration")
        left.plot(count, shares, "o", color=COMPENSATED, markersize=3.5, label="emulated")
        left.axhline(99, color=MUTED, linewidth=1, linestyle=":")
        left.set_ylim(min(shares[0], 60) - 5, 101)
        left.set_title(f"Cells converged, %: {shares[-1]:.2f} within {most} pulses")
        left.set_xlabel("pulses after RESET")
        left.legend(loc="lower right")
        x = g * kind.range
        if law is not None:
            mean = (law.pulses @ count[:law.pulses.shape[1]]) / np.maximum(law.converged, 1e-12)
            right.plot(x, mean, color=EXACT, linewidth=3, label="by integration")
        right.plot(x, pulses.mean(axis=1), "o", color=COMPENSATED, markersize=3.5, label="emulated")
        right.set_ylim(0, None)
        right.set_title("Pulses a cell, RESET not counted")
        right.set_xlabel(f"target, {_unit(kind)}")
        right.legend(loc="lower right")
        _note(figure, kind, f"window {kind.number('window')} ({window_counts(kind, tile.geometry)} counts of a sum of "
              f"{kind.number('averages')}); no published curve: window, averages, step and pulse spread are assumed")

    return picture(10, 4, draw)


_PAGES: dict[str, Page] = {
    "pulse-response": _pulse_response, "programming-error": _programming_error, "drift-fan": _drift_fan,
    "read-noise": _read_noise, "convergence": _convergence}
