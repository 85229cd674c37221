"""The converter in charge fidelity: a column's charge, with its read noise, to a code, a column a clock."""

import math

from amaranth.hdl import Module, Mux, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.fixed import round_shift, saturate
from rtl.params import ACTIVATION_MAX, ADC_SHIFT, GAUSS_FRACTION, Geometry
from rtl.params.formats import (
    ADC_GAIN_BITS,
    GAUSS_BITS,
    MISMATCH_CUT,
    MISMATCH_GAIN_BITS,
    MISMATCH_GAIN_FRACTION,
    MISMATCH_OFFSET_BITS,
    MISMATCH_OFFSET_FRACTION,
    NOISE_ROOT_FRACTION,
    NORM_FRACTION,
    SIGMA_BITS,
    SIGMA_FRACTION,
)
from rtl.pipeline import delay, register

__all__ = ["Adc", "adc_request_layout", "adc_response_layout", "norm_bits"]

_PORT = 18  # width of a hard multiplier's operand


def norm_bits(geometry: Geometry) -> int:
    """Return the bits of the root of the sum of squared activations, 4 of them fraction; at most 16."""
    squares = ACTIVATION_MAX**2 * max(geometry.rows, geometry.columns)
    return math.isqrt(squares << 2 * NORM_FRACTION).bit_length()


def adc_request_layout(geometry: Geometry, tag) -> data.StructLayout:
    """Return the layout of one conversion: all it needs, and a tag of any shape that rides along."""
    return data.StructLayout({
        "charge": signed(geometry.charge_bits), "noise": unsigned(16), "norm": unsigned(norm_bits(geometry)),
        "xi": signed(GAUSS_BITS), "gain": unsigned(ADC_GAIN_BITS), "offset": signed(32),
        "gain_error": signed(MISMATCH_GAIN_BITS), "offset_error": signed(MISMATCH_OFFSET_BITS), "tag": tag,
    })


def adc_response_layout(geometry: Geometry, tag) -> data.StructLayout:
    """Return the layout of one result: code, whether it was limited, and the tag of its request."""
    return data.StructLayout({"code": signed(geometry.adc_bits), "clipped": unsigned(1), "tag": tag})


class Adc(wiring.Component):
    """Code = round((charge + sigma xi) gain + offset), limited; sigma = noise constant of the column times norm.

    Feed-forward: takes a conversion each clock, always ready, and gives its code `latency` clocks later.

    Parameters
    ----------
    geometry : Geometry
    tag : shape-like
        Of what rides along with a conversion.

    Members
    -------
    i : In(stream of adc_request_layout)
    o : Out(stream of adc_response_layout)
    """

    def __init__(self, *, geometry: Geometry, tag=0):
        self._geometry = geometry
        self._tag = tag
        super().__init__({
            "i": In(stream.Signature(adc_request_layout(geometry, tag), always_ready=True)),
            "o": Out(stream.Signature(adc_response_layout(geometry, tag), always_ready=True)),
        })

    _NOISE_CLOCKS, _GAIN_CLOCKS = 7, 5

    @property
    def latency(self) -> int:
        """Clocks from charge to code."""
        return self._NOISE_CLOCKS + self._GAIN_CLOCKS + 1

    def elaborate(self, platform):
        """Compute the noise beside the waiting charge, add it, scale, round and limit."""
        m = Module()
        request = self.i.payload
        waiting = self._NOISE_CLOCKS
        noise = self._noise(m, request)
        charge = register(m, delay(m, request.charge, waiting, "charge") + noise, "charge_noisy")
        gain, offset, spent = self._mismatched(m, request)
        scaled = self._scale(m, charge, delay(m, gain, waiting + 1 - spent, "gain"),
                             delay(m, offset, waiting + 3 - spent, "offset"))
        limit = self._geometry.code_max
        rounded = scaled[ADC_SHIFT:].as_signed()  # half a code was added with the offset
        response = self.o.payload
        m.d.comb += [
            response.code.eq(register(m, saturate(rounded, -limit, limit), "code")),
            response.clipped.eq(register(m, (rounded > limit) | (rounded < -limit), "clipped")),
            Value.cast(response.tag).eq(delay(m, request.tag, self.latency, "tag")),
        ]
        m.d.comb += self.o.valid.eq(delay(m, self.i.valid, self.latency, "valid", reset_less=False))
        return m

    def _mismatched(self, m, request):
        """Return gain and offset of this column's converter, and how many clocks after the request."""
        if not self._geometry.mismatch:
            return request.gain, request.offset, 0
        top = request.gain[MISMATCH_CUT:]
        error = register(m, request.gain_error, "gain_error")
        product = register(m, register(m, top, "gain_top") * error, "gain_change")
        change = product >> (MISMATCH_GAIN_FRACTION - MISMATCH_CUT)
        gain = register(m, saturate(delay(m, request.gain, 2, "gain_nominal") + change, 0, (1 << ADC_GAIN_BITS) - 1),
                        "gain_real")
        offset_error = request.offset_error << ADC_SHIFT - MISMATCH_OFFSET_FRACTION
        offset = register(m, request.offset + offset_error, "offset_real")
        return gain, delay(m, offset, 2, "offset_waiting"), 3

    def _noise(self, m, request):
        """Return round(sigma xi), in charge units, `_NOISE_CLOCKS` after the request."""
        product = register(m, register(m, request.noise, "noise") * register(m, request.norm, "norm"), "root")
        sigma = register(m, product[NOISE_ROOT_FRACTION + NORM_FRACTION - SIGMA_FRACTION:][:SIGMA_BITS], "sigma")
        # A hard multiplier takes 18 bits a side: multiply xi as if unsigned, then take its sign's weight off again.
        xi = delay(m, request.xi, 3, "xi")
        spread = register(m, register(m, sigma * xi.as_unsigned(), "spread0"), "spread1")
        excess = delay(m, Mux(xi < 0, sigma, 0), 2, "excess")
        shift = SIGMA_FRACTION + GAUSS_FRACTION
        exact = register(m, spread[shift - 1:] - (excess << GAUSS_BITS - shift + 1), "noise_exact")
        return register(m, round_shift(exact, 1), "noise_rounded")

    def _scale(self, m, charge, gain, offset):
        """Return charge * gain + offset + half a code, `_GAIN_CLOCKS` - 1 after the charge.

        `offset` comes two clocks after the charge. Both factors are cut so that two hard multipliers do, and the gain's
        top bits are an adder.
        """
        low, high = charge[:_PORT], charge[_PORT:].as_signed()
        gain_low, gain_high = gain[:_PORT], gain[_PORT:]
        low_product = register(m, register(m, low * gain_low, "low0"), "low1")
        high_product = register(m, register(m, high * gain_low, "high0"), "high1")
        top_product = delay(m, sum(Mux(gain_high[k], charge << k, 0) for k in range(len(gain_high))), 2, "top")
        upper = register(m, high_product + top_product, "upper")
        lower = register(m, low_product + offset + (1 << ADC_SHIFT - 1), "lower")
        return register(m, (upper << _PORT) + lower, "scaled")
