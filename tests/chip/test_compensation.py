"""Every kind of compensation in gates, and in the model: each gain, word, net, state, output and counter."""

import numpy as np
import pytest

from host import compensation
from rtl.params import preset
from sim.presets import technology
from tests.chip.machine import images, model, place, registers, verilated

SIZES = (13, 8, 6)


def everything(device, geometry, probes):
    """Return every integer, and every measured number, of a course of calibrations and compensations."""
    x = images(SIZES, 8, 6)
    device.configure(place(SIZES, 7, geometry))
    device.probes = probes
    device.set_converter_offset(-3.25)
    device.program(technology("pcm"))
    device.take_statistics(x)
    found = {"nets": [*device.nets()], "words": [], "measured": [*device.reference], "outputs": []}
    costs = []
    for seconds, kinds in ((3600.0, ("global",)), (3e7, ("column", "adabs", "none"))):
        device.age(seconds)
        found["nets"] += device.nets()
        if seconds > 1e4:
            calibrated = device.calibrate()
            found["measured"] += [np.array(calibrated.verify), *calibrated.inference]
            costs.append(calibrated.cost)
        for kind in kinds:
            result = device.compensate(kind, calibration=x if kind == "adabs" else None)
            found["measured"] += result.columns
            found["words"] += device.column_constants()
            found["outputs"] += [*device.infer_codes(x)]
            costs.append(result.cost)
    found["states"] = device.read_back()
    found["counters"] = [np.array(list(device.counters().values()))]
    return found, costs


@pytest.mark.parametrize("probes", compensation.PROBES)
@pytest.mark.parametrize(("other", "name"), [(registers, "small"), (verilated, "tiny"), (verilated, "pairs")])
def test_the_same_in_gates(other, name, probes):
    geometry = preset(name)
    with model(geometry, seed=31, chip=3) as ours, other(geometry, seed=31, chip=3) as theirs:
        (expected, costs), (found, others) = (everything(device, geometry, probes) for device in (ours, theirs))
    for part, arrays in expected.items():
        for k, (a, b) in enumerate(zip(arrays, found[part], strict=True)):
            np.testing.assert_array_equal(a, b, err_msg=f"{part} {k}")
    assert len({array.tobytes() for array in expected["words"]}) > 6  # each kind has words of its own
    assert [(cost.conversions, cost.target_time_ps) for cost in costs] == [
        (cost.conversions, cost.target_time_ps) for cost in others]
    if other is verilated:
        assert all(cost.board_cycles for cost in others)
