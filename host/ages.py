"""The work behind `bitline ages`: accuracy over time and programmings, with the inputs kept on the chip."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from host.api import open_device
from host.compensation import KINDS
from host.console import Screen
from host.device import Device
from host.errors import BitlineError
from host.honesty import marks
from host.inputs import Data, load_data, place
from host.placing import tell_bits
from host.results import AccuracyAtAge, Ints, age_name
from host.runs import STATISTICS, RunPlan
from host.urls import parse_url

__all__ = ["run_ages"]


def run_ages(plan: RunPlan, ages: Sequence[float], programmings: int, screen: Screen) -> dict[str, Any]:
    """Program a device again and again, and run the data at every age of each programming; print and return accuracy.

    Raises
    ------
    BitlineError
        If the data have no labels, an age lies before the one in front of it, or anything is refused on the way.
    """
    kind, data = plan.kind(), load_data(plan.data, images=plan.images)
    if plan.compensate not in KINDS:
        raise BitlineError(f"--compensate {plan.compensate}: choose {', '.join(KINDS)}")
    if data.y is None:
        raise BitlineError(f"{data.name} has no labels y: accuracy cannot be told")
    if not ages or list(ages) != sorted(set(ages)):
        raise BitlineError("--ages must be different times, each after the one before: time does not run back")
    try:
        for seconds in ages:
            kind.check_age(seconds)
    except ValueError as error:
        raise BitlineError(str(error)) from None
    placement = place(plan.network, parse_url(plan.device).geometry, data.calibration, bits=kind.pulse == "bits")
    tell_bits(placement, screen)
    with screen.stage(f"opening {plan.device}"):
        device = open_device(plan.device, seed=plan.seed, progress=screen.tell)
    right: dict[float, list[float]] = {seconds: [] for seconds in ages}
    spent = 0.0
    with device:
        device.configure(placement)
        run, resident = _source(device, data, screen)
        for number in range(programmings):
            with screen.stage(f"programming {number + 1} of {programmings}, {len(ages)} ages"):
                device.program(kind, how=plan.programming, progress=screen.progress)
                calibration = data.calibration[:STATISTICS] if plan.compensate == "adabs" else None
                if calibration is not None:
                    device.take_statistics(calibration, progress=screen.progress)
                for seconds in ages:
                    device.age(seconds, progress=screen.progress)
                    device.compensate(plan.compensate, calibration=calibration, progress=screen.progress)
                    began = time.perf_counter()
                    answers = run().argmax(axis=1)
                    spent += time.perf_counter() - began
                    right[seconds].append(float((answers == data.y).mean()))
    points = [AccuracyAtAge(seconds=seconds, compensated=plan.compensate != "none", values=tuple(values))
              for seconds, values in right.items()]
    screen.table(["age", "accuracy", "least", "most"], [
        (age_name(point.seconds), f"{point.accuracy:.2%} +- {point.sigma:.2%}", f"{min(point.values):.2%}",
         f"{max(point.values):.2%}") for point in points])
    rate = len(data.x) * len(ages) * programmings / spent
    screen.say(f"{len(data.x)} vectors {'loaded once and replayed' if resident else 'streamed'} "
               f"{len(ages) * programmings} times: {rate:,.0f} a second")
    said = marks(kind, max(ages))
    for mark in said:
        screen.say(mark)
    return {"device": plan.device, "technology": plan.technology, "compensate": plan.compensate,
            "images": len(data.x), "programmings": programmings, "resident": resident, "images_per_second": rate,
            "accuracy_by_age": [point.as_dict() | {"values": list(point.values)} for point in points], "marks": said}


def _source(device: Device, data: Data, screen: Screen) -> tuple[Callable[[], Ints], bool]:
    """Return what runs the data once more, and whether they stay on the chip for that."""
    if len(data.x) <= device.batch_capacity:
        with screen.stage(f"loading {len(data.x)} vectors"):
            device.load(data.x, progress=screen.progress)
        return lambda: device.replay_codes(progress=screen.progress)[0], True
    screen.say(f"{len(data.x)} vectors are streamed: the chip's batch memory holds {device.batch_capacity} of them")
    return lambda: device.infer_codes(data.x, progress=screen.progress)[0], False
