"""Small programs for the digital unit, each with what it should compute told in plain numpy."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from rtl.params import Destination, DigitalRegion, Geometry, Instruction, Mode, Operation, Post, Reduce
from rtl.params.registers import PROGRAM_STRIDE, ROUTE_STRIDE
from sim.fixed import Ints

GEOMETRY = Geometry(name="digital", engines=1, contexts=4, rows=8, columns=8, lanes=4, net_words=64, cells=256,
                    column_words=32, digital_words=128, instructions=16, programs=4, routes=16)
W = GEOMETRY.transport

Write = tuple[DigitalRegion, int, int]


@dataclasses.dataclass(frozen=True)
class Setup:
    """Register writes, the messages to send (route -> (N, elements)), and the results on each route (N, elements)."""

    writes: list[Write]
    inputs: dict[int, Ints]
    expected: dict[int, Ints]


def landing(route: int, base: int, program: int) -> list[Write]:
    return [(DigitalRegion.INPUT_ROUTES, route * ROUTE_STRIDE, base),
            (DigitalRegion.INPUT_ROUTES, route * ROUTE_STRIDE + 1, program | 16)]


def program(number: int, codes: Iterable[Instruction], *, start: int = 0, messages: int = 1, slot: int = 0,
            latency: int = 0) -> list[Write]:
    codes = list(codes)
    codes[-1] = dataclasses.replace(codes[-1], last=True)
    record = number * PROGRAM_STRIDE
    writes = [(DigitalRegion.PROGRAMS, record + k, value) for k, value in enumerate((start, messages, slot, latency))]
    writes += [(DigitalRegion.INSTRUCTIONS, (start + n) * 8 + k, word)
               for n, code in enumerate(codes) for k, word in enumerate(code.words())]
    return writes


def elements(word: int, values: Iterable[int]) -> list[Write]:
    return [(DigitalRegion.MEMORY, (word + k // W) * 16 + k % W, int(value)) for k, value in enumerate(values)]


def halved(value: Ints, shift: int) -> Ints:
    """Round to nearest, halves up, by exact rationals rather than by the project's own rule."""
    return np.floor(value / 2.0**shift + 0.5).astype(np.int64)


def dense(count: int, rng: np.random.Generator) -> Setup:
    """Seven tiles' partial sums of eight columns and a bias, RELU, requantised: one instruction."""
    tiles, columns, words, slot = 7, 8, 2, 16
    sums = rng.integers(-40000, 40000, (tiles, count, columns))
    sums[:, 0] = 500_000  # saturates the activation
    bias = rng.integers(-3000, 3000, columns)
    code = Instruction(operation=Operation.PASS, reduce=Reduce.SUM, post=Post.RELU, shift=9, activation=True,
                       destination=Destination.ACTIVATION, route=9, a_mode=Mode.LANDING, a_base=8,
                       n0=tiles + 1, a_s0=words, n1=words, a_s1=1)
    writes = program(1, [code], start=3, messages=tiles, slot=slot, latency=700)
    for tile in range(tiles):
        writes += landing(tile, 8 + tile * words, 1)
    for k in range(2):
        writes += elements(8 + k * slot + tiles * words, bias)
    expected = np.clip(halved(sums.sum(axis=0) + bias, 9), 0, 127)
    return Setup(writes, {t: sums[t] for t in range(tiles)}, {9: expected})


def patches(count: int, rng: np.random.Generator) -> Setup:
    """All 3 x 3 patches, stride 1, of a 4 x 5 x 4 feature map, channels last: an instruction and message each."""
    height, width, channels = 4, 5, W
    maps = rng.integers(-127, 128, (count, height, width, channels))
    positions = [(y, x) for y in range(height - 2) for x in range(width - 2)]
    codes = [Instruction(activation=True, destination=Destination.ACTIVATION, route=5, a_mode=Mode.LANDING,
                         a_base=y * width + x, n0=3, a_s0=1, n1=3, a_s1=width) for y, x in positions]
    writes = landing(2, 0, 0) + program(0, codes, slot=height * width, latency=50)
    expected = np.stack([maps[:, y:y + 3, x:x + 3].reshape(count, -1) for y, x in positions], axis=1)
    return Setup(writes, {2: maps.reshape(count, -1)}, {5: expected.reshape(count * len(positions), -1)})


