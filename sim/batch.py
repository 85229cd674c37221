"""The batch as the model sees it: vectors that were loaded once, and the replay that takes them from there."""

import numpy as np
from numpy.typing import NDArray

from rtl.params import BATCH_BUS_WORDS_MAX, Geometry, PortRegion
from rtl.params.registers import REGION_SHIFT, register
from sim.fixed import Ints

__all__ = ["Batch"]

_BUS_ELEMENTS = 4
_REGIONS = range(PortRegion.BATCH, PortRegion.BATCH + (BATCH_BUS_WORDS_MAX >> REGION_SHIFT))

_REGISTERS = {known.offset: known for known in (
    register("port", PortRegion.REGISTERS, name)
    for name in ("room", "vector_words", "replay_word", "replay_event", "replay"))}


class Batch:
    """Twin of `rtl/batch.py`; a build without batch memory keeps nothing and replays nothing.

    Attributes
    ----------
    words : (batch_words, W) activations, int8
    registers : what each holds, by name
    outstanding : vectors replayed whose results have not been taken; the port counts them off
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.words = np.zeros((geometry.batch_words, geometry.transport), np.int8)
        self.registers = {known.name: 0 for known in _REGISTERS.values()}
        if geometry.batch_words:
            self.registers["room"] = 1
        self.outstanding = 0
        self._begun = False

    def write(self, region: int, offset: int, value: int) -> None:
        """Write a register or four activations; anything else is ignored."""
        if not len(self.words):
            return
        if region in _REGIONS:
            place = (region - PortRegion.BATCH << REGION_SHIFT) + offset
            word, part = divmod(place, self.geometry.batch_parts)
            if word < len(self.words):
                first = part * _BUS_ELEMENTS
                elements = np.frombuffer(value.to_bytes(4, "little"), np.int8)
                here = self.words[word, first:first + _BUS_ELEMENTS]
                here[:] = elements[:len(here)]
        elif region == PortRegion.REGISTERS and offset in _REGISTERS:
            known = _REGISTERS[offset]
            self.registers[known.name] = value & ((1 << known.bits) - 1)
            if known.name == "replay" and not self.registers["replay"]:
                self.stop()

    def read(self, offset: int) -> int:
        """Read a register; any other place reads as 0."""
        return self.registers[_REGISTERS[offset].name] if offset in _REGISTERS else 0

    def stop(self) -> None:
        """Start no vector any more."""
        self.registers["replay"] = 0
        self._begun = False

    @property
    def busy(self) -> bool:
        """True if a replay waits, runs, or has results outstanding: nobody else may send."""
        return self.registers["replay"] > 0 or (self._begun and self.outstanding > 0)

    def due(self) -> int:
        """Return how many vectors start now, if nobody else has results outstanding."""
        registers = self.registers
        if not self._begun and self.outstanding:
            return 0
        room = min(registers["room"], self.geometry.result_vectors)
        return max(0, min(registers["replay"], room - self.outstanding))

    def start(self, count: int) -> tuple[Ints, NDArray[np.int8]]:
        """Return events (count,) and activations (count, vector_words * W) of the next vectors."""
        registers = self.registers
        size, event = registers["vector_words"], registers["replay_event"]
        words = (registers["replay_word"] + np.arange(count * size)) % len(self.words)
        registers["replay_word"] = (registers["replay_word"] + count * size) % (1 << _bits("replay_word"))
        registers["replay_event"] = (event + count) % (1 << _bits("replay_event"))
        registers["replay"] -= count
        self.outstanding += count
        self._begun = True
        return (event + np.arange(count)) & 0xFFFFFFFF, self.words[words].reshape(count, -1)


def _bits(name: str) -> int:
    return register("port", PortRegion.REGISTERS, name).bits
