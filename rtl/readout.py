"""From charges to codes and partial sums: read noise, ADC and affine, a column a clock, never stalled.

The random sample of a column needs longer than most engines: its hash starts when the column is issued.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.accumulator import Accumulator
from rtl.adc import Adc, norm_bits
from rtl.affine import Affine
from rtl.bus import BusSignature
from rtl.constants import ColumnConstants, NoiseWrite
from rtl.context import settings_layout
from rtl.delay import Delay
from rtl.gauss import Gaussian
from rtl.hash import HASH_LATENCY, HashSignature
from rtl.notes import Notes
from rtl.params import ACTIVATION_MAX, ELEMENT_BITS, Geometry
from rtl.params.formats import COLUMN_SHIFT, NORM_FRACTION, ROW_SHIFT
from rtl.pipeline import register
from rtl.read import read_response_layout
from rtl.schedule import TICKET_BITS, adc_note_layout, noise_note_layout, note_layout, tag_layout

__all__ = ["Readout", "partial_layout"]

_VERIFY_NORM = ACTIVATION_MAX << NORM_FRACTION  # one row at full pulse


def partial_layout(geometry: Geometry) -> data.StructLayout:
    """Return the layout of a partial sum and where it belongs."""
    return data.StructLayout({"partial": signed(ELEMENT_BITS), "tag": tag_layout(geometry)})


class ReadNoise(wiring.Component):
    """Gaussian sample of a column, from its coordinates: `latency` clocks after its tag.

    Members
    -------
    chip : In(8)
    hash : HashSignature, out
    note : In(note_layout)
    tag : In(tag_layout)
    xi : Out
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        self._gaussian = Gaussian()
        super().__init__({
            "chip": In(8), "hash": Out(HashSignature()), "note": In(note_layout), "tag": In(tag_layout(geometry)),
            "xi": Out(self._gaussian.xi.shape()),
        })

    @property
    def latency(self) -> int:
        """Clocks from tag to sample: note, hash, table."""
        return 1 + HASH_LATENCY + self._gaussian.latency

    def elaborate(self, platform):
        m = Module()
        m.submodules.notes = notes = Notes(shape=noise_note_layout)
        m.submodules.gaussian = self._gaussian
        column = register(m, self.tag.column, "column")
        m.d.comb += [
            notes.write.eq(self.note.valid),
            notes.w_ticket.eq(self.note.ticket),
            notes.i.eq(self.note.noise),
            notes.ticket.eq(self.tag.ticket),
            self.hash.key1.eq(Cat(notes.o.tile, self.chip, notes.o.purpose)),
            self.hash.counter.eq(column << COLUMN_SHIFT | notes.o.row << ROW_SHIFT),
            self.hash.event.eq(notes.o.event),
            self._gaussian.word.eq(self.hash.word0),
            self.xi.eq(self._gaussian.xi),
        ]
        return m


