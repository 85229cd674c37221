"""The SDRAM of a board: pads of every pin, and boards without one."""

import dataclasses

import pytest

from boards.build import write_design
from boards.catalog import board
from rtl.chip import Chip
from rtl.params import preset


def test_every_pin_has_its_pad(tmp_path):
    """39 pins; registers in the pads of all of them, the clock from a register of both edges."""
    target = dataclasses.replace(board("ulx3s-85f-sdram"), geometry=preset("tiny-sdram"))
    write_design(target, target.make_top(Chip(geometry=target.geometry)), tmp_path, "top")
    located = [line for line in (tmp_path / "top.lpf").read_text("utf-8").splitlines()
               if line.startswith("LOCATE COMP \"sdram_0__")]
    assert len(located) == 39
    design = (tmp_path / "top.il").read_text("utf-8")
    kinds = {kind: design.count(f"cell \\{kind} ") for kind in ("ODDRX1F", "IFS1P3DX", "OFS1P3DX")}
    assert kinds == {"ODDRX1F": 1, "IFS1P3DX": 16, "OFS1P3DX": 38 + 39}  # values, and directions


def test_a_board_without_is_refused():
    with pytest.raises(ValueError, match=r"^ulx3s-85f has no sdram, where demo-sdram keeps its states and batch$"):
        dataclasses.replace(board("ulx3s-85f"), geometry=preset("demo-sdram"))
    batch = preset("demo").replace(batch_words=1 << 20, batch_store="sdram")
    with pytest.raises(ValueError, match=r"^ulx3s-85f has no sdram, where demo keeps its batch$"):
        dataclasses.replace(board("ulx3s-85f"), geometry=batch)


def test_a_board_with_too_little_is_refused():
    target = board("ulx3s-85f-sdram")
    part = dataclasses.replace(target.sdram, row_bits=12)
    with pytest.raises(ValueError, match=r"^the sdram of ulx3s-85f-sdram has 8,388,608 words, but states and batch of "
                                         "demo-sdram take 16,777,216$"):
        dataclasses.replace(target, sdram=part)
