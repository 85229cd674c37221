"""Runs inside the simulator: reads of an 8 x 8 tile in pulse fidelity, watched at the macro's own clock."""

import os

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from rtl.params import preset
from sim.adc import Converters, convert
from tests.cocotb.wires import pack, unpack

G = preset("tiny")


async def start(dut):
    """Start the clock, put all inputs to rest and pulse the reset."""
    Clock(dut.clk, 10, unit="ns").start()
    for name in ("i_valid", "i_payload", "o_ready", "emulation_net_valid", "emulation_noise_valid", "level_valid",
                 "fire_valid", "emulation_gain", "emulation_offset"):
        getattr(dut, name).value = 0
    dut.rst.value = 1
    await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
    dut.rst.value = 0


async def write_nets(dut, nets):
    """Give every cell its net conductance."""
    dut.emulation_net_valid.value = 1
    for (row, column), net in np.ndenumerate(nets):
        dut.emulation_net_row.value = row
        dut.emulation_net_column.value = column
        dut.emulation_net_value.value = int(net) & (1 << G.net_bits) - 1
        await RisingEdge(dut.clk)
    dut.emulation_net_valid.value = 0


async def send(dut, vectors, rng):
    """Send vectors word by word, with gaps."""
    for word in vectors.reshape(-1, G.transport):
        for _ in range(int(rng.integers(0, 3))):
            await RisingEdge(dut.clk)
        dut.i_payload.value = pack(word, 8)
        dut.i_valid.value = 1
        await RisingEdge(dut.clk)
        while not dut.i_ready.value:
            await RisingEdge(dut.clk)
        dut.i_valid.value = 0


async def make_noise(dut, noise):
    """Write the noise of each read when its capacitors are discharged."""
    for vector in noise:
        await RisingEdge(dut.clk)
        while not dut.discharge.value:
            await RisingEdge(dut.clk)
        dut.emulation_noise_valid.value = 1
        for column, value in enumerate(vector):
            dut.emulation_noise_column.value = column
            dut.emulation_noise_value.value = int(value) & (1 << 20) - 1
            await RisingEdge(dut.clk)
        dut.emulation_noise_valid.value = 0


async def receive(dut, count, rng):
    """Return the codes and clip bits of `count` reads, taken with delays."""
    codes, clipped = [], []
    for _ in range(count):
        for _ in range(int(rng.integers(0, 500))):
            await RisingEdge(dut.clk)
        dut.o_ready.value = 1
        await RisingEdge(dut.clk)
        while not dut.o_valid.value:
            await RisingEdge(dut.clk)
        codes.append(unpack(int(dut.o_payload_codes.value), G.adc_bits, G.columns, signed=True))
        clipped.append(unpack(int(dut.o_payload_clipped.value), 1, G.columns, signed=False))
        dut.o_ready.value = 0
    return codes, clipped


async def check(dut, rng, vectors, noise_max):
    """Read vectors on random nets, and compare with charge fidelity."""
    nets = rng.integers(-G.net_max, G.net_max + 1, (G.rows, G.columns))
    noise = rng.integers(-noise_max, noise_max + 1, (len(vectors), G.columns))
    charge = vectors @ nets + noise
    gain = min((G.code_max << 24) // max(1, int(np.abs(charge).max()) // 2), (1 << 20) - 1)
    offset = int(rng.integers(-(1 << 26), 1 << 26))
    await start(dut)
    dut.emulation_gain.value = gain
    dut.emulation_offset.value = offset & 0xFFFFFFFF
    await write_nets(dut, nets)
    cocotb.start_soon(make_noise(dut, noise))
    cocotb.start_soon(send(dut, vectors, rng))
    codes, clipped = await receive(dut, len(vectors), rng)
    expected_codes, expected_clipped = convert(charge, Converters.of(gain, offset), G.code_max)
    np.testing.assert_array_equal(codes, expected_codes)
    np.testing.assert_array_equal(clipped, expected_clipped)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def random_reads(dut):
    """Fifty vectors, noise on, some codes clipped."""
    rng = np.random.default_rng(int(os.environ["BITLINE_SEED"]))
    await check(dut, rng, rng.integers(-127, 128, (50, G.rows)), 1 << 12)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def corner_reads(dut):
    """Pulses of full, shortest and no duration; noise up to its limit."""
    rng = np.random.default_rng(int(os.environ["BITLINE_SEED"]))
    await check(dut, rng, rng.choice([-127, -126, -1, 0, 1, 126, 127], (30, G.rows)), (1 << 19) - 1)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def programming_lines(dut):
    """Armed columns and their levels reach the array with the pulse, once."""
    await start(dut)
    dut.level_valid.value = 1
    for column in (1, 5):
        dut.level_column.value = column
        dut.level_value.value = 1000 * column
        await RisingEdge(dut.clk)
    dut.level_valid.value = 0
    dut.fire_valid.value, dut.fire_row.value, dut.fire_device.value = 1, 6, 2
    await RisingEdge(dut.clk)
    dut.fire_valid.value = 0
    pulses = []
    for _ in range(6):
        await RisingEdge(dut.clk)
        if dut.emulation_fired_valid.value:
            levels = unpack(int(dut.emulation_fired_levels.value), 16, G.columns, signed=False)
            pulses.append((int(dut.emulation_fired_row.value), int(dut.emulation_fired_device.value),
                           int(dut.emulation_fired_armed.value), levels[1], levels[5]))
    assert pulses == [(6, 2, 0b100010, 1000, 5000)]
