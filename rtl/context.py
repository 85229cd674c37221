"""What an engine's parts share: its settings and the records of its contexts (tiles)."""

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.params.registers import EngineRegion, fields

__all__ = ["ContextLookup", "context_layout", "settings_layout"]


def _layout(region: EngineRegion) -> data.StructLayout:
    shape: dict[str, Shape] = {
        register.name: signed(register.bits) if register.signed else unsigned(register.bits)
        for register in fields("engine", region)
    }
    return data.StructLayout(shape)


settings_layout = _layout(EngineRegion.REGISTERS)
"""Every register of an engine as a field of its own name (`operation` reads 0)."""

context_layout = _layout(EngineRegion.CONTEXTS)
"""The record of one context, a field a register."""


class ContextLookup(wiring.Signature):
    """Seen from the reader: `record` is that of the `index` of the clock before."""

    def __init__(self):
        super().__init__({"index": Out(6), "record": In(context_layout)})
