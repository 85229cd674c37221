"""The work behind `bitline run` and `bitline verify`."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from host.api import open_device
from host.compare import compare
from host.compensation import KINDS, Calibration, Compensation
from host.compiler import compile_network
from host.console import Screen
from host.device import Device
from host.errors import BitlineError
from host.honesty import assumed, marks, modelled, not_modelled
from host.inputs import Data, calibrated_network, load_data, place
from host.placement import Placement
from host.placing import tell_bits, tell_phases
from host.programming import ProgramResult
from host.results import BitExact, age_name
from host.spares import found_cells, reordered, with_spares
from host.technologies import technology_named
from host.urls import parse_url
from rtl.params import Geometry
from sim.tables import window_counts
from sim.technology import CLOSED_LOOP, STATISTICAL, WAYS, Technology

__all__ = ["RunPlan", "run_network", "verify_devices"]


STATISTICS = 200
"""Most vectors of the calibration set from which `adabs` takes its statistics."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What to run and where."""

    network: str
    data: str
    device: str
    technology: str = "pcm"
    programming: str = CLOSED_LOOP
    extrapolate: bool = False
    illustrative: bool = False
    without: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    temperature: float | None = None
    calibrate: bool = False
    spares: int = 0
    age: float = 0.0
    compensate: str = "none"
    images: int | None = None
    seed: int | None = None

    def kind(self) -> Technology:
        """Return the technology, or raise BitlineError if it does not fit the plan."""
        found = technology_named(self.technology, extrapolate=self.extrapolate, illustrative=self.illustrative,
                                 without=self.without, faults=self.faults,
                                 temperature=self.temperature)
        if self.programming not in WAYS:
            raise BitlineError(f"--programming {self.programming}: choose from {', '.join(WAYS)}")
        try:
            if found.pulse != "bits":  # those are written once
                found.check_way(self.programming)
            found.check_age(self.age)
        except ValueError as error:
            raise BitlineError(str(error)) from None
        return found


def run_network(plan: RunPlan, screen: Screen) -> dict[str, Any]:
    """Program a device, age it, stream the data through it; print and return what came out."""
    kind, data = plan.kind(), load_data(plan.data, images=plan.images)
    if plan.compensate not in KINDS:
        raise BitlineError(f"--compensate {plan.compensate}: choose {', '.join(KINDS)}")
    geometry = parse_url(plan.device).geometry
    placement = (place_with_spares(plan, geometry, data, kind) if plan.spares else
                 place(plan.network, geometry, data.calibration, bits=kind.pulse == "bits"))
    tell_bits(placement, screen)
    tell_phases(placement, screen)
    if data.x.shape[1] != placement.layers[0].inputs:
        raise BitlineError(f"{data.name} has {data.x.shape[1]} values a vector, "
                           f"the network takes {placement.layers[0].inputs}")
    with screen.stage(f"opening {plan.device}"):
        device = open_device(plan.device, seed=plan.seed, progress=screen.tell)
    with device:
        device.configure(placement)
        with screen.stage("programming"):
            programmed = device.program(kind, how=plan.programming, progress=screen.progress)
        cells = found_cells(placement, kind, programmed, seed=device.seed, chip=device.chip)
        if plan.programming != STATISTICAL:
            screen.say(str(cells))
        if plan.spares:
            with screen.stage("another order of the neurons, and programming"):
                placement = reorder(plan, placement, kind, programmed, data)
                device.configure(placement)
                programmed = device.program(kind, how=plan.programming, progress=screen.progress)
                cells = found_cells(placement, kind, programmed, seed=device.seed, chip=device.chip)
                screen.say(str(cells))
        if plan.calibrate:
            with screen.stage("calibration of the converters"):
                calibrated = device.calibrate()
                screen.say(_told_converters(calibrated))
        calibration = data.calibration[:STATISTICS] if plan.compensate == "adabs" else None
        if calibration is not None:
            with screen.stage(f"statistics of {len(calibration)} vectors"):
                device.take_statistics(calibration, progress=screen.progress)
        if plan.age:
            with screen.stage(f"ageing to {age_name(plan.age)}"):
                device.age(plan.age, progress=screen.progress)
        with screen.stage("compensation"):
            compensated = device.compensate(plan.compensate, calibration=calibration, progress=screen.progress)
        with screen.stage("inference"):
            values = _infer(device, data, screen)
    converged, pulses = programmed.converged_fraction, programmed.pulses_mean
    way = STATISTICAL if kind.pulse == "bits" else plan.programming
    if way != STATISTICAL:
        name = "write-verify" if way == CLOSED_LOOP else "gradient descent"
        screen.say(f"{name}: {pulses:.2f} pulses a cell, {converged:.2%} of the cells converged, window "
                   f"{kind.number('window')} ({window_counts(kind, device.geometry)} counts of a sum of "
                   f"{kind.number('averages')})")
    else:
        screen.say("statistical programming: the published distribution in one step, not verified")
    screen.say(f"{values['images']} vectors at age {age_name(plan.age)}, compensation {plan.compensate}: "
               f"{values['images_per_second']:,.0f} a second"
               + (f", {values['target_time_ps'] / 1e6:.2f} us of the chip's own time" if values["images"] else ""))
    if plan.compensate != "none":
        screen.say(_told(compensated))
    if values["accuracy"] is not None:
        screen.say(f"accuracy: {values['accuracy']:.2%}")
    said = {"modelled": modelled(kind, device.geometry, way), "not_modelled": not_modelled(kind),
            "assumed": assumed(kind)}
    for title, lines in said.items():
        screen.say(f"{title.replace('_', ' ')}: {'; '.join(lines)}")
    for mark in marks(kind, plan.age):
        screen.say(mark)
    return {"device": plan.device, "technology": plan.technology, "programming": way,
            "age_seconds": plan.age, "compensate": plan.compensate, "compensation": compensated.as_dict(),
            "marks": marks(kind, plan.age), "cells": dataclasses.asdict(cells),
            "write_verify": {"pulses_mean": pulses, "converged_fraction": converged,
                             "conversions": programmed.conversions},
            **values, **said}


