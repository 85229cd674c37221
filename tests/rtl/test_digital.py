"""The digital unit against its model, to the bit: demonstrations, random programs, stalls, joins, registers."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from rtl.digital import DigitalUnit
from rtl.params import Destination, DigitalRegion, FlitKind, Instruction, Mode
from sim.digital import DigitalUnit as DigitalModel
from sim.message import Message
from tests.programs import (
    GEOMETRY,
    HIGH,
    LOW,
    ZONE,
    W,
    dense,
    elements,
    gathering,
    landing,
    lstm,
    patches,
    pooling,
    program,
    random_instruction,
)
from tests.rtl.flits import access, always, as_flit, get, message, often, put, seldom

SETTLE = 200


class Bench:
    """One unit and its model, the same writes and messages for both."""

    def __init__(self, writes, inputs, *, seed: int = 0, parts: dict[int, int] | None = None, turns: int = 1):
        self.dut = DigitalUnit(geometry=GEOMETRY.replace(digital_turns=turns))
        self.model = DigitalModel(GEOMETRY)
        self.writes = writes
        for write in writes:
            self.model.write(*write)
        rng = np.random.default_rng(seed)
        self.flits: dict[int, list[list[dict[str, int]]]] = {}
        self.expected: dict[int, list[dict[str, int]]] = {}
        count = len(next(iter(inputs.values())))
        events = rng.integers(0, 1 << 32, count)
        for route, values in inputs.items():
            times = np.cumsum(rng.integers(0, 5000, count))
            pieces = np.split(np.asarray(values), (parts or {}).get(route, 1), axis=1)
            self.flits[route] = [
                message(route, FlitKind.PARTIAL, int(events[k]), int(times[k]), piece[k].tolist(), W)
                for k in range(count) for piece in pieces]
            share = len(pieces)
            self._expect(self.model.accept(Message(
                route=route, kind=FlitKind.PARTIAL, events=np.repeat(events, share), times=np.repeat(times, share),
                elements=np.stack(pieces, axis=1).reshape(count * share, -1))))
        self.rng = random.Random(seed)
        self.parts = parts or {}

    def _expect(self, sent: list[Message]) -> None:
        """Messages of a run leave together: run 0's, then run 1's."""
        by_run: dict[tuple[int, int], list[Message]] = {}
        for m in sent:
            by_run.setdefault((m.route, len(m.events)), []).append(m)
        for (route, count), batch in by_run.items():
            positions = [np.broadcast_to(m.position, count).tolist() for m in batch]
            self.expected.setdefault(route, []).extend(
                flit for k in range(count) for m, position in zip(batch, positions, strict=True)
                for flit in message(route, m.kind, int(m.events[k]), int(m.times[k]), m.elements[k].tolist(), W,
                                    position[k]))

    def mixed(self) -> list[dict[str, int]]:
        """All flits, those of different routes in random order, as the mesh may deliver them.

        No route runs more than two messages ahead of another: further ahead it would rightly block the rest.
        """
        queues = {route: [flit for m in messages for flit in m] for route, messages in self.flits.items()}
        done = dict.fromkeys(queues, 0)
        mixed = []
        while any(queues.values()):
            behind = int(min(done[r] for r, q in queues.items() if q) + 0.01)
            route = self.rng.choice([r for r, q in queues.items() if q and done[r] < behind + 1.99])
            flit = queues[route].pop(0)
            done[route] += flit["last"] / self.parts.get(route, 1)
            mixed.append(flit)
        return mixed

    def run(self, go_in=always, go_out=always, *, words=(), check=None) -> None:
        """Run the RTL; compare every route's flits, the words of the memory that `words` names, and the counters."""
        got: dict[int, list[dict[str, int]]] = {}
        total = sum(len(flits) for flits in self.expected.values())
        offered = self.mixed()
        configured = []

        async def send(ctx):
            for region, offset, value in self.writes:
                assert await access(ctx, self.dut.bus, region, offset, value) == 0
            configured.append(True)
            await put(ctx, self.dut.i, offered, go=go_in, rng=self.rng)

        async def receive(ctx):
            rng = random.Random(self.rng.random())
            for flit in await get(ctx, self.dut.o, total, go=go_out, rng=rng):
                got.setdefault(int(flit.route), []).append(as_flit(flit))
            assert configured
            ctx.set(self.dut.o.ready, 1)
            for _ in range(SETTLE):
                _, _, valid = await ctx.tick().sample(self.dut.o.valid)
                assert not valid, "more flits than the model sends"
            reads = [(DigitalRegion.MEMORY, word * 16 + k) for word in words for k in range(W)]
            reads += [(DigitalRegion.COUNTERS, k) for k in range(4)]
            for region, offset in reads:
                found = await access(ctx, self.dut.bus, region, offset)
                assert found == self.model.read(region, offset), (region, offset)
            if check is not None:
                await check(ctx)

        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(send)
        simulator.add_testbench(receive)
        simulator.run()
        assert got == self.expected


@pytest.mark.parametrize(("go_in", "go_out"), [(always, always), (often, seldom), (seldom, often)])
def test_a_dense_layer(go_in, go_out):
    setup = dense(4, np.random.default_rng(1))
    Bench(setup.writes, setup.inputs).run(go_in, go_out)


@pytest.mark.parametrize("go_out", [always, seldom])
def test_convolution_patches(go_out):
    setup = patches(3, np.random.default_rng(2))
    Bench(setup.writes, setup.inputs).run(always, go_out)


@pytest.mark.parametrize("go_out", [always, seldom])
def test_pooling(go_out):
    setup = pooling(3, np.random.default_rng(3))
    Bench(setup.writes, setup.inputs).run(often, go_out, words=range(80, 100))


