"""A board as data, and the design around its chip: clock, reset, serial line, lights.

Each board has a file of its own beside this one, with what fits it; pins come from amaranth_boards.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from amaranth.build import Resource, Subsignal
from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out, connect

from boards.ecp5 import ClockGate, Ecp5Cells, Pll
from boards.floorplan import Sites, floorplan
from boards.sdram import with_pads
from rtl.crossing import CALC
from rtl.params import Geometry
from rtl.sdram import Sdram, SdramPart, attach
from rtl.uart import UartReceiver, UartTransmitter

__all__ = ["Board", "BoardTop", "Pin", "SerialChip"]

Pin = tuple[str, int, str | None]
"""Resource, its number, and the part of it, if it has several."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Board:
    """One board with an ECP5 and a serial line.

    Parameters
    ----------
    name : str
        As in `bitline build NAME`.
    platform : type
        Of amaranth_boards.
    geometry : Geometry
        The chip that fits.
    clock_hz : float
        What the chip runs at.
    lights : sequence of Pin
        At most three: heartbeat of the chip's clock, byte in, byte out.
    loader : str
        The board's name in openFPGALoader.
    baud : int
        Of the serial line.
    resources : sequence of Resource
        What the platform does not have: a serial line on free pins.
    held_high : sequence of Pin
        Outputs that something on the board needs high.
    lut_ram_words : int
        Memories of at most so many words go to LUTs, where block RAM is scarcer than they; 0: synthesis chooses.
    block_ram_words : int
        Memories of at least so many words, at least 16 bits wide and with one reader, go to block RAM, where LUTs are
        scarcer than it; 0: synthesis chooses.
    seed : int
        Of place and route, tried first: where one is known to meet timing, that one.
    router : str
        Of nextpnr, tried first.
    sites : Sites, optional
        Of the device, where the engines need a floorplan (`boards/floorplan.py`).
    options : sequence of str
        Of nextpnr, for all runs.
    sdram : SdramPart, optional
        Where the chip keeps its states; the platform's resource `sdram`.
    """

    name: str
    platform: type[Any]
    geometry: Geometry
    clock_hz: float
    lights: Sequence[Pin]
    loader: str
    baud: int = 3_000_000
    resources: Sequence[Resource] = ()
    held_high: Sequence[Pin] = ()
    lut_ram_words: int = 0
    block_ram_words: int = 0
    seed: int = 1
    router: str = "router1"
    sites: Sites | None = None
    options: Sequence[str] = ()
    sdram: SdramPart | None = None

    def __post_init__(self) -> None:
        geometry = self.geometry
        kept = " and ".join(what for what, there in (("states", geometry.states_in_sdram),
                                                     ("batch", geometry.batch_in_sdram)) if there)
        if kept and not self.sdram:
            raise ValueError(f"{self.name} has no sdram, where {geometry.name} keeps its {kept}")
        if self.sdram and geometry.memory_address_bits > self.sdram.address_bits:
            raise ValueError(f"the sdram of {self.name} has {1 << self.sdram.address_bits:,} words, but {kept} of "
                             f"{geometry.name} take {1 << geometry.memory_address_bits:,}")

    def make_platform(self) -> Any:
        """Return a new platform with the family's own cells: it can build one design only."""
        made = type(self.platform.__name__, (Ecp5Cells, self.platform), {})()
        made.add_resources(self.resources)
        return made

    def make_top(self, chip: Any, *, clock_hz: float | None = None) -> "BoardTop":
        """Return the design around a chip; `clock_hz` in place of the board's own."""
        return BoardTop(board=self, chip=chip, clock_hz=clock_hz or self.clock_hz)

    def floorplan(self) -> dict[str, str]:
        """Return the site of each cell, by its name in `BoardTop`, that is not left to the placer."""
        return floorplan(self.geometry, self.sites, chip="serial.chip") if self.sites else {}


class SerialChip(wiring.Component):
    """A chip at a serial line: what every board without another link needs, and no vendor's primitive.

    Parameters
    ----------
    chip : Component
        Has byte streams `rx` and `tx`.
    clock_hz : float
        Of `sync`.
    baud : int
        Of the line.

    Members
    -------
    rx : In(1)
        Asynchronous, high when idle.
    tx : Out(1)
    """

    def __init__(self, *, chip: Any, clock_hz: float, baud: int):
        self.chip = chip
        self.clock_hz = clock_hz
        self.baud = baud
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()

        m.submodules.receiver = receiver = UartReceiver(clock=self.clock_hz, baud=self.baud)
        m.submodules.transmitter = transmitter = UartTransmitter(clock=self.clock_hz, baud=self.baud)
        m.submodules.chip = chip = self.chip
        m.d.comb += [receiver.pin.eq(self.rx), self.tx.eq(transmitter.pin)]
        connect(m, receiver.o, chip.rx)
        connect(m, chip.tx, transmitter.i)

        return m


