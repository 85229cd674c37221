"""Arithmetic in the ECP5's carry cells (CCU2C), denser than synthesis makes it.

A bit of a carry cell is a table of four inputs that tells whether to pass the carry on; where not, its quarter at
C = D = 0 is the carry. With (A and B) xor (C and D) the cell adds two products of single bits, gates and all.
"""

from collections.abc import Callable

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value, signed

from rtl.primitives import Multiplier

__all__ = ["CARRY_FACTOR_BITS", "carry_multiplier"]

CARRY_FACTOR_BITS = 8
"""Bits of the second factor."""

_ROW_BITS = 2
"""Of these, what one row of cells takes."""


def _table(function: Callable[[int, int, int, int], int]) -> int:
    return sum(function(*((k >> place) & 1 for place in range(4))) << k for k in range(16))


_ADD = _table(lambda a, b, c, d: (a & b) ^ (c & d))
_SUBTRACT = _table(lambda a, b, c, d: 1 ^ (a & b) ^ (c & d))
"""A carry of 1 into the lowest bit makes it (C and D) - (A and B)."""
_CARRY = _table(lambda a, b, c, d: 1 ^ (c | d))
"""With C = D = 1 a carry and no sum."""

Bit = tuple[int, Value, Value, Value, Value]
"""Table and inputs A, B, C, D of one bit of a carry cell."""

_IDLE: Bit = (0, Const(0), Const(0), Const(0), Const(0))


def carry_multiplier(part: Multiplier) -> Module:
    """Return what stands in for a multiplier whose second factor has 8 bits: same product, same latency, no hard block.

    The second factor is taken two bits a row, of (bits of the first factor + 2) / 2 cells; the rows are added in two
    levels.
    """
    m = Module()
    rows = [_row(m, part, k) for k in range(4)]
    low, high = (_shifted_sum(m, f"pair_{k}", rows[2 * k], rows[2 * k + 1], _ROW_BITS) for k in range(2))
    product = _shifted_sum(m, "product", low, high, 2 * _ROW_BITS)
    m.d.comb += part.p.eq(product)
    return m


def _row(m: Module, part: Multiplier, index: int) -> Signal:
    """Return a register of a * (b0 + 2 b1), or of a * (b0 - 2 b1) in the row with the sign."""
    b0, b1 = part.b[_ROW_BITS * index], part.b[_ROW_BITS * index + 1]
    top = len(part.a) - 1
    negative = index == 3
    bits: list[Bit] = []
    for k in range(len(part.a) + 2):
        single = part.a[min(k, top)]
        double = part.a[min(k - 1, top)] if k else Const(0)
        bits.append((_SUBTRACT, double, b1, single, b0) if negative else (_ADD, single, b0, double, b1))
    total = _carry_chain(m, f"row_{index}", bits, carry=negative)
    row = Signal(signed(len(bits)), name=f"row_{index}", reset_less=True)
    m.d.sync += row.eq(total)
    return row


def _shifted_sum(m: Module, name: str, low: Signal, high: Signal, places: int) -> Signal:
    """Return a register of low + (high << places); what `high` has nothing to add to goes by the adder."""
    total = Signal(signed(len(high) + places + 1), name=name, reset_less=True)
    m.d.sync += total.eq(Cat(low[:places], (low >> places) + high))
    return total


def _carry_chain(m: Module, name: str, bits: list[Bit], *, carry: bool) -> Signal:
    """Return the sum of a chain of cells, with a carry into its lowest bit or none."""
    # A chain begins without a carry: the one it is to have comes from a cell of its own.
    chain = [_IDLE, (_CARRY, Const(0), Const(0), Const(1), Const(1)), *bits] if carry else list(bits)
    chain += [_IDLE] * (len(chain) % 2)
    total = Signal(len(chain), name=f"{name}_sum")
    passed: Value = Const(0)
    for k in range(0, len(chain), 2):
        tables, inputs = zip(*((bit[0], bit[1:]) for bit in chain[k:k + 2]), strict=True)
        after = Signal(name=f"{name}_carry_{k}")
        m.submodules[f"{name}_{k}"] = Instance(
            "CCU2C", p_INJECT1_0="NO", p_INJECT1_1="NO", i_CIN=passed, o_COUT=after,
            **{f"p_INIT{bit}": Const(table, 16) for bit, table in enumerate(tables)},
            **{f"i_{port}{bit}": value for bit, values in enumerate(inputs)
               for port, value in zip("ABCD", values, strict=True)},
            **{f"o_S{bit}": total[k + bit] for bit in range(2)})
        passed = after
    first = 2 if carry else 0
    return total[first:first + len(bits)]
