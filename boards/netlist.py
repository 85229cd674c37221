"""The chip as synthesis left it: the netlist that place and route reads, in C++ and driven as `sim:` is.

Verilator takes minutes for a netlist of single bits, and its C++ longer to compile, so each cell becomes a row of a
table here, in the order in which bits depend on each other, which `netlist.cpp` goes through. The models of all cells
are ours, in the modes that synthesis uses; others are refused. Yosys has models of LUTs, carries, multiplexers, flip-
flops and LUT RAM, whose equations ours follow, and none of MULT18X18D and DP16KD. Left out is what a board puts around
its chip: PLL, clock gate, pins and serial line.
"""

import dataclasses
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from boards.build import synthesise
from boards.compiler import CompilerMissingError, find_compiler
from boards.ecp5 import Ecp5Cells
from boards.toolchain import (
    Progress,
    ToolError,
    cache_directory,
    content_hash,
    for_synthesis,
    port_names,
    run_tool,
    tool_versions,
)
from rtl.crossing import CALC
from rtl.params import Geometry

__all__ = ["Netlist", "count_cells", "netlist_library", "source_of", "synthesised"]

Netlist = dict[str, Any]
"""A module as Yosys writes it to JSON: `ports`, and `cells` with type, parameters and connections."""

_MODELS = Path(__file__).with_suffix(".cpp")
_HEADER = Path(__file__).with_suffix(".h")
_HARNESS = Path(__file__).with_name("verilator.cpp")
_STEPS = ("build", "ecp5", "sdram", "toolchain")
"""What the netlist follows from, beside `rtl`."""
_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-w")


class _AtPowerUp(wiring.Component):
    """A chip that begins with what the bitstream says, as on a board: `rst` goes nowhere."""

    def __init__(self, chip: Any):
        self.chip = chip
        fast = {"calc_clk": In(1)} if chip.geometry.pump > 1 else {}
        super().__init__({"clk": In(1), "rst": In(1), **fast, **dict(chip.signature.members)})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = sync = ClockDomain(reset_less=True)
        m.submodules.chip = self.chip
        m.d.comb += sync.clk.eq(self.clk)
        if self.chip.geometry.pump > 1:
            m.domains += (calc := ClockDomain(CALC, reset_less=True))
            m.d.comb += calc.clk.eq(self.calc_clk)
        connect(m, flipped(self.rx), self.chip.rx)
        connect(m, self.chip.tx, flipped(self.tx))
        return m


def synthesised(geometry: Geometry, progress: Progress = lambda _: None) -> Netlist:
    """Return the netlist of a chip, by the steps of a board build; from the cache if sources and tools are those.

    Raises
    ------
    ToolError
        If synthesis fails.
    """
    root = Path(__file__).resolve().parent
    sources = [*sorted((root.parent / "rtl").rglob("*.py")), *(root / f"{name}.py" for name in _STEPS)]
    key = content_hash([tool_versions("pyosys", "amaranth"), repr(geometry),
                        *(part for path in sources for part in (path.name, path.read_bytes()))])
    kept = cache_directory("netlists") / f"{geometry.name}-{key}.json"
    if not kept.exists():
        _synthesise(geometry, kept, progress)
    module: Netlist = json.loads(kept.read_text("utf-8"))["modules"]["top"]
    # Scopes only carry names.
    cells = {name: cell for name, cell in module["cells"].items() if cell["type"] != "$scopeinfo"}
    return {"ports": module["ports"], "cells": cells}


def _synthesise(geometry: Geometry, kept: Path, progress: Progress) -> None:
    """Write the netlist of a chip; the file appears whole or not at all."""
    from boards.sdram import simulated_chip

    progress(f"elaborating the chip {geometry.name} in cells of the ECP5")
    top = _AtPowerUp(simulated_chip(geometry))
    text = for_synthesis(rtlil.convert(top, name="top", ports=port_names(top), platform=Ecp5Cells(), emit_src=False))
    progress("synthesis: some minutes, once")
    with tempfile.TemporaryDirectory(prefix="making-", dir=kept.parent) as temporary:
        place = Path(temporary)
        (place / "top.il").write_text(text, "utf-8")
        synthesise(place, "top")
        (place / "top.json").replace(kept)


