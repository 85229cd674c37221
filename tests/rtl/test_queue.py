# amaranth: UnusedElaboratable=no
"""The queue: order, capacity, pace."""

import random

import pytest
from amaranth.sim import Simulator

from rtl.queue import Queue


def run(depth, count, go_in, go_out, *, patience=2000):
    """Push 0, 1, 2... and return [(clock, value) out], and the clock in which each went in."""
    dut, seen, entered = Queue(shape=16, depth=depth), [], []

    async def bench(ctx):
        sent = 0
        for clock in range(patience):
            offer, take = sent < count and go_in(clock), go_out(clock)
            ctx.set(dut.i.valid, offer)
            ctx.set(dut.i.payload, sent if offer else 0xDEAD)
            ctx.set(dut.o.ready, take)
            _, _, ready, valid, value = await ctx.tick().sample(dut.i.ready, dut.o.valid, dut.o.payload)
            if offer and ready:
                entered.append(clock)
                sent += 1
            if take and valid:
                seen.append((clock, value))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen, entered


def test_a_bad_depth_is_refused():
    with pytest.raises(ValueError, match="depth must be an integer of at least 2, not 1"):
        Queue(shape=8, depth=1)


@pytest.mark.parametrize("depth", [2, 3, 16])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_or_reordered(depth, seed):
    dice = random.Random(seed)
    odds = [(0.9, 0.3), (0.3, 0.9), (0.6, 0.6)][seed]
    seen, entered = run(depth, 300, lambda _: dice.random() < odds[0], lambda _: dice.random() < odds[1])
    assert [value for _, value in seen] == list(range(300))
    for (clock, value), (_, before) in zip(seen[depth + 1:], seen, strict=False):
        assert entered[value] < clock
        assert before < value


def test_a_full_queue_refuses_and_a_waiting_reader_gets_a_value_a_clock():
    _, entered = run(8, 20, lambda _: True, lambda _: False, patience=40)
    assert len(entered) == 9  # eight and one at the output
    seen, _ = run(8, 50, lambda _: True, lambda _: True, patience=60)
    assert [clock for clock, _ in seen] == list(range(2, 52))
