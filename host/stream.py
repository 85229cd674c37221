"""Nets from states in SDRAM: how fast a part of a chip makes them in RTL, and what batches a second follow from that.

A network that is larger than the weight memories runs in phases (docs/decisions/0019-networks-in-phases.md): a batch
makes the nets of each phase once, then its images go through them.
"""

from typing import Any

from host.backend import LinkBackend
from host.bench import cycles_of
from host.boards_entry import verilated
from host.channels import SimChannel
from host.console import Screen
from host.device import Device
from host.large import place_randomly, size_of, sweep
from host.line import CLOCK_HZ
from host.link import Link
from rtl.params import preset
from sim.presets import technology
from sim.technology import STATISTICAL

__all__ = ["STREAM", "STREAM_PART", "STREAM_SIZES", "run_stream", "stream_rate"]

STREAM = "demo-stream"
STREAM_SIZES = (784, *(128,) * 7, 10)
STREAM_PART = {"name": "stream-part", "rows": 112, "columns": 64, "lanes": 8, "program_lanes": 2, "contexts": 2,
               "net_words": 1024, "cells": 1 << 13, "column_words": 128, "result_words": 64}
"""Of `tiny-sdram`: two engines as there are of STREAM, with its tiles; no cycle of a sweep depends on lanes."""
STREAM_PART_SIZES = (112, 128)
BATCHES = (1, 16, 256, 4096, 65536)


def run_stream(*, screen: Screen) -> dict[str, Any]:
    """Measure how fast nets are made from states in SDRAM, print and return what batches a second follow from it."""
    placement = place_randomly(STREAM_SIZES, preset(STREAM))
    geometry = preset("tiny-sdram").replace(**STREAM_PART)
    part = place_randomly(STREAM_PART_SIZES, geometry)
    with Device(LinkBackend(Link(SimChannel(verilated(geometry, screen.tell)), geometry))) as device:
        device.configure(part)
        device.program(technology("pcm"), how=STATISTICAL, progress=screen.progress)
        once = cycles_of(device, lambda: sweep(device))
    assert once is not None
    cells = sum(tile.rows * tile.columns for tile in part.tiles)
    found = {"chip": STREAM, **size_of(placement), "phases": len(placement.phases), "part_cells": cells,
             "cycles_a_cell": once / cells, "words_a_cell": geometry.kept_words}
    found["rates"] = {str(batch): stream_rate(found, batch) for batch in BATCHES}
    screen.say(f"{STREAM}: {found['network']} in {found['phases']} phases; nets from states: "
               f"{found['cycles_a_cell']:.2f} cycles a cell, of a bound of {found['words_a_cell']} words of SDRAM "
               f"({found['words_a_cell'] / found['cycles_a_cell']:.0%})")
    screen.table(["images in a batch", f"images a second at {CLOCK_HZ / 1e6:g} MHz, computed"],
                 [(batch, f"{rate:,.0f}") for batch, rate in found["rates"].items()])
    return found


def stream_rate(found: dict[str, Any], batch: int) -> float:
    """Return the images a second of a network in phases: each batch makes all nets once, then computes."""
    return batch * CLOCK_HZ / (found["cells"] * found["cycles_a_cell"] + batch * found["cycles_placed"])
