"""Folding: the charges of a column's passes become one charge."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from rtl.params import Geometry
from rtl.pipeline import register
from rtl.schedule import tag_layout

__all__ = ["Accumulator"]


class Accumulator(wiring.Component):
    """Add up each column over the folds of a vector; the sum leaves with the last one, two clocks later.

    A column comes back after 4 clocks at the earliest: no tile has fewer columns, so the sum is written by then.

    Members
    -------
    i_valid, i_tag, charge : In
        Charge of one pass.
    o_valid, o_tag, o_charge : Out
        Complete charge.
    """

    latency = 2

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        super().__init__({
            "i_valid": In(1),
            "i_tag": In(tag_layout(geometry)),
            "charge": In(signed(geometry.charge_bits)),
            "o_valid": Out(1),
            "o_tag": Out(tag_layout(geometry)),
            "o_charge": Out(signed(geometry.charge_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        # Columns come in order and are at least four: none is read in the clock that writes it, two clocks later.
        m.submodules.sums = sums = memory.Memory(
            shape=signed(self.geometry.charge_bits), depth=self.geometry.columns, init=[], attrs={"no_rw_check": 1})
        read, write = sums.read_port(), sums.write_port()
        m.d.comb += [read.addr.eq(self.i_tag.column), read.en.eq(1)]

        valid, tag = Signal(), Signal(tag_layout(self.geometry), reset_less=True)
        m.d.sync += [valid.eq(self.i_valid), tag.eq(self.i_tag)]
        charge = register(m, self.charge, "fold")

        written, complete = Signal(), Signal(signed(self.geometry.charge_bits), reset_less=True)
        o_tag = Signal(tag_layout(self.geometry), reset_less=True)
        m.d.sync += [written.eq(valid), o_tag.eq(tag), complete.eq(Mux(tag.first_fold, 0, read.data) + charge)]
        m.d.comb += [
            write.addr.eq(o_tag.column),
            write.data.eq(complete),
            write.en.eq(written),
            self.o_valid.eq(written & o_tag.last_fold),
            self.o_tag.eq(o_tag),
            self.o_charge.eq(complete),
        ]
        return m