def count_cells(netlist: Netlist) -> dict[str, int]:
    """Return how many cells of each type there are."""
    return dict(sorted(Counter(cell["type"] for cell in netlist["cells"].values()).items()))


def netlist_library(netlist: Netlist, progress: Progress = lambda _: None, *, name: str, pump: int = 1) -> Path:
    """Return the library of a netlist, which `VerilatedChip` drives; from the cache if it is there.

    Its calculation clock, if it has one, is `pump` times as fast as its clock.

    Raises
    ------
    ToolError
        If a cell is of a type or in a mode that has no model here, or the compiler fails.
    """
    source = source_of(netlist)
    try:
        compiler = find_compiler()
    except CompilerMissingError as error:
        raise ToolError(str(error)) from error
    flags = [*_FLAGS, f"-DPUMP={pump}"]
    parts = [path.read_text("utf-8") for path in (_MODELS, _HEADER, _HARNESS)]
    cache = cache_directory("netlists")
    library = cache / f"{name}-{content_hash([source, *parts, *compiler, *flags])}.so"
    if not library.exists():
        progress("compiling the netlist")
        with tempfile.TemporaryDirectory(prefix="making-", dir=cache) as temporary:
            place = Path(temporary)
            (place / "netlist.inc").write_text(source, "utf-8")
            shutil.copy(_MODELS, place)
            shutil.copy(_HARNESS, place)
            shutil.copy(_HEADER, place / "Vtop.h")
            (place / "verilated.h").write_text("", "utf-8")
            log = cache_directory("logs") / f"{library.stem}.log"
            log.unlink(missing_ok=True)
            made = place / library.name
            run_tool([*compiler, *flags, f"-I{place}", "-o", str(made), str(place / _MODELS.name),
                      str(place / _HARNESS.name)], log=log, what="compiling the netlist")
            made.replace(library)
    return library


# --- cells as tables of C++ -----------------------------------------------------------------------------------------

_CLOCK_PINS = {"TRELLIS_FF": ["CLK"], "TRELLIS_DPR16X4": ["WCK"], "MULT18X18D": ["CLK0"], "DP16KD": ["CLKA", "CLKB"]}

_MULTIPLEXER = int("CA" * 4, 16)  # in[2] ? in[1] : in[0]


@dataclasses.dataclass(frozen=True)
class _Node:
    """What has no clock: bits in and out, and what computes them, a LUT's table or the number of a cell."""

    out: Sequence[int]
    used: Sequence[int]
    lut: int = -1
    small_ram: int = -1
    multiplier: int = -1


def source_of(netlist: Netlist) -> str:
    """Return the cells of a netlist as the tables that `netlist.cpp` works on.

    Raises
    ------
    ToolError
        If a cell is of a type or in a mode that has no model there, or bits depend on themselves without a clock.
    """
    return _Tables(netlist).text()


class _Cell:
    """A cell of the netlist; `place` tells where a bit is."""

    def __init__(self, name: str, cell: dict[str, Any], place: Callable[[Any], int]) -> None:
        self.name, self.type, self.place = name, cell["type"], place
        self._parameters, self._connections = cell["parameters"], cell["connections"]

    def bit(self, pin: str, index: int = 0) -> Any:
        """Return a bit as the netlist names it; what is not connected, or anything, is 0."""
        bits = self._connections.get(pin, [])
        found = bits[index] if index < len(bits) else "0"
        return "0" if found in ("x", "z") else found

    def pin(self, pin: str, index: int = 0) -> int:
        """Return the place of an input."""
        return self.place(self.bit(pin, index))

    def out(self, pin: str, index: int = 0) -> int:
        """Return the place of an output; one that leads nowhere has a place of its own."""
        found = self.bit(pin, index)
        return self.place(found if isinstance(found, int) else (self.name, pin, index))

    def bus(self, pin: str, width: int) -> list[int]:
        """Return the places of inputs with numbered names."""
        return [self.pin(f"{pin}{k}") for k in range(width)]

    def fixed(self, pin: str, *allowed: str) -> str:
        """Return a pin that must be constant."""
        found = self.bit(pin)
        if found not in allowed:
            raise self._unknown(f"pin {pin}", "is in use")
        return str(found)

    def mode(self, parameter: str, default: str, *allowed: str) -> str:
        """Return a parameter that must be one of some."""
        value = str(self._parameters.get(parameter, default)).strip()
        if value not in allowed:
            raise self._unknown(parameter, f"is {value}")
        return value

    def number(self, parameter: str, default: int = 0) -> int:
        """Return a parameter that is a number."""
        text = self._parameters.get(parameter)
        return default if text is None else int(str(text).replace("x", "0"), 2)

    def gate(self, mux: str, pin: str, *constants: str) -> tuple[int, int]:
        """Return place and inversion of a control that may be inverted, or one of some constants."""
        how = self.mode(mux, pin, pin, "INV", *constants)
        return (self.place(how) if how in ("0", "1") else self.pin(pin)), int(how == "INV")

    def _unknown(self, what: str, how: str) -> ToolError:
        return ToolError(f"{what} of the {self.type} {self.name} {how}, which its model does not know")


