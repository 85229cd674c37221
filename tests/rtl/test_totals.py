"""Long counts from short counters."""

import numpy as np
from amaranth.sim import Simulator

from rtl.totals import COUNTER_BITS, Totals


def test_every_count_is_whole_whenever_it_is_read():
    rng = np.random.default_rng(3)
    count, largest = 5, np.array([0, 1, 1500, 800, 3])
    dut, counts = Totals(count=count), np.zeros(count, np.int64)

    async def bench(ctx):
        for clock in range(3000):
            reading, index = int(rng.integers(8) == 0), int(rng.integers(count))
            ctx.set(dut.counters, [int(value) % (1 << COUNTER_BITS) for value in counts])
            ctx.set(dut.read, reading)
            ctx.set(dut.index, index)
            if reading:
                assert ctx.get(dut.total) == counts[index], clock
            await ctx.tick()
            counts[:] += rng.integers(0, largest + 1)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert counts.max() > 30 << COUNTER_BITS
