"""docs/physics.md: statistics of the emulated devices beside the published ones, and what is not met."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from host.console import Screen
from host.errors import BitlineError
from host.judge import PULSE_JUDGES
from host.parity import (
    EDGES,
    G_VALUES,
    LOOP_SEEDS,
    LOOP_SIDE,
    Comparison,
    Convergence,
    array_errors,
    convergence_of_assumed,
    pairs_against_one,
    pulse_statistics,
    statistics,
)
from host.ways import Way, ways_compared
from sim.presets import TECHNOLOGIES
from sim.technology import CLOSED_LOOP, STATISTICAL

__all__ = ["write_physics_page"]

PCMS = ("pcm", "pcm-hermes-1", "pcm-hermes-2")
CASES = (*((name, way) for name in PCMS for way in (STATISTICAL, CLOSED_LOOP)),
         *((name, STATISTICAL) for name in ("rram-wan2022", "rram-milo", "rram-cmo", "sonos")))
MVM_PUBLISHED, MVM_ALLOWED = 13.3, 0.4
PAIRS_PUBLISHED, PAIRS_ALLOWED = 2.0, 0.2

_HEAD = """# Physics, measured

Written by `bitline bench --physics docs/physics.md` (`make bench`); nothing here is typed by hand. The judge
(`host/judge.py`) is a float64 Monte-Carlo of the published formulas, clamps and spread included, with 10^6 devices; it
shares no code with `sim/`. The emulated side is the bit-exact model, five seeds of 16,384 cells for each target. A
comparison holds within 2 % or three standard errors, whichever is larger; nothing can agree better than half a unit of
a state. Sources and marks: `bitline devices`, [technologies.md](technologies.md).
"""


def write_physics_page(path: str | Path, screen: Screen) -> dict[str, Any]:
    """Measure everything, write the page and return what was found; minutes of work."""
    found: list[Comparison] = []
    with screen.stage("statistics against the judge"):
        report = screen.progress("technologies", len(CASES))
        for name, way in CASES:
            found += statistics(name, way)
            report(1)
    pulses: list[Comparison] = []
    with screen.stage("pulses against the judge"):
        report = screen.progress("technologies", len(PULSE_JUDGES))
        for name in PULSE_JUDGES:
            pulses += pulse_statistics(name)
            report(1)
    edges = list(statistics("pcm", STATISTICAL, g_values=EDGES))
    with screen.stage("arrays"):
        report = screen.progress("seeds", 5)
        arrays = array_errors(progress=lambda: report(1))
        pairs = pairs_against_one()
    with screen.stage("write-verify at half and double of assumed constants"):
        loops = list(convergence_of_assumed())
    with screen.stage("ways of programming"):
        ways = list(ways_compared(screen.progress("technologies", len(TECHNOLOGIES))))
    text = "\n".join([_HEAD, *_not_met(found, pulses, ways, arrays, pairs, loops), *_statistics(found),
                      *_edges(edges), *_pulses(pulses), *_ways(ways), *_hermes(found), *_arrays(arrays),
                      *_pairs(pairs), *_loops(loops)])
    try:
        Path(path).write_text(text.rstrip("\n") + "\n", "utf-8")
    except OSError as error:
        raise BitlineError(f"{path} cannot be written: {error.strerror}") from error
    screen.say(f"{path}: {sum(c.holds for c in found)} of {len(found)} statistics hold")
    return {"statistics": [vars(c) | {"holds": c.holds} for c in found], "arrays": arrays,
            "pairs": {f"F={f} at {age:g} s": values for (f, age), values in pairs.items()},
            "pulses": [vars(c) | {"holds": c.holds} for c in pulses], "ways": [vars(w) for w in ways],
            "write_verify": [vars(loop) for loop in loops]}


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings),
            *("| " + " | ".join(row) + " |" for row in rows), ""]


def _not_met(found: Sequence[Comparison], pulses: Sequence[Comparison], ways: Sequence[Way],
             arrays: dict[str, list[float]], pairs: dict[tuple[int, float], list[float]],
             loops: Sequence[Convergence]) -> list[str]:
    lines = [f"- {c.technology}, {c.way}, {c.quantity} at g = {c.g:g}: {c.emulated:.4g} in place of {c.published:.4g} "
             f"({c.difference:+.1%}, {c.allowed / abs(c.published):.1%} allowed)" for c in found if not c.holds]
    for name in dict.fromkeys(c.technology for c in pulses):
        every = [c for c in pulses if c.technology == name]
        off = [c for c in every if not c.holds]
        if off:
            worst = max(off, key=lambda c: abs(c.difference))
            lines.append(f"- {name}, pulses: {len(off)} of {len(every)} statistics, the worst {worst.quantity} from "
                         f"g = {worst.g:g}: {worst.difference:+.1%}")
    lines += [f"- {w.technology}, {w.pairs} pair{'s' * (w.pairs > 1)}, {w.way}: {w.worst:.2%} of the cells "
              "converge, not 99 %" for w in ways if w.worst < 0.99]
    first = 100 * float(np.mean(next(iter(arrays.values()))))
    if abs(first - MVM_PUBLISHED) > MVM_ALLOWED:
        lines.append(f"- error of an MVM: {first:.1f} % in place of {MVM_PUBLISHED} ± {MVM_ALLOWED}")
    ratio = float(np.mean(pairs[1, 0.0]))
    if abs(ratio - PAIRS_PUBLISHED) > PAIRS_ALLOWED:
        lines.append(f"- two pairs against one: {ratio:.2f} in place of {PAIRS_PUBLISHED} ± {PAIRS_ALLOWED}")
    lines += [f"- {loop.technology}, {loop.pairs} pair{'s' * (loop.pairs > 1)}, {loop.constants}: "
              f"{loop.refused or f'{loop.worst:.2%} of uniform targets converge, not 99 %'}"
              for loop in loops if loop.refused or loop.worst < 0.99]
    return ["## Not met", "", *(lines or ["Everything below holds."]),
            "- SRAM and MRAM are not in these tables: tests/host/test_bits.py and test_slicing.py hold exact integers "
            "without errors, and the mismatch of their source.",
            "- Spread of the bounds from device to device, and noise of the state after a write, which some sources of "
            "pulses tell: known (`bitline devices`), not emulated.", ""]


def _statistics(found: Sequence[Comparison]) -> list[str]:
    out = ["## Devices", "", "Relative difference of the emulated statistic to the judge's, by g; what does not hold "
           "is bold. Targets lie in the middle of an entry of the device tables.", ""]
    for name, way in dict.fromkeys((c.technology, c.way) for c in found):
        chosen = [c for c in found if (c.technology, c.way) == (name, way) and c.g > 0]
        rows = []
        for quantity in dict.fromkeys(c.quantity for c in chosen):
            by_g = {c.g: c for c in chosen if c.quantity == quantity}
            rows.append((quantity, *(_cell(by_g.get(g)) for g in G_VALUES)))
        out += [f"### {name}, {way}", "", *_table(("statistic", *(f"g = {g:g}" for g in G_VALUES)), rows)]
        for c in found:
            if (c.technology, c.way, c.g) == (name, way, 0.0):
                out.append(f"{c.quantity}: {c.emulated:.4f}, published {c.published:.4f} ({_cell(c)}).")
        out.append("")
    return out


def _cell(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    small = abs(comparison.published) <= comparison.allowed
    text = (f"{comparison.emulated:.3g} for {comparison.published:.3g}" if small else f"{comparison.difference:+.1%}")
    return text if comparison.holds else f"**{text}**"


def _edges(edges: Sequence[Comparison]) -> list[str]:
    rows = [(quantity, *(_cell(next((c for c in edges if (c.quantity, c.g) == (quantity, g)), None)) for g in EDGES))
            for quantity in dict.fromkeys(c.quantity for c in edges if c.g > 0)]
    return ["## At the edges of table entries", "", "An entry spans Gmax / 200 and has one value, that of its middle. "
            "At the lower edge of an entry, `pcm`, statistical:", "",
            *_table(("statistic", *(f"g = {g:g}" for g in EDGES)), rows)]


def _pulses(pulses: Sequence[Comparison]) -> list[str]:
    out = ["## Pulses", "", "A pulse of amplitude 1 (a train of nominal ones where they are fine) from g on, and many "
           "towards the bounds; spread from cycle to cycle in the mean square over devices. Relative difference of the "
           "emulated statistic to the judge's; what does not hold is bold.", ""]
    for name in dict.fromkeys(c.technology for c in pulses):
        chosen = [c for c in pulses if c.technology == name]
        g_values = sorted({c.g for c in chosen})
        rows = [(quantity, *(_cell({c.g: c for c in chosen if c.quantity == quantity}.get(g)) for g in g_values))
                for quantity in dict.fromkeys(c.quantity for c in chosen)]
        out += [f"### {name}, pulses", "", *_table(("statistic", *(f"g = {g:g}" for g in g_values)), rows)]
    return out


def _ways(ways: Sequence[Way]) -> list[str]:
    rows = [(w.technology, str(w.pairs), w.way, f"{w.error:.2%}", f"{w.relaxed:.2%}", f"{w.converged:.2%}",
             f"{w.worst:.2%}", f"{w.pulses:.2f}", f"{w.conversions:,}") for w in ways]
    return ["## Ways of programming", "", f"Networks of random weights (112-64-10) of the seeds {LOOP_SEEDS}: rms "
            "error of the weights, of the largest, before relaxation, and after it (first seed); converged of all, and "
            "of the worst seed; two pairs with F = 1; at most 30 reads, or steps, a phase.", "",
            *_table(("technology", "pairs", "way", "error", "relaxed", "converged", "worst seed", "pulses",
                     "conversions"), rows)]


def _hermes(found: Sequence[Comparison]) -> list[str]:
    rows = []
    for name, published in (("pcm-hermes-1", "9.8 %"), ("pcm-hermes-2", "5.3 %")):
        kind = TECHNOLOGIES[name]
        c = next(c for c in found if (c.technology, c.way, c.g) == (name, STATISTICAL, G_VALUES[-1])
                 and c.quantity == "spread of programmed devices")
        rows.append((name, f"{c.emulated / kind.gmax.one:.1%}", published))
    return ["## 64-core chip: spread of a device at g = 1, of Gmax", "", *_table(("", "emulated", "published"), rows)]


def _arrays(arrays: dict[str, list[float]]) -> list[str]:
    rows = [(name, f"{100 * float(np.mean(values)):.1f} ± {100 * float(np.std(values)):.1f}")
            for name, values in arrays.items()]
    return ["## Error of an MVM", "", "512 x 512, weights N(0, 0.246) within ±1, inputs uniform in ±1, half of them 0, "
            f"t = 1 s; published for the first line: {MVM_PUBLISHED} ± {MVM_ALLOWED} %.", "",
            *_table(("effects", "relative error, %"), rows)]


def _pairs(pairs: dict[tuple[int, float], list[float]]) -> list[str]:
    rows = [(f"{factor}", "fresh" if not age else "a day",
             f"{float(np.mean(values)):.2f} ± {float(np.std(values)):.2f}") for (factor, age), values in pairs.items()]
    return ["## Two pairs against one", "", "How much smaller the rms error of the weights is, statistical `pcm`; a "
            "weight of 1 is F Gmax in two pairs, and Gmax in one. "
            f"Published for F = 1, fresh: {PAIRS_PUBLISHED} ± {PAIRS_ALLOWED}.", "",
            *_table(("F", "age", "ratio"), rows)]


def _loops(loops: Sequence[Convergence]) -> list[str]:
    most = 8
    rows = []
    for loop in loops:
        if loop.refused:
            rows.append((loop.technology, str(loop.pairs), loop.constants, f"refused: {loop.refused}",
                         *[""] * (most + 4)))
            continue
        counts = np.zeros(max(len(loop.pulses), most + 1), int)
        counts[:len(loop.pulses)] = loop.pulses
        shares = counts / counts.sum()
        expected = "" if math.isnan(loop.expected) else f"{loop.expected:.2f}"
        rows.append((loop.technology, str(loop.pairs), loop.constants, f"{loop.converged:.2%}", f"{loop.worst:.2%}",
                     f"{loop.error:.2%}", f"{loop.mean:.2f}", expected,
                     *(f"{100 * share:.1f}" for share in shares[1:most]), f"{100 * shares[most:].sum():.1f}"))
    return ["## Write-verify, at half and double of each assumed constant", "",
            f"Targets uniform in ±Gmax, {LOOP_SIDE**2:,} cells of each of the seeds {LOOP_SEEDS}: converged of all, "
            "and of the worst seed; at most 30 iterations a phase, F = 1, RESET is no pulse here; error of the states, "
            "rms, of Gmax; histogram of pulses in % of the cells. What constants are: `bitline devices`.", "",
            *_table(("technology", "pairs", "constants", "converged", "worst seed", "error", "pulses", "by integration",
                     *(f"{k}" for k in range(1, most)), f"{most}+"), rows)]
