"""Programming of one engine against its model, register by register, with the tiles replaced by arithmetic."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from rtl.params import EngineOperation, EngineRegion, PulseKind, Purpose, Table, hash_counter, hash_key, preset
from rtl.programming import Programming
from rtl.read import ReadRequest
from rtl.totals import COUNTER_BITS
from sim.fixed import round_shift
from sim.gauss import gaussian_hash
from sim.programming import Programming as Model
from sim.tile import VERIFY, Drive
from tests.rtl.bench import with_hashes
from tests.rtl.sdram_bench import with_part

TARGET_LIMIT = (1 << 18) - 1


class Tiles:
    """The tiles' side for model and gateware alike: nets in, codes of verify reads out."""

    def __init__(self, geometry, settings, records):
        self.geometry, self.settings, self.records = geometry, settings, records
        self.nets = {}
        self.constants = {"noise": np.zeros(geometry.column_words, np.int64)}
        self.reads = 0

    def set_constants(self, name, first, values):
        self.constants[name][first:first + len(values)] = values

    def set_nets(self, context, nets, rows=...):
        self.nets[context] = np.array(nets)

    def read_rows(self, context, rows, purpose, events, drive=VERIFY):
        record = self.records[context]
        nets = self.nets.get(context)
        if nets is None:
            nets = np.zeros((record["rows"], record["columns"]), np.int64)
        self.reads += len(rows)
        key = hash_key(self.settings["seed"], purpose, self.settings["chip"], record["tile"])
        counter = hash_counter(drive.place(np.asarray(rows))[:, None], np.arange(record["columns"]))
        xi = gaussian_hash(*key, counter, np.asarray(events)[:, None])
        charge = drive.ticks * (1 + drive.dense) * nets[rows] + round_shift(self.settings["verify_noise"] * xi, 18)
        code = round_shift(charge * self.settings["verify_gain"] + self.settings["verify_offset"], 24)
        return np.clip(code, -self.geometry.code_max, self.geometry.code_max)


