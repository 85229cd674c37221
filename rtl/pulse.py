"""Pulse fidelity: a tile's read path whose pulses really switch, up to the macro boundary."""

from amaranth.hdl import Module, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.dac import PulseDac
from rtl.macro import MacroSignature
from rtl.params import ACTIVATION_BITS, Geometry
from rtl.ramp import RampAdc

__all__ = ["PulseTile", "pulse_result_layout"]


def pulse_result_layout(geometry: Geometry) -> data.StructLayout:
    """Return the layout of what one read gives: a code a column, and a bit a column that tells it was limited."""
    return data.StructLayout({
        "codes": data.ArrayLayout(signed(geometry.adc_bits), geometry.columns),
        "clipped": unsigned(geometry.columns),
    })


class PulseTile(wiring.Component):
    """Drives a macro through one read after another: discharge, 127 ticks of pulses, ramp, codes.

    The next vector loads while the ramp of this one runs. Codes are those of charge fidelity, to the bit.

    Parameters
    ----------
    geometry : Geometry
        All its rows and columns are used.

    Members
    -------
    i : In(stream of ArrayLayout(signed(8), transport))
        Activations of all rows in order, a word each clock.
    o : Out(stream of pulse_result_layout)
    level, fire : In
        Programming, one clock later on the macro's lines of the same names; only while `idle`.
    idle : Out(1)
        No read has begun.
    macro : Out(MacroSignature)
    """

    def __init__(self, *, geometry: Geometry):
        self._geometry = geometry
        lines = MacroSignature(geometry).members
        super().__init__({
            "i": In(stream.Signature(data.ArrayLayout(signed(ACTIVATION_BITS), geometry.transport))),
            "o": Out(stream.Signature(pulse_result_layout(geometry))),
            "level": lines["level"].flip(), "fire": lines["fire"].flip(),
            "idle": Out(1),
            "macro": Out(MacroSignature(geometry)),
        })

    def elaborate(self, platform):
        """Connect the row drivers and the ramp to the macro, and put the steps of a read in order."""
        m = Module()
        m.submodules.dac = dac = PulseDac(geometry=self._geometry)
        m.submodules.ramp = ramp = RampAdc(geometry=self._geometry)
        macro = self.macro
        wiring.connect(m, wiring.flipped(self.i), dac.i)
        m.d.comb += [
            macro.integrate.eq(dac.integrate), macro.pulse.eq(dac.pulse), macro.path.eq(dac.path),
            macro.ramp_start.eq(ramp.ramp_start), macro.ramp_step.eq(ramp.ramp_step), ramp.trip.eq(macro.trip),
            self.o.payload.codes.eq(ramp.codes), self.o.payload.clipped.eq(ramp.clipped),
        ]
        m.d.sync += [macro.level.eq(self.level), macro.fire.eq(self.fire), macro.reset.eq(0)]
        with m.FSM():
            with m.State("Load"):
                m.d.comb += self.idle.eq(~dac.loaded)
                with m.If(dac.loaded):
                    m.d.sync += macro.reset.eq(1)
                    m.next = "Discharge"
            with m.State("Discharge"):
                m.d.comb += dac.start.eq(1)
                m.next = "Integrate"
            with m.State("Integrate"):
                with m.If(dac.done):
                    m.next = "Hold"
            with m.State("Hold"):
                m.d.comb += ramp.start.eq(1)
                m.next = "Convert"
            with m.State("Convert"):
                with m.If(ramp.done):
                    m.next = "Answer"
            with m.State("Answer"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "Load"
        return m
