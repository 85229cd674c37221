"""The demonstration: a trained network into an emulated PCM array, digits through it, ages, and the same on the RTL."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from host import measure
from host.api import open_device
from host.boards_entry import SimulationMissingError, prepared
from host.compare import compare
from host.compiler import compile_network
from host.console import Screen
from host.data import Digits, mnist
from host.device import Device, ProgramResult
from host.network import Network, load_network
from host.placement import Placement
from host.report import write_report
from host.results import AGES, AccuracyAtAge, BitExact, DemoResult, Ints, LayerAtAge, Pictures, WriteVerify, age_name
from host.technologies import technology_named
from rtl.params import EngineRegion, preset
from rtl.params.registers import register
from sim.tables import verify_settings
from sim.technology import Technology

__all__ = ["DemoPlan", "run_demo", "stream_speed"]

MODEL = Path(__file__).resolve().parent.parent / "models" / "mnist_784_128_10.onnx"
CALIBRATION = 500
"""Training images from which the compiler takes its ranges."""
TRACED = 200
"""Test images by which layers are judged."""
SHOWN = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """What the demonstration does.

    Attributes
    ----------
    programmings : independent programmings that the means and spreads are of
    sim_images : digits that run on the verilated chip too; 0 leaves it out
    sim_ages : seconds at which they run again, compensated
    """

    output: Path
    seed: int = 1
    geometry: str = "demo"
    technology: str = "pcm"
    images: int = 1000
    programmings: int = 5
    ages: tuple[float, ...] = tuple(AGES[name] for name in ("fresh", "1 hour", "1 day", "1 month", "1 year"))
    sim_images: int = 64
    sim_ages: tuple[float, ...] = (AGES["1 day"],)


@dataclasses.dataclass
class _Course:
    """What gathers while the model runs."""

    accuracies: dict[tuple[float, bool], list[float]] = dataclasses.field(default_factory=dict)
    layers: list[LayerAtAge] = dataclasses.field(default_factory=list)
    write_verify: WriteVerify | None = None
    pictures: Pictures | None = None


def run_demo(plan: DemoPlan, screen: Screen) -> int:
    """Run the demonstration, print and write its results; return the exit code.

    0 if all went well; 1 if the verilated chip differs from the model or could not be made.
    """
    # The verilated chip takes about as long to compile as the model's part to run: one core each.
    with prepared(preset(plan.geometry), wanted=plan.sim_images > 0) as ready:
        return _run(plan, screen, technology_named(plan.technology), ready)


def _run(plan: DemoPlan, screen: Screen, kind: Technology, ready: Callable[[], None]) -> int:
    with screen.stage("network"):
        digits, network = mnist(), load_network(MODEL)
        placement = compile_network(network, preset(plan.geometry), digits.train[:CALIBRATION])
    screen.table(placement.table()[0], placement.table()[1:], "Placement")
    x, labels = digits.test[:plan.images], digits.test_labels[:plan.images]
    course, speed = _run_model(plan, screen, kind, network, placement, digits)
    result = _result(plan, network, placement, course, accuracy_float=_accuracy(network.forward(x), labels))
    result.images_per_second["model"] = speed
    _show(screen, result)
    page = _write(plan, screen, result, course, kind)
    screen.say(f"page: {page}")

    result = _run_simulation(plan, screen, kind, placement, x, result, ready)
    result.seconds.update(screen.seconds)
    page = _write(plan, screen, result, course, kind)
    _close(screen, result, page)
    screen.result(result.as_dict() | {"page": str(page)})
    wanted = plan.sim_images > 0
    return 1 if wanted and (result.bit_exact is None or result.bit_exact.differing) else 0


# --- model ----------------------------------------------------------------------------------------------------------

def _run_model(plan: DemoPlan, screen: Screen, kind: Technology, network: Network, placement: Placement,
               digits: Digits) -> tuple[_Course, float]:
    x, labels = digits.test[:plan.images], digits.test_labels[:plan.images]
    course = _Course()
    spent = images = 0.0
    with open_device(f"model:{plan.geometry}", seed=plan.seed) as device:
        device.configure(placement)
        for number in range(plan.programmings):
            with screen.stage(f"model: programming {number + 1} of {plan.programmings}, {len(x)} digits, "
                              f"{len(plan.ages)} ages"):
                programmed = device.program(kind, progress=screen.progress)
                if number == 0:
                    _look(course, device, kind, programmed, x, labels)
                for seconds in plan.ages:
                    for compensated in ((False, True) if seconds else (False,)):
                        began = time.perf_counter()
                        right = _run_at(device, seconds, compensated, x, labels, screen)
                        spent, images = spent + time.perf_counter() - began, images + len(x)
                        course.accuracies.setdefault((seconds, compensated), []).append(right)
                        if number == 0:
                            course.layers += measure.layer_points(device, network, x[:TRACED], seconds=seconds,
                                                                  compensated=compensated)
    return course, round(images / spent, 1)


def _run_at(device: Device, seconds: float, compensated: bool, x: Any, labels: Any, screen: Screen) -> float:
    if device.age_seconds != seconds:
        device.age(seconds, progress=screen.progress)
    device.compensate("global" if compensated else "none")
    return _accuracy(device.infer(x, progress=screen.progress), labels)


def _look(course: _Course, device: Device, kind: Technology, programmed: ProgramResult, x: Any, labels: Any) -> None:
    """Take the pictures of a freshly programmed device."""
    found = measure.maps(device, kind)
    course.write_verify = measure.write_verify(device, programmed, found)
    before = device.counters()
    codes = measure.adc_codes(device, x[:TRACED])
    after = device.counters()
    clipped, converted = (sum(after[name] - before[name] for name in after if name.endswith(end))
                          for end in (".clips", ".conversions"))
    logits = device.infer(x[:SHOWN])
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    course.pictures = Pictures(
        maps=found, pulses=np.concatenate([array.ravel() for array in programmed.pulses]),
        sums=np.concatenate([array.ravel() for array in programmed.sums]),
        wanted_sums=measure.wanted_sums(device, kind, programmed),
        verify_window=float(verify_settings(kind, device.geometry)["window"]),
        codes=codes, clips=clipped / max(converted, 1), digits=np.asarray(x[:SHOWN], np.float64),
        labels=np.asarray(labels[:SHOWN]), answers=logits.argmax(axis=1),
        confidence=(shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1))


def _accuracy(logits: Any, labels: Any) -> float:
    return float((np.asarray(logits).argmax(axis=1) == labels).mean())


def _result(plan: DemoPlan, network: Network, placement: Placement, course: _Course, *,
            accuracy_float: float) -> DemoResult:
    points = [AccuracyAtAge(seconds=seconds, compensated=compensated, values=tuple(values))
              for (seconds, compensated), values in course.accuracies.items()]
    fresh = next(point for point in points if not point.seconds)
    # Fresh devices need no compensation: both courses begin there.
    points.append(dataclasses.replace(fresh, compensated=True))
    layers = [*course.layers, *(dataclasses.replace(point, compensated=True)
                                for point in course.layers if not point.seconds)]
    assert course.write_verify is not None
    return DemoResult(
        technology=plan.technology, geometry=plan.geometry, network=MODEL.name, seed=plan.seed, images=plan.images,
        accuracy_float=accuracy_float, accuracy_fresh=fresh,
        accuracy_by_age=tuple(sorted(points, key=lambda p: (p.compensated, p.seconds))),
        layers_by_age=tuple(sorted(layers, key=lambda p: (p.compensated, p.seconds))),
        write_verify=course.write_verify, bit_exact=None, simulation="not run yet",
        cycles_per_image=placement.cycles_per_image, lower_bound_cycles=placement.lower_bound_cycles,
        macs=sum(layer.weight.size for layer in network.layers), lanes=placement.geometry.total_lanes)


# --- verilated chip -------------------------------------------------------------------------------------------------

def _run_simulation(plan: DemoPlan, screen: Screen, kind: Technology, placement: Placement, x: Any,
                    result: DemoResult, ready: Callable[[], None]) -> DemoResult:
    if not plan.sim_images:
        return dataclasses.replace(result, simulation="left out, as asked")
    chosen = x[:plan.sim_images]
    try:
        with screen.stage("sim: making the verilated chip"):
            ready()
            device = open_device(f"sim:{plan.geometry}", seed=plan.seed, progress=screen.tell)
    except SimulationMissingError as error:
        return dataclasses.replace(
            result, simulation=f"the bit-exact check was not run: {error}")
    with device, open_device(f"model:{plan.geometry}", seed=plan.seed) as reference:
        with screen.stage(f"sim: programming, {len(chosen)} digits, comparison"):
            # Nets show in the outputs; to read each takes longer than all the rest. `bitline verify` does.
            found: BitExact = compare(device, reference, placement, kind, chosen, ages=plan.sim_ages, nets=False,
                                      progress=screen.progress)
        with screen.stage("sim: speed"):
            busy, streaming, images_per_second = stream_speed(device, chosen)
    result.images_per_second["sim"] = images_per_second
    return dataclasses.replace(result, bit_exact=found, simulation="run", busy_cycles_per_image=busy,
                               streaming_cycles_per_image=streaming)


def stream_speed(device: Device, x: Any) -> tuple[float | None, float | None, float]:
    """Stream x through a device and measure it.

    Returns cycles per image in which the busiest engine took a column, cycles per image in all, link included (both
    None where no clock runs), and images a second of this machine.
    """
    began, before, busy = time.perf_counter(), device.backend.cycles(), _busy(device)
    device.infer_codes(x)
    after, ended = device.backend.cycles(), time.perf_counter()
    speed = round(len(x) / (ended - began), 1)
    if before is None or after is None:
        return None, None, speed
    return float((_busy(device) - busy).max() / len(x)), (after - before) / len(x), speed


def _busy(device: Device) -> Ints:
    """Return how many cycles each engine has taken a column since power-up."""
    offset = register("engine", EngineRegion.COUNTERS, "busy").offset
    halves = np.array([device.backend.read(unit, EngineRegion.COUNTERS, offset, 2)
                       for unit in range(1, device.geometry.engines + 1)])
    return np.asarray(halves[:, 0] | halves[:, 1] << 32)


# --- words ----------------------------------------------------------------------------------------------------------

def _write(plan: DemoPlan, screen: Screen, result: DemoResult, course: _Course, kind: Technology) -> Path:
    assert course.pictures is not None
    with screen.stage("report"):
        return write_report(plan.output, result, course.pictures, kind)


def _show(screen: Screen, result: DemoResult) -> None:
    written = result.write_verify
    screen.say(f"\nwrite-verify: {written.devices:,} devices, {written.pulses_mean:.2f} pulses a cell, "
               f"{written.converged_fraction:.2%} converged, error {written.error_rms_us:.2f} uS rms "
               f"({written.error_rms_percent_of_gmax:.1f} % of Gmax)")
    screen.say(f"accuracy: float {result.accuracy_float:.2%}, fresh {result.accuracy_fresh.accuracy:.2%} "
               f"+- {result.accuracy_fresh.sigma:.2%} over {len(result.accuracy_fresh.values)} programmings")
    screen.say("\nOver time. An MLP's answer hides a common factor: gain and error of the layers show what happens.")
    screen.table(["age", "layer", "gain", "error", "compensated: gain", "error"], _layer_rows(result))


def _layer_rows(result: DemoResult) -> list[list[str]]:
    found = {(p.seconds, p.layer, p.compensated): p for p in result.layers_by_age}
    rows = []
    for seconds, layer in dict.fromkeys((p.seconds, p.layer) for p in result.layers_by_age):
        plain, compensated = found[seconds, layer, False], found[seconds, layer, True]
        rows.append([age_name(seconds), layer, f"{plain.gain:.3f}", f"{plain.relative_error:.1%}",
                     f"{compensated.gain:.3f}", f"{compensated.relative_error:.1%}"])
    return rows


def _accuracy_rows(result: DemoResult) -> list[list[str]]:
    found = {(p.seconds, p.compensated): f"{p.accuracy:.2%} +- {p.sigma:.2%}" for p in result.accuracy_by_age}
    return [[age_name(s), found[s, False], found[s, True]] for s in sorted({p.seconds for p in result.accuracy_by_age})]


def _close(screen: Screen, result: DemoResult, page: Path) -> None:
    screen.say(f"\ncycles per image: {result.cycles_per_image} expected, {result.lower_bound_cycles} at least"
               + (f", {result.busy_cycles_per_image:.0f} computing on the verilated chip"
                  if result.busy_cycles_per_image else "")
               + (f" ({result.streaming_cycles_per_image:.0f} through its link)"
                  if result.streaming_cycles_per_image else "")
               + f"; {result.mac_per_cycle:.1f} MAC per cycle on {result.lanes} lanes")
    screen.table(["age", "accuracy", "compensated"], _accuracy_rows(result))
    screen.say(f"page: {page}")
    if result.bit_exact is None:
        screen.say(result.simulation)
        return
    parts = ", ".join(f"{name} {compared:,}" for name, (compared, _) in result.bit_exact.parts.items())
    screen.say(f"compared integers of the verilated chip and the model: {result.bit_exact.compared:,} ({parts})")
    for name, (compared, differing) in result.bit_exact.parts.items():
        if differing:
            screen.say(f"  {name}: {differing:,} of {compared:,} differ")
    screen.say(f"differing integers: {result.bit_exact.differing}")

