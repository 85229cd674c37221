"""A tile and its model side by side, for the tests of inference and of verify reads."""

import random

import numpy as np
from amaranth.sim import Simulator

from rtl.params import FlitKind, Geometry, Purpose
from rtl.params.registers import COLUMN_STRIDE, EngineRegion, column_fields
from rtl.tile import Tile
from rtl.totals import COUNTER_BITS
from sim.message import Message
from sim.tile import Drive, Tiles
from tests.rtl.bench import add_clocks, with_hashes
from tests.rtl.flits import access, always, as_flit, message, put

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
