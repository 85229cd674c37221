"""Runs inside the simulator: the portable parts and the cells in their place, side by side with the same inputs."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

LATENCY = 2


@cocotb.test()
async def cells_equal_portable_parts(dut):
    """Random words at both ends of the memories; words that collided are not looked at."""
    rng = random.Random(1)
    Clock(dut.clk, 10, unit="ns").start()
    dut.rst.value = 0
    collided, compared, products = [True] * 3, 0, set()
    for _ in range(6000):
        await FallingEdge(dut.clk)
        if len(collided) > 8:
            assert dut.p.value == dut.p_cell.value
            products.add(int(dut.p.value))
            if not collided[-LATENCY]:
                compared += 1
                assert dut.whole.value == dut.whole_cell.value
                assert dut.wide.value == dut.wide_cell.value
                assert dut.deep.value == dut.deep_cell.value
        address, w_address = (rng.choice((0, 1, 511, 1022, 1023)) + rng.choice((0, 1024)) for _ in range(2))
        mask = rng.randrange(16)
        collided.append(mask != 0 and (address - w_address) % 512 == 0)
        dut.a.value = rng.choice((-256, 255, rng.randrange(-256, 256))) & 0x1FF
        dut.b.value = rng.choice((-127, 127, rng.randrange(-127, 128))) & 0xFF
        dut.address.value, dut.w_address.value = address, w_address
        dut.w_mask.value, dut.w_part.value = mask, rng.randrange(512)
    assert compared > 3000
    assert len(products) > 1000
