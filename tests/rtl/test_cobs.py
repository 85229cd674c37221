import random
import zlib

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator
from cobs import cobs

from rtl.cobs import CobsDecoder, CobsEncoder
from rtl.crc import CRC_INIT, CRC_RESIDUE, crc32_step
from tests.rtl.link_bench import get_bytes, put_bytes, until

_RNG = random.Random(1)
_RUNS = [_RNG.randbytes(n).replace(b"\0", b"\1") for n in (253, 254, 255, 508, 509, 600)]
MESSAGES = [
    b"\0", b"\0\0", b"\1", b"\1\0", b"\0\1", b"\x11\x22\0\x33", bytes(300), bytes(range(256)) * 2,
    *_RUNS, *(run + b"\0" for run in _RUNS), *(b"\0" + run for run in _RUNS), *(run + b"\0" + run for run in _RUNS[:3]),
    *(_RNG.randbytes(_RNG.randint(1, 40)) for _ in range(10)),
]


def encode(messages: list[bytes], rng: random.Random | None) -> tuple[bytes, list[int]]:
    dut = CobsEncoder()
    fed: list[bool] = []
    out: list[tuple[bytes, list[int]]] = []

    async def feed(ctx):
        for message in messages:
            for k, byte in enumerate(message):
                if rng is not None:
                    await ctx.tick().repeat(rng.choice((1, 1, 1, 4)))
                ctx.set(dut.i.payload, {"byte": byte, "last": k == len(message) - 1})
                ctx.set(dut.i.valid, 1)
                await until(ctx, dut.i.ready)
                ctx.set(dut.i.valid, 0)
        fed.append(True)

    async def collect(ctx):
        out.append(await get_bytes(ctx, dut.o, lambda: not fed, 300, rng))

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(collect)
    simulator.add_testbench(feed, background=True)
    simulator.run()
    return out[0]


@pytest.mark.parametrize("seed", [None, 3])
def test_encoder_equals_the_library(seed):
    coded, clocks = encode(MESSAGES, None if seed is None else random.Random(seed))
    assert coded == b"".join(cobs.encode(message) + b"\0" for message in MESSAGES)
    if seed is None:
        bound = sum(len(message) + len(message) // 254 + 2 for message in MESSAGES)
        assert clocks[-1] <= bound + 300, "a byte a clock, a few more for each frame"


def decode(coded: bytes, rng: random.Random | None) -> list[bytes | None]:
    """Return the frames of a run of coded bytes, None for one that was cut short."""
    dut = CobsDecoder()
    frames: list[bytes | None] = []

    async def collect(ctx):
        frame = bytearray()
        while len(frames) < coded.count(0):
            ctx.set(dut.o.ready, 1 if rng is None else rng.random() < 0.6)
            _, _, valid, ready, token = await ctx.tick().sample(dut.o.valid, dut.o.ready, dut.o.payload)
            if valid and ready and token.end:
                frames.append(None if token.bad else bytes(frame))
                frame.clear()
            elif valid and ready:
                frame.append(token.byte)

    async def feed(ctx):
        await put_bytes(ctx, dut.i, coded, rng)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(collect)
    simulator.add_testbench(feed, background=True)
    simulator.run()
    return frames


@pytest.mark.parametrize("seed", [None, 4])
def test_decoder_undoes_the_library(seed):
    coded = b"".join(cobs.encode(message) + b"\0" for message in MESSAGES)
    assert decode(coded, None if seed is None else random.Random(seed)) == MESSAGES


def test_decoder_marks_what_the_library_refuses():
    rng = random.Random(7)
    parts = [bytes(rng.choice((1, 2, 3, 5, 255)) for _ in range(rng.randint(0, 12))) for _ in range(200)]
    expected: list[bytes | None] = []
    for part in parts:
        try:
            expected.append(cobs.decode(part))
        except cobs.DecodeError:
            expected.append(None)
    assert {type(frame) for frame in expected} == {bytes, type(None)}
    assert decode(b"".join(part + b"\0" for part in parts), None) == expected


def test_crc_equals_zlib():
    m = Module()
    register, byte = Signal(32, init=CRC_INIT), Signal(8)
    m.d.sync += register.eq(crc32_step(register, byte))
    message = random.Random(5).randbytes(50)

    async def check(ctx):
        for k, value in enumerate(message):
            ctx.set(byte, value)
            await ctx.tick()
            assert ctx.get(register) ^ 0xFFFF_FFFF == zlib.crc32(message[:k + 1])
        for value in zlib.crc32(message).to_bytes(4, "little"):
            ctx.set(byte, value)
            await ctx.tick()
        assert ctx.get(register) == CRC_RESIDUE

    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    simulator.add_testbench(check)
    simulator.run()
