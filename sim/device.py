"""One memory device in fixed point: what a pulse leaves behind and what an age makes of it.

Full scale of a conductance is 2**16 (g16); tables are (10, 256) integers, a row for each `rtl.params.Table`, looked up
by the top byte of a g16. Every function works on arrays that broadcast against each other. docs/numbers.md proves the
widths.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params.formats import (
    AMPLITUDE_FRACTION,
    CODE_BITS,
    CODE_MAX,
    EXP2_INDEX_BITS,
    EXPONENT_BITS,
    EXPONENT_FRACTION,
    FLOOR_AMPLITUDE_BIT,
    FLOOR_BITS,
    G16_BITS,
    G16_MAX,
    GAUSS_FRACTION,
    GMAX_G16,
    LOG_TIME_FRACTION,
    NU_FRACTION,
    SPREAD_BITS,
    VARIATION_FRACTION,
    exp2_table,
)
from rtl.params.registers import Table
from sim.fixed import Ints, round_shift

__all__ = ["Born", "aged_codes", "born", "pulsed_states", "relaxed_and_exponent", "state_codes", "stepped_states",
           "stuck_state"]

_INDEX_SHIFT = G16_BITS - 8
_EXP2_SHIFT = EXPONENT_FRACTION - EXP2_INDEX_BITS
_SIGN, _WORD = 1 << 15, (1 << 16) - 1
_UNIT_MAX = (1 << 15) - 1  # of a step of amplitude 1, half of full scale


@functools.cache
def _exp2() -> Ints:
    return np.array(exp2_table(), np.int64)


def pulsed_states(tables: Ints, amplitude: Ints, xi: Ints, state_bits: int) -> Ints:
    """Return the states that melt pulses of target `amplitude` (g16) leave, with a Gaussian sample `xi` for each."""
    x = np.clip(amplitude + _step(tables[Table.PULSE_SIGMA], amplitude, xi), 0, G16_MAX)
    return _state(x, state_bits)


@dataclasses.dataclass(frozen=True)
class Born:
    """What devices are born with: the sizes of their steps up and down (12 fraction bits), endurance, and whether
    they are stuck."""

    up: Ints
    down: Ints
    endurance: Ints
    stuck: NDArray[np.bool_]

    def at(self, index: Any) -> "Born":
        """Return some of the devices."""
        return Born(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))


def born(tables: Ints, words: tuple[NDArray[np.uint32], NDArray[np.uint32]], *, common: bool, stuck_rate: int) -> Born:
    """Return what devices of these two hash words (VARIATION) are born with."""
    byte = words[0].astype(np.int64)
    up, down, endurance = byte & 0x7F, byte >> 8 & 0x7F, byte >> 16 & 0xFF
    of_up, of_down = tables[Table.VARIATION].reshape(2, 128)
    return Born(of_up.take(up), of_down.take(up if common else down), tables[Table.ENDURANCE].take(endurance),
                words[1] < stuck_rate)


def stepped_states(tables: Ints, states: Ints, amplitude: Ints, down: Any, device: Born, xi: Ints, xi_floor: Ints,
                   state_bits: int) -> Ints:
    """Return the states that gradual pulses leave, 0 to Gmax, with two Gaussian samples for each.

    amplitude : 12 fraction bits; pulses of a train scatter apart, so that what scatters is its root, to within 1.5
    down : whether the pulse takes away
    xi : of the move
    xi_floor : of how near a train comes to the bound: the last of its pulses that met it have scattered away from it
    """
    g16 = states << (G16_BITS - state_bits)
    index = g16 >> _INDEX_SHIFT
    step = np.where(down, tables[Table.STEP_DOWN].take(index), tables[Table.STEP_UP].take(index))
    index = np.maximum(index, 1)  # the spread of entry 0 is that of RESET
    spread = np.where(down, tables[Table.RELAX_SIGMA].take(index), tables[Table.PULSE_SIGMA].take(index))
    xi = xi >> sum((amplitude >> bit > 0).astype(np.int64) for bit in SPREAD_BITS)
    unit = np.clip(step + round_shift(spread * xi, GAUSS_FRACTION), -_UNIT_MAX, _UNIT_MAX)
    strength = np.minimum(amplitude * np.where(down, device.down, device.up) >> VARIATION_FRACTION, G16_MAX)
    x = g16 + round_shift(strength * np.where(down, -unit, unit), AMPLITUDE_FRACTION)
    floor = np.minimum(_exponent(tables, g16 >> _INDEX_SHIFT, xi_floor), (1 << FLOOR_BITS) - 1)
    floor = np.where(amplitude >> FLOOR_AMPLITUDE_BIT, floor, 0)
    return _state(np.clip(x, np.where(down, floor, 0), np.where(down, GMAX_G16, GMAX_G16 - floor)), state_bits)


def stuck_state(value: int, state_bits: int) -> int:
    """Return the state of a device that is stuck at `value` (g16)."""
    return value >> (G16_BITS - state_bits)


def state_codes(states: Any, state_bits: int) -> Ints:
    """Return the present conductances (codes) of devices that neither relaxed nor drifted yet."""
    return _code(states << (G16_BITS - state_bits))


def relaxed_and_exponent(tables: Ints, g16: Ints, xi_relax: Any, xi_nu: Any) -> tuple[Ints, Ints]:
    """Return the conductance (g16) after relaxation and shift, and the drift exponent nu (16 fraction bits)."""
    index = g16 >> _INDEX_SHIFT
    # The table holds words of 16 bits.
    shifted = g16 + ((tables[Table.SHIFT].take(index) + _SIGN & _WORD) - _SIGN)
    relaxed = shifted + _step(tables[Table.RELAX_SIGMA], g16, xi_relax)
    return np.clip(relaxed, 0, G16_MAX), _exponent(tables, index, xi_nu)


def _exponent(tables: Ints, index: Ints, xi: Ints) -> Ints:
    """Return what the tables of the drift exponent give: |mean + sigma xi|, 16 bits."""
    nu = tables[Table.NU_SIGMA].take(index)
    nu *= xi
    nu = round_shift(nu, GAUSS_FRACTION)
    nu += tables[Table.NU_MEAN].take(index)
    return np.minimum(np.abs(nu), (1 << NU_FRACTION) - 1)


def aged_codes(tables: Ints, g16: Ints, relaxed: Ints, nu: Ints, xi_flicker: Ints, log_time: int) -> Ints:
    """Return the present conductances (codes) at an age, log_time = log2((t + t0) / t0) with 12 fraction bits.

    `g16` is the programmed conductance, which chooses the amount of 1/f noise; `relaxed` and `nu` are those of
    `relaxed_and_exponent`.
    """
    drop = NU_FRACTION + LOG_TIME_FRACTION - EXPONENT_FRACTION
    exponent = np.minimum((nu * log_time) >> drop, (1 << EXPONENT_BITS) - 1)
    fraction = exponent & ((1 << EXPONENT_FRACTION) - 1)
    d = _exp2().take(fraction >> _EXP2_SHIFT)
    d *= relaxed
    d >>= 15 + (exponent >> EXPONENT_FRACTION)  # one bit is left to round by, whatever the shift
    d = (d + 1) >> 1
    n = tables[Table.FLICKER].take(g16 >> _INDEX_SHIFT)
    n *= d
    n >>= NU_FRACTION
    n *= xi_flicker
    d += round_shift(n, GAUSS_FRACTION)
    return _code(np.clip(d, 0, G16_MAX))


def _step(sigmas: Ints, g16: Ints, xi: Any) -> Ints:
    return round_shift(sigmas.take(g16 >> _INDEX_SHIFT) * xi, GAUSS_FRACTION)


def _state(g16: Ints, state_bits: int) -> Ints:
    return np.minimum(round_shift(g16, G16_BITS - state_bits), (1 << state_bits) - 1)


def _code(g16: Any) -> Ints:
    return np.minimum(round_shift(g16, G16_BITS - CODE_BITS), CODE_MAX)
