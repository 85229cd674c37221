"""The compiler: a network of dense layers becomes tiles, routes, programs and scales of one chip.

A layer is cut into row tiles and column tiles. Each tile multiplies its part of the input and sends partial sums, all
of one layer in one unit, to the digital unit, which adds them to the bias, applies the relu and rescales: activations
go to the tiles of the next layer, the last sums to the port. Scales come from a calibration with real inputs.
"""

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.network import Dense, Network
from host.placement import InputRoute, Landing, LayerPlan, Phase, Placement, Program, Tile
from host.tiling import CapacityError, Cut, Place, assign, cuts, enough
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
    Post,
    Reduce,
)
from rtl.params.formats import ADC_GAIN_BITS, AFFINE_SCALE_BITS, AFFINE_SHIFT, GMAX_G16

__all__ = ["CapacityError", "CompileError", "check_limits", "checked_calibration", "compile_network", "input_scales"]

Floats = NDArray[np.float64]

TILE_PS = 130_000
"""A multiplication of a HERMES core: 8-bit pulses, conversion, affine scale (JSSC 57(4):1027, 2022)."""
WORD_PS = 1_000
"""One word through the digital unit: assumed, 1 GHz as the digital part of HERMES."""

PERCENTILE = 99.9
ADC_MARGIN = 1.1
"""Charge that meets the end of the ADC's range, relative to the calibration's percentile."""
SCALE_TARGET = 1 << 13
"""Largest affine scale: two bits remain for a drift gain of up to 4."""
SHIFT_MAX = 31
BIAS_MAX = (1 << (ELEMENT_BITS - 2)) - 1
"""Largest bias: partial sums that are added to it still fit an element."""
MESSAGES_MAX = 127
COUNT_MAX = 1023
"""Largest count and stride of an instruction."""


class CompileError(Exception):
    """The network cannot be computed with the chip's numbers; the sentence names the layer."""


def compile_network(network: Network, geometry: Geometry, calibration: Any) -> Placement:
    """Return the network placed on a chip.

    Parameters
    ----------
    calibration : (N, inputs) real inputs, from which ranges are taken

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
    options = [cuts(geometry, layer.name, layer.inputs, layer.outputs) for layer in network.layers]
    chosen, places, starts = assign(geometry, options)
    return _Build(network, geometry, chosen, places, starts).build(x)


def checked_calibration(network: Network, calibration: Any) -> Floats:
    """Return the calibration's inputs, or raise ValueError if they are not of the network."""
    x = np.asarray(calibration, np.float64)
    if x.ndim != 2 or len(x) == 0 or x.shape[1] != network.input_size or not np.isfinite(x).all():
        raise ValueError(f"calibration must be finite and (N, {network.input_size}) with N > 0, not {x.shape}")
    return x


def check_limits(network: Network, geometry: Geometry) -> None:
    """Raise CapacityError if a network has too many outputs or layers, however it is cut."""
    outputs, most = network.layers[-1].outputs, _result_elements(geometry)
    if outputs > most:
        raise CapacityError(f"the network has {outputs} outputs, but a result holds {most}")
    enough("programs", len(network.layers), geometry.programs)


def _result_elements(geometry: Geometry) -> int:
    """Return how many elements a result holds: its header takes a flit."""
    return (geometry.result_words - 1) * geometry.transport


@dataclasses.dataclass(frozen=True)
class _Scaling:
    """Numbers of one layer: ADC gain of each tile, affine scales (row tiles, outputs), unit and shift."""

    input_scale: float
    gains: dict[tuple[int, int], int]
    scales: NDArray[np.int64]
    unit: float
    shift: int
    targets: NDArray[np.int64]
    biases: NDArray[np.int64]


