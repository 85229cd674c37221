"""Nets from states in SDRAM: a network in phases, and batches a second from the cycles of a sweep."""

import pytest

from host.console import Screen
from host.large import place_randomly
from host.placing import tell_phases
from host.stream import STREAM, STREAM_PART, STREAM_SIZES, run_stream, stream_rate
from rtl.params import preset


def test_a_batch_pays_for_its_nets_once():
    found = {"cells": 1000, "cycles_a_cell": 2.5, "cycles_placed": 50}
    assert stream_rate(found, 1) == pytest.approx(50e6 / 2550)
    assert stream_rate(found, 100) == pytest.approx(100 * 50e6 / 7500)


def test_the_streaming_chip_runs_its_network_in_phases(capsys):
    placement = place_randomly(STREAM_SIZES, preset(STREAM))
    assert [(phase.first, phase.last) for phase in placement.phases] == [(0, 0), (1, 5), (6, 7)]
    screen = Screen()
    tell_phases(placement, screen)
    assert "3 phases (layer0; layer1 to layer5; layer6 to layer7), the nets of each made" in capsys.readouterr().out
    whole, part = preset(STREAM), preset("tiny-sdram").replace(**STREAM_PART)
    for name in ("engines", "rows", "columns", "pairs", "program_lanes", "state_store"):
        assert getattr(part, name) == getattr(whole, name)


@pytest.mark.slow
def test_nets_come_from_sdram_at_nearly_its_rate():
    found = run_stream(screen=Screen())
    assert 0.7 < found["words_a_cell"] / found["cycles_a_cell"] <= 1
