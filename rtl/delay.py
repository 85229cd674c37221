"""A delay of many clocks that costs memory cells instead of a register a bit and clock."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Delay"]

_SHORTEST_RING = 4


class Delay(wiring.Component):
    """Give `i` back `clocks` clocks later, with its valid bit.

    Only the valid bits are reset: values that were under way come out as not valid.

    Parameters
    ----------
    shape : ShapeLike
        What is delayed.
    clocks : int
        How long, 0 or more.

    Members
    -------
    i, o : shape
    i_valid, o_valid : 1 bit
    enable : 1 bit
        Clocks count while it is high, and only they.
    """

    def __init__(self, *, shape, clocks: int):
        if not isinstance(clocks, int) or clocks < 0:
            raise ValueError(f"clocks must be a non-negative integer, not {clocks!r}")
        self.shape = shape
        self.clocks = clocks
        super().__init__({
            "i": In(shape), "i_valid": In(1), "enable": In(1, init=1), "o": Out(shape), "o_valid": Out(1),
        })

    def elaborate(self, platform):
        m = Module()

        valid = self.i_valid
        for clock in range(self.clocks):
            after = Signal(name=f"valid_{clock}")
            with m.If(self.enable):
                m.d.sync += after.eq(valid)
            valid = after
        m.d.comb += self.o_valid.eq(valid)

        if self.clocks < _SHORTEST_RING:
            value = self.i
            for clock in range(self.clocks):
                after = Signal(self.shape, name=f"value_{clock}", reset_less=True)
                with m.If(self.enable):
                    m.d.sync += after.eq(value)
                value = after
            m.d.comb += self.o.eq(value)
        else:
            self._ring(m)
        return m

    def _ring(self, m):
        # The read port runs one place ahead of the write port: it meets the oldest value, never the one being written.
        m.submodules.ring = ring = memory.Memory(shape=self.shape, depth=self.clocks, init=[],
                                                 attrs={"no_rw_check": 1})
        write, read = ring.write_port(), ring.read_port()
        place = Signal(range(self.clocks))
        m.d.comb += read.addr.eq(place + 1)
        with m.If(place == self.clocks - 1):
            m.d.comb += read.addr.eq(0)
        with m.If(self.enable):
            m.d.sync += place.eq(read.addr)
        m.d.comb += [
            write.addr.eq(place),
            write.data.eq(self.i),
            write.en.eq(self.enable),
            read.en.eq(self.enable),
            self.o.eq(read.data),
        ]
