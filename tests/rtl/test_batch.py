"""The batch against its model: what was loaded leaves again, vector by vector, whatever waits on either side."""

import random

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect

from rtl.batch_memory import BatchMemory
from rtl.batch_store import BatchStore
from rtl.memory_share import MemoryShare
from rtl.params import FlitKind, PortRegion, preset
from rtl.port import Port
from sim.batch import Batch as BatchModel
from sim.port import Port as PortModel
from tests.rtl.bench import simulate as simulate_all
from tests.rtl.flits import access, always, as_flit, get, message, often, put, seldom
from tests.rtl.sdram_bench import with_part
from tests.rtl.test_port import body, flits_of

TINY = preset("tiny")
W = TINY.transport
PLAN = ((3, 2, 0), (7, 1, 1), (3, 3, 0xABC))
WORDS = sum(words for _, words, _ in PLAN)
SEGMENTS, ROOM, VECTOR_WORDS, REPLAY_WORD, REPLAY = 1, 2, 3, 4, 6


def simulate(dut, *testbenches, processes=()):
    """Run them, each to its end; one that waits for what never comes fails."""
    async def patience(ctx):
        for _ in range(3_000):
            await ctx.tick()
        raise AssertionError("something waits for what never comes")

    simulate_all(dut, *testbenches, processes=[patience, *processes])


def beside_its_part(dut):
    """Return the design around a component with a memory, and the part that runs beside it if that is SDRAM."""
    if not dut.geometry.batch_in_sdram:
        return dut, []
    m = Module()
    m.submodules.dut = dut
    m.submodules.share = share = MemoryShare(geometry=dut.geometry)
    connect(m, dut.memory, share.batch)
    return m, [with_part(m, share.memory).bench]


@pytest.mark.parametrize("store", ["block", "sdram"])
@pytest.mark.parametrize(("transport", "go_in", "go_out"), [
    (2, often, seldom), (4, always, always), (4, often, seldom), (4, seldom, often), (6, often, seldom),
    (16, seldom, often)])
def test_runs_of_words(store, transport, go_in, go_out):
    geometry = TINY.replace(transport=transport, rows=3 * transport, lanes=transport, batch_words=16, batch_store=store)
    model, rng = BatchModel(geometry), np.random.default_rng(transport)
    dut = (BatchStore if store == "sdram" else BatchMemory)(geometry=geometry)
    design, parts = beside_its_part(dut)
    places = rng.permutation(20 * geometry.batch_parts).tolist()  # some lie past the end
    writes = [{"place": place, "data": int(rng.integers(1 << 32))} for place in places]
    runs = [{"word": int(rng.integers(16)), "words": int(rng.integers(1, 20))} for _ in range(8)]
    got = []

    async def load_and_ask(ctx):
        await put(ctx, dut.write, writes, go=go_in, rng=random.Random(3))
        await put(ctx, dut.i, runs, go=go_in, rng=random.Random(1))

    async def take(ctx):
        got.extend(await get(ctx, dut.o, sum(run["words"] for run in runs), go=go_out, rng=random.Random(2)))

    simulate(design, load_and_ask, take, processes=parts)
    for write in writes:
        model.write(PortRegion.BATCH, write["place"], write["data"])
    expected = [(int.from_bytes(model.words[(run["word"] + k) % 16].tobytes(), "little"), int(k == run["words"] - 1))
                for run in runs for k in range(run["words"])]
    assert [(word.bytes, word.last) for word in got] == expected
    assert len({word for word, _ in expected}) > 10


def test_whoever_takes_words_may_stop_at_any_of_them():
    """For longer than a burst takes: one that had no room would lose words, or hold the memory meanwhile."""
    geometry = TINY.replace(batch_words=16, batch_store="sdram")
    dut, got, held = BatchStore(geometry=geometry), [], []
    design, parts = beside_its_part(dut)
    runs = [{"word": word, "words": 16} for word in (0, 5, 0)]

    async def load_and_ask(ctx):
        await put(ctx, dut.write, [{"place": place, "data": 0x01020304 + place} for place in range(16)])
        await put(ctx, dut.i, runs)

    async def take(ctx):
        for _ in range(48):
            got.extend(await get(ctx, dut.o, 1))
            await ctx.tick().repeat(55)
            held.append(ctx.get(dut.memory.active))

    simulate(design, load_and_ask, take, processes=parts)
    assert [word.bytes - 0x01020304 for word in got] == [(run["word"] + k) % 16 for run in runs for k in range(16)]
    assert not any(held[1:])  # at the first, two bursts come one after the other


