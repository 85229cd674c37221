"""What a device must be able to do, and the two ways to do it: the numpy model and a link to a real or simulated chip.

Everything goes through the register map. The model overrides what is slow register by register; a test holds that both
ways give the same.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from host.errors import BitlineError
from rtl.params import EngineOperation, EngineRegion, Geometry
from rtl.params.registers import register
from sim.chip import Chip
from sim.fixed import Ints

__all__ = ["Backend", "LinkBackend", "LinkLike", "ModelBackend", "Report"]

Report = Callable[[int], None]
"""Told how many more items are done."""

_HEAD = struct.Struct("<IIH")


class Backend(Protocol):
    """Registers of a chip, and the two operations that come in bulk."""

    geometry: Geometry

    def read(self, unit: int, region: int, offset: int, count: int = 1) -> Ints:
        """Return `count` words from `offset` on, unsigned."""

    def write(self, unit: int, region: int, offset: int, values: Sequence[int] | Ints) -> None:
        """Write words from `offset` on."""

    def program_rows(self, unit: int, context: int, targets: Ints, report: Report) -> Ints:
        """Write-verify all rows of a context to `targets` (rows, columns), g16; return their OUTCOMES."""

    def infer(self, events: Ints, times: Ints, activations: Ints, report: Report) -> tuple[Ints, Ints]:
        """Return (elements (N, M), times (N,)) of vectors (N, inputs) with their events and times (ps)."""

    def cycles(self) -> int | None:
        """Return the clock cycles since power-up, or None where no clock runs."""

    def close(self) -> None:
        """Let go of the device."""


class ModelBackend:
    """The numpy model in this process."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.chip = Chip(geometry)

    def read(self, unit: int, region: int, offset: int, count: int = 1) -> Ints:
        """Return `count` words from `offset` on, unsigned."""
        return np.array([self.chip.read(unit, region, offset + k) for k in range(count)], np.int64)

    def write(self, unit: int, region: int, offset: int, values: Sequence[int] | Ints) -> None:
        """Write words from `offset` on."""
        for k, value in enumerate(np.asarray(values, np.int64).tolist()):
            self.chip.write(unit, region, offset + k, value & 0xFFFFFFFF)

    def program_rows(self, unit: int, context: int, targets: Ints, report: Report) -> Ints:
        """Write-verify all rows of a context at once, which is the same as row by row."""
        outcomes = self.chip.cores[unit - 1].program_rows(context, np.arange(len(targets)), targets)
        report(len(targets))
        return outcomes

    def infer(self, events: Ints, times: Ints, activations: Ints, report: Report) -> tuple[Ints, Ints]:
        """Return (elements (N, M), times (N,))."""
        result = self.chip.infer(events, times, activations)
        report(len(events))
        return result

    def cycles(self) -> int | None:
        """Return None: the model has no clock."""
        return None

    def close(self) -> None:
        """Nothing to let go of."""


class LinkLike(Protocol):
    """What `LinkBackend` needs of `host.link.Link`: requests, several of them unanswered at once."""

    def read(self, address: int, count: int = 1, step: int = 1) -> list[int]: ...
    def write(self, address: int, words: Sequence[int], step: int = 1) -> None: ...
    def close(self) -> None: ...
