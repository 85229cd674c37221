"""Figures of reports: plain results in, PNG out; no display needed.

One colour means one thing throughout: orange is the device as it is, blue is the device compensated, grey is the
exact network.
"""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from host.results import AccuracyAtAge, DemoResult, LayerAtAge, Maps, Pictures, age_name

__all__ = ["COMPENSATED", "EXACT", "MUTED", "PLAIN", "accuracy_over_time", "adc_histogram", "conductance_maps",
           "digits_with_answers", "layers_over_time", "picture",
           "write_verify_histograms"]

INK, MUTED, GRID = "#1f2933", "#66727f", "#e3e8ee"
PLAIN, COMPENSATED, EXACT = "#d9730d", "#2466a8", "#8a94a0"
DPI = 150

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.edgecolor": "#b8c1cb", "axes.labelcolor": MUTED, "axes.titlecolor": INK,
    "axes.linewidth": 0.8, "xtick.color": MUTED, "ytick.color": MUTED, "text.color": INK, "axes.grid": True,
    "grid.color": GRID, "grid.linewidth": 0.8, "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 8.5, "figure.facecolor": "white",
    "lines.linewidth": 1.8, "lines.markersize": 5,
}

Draw = Callable[[Figure], None]


def picture(width: float, height: float, draw: Draw) -> bytes:
    """Return a PNG of a figure that `draw` fills; size in inches."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def conductance_maps(found: Maps) -> bytes:
    """Return target, programmed and error of one layer, outputs upwards and inputs to the right."""
    def draw(figure: Figure) -> None:
        spread = max(float(np.percentile(np.abs(found.error), 99.5)), 1e-3)
        panels = (("target", found.target, found.gmax), ("programmed, as probes read it", found.programmed, found.gmax),
                  ("error", found.error, spread))
        axes = figure.subplots(1, 3, sharey=True)
        for axis, (title, values, limit) in zip(axes, panels, strict=True):
            shown = axis.imshow(values.T, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", origin="lower",
                                interpolation="nearest")
            axis.set_title(title)
            axis.grid(False)
            axis.set_xlabel("input")
            bar = figure.colorbar(shown, ax=axis, orientation="horizontal", fraction=0.06, pad=0.02, aspect=30)
            bar.outline.set_visible(False)
            bar.ax.set_xlabel("net conductance, µS")
        axes[0].set_ylabel(f"output of {found.layer}")

    return picture(11, 3.6, draw)


def write_verify_histograms(pictures: Pictures, per_us: float) -> bytes:
    """Return pulses of each cell, and the error that the last verify saw; `per_us` is counts in a uS."""
    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        counts = np.bincount(pictures.pulses)
        left.bar(np.arange(len(counts)), np.maximum(counts, 0.5), color=COMPENSATED, width=0.8)
        left.set_yscale("log")
        left.set_ylim(0.7, counts.max() * 2)
        left.set_title("Pulses until a cell converged")
        left.set_xlabel("pulses, RESET of each device included")
        left.set_ylabel("cells")
        left.grid(axis="x", visible=False)
        left.locator_params(axis="x", integer=True)

        errors = (pictures.sums - pictures.wanted_sums) / per_us
        window = (pictures.verify_window + 0.5) / per_us  # the wanted sum is rounded, too
        limit = max(2.5 * window, float(np.abs(errors).max()) if len(errors) < 2 else 0)
        right.axvspan(-window, window, color="#e8f0f8", zorder=0)
        right.hist(np.clip(errors, -limit, limit), bins=81, range=(-limit, limit), color=COMPENSATED)
        right.set_title("Error in the last verify, and its window")
        right.set_xlabel("read minus wanted, µS")
        right.set_ylabel("cells")
        right.grid(axis="x", visible=False)

    return picture(11, 3.1, draw)


def _time_axis(axis: Axes, seconds: Sequence[float], t0: float) -> None:
    """Lay out a logarithmic axis of the time since the last pulse, named by age."""
    places = [value + t0 for value in seconds]
    axis.set_xscale("log")
    axis.set_xticks(places, [age_name(value) for value in seconds])
    axis.set_xticks([], minor=True)
    axis.set_xlim(places[0] / 1.8, places[-1] * 1.8)
    axis.grid(axis="x", visible=False)


def layers_over_time(points: Sequence[LayerAtAge], t0: float) -> bytes:
    """Return gain and relative error of every layer over time, with and without compensation."""
    names = list(dict.fromkeys(point.layer for point in points))
    seconds = sorted({point.seconds for point in points})

    def draw(figure: Figure) -> None:
        gains, errors = figure.subplots(1, 2)
        for axis in (gains, errors):
            _time_axis(axis, seconds, t0)
        for k, name in enumerate(names):
            for compensated, colour in ((False, PLAIN), (True, COMPENSATED)):
                chosen = sorted((p for p in points if p.layer == name and p.compensated == compensated),
                                key=lambda p: p.seconds)
                x = [p.seconds + t0 for p in chosen]
                style = {"color": colour, "linestyle": ("-", "--", ":", "-.")[k % 4], "marker": "osD^"[k % 4],
                         "label": f"{name}, {'compensated' if compensated else 'as it is'}"}
                gains.plot(x, [p.gain for p in chosen], **style)
                errors.plot(x, [100 * p.relative_error for p in chosen], **style)
        gains.axhline(1, color=EXACT, linewidth=1, zorder=0)
        gains.set_ylim(0, 1.15)
        gains.set_title("Gain of each layer")
        gains.legend(loc="lower left")
        errors.set_ylim(0, None)
        errors.set_title("Relative error of each layer's outputs, %")

    return picture(11, 3.6, draw)


def accuracy_over_time(points: Sequence[AccuracyAtAge], exact: float, t0: float) -> bytes:
    """Return accuracy over time with the spread over programmings, beside that of the exact network."""
    seconds = sorted({point.seconds for point in points})

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        _time_axis(axis, seconds, t0)
        axis.axhline(100 * exact, color=EXACT, linewidth=1.2, label="exact network")
        lows = [100 * exact]
        for compensated, colour in ((False, PLAIN), (True, COMPENSATED)):
            chosen = sorted((p for p in points if p.compensated == compensated), key=lambda p: p.seconds)
            x = np.array([p.seconds + t0 for p in chosen])
            mean, sigma = (100 * np.array([getattr(p, name) for p in chosen]) for name in ("accuracy", "sigma"))
            axis.fill_between(x, mean - sigma, mean + sigma, color=colour, alpha=0.15, linewidth=0)
            axis.plot(x, mean, color=colour, marker="o", label="compensated" if compensated else "as it is")
            for p, place in zip(chosen, x, strict=True):
                axis.plot([place] * len(p.values), [100 * v for v in p.values], ".", color=colour, markersize=3,
                          alpha=0.6)
            lows.append(float(min(100 * v for p in chosen for v in p.values)))
        axis.set_ylim(max(0, math.floor(min(lows) - 1)), min(100.3, 100 * exact + 1.5))
        axis.set_title("Accuracy, %: mean, spread and each programming")
        axis.legend(loc="lower left")

    return picture(6.2, 3.5, draw)


def adc_histogram(codes: Any, clips: float) -> bytes:
    """Return how often each ADC code came."""
    counts = np.asarray(codes)
    limit = len(counts) // 2

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        axis.bar(np.arange(-limit, limit + 1), counts, width=1.0, color=COMPENSATED)
        axis.set_yscale("symlog", linthresh=1)
        axis.set_ylim(0, max(int(counts.max()), 1) * 2)
        axis.set_xlim(-limit * 1.03, limit * 1.03)
        axis.set_title(f"ADC codes of inference; {clips:.3%} clipped")
        axis.set_xlabel("code")
        axis.set_ylabel("conversions")
        axis.grid(axis="x", visible=False)

    return picture(6.2, 3.5, draw)


def digits_with_answers(pictures: Pictures) -> bytes:
    """Return digits with the answer of the chip under each, wrong ones in orange with what is right."""
    side = math.isqrt(pictures.digits.shape[1])
    columns = min(10, len(pictures.digits))
    rows = -(-len(pictures.digits) // columns)

    def draw(figure: Figure) -> None:
        axes = np.asarray(figure.subplots(rows, columns, squeeze=False)).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, image, label, answer, sure in zip(axes, pictures.digits, pictures.labels, pictures.answers,
                                                    pictures.confidence, strict=False):
            axis.imshow(image.reshape(side, side), cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
            right = label == answer
            axis.set_title(f"{answer}" if right else f"{answer}, not {label}", loc="center", fontsize=11,
                           color=INK if right else PLAIN)
            axis.text(0.5, -0.06, f"{sure:.0%}", transform=axis.transAxes, ha="center", va="top", fontsize=7.5,
                      color=MUTED)

    return picture(11, 1.35 * rows + 0.15, draw)


def all_figures(result: DemoResult, pictures: Pictures, *, t0: float, per_us: float) -> dict[str, bytes]:
    """Return every figure of the demonstration by name."""
    figures = {f"maps-{k}": conductance_maps(found) for k, found in enumerate(pictures.maps)}
    return figures | {
        "layers": layers_over_time(result.layers_by_age, t0),
        "accuracy": accuracy_over_time(result.accuracy_by_age, result.accuracy_float, t0),
        "write-verify": write_verify_histograms(pictures, per_us),
        "adc": adc_histogram(pictures.codes, pictures.clips),
        "digits": digits_with_answers(pictures),
    }
