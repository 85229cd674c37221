"""Nothing is lost, repeated or out of order, whatever waits; one payload a clock when nothing does."""

import random

import pytest
from amaranth.sim import Simulator

from rtl.relay import Relay


def run(count, offer, take, seed):
    """Send `count` numbers, offered and taken with these probabilities; return what came and the clocks it took."""
    rng, dut, came, clocks = random.Random(seed), Relay(shape=16), [], 0

    async def source(ctx):
        for number in range(count):
            while rng.random() > offer:
                await ctx.tick()
            ctx.set(dut.i.payload, number)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def sink(ctx):
        nonlocal clocks
        while len(came) < count and clocks < 20 * count:
            ctx.set(dut.o.ready, int(rng.random() < take))
            _, _, valid, ready, payload = await ctx.tick().sample(dut.o.valid, dut.o.ready, dut.o.payload)
            clocks += 1
            if valid and ready:
                came.append(payload)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(source)
    simulator.add_testbench(sink)
    simulator.run()
    return came, clocks


@pytest.mark.parametrize(("offer", "take"), [(1, 1), (1, 0.5), (0.5, 1), (0.4, 0.6), (0.9, 0.1)])
def test_stalls_change_nothing(offer, take):
    came, clocks = run(300, offer, take, seed=3)
    assert came == list(range(300))
    assert clocks == 301 or (offer, take) != (1, 1)
