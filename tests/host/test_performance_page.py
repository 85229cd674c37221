"""The page of figures: each beside its bound, from what was measured and from reports of builds."""

import json

import pytest

from host import performance_page
from host.console import Screen
from host.performance_page import write_performance_page
from host.speed import BATCHES

RATES = {str(batch): {"best": 3000.0 * batch, "median": 2242.0 * batch} for batch in BATCHES}
FOUND = {
    "line": {"geometry": "demo-sdram", "streamed_cycles": 140_000.0, "replayed_cycles": 12_500.0},
    "macs": 1000, "lanes": 10, "lower_bound_cycles": 100,
    "bytes_per_image": {"streamed": (832, 84), "replayed": (14, 70)},
    "placements": [{"network": "784-128-10", "geometry": "demo", "cycles": 916, "bound": 911}],
    "seeds": {"text": "10 seeds, aged: 6.5 s"},
    "model_speed": {"784-256-128-10 on tiles of 512 x 512": RATES},
    "devices": {"sim": {"cycles_per_image": 110.0, "cycles_per_image_through_the_link": 125.0, "latency_cycles": 400.0,
                        "cycles_per_device_written": 12.5, "cycles_per_second": 1e5, "images_per_second": 200.0}}}


@pytest.fixture
def built(tmp_path, monkeypatch):
    monkeypatch.setattr(performance_page, "BUILDS", tmp_path / "build")
    (tmp_path / "build/ulx3s-12f").mkdir(parents=True)
    (tmp_path / "build/ulx3s-12f/ulx3s_12f.report.json").write_text(json.dumps({
        "board": "ulx3s-12f", "geometry": "board-small", "seed": 3, "fmax_mhz": 67.7, "clock_mhz": 50.0,
        "tools": "amaranth 0.5.10 nextpnr-0.11", "attempts": [
            {"seed": seed, "router": "router1", "processor_seconds": 90.0,
             "clocks": {"calc": [151.25, 150.015], "calc to chip": [400, 150], "gate.clk_in": [995, 50],
                        "clk": [chip, 50]}}
            for seed, chip in ((2, 49.9), (3, 67.7))],
        "medians": {"calc": 151.25, "calc to chip": 400.0, "gate.clk_in": 995.0, "clk": 58.8},
        "resources": {"TRELLIS_COMB": [18273, 24288]}}))
    (tmp_path / "build/old").mkdir()
    (tmp_path / "build/old/old.report.json").write_text(json.dumps({"board": "old", "fmax_mhz": 60.0}))
    (tmp_path / "build/ulx3s-12f/ulx3s_12f.3.report.json").write_text(json.dumps({"fmax": {}, "utilization": {}}))
    return tmp_path / "performance.md"


def test_each_figure_stands_beside_its_bound(built):
    write_performance_page(built, FOUND, Screen())
    text = built.read_text("utf-8")
    for row in ("| while the busiest engine computes | 110.0 | 100 | 1.100 | 9.1 | 90.9% |",
                "| 784-128-10 | demo | 916 | 911 | 1.005 |", "| streamed | 832 | 84 | 361 | 357 | 140,000 | 99.0% |",
                "| loaded once and replayed | 14 | 70 | 4,286 | 4,000 | 12,500 | 93.3% |",
                "| 100,000 | 200 | 5.0 ms |", "10 seeds, aged: 6.5 s.",
                "| aihwkit 1.2.0, C++ engine | output and PCM read noise | 1,121 | 2.0 | 2,032 | 282.5 |",
                "| ulx3s-12f | board-small | 18,273 (75%) |",
                "| ulx3s-12f | 2 | router1 | 151.2 of 150, 400.0 of 150, 49.9 of 50 | 1.5 | nextpnr-0.11 |",
                "| ulx3s-12f | 3 | router1 | 151.2 of 150, 400.0 of 150, 67.7 of 50 | 1.5 | nextpnr-0.11 |",
                "| ulx3s-12f | median |  | 151.2 of 150, 400.0 of 150, 58.8 of 50 |  |  |"):
        assert row in text
    assert "old" not in text.split("## Boards")[1]


def test_large_chips_stand_with_the_time_of_a_board(built):
    chip = {"chip": "speech", "network": "4-4", "tiles": 34, "engines": 34, "cells": 34 << 18,
            "devices": 35_651_584, "devices_of_a_cell": 4, "cycles_placed": 4096,
            "model": {"programming_seconds": 26.0, "ageing_seconds": 5.25, "images_per_second": 350.0,
                      "memory_bytes": 1.41e9},
            "part": {"engines": 2, "cycles_a_device": 25.0, "cycles_a_cell_aged": 4.0, "cycles_an_image": 205.0,
                     "cycles_placed": 200}}
    write_performance_page(built, FOUND | {"large": [chip]}, Screen())
    text = built.read_text("utf-8")
    for row in ("| speech | 4-4 | 34 | 35,651,584 | 26 s | 5.2 s | 350 | 1.41 GB |",
                "| speech | 2 | 25.0 | 4.00 | 1.025 | 17.83 s | 0.713 s | 1,427 µs |",
                "| speech | 34 | 25.0 | 4.00 | 1.025 | 1.05 s | 0.042 s | 84 µs |"):
        assert row in text
    write_performance_page(built, FOUND, Screen())
    assert "Large chips" not in built.read_text("utf-8")


def test_batches_stand_with_what_their_nets_cost(built):
    stream = {"chip": "demo-stream", "network": "4-4", "phases": 3, "cells": 200_000, "cycles_a_cell": 2.5,
              "words_a_cell": 2, "rates": {"1": 99.6, "256": 12345.0}}
    write_performance_page(built, FOUND | {"stream": stream}, Screen())
    text = built.read_text("utf-8")
    for row in ("4-4 on the preset `demo-stream`: 200,000 weights in 3 phases.", "| 2.50 | 2 | 80% |", "| 1 | 100 |",
                "| 256 | 12,345 |"):
        assert row in text


def test_without_a_simulation_it_says_so(built):
    write_performance_page(built, {name: FOUND[name] for name in FOUND if name != "line"} | {"devices": {}}, Screen())
    text = built.read_text("utf-8")
    assert "No verilated chip was measured." in text
    assert "| streamed | 832 | 84 | 361 |  |  |  |" in text
