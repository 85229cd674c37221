"""A placement as the words of a chip's registers: routes, plan, programs, contexts."""

import numpy as np

from host.backend import Backend
from host.placement import Phase, Placement, Tile
from rtl.params import DigitalRegion, EngineRegion, PortRegion
from rtl.params.registers import CONTEXT_STRIDE, PROGRAM_STRIDE, ROUTE_STRIDE, ROUTES, fields, register

__all__ = ["write_chip", "write_plan", "write_record"]

_WINDOW = 2  # vectors in the mesh: one at work, one behind it; every endpoint has two slots
_ELEMENT_STRIDE = 16  # of a word of the digital unit's memory in the register map
_RECORD = fields("engine", EngineRegion.CONTEXTS)
_ROOM = register("port", PortRegion.REGISTERS, "room")
assert register("port", PortRegion.REGISTERS, "vector_words").offset == _ROOM.offset + 1


def write_chip(backend: Backend, placement: Placement, *, adc_offset: int) -> None:
    """Write all of a placement but its column constants; `adc_offset` is that of every context, 2**-24 codes."""
    _write_mesh(backend, placement)
    _write_digital(backend, placement)
    for unit in range(1, placement.geometry.engines + 1):
        _write_inputs(backend, unit, placement)
    for tile in placement.tiles:
        write_record(backend, tile, adc_offset=adc_offset)


def write_record(backend: Backend, tile: Tile, *, adc_offset: int) -> None:
    """Write the context of a tile."""
    record = {"tile": tile.number, "adc_offset": adc_offset} | {
        r.name: getattr(tile, r.name) for r in _RECORD if r.name not in ("tile", "adc_offset")}
    backend.write(tile.unit, EngineRegion.CONTEXTS, tile.context * CONTEXT_STRIDE, [record[r.name] for r in _RECORD])


def _write_mesh(backend: Backend, placement: Placement) -> None:
    masks = np.zeros((placement.geometry.nodes, placement.geometry.routes), np.int64)
    for route in placement.routes:
        for node, mask in route.nodes:
            masks[node, route.route] = mask
    for node, table in enumerate(masks):
        backend.write(node, ROUTES, 0, table)
    write_plan(backend, placement.phases[0])
    if placement.geometry.batch_words:
        backend.write(0, PortRegion.REGISTERS, _ROOM.offset, [placement.room, placement.vector_words])


def write_plan(backend: Backend, phase: Phase) -> None:
    """Have vectors sent cut into the messages of a phase."""
    backend.write(0, PortRegion.PLAN, 0, [
        route | words << 8 | position << 16 for route, words, position in phase.plan])
    backend.write(0, PortRegion.REGISTERS, 0, [_WINDOW, len(phase.plan)])


def _write_inputs(backend: Backend, unit: int, placement: Placement) -> None:
    inputs = np.zeros(placement.geometry.routes, np.int64)
    for route in placement.inputs:
        for engine, context in route.contexts:
            if engine == unit:
                inputs[route.route] = context | 1 << 6
    backend.write(unit, EngineRegion.INPUTS, 0, inputs)


def _write_digital(backend: Backend, placement: Placement) -> None:
    """Write memory and programs; the records come last, since writing them resets programs and routes."""
    unit, region = placement.geometry.digital_unit, DigitalRegion
    elements = np.zeros((len(placement.memory), _ELEMENT_STRIDE), np.int64)
    elements[:, :placement.geometry.transport] = placement.memory
    backend.write(unit, region.MEMORY, 0, elements.ravel())
    words = [word for instruction in placement.instructions for word in instruction.words()]
    backend.write(unit, region.INSTRUCTIONS, 0, words)
    backend.write(unit, region.ACTIVATION_TABLES, 0, placement.tables.ravel())
    for number, program in enumerate(placement.programs):
        backend.write(unit, region.PROGRAMS, number * PROGRAM_STRIDE,
                           [program.start, program.messages, program.slot, program.latency])
    landings = np.zeros((placement.geometry.routes, ROUTE_STRIDE), np.int64)
    for landing in placement.landings:
        landings[landing.route, :3] = landing.base, landing.program | 1 << 4, landing.more
    backend.write(unit, region.INPUT_ROUTES, 0, landings.ravel())
