"""An engine's unit at its mesh node: the tiles that share the engine, their programming, and their registers.

Only glue: the read path is `rtl/tile.py`, write-verify, device states and ageing are `rtl/programming.py`. While an
operation runs the tiles are held, and every register access waits for its end.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import bits_for

from rtl.bus import BusDecoder, BusRequest, BusSignature
from rtl.context import ContextLookup, context_layout, settings_layout
from rtl.hash import SharedHash
from rtl.memory_share import states_memory
from rtl.mesh import flit_layout
from rtl.params import EngineRegion, Geometry
from rtl.params.registers import CONTEXT_STRIDE, fields
from rtl.pipeline import register
from rtl.programming import Programming
from rtl.tile import Tile
from rtl.totals import Totals

__all__ = ["ContextTable", "Core", "share_hashes"]

_OPERATION = 0  # offset of the one register that belongs to the programming component


class ContextTable(wiring.Component):
    """The records of all contexts: written field by field, looked up whole.

    Members
    -------
    write, context, field, value : In
        Stores one field of one record.
    lookup : In
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        self.fields = fields("engine", EngineRegion.CONTEXTS)
        super().__init__({
            "write": In(1), "context": In(6), "field": In(range(CONTEXT_STRIDE)), "value": In(32),
            "lookup": In(ContextLookup()),
        })

    def elaborate(self, platform):
        m = Module()

        for entry in self.fields:
            shape = context_layout[entry.name].shape
            store = memory.Memory(shape=shape, depth=self.geometry.contexts, init=[])
            m.submodules[entry.name] = store
            write, read = store.write_port(), store.read_port()
            m.d.comb += [
                write.addr.eq(self.context),
                write.data.eq(self.value),
                write.en.eq(self.write & (self.field == entry.offset)),
                read.addr.eq(self.lookup.index),
                self.lookup.record[entry.name].eq(read.data),
            ]

        return m


class _ReadBack(wiring.Component):
    """What was written to registers and records, kept once more for the bus: a memory, not a multiplexer of them all.

    Members
    -------
    request, write : In
        The access, and whether to store it.
    exists : Out(1)
        There is such a register, or such a record.
    word : Out(32)
        What is read there, a clock later.
    """

    def __init__(self, *, geometry: Geometry):
        self._words = geometry.contexts * CONTEXT_STRIDE
        super().__init__({"request": In(BusRequest), "write": In(1), "exists": Out(1), "word": Out(32)})

    def elaborate(self, platform):
        m = Module()
        offset = self.request.offset
        registers, records = fields("engine", EngineRegion.REGISTERS)[1:], fields("engine", EngineRegion.CONTEXTS)
        of_record = self.request.region == EngineRegion.CONTEXTS
        bits = bits_for(max(self._words - 1, registers[-1].offset))
        m.submodules.words = words = memory.Memory(shape=32, depth=2 << bits, init=[], attrs={"no_rw_check": 1})
        write, read = words.write_port(), words.read_port()
        mask = Signal(32)
        with m.If(of_record):
            m.d.comb += self.exists.eq(offset < self._words)
            self._bits(m, mask, offset % CONTEXT_STRIDE, records)
        with m.Else():
            m.d.comb += self.exists.eq(offset <= registers[-1].offset)
            self._bits(m, mask, offset, registers)
        existed = register(m, self.exists, "existed")
        m.d.comb += [
            write.addr.eq(Cat(offset[:bits], of_record)), read.addr.eq(write.addr),
            write.data.eq(self.request.data & mask), write.en.eq(self.write & self.exists),
            self.word.eq(Mux(existed, read.data, 0)),
        ]
        return m

    @staticmethod
    def _bits(m, mask, offset, described):
        with m.Switch(offset):
            for entry in described:
                with m.Case(entry.offset):
                    m.d.comb += mask.eq((1 << entry.bits) - 1)


def share_hashes(m, tile, programming, seed):
    """Make a hash for each device pipeline; the reads of the tile have the first one while no device is at work."""
    for lane, user in enumerate(programming.hash):
        m.submodules[f"hash_{lane}"] = hashed = SharedHash(users=1 if lane else 2)
        connect(m, user, hashed.users[0])
        m.d.comb += hashed.key0.eq(seed)
        if lane == 0:
            connect(m, tile.hash, hashed.users[1])
            m.d.comb += hashed.chosen.eq(~programming.hashing)