def pooling(count: int, rng: np.random.Generator) -> Setup:
    """2 x 2 maximum over a 4 x 4 x 8 feature map: rows against rows, then columns against columns."""
    side, channels, words = 4, 2 * W, 2
    maps = rng.integers(-127, 128, (count, side, side, channels))
    row, scratch = side * words, 80
    codes = [
        Instruction(operation=Operation.MAX, a_mode=Mode.LANDING, b_mode=Mode.LANDING, b_base=row, n0=row, a_s0=1,
                    b_s0=1, n1=side // 2, a_s1=2 * row, b_s1=2 * row, d_base=scratch, d_s0=1, d_s1=row),
        Instruction(operation=Operation.MAX, activation=True, destination=Destination.ACTIVATION, route=7,
                    a_base=scratch, b_mode=Mode.MEMORY, b_base=scratch + words, n0=words, a_s0=1, b_s0=1,
                    n1=side // 2, a_s1=2 * words, b_s1=2 * words, n2=side // 2, a_s2=row, b_s2=row),
    ]
    writes = landing(0, 0, 2) + program(2, codes, slot=side * row, latency=90)
    expected = maps.reshape(count, side // 2, 2, side // 2, 2, channels).max(axis=(2, 4))
    return Setup(writes, {0: maps.reshape(count, -1)}, {7: expected.reshape(count, -1)})


def gathering(count: int, rng: np.random.Generator) -> Setup:
    """A run takes three messages of one word on route 4 and one of three words on route 5, and multiplies them."""
    words = rng.integers(-1000, 1000, (2, count, 3 * W))
    code = Instruction(operation=Operation.MUL, shift=2, a_mode=Mode.LANDING, a_base=20, b_mode=Mode.LANDING,
                       b_base=24, n0=3, a_s0=1, b_s0=1, destination=Destination.PARTIAL, route=6)
    writes = landing(4, 20, 1) + landing(5, 24, 1) + program(1, [code], messages=4, slot=8, latency=5)
    writes.append((DigitalRegion.INPUT_ROUTES, 4 * ROUTE_STRIDE + 2, 2))
    return Setup(writes, {4: words[0], 5: words[1]}, {6: halved(words[0] * words[1], 2)})


STATE, GATES, ONE = 100, 104, 1 << 12
"""First word of the LSTM's cell state, of its scratch, and 1.0 in its fixed point."""


def logistic(x):
    return 1 / (1 + np.exp(-x))


def lstm(count: int, rng: np.random.Generator) -> tuple[Setup, Ints]:
    """One LSTM cell of 4 units, gates i f o g as sums with 10 fraction bits; the state stays in memory.

    The results are those of a float LSTM, to be met loosely; the sums come back too.
    """
    sums = rng.normal(0, 1.5, (count, 4, W))
    i, f, o, g = (GATES + k for k in range(4))
    memory, table = Mode.MEMORY, Destination.MEMORY
    codes = [
        Instruction(post=Post.TABLE0, shift=6, a_mode=Mode.LANDING, n0=3, a_s0=1, d_base=i, d_s0=1),
        Instruction(post=Post.TABLE1, shift=6, a_mode=Mode.LANDING, a_base=3, d_base=g),
        Instruction(operation=Operation.MUL, shift=12, a_base=f, b_mode=memory, b_base=STATE, d_base=STATE),
        Instruction(operation=Operation.MUL, shift=12, a_base=i, b_mode=memory, b_base=g, d_base=g),
        Instruction(operation=Operation.ADD, a_base=STATE, b_mode=memory, b_base=g, d_base=STATE, destination=table),
        Instruction(post=Post.TABLE1, shift=8, a_base=STATE, d_base=g),
        Instruction(operation=Operation.MUL, shift=17, a_base=o, b_mode=memory, b_base=g, activation=True,
                    destination=Destination.ACTIVATION, route=3),
    ]
    index = (np.arange(256) - 128) / 16
    writes = landing(1, 0, 3) + program(3, codes, slot=4, latency=10) + elements(STATE, [0] * W)
    for number, values in enumerate((logistic(index), np.tanh(index))):
        writes += [(DigitalRegion.ACTIVATION_TABLES, number << 8 | k, int(v))
                   for k, v in enumerate(np.rint(values * ONE))]
    state, hidden = np.zeros(W), []
    for t in range(count):
        state = logistic(sums[t, 1]) * state + logistic(sums[t, 0]) * np.tanh(sums[t, 3])
        hidden.append(logistic(sums[t, 2]) * np.tanh(state) * 128)
    fixed = np.rint(sums * 1024).astype(np.int64).reshape(count, -1)
    return Setup(writes, {1: fixed}, {}), np.array(hidden)


LOW, HIGH = 32, 80
"""Programs of random instructions work in LOW...HIGH - 1; number 1 in the words after these, as many."""

ZONE = 8
"""Words of a landing zone of these programs: one slot of one route."""


def random_instruction(rng: np.random.Generator, base: int, zone: int, words: int) -> Instruction:
    """A random instruction that reads `words` words at `zone` (landing) or words from `base` on, and writes these."""

    def loop(first: int, size: int, counts: list[int]) -> tuple[int, list[int]]:
        while True:
            strides = [int(s) for s in rng.integers(-9, 10, 3)]
            start = first + int(rng.integers(size))
            spans = [s * (n - 1) for s, n in zip(strides, counts, strict=True)]
            if start + sum(min(0, s) for s in spans) >= first and start + sum(max(0, s) for s in spans) < first + size:
                return start, strides

    reduce = Reduce(rng.integers(3))
    counts = [int(rng.integers(1, 5)), int(rng.integers(1, 4)), int(rng.integers(1, 3))]
    destination = Destination(rng.choice([0, 0, 0, 1, 2]))
    values: dict[str, int] = {}
    for name in ("a", "b"):
        mode = Mode(rng.integers(3))
        start, strides = loop(zone, words, counts) if mode == Mode.LANDING else loop(base, HIGH - LOW, counts)
        values |= {f"{name}_mode": mode, f"{name}_base": start} | {f"{name}_s{k}": s for k, s in enumerate(strides)}
    written = [1 if reduce else counts[0], *counts[1:]]
    start, strides = loop(base, HIGH - LOW, written)
    values |= {"d_base": start} | {f"d_s{k}": s for k, s in enumerate(strides)}
    operation = Operation(rng.integers(6))
    return Instruction(
        operation=operation, reduce=reduce, post=Post(rng.integers(4)), destination=destination,
        shift=int(rng.choice([0, 1, 7, 12, 20, 23, 31] if operation == Operation.MUL else [0, 0, 1, 2, 5, 16])),
        activation=destination == Destination.ACTIVATION or bool(rng.integers(2)), route=int(rng.integers(10, 16)),
        n0=counts[0], n1=counts[1], n2=counts[2], immediate=int(rng.integers(-(1 << 23), 1 << 23)),
        position=int(rng.integers(1 << 12)), **values)
