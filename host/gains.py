"""The work behind `bitline compensation`: measured gains against those of the nets, and what compensation leaves."""

from typing import Any

import numpy as np

from host import measure
from host.api import open_device
from host.compensation import KINDS, PROBES
from host.compiler import compile_network
from host.console import Screen
from host.data import mnist
from host.device import Device
from host.errors import BitlineError
from host.network import load_network
from host.results import AGES, Ints, age_name
from host.runs import STATISTICS
from host.technologies import technology_named
from host.urls import parse_url

__all__ = ["show_compensation"]

TRACED = 200


def show_compensation(url: str, network_file: str, kind: str, probes: str, seed: int | None,
                      screen: Screen) -> dict[str, Any]:
    """Age the demo's network, compensate it in every way, print and return gains, costs and errors of its layers."""
    technology = technology_named(kind)
    if probes not in PROBES:
        raise BitlineError(f"--probes {probes}: choose {' or '.join(PROBES)}")
    digits, network = mnist(), load_network(network_file)
    placement = compile_network(network, parse_url(url).geometry, digits.train[:STATISTICS])
    calibration, x = digits.train[STATISTICS:2 * STATISTICS], digits.test[:TRACED]
    found: dict[str, Any] = {"device": url, "probes": probes, "gains": [], "layers": []}
    with open_device(url, seed=seed, progress=screen.tell) as device:
        device.configure(placement)
        device.probes = probes
        with screen.stage("write-verify"):
            device.program(technology, progress=screen.progress)
            fresh = device.nets(progress=screen.progress)
        with screen.stage(f"statistics of {STATISTICS} vectors"):
            device.take_statistics(calibration, progress=screen.progress)
        for seconds in [seconds for seconds in AGES.values() if seconds > 60]:
            with screen.stage(f"age {age_name(seconds)}"):
                device.age(seconds, progress=screen.progress)
                true = _true_gains(fresh, device.nets(progress=screen.progress))
                for one in KINDS:
                    result = device.compensate(one, calibration=calibration if one == "adabs" else None,
                                               progress=screen.progress)
                    if one == "global":
                        found["gains"].append({"seconds": seconds, "true": true, "measured": result.gains})
                    points = measure.layer_points(device, network, x, seconds=seconds, compensated=one != "none")
                    found["layers"].append(result.as_dict() | {
                        "seconds": seconds, "gain": [point.gain for point in points],
                        "error": [point.relative_error for point in points]})
        _print(found, device, screen)
    return found


def _true_gains(fresh: list[Ints], now: list[Ints]) -> list[float]:
    """Return what a reader without noise would find: sums of |net| at t0 over those now."""
    return [float(np.abs(a).sum() / np.abs(b).sum()) for a, b in zip(fresh, now, strict=True)]


def _print(found: dict[str, Any], device: Device, screen: Screen) -> None:
    rows = [[age_name(one["seconds"]), k, f"{true:.4f}", f"{measured:.4f}", f"{measured / true - 1:+.2%}"]
            for one in found["gains"]
            for k, (true, measured) in enumerate(zip(one["true"], one["measured"], strict=True))]
    screen.table(["age", "tile", "true gain", "measured", "difference"], rows, f"global, {found['probes']} probes")
    rows = []
    for one in found["layers"]:
        cost = one["cost"]
        rows.append([age_name(one["seconds"]), one["kind"], ", ".join(f"{gain:.3f}" for gain in one["gain"]),
                     ", ".join(f"{error:.1%}" for error in one["error"]), one["columns_at_tile_gain"],
                     f"{cost['conversions']:,}", f"{cost['target_time_ps'] / 1e6:.1f}",
                     "-" if cost["board_cycles"] is None else f"{cost['board_cycles']:,}"])
    screen.table(["age", "compensation", "gain of layers", "error of layers", "columns at tile's gain", "conversions",
                  "chip us", "board cycles"], rows, f"layers, {TRACED} vectors, {device.url}")
