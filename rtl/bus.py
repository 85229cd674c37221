"""The register bus: one request, one response, a unit at a time.

A request is answered exactly once, a write too; a busy unit answers late. The link puts a limit on the wait. Nothing is
pipelined: the next request comes after the response, so a decoder can register both ways at no loss of order.
"""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["BusDecoder", "BusRequest", "BusSignature"]


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


class BusDecoder(wiring.Component):
    """Passes each request to the target that `select` names and its response back; registered in both directions.

    A request for a target that does not exist is answered with 0.

    Members
    -------
    select : In
        Target of the request that `i.request` offers, combinational with its payload.
    o : Out
        One bus for each target.
    """

    def __init__(self, *, targets: int):
        if targets < 1:
            raise ValueError(f"targets must be a positive integer, not {targets!r}")
        self.targets = targets
        super().__init__({
            "i": In(BusSignature()),
            "select": In(range(targets + 1)),
            "o": Out(BusSignature()).array(targets),
        })

    def elaborate(self, platform):
        m = Module()

        request = Signal(BusRequest, reset_less=True)
        response = Signal(32, reset_less=True)
        chosen = [Signal(name=f"chosen{k}") for k in range(self.targets)]
        m.d.comb += self.i.response.payload.eq(response)
        for target in self.o:
            m.d.comb += target.request.payload.eq(request)

        with m.FSM():
            with m.State("Idle"):
                m.d.comb += self.i.request.ready.eq(1)
                m.d.sync += [request.eq(self.i.request.payload), response.eq(0)]
                m.d.sync += [mine.eq(self.select == k) for k, mine in enumerate(chosen)]
                with m.If(self.i.request.valid):
                    with m.If(self.select < self.targets):
                        m.next = "Request"
                    with m.Else():
                        m.next = "Respond"
            with m.State("Request"):
                for target, mine in zip(self.o, chosen, strict=True):
                    m.d.comb += target.request.valid.eq(mine)
                    with m.If(mine & target.request.ready):
                        m.next = "Wait"
            with m.State("Wait"):
                for target, mine in zip(self.o, chosen, strict=True):
                    m.d.comb += target.response.ready.eq(mine)
                    with m.If(mine & target.response.valid):
                        m.d.sync += response.eq(target.response.payload)
                        m.next = "Respond"
            with m.State("Respond"):
                m.d.comb += self.i.response.valid.eq(1)
                with m.If(self.i.response.ready):
                    m.next = "Idle"

        return m
