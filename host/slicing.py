"""Bit slices: networks on technologies whose cells hold one bit (SRAM, MRAM), as functional equivalents.

A weight is a sign and a magnitude of 7 bits. Bit k stands in slice k, a column of its own, on the device of its sign;
the column's affine scale is 2**k. An input is sent as bit planes, one message each: plane p has pulses of one tick for
bit p. The ADC counts cells that are on where the input is, one code each, and a tile has no more rows than it can
count: nothing clips. The off conductance of both devices of a pair cancels; what is left of it is its mismatch. The
digital unit adds slices and planes up,

    sum = bias + over planes p of 2**p (over tiles and slices of the codes that landed),

multiplies by the output's multiplier, shifts, applies the relu, and sends plane p of an activation a to the next layer:
the low bit of floor(a / 2**p), from table 0. An activation that may be negative has an eighth plane, floor(a / 2**7),
as in two's complement. Without analog errors all of this is exact.

Memory of a layer in the digital unit: landing zones in two slots, then biases, one sum a plane and tile, the sum, and
the multipliers, each in the order of the outputs' words.
"""

import dataclasses
from typing import Any

import numpy as np

from host.compiler import (
    MESSAGES_MAX,
    TILE_PS,
    WORD_PS,
    CompileError,
    Floats,
    check_limits,
    checked_calibration,
    input_scales,
)
from host.network import Dense, Network
from host.placement import Landing, LayerPlan, Phase, Placement, Program, Tile
from host.tiling import CapacityError, Cut, assign, enough, split
from host.wiring import Wiring
from rtl.params import (
    ACTIVATION_MAX,
    ADC_SHIFT,
    ELEMENT_BITS,
    GMAX_CODE,
    Destination,
    Geometry,
    Instruction,
    Mode,
    Operation,
    Post,
    Reduce,
)
from rtl.params.formats import AFFINE_SHIFT, CODE_BITS, G16_BITS
from sim.fixed import Ints
from sim.technology import Technology

__all__ = ["BIT_NET", "SLICES", "IntegerLayer", "integers", "slice_network", "written_at_once"]

SLICES = ACTIVATION_MAX.bit_length()
"""Bits of a magnitude: of a weight in slices, of an activation in planes."""

MULTIPLIER_BITS = 14
"""Of the largest multiplier."""

SHIFT_MAX = 31
COUNT_MAX = 1023
"""Largest count and stride of an instruction."""

OPTIONS = 3
"""Cuts of a layer that are compared."""

_LEVEL = 0.75
"""Where a bit that is on stands in the range of a state: bits scatter above it."""

BIT_NET = round(_LEVEL * GMAX_CODE)
"""Net of a cell whose main device is on, that of an off one taken off."""


def written_at_once(kind: Technology) -> Technology:
    """Return a technology of bits with room above a bit that is on; a bit is written at once, which is a melt pulse."""
    lowest = kind.gmax.one - kind.range
    changes: dict[str, Any] = {"gmax": dataclasses.replace(kind.gmax, value=lowest + kind.range / _LEVEL)}
    if kind.programmed is not None:
        powers = tuple(c / _LEVEL**k for k, c in enumerate(kind.programmed.coefficients))
        changes["programmed"] = dataclasses.replace(kind.programmed, coefficients=powers)
    if kind.headroom is not None:
        changes["headroom"] = dataclasses.replace(kind.headroom, value=kind.headroom.one * _LEVEL)
    return kind.replace(pulse="melt", steady=True, **changes)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class IntegerLayer:
    """A layer in integers: out = limit((sum + 2**(shift - 1)) >> shift), sum = multiplier (weights x + bias).

    Attributes
    ----------
    weights : (outputs, inputs), -127 to 127
    biases, multipliers : (outputs,)
    relu : out is never negative
    planes : of its inputs
    input_scale : x = round(real value * input_scale)
    unit : real value of 1 in `out`
    """

    weights: Ints
    biases: Ints
    multipliers: Ints
    shift: int
    relu: bool
    planes: int
    input_scale: float
    unit: float


