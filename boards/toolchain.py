"""The way from a component to text that tools read: Amaranth, RTLIL, Yosys, Verilog; and where results are kept.

Yosys runs in a process of its own: it ends the process that it meets an error in.
"""

import contextlib
import gc
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

__all__ = ["Progress", "ToolError", "ToolTimeoutError", "cache_directory", "content_hash", "for_synthesis",
           "loop_zeros", "plain_names", "port_names", "relax_collisions", "run_tool", "run_yosys",
           "tool_versions", "verilog_of"]

Progress = Callable[[str], None]
"""Told in a few words what a long step is doing."""

_YOSYS = """
import sys
from pyosys import libyosys as yosys
design = yosys.Design()
for command in sys.stdin.read().splitlines():
    yosys.run_pass(command, design)
"""


class ToolError(RuntimeError):
    """A tool failed: one sentence that names its log."""


class ToolTimeoutError(ToolError):
    """A tool was stopped because it took too long."""


def cache_directory(name: str) -> Path:
    """Return a directory of the user's cache (`BITLINE_CACHE` moves it), made if it is not there."""
    chosen = os.environ.get("BITLINE_CACHE")
    root = Path(chosen) if chosen else platformdirs.user_cache_path("bitline", appauthor=False)
    directory = root / name
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def content_hash(parts: Iterable[str | bytes]) -> str:
    """Return a name for contents: 24 hexadecimal digits, the same for the same parts and for no others."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()[:24]


def tool_versions(*distributions: str) -> str:
    """Return names and versions of installed distributions, in one line."""
    return " ".join(f"{name} {metadata.version(name)}" for name in distributions)


def run_tool(command: Sequence[str], *, log: Path, what: str, cwd: Path | None = None, text: str = "",
             environment: dict[str, str] | None = None, limit_s: float | None = None) -> None:
    """Run a command with its output in `log`.

    Raises
    ------
    ToolError
        If it fails; the sentence says what was being done and where the log is. A `ToolTimeoutError` if it takes longer
        than `limit_s`; it is stopped then.
    """
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"$ {' '.join(command)}\n")
        stream.flush()
        try:
            code = subprocess.run(command, cwd=cwd, input=text, text=True, stdout=stream, stderr=subprocess.STDOUT,
                                  env={**os.environ, **(environment or {})}, timeout=limit_s, check=False).returncode
        except subprocess.TimeoutExpired as error:
            raise ToolTimeoutError(f"{what} did not end within {limit_s:g} s: see {log}") from error
        except OSError as error:
            raise ToolError(f"{what} failed: {command[0]} cannot be started ({error.strerror})") from error
    if code:
        raise ToolError(f"{what} failed with code {code}: see {log}")


def run_yosys(commands: Iterable[str], *, log: Path, what: str, cwd: Path, limit_s: float | None = None) -> None:
    """Run Yosys commands in order, in `cwd`, so that file names in them need no quoting."""
    run_tool([sys.executable, "-c", _YOSYS], log=log, what=what, cwd=cwd, text="\n".join(commands),
             limit_s=limit_s)


def port_names(component: Any) -> dict[str, tuple[Any, Any]]:
    """Return each port of a component under a flat name (`rx.payload` is `rx_payload`) with its direction.

    Verilator spells a double underscore, which Amaranth would use, as `___05F`.
    """
    from amaranth.hdl import Value
    from amaranth.hdl._ir import PortDirection
    from amaranth.lib.wiring import In

    ports = {}
    for path, member, value in component.signature.flatten(component):
        direction = PortDirection.Input if member.flow == In else PortDirection.Output
        ports["_".join(str(part) for part in path)] = (Value.cast(value), direction)
    return ports


def for_synthesis(rtlil: str) -> str:
    """Return RTLIL as synthesis needs it: see `relax_collisions` and `plain_names`."""
    return plain_names(relax_collisions(rtlil))


def plain_names(rtlil: str) -> str:
    """Return RTLIL whose names have dots for brackets: `word[3]`, a wire of its own, becomes `word.3`.

    On the way back from ABC9, Yosys takes such a wire for a bit of `word`, and gives up where that does not fit.
    """
    return re.sub(r"\\\S*\[\d+\]\S*", lambda name: re.sub(r"\[(\d+)\]", r".\1", name[0]), rtlil)


def relax_collisions(rtlil: str) -> str:
    """Return RTLIL in which memories marked `attrs={"no_rw_check": 1}` may return anything when a word is read in the
    clock in which it is written.

    Block RAM of the ECP5 does that; keeping Amaranth's meaning (the old word) costs some 70 LUTs and 90 flip-flops a
    port, in the slowest path of the design. Mark only memories where such a word is never used.
    """
    pattern = re.compile(r"^module .*?^end$", re.MULTILINE | re.DOTALL)
    return pattern.sub(lambda match: _relax_module(match[0]), rtlil)


def _relax_module(text: str) -> str:
    marked = re.findall(r"^  attribute \\no_rw_check [^\n]*1\n(?:  attribute [^\n]*\n)*  memory [^\n]* \\(\S+)$", text,
                        re.MULTILINE)
    if not marked:
        return text

    def relax(match: re.Match[str]) -> str:
        cell = match[0]
        transparent = "1" in _parameter(cell, "TRANSPARENCY_MASK").partition("'")[2]
        if transparent or not any(_parameter(cell, "MEMID") == f'"\\\\{name}"' for name in marked):
            return cell
        width, _, bits = _parameter(cell, "COLLISION_X_MASK").partition("'")
        return cell.replace(f"\\COLLISION_X_MASK {width}'{bits}", f"\\COLLISION_X_MASK {width}'{'1' * len(bits)}")

    return re.sub(r"^  cell \$memrd_v2 .*?^  end$", relax, text, flags=re.MULTILINE | re.DOTALL)


def _parameter(cell: str, name: str) -> str:
    found = re.search(rf"parameter \\{name} (\S+)", cell)
    return found[1] if found else ""


def loop_zeros(verilog: str) -> str:
    """Return Verilog in which memories that begin as zeros are set in a loop, not word by word.

    Most lines that Yosys writes of a chip are such words: with them Verilator takes twice as long.
    """
    block = re.compile(r"^  initial begin\n((?:    \S+ ?\[\d+\] = \d+'[hd]0+;\n)+)  end\n", re.MULTILINE)
    word = re.compile(r"    (\S+ ?)\[(\d+)\] = (\d+'[hd]0+);\n")

    def loop(match: re.Match[str]) -> str:
        words = word.findall(match[1])
        memory, _, zero = words[0]
        if words != [(memory, str(k), zero) for k in range(len(words))]:
            return match[0]
        return f"  initial for (int k = 0; k < {len(words)}; k = k + 1) {memory}[k] = {zero};\n"

    return block.sub(loop, verilog)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Spare the collector of garbage millions of small objects that all stay in use: nearly half of an elaboration."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def verilog_of(component: Any, *, name: str = "top") -> str:
    """Return a component as Verilog, with flat port names, `clk` and `rst`; with the modules beside this file that it
    names."""
    from amaranth.back import rtlil

    with _without_collection():
        text = rtlil.convert(component, name=name, ports=port_names(component), emit_src=False)
    with tempfile.TemporaryDirectory(prefix="bitline-") as temporary:
        directory = Path(temporary)
        (directory / "design.il").write_text(text, "utf-8")
        log = cache_directory("logs") / "yosys-verilog.log"
        log.unlink(missing_ok=True)
        commands = ("read_rtlil design.il", "proc", "opt_clean", "write_verilog -norename -noattr design.v")
        run_yosys(commands, log=log, what="writing Verilog", cwd=directory)
        text = loop_zeros((directory / "design.v").read_text("utf-8"))
    own = (path for path in sorted(Path(__file__).parent.glob("*.v")) if re.search(rf"\b{path.stem}\b", text))
    return "\n".join([text, *(path.read_text("utf-8") for path in own)])
