"""Chips larger than block RAM: the presets are as large as told, and their time is computed from cycles of a part."""

import pytest

from host import large
from host.console import Screen
from host.large import CHIPS, Large, board_seconds, place_randomly, run_large
from rtl.params import preset


def test_the_presets_are_as_large_as_the_published_chips():
    speech, tile = preset("speech"), preset("tile1024")
    assert (speech.engines * speech.contexts, speech.rows, speech.columns * speech.devices) == (34, 512, 2048)
    assert speech.engines * speech.cells * speech.devices == 35_651_584
    assert (tile.rows, tile.columns, tile.cells) == (1024, 1024, 1 << 20)
    for one in CHIPS:
        whole, part = preset(one.chip), one.part_geometry()
        for name in ("rows", "columns", "pairs", "program_lanes", "adc_bits", "state_bits"):
            assert getattr(part, name) == getattr(whole, name)


@pytest.mark.slow
@pytest.mark.parametrize("one", CHIPS, ids=[one.chip for one in CHIPS])
def test_the_networks_fill_their_chips(one):
    placement = place_randomly(one.sizes, preset(one.chip))
    cells = sum(tile.rows * tile.columns for tile in placement.tiles)
    assert cells == placement.geometry.engines * placement.geometry.cells


def test_seconds_of_a_board_are_cycles_of_the_part():
    """2,000 cells of 4 devices on ten engines, or on two as the part has: five turns."""
    values = {"engines": 10, "cells": 2000, "devices_of_a_cell": 4, "cycles_placed": 1000,
              "part": {"engines": 2, "cycles_a_device": 50.0, "cycles_a_cell_aged": 4.0, "cycles_an_image": 110.0,
                       "cycles_placed": 100}}
    assert board_seconds(values, 10) == pytest.approx({"programming": 1.6e-3, "ageing": 32e-6, "image": 22e-6})
    assert board_seconds(values, 2) == pytest.approx({"programming": 8e-3, "ageing": 160e-6, "image": 110e-6})


def test_a_chip_is_run_and_its_part_measured(monkeypatch, capsys):
    """On chips that other tests have verilated; their cycles are known elsewhere only to be about as placed."""
    monkeypatch.setattr(large, "CHIPS", (
        Large(chip="tiny-sdram", sizes=(13, 8, 6), part="tiny-sdram", cells=256, lanes=4, transport=4,
              part_sizes=(8, 6)),))
    found, = run_large(sim=True, seed=3, screen=Screen())
    assert (found["network"], found["tiles"], found["cells"], found["devices"]) == ("13-8-6", 4, 168, 336)
    assert found["model"]["converged"] > 0.9
    assert found["model"]["memory_bytes"] > 10e6
    part = found["part"]
    assert part["cells"] == 64
    assert part["cycles_placed"] <= part["cycles_an_image"] < 1.5 * part["cycles_placed"]
    assert 4 <= part["cycles_a_cell_aged"] < part["cycles_a_device"]
    text = capsys.readouterr().out
    assert "board of 2 engines at 50 MHz, computed" in text
    assert f"{board_seconds(found, 2)['image'] * 1e6:,.0f} us" in text
