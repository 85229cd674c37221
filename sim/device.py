"""One memory device in fixed point: what a pulse leaves behind and what an age makes of it.

Full scale of a conductance is 2**16 (g16); tables are (6, 256) integers, a row for each `rtl.params.Table`, looked up
by the top byte of a g16. Every function works on arrays that broadcast against each other. docs/numbers.md proves the
widths.
"""

import functools

import numpy as np

from rtl.params.formats import (
    CODE_BITS,
    CODE_MAX,
    EXP2_INDEX_BITS,
    EXPONENT_BITS,
    EXPONENT_FRACTION,
    G16_BITS,
    G16_MAX,
    GAUSS_FRACTION,
    LOG_TIME_FRACTION,
    NU_FRACTION,
    exp2_table,
)
from rtl.params.registers import Table
from sim.fixed import Ints, round_shift

__all__ = ["aged_codes", "pulsed_states", "relaxed_and_exponent", "state_codes"]

_INDEX_SHIFT = G16_BITS - 8
_EXP2_SHIFT = EXPONENT_FRACTION - EXP2_INDEX_BITS
_SIGN, _WORD = 1 << 15, (1 << 16) - 1


@functools.cache
def _exp2() -> Ints:
    return np.array(exp2_table(), np.int64)


def pulsed_states(tables: Ints, amplitude: Ints, xi: Ints, state_bits: int) -> Ints:
    """Return the states that melt pulses of target `amplitude` (g16) leave, with a Gaussian sample `xi` for each."""
    x = np.clip(amplitude + _step(tables[Table.PULSE_SIGMA], amplitude, xi), 0, G16_MAX)
    return np.minimum(round_shift(x, G16_BITS - state_bits), (1 << state_bits) - 1)


def state_codes(states: Ints, state_bits: int) -> Ints:
    """Return the present conductances (codes) of devices that neither relaxed nor drifted yet."""
    return _code(states << (G16_BITS - state_bits))


def relaxed_and_exponent(tables: Ints, g16: Ints, xi_relax: Ints, xi_nu: Ints) -> tuple[Ints, Ints]:
    """Return the conductance (g16) after relaxation and shift, and the drift exponent nu (16 fraction bits)."""
    index = g16 >> _INDEX_SHIFT
    # The table holds words of 16 bits.
    shifted = g16 + ((tables[Table.SHIFT].take(index) + _SIGN & _WORD) - _SIGN)
    relaxed = shifted + _step(tables[Table.RELAX_SIGMA], g16, xi_relax)
    nu = tables[Table.NU_SIGMA].take(index)
    nu *= xi_nu
    nu = round_shift(nu, GAUSS_FRACTION)
    nu += tables[Table.NU_MEAN].take(index)
    return np.clip(relaxed, 0, G16_MAX), np.minimum(np.abs(nu), (1 << NU_FRACTION) - 1)


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


def _step(sigmas: Ints, g16: Ints, xi: Ints) -> Ints:
    return round_shift(sigmas.take(g16 >> _INDEX_SHIFT) * xi, GAUSS_FRACTION)


def _code(g16: Ints) -> Ints:
    return np.minimum(round_shift(g16, G16_BITS - CODE_BITS), CODE_MAX)
