"""Bits in a current-sum array: the functional equivalent of MRAM and SRAM macros.

A signed weight is sliced into the bits of its magnitude; slices are columns of pairs, a bit on the device of its sign.
Inputs go in as bit planes, their sign by the current path. A converter whose code is a count of bits ends each plane,
and counts are shifted and added: in the chip a program of the digital unit, here integer arithmetic. The off
conductance of both devices of a pair cancels; what is left of it is its mismatch.
"""

import dataclasses
from typing import Any

import numpy as np

from host.crossbar import Crossbar
from host.errors import BitlineError
from rtl.params import ACTIVATION_MAX, ADC_SHIFT, GMAX_CODE
from sim.fixed import Ints
from sim.technology import STATISTICAL, Technology

__all__ = ["BIT_NET", "BitSlices", "written_at_once"]

_ADC_BITS_MAX = 12
_LEVEL = 0.75
"""Where a bit that is on stands in the range of a state: bits scatter above it."""

BIT_NET = round(_LEVEL * GMAX_CODE)
"""Net of a cell whose main device is on, that of an off one taken off."""


class BitSlices:
    """A matrix of whole numbers, held in bits.

    Parameters
    ----------
    weights : (rows, columns), signed integers

    Raises
    ------
    BitlineError
        If the technology does not hold bits, or the count of a column does not fit a code.
    """

    def __init__(self, technology: Technology, weights: Any, *, seed: int = 1) -> None:
        if technology.pulse != "bits":
            raise BitlineError(f"technology {technology.name!r} does not hold bits: its pulses are {technology.pulse}")
        w = np.asarray(weights, np.int64)
        self.rows, self.columns = w.shape
        adc_bits = max(4, self.rows.bit_length() + 1)
        if adc_bits > _ADC_BITS_MAX:
            raise BitlineError(f"{self.rows} rows of bits need a converter of {adc_bits} bits, "
                               f"above {_ADC_BITS_MAX}: cut the matrix")
        self.bits = max(int(np.abs(w).max(initial=0)).bit_length(), 1)
        planes = np.sign(w)[..., None] * (np.abs(w)[..., None] >> np.arange(self.bits) & 1)
        # A bit is written at once, into a state that is one of two.
        self.tile = Crossbar(written_at_once(technology), self.rows, self.columns * self.bits, way=STATISTICAL,
                             seed=seed, adc_bits=adc_bits)
        self.tile.program(_LEVEL * planes.reshape(self.rows, -1))

    def multiply(self, x: Any) -> Ints:
        """Return x (N, rows; signed integers) @ weights, as counts of bits shifted and added, (N, columns)."""
        x = np.asarray(x, np.int64)
        gain = round((1 << ADC_SHIFT) / (_LEVEL * GMAX_CODE * ACTIVATION_MAX))
        result = np.zeros((len(x), self.columns), np.int64)
        for k in range(max(int(np.abs(x).max(initial=0)).bit_length(), 1)):
            plane = np.sign(x) * (np.abs(x) >> k & 1) * ACTIVATION_MAX
            counts = self.tile.codes(plane, gain, first_event=k * len(x)).reshape(len(x), self.columns, self.bits)
            result += (counts << np.arange(self.bits)).sum(axis=2) << k
        return result


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
