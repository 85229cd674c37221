"""Asynchronous serial line: 8 data bits, no parity, 1 stop bit, least significant bit first."""

import math

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter"]

_LEAST_RATIO = 6


def _phase(clock: float, baud: float) -> tuple[int, int]:
    """Return bits and step of a phase that wraps once a bit; its rate is right to 0.1 % for any ratio."""
    if not (baud > 0 and clock >= _LEAST_RATIO * baud):
        raise ValueError(f"clock ({clock!r} Hz) must be at least {_LEAST_RATIO} times baud ({baud!r})")
    bits = 10 + math.ceil(math.log2(clock / baud))
    return bits, round((1 << bits) * baud / clock)


class UartReceiver(wiring.Component):
    """Samples each bit in its middle, as timed from the falling edge of its start bit.

    A start bit that is high again in its middle is noise and ignored; a byte without a stop bit is dropped.
    A byte is lost if the one before it was not taken within 9.5 bits: the link's CRC finds that.

    Parameters
    ----------
    clock, baud : float
        Frequency of `sync` in Hz and bits a second; their ratio is 6 or more and need not be whole.

    Members
    -------
    pin : In(1)
        The line, asynchronous.
    o : Out(stream of 8)
    """

    def __init__(self, *, clock: float, baud: float):
        self.phase_bits, self.step = _phase(clock, baud)
        super().__init__({"pin": In(1, init=1), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()

        line, before = Signal(init=1), Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.pin, line, init=1)

        # A start bit is an edge: a line that stays low, as after a byte without a stop bit, begins nothing.
        m.d.sync += before.eq(line)
        phase = Signal(self.phase_bits)
        middle = Signal()
        bits_left = Signal(range(11))
        shift = Signal(9, reset_less=True)

        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(bits_left == 0):
            # The first wrap falls in the middle of the start bit: half a bit, less the 2 clocks from its edge to the
            # first step and from the wrap to the sample, and the half clock by which the edge is seen late on average.
            m.d.sync += phase.eq((1 << (self.phase_bits - 1)) + 5 * self.step // 2)
            with m.If(before & ~line):
                m.d.sync += bits_left.eq(10)
        with m.Else():
            m.d.sync += Cat(phase, middle).eq(phase + self.step)
        with m.If(middle):
            m.d.sync += [middle.eq(0), bits_left.eq(bits_left - 1), shift.eq(Cat(shift[1:], line))]
            with m.If((bits_left == 10) & line):
                m.d.sync += bits_left.eq(0)
            with m.If((bits_left == 1) & line & (~self.o.valid | self.o.ready)):
                m.d.sync += [self.o.payload.eq(shift[1:]), self.o.valid.eq(1)]
        return m


class UartTransmitter(wiring.Component):
    """Sends bytes with one stop bit, back to back while there are any.

    Parameters
    ----------
    clock, baud : float
        As in `UartReceiver`.

    Members
    -------
    i : In(stream of 8)
    pin : Out(1)
        The line; high when idle.
    """

    def __init__(self, *, clock: float, baud: float):
        self.phase_bits, self.step = _phase(clock, baud)
        super().__init__({"i": In(stream.Signature(8)), "pin": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()

        phase = Signal(self.phase_bits)
        wrap = Signal()
        bits_left = Signal(range(11))
        shift = Signal(9, init=0x1FF)

        m.d.comb += self.i.ready.eq(bits_left == 0)
        m.d.sync += self.pin.eq(shift[0])
        with m.If(bits_left == 0):
            m.d.sync += [phase.eq(0), wrap.eq(0)]
            with m.If(self.i.valid):
                m.d.sync += [shift.eq(Cat(0, self.i.payload)), bits_left.eq(10)]
        with m.Else():
            m.d.sync += Cat(phase, wrap).eq(phase + self.step)
            with m.If(wrap):
                m.d.sync += [shift.eq(Cat(shift[1:], 1)), bits_left.eq(bits_left - 1)]
        return m
