"""The device states of one engine: pulses change them, ageing sweeps over them, nets and noise constants come out.

A state memory a device of a cell, so that a pulse writes its own device and needs to know no other. Pulses and sweeps
share the device pipelines (`rtl/device.py`), `program_lanes` of them side by side, which take a group of devices every
`SLOTS` clocks; one operation at a time.
"""

from amaranth.hdl import Array as Choice
from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import bits_for, ceil_log2

from rtl.cells import CellAccess
from rtl.column_noise import ColumnNoise
from rtl.constants import NoiseWrite
from rtl.context import context_layout, settings_layout
from rtl.delay import Delay
from rtl.device import SLOTS, Device, TableWrite, state_code
from rtl.engine import NetWrite
from rtl.hash import HashSignature
from rtl.params import Geometry
from rtl.params.formats import CODE_BITS, G16_BITS, ITERATION_BITS
from rtl.pipeline import delay
from rtl.state_memory import StateMemory
from rtl.state_store import CellRun
from rtl.totals import COUNTER_BITS
from rtl.wear import Wear

__all__ = ["Array", "PulseRequest", "programming_counters"]

_SETTLE = 7
"""Clocks from a result of the device pipeline to the last group of the engine having passed on the net."""

programming_counters = data.StructLayout({"pulses": COUNTER_BITS, "aged": COUNTER_BITS})


