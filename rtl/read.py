"""The verify read port: how write-verify sees an array, through the same DAC, crossbar and ADC that inference uses."""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.params import EVENT_BITS, Geometry

__all__ = ["ReadRequest", "ReadSignature", "read_response_layout"]


class ReadRequest(data.Struct):
    """Read one row of a context, driven one-hot; purpose (VERIFY or PROBE), row, column and event choose the noise."""

    context: unsigned(6)
    row: unsigned(10)
    purpose: unsigned(8)
    event: unsigned(EVENT_BITS)


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
