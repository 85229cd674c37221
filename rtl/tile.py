"""The tiles of one engine: vectors in, partial sums out, and verify reads between.

    flits -> input buffer -> loader -> engine -> accumulator -> noise, ADC -> affine -> packer -> flits
                                 issuer -^

Latency of one vector: `lanes / W` + 8 to load, its columns once a fold, `engine latency` + about 25 to convert.
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.bus import BusSignature
from rtl.constants import NoiseWrite
from rtl.context import ContextLookup, settings_layout
from rtl.engine import Engine, NetWrite
from rtl.hash import HashSignature
from rtl.input_buffer import InputBuffer
from rtl.mesh import flit_layout
from rtl.norm import Norm
from rtl.packer import Packer
from rtl.params import Geometry
from rtl.params.registers import EngineRegion
from rtl.read import ReadSignature
from rtl.readout import Readout
from rtl.schedule import Issuer, Loader, tag_layout
from rtl.totals import COUNTER_BITS

__all__ = ["NetWrite", "NoiseWrite", "ReadSignature", "Tile", "counters_layout"]

counters_layout = data.StructLayout(dict.fromkeys(
    ("vectors", "row_ticks", "conversions", "clips", "verify_conversions", "busy"), COUNTER_BITS))
"""The tile's short counters (`rtl/totals.py`), named as in the register map."""


class Tile(wiring.Component):
    """Everything of an engine but its programming.

    A blocked output holds back passes that have not begun, an idle input nothing; either way no flit is lost.

    Members
    -------
    i, o : streams of flits
    settings : In, lookup : Out(ContextLookup)
    bus : In(BusSignature)
        Regions COLUMNS and INPUTS. An access to COLUMNS waits until no vector is under way, and keeps new ones waiting.
    hold : In(1)
        Begin no inference vector; those begun are finished.
    idle : Out(1)
        Nothing is under way between input buffer and packer.
    read : In(ReadSignature)
        Verify reads. A request may follow before the codes of the one before.
    hash : HashSignature, out
        Of the read noise; its key is `settings.seed`.
    net_write, noise_write : In
        Always accepted; in force for whatever is begun later.
    counters : Out
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        flits = stream.Signature(flit_layout(geometry))
        super().__init__({
            "i": In(flits),
            "o": Out(flits),
            "settings": In(settings_layout),
            "lookup": Out(ContextLookup()),
            "bus": In(BusSignature()),
            "hold": In(1),
            "idle": Out(1),
            "read": In(ReadSignature(geometry)),
            "hash": Out(HashSignature()),
            "net_write": In(NetWrite(geometry)),
            "noise_write": In(NoiseWrite(geometry)),
            "counters": Out(counters_layout),
        })

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        m.submodules.buffer = buffer = InputBuffer(geometry=g)
        m.submodules.engine = engine = Engine(geometry=g, tag=tag_layout(g))
        m.submodules.norm = norm = Norm(geometry=g)
        m.submodules.loader = loader = Loader(geometry=g, apart=norm.interval)
        m.submodules.packer = packer = Packer(geometry=g)
        m.submodules.issuer = issuer = Issuer(geometry=g, room_bits=len(packer.room))
        m.submodules.readout = readout = Readout(
            geometry=g, engine_latency=engine.latency, norm_latency=norm.latency)

        connect(m, flipped(self.i), buffer.i)
        connect(m, flipped(self.lookup), loader.lookup)
        connect(m, flipped(self.read.request), loader.read)
        connect(m, readout.hash, flipped(self.hash))
        m.d.comb += [
            loader.ready.eq(buffer.ready),
            loader.begun.eq(buffer.begun),
            buffer.context.eq(loader.context),
            loader.header.eq(buffer.header),
            buffer.address.eq(loader.address),
            loader.word.eq(buffer.word),
            buffer.release.eq(loader.release),
            loader.verify_gain.eq(self.settings.verify_gain),
            loader.verify_offset.eq(self.settings.verify_offset),
            loader.hold.eq(self.hold),
            loader.stop.eq(readout.waiting),
            loader.finished.eq(readout.finished),
            self.idle.eq(loader.idle),
        ]

        connect(m, loader.o, issuer.i)
        m.d.comb += [
            issuer.room.eq(packer.room),
            packer.reserve.eq(issuer.reserve),
            engine.load.eq(loader.load),
            engine.issue.eq(issuer.issue),
            engine.tag.eq(issuer.tag),
            engine.write.eq(self.net_write),
            norm.valid.eq(loader.normed),
            norm.first.eq(loader.first),
            norm.last.eq(loader.last),
            norm.word.eq(loader.load.word),
            norm.ticket.eq(loader.ticket),
        ]

        connect(m, readout.o, packer.i)
        connect(m, flipped(self.o), packer.o)
        m.d.comb += [
            readout.settings.eq(self.settings),
            readout.note.eq(loader.note),
            packer.note.eq(loader.note),
            readout.ahead.eq(issuer.tag),
            readout.i_valid.eq(engine.o_valid),
            readout.i_tag.eq(engine.o_tag),
            readout.charge.eq(engine.charge),
            readout.norm_valid.eq(norm.done),
            readout.norm_ticket.eq(norm.o_ticket),
            readout.norm.eq(norm.norm),
            readout.quiet.eq(loader.idle),
            readout.noise_write.eq(self.noise_write),
            self.read.response.valid.eq(readout.response.valid),
            self.read.response.payload.eq(readout.response.payload),
        ]
        self._route_bus(m, {EngineRegion.COLUMNS: readout.bus, EngineRegion.INPUTS: buffer.bus})
        self._count(m, {
            "vectors": loader.chosen,
            "row_ticks": norm.ticks,
            "conversions": readout.converted,
            "clips": readout.clipped,
            "verify_conversions": readout.verified,
            "busy": issuer.issue.valid,
        })
        return m

    def _route_bus(self, m, units):
        """Hand each request to the unit of its region: only one is ever under way."""
        for region, bus in units.items():
            m.d.comb += [
                bus.request.payload.eq(self.bus.request.payload),
                bus.response.ready.eq(self.bus.response.ready),
            ]
            with m.If(self.bus.request.payload.region == region):
                m.d.comb += [
                    bus.request.valid.eq(self.bus.request.valid),
                    self.bus.request.ready.eq(bus.request.ready),
                ]
            with m.If(bus.response.valid):
                m.d.comb += [self.bus.response.valid.eq(1), self.bus.response.payload.eq(bus.response.payload)]

    def _count(self, m, steps):
        for name, step in steps.items():
            counter = Signal(COUNTER_BITS, name=name)
            m.d.sync += counter.eq(counter + step)
            m.d.comb += self.counters[name].eq(counter)
