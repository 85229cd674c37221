# amaranth: UnusedElaboratable=no
"""States and batch in SDRAM: their stores share one memory and get back what they kept, and nobody else's."""

from functools import partial

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from rtl.batch_store import BatchStore
from rtl.memory_share import MemoryShare, shared_memory
from rtl.params import preset
from rtl.sdram import Sdram, SdramPart, attach
from rtl.state_store import StateStore
from tests.rtl.flits import get, put
from tests.rtl.sdram_bench import with_part

GEOMETRY = preset("tiny-sdram").replace(cells=40, wear_bits=3, state_bits=12, batch_words=64)
LATENCY = 3
LONGEST = 5000
"""Clocks that a move may take: it may have to wait for the clearing of all cells, and for the other engine."""


class Window:
    """The engine's side of a store: what an array has in block RAM, read `LATENCY` clocks after its place."""

    def __init__(self, store):
        self.store = store
        self.states = np.zeros((GEOMETRY.window_cells, GEOMETRY.devices), int)
        self.wear = np.zeros_like(self.states)

    async def bench(self, ctx):
        store, asked = self.store, [0] * LATENCY
        while True:
            _, _, state, wear = await ctx.tick().sample(store.state, store.wear)
            for access, values in ((state, self.states), (wear, self.wear)):
                for k in range(GEOMETRY.devices):
                    if access.mask >> k & 1:
                        values[access.cell, k] = access.values[k]
            asked = [state.cell, *asked[:-1]]
            ctx.set(store.state_o, self.states[asked[-1]].tolist())
            ctx.set(store.wear_o, self.wear[asked[-1]].tolist())


def run(*scripts, batch=()):
    """Run a script for each of two engines, coroutines of (window, move), and those of the batch, of (ctx, store)."""
    m = Module()
    m.submodules.batch = kept = BatchStore(geometry=GEOMETRY)
    m.submodules.share = share = MemoryShare(geometry=GEOMETRY)
    stores = [StateStore(geometry=GEOMETRY, state_latency=LATENCY) for _ in range(2)]
    for k, store in enumerate(stores):
        m.submodules[f"store_{k}"] = store
        connect(m, store.memory, share.states[k])
    connect(m, kept.memory, share.batch)
    part = with_part(m, share.memory)
    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(part.bench, background=True)
    for store, script in zip(stores, scripts, strict=True):
        window = Window(store)
        simulator.add_testbench(window.bench, background=True)

        async def bench(ctx, store=store, window=window, script=script):
            async def move(way, base, stride, count, first=0):
                ctx.set(store.run, {"base": base, "stride": stride, "count": count, "first": first})
                ctx.set(getattr(store, way), 1)
                for clocks in range(LONGEST):
                    *_, done = await ctx.tick().sample(store.done)
                    if done:
                        ctx.set(getattr(store, way), 0)
                        return clocks
                return pytest.fail(f"{way} of {count} cells did not end within {LONGEST} clocks")

            await script(window, move)

        simulator.add_testbench(bench)
    for script in batch:
        simulator.add_testbench(partial(script, store=kept))
    simulator.run()


