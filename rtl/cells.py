"""The emulation port's way to what is kept of the devices of a cell."""

from amaranth.hdl import unsigned
from amaranth.lib import data
from amaranth.utils import bits_for

from rtl.params import Geometry

__all__ = ["CellAccess"]


class CellAccess(data.StructLayout):
    """The values (`bits` wide) of the devices of a cell: read always, written where `mask` names a device.

    `cell` is a place in the engine's block RAM, which holds few cells where all are in SDRAM (`rtl/state_store.py`).
    """

    def __init__(self, geometry: Geometry, bits: int):
        super().__init__({
            "cell": bits_for(geometry.window_cells - 1), "mask": geometry.devices,
            "values": data.ArrayLayout(unsigned(bits), geometry.devices),
        })
