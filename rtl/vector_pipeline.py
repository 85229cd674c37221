"""The digital unit's arithmetic: words of W elements through operation, reduction, rounding, table and saturation.

The elements of a word take turns at the lanes: the first W / turns of them, then the next, a clock each. Every stage is
a register; nothing stalls, the issuer counts what the receiver can take. A 24 x 24 multiplication is
three 18 x 18 multipliers and a 7 x 7 product in logic, its sum in the two stages after.
"""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.address_generator import ADDRESS_BITS, instruction_layout
from rtl.fixed import saturate
from rtl.params import ACTIVATION_MAX, ELEMENT_BITS, Geometry, Mode, Operation, Post, Reduce
from rtl.pipeline import register

__all__ = ["ACCUMULATOR_BITS", "VectorPipeline", "step_layout"]

_PRODUCT_BITS = 2 * ELEMENT_BITS
_COUNT_BITS = 10

ACCUMULATOR_BITS = _PRODUCT_BITS - 1 + _COUNT_BITS
"""A product is at most 2**46 in magnitude and a loop has at most 1,023 steps: the sum never wraps."""

_LOW_BITS = 17
"""Bits of an operand's lower part: with a sign of zero it fills one port of a hard multiplier."""

_INDEX_BITS = 8

step_layout = data.StructLayout({
    "valid": unsigned(1), "first": unsigned(1), "last": unsigned(1), "final": unsigned(1), "whole": unsigned(1),
    "d": unsigned(ADDRESS_BITS),
})
"""A step of the loop on its way through the stages, once for each turn of its word; `whole` marks the last turn.
`valid` is the only bit that needs a reset."""


def _limit(value: Signal, bits: int) -> Value:
    """Return value saturated to `bits` bits, signed, by a look at the bits above instead of two comparisons."""
    above = value[bits - 1:]
    sign = value[-1]
    return Mux(above == sign.replicate(len(above)), value[:bits], Cat((~sign).replicate(bits - 1), sign)).as_signed()


class _Delay(wiring.Component):
    """A step, a number of clocks later; only its `valid` has a reset."""

    def __init__(self, clocks: int):
        self._clocks = clocks
        super().__init__({"i": In(step_layout), "o": Out(step_layout)})

    def elaborate(self, _platform):
        m = Module()
        here = self.i
        for k in range(self._clocks):
            valid = Signal(name=f"valid_{k}")
            rest = Signal(len(Value.cast(here)) - 1, name=f"rest_{k}", reset_less=True)
            m.d.sync += [valid.eq(Value.cast(here)[0]), rest.eq(Value.cast(here)[1:])]
            here = Cat(valid, rest)
        m.d.comb += Value.cast(self.o).eq(here)
        return m


