"""Device states in a memory off the chip: what an engine works on is loaded into its block RAM, and saved again.

Cells are worked on in runs: the columns of a row for pulses, the rows of a column for ageing, one cell for the bus.
The array sees the same memory as in builds that have all states in block RAM, so no arithmetic knows of it. Ageing
loads the next column while it sweeps one, and saves nothing, as it changes no state.

A cell takes `words` words of 16 bits: a state a device, then a wear counter a device in builds that have them. The
memory is undefined at power up: the store begins by clearing it.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import bits_for, ceil_log2

from rtl.arbiter import Arbiter
from rtl.cells import CellAccess
from rtl.params import Geometry
from rtl.relay import Relay
from rtl.sdram import WORD_BITS, SdramRequest

__all__ = ["CellRun", "MemoryShare", "StateMemorySignature", "StateStore"]


def cell_bits(geometry: Geometry) -> int:
    """Return the bits of a cell's number."""
    return bits_for(geometry.cells - 1)


class StateMemorySignature(wiring.Signature):
    """A memory of words for whoever is `active`: requests of `kept_words` words, data as `rtl/sdram.py` takes it.

    `engines` of them share a memory: the engine's number is the upper end of an address.
    """

    def __init__(self, geometry: Geometry, engines: int = 1):
        words = geometry.kept_words
        self.address_bits = ceil_log2(words) + cell_bits(geometry) + ceil_log2(engines)
        super().__init__({
            "request": Out(stream.Signature(SdramRequest(self.address_bits, words))),
            "w": Out(stream.Signature(WORD_BITS)), "r": In(stream.Signature(WORD_BITS)), "active": Out(1),
        })


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
    memory : StateMemorySignature
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
            "memory": Out(StateMemorySignature(geometry)),
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


class MemoryShare(wiring.Component):
    """One memory for the stores of several engines: it belongs to one of them from its request to its end.

    Requests and words to write leave a clock later, through registers: no path leads from a store through the
    controller and back.

    Members
    -------
    users : StateMemorySignature, in, of each engine
    memory : StateMemorySignature of all engines, out
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        super().__init__({
            "users": In(StateMemorySignature(geometry)).array(geometry.engines),
            "memory": Out(StateMemorySignature(geometry, geometry.engines)),
        })

    def elaborate(self, platform):
        m = Module()
        count, memory = self.geometry.engines, self.memory
        m.submodules.arbiter = arbiter = Arbiter(count)
        owner, held = Signal(range(max(2, count))), Signal()
        active = Cat(user.active for user in self.users)
        free = (active & (1 << owner)) == 0
        m.d.comb += [arbiter.requests.eq(active), arbiter.enable.eq(~held | free), memory.active.eq(held)]
        with m.If(arbiter.grants.any()):
            m.d.sync += [owner.eq(arbiter.choice), held.eq(1)]
        with m.Elif(free):
            m.d.sync += held.eq(0)
        request, w = (Relay(shape=way.payload.shape()) for way in (memory.request, memory.w))
        m.submodules += request, w
        connect(m, request.o, flipped(memory.request))
        connect(m, w.o, flipped(memory.w))
        for k, user in enumerate(self.users):
            with m.If(held & (owner == k)):
                address = Cat(user.request.payload.address, Const(k, ceil_log2(count)))
                m.d.comb += [
                    request.i.valid.eq(user.request.valid), user.request.ready.eq(request.i.ready),
                    request.i.payload.write.eq(user.request.payload.write),
                    request.i.payload.address.eq(address),
                    request.i.payload.last.eq(user.request.payload.last),
                    w.i.valid.eq(user.w.valid), w.i.payload.eq(user.w.payload),
                    user.w.ready.eq(w.i.ready), user.r.valid.eq(memory.r.valid), memory.r.ready.eq(user.r.ready),
                ]
            m.d.comb += user.r.payload.eq(memory.r.payload)
        return m
