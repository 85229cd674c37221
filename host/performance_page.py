"""docs/performance.md: every figure of speed and size beside its bound, and what it is of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from host.console import Screen
from host.errors import BitlineError
from host.large import board_engines, board_seconds
from host.line import BAUD, BITS_OF_A_BYTE, CLOCK_HZ
from host.speed import BATCHES, PEERS
from host.thresholds import BUILDS, KEPT, build_reports

__all__ = ["write_performance_page"]

_HEAD = """# Performance, measured

Written by `bitline bench --performance docs/performance.md` (`make bench`); nothing here is typed by hand. Cycles are
the chip's, counted in its RTL, and the same everywhere. Seconds are those of one shared machine: of them only ratios
within one table mean much. `make figures` measures cycles and cells anew and fails where one is worse than kept.
"""

_NAMES = {"TRELLIS_COMB": "LUT", "TRELLIS_FF": "flip-flop", "DP16KD": "block RAM", "MULT18X18D": "multiplier",
          "TRELLIS_RAMW": "LUT RAM"}


def write_performance_page(path: str | Path, found: dict[str, Any], screen: Screen) -> None:
    """Write what `run_bench` found, what `make figures` holds, and the reports of builds where there are some."""
    text = "\n".join([_HEAD, *_chip(found), *_planned(found), *_link(found), *_simulation(found), *_model(found),
                      *_large(found), *_stream(found), *_kept(), *_builds(BUILDS)])
    try:
        Path(path).write_text(text.rstrip("\n") + "\n", "utf-8")
    except OSError as error:
        raise BitlineError(f"{path} cannot be written: {error.strerror}") from error
    screen.say(f"{path} is written")


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings),
            *("| " + " | ".join(row) + " |" for row in rows), ""]


def _chip(found: dict[str, Any]) -> list[str]:
    """Cycles and multiplications of the verilated chip, or a sentence where there is none."""
    measured = found["devices"].get("sim")
    if measured is None or "cycles_per_image" not in measured:
        return ["## The chip", "", "No verilated chip was measured.", ""]
    bound, macs, lanes = found["lower_bound_cycles"], found["macs"], found["lanes"]
    rows = [(name, f"{cycles:,.1f}", f"{bound:,}", f"{cycles / bound:.3f}", f"{macs / cycles:.1f}",
             f"{macs / cycles / lanes:.1%}") for name, cycles in (
                 ("while the busiest engine computes", measured["cycles_per_image"]),
                 ("streaming through the link", measured["cycles_per_image_through_the_link"]),
                 ("a single image, link included", measured["latency_cycles"]))]
    return ["## The chip", "", f"784-128-10 on the preset `demo`, {lanes} lanes in two engines. The bound is "
            "Σ ⌈rows / lanes⌉ · columns, shared by the engines: no placement can need fewer cycles.", "",
            *_table(("cycles of an image", "measured", "bound", "ratio", "multiplications a cycle", "of the lanes"),
                    rows),
            *_table(("write-verify", "cycles"), [
                ("a memory device, PCM, probes of the reference included",
                 f"{measured['cycles_per_device_written']:.1f}")])]


def _planned(found: dict[str, Any]) -> list[str]:
    rows = [(one["network"], one["geometry"], f"{one['cycles']:,}", f"{one['bound']:,}",
             f"{one['cycles'] / one['bound']:.3f}") for one in found["placements"]]
    return ["### As placed", "",
            "Cycles that the busiest engine computes for an image, counted from the placement.", "",
            *_table(("network", "preset", "cycles", "bound", "ratio"), rows)]


def _link(found: dict[str, Any]) -> list[str]:
    measured = found.get("line", {})
    rows = []
    for name, text in (("streamed", "streamed"), ("replayed", "loaded once and replayed")):
        there, back = found["bytes_per_image"][name]
        bound = max(there, back) * BITS_OF_A_BYTE / BAUD
        cycles = measured.get(f"{name}_cycles")
        found_out = ("",) * 3 if cycles is None else (
            f"{CLOCK_HZ / cycles:,.0f}", f"{cycles:,.0f}", f"{CLOCK_HZ * bound / cycles:.1%}")
        rows.append((text, f"{there:,}", f"{back:,}", f"{1 / bound:,.0f}", *found_out))
    return ["## The link", "", f"Images of 784-128-10 over {BAUD / 1e6:g} Mbaud, both ways at the same time, at "
            f"{CLOCK_HZ / 1e6:g} MHz: a SEND and a RECEIVE, or, of images that are on the chip, a RECEIVE. Measured: "
            f"cycles of the verilated chip {measured.get('geometry', '(none was)')}, bytes held back as by the line.",
            "",
            *_table(("image", "bytes to the chip", "bytes back", "a second, at most", "a second, measured",
                     "cycles an image", "of the bound"), rows)]


def _simulation(found: dict[str, Any]) -> list[str]:
    measured = found["devices"].get("sim", {})
    if "cycles_per_second" not in measured:
        return []
    return ["## The verilated chip", "", *_table(("cycles a second", "images a second", "an image"), [
        (f"{measured['cycles_per_second']:,.0f}", f"{measured['images_per_second']:,.0f}",
         f"{1e3 / measured['images_per_second']:.1f} ms")])]


def _model(found: dict[str, Any]) -> list[str]:
    speed = found["model_speed"]
    rows = [(name, *(f"{rates[str(batch)][kind]:,.0f}" for batch in BATCHES for kind in ("best", "median")))
            for name, rates in speed.items()]
    own = next(iter(speed.values()))
    peers = [(peer.name, peer.noise, *(cell for rate, batch in zip(peer.batch, BATCHES, strict=True) for cell in (
        f"{rate:,}", f"{own[str(batch)]['median'] / rate:.1f}"))) for peer in PEERS]
    return ["## The model", "", "One thread, PCM read noise on; images or vectors a second.", "",
            *_table(("", "batch 1, best", "median", "batch 256, best", "median"), rows),
            found["seeds"]["text"] + ".", "",
            "Others on 784-256-128-10, measured on another machine (`host/speed.py`); the ratio is the model's median "
            "to theirs.", "", *_table(("simulator", "noise", "batch 1", "ratio", "batch 256", "ratio"), peers)]


def _large(found: dict[str, Any]) -> list[str]:
    """Chips beyond block RAM, if they were run."""
    if "large" not in found:
        return []
    lines = ["## Large chips", "", "Filled with random weights, all devices programmed by write-verify, aged to a day; "
             f"{CLOCK_HZ / 1e6:g} MHz. Seconds of a board are computed from cycles of a part in RTL.", ""]
    chips, boards = [], []
    for one in found["large"]:
        model = one["model"]
        chips.append((one["chip"], one["network"], str(one["tiles"]), f"{one['devices']:,}",
                      f"{model['programming_seconds']:.0f} s", f"{model['ageing_seconds']:.1f} s",
                      f"{model['images_per_second']:,.0f}", f"{model['memory_bytes'] / 1e9:.2f} GB"))
        if "part" in one:
            part = one["part"]
            cells = (f"{part['cycles_a_device']:.1f}", f"{part['cycles_a_cell_aged']:.2f}",
                     f"{part['cycles_an_image'] / part['cycles_placed']:.3f}")
            for engines in board_engines(one):
                times = board_seconds(one, engines)
                boards.append((one["chip"], str(engines), *cells, f"{times['programming']:.2f} s",
                               f"{times['ageing']:.3f} s", f"{times['image'] * 1e6:,.0f} µs"))
    lines += _table(("model, this machine", "network", "tiles", "devices", "programming", "ageing", "images a second",
                     "memory"), chips)
    if boards:
        lines += _table(("board, computed", "engines", "cycles a device written", "a cell aged",
                         "an image, to those placed", "programming", "ageing", "an image"), boards)
    return lines


def _stream(found: dict[str, Any]) -> list[str]:
    """A network larger than the weight memories, if it was measured."""
    if "stream" not in found:
        return []
    one = found["stream"]
    return ["## Nets from SDRAM", "", f"{one['network']} on the preset `{one['chip']}`: {one['cells']:,} weights in "
            f"{one['phases']} phases. A batch makes the nets of each phase once from its states; cycles of a sweep are "
            "measured in RTL, link included, images a second computed from them. The bound is a word of SDRAM a clock.",
            "",
            *_table(("cycles a cell", "bound", "of the bandwidth"), [(
                f"{one['cycles_a_cell']:.2f}", str(one["words_a_cell"]),
                f"{one['words_a_cell'] / one['cycles_a_cell']:.0%}")]),
            *_table(("images in a batch", f"images a second at {CLOCK_HZ / 1e6:g} MHz, the link left out"),
                    [(batch, f"{rate:,.0f}") for batch, rate in one["rates"].items()])]


def _kept() -> list[str]:
    kept = json.loads(KEPT.read_text("utf-8"))
    rows = [(name, f"{value:,.10g}") for group, figures in kept["figures"].items() if not group.startswith("build ")
            for name, value in figures.items()]
    return ["## Held by `make figures`", "", f"With {kept['tools']}.", "", *_table(("figure", "kept"), rows)]


def _builds(directory: Path) -> list[str]:
    """What place and route found, board by board and seed by seed."""
    boards, speeds = [], []
    for report in build_reports(directory):
        parts = [f"{used:,} ({used / available:.0%})" for used, available in (
            report["resources"].get(name, (0, 1)) for name in _NAMES)]
        boards.append((report["board"], report["geometry"], *parts))
        speeds += [(report["board"], str(attempt["seed"]), attempt["router"], _speeds(attempt["clocks"]),
                    f"{attempt['processor_seconds'] / 60:.1f}", report["tools"].split()[-1])
                   for attempt in report["attempts"]]
        if len(report["attempts"]) > 1:
            asked = report["attempts"][0]["clocks"]
            speeds.append((report["board"], "median", "", _speeds({
                name: (median, asked[name][1]) for name, median in report["medians"].items()}), "", ""))
    if not boards:
        return ["## Boards", "", "No build has left a report here: `bitline build NAME`.", ""]
    return ["## Boards", "", "After place and route, by the tool's model of the device.", "",
            *_table(("board", "preset", *_NAMES.values()), boards),
            "Every seed that was tried, with the minutes of processors that it took.", "",
            *_table(("board", "seed", "router", "MHz of those asked", "minutes", "nextpnr"), speeds)]


def _speeds(clocks: dict[str, tuple[float, float]]) -> str:
    # What comes before a clock's gate only waits for the loop to lock.
    return ", ".join(f"{achieved:.1f} of {asked:.0f}" for name, (achieved, asked) in clocks.items()
                     if not name.endswith("clk_in"))
