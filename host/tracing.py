"""What happens within a network: what its tiles send to the digital unit, and the sums of its layers."""

from typing import Any

import numpy as np

from host.backend import Landing
from host.errors import BitlineError
from host.placed import Floats, PlacedChip
from host.placement import Placement
from sim.fixed import Ints

__all__ = ["TracedChip"]


class TracedChip(PlacedChip):
    """A placed network whose layers can be looked at: all of them must be in the weight memories at once."""

    def trace(self, x: Any) -> list[Floats]:
        """Return the sums of every layer, before its activation function, for inputs (N, inputs).

        One array (N, layer's outputs) a layer, in the units of the ONNX file, from what reached the digital unit.
        """
        found = self.partial_sums(x)
        placement = self._placed()
        return [self._layer_sums(placement, number, found) for number in range(len(placement.layers))]

    def partial_sums(self, x: Any) -> list[Ints]:
        """Return what each tile of the placement sent to the digital unit, (N, words * W), for inputs (N, inputs)."""
        self._check_whole("infer")
        placement = self._placed()
        self._programmed()
        if placement.bit:
            raise BitlineError("what bit slices send to the digital unit cannot be traced")
        if len(placement.phases) > 1:
            raise BitlineError(f"the layers of a network that runs in {len(placement.phases)} phases cannot be traced: "
                               "choose a chip whose weight memory holds them all")
        activations, events = self._vectors_of(x)
        found = self.backend.trace(events, np.zeros(len(events), np.int64), activations, [
            Landing(route=landing.route, program=landing.program, base=landing.base,
                    slot=placement.programs[landing.program].slot, words=-(-tile.columns // self.geometry.transport))
            for landing, tile in zip(placement.landings, placement.tiles, strict=True)
        ], self._vectors)
        self._advance(len(events))
        return found

    def _layer_sums(self, placement: Placement, number: int, found: list[Ints]) -> Floats:
        layer = placement.layers[number]
        first = layer.bias_words[0]
        bias = placement.memory[first:first + layer.words].ravel()[:layer.outputs]
        sums = np.tile(bias, (len(found[0]), 1))
        for tile, elements in zip(placement.tiles, found, strict=True):
            if tile.layer == number:
                used = min(tile.columns, layer.outputs - tile.first_column)
                sums[:, tile.first_column:tile.first_column + used] += elements[:, :used]
        return sums.astype(np.float64) * layer.unit