def random_setup(rng, geometry):
    """Settings, records of two contexts and tables that reach most branches."""
    devices_sigma = int(rng.integers(1, 4000))
    gain = round(geometry.code_max / (1.25 * 200 * geometry.significance * 127) * 2**24)
    averages = int(rng.integers(1, 5))
    counts = averages * gain * 127 / 2**32
    settings = {
        "seed": int(rng.integers(1 << 32)), "chip": int(rng.integers(256)), "epoch": int(rng.integers(256)),
        "age": int(rng.integers(1 << 20)), "log_time": int(rng.integers(100_000)),
        "noise_gain": int(rng.integers(1 << 22)), "verify_noise": int(rng.integers(30_000)), "verify_gain": gain,
        "verify_offset": int(rng.integers(-1 << 22, 1 << 22)), "averages": averages,
        "window": int(rng.integers(1, 12)), "iterations": int(rng.integers(0, 9)),
        "counts_per_g": round(counts * 65536), "main_step": min(65535, round(128 / counts / geometry.significance)),
        "minor_step": min(65535, round(128 / counts)), "main_scale": round(32768 / geometry.significance),
        "probe_ticks": 127, "probe_mode": 0,
    } | random_pulses(rng, geometry)
    records, state_base, net_base, column_base = [], int(rng.integers(5)), 0, int(rng.integers(5))
    for _ in range(2):
        rows, columns = int(rng.integers(1, geometry.rows + 1)), int(rng.integers(4, geometry.columns + 1))
        records.append({"tile": int(rng.integers(1 << 16)), "rows": rows, "columns": columns, "net_base": net_base,
                        "state_base": state_base, "column_base": column_base})
        net_base += -(-rows // geometry.lanes) * columns
        state_base += rows * columns
        column_base += columns
    tops = np.array([devices_sigma, 3000, 8000, 3000, 20_000, 65_535, 9000, 9000, 1 << 15, 6])
    return settings, records, rng.integers(0, tops[:, None] + 1, (len(Table), 256))


def random_pulses(rng, geometry):
    """Registers of pulses that reach most branches: every kind, stuck and worn devices."""
    kind = int(rng.integers(3))
    steps = {name: int(rng.integers(1 << 9)) for name in ("main_step", "minor_step")} if kind else {}
    return steps | {
        "pulse_kind": kind, "least_amplitude": int(rng.integers(1 << 13)),
        "amplitude_limit": int(rng.integers(1 << 13, 1 << 16)),
        "restart": int(rng.integers(2)), "refresh_limit": int(rng.integers(4)), "absorb": int(rng.integers(2)),
        "minor_only": int(rng.integers(2)) * int(rng.integers(1 << 16)), "common_variation": int(rng.integers(2)),
        "stuck_rate": int(rng.integers(2)) << 29, "stuck_value": int(rng.integers(1 << 16)), "wear_rate": 1 << 31,
        "direct": 0,
    }


class Bench:
    """Gateware with a bus master, a record table, and tiles made of the writes it sends."""

    def __init__(self, geometry, settings, records, *, codes=None):
        self.geometry, self.settings, self.records, self.codes = geometry, settings, records, codes
        self.dut = Programming(geometry=geometry)
        self.tiles = Tiles(geometry, settings, records)
        self.weights = np.zeros((geometry.net_places, geometry.lanes), np.int64)
        self.noise = np.zeros(geometry.column_words, np.int64)
        self.rng = np.random.default_rng(5)
        self.clocks = 0
        self.tile_busy = False

    def run(self, script):
        """Run `script(bench, ctx)`, a coroutine."""
        async def main(ctx):
            await ctx.tick()
            await script(self, ctx)

        design = with_hashes(self.dut, *self.dut.hash)
        self.part = with_part(design, self.dut.memory) if self.geometry.state_store == "sdram" else None
        simulator = Simulator(design)
        simulator.add_clock(1e-6)
        simulator.add_testbench(main)
        if self.part:
            simulator.add_testbench(self.part.bench, background=True)
        for process in (self._records, self._writes, self._reads, self._idle):
            simulator.add_testbench(process, background=True)
        simulator.run()

    async def set(self, ctx, **changes):
        self.settings.update(changes)
        for name, value in self.settings.items():
            ctx.set(self.dut.settings[name], value)

    async def access(self, ctx, region, offset, value=None):
        """Write a word, or read one if `value` is None."""
        request, response = self.dut.bus.request, self.dut.bus.response
        ctx.set(request.payload, {"region": int(region), "offset": offset, "write": int(value is not None),
                                  "data": (value or 0) & 0xFFFFFFFF})
        ctx.set(request.valid, 1)
        await ctx.tick().until(request.ready)
        ctx.set(request.valid, 0)
        ctx.set(response.ready, 1)
        (word,) = await ctx.tick().sample(response.payload).until(response.valid)
        ctx.set(response.ready, 0)
        return word

    async def operate(self, ctx, operation):
        """Run an operation to its end."""
        await self.access(ctx, EngineRegion.REGISTERS, 0, int(operation))
        assert ctx.get(self.dut.busy)
        start = self.clocks
        await ctx.tick().until(~self.dut.busy)
        return self.clocks - start

    def nets(self, context):
        """The nets of a context, out of the weight memory."""
        record, lanes = self.records[context], self.geometry.lanes
        row, column = np.ogrid[:record["rows"], :record["columns"]]
        return self.weights[record["net_base"] + row // lanes * record["columns"] + column, row % lanes]

    async def _records(self, ctx):
        """Answer lookups a clock later."""
        shown = None
        while True:
            _, _, index = await ctx.tick().sample(self.dut.lookup.index)
            self.clocks += 1
            if index != shown:
                shown = index
                ctx.set(self.dut.lookup.record, self.records[index % len(self.records)])

    async def _idle(self, ctx):
        """Now and then, and while `tile_busy` always, the tiles have something under way."""
        while True:
            ctx.set(self.dut.tile_idle, int(self.rng.integers(2)) * (not self.tile_busy))
            for _ in range(int(self.rng.integers(1, 40))):
                await ctx.tick()

    async def _writes(self, ctx):
        ports = [self.dut.net_write, self.dut.noise_write]
        layouts = [port.shape() for port in ports]
        while True:
            _, _, *words = await ctx.tick().sample(*(port.as_value() for port in ports))
            net, noise = (layout.from_bits(word) if word & 1 else None
                          for layout, word in zip(layouts, words, strict=True))
            if net is not None:
                self.weights[net.address, net.lane] = net.net
            if noise is not None:
                self.noise[noise.index] = noise.value

    async def _reads(self, ctx):
        request, response = self.dut.read.request, self.dut.read.response
        while True:
            await self._stall(ctx)
            ctx.set(request.ready, 1)
            asked, valid = 0, 0
            while not valid:
                _, _, asked, valid = await ctx.tick().sample(request.payload.as_value(), request.valid)
            ctx.set(request.ready, 0)
            asked = ReadRequest.from_bits(asked)
            context, row = asked.context, asked.row
            if self.codes is None:
                self.tiles.set_nets(context, self.nets(context))
                codes = self.tiles.read_rows(context, np.array([row]), Purpose(asked.purpose),
                                             np.array([asked.event]), Drive(
                                                 asked.drive.ticks, dense=bool(asked.drive.dense),
                                                 inference_range=bool(asked.drive.inference_range)))[0]
            else:
                codes = self.codes(row, asked.purpose, asked.event)
            for column, code in enumerate(codes):
                await self._stall(ctx)
                ctx.set(response.payload, {"column": column, "code": int(code), "last": column == len(codes) - 1})
                ctx.set(response.valid, 1)
                await ctx.tick()
                ctx.set(response.valid, 0)

    async def _stall(self, ctx):
        while self.rng.random() < 0.2:
            await ctx.tick()


async def load_tables(bench, ctx, model, tables):
    """Load every third entry and the first; the others stay 0."""
    for offset in (0, *range(1, len(Table) << 8, 3)):
        value = int(tables[offset >> 8, offset & 255])
        await bench.access(ctx, EngineRegion.TABLES, offset, value)
        model.write(EngineRegion.TABLES, offset, value)


async def compare(bench, ctx, model, contexts=(0, 1)):
    """Every state, net, noise constant, outcome and counter is the model's."""
    record = bench.records[-1]
    used = record["state_base"] + record["rows"] * record["columns"] + 2
    regions = [(region, offset) for region in (EngineRegion.STATES, EngineRegion.WEAR)
               for offset in range(used * bench.geometry.pairs)]
    regions += [(region, column) for region in (EngineRegion.OUTCOMES, EngineRegion.TARGETS)
                for column in range(bench.geometry.columns + 1)]
    seen = [await bench.access(ctx, *place) for place in regions]
    np.testing.assert_array_equal(seen, [model.read(*place) for place in regions])
    for context in contexts:
        np.testing.assert_array_equal(bench.nets(context), model.tiles.nets[context])
    np.testing.assert_array_equal(bench.noise, model.tiles.constants["noise"])
    expected = {name: value % (1 << COUNTER_BITS) for name, value in model.counters.items()}
    assert {name: ctx.get(bench.dut.counters[name]) for name in expected} == expected
    assert bench.tiles.reads == model.tiles.reads


def make(geometry, settings, records, codes=None):
    """Gateware and model of the same settings, records and tiles."""
    model = Model(geometry, settings=settings, records=records, tiles=Tiles(geometry, settings, records))
    if codes is not None:
        model.tiles.read_rows = lambda context, rows, purpose, events, drive: np.array(
            [codes(row, purpose, event) for row, event in zip(rows, events, strict=True)])
    return Bench(geometry, settings, records, codes=codes), model


async def both(bench, ctx, model, region, offset, value):
    await bench.access(ctx, region, offset, int(value))
    model.write(region, offset, int(value) & 0xFFFFFFFF)


async def program_both(bench, ctx, model, row, targets):
    await bench.set(ctx, row=int(row))
    for column, target in enumerate(targets):
        await both(bench, ctx, model, EngineRegion.TARGETS, column, target)
    await bench.operate(ctx, EngineOperation.PROGRAM)
    model.write(EngineRegion.REGISTERS, 0, EngineOperation.PROGRAM)


def random_targets(rng, geometry):
    targets = np.clip(rng.normal(0, 25_000 * geometry.significance, geometry.columns), -TARGET_LIMIT, TARGET_LIMIT)
    targets[rng.integers(geometry.columns, size=2)] = 0
    return targets.astype(int)


def random_pulse_words(rng, geometry):
    """TARGETS of direct pulses: any word of 19 bits, some without a pulse."""
    words = rng.integers(-TARGET_LIMIT, TARGET_LIMIT + 1, geometry.columns)
    words[rng.integers(geometry.columns, size=2)] = rng.integers(4, size=2) << 16
    return words


@pytest.mark.parametrize(("name", "case", "kind", "changes"), [
    ("tiny", 0, PulseKind.ONE_WAY, {}),
    ("tiny", 3, PulseKind.BIPOLAR, {"program_lanes": 2, "state_bits": 11, "wear_bits": 3}),
    ("tiny", 2, PulseKind.MELT, {"wear_bits": 2}),
    ("pairs", 1, PulseKind.MELT, {}),
    ("pairs", 2, PulseKind.ONE_WAY, {"program_lanes": 4, "state_bits": 9, "wear_bits": 16}),
    ("pairs", 4, PulseKind.BIPOLAR, {"program_lanes": 1}),
    pytest.param("tiny", 3, PulseKind.BIPOLAR,
                 {"program_lanes": 2, "state_bits": 11, "wear_bits": 3, "state_store": "sdram"},
                 marks=pytest.mark.slow),
    ("tiny", 2, PulseKind.ONE_WAY, {"state_store": "sdram"}),
    pytest.param("pairs", 1, PulseKind.MELT, {"state_store": "sdram"}, marks=pytest.mark.slow),
    pytest.param("pairs", 2, PulseKind.ONE_WAY,
                 {"program_lanes": 4, "state_bits": 9, "wear_bits": 16, "state_store": "sdram"},
                 marks=pytest.mark.slow),
])
def test_operations_equal_model(name, case, kind, changes):
    """PROGRAM, AGE and PROBE of two contexts, random settings, devices and tables, reads that stall."""
    rng = np.random.default_rng(case)
    geometry = preset(name).replace(**changes)
    settings, records, tables = random_setup(rng, geometry)
    settings |= {"pulse_kind": int(kind), "stuck_rate": 1 << 29}
    verifies = settings["iterations"]
    bench, model = make(geometry, settings, records)

    async def script(bench, ctx):
        await load_tables(bench, ctx, model, tables)
        for context, record in enumerate(records):
            await bench.set(ctx, context=context)
            for row in rng.permutation(record["rows"])[:2]:
                await program_both(bench, ctx, model, row, random_targets(rng, geometry))
            await compare(bench, ctx, model, contexts=range(context + 1))
            for iterations in (2, 200):
                await bench.set(ctx, direct=1, iterations=iterations)
                await program_both(bench, ctx, model, row, random_pulse_words(rng, geometry))
            await compare(bench, ctx, model, contexts=range(context + 1))
            await bench.set(ctx, direct=0, iterations=verifies)
            await bench.operate(ctx, EngineOperation.AGE)
            model.write(EngineRegion.REGISTERS, 0, EngineOperation.AGE)
            count = int(rng.integers(0, record["rows"] + 1))
            await bench.set(ctx, row=record["rows"] - count, row_count=count, probe_ticks=100 - 40 * (case + context),
                            probe_mode=(case + 3 * context) % 4)
            await bench.operate(ctx, EngineOperation.PROBE)
            model.write(EngineRegion.REGISTERS, 0, EngineOperation.PROBE)
            await compare(bench, ctx, model, contexts=range(context + 1))

    bench.run(script)


def test_expected_sums_that_are_ties_have_the_same_size_on_both_sides_of_zero():
    """|target| * counts_per_g ends in one half: rounded as a magnitude, then given its sign."""
    geometry = preset("tiny")
    settings, _, tables = random_setup(np.random.default_rng(0), geometry)
    settings |= {"counts_per_g": 4096, "averages": 1, "window": 0, "iterations": 3, "main_step": 1 << 8}
    records = [{"tile": 1, "rows": 2, "columns": 4, "net_base": 0, "state_base": 0, "column_base": 0}]
    bench, model = make(geometry, settings, records, lambda row, purpose, event: np.zeros(4, np.int64))

    async def script(bench, ctx):
        await bench.set(ctx, context=0)
        await load_tables(bench, ctx, model, tables)
        await program_both(bench, ctx, model, 1, [8 * 901, -8 * 901, 8 * 2403, -8 * 2403])
        await compare(bench, ctx, model, contexts=range(1))

    bench.run(script)


@pytest.mark.parametrize("name", ["tiny", "pairs"])
def test_decisions_follow_codes_and_nothing_else(name):
    """Codes that contradict the states decide: the same codes with other states give the same outcomes."""
    geometry, ends = preset(name), []

    def codes(row, purpose, event):
        assert purpose == Purpose.VERIFY
        return np.random.default_rng([row, event]).integers(-geometry.code_max, geometry.code_max + 1, 6)

    for seed in range(2):
        rng = np.random.default_rng(7)
        settings, _, _ = random_setup(rng, geometry)
        settings |= {"seed": seed, "window": 60, "iterations": 6, "averages": 2}
        records = [{"tile": 1, "rows": 3, "columns": 6, "net_base": 0, "state_base": 0, "column_base": 0}]
        tables = np.random.default_rng(seed).integers(0, 20_000, (len(Table), 256))
        targets = random_targets(rng, geometry)
        bench, model = make(geometry, settings, records, codes)

        async def script(bench, ctx, model=model, tables=tables, targets=targets):
            await bench.set(ctx, context=0)
            await load_tables(bench, ctx, model, tables)
            await program_both(bench, ctx, model, 2, targets)
            outcomes = [await bench.access(ctx, EngineRegion.OUTCOMES, column) for column in range(6)]
            states = [await bench.access(ctx, EngineRegion.STATES, cell) for cell in range(18 * geometry.pairs)]
            assert outcomes == [model.read(EngineRegion.OUTCOMES, column) for column in range(6)]
            assert states == [model.read(EngineRegion.STATES, cell) for cell in range(18 * geometry.pairs)]
            ends.append((outcomes, ctx.get(bench.dut.counters.pulses), states))

        bench.run(script)
    assert ends[0][:2] == ends[1][:2]
    assert ends[0][2] != ends[1][2]
    assert {word & 1 for word in ends[0][0]} == {0, 1}


@pytest.mark.parametrize("name", ["tiny", "pairs"])
def test_ageing_in_two_steps_equals_one_and_keeps_the_states(name):
    """The model ages once, the gateware by way of another age."""
    rng = np.random.default_rng(11)
    geometry = preset(name)
    settings, records, tables = random_setup(rng, geometry)
    records = [records[0] | {"rows": geometry.lanes + 1 if name == "tiny" else 5, "columns": 5, "state_base": 3}]
    bench, model = make(geometry, settings, records)
    states = rng.integers(0, 1 << 32, 40 * geometry.pairs)

    async def script(bench, ctx):
        await bench.set(ctx, context=0)
        await load_tables(bench, ctx, model, tables)
        for offset, word in enumerate(states):
            await both(bench, ctx, model, EngineRegion.STATES, offset, word)
        for step in range(2):
            await bench.set(ctx, age=1000 * step + 17, log_time=20_000 * step + 1000)
            await bench.operate(ctx, EngineOperation.AGE)
        model.write(EngineRegion.REGISTERS, 0, EngineOperation.AGE)
        np.testing.assert_array_equal(bench.nets(0), model.tiles.nets[0])
        np.testing.assert_array_equal(bench.noise, model.tiles.constants["noise"])
        assert len(np.unique(bench.nets(0))) > 10
        seen = [await bench.access(ctx, EngineRegion.STATES, offset) for offset in range(len(states))]
        np.testing.assert_array_equal(seen, states)

    bench.run(script)


def test_requests_wait_for_the_end_of_an_operation_and_strays_are_harmless():
    rng = np.random.default_rng(12)
    geometry = preset("tiny").replace(cells=100, columns=7)
    settings, records, _ = random_setup(rng, geometry)
    bench, model = make(geometry, settings, records)

    async def script(bench, ctx):
        await bench.set(ctx, context=0, row=0)
        for operation in (0, 4):  # none of the operations
            await bench.access(ctx, EngineRegion.REGISTERS, 0, operation)
            assert not ctx.get(bench.dut.busy)
        for region, offset in ((EngineRegion.STATES, 100), (EngineRegion.TARGETS, 7), (EngineRegion.TARGETS, 8),
                               (EngineRegion.TABLES, len(Table) << 8)):
            await both(bench, ctx, model, region, offset, 0x1FFF)
            assert await bench.access(ctx, region, offset) == 0
        for offset in range(1 << 8):
            await both(bench, ctx, model, EngineRegion.TABLES, offset, 3000)
        bench.tile_busy = True
        for _ in range(50):
            await ctx.tick()
        await bench.access(ctx, EngineRegion.REGISTERS, 0, EngineOperation.PROGRAM)
        model.write(EngineRegion.REGISTERS, 0, EngineOperation.PROGRAM)
        for _ in range(300):
            await ctx.tick()
        assert ctx.get(bench.dut.busy)
        assert not bench.weights.any()
        bench.tile_busy = False
        word = await bench.access(ctx, EngineRegion.OUTCOMES, 0)
        assert not ctx.get(bench.dut.busy)
        assert word == model.read(EngineRegion.OUTCOMES, 0) != 0

    bench.run(script)
