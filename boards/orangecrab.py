"""OrangeCrab r0.2 with an 85F: 48 MHz, serial line on pins 0 and 1; docs/boards/orangecrab.md."""

from amaranth.build import Attrs
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_85FPlatform
from amaranth_boards.resources import UARTResource

from boards.board import Board
from boards.floorplan import ECP5_85F
from rtl.params import preset

__all__ = ["BOARDS"]

BOARDS = (
    Board(name="orangecrab-85f", platform=OrangeCrabR0_2_85FPlatform, geometry=preset("demo"), clock_hz=48e6,
          loader="orangeCrab", lights=[("rgb_led", 0, colour) for colour in ("g", "b", "r")],
          # Its USB is wired to the FPGA itself: a serial adapter at 3.3 V goes to the pins that a Feather has for it.
          resources=[UARTResource(0, rx="0", tx="1", conn=("io", 0), attrs=Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"))],
          lut_ram_words=64, sites=ECP5_85F, options=("--placer-heap-beta", "0.75")),
)