def test_an_lstm_cell():
    setup, _ = lstm(12, np.random.default_rng(4))
    Bench(setup.writes, setup.inputs).run(words=range(96, 112))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_gathers_several_messages_of_a_route(seed):
    setup = gathering(5, np.random.default_rng(seed))
    Bench(setup.writes, setup.inputs, seed=seed, parts={4: 3}).run(often, often, words=range(18, 36))


def legal(rng, number: int, base: int, zone: int, words: int, count: int) -> list[Instruction]:
    codes: list[Instruction] = []
    while len(codes) < count:
        code = random_instruction(rng, base, zone, words)
        unit = DigitalModel(GEOMETRY)
        try:
            for write in program(number, [code], slot=ZONE):
                unit.write(*write)
            unit.carries_state(number)
        except ValueError:
            continue
        codes.append(code)
    return codes


@pytest.mark.parametrize(("turns", "seed"), [*((1, seed) for seed in range(8)), (2, 8), (2, 9), (4, 10), (4, 11)])
def test_random_programs(turns, seed):
    """A program of two joined routes, random instructions, random memory and tables."""
    rng = np.random.default_rng(seed)
    codes = legal(rng, 2, LOW, 0, ZONE, 8)
    codes += [Instruction(a_base=LOW + 6 * k, n0=6, a_s0=1, destination=Destination.PARTIAL, route=9) for k in range(8)]
    writes = landing(4, 0, 2) + landing(5, ZONE // 2, 2)
    writes += program(2, codes, messages=2, slot=ZONE, latency=int(rng.integers(1 << 12)))
    writes += elements(LOW, rng.integers(-(1 << 23), 1 << 23, (HIGH - LOW) * W))
    entries = rng.integers(0, 512, 40)
    writes += [(DigitalRegion.ACTIVATION_TABLES, int(k), int(v))
               for k, v in zip(entries, rng.integers(-(1 << 23), 1 << 23, 40), strict=True)]
    writes += [(DigitalRegion.ACTIVATION_TABLES, k, k * 3 - 700) for k in (0, 255, 256, 511)]
    scale = int(rng.choice([7, 12, 23]))
    inputs = {route: rng.integers(-(1 << scale), 1 << scale, (4, ZONE // 2 * W)) for route in (4, 5)}
    bench = Bench(writes, inputs, seed=seed, turns=turns)
    bench.run(*(random.Random(seed).choice([always, often, seldom]) for _ in range(2)))


@pytest.mark.parametrize("seed", range(3))
def test_several_programs_take_turns(seed):
    rng = np.random.default_rng(seed)
    writes, inputs = [], {}
    for number in range(3):
        codes = [Instruction(a_mode=Mode.LANDING, a_base=30 * number, n0=4, a_s0=1, post=1, d_base=100 + 4 * number,
                             d_s0=1),
                 Instruction(a_base=100 + 4 * number, n0=4, a_s0=1, destination=Destination.PARTIAL, route=number)]
        writes += landing(number, 30 * number, number)
        writes += program(number, codes, start=4 * number, slot=9, latency=number)
        inputs[number] = rng.integers(-1000, 1000, (5, 4 * W))
    Bench(writes, inputs, seed=seed).run(always, seldom, words=range(100, 112))


@pytest.mark.parametrize("turns", [1, 2])
def test_results_leave_at_one_word_in_the_clocks_of_its_turns(turns):
    codes = [Instruction(a_mode=Mode.LANDING, n0=2, a_s0=1, n1=60, destination=Destination.PARTIAL, route=1)]
    bench = Bench(landing(0, 0, 0) + program(0, codes, slot=8), {0: np.arange(2 * W)[None]}, turns=turns)
    dut, trace = bench.dut, []

    async def send(ctx):
        for write in bench.writes:
            await access(ctx, dut.bus, *write)
        await put(ctx, dut.i, bench.mixed())

    async def receive(ctx):
        ctx.set(dut.o.ready, 1)
        while sum(trace) < 1 + 120:
            _, _, valid = await ctx.tick().sample(dut.o.valid)
            trace.append(valid)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(send)
    simulator.add_testbench(receive)
    simulator.run()
    assert trace[-120 * turns:] == ([0] * (turns - 1) + [1]) * 120


def test_flits_on_unknown_routes_are_dropped():
    setup = pooling(1, np.random.default_rng(3))
    bench = Bench(setup.writes, setup.inputs)
    bench.flits[11] = [message(11, FlitKind.PARTIAL, 1, 2, [3] * 8, W)]
    bench.run()


def test_registers_read_back_and_a_reset_program_starts_over():
    setup = dense(3, np.random.default_rng(6))
    bench = Bench(setup.writes, setup.inputs)
    reads = [(DigitalRegion.INPUT_ROUTES, k) for k in (0, 1, 2, 3, 4, 5, 64)]
    reads += [(DigitalRegion.PROGRAMS, k) for k in (*range(8), 16)] + [(DigitalRegion.INSTRUCTIONS, 24)]
    reads += [(DigitalRegion.MEMORY, (22 << 4) + k) for k in range(5)] + [(DigitalRegion.MEMORY, 128 << 4)]

    async def check(ctx):
        for region, offset in reads:
            found = await access(ctx, bench.dut.bus, region, offset)
            assert found == bench.model.read(region, offset), (region, offset)
        # An odd number of vectors has run: without the reset the next one would land in the second slot.
        for write in setup.writes:
            await access(ctx, bench.dut.bus, *write)
        first = [flit for route in bench.flits for flit in bench.flits[route][0]]
        for flit in first:
            await put(ctx, bench.dut.i, [flit])
        again = [as_flit(f) for f in await get(ctx, bench.dut.o, 3)]
        assert again == bench.expected[9][:3]

    bench.run(check=check)
