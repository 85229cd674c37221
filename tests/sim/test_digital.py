"""The digital unit's model: the programs it is made for, batches against single vectors, and what it refuses."""

import dataclasses

import numpy as np
import pytest

from rtl.params import Destination, DigitalRegion, FlitKind, Instruction, Mode, Operation, Post, Reduce
from sim.digital import DigitalUnit
from sim.message import Message
from tests.programs import (
    GEOMETRY,
    HIGH,
    LOW,
    ZONE,
    Setup,
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


def unit_with(writes) -> DigitalUnit:
    unit = DigitalUnit(GEOMETRY)
    for write in writes:
        unit.write(*write)
    return unit


def message(route: int, values, *, events=None, times=None) -> Message:
    values = np.asarray(values)
    ramp = np.arange(len(values))
    return Message(route=route, kind=FlitKind.PARTIAL, elements=values, events=ramp if events is None else events,
                   times=ramp * 100 if times is None else times)


def feed(unit: DigitalUnit, setup: Setup, chosen=slice(None)) -> list[Message]:
    return [sent for route, values in setup.inputs.items() for sent in unit.accept(message(route, values[chosen]))]


@pytest.mark.parametrize("build", [dense, patches, pooling])
def test_programs_compute_what_plain_numpy_does(build):
    setup = build(5, np.random.default_rng(1))
    sent = feed(unit_with(setup.writes), setup)
    for route, expected in setup.expected.items():
        on_route = [m.elements for m in sent if m.route == route]
        together = np.stack(on_route, axis=1).reshape(len(expected), -1)
        np.testing.assert_array_equal(together, expected)
        assert {m.kind for m in sent} == {FlitKind.ACTIVATION}


def test_an_lstm_cell_follows_a_float_lstm_through_its_state():
    setup, hidden = lstm(40, np.random.default_rng(2))
    unit = unit_with(setup.writes)
    assert unit.carries_state(3)
    (sent,) = feed(unit, setup)
    error = sent.elements - hidden
    assert np.abs(error).max() < 10
    assert np.sqrt((error**2).mean()) < 3
    without_state = np.tanh(setup.inputs[1][:, 12:] / 1024) / 2 * 128
    assert np.abs(sent.elements - without_state).max() > 30


@pytest.mark.parametrize("build", [dense, patches, pooling, lambda n, rng: lstm(n, rng)[0]])
def test_a_batch_equals_its_vectors_one_by_one(build):
    setup = build(7, np.random.default_rng(3))
    whole, single = unit_with(setup.writes), unit_with(setup.writes)
    together = feed(whole, setup)
    apart = [sent for k in range(7) for sent in feed(single, setup, slice(k, k + 1))]
    per_run = len(together)
    for n, batch in enumerate(together):
        for k in range(7):
            np.testing.assert_array_equal(batch.elements.reshape(7, -1)[k], apart[k * per_run + n].elements.ravel())
    np.testing.assert_array_equal(whole.memory, single.memory)
    assert (whole.messages, whole.operations) == (single.messages, single.operations)


@pytest.mark.parametrize("seed", range(30))
def test_random_programs_in_batches_and_one_by_one(seed):
    rng = np.random.default_rng(seed)
    codes = []
    while len(codes) < 5:
        code = random_instruction(rng, LOW, 0, ZONE)
        try:
            unit_with(program(0, [code], slot=ZONE)).carries_state(0)
        except ValueError:
            continue
        codes.append(code)
    writes = landing(0, 0, 0) + program(0, codes, slot=ZONE)
    writes += elements(0, rng.integers(-(1 << 23), 1 << 23, HIGH * W))
    entries = rng.integers(-(1 << 23), 1 << 23, 512)
    writes += [(DigitalRegion.ACTIVATION_TABLES, k, int(v)) for k, v in enumerate(entries)]
    values = rng.integers(-(1 << 23), 1 << 23, (5, ZONE * W))
    whole, single = unit_with(writes), unit_with(writes)
    together = whole.accept(message(0, values))
    apart = [sent for k in range(5) for sent in single.accept(message(0, values[k:k + 1]))]
    for n, batch in enumerate(together):
        for k in range(5):
            one = apart[k * len(together) + n]
            np.testing.assert_array_equal(batch.elements.reshape(5, -1)[k], one.elements.ravel())
    np.testing.assert_array_equal(whole.memory, single.memory)


@pytest.mark.parametrize(("code", "a", "b", "expected"), [
    (Instruction(operation=Operation.ADD), (1 << 23) - 1, 1, (1 << 23) - 1),
    (Instruction(operation=Operation.SUB), -(1 << 23), 1, -(1 << 23)),
    (Instruction(operation=Operation.MUL, shift=31), -(1 << 23), -(1 << 23), 1 << 15),
    (Instruction(operation=Operation.MUL, shift=1), 3, -1, -1),
    (Instruction(operation=Operation.MUL, shift=1), 3, 1, 2),
    (Instruction(operation=Operation.MUL), 1 << 22, 1 << 22, (1 << 23) - 1),
    (Instruction(operation=Operation.MAX), -5, -7, -5),
    (Instruction(operation=Operation.MIN), -5, -7, -7),
    (Instruction(operation=Operation.PASS, post=Post.RELU), -5, 0, 0),
    (Instruction(operation=Operation.PASS, activation=True), -300, 0, -127),
    (Instruction(operation=Operation.PASS, post=Post.TABLE0), 999, 0, 1127),
    (Instruction(operation=Operation.PASS, post=Post.TABLE1), -999, 0, -1128),
    (Instruction(operation=Operation.MUL, reduce=Reduce.SUM, n0=1023, shift=31), -(1 << 23), -(1 << 23), (1 << 23) - 1),
    (Instruction(operation=Operation.ADD, reduce=Reduce.SUM, n0=1000), 3, 4, 7000),
])
def test_arithmetic_by_hand(code, a, b, expected):
    code = dataclasses.replace(code, a_mode=Mode.LANDING, b_mode=Mode.MEMORY, b_base=100,
                               destination=code.destination, d_base=101)
    send = Instruction(a_base=101, destination=Destination.PARTIAL, route=4)
    unit = unit_with(landing(0, 0, 0) + program(0, [code, send], slot=1) + elements(100, [b] * W)
                     + [(DigitalRegion.ACTIVATION_TABLES, t << 8 | k, (k - 128) + 1000 * (1 - 2 * t))
                        for t in range(2) for k in range(256)])
    (sent,) = unit.accept(message(0, [[a] * W]))
    np.testing.assert_array_equal(sent.elements, [[expected] * W])
    assert sent.kind == FlitKind.PARTIAL


def test_target_time_is_the_latest_input_or_the_end_of_the_run_before():
    code = Instruction(a_mode=Mode.LANDING, destination=Destination.PARTIAL, route=4)
    unit = unit_with(landing(0, 0, 0) + landing(1, 2, 0) + program(0, [code], messages=2, slot=4, latency=50))
    blank = np.zeros((4, W), np.int64)
    events = np.array([5, 6, 7, 8])
    assert unit.accept(message(0, blank, events=events, times=np.array([0, 10, 500, 501]))) == []
    (sent,) = unit.accept(message(1, blank, events=events, times=np.array([20, 0, 0, 520])))
    np.testing.assert_array_equal(sent.times, [70, 120, 550, 600])
    np.testing.assert_array_equal(sent.events, events)
    unit.accept(message(0, blank[:1]))
    (sent,) = unit.accept(message(1, blank[:1]))
    np.testing.assert_array_equal(sent.times, [650])
    unit.write(DigitalRegion.PROGRAMS, 1, 2)
    unit.accept(message(0, blank[:1]))
    (sent,) = unit.accept(message(1, blank[:1]))
    np.testing.assert_array_equal(sent.times, [50])


def test_batches_of_different_lengths_join():
    setup = dense(6, np.random.default_rng(5))
    unit = unit_with(setup.writes)
    sent = []
    for route, values in setup.inputs.items():
        cut = route % 3 + 1
        sent += unit.accept(message(route, values[:cut])) + unit.accept(message(route, values[cut:]))
    np.testing.assert_array_equal(np.concatenate([m.elements for m in sent]), setup.expected[9])


def test_a_run_gathers_several_messages_of_a_route():
    setup = gathering(3, np.random.default_rng(8))
    unit = unit_with(setup.writes)
    parts, events = setup.inputs[4].reshape(9, W), np.arange(9) // 3
    pieces = [slice(0, 2), slice(2, 7), slice(7, 9)]
    for k in pieces:
        assert unit.accept(message(4, parts[k], events=events[k], times=5 * np.arange(9)[k])) == []
    early, late = unit.accept(message(5, setup.inputs[5], times=np.zeros(3, np.int64)))
    np.testing.assert_array_equal(np.concatenate([early.elements, late.elements]), setup.expected[6])
    np.testing.assert_array_equal(np.concatenate([early.times, late.times]), [2 * 5 + 5, 5 * 5 + 5, 8 * 5 + 5])
    unit.accept(message(4, parts[:2], events=events[:2]))
    with pytest.raises(ValueError, match="takes from route 4 differ in their events"):
        unit.accept(message(4, parts[2:3], events=np.array([3])))


def test_messages_of_one_route_leave_vector_after_vector():
    codes = [Instruction(a_mode=Mode.LANDING, a_base=k, destination=Destination.PARTIAL, route=7, position=3 - k)
             for k in range(2)]
    unit = unit_with(landing(0, 0, 0) + program(0, codes, slot=8))
    values = np.arange(3 * 2 * W).reshape(3, 2 * W)
    (sent,) = unit.accept(message(0, values))
    np.testing.assert_array_equal(sent.elements, values.reshape(6, W))
    np.testing.assert_array_equal(sent.events, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(sent.position, [3, 2] * 3)


def test_registers_read_back():
    unit = unit_with(landing(3, 77, 2) + program(1, [Instruction()], start=5, messages=9, slot=33, latency=1 << 31)
                     + elements(9, [-1, 5, 6, 7]))
    assert [unit.read(DigitalRegion.INPUT_ROUTES, 12 + k) for k in range(4)] == [77, 18, 0, 0]
    unit.write(DigitalRegion.INPUT_ROUTES, 14, 1025)
    assert unit.read(DigitalRegion.INPUT_ROUTES, 14) == 1
    assert [unit.read(DigitalRegion.PROGRAMS, 4 + k) for k in range(4)] == [5, 9, 33, 1 << 31]
    assert [unit.read(DigitalRegion.MEMORY, 9 * 16 + k) for k in range(5)] == [0xFFFFFF, 5, 6, 7, 0]
    assert unit.read(DigitalRegion.INSTRUCTIONS, 40) == 0


ALIEN = [0xFFFFFFFF] * 8


@pytest.mark.parametrize(("writes", "route", "sentence"), [
    ([], 3, "no program of the digital unit takes route 3"),
    (landing(0, 0, 9), 0, "route 0 names program 9 of 4"),
    (landing(0, 0, 0), 0, "program 0 takes no messages"),
    (landing(0, 127, 0) + program(0, [Instruction()]), 0, "a message on route 0 lands at word 128 of a memory of 128"),
    (landing(0, 0, 0) + program(0, [Instruction(a_base=128)]), 0, "a of an instruction reaches word 128"),
    (landing(0, 0, 0) + program(0, [Instruction(d_base=127, d_s0=1, n0=2)]), 0, "d of an instruction reaches word 128"),
    (landing(0, 0, 0) + program(0, [Instruction(a_base=9, a_s0=1, d_base=10, d_s0=1, n0=2)]), 0,
     "a of an instruction reads a word that an earlier step of it wrote"),
    (landing(0, 0, 0) + [(DigitalRegion.PROGRAMS, 1, 1)]
     + [(DigitalRegion.INSTRUCTIONS, k * 8 + n, w) for k in range(16) for n, w in enumerate(Instruction().words())],
     0, "program 0 has no last instruction"),
    (landing(0, 0, 0) + [(DigitalRegion.PROGRAMS, 1, 1)]
     + [(DigitalRegion.INSTRUCTIONS, n, w) for n, w in enumerate(ALIEN)], 0, "instruction 0: .* is not a valid"),
])
def test_what_cannot_run_is_refused_by_name(writes, route, sentence):
    with pytest.raises(ValueError, match=sentence):
        unit_with(writes).accept(message(route, np.zeros((1, 2 * W), np.int64)))


def test_more_routes_than_messages_is_refused():
    unit = unit_with(landing(0, 0, 0) + landing(1, 4, 0) + landing(2, 8, 0)
                     + program(0, [Instruction(a_mode=Mode.LANDING)], messages=2, slot=16))
    unit.accept(message(0, np.zeros((3, W), np.int64)))
    unit.accept(message(1, np.zeros((1, W), np.int64)))
    with pytest.raises(ValueError, match=r"messages come on routes \[0, 1, 2\], but a run of program 0 takes 2"):
        unit.accept(message(2, np.zeros((1, W), np.int64)))
