"""The floorplan: one site a cell, on the device, near what it belongs to; and only of cells that exist."""

import itertools
import re

import pytest

from boards.build import fix_sites, write_design
from boards.catalog import board
from boards.floorplan import ECP5_85F, floorplan
from boards.toolchain import ToolError, run_yosys
from rtl.chip import Chip
from rtl.params import preset


@pytest.fixture(scope="module")
def demo():
    return floorplan(preset("demo"), ECP5_85F, chip="chip")


def _place(site):
    x, y, kind = re.fullmatch(r"X(\d+)/Y(\d+)/(MULT18|EBR).*", site).groups()
    return int(x), int(y), kind


def test_each_cell_has_a_site_of_its_own(demo):
    assert len(set(demo.values())) == len(demo) == 2 * (14 * (4 + 2) + 2 * 25)


def test_engines_have_a_strip_each_and_the_middle_is_free(demo):
    reach = [{_place(site)[0] for cell, site in demo.items() if f".core{k}." in cell} for k in range(2)]
    assert max(reach[0]) < 49
    assert min(reach[1]) >= 78


def test_weights_lie_beside_their_multipliers_and_groups_follow_each_other(demo):
    for engine in range(2):
        blocks = []
        for group in range(14):
            cells = {name: _place(site) for name, site in demo.items()
                     if name.startswith(f"chip.core{engine}.tile.engine.group_{group}.")}
            assert sorted(kind for _, _, kind in cells.values()) == ["EBR"] * 2 + ["MULT18"] * 4
            xs, ys = [x for x, _, _ in cells.values()], [y for _, y, _ in cells.values()]
            assert max(xs) - min(xs) <= 6
            assert max(ys) - min(ys) == 12
            blocks.append((min(xs), min(ys)))
        steps = [abs(x - u) / 9 + abs(y - v) / 24 for (x, y), (u, v) in itertools.pairwise(blocks)]
        assert max(steps) <= 2.3  # a block further, or a row and a block


def test_groups_of_logic_have_only_memories_beside_those_of_hardware():
    """Seventeen of 33 groups, whose weights are one block RAM each."""
    geometry = preset("demo").replace(rows=396, lanes=396, pump=3, soft_groups=17, net_words=512)
    assert sum(geometry.soft(group) for group in range(geometry.groups)) == 17
    sites = floorplan(geometry, ECP5_85F, chip="chip")
    assert len(set(sites.values())) == len(sites) == 2 * (16 * 4 + 33 + 2 * 25)
    for group in range(geometry.groups):
        cells = {name: _place(site) for name, site in sites.items()
                 if name.startswith(f"chip.core0.tile.engine.group_{group}.")}
        assert len(cells) == (1 if geometry.soft(group) else 5)
        before = [_place(site) for name, site in sites.items()
                  if name.startswith(f"chip.core0.tile.engine.group_{max(0, group - 1)}.")]
        steps = [abs(x - u) / 9 + abs(y - v) / 24 for x, y, _ in cells.values() for u, v, _ in before]
        assert max(steps) <= 3.3


def test_weights_of_four_block_rams_are_beside_their_multipliers_or_in_the_row_above():
    geometry = preset("demo-fast")
    sites = floorplan(geometry, ECP5_85F, chip="chip")
    assert len(set(sites.values())) == len(sites) == 2 * (16 * 4 + 18 * 4)
    for group in range(geometry.groups):
        cells = {name: _place(site) for name, site in sites.items()
                 if name.startswith(f"chip.core1.tile.engine.group_{group}.")}
        assert sum(kind == "EBR" for _, _, kind in cells.values()) == 4
        xs = [x for x, _, _ in cells.values()]
        assert max(xs) - min(xs) <= 6 + 9 * geometry.soft(group)


@pytest.mark.parametrize(("changes", "named"), [
    ({"lanes": 8, "transport": 2}, "groups of 2 multipliers"),
    ({"lanes": 112}, "28 groups"),
    ({"cells": 60000}, "60 banks"),
])
def test_what_does_not_fit_is_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        floorplan(preset("demo").replace(**changes), ECP5_85F, chip="chip")


def test_cells_are_those_of_the_design(tmp_path):
    """On a chip of the same make: names that no cell has would leave the placer free, in silence."""
    geometry = preset("small").replace(state_bits=9)
    target = board("ulx3s-85f")
    write_design(target, target.make_top(Chip(geometry=geometry)), tmp_path, "top")
    sites = floorplan(geometry, ECP5_85F, chip="serial.chip")
    read = ["read_rtlil top.il", "hierarchy -top top", "proc", "flatten"]
    run_yosys([*read, *fix_sites(sites)], log=tmp_path / "log", what="reading", cwd=tmp_path)
    renamed = {cell.replace("weights", "weight"): site for cell, site in sites.items()}
    with pytest.raises(ToolError, match="reading"):
        run_yosys([*read, *fix_sites(renamed)], log=tmp_path / "log", what="reading", cwd=tmp_path)
