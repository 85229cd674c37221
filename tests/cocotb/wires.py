"""Arrays of numbers as the one vector that they are in Verilog. Imported inside the simulator, so it stays light."""


def pack(values, bits):
    """Return one unsigned integer that holds signed or unsigned values of `bits` each, the first lowest."""
    mask = (1 << bits) - 1
    return sum((int(value) & mask) << bits * k for k, value in enumerate(values))


def unpack(packed, bits, count, *, signed):
    """Return `count` values of `bits` each, the lowest first."""
    fields = [packed >> bits * k & (1 << bits) - 1 for k in range(count)]
    return [field - (1 << bits) if signed and field >> bits - 1 else field for field in fields]