class Core(wiring.Component):
    """One engine with its tiles, converters, device states and write-verify.

    Members
    -------
    i, o : stream of flits
        From and to the mesh node.
    bus : In
        Every region of an engine but ROUTES.
    memory : MemorySignature, out
        In builds with states in SDRAM.
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        flit = flit_layout(geometry)
        super().__init__({
            "i": In(stream.Signature(flit)),
            "o": Out(stream.Signature(flit)),
            "bus": In(BusSignature()),
            **({"memory": Out(states_memory(geometry))} if geometry.states_in_sdram else {}),
        })

    def elaborate(self, platform):
        m = Module()

        m.submodules.tile = tile = Tile(geometry=self.geometry)
        m.submodules.programming = programming = Programming(geometry=self.geometry)
        m.submodules.contexts = contexts = ContextTable(geometry=self.geometry)
        m.submodules.decoder = decoder = BusDecoder(targets=3)

        connect(m, flipped(self.i), tile.i)
        connect(m, tile.o, flipped(self.o))
        connect(m, tile.read, programming.read)
        m.d.comb += [
            tile.net_write.eq(programming.net_write),
            tile.noise_write.eq(programming.noise_write),
            tile.hold.eq(programming.busy),
            programming.tile_idle.eq(tile.idle),
        ]

        if self.geometry.states_in_sdram:
            connect(m, programming.memory, flipped(self.memory))

        # Who answers: 0 the tiles, 1 programming, 2 the registers below.
        region = self.bus.request.payload.region
        offset = self.bus.request.payload.offset
        connect(m, flipped(self.bus), decoder.i)
        connect(m, decoder.o[0], tile.bus)
        connect(m, decoder.o[1], programming.bus)
        with m.Switch(region):
            with m.Case(EngineRegion.COLUMNS, EngineRegion.INPUTS):
                m.d.comb += decoder.select.eq(0)
            with m.Case(EngineRegion.TABLES, EngineRegion.TARGETS, EngineRegion.OUTCOMES, EngineRegion.STATES,
                        EngineRegion.WEAR):
                m.d.comb += decoder.select.eq(1)
            with m.Case(EngineRegion.REGISTERS):
                m.d.comb += decoder.select.eq(Mux(offset == _OPERATION, 1, 2))
            with m.Case(EngineRegion.CONTEXTS, EngineRegion.COUNTERS):
                m.d.comb += decoder.select.eq(2)
            with m.Default():
                m.d.comb += decoder.select.eq(3)

        settings = Signal(settings_layout, reset_less=True)  # as the memory they are read back from
        m.d.comb += [tile.settings.eq(settings), programming.settings.eq(settings)]
        share_hashes(m, tile, programming, settings.seed)

        # While programming looks, reads are of its own context.
        bus = decoder.o[2]
        access = bus.request.payload
        m.submodules.read_back = read_back = _ReadBack(geometry=self.geometry)
        m.d.comb += [
            contexts.lookup.index.eq(Mux(programming.looking, programming.lookup.index, tile.lookup.index)),
            tile.lookup.record.eq(contexts.lookup.record),
            programming.lookup.record.eq(contexts.lookup.record),
            contexts.context.eq(access.offset // CONTEXT_STRIDE),
            contexts.field.eq(access.offset % CONTEXT_STRIDE),
            contexts.value.eq(access.data),
            read_back.request.eq(access),
        ]

        answer = Signal(32)
        selected = Signal.like(access, reset_less=True)
        totals, counter = self._totals(m, selected, tile, programming)
        with m.FSM():
            with m.State("Idle"):
                m.d.comb += bus.request.ready.eq(~programming.busy)
                m.d.sync += selected.eq(access)
                with m.If(bus.request.valid & bus.request.ready):
                    with m.If(access.write & (access.region == EngineRegion.REGISTERS)):
                        m.d.comb += read_back.write.eq(1)
                        self._write_setting(m, settings, access)
                    with m.If(access.write & (access.region == EngineRegion.CONTEXTS)):
                        m.d.comb += [read_back.write.eq(1), contexts.write.eq(read_back.exists)]
                    m.next = "Look up"
            with m.State("Look up"):
                m.d.sync += answer.eq(0)
                with m.If(~selected.write):
                    m.d.sync += answer.eq(read_back.word)
                    with m.If(selected.region == EngineRegion.COUNTERS):
                        m.d.comb += totals.read.eq(1)
                        m.d.sync += answer.eq(counter)
                m.next = "Respond"
            with m.State("Respond"):
                m.d.comb += [bus.response.valid.eq(1), bus.response.payload.eq(answer)]
                with m.If(bus.response.ready):
                    m.next = "Idle"

        return m

    def _write_setting(self, m, settings, request):
        with m.Switch(request.offset):
            for entry in fields("engine", EngineRegion.REGISTERS)[1:]:
                with m.Case(entry.offset):
                    m.d.sync += settings[entry.name].eq(request.data)

    def _totals(self, m, selected, tile, programming):
        """Return the word of the counter that is selected; what does not exist is 0."""
        counted = fields("engine", EngineRegion.COUNTERS)
        m.submodules.totals = totals = Totals(count=len(counted))
        for k, entry in enumerate(counted):
            owner = programming if entry.name in programming.counters.shape().members else tile
            m.d.comb += totals.counters[k].eq(owner.counters[entry.name])
        m.d.comb += totals.index.eq(selected.offset[1:])
        word = Mux(selected.offset[0], totals.total[32:], totals.total[:32])
        return totals, Mux(selected.offset < 2 * len(counted), word, 0)
