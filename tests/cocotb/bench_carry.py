"""Runs inside the simulator: products of a multiplier of carry cells against Python's."""

import itertools
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

NET_BITS = int(os.environ["NET_BITS"])
LATENCY = 3


def pairs():
    """Yield every pair of factors if they are few; else the corners and some of each."""
    nets, activations = range(-(1 << (NET_BITS - 1)), 1 << (NET_BITS - 1)), range(-127, 128)
    if NET_BITS == 9:
        return itertools.product(nets, activations)
    corners = (nets[0], nets[0] + 1, -1, 0, 1, nets[-1])
    rng = random.Random(NET_BITS)
    return [*itertools.product(corners, activations),
            *((rng.choice(nets), rng.choice(activations)) for _ in range(20_000))]


@cocotb.test()
async def products(dut):
    """A new pair every clock."""
    Clock(dut.clk, 10, unit="ns").start()
    dut.rst.value = 0
    given = []
    for net, activation in pairs():
        dut.a.value, dut.b.value = net & ((1 << NET_BITS) - 1), activation & 0xFF
        given.append(net * activation)
        await FallingEdge(dut.clk)
        if len(given) >= LATENCY:
            assert dut.p.value.to_signed() == given[-LATENCY]
    assert len(given) > 20_000