def integers(network: Network, x: Floats) -> list[IntegerLayer]:
    """Return the integer network that bit slices compute exactly; ranges come from inputs x.

    Raises
    ------
    CompileError
        If a sum or a multiplier does not fit the digital unit.
    """
    _, scales = input_scales(network, x)
    layers = []
    for n, layer in enumerate(network.layers):
        following = scales[n + 1] if n + 1 < len(scales) else None
        planes = SLICES if n == 0 or network.layers[n - 1].relu else SLICES + 1
        layers.append(_integer_layer(layer, scales[n], following, planes))
    return layers


def _integer_layer(layer: Dense, scale: float, following: float | None, planes: int) -> IntegerLayer:
    largest = np.abs(layer.weight).max(axis=1)
    largest[largest == 0] = largest.max() or 1.0
    steps = largest / (ACTIVATION_MAX * scale)  # real value of 1 in a sum
    weights = np.rint(layer.weight / largest[:, None] * ACTIVATION_MAX).astype(np.int64)
    biases = np.rint(layer.bias / steps)
    reach = (np.abs(weights).sum(axis=1) * ACTIVATION_MAX + np.abs(biases)).max()
    if reach >= 1 << (ELEMENT_BITS - 1):
        raise CompileError(f"layer {layer.name!r} can sum up to {reach:.3g}, above {(1 << (ELEMENT_BITS - 1)) - 1}: "
                           "too many inputs, or biases that dwarf its weights")
    unit = float(steps.max()) if following is None else 1 / following
    ratios = steps / unit
    shift = min(max(MULTIPLIER_BITS - int(np.ceil(np.log2(ratios.max()))), 0), SHIFT_MAX)
    multipliers = np.rint(ratios * 2.0**shift)
    if multipliers.max() >= 1 << (ELEMENT_BITS - 1):
        raise CompileError(f"layer {layer.name!r} needs a multiplier of {multipliers.max():.3g}: "
                           "its weights dwarf what follows its relu")
    return IntegerLayer(weights=weights, biases=biases.astype(np.int64), multipliers=multipliers.astype(np.int64),
                        shift=shift, relu=layer.relu, planes=planes, input_scale=scale, unit=unit)


def slice_network(network: Network, geometry: Geometry, calibration: Floats, bit: int) -> Placement:
    """Return the network placed on a chip, a bit of a weight in each cell.

    Parameters
    ----------
    calibration : (N, inputs) real inputs, from which ranges are taken
    bit : charge of an on cell in one tick, that of an off cell taken off

    Raises
    ------
    CapacityError
        If the chip is too small; the sentence tells of what.
    CompileError
        If a number does not fit its register.
    ValueError
        If the calibration is not of the network's inputs.
    """
    x = checked_calibration(network, calibration)
    check_limits(network, geometry)
    chosen, places, _ = assign(geometry, [_cuts(geometry, layer) for layer in network.layers], resident=True)
    sliced = [cut for cut in chosen if isinstance(cut, _Cut)]
    return _Build(network, geometry, sliced, Wiring(geometry, sliced, places), integers(network, x), bit).build()


