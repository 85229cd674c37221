"""The verilated chip against the model: random networks, seeds, technologies, ages and settings, every integer.

Geometries are fixed, so each is built once and then found in the cache by every worker.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from host.compare import compare
from host.large import CHIPS
from rtl.params import preset
from sim.law import Number
from sim.presets import technology
from tests.chip.machine import bearable, cases, images, model, place, registers, verilated

TINY, PAIRS, SMALL, PUMPED = preset("tiny"), preset("pairs"), preset("small"), preset("pumped")
SEVERAL_TILES = (13, 8, 6)  # two row tiles, folds; then one tile
COLUMN_TILES = (6, 12)  # two column tiles
YEAR_S = 365 * 86_400.0

FEW = settings(derandomize=True, database=None, deadline=None, print_blob=True,
               suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])
MANY = settings(FEW, derandomize=False, max_examples=60)


def silent(_label, _total):
    return lambda _done: None


def check(device, reference, placement, kind, x, *, how="closed-loop", ages=()):
    """Compare two devices; something must have been compared, and nothing may differ."""
    found = compare(device, reference, placement, kind, x, how=how, ages=ages, progress=silent)
    assert {name: differing for name, (_, differing) in found.parts.items() if differing} == {}
    assert found.compared > 0
    assert found.differing == 0
    assert {"write-verify", "outputs", "target time", "device states", "counters"} <= set(found.parts)


def check_case(geometry, case, *, other=verilated):
    """Run a case on new devices, at its pace."""
    placement = place(case.sizes, case.seed, geometry)
    assume(bearable(case.technology, geometry, placement))
    pace = {"rx": case.rx, "tx": case.tx} if other is verilated else {}
    with other(geometry, **pace) as device, model(geometry, seed=case.seed, chip=case.chip) as reference:
        check(device, reference, placement, case.technology, images(case.sizes, case.seed + 2, case.count),
              ages=case.ages)


@given(case=cases(TINY, largest=16))
@settings(FEW, max_examples=10)
def test_tiny(case):
    check_case(TINY, case)


@given(case=cases(PAIRS, largest=16))
@settings(FEW, max_examples=6)
def test_pairs(case):
    check_case(PAIRS, case)


@given(case=cases(SMALL, largest=40))
@settings(FEW, max_examples=4)
def test_small(case):
    check_case(SMALL, case)


@given(case=cases(PUMPED, largest=60))
@settings(FEW, max_examples=4)
def test_pumped(case):
    check_case(PUMPED, case)


@pytest.mark.slow
@pytest.mark.parametrize(("geometry", "largest"), [(TINY, 20), (PAIRS, 20), (SMALL, 70), (PUMPED, 70)],
                         ids=lambda p: str(getattr(p, "name", p)))
def test_many(geometry, largest):
    given(case=cases(geometry, largest=largest, count=12))(MANY(lambda case: check_case(geometry, case)))()


@pytest.mark.parametrize("geometry", [TINY, PAIRS], ids=lambda geometry: geometry.name)
@pytest.mark.parametrize("sizes", [SEVERAL_TILES, COLUMN_TILES], ids=str)
def test_tiles_and_folds(geometry, sizes):
    """The networks really need what the random ones might not draw."""
    placement = place(sizes, 5, geometry)
    assert sum(tile.layer == 0 for tile in placement.tiles) > 1
    assert any(tile.rows > geometry.lanes for tile in placement.tiles) or geometry.lanes == geometry.rows
    with verilated(geometry) as device, model(geometry, seed=99, chip=17) as reference:
        check(device, reference, placement, technology("pcm"), images(sizes, 6, 5), ages=(0.0, 1e5))


@pytest.mark.parametrize(("sizes", "phases"), [(SEVERAL_TILES, 1), ((16, 16, 8, 6), 2)], ids=str)
def test_states_in_sdram(sizes, phases):
    """Two engines that share a part, which does not begin with zeros; and nets of two phases in the same places."""
    geometry = preset("tiny-sdram")
    placement = place(sizes, 5, geometry)
    assert len(placement.phases) == phases
    with verilated(geometry) as device, model(geometry, seed=99, chip=17) as reference:
        for one in (device, reference):
            one.configure(placement)
        for ours, theirs in zip(device.read_back(), reference.read_back(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        check(device, reference, placement, technology("pcm"), images(sizes, 6, 5), ages=(0.0, 1e5))


@pytest.mark.parametrize("other", [registers, pytest.param(verilated, marks=pytest.mark.slow)],
                         ids=["registers", "verilated"])
def test_more_than_sixteen_units(other):
    """A tile an engine: units and nodes that four bits of an address do not tell."""
    geometry = TINY.replace(name="many", engines=16, contexts=1, mesh_columns=6, routes=64, digital_words=512)
    placement = place((30, 24, 8, 6), 5, geometry)
    assert {tile.unit for tile in placement.tiles} == set(range(1, 17))
    assert (geometry.units, geometry.nodes) == (18, 18)
    with other(geometry) as device, model(geometry, seed=99, chip=17) as reference:
        check(device, reference, placement, technology("pcm"), images((30, 24, 8, 6), 6, 5), ages=(1e5,))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["speech-part", "tile1024"])
def test_a_part_of_a_large_chip(name):
    """Its own tile, devices and converters; of its cells and lanes as many as are compiled and run in a minute."""
    large = next(one for one in CHIPS if one.part == name)
    geometry = large.part_geometry()
    placement = place(large.part_sizes, 5, geometry)
    assert max(tile.rows for tile in placement.tiles) == geometry.rows == preset(name).rows
    with verilated(geometry) as device, model(geometry, seed=7, chip=2) as reference:
        check(device, reference, placement, technology("pcm"), images(large.part_sizes, 6, 5), ages=(1e5,))


@pytest.mark.slow
def test_the_chip_of_the_fast_board():
    """All of it, with a network that fills it: two clocks, states and batch in SDRAM, 1.9 million integers."""
    geometry, sizes = preset("demo-fast"), (784, 256, 128, 10)
    placement, x = place(sizes, 5, geometry), images(sizes, 6, 16)
    with verilated(geometry) as device, model(geometry, seed=99, chip=17) as reference:
        check(device, reference, placement, technology("pcm"), x, ages=(YEAR_S,))
        for one in (device, reference):
            one.load(x)
        for ours, theirs in zip(device.replay_codes(), reference.replay_codes(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("other", [registers, verilated], ids=["registers", "verilated"])
@pytest.mark.parametrize(("name", "ages"), [("pcm", (3600.0,)), ("rram-wan2022", (86_400.0, 172_800.0)),
                                            ("rram-cmo", (1.0, 3600.0)), ("sonos", (200_000.0, 432_000.0))])
def test_statistical_programming(name, ages, other):
    """One pulse, no verify, shifts and spreads of an age, noise constants that the host writes."""
    with other(PAIRS) as device, model(PAIRS, seed=12, chip=3) as reference:
        check(device, reference, place(SEVERAL_TILES, 41, PAIRS), technology(name), images(SEVERAL_TILES, 42, 5),
              how="statistical", ages=ages)
    with other(TINY) as device, model(TINY, seed=13, chip=4) as reference:
        check(device, reference, place(SEVERAL_TILES, 43, TINY), technology(name), images(SEVERAL_TILES, 44, 5),
              how="statistical", ages=ages)


@pytest.mark.parametrize("geometry", [TINY, PAIRS], ids=lambda geometry: geometry.name)
@pytest.mark.parametrize("name", ["pcm-set", "rram-om"])
@pytest.mark.parametrize("other", [registers, verilated], ids=["registers", "verilated"])
def test_gradual_devices(geometry, name, other):
    """One way, and both ways with stuck devices: every branch that a published technology takes."""
    kind = technology(name).replace(extrapolate=True, stuck=name == "rram-om")
    with other(geometry) as device, model(geometry, seed=31, chip=4) as reference:
        check(device, reference, place(SEVERAL_TILES, 9, geometry), kind, images(SEVERAL_TILES, 10, 5), ages=(1e5,))


@pytest.mark.parametrize(("geometry", "name"), [(TINY, "pcm"), (PAIRS, "pcm"), (TINY, "ecram"), (PAIRS, "rram-om")],
                         ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("other", [registers, verilated], ids=["registers", "verilated"])
def test_gradient_descent(geometry, name, other):
    """The host's pulses follow from what the arrays tell it: one code that differs would change all that follow."""
    kind = technology(name).replace(extrapolate=True)
    with other(geometry) as device, model(geometry, seed=5, chip=6) as reference:
        check(device, reference, place(SEVERAL_TILES, 7, geometry), kind, images(SEVERAL_TILES, 8, 3), how="gradient",
              ages=(1e4,))


