"""A chip in a page: computes a placement by its routes, contexts, landing zones and instructions, without noise."""

import numpy as np

from host.placement import Placement
from rtl.params import ADC_SHIFT, ROUTES, Destination, Mode, Post, Reduce
from sim.fixed import round_shift, saturate
from sim.mesh import Mesh


def run(placement: Placement, x, *, exact: bool, slot: int = 0):
    """Return the logits of x (N, inputs): with integers as the chip has them, or with nothing rounded or limited."""
    return _Chip(placement, exact, slot).run(x)


class _Chip:
    def __init__(self, placement, exact, slot):
        self.placement, self.exact, self.slot = placement, exact, slot
        self.mesh = Mesh(placement.geometry)
        for route in placement.routes:
            for node, mask in route.nodes:
                self.mesh.write(node, ROUTES, route.route, mask)
        self.sources = {route.route: route.source for route in placement.routes}
        self.contexts = {(unit, route.route): context for route in placement.inputs for unit, context in route.contexts}
        self.tiles = {(tile.unit, tile.context): tile for tile in placement.tiles}
        self.landings = {landing.route: landing for landing in placement.landings}
        self.arrived = [0] * len(placement.programs)
        self.result = None

    def run(self, x):
        placement, width = self.placement, self.placement.geometry.transport
        activations = placement.quantize(x) if self.exact else x * placement.input_scale
        memory = np.zeros((placement.geometry.digital_words, width), np.int64)
        memory[:len(placement.memory)] = placement.memory
        self.memory = np.repeat(memory[None], len(x), axis=0).astype(np.int64 if self.exact else float)
        for number, phase in enumerate(placement.phases):
            sent, first = placement.arrange(activations, number), 0
            for route, words, _ in phase.plan:
                self.send(0, route, sent[:, first:first + words * width])
                first += words * width
            assert first == sent.shape[1]
            result, self.result = self.result, None
            if number + 1 < len(placement.phases):
                activations = result[:, :placement.layers[phase.last].outputs]
        return placement.logits(result)

    def send(self, unit, route, elements):
        assert self.sources[route] == unit
        for target in self.mesh.deliver(unit, route):
            if target == 0:
                assert route == self.placement.result_route
                assert self.result is None
                self.result = elements
            elif target == self.placement.geometry.digital_unit:
                self.land(route, elements)
            else:
                self.multiply(self.tiles[target, self.contexts[target, route]], elements)

    def multiply(self, tile, elements):
        width = self.placement.geometry.transport
        assert elements.shape[1] == -(-tile.rows // width) * width
        assert not elements[:, tile.rows:].any()
        nets = np.sign(tile.targets) * round_shift(np.abs(tile.targets), 8) if self.exact else tile.targets / 256
        charge = elements[:, :tile.rows] @ nets * tile.adc_gain
        if self.exact:
            limit = self.placement.geometry.code_max
            partial = round_shift(saturate(round_shift(charge, ADC_SHIFT), -limit, limit) * tile.scales, 8)
        else:
            partial = charge * tile.scales / 2 ** (ADC_SHIFT + 8)
        self.send(tile.unit, tile.route, np.pad(partial, ((0, 0), (0, -tile.columns % width))))

    def land(self, route, elements):
        landing, width = self.landings[route], self.placement.geometry.transport
        program = self.placement.programs[landing.program]
        words = elements.reshape(len(elements), -1, width)
        base = landing.base + self.slot * program.slot
        self.memory[:, base:base + words.shape[1]] = words
        self.arrived[landing.program] += 1
        if self.arrived[landing.program] == program.messages:
            self.execute(program)

    def execute(self, program):
        position = program.start
        while True:
            instruction = self.placement.instructions[position]
            assert (instruction.reduce, instruction.a_mode, instruction.n2) == (Reduce.SUM, Mode.LANDING, 1)
            inner, outer = np.arange(instruction.n0)[:, None], np.arange(instruction.n1)
            base = instruction.a_base + self.slot * program.slot
            index = base + inner * instruction.a_s0 + outer * instruction.a_s1
            value = self.memory[:, index].sum(axis=1)
            value = round_shift(value, instruction.shift) if self.exact else value / 2**instruction.shift
            value = np.maximum(value, 0) if instruction.post == Post.RELU else value
            if self.exact:
                limit = 127 if instruction.activation else (1 << 23) - 1
                value = saturate(value, -limit, limit)
            assert instruction.destination in (Destination.ACTIVATION, Destination.PARTIAL)
            self.send(self.placement.geometry.digital_unit, instruction.route, value.reshape(len(value), -1))
            if instruction.last:
                return
            position += 1
