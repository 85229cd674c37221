"""What tests of feed-forward components share: run columns of numbers through, a row a clock."""

import numpy as np
from amaranth.hdl import Module
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from rtl.crossing import CALC
from rtl.hash import SharedHash
from rtl.params import Geometry

CLOCK = 12e-6


def run_pipeline(dut, inputs, outputs, latency):
    """Drive `dut` with one row of `inputs` a clock and return what it answers `latency` clocks after each.

    Parameters
    ----------
    dut : Component
    inputs : dict of name to sequence of N integers
    outputs : iterable of names
    latency : int

    Returns
    -------
    dict of name to int64 array of N values
    """
    count = len(next(iter(inputs.values())))
    columns = {name: [int(v) for v in values] for name, values in inputs.items()}
    seen = {name: [] for name in outputs}

    async def testbench(ctx):
        for clock in range(count + latency):
            if clock < count:
                for name, values in columns.items():
                    ctx.set(getattr(dut, name), values[clock])
            if clock >= latency:
                for name in outputs:
                    seen[name].append(ctx.get(getattr(dut, name)))
            await ctx.tick()

    simulate(dut, testbench)
    return {name: np.array(values, np.int64) for name, values in seen.items()}


def with_hashes(dut, *users):
    """Return a design of `dut` and a hash for each of its `users`, keyed by its setting `seed`."""
    m = Module()
    m.submodules.dut = dut
    for number, user in enumerate(users):
        m.submodules[f"hash_{number}"] = hashed = SharedHash()
        m.d.comb += hashed.key0.eq(dut.settings.seed)
        connect(m, user, hashed.users[0])
    return m


def add_clocks(simulator: Simulator, geometry: Geometry, skew: float = 0.0) -> None:
    """Add the clocks of a design that holds engines; the calculation's is `skew` of its periods behind the chip's."""
    simulator.add_clock(CLOCK)
    if geometry.pump > 1:
        simulator.add_clock(CLOCK / geometry.pump, phase=CLOCK / 2 + skew * CLOCK / geometry.pump, domain=CALC)


def simulate(dut, *testbenches, processes=()):
    """Run testbenches on `dut` with a clock until all have ended; processes only look on and may be endless."""
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    for process in processes:
        simulator.add_process(process)
    simulator.run()


def run_requests(dut, requests, fields, rng):
    """Send rows of `requests` to an always-ready stream component, with random gaps, and collect its answers.

    Parameters
    ----------
    dut : Component
        With streams `i` and `o` and a property `latency`, which is checked too.
    requests : dict of field name to sequence of N integers
    fields : iterable of names of the answers' fields
    rng : numpy Generator

    Returns
    -------
    dict of name to int64 array of N values
    """
    count = len(next(iter(requests.values())))
    rows = [{name: int(values[k]) for name, values in requests.items()} for k in range(count)]
    gaps = rng.integers(0, 2, 4 * count + 8).tolist()
    valids = []
    seen = {name: [] for name in fields}

    async def testbench(ctx):
        sent = 0
        while len(valids) < dut.latency or any(valids[-dut.latency:]) or sent < count:
            send = sent < count and not gaps[len(valids) % len(gaps)]
            ctx.set(dut.i.valid, send)
            if send:
                ctx.set(dut.i.payload, rows[sent])
                sent += 1
            valids.append(send)
            expected = len(valids) > dut.latency and valids[-1 - dut.latency]
            assert ctx.get(dut.o.valid) == expected
            if expected:
                for name in fields:
                    seen[name].append(ctx.get(getattr(dut.o.payload, name)))
            await ctx.tick()

    simulate(dut, testbench)
    return {name: np.array(values, np.int64) for name, values in seen.items()}
