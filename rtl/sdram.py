"""Synchronous DRAM of single data rate, 16 bits wide: initialised, refreshed, one row open at a time.

A burst is a column command each clock (the part's own burst length is one): it can wait in any clock, for data or for
room, and a refresh may come between any two words. What leaves its row closes it and opens the next one.

Measured with the W9825G6KH at 50 MHz, CAS latency 2, `tests/rtl/test_sdram.py`: a word read of an open row comes out
7 clocks after its request was taken, of another row 9 clocks; long reads and writes move 0.98 words a clock, as
refreshes take the rest. Two words of a row of their own take 3 clocks to read, 3.4 to write.
"""

import dataclasses
import math

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import bits_for

from rtl.pipeline import delay
from rtl.queue import Queue

__all__ = ["WORD_BITS", "Sdram", "SdramPart", "SdramPins", "SdramRequest", "attach"]

WORD_BITS = 16
_REFRESHES = 8
"""At the beginning."""
_QUEUE = 12
"""Words read that may wait for their taker: as many as are under way from the command to the queue, and some more."""
_CLOSE_ALL = 10
"""The address bit that makes PRECHARGE close every bank."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SdramPart:
    """A part: its sizes, and the limits of its data sheet in ns, or in clocks where the data sheet says so.

    Parameters
    ----------
    bank_bits, row_bits, column_bits : int
    cas : int
        Clocks from READ to its data, 2 or 3.
    t_rcd, t_rp, t_ras, t_rc, t_rfc : float
        ACTIVATE to READ or WRITE; PRECHARGE to ACTIVATE; ACTIVATE to PRECHARGE; ACTIVATE to ACTIVATE; REFRESH to
        anything else.
    t_wr, t_mrd : int, clocks
        Last word written to PRECHARGE; mode register to anything else.
    t_refi : float
        Longest time between two refreshes.
    t_power_up : float
        From a stable clock to the first command.
    turnaround : int, clocks
        From a word read to a word written, both on the same pins: 1 is that no clock is idle.

    Raises
    ------
    ValueError
        If a value cannot be; the sentence names it.
    """

    bank_bits: int = 2
    row_bits: int = 13
    column_bits: int = 9
    cas: int = 2
    t_rcd: float = 20
    t_rp: float = 20
    t_ras: float = 45
    t_rc: float = 65
    t_rfc: float = 70
    t_wr: int = 2
    t_mrd: int = 2
    t_refi: float = 64e6 / 8192
    t_power_up: float = 200e3
    turnaround: int = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in (int, "int") and (isinstance(value, bool) or not isinstance(value, int)):
                raise ValueError(f"{field.name} must be an integer, not {value!r}")
            if not 0 < value < math.inf and (field.name, value) != ("turnaround", 0):
                raise ValueError(f"{field.name} must be more than 0, not {value!r}")
        if self.cas not in (2, 3):
            raise ValueError(f"cas must be 2 or 3, not {self.cas}")
        if self.column_bits > _CLOSE_ALL:
            raise ValueError(f"column_bits must be at most {_CLOSE_ALL}, not {self.column_bits}")
        if self.row_bits <= _CLOSE_ALL:
            raise ValueError(f"row_bits must be more than {_CLOSE_ALL}, not {self.row_bits}")

    @property
    def address_bits(self) -> int:
        """Bits of a word's address: row, bank, column."""
        return self.row_bits + self.bank_bits + self.column_bits


class SdramRequest(data.StructLayout):
    """`last` + 1 words to write or to read, at following addresses."""

    def __init__(self, address_bits: int, words: int):
        super().__init__({"write": 1, "address": address_bits, "last": bits_for(words - 1)})


class SdramPins(wiring.Signature):
    """Pins, all active high; `i` and the rest are registered once more where they are pads.

    Clock enable and chip select are always on. The part's clock rises in the middle of these signals' clock.
    """

    def __init__(self, part: SdramPart):
        super().__init__({
            "ras": Out(1), "cas": Out(1), "we": Out(1), "bank": Out(part.bank_bits), "address": Out(part.row_bits),
            "mask": Out(2), "o": Out(WORD_BITS), "oe": Out(1), "i": In(WORD_BITS),
        })


