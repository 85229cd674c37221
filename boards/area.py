"""Area of a chip's parts on the ECP5, as synthesis maps them: `python -m boards.area tiny`.

*tile* is the read path: buffers, scheduler, engine, noise, ADC, affine stage. *core* is a tile with its physics: device
states, device pipeline, hashes, ageing and write-verify. *port* stands between link and mesh. Nothing is placed; ports
are not pins.
"""

import argparse
import dataclasses
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from boards.build import synthesise
from boards.catalog import board
from boards.toolchain import Progress, ToolError, for_synthesis, port_names
from rtl.params import Geometry, preset

__all__ = ["PARTS", "Area", "area", "measure", "table"]

CELLS = {"LUT4": "LUT4", "CCU2C": "carry", "TRELLIS_FF": "flip-flop", "DP16KD": "block RAM", "MULT18X18D": "multiplier",
         "TRELLIS_DPR16X4": "LUT RAM"}
"""What is counted, by Yosys' name. A carry cell takes the place of two LUTs, a LUT RAM that of six."""

_BOARD = "ulx3s-85f"


@dataclasses.dataclass(frozen=True)
class Area:
    """Cells of one part, by Yosys' name."""

    part: str
    cells: dict[str, int]


def _engine(geometry: Geometry) -> Any:
    from rtl.engine import Engine

    return Engine(geometry=geometry)


def _tile(geometry: Geometry) -> Any:
    from rtl.tile import Tile

    return Tile(geometry=geometry)


def _core(geometry: Geometry) -> Any:
    from rtl.core import Core

    return Core(geometry=geometry)


def _port(geometry: Geometry) -> Any:
    from rtl.port import Port

    return Port(geometry=geometry)


def _one(geometry: Geometry, **changes: Any) -> Geometry:
    return geometry.replace(**{"pairs": 1, "significance": 1, "program_lanes": 2, "backward": False, **changes})


_BATCH_WORDS = 512
"""Of a port that is measured with a batch memory and has none: as many as a block RAM holds with W = 4."""

PARTS: dict[str, Callable[[Geometry], Any]] = {
    "engine": lambda geometry: _engine(_one(geometry)),
    "engine that also reads backward": lambda geometry: _engine(_one(geometry, backward=True)),
    "tile": lambda geometry: _tile(_one(geometry)),
    "core: tile and physics": lambda geometry: _core(_one(geometry)),
    "tile, two pairs": lambda geometry: _tile(_one(geometry, pairs=2)),
    "core, two pairs": lambda geometry: _core(_one(geometry, pairs=2)),
    "port": lambda geometry: _port(geometry.replace(batch_words=0, batch_store="block")),
    "port with a batch": lambda geometry: _port(geometry.replace(batch_words=max(geometry.batch_words, _BATCH_WORDS))),
}


def area(component: Any) -> dict[str, int]:
    """Return the cells of `CELLS` that synthesis makes of a component.

    Raises
    ------
    ToolError
        If synthesis fails.
    """
    from amaranth.back import rtlil
    from amaranth.hdl import Const

    target = board(_BOARD)
    ports = {name: port for name, port in port_names(component).items() if not isinstance(port[0], Const)}
    text = rtlil.convert(component, name="part", platform=target.make_platform(), ports=ports, emit_src=False)
    with tempfile.TemporaryDirectory(prefix="bitline-") as temporary:
        place = Path(temporary)
        (place / "part.il").write_text(for_synthesis(text), "utf-8")
        synthesise(place, "part", target)
        return read_cells((place / "part.stat.txt").read_text("utf-8"))


def read_cells(stat: str) -> dict[str, int]:
    """Return the cells of `CELLS` in what Yosys' `stat` printed, those of the whole design where it has a hierarchy."""
    whole = stat[max(stat.rfind("design hierarchy"), 0):]
    found = {name: int(count) for count, name in re.findall(r"^\s*(\d+)(?:\s+-)?\s+(\w+)\s*$", whole, re.MULTILINE)}
    found |= {name: int(count) for name, count in re.findall(r"^\s*(\w+)\s+(\d+)\s*$", whole, re.MULTILINE)
              if name in CELLS}
    return {name: found.get(name, 0) for name in CELLS}


def measure(geometry: Geometry, parts: Sequence[str] = tuple(PARTS), *,
            progress: Progress = lambda _: None) -> Iterator[Area]:
    """Yield the area of each part with a geometry."""
    for part in parts:
        progress(f"{geometry.name}: {part}")
        yield Area(part, area(PARTS[part](geometry)))


def table(areas: Sequence[Area]) -> str:
    """Return areas as a table in Markdown."""
    rows = [["part", *CELLS.values()], ["---"] * (len(CELLS) + 1)]
    rows += [[one.part, *(f"{one.cells[name]:,}" for name in CELLS)] for one in areas]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="boards.area", description="Area of an engine's parts on the ECP5.")
    parser.add_argument("geometry")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; may be given again")
    chosen = parser.parse_args(arguments)
    try:
        found = measure(preset(chosen.geometry), chosen.part or tuple(PARTS),
                        progress=lambda text: print(text, file=sys.stderr, flush=True))
        print(table(list(found)))
    except (ToolError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
