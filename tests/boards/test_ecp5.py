"""The clock loop: known dividers, the device's limits, and what cannot be made."""

import pytest
from amaranth.back import rtlil
from amaranth.hdl import signed, unsigned

from boards.ecp5 import OUTPUT_HZ, PHASE_DETECTOR_HZ, VCO_HZ, Ecp5Cells, Pll, PllDividers
from boards.toolchain import port_names
from rtl.primitives import BlockMemory, Multiplier


@pytest.mark.parametrize(("output_mhz", "reference", "feedback"), [(50, 1, 2), (25, 1, 1), (60, 5, 12), (62.5, 2, 5)])
def test_known_dividers(output_mhz, reference, feedback):
    found = PllDividers.solve(input_hz=25e6, output_hz=output_mhz * 1e6)
    assert (found.reference, found.feedback) == (reference, feedback)
    assert found.output_hz == output_mhz * 1e6


def test_every_answer_is_within_the_limits_of_the_device():
    made = 0
    for tenth_mhz in range(100, 2000, 7):
        try:
            found = PllDividers.solve(input_hz=25e6, output_hz=tenth_mhz * 1e5)
        except ValueError:
            continue
        made += 1
        assert abs(25e6 * found.feedback / found.reference / (tenth_mhz * 1e5) - 1) <= 1e-3
        assert VCO_HZ[0] <= 25e6 * found.feedback / found.reference * found.post <= VCO_HZ[1]
        assert PHASE_DETECTOR_HZ[0] <= 25e6 / found.reference <= PHASE_DETECTOR_HZ[1]
        assert all(1 <= divider <= 128 for divider in (found.reference, found.feedback, found.post))
    assert made > 20


@pytest.mark.parametrize(("arguments", "sentence"), [
    ({"input_hz": 5e6, "output_hz": 50e6}, "input_hz must be 8e"),
    ({"input_hz": 25e6, "output_hz": 2 * OUTPUT_HZ[1]}, "output_hz must be"),
    ({"input_hz": 25e6, "output_hz": 1e6}, "output_hz must be"),
    ({"input_hz": 25e6, "output_hz": 51.3e6}, "no divider makes output_hz 5.13e"),
])
def test_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        PllDividers.solve(**arguments)


def test_primitive_has_the_dividers():
    text = rtlil.convert(Pll(input_hz=25e6, output_hz=60e6), name="top")
    for parameter in (r"\CLKI_DIV 5", r"\CLKFB_DIV 12", r"\CLKOP_DIV 10"):
        assert f"parameter {parameter}" in text


@pytest.mark.parametrize("pump", [2, 3, 4])
def test_the_second_output_is_a_whole_number_of_times_as_fast(pump):
    for output_mhz in (40, 50, 62.5):
        found = PllDividers.solve(input_hz=25e6, output_hz=output_mhz * 1e6, pump=pump)
        assert VCO_HZ[0] <= found.vco_hz <= VCO_HZ[1]
        assert found.fast_post * pump == found.post
        whole, eighths = found.half_fast
        assert whole + eighths / 8 == found.fast_post / 2
    text = rtlil.convert(Pll(input_hz=25e6, output_hz=50e6, pump=3), name="top")
    for parameter in (r"\CLKOP_DIV 12", r"\CLKOS_DIV 4", r"\CLKOP_CPHASE 11", r"\CLKOS_CPHASE 5", r"\CLKOS_FPHASE 0"):
        assert f"parameter {parameter}\n" in text
    with pytest.raises(ValueError, match=r"pump \* output_hz must be"):
        PllDividers.solve(input_hz=25e6, output_hz=150e6, pump=3)


def cells(part):
    """Count the family's cells in what a part becomes."""
    text = rtlil.convert(part, name="top", ports=port_names(part), platform=Ecp5Cells())
    return {name: text.count(f"cell \\{name} ") for name in ("MULT18X18D", "DP16KD", "CCU2C")}


@pytest.mark.parametrize(("part", "multipliers", "block_rams"), [
    (Multiplier(a_bits=9, b_bits=8), 1, 0),
    (Multiplier(a_bits=18, b_bits=18), 1, 0),
    (Multiplier(a_bits=19, b_bits=8), 0, 0),
    (BlockMemory(depth=1024, parts=4, shape=signed(9)), 0, 2),
    (BlockMemory(depth=256, parts=3, shape=signed(8)), 0, 1),
    (BlockMemory(depth=512, parts=4, shape=signed(9)), 0, 1),
    (BlockMemory(depth=513, parts=4, shape=signed(9)), 0, 2),
    (BlockMemory(depth=512, parts=8, shape=signed(9)), 0, 2),
    (BlockMemory(depth=2048, parts=1, shape=unsigned(9)), 0, 1),
    (BlockMemory(depth=1025, parts=2, shape=signed(9)), 0, 2),
    (BlockMemory(depth=2048, parts=4, shape=signed(9)), 0, 4),
    (BlockMemory(depth=2049, parts=2, shape=signed(9)), 0, 0),
    (BlockMemory(depth=1024, parts=4, shape=signed(10)), 0, 0),
])
def test_cells_of_a_part(part, multipliers, block_rams):
    """What the cells cannot do stays portable."""
    assert cells(part) == {"MULT18X18D": multipliers, "DP16KD": block_rams, "CCU2C": 0}


@pytest.mark.parametrize(("b_bits", "carries"), [(8, 4 * 6 + 1), (7, 0)])
def test_a_soft_multiplier_is_made_of_carry_cells(b_bits, carries):
    """Four rows of 11 bits, and the carry of the row with the sign; the adders of the rows are for synthesis."""
    part = Multiplier(a_bits=9, b_bits=b_bits, soft=True)
    assert cells(part) == {"MULT18X18D": 0, "DP16KD": 0, "CCU2C": carries}
