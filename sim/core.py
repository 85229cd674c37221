"""An engine's unit: the tiles that share the engine, their programming, and their registers."""

from collections.abc import Callable

import numpy as np

from rtl.params import EngineRegion, Geometry
from rtl.params.registers import CONTEXT_STRIDE, Register, fields
from sim.fixed import Ints
from sim.message import Message
from sim.passage import Course
from sim.programming import Programming
from sim.tile import Tiles

__all__ = ["Core"]

_SETTINGS = {register.offset: register for register in fields("engine", EngineRegion.REGISTERS)}
_RECORD = {register.offset: register for register in fields("engine", EngineRegion.CONTEXTS)}
_COUNTERS = {register.offset: register for register in fields("engine", EngineRegion.COUNTERS)}


def stored(register: Register, value: int) -> int:
    """Return what a register keeps of a written 32-bit word."""
    value &= (1 << register.bits) - 1
    return value - (1 << register.bits) if register.signed and value >> (register.bits - 1) else value


class Core:
    """Register-accurate twin of `rtl/core.py`; vectors pass in batches."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.tiles = Tiles(geometry)
        self.settings = self.tiles.settings
        self.records = self.tiles.records
        self.programming = Programming(geometry, settings=self.settings, records=self.records, tiles=self.tiles)

    def accept(self, *messages: Message) -> list[Message]:
        """Return the partial sums of batches of vectors."""
        return self.tiles.accept(*messages)

    def course(self, messages: list[Message]) -> Course | None:
        """Return what `accept` does with messages, if that can be kept."""
        return self.tiles.course(messages)

    def read(self, region: int, offset: int) -> int:
        """Return one register."""
        return self._reader(region)(region, offset)

    def _reader(self, region: int) -> Callable[[int, int], int]:
        match region:
            case EngineRegion.COLUMNS | EngineRegion.INPUTS:
                return self.tiles.read
            case (EngineRegion.TABLES | EngineRegion.TARGETS | EngineRegion.OUTCOMES | EngineRegion.STATES
                  | EngineRegion.WEAR):
                return self.programming.read
            case _:
                return self._read_own

    def _read_own(self, region: int, offset: int) -> int:
        match region:
            case EngineRegion.REGISTERS if offset in _SETTINGS:
                return self.settings[_SETTINGS[offset].name] & 0xFFFFFFFF
            case EngineRegion.CONTEXTS:
                context, field = divmod(offset, CONTEXT_STRIDE)
                if context < len(self.records) and field in _RECORD:
                    return self.records[context][_RECORD[field].name] & 0xFFFFFFFF
            case EngineRegion.COUNTERS if (register := _COUNTERS.get(offset & ~1)) is not None:
                return self.counters()[register.name] >> (32 * (offset & 1)) & 0xFFFFFFFF
        return 0

    def write(self, region: int, offset: int, value: int) -> None:
        """Write one register; an operation runs to its end."""
        match region:
            case EngineRegion.COLUMNS | EngineRegion.INPUTS:
                self.tiles.write(region, offset, value)
            case (EngineRegion.TABLES | EngineRegion.TARGETS | EngineRegion.OUTCOMES | EngineRegion.STATES
                  | EngineRegion.WEAR):
                self.programming.write(region, offset, value)
            case EngineRegion.REGISTERS if offset == 0:
                self.programming.write(region, offset, value)
            case EngineRegion.REGISTERS if offset in _SETTINGS:
                self.settings[_SETTINGS[offset].name] = stored(_SETTINGS[offset], value)
            case EngineRegion.CONTEXTS:
                context, field = divmod(offset, CONTEXT_STRIDE)
                if context < len(self.records) and field in _RECORD:
                    self.records[context][_RECORD[field].name] = stored(_RECORD[field], value)

    def counters(self) -> dict[str, int]:
        """Return every counter by name; those of board time are 0."""
        return {"busy": 0} | self.tiles.counters | self.programming.counters

    def program_rows(self, context: int, rows: Ints, targets: Ints) -> Ints:
        """Return the OUTCOMES (len(rows), columns) of write-verifying `rows` to `targets` (g16), one after another."""
        return np.asarray(self.programming.program_rows(context, rows, targets))

    def probe_rows(self, context: int, rows: Ints, count: int) -> Ints:
        """Return the sums of codes (len(rows), columns) of a PROBE of `count` rows from each of `rows` on."""
        return np.asarray(self.programming.probe_rows(context, rows, count))
