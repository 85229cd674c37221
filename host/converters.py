"""Differences of the converters of an emulated chip: drawn from what a technology says of them, a column each."""

import numpy as np

from host.errors import BitlineError
from host.placement import Tile
from rtl.params import Geometry, Purpose, hash_counter, hash_key
from rtl.params.formats import (
    GAUSS_FRACTION,
    MISMATCH_GAIN_BITS,
    MISMATCH_GAIN_FRACTION,
    MISMATCH_OFFSET_BITS,
    MISMATCH_OFFSET_FRACTION,
)
from sim.fixed import Ints
from sim.gauss import gaussian
from sim.hash import threefry2x32
from sim.technology import Technology

__all__ = ["check_converters", "mismatch_words"]


def check_converters(technology: Technology, geometry: Geometry) -> None:
    """Raise BitlineError or ValueError if converters are to differ, and a build cannot, or no source tells how much."""
    if not technology.converters:
        return
    technology.number("converter_gain_spread")
    if not geometry.mismatch:
        raise BitlineError(f"geometry {geometry.name!r} has converters that are all alike (mismatch is off): "
                           f"technology {technology.name!r} cannot make them differ")


def mismatch_words(technology: Technology, tile: Tile, *, seed: int, chip: int) -> Ints:
    """Return the registers `mismatch` of a tile's columns: random, but always the same for the same chip."""
    if not technology.converters:
        return np.zeros(tile.columns, np.int64)
    key = hash_key(seed, Purpose.CONVERTER, chip, tile.number)
    xi = [gaussian(word) / (1 << GAUSS_FRACTION) for word in
          threefry2x32(*key, np.asarray(hash_counter(0, np.arange(tile.columns)), np.uint32), 0)]
    offset = technology.converter_offset_spread
    errors = (xi[0] * technology.number("converter_gain_spread").one * (1 << MISMATCH_GAIN_FRACTION),
              xi[1] * (0.0 if offset is None else offset.one) * (1 << MISMATCH_OFFSET_FRACTION))
    gains, offsets = (np.clip(np.rint(error), 1 - (1 << bits - 1), (1 << bits - 1) - 1).astype(np.int64)
                      & (1 << bits) - 1 for error, bits in zip(errors, (MISMATCH_GAIN_BITS, MISMATCH_OFFSET_BITS),
                                                               strict=True))
    return np.asarray(gains << MISMATCH_OFFSET_BITS | offsets)
