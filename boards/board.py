"""ULX3S: an ECP5 with a USB serial line, 25 MHz and eight lights. Pins come from amaranth_boards.

docs/boards/ulx3s.md tells what fits, and how to load it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out, connect

from boards.ecp5 import ClockGate, Ecp5Cells, Pll
from boards.floorplan import ECP5_85F, Sites, floorplan
from rtl.params import Geometry, preset
from rtl.uart import UartReceiver, UartTransmitter

__all__ = ["BOARDS", "Board", "SerialChip", "Ulx3sTop", "board"]

CRYSTAL_HZ = 25e6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Board:
    """One board as data.

    Parameters
    ----------
    name : str
        As in `bitline build NAME`.
    platform : str
        The class in `amaranth_boards.ulx3s`.
    geometry : Geometry
        The chip that fits.
    clock_hz : float
        What the chip runs at.
    baud : int
        Of the serial line.
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
    """

    name: str
    platform: str
    geometry: Geometry
    clock_hz: float
    baud: int = 3_000_000
    lut_ram_words: int = 0
    block_ram_words: int = 0
    seed: int = 1
    router: str = "router1"
    sites: Sites | None = None
    options: Sequence[str] = ()

    def make_platform(self) -> Any:
        """Return a new platform with the family's own cells: it can build one design only."""
        import amaranth_boards.ulx3s

        return type(self.platform, (Ecp5Cells, getattr(amaranth_boards.ulx3s, self.platform)), {})()

    def floorplan(self) -> dict[str, str]:
        """Return the site of each cell, by its name in `Ulx3sTop`, that is not left to the placer."""
        return floorplan(self.geometry, self.sites, chip="serial.chip") if self.sites else {}


BOARDS = {
    entry.name: entry
    for entry in (
        Board(name="ulx3s-85f", platform="ULX3S_85F_Platform", geometry=preset("demo"), clock_hz=50e6,
              lut_ram_words=64, sites=ECP5_85F, options=("--placer-heap-beta", "0.75")),
        Board(name="ulx3s-45f", platform="ULX3S_45F_Platform", geometry=preset("board-small"), clock_hz=50e6),
        Board(name="ulx3s-12f", platform="ULX3S_12F_Platform", geometry=preset("board-small"), clock_hz=50e6,
              block_ram_words=16),
    )
}
"""Boards by name."""


def board(name: str) -> Board:
    """Return a board, or raise ValueError that lists the names."""
    if name not in BOARDS:
        raise ValueError(f"unknown board {name!r}: choose from {', '.join(BOARDS)}")
    return BOARDS[name]


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


class Ulx3sTop(wiring.Component):
    """The board around a chip: clock, reset, serial line, lights.

    Lights from the right: heartbeat of the chip's clock, byte in, byte out.

    Parameters
    ----------
    chip : Component
        Has byte streams `rx` and `tx`.
    clock_hz : float
        What the chip shall run at; the loop comes within 0.1 % of it.
    baud : int
        Of the serial line.
    """

    def __init__(self, *, chip: Any, clock_hz: float, baud: int):
        self.chip = chip
        self.pll = Pll(input_hz=CRYSTAL_HZ, output_hz=clock_hz)
        self.clock_hz = self.pll.dividers.output_hz
        self.baud = baud
        super().__init__({})

    def elaborate(self, platform):
        m = Module()

        # Registers and memories begin with what the bitstream says; the chip's clock begins when the loop has locked. A
        # reset would be a net to every corner of the device, in the slowest paths there are.
        m.domains.raw = raw = ClockDomain(reset_less=True, local=True)
        m.domains.sync = sync = ClockDomain(reset_less=True)
        m.submodules.clock_pin = clock_pin = io.Buffer("i", platform.request("clk25", dir="-"))
        m.submodules.pll = pll = self.pll
        m.submodules.gate = gate = ClockGate()
        m.submodules.lock = FFSynchronizer(pll.locked, gate.enable, o_domain="raw")
        m.d.comb += [
            pll.clk_in.eq(clock_pin.i), raw.clk.eq(pll.clk_out), gate.clk_in.eq(pll.clk_out), sync.clk.eq(gate.clk_out),
        ]

        unused = {"rts": "-", "dtr": "-"}
        uart = platform.request("uart", 0, dir={"rx": "-", "tx": "-", **unused})
        m.submodules.rx_pin = rx_pin = io.Buffer("i", uart.rx)
        m.submodules.tx_pin = tx_pin = io.Buffer("o", uart.tx)
        m.submodules.serial = serial = SerialChip(chip=self.chip, clock_hz=self.clock_hz, baud=self.baud)
        m.d.comb += [serial.rx.eq(rx_pin.i), tx_pin.o.eq(serial.tx)]

        # Held high as the board's own examples do: it selects how the radio module starts, and the module can
        # reconfigure the FPGA.
        radio = platform.request("esp32", 0, dir=dict.fromkeys(
            ("en", "tx", "rx", "gpio0", "gpio5", "gpio16", "gpio17"), "-"))
        m.submodules.radio_pin = radio_pin = io.Buffer("o", radio.gpio0)
        m.d.comb += radio_pin.o.eq(1)

        beat = Signal(25)
        m.d.sync += beat.eq(beat + 1)
        lights = [beat[-1], self._stretched(m, "rx_light", self.chip.rx), self._stretched(m, "tx_light", self.chip.tx)]
        for k, light in enumerate(lights):
            m.submodules[f"led{k}"] = led = io.Buffer("o", platform.request("led", k, dir="-"))
            m.d.comb += led.o.eq(light)

        return m

    @staticmethod
    def _stretched(m, name, stream):
        """Return a light that stays on for a moment after each byte."""
        left = Signal(22, name=name)
        with m.If(stream.valid & stream.ready):
            m.d.sync += left.eq(-1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return left != 0