class _Lane(wiring.Component):
    """One element's arithmetic from the operands at the memory's outputs to the index of the tables, and the end.

    Reductions of `turns` elements are under way at once, in turn.

    Members
    -------
    instruction, rounding : must hold still while a step is inside; rounding is half a unit of the shift
    a, b : memory outputs
    restart, accumulate : the value that reaches the accumulator in this clock begins a reduction, belongs to one
    index : of a table; `table` is its entry in the clock after
    o : the result
    """

    ACCUMULATE = 4
    """Clocks from the memory's output to the accumulator's input."""

    LATENCY = 12
    """Clocks from the memory's output to `o`."""

    def __init__(self, turns: int):
        self._turns = turns
        super().__init__({
            "instruction": In(instruction_layout),
            "rounding": In(31),
            "a": In(signed(ELEMENT_BITS)),
            "b": In(signed(ELEMENT_BITS)),
            "restart": In(1),
            "accumulate": In(1),
            "index": Out(_INDEX_BITS),
            "table": In(signed(ELEMENT_BITS)),
            "o": Out(signed(ELEMENT_BITS)),
        })

    def elaborate(self, _platform):
        m = Module()
        code = self.instruction

        a, b = (Signal(signed(ELEMENT_BITS), name=n, reset_less=True) for n in ("operand_a", "operand_b"))
        m.d.sync += [
            a.eq(Mux(code.a_mode == Mode.IMMEDIATE, code.immediate, self.a)),
            b.eq(Mux(code.b_mode == Mode.IMMEDIATE, code.immediate, self.b)),
        ]
        value = Signal(signed(_PRODUCT_BITS), reset_less=True)
        m.d.sync += value.eq(Mux(code.operation == Operation.MUL, self._product(m, a, b), self._simple(m, a, b)))

        totals = [Signal(signed(ACCUMULATOR_BITS), name=f"total_{k}", reset_less=True) for k in range(self._turns)]
        total, before = totals[0], totals[-1]
        m.d.sync += [later.eq(earlier) for earlier, later in zip(totals, totals[1:] + totals[:1], strict=True)]
        with m.If(self.restart | (code.reduce == Reduce.NONE)):
            m.d.sync += total.eq(value)
        with m.Elif(self.accumulate):
            with m.If(code.reduce == Reduce.SUM):
                m.d.sync += total.eq(before + value)
            with m.Elif(value > before[:_PRODUCT_BITS].as_signed()):
                m.d.sync += total.eq(value)

        rounded = Signal(signed(ACCUMULATOR_BITS + 1), reset_less=True)
        fine, coarse = Signal.like(rounded), Signal.like(rounded)
        limited, posted, waiting = (Signal(signed(ELEMENT_BITS), name=n, reset_less=True)
                                    for n in ("limited", "posted", "waiting"))
        m.d.sync += [
            rounded.eq(total + self.rounding),
            fine.eq(Array([rounded >> k for k in range(4)])[code.shift[:2]]),
            coarse.eq(Array([fine >> 4 * k for k in range(8)])[code.shift[2:]]),
            limited.eq(_limit(coarse, ELEMENT_BITS)),
            posted.eq(Mux((code.post == Post.RELU) & (limited < 0), 0, limited)),
            # An index is the value saturated to 8 bits, plus 128: its sign bit turned over.
            self.index.eq(_limit(limited, _INDEX_BITS) ^ (1 << (_INDEX_BITS - 1))),
            waiting.eq(posted),
        ]
        looked_up = (code.post == Post.TABLE0) | (code.post == Post.TABLE1)
        final = Signal(signed(ELEMENT_BITS))
        m.d.comb += final.eq(Mux(looked_up, self.table, waiting))
        m.d.sync += self.o.eq(Mux(code.activation, saturate(final, -ACTIVATION_MAX, ACTIVATION_MAX), final))
        return m

    def _simple(self, m: Module, a: Signal, b: Signal) -> Signal:
        """Every operation but MUL, delayed to leave with the product."""
        code = self.instruction
        difference = a - b
        first, second = (Signal(signed(ELEMENT_BITS + 1), name=f"simple_{k}", reset_less=True) for k in range(2))
        with m.Switch(code.operation):
            with m.Case(Operation.ADD):
                m.d.sync += first.eq(a + b)
            with m.Case(Operation.SUB):
                m.d.sync += first.eq(difference)
            with m.Case(Operation.MAX):
                m.d.sync += first.eq(Mux(difference < 0, b, a))
            with m.Case(Operation.MIN):
                m.d.sync += first.eq(Mux(difference < 0, a, b))
            with m.Default():
                m.d.sync += first.eq(a)
        m.d.sync += second.eq(first)
        return second

    def _product(self, m: Module, a: Signal, b: Signal) -> Value:
        """a * b after two registers, still to be summed: (ll + hh 2**34) + (lh + hl) 2**17."""
        low, high_bits = _LOW_BITS, ELEMENT_BITS - _LOW_BITS
        al, bl = a[:low], b[:low]
        ah, bh = a[low:].as_signed(), b[low:].as_signed()
        ll = Signal(2 * low, reset_less=True)
        lh, hl = (Signal(signed(low + high_bits), name=n, reset_less=True) for n in ("low_high", "high_low"))
        m.d.sync += [ll.eq(al * bl), lh.eq(al * bh), hl.eq(ah * bl)]
        # The product of the short upper parts is summed row by row: it is not worth a hard multiplier.
        rows = [Mux(bh[k], ah, 0) << k for k in range(high_bits - 1)]
        halves = [Signal(signed(2 * high_bits), name=f"high_high_{k}", reset_less=True) for k in range(2)]
        m.d.sync += [
            halves[0].eq(sum(rows[:3], Const(0, 1))),
            halves[1].eq(sum(rows[3:], Const(0, 1)) - (Mux(bh[high_bits - 1], ah, 0) << (high_bits - 1))),
        ]
        outer = Signal(signed(_PRODUCT_BITS), reset_less=True)
        middle = Signal(signed(low + high_bits + 1), reset_less=True)
        m.d.sync += [outer.eq(Cat(ll, (halves[0] + halves[1])[:2 * high_bits])), middle.eq(lh + hl)]
        return outer + (middle << low)


