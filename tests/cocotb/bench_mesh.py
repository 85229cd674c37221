"""Runs inside the simulator: a 2 x 2 mesh with multicast and joins, and stalls at every sink."""

import os
import random
from collections import defaultdict

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge

from rtl.params import ELEMENT_BITS, ROUTES, FlitKind, Geometry
from sim.mesh import Mesh, tree

GEOMETRY = Geometry(name="mesh", engines=2, routes=16)
NODES = range(GEOMETRY.nodes)
MESSAGES = 20
IDLE = 200
"""Clocks without a flit anywhere after which nothing can be under way."""


def random_routes(rng):
    """Return route -> (source, destinations): every node sends on four routes to one or more others."""
    return {route: (route % 4, sorted(rng.sample(list(NODES), rng.randint(1, 4)))) for route in range(16)}


def random_messages(rng, routes):
    """Return route -> its messages, each a list of (kind, last, data)."""
    bits = GEOMETRY.transport * ELEMENT_BITS

    def message():
        words = rng.randint(1, 6)
        return [(int(FlitKind.HEADER), 0, rng.getrandbits(bits))] + [
            (int(FlitKind.PARTIAL), int(k == words - 1), rng.getrandbits(bits)) for k in range(words)]

    return {route: [message() for _ in range(MESSAGES)] for route in routes}


class Bench:
    """Drivers and monitors at all nodes."""

    def __init__(self, dut, seed):
        self.dut = dut
        self.rng = random.Random(seed)
        self.received = [defaultdict(list) for _ in NODES]
        self.quiet = 0
        self.hops = 0

    def pin(self, name):
        return getattr(self.dut, name)

    async def start(self):
        Clock(self.dut.clk, 10, unit="ns").start()
        for node in NODES:
            for name in ("local_in_{}_valid", "local_out_{}_ready", "bus_{}_request_valid", "bus_{}_response_ready"):
                self.pin(name.format(node)).value = 0
        self.dut.rst.value = 1
        await RisingEdge(self.dut.clk)
        await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0

    async def write_tables(self, mesh):
        """Write every table over its node's bus, empty entries too."""
        for node in NODES:
            bus = f"bus_{node}_"
            for route in range(GEOMETRY.routes):
                for name, value in (("offset", route), ("region", ROUTES), ("write", 1),
                                    ("data", mesh.read(node, ROUTES, route))):
                    self.pin(f"{bus}request_payload_{name}").value = value
                self.pin(f"{bus}request_valid").value = 1
                await self._until(f"{bus}request_ready")
                self.pin(f"{bus}request_valid").value = 0
                self.pin(f"{bus}response_ready").value = 1
                await self._until(f"{bus}response_valid")
                self.pin(f"{bus}response_ready").value = 0

    async def _until(self, name):
        """Wait for a clock edge at which a signal is high."""
        while True:
            await ReadOnly()
            high = bool(self.pin(name).value)
            await RisingEdge(self.dut.clk)
            if high:
                return

    async def drive(self, node, flits, pause):
        """Send flits, and rest before each with probability `pause`."""
        rng = random.Random(self.rng.random())
        stream = f"local_in_{node}_"
        for route, (kind, last, data) in flits:
            while rng.random() < pause:
                await RisingEdge(self.dut.clk)
            for name, value in (("route", route), ("kind", kind), ("last", last), ("data", data)):
                self.pin(f"{stream}payload_{name}").value = value
            self.pin(f"{stream}valid").value = 1
            await self._until(f"{stream}ready")
            self.pin(f"{stream}valid").value = 0

    async def watch(self, node, stall):
        """Take flits, stalling with probability `stall`; a flit offered must stay until it is taken."""
        rng = random.Random(self.rng.random())
        stream = f"local_out_{node}_"
        waiting = None
        while True:
            ready = rng.random() >= stall
            self.pin(f"{stream}ready").value = int(ready)
            await ReadOnly()
            valid = bool(self.pin(f"{stream}valid").value)
            flit = None
            if valid:
                route, *flit = (int(self.pin(f"{stream}payload_{n}").value) for n in ("route", "kind", "last", "data"))
                flit = (route, tuple(flit))
                self.quiet = 0
                if ready:
                    self.received[node][route].append(flit[1])
            assert waiting in (None, flit), f"node {node} withdrew a flit"
            waiting = flit if valid and not ready else None
            await RisingEdge(self.dut.clk)

    async def count(self):
        """Count links crossed, and clocks of silence."""
        while True:
            await ReadOnly()
            now = int(self.dut.hops.value)
            self.hops += now
            self.quiet = 0 if now else self.quiet + 1
            await RisingEdge(self.dut.clk)

    async def run(self, routes, messages, *, pause, stall):
        """Send all messages, those of one node in a random order of routes; return what each node received."""
        mesh = Mesh(GEOMETRY)
        expected = [defaultdict(list) for _ in NODES]
        flits = [[] for _ in NODES]
        for route, (source, destinations) in routes.items():
            for node, mask in tree(GEOMETRY, source, destinations).items():
                mesh.write(node, ROUTES, route, mask)
            whole = [flit for message in messages[route] for flit in message]
            for unit in mesh.deliver(source, route, flits=len(whole)):
                expected[unit][route] = whole
        for node in NODES:
            queues = {r: [f for m in messages[r] for f in m] for r, (source, _) in routes.items() if source == node}
            while queues:
                route = self.rng.choice(list(queues))
                flits[node].append((route, queues[route].pop(0)))
                if not queues[route]:
                    del queues[route]
        await self.start()
        await self.write_tables(mesh)
        cocotb.start_soon(self.count())
        for node in NODES:
            cocotb.start_soon(self.watch(node, stall[node]))
        drivers = [cocotb.start_soon(self.drive(node, flits[node], pause[node])) for node in NODES]
        for driver in drivers:
            await driver
        self.quiet = 0
        while self.quiet < IDLE:
            await RisingEdge(self.dut.clk)
        assert self.hops == mesh.hops
        assert self.received == expected
        return self.received


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def multicast_and_joins_without_stalls(dut):
    rng = random.Random(int(os.environ["BITLINE_SEED"]))
    routes = random_routes(rng)
    await Bench(dut, 1).run(routes, random_messages(rng, routes), pause=[0] * 4, stall=[0] * 4)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(order=[1, 2, 3])
async def order_and_stalls_change_no_route(dut, order):
    """The same messages, their sources interleaved anew and all sinks stalling: each route's flits stay the same."""
    rng = random.Random(int(os.environ["BITLINE_SEED"]))
    routes = random_routes(rng)
    messages = random_messages(rng, routes)
    stall = random.Random(order)
    await Bench(dut, order).run(routes, messages, pause=[stall.choice([0, 0.3, 0.8]) for _ in NODES],
                                stall=[stall.choice([0.2, 0.5, 0.9]) for _ in NODES])