def loaded(vectors, *, room=4, words=WORDS, first=2, plan=PLAN):
    """Writes that make a port ready to replay vectors (N, words * W) from the word `first` on; W is that of `TINY`."""
    data = np.pad(vectors.astype(np.int8), ((0, 0), (0, words * W - vectors.shape[1]))).ravel().view("<u4")
    return [*((PortRegion.PLAN, k, route | size << 8 | position << 16)
              for k, (route, size, position) in enumerate(plan)),
            (PortRegion.REGISTERS, 0, 2), (PortRegion.REGISTERS, SEGMENTS, len(plan)),
            (PortRegion.REGISTERS, ROOM, room), (PortRegion.REGISTERS, VECTOR_WORDS, words),
            *((PortRegion.BATCH + (first + k >> 20), first + k & 0xFFFFF, int(word)) for k, word in enumerate(data))]


async def replay(ctx, bus, word, event, count):
    for k, value in enumerate((word, event, count)):
        await access(ctx, bus, PortRegion.REGISTERS, REPLAY_WORD + k, value)


def some_vectors(count, size=WORDS * W):
    return np.random.default_rng(5).integers(-127, 128, (count, size))


@pytest.mark.parametrize(("go_mesh", "go_link"), [(always, always), (often, seldom), (seldom, often)])
@pytest.mark.parametrize("room", [1, 3])
def test_a_replay_is_what_sending_would_be(room, go_mesh, go_link):
    """The same flits as of vectors sent, events wrapping; no more under way than results have room for, and as many."""
    dut, model, vectors, count = Port(geometry=TINY), PortModel(TINY), some_vectors(4), 4
    event = (1 << 32) - 2
    writes = loaded(vectors, room=room)
    for write in writes:
        model.write(*write)
    messages = model.send((event + np.arange(count)) % (1 << 32), np.zeros(count, np.int64), vectors)
    got, entered, taken, under_way = [], [0], [0], []

    async def host(ctx):
        for region, offset, value in writes:
            await access(ctx, dut.bus, region, offset, value)
        await replay(ctx, dut.bus, 2, event, count)
        for k in range(count):
            await get(ctx, dut.result, 10 + 4 * W, go=go_link, rng=random.Random(k))
            taken[0] += 1
            await ctx.tick().repeat(200 if k == 1 else 1)  # a host that is away for a while
        await ctx.tick().repeat(60)
        ctx.set(dut.o.ready, 1)
        assert not ctx.get(dut.o.valid)
        assert ctx.get(dut.credit)
        model.batch.write(PortRegion.REGISTERS, REPLAY_WORD, 2)
        model.batch.write(PortRegion.REGISTERS, REPLAY_WORD + 1, event)
        model.batch.write(PortRegion.REGISTERS, REPLAY, count)
        model.batch.start(count)
        for offset in range(8):
            found = await access(ctx, dut.bus, PortRegion.REGISTERS, offset)
            assert found == model.read(PortRegion.REGISTERS, offset)
        assert await access(ctx, dut.bus, PortRegion.COUNTERS, 0) == count

    async def mesh(ctx):
        for k in range(count):
            got.extend(as_flit(f) for f in await get(ctx, dut.o, 1, go=go_mesh, rng=random.Random(20 + k)))
            entered[0] += 1
            under_way.append(entered[0] - taken[0])
            rest = len(PLAN) + WORDS - 1
            got.extend(as_flit(f) for f in await get(ctx, dut.o, rest, go=go_mesh, rng=random.Random(40 + k)))
            await put(ctx, dut.i, message(1, FlitKind.PARTIAL, k, 0, [k] * W, W), go=go_mesh, rng=random.Random(k))

    simulate(dut, host, mesh)
    assert got == [flit for k in range(count) for flit in flits_of(messages, k)]
    assert max(under_way) == room


