"""The netlist that place and route reads, against the numpy model: the host programs, ages and reads both."""

import copy
import itertools

import numpy as np
import pytest

from boards.netlist import count_cells, netlist_library, source_of, synthesised
from boards.toolchain import ToolError
from boards.verilator import VerilatedChip
from host.api import PromptChip
from host.channels import SimChannel
from host.compare import compare
from host.compiler import compile_network
from host.data import mnist
from host.link import LinkError
from host.network import Dense, Network
from rtl.params import preset
from sim.presets import technology
from tests.chip.machine import images, linked, model, place

TINY, PUMPED = preset("tiny"), preset("pumped")
SIZES = (9, 3)


@pytest.fixture(scope="module")
def netlist():
    return synthesised(TINY)


def device_of(netlist, name, geometry):
    """Return a netlist as a device; it stops as soon as it has answered."""
    chip = PromptChip(VerilatedChip(netlist_library(netlist, name=name, pump=geometry.pump)))
    return linked(SimChannel(chip), geometry)


def differing(netlist, name, geometry=TINY, placement=None, x=None):
    """Return what differs between netlist and model, by part; all of it if the netlist does not even answer."""
    placement, x = placement or place(SIZES, 5, geometry), images(SIZES, 6, 4) if x is None else x
    with model(geometry, seed=99, chip=17) as reference:
        try:
            with device_of(netlist, name, geometry) as device:
                found = compare(device, reference, placement, technology("pcm"), x,
                                ages=(1e5,), progress=lambda _label, _total: lambda _done: None)
        except LinkError:
            return {"link"}, 0
    return {name for name, (_, wrong) in found.parts.items() if wrong}, found.compared


def digits_of_64_pixels():
    """Return a network 64-32-10 that tells digits (random features, fitted answers), 300 digits and all labels."""
    digits = mnist()
    train, test = (x.reshape(-1, 28, 28)[:, 2:26, 2:26].reshape(-1, 8, 3, 8, 3).mean(axis=(2, 4)).reshape(-1, 64)
                   for x in (digits.train, digits.test[:300]))
    rng = np.random.default_rng(1)
    hidden = Dense("hidden", rng.normal(size=(32, 64)) / 4, rng.normal(size=32) / 4, relu=True)
    features = np.c_[Network(64, (hidden,)).forward(train), np.ones(len(train))]
    fitted = np.linalg.lstsq(features, np.eye(10)[digits.train_labels], rcond=None)[0].T
    return Network(64, (hidden, Dense("output", fitted[:, :-1], fitted[:, -1], relu=False))), test, digits.test_labels


@pytest.mark.slow
def test_the_netlist_equals_the_model(netlist):
    """Write-verify, states, nets, noise, drift, compensation, outputs, target time and counters, all to the bit."""
    wrong, compared = differing(netlist, "tiny")
    assert wrong == set()
    assert compared > 100


@pytest.mark.slow
def test_digits_through_two_engines():
    """Real images, two layers, six tiles on two engines: the gates answer what tells digits apart in the model."""
    geometry = preset("small")
    network, x, labels = digits_of_64_pixels()
    placement = compile_network(network, geometry, x)
    with model(geometry, seed=99, chip=17) as reference:
        reference.configure(placement)
        reference.program(technology("pcm"))
        assert (reference.infer(x).argmax(axis=1) == labels[:300]).mean() > 0.65
    wrong, compared = differing(synthesised(geometry), "small", geometry, placement, x[:8])
    assert wrong == set()
    assert compared > 5_000


@pytest.mark.slow
def test_two_clocks():
    """A netlist whose engine has a clock of its own, with edges between those of the chip's."""
    wrong, compared = differing(synthesised(PUMPED), "pumped", PUMPED)
    assert wrong == set()
    assert compared > 100


@pytest.mark.slow
def test_one_bit_of_one_lut_is_seen(netlist):
    """The first LUT that feeds a register of the hash, for inputs that are all 0."""
    broken = copy.deepcopy(netlist)
    feeds = {cell["connections"]["DI"][0] for name, cell in sorted(broken["cells"].items())
             if cell["type"] == "TRELLIS_FF" and ".threefry." in name}
    lut = next(cell for _, cell in sorted(broken["cells"].items())
               if cell["type"] == "LUT4" and cell["connections"]["Z"][0] in feeds)
    table = lut["parameters"]["INIT"]
    lut["parameters"]["INIT"] = table[:-1] + "10"[int(table[-1])]
    wrong, _ = differing(broken, "broken")
    assert wrong


@pytest.mark.slow
def test_a_cell_without_a_model_is_named(netlist):
    cells = dict(itertools.islice(netlist["cells"].items(), 20))
    for kind, change, sentence in (
            ("TRELLIS_FF", {"parameters": {"SRMODE": "ASYNC"}}, "SRMODE of the TRELLIS_FF strange is ASYNC"),
            ("EHXPLLL", {}, "cell strange is a EHXPLLL, which has no model here"),
            ("DP16KD", {"connections": {"RSTA": [7]}}, "pin RSTA of the DP16KD strange is in use")):
        strange = {"type": kind, "parameters": {}, "connections": {}} | change
        with pytest.raises(ToolError, match=sentence):
            source_of({"ports": netlist["ports"], "cells": cells | {"strange": strange}})
    assert count_cells(netlist)["TRELLIS_FF"] > 1000