@dataclasses.dataclass(frozen=True)
class _Cut(Cut):
    """A layer cut into row tiles, groups of outputs (first, outputs) and sets of slices (first, slices).

    Column tile g * sets + s holds the slices of set s of the outputs of group g, slice by slice.
    """

    width: int
    groups: tuple[tuple[int, int], ...]
    sets: tuple[tuple[int, int], ...]

    def words(self, group: int) -> int:
        """Return the words of a slice of a group."""
        return -(-self.groups[group][1] // self.width)

    def tile(self, column_tile: int) -> tuple[int, int]:
        """Return group and set of a column tile."""
        return divmod(column_tile, len(self.sets))

    def tile_columns(self, column_tile: int) -> int:
        """Return the columns of a column tile."""
        group, which = self.tile(column_tile)
        return self.sets[which][1] * self.words(group) * self.width

    def pieces(self) -> list[tuple[int, int, int, int]]:
        """Return (row tile, column tile, rows, columns) of each tile."""
        return [(t, c, self.rows(t), self.tile_columns(c))
                for t in range(self.row_tiles) for c in range(len(self.columns))]


def _cuts(geometry: Geometry, layer: Dense) -> list[_Cut]:
    """Return ways to cut a layer, those of fewest tiles first: all slices in one tile, or in two...; words as they fit.

    Raises
    ------
    CapacityError
        If the ADC cannot count the rows of a word, or a tile has too few columns for a word.
    """
    width, inputs, outputs = geometry.transport, layer.inputs, layer.outputs
    most = min(geometry.rows, geometry.code_max) // width * width
    if most == 0:
        raise CapacityError(f"layer {layer.name!r} needs an ADC that counts the {width} rows of a word of inputs, "
                            f"but its {geometry.adc_bits} bits count to {geometry.code_max}")
    row_tiles = -(-inputs // most)
    row_size = min(-(-inputs // (row_tiles * width)) * width, inputs)
    words = -(-outputs // width)
    found = []
    for parts in range(1, SLICES + 1):
        sets = split(SLICES, SLICES, parts, 1)
        room = geometry.columns // (sets[0][1] * width)
        if room == 0 or sets[-1][1] * width < 4:
            continue
        groups = split(outputs, words, -(-words // room), width)
        columns = tuple(group for group in groups for _ in sets)
        found.append(_Cut(inputs, row_size, columns, width, groups, sets))
    if not found:
        raise CapacityError(f"layer {layer.name!r} is cut into slices of {width} outputs, "
                            f"which the {geometry.columns} columns of a tile do not hold")
    return sorted(found, key=lambda cut: len(cut.columns))[:OPTIONS]


@dataclasses.dataclass(frozen=True)
class _Area:
    """Where a layer's words are in the digital unit's memory.

    Attributes
    ----------
    base, slot : first word, and words of a landing slot
    words : of the layer's outputs
    sums : sums of a plane's slices in one tile, for each output
    zones : (group, set) -> its first landing zone
    """

    base: int
    slot: int
    words: int
    sums: int
    zones: dict[tuple[int, int], int]

    @property
    def bias(self) -> int:
        return self.base + 2 * self.slot

    @property
    def planes(self) -> int:
        """First word of the sums of each plane and tile, which follow the biases."""
        return self.bias + self.words

    @property
    def total(self) -> int:
        return self.planes + self.words * self.sums

    @property
    def multipliers(self) -> int:
        return self.total + self.words

    @property
    def end(self) -> int:
        return self.multipliers + self.words


class _Build:
    """A network of bits with its cuts and places, on the way to a placement."""

    def __init__(self, network: Network, geometry: Geometry, chosen: list[_Cut], wiring: Wiring,
                 layers: list[IntegerLayer], bit: int) -> None:
        self.network, self.geometry, self.cuts = network, geometry, chosen
        self.wiring, self.layers, self.bit = wiring, layers, bit

    def build(self) -> Placement:
        wiring = self.wiring
        plan = wiring.plan(SLICES)
        areas = self._areas()
        weights = self._plane_weights(areas)
        end = max(first + len(values) for first, values in weights.values())
        enough("digital memory words", end, self.geometry.digital_words)
        enough("words of a result", areas[-1].words + 1, self.geometry.result_words)
        instructions, programs = self._digital(areas, weights)
        low_bits = np.arange(-128, 128) & 1
        return Placement(
            geometry=self.geometry, layers=tuple(self._plan(n, area) for n, area in enumerate(areas)),
            tiles=self._tiles(), inputs=tuple(route for layer in wiring.inputs for route in layer),
            routes=tuple(wiring.routes), phases=(Phase(first=0, last=len(areas) - 1, plan=plan),),
            landings=tuple(self._landing(areas[n], n, t, c) for n, t, c in wiring.places), programs=programs,
            instructions=instructions, memory=self._memory(areas, weights, end), result_route=wiring.result,
            outputs=self.network.layers[-1].outputs, tables=low_bits[None], bit=self.bit)

    def _areas(self) -> list[_Area]:
        areas, base = [], 0
        for layer, cut, numbers in zip(self.network.layers, self.cuts, self.layers, strict=True):
            messages = cut.row_tiles * numbers.planes
            zones, zone = {}, base
            for g in range(len(cut.groups)):
                for s, (_, slices) in enumerate(cut.sets):
                    zones[g, s] = zone
                    zone += messages * slices * cut.words(g)
            area = _Area(base, zone - base, -(-layer.outputs // self.geometry.transport), len(cut.sets) * messages,
                         zones)
            enough(f"words of the outputs of layer {layer.name!r}", area.words, COUNT_MAX)
            enough(f"sums of planes of layer {layer.name!r}", area.sums + 1, COUNT_MAX)
            areas.append(area)
            base = area.end
        return areas

    def _plane_weights(self, areas: list[_Area]) -> dict[tuple[int, int], tuple[int, Ints]]:
        """Return, for each (sums, planes) of a layer, where the weights of bias and sums are in memory, and they."""
        found: dict[tuple[int, int], tuple[int, Ints]] = {}
        end = areas[-1].end
        for area, numbers in zip(areas, self.layers, strict=True):
            if (key := (area.sums, numbers.planes)) not in found:
                found[key] = end, np.concatenate([[1], np.tile(1 << np.arange(key[1]), key[0] // key[1])])
                end += len(found[key][1])
        return found

    def _memory(self, areas: list[_Area], weights: dict[tuple[int, int], tuple[int, Ints]], end: int) -> Ints:
        width = self.geometry.transport
        memory = np.zeros((end, width), np.int64)
        for area, numbers in zip(areas, self.layers, strict=True):
            for first, values in ((area.bias, numbers.biases), (area.multipliers, numbers.multipliers)):
                memory[first:first + area.words] = np.pad(values, (0, -len(values) % width)).reshape(-1, width)
        for first, values in weights.values():
            memory[first:first + len(values)] = values[:, None]
        return memory

    def _plan(self, number: int, area: _Area) -> LayerPlan:
        layer, cut, numbers = self.network.layers[number], self.cuts[number], self.layers[number]
        return LayerPlan(
            name=layer.name, inputs=layer.inputs, outputs=layer.outputs, relu=layer.relu, row_tiles=cut.row_tiles,
            row_size=cut.row_size, column_tiles=cut.columns, input_scale=numbers.input_scale, unit=numbers.unit,
            shift=numbers.shift, base=area.base, words=area.words, slices=SLICES, planes=numbers.planes)

    def _tiles(self) -> tuple[Tile, ...]:
        tiles = []
        for number, ((n, t, c), place) in enumerate(self.wiring.places.items()):
            cut, top = self.cuts[n], t * self.cuts[n].row_size
            group, which = cut.tile(c)
            first, outputs = cut.groups[group]
            weights = self.layers[n].weights[first:first + outputs, top:top + cut.rows(t)].T
            slices = np.arange(cut.sets[which][0], sum(cut.sets[which]))
            bits = np.sign(weights)[:, None] * (np.abs(weights)[:, None] >> slices[:, None] & 1)
            columns = cut.words(group) * cut.width
            padded = np.pad(bits, ((0, 0), (0, 0), (0, columns - outputs)))
            tiles.append(Tile(
                layer=n, row_tile=t, column_tile=c, number=number, unit=place.unit, context=place.context,
                first_row=top, first_column=first, rows=cut.rows(t), columns=cut.tile_columns(c),
                net_base=place.net_base, state_base=place.state_base, column_base=place.column_base,
                route=self.wiring.partial[n, t, c], adc_gain=round((1 << ADC_SHIFT) / self.bit),
                latency=TILE_PS + self.wiring.tile_latency(place.unit),
                targets=padded.reshape(len(bits), -1) * (self.bit << G16_BITS - CODE_BITS),
                scales=np.repeat(1 << (AFFINE_SHIFT + slices), columns)))
        return tuple(tiles)

    def _landing(self, area: _Area, layer: int, row_tile: int, column_tile: int) -> Landing:
        group, which = self.cuts[layer].tile(column_tile)
        planes = self.layers[layer].planes
        message = self.cuts[layer].tile_columns(column_tile) // self.geometry.transport
        return Landing(route=self.wiring.partial[layer, row_tile, column_tile], program=layer, more=planes - 1,
                       base=area.zones[group, which] + row_tile * planes * message)

    def _digital(self, areas: list[_Area], weights: dict[tuple[int, int], tuple[int, Ints]]) \
            -> tuple[tuple[Instruction, ...], tuple[Program, ...]]:
        instructions: list[Instruction] = []
        programs = []
        for n, (area, cut, numbers) in enumerate(zip(areas, self.cuts, self.layers, strict=True)):
            start = len(instructions)
            first_weight, _ = weights[area.sums, numbers.planes]
            instructions += self._add_slices(area, cut, numbers)
            instructions.append(Instruction(
                operation=Operation.MUL, reduce=Reduce.SUM, a_base=area.bias, a_s0=area.words, a_s1=1,
                b_mode=Mode.MEMORY, b_base=first_weight, b_s0=1, d_base=area.total, d_s1=1, n0=1 + area.sums,
                n1=area.words))
            instructions += self._finish(n, area, numbers)
            work = sum(i.n0 * i.n1 * i.n2 for i in instructions[start:])
            messages = cut.row_tiles * len(cut.columns) * numbers.planes
            enough(f"messages of layer {self.network.layers[n].name!r}", messages, MESSAGES_MAX)
            programs.append(Program(start=start, messages=messages, slot=area.slot,
                                    latency=WORD_PS * work + self.wiring.layer_latency(n)))
        enough("instructions", len(instructions), self.geometry.instructions)
        return tuple(instructions), tuple(programs)

    def _add_slices(self, area: _Area, cut: _Cut, numbers: IntegerLayer) -> list[Instruction]:
        """Return what adds the slices of each message: one instruction for the sets of one size of each group."""
        codes = []
        messages = cut.row_tiles * numbers.planes
        sizes = [slices for _, slices in cut.sets]
        for g, (first, _) in enumerate(cut.groups):
            words = cut.words(g)
            for slices in sorted(set(sizes), reverse=True):
                s, count = sizes.index(slices), sizes.count(slices)
                codes.append(Instruction(
                    reduce=Reduce.SUM, a_mode=Mode.LANDING, a_base=area.zones[g, s], a_s0=words, a_s1=1,
                    a_s2=slices * words, d_base=area.planes + s * messages * area.words + first // cut.width, d_s1=1,
                    d_s2=area.words, n0=slices, n1=words, n2=count * messages))
        return codes

    def _finish(self, layer: int, area: _Area, numbers: IntegerLayer) -> list[Instruction]:
        """Return what scales the sums and sends them: to the port, or plane by plane to the next layer."""
        scaled = Instruction(
            operation=Operation.MUL, post=Post.RELU if numbers.relu else Post.NONE, shift=numbers.shift,
            a_base=area.total, a_s0=1, b_mode=Mode.MEMORY, b_base=area.multipliers, b_s0=1, d_base=area.total, d_s0=1,
            n0=area.words)
        if layer + 1 == len(self.layers):
            return [dataclasses.replace(scaled, destination=Destination.PARTIAL, route=self.wiring.result, last=True)]
        codes = [dataclasses.replace(scaled, activation=True)]
        step = self.cuts[layer + 1].row_size // self.geometry.transport
        for plane in range(self.layers[layer + 1].planes):
            codes += [Instruction(
                operation=Operation.ADD, immediate=-(1 << plane >> 1), shift=plane,
                post=Post.TABLE0 if plane < SLICES else Post.NONE, activation=True, a_base=area.total
                + route.row_tile * step, a_s0=1, n0=route.words, destination=Destination.ACTIVATION, route=route.route,
                position=plane) for route in self.wiring.inputs[layer + 1]]
        codes[-1] = dataclasses.replace(codes[-1], last=True)
        return codes
