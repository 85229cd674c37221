"""What a vector's activations cost and scatter: their ticks, and the root of the sum of their squares."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.adc import norm_bits
from rtl.delay import Delay
from rtl.isqrt import Isqrt
from rtl.params import ACTIVATION_BITS, ACTIVATION_MAX, Geometry
from rtl.params.formats import NORM_FRACTION
from rtl.pipeline import delay, register
from rtl.schedule import TICKET_BITS

__all__ = ["Norm", "square"]

_HALF = 4  # low bits of a magnitude; the other three are the high ones


def square(m, magnitude, name: str):
    """Return the square of a 7-bit magnitude, two clocks later, from small tables: 35 LUTs and no multiplier.

    (16 h + l)**2 is h**2 and l**2 side by side, plus 32 h l.
    """
    low, high = magnitude[:_HALF], magnitude[_HALF:7]
    low_square = Array(Const(k * k, 8) for k in range(16))[low]
    high_square = Array(Const(k * k, 6) for k in range(8))[high]
    outer = register(m, Cat(low_square, high_square), f"{name}_outer")
    inner = register(m, sum(Mux(high[k], low << k, 0) for k in range(3)), f"{name}_inner")
    return register(m, (outer + (inner << 5))[:14], f"{name}_square")


class Norm(wiring.Component):
    """isqrt(sum of x**2 << 8) of a vector that passes by in words of W activations, and their ticks, sum of |x|.

    Words may come every clock; `done` follows the last word of a vector by `latency`, and two last words must be
    `interval` clocks apart.

    Members
    -------
    valid, first, last : In(1)
        A word, the first and the last one of a vector.
    word : In, W activations
    ticket : In
        Of the vector, with its last word.
    ticks : Out
        Sum of |x| of a word, `ticks_latency` clocks after it; 0 when there was none.
    done : Out(1)
    o_ticket : Out
    norm : Out
        With 4 fraction bits; holds until the next vector's last word has passed.
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        self._levels = ceil_log2(geometry.transport)
        self._isqrt = Isqrt(width=2 * norm_bits(geometry))
        super().__init__({
            "valid": In(1),
            "first": In(1),
            "last": In(1),
            "word": In(data.ArrayLayout(unsigned(ACTIVATION_BITS), geometry.transport)),
            "ticket": In(TICKET_BITS),
            "ticks": Out(range(geometry.transport * ACTIVATION_MAX + 1)),
            "done": Out(1),
            "o_ticket": Out(TICKET_BITS),
            "norm": Out(norm_bits(geometry)),
        })

    @property
    def latency(self) -> int:
        """Clocks from the last word to `done`: magnitude, square, tree, total, root."""
        return 3 + self._levels + 1 + self._isqrt.latency

    @property
    def interval(self) -> int:
        """Fewest clocks between the last words of two vectors."""
        return self._isqrt.latency

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        isqrt = m.submodules.isqrt = self._isqrt
        m.submodules.tickets = tickets = Delay(shape=TICKET_BITS, clocks=self.latency)

        magnitudes = []
        for k in range(g.transport):
            x = self.word[k].as_signed()
            magnitudes.append(register(m, Mux(self.valid, Mux(x < 0, -x, x)[:7], 0), f"magnitude_{k}"))
        ticks = self._sum(m, magnitudes, "ticks")
        m.d.comb += self.ticks.eq(ticks)

        words = self._sum(m, [square(m, x, f"x_{k}") for k, x in enumerate(magnitudes)], "squares")
        wait = 3 + self._levels
        valid = delay(m, self.valid, wait, "valid", reset_less=False)
        first, last = delay(m, self.first, wait, "first"), delay(m, self.last, wait, "last")
        total = Signal(2 * norm_bits(g) - 2 * NORM_FRACTION, reset_less=True)
        with m.If(valid):
            m.d.sync += total.eq(Mux(first, 0, total) + words)
        start = Signal()
        m.d.sync += start.eq(valid & last)
        m.d.comb += [
            isqrt.start.eq(start),
            isqrt.value.eq(Cat(Const(0, 2 * NORM_FRACTION), total)),
            self.done.eq(isqrt.done),
            tickets.i.eq(self.ticket),
            self.o_ticket.eq(tickets.o),
            self.norm.eq(isqrt.root),
        ]
        return m

    def _sum(self, m, terms, name):
        for level in range(self._levels):
            terms = [register(m, sum(terms[k + 1:k + 2], terms[k]), f"{name}_{level}_{k}")
                     for k in range(0, len(terms), 2)]
        return terms[0]
