"""CRC-32 as in zlib, a byte a clock: the polynomial 0xEDB88320, reflected, register and result inverted."""

from amaranth.hdl import Cat, Const, Value

__all__ = ["CRC_INIT", "CRC_RESIDUE", "crc32_step"]

CRC_INIT = 0xFFFF_FFFF
"""Register before the first byte; the CRC of what was fed is the register's complement."""

CRC_RESIDUE = 0xDEBB_20E3
"""Register after any bytes followed by their own CRC, little-endian."""

_POLYNOMIAL = 0xEDB8_8320


def _advance(register: int) -> int:
    for _ in range(8):
        register = register >> 1 ^ (_POLYNOMIAL if register & 1 else 0)
    return register


_EFFECT = tuple(_advance(1 << k) for k in range(32))


def crc32_step(register, byte) -> Value:
    """Return the register after one more byte: a xor of register and byte bits, three levels of 4-input tables."""
    mixed = Value.cast(register) ^ Cat(byte, Const(0, 24))
    return Cat(*(Cat(*(mixed[j] for j in range(32) if _EFFECT[j] >> k & 1)).xor() for k in range(32)))
