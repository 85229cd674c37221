"""A controller and a part that checks its limits, behind whatever keeps something in SDRAM."""

import dataclasses

from rtl.sdram import Sdram, SdramPart, attach
from tests.rtl.sdram_chip import W9825G6KH_6, Pins, SdramChip

__all__ = ["PADS", "Part", "with_part"]

PADS = ("ras", "cas", "we", "bank", "address", "mask", "o", "oe")
_CLOCK_HZ = 50e6
_POWER_UP = 1000.0


class Part:
    """A part at the pins of a controller."""

    def __init__(self, controller: Sdram):
        self.pins = controller.pins
        limits = dataclasses.replace(W9825G6KH_6, t_power_up=_POWER_UP)
        self.chip = SdramChip(limits, 1e9 / _CLOCK_HZ, controller.part.column_bits)

    async def bench(self, ctx):
        """Be the part, for ever."""
        word = 0
        while True:
            _, _, *values = await ctx.tick().sample(*(getattr(self.pins, name) for name in PADS))
            ctx.set(self.pins.i, word)
            word = self.chip.edge(Pins(**dict(zip(PADS, values, strict=True))))


def with_part(m, memory) -> Part:
    """Add a controller for a memory port to a module; return the part whose `bench` must run beside it."""
    m.submodules.sdram = controller = Sdram(part=SdramPart(t_power_up=_POWER_UP), clock_hz=_CLOCK_HZ, words=128)
    attach(m, memory, controller)
    return Part(controller)