def test_a_replay_keeps_the_cutter_busy():
    """A word a clock, and a few clocks more a vector: the link took a clock a byte."""
    plan = ((1, 60, 0),)
    dut, vectors, at = Port(geometry=TINY), some_vectors(3, 60 * W), []

    async def host(ctx):
        for region, offset, value in loaded(vectors, words=60, plan=plan, first=0):
            await access(ctx, dut.bus, region, offset, value)
        await replay(ctx, dut.bus, 0, 0, 3)

    async def mesh(ctx):
        ctx.set(dut.o.ready, 1)
        clock = 0
        while len(at) < 2 * 61:
            _, _, valid = await ctx.tick().sample(dut.o.valid)
            clock += 1
            at.extend([clock] * valid)

    simulate(dut, host, mesh)
    assert at[61] - at[0] <= 61 + 6


@pytest.mark.parametrize("size", [0, 3, WORDS - 1, WORDS + 2])
def test_a_vector_of_another_length_than_the_plan_hangs_nothing(size):
    """It is cut, or filled with zeros, as one that was sent is."""
    dut, vectors = Port(geometry=TINY), some_vectors(2, size * W)
    got = []

    async def host(ctx):
        for region, offset, value in loaded(vectors, words=size, first=0):
            await access(ctx, dut.bus, region, offset, value)
        await replay(ctx, dut.bus, 0, 7, 2)

    async def mesh(ctx):
        got.extend(as_flit(f) for f in await get(ctx, dut.o, 2 * (len(PLAN) + WORDS)))

    simulate(dut, host, mesh)
    model = PortModel(TINY)
    for write in loaded(vectors, words=size, first=0):
        model.write(*write)
    fitted = np.pad(vectors, ((0, 0), (0, WORDS * W)))[:, :WORDS * W]
    messages = model.send(np.array([7, 8]), np.zeros(2, np.int64), fitted)
    assert got == [flit for k in range(2) for flit in flits_of(messages, k)]


def test_words_beyond_a_region_come_from_the_next():
    """Over the border between two regions of the bus, in SDRAM; the same places of another region hold other words."""
    geometry, first, vectors = TINY.replace(batch_words=1 << 22, batch_store="sdram"), (3 << 20) - 7, some_vectors(3)
    dut, model, got = Port(geometry=geometry), PortModel(geometry), []
    design, parts = beside_its_part(dut)
    writes = [*loaded(vectors, first=first), *loaded(-vectors, first=first & 0xFFFFF), *loaded(-vectors, first=0)]

    async def host(ctx):
        for region, offset, value in writes:
            await access(ctx, dut.bus, region, offset, value)
        await replay(ctx, dut.bus, first, 7, 3)

    async def mesh(ctx):
        for _ in range(3):
            got.extend(as_flit(f) for f in await get(ctx, dut.o, len(PLAN) + WORDS))
            await put(ctx, dut.i, message(1, FlitKind.PARTIAL, 7, 0, [0] * W, W))

    simulate(design, host, mesh, processes=parts)
    for write in [*writes, (PortRegion.REGISTERS, REPLAY_WORD, first), (PortRegion.REGISTERS, REPLAY, 3)]:
        model.write(*write)
    _, replayed = model.batch.start(3)
    np.testing.assert_array_equal(replayed, vectors)
    messages = model.send(np.array([7, 8, 9]), np.zeros(3, np.int64), vectors)
    assert got == [flit for k in range(3) for flit in flits_of(messages, k)]


