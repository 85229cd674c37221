"""Fixed-point arithmetic on Amaranth values, with the same names and the same meaning as `sim/fixed.py`."""

from amaranth.hdl import Mux, Shape, Value, signed

__all__ = ["round_shift", "saturate"]


def round_shift(value, shift: int) -> Value:
    """Return floor((value + 2**(shift - 1)) / 2**shift), the one rounding rule, wide enough never to wrap."""
    value = Value.cast(value)
    if shift == 0:
        return value
    return (value + (1 << (shift - 1))) >> shift


def saturate(value, low: int, high: int) -> Value:
    """Return value limited to low...high, in the narrowest shape that holds both."""
    value = Value.cast(value)
    shape = Shape.cast(range(low, high + 1))
    limited = Mux(value > high, high, Mux(value < low, low, value))
    bits = limited[:shape.width]
    return bits.as_signed() if shape == signed(shape.width) else bits
