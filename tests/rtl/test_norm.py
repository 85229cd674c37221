"""Norm and ticks of vectors that follow each other as closely as they may."""

import math

import numpy as np
import pytest
from amaranth.sim import Simulator

from rtl.norm import Norm
from rtl.params import preset


@pytest.mark.parametrize(("transport", "rows"), [(4, 8), (4, 112), (5, 40), (16, 1024)])
def test_norms_and_ticks(transport, rows):
    g = preset("tiny").replace(transport=transport, rows=rows, lanes=transport, columns=8)
    dut = Norm(geometry=g)
    rng = np.random.default_rng(rows)
    words = max(rows // transport, 1)
    vectors = rng.integers(-127, 128, (6, words, transport))
    vectors[0], vectors[1], vectors[2] = 127, -127, 0
    vectors[3, :, :] = np.arange(words * transport).reshape(words, transport) % 128
    found, ticks = [], []

    async def bench(ctx):
        pause = max(0, dut.interval - words)
        for number, vector in enumerate(vectors):
            for k, word in enumerate(vector.tolist()):
                ctx.set(dut.valid, 1)
                ctx.set(dut.first, k == 0)
                ctx.set(dut.last, k == words - 1)
                ctx.set(dut.word, [x & 0xFF for x in word])
                ctx.set(dut.ticket, number)
                await ctx.tick()
            ctx.set(dut.valid, 0)
            for _ in range(pause):
                await ctx.tick()
        await ctx.tick().repeat(dut.latency + 2)

    async def watch(ctx):
        while True:
            _, _, done, ticket, norm, tick = await ctx.tick().sample(dut.done, dut.o_ticket, dut.norm, dut.ticks)
            ticks.append(tick)
            if done:
                found.append((ticket, norm))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    assert found == [(k, math.isqrt(int((v * v).sum()) << 8)) for k, v in enumerate(vectors)]
    assert sum(ticks) == np.abs(vectors).sum()
