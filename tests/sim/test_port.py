"""The port's model: how a vector is cut, what it refuses, what it counts."""

import numpy as np
import pytest

from rtl.params import FlitKind, PortRegion, preset
from sim.message import Message
from sim.port import Port


def planned() -> Port:
    port = Port(preset("tiny"))
    port.write(PortRegion.PLAN, 0, 5 | 2 << 8)
    port.write(PortRegion.PLAN, 1, 9 | 1 << 8 | 0xABC << 16)
    port.write(PortRegion.REGISTERS, 0, 2)
    port.write(PortRegion.REGISTERS, 1, 2)
    return port


def test_a_vector_is_cut_by_the_plan():
    port = planned()
    activations = np.arange(36).reshape(3, 12)
    first, second = port.send(np.array([7, 8, 9]), np.array([0, 10, 20]), activations)
    assert (first.route, second.route) == (5, 9)
    assert (first.position, second.position) == (0, 0xABC)
    assert first.kind == second.kind == FlitKind.ACTIVATION
    np.testing.assert_array_equal(first.elements, activations[:, :8])
    np.testing.assert_array_equal(second.elements, activations[:, 8:])
    np.testing.assert_array_equal(second.events, [7, 8, 9])
    np.testing.assert_array_equal(second.times, [0, 10, 20])
    assert port.read(PortRegion.COUNTERS, 0) == 3


def test_messages_of_one_route_leave_vector_after_vector():
    port = planned()
    port.write(PortRegion.PLAN, 0, 9 | 1 << 8 | 0xABD << 16)
    (both,) = port.send(np.array([7, 8]), np.array([0, 10]), np.arange(16).reshape(2, 8))
    np.testing.assert_array_equal(both.elements, np.arange(16).reshape(4, 4))
    np.testing.assert_array_equal(both.events, [7, 7, 8, 8])
    np.testing.assert_array_equal(both.times, [0, 0, 10, 10])
    np.testing.assert_array_equal(both.position, [0xABD, 0xABC] * 2)


@pytest.mark.parametrize(("shape", "value", "sentence"), [
    ((1, 11), 0, r"activations must be \(N, 12\) as planned, not \(1, 11\)"),
    ((1, 12), 128, "activations must be -127 to 127"),
    ((1, 12), -128, "activations must be -127 to 127"),
])
def test_bad_vectors_are_refused(shape, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        planned().send(np.array([0]), np.array([0]), np.full(shape, value))


def test_a_port_without_a_plan_sends_nothing():
    with pytest.raises(ValueError, match="its segments are 0"):
        Port(preset("tiny")).send(np.array([0]), np.array([0]), np.zeros((1, 0)))
    port = planned()
    port.write(PortRegion.PLAN, 1, 9)
    with pytest.raises(ValueError, match="segment of route 9 must have at least one word"):
        port.send(np.array([0]), np.array([0]), np.zeros((1, 8)))


def test_results_leave_in_order_and_are_counted():
    port = planned()
    for k in range(2):
        batch = np.arange(3) + 3 * k
        assert port.accept(Message(route=1, kind=FlitKind.PARTIAL, events=batch, times=batch,
                                   elements=np.zeros((3, 4), np.int64))) == []
    assert port.available
    np.testing.assert_array_equal(port.receive().events, [0, 1, 2])
    port.taken(2)
    assert port.read(PortRegion.COUNTERS, 2) == 2
    np.testing.assert_array_equal(port.receive().events, [3, 4, 5])
    assert not port.available
    with pytest.raises(ValueError, match="no result is ready"):
        port.receive()


def test_registers_read_back():
    port = planned()
    port.hops = 5 << 32 | 6
    assert [port.read(PortRegion.REGISTERS, k) for k in range(4)] == [2, 2, 1, 0]
    assert port.read(PortRegion.PLAN, 1) == 9 | 1 << 8 | 0xABC << 16
    assert [port.read(PortRegion.COUNTERS, k) for k in (6, 7, 8)] == [6, 5, 0]
