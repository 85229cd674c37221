"""IcePi Zero: an ECP5 25F in the shape of a small computer, 50 MHz, USB serial line; docs/boards/icepi-zero.md."""

from amaranth_boards.icepi_zero import IcepiZero1_3Platform

from boards.board import Board
from rtl.params import preset

__all__ = ["BOARDS"]

BOARDS = (
    Board(name="icepi-zero", platform=IcepiZero1_3Platform, geometry=preset("board-small"), clock_hz=50e6,
          loader="icepi-zero", lights=[("led", k, None) for k in range(3)], block_ram_words=16),
)