def test_a_replay_begins_when_no_result_is_outstanding_and_keeps_others_out():
    dut, vectors, left = Port(geometry=TINY), some_vectors(2), []
    per_vector = len(PLAN) + WORDS

    async def silence(ctx):
        ctx.set(dut.o.ready, 1)
        for _ in range(60):
            _, _, valid = await ctx.tick().sample(dut.o.valid)
            assert not valid
        ctx.set(dut.o.ready, 0)

    async def host(ctx):
        for region, offset, value in loaded(vectors):
            await access(ctx, dut.bus, region, offset, value)
        await put(ctx, dut.send, body(99, 0, [1] * WORDS * W))
        left.extend(await get(ctx, dut.o, per_vector))
        await replay(ctx, dut.bus, 2, 5, 2)
        assert not ctx.get(dut.credit)
        await silence(ctx)
        await put(ctx, dut.i, message(1, FlitKind.PARTIAL, 99, 0, [0] * W, W))
        await silence(ctx)  # its result has come, but nobody has taken it
        await get(ctx, dut.result, 10 + 4 * W)
        left.extend(await get(ctx, dut.o, 2 * per_vector))
        for k in range(2):
            await put(ctx, dut.i, message(1, FlitKind.PARTIAL, k, 0, [0] * W, W))
        for _ in range(2):
            assert not ctx.get(dut.credit)
            await get(ctx, dut.result, 10 + 4 * W)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.credit)

    simulate(dut, host)
    assert [f["data"] & 0xFFFFFFFF for f in map(as_flit, left) if f["kind"] == FlitKind.HEADER] == [
        event for event in (99, 5, 6) for _ in PLAN]


@pytest.mark.parametrize(("how", "after"), [("new session", 1), ("written", 4), ("new session", 8), ("written", 9)])
def test_a_replay_ends_at_the_end_of_a_vector(how, after):
    """Stopped in the middle of one, or between two; then a vector that is sent comes whole."""
    dut, model, vectors = Port(geometry=TINY), PortModel(TINY), some_vectors(3)
    writes, per_vector, got = loaded(vectors), len(PLAN) + WORDS, []
    for write in writes:
        model.write(*write)
    others = some_vectors(4)[3:]
    messages, sent = model.send(np.arange(3), np.zeros(3, np.int64), vectors), model.send([50], [60], others)

    async def host(ctx):
        for region, offset, value in writes:
            await access(ctx, dut.bus, region, offset, value)
        await replay(ctx, dut.bus, 2, 0, 3)
        got.extend(as_flit(f) for f in await get(ctx, dut.o, after))
        if how == "written":
            await access(ctx, dut.bus, PortRegion.REGISTERS, REPLAY, 0)
        else:
            ctx.set(dut.stop, 1)
            await ctx.tick()
            ctx.set(dut.stop, 0)
        started = await access(ctx, dut.bus, PortRegion.COUNTERS, 0)
        assert 1 <= started <= 2
        got.extend(as_flit(f) for f in await get(ctx, dut.o, started * per_vector - after))
        ctx.set(dut.o.ready, 1)
        for _ in range(60):
            _, _, valid = await ctx.tick().sample(dut.o.valid)
            assert not valid
        ctx.set(dut.o.ready, 0)
        assert await access(ctx, dut.bus, PortRegion.REGISTERS, REPLAY) == 0
        assert ctx.get(dut.credit)
        for _ in range(started):
            await put(ctx, dut.i, message(1, FlitKind.PARTIAL, 0, 0, [0] * W, W))
        await put(ctx, dut.send, body(50, 60, others[0]))
        got.extend(as_flit(f) for f in await get(ctx, dut.o, per_vector))
        expected = [flit for k in range(started) for flit in flits_of(messages, k)]
        assert got == expected + flits_of(sent, 0)

    simulate(dut, host)


def test_a_build_without_memory_has_none_of_it():
    dut, model = Port(geometry=TINY.replace(batch_words=0)), PortModel(TINY.replace(batch_words=0))

    async def host(ctx):
        for region, offset, value in loaded(some_vectors(2)):
            await access(ctx, dut.bus, region, offset, value)
            model.write(region, offset, value)
        await replay(ctx, dut.bus, 2, 5, 2)
        assert ctx.get(dut.credit)
        for offset in range(8):
            found = await access(ctx, dut.bus, PortRegion.REGISTERS, offset)
            assert found == model.read(PortRegion.REGISTERS, offset) == (2, len(PLAN), 0, 0, 0, 0, 0, 0)[offset]

    simulate(dut, host)
    assert not model.batch.busy
