"""The converters at the rows: an activation to a pulse's duration and path."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.params import ACTIVATION_BITS, ACTIVATION_MAX, Geometry
from rtl.pipeline import register

__all__ = ["PulseDac", "WordSums", "sign_magnitude"]

_MAGNITUDE_BITS = ACTIVATION_BITS - 1
_LOW_BITS = 3


def sign_magnitude(activation):
    """Return (path, ticks) of a signed 8-bit activation; -128 never occurs.

    `path` 1 makes the row take its current paths the other way round, `ticks` is the duration of its pulse, 0 to 127.
    """
    path = activation[-1]
    return path, Mux(path, -activation, activation)[:_MAGNITUDE_BITS]


def _square(magnitude):
    """Return the square of a 7-bit value in three small pieces, which takes no multiplier: (8 h + l)**2.

    64 h**2 and l**2 come from tables and do not overlap; 16 h l is added.
    """
    low, high = magnitude[:_LOW_BITS], magnitude[_LOW_BITS:]
    squares = Cat(_table_of_squares(low), _table_of_squares(high))
    return squares + (sum(Mux(bit, high << k, 0) for k, bit in enumerate(low)) << _LOW_BITS + 1)


def _table_of_squares(value):
    squares = Array(Const(k * k, 2 * len(value)) for k in range(1 << len(value)))
    return squares[value][:2 * len(value)]


class WordSums(wiring.Component):
    """Sum of |a| and of a * a over a word of activations, feed-forward, a word each clock.

    Parameters
    ----------
    width : int
        Activations in a word.

    Members
    -------
    activations : In(ArrayLayout(signed(8), width))
    ticks : Out
        Sum of the durations, `latency` clocks later.
    squares : Out
        Sum of the squares, likewise.
    """

    def __init__(self, *, width: int):
        self._width = width
        super().__init__({
            "activations": In(data.ArrayLayout(signed(ACTIVATION_BITS), width)),
            "ticks": Out(range(ACTIVATION_MAX * width + 1)),
            "squares": Out(range(ACTIVATION_MAX**2 * width + 1)),
        })

    @property
    def width(self) -> int:
        """Activations in a word."""
        return self._width

    @property
    def latency(self) -> int:
        """Clocks from word to sums: magnitudes, squares, sums."""
        return 3

    def elaborate(self, platform):
        """Square each magnitude, add all."""
        m = Module()
        magnitudes = [register(m, sign_magnitude(self.activations[k])[1], f"magnitude{k}") for k in range(self._width)]
        durations = [register(m, value, f"duration{k}") for k, value in enumerate(magnitudes)]
        squares = [register(m, _square(value)[:2 * _MAGNITUDE_BITS], f"square{k}")
                   for k, value in enumerate(magnitudes)]
        m.d.comb += [
            self.ticks.eq(register(m, sum(durations), "ticks_sum")),
            self.squares.eq(register(m, sum(squares), "squares_sum")),
        ]
        return m


class PulseDac(wiring.Component):
    """Pulse fidelity: takes the activations of all rows, then lets every row's pulse last its ticks.

    All pulses begin in the same clock, `start` + 1, and the row with |a| = n is high for n clocks. The lines come
    straight from registers, so they have no glitches. Words are taken until all rows are loaded; `start` is obeyed when
    `loaded`. After 127 ticks, whatever the activations, `done` is high for one clock and the next words are taken.

    Parameters
    ----------
    geometry : Geometry
        Its rows and, as activations of a word, its transport.

    Members
    -------
    i : In(stream of ArrayLayout(signed(8), transport))
        Rows in order, a word each clock.
    loaded : Out(1)
    start : In(1)
    integrate : Out(1)
        High for the 127 ticks.
    done : Out(1)
    pulse, path : Out(rows)
    """

    def __init__(self, *, geometry: Geometry):
        self._geometry = geometry
        super().__init__({
            "i": In(stream.Signature(data.ArrayLayout(signed(ACTIVATION_BITS), geometry.transport))),
            "loaded": Out(1), "start": In(1), "integrate": Out(1), "done": Out(1),
            "pulse": Out(geometry.rows), "path": Out(geometry.rows),
        })

    def elaborate(self, platform):
        """Count words while loading, ticks while integrating."""
        m = Module()
        g = self._geometry
        words = g.rows // g.transport
        word = Signal(range(words + 1))
        tick = Signal(unsigned(_MAGNITUDE_BITS))
        m.d.comb += [
            self.loaded.eq((word == words) & ~self.integrate),
            self.i.ready.eq(word != words),
        ]
        m.d.sync += self.done.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += word.eq(word + 1)
        with m.If(self.loaded & self.start):
            m.d.sync += [self.integrate.eq(1), tick.eq(1)]
        with m.If(self.integrate):
            m.d.sync += tick.eq(tick + 1)
            with m.If(tick == ACTIVATION_MAX):
                m.d.sync += [self.integrate.eq(0), self.done.eq(1), word.eq(0)]
        for row in range(g.rows):
            self._row(m, row, word, tick)
        return m

    def _row(self, m, row, word, tick):
        """One row's driver: its duration, and the comparator that ends its pulse."""
        width = self._geometry.transport
        path, ticks = sign_magnitude(self.i.payload[row % width])
        duration = Signal(_MAGNITUDE_BITS, name=f"duration{row}", reset_less=True)
        with m.If(self.i.valid & (word == row // width)):
            m.d.sync += [duration.eq(ticks), self.path[row].eq(path)]
        with m.If(self.loaded & self.start):
            m.d.sync += self.pulse[row].eq(duration != 0)
        with m.Elif(duration == tick):
            m.d.sync += self.pulse[row].eq(0)
