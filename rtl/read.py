"""The verify read port: how write-verify sees an array, through the same DAC, crossbar and ADC that inference uses."""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.params import ACTIVATION_BITS, EVENT_BITS, Geometry

__all__ = ["Drive", "ReadRequest", "ReadSignature", "read_response_layout"]


class Drive(data.Struct):
    """What a read drives, and its range.

    Row `row` alone with a pulse of `ticks` (signed); or with `dense` every row r of the tile, with its sign changed
    where r & `row` has odd parity. A dense read has the noise of inference, others that of verify reads.
    """

    ticks: signed(ACTIVATION_BITS)
    dense: unsigned(1)
    inference_range: unsigned(1)


class ReadRequest(data.Struct):
    """Read a context; purpose (VERIFY or PROBE), row, drive, column and event choose the noise."""

    context: unsigned(6)
    row: unsigned(10)
    purpose: unsigned(8)
    event: unsigned(EVENT_BITS)
    drive: Drive


def read_response_layout(geometry: Geometry) -> data.StructLayout:
    """Return the layout of the code of one column; `last` marks the last of a request."""
    return data.StructLayout({"column": unsigned(10), "code": signed(geometry.adc_bits), "last": unsigned(1)})


class ReadSignature(wiring.Signature):
    """Seen from the requester: requests out, codes in, one a column, in order, as fast as they come."""

    def __init__(self, geometry: Geometry):
        super().__init__({
            "request": Out(stream.Signature(ReadRequest)),
            "response": In(stream.Signature(read_response_layout(geometry), always_ready=True)),
        })