def place_with_spares(plan: RunPlan, geometry: Geometry, data: Data, kind: Technology) -> Placement:
    """Return the placement of a network with spare neurons, or raise BitlineError if there can be none."""
    if Path(plan.network).suffix == ".npz" or kind.pulse == "bits" or plan.programming == STATISTICAL:
        raise BitlineError("--spares needs an ONNX file, a technology whose cells hold weights, and a programming that "
                           "tells bad cells: closed-loop or gradient")
    network, calibration = calibrated_network(plan.network, data.calibration)
    return compile_network(with_spares(network, plan.spares), geometry, calibration)


def reorder(plan: RunPlan, placement: Placement, kind: Technology, found: ProgramResult, data: Data) -> Placement:
    """Return the placement with the neurons in an order that suits the cells."""
    network, calibration = calibrated_network(plan.network, data.calibration)
    ordered = reordered(with_spares(network, plan.spares), placement, kind, found)
    return compile_network(ordered, placement.geometry, calibration)


def _told_converters(found: Calibration) -> str:
    gains = np.concatenate(found.gains or [np.ones(1)])
    offsets = np.concatenate(found.inference)
    return (f"converters: gains {gains.min():.3f} to {gains.max():.3f}, spread {gains.std():.2%}, offsets "
            f"{offsets.min():.2f} to {offsets.max():.2f} codes, {len(found.weak)} columns in the noise; taken off; "
            f"{found.cost.conversions:,} conversions")


def _told(found: Compensation) -> str:
    cost, gains = found.cost, found.gains
    return (f"compensation {found.kind}: gains of the tiles {min(gains):.3f} to {max(gains):.3f}, "
            f"{len(found.weak)} columns in the noise at their tile's; {cost.conversions:,} conversions, "
            f"{cost.target_time_ps / 1e6:.1f} us of the chip's own time"
            + (f", {cost.board_cycles:,} cycles of the board" if cost.board_cycles is not None else ""))


def _infer(device: Device, data: Data, screen: Screen) -> dict[str, Any]:
    before, began = device.counters(), time.perf_counter()
    codes, times = device.infer_codes(data.x, progress=screen.progress)
    spent = time.perf_counter() - began
    after = device.counters()
    assert device.placement is not None
    answers = codes.argmax(axis=1)
    return {
        "images": len(codes), "images_per_second": round(len(codes) / spent, 1),
        "accuracy": None if data.y is None else float((answers == data.y).mean()),
        "answers": answers, "logits": np.asarray(device.placement.logits(codes)),
        "target_time_ps": int(times[-1]), "counters": {name: after[name] - before[name] for name in after},
    }


def verify_devices(plan: RunPlan, against: str, screen: Screen) -> tuple[BitExact, list[str]]:
    """Do the same on two devices and count the integers that differ; print and return them, and the marks they bear."""
    kind, data = plan.kind(), load_data(plan.data, images=plan.images)
    ours, theirs = parse_url(against), parse_url(plan.device)
    if ours.geometry != theirs.geometry:
        raise BitlineError(f"{plan.device} has geometry {theirs.geometry.name}, "
                           f"{against} has {ours.geometry.name}: they cannot agree")
    placement = place(plan.network, theirs.geometry, data.calibration, bits=kind.pulse == "bits")
    tell_bits(placement, screen)
    tell_phases(placement, screen)
    with screen.stage(f"opening {against} and {plan.device}"):
        reference = open_device(against, seed=plan.seed, progress=screen.tell)
        try:
            device = open_device(plan.device, seed=plan.seed, progress=screen.tell)
        except BaseException:
            reference.close()
            raise
    with reference, device, screen.stage("comparison"):
        found = compare(device, reference, placement, kind, data.x, how=plan.programming,
                        ages=(plan.age,) if plan.age else (), progress=screen.progress)
    screen.table(["integers", "compared", "differing"],
                 [(name, f"{compared:,}", f"{differing:,}") for name, (compared, differing) in found.parts.items()])
    screen.say(f"differing integers: {found.differing}")
    said = marks(kind, plan.age)
    for mark in said:
        screen.say(mark)
    return found, said
