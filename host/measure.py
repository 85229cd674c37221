"""Measurements on a device, by the register map alone: conductances, codes, layers against the exact network."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from host.compensation import Probing
from host.device import Device, ProgramResult
from host.errors import BitlineError
from host.network import Network
from host.placement import Placement
from host.results import Floats, Ints, LayerAtAge, Maps, WriteVerify
from rtl.params import ACTIVATION_MAX
from rtl.params.formats import AFFINE_SHIFT, GMAX_G16
from sim.tables import verify_settings
from sim.technology import Technology

__all__ = ["adc_codes", "conductances", "layer_points", "maps", "network_inputs", "wanted_sums", "write_verify"]


def conductances(device: Device, technology: Technology) -> list[Floats]:
    """Return the net conductances (rows, columns) of each tile in uS, as probes in the verify range read them now.

    Averages are those of write-verify; read noise is left in.
    """
    placement = _placement(device)
    per_g16 = verify_settings(technology, device.geometry)["counts_per_g"] / (1 << 16)
    per_us = per_g16 * GMAX_G16 / technology.range
    return [sums / per_us for sums in device.probe([Probing(np.arange(tile.rows)) for tile in placement.tiles])]


def maps(device: Device, technology: Technology) -> tuple[Maps, ...]:
    """Return wanted and measured conductances of every layer, (inputs, outputs)."""
    placement = _placement(device)
    gmax = technology.range
    measured = conductances(device, technology)
    out = []
    for number, layer in enumerate(placement.layers):
        target, programmed = np.zeros((2, layer.inputs, layer.outputs))
        for tile, part in zip(placement.tiles, measured, strict=True):
            if tile.layer != number:
                continue
            rows = slice(tile.first_row, min(tile.first_row + tile.rows, layer.inputs))
            columns = slice(tile.first_column, min(tile.first_column + tile.columns, layer.outputs))
            shape = rows.stop - rows.start, columns.stop - columns.start
            target[rows, columns] = tile.targets[:shape[0], :shape[1]] * gmax / GMAX_G16 / device.geometry.significance
            programmed[rows, columns] = part[:shape[0], :shape[1]] / device.geometry.significance
        out.append(Maps(layer=layer.name, gmax=gmax, target=target, programmed=programmed))
    return tuple(out)


def wanted_sums(device: Device, technology: Technology, programmed: ProgramResult) -> Floats:
    """Return the sum of codes that the last verify of each cell should have given."""
    per_g16 = verify_settings(technology, device.geometry)["counts_per_g"] / (1 << 16)
    return np.concatenate([targets.ravel() for targets in programmed.targets]) * per_g16


def write_verify(device: Device, programmed: ProgramResult, found: Sequence[Maps]) -> WriteVerify:
    """Return how write-verify ended; the error counts cells whose target is not zero, and those too."""
    errors = np.concatenate([layer.error.ravel() for layer in found])
    rms = float(np.sqrt(np.mean(errors**2)))
    return WriteVerify(
        devices=sum(array.size for array in programmed.pulses) * device.geometry.devices,
        pulses_mean=programmed.pulses_mean, converged_fraction=programmed.converged_fraction,
        error_rms_us=rms, error_rms_percent_of_gmax=100 * rms / found[0].gmax)


def adc_codes(device: Device, x: Any) -> Ints:
    """Return how often inference on x gave each ADC code, counted from -code_max to code_max, of all tiles."""
    placement, limit = _placement(device), device.geometry.code_max
    counts = np.zeros(2 * limit + 1, np.int64)
    for tile, affine, partial in zip(placement.tiles, device.affine, device.partial_sums(x), strict=True):
        used = np.abs(affine.scales) >= 1 << AFFINE_SHIFT  # a smaller scale does not tell codes apart
        sums = partial[:, :tile.columns][:, used] - affine.biases[used]
        codes = np.rint(sums * (1 << AFFINE_SHIFT) / affine.scales[used]).astype(np.int64)
        counts += np.bincount(np.clip(codes, -limit, limit).ravel() + limit, minlength=len(counts))
    return counts


def network_inputs(placement: Placement, x: Any, traced: Sequence[Floats]) -> list[Floats]:
    """Return what came to each layer, in real values: quantised inputs, then activations made of the sums `traced`."""
    inputs = [placement.quantize(x) / placement.input_scale]
    for sums, layer, following in zip(traced, placement.layers, placement.layers[1:], strict=False):
        low = 0 if layer.relu else -ACTIVATION_MAX
        steps = np.clip(np.floor(sums * following.input_scale + 0.5), low, ACTIVATION_MAX)
        inputs.append(steps / following.input_scale)
    return inputs


def layer_points(device: Device, network: Network, x: Any, *, seconds: float, compensated: bool) -> list[LayerAtAge]:
    """Return gain and error of every layer at the device's present age, for inputs x (N, inputs)."""
    placement = _placement(device)
    traced = device.trace(x)
    points = []
    for layer, values, sums in zip(network.layers, network_inputs(placement, x, traced), traced, strict=True):
        exact = values @ layer.weight.T
        got = sums - layer.bias
        power = float((exact * exact).sum())
        gain = float((got * exact).sum()) / power if power else 0.0
        rest = got / gain - exact if gain else got
        points.append(LayerAtAge(
            seconds=seconds, compensated=compensated, layer=layer.name, gain=gain,
            relative_error=_ratio(got - exact, power), error_after_gain=_ratio(rest, power)))
    return points


def _ratio(difference: Floats, power: float) -> float:
    return float(np.sqrt((difference * difference).sum() / power)) if power else 0.0


def _placement(device: Device) -> Placement:
    if device.placement is None:
        raise BitlineError("no network is placed on this device: call configure first")
    return device.placement
