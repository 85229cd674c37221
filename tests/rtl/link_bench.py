"""Runs `rtl.link.Link` over a `FakeDevice`: bytes in, bytes out, and how many clocks they took."""

import random
from collections.abc import Callable, Iterator

from amaranth.sim import Simulator

from rtl.link import Link
from rtl.params import Geometry
from tests.fake_device import FakeDevice

BUS_LIMIT = 60


async def until(ctx, condition, *values) -> tuple:
    """Wait for a clock with `condition` and return what `values` were then; may be abandoned, unlike `tick().until`."""
    while True:
        _, _, met, *sampled = await ctx.tick().sample(condition, *values)
        if met:
            return tuple(sampled)


async def pause(ctx, clocks: int) -> None:
    """Wait; may be abandoned, unlike `tick().repeat`."""
    for _ in range(clocks):
        await ctx.tick()


async def put_bytes(ctx, stream, payload: bytes, rng: random.Random | None) -> None:
    """Offer bytes on a stream of 8, with gaps where there is a random generator."""
    for byte in payload:
        if rng is not None:
            await pause(ctx, rng.choice((1, 1, 1, 2, 5)))
        ctx.set(stream.payload, byte)
        ctx.set(stream.valid, 1)
        await until(ctx, stream.ready)
        ctx.set(stream.valid, 0)


async def get_bytes(ctx, stream, more: Callable[[], bool], quiet: int,
                    rng: random.Random | None, share: float = 0.7) -> tuple[bytes, list[int]]:
    """Take bytes until, with no `more` going in, none comes for `quiet` clocks; return them and the clock of each.

    With a random generator, only in a `share` of the clocks.
    """
    taken, clocks, clock, last = bytearray(), [], 0, 0
    while more() or clock - last < quiet:
        ctx.set(stream.ready, 1 if rng is None else rng.random() < share)
        _, _, valid, ready, payload = await ctx.tick().sample(stream.valid, stream.ready, stream.payload)
        clock += 1
        if valid and ready:
            taken.append(payload)
            clocks.append(clock)
        if valid or more():
            last = clock
    return bytes(taken), clocks


def run_link(geometry: Geometry, device: FakeDevice, received: bytes, *, seed: int | None = None,
             quiet: int = 800, share: float | None = None) -> tuple[bytes, list[int]]:
    """Return what the link answers to `received`, and the clock of each byte.

    With a seed, everything stalls; with a `share`, only `tx` does, which is read in that share of the clocks.
    """
    dut = Link(geometry=geometry, bus_limit=BUS_LIMIT)
    rngs = [None if seed is None else random.Random(seed * 8 + k) for k in range(5)]
    out: list[tuple[bytes, list[int]]] = []
    fed: list[bool] = []

    async def feed(ctx):
        await put_bytes(ctx, dut.rx, received, rngs[0])
        fed.append(True)

    async def collect(ctx):
        out.append(await get_bytes(ctx, dut.tx, lambda: not fed, quiet if seed is None else 2 * quiet,
                                   rngs[1] if share is None else random.Random(1), share or 0.7))

    async def bus(ctx):
        await _serve_bus(ctx, dut, device, rngs[2])

    async def vectors(ctx):
        await _serve_send(ctx, dut, device, rngs[3])

    async def sessions(ctx):
        while True:
            await until(ctx, dut.new_session)
            device.new_session()

    async def results(ctx):
        await _serve_result(ctx, dut, device, rngs[4])

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(collect)
    for testbench in (feed, bus, vectors, sessions, results):
        simulator.add_testbench(testbench, background=True)
    simulator.run()
    return out[0]


async def _serve_bus(ctx, dut, device, rng):
    request, response = dut.bus.request, dut.bus.response
    while True:
        if rng is not None:
            await pause(ctx, rng.randint(1, 6))
        ctx.set(request.ready, 1)
        access, unit = await until(ctx, request.valid, request.payload, dut.unit)
        ctx.set(request.ready, 0)
        try:
            place = unit, access.region, access.offset
            word = 0
            if access.write:
                device.write(*place, access.data)
            else:
                word = device.read(*place)
        except TimeoutError:
            # Too late, and the answer must not be taken for that of the next access.
            await pause(ctx, BUS_LIMIT + 20)
            word = 0xDEAD_BEEF
        if rng is not None:
            await pause(ctx, rng.randint(1, 6))
        ctx.set(response.payload, word)
        ctx.set(response.valid, 1)
        await until(ctx, response.ready)
        ctx.set(response.valid, 0)


def _update(ctx, dut, device):
    ctx.set(dut.credit, device.credit)
    ctx.set(dut.available, len(device.results) > 0)


async def _serve_send(ctx, dut, device, rng):
    _update(ctx, dut, device)
    packet = bytearray()
    while True:
        if rng is not None:
            ctx.set(dut.send.ready, rng.random() < 0.6)
        else:
            ctx.set(dut.send.ready, 1)
        _, _, valid, ready, payload = await ctx.tick().sample(dut.send.valid, dut.send.ready, dut.send.payload)
        if valid and ready:
            packet.append(payload.byte)
            if payload.last:
                device.send(bytes(packet))
                packet.clear()
                _update(ctx, dut, device)


async def _serve_result(ctx, dut, device, rng):
    while True:
        await until(ctx, dut.result.ready)
        result = device.receive()
        assert result is not None, "the link takes a result that was not available"
        for k, byte in enumerate(result):
            if rng is not None:
                await pause(ctx, rng.randint(1, 3))
            ctx.set(dut.result.payload, {"byte": byte, "last": k == len(result) - 1})
            ctx.set(dut.result.valid, 1)
            await until(ctx, dut.result.ready)
            ctx.set(dut.result.valid, 0)
        _update(ctx, dut, device)


def frames(coded: bytes) -> Iterator[bytes]:
    """Yield the non-empty frames of a run of bytes, without their zeros."""
    yield from (part for part in coded.split(b"\0") if part)
