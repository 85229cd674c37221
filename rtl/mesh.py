"""The mesh: a grid of routers that carry flits along routes, fork them, and lose, reorder or repeat none.

A route is a tree: every node's table says, for each route, which outputs a flit takes. A fork hands the flit to each of
its outputs whenever that output is free, each exactly once, and lets go of it after the last. Every output serves the
inputs that want it in turn. Flits of one route that enter at one node leave everywhere in the order they entered;
flits of different routes may pass each other.

Routes must not depend on each other in a circle; trees that go east and west first, then north and south, never do.
A flit whose table entry is empty is dropped, and so is a branch that points off the grid or back to where it came from:
the numpy model refuses all three.

Latency: two clocks a router, one flit per clock on every link.
"""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.arbiter import Arbiter
from rtl.bus import BusSignature
from rtl.params import ELEMENT_BITS, EVENT_BITS, POSITION_BITS, TIME_BITS, Geometry

__all__ = ["PORTS", "Mesh", "Port", "Router", "flit_layout", "header_layout", "neighbours"]


class Port(enum.Enum, shape=3):
    """Inputs and outputs of a router, in the order of the bits of a route mask."""

    LOCAL = 0
    NORTH = 1
    EAST = 2
    SOUTH = 3
    WEST = 4


PORTS = len(Port)

_OPPOSITE = {Port.NORTH: Port.SOUTH, Port.SOUTH: Port.NORTH, Port.EAST: Port.WEST, Port.WEST: Port.EAST}


header_layout = data.StructLayout({
    "event": unsigned(EVENT_BITS), "time": unsigned(TIME_BITS), "position": unsigned(POSITION_BITS)})
"""The data of a HEADER: index of the vector, target time in ps, place of the message among those of the vector."""


def flit_layout(geometry: Geometry) -> data.StructLayout:
    """Return the layout of a flit: element k of `data` is data[24 k:24 k + 24], signed, or a `header_layout`."""
    return data.StructLayout({
        "route": unsigned(6),
        "kind": unsigned(2),
        "last": unsigned(1),
        "data": unsigned(max(geometry.transport * ELEMENT_BITS, header_layout.size)),
    })


def neighbours(geometry: Geometry, node: int) -> dict[Port, int]:
    """Return the node behind each of a node's ports that leads to one."""
    row, column = divmod(node, geometry.mesh_columns)
    found = {}
    if row > 0:
        found[Port.NORTH] = node - geometry.mesh_columns
    if column < geometry.mesh_columns - 1:
        found[Port.EAST] = node + 1
    if row < geometry.mesh_rows - 1:
        found[Port.SOUTH] = node + geometry.mesh_columns
    if column > 0:
        found[Port.WEST] = node - 1
    return found


class _InputBuffer(wiring.Component):
    """Two flits of one input, each with the outputs it still has to take.

    Members
    -------
    i : stream of flits, `ready` is a register
    mask : outputs of the flit at `i`, valid together with it
    flit, todo : the flit in front and its remaining outputs; `todo` is zero when there is none
    taken : outputs that take the flit in front in this clock
    """

    def __init__(self, layout: data.StructLayout):
        super().__init__({
            "i": In(stream.Signature(layout)),
            "mask": In(PORTS),
            "flit": Out(layout),
            "todo": Out(PORTS),
            "taken": In(PORTS),
        })

    def elaborate(self, _platform):
        m = Module()
        front_valid, back_valid = Signal(), Signal()
        todo, back_mask = Signal(PORTS), Signal(PORTS, reset_less=True)
        front = Signal(self.flit.shape(), reset_less=True)
        back = Signal.like(front)
        remaining = Signal(PORTS)
        m.d.comb += [
            self.i.ready.eq(~back_valid),
            self.flit.eq(front),
            self.todo.eq(Mux(front_valid, todo, 0)),
            remaining.eq(todo & ~self.taken),
        ]
        accept = self.i.valid & self.i.ready
        with m.If(~front_valid | (remaining == 0)):
            m.d.sync += [
                front.eq(Mux(back_valid, back, self.i.payload)),
                todo.eq(Mux(back_valid, back_mask, self.mask)),
                front_valid.eq(back_valid | accept),
                back_valid.eq(0),
            ]
        with m.Else():
            m.d.sync += todo.eq(remaining)
            with m.If(accept):
                m.d.sync += [back.eq(self.i.payload), back_mask.eq(self.mask), back_valid.eq(1)]
        return m


