"""The register bus: one request, one response, a unit at a time.

A request is answered exactly once, a write too; a busy unit answers late. The hub (`rtl/chip.py`) puts a limit on the
wait. Neither stream is ever pipelined: the next request comes after the response.
"""

from amaranth.hdl import unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["BusRequest", "BusSignature"]


class BusRequest(data.Struct):
    """One access to a word; `region` and `offset` are those of `rtl.params.registers`."""

    offset: unsigned(20)
    region: unsigned(4)
    write: unsigned(1)
    data: unsigned(32)


class BusSignature(wiring.Signature):
    """Seen from the initiator: requests out, responses (read data, or 0 after a write) in."""

    def __init__(self):
        super().__init__({
            "request": Out(stream.Signature(BusRequest)),
            "response": In(stream.Signature(unsigned(32))),
        })
