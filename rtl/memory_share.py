"""A memory off the chip and those who keep something there: device states of each engine, and the batch.

An address is that of a word of 16 bits. Of states and batch each has a half of its own
(`Geometry.memory_address_bits`); among the states the engine's number is above the word's.
"""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.arbiter import Arbiter
from rtl.params import Geometry
from rtl.relay import Relay
from rtl.sdram import WORD_BITS, SdramRequest

__all__ = ["MemoryShare", "MemorySignature", "batch_memory", "shared_memory", "states_memory"]


class MemorySignature(wiring.Signature):
    """A memory of words for whoever is `active`: requests of up to `words` words, data as `rtl/sdram.py` takes it.

    Who is active waits for nobody but the memory, and leaves in the clock after its last word at the latest.
    """

    def __init__(self, *, address_bits: int, words: int):
        super().__init__({
            "request": Out(stream.Signature(SdramRequest(address_bits, words))),
            "w": Out(stream.Signature(WORD_BITS)), "r": In(stream.Signature(WORD_BITS)), "active": Out(1),
        })


def states_memory(geometry: Geometry) -> MemorySignature:
    """Return the memory that an engine's states are kept in: a request is a cell."""
    return MemorySignature(address_bits=geometry.states_address_bits, words=geometry.kept_words)


def batch_memory(geometry: Geometry) -> MemorySignature:
    """Return the memory that the batch is kept in: a request is a burst to read, or what the bus has written."""
    return MemorySignature(address_bits=geometry.batch_address_bits, words=geometry.memory_burst)


def shared_memory(geometry: Geometry) -> MemorySignature:
    """Return the memory that holds both."""
    return MemorySignature(address_bits=geometry.memory_address_bits, words=geometry.memory_burst)


class MemoryShare(wiring.Component):
    """One memory for several users: it belongs to one of them from its request to its end, and to each in turn.

    Requests and words to write leave a clock later, through registers: no path leads from a user through the
    controller and back.

    Members
    -------
    states : MemorySignature, in, of each engine
        In builds with states in SDRAM.
    batch : MemorySignature, in
        In builds with the batch in SDRAM.
    memory : MemorySignature, out
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        states = {"states": In(states_memory(geometry)).array(geometry.engines)} if geometry.states_in_sdram else {}
        batch = {"batch": In(batch_memory(geometry))} if geometry.batch_in_sdram else {}
        super().__init__({**states, **batch, "memory": Out(shared_memory(geometry))})

    def _users(self):
        """Return each user with the bits of an address above its own."""
        geometry, users = self.geometry, []
        if geometry.states_in_sdram:
            bits = (geometry.engines - 1).bit_length()
            users += [(user, Const(k, bits)) for k, user in enumerate(self.states)]
        if geometry.batch_in_sdram:
            bits = geometry.memory_address_bits - geometry.batch_address_bits
            users.append((self.batch, Const(1 << bits >> 1 if geometry.states_in_sdram else 0, bits)))
        return users

    def elaborate(self, platform):
        m = Module()
        users, memory = self._users(), self.memory
        m.submodules.arbiter = arbiter = Arbiter(len(users))
        owner, held = Signal.like(arbiter.choice), Signal()
        active = Cat(user.active for user, _ in users)
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
        for k, (user, above) in enumerate(users):
            with m.If(held & (owner == k)):
                asked = user.request.payload
                m.d.comb += [
                    request.i.valid.eq(user.request.valid), user.request.ready.eq(request.i.ready),
                    request.i.payload.write.eq(asked.write), request.i.payload.last.eq(asked.last),
                    request.i.payload.address.eq(Cat(asked.address, above)),
                    w.i.valid.eq(user.w.valid), w.i.payload.eq(user.w.payload), user.w.ready.eq(w.i.ready),
                    user.r.valid.eq(memory.r.valid), memory.r.ready.eq(user.r.ready),
                ]
            m.d.comb += user.r.payload.eq(memory.r.payload)
        return m
