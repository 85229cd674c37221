"""The work behind `bitline selftest`: every lane and word of a device against the model, and what fails by name.

States are written through the emulation port, so the test does not depend on programming; what is read goes the way of
inference: port, mesh, DAC, engine, converter, affine stage, mesh, port. The state of the device is lost.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from host.api import open_device
from host.backend import Backend, ModelBackend
from host.console import Screen
from host.errors import BitlineError
from rtl.params import ACTIVATION_MAX, ADC_SHIFT, DigitalRegion, EngineOperation, EngineRegion, PortRegion, Table
from rtl.params.formats import AFFINE_SHIFT, CODE_BITS, CODE_MAX, ELEMENT_BITS
from rtl.params.geometry import Geometry
from rtl.params.registers import COLUMN_STRIDE, CONTEXT_STRIDE, ROUTES, column_fields, fields, register
from sim.fixed import Ints
from sim.mesh import tree

__all__ = ["check_device", "run_selftest"]

_IN, _OUT = 0, 1
"""Routes: vectors to the engine, partial sums to the port."""
_RANDOM_VECTORS = 16
_NAMED = 8
"""Failures told of each test; the rest is counted."""


def run_selftest(url: str, seed: int | None, screen: Screen) -> dict[str, Any]:
    """Test a device, print and return what fails."""
    with screen.stage(f"opening {url}"):
        device = open_device(url, seed=seed, progress=screen.tell)
    with device:
        found = check_device(device.backend, seed=device.seed, screen=screen)
    for line in found["failures"]:
        screen.say(line)
    screen.say(f"{found['compared']:,} integers compared, {found['differing']:,} differ"
               + ("" if found["differing"] else ": every lane and word is as it should be"))
    return {"device": url, **found}


def check_device(backend: Backend, *, seed: int, screen: Screen) -> dict[str, Any]:
    """Return failures (sentences), and how many integers were compared and differ."""
    test = _Test(backend, np.random.default_rng(seed))
    steps: list[tuple[str, Callable[[], None]]] = [("digital memory", test.digital_memory)]
    if backend.geometry.batch_words:
        steps.append(("batch memory", test.batch_memory))
    for unit in range(1, backend.geometry.engines + 1):
        steps.append((f"engine {unit}: state and column memory", partial(test.engine_memory, unit)))
        steps.append((f"engine {unit}: lanes and words", partial(test.engine, unit, screen)))
    for name, step in steps:
        with screen.stage(name):
            step()
    return {"failures": test.failures, "compared": test.compared, "differing": test.differing}


class _Test:
    """A device and its twin, written alike."""

    def __init__(self, backend: Backend, rng: np.random.Generator) -> None:
        self.geometry = backend.geometry
        self.device = backend
        self.twin = ModelBackend(backend.geometry)
        self.rng = rng
        self.failures: list[str] = []
        self.compared = self.differing = 0
        self._event = 0

    def write(self, unit: int, region: int, offset: int, values: Any) -> None:
        """Write to both."""
        for backend in (self.device, self.twin):
            backend.write(unit, region, offset, values)

    def compare(self, what: str, got: Ints, wanted: Ints, name: Any) -> None:
        """Count and name what differs; `name` makes words of an index."""
        wrong = np.argwhere(got != wanted)
        self.compared, self.differing = self.compared + wanted.size, self.differing + len(wrong)
        for index in wrong[:_NAMED]:
            place = tuple(index.tolist())
            self.failures.append(f"{what}, {name(*place)}: {got[place]} in place of {wanted[place]}")
        if len(wrong) > _NAMED:
            self.failures.append(f"{what}: {len(wrong) - _NAMED} more")

    # --- memories ---------------------------------------------------------------------------------------------------

    def digital_memory(self) -> None:
        """Write every element of the digital unit's memory, then read all."""
        geometry, unit = self.geometry, self.geometry.digital_unit
        pattern = self.rng.integers(0, 1 << ELEMENT_BITS, (geometry.digital_words, geometry.transport))
        words = np.zeros((geometry.digital_words, 16), np.int64)
        words[:, :geometry.transport] = pattern
        self.write(unit, DigitalRegion.MEMORY, 0, words.ravel())
        got = self.device.read(unit, DigitalRegion.MEMORY, 0, words.size).reshape(words.shape)
        self.compare("digital unit", got[:, :geometry.transport] & ((1 << ELEMENT_BITS) - 1), pattern,
                     lambda word, element: f"memory word {word}, element {element}")

    def engine_memory(self, unit: int) -> None:
        """Write every state and column constant, then read all."""
        geometry = self.geometry
        states = self._states(CODE_MAX, geometry.cells * geometry.pairs)
        self.write(unit, EngineRegion.STATES, 0, states)
        got = self.device.read(unit, EngineRegion.STATES, 0, states.size)
        self.compare(f"engine {unit}", got, states, lambda word: f"state word {word}")
        registers = column_fields(geometry)
        words = np.zeros((geometry.column_words, COLUMN_STRIDE), np.int64)
        for known in registers:
            words[:, known.offset] = self.rng.integers(0, 1 << known.bits, geometry.column_words)
        self.write(unit, EngineRegion.COLUMNS, 0, words.ravel())
        got = self.device.read(unit, EngineRegion.COLUMNS, 0, words.size).reshape(words.shape)
        for known in registers:
            found = got[:, known.offset] & ((1 << known.bits) - 1)
            self.compare(f"engine {unit}", found, words[:, known.offset],
                         lambda column, name=known.name: f"{name} of column constant {column}")

    def batch_memory(self) -> None:
        """Write words whose places differ in every bit, then replay each from the port straight back to the port."""
        geometry = self.geometry
        count = geometry.batch_words
        places = sorted({0, count - 1, *(1 << bit for bit in range(count.bit_length() - 1)),
                         *self.rng.integers(0, count, _RANDOM_VECTORS).tolist()})
        pattern = self.rng.integers(-ACTIVATION_MAX, ACTIVATION_MAX + 1, (len(places), geometry.transport))
        padded = np.pad(pattern.astype(np.int8), ((0, 0), (0, 4 * geometry.batch_parts - geometry.transport)))
        for place, words in zip(places, padded, strict=True):
            self.write(0, PortRegion.BATCH, place * geometry.batch_parts, words.view("<u4"))
        self._route({_IN: (0, 0)}, words=1)
        room = register("port", PortRegion.REGISTERS, "room").offset
        self.write(0, PortRegion.REGISTERS, room, [1, 1])  # and words of a vector
        got = [self.device.replay(place, np.array([number]), lambda _done: None)[0][0]
               for number, place in enumerate(places)]
        self.compare("batch", np.array(got), pattern, lambda number, element: (
            f"word {places[number]}, element {element}"))

    # --- the path of inference --------------------------------------------------------------------------------------

    def engine(self, unit: int, screen: Screen) -> None:
        """Send vectors through every weight word of every lane, once with small weights and once with all."""
        self._quiet(unit)
        self._route({_IN: (0, unit), _OUT: (unit, 0)}, words=self.geometry.row_words)
        self.write(unit, EngineRegion.COLUMNS, 0, np.tile([1 << AFFINE_SHIFT, 0, 0, 0], self.geometry.column_words))
        contexts = list(_contexts(self.geometry))
        report = screen.progress("weight words", 2 * len(contexts))
        # Steps of one weight are seen while codes can hold them; the second pass reaches the high bits.
        for largest, unit_codes in ((min(self.geometry.code_max, CODE_MAX), 1.0),
                                    (CODE_MAX, self.geometry.code_max / self.geometry.net_max)):
            self.write(unit, EngineRegion.STATES, 0, self._states(largest, self.geometry.cells * self.geometry.pairs))
            for context in contexts:
                self._context(unit, context, unit_codes)
                report(1)

    def _quiet(self, unit: int) -> None:
        """Switch every random effect off."""
        for table in Table:
            self.write(unit, EngineRegion.TABLES, table << 8, np.zeros(256, np.int64))
        for known in fields("engine", EngineRegion.REGISTERS)[1:]:
            self.write(unit, EngineRegion.REGISTERS, known.offset, [0])

    def _route(self, routes: dict[int, tuple[int, int]], *, words: int) -> None:
        """Lay routes, each from a unit to another; a vector has so many words and leaves by `_IN`."""
        for node in range(self.geometry.nodes):
            self.write(node, ROUTES, 0, np.zeros(self.geometry.routes, np.int64))
        for route, (source, target) in routes.items():
            for node, mask in tree(self.geometry, source, [target]).items():
                self.write(node, ROUTES, route, [mask])
        self.write(0, PortRegion.PLAN, 0, [_IN | words << 8])
        self.write(0, PortRegion.REGISTERS, 0, [2, 1])

    def _states(self, largest: int, pairs: int) -> Ints:
        """Return words of device pairs, one device of each at 0 and the other at up to `largest` present steps."""
        codes = self.rng.integers(0, largest + 1, pairs)
        states = codes << (self.geometry.state_bits - CODE_BITS)
        return np.where(self.rng.random(pairs) < 0.5, states, states << 16)

    def _context(self, unit: int, context: dict[str, int], unit_codes: float) -> None:
        geometry, number = self.geometry, context["number"]
        rows, columns = context["rows"], context["columns"]
        record = {**context, "tile": number, "route": _OUT, "latency": 0, "adc_offset": 0, "adc_gain": 0}
        gains = [unit_codes / ACTIVATION_MAX, unit_codes / ACTIVATION_MAX / rows**0.5]
        one_hot = np.zeros((rows, rows), np.int64)
        np.fill_diagonal(one_hot, self.rng.choice([-ACTIVATION_MAX, ACTIVATION_MAX], rows))
        limit = ACTIVATION_MAX + 1
        vectors = (one_hot, self.rng.integers(1 - limit, limit, (_RANDOM_VECTORS, rows)))
        self.write(unit, EngineRegion.INPUTS, _IN, [number | 1 << 6])
        for gain, x, kind in zip(gains, vectors, ("one row", "random"), strict=True):
            record["adc_gain"] = round(gain * (1 << ADC_SHIFT))
            self.write(unit, EngineRegion.CONTEXTS, number * CONTEXT_STRIDE,
                       [record[known.name] for known in fields("engine", EngineRegion.CONTEXTS)])
            if kind == "one row":
                self.write(unit, EngineRegion.REGISTERS, _offset("context"), [number])
                self.write(unit, EngineRegion.REGISTERS, _offset("operation"), [EngineOperation.AGE])
            got, wanted = (self._infer(backend, x)[:, :columns] for backend in (self.device, self.twin))
            self._event += len(x)
            if kind == "one row":
                self.compare(f"engine {unit}", got, wanted, lambda row, column: (
                    f"lane {row % geometry.lanes}, weight word "
                    f"{context['net_base'] + row // geometry.lanes * columns + column} (context {number})"))
            else:
                self.compare(f"engine {unit}", got, wanted, lambda vector, column: (
                    f"context {number}, random vector {vector}, column {column}"))

    def _infer(self, backend: Backend, x: Ints) -> Ints:
        words = self.geometry.row_words * self.geometry.transport
        padded = np.pad(x, ((0, 0), (0, words - x.shape[1])))
        events = np.arange(self._event, self._event + len(x), dtype=np.int64)
        elements, _ = backend.infer(events, np.zeros(len(x), np.int64), padded, lambda _done: None)
        return elements


def _contexts(geometry: Geometry) -> Iterator[dict[str, int]]:
    """Yield contexts that together reach every weight word; where cells run out, the last ones are used again."""
    columns = min(geometry.columns, geometry.column_words, geometry.cells // geometry.rows,
                  geometry.result_words * geometry.transport, geometry.net_places // geometry.folds)
    if columns < 1:
        raise BitlineError(f"geometry {geometry.name} has too little memory for one tile: nothing can be tested")
    words = geometry.folds * columns
    size = geometry.rows * columns
    starts = [*range(0, geometry.net_places - words, words), geometry.net_places - words]
    for number, first in enumerate(starts[:geometry.contexts]):
        yield {"number": number, "rows": geometry.rows, "columns": columns, "net_base": first,
               "state_base": min(number * size, geometry.cells - size),
               "column_base": min(number * columns, geometry.column_words - columns)}


def _offset(name: str) -> int:
    return register("engine", EngineRegion.REGISTERS, name).offset
