"""The behavioural macro: crossbar, capacitors, ramp and comparators, integrated tick by tick."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rtl.macro import NOISE_BITS, EmulationSignature, MacroSignature
from rtl.params import ADC_SHIFT, Geometry

__all__ = ["Crossbar"]


class Crossbar(wiring.Component):
    """An emulated analog macro: each tick every pulsed row adds its nets, or takes them off, at all columns at once.

    The read noise is added once, when `integrate` falls. The comparators compare charge * gain + offset, which is
    fixed from then on, with a ramp of whole codes and a half; a chip has the gain in the slope of its ramp instead.

    Parameters
    ----------
    geometry : Geometry

    Members
    -------
    macro : In(MacroSignature)
    emulation : In(EmulationSignature)
    """

    def __init__(self, *, geometry: Geometry):
        self._geometry = geometry
        super().__init__({
            "macro": In(MacroSignature(geometry)), "emulation": In(EmulationSignature(geometry)),
        })

    def elaborate(self, platform):
        """Hold nets and noise, sum a tick's currents, place the ramp."""
        m = Module()
        g = self._geometry
        integrated = Signal()
        m.d.sync += integrated.eq(self.macro.integrate)
        complete = Signal()
        m.d.comb += complete.eq(integrated & ~self.macro.integrate)
        ramp = Signal(signed(g.adc_bits + 1))
        with m.If(self.macro.ramp_start):
            m.d.sync += ramp.eq(-g.code_max)
        with m.Elif(self.macro.ramp_step):
            m.d.sync += ramp.eq(ramp + 1)
        for column in range(g.columns):
            self._column(m, column, complete, ramp)
        self._programming(m)
        return m

    def _column(self, m, column, complete, ramp):
        """One bitline: its cells, its capacitor and its comparator."""
        g, macro, emulation = self._geometry, self.macro, self.emulation
        currents = []
        for row in range(g.rows):
            net = Signal(signed(g.net_bits), name=f"net_{row}_{column}")
            with m.If(emulation.net.valid & (emulation.net.row == row) & (emulation.net.column == column)):
                m.d.sync += net.eq(emulation.net.value)
            currents.append(Mux(macro.pulse[row], Mux(macro.path[row], -net, net), 0))
        noise = Signal(signed(NOISE_BITS), name=f"noise_{column}")
        with m.If(emulation.noise.valid & (emulation.noise.column == column)):
            m.d.sync += noise.eq(emulation.noise.value)
        charge = Signal(signed(max(g.charge_bits, NOISE_BITS) + 1), name=f"charge_{column}")
        with m.If(macro.reset):
            m.d.sync += charge.eq(0)
        with m.Elif(macro.integrate):
            m.d.sync += charge.eq(charge + sum(currents))
        with m.Elif(complete):
            m.d.sync += charge.eq(charge + noise)
        half = 1 << (ADC_SHIFT - 1)
        # The ramp stands half a code below `ramp`; both sides carry half a code more, which leaves whole codes.
        held = charge * emulation.gain + emulation.offset + half
        m.d.comb += macro.trip[column].eq(held < (ramp << ADC_SHIFT))

    def _programming(self, m):
        """The column drivers of programming; what a pulse does to a device is not known here."""
        macro, fired = self.macro, self.emulation.fired
        armed = Signal(self._geometry.columns)
        levels = Signal(fired.levels.shape(), reset_less=True)
        m.d.comb += [fired.valid.eq(macro.fire.valid), fired.row.eq(macro.fire.row),
                     fired.device.eq(macro.fire.device), fired.armed.eq(armed), fired.levels.eq(levels)]
        with m.If(macro.fire.valid):
            m.d.sync += armed.eq(0)
        with m.If(macro.level.valid):
            m.d.sync += levels[macro.level.column].eq(macro.level.value)
            m.d.sync += armed.bit_select(macro.level.column, 1).eq(1)