class Router(wiring.Component):
    """One node: five inputs, five outputs, and the table of routes that its bus writes.

    Parameters
    ----------
    geometry : Geometry
    links : mask of the ports that exist (a corner of the grid has three); flits never leave by the others

    Members
    -------
    i, o : five streams of flits each, in the order of `Port`; `o` are registers, `i.ready` are registers
    bus : region ROUTES only: route -> mask of outputs
    hops : flits that leave by a port other than the local one in this clock
    """

    def __init__(self, *, geometry: Geometry, links: int = (1 << PORTS) - 1):
        if not 0 < links < 1 << PORTS:
            raise ValueError(f"links must be a mask of {PORTS} ports, not {links!r}")
        self.geometry = geometry
        self.links = links
        layout = flit_layout(geometry)
        super().__init__({
            "i": In(stream.Signature(layout)).array(PORTS),
            "o": Out(stream.Signature(layout)).array(PORTS),
            "bus": In(BusSignature()),
            "hops": Out(3),
        })

    def _outputs(self, port: int) -> int:
        """Mask of the outputs that an input reaches: those that exist, and no link back to where it came from."""
        return self.links & ~(0 if port == Port.LOCAL.value else 1 << port)

    def _table(self, m: Module, inputs: list[int], buffers: dict[int, _InputBuffer]) -> None:
        """The table of routes: a read port for each input, one more and the write port for the bus."""
        m.submodules.table = table = Memory(shape=unsigned(PORTS), depth=self.geometry.routes, init=[])
        for k in inputs:
            port = table.read_port(domain="comb")
            m.d.comb += [
                port.addr.eq(self.i[k].payload.route),
                buffers[k].mask.eq(port.data & self._outputs(k)),
            ]
        write, read = table.write_port(), table.read_port(domain="comb")
        request, response = self.bus.request, self.bus.response
        in_range = request.payload.offset < self.geometry.routes
        m.d.comb += [
            request.ready.eq(~response.valid),
            write.addr.eq(request.payload.offset),
            read.addr.eq(request.payload.offset),
            write.data.eq(request.payload.data),
            write.en.eq(request.valid & request.ready & request.payload.write & in_range),
        ]
        with m.If(response.valid & response.ready):
            m.d.sync += response.valid.eq(0)
        with m.If(request.valid & request.ready):
            m.d.sync += [
                response.valid.eq(1),
                response.payload.eq(Mux(request.payload.write | ~in_range, 0, read.data)),
            ]

    def elaborate(self, _platform):
        m = Module()
        ports = [k for k in range(PORTS) if self.links >> k & 1]
        layout = flit_layout(self.geometry)

        buffers = {}
        for k in ports:
            m.submodules[f"buffer_{Port(k).name.lower()}"] = buffers[k] = _InputBuffer(layout)
            connect(m, flipped(self.i[k]), buffers[k].i)
        self._table(m, ports, buffers)

        taken = {k: Signal(PORTS, name=f"taken_{Port(k).name.lower()}") for k in ports}
        left = []
        for k in ports:
            o = self.o[k]
            flit = Signal(layout, name=f"flit_{Port(k).name.lower()}", reset_less=True)
            m.d.comb += o.payload.eq(flit)
            # Only the local port may answer itself: a flit that leaves by the link it came from is in a loop.
            sources = [n for n in ports if n != k or k == Port.LOCAL.value]
            m.submodules[f"arbiter_{Port(k).name.lower()}"] = arbiter = Arbiter(len(sources))
            m.d.comb += [
                arbiter.requests.eq(Cat(buffers[n].todo[k] for n in sources)),
                arbiter.enable.eq(~o.valid | o.ready),
            ]
            m.d.comb += [taken[n][k].eq(grant) for n, grant in zip(sources, arbiter.grants, strict=True)]
            with m.If(arbiter.enable):
                m.d.sync += [
                    o.valid.eq(arbiter.grants.any()),
                    flit.eq(Array(Value.cast(buffers[n].flit) for n in sources)[arbiter.choice]),
                ]
            if k != Port.LOCAL.value:
                left.append(o.valid & o.ready)

        for k in ports:
            m.d.comb += buffers[k].taken.eq(taken[k])
        m.d.comb += self.hops.eq(sum(left, Const(0, 1)))
        return m


class Mesh(wiring.Component):
    """The grid of routers, row by row, `mesh_columns` wide.

    Members
    -------
    local_in : a stream for each node: flits from its unit into the mesh
    local_out : a stream for each node: flits from the mesh to its unit
    bus : a bus for each node, region ROUTES
    hops : flits that crossed a link between two nodes in the clock before
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        layout = flit_layout(geometry)
        super().__init__({
            "local_in": In(stream.Signature(layout)).array(geometry.nodes),
            "local_out": Out(stream.Signature(layout)).array(geometry.nodes),
            "bus": In(BusSignature()).array(geometry.nodes),
            "hops": Out(range(4 * geometry.nodes + 1)),
        })

    def elaborate(self, _platform):
        m = Module()
        routers = []
        for node in range(self.geometry.nodes):
            links = 1 + sum(1 << port.value for port in neighbours(self.geometry, node))
            m.submodules[f"router_{node}"] = router = Router(geometry=self.geometry, links=links)
            routers.append(router)
            connect(m, flipped(self.local_in[node]), router.i[Port.LOCAL.value])
            connect(m, router.o[Port.LOCAL.value], flipped(self.local_out[node]))
            connect(m, flipped(self.bus[node]), router.bus)
        for node, router in enumerate(routers):
            for port, other in neighbours(self.geometry, node).items():
                connect(m, router.o[port.value], routers[other].i[_OPPOSITE[port].value])
        m.d.sync += self.hops.eq(sum((router.hops for router in routers), Const(0, 1)))
        return m
