"""Device states in a memory off the chip: what an engine works on is loaded into its block RAM, and saved again.

Cells are worked on in runs: the columns of a row for pulses, the rows of a column for ageing, one cell for the bus.
The array sees the same memory as in builds that have all states in block RAM, so no arithmetic knows of it. Ageing
loads the next column while it sweeps one, and saves nothing, as it changes no state.

A cell takes `words` words of 16 bits: a state a device, then a wear counter a device in builds that have them. The
memory is undefined at power up: the store begins by clearing it.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from rtl.cells import CellAccess
from rtl.memory_share import states_memory
from rtl.params import Geometry
from rtl.sdram import WORD_BITS

__all__ = ["CellRun", "StateStore"]


def cell_bits(geometry: Geometry) -> int:
    """Return the bits of a cell's number."""
    return bits_for(geometry.cells - 1)


class CellRun(data.StructLayout):
    """Cells `base`, `base + stride`, ...: `count` of them, at 1 or more; they lie in the window from `first` on."""

    def __init__(self, geometry: Geometry):
        super().__init__({
            "base": cell_bits(geometry), "stride": bits_for(geometry.rows), "count": cell_bits(geometry) + 1,
            "first": bits_for(geometry.window_cells - 1),
        })


class StateStore(wiring.Component):
    """Moves runs of cells between the memory and the window of an engine.

    Loading takes as long as the memory does; saving `state_latency` + 2 clocks a cell and one more for each word.

    Parameters
    ----------
    geometry : Geometry
    state_latency : int
        Clocks from a cell of `state` to `state_o`.

    Members
    -------
    run : CellRun, in
        Taken in the clock before the first one that is `busy`.
    load, save : In(1)
        Move the run; stays until `done`.
    done : Out(1)
        For one clock: the window, or the memory, has it all.
    busy : Out(1)
        `state` and `wear` are in use.
    state, wear : CellAccess, out; state_o, wear_o : In
        The window. It is written one device a clock, and read while nothing else reads it.
    memory : MemorySignature
    """

    def __init__(self, *, geometry: Geometry, state_latency: int):
        self.geometry = geometry
        self.state_latency = state_latency
        super().__init__({
            "run": In(CellRun(geometry)), "load": In(1), "save": In(1), "done": Out(1), "busy": Out(1),
            "state": Out(CellAccess(geometry, geometry.state_bits)),
            "state_o": In(data.ArrayLayout(unsigned(geometry.state_bits), geometry.devices)),
            "wear": Out(CellAccess(geometry, geometry.wear_bits)),
            "wear_o": In(data.ArrayLayout(unsigned(geometry.wear_bits), geometry.devices)),
            "memory": Out(states_memory(geometry)),
        })

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        words = g.kept_words
        request, w, r = self.memory.request, self.memory.w, self.memory.r

        address = Signal(cell_bits(g), reset_less=True)  # of the next request
        stride = Signal.like(self.run.stride, reset_less=True)
        unasked, unmoved = Signal.like(self.run.count), Signal.like(self.run.count)  # cells
        window = Signal(len(self.run.first), reset_less=True)
        word = Signal(ceil_log2(words))
        waited = Signal(range(self.state_latency + 2))
        clearing = Signal(init=1)
        m.d.comb += [
            request.payload.last.eq(words - 1), request.payload.address.eq(Cat(Const(0, ceil_log2(words)), address)),
            self.state.cell.eq(window), self.wear.cell.eq(window),
        ]
        with m.If(request.valid & request.ready):
            m.d.sync += [address.eq(address + stride), unasked.eq(unasked - 1)]

        kept = Signal(data.ArrayLayout(unsigned(WORD_BITS), words))
        for k in range(g.devices):
            m.d.comb += [kept[k].eq(self.state_o[k]), self.state.values[k].eq(r.payload)]
            if g.wear_bits:
                m.d.comb += [kept[g.devices + k].eq(self.wear_o[k]), self.wear.values[k].eq(r.payload)]
        m.d.comb += w.payload.eq(Mux(clearing, 0, kept[word]))

        transferred = Signal()
        with m.If(self.busy):
            m.d.comb += self.memory.active.eq((unmoved != 0) | request.valid)
        with m.If(transferred):
            m.d.sync += word.eq(word + 1)
            with m.If(word == words - 1):
                m.d.sync += [window.eq(window + 1), unmoved.eq(unmoved - 1), waited.eq(0)]

        with m.FSM():
            with m.State("Idle"):
                count = Mux(clearing, g.cells, self.run.count)
                m.d.sync += [address.eq(Mux(clearing, 0, self.run.base)), stride.eq(Mux(clearing, 1, self.run.stride)),
                             unasked.eq(count), unmoved.eq(count), window.eq(self.run.first), waited.eq(0)]
                m.d.comb += self.memory.active.eq(self.save | self.load | clearing)
                with m.If(self.save | clearing):
                    m.next = "Save"
                with m.Elif(self.load):
                    m.next = "Load"
            with m.State("Load"):
                m.d.comb += [self.busy.eq(1), request.valid.eq(unasked != 0), r.ready.eq(1), transferred.eq(r.valid),
                             Cat(self.state.mask, self.wear.mask if g.wear_bits else []).eq(r.valid << word)]
                with m.If(unmoved == 0):
                    m.next = "Done"
            with m.State("Save"):
                m.d.comb += [
                    self.busy.eq(1), request.valid.eq(unasked != 0), request.payload.write.eq(1),
                    w.valid.eq((unmoved != 0) & ((waited == self.state_latency) | clearing)),
                    transferred.eq(w.valid & w.ready),
                ]
                with m.If(waited != self.state_latency):
                    m.d.sync += waited.eq(waited + 1)
                with m.If((unmoved == 0) & ~request.valid):
                    m.d.sync += clearing.eq(0)
                    m.next = "Done"
                    with m.If(clearing):
                        m.next = "Idle"
            with m.State("Done"):
                m.d.comb += self.done.eq(1)
                m.next = "Idle"
        return m
