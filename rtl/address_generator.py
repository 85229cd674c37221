"""The digital unit's nested loop: addresses of both operands and of the result, one step per clock, no multiplier."""

from amaranth.hdl import Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.params import INSTRUCTION_FIELDS, Mode, Reduce

__all__ = ["ADDRESS_BITS", "AddressGenerator", "instruction_layout"]

ADDRESS_BITS = 12
"""Addresses wrap at 2**12 words; the memory ignores bits above its depth."""

_COUNT_BITS = 10


def _shape(bits: int, is_signed: bool) -> Shape:
    return signed(bits) if is_signed else unsigned(bits)


instruction_layout = data.StructLayout({name: _shape(bits, is_signed) for name, bits, is_signed in INSTRUCTION_FIELDS})
"""An instruction as it lies in the register map, a field a name."""


class AddressGenerator(wiring.Component):
    """Three nested loops and the three addresses that go with them.

    Members
    -------
    instruction : must hold still from `start` to the last step
    slot : words to add to operands of mode LANDING; must hold still in the clock before `start`
    start : go to the first step
    step : go to the next step
    a, b, d : addresses of this step, registers; `d` does not move with the inner loop if that is reduced
    first, last : this step is the first, the last of its inner loop
    final : this step is the last of all
    """

    def __init__(self):
        super().__init__({
            "instruction": In(instruction_layout),
            "slot": In(ADDRESS_BITS),
            "start": In(1),
            "step": In(1),
            "a": Out(ADDRESS_BITS),
            "b": Out(ADDRESS_BITS),
            "d": Out(ADDRESS_BITS),
            "first": Out(1),
            "last": Out(1),
            "final": Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        code = self.instruction
        # Steps that each loop has left; a loop at 0 is in its last step.
        left = [Signal(_COUNT_BITS, name=f"left_{k}", reset_less=True) for k in range(3)]
        top = [Signal(_COUNT_BITS, name=f"top_{k}", reset_less=True) for k in range(3)]
        first = Signal(reset_less=True)
        m.d.sync += [top[k].eq(code[f"n{k}"] - 1) for k in range(3)]
        m.d.comb += [
            self.first.eq(first),
            self.last.eq(left[0] == 0),
            self.final.eq((left[0] == 0) & (left[1] == 0) & (left[2] == 0)),
        ]
        inner, middle = left[0] == 0, left[1] == 0
        with m.If(self.start):
            m.d.sync += [left[k].eq(code[f"n{k}"] - 1) for k in range(3)]
            m.d.sync += first.eq(1)
        with m.Elif(self.step):
            m.d.sync += [left[0].eq(Mux(inner, top[0], left[0] - 1)), first.eq(inner)]
            with m.If(inner):
                m.d.sync += left[1].eq(Mux(middle, top[1], left[1] - 1))
                with m.If(middle):
                    m.d.sync += left[2].eq(left[2] - 1)

        for name in ("a", "b", "d"):
            begin = Signal(ADDRESS_BITS, name=f"{name}_begin", reset_less=True)
            if name == "d":
                stride = Mux(code.reduce == Reduce.NONE, code.d_s0, 0)
                m.d.sync += begin.eq(code.d_base)
            else:
                stride = code[f"{name}_s0"]
                m.d.sync += begin.eq(code[f"{name}_base"] + Mux(code[f"{name}_mode"] == Mode.LANDING, self.slot, 0))
            self._walk(m, name, begin, [stride, code[f"{name}_s1"], code[f"{name}_s2"]], inner, middle)
        return m

    def _walk(self, m: Module, name: str, begin: Signal, strides: list, inner, middle) -> None:
        """One address: where the inner loop is, and where the middle and the outer one started their last turn."""
        now = Signal(ADDRESS_BITS, name=f"{name}_now", reset_less=True)
        row = Signal(ADDRESS_BITS, name=f"{name}_row", reset_less=True)
        plane = Signal(ADDRESS_BITS, name=f"{name}_plane", reset_less=True)
        origin = Mux(inner, Mux(middle, plane, row), now)
        stride = Mux(inner, Mux(middle, strides[2], strides[1]), strides[0])
        following = Signal(ADDRESS_BITS, name=f"{name}_following")
        m.d.comb += [following.eq(origin + stride), getattr(self, name).eq(now)]
        with m.If(self.start):
            m.d.sync += [now.eq(begin), row.eq(begin), plane.eq(begin)]
        with m.Elif(self.step):
            m.d.sync += now.eq(following)
            with m.If(inner):
                m.d.sync += row.eq(following)
                with m.If(middle):
                    m.d.sync += plane.eq(following)