class _Pins:
    """The pins of a board: a resource is requested once, whole, and only what gets a buffer takes a pin."""

    def __init__(self, platform: Any):
        self._platform = platform
        self._requested: dict[tuple[str, int], Any] = {}

    def port(self, pin: Pin) -> Any:
        """Return the port of a pin."""
        name, number, part = pin
        if (name, number) not in self._requested:
            parts = [part.name for part in self._platform.lookup(name, number).ios if isinstance(part, Subsignal)]
            self._requested[name, number] = self._platform.request(
                name, number, dir=dict.fromkeys(parts, "-") if parts else "-")
        resource = self._requested[name, number]
        return resource if part is None else getattr(resource, part)


class BoardTop(wiring.Component):
    """The board around a chip: clock, reset, serial line, lights.

    Parameters
    ----------
    board : Board
    chip : Component
        Has byte streams `rx` and `tx`, and a port `sdram` if the board shall give it one.
    clock_hz : float
        What the chip shall run at; the loop comes within 0.1 % of it.
    """

    def __init__(self, *, board: Board, chip: Any, clock_hz: float):
        self.board = board
        self.chip = chip
        crystal = board.platform()
        self.pll = Pll(input_hz=crystal.default_clk_frequency, output_hz=clock_hz, pump=board.geometry.pump)
        self.clock_hz = self.pll.dividers.output_hz
        super().__init__({})

    def elaborate(self, platform):
        m = Module()

        # Registers and memories begin with what the bitstream says; the chip's clock begins when the loop has locked. A
        # reset would be a net to every corner of the device, in the slowest paths there are.
        m.submodules.clock_pin = clock_pin = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
        m.submodules.pll = pll = self.pll
        m.d.comb += pll.clk_in.eq(clock_pin.i)
        self._clock(m, "sync", pll.clk_out)
        if self.board.geometry.pump > 1:
            self._clock(m, CALC, pll.clk_fast)

        pins = _Pins(platform)
        m.submodules.rx_pin = rx_pin = io.Buffer("i", pins.port(("uart", 0, "rx")))
        m.submodules.tx_pin = tx_pin = io.Buffer("o", pins.port(("uart", 0, "tx")))
        m.submodules.serial = serial = SerialChip(chip=self.chip, clock_hz=self.clock_hz, baud=self.board.baud)
        m.d.comb += [serial.rx.eq(rx_pin.i), tx_pin.o.eq(serial.tx)]

        if "sdram" in self.chip.signature.members:
            m.submodules.sdram = sdram = Sdram(part=self.board.sdram, clock_hz=self.clock_hz,
                                               words=self.board.geometry.memory_burst)
            attach(m, self.chip.sdram, sdram)
            with_pads(m, sdram, lambda part: pins.port(("sdram", 0, part)))

        for k, pin in enumerate(self.board.held_high):
            m.submodules[f"held{k}"] = held = io.Buffer("o", pins.port(pin))
            m.d.comb += held.o.eq(1)

        beat = Signal(25)
        m.d.sync += beat.eq(beat + 1)
        lights = [beat[-1], self._stretched(m, "rx_light", self.chip.rx), self._stretched(m, "tx_light", self.chip.tx)]
        for k, (pin, light) in enumerate(zip(self.board.lights, lights, strict=False)):
            m.submodules[f"led{k}"] = led = io.Buffer("o", pins.port(pin))
            m.d.comb += led.o.eq(light)

        return m

    def _clock(self, m, name, clock):
        """Make a clock domain that begins when the loop has locked."""
        raw = ClockDomain(f"raw_{name}", reset_less=True, local=True)
        gated = ClockDomain(name, reset_less=True)
        m.domains += raw, gated
        gate = ClockGate()
        m.submodules[f"gate_{name}"] = gate
        m.submodules[f"lock_{name}"] = FFSynchronizer(self.pll.locked, gate.enable, o_domain=raw.name)
        m.d.comb += [raw.clk.eq(clock), gate.clk_in.eq(clock), gated.clk.eq(gate.clk_out)]

    @staticmethod
    def _stretched(m, name, stream):
        """Return a light that stays on for a moment after each byte."""
        left = Signal(22, name=name)
        with m.If(stream.valid & stream.ready):
            m.d.sync += left.eq(-1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return left != 0