def random_moves(rng, number):
    """Return a script of so many moves of rows, columns and single cells, against arrays that begin as zeros."""
    kept = np.zeros((2, GEOMETRY.cells, GEOMETRY.devices), int)

    async def script(window, move):
        for _ in range(number):
            count = int(rng.integers(1, 9))
            stride = int(rng.integers(1, min(GEOMETRY.rows, GEOMETRY.cells // count) + 1))
            base = int(rng.integers(GEOMETRY.cells - stride * (count - 1)))
            first = int(rng.integers(GEOMETRY.window_cells - count + 1))
            places, here = base + stride * np.arange(count), slice(first, first + count)
            if rng.integers(2):
                window.states[here] = rng.integers(1 << GEOMETRY.state_bits, size=(count, GEOMETRY.devices))
                window.wear[here] = rng.integers(1 << GEOMETRY.wear_bits, size=(count, GEOMETRY.devices))
                kept[:, places] = window.states[here], window.wear[here]
                await move("save", base, stride, count, first)
            else:
                window.states[:], window.wear[:] = -1, -1
                await move("load", base, stride, count, first)
                np.testing.assert_array_equal(window.states[here], kept[0, places])
                np.testing.assert_array_equal(window.wear[here], kept[1, places])
                assert (window.states >= 0).sum() == count * GEOMETRY.devices

    return script


@pytest.mark.parametrize("seed", range(3))
def test_runs_come_back_as_they_were_saved(seed):
    run(random_moves(np.random.default_rng(seed), 40), random_moves(np.random.default_rng(100 + seed), 40))


@pytest.mark.parametrize("taking", ["at once", "late"])
def test_a_replay_beside_the_engines(taking):
    """All get what they kept. Engines wait for a burst and no longer, even where nobody takes the words of a run; words
    come while engines move."""
    words = np.random.default_rng(9).integers(1 << 32, size=GEOMETRY.batch_words).tolist()
    runs = [(5, 100), (50, 30), (0, 1), (40, 120)]
    begun, ended, got = [], [], []

    def script(seed):
        moves = random_moves(np.random.default_rng(seed), 4)

        async def until_the_end(window, move):
            while not begun:
                await moves(window, move)
            for _ in range(3):
                await moves(window, move)
            ended.append(seed)
        return until_the_end

    async def fill(ctx, store):
        await put(ctx, store.write, [{"place": k, "data": word} for k, word in enumerate(words)])
        begun.append(True)
        await put(ctx, store.i, [{"word": word, "words": count} for word, count in runs])

    async def take(ctx, store):
        while taking == "late" and len(ended) < 2:
            await ctx.tick()
        for _, count in runs:
            got.extend(int(word.bytes) for word in await get(ctx, store.o, count))

    run(script(1), script(2), batch=[fill, take])
    assert len(ended) == 2
    assert got == [words[(first + k) % len(words)] for first, count in runs for k in range(count)]


def test_an_engine_waits_for_a_burst_and_no_longer():
    """However long a run is: a burst of 128 words, its some 12 clocks, and a refresh; 13 for the cell itself."""
    took, taken = [], []

    async def nothing(window, move):
        pass

    async def load(window, move):
        await move("load", 0, 1, 1)
        while len(taken) < 600:
            took.append(await move("load", 0, 1, 1))

    async def ask(ctx, store):
        await put(ctx, store.i, [{"word": 0, "words": 600}])

    async def take(ctx, store):
        taken.extend(await get(ctx, store.o, 600))

    run(load, nothing, batch=[ask, take])
    assert len(took) > 5
    assert max(took) < 128 + 12 + 20 + 13


def test_a_replay_runs_near_the_roofline():
    """Vectors of 784 bytes, as of a digit: two bytes of SDRAM a clock, some 12 clocks more a burst, and refreshes."""
    vectors, words, at = 4, 196, []

    async def nothing(window, move):
        pass

    async def ask(ctx, store):
        await put(ctx, store.i, [{"word": words * k, "words": words} for k in range(vectors)])

    async def take(ctx, store):
        ctx.set(store.o.ready, 1)
        clock = 0
        while len(at) < vectors * words:
            _, _, valid = await ctx.tick().sample(store.o.valid)
            clock += 1
            assert clock < LONGEST
            at.extend([clock] * valid)

    run(nothing, nothing, batch=[ask, take])
    assert (at[-1] - at[words - 1]) / (vectors - 1) < 445


def test_a_part_that_is_too_small_is_refused():
    part = SdramPart(row_bits=11, column_bits=2)
    user = shared_memory(preset("demo-sdram")).create()
    with pytest.raises(ValueError, match="the part has addresses of 15 bits, its user needs 24"):
        attach(Module(), user, Sdram(part=part, clock_hz=50e6, words=2))
