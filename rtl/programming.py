"""Everything that changes devices, joined: device states and ageing, write-verify, their registers and operations."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.array import Array, programming_counters
from rtl.bus import BusRequest, BusSignature
from rtl.constants import NoiseWrite
from rtl.context import ContextLookup, settings_layout
from rtl.engine import NetWrite
from rtl.hash import HashSignature
from rtl.memory_share import states_memory
from rtl.params import EngineOperation, EngineRegion, Geometry, Table
from rtl.read import ReadSignature
from rtl.state_store import StateStore
from rtl.write_verify import WriteVerify

__all__ = ["Programming"]


class Programming(wiring.Component):
    """The operations of an engine, and the regions TABLES, TARGETS, OUTCOMES, STATES and WEAR of its
    bus.

    A write to the operation register is answered at once; the operation starts when the tiles are idle. A request that
    comes while it runs is answered after its end.

    Members
    -------
    settings : In
        The engine's registers: steady while busy.
    lookup, looking : Out
        Asks for the record of `settings.context` while `looking`: from when the tiles are idle until no more busy.
    bus : BusSignature, in
    busy : Out(1)
        An operation is asked for or runs: the tiles must not start inference.
    tile_idle : In(1)
    read : ReadSignature, out
    hash, hashing : Out
        The hashes of the device states, and whether the devices use them: never while `read` is answered.
    net_write, noise_write, counters : Out
    memory : MemorySignature, out
        In builds with states in SDRAM.
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        super().__init__({
            "settings": In(settings_layout), "lookup": Out(ContextLookup()), "looking": Out(1),
            "bus": In(BusSignature()), "busy": Out(1), "tile_idle": In(1), "read": Out(ReadSignature(geometry)),
            "hash": Out(HashSignature()).array(geometry.program_lanes), "hashing": Out(1),
            "net_write": Out(NetWrite(geometry)), "noise_write": Out(NoiseWrite(geometry)),
            "counters": Out(programming_counters),
            **({"memory": Out(states_memory(geometry))} if geometry.states_in_sdram else {}),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.array = array = Array(geometry=self.geometry)
        m.submodules.write_verify = controller = WriteVerify(geometry=self.geometry)

        record = self.lookup.record
        operation = Signal(2)  # an EngineOperation, or 0
        connect(m, controller.read, flipped(self.read))
        for mine, user in zip(array.hash, self.hash, strict=True):
            connect(m, mine, flipped(user))
        m.d.comb += [
            self.lookup.index.eq(self.settings.context),
            array.settings.eq(self.settings), array.record.eq(record),
            controller.settings.eq(self.settings), controller.record.eq(record),
            array.pulse.eq(controller.pulse), controller.pace.eq(array.pace), controller.array_idle.eq(array.idle),
            array.aging.eq(operation == EngineOperation.AGE),
            self.net_write.eq(array.net_write), self.noise_write.eq(array.noise_write),
            self.counters.eq(array.counters), self.hashing.eq(~array.idle),
        ]
        self._bus(m, array, controller, operation)
        return m

    def _bus(self, m, array, controller, operation):
        """Answer requests one at a time, and run an operation after the answer that started it."""
        request = Signal(BusRequest, reset_less=True)
        answer = Signal(32, reset_less=True)
        looked_up = array.state_latency + 1  # the slowest of what is looked up
        waited = Signal(range(looked_up + 1))
        writing = Signal()
        incoming = self.bus.request.payload
        store = self._store(m, array, operation, request)
        m.d.comb += self.busy.eq(operation != 0)

        with m.FSM():
            with m.State("Idle"):
                m.d.comb += self.bus.request.ready.eq(1)
                m.d.sync += [request.eq(incoming), waited.eq(0)]
                with m.If(self.bus.request.valid):
                    m.next = "Look up"
                    if store:
                        with m.If(self._of_cells(incoming)):
                            m.next = "Load cell"
                    with m.If(incoming.write & (incoming.region == EngineRegion.REGISTERS) & (incoming.offset == 0)):
                        m.d.sync += operation.eq(incoming.data)
            with m.State("Look up"):
                m.d.comb += writing.eq(request.write & (waited == 0))
                m.d.sync += waited.eq(waited + 1)
                m.d.sync += answer.eq(Mux(request.write, 0, self._answer(request, array, controller)))
                with m.If(waited == looked_up):
                    m.next = "Respond"
                    if store:
                        with m.If(self._of_cells(request) & request.write):
                            m.next = "Save cell"
            with m.State("Respond"):
                m.d.comb += [self.bus.response.valid.eq(1), self.bus.response.payload.eq(answer)]
                with m.If(self.bus.response.ready):
                    m.next = "Idle"
                    with m.If(operation != 0):
                        m.next = "Hold"
            with m.State("Hold"):  # the tiles finish
                with m.If(self.tile_idle):
                    m.d.comb += self.looking.eq(1)
                    m.next = "Start"
                    if store:
                        with m.If(operation == EngineOperation.PROGRAM):
                            m.next = "Load row"
            with m.State("Start"):
                m.d.comb += self.looking.eq(1)
                m.d.comb += [array.start.eq(operation != EngineOperation.PROBE),
                             controller.start.eq(operation != EngineOperation.AGE)]
                m.next = "Run"
            with m.State("Run"):
                m.d.comb += self.looking.eq(1)
                with m.If(array.idle & ~controller.busy):
                    m.d.sync += operation.eq(0)
                    m.next = "Idle"
                    if store:
                        with m.If(operation == EngineOperation.PROGRAM):
                            m.d.sync += operation.eq(operation)
                            m.next = "Save row"
            if store:
                self._moves(m, store, operation)

        probing = Signal()
        with m.If(controller.start):
            m.d.sync += probing.eq(operation == EngineOperation.PROBE)
        m.d.comb += controller.probing.eq(Mux(controller.start, operation == EngineOperation.PROBE, probing))
        self._targets(m, controller, request, writing)
        self._tables(m, array, request, writing)
        self._cells(m, request, writing, EngineRegion.STATES, array.state, store and store.state, store)
        if self.geometry.wear_bits:
            self._cells(m, request, writing, EngineRegion.WEAR, array.wear, store and store.wear, store)

    def _store(self, m, array, operation, request):
        """Return the store of builds with states in SDRAM, and tell it what to move: a row, a column, or a cell."""
        if not self.geometry.states_in_sdram:
            return None
        record = self.lookup.record
        m.submodules.store = store = StateStore(geometry=self.geometry, state_latency=array.state_latency)
        connect(m, store.memory, flipped(self.memory))
        m.d.comb += [
            store.run.base.eq(self._cell(request)), store.run.count.eq(1), store.state_o.eq(array.state_o),
            store.wear_o.eq(array.wear_o), array.loaded.eq(store.done),
        ]
        with m.If(operation == EngineOperation.PROGRAM):
            m.d.comb += [store.run.base.eq(record.state_base + self.settings.row), store.run.stride.eq(record.rows),
                         store.run.count.eq(record.columns)]
        with m.If(operation == EngineOperation.AGE):
            m.d.comb += [store.run.eq(array.run), store.load.eq(array.load)]
        return store

    def _moves(self, m, store, operation):
        """Load before work and save after it: a cell for the bus, a row for pulses."""
        for state, move, after in (("Load cell", store.load, "Look up"), ("Save cell", store.save, "Respond"),
                                   ("Load row", store.load, "Start"), ("Save row", store.save, "Idle")):
            with m.State(state):
                m.d.comb += [move.eq(1), self.looking.eq(operation != 0)]
                with m.If(store.done):
                    m.next = after
                    if state == "Save row":
                        m.d.sync += operation.eq(0)

    def _of_cells(self, request):
        """Tell whether a request names a cell."""
        states = request.region == EngineRegion.STATES
        return states | (request.region == EngineRegion.WEAR) if self.geometry.wear_bits else states

    def _answer(self, request, array, controller):
        """Return the word that a read request sees once the memories have answered."""
        column_exists = request.offset < self.geometry.columns
        cells = self._pair(request, array.state_o)
        if self.geometry.wear_bits:
            cells = Mux(request.region == EngineRegion.WEAR, self._pair(request, array.wear_o), cells)
        return Mux(
            self._of_cells(request),
            Mux(self._cell(request) < self.geometry.cells, cells, 0),
            Mux(column_exists & (request.region == EngineRegion.TARGETS), controller.target,
                Mux(column_exists & (request.region == EngineRegion.OUTCOMES), controller.outcome.as_signed(), 0)))

    def _targets(self, m, controller, request, writing):
        exists = request.offset < self.geometry.columns
        m.d.comb += [
            controller.access.column.eq(request.offset), controller.access.target.eq(request.data),
            controller.access.write.eq(writing & exists & (request.region == EngineRegion.TARGETS)),
        ]

    def _tables(self, m, array, request, writing):
        write = array.table_write
        m.d.comb += [
            write.valid.eq(writing & (request.region == EngineRegion.TABLES) & (request.offset < len(Table) << 8)),
            write.index.eq(request.offset[:8]), write.table.eq(request.offset[8:]), write.value.eq(request.data),
        ]

    def _cell(self, request):
        return request.offset[self.geometry.pairs - 1:]

    def _pair(self, request, values):
        """Return the word of the pair that a request names."""
        plus, minus = values[0], values[1]
        if self.geometry.pairs == 2:
            plus, minus = Mux(request.offset[0], values[2], plus), Mux(request.offset[0], values[3], minus)
        return Cat(plus, Const(0, 16 - len(plus)), minus)

    def _cells(self, m, request, writing, region, access, moved, store):
        """Let the bus write what is kept of the devices of a cell; `moved` is the store's own access."""
        hit = writing & (request.region == region) & (self._cell(request) < self.geometry.cells)
        m.d.comb += access.cell.eq(0 if store else self._cell(request))
        for k in range(self.geometry.devices):
            pair = k // 2
            here = hit if self.geometry.pairs == 1 else hit & (request.offset[0] == pair)
            m.d.comb += [
                access.mask[k].eq(here),
                access.values[k].eq(request.data[16 * (k % 2):16 * (k % 2) + 16]),
            ]
        if store:
            with m.If(store.busy):
                m.d.comb += access.eq(moved)
