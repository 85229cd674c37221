# amaranth: UnusedElaboratable=no
"""Routers and the mesh against the model: nothing lost, repeated or reordered, under stalls at every sink."""

import random
from collections import defaultdict

import pytest
from amaranth.sim import Simulator

from rtl.mesh import Mesh, Port, Router, neighbours
from rtl.params import ROUTES, FlitKind, Geometry
from sim.mesh import Mesh as MeshModel
from sim.mesh import tree
from tests.rtl.flits import access, always, as_flit, get, often, put, seldom

GEOMETRY = Geometry(name="mesh", engines=2, routes=8, result_words=8)
FLITS = 40
SETTLE = 30


def numbered(route: int, source: int, count: int) -> list[dict[str, int]]:
    """Flits that tell where they come from and in which order."""
    return [{"route": route, "kind": int(FlitKind.PARTIAL), "last": int(k == count - 1), "data": source << 64 | k + 1}
            for k in range(count)]


def simulate(dut, *testbenches) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    simulator.run()


def run_mesh(routes: dict[int, tuple[int, list[int]]], go_in, go_out, seed: int, geometry: Geometry = GEOMETRY):
    """Send FLITS flits on each route (route -> source, destinations) at once; return the flits seen at each node."""
    dut, model = Mesh(geometry=geometry), MeshModel(geometry)
    offered, expected = defaultdict(list), defaultdict(dict)
    for route, (source, destinations) in routes.items():
        for node, mask in tree(geometry, source, destinations).items():
            model.write(node, ROUTES, route, mask)
        flits = numbered(route, source, FLITS)
        offered[source].append(flits)
        for unit in model.deliver(source, route, flits=FLITS):
            expected[unit][route] = flits
    seen = defaultdict(list)
    configured = [False]
    hops = [0]
    finished = []
    total = {node: FLITS * len(by_route) for node, by_route in expected.items()}

    async def configure(ctx):
        for node in range(geometry.nodes):
            for route in range(geometry.routes):
                await access(ctx, dut.bus[node], ROUTES, route, model.read(node, ROUTES, route))
        configured[0] = True

    def source_of(node: int):
        async def run(ctx):
            while not configured[0]:
                await ctx.tick()
            rng = random.Random(seed * 100 + node)
            queues = [list(flits) for flits in offered[node]]
            mixed = []
            while any(queues):
                queue = rng.choice([q for q in queues if q])
                mixed.append(queue.pop(0))
            await put(ctx, dut.local_in[node], mixed, go=go_in, rng=rng)
        return run

    def sink_of(node: int):
        async def run(ctx):
            rng = random.Random(seed * 100 + 50 + node)
            got = await get(ctx, dut.local_out[node], total.get(node, 0), go=go_out, rng=rng)
            seen[node].extend(as_flit(p) for p in got)
            finished.append(node)
            ctx.set(dut.local_out[node].ready, 1)
            quiet = 0
            while len(finished) < geometry.nodes or quiet < SETTLE:
                _, _, valid = await ctx.tick().sample(dut.local_out[node].valid)
                assert not valid, f"node {node} receives more than was sent to it"
                quiet = quiet + 1 if len(finished) == geometry.nodes else 0
        return run

    async def count_hops(ctx):
        while len(finished) < geometry.nodes:
            _, _, now = await ctx.tick().sample(dut.hops)
            hops[0] += now
        hops[0] += ctx.get(dut.hops)

    simulate(dut, configure, count_hops, *(f(n) for n in range(geometry.nodes) for f in (source_of, sink_of)))
    assert hops[0] == model.hops
    for node in range(geometry.nodes):
        by_route = defaultdict(list)
        for flit in seen[node]:
            by_route[flit["route"]].append(flit)
        assert dict(by_route) == expected[node]
    return seen


CROSSING = {0: (0, [1, 2, 3]), 1: (1, [0, 3]), 2: (2, [0, 1, 2, 3]), 3: (3, [0]), 4: (0, [3]), 7: (3, [0, 1])}