class PulseRequest(data.StructLayout):
    """Pulses that are given together at one column of the row in `settings.row`; columns come in order.

    `first` goes back to column 0, `advance` moves on to the next column afterwards. `mask` tells which of the devices
    program_lanes * group + k get a pulse of `amplitude`: g16, or 12 fraction bits if it is `gradual`, `down` or up.
    """

    def __init__(self, geometry: Geometry):
        super().__init__({
            "valid": 1, "first": 1, "advance": 1,
            "group": range(max(2, geometry.devices // geometry.program_lanes)),
            "mask": geometry.program_lanes, "gradual": 1, "down": 1, "amplitude": G16_BITS,
            "iteration": ITERATION_BITS,
        })


class _Place(data.StructLayout):
    """Where in the memories a group of devices lies; `last` marks the last devices of a column."""

    def __init__(self, geometry: Geometry):
        super().__init__({
            "mask": geometry.program_lanes,
            "group": range(max(2, geometry.devices // geometry.program_lanes)),
            "cell": bits_for(geometry.window_cells - 1), "last": 1,
            "lane": bits_for(geometry.lanes - 1), "net": ceil_log2(geometry.net_places),
        })


class _Issue(data.StructLayout):
    """What enters the device pipelines together."""

    def __init__(self, geometry: Geometry):
        super().__init__({"place": _Place(geometry), "row": 14, "column": 14, "iteration": ITERATION_BITS,
                          "gradual": 1, "down": 1, "amplitude": G16_BITS})


class Array(wiring.Component):
    """States of all cells of an engine.

    Members
    -------
    settings, record : In
        Registers, and record of the context worked on: steady while not idle.
    start, aging : In(1)
        `start` is high for one clock; with `aging` it sweeps the context, else it finds the row for pulses.
        `aging` stays until `idle`.
    idle : Out(1)
        Nothing is under way: states, nets and noise constants are stored. Low from the clock after `start`, or after a
        pulse was taken.
    table_write : TableWrite, in
    pace : Out(1)
        High once in `SLOTS` clocks.
    pulse : PulseRequest, in
        Taken with `pace`, while idle or behind other pulses.
    state, state_o : CellAccess in; states of its cell `state_latency` clocks later, valid while idle and not ageing.
    hash : HashSignature, out
        Of each of the `program_lanes`; used while not idle.
    wear, wear_o
        The same for wear, a clock later, in builds that have it.
    net_write, noise_write : Out
    counters : Out
    run : CellRun, out; load : Out(1); loaded : In(1)
        In builds with states in SDRAM: the column that ageing needs in the window, for as long as `load` is high, until
        `loaded`. For pulses the window holds the row, from 0 on.
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        self._windowed = geometry.states_in_sdram
        self._devices = [Device(geometry=geometry) for _ in range(geometry.program_lanes)]
        self._noise = ColumnNoise(geometry=geometry)
        self._states = [StateMemory(depth=geometry.window_cells, bits=geometry.state_bits)
                        for _ in range(geometry.devices)]
        super().__init__({
            "settings": In(settings_layout), "record": In(context_layout), "start": In(1), "aging": In(1),
            "idle": Out(1), "table_write": In(TableWrite), "pace": Out(1), "pulse": In(PulseRequest(geometry)),
            "hash": Out(HashSignature()).array(geometry.program_lanes),
            "state": In(CellAccess(geometry, geometry.state_bits)),
            "state_o": Out(data.ArrayLayout(unsigned(geometry.state_bits), geometry.devices)),
            "net_write": Out(NetWrite(geometry)), "noise_write": Out(NoiseWrite(geometry)),
            "counters": Out(programming_counters),
            "wear": In(CellAccess(geometry, geometry.wear_bits)),
            "wear_o": Out(data.ArrayLayout(unsigned(geometry.wear_bits), geometry.devices)),
            **({"run": Out(CellRun(geometry)), "load": Out(1), "loaded": In(1)} if self._windowed else {}),
        })

    @property
    def state_latency(self) -> int:
        """Clocks from a cell to the states of its devices."""
        return self._states[0].latency

    @property
    def groups(self) -> int:
        """Groups of devices that a cell has: they enter the pipelines one after another."""
        return self.geometry.devices // self.geometry.program_lanes

    def elaborate(self, platform):
        m = Module()
        g = self.geometry

        slot = Signal(range(SLOTS))
        m.d.sync += slot.eq(slot + 1)
        # What is issued now has its states `state_latency` clocks later, and enters the pipeline, in the last slot, a
        # clock after that.
        m.d.comb += self.pace.eq(slot == (SLOTS - 2 - self.state_latency) % SLOTS)
        issue, running, swept = self._issue(m)
        states = Signal(self.state_o.shape())
        for k, memory in enumerate(self._states):
            m.submodules[f"states_{k}"] = memory
            m.d.comb += states[k].eq(memory.state)
        m.d.comb += self.state_o.eq(states)

        m.submodules.fetches = fetches = Delay(shape=_Issue(g), clocks=self.state_latency)
        m.d.comb += [fetches.i.eq(issue), fetches.i_valid.eq(issue.place.mask.any())]
        entered, busy_entered = Signal(_Issue(g), reset_less=True), Signal()
        m.d.sync += [entered.eq(fetches.o), busy_entered.eq(fetches.o_valid)]
        g16 = self._device_inputs(m, fetches.o, states)

        last_slot = slot == SLOTS - 1
        m.submodules.places = places = Delay(shape=_Place(g), clocks=self._devices[0].latency // SLOTS)
        m.d.comb += [places.i.eq(entered.place), places.i_valid.eq(busy_entered), places.enable.eq(last_slot)]
        for lane, device in enumerate(self._devices):
            m.submodules[f"device_{lane}"] = device
            connect(m, device.hash, flipped(self.hash[lane]))
            m.d.comb += [
                device.settings.eq(self.settings), device.tile.eq(self.record.tile),
                device.table_write.eq(self.table_write), device.aging.eq(self.aging), device.slot.eq(slot),
                device.i.g16.eq(g16[lane]), device.i.gradual.eq(entered.gradual), device.i.down.eq(entered.down),
                device.i.amplitude.eq(entered.amplitude),
                device.i.device.eq(entered.place.group * g.program_lanes + lane),
                device.i.column.eq(entered.column), device.i.row.eq(entered.row),
                device.i.iteration.eq(entered.iteration),
            ]

        retired, stored = Signal(), Signal()
        m.d.comb += [retired.eq(places.o_valid & last_slot), stored.eq(retired & ~self.aging)]
        shown = self._retire(m, retired, places.o, states)
        worn = self._wear(m, places, stored)
        address = Mux(issue.place.mask.any(), issue.place.cell, Mux(shown.valid, shown.cell, self.state.cell))
        for k, memory in enumerate(self._states):
            group, lane = divmod(k, g.program_lanes)
            hit = places.o.mask[lane] & (places.o.group == group) & ~worn[lane]
            m.d.comb += [
                memory.address.eq(address),
                memory.w_address.eq(Mux(stored, places.o.cell, self.state.cell)),
                memory.w_state.eq(Mux(stored, self._devices[lane].state, self.state.values[k])),
                memory.w_en.eq(Mux(stored, hit, self.state.mask[k])),
            ]

        self._count(m, swept)
        settled = self._devices[0].latency + _SETTLE + 2 * self.state_latency
        flying = Signal(range(settled + 1))
        with m.If(issue.place.mask.any()):
            m.d.sync += flying.eq(settled)
        with m.Elif(flying != 0):
            m.d.sync += flying.eq(flying - 1)
        m.d.comb += self.idle.eq(~running & (flying == 0) & ~self._noise.busy)
        return m

    def _wear(self, m, places, stored):
        """Count the wear of pulsed devices; return which of them answer no more."""
        g = self.geometry
        if not g.wear_bits:
            return Const(0, g.program_lanes)
        m.submodules.wear = wear = Wear(geometry=g)
        m.d.comb += [
            wear.pulsed.eq(places.o_valid & ~self.aging), wear.cell.eq(places.o.cell), wear.group.eq(places.o.group),
            wear.store.eq(places.o.mask & stored.replicate(g.program_lanes)),
            wear.wears.eq(Cat(device.wears for device in self._devices)),
            wear.access.eq(self.wear), self.wear_o.eq(wear.access_o),
        ]
        m.d.comb += [wear.endurance[lane].eq(device.endurance) for lane, device in enumerate(self._devices)]
        return wear.worn & ~Cat(device.stuck for device in self._devices)

    def _device_inputs(self, m, fetched, states):
        """Return the conductance each pipeline works on: amplitude of a melt pulse, or a state of this group."""
        g = self.geometry
        inputs = []
        for lane in range(g.program_lanes):
            state = Choice(states[group * g.program_lanes + lane] for group in range(self.groups))[fetched.place.group]
            g16 = Signal(G16_BITS, name=f"g16_{lane}", reset_less=True)
            m.d.sync += g16.eq(Mux(self.aging | fetched.gradual, Cat(Const(0, G16_BITS - g.state_bits), state),
                                   fetched.amplitude))
            inputs.append(g16)
        return inputs

    def _issue(self, m):
        """Walk over cells: the columns of one row for pulses, all cells column by column for ageing."""
        g, record, row = self.geometry, self.record, self.settings.row
        walk = Signal(_Issue(g))  # the next devices of a sweep
        cursor = Signal(_Place(g))  # the next column of a row
        row_net = Signal(ceil_log2(g.net_places))  # first net of the row
        issue = Signal(_Issue(g))
        since = Signal(range(self._noise.clocks + 1))
        last_group = walk.place.group == self.groups - 1
        last_row = walk.row == record.rows - 1
        running, swept = Signal(), Signal()
        # When a sweep takes the next devices.
        step = self._load_ahead(m, walk, running) if self._windowed else self.pace

        with m.FSM():
            with m.State("Idle"):
                with m.If(self.start & self.aging):
                    m.d.sync += [walk.eq(0), walk.place.cell.eq(record.state_base), walk.place.net.eq(record.net_base)]
                    m.d.sync += since.eq(0)
                    m.next = "Sweep"
                with m.Elif(self.start):
                    m.d.sync += [cursor.lane.eq(0), row_net.eq(record.net_base), walk.row.eq(row)]
                    m.next = "Locate"
            with m.State("Locate"):
                m.d.comb += running.eq(1)
                m.d.sync += walk.row.eq(walk.row - g.lanes)
                m.d.sync += row_net.eq(row_net + record.columns)
                with m.If(walk.row < g.lanes):
                    m.d.sync += [cursor.lane.eq(walk.row), row_net.eq(row_net)]
                    m.next = "Idle"
            with m.State("Sweep"):
                m.d.comb += [running.eq(1), swept.eq(step), issue.eq(walk),
                             issue.place.mask.eq(step.replicate(g.program_lanes)),
                             issue.place.last.eq(last_group & last_row)]
                if self._windowed:
                    m.d.comb += issue.place.cell.eq(self._in_window(walk.row, walk.column))
                with m.If(since != self._noise.clocks):
                    m.d.sync += since.eq(since + 1)
                with m.If(step & ~last_group):
                    m.d.sync += walk.place.group.eq(walk.place.group + 1)
                with m.Elif(step):
                    m.d.sync += [walk.place.group.eq(0), walk.place.cell.eq(walk.place.cell + 1)]
                    self._next_cell(m, walk, last_row, since)
            with m.State("Pause"):  # the root of the column before is still being taken
                m.d.comb += running.eq(1)
                m.d.sync += since.eq(since + 1)
                with m.If(since == self._noise.clocks):
                    m.d.sync += since.eq(0)
                    m.next = "Sweep"

        here, pulse = Signal(_Place(g)), self.pulse
        column = Signal(14)
        m.d.comb += here.eq(cursor)
        with m.If(pulse.first):
            m.d.comb += [here.cell.eq(0 if self._windowed else record.state_base + row), here.net.eq(row_net)]
        with m.If(pulse.valid & self.pace):
            m.d.comb += [
                issue.place.eq(here), issue.place.mask.eq(pulse.mask), issue.place.group.eq(pulse.group),
                issue.row.eq(row), issue.column.eq(Mux(pulse.first, 0, column)),
                issue.iteration.eq(pulse.iteration), issue.amplitude.eq(pulse.amplitude),
                issue.gradual.eq(pulse.gradual), issue.down.eq(pulse.down),
            ]
            m.d.sync += [cursor.cell.eq(here.cell), cursor.net.eq(here.net), column.eq(issue.column)]
            with m.If(pulse.advance):
                stride = 1 if self._windowed else record.rows
                m.d.sync += [cursor.cell.eq(here.cell + stride), cursor.net.eq(here.net + 1),
                             column.eq(issue.column + 1)]
        return issue, running, swept

    def _in_window(self, row, column):
        """Return where a sweep finds a cell: columns are in one half of the window and the other in turn."""
        return Cat(row[:ceil_log2(self.geometry.window_halves)], column[0])

    def _load_ahead(self, m, walk, running):
        """Ask for the column that is swept and for the one after it; return whether the next devices may be taken."""
        record, run = self.record, self.run
        column, base = Signal.like(walk.column), Signal.like(run.base)  # the next to be loaded
        m.d.comb += [
            run.base.eq(base), run.stride.eq(1), run.count.eq(record.rows),
            run.first.eq(self._in_window(Const(0, len(walk.row)), column)),
        ]
        with m.If(self.start):
            m.d.sync += [column.eq(0), base.eq(record.state_base)]
        with m.Elif(running & self.aging):
            m.d.comb += self.load.eq((column != record.columns) & (column <= walk.column + 1))
            with m.If(self.loaded):
                m.d.sync += [column.eq(column + 1), base.eq(base + record.rows)]
        return self.pace & (column > walk.column)

    def _next_cell(self, m, walk, last_row, since):
        """Go down the column, a fold of `lanes` rows after the other, then to the next column."""
        record = self.record
        with m.If(~last_row):
            m.d.sync += [walk.row.eq(walk.row + 1), walk.place.lane.eq(walk.place.lane + 1)]
            with m.If(walk.place.lane == self.geometry.lanes - 1):
                m.d.sync += [walk.place.lane.eq(0), walk.place.net.eq(walk.place.net + record.columns)]
        with m.Else():
            m.d.sync += [walk.row.eq(0), walk.place.lane.eq(0), walk.column.eq(walk.column + 1),
                         walk.place.net.eq(record.net_base + walk.column + 1)]
            with m.If(walk.column == record.columns - 1):
                m.next = "Idle"
            with m.Elif(since < self._noise.clocks - 1):
                m.next = "Pause"
            with m.Else():
                m.d.sync += since.eq(0)

    def _retire(self, m, retired, place, states):
        """Form the net of each cell that changed, and send it. Returns the cell whose states are to be read.

        A pulsed cell is read back for the codes of all its devices: this serves the net, an emulation matter. The
        write-verify controller never sees it.
        """
        g = self.geometry
        cell = data.StructLayout({"valid": 1, "place": _Place(g)})
        shown, ready, formed = (Signal(cell, name=name) for name in ("shown", "ready", "formed"))
        m.submodules.reading = reading = Delay(shape=_Place(g), clocks=self.state_latency)
        m.d.comb += [reading.i.eq(shown.place), reading.i_valid.eq(shown.valid)]
        m.d.sync += [
            shown.valid.eq(retired), shown.place.eq(place),
            ready.valid.eq(reading.o_valid), ready.place.eq(reading.o), formed.eq(ready),
        ]

        codes = Signal(data.ArrayLayout(unsigned(CODE_BITS), g.devices), reset_less=True)
        complete = self.groups - 1
        aged = [delay(m, device.code, self.state_latency, f"aged_{k}") for k, device in enumerate(self._devices)]
        for k in range(g.devices):
            group, lane = divmod(k, g.program_lanes)
            with m.If(~self.aging):
                m.d.sync += codes[k].eq(state_code(states[k]))
            with m.Elif(reading.o.group == group):
                m.d.sync += codes[k].eq(aged[lane])

        net = Signal(signed(g.net_bits), reset_less=True)
        main = codes[0] - codes[1]
        m.d.sync += net.eq(main if g.pairs == 1 else main * g.significance + (codes[2] - codes[3]))
        done = formed.valid & (~self.aging | (formed.place.group == complete))
        m.d.comb += [
            self.net_write.valid.eq(done), self.net_write.lane.eq(formed.place.lane),
            self.net_write.address.eq(formed.place.net), self.net_write.net.eq(net),
        ]

        m.submodules.noise = noise = self._noise
        index = Signal.like(self.noise_write.index)
        m.d.comb += [
            noise.gain.eq(self.settings.noise_gain), noise.net.eq(net),
            noise.valid.eq(done & self.aging), noise.last.eq(formed.place.last),
            self.noise_write.valid.eq(noise.done), self.noise_write.value.eq(noise.value),
            self.noise_write.index.eq(index),
        ]
        with m.If(self.start):
            m.d.sync += index.eq(self.record.column_base)
        with m.Elif(noise.done):
            m.d.sync += index.eq(index + 1)
        target = Signal(data.StructLayout({"valid": 1, "cell": _Place(g)["cell"].shape}))
        m.d.comb += [target.valid.eq(shown.valid & ~self.aging), target.cell.eq(shown.place.cell)]
        return target

    def _count(self, m, swept):
        """Count pulses as they are asked for, and devices as they are swept."""
        lanes = self.geometry.program_lanes
        pulses = sum((self.pulse.mask[k] for k in range(lanes)), Const(0, 1))
        with m.If(self.pulse.valid & self.pace):
            m.d.sync += self.counters.pulses.eq(self.counters.pulses + pulses)
        with m.If(swept):
            m.d.sync += self.counters.aged.eq(self.counters.aged + lanes)
