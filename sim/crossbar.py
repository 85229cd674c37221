"""The behavioural macro: crossbar, capacitors and comparators, integrated tick by tick."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params.formats import ADC_SHIFT
from sim.dac import pulses, sign_magnitude
from sim.fixed import Ints


def integrate(nets: Any, activations: Any) -> Ints:
    """Return the charge of each column after 127 ticks, (N, rows) activations on (rows, columns) nets -> (N, columns).

    Tick by tick, as the pulses switch; the closed form is ``activations @ nets``.
    """
    nets = np.asarray(nets, np.int64)
    path, _ = sign_magnitude(activations)
    charge = np.zeros((len(path), nets.shape[1]), np.int64)
    for lines in np.moveaxis(pulses(activations), -2, 0):
        charge += np.where(lines, np.where(path, -1, 1), 0) @ nets
    return charge


def trip(charge: Any, gain: Any, offset: Any, level: int) -> NDArray[np.bool_]:
    """Return the comparators' answers to the ramp half a code below `level`, for complete charges."""
    half = 1 << (ADC_SHIFT - 1)
    result: NDArray[np.bool_] = np.asarray(charge, np.int64) * gain + offset < (level << ADC_SHIFT) - half
    return result
