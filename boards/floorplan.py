"""Where the block RAMs and multipliers of the engines go: a placer that is free to move them scatters them.

An engine is a chain, so its groups lie along a path, each group's multipliers beside its weights. Each engine has a
strip of the device to itself, at its left or right edge, with the states of its devices in the block RAMs that its
weights leave over; both ends of the chain lie at the inner edge of the strip, where the rest of the engine finds room.
What belongs to no engine has the middle.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from rtl.params import Geometry
from rtl.state_memory import StateMemory

__all__ = ["ECP5_85F", "Sites", "floorplan"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sites:
    """The hard blocks of a device: `columns` of blocks, each of four multipliers or four block RAMs.

    A row of multipliers has the row of block RAMs of the same index nearest to it.
    """

    columns: Sequence[int]
    multiplier_rows: Sequence[int]
    memory_rows: Sequence[int]

    def multiplier(self, column: int, row: int, k: int) -> str:
        """Return the site of multiplier `k`, 0 to 3, of a block."""
        offset = (0, 1, 4, 5)[k]
        return f"X{self.columns[column] + offset}/Y{self.multiplier_rows[row]}/MULT18_{offset}"

    def memory(self, column: int, row: int, k: int) -> str:
        """Return the site of block RAM `k`, 0 to 3, of a block."""
        return f"X{self.columns[column] + 2 * k}/Y{self.memory_rows[row]}/EBR{k}"


ECP5_85F = Sites(columns=(4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114), multiplier_rows=(10, 34, 58),
                 memory_rows=(22, 46, 70, 82))
"""As in the database of the open flow, for the 85F in any package."""


_FEW_FIRST = (0, 2, 1, 3)
"""Block RAMs of a block in the order in which groups take them: all four beside four multipliers crowd the wires."""

_WHOLE_WORDS = 512
"""Words of a group's weights that one block RAM has room for; twice as many take two, and four times as many four."""


def floorplan(geometry: Geometry, sites: Sites, *, chip: str) -> dict[str, str]:
    """Return the site of each cell by name.

    Parameters
    ----------
    geometry : Geometry
        Two engines of W = 4, each with at most as many groups as its strip has blocks of multipliers; states of at most
        9 bits, so that a bank is one block RAM.
    sites : Sites
    chip : str
        Where the chip is in the hierarchy.

    Raises
    ------
    ValueError
        If a strip is too small.
    """
    return {f"{chip}.core{engine}.{cell}": site
            for engine, strip in enumerate(_strips(geometry, sites)) for cell, site in _engine(geometry, sites, strip)}


def _strips(geometry: Geometry, sites: Sites) -> Iterator[list[int]]:
    """Yield the block columns of each engine, from its inner edge outwards."""
    width = -(-(geometry.groups - geometry.soft_groups) // len(sites.multiplier_rows))
    count = len(sites.columns)
    in_block = not geometry.states_in_sdram
    if geometry.engines != 2 or geometry.transport != 4 or (in_block and geometry.state_bits > 9) \
            or 2 * width > count:
        raise ValueError(f"no floorplan for {geometry.engines} engines of {geometry.groups} groups of "
                         f"{geometry.transport} multipliers with states of {geometry.state_bits} bits: two engines "
                         f"of groups of 4 multipliers in {count // 2} columns fit, with states of 9 bits")
    yield list(range(width - 1, -1, -1))
    yield list(range(count - width, count))


def _engine(geometry: Geometry, sites: Sites, strip: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Yield names within a core, and sites."""
    free = [(column, row, k) for column in strip for row in range(len(sites.memory_rows)) for k in range(4)]
    blocks = list(_path(sites, strip))
    hard = 0
    for index in range(geometry.groups):
        group = f"tile.engine.group_{index}"
        soft = geometry.soft(index)
        column, row = blocks[max(0, hard - soft)]  # multipliers of logic: beside the block before
        if not soft:
            hard += 1
            for k in range(4):
                yield f"{group}.multiplier_{k}.cell", sites.multiplier(column, row, k)
        parts = min(4, -(-geometry.net_words // _WHOLE_WORDS))
        for first in range(0, 4, 4 // parts):
            place = min(free, key=lambda site: (abs(site[0] - column), abs(site[1] - row), _FEW_FIRST.index(site[2])))
            free.remove(place)
            yield f"{group}.weights.cell_{first}", sites.memory(*place)
    banks = [f"programming.array.states_{device}.bank_{k}.cell_0"
             for k in range(StateMemory.banks_of(geometry.cells))
             for device in range(geometry.devices) if not geometry.states_in_sdram]
    if len(banks) > len(free):
        raise ValueError(f"{len(banks)} banks of states do not fit the {len(free)} block RAMs left in a strip")
    yield from zip(banks, (sites.memory(*place) for place in free), strict=False)


def _path(sites: Sites, strip: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield blocks of multipliers, out along the first row and back in a zigzag over the others."""
    first, *others = range(len(sites.multiplier_rows))
    yield from ((column, first) for column in strip)
    for turn, column in enumerate(reversed(strip)):
        yield from ((column, row) for row in (others if turn % 2 == 0 else others[::-1]))
