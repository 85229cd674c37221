"""ECPIX-5 with an 85F: 100 MHz, USB serial line, four three-coloured lights; docs/boards/ecpix5.md."""

from amaranth_boards.ecpix5 import ECPIX585Platform

from boards.board import Board
from boards.floorplan import ECP5_85F
from rtl.params import preset

__all__ = ["BOARDS"]

BOARDS = (
    Board(name="ecpix5-85f", platform=ECPIX585Platform, geometry=preset("demo"), clock_hz=50e6, loader="ecpix5",
          lights=[("rgb_led", k, "g") for k in range(3)],
          lut_ram_words=64, sites=ECP5_85F, options=("--placer-heap-beta", "0.75")),
)
