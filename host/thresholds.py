"""Figures that do not depend on the machine, and whether one has got worse: the work behind `bitline figures`.

Cycles are counted in the verilated chip, cells after synthesis; both depend on nothing but sources and tools, but for
how many requests the host has sent when the chip looks, which moves what is counted through the link a little. What
place and route found is read from the reports of builds, where they are. `tests/figures.json` keeps what was reached.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from host import boards_entry
from host.api import open_device
from host.bench import LATENCY_IMAGES, cycles_of
from host.compiler import compile_network
from host.console import Screen
from host.demo import stream_speed
from host.errors import BitlineError
from host.line import line_speed
from host.speed import random_network
from rtl.params import preset
from sim.presets import technology

__all__ = ["BUILDS", "KEPT", "Verdict", "build_reports", "judge", "run_figures"]

_ROOT = Path(__file__).resolve().parent.parent
KEPT = _ROOT / "tests" / "figures.json"
BUILDS = _ROOT / "build"
GEOMETRY, SIZES = "small", (64, 48, 10)
"""The chip that is verilated, and the network on it: two engines, layers of several tiles, two folds a column."""
SYNTHESISED = "tiny"
"""The chip that is synthesised: every component, in a minute or two."""
CELLS = ("LUT4", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4", "DP16KD", "MULT18X18D")
IMAGES = 64
LINK_MARGIN = 0.03
"""Of figures through the link, what may be the host's doing: 1.6 % were seen."""
MHZ_MARGIN = 0.12
"""Of frequencies, what any change of the gates may do: seeds of one netlist are as far from their median."""

Figures = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is to be said of one figure."""

    sentence: str
    worse: bool


def run_figures(*, accept: bool, screen: Screen) -> dict[str, Any]:
    """Measure, compare and print; with `accept`, keep what was measured. `worse` is the number of those."""
    found = {f"chip {GEOMETRY}": _stage(screen, "cycles of the verilated chip", _cycles),
             f"chip {SYNTHESISED} after synthesis": _stage(screen, "synthesis", _cells)}
    found |= _builds(BUILDS)
    tools = boards_entry.versions()
    if accept:
        _write({"tools": tools, "figures": {**_read()["figures"], **found}})
    kept = _read()
    verdicts = judge(kept["figures"], found)
    if kept["tools"] != tools:
        screen.say(f"the figures kept are of {kept['tools']}, these are of {tools}: cells and frequencies may "
                   "differ for that alone")
    screen.table(["", "figure", "now", "kept"], [
        (group, name, _shown(value), _shown(kept["figures"].get(group, {}).get(name)))
        for group, figures in found.items() for name, value in figures.items()])
    for verdict in verdicts:
        screen.say(verdict.sentence)
    worse = sum(verdict.worse for verdict in verdicts)
    if not verdicts:
        screen.say("every figure is as kept")
    return {"figures": found, "tools": tools, "worse": worse, "sentences": [verdict.sentence for verdict in verdicts]}


def _shown(value: float | None) -> str:
    return "new" if value is None else f"{value:,.10g}"


def judge(kept: Mapping[str, Mapping[str, float]], found: Mapping[str, Mapping[str, float]]) -> list[Verdict]:
    """Return a sentence for each figure that is not as kept; more MHz are better, less of everything else.

    Of builds (groups "build ...") only those are looked at whose report was there. A group that is new is told as one.
    """
    verdicts = []
    for group, figures in kept.items():
        for name, before in figures.items():
            if group not in found and group.startswith("build "):
                continue
            now = found.get(group, {}).get(name)
            if now is None:
                verdicts.append(Verdict(f"{group}: {name} was {before:,.10g} and is not measured any more", worse=True))
            elif abs(now - before) > _margin(name) * before:
                worse = now < before if name == "MHz" else now > before
                verdicts.append(Verdict(
                    f"{group}: {name} {'got worse' if worse else 'got better'}, {before:,.10g} before and {now:,.10g} "
                    f"now{'' if worse else ': run bitline figures --accept to hold it there'}", worse))
    for group, figures in found.items():
        new = [f"{group}: {name}" for name in figures if name not in kept[group]] if group in kept else [group]
        verdicts += [Verdict(f"{what} is new: run bitline figures --accept to keep it", False) for what in new]
    return verdicts


def _margin(name: str) -> float:
    return MHZ_MARGIN if name == "MHz" else LINK_MARGIN if "link" in name else 0.0


def _stage(screen: Screen, name: str, measure: Any) -> Figures:
    with screen.stage(name):
        figures: Figures = measure(screen)
        return figures


def _cycles(screen: Screen) -> Figures:
    """Return cycles of the verilated chip: only those of write-verify depend on what the devices hold."""
    x = np.random.default_rng(1).uniform(0, 1, (IMAGES, SIZES[0]))
    placement = compile_network(random_network(SIZES), preset(GEOMETRY), x)
    with open_device(f"sim:{GEOMETRY}", seed=1, progress=screen.tell) as device:
        device.configure(placement)
        programming = cycles_of(device, lambda: device.program(technology("pcm"), progress=screen.progress))
        device.infer_codes(x[:LATENCY_IMAGES])
        single = cycles_of(device, lambda: [device.infer_codes(x[k:k + 1]) for k in range(LATENCY_IMAGES)])
        busy, streaming, _ = stream_speed(device, x)
    if programming is None or single is None or busy is None or streaming is None:
        raise BitlineError("the simulated chip counts no cycles")
    line = line_speed(placement, x, screen, streamed=IMAGES // 4)
    return {"cycles an image while the busiest engine computes": busy,
            "cycles an image, streaming through the link": streaming,
            "cycles an image, streaming through a link of 3 Mbaud": line.streamed,
            "cycles an image, replayed through a link of 3 Mbaud": line.replayed,
            "cycles of a single image, link included": single / LATENCY_IMAGES,
            "cycles to program all rows by write-verify, link included": programming}


def _cells(screen: Screen) -> Figures:
    found = boards_entry.cells(preset(SYNTHESISED), screen.tell)
    return {name: float(found.get(name, 0)) for name in CELLS}


def build_reports(directory: Path) -> list[dict[str, Any]]:
    """Return the reports that builds have left in a directory of directories (`boards.build.Report`).

    nextpnr's own, and those of builds of older versions, have another shape and are left out.
    """
    reports = [json.loads(path.read_text("utf-8")) for path in sorted(directory.glob("*/*.report.json"))]
    return [report for report in reports if "medians" in report]


def _builds(directory: Path) -> dict[str, Figures]:
    """Return what reports of builds say, by board, seed and nextpnr: another version of it places otherwise."""
    return {f"build {report['board']}, seed {report['seed']}, "
            f"{report['tools'].split()[-1]}": {"MHz": report["fmax_mhz"]} | {
                name: float(used) for name, (used, _) in report["resources"].items() if used}
            for report in build_reports(directory)}


def _read() -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(KEPT.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BitlineError(f"{KEPT} cannot be read: {error}") from None
    return kept


def _write(kept: dict[str, Any]) -> None:
    KEPT.write_text(json.dumps(kept, indent=2) + "\n", "utf-8")