class Readout(wiring.Component):
    """Complete the charges of an engine and convert them.

    Parameters
    ----------
    geometry : Geometry
    engine_latency : int
        Clocks from `ahead` to `charge`.
    norm_latency : int
        From the clock before `ahead`, at the latest, to `norm_valid`.

    Members
    -------
    settings : In
    note : In(note_layout)
    ahead : In(tag_layout)
        Tag of the column that is issued now.
    i_valid, i_tag, charge : In
        From the engine.
    norm_valid, norm_ticket, norm : In
    hash : HashSignature, out
    bus : In(BusSignature), waiting : Out, quiet : In, noise_write : In
        As of ColumnConstants.
    response : Out(stream of read_response_layout)
        Codes of verify reads.
    o : Out(stream of partial_layout)
        Partial sums of inference reads.
    finished : Out(1)
        The last column of a vector, or verify read, has left.
    converted, clipped, verified : Out(1)
        One more conversion of an inference read; it was clipped; one of a verify read.
    """

    def __init__(self, *, geometry: Geometry, engine_latency: int, norm_latency: int):
        self.geometry = geometry
        self.norm_latency = norm_latency
        self.engine_latency = engine_latency
        tag = tag_layout(geometry)
        super().__init__({
            "settings": In(settings_layout),
            "note": In(note_layout),
            "ahead": In(tag),
            "i_valid": In(1),
            "i_tag": In(tag),
            "charge": In(signed(geometry.charge_bits)),
            "norm_valid": In(1),
            "norm_ticket": In(TICKET_BITS),
            "norm": In(norm_bits(geometry)),
            "hash": Out(HashSignature()),
            "bus": In(BusSignature()),
            "waiting": Out(1),
            "quiet": In(1),
            "noise_write": In(NoiseWrite(geometry)),
            "response": Out(stream.Signature(read_response_layout(geometry), always_ready=True)),
            "o": Out(stream.Signature(partial_layout(geometry), always_ready=True)),
            "finished": Out(1),
            "converted": Out(1),
            "clipped": Out(1),
            "verified": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        tag_shape = tag_layout(g)
        m.submodules.constants = constants = ColumnConstants(geometry=g)
        connect(m, flipped(self.bus), constants.bus)
        m.d.comb += [
            self.waiting.eq(constants.waiting),
            constants.quiet.eq(self.quiet),
            constants.noise_write.eq(self.noise_write),
        ]

        m.submodules.accumulator = accumulator = Accumulator(geometry=g)
        m.d.comb += [
            accumulator.i_valid.eq(self.i_valid),
            accumulator.i_tag.eq(self.i_tag),
            accumulator.charge.eq(self.charge),
        ]

        # Charge and sample wait for each other and for the norm; a clock more looks up what belongs to them.
        m.submodules.noise = noise = ReadNoise(geometry=g)
        connect(m, noise.hash, flipped(self.hash))
        m.d.comb += [
            noise.chip.eq(self.settings.chip),
            noise.note.eq(self.note),
            noise.tag.eq(self.ahead),
        ]
        charged = self.engine_latency + accumulator.latency + 1
        complete = data.StructLayout({"tag": tag_shape, "charge": self.charge.shape()})
        together = max(charged, noise.latency, self.norm_latency + 1)
        m.submodules.charges = charges = Delay(shape=complete, clocks=together - charged)
        m.submodules.samples = samples = Delay(shape=noise.xi.shape(), clocks=together - noise.latency)
        m.d.comb += [
            charges.i_valid.eq(accumulator.o_valid),
            charges.i.tag.eq(accumulator.o_tag),
            charges.i.charge.eq(accumulator.o_charge),
            samples.i.eq(noise.xi),
        ]

        adc = self._convert(m, constants, charges, samples)
        self._scale(m, constants, adc)
        return m

    def _convert(self, m, constants, charges, samples):
        """Gather everything that one conversion needs."""
        m.submodules.norms = norms = Notes(shape=self.norm.shape())
        m.submodules.ranges = ranges = Notes(shape=adc_note_layout)
        m.submodules.adc = adc = Adc(geometry=self.geometry, tag=tag_layout(self.geometry))
        valid, at = Signal(), Signal.like(charges.o, reset_less=True)
        m.d.sync += [valid.eq(charges.o_valid), at.eq(charges.o)]
        request = adc.i.payload
        m.d.comb += [
            norms.write.eq(self.norm_valid),
            norms.w_ticket.eq(self.norm_ticket),
            norms.i.eq(self.norm),
            norms.ticket.eq(charges.o.tag.ticket),
            ranges.write.eq(self.note.valid),
            ranges.w_ticket.eq(self.note.ticket),
            ranges.i.eq(self.note.adc),
            ranges.ticket.eq(charges.o.tag.ticket),
            constants.noise_index.eq(charges.o.tag.constant),
            adc.i.valid.eq(valid),
            request.charge.eq(at.charge),
            request.noise.eq(Mux(ranges.o.one_row, self.settings.verify_noise, constants.noise)),
            request.norm.eq(Mux(ranges.o.one_row, Const(_VERIFY_NORM, norms.o.shape()), norms.o)),
            request.xi.eq(samples.o),
            request.gain.eq(ranges.o.gain),
            request.offset.eq(ranges.o.offset),
            request.gain_error.eq(constants.mismatch.gain),
            request.offset_error.eq(constants.mismatch.offset),
            request.tag.eq(at.tag),
        ]
        return adc

    def _scale(self, m, constants, adc):
        """Codes of verify reads leave; those of inference reads meet their scale and bias."""
        result = adc.o.payload
        verify = result.tag.verify
        m.d.comb += [
            self.response.valid.eq(adc.o.valid & verify),
            self.response.payload.column.eq(result.tag.column),
            self.response.payload.code.eq(result.code),
            self.response.payload.last.eq(result.tag.last),
            self.converted.eq(adc.o.valid & ~verify),
            self.clipped.eq(adc.o.valid & ~verify & result.clipped),
            self.verified.eq(adc.o.valid & verify),
            constants.affine_index.eq(result.tag.constant),
        ]

        m.submodules.affine = affine = Affine(geometry=self.geometry, tag=tag_layout(self.geometry))
        valid, code = Signal(), Signal.like(result.code, reset_less=True)
        tag = Signal.like(result.tag, reset_less=True)
        m.d.sync += [valid.eq(adc.o.valid), code.eq(result.code), tag.eq(result.tag)]
        scaled = affine.o.payload
        m.d.comb += [
            affine.i.valid.eq(valid),
            affine.i.payload.code.eq(code),
            affine.i.payload.scale.eq(constants.affine.scale),
            affine.i.payload.bias.eq(constants.affine.bias),
            affine.i.payload.tag.eq(tag),
            self.o.valid.eq(affine.o.valid & ~scaled.tag.verify),
            self.o.payload.partial.eq(scaled.partial),
            self.o.payload.tag.eq(scaled.tag),
            self.finished.eq(affine.o.valid & scaled.tag.last),
        ]
