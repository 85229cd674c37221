"""An engine's unit at its mesh node: the tiles that share the engine, their programming, and their registers.

Only glue: the read path is `rtl/tile.py`, write-verify, device states and ageing are `rtl/programming.py`. While an
operation runs the tiles are held, and every register access waits for its end.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.bus import BusDecoder, BusSignature
from rtl.context import ContextLookup, context_layout, settings_layout
from rtl.hash import SharedHash
from rtl.mesh import flit_layout
from rtl.params import EngineRegion, Geometry
from rtl.params.registers import CONTEXT_STRIDE, fields
from rtl.programming import Programming
from rtl.tile import Tile

__all__ = ["ContextTable", "Core", "share_hashes"]

_OPERATION = 0  # offset of the one register that belongs to the programming component


class ContextTable(wiring.Component):
    """The records of all contexts: written and read field by field over the bus, looked up whole.

    Members
    -------
    write, context, field, value : In
        Stores one field of one record.
    lookups : In
        Two independent readers.
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        self.fields = fields("engine", EngineRegion.CONTEXTS)
        super().__init__({
            "write": In(1), "context": In(6), "field": In(range(CONTEXT_STRIDE)), "value": In(32),
            "lookups": In(ContextLookup()).array(2),
        })

    def elaborate(self, platform):
        m = Module()

        for register in self.fields:
            shape = context_layout[register.name].shape
            store = memory.Memory(shape=shape, depth=self.geometry.contexts, init=[])
            m.submodules[register.name] = store
            write = store.write_port()
            m.d.comb += [
                write.addr.eq(self.context),
                write.data.eq(self.value),
                write.en.eq(self.write & (self.field == register.offset)),
            ]
            for lookup in self.lookups:
                read = store.read_port()
                m.d.comb += [read.addr.eq(lookup.index), lookup.record[register.name].eq(read.data)]

        return m


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
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        flit = flit_layout(geometry)
        super().__init__({
            "i": In(stream.Signature(flit)),
            "o": Out(stream.Signature(flit)),
            "bus": In(BusSignature()),
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

        # Who answers: 0 the tiles, 1 programming, 2 the registers below.
        region = self.bus.request.payload.region
        offset = self.bus.request.payload.offset
        connect(m, flipped(self.bus), decoder.i)
        connect(m, decoder.o[0], tile.bus)
        connect(m, decoder.o[1], programming.bus)
        with m.Switch(region):
            with m.Case(EngineRegion.COLUMNS, EngineRegion.INPUTS):
                m.d.comb += decoder.select.eq(0)
            with m.Case(EngineRegion.TABLES, EngineRegion.TARGETS, EngineRegion.OUTCOMES, EngineRegion.STATES):
                m.d.comb += decoder.select.eq(1)
            with m.Case(EngineRegion.REGISTERS):
                m.d.comb += decoder.select.eq(Mux(offset == _OPERATION, 1, 2))
            with m.Case(EngineRegion.CONTEXTS, EngineRegion.COUNTERS):
                m.d.comb += decoder.select.eq(2)
            with m.Default():
                m.d.comb += decoder.select.eq(3)

        settings = Signal(settings_layout)
        m.d.comb += [tile.settings.eq(settings), programming.settings.eq(settings)]
        share_hashes(m, tile, programming, settings.seed)

        # The second lookup serves programming while it is busy and bus reads otherwise.
        bus = decoder.o[2]
        context = bus.request.payload.offset[4:10]
        connect(m, tile.lookup, contexts.lookups[0])
        m.d.comb += [
            contexts.lookups[1].index.eq(Mux(programming.busy, programming.lookup.index, context)),
            programming.lookup.record.eq(contexts.lookups[1].record),
            contexts.context.eq(context),
            contexts.field.eq(bus.request.payload.offset[:4]),
            contexts.value.eq(bus.request.payload.data),
        ]

        answer = Signal(32)
        selected = Signal.like(bus.request.payload, reset_less=True)
        with m.FSM():
            with m.State("Idle"):
                m.d.comb += bus.request.ready.eq(~programming.busy)
                m.d.sync += selected.eq(bus.request.payload)
                with m.If(bus.request.valid & bus.request.ready):
                    with m.If(bus.request.payload.write):
                        m.d.comb += contexts.write.eq(bus.request.payload.region == EngineRegion.CONTEXTS)
                        with m.If(bus.request.payload.region == EngineRegion.REGISTERS):
                            self._write_setting(m, settings, bus.request.payload)
                    m.next = "Look up"
            with m.State("Look up"):
                m.d.sync += answer.eq(0)
                with m.If(~selected.write):
                    self._read(m, answer, selected, settings, contexts.lookups[1].record, tile, programming)
                m.next = "Respond"
            with m.State("Respond"):
                m.d.comb += [bus.response.valid.eq(1), bus.response.payload.eq(answer)]
                with m.If(bus.response.ready):
                    m.next = "Idle"

        return m

    def _write_setting(self, m, settings, request):
        with m.Switch(request.offset):
            for register in fields("engine", EngineRegion.REGISTERS)[1:]:
                with m.Case(register.offset):
                    m.d.sync += settings[register.name].eq(request.data)

    def _read(self, m, answer, request, settings, record, tile, programming):
        with m.Switch(request.region):
            with m.Case(EngineRegion.REGISTERS), m.Switch(request.offset):
                for register in fields("engine", EngineRegion.REGISTERS)[1:]:
                    with m.Case(register.offset):
                        m.d.sync += answer.eq(settings[register.name])
            with m.Case(EngineRegion.CONTEXTS), m.Switch(request.offset[:4]):
                for register in fields("engine", EngineRegion.CONTEXTS):
                    with m.Case(register.offset):
                        m.d.sync += answer.eq(record[register.name])
            with m.Case(EngineRegion.COUNTERS), m.Switch(request.offset[:5]):
                for register in fields("engine", EngineRegion.COUNTERS):
                    owner = programming if register.name in programming.counters.shape().members else tile
                    words = Cat(owner.counters[register.name], Signal(64))[:64]
                    for half in range(2):
                        with m.Case(register.offset + half):
                            m.d.sync += answer.eq(words[32 * half:32 * half + 32])
