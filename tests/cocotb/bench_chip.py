"""Runs inside the simulator: a whole chip, driven by the host's own driver in a thread over the chip's byte streams.

The driver knows nothing of it: it writes to a channel and reads from it, and the simulator's clock runs while it reads.
"""

import os
import random

import cocotb
import pytest
from cocotb.clock import Clock
from cocotb.task import bridge, resume
from cocotb.triggers import FallingEdge, First, ReadOnly, RisingEdge, Timer
from cocotb.utils import get_sim_steps, get_sim_time

from host.compare import compare
from host.link import LinkError
from rtl.params import preset
from sim.presets import technology
from tests.chip.machine import images, linked, model, place
from tests.host.faults import FAULTS, NoisyLine, at_random, duplicate

GEOMETRY = preset(os.environ["GEOMETRY"])
SIZES = (9, 5, 3)
"""Two row tiles and two folds, then one tile."""
CLOCK_NS = 12
TIMEOUT_CYCLES = 30_000
"""In a second of the driver's time-outs: a row takes the chip some thousand."""


class Line:
    """The streams of a chip as a channel: a byte passes in a share `rx`, `tx` of the clocks that it could.

    Once `reset_at` frames have gone to the chip it is reset, in the middle of a frame.
    """

    def __init__(self, dut, *, rx=1.0, tx=1.0):
        self.dut, self.rx, self.tx = dut, rx, tx
        self.rng = random.Random(5)
        self.reset_at = None
        self.frames = 0
        self.resets = 0
        self._to_chip, self._from_chip = bytearray(), bytearray()
        self._offered = False

    def write(self, payload):
        """Queue bytes for the chip."""
        self._to_chip += payload

    def read(self, timeout):
        """Run the chip until it has sent a frame, or for the cycles that stand for `timeout`."""
        resume(self.run)(int(timeout * TIMEOUT_CYCLES))
        answered = bytes(self._from_chip)
        self._from_chip.clear()
        return answered

    def close(self):
        """Do nothing: the chip is the simulator's."""

    async def run(self, cycles):
        """Run at most so many clocks, and let time pass without looking where nothing can pass."""
        dut, end = self.dut, get_sim_time("step") + get_sim_steps(cycles * CLOCK_NS, "ns")
        while (left := end - get_sim_time("step")) > 0 and not self._from_chip.endswith(b"\0"):
            await FallingEdge(dut.clk)
            self._offered |= bool(self._to_chip) and self.rng.random() < self.rx
            dut.rx_valid.value = int(self._offered)
            dut.rx_payload.value = self._to_chip[0] if self._offered else 0
            takes = self.rng.random() < self.tx
            dut.tx_ready.value = int(takes)
            await ReadOnly()
            sends = bool(dut.tx_valid.value)
            if sends and takes:
                self._from_chip.append(int(dut.tx_payload.value))
            if self._offered and dut.rx_ready.value:
                self._offered = False
                await self._passed(self._to_chip.pop(0))
            if not (self._to_chip or sends):
                await FallingEdge(dut.clk)
                dut.rx_valid.value, dut.tx_ready.value = 0, 0
                if not dut.tx_valid.value:  # it may have risen since it was looked at
                    await First(RisingEdge(dut.tx_valid), Timer(left, unit="step"))

    async def _passed(self, byte):
        """Count frames, and reset the chip if the one that was chosen is under way."""
        self.frames += byte == 0
        if self.reset_at is not None and self.frames >= self.reset_at and len(self._to_chip) > 4:
            self.reset_at = None
            await self.reset()

    async def reset(self):
        """Reset the chip for some clocks; what is on the line stays there."""
        self.resets += 1
        await FallingEdge(self.dut.clk)
        self.dut.rst.value, self.dut.rx_valid.value, self.dut.tx_ready.value = 1, 0, 0
        self._offered = False
        for _ in range(4):
            await FallingEdge(self.dut.clk)
        self.dut.rst.value = 0


async def started(dut, **options):
    """Return a line to a chip that has just been reset."""
    Clock(dut.clk, CLOCK_NS, unit="ns").start()
    if GEOMETRY.pump > 1:
        dut.calc_rst.value = 0
        await Timer(CLOCK_NS / GEOMETRY.pump / 2, "ns")  # no two edges meet, as on a board
        Clock(dut.calc_clk, CLOCK_NS / GEOMETRY.pump, unit="ns").start()
    line = Line(dut, **options)
    await line.reset()
    return line


def silent(_label, _total):
    return lambda _done: None


def check(channel, seed, *, ages=(86400.0,)):
    """Program, infer and age the chip and a model that was never used; no integer may differ. Return the repeats."""
    with linked(channel, GEOMETRY, tries=40) as device, model(GEOMETRY, seed=seed, chip=9) as reference:
        found = compare(device, reference, place(SIZES, 1, GEOMETRY), technology("pcm"), images(SIZES, 2, 4), ages=ages,
                        progress=silent)
        assert found.compared > 200
        assert {name: differing for name, (_, differing) in found.parts.items() if differing} == {}
        return device.backend.link.repeats


@cocotb.test()
@cocotb.parametrize(pace=[(1.0, 1.0), (0.3, 1.0), (1.0, 0.1), (0.5, 0.5)])
async def program_infer_age(dut, pace):
    """Back-pressure on neither side, on one, on both."""
    line = await started(dut, rx=pace[0], tx=pace[1])
    assert await bridge(check)(line, 3) == 0


@cocotb.test()
@cocotb.parametrize(fault=[*range(len(FAULTS)), None])
async def link_errors(dut, fault):
    """Every eleventh frame dropped, doubled, spoiled, cut or run into the next; and all of it at random."""
    choose = at_random(4) if fault is None else (
        lambda _way, number: FAULTS[fault] if number % 11 == 5 else None)
    noisy = NoisyLine(await started(dut), choose)
    repeats = await bridge(check)(noisy, 4)
    assert noisy.spoiled > 10
    # A frame that comes twice costs nothing: the second one is answered from the cache, and nobody waits.
    assert (repeats > 0) == (fault is None or FAULTS[fault] is not duplicate)


def interrupt(line, frame):
    """Begin the same work, and be told in one sentence that the chip has lost it."""
    line.reset_at = line.frames + frame
    with pytest.raises(LinkError, match=r"^the device's state is not what this session left: .* program it again$"):
        check(line, 6)
    assert line.reset_at is None


@cocotb.test()
async def reset_in_the_middle(dut):
    """While routes are written, rows programmed, vectors under way, the array aged: afterwards it is a new chip."""
    line = await started(dut)
    await bridge(check)(line, 5)
    frames, before = line.frames, line.resets
    for share in (0.1, 0.5, 0.7, 0.8):
        await bridge(interrupt)(line, int(share * frames))
        await bridge(check)(line, 7, ages=())
    assert line.resets == before + 4
