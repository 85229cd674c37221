"""How worn each device is: a counter beside its state. Only builds with `wear_bits` have it."""

from amaranth.hdl import Array as Choice
from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from rtl.cells import CellAccess
from rtl.params import Geometry

__all__ = ["Wear"]


class Wear(wiring.Component):
    """Counters of all devices of an engine.

    Members
    -------
    pulsed : In(1)
        Devices of `cell` and `group` have been pulsed; steady from two clocks or more before `store`.
    store : In(program_lanes)
        Which of them count now, by one if they are among `wears`.
    endurance : In
        Most wear with which each of them answers.
    worn : Out(program_lanes)
        Which of them answer no more; valid with `store`.
    access, access_o : CellAccess in; wear of its cell a clock later, while nothing is `pulsed`.
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        lanes = geometry.program_lanes
        super().__init__({
            "pulsed": In(1), "cell": In(bits_for(geometry.window_cells - 1)), "group": In(range(max(2, self.groups))),
            "store": In(lanes), "wears": In(lanes), "endurance": In(data.ArrayLayout(unsigned(16), lanes)),
            "worn": Out(lanes), "access": In(CellAccess(geometry, geometry.wear_bits)),
            "access_o": Out(data.ArrayLayout(unsigned(geometry.wear_bits), geometry.devices)),
        })

    @property
    def groups(self) -> int:
        """Groups of devices of a cell."""
        return self.geometry.devices // self.geometry.program_lanes

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        lanes = g.program_lanes

        writes = []
        for k in range(g.devices):
            m.submodules[f"wear_{k}"] = memory = Memory(shape=unsigned(g.wear_bits), depth=g.window_cells, init=[])
            write, read = memory.write_port(), memory.read_port()
            writes.append(write)
            m.d.comb += [
                read.addr.eq(Mux(self.pulsed, self.cell, self.access.cell)), read.en.eq(1),
                self.access_o[k].eq(read.data),
            ]

        for lane in range(lanes):
            count, counted = (Signal(g.wear_bits, name=f"{name}_{lane}") for name in ("count", "counted"))
            m.d.comb += [
                count.eq(Choice(self.access_o[group * lanes + lane] for group in range(self.groups))[self.group]),
                self.worn[lane].eq(count > self.endurance[lane]),
                counted.eq(count + (self.wears[lane] & ~count.all())),
            ]
            for group in range(self.groups):
                k = group * lanes + lane
                m.d.comb += [
                    writes[k].addr.eq(Mux(self.pulsed, self.cell, self.access.cell)),
                    writes[k].data.eq(Mux(self.pulsed, counted, self.access.values[k])),
                    writes[k].en.eq(Mux(self.pulsed, self.store[lane] & (self.group == group), self.access.mask[k])),
                ]
        return m