class VectorPipeline(wiring.Component):
    """Lanes and their activation tables.

    Members
    -------
    instruction : must hold still from the clock before the first step to the last result
    ready : a step may come, once in `turns` clocks
    i : the step whose operands are at the memory's outputs from the clock after, until the next step's are
    a, b : memory outputs, one clock after `i`
    o : the step whose result is at `o_data`: valid for results only, final with the last of the instruction
    o_data : W signed elements
    table_write, table_address, table_data : load the tables (table << 8 | index)
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        width = geometry.transport * ELEMENT_BITS
        super().__init__({
            "instruction": In(instruction_layout),
            "ready": Out(1),
            "i": In(step_layout),
            "a": In(width),
            "b": In(width),
            "o": Out(step_layout),
            "o_data": Out(width),
            "table_write": In(1),
            "table_address": In(_INDEX_BITS + 1),
            "table_data": In(ELEMENT_BITS),
        })

    def elaborate(self, _platform):
        m = Module()
        code = self.instruction
        m.submodules.before = before = _Delay(1 + _Lane.ACCUMULATE)
        m.submodules.after = after = _Delay(_Lane.LATENCY - _Lane.ACCUMULATE)
        rounding = Signal(31, reset_less=True)
        m.d.sync += rounding.eq(Mux(code.shift == 0, 0, 1 << (code.shift - 1)[:5]))
        turns, lanes = self.geometry.digital_turns, self.geometry.digital_lanes
        turn = Signal(range(turns))  # of the operands at the memory's outputs
        step, repeated = Signal(step_layout), Signal(step_layout)
        last_turn = turn == turns - 1
        m.d.sync += [turn.eq(Mux(last_turn, 0, turn + 1)), repeated.eq(step)]
        m.d.comb += [
            self.ready.eq(last_turn),
            step.eq(Mux(last_turn, self.i, repeated)),
            step.whole.eq(turn == (turns - 2) % turns),
            before.i.eq(step),
            after.i.eq(before.o),
            after.i.valid.eq(before.o.valid & before.o.whole & (before.o.last | (code.reduce == Reduce.NONE))),
            self.o.eq(after.o),
        ]
        bits = lanes * ELEMENT_BITS
        a, b, result = Signal(bits), Signal(bits), Signal(bits)
        m.d.comb += [a.eq(self.a.word_select(turn, bits)), b.eq(self.b.word_select(turn, bits))]
        results = [result]
        for k in range(turns - 1):
            results.append(register(m, results[-1], f"result_{k}"))
        m.d.comb += self.o_data.eq(Cat(reversed(results)))
        for k in range(lanes):
            m.submodules[f"lane_{k}"] = lane = _Lane(turns)
            # Both tables share a memory a lane, which reads one of them: an instruction has one.
            # They are written while nothing runs: a word that is read in that clock is never used.
            m.submodules[f"tables_{k}"] = tables = Memory(
                shape=signed(ELEMENT_BITS), depth=2 << _INDEX_BITS, init=[], attrs={"no_rw_check": 1})
            read, write = tables.read_port(), tables.write_port()
            element = slice(ELEMENT_BITS * k, ELEMENT_BITS * (k + 1))
            m.d.comb += [
                lane.instruction.eq(code),
                lane.rounding.eq(rounding),
                lane.a.eq(a[element]),
                lane.b.eq(b[element]),
                lane.restart.eq(before.o.valid & before.o.first),
                lane.accumulate.eq(before.o.valid),
                read.addr.eq(Cat(lane.index, code.post == Post.TABLE1)),
                lane.table.eq(read.data),
                write.addr.eq(self.table_address),
                write.data.eq(self.table_data),
                write.en.eq(self.table_write),
                result[element].eq(lane.o),
            ]
        return m