@pytest.mark.parametrize("other", [registers, verilated], ids=["registers", "verilated"])
def test_every_fault_at_once(other):
    """Stuck and worn devices, converters that differ and are calibrated: in a build that has all of it."""
    geometry = TINY.replace(wear_bits=5, mismatch=True)
    kind = technology("pcm-hermes-1")
    for fault in ("stuck=0.05", "wear=12", "converters=0.15"):
        kind = kind.with_fault(fault)
    kind = kind.replace(converter_offset_spread=Number(3.0, "codes", "U", "test"))
    x = images(SEVERAL_TILES, 10, 5)
    with other(geometry) as device, model(geometry, seed=8, chip=9) as reference:
        check(device, reference, place(SEVERAL_TILES, 9, geometry), kind, x, ages=(1e5,))
        found = [[*one.calibrate().inference, *one.column_constants(), *one.infer_codes(x)]
                 for one in (reference, device)]
        for ours, theirs in zip(*found, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("geometry", [TINY, PAIRS, SMALL], ids=lambda geometry: geometry.name)
def test_the_models_two_ways(geometry):
    """Rows at once and vectors in batches, or register by register through the protocol."""
    sizes = (40, 16, 5) if geometry is SMALL else SEVERAL_TILES
    with registers(geometry) as device, model(geometry, seed=3, chip=200) as reference:
        check(device, reference, place(sizes, 7, geometry), technology("pcm"), images(sizes, 8, 9), ages=(1.0, 1e6))


@given(case=cases(PAIRS, largest=16, count=9))
@settings(FEW, max_examples=15)
def test_the_models_two_ways_at_random(case):
    check_case(PAIRS, case, other=registers)


@given(seed=st.integers(0, 2**32 - 1))
@settings(FEW, max_examples=2)
def test_several_programmings(seed):
    """Epochs on one device: new random values each time, the same on both; old networks leave nothing behind."""
    first, second = place(SEVERAL_TILES, 1, TINY), place(COLUMN_TILES, 2, TINY)
    kind = technology("pcm")
    with verilated(TINY) as device, model(TINY, seed=seed, chip=1) as reference:
        check(device, reference, first, kind, images(SEVERAL_TILES, 3, 3), ages=(3600.0,))
        once = reference.read_back()
        check(device, reference, first, kind, images(SEVERAL_TILES, 4, 3))
        assert any((a != b).any() for a, b in zip(once, reference.read_back(), strict=True))
        check(device, reference, second, kind, images(COLUMN_TILES, 5, 3), ages=(86400.0,))
        assert (device.epoch, device.event) == (reference.epoch, reference.event) == (3, 15)


@pytest.mark.parametrize("open_device", [model, verilated], ids=["model", "verilated"])
def test_two_steps_of_age_are_one(open_device):
    placement, kind, x = place(SEVERAL_TILES, 11, PAIRS), technology("pcm"), images(SEVERAL_TILES, 12, 6)

    def run(*ages):
        with open_device(PAIRS, seed=4, chip=4) as device:
            device.configure(placement)
            device.program(kind)
            fresh = device.read_back()
            for seconds in ages:
                device.age(seconds)
            gains = device.compensate().gains
            outputs, _ = device.infer_codes(x)
            assert all((a == b).all() for a, b in zip(fresh, device.read_back(), strict=True)), "ageing wrote states"
            return gains, outputs

    (gains, outputs), (other_gains, others), (early, young) = run(1e3, 1e5, 1e7), run(1e7), run(1e3)
    assert gains == other_gains != early
    np.testing.assert_array_equal(outputs, others)
    assert (outputs != young).any()


@pytest.mark.slow
def test_lanes_change_nothing():
    """The same tiles on three chips that differ in lanes: with four folds, with two and with one."""
    found = []
    for lanes in (4, 8, 16):
        geometry = TINY.replace(name=f"lanes{lanes}", rows=16, lanes=lanes)
        placement = place((30, 8, 6), 21, geometry)
        with verilated(geometry) as device, model(geometry, seed=6, chip=6) as reference:
            check(device, reference, placement, technology("pcm"), images((30, 8, 6), 22, 6), ages=(1e4,))
            found.append((device.read_back(), device.infer_codes(images((30, 8, 6), 23, 6)), device.counters()))
            assert [(tile.rows, tile.columns) for tile in placement.tiles] == [(16, 8), (14, 8), (8, 6)] or lanes
    for states, (outputs, times), counters in found[1:]:
        assert all((a == b).all() for a, b in zip(states, found[0][0], strict=True))
        np.testing.assert_array_equal(outputs, found[0][1][0])
        np.testing.assert_array_equal(times, found[0][1][1])
        assert counters == found[0][2]


@pytest.mark.parametrize(("rx", "tx"), [(1, 50), (30, 1), (7, 11)])
def test_pace_changes_nothing(rx, tx):
    placement = place(SEVERAL_TILES, 31, TINY)
    with verilated(TINY, rx=rx, tx=tx) as device, model(TINY, seed=8, chip=8) as reference:
        check(device, reference, placement, technology("pcm"), images(SEVERAL_TILES, 32, 6), ages=(60.0,))
