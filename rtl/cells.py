"""The emulation port's way to what is kept of the devices of a cell."""

from amaranth.hdl import unsigned
from amaranth.lib import data
from amaranth.utils import bits_for

from rtl.params import Geometry

__all__ = ["CellAccess"]


class CellAccess(data.StructLayout):
    """The values (`bits` wide) of the devices of a cell: read always, written where `mask` names a device."""

    def __init__(self, geometry: Geometry, bits: int):
        super().__init__({
            "cell": bits_for(geometry.cells - 1), "mask": geometry.devices,
            "values": data.ArrayLayout(unsigned(bits), geometry.devices),
        })
