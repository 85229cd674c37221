"""The chip: a host link, a register bus to every unit, and the mesh with its units."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.bus import BusDecoder
from rtl.core import Core
from rtl.digital import DigitalUnit
from rtl.link import Link
from rtl.memory_share import MemoryShare, shared_memory
from rtl.mesh import Mesh, flit_layout
from rtl.params import ROUTES, Geometry
from rtl.port import Port
from rtl.relay import Relay

__all__ = ["Chip"]


class Chip(wiring.Component):
    """Everything between the bytes of the host link: `rx` in, `tx` out, both with back-pressure.

    Builds with states or the batch in SDRAM have a port `sdram` for its controller (`rtl/sdram.py`).
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        super().__init__({
            "rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)),
            **({"sdram": Out(shared_memory(geometry))} if geometry.memory_address_bits else {}),
        })

    def elaborate(self, platform):
        m = Module()
        geometry = self.geometry

        m.submodules.link = link = Link(geometry=geometry)
        m.submodules.mesh = mesh = Mesh(geometry=geometry)
        m.submodules.port = port = Port(geometry=geometry)
        cores = [Core(geometry=geometry) for _ in range(geometry.engines)]
        for k, core in enumerate(cores):
            m.submodules[f"core{k}"] = core
        m.submodules.digital = digital = DigitalUnit(geometry=geometry)
        units = [port, *cores, digital]

        if geometry.memory_address_bits:
            m.submodules.share = share = MemoryShare(geometry=geometry)
            connect(m, share.memory, flipped(self.sdram))
            if geometry.states_in_sdram:
                for core, user in zip(cores, share.states, strict=True):
                    connect(m, core.memory, user)
            if geometry.batch_in_sdram:
                connect(m, port.memory, share.batch)

        connect(m, flipped(self.rx), link.rx)
        connect(m, link.tx, flipped(self.tx))
        connect(m, link.send, port.send)
        connect(m, port.result, link.result)
        m.d.comb += [link.credit.eq(port.credit), link.available.eq(port.available), port.stop.eq(link.new_session),
                     port.hops.eq(mesh.hops)]

        for k, unit in enumerate(units):
            connect(m, unit.o, mesh.local_in[k])
            # A unit may find its `ready` late in the clock, and its router chooses the next flit by it.
            m.submodules[f"relay{k}"] = relay = Relay(shape=flit_layout(geometry))
            connect(m, mesh.local_out[k], relay.i)
            connect(m, relay.o, unit.i)

        # The bus reaches every unit and, as their region ROUTES, the router of every node.
        m.submodules.hub = hub = BusDecoder(targets=len(units) + geometry.nodes)
        connect(m, link.bus, hub.i)
        is_route = Signal()
        m.d.comb += [
            is_route.eq(link.bus.request.payload.region == ROUTES),
            hub.select.eq(Mux(is_route,
                              Mux(link.unit < geometry.nodes, link.unit + len(units), hub.targets),
                              Mux(link.unit < len(units), link.unit, hub.targets))),
        ]
        for k, unit in enumerate(units):
            connect(m, hub.o[k], unit.bus)
        for k in range(geometry.nodes):
            connect(m, hub.o[len(units) + k], mesh.bus[k])

        return m
