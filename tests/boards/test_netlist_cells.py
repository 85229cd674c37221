"""Our models of cells (boards/netlist.py) against those that come with Yosys, for all that their inputs can be.

Not here: MULT18X18D and DP16KD, of which Yosys has no model, and TRELLIS_DPR16X4.
"""

import random
import re

import pytest

from boards.netlist import netlist_library
from boards.toolchain import run_yosys
from boards.verilator import VerilatedChip

PAYLOAD, VALID = list(range(10, 18)), 4
"""Bits of the byte that goes in, and the one that tells that it does: a ninth input, 1 and then 0 for each byte."""
OUT = list(range(20, 28))


def netlist(cells):
    """Return a netlist of cells (type, parameters, connections) between `rx_payload` and `tx_payload`."""
    return {"ports": {"clk": {"bits": [2]}, "rx_valid": {"bits": [VALID]}, "rx_payload": {"bits": PAYLOAD},
                      "tx_ready": {"bits": [5]}, "rx_ready": {"bits": ["1"]}, "tx_valid": {"bits": ["1"]},
                      "tx_payload": {"bits": OUT}},
            "cells": {f"cell{k}": {"type": kind, "parameters": parameters,
                                   "connections": {pin: [bit] for pin, bit in connections.items()}}
                      for k, (kind, parameters, connections) in enumerate(cells)}}


def answers(cells, data, name):
    """Return what comes out in each clock while bytes go in, each for two clocks, the second one without VALID."""
    with VerilatedChip(netlist_library(netlist(cells), name=name)) as chip:
        chip.pace(rx=2)
        chip.push(bytes(data))
        chip.run(2 * len(data))
        return chip.pull()


def evaluated(cells, where, *, state=False):
    """Return Yosys' answers, binary, by input; with `state`, the next state of a flip-flop by its state and input."""
    lines, drives = [], {bit for _, _, connections in cells for bit in connections.values() if bit in OUT}
    for k, (kind, parameters, connections) in enumerate(cells):
        values = ", ".join(f'.{name}({_literal(value)})' for name, value in parameters.items())
        pins = ", ".join(f".{pin}({_wire(bit)})" for pin, bit in connections.items())
        lines.append(f"{kind} #({values}) cell{k}({pins});")
    text = f"module top(input clk, input [8:0] i, output [{len(drives) - 1}:0] o);\n{chr(10).join(lines)}\nendmodule\n"
    (where / "top.v").write_text(text, "utf-8")
    flip_flops = ["dffunmap", "opt_clean -purge", "expose -evert-dff top"]
    asked = [f"eval -set clk 0 -set o.q {len(drives)}'b{bit * len(drives)} -show o.d -table i top" for bit in "01"]
    run_yosys(["read_verilog -overwrite +/ecp5/cells_sim.v", "read_verilog top.v", "hierarchy -top top", "proc",
               "flatten", "opt_clean", *(flip_flops if state else []),
               *(f"tee -q -a table.txt {ask}" for ask in (asked if state else ["eval -show o -table i top"]))],
              log=where / "yosys.log", what="evaluating cells", cwd=where)
    lines = re.findall(r"^ +\d+'([01]+) +\| +\d+'([01x]+)", (where / "table.txt").read_text("utf-8"), re.MULTILINE)
    half = len(lines) // 2
    return ([{int(word, 2): answer for word, answer in part} for part in (lines[:half], lines[half:])] if state else
            {int(word, 2): answer for word, answer in lines})


def _literal(value):
    return f'"{value}"' if not set(value) <= {"0", "1"} or len(value) < 2 else f"{len(value)}'b{value}"


def _wire(bit):
    if isinstance(bit, str):
        return f"1'b{bit}"
    if bit == 2:
        return "clk"
    return f"o[{OUT.index(bit)}]" if bit in OUT else "i[8]" if bit == VALID else f"i[{PAYLOAD.index(bit)}]"


def table(rng, bits=16):
    return f"{rng.getrandbits(bits):0{bits}b}"


