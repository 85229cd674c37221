# amaranth: UnusedElaboratable=no
"""The ECP5's cells in place of the portable parts, with our own models of the cells (tests/boards/ecp5_cells.v)."""

import re
from pathlib import Path

import pyosys
import pytest
from amaranth.hdl import Module, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from boards.ecp5 import Ecp5Cells
from rtl.primitives import BlockMemory, Multiplier
from tests.cocotb.harness import run_bench

CELLS = Path(__file__).parents[1] / "boards/ecp5_cells.v"


class Twins(wiring.Component):
    """A multiplier, a memory of whole words, of wide and of deep ones, each twice: portable, and as cells."""

    def __init__(self):
        super().__init__({
            "a": In(9), "b": In(8), "address": In(11), "w_address": In(11), "w_mask": In(4), "w_part": In(9),
            "p": Out(16), "p_cell": Out(16), "whole": Out(36), "whole_cell": Out(36),
            "wide": Out(36), "wide_cell": Out(36), "deep": Out(9), "deep_cell": Out(9),
        })

    def elaborate(self, platform):
        m = Module()
        for suffix in ("", "_cell"):
            multiplier = Multiplier(a_bits=9, b_bits=8)
            whole = BlockMemory(depth=512, parts=4, shape=signed(9))
            wide = BlockMemory(depth=1024, parts=4, shape=signed(9))
            deep = BlockMemory(depth=2048, parts=1, shape=unsigned(9))
            for name, part, cells in (("multiplier", multiplier, Ecp5Cells().get_multiplier),
                                      ("whole", whole, Ecp5Cells().get_block_memory),
                                      ("wide", wide, Ecp5Cells().get_block_memory),
                                      ("deep", deep, Ecp5Cells().get_block_memory)):
                m.submodules[name + suffix] = cells(part) if suffix else part
            m.d.comb += [multiplier.a.eq(self.a), multiplier.b.eq(self.b), getattr(self, f"p{suffix}").eq(multiplier.p)]
            for name, memory in (("whole", whole), ("wide", wide), ("deep", deep)):
                m.d.comb += [
                    memory.address.eq(self.address), memory.w_address.eq(self.w_address),
                    memory.w_mask.eq(self.w_mask), memory.w_part.eq(self.w_part),
                    getattr(self, name + suffix).eq(Value.cast(memory.word)),
                ]
        return m


@pytest.mark.cocotb
def test_cells(tmp_path):
    run_bench(Twins(), "tests.cocotb.bench_ecp5", tests=1, where=tmp_path, cells=CELLS.read_text("utf-8"))


class Products(wiring.Component):
    """A multiplier of carry cells."""

    def __init__(self, net_bits):
        self.part = Multiplier(a_bits=net_bits, b_bits=8, soft=True)
        super().__init__({"a": In(net_bits), "b": In(8), "p": Out(self.part.p_bits)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.cells = Ecp5Cells().get_multiplier(self.part)
        m.d.comb += [self.part.a.eq(self.a), self.part.b.eq(self.b), self.p.eq(self.part.p)]
        return m


@pytest.mark.cocotb
@pytest.mark.parametrize("net_bits", [9, 12])
def test_carry_cells_multiply(net_bits, tmp_path):
    """On the models of carry cell and table that come with Yosys, less their delays."""
    share = Path(pyosys.__file__).parent / "share/lattice"
    models = (share / "ccu2c_sim.vh").read_text("utf-8") + (share / "common_sim.vh").read_text("utf-8")
    cells = [re.sub(r"specify.*?endspecify", "", module, flags=re.DOTALL)
             for module in re.findall(r"^module (?:CCU2C|LUT[24]) *\(.*?^endmodule", models, re.MULTILINE | re.DOTALL)]
    assert len(cells) == 3
    run_bench(Products(net_bits), "tests.cocotb.bench_carry", tests=1, where=tmp_path, cells="\n".join(cells),
              NET_BITS=str(net_bits))
