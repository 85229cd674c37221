"""A component with the chip's two byte streams, for the tools' own tests: an echo, with a chain of multipliers."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Echo"]


class Echo(wiring.Component):
    """Sends each byte back, plus one, from a FIFO `depth` deep.

    With `lanes` there is a chain of as many multiply-accumulate stages beside it, fed by the bytes from a weight memory
    of `words`; bit 0 of each echoed byte is flipped where the chain's last sum is odd, so that none of it is removed.
    """

    def __init__(self, *, depth: int = 16, lanes: int = 0, words: int = 1024):
        self.depth = depth
        self.lanes = lanes
        self.words = words
        super().__init__({"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()

        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=8, depth=self.depth)
        flip = self._chain(m) if self.lanes else 0
        m.d.comb += [
            queue.w_data.eq((self.rx.payload + 1) ^ flip),
            queue.w_en.eq(self.rx.valid),
            self.rx.ready.eq(queue.w_rdy),
            self.tx.payload.eq(queue.r_data),
            self.tx.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.tx.ready),
        ]

        return m

    def _chain(self, m):
        address = Signal(range(self.words))
        total = Signal(signed(24))
        m.d.sync += address.eq(address + 1)
        activation = Signal(signed(8))
        with m.If(self.rx.valid & self.rx.ready):
            m.d.sync += activation.eq(self.rx.payload)
        for group in range(self.lanes // 4):
            init = [(word * 2654435761 + group * 40503) & (2**36 - 1) for word in range(self.words)]
            store = memory.Memory(shape=36, depth=self.words, init=init)
            m.submodules[f"weights{group}"] = store
            write = store.write_port(granularity=9)
            read = store.read_port()
            hop = Signal(10, name=f"address{group}", reset_less=True)
            m.d.sync += hop.eq(address)
            m.d.comb += [read.addr.eq(hop), write.addr.eq(hop), write.data.eq(activation),
                         write.en.eq((self.rx.payload == group) << (self.rx.payload[6:8]))]
            address = hop
            for lane in range(4):
                weight = Signal(signed(9), name=f"weight{group}_{lane}", reset_less=True)
                held = Signal(signed(8), name=f"held{group}_{lane}", reset_less=True)
                product = Signal(signed(17), name=f"product{group}_{lane}", reset_less=True)
                late = Signal(signed(17), name=f"late{group}_{lane}", reset_less=True)
                partial = Signal(signed(24), name=f"partial{group}_{lane}", reset_less=True)
                m.d.sync += [weight.eq(read.data[9 * lane:9 * lane + 9]), held.eq(activation),
                             product.eq(weight * held), late.eq(product), partial.eq(total + late)]
                activation, total = held, partial
        return total[0]
