"""The read noise constant of a column: the root of its sum of |net|, times a gain, taken while the next one is aged."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.fixed import saturate
from rtl.isqrt import Isqrt
from rtl.params import Geometry
from rtl.params.registers import EngineRegion, register

__all__ = ["ColumnNoise"]

_GAIN_BITS = register("engine", EngineRegion.REGISTERS, "noise_gain").bits


class ColumnNoise(wiring.Component):
    """value = min(isqrt(gain * sum of |net|), 65535) of the nets up to and with `last`.

    The product is made a bit of the gain a clock, the root likewise: no multiplier.

    Members
    -------
    gain : In(22)
        Steady.
    valid, last, net : In
        The next net of a column. Columns must end at least `clocks` apart.
    done : Out(1)
        High for one clock, less than `clocks` after `last`, when `value` is ready.
    value : Out(16)
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        self._sum_bits = (geometry.net_max * geometry.rows).bit_length()
        self._isqrt = Isqrt(width=self._sum_bits + _GAIN_BITS)
        super().__init__({
            "gain": In(_GAIN_BITS), "valid": In(1), "last": In(1), "net": In(signed(geometry.net_bits)),
            "done": Out(1), "value": Out(16), "busy": Out(1),
        })

    @property
    def clocks(self) -> int:
        """Fewest clocks between the ends of two columns."""
        return _GAIN_BITS + self._isqrt.latency + 4

    def elaborate(self, platform):
        m = Module()
        m.submodules.isqrt = isqrt = self._isqrt

        # |net| of the clock before is added to the sum, which starts anew after a last one.
        magnitude = Signal(range(self.geometry.net_max + 1), reset_less=True)
        valid, last = Signal(), Signal()
        total = Signal(self._sum_bits)
        grown = Signal(self._sum_bits)
        m.d.sync += [magnitude.eq(Mux(self.net < 0, -self.net, self.net)), valid.eq(self.valid), last.eq(self.last)]
        m.d.comb += grown.eq(total + magnitude)
        with m.If(valid):
            m.d.sync += total.eq(Mux(last, 0, grown))

        factor = Signal(self._sum_bits, reset_less=True)
        gain = Signal(_GAIN_BITS, reset_less=True)
        left = Signal(range(_GAIN_BITS + 1))
        with m.If(valid & last):
            m.d.sync += [factor.eq(grown), gain.eq(self.gain), left.eq(_GAIN_BITS), isqrt.value.eq(0)]
        with m.Elif(left != 0):
            m.d.sync += [
                left.eq(left - 1),
                gain.eq(gain << 1),
                isqrt.value.eq((isqrt.value << 1) + Mux(gain[-1], factor, 0)),
            ]
        m.d.sync += isqrt.start.eq(left == 1)

        waiting = Signal()
        with m.If(valid & last):
            m.d.sync += waiting.eq(1)
        with m.Elif(self.done):
            m.d.sync += waiting.eq(0)
        m.d.comb += [
            self.done.eq(isqrt.done),
            self.value.eq(saturate(isqrt.root, 0, (1 << 16) - 1)),
            self.busy.eq(waiting | valid),
        ]
        return m
