"""One tile of the model by itself, without a network: targets in, programming, ages, conductances out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params import ACTIVATION_MAX, ADC_SHIFT, GMAX_CODE, FlitKind, Geometry, Purpose, Table, hash_counter, hash_key
from rtl.params.formats import AFFINE_SHIFT, AMPLITUDE_FRACTION, EPOCH_SHIFT, G16_BITS, GMAX_G16, NU_FRACTION
from sim.array import Pulses
from sim.core import Core
from sim.device import relaxed_and_exponent
from sim.fixed import Ints
from sim.gauss import gaussian
from sim.hash import threefry2x32
from sim.message import Message
from sim.tables import (
    age_settings,
    column_noise,
    noise_gain,
    probe_settings,
    programming_tables,
    tables,
    verify_settings,
)
from sim.technology import CLOSED_LOOP, Technology

__all__ = ["Crossbar"]

Floats = NDArray[np.float64]
_ROWS_AT_ONCE = 64
_INPUT_VALID = 1 << 6
_MARGIN = 1.1


class Crossbar:
    """A tile of rows x columns, `pairs` device pairs a cell; numbers of devices in the technology's unit.

    Attributes
    ----------
    targets : (rows, columns), g of each cell, signed
    outcomes : (rows, columns), as write-verify left them

    With `ideal_partner`, devices in RESET are exactly at their lowest conductance.
    `net_pairs` makes of the pairs what aihwkit ages.
    """

    def __init__(self, technology: Technology, rows: int, columns: int, *, way: str = CLOSED_LOOP, pairs: int = 1,
                 significance: int = 1, seed: int = 1, tile: int = 0, adc_bits: int = 8,
                 ideal_partner: bool = False) -> None:
        self.technology, self.way, self.ideal_partner = technology, way, ideal_partner
        self.geometry = Geometry(
            name="crossbar", engines=1, contexts=1, rows=-(-rows // 4) * 4, columns=columns, lanes=-(-rows // 4) * 4,
            pairs=pairs, significance=significance, adc_bits=adc_bits, cells=rows * columns,
            net_words=1 << (columns - 1).bit_length(), column_words=1 << (columns - 1).bit_length())
        self.core = Core(self.geometry)
        self.core.records[0] |= {"tile": tile, "rows": rows, "columns": columns}
        self.core.settings |= {"seed": seed, "epoch": 1, **verify_settings(technology, self.geometry, way)}
        self.rows, self.columns = rows, columns
        self._netted = False

    def program(self, targets: Any) -> "Crossbar":
        """Program the tile to g `targets` (rows, columns), signed, and make it fresh."""
        self.targets: Floats = np.broadcast_to(np.asarray(targets, np.float64), (self.rows, self.columns))
        self._netted = False
        self._g16 = np.rint(self.targets * GMAX_G16 * self.geometry.significance).astype(np.int64)
        self._load(programming_tables(self.technology, way=self.way, geometry=self.geometry))
        self.outcomes = np.vstack([
            self.core.program_rows(0, np.arange(k, min(k + _ROWS_AT_ONCE, self.rows)), self._g16[k:k + _ROWS_AT_ONCE])
            for k in range(0, self.rows, _ROWS_AT_ONCE)])
        return self.age(0.0)

    def net_pairs(self) -> "Crossbar":
        """Take the lower device of each pair, as programmed, off the higher, and leave it at 0; neither relaxes again.

        aihwkit keeps weights, not pairs, between programming and ageing, so the residual ages with the weight.
        """
        found, _ = self._relaxed()
        net = found[..., 0::2] - found[..., 1::2]
        states = np.stack([np.maximum(net, 0), np.maximum(-net, 0)], axis=-1).reshape(found.shape)
        cells = states.transpose(1, 0, 2).reshape(-1, self.geometry.devices)
        array = self.core.programming.array
        array.states[:len(cells)] = cells >> (G16_BITS - self.geometry.state_bits)
        self._netted = True
        return self.age(0.0)

    def begin(self, g: float) -> "Crossbar":
        """Put the first device of every cell at g, as only an emulated one can be put, for pulses from there on."""
        self._load(programming_tables(self.technology, way=self.way, geometry=self.geometry))
        self.core.programming.array.states[:, 0] = round(g * GMAX_G16)
        return self

    def pulse(self, *, down: bool = False, number: int = 1) -> Floats:
        """Give these devices a gradual pulse of amplitude 1; return their g (rows, columns).

        `number`, below 2**9, is a coordinate of what is random of it.
        """
        shape = (self.rows, self.columns)
        mask = np.zeros((*shape, self.geometry.devices), bool)
        mask[..., 0] = True
        gradual = np.ones(shape, bool)
        pulses = Pulses(mask, np.full(shape, 1 << AMPLITUDE_FRACTION), gradual, gradual & down)
        array = self.core.programming.array
        array.pulse(self.core.settings, self.core.records[0], np.arange(self.rows), pulses, number)
        return np.asarray(self.states[..., 0] / GMAX_G16)

    def age(self, seconds: float) -> "Crossbar":
        """Set the time since programming."""
        self._load(tables(self.technology, seconds, way=self.way, geometry=self.geometry))
        gain = noise_gain(self.technology, self.geometry, self.rows)
        self.core.settings |= {**age_settings(self.technology, seconds), "noise_gain": gain}
        nets, noise = self.core.programming.array.age(self.core.settings, self.core.records[0])
        constant = column_noise(self.technology, self.geometry, self._g16)
        self.nets: Ints = nets
        self.core.tiles.set_nets(0, nets)
        self.core.tiles.set_constants("noise", 0, noise if constant is None else constant)
        return self

    def _load(self, content: dict[Table, Ints]) -> None:
        for table, values in content.items():
            self.core.programming.array.tables[table] = values & 0xFFFF
            if self.ideal_partner and table in (Table.PULSE_SIGMA, Table.RELAX_SIGMA):
                self.core.programming.array.tables[table, 0] = 0
            if self._netted and table == Table.RELAX_SIGMA:
                self.core.programming.array.tables[table] = 0

    @property
    def states(self) -> Ints:
        """States as g16, (rows, columns, devices)."""
        cells = self.core.programming.array.states[:self.rows * self.columns]
        g16 = cells.reshape(self.columns, self.rows, -1) << (G16_BITS - self.geometry.state_bits)
        return g16.transpose(1, 0, 2)

    def devices(self) -> tuple[Floats, Floats]:
        """Return the conductance of each device after relaxation, and its drift exponent, (rows, columns, devices)."""
        found, nu = self._relaxed()
        conductances = found * (self.technology.range / GMAX_G16) + self._lowest
        return np.asarray(conductances), np.asarray(nu / (1 << NU_FRACTION))

    def _relaxed(self) -> tuple[Ints, Ints]:
        row, column, device = np.ogrid[:self.rows, :self.columns, :self.geometry.devices]
        key = hash_key(self.core.settings["seed"], Purpose.STATIC, 0, self.core.records[0]["tile"])
        words = threefry2x32(*key, hash_counter(row, column, device), self.core.settings["epoch"] << EPOCH_SHIFT)
        return relaxed_and_exponent(self.core.programming.array.tables, self.states, *map(gaussian, words))

    @property
    def _lowest(self) -> float:
        """The conductance of a code of 0."""
        kind = self.technology
        headroom = 0.0 if kind.headroom is None else kind.headroom.one * kind.range
        return (0.0 if kind.gmin is None else kind.gmin.one) - headroom

    def weights(self) -> Floats:
        """Return what the engine multiplies with, in units of the largest weight, (rows, columns)."""
        return self.nets / (GMAX_CODE * self.geometry.significance)

    def probe(self) -> float:
        """Return the mean magnitude of the outputs of one-hot inputs, as the tile's own probe reads it, in counts."""
        self.core.settings |= {"probe_ticks": ACTIVATION_MAX, "probe_mode": 0,
                               **probe_settings(self.technology, self.geometry)}
        return float(np.abs(self.core.programming.probe_rows(0, np.arange(self.rows), 1)).mean())

    def multiply(self, x: Floats, *, first_event: int = 0) -> Floats:
        """Return x (N, rows; within 1) @ weights through DAC, read noise and an ADC.

        The largest charge without noise meets 1 / 1.1 of the ADC's range, as the compiler has it.
        """
        activations = np.rint(x * ACTIVATION_MAX).astype(np.int64)
        largest = np.abs(activations @ self.nets).max()
        gain = int(self.geometry.code_max / (_MARGIN * largest) * (1 << ADC_SHIFT))
        codes = self.codes(activations, gain, first_event=first_event)
        return codes * (1 << ADC_SHIFT) / gain / (ACTIVATION_MAX * GMAX_CODE * self.geometry.significance)

    def codes(self, activations: Ints, gain: int, *, first_event: int = 0) -> Ints:
        """Return the codes (N, columns) of activations (N, rows), with the ADC's gain in 2**-24 codes a charge unit."""
        self.core.records[0] |= {"adc_gain": gain, "adc_offset": 0}
        self.core.tiles.set_constants("scale", 0, np.full(self.columns, 1 << AFFINE_SHIFT))
        self.core.tiles.inputs[0] = _INPUT_VALID
        events = np.arange(first_event, first_event + len(activations))
        padded = np.pad(activations, ((0, 0), (0, -self.rows % self.geometry.transport)))
        message, = self.core.tiles.accept(Message(route=0, kind=FlitKind.ACTIVATION, events=events,
                                                  times=np.zeros(len(events), np.int64), elements=padded))
        return message.elements[:, :self.columns].astype(np.int64)