@pytest.mark.parametrize("go_out", [always, often, seldom])
@pytest.mark.parametrize("go_in", [always, often])
def test_multicast_and_joins_under_stalls(go_in, go_out):
    run_mesh(CROSSING, go_in, go_out, seed=1)


@pytest.mark.parametrize("seed", [2, 3])
def test_a_grid_of_six_nodes_with_a_node_that_only_routes(seed):
    geometry = Geometry(name="grid", engines=3, mesh_columns=3, routes=8)
    routes = {0: (0, [1, 2, 3, 4]), 1: (4, [0, 2]), 2: (2, [3]), 3: (3, [1, 2]), 5: (1, [1])}
    run_mesh(routes, often, often, seed=seed, geometry=geometry)


def test_flits_pass_at_one_per_clock():
    seen = []
    geometry = GEOMETRY
    dut = Mesh(geometry=geometry)
    clocks = [0]

    async def send(ctx):
        for node, mask in tree(geometry, 0, [1, 2, 3]).items():
            await access(ctx, dut.bus[node], ROUTES, 0, mask)
        await put(ctx, dut.local_in[0], numbered(0, 0, FLITS))

    async def receive(ctx):
        ctx.set(dut.local_out[1].ready, 1)
        ctx.set(dut.local_out[2].ready, 1)
        ctx.set(dut.local_out[3].ready, 1)
        while len(seen) < FLITS:
            _, _, valid = await ctx.tick().sample(dut.local_out[3].valid)
            clocks[0] += bool(seen) or valid
            if valid:
                seen.append(1)

    simulate(dut, send, receive)
    assert clocks[0] == FLITS


def test_outputs_serve_their_inputs_in_turn():
    dut = Router(geometry=GEOMETRY)
    order = []

    def source(port: Port):
        async def run(ctx):
            if port == Port.NORTH:
                await access(ctx, dut.bus, ROUTES, 1, 1)
            else:
                await ctx.tick().repeat(4)
            await put(ctx, dut.i[port.value], numbered(1, port.value, 12))
        return run

    async def sink(ctx):
        flits = await get(ctx, dut.o[0], 48)
        order.extend(as_flit(f)["data"] >> 64 for f in flits)

    simulate(dut, sink, *(source(p) for p in list(Port)[1:]))
    contended = order[4:40]
    for k in range(0, len(contended), 4):
        assert len(set(contended[k:k + 4])) == 4


def test_a_flit_without_an_output_is_dropped_and_holds_up_nobody():
    dut = Router(geometry=GEOMETRY, links=0b00011)
    got = []

    async def run(ctx):
        await access(ctx, dut.bus, ROUTES, 1, 1)
        await access(ctx, dut.bus, ROUTES, 2, 1 << Port.EAST.value)  # no such link
        await put(ctx, dut.i[1], numbered(0, 0, 3) + numbered(2, 0, 3) + numbered(1, 5, 3))

    async def sink(ctx):
        got.extend(as_flit(f) for f in await get(ctx, dut.o[0], 3))

    simulate(dut, run, sink)
    assert got == numbered(1, 5, 3)


def test_route_table_reads_back():
    dut = Router(geometry=GEOMETRY)

    async def run(ctx):
        for route in range(8):
            assert await access(ctx, dut.bus, ROUTES, route, 0xE0 | route * 3) == 0
        for route in range(8):
            assert await access(ctx, dut.bus, ROUTES, route) == route * 3
        await access(ctx, dut.bus, ROUTES, 8, 1)
        assert await access(ctx, dut.bus, ROUTES, 8) == 0
        assert await access(ctx, dut.bus, ROUTES, 0) == 0

    simulate(dut, run)


def test_neighbours_are_those_of_the_grid():
    geometry = Geometry(name="grid", engines=4, mesh_columns=3)
    assert neighbours(geometry, 0) == {Port.EAST: 1, Port.SOUTH: 3}
    assert neighbours(geometry, 4) == {Port.NORTH: 1, Port.EAST: 5, Port.WEST: 3}
    with pytest.raises(ValueError, match="links must be a mask"):
        Router(geometry=geometry, links=0)
