# amaranth: UnusedElaboratable=no
"""The engine's charges, forward and backward, against plain integer products."""

import numpy as np
import pytest
from amaranth.hdl import unsigned
from amaranth.sim import Simulator

from rtl.engine import BANKS, Engine
from rtl.params import Geometry, preset
from sim.engine import Engine as Model
from tests.rtl.bench import add_clocks


def small(lanes: int = 8, **changes) -> Geometry:
    return preset("tiny").replace(rows=16, columns=12, lanes=lanes, **changes)


class Bench:
    """Drive one engine: `send` a list of clocks, each a dict of what happens in it, and collect all sums by tag.

    The calculation clock is `skew` of its periods behind the chip's.
    """

    def __init__(self, geometry: Geometry, skew: float = 0.0):
        self.geometry = geometry
        self.skew = skew
        self.dut = Engine(geometry=geometry, tag=unsigned(16))

    def run(self, clocks: list[dict]) -> dict[int, int]:
        sums: dict[int, int] = {}
        issued: dict[int, int] = {}

        async def bench(ctx):
            dut = self.dut
            if self.geometry.pump > 1:
                await ctx.tick().repeat(5)  # until the middle is found
            for clock in range(len(clocks) + dut.latency + 1):
                now = clocks[clock] if clock < len(clocks) else {}
                ctx.set(dut.issue, {"valid": 1, **now["issue"]} if "issue" in now else {})
                ctx.set(dut.tag, now.get("tag", 0))
                ctx.set(dut.load, {"valid": 1, **now["load"]} if "load" in now else {})
                ctx.set(dut.write, {"valid": 1, **now["write"]} if "write" in now else {})
                if "tag" in now:
                    issued[now["tag"]] = clock
                if ctx.get(dut.o_valid):
                    tag = ctx.get(dut.o_tag)
                    assert clock - issued[tag] == dut.latency
                    assert tag not in sums
                    sums[tag] = ctx.get(dut.charge)
                await ctx.tick()

        simulator = Simulator(self.dut)
        add_clocks(simulator, self.geometry, self.skew)
        simulator.add_testbench(bench)
        simulator.run()
        return sums


def writes(geometry: Geometry, nets: np.ndarray, base: int, rng) -> list[dict]:
    """One write a net, in random order, of a matrix (rows, columns) as folds."""
    out = [{"write": {"lane": r % geometry.lanes, "address": base + r // geometry.lanes * nets.shape[1] + c,
                      "net": int(nets[r, c])}} for r in range(nets.shape[0]) for c in range(nets.shape[1])]
    return [out[k] for k in rng.permutation(len(out))] + [{}] * (geometry.lane_words + 3)


def loads(geometry: Geometry, x: np.ndarray, bank: int = 0) -> list[dict]:
    words = np.reshape(x, (-1, geometry.transport)).tolist()
    return [{"load": {"bank": bank, "group": k, "first": k == 0, "word": word}} for k, word in enumerate(words)]


def overlay(first: list[dict], second: list[dict]) -> list[dict]:
    """Both lists at the same time."""
    clocks = max(len(first), len(second))
    return [(first[k] if k < len(first) else {}) | (second[k] if k < len(second) else {}) for k in range(clocks)]


def nets_and_inputs(geometry: Geometry, rows: int, columns: int, vectors: int, rng):
    top = geometry.net_max
    nets = rng.integers(-top, top + 1, (rows, columns))
    x = rng.integers(-127, 128, (vectors, rows))
    nets[:, 0], nets[:, 1], nets[:, 2] = top, -top, 0
    x[0], x[1] = 127, -127
    return nets, x


@pytest.mark.parametrize(("lanes", "pump", "skew"), [
    (4, 1, 0), (8, 1, 0), (16, 1, 0), (8, 2, 0), (16, 2, 0.3), (16, 4, 0.7), (12, 3, 0), (24, 3, 0.5), (24, 3, 0.999)])
