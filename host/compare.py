"""Two devices, one network, every integer: what must be the same everywhere is the same, or is counted."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from host.device import Device
from host.placed import Progress
from host.placement import Placement
from host.results import BitExact
from sim.technology import CLOSED_LOOP, Technology

__all__ = ["compare"]

Observed = dict[str, list[Any]]


def observe(device: Device, placement: Placement, technology: Technology, x: Any, *, how: str,
            ages: Sequence[float], nets: bool, progress: Progress) -> Observed:
    """Program a device, run x fresh, then at each age compensated; return every integer that came of it."""
    before = device.counters()
    device.configure(placement)
    programmed = device.program(technology, how=how, progress=progress)
    outputs, times = device.infer_codes(x, progress=progress)
    found: Observed = {
        "write-verify": [*programmed.sums, *programmed.pulses, *programmed.converged, *programmed.refreshes,
                         *programmed.outcomes],
        "outputs": [outputs], "target time": [times], "device states": list(device.read_back()),
        "compensation": [],
    }
    for seconds in ages:
        device.age(seconds, progress=progress)
        device.compensate("global", progress=progress)
        found["compensation"] += device.column_constants()
        outputs, times = device.infer_codes(x, progress=progress)
        found["outputs"].append(outputs)
        found["target time"].append(times)
    found["nets"] = list(device.nets(progress=progress)) if nets else []  # of the last age
    found["counters"] = [np.array([after - before[name] for name, after in device.counters().items()], np.int64)]
    return found


def compare(device: Device, reference: Device, placement: Placement, technology: Technology, x: Any, *,
            how: str = CLOSED_LOOP, ages: Sequence[float] = (), nets: bool = True, progress: Progress) -> BitExact:
    """Do the same on two devices with the same seed and return what differs.

    Parameters
    ----------
    how : way of programming
    ages : seconds at which x is run again, compensated
    nets : also read every net, which takes a chip in gates longer than to program it
    """
    device.seed, device.chip = reference.seed, reference.chip
    ours = observe(reference, placement, technology, x, how=how, ages=ages, nets=nets, progress=progress)
    theirs = observe(device, placement, technology, x, how=how, ages=ages, nets=nets, progress=progress)
    return BitExact(images=len(x), parts={name: _count(ours[name], theirs[name]) for name in ours if ours[name]})


def _count(ours: list[Any], theirs: list[Any]) -> tuple[int, int]:
    compared = differing = 0
    for left, right in zip(ours, theirs, strict=True):
        left, right = np.asarray(left), np.asarray(right)
        compared += left.size
        differing += int((left != right).sum()) if left.shape == right.shape else max(left.size, right.size)
    return compared, differing
