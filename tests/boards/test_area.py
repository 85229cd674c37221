"""Area of parts, by synthesis."""

import pytest

from boards import area
from rtl.params import preset

TINY = preset("tiny")

STAT = """
=== part ===

        +----------Local Count, excluding submodules.
        |
     1234 wires
       56   LUT4
        7   CCU2C

=== design hierarchy ===

      120   LUT4
        9   CCU2C
        3   DP16KD
"""


def test_cells_are_those_of_the_whole_design():
    found = area.read_cells(STAT)
    assert found == {"LUT4": 120, "CCU2C": 9, "TRELLIS_FF": 0, "DP16KD": 3, "MULT18X18D": 0, "TRELLIS_DPR16X4": 0}


def test_a_table_has_a_line_for_each_part():
    lines = area.table([area.Area("tile", area.read_cells(STAT))]).splitlines()
    assert lines[0] == "| part | LUT4 | carry | flip-flop | block RAM | multiplier | LUT RAM |"
    assert lines[2] == "| tile | 120 | 9 | 0 | 3 | 0 | 0 |"


def test_an_unknown_geometry_is_refused(capsys):
    assert area.main(["huge"]) == 1
    assert "unknown geometry 'huge'" in capsys.readouterr().err


@pytest.mark.slow
def test_what_parts_cost_on_tiny():
    """A backward read takes an accumulator a lane; physics take more than the read path of so small a tile."""
    found = {one.part: one.cells for one in area.measure(TINY)}
    assert set(found) == set(area.PARTS)
    for name in ("LUT4", "TRELLIS_FF"):
        assert found["engine that also reads backward"][name] > found["engine"][name]
        assert found["core: tile and physics"][name] > found["tile"][name]
        assert found["core, two pairs"][name] > found["core: tile and physics"][name]
    # A lane has a multiplier; noise and ADC, device pipeline and write-verify have theirs.
    assert found["core: tile and physics"]["MULT18X18D"] > found["tile"]["MULT18X18D"] >= TINY.lanes
    assert found["engine"]["MULT18X18D"] == TINY.lanes
