"""The port against its model: sent vectors become the planned flits, flits become the bytes of results."""

import random
import struct

import numpy as np
import pytest
from amaranth.sim import Simulator

from rtl.params import FlitKind, PortRegion, preset
from rtl.port import Port
from sim.message import Message
from sim.port import Port as PortModel
from tests.rtl.flits import access, always, as_flit, get, message, often, put, seldom, unpack

GEOMETRY = preset("tiny")
W = GEOMETRY.transport
PLAN = [(3, 2, 0), (7, 1, 1), (3, 3, 0xABC)]


def body(event: int, time: int, activations) -> list[dict[str, int]]:
    """The bytes of SEND, the last one marked."""
    raw = struct.pack("<IQ", event, time)[:10] + np.asarray(activations, np.int8).tobytes()
    return [{"byte": b, "last": int(k == len(raw) - 1)} for k, b in enumerate(raw)]


def result_bytes(event: int, time: int, elements) -> bytes:
    return struct.pack("<IQ", event, time)[:10] + np.asarray(elements, np.int32).tobytes()


def simulate(dut, *testbenches) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    simulator.run()


def settings(window: int) -> list[tuple[int, int, int]]:
    writes = [(PortRegion.PLAN, k, route | words << 8 | position << 16)
              for k, (route, words, position) in enumerate(PLAN)]
    return [*writes, (PortRegion.REGISTERS, 0, window), (PortRegion.REGISTERS, 1, len(PLAN))]


async def configure(ctx, bus, *, window: int = 15) -> None:
    for region, offset, value in settings(window):
        await access(ctx, bus, region, offset, value)


def configured_model(window: int = 15) -> PortModel:
    model = PortModel(GEOMETRY)
    for setting in settings(window):
        model.write(*setting)
    return model


def flits_of(messages: list[Message], vector: int) -> list[dict[str, int]]:
    """The flits of a vector's messages in the order of the plan; the model's list has no order between routes."""
    planned = [position for _, _, position in PLAN]
    return [flit for m in sorted(messages, key=lambda m: planned.index(m.position))
            for flit in message(m.route, m.kind, int(m.events[vector]), int(m.times[vector]),
                                m.elements[vector].tolist(), W, m.position)]


