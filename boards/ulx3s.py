"""ULX3S: an ECP5 with a USB serial line, 25 MHz and eight lights, in four sizes; docs/boards/ulx3s.md."""

import dataclasses

from amaranth_boards.ulx3s import (
    ULX3S_12F_Platform,
    ULX3S_25F_Platform,
    ULX3S_45F_Platform,
    ULX3S_85F_Platform,
)

from boards.board import Board
from boards.floorplan import ECP5_85F
from rtl.params import preset
from rtl.sdram import SdramPart

__all__ = ["BOARDS"]

_SDRAM = SdramPart()
"""32 MB of one of several makers (W9825G6KH, IS42S16160): the slowest of their limits."""

_SMALL = Board(
    name="ulx3s-45f", platform=ULX3S_45F_Platform, geometry=preset("board-small"), clock_hz=50e6, loader="ulx3s",
    lights=[("led", k, None) for k in range(3)],
    # GPIO0 of the radio module selects how it starts, and it can reconfigure the FPGA: held high as in the board's own
    # examples.
    held_high=[("esp32", 0, "gpio0")])

BOARDS = (
    dataclasses.replace(_SMALL, name="ulx3s-85f", platform=ULX3S_85F_Platform, geometry=preset("demo"),
                        lut_ram_words=64, sites=ECP5_85F, options=("--placer-heap-beta", "0.75")),
    dataclasses.replace(_SMALL, name="ulx3s-85f-fast", platform=ULX3S_85F_Platform, geometry=preset("demo-fast"),
                        lut_ram_words=64, sites=ECP5_85F, options=("--placer-heap-beta", "0.75"), sdram=_SDRAM),
    dataclasses.replace(_SMALL, name="ulx3s-85f-sdram", platform=ULX3S_85F_Platform, geometry=preset("demo-sdram"),
                        lut_ram_words=64, sites=ECP5_85F, options=("--placer-heap-beta", "0.75"), sdram=_SDRAM),
    _SMALL,
    # The 25F and the 12F are one die, of which the open flow uses all.
    dataclasses.replace(_SMALL, name="ulx3s-25f", platform=ULX3S_25F_Platform, block_ram_words=16),
    dataclasses.replace(_SMALL, name="ulx3s-12f", platform=ULX3S_12F_Platform, block_ram_words=16),
)
