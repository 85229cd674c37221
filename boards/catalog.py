"""All boards by name."""

from boards import ecpix5, icepi_zero, orangecrab, ulx3s
from boards.board import Board

__all__ = ["BOARDS", "board"]

BOARDS = {entry.name: entry for family in (ulx3s, orangecrab, ecpix5, icepi_zero) for entry in family.BOARDS}


def board(name: str) -> Board:
    """Return a board, or raise ValueError that lists the names."""
    if name not in BOARDS:
        raise ValueError(f"unknown board {name!r}: choose from {', '.join(BOARDS)}")
    return BOARDS[name]