class _Command(enum.Enum, shape=3):
    """RAS, CAS and WE, the lowest bit first."""

    NOP = 0b000
    ACTIVATE = 0b001
    READ = 0b010
    WRITE = 0b110
    PRECHARGE = 0b101
    REFRESH = 0b011
    MODE = 0b111


class Sdram(wiring.Component):
    """Controller of one part.

    Parameters
    ----------
    part : SdramPart
    clock_hz : float
        Of `sync`, and of the part.
    words : int
        Most words of a request.

    Members
    -------
    request : stream of SdramRequest, in
        Served in order. Taken while the one before ends, so that following addresses take a clock each.
    w : stream of words, in
        As many as requests ask to write, in order.
    r : stream of words, out
        As many as requests ask to read, in order.
    pins : SdramPins, out
        Registers.

    Raises
    ------
    ValueError
        If a parameter, or the refresh at this clock, cannot be.
    """

    def __init__(self, *, part: SdramPart, clock_hz: float, words: int):
        if not 0 < clock_hz < math.inf:
            raise ValueError(f"clock_hz must be more than 0, not {clock_hz!r}")
        if isinstance(words, bool) or not isinstance(words, int) or words < 1:
            raise ValueError(f"words must be a positive integer, not {words!r}")
        self.part = part
        self.clock_hz = clock_hz
        self._rcd, self._rp, self._ras, self._rc, self._rfc, self._power_up = (
            self.clocks(ns) for ns in (part.t_rcd, part.t_rp, part.t_ras, part.t_rc, part.t_rfc, part.t_power_up))
        # A refresh that is due waits for what has begun: a row being opened and closed, and all that may follow on it.
        self._late = self._rcd + max(self._ras, part.t_wr) + self._rp + self._rc + 2
        self._interval = math.floor(part.t_refi * clock_hz / 1e9) - self._late
        if self._interval <= self._rfc:
            raise ValueError(f"clock_hz ({clock_hz:g}) leaves no time between two refreshes")
        self.address_bits = part.address_bits
        super().__init__({
            "request": In(stream.Signature(SdramRequest(part.address_bits, words))),
            "w": In(stream.Signature(WORD_BITS)), "r": Out(stream.Signature(WORD_BITS)),
            "pins": Out(SdramPins(part)),
        })

    def clocks(self, ns: float) -> int:
        """Return the clocks that last a time or more."""
        return max(1, math.ceil(round(ns * self.clock_hz / 1e9, 6)))

    def elaborate(self, platform):
        m = Module()
        part = self.part

        command = Signal(_Command)
        bank, address, first_mask = Signal(part.bank_bits), Signal(part.row_bits), Signal(init=1)
        m.d.sync += [
            Cat(self.pins.ras, self.pins.cas, self.pins.we).eq(command), self.pins.oe.eq(command == _Command.WRITE),
            self.pins.mask.eq(first_mask.replicate(2)),
        ]
        place, word = Signal(part.bank_bits + part.row_bits, reset_less=True), Signal(WORD_BITS, reset_less=True)
        m.d.sync += [place.eq(Cat(bank, address)), word.eq(self.w.payload)]
        m.d.comb += [Cat(self.pins.bank, self.pins.address).eq(place), self.pins.o.eq(word)]

        # What the row in use still needs, and when the next refresh is due.
        keep_open, until_active, refresh_in = (
            self._timer(m, name, clocks) for name, clocks in
            (("keep_open", max(self._ras, part.t_wr)), ("until_active", self._rc), ("refresh_in", self._interval)))
        wait = self._timer(m, "wait", max(self._power_up, self._rfc, self._rp, self._rcd, part.t_mrd),
                           init=self._power_up - 1)
        ready, due = wait == 0, refresh_in == 0
        open_row = Signal()
        opened = Signal(part.row_bits + part.bank_bits)
        refreshes = Signal(range(_REFRESHES + 1))

        current = Signal.like(self.request.payload, reset_less=True)
        column, row = current.address[:part.column_bits], current.address[part.column_bits:]
        busy, moved, turning = Signal(), Signal(), self._timer(m, "turning", part.cas + part.turnaround)
        room = Signal(range(_QUEUE + 1), init=_QUEUE)
        may_read, may_write = room != 0, self.w.valid & (turning == 0)
        ends = moved & (current.last == 0)
        m.d.comb += self.request.ready.eq(~busy | ends)
        with m.If(self.request.ready):
            m.d.sync += [busy.eq(self.request.valid), current.eq(self.request.payload)]
        with m.Elif(moved):
            m.d.sync += [current.address.eq(current.address + 1), current.last.eq(current.last - 1)]

        with m.FSM():
            with m.State("Power up"):
                with m.If(ready):
                    m.d.comb += [command.eq(_Command.PRECHARGE), address.eq(1 << _CLOSE_ALL)]
                    m.d.sync += wait.eq(self._rp - 1)
                    m.next = "Refresh"
            with m.State("Refresh"):
                with m.If(ready):
                    m.d.comb += command.eq(_Command.REFRESH)
                    m.d.sync += [wait.eq(self._rfc - 1), refreshes.eq(refreshes + 1)]
                    m.d.sync += refresh_in.eq(self._interval - 1)
                    with m.If(refreshes == _REFRESHES - 1):
                        m.next = "Mode"
            with m.State("Mode"):
                with m.If(ready):
                    m.d.comb += [command.eq(_Command.MODE), address.eq(part.cas << 4)]
                    m.d.sync += [wait.eq(part.t_mrd - 1), first_mask.eq(0)]
                    m.next = "Run"
            with m.State("Run"):
                close = open_row & (due | (busy & (opened != row)))
                with m.If(ready & close & (keep_open == 0)):
                    m.d.comb += [command.eq(_Command.PRECHARGE), address.eq(1 << _CLOSE_ALL)]
                    m.d.sync += [wait.eq(self._rp - 1), open_row.eq(0)]
                with m.Elif(ready & ~open_row & due & (until_active == 0)):
                    m.d.comb += command.eq(_Command.REFRESH)
                    m.d.sync += [wait.eq(self._rfc - 1), refresh_in.eq(self._interval - 1)]
                with m.Elif(ready & ~open_row & ~due & busy & (until_active == 0)):
                    m.d.comb += [command.eq(_Command.ACTIVATE), Cat(bank, address).eq(row)]
                    m.d.sync += [wait.eq(self._rcd - 1), open_row.eq(1), opened.eq(row),
                                 keep_open.eq(self._ras - 1), until_active.eq(self._rc - 1)]
                with m.Elif(ready & open_row & ~close & busy & Mux(current.write, may_write, may_read)):
                    m.d.comb += [
                        command.eq(Mux(current.write, _Command.WRITE, _Command.READ)), moved.eq(1),
                        bank.eq(row), address.eq(column), self.w.ready.eq(current.write),
                    ]
                    with m.If(~current.write):
                        m.d.sync += turning.eq(part.cas + part.turnaround - 1)
                    with m.Elif(keep_open < part.t_wr):
                        m.d.sync += keep_open.eq(part.t_wr - 1)

        self._read(m, moved & ~current.write, room)
        return m

    @staticmethod
    def _timer(m, name, clocks, *, init=0):
        """Return a counter that goes down to 0: set to n - 1, it is 0 when n clocks have passed."""
        timer = Signal(range(clocks + 1), init=init, name=name)
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        return timer

    def _read(self, m, asked, room):
        """Take each word when it comes; `room` is what the queue has left for words to be asked for."""
        m.submodules.queue = queue = Queue(shape=WORD_BITS, depth=_QUEUE)
        connect(m, queue.o, flipped(self.r))
        # Register of the controller, the pads' two, and the part.
        m.d.comb += [queue.i.valid.eq(delay(m, asked, self.part.cas + 2, "asked", reset_less=False)),
                     queue.i.payload.eq(self.pins.i)]
        m.d.sync += room.eq(room - asked + Const(1) * (self.r.valid & self.r.ready))


def attach(m, user, sdram: Sdram) -> None:
    """Join a user's `request`, `w` and `r` to a controller that may have more words and longer requests.

    Raises
    ------
    ValueError
        If it has fewer words than the user.
    """
    asked, request = user.request, sdram.request
    if len(asked.payload.address) > sdram.address_bits:
        raise ValueError(f"the part has addresses of {sdram.address_bits} bits, its user needs "
                         f"{len(asked.payload.address)}")
    m.d.comb += [request.valid.eq(asked.valid), asked.ready.eq(request.ready)]
    m.d.comb += [request.payload[name].eq(asked.payload[name]) for name in ("write", "address", "last")]
    connect(m, user.w, sdram.w)
    connect(m, sdram.r, user.r)