def luts(rng):
    """Six tables of four inputs, and the two multiplexers."""
    a, b, c, d = PAYLOAD[:4]
    cells = [("LUT4", {"INIT": table(rng)}, {"A": a, "B": b, "C": c, "D": d, "Z": OUT[k]}) for k in range(6)]
    return [*cells, ("PFUMX", {}, {"ALUT": a, "BLUT": b, "C0": c, "Z": OUT[6]}),
            ("L6MUX21", {}, {"D0": b, "D1": c, "SD": d, "Z": OUT[7]})]


def carries(rng, injects):
    """Carry cells, one for each pair of modes, with all nine inputs."""
    cells = []
    for k, (first, second) in enumerate(injects):
        pins = dict(zip([f"{pin}{half}" for half in range(2) for pin in "ABCD"], PAYLOAD, strict=True))
        pins |= {"CIN": VALID, "S0": OUT[3 * k], "S1": OUT[3 * k + 1], "COUT": OUT[3 * k + 2]}
        cells.append(("CCU2C", {"INIT0": table(rng), "INIT1": table(rng), "INJECT1_0": first, "INJECT1_1": second},
                      pins))
    return cells


COMBINATIONAL = {
    "luts": (luts, 8), "carries": (lambda rng: carries(rng, [("YES", "YES"), ("NO", "NO")]), 6),
    "mixed carries": (lambda rng: carries(rng, [("YES", "NO"), ("NO", "YES")]), 6)}


def wrong(cells, reference, used, name):
    """Return for how many inputs a netlist does not answer as Yosys does."""
    got = answers(cells, range(256), name)
    mask = (1 << used) - 1
    expected = [int(reference[byte | valid << 8].replace("x", "0"), 2) & mask for byte in range(256)
                for valid in (1, 0)]
    return sum(ours & mask != theirs for ours, theirs in zip(got, expected, strict=True))


@pytest.mark.parametrize("name", COMBINATIONAL)
def test_what_has_no_clock(name, tmp_path):
    make, used = COMBINATIONAL[name]
    cells = make(random.Random(len(name)))
    assert wrong(cells, evaluated(cells, tmp_path), used, "cells") == 0


def test_a_wrong_table_is_seen(tmp_path):
    cells = luts(random.Random(1))
    reference = evaluated(cells, tmp_path)
    kind, parameters, pins = cells[3]
    cells[3] = kind, {"INIT": parameters["INIT"][:-1] + "10"[int(parameters["INIT"][-1])]}, pins
    assert wrong(cells, reference, 8, "broken") == 256 // 16 * 2


MODES = [("CE", "LSR", "RESET"), ("CE", "LSR", "SET"), ("INV", "INV", "RESET"), ("INV", "INV", "SET"),
         ("1", "LSR", "SET"), ("0", "LSR", "RESET"), ("INV", "LSR", "RESET"), ("CE", "INV", "SET")]


def flip_flop(mode, out):
    enable, reset, start = mode
    return ("TRELLIS_FF", {"CEMUX": enable, "LSRMUX": reset, "REGSET": start, "SRMODE": "LSR_OVER_CE",
                           "CLKMUX": "CLK", "GSR": "DISABLED"},
            {"CLK": 2, "DI": PAYLOAD[0], "CE": PAYLOAD[1], "LSR": PAYLOAD[2], "Q": out})


def test_flip_flops(tmp_path):
    """A random sequence that takes each from all states with all inputs; the next state is the one Yosys tells."""
    rng = random.Random(4)
    data = [rng.randrange(8) for _ in range(400)]
    cells = [flip_flop(mode, OUT[k]) for k, mode in enumerate(MODES)]
    got, next_state = answers(cells, data, "flip-flops"), evaluated(cells, tmp_path, state=True)
    for k, mode in enumerate(MODES):
        enable, _, start = mode
        state, seen = int(start == "SET"), set()
        for clock, byte in enumerate(got):
            assert byte >> k & 1 == state, (mode, clock)
            inputs = data[clock // 2]
            seen.add((inputs, state))
            state = int(next_state[state][inputs][-1 - k])
        assert len(seen) == (8 if enable == "0" else 16)  # one that is never enabled stays as it began