@pytest.mark.parametrize("name", ["tiny", "pairs"])
def test_charges_do_not_depend_on_lanes(lanes, pump, skew, name):
    rows = lanes * max(1, 16 // lanes)
    g = preset(name).replace(rows=rows, columns=12, lanes=lanes, pump=pump, net_words=256, soft_groups=pump // 3)
    rng = np.random.default_rng(lanes)
    nets, x = nets_and_inputs(g, rows, 12, 6, rng)
    columns, base, folds = nets.shape[1], 5, g.folds
    clocks = writes(g, nets, base, rng)
    passes = [(v, f) for v in range(len(x)) for f in range(folds)]
    clocks += loads(g, x[0, :lanes])
    for number, (v, f) in enumerate(passes):
        issue = []
        for c in range(columns):
            stalls = [{}] * int(rng.integers(0, 3) * (rng.random() < 0.2))
            issue += [*stalls, {"issue": {"address": base + f * columns + c, "bank": number % BANKS},
                                "tag": (v * 8 + f) * 16 + c}]
        following = passes[number + 1:number + 2]
        ahead = [loads(g, x[w, h * lanes:(h + 1) * lanes], (number + 1) % BANKS) for w, h in following]
        late = [{}] * (len(issue) - g.lane_words)  # the last word comes with the last column of the pass before
        clocks += overlay(issue, (late if number % 2 and ahead else []) + (ahead[0] if ahead else []))
    sums = Bench(g, skew).run(clocks)
    got = np.array([[sum(sums[(v * 8 + f) * 16 + c] for f in range(folds)) for c in range(columns)]
                    for v in range(len(x))])
    np.testing.assert_array_equal(got, x @ nets)

    model = Model(g)
    for r in range(rows):
        for c in range(columns):
            model.write(r % lanes, base + r // lanes * columns + c, nets[r, c])
    for f in range(folds):
        per_fold = [[sums[(v * 8 + f) * 16 + c] for c in range(columns)] for v in range(len(x))]
        np.testing.assert_array_equal(
            model.forward(x[:, f * lanes:(f + 1) * lanes], base + f * columns, columns), per_fold)


@pytest.mark.parametrize("pump", [1, 3])
def test_a_bank_is_loaded_while_the_others_wait(pump):
    """All banks full, read out of order; each is loaded anew in the clock after its last read."""
    g = small(lanes=12, pump=pump)
    rng = np.random.default_rng(pump)
    nets, x = nets_and_inputs(g.replace(rows=12), 12, 8, 2 * BANKS, rng)
    clocks, expected = writes(g, nets, 0, rng), {}
    for bank in range(BANKS):
        clocks += loads(g, x[bank], bank)
    for number in [*rng.permutation(BANKS).tolist(), *range(BANKS, 2 * BANKS)]:
        for c in range(8):
            clocks.append({"issue": {"address": c, "bank": number % BANKS}, "tag": 16 * number + c})
            expected[16 * number + c] = x[number] @ nets[:, c]
        if number < BANKS:
            clocks += loads(g, x[number + BANKS], number)
    assert Bench(g, 0.4).run(clocks) == expected


@pytest.mark.parametrize("pump", [1, 2, 3])
def test_write_changes_one_net_between_reads(pump):
    g = small(lanes=12 if pump == 3 else 8, pump=pump)
    rng = np.random.default_rng(3)
    nets, x = nets_and_inputs(g, g.lanes, 12, 2, rng)
    clocks = writes(g, nets, 0, rng) + loads(g, x[0])
    clocks += [{"issue": {"address": c}, "tag": c} for c in range(12)]
    clocks += [{"write": {"lane": 6, "address": 4, "net": -77}}, *([{}] * 8)]
    clocks += [{"issue": {"address": c}, "tag": 32 + c} for c in range(12)]
    sums = Bench(g).run(clocks)
    np.testing.assert_array_equal([sums[c] for c in range(12)], x[0] @ nets)
    nets[6, 4] = -77
    np.testing.assert_array_equal([sums[32 + c] for c in range(12)], x[0] @ nets)


@pytest.mark.parametrize("transport", [4, 5, 8])
def test_any_transport(transport):
    g = preset("tiny").replace(rows=4 * transport, lanes=2 * transport, columns=12, transport=transport)
    rng = np.random.default_rng(transport)
    nets, x = nets_and_inputs(g, 2 * transport, 12, 2, rng)
    clocks = writes(g, nets, 0, rng) + loads(g, x[0])
    clocks += [{"issue": {"address": c}, "tag": c} for c in range(12)]
    sums = Bench(g).run(clocks)
    np.testing.assert_array_equal([sums[c] for c in range(12)], x[0] @ nets)


@pytest.mark.parametrize(("transport", "pump", "skew"), [(4, 1, 0), (6, 1, 0), (4, 2, 0), (6, 3, 0.6), (4, 4, 0.2)])
def test_backward_between_forward_reads(transport, pump, skew):
    lanes = 2 * transport * pump
    g = preset("pairs").replace(rows=lanes, columns=24, lanes=lanes, transport=transport, pump=pump, net_words=128,
                                soft_groups=pump // 3, backward=True)
    rng = np.random.default_rng(11)
    nets, x = nets_and_inputs(g, lanes, 20, 2, rng)
    deltas = rng.integers(-127, 128, (3, 20))
    deltas[0], nets[1] = 127, g.net_max
    clocks = writes(g, nets, 7, rng) + loads(g, x[0])
    clocks += [{"issue": {"address": 7}, "tag": 0}]
    forward = 1
    for number, delta in enumerate(deltas.tolist()):
        for c, value in enumerate(delta):
            clocks.append({"issue": {"address": 7 + c, "backward": 1, "first": c == 0, "delta": value}})
            if c % 3 == number and forward < 20:
                clocks.append({"issue": {"address": 7 + forward}, "tag": forward})
                forward += 1
        clocks += [{}] * int(rng.integers(0, 4))
        clocks += [{"issue": {"drain": 1, "lane": lane}, "tag": 1000 + 100 * number + lane} for lane in range(lanes)]
    sums = Bench(g, skew).run(clocks)
    np.testing.assert_array_equal([sums[c] for c in range(forward)], (x[0] @ nets)[:forward])
    got = [[sums[1000 + 100 * number + lane] for lane in range(lanes)] for number in range(3)]
    np.testing.assert_array_equal(got, deltas @ nets.T)
    assert len(sums) == forward + 3 * lanes

    model = Model(g)
    model.nets[7:27] = nets.T
    np.testing.assert_array_equal(model.backward(deltas, 7), got)


def test_backward_hardware_is_absent_without_the_parameter():
    assert "backward" not in dict(iter(Engine(geometry=small()).issue.shape()))
    assert Engine(geometry=small()).latency == Engine(geometry=small(backward=True)).latency - 1
