# amaranth: UnusedElaboratable=no
"""States in SDRAM: several stores share one memory and get back what they saved, and nobody else's."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from rtl.params import preset
from rtl.sdram import Sdram, SdramPart, attach
from rtl.state_store import MemoryShare, StateMemorySignature, StateStore
from tests.rtl.sdram_bench import with_part

GEOMETRY = preset("tiny-sdram").replace(cells=40, wear_bits=3, state_bits=12)
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


def run(*scripts):
    """Run a script for each of two engines: coroutines of (ctx, store, window, move)."""
    m = Module()
    m.submodules.share = share = MemoryShare(geometry=GEOMETRY)
    stores = [StateStore(geometry=GEOMETRY, state_latency=LATENCY) for _ in range(2)]
    for k, store in enumerate(stores):
        m.submodules[f"store_{k}"] = store
        connect(m, store.memory, share.users[k])
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
                for _ in range(LONGEST):
                    *_, done = await ctx.tick().sample(store.done)
                    if done:
                        break
                else:
                    pytest.fail(f"{way} of {count} cells did not end within {LONGEST} clocks")
                ctx.set(getattr(store, way), 0)

            await script(window, move)

        simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("seed", range(3))
def test_runs_come_back_as_they_were_saved(seed):
    """Rows, columns and single cells of two engines at once, against arrays of all cells that begin with zeros."""
    def script(rng):
        kept = np.zeros((2, GEOMETRY.cells, GEOMETRY.devices), int)

        async def random_moves(window, move):
            for _ in range(40):
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

        return random_moves

    run(script(np.random.default_rng(seed)), script(np.random.default_rng(100 + seed)))


def test_a_part_that_is_too_small_is_refused():
    part = SdramPart(row_bits=11, column_bits=2)
    user = StateMemorySignature(preset("demo-sdram"), 2).create()
    with pytest.raises(ValueError, match="the part has addresses of 15 bits, its user needs 18"):
        attach(Module(), user, Sdram(part=part, clock_hz=50e6, words=2))
