"""Spare neurons and their order: the same network, on better cells."""

import itertools

import numpy as np
import pytest

from host.backend import ModelBackend
from host.compiler import compile_network
from host.device import Device
from host.network import Dense, Network
from host.results import Outcome
from host.spares import found_cells, reordered, with_spares
from rtl.params import preset
from sim.presets import technology

GEOMETRY = preset("faulty")
SIZES = (24, 20, 20, 10)
SPARES = 8


def network():
    rng = np.random.default_rng(3)
    return Network(SIZES[0], tuple(
        Dense(f"l{k}", rng.normal(size=(o, i)) / np.sqrt(i), rng.normal(size=o) / 4, relu=k < len(SIZES) - 2)
        for k, (i, o) in enumerate(itertools.pairwise(SIZES))))


def vectors():
    return np.random.default_rng(4).random((60, SIZES[0]))


def programmed(net, kind, seed):
    device = Device(ModelBackend(GEOMETRY), seed=seed)
    device.configure(compile_network(net, GEOMETRY, vectors()))
    return device, device.program(kind)


def output_error(device, net):
    """Root mean square of the outputs' error, of their spread."""
    exact = net.forward(vectors())
    return float(np.sqrt(((device.infer(vectors()) - exact)**2).mean() / exact.var()))


@pytest.mark.parametrize("changes", [{"stuck_rate": 0.05}, {"stuck_rate": 0.0}])
def test_order_and_spares_change_no_output(changes):
    """In exact arithmetic: any order of hidden neurons, with neurons that have no weights."""
    kind = technology("pcm").with_fault(f"stuck={changes['stuck_rate']}")
    net = with_spares(network(), SPARES)
    assert [layer.outputs for layer in net.layers] == [20 + SPARES, 20 + SPARES, 10]
    np.testing.assert_allclose(net.forward(vectors()), network().forward(vectors()), atol=1e-12)
    device, found = programmed(net, kind, 2)
    ordered = reordered(net, device.placement, kind, found)
    np.testing.assert_allclose(ordered.forward(vectors()), network().forward(vectors()), atol=1e-12)
    moved = any((a.weight != b.weight).any() for a, b in zip(net.layers, ordered.layers, strict=True))
    assert moved == bool(changes["stuck_rate"])


def test_outputs_are_better_with_spares_in_use():
    """Devices stuck at Gmax, one in twenty: over several chips, and beside programming noise that stays."""
    kind = technology("pcm").with_fault("stuck=0.05")
    stuck_value = kind.stuck_value
    kind = kind.replace(stuck_value=type(stuck_value)(1.0, "1", "U", "test"), programming=False, flicker_noise=False)
    before, after = [], []
    for seed in range(6):
        net = with_spares(network(), SPARES)
        device, found = programmed(net, kind, seed)
        before.append(output_error(device, network()))
        ordered = reordered(net, device.placement, kind, found)
        device.configure(compile_network(ordered, GEOMETRY, vectors()))
        device.program(kind)
        after.append(output_error(device, network()))
    assert np.mean(after) < 0.75 * np.mean(before)


def test_cells_are_counted_and_stuck_ones_stay_where_they_are():
    kind = technology("pcm").with_fault("stuck=0.05")
    device, found = programmed(network(), kind, 5)
    cells = found_cells(device.placement, kind, found, seed=5, chip=0)
    assert sum(cells.cells.values()) == found.devices
    assert cells.cells["stuck"] == cells.stuck - cells.mended > 0
    assert cells.stuck == pytest.approx(0.0975 * found.devices, rel=0.2)  # either of two devices
    stuck = [outcome == Outcome.STUCK for outcome in found.outcomes]
    again = device.program(kind)
    same = [one & (outcome == Outcome.STUCK) for one, outcome in zip(stuck, again.outcomes, strict=True)]
    assert sum(one.sum() for one in same) > 0.9 * sum(one.sum() for one in stuck)
    assert "have a stuck device" in str(cells)
    healthy = technology("pcm")
    device, found = programmed(network(), healthy, 5)
    assert "stuck device" not in str(found_cells(device.placement, healthy, found, seed=5, chip=0))
