"""A synchronous DRAM as its data sheet describes it (W9825G6KH; IS42S16160G has the same commands): limits are checked.

It knows nothing of the controller. Time is in ns; the part's clock rises half a clock after that of the pads, which
drive from one of their edges to the next and take what is read at their edges.
"""

import dataclasses
import random

__all__ = ["IS42S16160G_7", "TIGHT", "W9825G6KH_6", "Limits", "Pins", "SdramChip", "ViolationError"]


class ViolationError(AssertionError):
    """A limit was not kept; the sentence begins with its name."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """ns; clocks where the name says so. Values that depend on the CAS latency are by it."""

    t_rcd: float
    t_rp: float
    t_ras: float
    t_rc: float
    t_rfc: float
    t_ras_max: float
    t_rrd_clocks: int
    t_wr_clocks: int
    t_mrd_clocks: int
    t_ck: dict[int, float]
    t_ac: dict[int, float]
    t_hz: dict[int, float]
    t_oh: float
    t_ref: float = 64e6
    rows: int = 8192
    t_power_up: float = 200e3


W9825G6KH_6 = Limits(
    t_rcd=15, t_rp=15, t_ras=42, t_rc=60, t_rfc=60, t_ras_max=100e3, t_rrd_clocks=2, t_wr_clocks=2, t_mrd_clocks=2,
    t_ck={2: 7.5, 3: 6}, t_ac={2: 6, 3: 5}, t_hz={2: 6, 3: 5.4}, t_oh=3)
IS42S16160G_7 = Limits(
    t_rcd=15, t_rp=15, t_ras=37, t_rc=60, t_rfc=60, t_ras_max=100e3, t_rrd_clocks=2, t_wr_clocks=2, t_mrd_clocks=2,
    t_ck={2: 10, 3: 7}, t_ac={2: 6, 3: 5.4}, t_hz={2: 6, 3: 5.4}, t_oh=2.5)
TIGHT = dataclasses.replace(W9825G6KH_6, t_rcd=30, t_rp=30, t_ras=55, t_rc=110, t_rfc=80)
"""No part: at 80 MHz every one of its limits is what a controller waits for somewhere."""


@dataclasses.dataclass(frozen=True)
class Pins:
    """What the part sees at an edge of its clock, active high."""

    ras: int
    cas: int
    we: int
    bank: int
    address: int
    mask: int
    o: int
    oe: int


class SdramChip:
    """Four banks; words are random until they are written. `edge` is called for every clock.

    Parameters
    ----------
    limits : Limits
    clock_ns : float
    column_bits : int
    """

    def __init__(self, limits: Limits, clock_ns: float, column_bits: int = 9):
        self.limits, self.clock_ns, self.column_bits = limits, clock_ns, column_bits
        self.words: dict[tuple[int, int, int], int] = {}
        self.commands: dict[str, int] = {}
        self.n = -1
        self.dice = random.Random(1)
        self.rows: list[int | None] = [None] * 4
        self.activated = [float("-inf")] * 4
        self.precharged = [float("-inf")] * 4
        self.written = [float("-inf")] * 4
        self.last_activate = self.last_refresh = self.last_mode = float("-inf")
        self.refreshes = 0
        self.closed_once = False
        self.cas: int | None = None
        self.reads: dict[int, int] = {}  # by the edge that ends them
        self.masks = [3, 3, 3]
        self.driven = float("-inf")  # the time until which pads drove
        self.drives = float("-inf")  # the time until which the part drives

    # --- time ---

    @property
    def now(self) -> float:
        """Time of this edge."""
        return self.n * self.clock_ns

    def at_least(self, name: str, since: float, ns: float) -> None:
        """Raise if less than `ns` have passed."""
        if self.now - since < ns - 1e-6:
            raise ViolationError(f"{name}: {self.now - since:g} ns, at least {ns:g} (edge {self.n})")

    def at_most(self, name: str, since: float, ns: float) -> None:
        """Raise if more than `ns` have passed."""
        if self.now - since > ns + 1e-6:
            raise ViolationError(f"{name}: {self.now - since:g} ns, at most {ns:g} (edge {self.n})")

    # --- an edge ---

    def edge(self, pins: Pins) -> int:
        """Take what the pins say; return the word that pads take half a clock later, random if nobody drives it."""
        self.n += 1
        self.masks = [pins.mask, *self.masks[:2]]
        self._pads(pins)
        name = {(0, 0, 0): "nop", (1, 0, 0): "activate", (0, 1, 0): "read", (0, 1, 1): "write", (1, 0, 1): "precharge",
                (1, 1, 0): "refresh", (1, 1, 1): "mode", (0, 0, 1): "stop"}[pins.ras, pins.cas, pins.we]
        self.commands[name] = self.commands.get(name, 0) + 1
        self._periods()
        if name != "nop":
            self._order(name, pins)
            self.at_least("tRFC", self.last_refresh, self.limits.t_rfc)
            self.at_least("tMRD", self.last_mode, self.limits.t_mrd_clocks * self.clock_ns)
            getattr(self, f"_{name}")(pins)
        return self._output()

    def _pads(self, pins: Pins) -> None:
        """Pads drive half a clock before and after this edge: the part must not, in that time."""
        if pins.oe:
            if self.drives > self.now - self.clock_ns / 2 + 1e-6:
                raise ViolationError(f"DQ contention: pads drive while the part does (edge {self.n})")
            self.driven = self.now + self.clock_ns / 2

    def _output(self) -> int:
        """A word read at edge n is on the pins from n + CAS - 1 on; the pads take it half a clock later."""
        word = self.reads.pop(self.n + 1, None)
        if word is None:
            return self.dice.randrange(1 << 16)
        if self.driven > self.now + 1e-6:
            raise ViolationError(f"DQ contention: the part drives while pads do (edge {self.n})")
        cas = self.cas or 2
        if self.limits.t_ac[cas] > self.clock_ns / 2:
            raise ViolationError(f"tAC: {self.limits.t_ac[cas]:g} ns, at most {self.clock_ns / 2:g}")
        self.drives = self.now + self.clock_ns + self.limits.t_hz[cas]
        hidden = self.masks[cas - 1]  # two clocks before the end of the word
        noise = self.dice.randrange(1 << 16)
        for byte in range(2):
            if hidden >> byte & 1:
                word = word & ~(0xFF << 8 * byte) | noise & 0xFF << 8 * byte
        return word

    def _periods(self) -> None:
        if self.cas is not None and self.refreshes:
            self.at_most("tREFI", self.last_refresh, self.limits.t_ref / self.limits.rows)
            if self.clock_ns < self.limits.t_ck[self.cas]:
                raise ViolationError(f"tCK: {self.clock_ns:g} ns with CAS latency {self.cas}")
        for bank in range(4):
            if self.rows[bank] is not None:
                self.at_most("tRAS max", self.activated[bank], self.limits.t_ras_max)

    def _order(self, name: str, pins: Pins) -> None:
        """Power up, close all banks, refresh eight times and set the mode; only then all else."""
        if not self.closed_once:
            self.at_least("power up", 0, self.limits.t_power_up)
            if name != "precharge" or not pins.address >> 10 & 1 or pins.mask != 3:
                raise ViolationError(f"initialisation: {name} before all banks are closed, or without the mask")
        elif name in ("activate", "read", "write") and (self.cas is None or self.refreshes < 8):
            raise ViolationError(f"initialisation: {name} after {self.refreshes} refreshes, mode {self.cas}")

    # --- commands ---

    def _closed(self, what: str) -> None:
        if any(row is not None for row in self.rows):
            raise ViolationError(f"bank state: {what} while a row is open")
        for bank in range(4):
            self.at_least("tRP", self.precharged[bank], self.limits.t_rp)

    def _activate(self, pins: Pins) -> None:
        bank = pins.bank
        if self.rows[bank] is not None:
            raise ViolationError(f"bank state: activate of bank {bank}, whose row is open")
        self.at_least("tRP", self.precharged[bank], self.limits.t_rp)
        self.at_least("tRC", self.activated[bank], self.limits.t_rc)
        self.at_least("tRRD", self.last_activate, self.limits.t_rrd_clocks * self.clock_ns)
        self.rows[bank] = pins.address
        self.activated[bank] = self.last_activate = self.now

    def _column(self, pins: Pins) -> tuple[int, int, int]:
        row = self.rows[pins.bank]
        if row is None:
            raise ViolationError(f"bank state: access to bank {pins.bank}, no row of which is open")
        if pins.address >> 10 & 1:
            raise ViolationError("bank state: automatic precharge was not expected")
        if pins.address >> self.column_bits:
            raise ViolationError(f"bank state: column {pins.address} does not exist")
        self.at_least("tRCD", self.activated[pins.bank], self.limits.t_rcd)
        return pins.bank, row, pins.address

    def _read(self, pins: Pins) -> None:
        place = self._column(pins)
        assert self.cas is not None
        if pins.oe:
            raise ViolationError("DQ contention: pads drive with a read")
        self.reads[self.n + self.cas] = self.words.setdefault(place, self.dice.randrange(1 << 16))

    def _write(self, pins: Pins) -> None:
        place = self._column(pins)
        if not pins.oe:
            raise ViolationError("DQ: a write of what nobody drives")
        if any(self.now + self.clock_ns / 2 > (end - 1) * self.clock_ns for end in self.reads):
            raise ViolationError("DQ contention: a word that was read is still to come")
        word = self.words.get(place, self.dice.randrange(1 << 16))
        for byte in range(2):
            if not pins.mask >> byte & 1:
                word = word & ~(0xFF << 8 * byte) | pins.o & 0xFF << 8 * byte
        self.words[place] = word
        self.written[pins.bank] = self.now

    def _precharge(self, pins: Pins) -> None:
        self.closed_once = True
        banks = range(4) if pins.address >> 10 & 1 else [pins.bank]
        for bank in banks:
            if self.rows[bank] is not None:
                self.at_least("tRAS", self.activated[bank], self.limits.t_ras)
                self.at_least("tWR", self.written[bank], self.limits.t_wr_clocks * self.clock_ns)
            self.rows[bank] = None
            self.precharged[bank] = self.now
        # Words that would come later than the CAS latency after this are cut off; with bursts of one there are none.

    def _refresh(self, pins: Pins) -> None:
        self._closed("refresh")
        for bank in range(4):
            self.at_least("tRC", self.activated[bank], self.limits.t_rc)
        self.refreshes += 1
        self.last_refresh = self.now

    def _mode(self, pins: Pins) -> None:
        self._closed("mode")
        burst, interleaved, cas = pins.address & 7, pins.address >> 3 & 1, pins.address >> 4 & 7
        if burst or interleaved or cas not in (2, 3) or pins.address >> 7:
            raise ViolationError(f"mode register: {pins.address:#x} is not a burst of one")
        self.cas = cas
        self.last_mode = self.now

    def _stop(self, pins: Pins) -> None:
        raise ViolationError("bank state: burst stop was not expected")

