"""The macro boundary: the wires at which an analog macro can stand in place of our behavioural crossbar.

A macro is the array of cells *and* the analog half of its converters: row switches, column capacitors, ramp and
comparators. What crosses the boundary is a pulse and a path wire a row, a comparator wire a column and a few strobes;
charge never does. docs/macro.md is the page for chip designers.
"""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.params import Geometry
from rtl.params.formats import ADC_GAIN_BITS, G16_BITS

__all__ = ["EmulationSignature", "MacroSignature"]

NOISE_BITS = 20
"""Read noise of one conversion, signed charge units: 18 bits of sigma times 4.9 sigma, rounded."""


class MacroSignature(wiring.Signature):
    """Seen from the periphery. Every wire comes straight from a register and changes at the clock's edge.

    Parameters
    ----------
    geometry : Geometry
        Its rows and columns.

    Members
    -------
    reset : Out(1)
        Discharge the column capacitors.
    integrate : Out(1)
        Connect the capacitors to the bitlines; pulses count only while it is high.
    pulse : Out(rows)
        The row's read voltage is on.
    path : Out(rows)
        0: the row's G+ current adds charge and its G- current takes it; 1: the other way round.
    ramp_start : Out(1)
        Put the ramp on its lowest level, half a code below code -code_max.
    ramp_step : Out(1)
        Raise it by one code.
    trip : In(columns)
        Comparators: the ramp is above the column's charge. Valid the clock after `ramp_start` or `ramp_step` was high.
    level : Out
        `valid`, `column`, `value` (g16): put the amplitude of one column's programming driver on `value` and arm it.
    fire : Out
        `valid`, `row`, `device`: one programming pulse to this device of the row's cell in every armed column; then
        none is armed. Device 0 is G+, 1 G-, 2 g+, 3 g-. Amplitude 0 is a reset pulse.
    """

    def __init__(self, geometry: Geometry):
        self._geometry = geometry
        rows, columns = geometry.rows, geometry.columns
        super().__init__({
            "reset": Out(1), "integrate": Out(1), "pulse": Out(rows), "path": Out(rows),
            "ramp_start": Out(1), "ramp_step": Out(1), "trip": In(columns),
            "level": Out(data.StructLayout({
                "valid": 1, "column": range(columns), "value": unsigned(G16_BITS)})),
            "fire": Out(data.StructLayout({"valid": 1, "row": range(rows), "device": 2})),
        })

    @property
    def geometry(self) -> Geometry:
        """Whose rows and columns these are."""
        return self._geometry


class EmulationSignature(wiring.Signature):
    """What only an emulated macro has, seen from the emulation: a chip leaves it out. Write-verify never uses it.

    Parameters
    ----------
    geometry : Geometry

    Members
    -------
    net : Out
        `valid`, `row`, `column`, `value`: set the net conductance of one cell.
    noise : Out
        `valid`, `column`, `value`: read noise in charge units that every completed charge of the column gets, once.
    gain, offset : Out
        Where the ramp's levels lie, in 2**-24 codes per charge unit and 2**-24 codes; steady during a read.
    fired : In
        `valid`, `row`, `device`, `armed` (a bit a column), `levels` (g16 a column): a programming pulse as the array
        got it. Device physics turns it into new nets.
    """

    def __init__(self, geometry: Geometry):
        self._geometry = geometry
        rows, columns = geometry.rows, geometry.columns
        super().__init__({
            "net": Out(data.StructLayout({
                "valid": 1, "row": range(rows), "column": range(columns), "value": signed(geometry.net_bits)})),
            "noise": Out(data.StructLayout({"valid": 1, "column": range(columns), "value": signed(NOISE_BITS)})),
            "gain": Out(unsigned(ADC_GAIN_BITS)), "offset": Out(signed(32)),
            "fired": In(data.StructLayout({
                "valid": 1, "row": range(rows), "device": 2, "armed": columns,
                "levels": data.ArrayLayout(unsigned(G16_BITS), columns)})),
        })

    @property
    def geometry(self) -> Geometry:
        """Whose rows and columns these are."""
        return self._geometry