class _Tables:
    """The cells of a netlist, sorted into tables."""

    def __init__(self, netlist: Netlist) -> None:
        self._places: dict[Any, int] = {"0": 0, "1": 1}
        self._ports = netlist["ports"]
        self._clocks: list[Any] = [bit for name in ("clk", "calc_clk") if name in self._ports
                                   for bit in self._ports[name]["bits"]]
        self._nodes: list[_Node] = []
        self._luts: list[tuple[int, list[int], int]] = []
        self._tables: dict[str, list[str]] = {name: [] for name in (
            "flip_flops", "small_rams", "small_initial", "multipliers", "block_rams", "block_initial")}
        cells = [_Cell(name, cell, self._place) for name, cell in sorted(netlist["cells"].items())]
        makers = {"LUT4": self._lut, "PFUMX": self._pfumx, "L6MUX21": self._l6mux21, "CCU2C": self._carry,
                  "TRELLIS_FF": self._flip_flop, "TRELLIS_DPR16X4": self._small_ram, "MULT18X18D": self._multiplier,
                  "DP16KD": self._block_ram}
        for cell in cells:
            if cell.type not in makers:
                raise ToolError(f"cell {cell.name} is a {cell.type}, which has no model here")
        # Multipliers with registers come first, then what is on the chip's clock.
        registered = {cell.name for cell in cells if cell.type == "MULT18X18D" and _registered(cell)}
        self._registered = len(registered)
        cells.sort(key=lambda cell: (cell.name not in registered, self._clock_of(cell)))
        self._on_chips = Counter(cell.type for cell in cells if self._clock_of(cell) == 0
                                 and (cell.type != "MULT18X18D" or cell.name in registered))
        # Flip-flops are copied all at once, so their places follow each other.
        self._flip_flops = [cell for cell in cells if cell.type == "TRELLIS_FF"]
        for cell in self._flip_flops:
            cell.out("Q")
        for cell in cells:
            makers[cell.type](cell)

    def _place(self, bit: Any) -> int:
        return self._places.setdefault(bit, len(self._places))

    def _clock_of(self, cell: _Cell) -> int:
        """Return 0 for the chip's clock, or none, and 1 for the calculation's."""
        found = {cell.bit(pin) for pin in _CLOCK_PINS.get(cell.type, ())} - {"0"}
        if len(found) > 1 or not found <= set(self._clocks):
            raise ToolError(f"the {cell.type} {cell.name} is on another clock, or on two")
        return self._clocks.index(*found) if found else 0

    def _add_lut(self, init: int, used: list[int], out: int) -> None:
        self._nodes.append(_Node([out], used, lut=len(self._luts)))
        self._luts.append((init, used + [0] * (5 - len(used)), out))

    def _lut(self, cell: _Cell) -> None:
        self._add_lut(cell.number("INIT"), [cell.pin(pin) for pin in "ABCD"], cell.out("Z"))

    def _pfumx(self, cell: _Cell) -> None:
        self._add_lut(_MULTIPLEXER, [cell.pin(pin) for pin in ("BLUT", "ALUT", "C0")], cell.out("Z"))

    def _l6mux21(self, cell: _Cell) -> None:
        self._add_lut(_MULTIPLEXER, [cell.pin(pin) for pin in ("D0", "D1", "SD")], cell.out("Z"))

    def _carry(self, cell: _Cell) -> None:
        """Two LUTs of five inputs for each half: sum and carry as they are without (low 16 bits) and with a carry."""
        carried = cell.pin("CIN")
        for half, out in enumerate((self._place((cell.name, "carry")), cell.out("COUT"))):
            init, used = cell.number(f"INIT{half}"), [*(cell.pin(f"{pin}{half}") for pin in "ABCD"), carried]
            inject = cell.mode(f"INJECT1_{half}", "YES", "YES", "NO") == "YES"
            generated = 0 if inject else (init & 15) * 0x1111
            total = init if inject else init ^ 0xFFFF
            self._add_lut(init | total << 16, used, cell.out(f"S{half}"))
            self._add_lut(~init & generated | (init | generated) << 16, used, out)
            carried = out

    def _flip_flop(self, cell: _Cell) -> None:
        for parameter, only in (("CLKMUX", "CLK"), ("SRMODE", "LSR_OVER_CE"), ("LSRMODE", "LSR")):
            cell.mode(parameter, only, only)
        start = int(cell.mode("REGSET", "RESET", "RESET", "SET") == "SET")
        enable, enable_low = cell.gate("CEMUX", "CE", "1", "0")
        reset, reset_low = cell.gate("LSRMUX", "LSR")
        self._tables["flip_flops"].append(
            _row(cell.pin("DI"), enable, reset, start, enable_low, reset_low))

    def _small_ram(self, cell: _Cell) -> None:
        cell.mode("WCKMUX", "WCK", "WCK")
        to, data, source = ([cell.pin(pin, k) for k in range(4)] for pin in ("WAD", "DI", "RAD"))
        out, content = [cell.out("DO", k) for k in range(4)], cell.number("INITVAL")
        self._nodes.append(_Node(out, source, small_ram=len(self._tables["small_rams"])))
        self._tables["small_rams"].append(_row(*cell.gate("WREMUX", "WRE", "1", "0"), to, data, source, out))
        self._tables["small_initial"].append(_row(*(content >> 4 * k & 15 for k in range(16))))

    def _multiplier(self, cell: _Cell) -> None:
        for pin in ("RST0", "SOURCEA", "SOURCEB"):
            cell.fixed(pin, "0")
        a, b, out = cell.bus("A", 18), cell.bus("B", 18), [cell.out(f"P{k}") for k in range(36)]
        if _registered(cell):
            cell.fixed("CE0", "1")
        else:
            self._nodes.append(_Node(out, [*a, *b], multiplier=len(self._tables["multipliers"])))
        signs = (int(cell.fixed(f"SIGNED{factor}", "0", "1")) for factor in "AB")
        self._tables["multipliers"].append(_row(a, b, *signs, out))

    def _block_ram(self, cell: _Cell) -> None:
        number = len(self._tables["block_rams"])
        widths = [cell.number(f"DATA_WIDTH_{port}", 18) for port in "AB"]
        outputs = [[cell.out(f"DO{port}{k}") for k in range(18)] for port in "AB"]
        nowhere = [self._place("nowhere")]
        # A port that reads 36 bits has the pins of both; so has one that writes them.
        out = ([nowhere * 36, outputs[0] + outputs[1]] if widths[1] == 36 else
               [one + nowhere * 18 for one in outputs])
        data = [cell.bus("DIA", 18) + cell.bus("DIB", 18), cell.bus("DIB", 18) + [0] * 18]
        self._tables["block_rams"].append(_row(
            [self._port(cell, port, width) for port, width in zip("AB", widths, strict=True)],
            # A port without a clock is one that is never enabled.
            [cell.pin(f"CE{port}") if cell.bit(f"CLK{port}") != "0" else 0 for port in "AB"],
            [cell.pin(f"WE{port}") for port in "AB"], [cell.pin(f"OCE{port}") for port in "AB"],
            [cell.bus(f"AD{port}", 14) for port in "AB"], data, out))
        for k in range(64):
            content = cell.number(f"INITVAL_{k:02X}")
            for byte in range(32):  # words of 18 bits, 20 bits apart
                value = content >> byte // 2 * 20 + byte % 2 * 9 & 0x1FF
                if value:
                    self._tables["block_initial"].append(_row(number, 32 * k + byte, value))

    @staticmethod
    def _port(cell: _Cell, port: str, width: int) -> list[int]:
        cell.mode(f"CLK{port}MUX", f"CLK{port}", f"CLK{port}")
        for pin in (f"RST{port}", *(f"CS{port}{k}" for k in range(3))):
            cell.fixed(pin, "0")
        mode = cell.mode(f"WRITEMODE_{port}", "NORMAL", "NORMAL", "WRITETHROUGH", "READBEFOREWRITE")
        registered = cell.mode(f"REGMODE_{port}", "NOREG", "NOREG", "OUTREG") == "OUTREG"
        return [width, int(mode == "WRITETHROUGH"), int(mode == "NORMAL"), int(registered)]

    def text(self) -> str:
        """Return the C++."""
        order = self._order()
        luts, steps = [], []
        for node in order:
            if node.lut >= 0:
                luts.append(_row(*self._luts[node.lut]))
            else:
                steps.append(_row(len(luts), node.small_ram, node.multiplier))
        steps.append(_row(len(luts), -1, -1))
        ports = _row(*([self._place(bit) for bit in self._ports[name]["bits"]] for name in (
            "rx_valid", "rx_payload", "tx_ready", "rx_ready", "tx_valid", "tx_payload")))
        sizes = {"PLACES": len(self._places), "FIRST": 2, "FLIP_FLOPS": len(self._flip_flops),
                 "SMALL_RAMS": len(self._tables["small_rams"]), "MULTIPLIERS": len(self._tables["multipliers"]),
                 "REGISTERED": self._registered, "BLOCK_RAMS": len(self._tables["block_rams"]),
                 "CHIPS_FLIP_FLOPS": self._on_chips["TRELLIS_FF"], "CHIPS_BLOCK_RAMS": self._on_chips["DP16KD"],
                 "CHIPS_SMALL_RAMS": self._on_chips["TRELLIS_DPR16X4"],
                 "CHIPS_REGISTERED": self._on_chips["MULT18X18D"]}
        tables = {"Lut luts": luts, "Step steps": steps, "FlipFlop flip_flops": self._tables["flip_flops"],
                  "SmallRam small_rams": self._tables["small_rams"],
                  "MultiplierCell multipliers": self._tables["multipliers"],
                  "BlockRam block_rams": self._tables["block_rams"]}
        lines = [f"constexpr int {name} = {value};" for name, value in sizes.items()]
        # One row more than there are, of the RAM after the last: an array must not be empty.
        after = _row(len(self._tables["block_rams"]), 0, 0)
        lines += [f"const {name}[] = {{{','.join([*rows, '{}'])}}};" for name, rows in tables.items()
                  if not name.startswith("Step")]
        lines += [f"const Step steps[] = {{{','.join(steps)}}};",
                  f"const uint8_t small_initial[][16] = {{{','.join([*self._tables['small_initial'], '{}'])}}};",
                  f"const int block_initial[][3] = {{{','.join([*self._tables['block_initial'], after])}}};",
                  f"const Ports ports = {ports};"]
        return "\n".join(lines) + "\n"

    def _order(self) -> list[_Node]:
        """Return all that has no clock, each after what it depends on."""
        maker = {bit: k for k, node in enumerate(self._nodes) for bit in node.out}
        graph = {k: {maker[bit] for bit in node.used if bit in maker} for k, node in enumerate(self._nodes)}
        try:
            return [self._nodes[k] for k in TopologicalSorter(graph).static_order()]
        except CycleError as error:
            raise ToolError(f"the netlist has a loop without a clock, of {len(error.args[1]) - 1} cells") from None


def _registered(cell: _Cell) -> bool:
    """Tell whether a multiplier has all its registers; some of them are not known here."""
    ranks = {cell.mode(f"REG_{rank}_CLK", "NONE", "NONE", "CLK0")
             for rank in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")}
    if len(ranks) > 1:
        raise ToolError(f"the MULT18X18D {cell.name} has some of its registers, which its model does not know")
    return ranks == {"CLK0"}


def _row(*values: Any) -> str:
    """Return nested numbers as C++ writes them."""
    return "{" + ",".join(_row(*value) if isinstance(value, (list, tuple)) else str(value) for value in values) + "}"
