"""Codes to partial sums: a column's scale and bias, the one place where calibration and weight scales act."""

from amaranth.hdl import Module, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.fixed import round_shift, saturate
from rtl.params import ELEMENT_BITS, Geometry
from rtl.params.formats import AFFINE_SCALE_BITS, AFFINE_SHIFT
from rtl.pipeline import delay, register

__all__ = ["Affine", "affine_request_layout", "affine_response_layout"]


def affine_request_layout(geometry: Geometry, tag) -> data.StructLayout:
    """Return the layout of one code with its column's scale and bias, and a tag of any shape that rides along."""
    return data.StructLayout({
        "code": signed(geometry.adc_bits), "scale": signed(AFFINE_SCALE_BITS), "bias": signed(ELEMENT_BITS),
        "tag": tag,
    })


def affine_response_layout(tag) -> data.StructLayout:
    """Return the layout of one partial sum with the tag of its request."""
    return data.StructLayout({"partial": signed(ELEMENT_BITS), "tag": tag})


class Affine(wiring.Component):
    """Partial sum = round(code * scale / 2**8) + bias, limited to 24 bits.

    Feed-forward: takes a code each clock, always ready, and gives its partial sum `latency` clocks later.

    Parameters
    ----------
    geometry : Geometry
    tag : shape-like
        Of what rides along with a code.

    Members
    -------
    i : In(stream of affine_request_layout)
    o : Out(stream of affine_response_layout)
    """

    def __init__(self, *, geometry: Geometry, tag=0):
        super().__init__({
            "i": In(stream.Signature(affine_request_layout(geometry, tag), always_ready=True)),
            "o": Out(stream.Signature(affine_response_layout(tag), always_ready=True)),
        })

    @property
    def latency(self) -> int:
        """Clocks from code to partial sum: inputs, product, its second register, sum, limit."""
        return 5

    def elaborate(self, platform):
        """Multiply, round, add, limit."""
        m = Module()
        request, response = self.i.payload, self.o.payload
        product = register(m, register(m, request.code, "code") * register(m, request.scale, "scale"), "product0")
        rounded = round_shift(register(m, product, "product1"), AFFINE_SHIFT)
        total = register(m, rounded + delay(m, request.bias, 3, "bias"), "total")
        limit = 1 << (ELEMENT_BITS - 1)
        m.d.comb += [
            response.partial.eq(register(m, saturate(total, -limit, limit - 1), "partial")),
            Value.cast(response.tag).eq(delay(m, request.tag, self.latency, "tag")),
            self.o.valid.eq(delay(m, self.i.valid, self.latency, "valid", reset_less=False)),
        ]
        return m
