"""Chips larger than a board's block RAM: run whole on the model, in part in RTL, timed from the cycles of that part.

The network of each fills the chip with random weights: cycles do not depend on what they have learnt. The part has the
chip's own tile, devices and converters, but fewer cells and lanes and a narrower mesh, so that it is compiled in a
minute: cycles of a device that is written and of a cell that is swept depend on none of these, and those of an image
are told beside what its own lanes need.
"""

import dataclasses
import resource
import sys
import time
from typing import Any

import numpy as np

from host.api import DEFAULT_SEED, open_device
from host.backend import LinkBackend
from host.bench import cycles_of
from host.boards_entry import SimulationMissingError, verilated
from host.channels import SimChannel
from host.compiler import compile_network
from host.console import Screen
from host.demo import stream_speed
from host.device import Device
from host.line import CLOCK_HZ
from host.link import Link
from host.placement import Placement
from host.speed import random_network
from rtl.params import EngineRegion, Geometry, preset
from sim.presets import technology

__all__ = ["CHIPS", "Large", "board_engines", "board_seconds", "place_randomly", "run_large", "size_of", "sweep"]

AGE = 86_400.0
IMAGES = 256
PART_IMAGES = 8
SEED = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Large:
    """A chip, the sizes of a network that fills it, and those of one on its part: it has so many `cells`
    of an engine, `lanes` and elements of a flit (`transport`)."""

    chip: str
    sizes: tuple[int, ...]
    part: str
    cells: int
    lanes: int
    transport: int
    part_sizes: tuple[int, ...]

    def part_geometry(self) -> Geometry:
        """Return the geometry of the part."""
        return preset(self.part).replace(cells=self.cells, lanes=self.lanes, transport=self.transport)


CHIPS = (
    Large(chip="tile1024", sizes=(1024, 1024), part="tile1024", cells=1 << 14, lanes=16, transport=8,
          part_sizes=(1024, 16)),
    Large(chip="speech", sizes=(1024,) * 9 + (512,), part="speech-part", cells=1 << 14, lanes=16, transport=4,
          part_sizes=(512, 24, 12)),
)


def run_large(*, sim: bool, seed: int | None, screen: Screen) -> list[dict[str, Any]]:
    """Run every chip, print and return what it took."""
    found = []
    for large in CHIPS:
        placement = place_randomly(large.sizes, preset(large.chip))
        values = {"chip": large.chip, **size_of(placement)}
        with screen.stage(f"model:{large.chip}"):
            values |= _on_model(placement, DEFAULT_SEED if seed is None else seed, screen)
        if sim:
            try:
                with screen.stage(f"sim: a part of {large.chip}"):
                    values |= _on_part(large, screen)
            except SimulationMissingError as error:
                screen.say(str(error))
        found.append(values)
        _show(values, screen)
    return found


def place_randomly(sizes: tuple[int, ...], geometry: Geometry) -> Placement:
    """Return a network of random weights placed on a chip, calibrated with random inputs."""
    calibration = np.random.default_rng(SEED).uniform(-1, 1, (64, sizes[0]))
    return compile_network(random_network(sizes), geometry, calibration)


def size_of(placement: Placement) -> dict[str, Any]:
    """Return what a placement holds, in words and numbers."""
    geometry = placement.geometry
    cells = sum(tile.rows * tile.columns for tile in placement.tiles)
    return {"network": "-".join(str(layer.inputs) for layer in placement.layers) + f"-{placement.outputs}",
            "tiles": len(placement.tiles), "engines": geometry.engines, "cells": cells,
            "devices": cells * geometry.devices, "devices_of_a_cell": geometry.devices,
            "cycles_placed": placement.cycles_per_image, "bound": placement.lower_bound_cycles}


def _on_model(placement: Placement, seed: int, screen: Screen) -> dict[str, Any]:
    """Program, age and run a placement on the model; return seconds of each and the memory that it took."""
    x = np.random.default_rng(SEED).uniform(-1, 1, (IMAGES, placement.layers[0].inputs))
    with open_device(f"model:{placement.geometry.name}", seed=seed) as device:
        device.configure(placement)
        began = time.perf_counter()
        programmed = device.program(technology("pcm"), progress=screen.progress)
        written = time.perf_counter()
        device.age(AGE, progress=screen.progress)
        aged = time.perf_counter()
        device.infer(x[:1])
        device.infer(x)  # what is made once is made now
        warm = time.perf_counter()
        device.infer(x)
        ended = time.perf_counter()
    return {"model": {"programming_seconds": written - began, "ageing_seconds": aged - written,
                      "images_per_second": len(x) / (ended - warm), "pulses_a_cell": programmed.pulses_mean,
                      "converged": programmed.converged_fraction, "memory_bytes": memory_bytes()}}


