"""Programming of one engine, register by register: device states, write-verify and ageing.

The twin of `rtl/programming.py`. What stands outside is the tiles' side: verify reads go through it, nets end in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rtl.params import EngineOperation, EngineRegion, Geometry, Purpose, Table
from rtl.params.registers import register
from sim.array import Array, Pulses
from sim.fixed import Ints
from sim.tile import Drive, context_of
from sim.write_verify import WriteVerify

__all__ = ["Programming", "TilePort"]

_PROBE_ROWS = 64  # at a time, to keep the arrays of a probe small
_CELLS = 1 << 14  # programmed at a time, to keep their arrays in the cache


class TilePort(Protocol):
    """What programming needs of the tiles of its engine."""

    def read_rows(self, context: int, rows: Ints, purpose: Purpose, events: Ints, drive: Drive) -> NDArray[Any]:
        """Return the codes (len(rows), columns) of one read for each entry of `rows` and `events`."""

    def set_nets(self, context: int, nets: Ints, rows: Any = ...) -> None:
        """Take the nets (rows, columns) of a context, of which `rows` are written, or all."""

    def set_constants(self, name: str, first: int, values: Ints) -> None:
        """Set column constants from column `first` on; ageing sets `noise`."""


class Programming:
    """Device states of one engine and the operations on them.

    Parameters
    ----------
    settings : mapping
        The engine's registers by name; the caller keeps it up to date.
    records : sequence of mappings
        The records of its contexts.
    tiles : TilePort
    """

    def __init__(self, geometry: Geometry, *, settings: Mapping[str, int], records: Sequence[Mapping[str, int]],
                 tiles: TilePort) -> None:
        self.geometry = geometry
        self.settings = settings
        self.records = records
        self.tiles = tiles
        self.array = Array(geometry)
        self.controller = WriteVerify(geometry)
        self.targets = np.zeros(geometry.columns, np.int64)
        self._outcomes = np.zeros(geometry.columns, np.int64)
        self._totals = np.zeros(geometry.columns, np.int64)
        self._probed = False
        self._nets: dict[int, Ints] = {}

    @property
    def counters(self) -> dict[str, int]:
        """Programming pulses, and devices aged."""
        return {"pulses": self.array.pulses, "aged": self.array.aged}

    @property
    def outcomes(self) -> Ints:
        """The OUTCOMES region: of the last row programmed, or of the last probe."""
        return self._totals if self._probed else self._outcomes

    def read(self, region: int, offset: int) -> int:
        """Return one word of TARGETS, OUTCOMES, STATES or WEAR; others, and those that do not exist, are 0."""
        if region in (EngineRegion.STATES, EngineRegion.WEAR):
            cell, pair = divmod(offset, self.geometry.pairs)
            if cell >= self.geometry.cells:
                return 0
            memory, _ = self._memory(region)
            plus, minus = memory[cell, 2 * pair:2 * pair + 2]
            return int(minus << 16 | plus)
        if offset < self.geometry.columns:
            if region == EngineRegion.TARGETS:
                return int(self.targets[offset]) & 0xFFFFFFFF
            if region == EngineRegion.OUTCOMES:
                return int(self.outcomes[offset]) & 0xFFFFFFFF
        return 0

    def write(self, region: int, offset: int, value: int) -> None:
        """Write one word; the operation register runs an operation to its end."""
        match region:
            case EngineRegion.REGISTERS if offset == 0:
                self._operate(value & 3)
            case EngineRegion.TABLES if offset < len(Table) << 8:
                self.array.tables[offset >> 8, offset & 0xFF] = value & 0xFFFF
            case EngineRegion.TARGETS if offset < self.geometry.columns:
                self.targets[offset] = _signed_target(value)
            case EngineRegion.STATES | EngineRegion.WEAR:
                cell, pair = divmod(offset, self.geometry.pairs)
                if cell < self.geometry.cells:
                    memory, bits = self._memory(region)
                    mask = (1 << bits) - 1
                    memory[cell, 2 * pair:2 * pair + 2] = value & mask, value >> 16 & mask

    def _memory(self, region: int) -> tuple[Ints, int]:
        """Return what the emulation port reads and writes, (cells, devices), and its bits."""
        if region == EngineRegion.STATES:
            return self.array.states, self.geometry.state_bits
        return self.array.wear, self.geometry.wear_bits

    def _operate(self, operation: int) -> None:
        context = context_of(self.geometry, self.settings["context"])
        match operation:
            case EngineOperation.PROGRAM:
                columns = self.records[context]["columns"]
                self.program_rows(context, np.array([self.settings["row"]]), self.targets[None, :columns])
            case EngineOperation.PROBE:
                self.probe_rows(context, np.array([self.settings["row"]]), self.settings["row_count"])
            case EngineOperation.AGE:
                self.age(context)

    def program_rows(self, context: int, rows: Ints, targets: Ints) -> Ints:
        """Write-verify `rows` (all different) to net `targets` (len(rows), columns), g16.

        Registers end as if the rows had been programmed one after the other. Returns the OUTCOMES of each row,
        (len(rows), columns).
        """
        rows, targets = np.asarray(rows, np.int64), _signed_target(np.asarray(targets, np.int64))
        columns = self.records[context]["columns"]
        if targets.shape != (len(rows), columns):
            raise ValueError(f"targets must be ({len(rows)}, {columns}), not {targets.shape}")
        if len(np.unique(rows)) < len(rows):
            raise ValueError("rows must differ from each other")
        if not len(rows):
            return targets
        parts = range(max(1, _CELLS // columns), len(rows), max(1, _CELLS // columns))
        words = np.concatenate([self._program(context, *part)
                                for part in zip(np.split(rows, parts), np.split(targets, parts), strict=True)])
        self.targets[:columns], self._outcomes[:columns], self._probed = targets[-1], words[-1], False
        return words

    def _program(self, context: int, rows: Ints, targets: Ints) -> Ints:
        """Return the OUTCOMES of rows that are programmed at once."""
        tally = self.controller.program(
            self.settings, rows, targets,
            lambda *request: self._pulse(context, *request),
            lambda *request: self.tiles.read_rows(context, *request))
        return tally.words()

    def _pulse(self, context: int, rows: Ints, pulses: Pulses, iteration: int) -> None:
        record = self.records[context]
        self.array.pulse(self.settings, record, rows, pulses, iteration)
        nets = self._nets.get(context)
        shape = (record["rows"], record["columns"])
        if nets is None or nets.shape != shape:
            nets = self._nets[context] = np.zeros(shape, np.int64)
        nets[rows] = self.array.nets(record, rows)
        self.tiles.set_nets(context, nets, rows)

    def probe_rows(self, context: int, rows: Ints, count: int) -> Ints:
        """Return the sums of codes (len(rows), columns) of a PROBE of `count` rows from each of `rows` on.

        Registers end as after the last of them.
        """
        columns = self.records[context]["columns"]
        self._probed = True
        if not count or not len(rows):
            return np.zeros((len(rows), columns), np.int64)
        every = np.add.outer(rows, np.arange(count)).ravel()
        sums = np.concatenate([
            self.controller.probe(self.settings, part, lambda *request: self.tiles.read_rows(context, *request))
            for part in np.split(every, range(_PROBE_ROWS, len(every), _PROBE_ROWS))])
        totals: Ints = sums.reshape(len(rows), count, columns).sum(axis=1)
        self._totals[:columns] = totals[-1]
        self._outcomes[:columns] = (sums[-1] & 0xFFFF) << 16 | self._outcomes[:columns] & 0xFFFF
        return totals

    def age(self, context: int) -> None:
        """Recompute nets and column noise constants of a context at the age in the registers."""
        record = self.records[context]
        nets, noise = self.array.age(self.settings, record)
        nets = np.ascontiguousarray(nets)
        self._nets[context] = nets
        self.tiles.set_nets(context, nets)
        base = record["column_base"]
        self.tiles.set_constants("noise", base, noise)


def _signed_target(value: Any) -> Any:
    """Return what the TARGETS register keeps of a value."""
    bits = register("engine", EngineRegion.TARGETS, "target").bits
    low = value & ((1 << bits) - 1)
    return low - ((low >> (bits - 1)) << bits)
