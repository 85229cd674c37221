"""Programming of one engine against its model, register by register, with the tiles replaced by arithmetic."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from rtl.params import EngineOperation, EngineRegion, Purpose, Table, preset
from rtl.programming import Programming
from sim.fixed import round_shift
from sim.gauss import gaussian_hash
from rtl.params import hash_counter, hash_key
from sim.programming import Programming as Model

TARGET_LIMIT = (1 << 18) - 1


class Tiles:
    """The tiles' side for model and gateware alike: nets in, codes of verify reads out."""

    def __init__(self, geometry, settings, records):
        self.geometry, self.settings, self.records = geometry, settings, records
        self.nets = {}
        self.constants = {"noise": np.zeros(geometry.column_words, np.int64)}
        self.reads = 0

    def set_nets(self, context, nets):
        self.nets[context] = np.array(nets)

    def read_rows(self, context, rows, purpose, events):
        record = self.records[context]
        nets = self.nets.get(context)
        if nets is None:
            nets = np.zeros((record["rows"], record["columns"]), np.int64)
        self.reads += len(rows)
        key = hash_key(self.settings["seed"], purpose, self.settings["chip"], record["tile"])
        counter = hash_counter(np.asarray(rows)[:, None], np.arange(record["columns"]))
        xi = gaussian_hash(*key, counter, np.asarray(events)[:, None])
        charge = 127 * nets[rows] + round_shift(self.settings["verify_noise"] * xi, 18)
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
        "noise_gain": int(rng.integers(1 << 20)), "verify_noise": int(rng.integers(30_000)), "verify_gain": gain,
        "verify_offset": int(rng.integers(-1 << 22, 1 << 22)), "averages": averages,
        "window": int(rng.integers(1, 12)), "iterations": int(rng.integers(0, 9)),
        "counts_per_g": round(counts * 65536), "main_step": min(65535, round(128 / counts / geometry.significance)),
        "minor_step": min(65535, round(128 / counts)), "main_scale": round(32768 / geometry.significance),
    }
    records, state_base, net_base, column_base = [], int(rng.integers(5)), 0, int(rng.integers(5))
    for _ in range(2):
        rows, columns = int(rng.integers(1, geometry.rows + 1)), int(rng.integers(4, geometry.columns + 1))
        records.append({"tile": int(rng.integers(1 << 16)), "rows": rows, "columns": columns, "net_base": net_base,
                        "state_base": state_base, "column_base": column_base})
        net_base += -(-rows // geometry.lanes) * columns
        state_base += rows * columns
        column_base += columns
    tops = np.array([devices_sigma, 3000, 8000, 3000, 20_000])
    return settings, records, rng.integers(0, tops[:, None] + 1, (len(Table), 256))


class Bench:
    """Gateware with a bus master, a record table, and tiles made of the writes it sends."""

    def __init__(self, geometry, settings, records, *, codes=None):
        self.geometry, self.settings, self.records, self.codes = geometry, settings, records, codes
        self.dut = Programming(geometry=geometry)
        self.tiles = Tiles(geometry, settings, records)
        self.weights = np.zeros((geometry.net_words, geometry.lanes), np.int64)
        self.noise = np.zeros(geometry.column_words, np.int64)
        self.rng = np.random.default_rng(5)
        self.clocks = 0

    def run(self, script):
        """Run `script(bench, ctx)`, a coroutine."""
        async def main(ctx):
            await ctx.tick()
            await script(self, ctx)

        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(main)
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
        while True:
            _, _, index = await ctx.tick().sample(self.dut.lookup.index)
            self.clocks += 1
            for name, value in self.records[index % len(self.records)].items():
                ctx.set(self.dut.lookup.record[name], value)

    async def _idle(self, ctx):
        while True:
            ctx.set(self.dut.tile_idle, int(self.rng.integers(2)))
            await ctx.tick()

    async def _writes(self, ctx):
        net, noise = self.dut.net_write, self.dut.noise_write
        while True:
            _, _, valid, lane, address, value, stored, index, constant = await ctx.tick().sample(
                net.valid, net.lane, net.address, net.net, noise.valid, noise.index, noise.value)
            if valid:
                self.weights[address, lane] = value
            if stored:
                self.noise[index] = constant

    async def _reads(self, ctx):
        request, response = self.dut.read.request, self.dut.read.response
        while True:
            await self._stall(ctx)
            ctx.set(request.ready, 1)
            (asked,) = await ctx.tick().sample(request.payload).until(request.valid)
            ctx.set(request.ready, 0)
            context, row = asked.context, asked.row
            if self.codes is None:
                self.tiles.set_nets(context, self.nets(context))
                codes = self.tiles.read_rows(context, np.array([row]), Purpose(asked.purpose),
                                             np.array([asked.event]))[0]
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
    for table in Table:
        for index in range(256):
            await bench.access(ctx, EngineRegion.TABLES, table << 8 | index, int(tables[table, index]))
            model.write(EngineRegion.TABLES, table << 8 | index, int(tables[table, index]))


async def compare(bench, ctx, model, contexts=(0, 1)):
    """Every state, net, noise constant, outcome and counter is the model's."""
    record = bench.records[-1]
    used = record["state_base"] + record["rows"] * record["columns"] + 2
    regions = [(EngineRegion.STATES, offset) for offset in range(used * bench.geometry.pairs)]
    regions += [(region, column) for region in (EngineRegion.OUTCOMES, EngineRegion.TARGETS)
                for column in range(bench.geometry.columns + 1)]
    seen = [await bench.access(ctx, *place) for place in regions]
    np.testing.assert_array_equal(seen, [model.read(*place) for place in regions])
    for context in contexts:
        np.testing.assert_array_equal(bench.nets(context), model.tiles.nets[context])
    np.testing.assert_array_equal(bench.noise, model.tiles.constants["noise"])
    assert {name: ctx.get(bench.dut.counters[name]) for name in model.counters} == model.counters
    assert bench.tiles.reads == model.tiles.reads


@pytest.mark.parametrize("name", ["tiny", "pairs"])
@pytest.mark.parametrize("case", range(4))
def test_operations_equal_model(name, case):
    rng = np.random.default_rng(case)
    geometry = preset(name)
    if case == 3:
        geometry = geometry.replace(program_lanes=geometry.devices, state_bits=11)
    settings, records, tables = random_setup(rng, geometry)
    bench = Bench(geometry, settings, records)
    model = Model(geometry, settings=settings, records=records, tiles=Tiles(geometry, settings, records))

    async def script(bench, ctx):
        await load_tables(bench, ctx, model, tables)
        for context in (0, 1):
            record = records[context]
            await bench.set(ctx, context=context)
            for row in rng.permutation(record["rows"])[:3]:
                await bench.set(ctx, row=int(row))
                sigma = 25_000 * geometry.significance
                targets = np.clip(rng.normal(0, sigma, geometry.columns), -TARGET_LIMIT, TARGET_LIMIT).astype(int)
                targets[rng.integers(record["columns"])] = 0
                for column, target in enumerate(targets):
                    for unit in (model, None):
                        if unit:
                            unit.write(EngineRegion.TARGETS, column, int(target) & 0xFFFFFFFF)
                        else:
                            await bench.access(ctx, EngineRegion.TARGETS, column, int(target))
                await bench.operate(ctx, EngineOperation.PROGRAM)
                model.write(EngineRegion.REGISTERS, 0, EngineOperation.PROGRAM)
            await compare(bench, ctx, model, contexts=range(context + 1))
            await bench.operate(ctx, EngineOperation.AGE)
            model.write(EngineRegion.REGISTERS, 0, EngineOperation.AGE)
            count = int(rng.integers(0, record["rows"] + 1))
            await bench.set(ctx, row=record["rows"] - count, row_count=count)
            await bench.operate(ctx, EngineOperation.PROBE)
            model.write(EngineRegion.REGISTERS, 0, EngineOperation.PROBE)
            await compare(bench, ctx, model, contexts=range(context + 1))

    bench.run(script)
