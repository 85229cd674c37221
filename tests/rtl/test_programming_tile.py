"""Programming joined to the real read path: the whole loop of pulse, DAC, engine, ADC and decision equals the model."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped
from amaranth.sim import Simulator

from rtl.bus import BusSignature
from rtl.context import context_layout, settings_layout
from rtl.core import share_hashes
from rtl.params import EngineOperation, EngineRegion, Table, preset
from rtl.params.formats import GMAX_G16
from rtl.programming import Programming
from rtl.tile import Tile
from sim.presets import technology
from sim.programming import Programming as Model
from sim.tables import age_settings, noise_gain, tables, verify_settings
from sim.tile import Tiles


class Pair(wiring.Component):
    """A tile and its programming with one record for all contexts."""

    def __init__(self, geometry):
        self.geometry = geometry
        self.tile = Tile(geometry=geometry)
        self.programming = Programming(geometry=geometry)
        super().__init__({"settings": In(settings_layout), "record": In(context_layout), "bus": In(BusSignature())})

    def elaborate(self, platform):
        m = Module()
        m.submodules.tile, m.submodules.programming = tile, programming = self.tile, self.programming
        connect(m, tile.read, programming.read)
        share_hashes(m, tile, programming, self.settings.seed)
        connect(m, flipped(self.bus), programming.bus)
        for unit in (tile, programming):
            m.d.comb += [unit.settings.eq(self.settings), unit.lookup.record.eq(self.record)]
        m.d.comb += [
            tile.net_write.eq(programming.net_write), tile.noise_write.eq(programming.noise_write),
            tile.hold.eq(programming.busy), programming.tile_idle.eq(tile.idle), tile.o.ready.eq(1),
        ]
        return m


@pytest.mark.parametrize("name", ["tiny", "pairs"])
def test_loop_through_the_tile_equals_model(name):
    geometry, device = preset(name), technology("pcm")
    rows, columns = geometry.rows - 1, 5
    tiles = Tiles(geometry)
    tiles.records[0].update(tile=3, rows=rows, columns=columns, net_base=4, state_base=7, column_base=2,
                            adc_gain=3 * 10**5, adc_offset=-(7 << 23))
    tiles.settings.update(seed=77, chip=1, epoch=2, noise_gain=noise_gain(device, geometry, rows * 4))
    tiles.settings.update(verify_settings(device, geometry))
    tiles.settings.update(iterations=6, averages=2, window=3, row=rows - 1)
    tiles.settings.update(age_settings(device, 0))
    model = Model(geometry, settings=tiles.settings, records=tiles.records, tiles=tiles)
    targets = np.rint(np.random.default_rng(0).normal(0, 0.4, columns) * GMAX_G16).astype(np.int64)
    dut = Pair(geometry)

    async def write(ctx, region, offset, value):
        model.write(region, offset, int(value) & 0xFFFFFFFF)
        return await access(ctx, region, offset, 1, int(value) & 0xFFFFFFFF)

    async def access(ctx, region, offset, writing=0, value=0):
        ctx.set(dut.bus.request.payload, {"region": int(region), "offset": offset, "write": writing, "data": value})
        ctx.set(dut.bus.request.valid, 1)
        await ctx.tick().until(dut.bus.request.ready)
        ctx.set(dut.bus.request.valid, 0)
        ctx.set(dut.bus.response.ready, 1)
        (word,) = await ctx.tick().sample(dut.bus.response.payload).until(dut.bus.response.valid)
        ctx.set(dut.bus.response.ready, 0)
        return word

    async def bench(ctx):
        for name, value in tiles.settings.items():
            ctx.set(dut.settings[name], value)
        ctx.set(dut.record, tiles.records[0])
        for table, values in tables(device).items():
            for index in range(0, 256, 1 if table == Table.PULSE_SIGMA else 5):
                await write(ctx, EngineRegion.TABLES, table << 8 | index, values[index])
        for column, target in enumerate(targets):
            await write(ctx, EngineRegion.TARGETS, column, target)
        probes = [(EngineOperation.PROBE, {"row": row, "row_count": 3, "probe_ticks": ticks, "probe_mode": mode})
                  for row, ticks, mode in ((rows - 3, 127, 0), (0, 0, 0), (rows - 3, -90, 0), (1, 20, 1), (1, -20, 1),
                                           (2, 127, 3), (0, 5, 2))]
        for operation, changes in ((EngineOperation.PROGRAM, {}), (EngineOperation.AGE, {"age": 9, "log_time": 40_000}),
                                   *probes):
            tiles.settings.update(changes)
            for name, value in changes.items():
                ctx.set(dut.settings[name], value)
            await write(ctx, EngineRegion.REGISTERS, 0, operation)
            for column in range(columns):
                seen = await access(ctx, EngineRegion.OUTCOMES, column)
                assert seen == model.read(EngineRegion.OUTCOMES, column)
        for offset in range((7 + rows * columns) * geometry.pairs):
            assert await access(ctx, EngineRegion.STATES, offset) == model.read(EngineRegion.STATES, offset)
        for counter in ("verify_conversions", "row_ticks"):
            assert ctx.get(dut.tile.counters[counter]) == tiles.counters[counter] > 0

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