@pytest.mark.parametrize(("go_in", "go_out"), [(always, always), (often, seldom), (seldom, often)])
def test_vectors_become_the_planned_messages(go_in, go_out):
    dut, model = Port(geometry=GEOMETRY), configured_model()
    rng = np.random.default_rng(3)
    count, size = 4, W * sum(words for _, words, _ in PLAN)
    vectors = rng.integers(-127, 128, (count, size))
    vectors[0, :4] = 127, -127, 0, -1
    events = rng.integers(0, 1 << 32, count)
    times = rng.integers(0, 1 << 48, count)
    messages = model.send(events, times, vectors)
    got = []

    async def send(ctx):
        await configure(ctx, dut.bus)
        for k in range(count):
            await put(ctx, dut.send, body(int(events[k]), int(times[k]), vectors[k]), go=go_in, rng=random.Random(k))

    async def receive(ctx):
        total = count * (len(PLAN) + size // W)
        got.extend(as_flit(f) for f in await get(ctx, dut.o, total, go=go_out, rng=random.Random(9)))
        await ctx.tick().repeat(20)
        assert not ctx.get(dut.o.valid)
        for offset in range(2):
            assert await access(ctx, dut.bus, PortRegion.COUNTERS, offset) == model.read(PortRegion.COUNTERS, offset)

    simulate(dut, send, receive)
    assert got == [flit for k in range(count) for flit in flits_of(messages, k)]


@pytest.mark.parametrize("go_out", [always, seldom])
@pytest.mark.parametrize("go_in", [always, often])
def test_results_leave_as_bytes_once_they_are_complete(go_in, go_out):
    dut = Port(geometry=GEOMETRY)
    rng = np.random.default_rng(4)
    results = [(int(rng.integers(0, 1 << 32)), int(rng.integers(0, 1 << 48)),
                rng.integers(-(1 << 23), 1 << 23, W * int(words)).tolist()) for words in (1, 3, 2, 4)]
    results[0][2][:2] = [-(1 << 23), (1 << 23) - 1]
    got, whole = [], []

    async def arrive(ctx):
        for event, time, elements in results:
            await put(ctx, dut.i, message(11, FlitKind.PARTIAL, event, time, elements, W), go=go_in,
                      rng=random.Random(5))

    async def take(ctx):
        for event, time, elements in results:
            expected = result_bytes(event, time, elements)
            while not ctx.get(dut.available):
                assert not ctx.get(dut.result.valid)
                await ctx.tick()
            received = await get(ctx, dut.result, len(expected), go=go_out, rng=random.Random(6))
            got.append(bytes(p["byte"] for p in received))
            assert [p["last"] for p in received] == [0] * (len(expected) - 1) + [1]
            whole.append(expected)
        await ctx.tick().repeat(5)
        assert not ctx.get(dut.available)
        assert await access(ctx, dut.bus, PortRegion.COUNTERS, 2) == len(results)

    simulate(dut, arrive, take)
    assert got == whole


def test_an_incomplete_result_is_not_available():
    dut = Port(geometry=GEOMETRY)
    flits = message(2, FlitKind.PARTIAL, 5, 6, list(range(3 * W)), W)

    async def run(ctx):
        await put(ctx, dut.i, flits[:-1])
        for _ in range(50):
            await ctx.tick()
            assert not ctx.get(dut.available)
            assert not ctx.get(dut.result.valid)
        await put(ctx, dut.i, flits[-1:])
        await ctx.tick()
        assert ctx.get(dut.available)

    simulate(dut, run)


def test_the_window_holds_vectors_back_and_credit_counts_results():
    dut = Port(geometry=GEOMETRY)
    size = W * sum(words for _, words, _ in PLAN)
    per_vector = len(PLAN) + size // W
    sent = [0]
    left = []

    async def send(ctx):
        await configure(ctx, dut.bus, window=2)
        for k in range(GEOMETRY.result_vectors):
            assert ctx.get(dut.credit)
            await put(ctx, dut.send, body(k, 0, [1] * size))
            sent[0] += 1
        await ctx.tick()
        assert not ctx.get(dut.credit)

    async def silence(ctx):
        ctx.set(dut.o.ready, 1)
        for _ in range(60):
            _, _, valid = await ctx.tick().sample(dut.o.valid)
            assert not valid

    async def mesh(ctx):
        left.extend(await get(ctx, dut.o, 2 * per_vector))
        await ctx.tick().repeat(400)
        assert sent[0] == GEOMETRY.result_vectors > 2, "the bytes of those that wait are taken in"
        await silence(ctx)
        for k in range(GEOMETRY.result_vectors):
            await put(ctx, dut.i, message(1, FlitKind.PARTIAL, k, 0, [k] * W, W))
            if k + 2 < GEOMETRY.result_vectors:
                left.extend(await get(ctx, dut.o, per_vector))
                await silence(ctx)
        assert not ctx.get(dut.credit)
        assert len(result_bytes(0, 0, [0] * W)) == len(await get(ctx, dut.result, 10 + 4 * W))
        await ctx.tick()
        assert ctx.get(dut.credit)

    simulate(dut, send, mesh)
    events = [int(flit["data"]) & 0xFFFFFFFF for flit in left if flit["kind"] == FlitKind.HEADER]
    assert events == [k for k in range(GEOMETRY.result_vectors) for _ in PLAN]


def test_vectors_that_wait_are_longer_than_the_room():
    """The second one does not fit while the first is in the mesh; it leaves a word a clock once it may."""
    dut, model, words = Port(geometry=GEOMETRY), PortModel(GEOMETRY), 200
    writes = [(PortRegion.PLAN, k, k | words << 8) for k in range(3)]
    writes += [(PortRegion.REGISTERS, 0, 1), (PortRegion.REGISTERS, 1, 3)]
    vectors = np.random.default_rng(8).integers(-127, 128, (2, 3 * words * W))
    for write in writes:
        model.write(*write)
    messages = model.send(np.array([5, 6]), np.array([7, 8]), vectors)
    got, took, sent = [], [], []

    async def send(ctx):
        for region, offset, value in writes:
            await access(ctx, dut.bus, region, offset, value)
        for k in range(2):
            await put(ctx, dut.send, body(5 + k, 7 + k, vectors[k]))
            sent.append(k)

    async def mesh(ctx):
        size = 3 * (1 + words)
        got.extend(await get(ctx, dut.o, size))
        await ctx.tick().repeat(3 * words * W)
        assert len(sent) == 1
        await put(ctx, dut.i, message(1, FlitKind.PARTIAL, 5, 0, [0] * W, W))
        ctx.set(dut.o.ready, 1)
        while len(got) < 2 * size:
            _, _, valid, flit = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            took.append(valid)
            got.extend([flit] * valid)

    simulate(dut, send, mesh)
    assert [as_flit(flit) for flit in got] == [flit for k in range(2) for flit in flits_of(messages, k)]
    assert took[:510].count(0) < 12


@pytest.mark.parametrize("change", [-30, -5, -1, 1, 9])
def test_a_body_of_the_wrong_length_hangs_nothing(change):
    dut = Port(geometry=GEOMETRY)
    size = W * sum(words for _, words, _ in PLAN)
    whole = [7] * size
    cut = (whole + [9] * 9)[:size + change]
    raw = body(1, 2, cut)[:10 + size + change]
    raw[-1]["last"] = 1
    got = []

    async def send(ctx):
        await configure(ctx, dut.bus)
        await put(ctx, dut.send, raw)
        await put(ctx, dut.send, body(3, 4, whole))

    async def receive(ctx):
        got.extend(as_flit(f) for f in await get(ctx, dut.o, 2 * (len(PLAN) + size // W)))

    simulate(dut, send, receive)
    half = len(got) // 2
    data = [e for f in got[:half] if f["kind"] != FlitKind.HEADER for e in unpack(f["data"], W)]
    if size + change >= 0:
        assert data == (cut + [0] * size)[:size]
    assert [f["data"] for f in got[half:] if f["kind"] == FlitKind.HEADER] == [
        3 | 4 << 32 | position << 80 for _, _, position in PLAN]


def test_registers_read_back_like_the_model():
    dut, model = Port(geometry=GEOMETRY), configured_model(3)

    async def run(ctx):
        await configure(ctx, dut.bus, window=3)
        ctx.set(dut.hops, 5)
        await ctx.tick().repeat(7)
        ctx.set(dut.hops, 0)
        model.hops += 35
        reads = [(PortRegion.REGISTERS, k) for k in range(3)] + [(PortRegion.PLAN, k) for k in (0, 1, 2, 64)]
        reads += [(PortRegion.COUNTERS, k) for k in (0, 1, 2, 3, 6, 7, 8)]
        for region, offset in reads:
            assert await access(ctx, dut.bus, region, offset) == model.read(region, offset)
        before = await access(ctx, dut.bus, PortRegion.COUNTERS, 4)
        await ctx.tick().repeat(10)
        assert await access(ctx, dut.bus, PortRegion.COUNTERS, 4) > before + 10

    simulate(dut, run)
