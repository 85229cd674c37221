"""A pulse tile with its emulated macro, as one component: the device under test of two simulators."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.crossbar import Crossbar
from rtl.macro import EmulationSignature
from rtl.pulse import PulseTile


class PulseTop(wiring.Component):
    """The tile's own ports, and the macro's emulation port."""

    def __init__(self, *, geometry):
        self._tile = PulseTile(geometry=geometry)
        self._crossbar = Crossbar(geometry=geometry)
        members = {name: member for name, member in self._tile.signature.members.items() if name != "macro"}
        super().__init__(members | {"emulation": In(EmulationSignature(geometry)), "discharge": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.tile = tile = self._tile
        m.submodules.crossbar = crossbar = self._crossbar
        wiring.connect(m, tile.macro, crossbar.macro)
        wiring.connect(m, wiring.flipped(self.i), tile.i)
        wiring.connect(m, tile.o, wiring.flipped(self.o))
        wiring.connect(m, wiring.flipped(self.emulation), crossbar.emulation)
        m.d.comb += [tile.level.eq(self.level), tile.fire.eq(self.fire), self.idle.eq(tile.idle),
                     self.discharge.eq(tile.macro.reset)]
        return m
