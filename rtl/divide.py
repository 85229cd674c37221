"""Division of an unsigned value by a constant, without a divider."""

from amaranth.hdl import Value

__all__ = ["divide", "divide_up"]


def divide(value, divisor: int) -> Value:
    """Return floor(value / divisor), exact for every value of its width: a shift, or the reciprocal's product."""
    value = Value.cast(value)
    bits = len(value)
    if divisor & (divisor - 1) == 0:
        return value[divisor.bit_length() - 1:]
    # Granlund and Montgomery, PLDI 1994: a reciprocal rounded up to as many more bits as the divisor has.
    shift = bits + divisor.bit_length()
    reciprocal = -(-(1 << shift) // divisor)
    return (value * reciprocal)[shift:][:bits]


def divide_up(value, divisor: int) -> Value:
    """Return ceil(value / divisor), exact for every value of its width."""
    return divide(value + (divisor - 1), divisor)
