"""The digital half of the ramp converter: counts the ramp up and keeps each column's count when it trips."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.params import Geometry

__all__ = ["RampAdc"]


class RampAdc(wiring.Component):
    """All columns at once, in 2 code_max + 2 levels of the ramp: one shared count, one latch a column.

    The ramp starts below -code_max: a column that trips there, or not even above code_max, is clipped.

    Parameters
    ----------
    geometry : Geometry
        Its columns and ADC bits.

    Members
    -------
    start : In(1)
        Begin; while the ramp is running it is not looked at.
    ramp_start, ramp_step : Out(1)
        To the macro.
    trip : In(columns)
        From the macro: the ramp is above the column's charge.
    codes : Out(ArrayLayout(signed(adc_bits), columns))
    clipped : Out(columns)
        Both hold from `done` until the next `start`.
    done : Out(1)
        High for one clock, `latency` clocks after `start`.
    """

    def __init__(self, *, geometry: Geometry):
        self._geometry = geometry
        columns = geometry.columns
        super().__init__({
            "start": In(1), "ramp_start": Out(1), "ramp_step": Out(1), "trip": In(columns),
            "codes": Out(data.ArrayLayout(signed(geometry.adc_bits), columns)), "clipped": Out(columns),
            "done": Out(1),
        })

    @property
    def latency(self) -> int:
        """Clocks from start to done."""
        return 2 * self._geometry.code_max + 4

    def elaborate(self, platform):
        """Step the ramp each clock and keep, for each column, the count at its first trip."""
        m = Module()
        limit = self._geometry.code_max
        busy = Signal()
        checking = Signal()  # the comparators answer to a level
        first = Signal()  # and it is the lowest
        count = Signal(signed(self._geometry.adc_bits))  # the code of a column that trips now
        m.d.sync += [self.ramp_start.eq(0), self.done.eq(0)]
        with m.If(self.start & ~busy):
            m.d.sync += [busy.eq(1), self.ramp_start.eq(1)]
        with m.If(self.ramp_start):
            m.d.sync += [checking.eq(1), first.eq(1), count.eq(-limit), self.ramp_step.eq(1)]
        with m.If(checking):
            m.d.sync += first.eq(0)
            with m.If(~first):
                m.d.sync += count.eq(count + 1)
            with m.If(count == limit - 1):
                m.d.sync += self.ramp_step.eq(0)
            with m.If(count == limit):
                m.d.sync += [checking.eq(0), busy.eq(0), self.done.eq(1)]
        for column in range(self._geometry.columns):
            self._latch(m, column, checking, first, count)
        return m

    def _latch(self, m, column, checking, first, count):
        """One column's code: clipped above until it trips, and clipped below if it does at once."""
        waiting = Signal(name=f"waiting{column}")
        with m.If(self.ramp_start):
            m.d.sync += [waiting.eq(1), self.codes[column].eq(self._geometry.code_max), self.clipped[column].eq(1)]
        with m.Elif(checking & waiting & self.trip[column]):
            m.d.sync += [waiting.eq(0), self.codes[column].eq(count), self.clipped[column].eq(first)]
