"""The initiator of the register bus: one access at a time, each with a limit on the wait."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.bus import BusSignature
from rtl.params import Geometry
from rtl.params.registers import REGION_SHIFT, UNIT_SHIFT

__all__ = ["Access", "BusInitiator"]


class Access(data.StructLayout):
    """One access: `address` as in `rtl.params.registers`, without the highest bits, which are 0."""

    def __init__(self, geometry: Geometry):
        super().__init__({"address": unsigned(UNIT_SHIFT + geometry.unit_bits), "write": unsigned(1),
                          "data": unsigned(32)})


class BusInitiator(wiring.Component):
    """Makes accesses on the bus and tells how each ended.

    When the limit is reached, the access stays on the bus as the rules of streams ask, its late response is swallowed,
    and the next access begins after it, or reaches the limit too.

    Parameters
    ----------
    geometry : Geometry
    limit : int
        Clocks from the request of an access to its end.

    Members
    -------
    access, start : In
        Request, held until `accepted`, or until `done` if it never is.
    accepted : Out(1)
        `access` was taken; it ends later.
    done, timeout, word : Out
        For one clock: an access has ended; without a response in time; else `word` is what was read.
    bus, unit : Out
        The bus; `unit` belongs to its request.
    """

    def __init__(self, *, geometry: Geometry, limit: int):
        if not limit > 0:
            raise ValueError(f"limit must be a positive number of clocks, not {limit!r}")
        self.geometry = geometry
        self.limit = limit
        super().__init__({
            "access": In(Access(geometry)), "start": In(1), "accepted": Out(1),
            "done": Out(1), "timeout": Out(1), "word": Out(32),
            "bus": Out(BusSignature()), "unit": Out(geometry.unit_bits),
        })

    def elaborate(self, platform):
        m = Module()

        access = Signal(Access(self.geometry), reset_less=True)
        timer, expired = Signal(range(self.limit + 1)), Signal()
        late, pending, answered = Signal(), Signal(), Signal()
        request, response = self.bus.request, self.bus.response
        m.d.comb += [
            request.payload.offset.eq(access.address[:REGION_SHIFT]),
            request.payload.region.eq(access.address[REGION_SHIFT:UNIT_SHIFT]),
            request.payload.write.eq(access.write), request.payload.data.eq(access.data),
            self.unit.eq(access.address[UNIT_SHIFT:]), self.word.eq(response.payload),
            expired.eq(timer == self.limit),
            self.done.eq(answered | expired), self.timeout.eq(~answered),
        ]
        with m.If(self.done | ~(self.start | (pending & ~late))):
            m.d.sync += timer.eq(0)
        with m.Else():
            m.d.sync += timer.eq(timer + 1)

        with m.FSM():
            with m.State("Idle"):
                m.d.comb += self.accepted.eq(self.start & ~expired)
                m.d.sync += access.eq(self.access)
                with m.If(self.accepted):
                    m.next = "Request"
            with m.State("Request"):
                m.d.comb += [pending.eq(1), request.valid.eq(1)]
                with m.If(request.ready):
                    m.next = "Response"
            with m.State("Response"):
                m.d.comb += [pending.eq(1), response.ready.eq(1), answered.eq(response.valid & ~late)]
                with m.If(response.valid):
                    m.next = "Idle"
        with m.If(~pending | (response.ready & response.valid)):
            m.d.sync += late.eq(0)
        with m.Elif(expired):
            m.d.sync += late.eq(1)
        return m