def memory_bytes() -> int:
    """Return the most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _on_part(large: Large, screen: Screen) -> dict[str, Any]:
    """Return cycles of a device that is programmed, of a cell that is aged and of an image, counted in RTL."""
    geometry = large.part_geometry()
    placement = place_randomly(large.part_sizes, geometry)
    x = np.random.default_rng(SEED).uniform(-1, 1, (PART_IMAGES, large.part_sizes[0]))
    cells = sum(tile.rows * tile.columns for tile in placement.tiles)
    with Device(LinkBackend(Link(SimChannel(verilated(geometry, screen.tell)), geometry))) as device:
        device.configure(placement)
        programming = cycles_of(device, lambda: device.program(technology("pcm"), progress=screen.progress))
        device.age(AGE, progress=screen.progress)
        sweep(device)  # until the ones before have ended, too
        ageing = cycles_of(device, lambda: sweep(device))
        busy, _, _ = stream_speed(device, x)
    assert programming is not None
    assert ageing is not None
    assert busy is not None
    return {"part": {"engines": geometry.engines, "network": "-".join(map(str, large.part_sizes)), "cells": cells,
                     "cycles_a_device": programming / cells / geometry.devices, "cycles_a_cell_aged": ageing / cells,
                     "cycles_an_image": busy, "cycles_placed": placement.cycles_per_image}}


def sweep(device: Device) -> None:
    """Make all nets again, to the end."""
    assert device.placement is not None
    device.sweep(device.placement.tiles)
    for unit in {tile.unit for tile in device.placement.tiles}:
        device.backend.read(unit, EngineRegion.REGISTERS, 0)  # waits for the end


def board_seconds(values: dict[str, Any], engines: int) -> dict[str, float]:
    """Return the seconds that `engines` of a board would take, computed from the cycles of the part.

    Tiles are spread evenly and engines work side by side: as many as the part's share a memory of states, as they do
    there.
    """
    part, shared = values["part"], values["engines"] / engines
    cells = values["cells"] * part["engines"] / engines
    return {"programming": cells * values["devices_of_a_cell"] * part["cycles_a_device"] / CLOCK_HZ,
            "ageing": cells * part["cycles_a_cell_aged"] / CLOCK_HZ,
            "image": values["cycles_placed"] * shared * part["cycles_an_image"] / part["cycles_placed"] / CLOCK_HZ}


def _show(values: dict[str, Any], screen: Screen) -> None:
    model = values["model"]
    screen.say(f"{values['chip']}: {values['network']} on {values['tiles']} tiles, {values['devices']:,} devices; "
               f"model: {model['memory_bytes'] / 1e9:.2f} GB, {model['pulses_a_cell']:.2f} pulses a cell, "
               f"{model['converged']:.2%} converged")
    rows = [("model, this machine", f"{model['programming_seconds']:.1f} s", f"{model['ageing_seconds']:.1f} s",
             f"{1e6 / model['images_per_second']:,.0f} us")]
    if "part" in values:
        rows += [(f"board of {engines} engines at {CLOCK_HZ / 1e6:g} MHz, computed", f"{times['programming']:.1f} s",
                  f"{times['ageing']:.2f} s", f"{times['image'] * 1e6:,.0f} us")
                 for engines, times in ((n, board_seconds(values, n)) for n in board_engines(values))]
        part = values["part"]
        screen.say(f"part in RTL: {part['cycles_a_device']:.1f} cycles a device written, "
                   f"{part['cycles_a_cell_aged']:.2f} a cell aged, {part['cycles_an_image']:,.1f} an image "
                   f"(placed: {part['cycles_placed']:,})")
    screen.table(["", "programming", "ageing", "an image"], rows)


def board_engines(values: dict[str, Any]) -> list[int]:
    """Return the numbers of engines that a board is told of: two, or the one there is, and those of the chip."""
    return sorted({min(2, values["engines"]), values["engines"]})
