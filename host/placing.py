"""The work behind `bitline compile`: a network onto a chip, and what the chip makes of it in numbers."""

from pathlib import Path
from typing import Any

import numpy as np

from host.console import Screen
from host.errors import BitlineError
from host.inputs import load_data, place
from host.network import load_network
from host.placement import Placement
from host.slicing import SLICES
from host.technologies import technology_named
from rtl.params import geometry_hash, preset

__all__ = ["compile_command", "show_placement", "summary", "tell_bits", "tell_phases"]

_GUESSES = 256
"""Random vectors that stand for data where none was given."""


def compile_command(network: str, data: str | None, geometry: str, output: Path | None, seed: int | None,
                    screen: Screen, technology: str = "pcm") -> None:
    """Compile, print, and write the placement."""
    try:
        chip = preset(geometry)
    except ValueError as error:
        raise BitlineError(str(error)) from None
    if Path(network).suffix == ".npz":
        raise BitlineError(f"{network} is a placement already")
    if data is not None:
        calibration = load_data(data).calibration
    else:
        screen.tell("no --data: ranges come from random inputs between 0 and 1; give real ones for a network in use")
        size = load_network(network).input_size
        calibration = np.random.default_rng(1 if seed is None else seed).random((_GUESSES, size))
    target = Path(output or Path(network).with_suffix(".npz").name)
    if not target.resolve().parent.is_dir():
        raise BitlineError(f"{target} cannot be written: there is no directory {target.resolve().parent}")
    placement = place(network, chip, calibration, bits=technology_named(technology).pulse == "bits")
    tell_bits(placement, screen)
    tell_phases(placement, screen)
    show_placement(placement, screen)
    try:
        placement.save(target)
    except OSError as error:
        raise BitlineError(f"{target} cannot be written: {error.strerror}") from error
    screen.say(f"written to {target}")
    screen.result({**summary(placement), "output": str(target)})


def tell_bits(placement: Placement, screen: Screen) -> None:
    """Tell if cells hold bits, and what that stands for."""
    if placement.bit:
        screen.say(f"functional equivalent: bit-sliced, {SLICES} slices a weight as columns, inputs as bit planes, "
                   "shift-and-add in the digital unit")


def tell_phases(placement: Placement, screen: Screen) -> None:
    """Tell if not all nets fit the weight memories, and what runs when."""
    phases = placement.phases
    if len(phases) > 1:
        names = placement.layers
        said = "; ".join(names[one.first].name + (f" to {names[one.last].name}" if one.last > one.first else "")
                         for one in phases)
        screen.say(f"the weight memories do not hold all nets: {len(phases)} phases ({said}), the nets of each made "
                   "again from states for every batch")


def summary(placement: Placement) -> dict[str, Any]:
    """Return a placement in numbers."""
    geometry = placement.geometry
    return {
        "geometry": geometry.name, "geometry_hash": f"{geometry_hash(geometry):08x}",
        "layers": [{"name": layer.name, "inputs": layer.inputs, "outputs": layer.outputs,
                    "row_tiles": layer.row_tiles, "column_tiles": len(layer.column_tiles), "shift": layer.shift}
                   for layer in placement.layers],
        "tiles": len(placement.tiles), "phases": len(placement.phases),
        "contexts": geometry.engines * geometry.contexts,
        "cell_utilisation": placement.cell_utilisation, "lane_utilisation": placement.lane_utilisation,
        "cycles_per_image": placement.cycles_per_image, "lower_bound_cycles": placement.lower_bound_cycles,
        "lanes": geometry.total_lanes, "instructions": len(placement.instructions), "routes": len(placement.routes),
    }


def show_placement(placement: Placement, screen: Screen) -> None:
    """Print a placement."""
    geometry = placement.geometry
    headings, *rows = placement.table()
    screen.table(headings, rows, f"Placement on {geometry.name}: {geometry.engines} engines of {geometry.lanes} lanes")
    screen.say(f"cells used: {placement.cell_utilisation:.1%}; lanes busy: {placement.lane_utilisation:.1%}; "
               f"cycles per image: {placement.cycles_per_image} expected, {placement.lower_bound_cycles} at least")
