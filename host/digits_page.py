"""docs/digits.md: networks on emulated devices beside aihwkit's results, and whether chance explains what differs."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from host.console import Screen
from host.digits import AIHWKIT, NETWORKS, DigitsComparison, DigitsTable, compare_digits
from host.errors import BitlineError

__all__ = ["write_digits_page"]

PROGRAMMINGS = 40
"""Of each side; aihwkit's are 20."""

_TABLES = (("emulated, net", AIHWKIT), ("float64, net", AIHWKIT), ("emulated", "float64"))
"""Devices, and what they are held against."""

_HEAD = f"""# aihwkit on 8x8 digits

Written by `bitline bench --digits docs/digits.md` (`make bench`); nothing here is typed by hand. The same weights and
images; {PROGRAMMINGS} programmings here, aihwkit's 20. *Default* converters are aihwkit's, in floating point around the
emulated devices (`host/periphery.py`): the chip's own have no output noise. aihwkit takes the partner's residual off
the weight before it ages (*net*); by its formulas, and here, each device ages by itself
([decision 12](decisions/0012-where-the-published-spread-comes-from.md)). float64: the judge (`host/judge.py`), which
shares no code with the emulation.

Bold: apart by more than two combined standard errors. Where both sides are the same, one comparison of twenty is; and
the comparisons of a network share their programmings, so they miss together. What chance does is therefore found by
shuffling: all programmings of both sides are pooled and dealt out again, each with all its ages, converters and
quantities, and what is apart is counted.
"""


def write_digits_page(path: str | Path, screen: Screen) -> dict[str, Any]:
    """Measure everything, write the page and return what was found; minutes of work."""
    tables: list[DigitsTable] = []
    with screen.stage("digits"):
        sides = sum(1 + (against != AIHWKIT) for _, against in _TABLES)
        report = screen.progress("programmings", sides * len(NETWORKS) * PROGRAMMINGS)
        for (devices, against), network in itertools.product(_TABLES, NETWORKS):
            tables.append(compare_digits(network, devices=devices, against=against, programmings=PROGRAMMINGS,
                                         progress=lambda: report(1)))
    text = "\n".join([_HEAD, *_summary(tables), *_not_met(tables), *(line for one in tables for line in _section(one))])
    try:
        Path(path).write_text(text.rstrip("\n") + "\n", "utf-8")
    except OSError as error:
        raise BitlineError(f"{path} cannot be written: {error.strerror}") from error
    screen.say(f"{path}: {sum(len(one.comparisons) - len(one.apart) for one in tables)} of "
               f"{sum(len(one.comparisons) for one in tables)} comparisons agree")
    return {"tables": [vars(one) | {"comparisons": [vars(c) | {"holds": c.holds} for c in one.comparisons]}
                       for one in tables]}


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings),
            *("| " + " | ".join(row) + " |" for row in rows), ""]


def _summary(tables: Sequence[DigitsTable]) -> list[str]:
    return _table(("network", "devices", "against", "agree", "apart", "apart by chance, on average",
                   "at least as many by chance"),
                  [(one.network.upper(), one.devices, one.against,
                    f"{len(one.comparisons) - len(one.apart)} of {len(one.comparisons)}", str(len(one.apart)),
                    f"{one.expected:.1f}", f"{one.chance:.0%}") for one in tables])


def _not_met(tables: Sequence[DigitsTable]) -> list[str]:
    lines = [f"- {one.network}, {one.devices} against {one.against}, {d.converters} converters, "
             f"{'' if d.compensated else 'not '}compensated, {d.age}: {_words(d.quantity)} {d.emulated:.4g} ± "
             f"{d.emulated_error:.2g} in place of {d.published:.4g} ± {d.published_error:.2g}"
             for one in tables for d in one.apart]
    return ["## Apart", "", *(lines or ["Nothing is."]), ""]


def _words(quantity: str) -> str:
    return {"accuracy": "accuracy (%)", "logit_rel_l2_error": "error of the logits"}[quantity]


def _section(table: DigitsTable) -> list[str]:
    ages = list(dict.fromkeys(d.age for d in table.comparisons))
    rows = []
    for key in dict.fromkeys((d.converters, d.compensated, d.quantity) for d in table.comparisons):
        by_age = {d.age: d for d in table.comparisons if (d.converters, d.compensated, d.quantity) == key}
        rows.append((f"{key[0]}, {'compensated' if key[1] else 'as it is'}", _words(key[2]),
                     *(_pair(by_age[age]) for age in ages)))
    return [f"## {table.network.upper()}: {table.devices} / {table.against}", "", *_table(("", "", *ages), rows)]


def _pair(d: DigitsComparison) -> str:
    places = 2 if d.quantity == "accuracy" else 4
    text = f"{d.emulated:.{places}f} / {d.published:.{places}f}"
    return text if d.holds else f"**{text}**"
