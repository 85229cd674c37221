"""The tiles of one engine against the model: every flit, counter and time."""

import dataclasses

import numpy as np
import pytest

from rtl.params import FlitKind, preset
from rtl.params.registers import COLUMN_STRIDE, EngineRegion
from tests.rtl.flits import access, always, often, put, seldom
from tests.rtl.tile_bench import CASES, Bench, read_counters


@pytest.mark.parametrize(("go_in", "go_out"), [(always, always), (often, often), (always, seldom), (seldom, always)])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_every_flit_is_the_models(case, go_in, go_out):
    name, changes, shapes = CASES[case]
    bench = Bench(preset(name).replace(**changes), shapes, seed=case + 1)
    batches = [bench.batch(context, 5, position=0x4D2 * context) for context in range(len(shapes))]
    counters = {}

    async def scenario(ctx):
        await put(ctx, bench.dut.i, bench.mixed([bench.flits(b) for b in batches]), go=go_in, rng=bench.dice)
        await bench.until_idle(ctx)
        counters.update(read_counters(ctx, bench.dut))

    bench.check(bench.run(scenario, go=go_out), batches)
    bench.check_counters(counters)
    assert bench.model.counters["clips"] > 0
    passes = [5 * -(-rows // bench.geometry.lanes) * columns for rows, columns in shapes]
    assert counters["busy"] == sum(passes)


@pytest.mark.parametrize("order", [(0, 1, 4095), (4095, 0, 1)])
def test_messages_of_one_vector_have_noise_of_their_own(order):
    """The same activations of the same event at three positions: three results, whatever comes first."""
    bench = Bench(preset("tiny"), [(8, 8)], seed=12)
    one = bench.batch(0, 1)
    batches = {position: dataclasses.replace(one, position=position) for position in sorted(order)}
    expected = {position: bench.expected(batch)[1:] for position, batch in batches.items()}  # the model sorts them

    async def scenario(ctx):
        for position in order:
            await put(ctx, bench.dut.i, bench.flits(batches[position]))
        await bench.until_idle(ctx)

    got = bench.run(scenario)
    assert {position: got[3 * k + 1:3 * k + 3] for k, position in enumerate(order)} == expected
    assert len({tuple(flit["data"] for flit in flits) for flits in expected.values()}) == 3


@pytest.mark.parametrize(("lanes", "pump"), [(4, 1), (8, 1), (16, 1), (8, 2), (16, 4)])
def test_results_do_not_depend_on_lanes(lanes, pump):
    bench = Bench(preset("tiny").replace(rows=16, columns=9, lanes=lanes, pump=pump, net_words=128),
                  [(16, 9), (13, 5)], seed=8)
    batches = [bench.batch(context, 4) for context in range(2)]

    async def scenario(ctx):
        await put(ctx, bench.dut.i, bench.mixed([bench.flits(b) for b in batches]))
        await bench.until_idle(ctx)

    bench.check(bench.run(scenario), batches)  # the model has no lanes


def test_every_context_has_its_turn_before_one_has_the_next():
    """Only time depends on it: a vector's last tile must not wait for the first tiles of the vector behind it."""
    bench = Bench(preset("tiny").replace(contexts=3), [(8, 8), (5, 4), (4, 7)], seed=3)
    batches = [bench.batch(context, 2) for context in range(3)]

    async def scenario(ctx):
        ctx.set(bench.dut.hold, 1)
        await put(ctx, bench.dut.i, bench.mixed([bench.flits(batch) for batch in batches]))
        await ctx.tick().repeat(20)
        ctx.set(bench.dut.hold, 0)
        await bench.until_idle(ctx)

    got = bench.run(scenario)
    bench.check(got, batches)
    assert [flit["route"] - 20 for flit in got if flit["kind"] == FlitKind.HEADER] == [2, 1, 0, 2, 1, 0]


@pytest.mark.parametrize(("name", "shapes", "share"), [
    ("demo", [(112, 64), (112, 64), (100, 60)], 0.97),
    # What an engine has of 784-128-10 and of 784-256-128-10: a short pass among long ones, and loading takes as long as
    # they all.
    ("demo-fast", [(196, 64)] * 4 + [(128, 8)], 0.93),
    pytest.param("demo-fast", [(196, 64)] * 8 + [(128, 64)] * 2 + [(128, 8)], 0.97, marks=pytest.mark.slow),
])
def test_columns_leave_without_a_pause(name, shapes, share):
    """Passes follow each other so closely that nearly all clocks issue a column."""
    g = preset(name)
    bench = Bench(g, shapes, seed=6)
    bench.forget_nets()
    batches = [bench.batch(context, 4) for context in range(len(shapes))]
    issued = []

    async def scenario(ctx):
        await put(ctx, bench.dut.i, bench.mixed([bench.flits(b) for b in batches]))
        await bench.until_idle(ctx)

    async def watch(ctx):
        while True:
            _, _, busy = await ctx.tick().sample(bench.dut.counters.busy)
            issued.append(busy)

    bench.check(bench.run(scenario, watch=watch), batches)
    columns = issued[-1]
    assert columns == 4 * sum(-(-rows // g.lanes) * count for rows, count in shapes)
    clocks = issued.index(columns) - issued.index(1) + 1
    assert columns / clocks >= share, f"{columns} columns in {clocks} clocks"


def test_two_contexts_wait_while_a_third_computes():
    """Every context takes two vectors before anything leaves; a blocked output loses nothing."""
    bench = Bench(preset("tiny"), [(8, 8), (8, 8), (8, 8)], seed=7)
    batches = [bench.batch(context, 6) for context in range(3)]
    gate = {"open": False}
    sent = {"flits": 0}

    async def scenario(ctx):
        for flit in (flit for k in range(6) for batch in batches for flit in bench.flits(batch)[3 * k:3 * k + 3]):
            await put(ctx, bench.dut.i, [flit])
            sent["flits"] += 1
        await bench.until_idle(ctx)

    async def open_late(ctx):
        await ctx.tick().repeat(1500)
        assert sent["flits"] < 3 * 6 * 3
        assert sent["flits"] >= 3 * 2 * 3 + 3
        gate["stuck"] = sent["flits"]
        await ctx.tick().repeat(100)
        assert sent["flits"] == gate["stuck"]
        gate["open"] = True

    got = bench.run(scenario, go=lambda dice: gate["open"], watch=open_late)
    bench.check(got, batches)


def test_unknown_routes_are_dropped_and_noise_constants_rewritten():
    bench = Bench(preset("tiny"), [(8, 8), (4, 4)], seed=9)
    first, second = bench.batch(0, 2), bench.batch(0, 2, start=10**9)
    lost = bench.batch(0, 2)
    stray = [flit | {"route": 40} for flit in bench.flits(lost)]
    expected = bench.expected(first)

    async def scenario(ctx):
        dut = bench.dut
        await put(ctx, dut.i, bench.mixed([bench.flits(first), stray]))
        answer = await access(ctx, dut.bus, EngineRegion.COLUMNS, 2 * COLUMN_STRIDE + 2)
        assert answer == bench.model.constants["noise"][2]
        await bench.until_idle(ctx)
        for c in range(8):
            ctx.set(dut.noise_write, {"valid": 1, "index": c, "value": 7 * c})
            await ctx.tick()
        ctx.set(dut.noise_write.valid, 0)
        await put(ctx, dut.i, bench.flits(second))
        await bench.until_idle(ctx)

    got = bench.run(scenario)
    bench.model.set_constants("noise", 0, 7 * np.arange(8))
    assert got == expected + bench.expected(second)


def test_a_context_named_as_an_input_begins_at_time_0():
    """The other context's clock goes on, as it does when a route is cleared or names a context that is not there."""
    bench = Bench(preset("tiny").replace(contexts=2), [(8, 8), (4, 4)], seed=11)
    batches = [bench.batch(context, 2, start=10**6 * (1 - k)) for k in range(2) for context in range(2)]
    writes = [(40, 1), (41, 3 | 1 << 6), (10, 1 << 6)]
    expected = [bench.expected(batch) for batch in batches[:2]]
    for offset, value in writes:
        bench.model.write(EngineRegion.INPUTS, offset, value)
    expected += [bench.expected(batch) for batch in batches[2:]]

    async def scenario(ctx):
        for batch in batches[:2]:
            await put(ctx, bench.dut.i, bench.flits(batch))
        await bench.until_idle(ctx)
        for offset, value in writes:
            await access(ctx, bench.dut.bus, EngineRegion.INPUTS, offset, value)
        for batch in batches[2:]:
            await put(ctx, bench.dut.i, bench.flits(batch))
        await bench.until_idle(ctx)

    got = bench.run(scenario)
    for context in range(2):
        assert [flit for flit in got if flit["route"] == 20 + context] == expected[context] + expected[context + 2]
    began, went_on = (flits[0]["data"] >> 32 for flits in expected[2:])
    assert began == batches[2].times[0] + 1000 < 10**6 < went_on


def test_largest_charges_do_not_wrap():
    """All nets and activations at their largest: charge, noise and code are still exact."""
    bench = Bench(preset("tiny"), [(8, 8)], seed=10)
    bench.nets[0][:] = bench.geometry.net_max
    bench.nets[0][:, 1::2] = -bench.geometry.net_max
    bench.model.set_nets(0, bench.nets[0])
    bench.model.records[0] |= {"adc_gain": 2**20 - 1, "adc_offset": -2**31}
    batch = bench.batch(0, 3)

    async def scenario(ctx):
        await put(ctx, bench.dut.i, bench.flits(batch))
        await bench.until_idle(ctx)

    bench.check(bench.run(scenario), [batch])
