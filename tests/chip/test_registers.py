"""Whatever a host writes, model and gates keep the same, and a served model outlives it."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.channels import LoopbackChannel
from host.link import Link, RequestError
from rtl.params import DigitalRegion, EngineOperation, EngineRegion, PortRegion, Status, address, preset
from rtl.params.registers import CONTEXT_STRIDE, ROUTES, fields, register
from sim.chip import Chip
from sim.link import Endpoint
from tests.chip.machine import OwnedChip
from tests.chip.test_equivalence import FEW

TINY = preset("tiny")
ENGINE, DIGITAL = 1, TINY.digital_unit
REGISTERS = {r.name: r.offset for r in fields("engine", EngineRegion.REGISTERS)}
FIELDS = {r.name: r.offset for r in fields("engine", EngineRegion.CONTEXTS)}
READABLE = [
    (0, PortRegion.REGISTERS), (0, PortRegion.PLAN), (0, PortRegion.BATCH),
    *((unit, ROUTES) for unit in range(TINY.nodes + 1)),
    *((ENGINE, region) for region in EngineRegion if region not in (EngineRegion.COUNTERS, EngineRegion.ROUTES)),
    *((DIGITAL, region) for region in (DigitalRegion.INPUT_ROUTES, DigitalRegion.PROGRAMS, DigitalRegion.MEMORY)),
    (TINY.nodes + 3, 0),
]
"""Where writes of any word end: all but what makes the chip run."""

places = st.tuples(st.sampled_from(READABLE), st.one_of(st.integers(0, 80), st.integers(0, 4096),
                                                        st.integers(0, (1 << 20) - 1)))
writes = st.lists(st.tuples(places, st.one_of(st.integers(0, 255), st.integers(0, 2**32 - 1))), min_size=1, max_size=40)


def model_link():
    return Link(LoopbackChannel(Endpoint(Chip(TINY), TINY)), TINY)


def gates_link():
    return Link(OwnedChip(TINY), TINY)


def at(place):
    (unit, region), offset = place
    return address(unit, region, offset)


def runs(place):
    return place in (((ENGINE, EngineRegion.REGISTERS), 0),
                     ((0, PortRegion.REGISTERS), register("port", PortRegion.REGISTERS, "replay").offset))


@given(writes=writes, asked=st.lists(places, max_size=20))
@settings(FEW, max_examples=12)
def test_every_word_is_kept_alike(writes, asked):
    """Any value at any address, and every address written read again, with others beside it."""
    found = []
    for link in (model_link(), gates_link()):
        with link:
            for place, value in writes:
                if not runs(place):
                    link.post(at(place), value)
            link.flush()
            found.append([link.read(at(place)) for place in [*(place for place, _ in writes), *asked]])
    assert found[0] == found[1]


@pytest.mark.parametrize("operation", EngineOperation, ids=lambda operation: operation.name)
def test_contexts_beyond_the_last_are_those_below(operation):
    """Number 4 k + 2 is context 2 of 4, in every operation; what it leaves is what context 2 leaves."""
    found = []
    for make, context in ((model_link, 2), (model_link, 34), (gates_link, 2), (gates_link, 34)):
        with make() as link:
            record = {"rows": 4, "columns": 3, "tile": 5, "state_base": 8, "net_base": 8, "column_base": 4}
            for name, value in record.items():
                link.write(address(ENGINE, EngineRegion.CONTEXTS, 2 * CONTEXT_STRIDE + FIELDS[name]), value)
            values = {"seed": 7, "row_count": 2, "averages": 2, "verify_noise": 900, "verify_gain": 1 << 11,
                        "probe_ticks": 100, "noise_gain": 1000, "iterations": 3, "main_scale": 1 << 15,
                        "amplitude_limit": 65535, "counts_per_g": 200, "main_step": 300, "context": context, "row": 1}
            for name, value in values.items():
                link.write(address(ENGINE, EngineRegion.REGISTERS, REGISTERS[name]), value)
            link.write(address(ENGINE, EngineRegion.STATES, 8), list(range(1000, 60000, 5000)))
            link.write(address(ENGINE, EngineRegion.TARGETS, 0), [20000, (1 << 32) - 30000, 40000])
            for step in (EngineOperation.AGE, operation):
                link.write(address(ENGINE, EngineRegion.REGISTERS, REGISTERS["operation"]), step)
            found.append([link.read(address(ENGINE, region, first), count) for region, first, count in (
                (EngineRegion.OUTCOMES, 0, 3), (EngineRegion.STATES, 8, 12), (EngineRegion.COLUMNS, 16, 12))])
    assert found[0] == found[1] == found[2] == found[3]
    assert any(np.ravel(found[0][0]) if operation is not EngineOperation.AGE else np.ravel(found[0][2]))


@given(writes=writes, operation=st.integers(0, 3), body=st.binary(min_size=11, max_size=40))
@settings(FEW, max_examples=60)
def test_a_model_outlives_any_client(writes, operation, body):
    """What no chip defines ends in a refusal, or in no result; the endpoint answers the next request all the same."""
    link = model_link()
    for place, value in [*writes, (((ENGINE, EngineRegion.REGISTERS), 0), operation)]:
        for step in (lambda place=place, value=value: link.write(at(place), value), lambda: link.send(body)):
            status = Status.BUS_TIMEOUT
            try:
                step()
            except RequestError as error:
                status = error.status
            assert status in (Status.BUS_TIMEOUT, Status.NO_CREDIT)
    with contextlib.suppress(RequestError):
        link.read(address(0, PortRegion.REGISTERS, 0))  # the vectors sent last are computed here
    link.write(address(0, PortRegion.REGISTERS, 0), 3)
    assert link.read(address(0, PortRegion.REGISTERS, 0)) == [3]
