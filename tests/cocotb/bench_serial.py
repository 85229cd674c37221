"""The host's end of a serial line: bytes as bits in real time, at a baud rate of its own."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, Timer

CLOCK_NS = 20
BIT_PS = round(1e12 / 3_000_000)


async def start(dut):
    """Start the clock and come out of reset."""
    Clock(dut.clk, CLOCK_NS, unit="ns").start()
    dut.rx.value = 1
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 4)


async def send(dut, data, bit_ps):
    """Send bytes, 8N1, without a pause."""
    for byte in data:
        for bit in [0, *((byte >> k) & 1 for k in range(8)), 1]:
            dut.rx.value = bit
            await Timer(bit_ps, unit="ps")


async def receive(dut, count, bit_ps):
    """Return the next bytes, each bit sampled in its middle."""
    data = bytearray()
    while len(data) < count:
        await FallingEdge(dut.tx)
        await Timer(bit_ps // 2, unit="ps")
        assert int(dut.tx.value) == 0, "the start bit is too short"
        byte = 0
        for k in range(8):
            await Timer(bit_ps, unit="ps")
            byte |= int(dut.tx.value) << k
        await Timer(bit_ps, unit="ps")
        assert int(dut.tx.value) == 1, "the stop bit is missing"
        data.append(byte)
    return bytes(data)


async def echo(dut, count, skew):
    """Send random bytes at a rate off by `skew` and look at what comes back."""
    await start(dut)
    data = random.Random(int(os.environ["SEED"])).randbytes(count)
    bit_ps = round(BIT_PS * (1 + skew))
    answer = cocotb.start_soon(receive(dut, count, BIT_PS))
    await send(dut, data, bit_ps)
    assert await answer == bytes((byte + 1) % 256 for byte in data)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def exact_rate(dut):
    """Both ends have the same rate."""
    await echo(dut, 200, 0.0)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def slow_host(dut):
    """The host is 2 % slow."""
    await echo(dut, 100, 0.02)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def fast_host(dut):
    """The host is 1.5 % fast: what comes back takes longer than what goes in, and waits in the echo's queue."""
    await echo(dut, 100, -0.015)