class _Build:
    """A network with its cuts and places, on the way to a placement."""

    def __init__(self, network: Network, geometry: Geometry, chosen: list[Cut], places: list[Place],
                 starts: list[int]) -> None:
        self.network, self.geometry, self.cuts = network, geometry, chosen
        self.wiring = Wiring(geometry, chosen, places, starts)

    def build(self, x: Floats) -> Placement:
        wiring = self.wiring
        ends = [*(start - 1 for start in wiring.starts[1:]), len(self.cuts) - 1]
        phases = tuple(Phase(first=first, last=last, plan=wiring.plan(layer=first))
                       for first, last in zip(wiring.starts, ends, strict=True))
        scalings = _scale(self.network, self.cuts, self.geometry, x)
        layers = self._layers(scalings)
        instructions, programs = self._digital(layers)
        return Placement(
            geometry=self.geometry, layers=layers, tiles=self._tiles(scalings),
            inputs=tuple(route for layer in wiring.inputs for route in layer), routes=tuple(wiring.routes),
            phases=phases,
            landings=tuple(self._landing(layers[n], wiring.partial[n, t, c], n, t, c) for n, t, c in wiring.places),
            programs=programs, instructions=instructions, memory=self._memory(layers, scalings),
            result_route=wiring.result, outputs=self.network.layers[-1].outputs)

    def _layers(self, scalings: list[_Scaling]) -> tuple[LayerPlan, ...]:
        layers, base = [], 0
        for layer, cut, scaling in zip(self.network.layers, self.cuts, scalings, strict=True):
            plan = LayerPlan(
                name=layer.name, inputs=layer.inputs, outputs=layer.outputs, relu=layer.relu, row_tiles=cut.row_tiles,
                row_size=cut.row_size, column_tiles=cut.columns, input_scale=scaling.input_scale, unit=scaling.unit,
                shift=scaling.shift, base=base, words=-(-layer.outputs // self.geometry.transport))
            layers.append(plan)
            base += 2 * plan.slot
        for plan in (layers[start - 1] for start in self.wiring.starts[1:]):
            if plan.words * self.geometry.transport > _result_elements(self.geometry):
                raise CapacityError(f"layer {plan.name!r} has {plan.outputs} outputs that leave the chip between two "
                                    f"phases, but a result holds {_result_elements(self.geometry)}")
        enough("digital memory words", base, self.geometry.digital_words)
        enough("words of one layer's outputs", max(layer.words for layer in layers), COUNT_MAX)
        return tuple(layers)

    def _tiles(self, scalings: list[_Scaling]) -> tuple[Tile, ...]:
        tiles = []
        for number, ((n, t, c), place) in enumerate(self.wiring.places.items()):
            cut, scaling = self.cuts[n], scalings[n]
            (first, width), rows, top = cut.columns[c], cut.rows(t), t * cut.row_size
            columns = max(width, 4)
            targets, scales = np.zeros((rows, columns), np.int64), np.zeros(columns, np.int64)
            targets[:, :width] = scaling.targets[top:top + rows, first:first + width]
            scales[:width] = scaling.scales[t, first:first + width]
            tiles.append(Tile(
                layer=n, row_tile=t, column_tile=c, number=number, unit=place.unit, context=place.context,
                first_row=top, first_column=first, rows=rows, columns=columns, net_base=place.net_base,
                state_base=place.state_base, column_base=place.column_base, route=self.wiring.partial[n, t, c],
                adc_gain=scaling.gains[t, c], latency=TILE_PS + self.wiring.tile_latency(place.unit), targets=targets,
                scales=scales))
        return tuple(tiles)

    def _landing(self, plan: LayerPlan, route: int, layer: int, row_tile: int, column_tile: int) -> Landing:
        first = plan.column_tiles[column_tile][0] // self.geometry.transport
        return Landing(route=route, base=plan.base + row_tile * plan.words + first, program=layer)

    def _memory(self, layers: tuple[LayerPlan, ...], scalings: list[_Scaling]) -> NDArray[np.int64]:
        """Return the digital unit's memory: the biases of each layer, in both slots."""
        width = self.geometry.transport
        memory = np.zeros((layers[-1].base + 2 * layers[-1].slot, width), np.int64)
        for plan, scaling in zip(layers, scalings, strict=True):
            words = np.pad(scaling.biases, (0, plan.words * width - plan.outputs)).reshape(-1, width)
            for first in plan.bias_words:
                memory[first:first + plan.words] = words
        return memory

    def _digital(self, layers: tuple[LayerPlan, ...]) -> tuple[tuple[Instruction, ...], tuple[Program, ...]]:
        instructions: list[Instruction] = []
        programs = []
        for n, plan in enumerate(layers):
            start = len(instructions)
            sent = self._activations(plan, layers[n + 1], self.wiring.inputs[n + 1]) if n + 1 < len(layers) else [
                _sums(plan, plan.base, plan.words, last=True, destination=Destination.PARTIAL,
                      route=self.wiring.result)]
            # Phases are the emulation's: the chip emulated has a tile for each, and sends on what we send to the port.
            work = sum(i.n0 * i.n1 * i.n2 for i in sent)
            if n + 1 in self.wiring.starts:
                sent = [_sums(plan, plan.base, plan.words, last=True, activation=True,
                              destination=Destination.ACTIVATION, route=self.wiring.result)]
            instructions += sent
            messages = plan.row_tiles * len(plan.column_tiles)
            enough(f"messages of layer {plan.name!r}", messages, MESSAGES_MAX)
            programs.append(Program(start=start, messages=messages, slot=plan.slot,
                                    latency=WORD_PS * work + self.wiring.layer_latency(n)))
        enough("instructions", len(instructions), self.geometry.instructions)
        return tuple(instructions), tuple(programs)

    def _activations(self, plan: LayerPlan, following: LayerPlan, routes: list[InputRoute]) -> list[Instruction]:
        """Return one instruction for each message that the next layer's tiles receive."""
        step = following.row_size // self.geometry.transport
        return [_sums(plan, plan.base + route.row_tile * step, route.words, last=route is routes[-1], activation=True,
                      destination=Destination.ACTIVATION, route=route.route) for route in routes]


def _sums(plan: LayerPlan, base: int, words: int, *, last: bool, destination: Destination, route: int,
          activation: bool = False) -> Instruction:
    """Return the instruction that sends sums over row tiles and the bias, after them in the landing zone."""
    return Instruction(reduce=Reduce.SUM, post=Post.RELU if plan.relu else Post.NONE, shift=plan.shift,
                       activation=activation, destination=destination, route=route, last=last, n0=plan.row_tiles + 1,
                       n1=words, a_mode=Mode.LANDING, a_base=base, a_s0=plan.words, a_s1=1)


# --- numbers --------------------------------------------------------------------------------------------------------

def _scale(network: Network, chosen: list[Cut], geometry: Geometry, x: Floats) -> list[_Scaling]:
    """Return the numbers of every layer, from the ranges that the float network takes on the calibration."""
    values, scales = input_scales(network, x)
    scalings = []
    for n, (layer, cut) in enumerate(zip(network.layers, chosen, strict=True)):
        activations = np.clip(np.rint(values[n] * scales[n]), -ACTIVATION_MAX, ACTIVATION_MAX)
        following = scales[n + 1] if n + 1 < len(chosen) else None
        scalings.append(_scale_layer(layer, cut, geometry, activations, scales[n], following))
    return scalings


def input_scales(network: Network, x: Floats) -> tuple[list[Floats], list[float]]:
    """Return what comes to each layer from inputs x, in real values, and activations per real value there.

    Raises
    ------
    CompileError
        If the values cannot be scaled.
    """
    values = [x, *network.trace(x)]
    ranges = [np.abs(x).max(), *(np.percentile(np.abs(v), PERCENTILE) for v in values[1:-1])]
    scales = [ACTIVATION_MAX / float(r) if r > 0 else float(ACTIVATION_MAX) for r in ranges]
    if not all(map(math.isfinite, scales)):
        raise CompileError("the calibration's inputs or activations are too large or too small to be scaled")
    return values[:-1], scales


def _scale_layer(layer: Dense, cut: Cut, geometry: Geometry, activations: Floats, input_scale: float,
                 following: float | None) -> _Scaling:
    largest = np.abs(layer.weight).max(axis=1)
    shares = layer.weight.T / np.where(largest > 0, largest, 1)
    gains, steps = _gains(cut, geometry, activations, shares * GMAX_CODE)
    # Real value of one ADC code: charge per code, times real value per charge.
    values = steps * largest / (GMAX_CODE * input_scale)
    unit, shift = _unit(layer.name, float(values.max()), float(np.abs(layer.bias).max()), following)
    scales = np.rint(values / unit * (1 << AFFINE_SHIFT)).astype(np.int64)
    if scales.max() >= 1 << (AFFINE_SCALE_BITS - 1):
        raise CompileError(f"layer {layer.name!r} needs an affine scale of {scales.max()}, "
                           f"above {(1 << (AFFINE_SCALE_BITS - 1)) - 1}")
    biases = np.rint(layer.bias / unit)
    if np.abs(biases).max() > BIAS_MAX:
        raise CompileError(f"layer {layer.name!r} needs a bias of {np.abs(biases).max():.3g}, above {BIAS_MAX}: "
                           "its biases dwarf what follows its relu")
    targets = np.rint(shares * GMAX_G16).astype(np.int64)
    return _Scaling(input_scale, gains, scales, unit, shift, targets, biases.astype(np.int64))


def _gains(cut: Cut, geometry: Geometry, activations: Floats,
           nets: Floats) -> tuple[dict[tuple[int, int], int], Floats]:
    """Return each tile's ADC gain, and the charge of one code (row tiles, outputs)."""
    gains = {}
    steps = np.zeros((cut.row_tiles, nets.shape[1]))
    for t in range(cut.row_tiles):
        rows = slice(t * cut.row_size, t * cut.row_size + cut.rows(t))
        charges = np.abs(activations[:, rows] @ nets[rows])
        for c, (first, width) in enumerate(cut.columns):
            full = float(np.percentile(charges[:, first:first + width], PERCENTILE)) * ADC_MARGIN
            most = (1 << ADC_GAIN_BITS) - 1
            gain = most if full <= 0 else round(min(geometry.code_max / full * (1 << ADC_SHIFT), most))
            gains[t, c] = max(gain, 1)
            steps[t, first:first + width] = (1 << ADC_SHIFT) / gains[t, c]
    return gains, steps


def _unit(name: str, step: float, bias: float, following: float | None) -> tuple[float, int]:
    """Return the real value of one unit of the partial sums, and the shift to the next layer's activations.

    `step` is the largest real value of one code: its affine scale shall be as large as the headroom allows, unless
    `bias`, the largest one, would not fit.
    """
    finest = max(step * (1 << AFFINE_SHIFT) / SCALE_TARGET, bias / BIAS_MAX)
    if following is None:
        return finest if finest > 0 else 1.0, 0
    activation = 1 / following
    if step * (1 << AFFINE_SHIFT) / activation >= 1 << (AFFINE_SCALE_BITS - 1):
        raise CompileError(f"layer {name!r} needs an affine scale above {(1 << (AFFINE_SCALE_BITS - 1)) - 1}: "
                           "its weights' sums dwarf what follows its relu")
    shift = 0
    while shift < SHIFT_MAX and activation * 2.0 ** -(shift + 1) >= finest:
        shift += 1
    return activation * 2.0**-shift, shift
