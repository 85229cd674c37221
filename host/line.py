"""What a serial line leaves of a chip's speed: images streamed over it, and images that are on the chip already.

The chip is verilated and its bytes are held back as the line would hold them; what is counted are its cycles.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from host.api import PromptChip
from host.backend import LinkBackend
from host.boards_entry import verilated
from host.channels import SimChannel
from host.console import Screen
from host.device import Device
from host.errors import BitlineError
from host.link import Link
from host.placement import Placement

__all__ = ["BAUD", "BITS_OF_A_BYTE", "CLOCK_HZ", "LineSpeed", "line_speed"]

BAUD = 3_000_000
BITS_OF_A_BYTE = 10  # start and stop bits included
CLOCK_HZ = 50_000_000
"""Of the boards' chips (docs/boards)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LineSpeed:
    """Cycles of an image of a placement over the line, streamed and replayed."""

    geometry: str
    streamed: float
    replayed: float

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON holds."""
        return {"geometry": self.geometry, "baud": BAUD, "clock_hz": CLOCK_HZ, "streamed_cycles": self.streamed,
                "replayed_cycles": self.replayed, "streamed_per_second": CLOCK_HZ / self.streamed,
                "replayed_per_second": CLOCK_HZ / self.replayed}


def line_speed(placement: Placement, x: Any, screen: Screen, *, streamed: int) -> LineSpeed:
    """Replay inputs x (N, inputs) over the line, and stream the first of them.

    Nothing is programmed: cycles of a multiplication do not depend on what devices hold.

    Raises
    ------
    BitlineError
        If the chip cannot be verilated, or has no batch memory or too little.
    """
    chip = verilated(placement.geometry, screen.tell)
    channel = SimChannel(PromptChip(chip), cycles=CLOCK_HZ)
    with Device(LinkBackend(Link(channel, placement.geometry))) as device:
        try:
            device.configure(placement)
            device.load(x, progress=screen.progress)
            activations = placement.arrange(placement.quantize(x[:streamed])).astype(np.int64)
            clocks = math.ceil(CLOCK_HZ * BITS_OF_A_BYTE / BAUD)
            chip.pace(rx=clocks, tx=clocks)
            began = chip.cycles
            device.backend.infer(np.arange(streamed), np.zeros(streamed, np.int64), activations,
                                 screen.progress("streaming", streamed))
            middle = chip.cycles
            device.backend.replay(0, np.arange(len(x)), screen.progress("replay", len(x)))
            ended = chip.cycles
        finally:
            chip.close()
    if not began < middle < ended:
        raise BitlineError("the simulated chip counts no cycles")
    return LineSpeed(geometry=placement.geometry.name, streamed=(middle - began) / streamed,
                     replayed=(ended - middle) / len(x))
