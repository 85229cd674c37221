"""The chip's end of the host link: bytes in and out, exactly-once execution between (docs/protocol.md)."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.bus import BusSignature
from rtl.cobs import FrameByte
from rtl.executor import Executor
from rtl.frames import FrameReceiver, FrameTransmitter
from rtl.initiator import BusInitiator
from rtl.params import Geometry, geometry_hash

__all__ = ["Link"]


class Link(wiring.Component):
    """Executes the requests that come in on `rx` and answers each on `tx`.

    Parameters
    ----------
    geometry : Geometry
        Named to the host by its hash.
    bus_limit : int
        Clocks a register access may take. More than the longest operation of an engine, or a register that is
        only busy looks broken: a probe of 1,024 rows by 1,024 columns with 16 averages takes 2**24.

    Members
    -------
    rx, tx : In, Out(stream of 8)
        Bytes of COBS frames, a clock each at best. `rx` waits while 4 KiB of requests are unread.
    bus, unit : Out
        Register accesses; `unit` goes with the request.
    send : Out(stream of FrameByte), credit : In(1)
        Vectors for the port, and whether it takes one now.
    result : In(stream of FrameByte), available : In(1)
        Results of the port, and whether a whole one is ready.
    new_session : Out(1)
        Another session begins in this clock.
    """

    def __init__(self, *, geometry: Geometry, bus_limit: int = 1 << 26):
        self.geometry = geometry
        self.bus_limit = bus_limit
        super().__init__({
            "rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)),
            "bus": Out(BusSignature()), "unit": Out(geometry.unit_bits),
            "send": Out(stream.Signature(FrameByte)), "credit": In(1),
            "result": In(stream.Signature(FrameByte)), "available": In(1), "new_session": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = FrameReceiver()
        m.submodules.executor = executor = Executor(geometry=self.geometry)
        m.submodules.initiator = initiator = BusInitiator(geometry=self.geometry, limit=self.bus_limit)
        m.submodules.transmitter = transmitter = FrameTransmitter(geometry_hash=geometry_hash(self.geometry))

        connect(m, flipped(self.rx), receiver.i)
        connect(m, receiver.o, executor.i)
        connect(m, executor.store, transmitter.store)
        connect(m, executor.reply, transmitter.reply)
        connect(m, transmitter.o, flipped(self.tx))
        connect(m, initiator.bus, flipped(self.bus))
        connect(m, executor.send, flipped(self.send))
        connect(m, flipped(self.result), executor.result)
        m.d.comb += [
            transmitter.identity.eq(executor.identity), executor.credit.eq(self.credit),
            executor.available.eq(self.available), self.new_session.eq(executor.new_session),
            self.unit.eq(initiator.unit),
            initiator.access.eq(executor.access), initiator.start.eq(executor.start),
            executor.accepted.eq(initiator.accepted), executor.done.eq(initiator.done),
            executor.timeout.eq(initiator.timeout), executor.word.eq(initiator.word),
        ]
        return m
