"""Constants of every column: affine scale and bias, written by the host, and read noise, written after ageing."""

from amaranth.hdl import Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.bus import BusSignature
from rtl.params import ELEMENT_BITS, Geometry
from rtl.params.formats import AFFINE_SCALE_BITS, MISMATCH_GAIN_BITS, MISMATCH_OFFSET_BITS
from rtl.params.registers import COLUMN_STRIDE, column_fields

__all__ = ["ColumnConstants", "NoiseWrite", "affine_layout", "mismatch_layout"]

NOISE_BITS = 16

affine_layout = data.StructLayout({"scale": signed(AFFINE_SCALE_BITS), "bias": signed(ELEMENT_BITS)})

mismatch_layout = data.StructLayout({"offset": signed(MISMATCH_OFFSET_BITS), "gain": signed(MISMATCH_GAIN_BITS)})
"""Errors of one column's converter; only in builds with mismatch."""


class NoiseWrite(data.StructLayout):
    """A noise constant to store: index = column_base + column. Always accepted."""

    def __init__(self, geometry: Geometry):
        super().__init__({"valid": 1, "index": ceil_log2(geometry.column_words), "value": NOISE_BITS})


class ColumnConstants(wiring.Component):
    """Memories that are read where a column's conversion begins (noise, mismatch) and ends (scale and bias).

    Members
    -------
    bus : In(BusSignature)
        Region COLUMNS: index * 4 + field. Answered while `quiet`.
    waiting : Out(1)
        The bus wants it to become quiet.
    quiet : In(1)
        No column is under way: the read ports are free.
    noise_write : In(NoiseWrite)
    noise_index, affine_index : In
    noise, mismatch, affine : Out
        One clock after their index.
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        index = ceil_log2(geometry.column_words)
        super().__init__({
            "bus": In(BusSignature()),
            "waiting": Out(1),
            "quiet": In(1),
            "noise_write": In(NoiseWrite(geometry)),
            "noise_index": In(index),
            "affine_index": In(index),
            "noise": Out(unsigned(NOISE_BITS)),
            "mismatch": Out(mismatch_layout),
            "affine": Out(affine_layout),
        })

    def elaborate(self, platform):
        m = Module()
        depth = self.geometry.column_words
        # They are written while no column is under way: a word that is read in that clock is never used.
        shapes = {"noise": unsigned(NOISE_BITS), "scale": affine_layout["scale"].shape,
                  "bias": affine_layout["bias"].shape, "mismatch": mismatch_layout}
        places = {register.name: register.offset for register in column_fields(self.geometry)}
        ports = {}
        for name in places:
            shape = shapes[name]
            m.submodules[f"{name}s"] = store = memory.Memory(
                shape=shape, depth=depth, init=[], attrs={"no_rw_check": 1})
            ports[name] = store.read_port(), store.write_port()
        request, response = self.bus.request, self.bus.response
        index = request.payload.offset[(COLUMN_STRIDE - 1).bit_length():]
        within = index < depth
        which = request.payload.offset[:(COLUMN_STRIDE - 1).bit_length()]

        m.d.comb += self.waiting.eq(request.valid)
        begin = Signal()
        with m.FSM():
            with m.State("Wait"):
                m.d.comb += begin.eq(request.valid & self.quiet & ~self.noise_write.valid)
                with m.If(begin):
                    m.next = "Take"
            with m.State("Take"):
                exists = within & Cat(which == place for place in places.values()).any()
                for name, (read, _) in ports.items():
                    with m.If((which == places[name]) & within & ~request.payload.write):
                        m.d.sync += response.payload.eq(read.data)
                with m.If(~exists | request.payload.write):
                    m.d.sync += response.payload.eq(0)
                m.d.comb += request.ready.eq(1)
                m.next = "Answer"
            with m.State("Answer"):
                m.d.comb += response.valid.eq(1)
                with m.If(response.ready):
                    m.next = "Wait"

        for name, (read, write) in ports.items():
            m.d.comb += [
                read.en.eq(1),
                read.addr.eq(self.noise_index if name in ("noise", "mismatch") else self.affine_index),
                write.addr.eq(index),
                write.data.eq(request.payload.data),
                write.en.eq(begin & request.payload.write & within & (which == places[name])),
            ]
            with m.If(begin):
                m.d.comb += read.addr.eq(index)
        write = ports["noise"][1]
        with m.If(self.noise_write.valid):
            m.d.comb += [write.addr.eq(self.noise_write.index), write.data.eq(self.noise_write.value), write.en.eq(1)]
        m.d.comb += [
            self.noise.eq(ports["noise"][0].data),
            self.affine.scale.eq(ports["scale"][0].data),
            self.affine.bias.eq(ports["bias"][0].data),
        ]
        if "mismatch" in ports:
            m.d.comb += self.mismatch.eq(ports["mismatch"][0].data)
        return m
