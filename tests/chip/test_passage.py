"""What the model works out once is made anew when anything that it was made from is written."""

import dataclasses

import numpy as np
import pytest

import sim.chip
from rtl.params import ROUTES, DigitalRegion, EngineRegion, PortRegion, preset
from rtl.params.registers import COLUMN_STRIDE, CONTEXT_STRIDE, ROUTE_STRIDE, register
from sim.presets import technology
from tests.chip.machine import images, model, place

SIZES = (13, 8, 6)
GEOMETRY = preset("tiny")
PLACEMENT = place(SIZES, 1, GEOMETRY)
X = 2 * images(SIZES, 2, 9)
DIGITAL = GEOMETRY.digital_unit


def device():
    found = model(GEOMETRY, seed=5)
    found.configure(PLACEMENT)
    found.program(technology("pcm"), how="statistical")
    return found


def write(found, unit, region, offset, change):
    word = int(found.backend.read(unit, region, offset)[0])
    found.backend.write(unit, region, offset, [change(word)])


def engine_register(name):
    return 1, EngineRegion.REGISTERS, register("engine", EngineRegion.REGISTERS, name).offset


def record(name):
    offset = register("engine", EngineRegion.CONTEXTS, name).offset
    return 1, EngineRegion.CONTEXTS, PLACEMENT.tiles[0].context * CONTEXT_STRIDE + offset


def column(name):
    offset = register("engine", EngineRegion.COLUMNS, name).offset
    return 1, EngineRegion.COLUMNS, PLACEMENT.tiles[0].column_base * COLUMN_STRIDE + offset


def exchange(found, unit, region, first, second):
    """Exchange two words."""
    words = [int(found.backend.read(unit, region, offset)[0]) for offset in (first, second)]
    for offset, word in zip((second, first), words, strict=True):
        found.backend.write(unit, region, offset, [word])


def other_instruction(found):
    """Have the first instruction round by another shift."""
    digital = found.backend.chip.digital
    code = digital.instructions(0)[0]
    found.backend.write(DIGITAL, DigitalRegion.INSTRUCTIONS, 0, dataclasses.replace(code, shift=code.shift + 1).words())


def set_nets(found):
    tiles = found.backend.chip.cores[0].tiles
    tiles.set_nets(0, -tiles._weights[0].nets)


def other_route(found):
    """Lead the results of the first tile elsewhere: no unit takes them."""
    found.backend.write(1, ROUTES, PLACEMENT.tiles[0].route, [0])


FIRST, SECOND = (tile.route for tile in PLACEMENT.tiles[:2])

WRITES = {
    "seed": lambda found: write(found, *engine_register("seed"), lambda word: word + 1),
    "gain of a context": lambda found: write(found, *record("adc_gain"), lambda word: word // 2),
    "tile of a context": lambda found: write(found, *record("tile"), lambda word: word + 9),
    "latency of a context": lambda found: write(found, *record("latency"), lambda word: word + 9),
    "scale of a column": lambda found: write(found, *column("scale"), lambda word: word ^ 64),
    "bias of a column": lambda found: write(found, *column("bias"), lambda word: word + 700),
    "noise of a column": lambda found: write(found, *column("noise"), lambda word: 4 * word + 900),
    "nets": set_nets,
    "age": lambda found: found.age(1e7),
    "contexts of two inputs": lambda found: exchange(found, 1, EngineRegion.INPUTS, 0, 1),
    "an input that is none": lambda found: found.backend.write(1, EngineRegion.INPUTS, 0, [0]),
    "a route in the mesh": other_route,
    "routes of the plan": lambda found: exchange(found, 0, PortRegion.PLAN, 0, 1),
    "landing of a route": lambda found: write(found, DIGITAL, DigitalRegion.INPUT_ROUTES, FIRST * ROUTE_STRIDE,
                                              lambda word: word + 1),
    "slots of a program": lambda found: found.backend.write(DIGITAL, DigitalRegion.PROGRAMS, 2, [0]),
    "latency of a program": lambda found: found.backend.write(DIGITAL, DigitalRegion.PROGRAMS, 3, [1 << 24]),
    "an instruction": other_instruction,
    "words of the memory": lambda found: found.backend.write(
        DIGITAL, DigitalRegion.MEMORY, 16 * PLACEMENT.layers[0].bias_words[0], [900] * 64),
}
UNSEEN = {"slots of a program"}
"""What moves data without changing them."""


def outcome(found, x):
    """Return outputs, times and counters of vectors one by one, or what is refused."""
    try:
        codes, times = zip(*[found.infer_codes(x[k:k + 1]) for k in range(len(x))], strict=True)
    except ValueError as error:
        return str(error), found.counters()
    return np.concatenate(codes).tolist(), np.concatenate(times).tolist(), found.counters()


@pytest.mark.parametrize("name", WRITES)
def test_a_write_is_seen_by_what_was_kept(name, monkeypatch):
    """The same as in a chip that finds the way of every vector anew, and makes every plan after the write."""
    kept, unchanged, fresh = device(), device(), device()
    before = outcome(kept, X)
    assert kept.backend.chip._passage is not None
    outcome(unchanged, X)
    WRITES[name](kept)
    after = outcome(kept, X)

    monkeypatch.setattr(sim.chip, "FEW", 0)
    assert outcome(fresh, X) == before
    assert fresh.backend.chip._passage is None
    forget(fresh)
    WRITES[name](fresh)
    forget(fresh)
    assert after == outcome(fresh, X)
    assert (after[:-1] == outcome(unchanged, X)[:-1]) == (name in UNSEEN)


def forget(found):
    """Leave nothing in a chip of what it has worked out."""
    chip = found.backend.chip
    chip.mesh._found.clear()
    for kept in (chip.digital._plans, chip.digital._carries, chip.digital._known, chip.digital._courses):
        kept.clear()
    for core in chip.cores:
        core.tiles._plans.clear()


def test_vectors_that_wait_are_not_passed_by():
    """A message that came before waits for its run; a passage would leave it there."""
    found, walking = device(), device()
    for one in (found, walking):
        outcome(one, X)
        chip = one.backend.chip
        (stray, *_) = chip.cores[0].accept(*chip.port.send(
            np.array([77]), np.zeros(1, np.int64), np.ones((1, chip.port.vector), np.int8)))
        assert chip.digital.accept(stray) == []
    walking.backend.chip._passage = None
    assert outcome(found, X[:1]) == outcome(walking, X[:1])
