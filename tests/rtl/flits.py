"""What tests of components with flit streams and a register bus share."""

import random
from collections.abc import Callable, Sequence

from rtl.params import ELEMENT_BITS, FlitKind

Flit = dict[str, int]


def pack(elements: Sequence[int]) -> int:
    """Return signed elements as the data of a flit."""
    mask = (1 << ELEMENT_BITS) - 1
    return sum((int(value) & mask) << (ELEMENT_BITS * k) for k, value in enumerate(elements))


def unpack(value: int, transport: int) -> list[int]:
    """Return the signed elements of a flit's data."""
    half, full = 1 << (ELEMENT_BITS - 1), 1 << ELEMENT_BITS
    elements = [(value >> (ELEMENT_BITS * k)) % full for k in range(transport)]
    return [e - full if e >= half else e for e in elements]


def message(route: int, kind: FlitKind, event: int, time: int, elements: Sequence[int], transport: int,
            position: int = 0) -> list[Flit]:
    """Return the flits of one message, header first; elements are padded with zeros to whole words."""
    padded = [*elements, *[0] * (-len(elements) % transport)]
    words = [padded[k:k + transport] for k in range(0, len(padded), transport)]
    header = {"route": route, "kind": int(FlitKind.HEADER), "last": 0, "data": event | time << 32 | position << 80}
    return [header] + [
        {"route": route, "kind": int(kind), "last": int(k == len(words) - 1), "data": pack(word)}
        for k, word in enumerate(words)
    ]


def always(_rng: random.Random) -> bool:
    """Never stall."""
    return True


def often(rng: random.Random) -> bool:
    """Stall every fourth clock, at random."""
    return rng.random() < 0.75


def seldom(rng: random.Random) -> bool:
    """Stall three of four clocks, at random."""
    return rng.random() < 0.25


async def put(ctx, stream, items: Sequence, *, go: Callable = always, rng: random.Random | None = None) -> None:
    """Send items into a stream, pausing when `go` says so."""
    rng = rng or random.Random(0)
    for item in items:
        while not go(rng):
            await ctx.tick()
        ctx.set(stream.payload, item)
        ctx.set(stream.valid, 1)
        await ctx.tick().until(stream.ready)
        ctx.set(stream.valid, 0)


async def get(ctx, stream, count: int, *, go: Callable = always, rng: random.Random | None = None) -> list:
    """Take items from a stream, pausing when `go` says so."""
    rng = rng or random.Random(0)
    items = []
    while len(items) < count:
        ready = go(rng)
        ctx.set(stream.ready, ready)
        _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
        if ready and valid:
            items.append(payload)
    ctx.set(stream.ready, 0)
    return items


async def access(ctx, bus, region: int, offset: int, value: int | None = None) -> int:
    """Read a word over a register bus, or write it, and return the response."""
    ctx.set(bus.request.payload, {"region": int(region), "offset": offset, "write": int(value is not None),
                                  "data": (value or 0) & 0xFFFFFFFF})
    ctx.set(bus.request.valid, 1)
    await ctx.tick().until(bus.request.ready)
    ctx.set(bus.request.valid, 0)
    ctx.set(bus.response.ready, 1)
    (response,) = await ctx.tick().sample(bus.response.payload).until(bus.response.valid)
    ctx.set(bus.response.ready, 0)
    return response


def as_flit(payload) -> Flit:
    """Return a sampled flit as plain integers."""
    return {name: int(payload[name]) for name in ("route", "kind", "last", "data")}
