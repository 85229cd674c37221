"""Verify reads of the tiles of one engine against the model: every code, and the time that they take."""

import pytest

from rtl.params import Purpose, preset
from sim.tile import VERIFY, Drive
from tests.rtl.flits import often, put
from tests.rtl.tile_bench import CASES, Bench, Verifier, drives, read_counters


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_verify_reads_between_held_inference(case, overlap):
    name, changes, shapes = CASES[case]
    bench = Bench(preset(name).replace(**changes), shapes, seed=case + 20)
    verifier = Verifier(bench)
    bench.model.settings["verify_gain"] = round(bench.geometry.code_max / (bench.geometry.net_max * 127) * 2**24)
    first, second = ([bench.batch(context, count) for context in range(len(shapes))] for count in (3, 1))
    requests = [(int(c), int(bench.rng.integers(shapes[c][0])), bench.dice.choice([Purpose.VERIFY, Purpose.PROBE]),
                 int(bench.rng.integers(2**32))) for c in bench.rng.integers(0, len(shapes), 12)]
    requests = [(*request, drive) for request, drive in zip(requests, drives(bench.rng, len(requests)), strict=True)]
    requests += [(0, row, Purpose.VERIFY, event, VERIFY) for row in (2, 2, 2, shapes[0][0] - 1) for event in (5, 6)]
    # Of one row and of all rows by turns: the other rows are not driven.
    requests += [(0, 2, Purpose.PROBE, 7, drive) for drive in (
        Drive(127), Drive(126), Drive(-126), Drive(0), Drive(126, dense=True), Drive(126), Drive(126, dense=True))]
    again = requests[-1:] + requests[:3]
    counters = {}

    async def scenario(ctx):
        dut = bench.dut
        ctx.set(dut.settings, bench.model.settings)
        await put(ctx, dut.i, bench.mixed([bench.flits(b) for b in first]), go=often, rng=bench.dice)
        ctx.set(dut.hold, 1)
        assert not ctx.get(dut.idle)
        await ctx.tick().until(dut.idle)
        held = read_counters(ctx, dut)
        assert held["vectors"] < 3 * len(shapes)  # some wait in their slots
        await verifier.read(ctx, requests, overlap=overlap)
        after = read_counters(ctx, dut)
        assert after["vectors"] == held["vectors"]
        assert after["conversions"] == held["conversions"]
        ctx.set(dut.hold, 0)
        await put(ctx, dut.i, bench.mixed([bench.flits(b) for b in second]), go=often, rng=bench.dice)
        await verifier.read(ctx, again, overlap=overlap)
        await bench.until_idle(ctx)
        counters.update(read_counters(ctx, dut))

    got = bench.run(scenario, watch=verifier.watch)
    verifier.check(requests + again)
    for context in range(len(shapes)):
        expected = bench.expected(first[context]) + bench.expected(second[context])
        assert [flit for flit in got if flit["route"] == 20 + context] == expected
    bench.check_counters(counters)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_dense_reads_do_not_depend_on_lanes(lanes):
    """Many dense reads without a pause, whatever the folds; rows past the tile's are not driven."""
    g = preset("tiny").replace(rows=16, columns=9, lanes=lanes, net_words=128)
    bench = Bench(g, [(16, 9), (13, 5)], seed=31)
    verifier = Verifier(bench)
    requests = [(k % 2, 3 * k, Purpose.PROBE, 500 + k, Drive(9 - k, dense=True, inference_range=k > 9))
                for k in range(18)]

    async def scenario(ctx):
        for lane in range(13 % lanes, lanes):  # what another tile has left behind the second one's rows
            for column in range(5):
                ctx.set(bench.dut.net_write, {
                    "valid": 1, "lane": lane, "net": 200,
                    "address": bench.model.records[1]["net_base"] + 13 // lanes * 5 + column})
                await ctx.tick()
        ctx.set(bench.dut.net_write.valid, 0)
        await verifier.read(ctx, requests, overlap=True)

    bench.run(scenario, watch=verifier.watch)
    verifier.check(requests)
    assert len({tuple(codes) for codes in verifier.codes}) > 12


def test_more_short_reads_than_tickets():
    """Reads of four columns come so fast that only the tickets hold them back."""
    g = preset("tiny").replace(rows=128, lanes=128, columns=4, contexts=1, net_words=16)
    bench = Bench(g, [(128, 4)], seed=30)
    verifier = Verifier(bench)
    requests = [(0, 77, (Purpose.VERIFY, Purpose.PROBE)[k % 2], 1000 + k, VERIFY) for k in range(24)]
    batch = bench.batch(0, 2)

    async def scenario(ctx):
        await put(ctx, bench.dut.i, bench.flits(batch))
        await verifier.read(ctx, requests, overlap=True)
        await bench.until_idle(ctx)

    bench.check(bench.run(scenario, watch=verifier.watch), [batch])
    verifier.check(requests)


def test_verify_read_takes_columns_and_a_fixed_time():
    bench = Bench(preset("demo").replace(name="test"), [(112, 64)], seed=4)
    bench.forget_nets()
    verifier = Verifier(bench)
    took = []

    async def scenario(ctx):
        for row in (70, 3):
            clock = bench.clock
            await verifier.read(ctx, [(0, row, Purpose.VERIFY, 1, VERIFY)], overlap=False)
            took.append(bench.clock - clock)

    bench.run(scenario, watch=verifier.watch)
    assert took == [64 + 49, 64 + 48]  # second fold, first fold
