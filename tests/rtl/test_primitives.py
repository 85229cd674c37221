# amaranth: UnusedElaboratable=no
"""The parts that boards replace, and the state memory made of them, against arithmetic and a list of words."""

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, signed
from amaranth.sim import Simulator

from rtl.primitives import BlockMemory, Multiplier
from rtl.state_memory import StateMemory


def run(dut, bench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_products_leave_after_the_latency():
    rng = np.random.default_rng(1)
    dut = Multiplier(a_bits=9, b_bits=8)
    pairs = np.stack([rng.integers(-256, 256, 200), rng.integers(-127, 128, 200)], 1).tolist()
    pairs[:4] = [[-256, 127], [-256, -127], [255, 127], [255, -127]]

    async def bench(ctx):
        for clock in range(len(pairs) + dut.latency):
            if clock >= dut.latency:
                a, b = pairs[clock - dut.latency]
                assert ctx.get(dut.p) == a * b
            if clock < len(pairs):
                ctx.set(dut.a, pairs[clock][0])
                ctx.set(dut.b, pairs[clock][1])
            await ctx.tick()

    run(dut, bench)


class Words:
    """What a memory holds, and what its read port must show: None where a word was read in the clock of its write."""

    def __init__(self, depth, parts):
        self.words = np.zeros((depth, parts), np.int64)

    def clock(self, address, w_address, w_mask, w_value):
        """Return what a read in this clock gives, and write."""
        shown = None if w_mask.any() and address == w_address else self.words[address].tolist()
        self.words[w_address, w_mask] = w_value
        return shown


@pytest.mark.parametrize(("depth", "parts"), [(1024, 4), (12, 3)])
def test_block_memory(depth, parts):
    rng = np.random.default_rng(depth)
    dut, words, expected = BlockMemory(depth=depth, parts=parts, shape=signed(9)), Words(depth, parts), []

    async def bench(ctx):
        seen = 0
        for clock in range(2000):
            address, w_address = rng.integers(min(depth, 24), size=2).tolist()
            w_mask, w_part = rng.integers(2, size=parts).astype(bool), int(rng.integers(-256, 256))
            if clock >= dut.latency and expected[clock - dut.latency] is not None:
                assert [ctx.get(part) for part in dut.word] == expected[clock - dut.latency]
                seen += 1
            ctx.set(dut.address, address)
            ctx.set(dut.w_address, w_address)
            ctx.set(dut.w_mask, int(w_mask @ (1 << np.arange(parts))))
            ctx.set(dut.w_part, w_part)
            expected.append(words.clock(address, w_address, w_mask, w_part))
            await ctx.tick()
        assert seen > 1000

    run(dut, bench)


@pytest.mark.parametrize(("depth", "banks", "latency"), [(7, 1, 3), (2048, 1, 3), (2049, 2, 4), (17 * 2048 + 5, 18, 5)])
def test_state_memory(depth, banks, latency):
    rng = np.random.default_rng(depth)
    dut, words, expected = StateMemory(depth=depth, bits=9), Words(depth, 1), []
    assert (dut.banks, dut.latency) == (banks, latency)
    # Both ends of every bank, so that a wrong bank or a wrong word in it shows.
    places = sorted({place for bank in range(banks) for place in (bank * 2048, bank * 2048 + 1, bank * 2048 + 2047)
                     if place < depth} | {depth - 1})

    async def bench(ctx):
        for clock in range(2500):
            address, w_address = rng.choice(places, size=2).tolist()
            w_en, w_state = rng.integers(2, size=1).astype(bool), int(rng.integers(512))
            if clock >= latency and expected[clock - latency] is not None:
                assert [ctx.get(dut.state)] == expected[clock - latency]
            ctx.set(dut.address, address)
            ctx.set(dut.w_address, w_address)
            ctx.set(dut.w_en, int(w_en[0]))
            ctx.set(dut.w_state, w_state)
            expected.append(words.clock(address, w_address, w_en, w_state))
            await ctx.tick()

    run(dut, bench)


def test_a_platform_replaces_what_it_can():
    class Platform:
        def get_multiplier(self, part):
            m = Module()
            m.d.comb += part.p.eq(part.a)
            return m

        def get_block_memory(self, _part):
            return None

    multiplier, memory = Multiplier(a_bits=4, b_bits=4), BlockMemory(depth=4, parts=1, shape=signed(4))
    ports = [multiplier.a, multiplier.b, multiplier.p]
    assert "$mul" in rtlil.convert(multiplier, ports=ports)
    assert "$mul" not in rtlil.convert(multiplier, ports=ports, platform=Platform())
    assert "memory" in rtlil.convert(memory, ports=[memory.address, memory.word.as_value()], platform=Platform())
