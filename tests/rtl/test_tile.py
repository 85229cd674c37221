"""The tiles of one engine against the model: every flit, code, counter and time."""

import dataclasses
import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from rtl.params import FlitKind, Geometry, Purpose, preset
from rtl.params.registers import COLUMN_STRIDE, EngineRegion, column_fields
from rtl.tile import Tile
from rtl.totals import COUNTER_BITS
from sim.message import Message
from sim.tile import VERIFY, Drive, Tiles
from tests.rtl.bench import add_clocks, with_hashes
from tests.rtl.flits import access, always, as_flit, message, often, put, seldom

SETTINGS = {"seed": 0xC0FFEE11, "chip": 5, "verify_noise": 3000, "verify_gain": 60000, "verify_offset": -123456}


class Bench:
    """A tile and its model with the same contents: contexts of given (rows, columns), random everything else."""

    def __init__(self, geometry: Geometry, shapes: list[tuple[int, int]], seed: int = 1):
        self.geometry = geometry
        self.rng = np.random.default_rng(seed)
        self.dice = random.Random(seed)
        self.dut = Tile(geometry=geometry)
        self.clock = 0
        self.model = Tiles(geometry)
        self.model.settings.update(SETTINGS)
        self.nets: list[np.ndarray] = []
        self.writes: list[tuple[int, int, int]] = []
        net_base = column_base = 0
        for context, (rows, columns) in enumerate(shapes):
            self._context(context, rows, columns, net_base, column_base)
            net_base += -(-rows // geometry.lanes) * columns
            column_base += columns
        assert net_base <= geometry.net_places
        assert column_base <= geometry.column_words

    def _context(self, context, rows, columns, net_base, column_base):
        g, rng = self.geometry, self.rng
        top = g.net_max
        nets = rng.integers(-top, top + 1, (rows, columns))
        nets[:, 0], nets[:, 1] = top, -top
        self.nets.append(nets)
        self.model.set_nets(context, nets)
        # A full column of full rows is a little more than the ADC's range: some codes are clipped.
        gain = round(g.code_max / (top * 127 * rows) * 2**24 * 2.5)
        self.model.records[context] |= {
            "tile": 100 + 7 * context, "rows": rows, "columns": columns, "net_base": net_base,
            "column_base": column_base, "route": 20 + context, "adc_gain": gain,
            "adc_offset": int(rng.integers(-2**26, 2**26)), "latency": 1000 + 77 * context}
        self.model.inputs[10 + context] = context | 1 << 6
        self.writes += [(EngineRegion.INPUTS, 10 + context, context | 1 << 6)]
        for c in range(column_base, column_base + columns):
            scale, bias = (int(rng.integers(-2**(b - 1), 2**(b - 1))) for b in (16, 24))
            values = {"scale": scale, "bias": bias, "noise": int(rng.integers(0, 2**16)),
                      "mismatch": (int(rng.integers(-400, 400)) & 0xFFF) << 16 | int(rng.integers(1 << 16))}
            for register in column_fields(g):
                value = values[register.name]
                self.model.set_constants(register.name, c, value)
                self.writes.append((EngineRegion.COLUMNS, c * COLUMN_STRIDE + register.offset, value))

    def vectors(self, context: int, count: int) -> np.ndarray:
        """Random activations (count, words * W), the first ones extreme, zero past the rows."""
        rows = self.nets[context].shape[0]
        x = self.rng.integers(-127, 128, (count, rows))
        x[0] = 127
        if count > 2:
            x[1], x[2] = -127, 0
        return np.pad(x, ((0, 0), (0, -rows % self.geometry.transport)))

    def batch(self, context: int, count: int, start: int = 0, position: int = 0) -> Message:
        x = self.vectors(context, count)
        times = start + np.cumsum(self.rng.integers(0, 3000, count))
        return Message(route=10 + context, kind=FlitKind.ACTIVATION, events=self.rng.integers(0, 2**32, count),
                       times=times, elements=x, position=position)

    def flits(self, batch: Message) -> list[dict]:
        return [flit for event, time, x in zip(batch.events, batch.times, batch.elements, strict=True)
                for flit in message(batch.route, batch.kind, int(event), int(time), x, self.geometry.transport,
                                    batch.position)]

    def mixed(self, queues: list[list[dict]]) -> list[dict]:
        """Flits of several routes in random order, each route in its own."""
        queues, out = [list(q) for q in queues], []
        while any(queues):
            out.append(self.dice.choice([q for q in queues if q]).pop(0))
        return out

    async def set_up(self, ctx):
        dut = self.dut
        ctx.set(dut.settings, SETTINGS)
        await ctx.tick().repeat(5)  # a faster clock finds the middle of this one
        lanes = self.geometry.lanes
        for context, nets in enumerate(self.nets):
            base, columns = self.model.records[context]["net_base"], nets.shape[1]
            for r, c in np.argwhere(nets).tolist():
                ctx.set(dut.net_write, {"valid": 1, "lane": r % lanes, "address": base + r // lanes * columns + c,
                                        "net": int(nets[r, c])})
                await ctx.tick()
        ctx.set(dut.net_write.valid, 0)
        for region, offset, value in self.writes:
            assert await access(ctx, dut.bus, region, offset, value) == 0
        for region, offset, value in self.writes[::7]:
            assert await access(ctx, dut.bus, region, offset) == value & 0xFFFFFFFF == self.model.read(region, offset)

    def forget_nets(self):
        """Leave the weight memory at zero: for what does not depend on it, as writing it takes long."""
        self.nets = [np.zeros_like(nets) for nets in self.nets]
        for context, nets in enumerate(self.nets):
            self.model.set_nets(context, nets)

    def run(self, scenario, *, go=always, watch=None):
        """Run `scenario(ctx)` after set-up with a responder for records and, stalled by `go`, a sink for flits."""
        collected: list[dict] = []

        async def records(ctx):
            while True:
                _, _, index = await ctx.tick().sample(self.dut.lookup.index)
                self.clock += 1
                ctx.set(self.dut.lookup.record, self.model.records[index])

        async def sink(ctx):
            dice = random.Random(99)
            while True:
                ready = go(dice)
                ctx.set(self.dut.o.ready, ready)
                _, _, valid, payload = await ctx.tick().sample(self.dut.o.valid, self.dut.o.payload)
                if ready and valid:
                    collected.append(as_flit(payload))

        async def bench(ctx):
            await self.set_up(ctx)
            await scenario(ctx)

        simulator = Simulator(with_hashes(self.dut, self.dut.hash))
        add_clocks(simulator, self.geometry, skew=0.6)
        simulator.add_testbench(bench)
        simulator.add_testbench(records, background=True)
        simulator.add_testbench(sink, background=True)
        if watch:
            simulator.add_testbench(watch, background=True)
        simulator.run()
        return collected

    async def until_idle(self, ctx):
        """Until nothing has come out for a while."""
        quiet = 0
        while quiet < 150:
            _, _, idle, valid = await ctx.tick().sample(self.dut.idle, self.dut.o.valid)
            quiet = quiet + 1 if idle and not valid else 0

    def expected(self, batch: Message) -> list[dict]:
        """The flits that the model answers a batch with."""
        (out,) = self.model.accept(batch)
        return [flit for event, time, x in zip(out.events, out.times, out.elements, strict=True)
                for flit in message(out.route, out.kind, int(event), int(time), x, self.geometry.transport)]

    def check(self, got: list[dict], batches: list[Message]):
        """All flits of every route, in order, are the model's, and there are no others."""
        expected = [self.expected(batch) for batch in batches]
        for flits in expected:
            assert [flit for flit in got if flit["route"] == flits[0]["route"]] == flits
        assert len(got) == sum(len(flits) for flits in expected)

    def check_counters(self, counters: dict):
        expected = {name: value % (1 << COUNTER_BITS) for name, value in self.model.counters.items()}
        assert {name: counters[name] for name in expected} == expected


def read_counters(ctx, dut) -> dict:
    return {name: int(ctx.get(dut.counters[name])) for name in dict(iter(dut.counters.shape()))}


CASES = [
    ("tiny", {}, [(8, 8), (5, 4), (4, 7), (8, 5)]),
    ("tiny", {"lanes": 8}, [(8, 8), (5, 4), (4, 7), (8, 5)]),
    ("pairs", {"mismatch": True}, [(8, 8), (3, 6), (8, 4), (7, 5)]),
    ("tiny", {"rows": 20, "columns": 12, "lanes": 5 * 2, "transport": 5, "net_words": 128, "contexts": 3},
     [(20, 12), (11, 4), (8, 7)]),
    ("pumped", {"rows": 24, "lanes": 12, "columns": 12, "net_words": 128, "contexts": 3}, [(24, 12), (13, 4), (8, 7)]),
]


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


class Verifier:
    """Send verify reads back to back or one by one, and keep their codes."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.codes: list[list[int]] = []

    async def watch(self, ctx):
        response, codes = self.bench.dut.read.response, []
        while True:
            _, _, valid, payload = await ctx.tick().sample(response.valid, response.payload)
            if valid:
                assert payload.column == len(codes)
                codes.append(payload.code)
                if payload.last:
                    self.codes.append(codes)
                    codes = []

    async def read(self, ctx, requests: list[tuple[int, int, Purpose, int, Drive]], *, overlap: bool):
        start = len(self.codes)
        for number, (context, row, purpose, event, drive) in enumerate(requests):
            item = {"context": context, "row": row, "purpose": purpose, "event": event, "drive": drive._asdict()}
            await put(ctx, self.bench.dut.read.request, [item])
            while not overlap and len(self.codes) <= start + number:
                await ctx.tick()
        while len(self.codes) < start + len(requests):
            await ctx.tick()

    def check(self, requests):
        expected = [self.bench.model.read_rows(context, [row], purpose, [event], drive)[0].tolist()
                    for context, row, purpose, event, drive in requests]
        assert self.codes == expected


def drives(rng, count: int) -> list[Drive]:
    """Every kind of drive in turn, with random pulses."""
    return [Drive(int(rng.integers(-127, 128)), dense=bool(k & 1), inference_range=bool(k & 2)) for k in range(count)]


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


@pytest.mark.parametrize(("name", "shapes", "share"), [
    ("demo", [(112, 64), (112, 64), (100, 60)], 0.97),
    # What an engine has of 784-128-10: a short pass among long ones, and loading takes as long as they all.
    ("demo-fast", [(196, 64)] * 4 + [(128, 8)], 0.93),
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
