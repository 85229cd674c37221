"""Write-verify: pulse the devices of one row, read it through the tile, compare with the targets, pulse again.

A pass takes a column whenever the array can take a pulse: memories of targets, plans and tallies are read, one
multiplier turns a target or an error into conductance, and the pulse goes to the array. Between passes the row is read
through the tile's own DAC, crossbar and ADC. Every decision comes from those codes; this controller has no way to see a
state.

The rules are those of `sim/write_verify.py`. Cost on ECP5: one multiplier, three block RAMs at 64 columns.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, enum, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from rtl.array import PulseRequest
from rtl.context import context_layout, settings_layout
from rtl.delay import Delay
from rtl.device import SLOTS
from rtl.fixed import round_shift, saturate
from rtl.params import ACTIVATION_MAX, EngineRegion, Geometry, Purpose
from rtl.params.formats import G16_BITS, G16_MAX
from rtl.params.registers import register as described
from rtl.pipeline import register
from rtl.read import ReadSignature

__all__ = ["TargetAccess", "WriteVerify"]

_TARGET_BITS = described("engine", EngineRegion.TARGETS, "target").bits
_MAGNITUDE_BITS = _TARGET_BITS - 1
_FACTOR_BITS = 16
_MAX_AVERAGES = 16
_MAX_PULSES = 255
_DRAIN = 10 + SLOTS
"""Clocks until a column's results are stored and its pulse has reached the array."""


class _Pass(enum.Enum, shape=3):
    """What a pass over the columns does."""

    EXPECT = 0
    """Expected sum of codes of each target; begins the tallies."""
    FIRST = 1
    """First pulse of the main pair."""
    DECIDE = 2
    """Compare; next pulse of the pair at work."""
    MINOR = 3
    """First pulse of the minor pair."""
    TOTAL = 4
    """Add the sum of a probe to the totals."""


_plan_layout = data.StructLayout({"expected": signed(_TARGET_BITS), "amplitude": G16_BITS, "negative": 1})
_tally_layout = data.StructLayout({"converged": 1, "pulses": 8, "sum": signed(16)})
_judged_layout = data.StructLayout({
    "plan": _plan_layout, "tally": _tally_layout, "target_negative": 1, "target_zero": 1, "error_negative": 1,
    "converged": 1,
})


class TargetAccess(data.StructLayout):
    """What the bus does with a column: write its target, or look."""

    def __init__(self, geometry: Geometry):
        super().__init__({
            "column": bits_for(geometry.columns - 1), "write": 1, "target": signed(_TARGET_BITS),
        })


class WriteVerify(wiring.Component):
    """Programs or probes rows of one context.

    Members
    -------
    settings, record : In
        Registers, and record of the context: steady while busy.
    start, probing : In(1)
        `start` is high for one clock; `probing` chooses PROBE and is steady until the next start.
    busy : Out(1)
    array_idle : In(1)
        Every pulse has ended and every net is stored.
    pace : In(1)
        High once in `SLOTS` clocks: the array takes the pulse.
    pulse : PulseRequest, out
    read : ReadSignature, out
    access : TargetAccess, in
        Only while not busy.
    target, outcome : Out
        Of the column of `access` of the clock before.
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        super().__init__({
            "settings": In(settings_layout), "record": In(context_layout), "start": In(1), "probing": In(1),
            "busy": Out(1), "array_idle": In(1), "pace": In(1), "pulse": Out(PulseRequest(geometry)),
            "read": Out(ReadSignature(geometry)), "access": In(TargetAccess(geometry)),
            "target": Out(signed(_TARGET_BITS)), "outcome": Out(32),
        })

    def elaborate(self, platform):
        m = Module()

        self._state(m)
        self._memories(m)
        self._control(m)
        self._collect(m)
        self._walk(m)

        tally = self._tally_read.data
        m.d.comb += [
            self.target.eq(self._target_read.data),
            self.outcome.eq(Mux(self.probing, self._total_read.data,
                                Cat(tally.converged, Const(0, 7), tally.pulses, tally.sum))),
        ]
        return m

    def _state(self, m):
        """Declare what control and passes share."""
        self._pass = Signal(_Pass)
        self._column = Signal(10)
        self._walking = Signal()
        self._all_converged = Signal()
        self._iteration = Signal(8)
        self._minor = Signal()
        self._repeat = Signal(4)
        self._row = Signal(10)
        self._first_row = Signal()
        self._reset = Signal(PulseRequest(self.geometry))

    def _memories(self, m):
        """Make the memories, a word a column; all are read at the same column."""
        column_bits = bits_for(self.geometry.columns - 1)
        response = self.read.response
        address = Signal(column_bits)
        m.d.comb += address.eq(Mux(self.busy, Mux(response.valid, response.payload.column, self._column),
                                   self.access.column))
        ports = {}
        for name, shape in (("target", signed(_TARGET_BITS)), ("plan", _plan_layout), ("tally", _tally_layout),
                            ("total", signed(32))):
            # A column is written long after it was read; what is read in that clock is never used.
            memory = Memory(shape=shape, depth=self.geometry.columns, init=[], attrs={"no_rw_check": 1})
            m.submodules[f"{name}s"] = memory
            ports[name] = memory.write_port(), memory.read_port()
            m.d.comb += [ports[name][1].addr.eq(address), ports[name][1].en.eq(1)]
        target_write, self._target_read = ports["target"]
        self._plan_write, self._plan_read = ports["plan"]
        self._tally_write, self._tally_read = ports["tally"]
        self._total_write, self._total_read = ports["total"]
        m.d.comb += [
            target_write.addr.eq(self.access.column), target_write.data.eq(self.access.target),
            target_write.en.eq(self.access.write),
        ]

    def _control(self, m):
        """Sequence the passes and reads."""
        settings, record = self.settings, self.record
        left = Signal(11)
        drain = Signal(range(_DRAIN + 1))
        group = Signal(self.pulse.group.shape())
        last_column = self._column == record.columns - 1
        request, response = self.read.request, self.read.response
        m.d.comb += self.busy.eq(1)

        with m.FSM():
            with m.State("Idle"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [
                    self._column.eq(0), self._all_converged.eq(0), self._iteration.eq(0), self._minor.eq(0),
                    self._repeat.eq(0), self._row.eq(settings.row), self._first_row.eq(1),
                    left.eq(settings.row_count), group.eq(0),
                ]
                with m.If(self.start):
                    m.d.sync += self._pass.eq(_Pass.EXPECT)
                    m.next = "Row"
                    with m.If(~self.probing):
                        m.next = "Walk"

            with m.State("Walk"):
                m.d.comb += self._walking.eq(self.pace)
                m.d.sync += drain.eq(_DRAIN)
                with m.If(self.pace):
                    m.d.sync += self._column.eq(self._column + 1)
                    with m.If(last_column):
                        m.d.sync += self._column.eq(0)
                        m.next = "Drain"
            with m.State("Drain"):
                m.d.sync += drain.eq(drain - 1)
                with m.If(drain == 0):
                    with m.Switch(self._pass):
                        with m.Case(_Pass.EXPECT):
                            m.next = "Reset"
                        with m.Case(_Pass.TOTAL):
                            m.d.sync += [self._row.eq(self._row + 1), left.eq(left - 1), self._first_row.eq(0)]
                            m.next = "Row"
                        with m.Default():
                            m.next = "Settle"

            with m.State("Reset"):  # every device of the row
                m.d.comb += [
                    self._reset.valid.eq(self.pace), self._reset.first.eq(self._column == 0),
                    self._reset.group.eq(group), self._reset.mask.eq(~0),
                ]
                last_group = group == self.geometry.devices // self.geometry.program_lanes - 1
                m.d.comb += self._reset.advance.eq(last_group)
                with m.If(self.pace):
                    m.d.sync += group.eq(group + 1)
                    with m.If(last_group):
                        m.d.sync += [group.eq(0), self._column.eq(self._column + 1)]
                        with m.If(last_column):
                            m.d.sync += [self._column.eq(0), self._pass.eq(_Pass.FIRST)]
                            m.next = "Walk"

            with m.State("Settle"):
                with m.If(self.array_idle):
                    m.next = "Judge"
            with m.State("Judge"):
                m.d.sync += self._iteration.eq(self._iteration + 1)
                m.next = "Request"
                with m.If(self._all_converged | (self._iteration == settings.iterations)):
                    m.next = "Idle"
                    if self.geometry.pairs == 2:
                        with m.If(~self._all_converged & ~self._minor):
                            m.d.sync += [self._minor.eq(1), self._iteration.eq(0), self._pass.eq(_Pass.MINOR)]
                            m.next = "Walk"

            with m.State("Row"):  # of a probe
                m.next = "Request"
                with m.If(left == 0):
                    m.next = "Idle"
            with m.State("Request"):
                m.d.comb += request.valid.eq(1)
                with m.If(request.ready):
                    m.next = "Collect"
            with m.State("Collect"):
                with m.If(response.valid & response.payload.last):
                    m.next = "Repeat"
            with m.State("Repeat"):  # the last sum is being stored
                m.d.sync += self._repeat.eq(self._repeat + 1)
                m.next = "Request"
                with m.If((self._repeat + 1 >= settings.averages) | (self._repeat == _MAX_AVERAGES - 1)):
                    m.d.sync += [self._repeat.eq(0), self._all_converged.eq(1)]
                    m.d.sync += self._pass.eq(Mux(self.probing, _Pass.TOTAL, _Pass.DECIDE))
                    m.next = "Walk"

        verify = Cat(self._repeat, self._iteration + Mux(self._minor, 128, 0))[:12]
        m.d.comb += [
            request.payload.context.eq(settings.context),
            request.payload.row.eq(self._row),
            request.payload.purpose.eq(Mux(self.probing, Purpose.PROBE, Purpose.VERIFY)),
            request.payload.event.eq(Mux(self.probing, Cat(self._repeat, settings.age, settings.epoch),
                                         Cat(verify, Const(0, 12), settings.epoch))),
            request.payload.drive.ticks.eq(Mux(self.probing, settings.probe_ticks, ACTIVATION_MAX)),
            Cat(request.payload.drive.dense, request.payload.drive.inference_range).eq(
                Mux(self.probing, settings.probe_mode, 0)),
        ]

    def _collect(self, m):
        """Add codes to the sums as they come; the sum of a column that has converged stays."""
        response = self.read.response
        self._collected = Signal()
        self._collected_column = Signal.like(self._tally_write.addr, reset_less=True)
        code = Signal.like(response.payload.code, reset_less=True)
        m.d.sync += [self._collected.eq(response.valid), self._collected_column.eq(response.payload.column),
                     code.eq(response.payload.code)]

        # The repeat of the last code is over only a clock after it: it is stored in time.
        tally = self._tally_read.data
        self._new_sum = Signal(signed(16))
        m.d.comb += self._new_sum.eq(Mux(self._repeat == 0, 0, tally.sum) + code)
        self._keep_sum = tally.converged & ~self.probing

    def _walk(self, m):
        """The pipeline of a pass; the number of a name is its clock, the column leaves the memories in clock 1."""
        settings, kind = self.settings, self._pass
        valid = self._walking
        columns = [self._column[:len(self._tally_write.addr)]]
        for k in range(1, 9):
            valid = register(m, valid, f"valid_{k}", reset_less=False)
            columns.append(register(m, columns[-1], f"column_{k}"))
            if k == 2:
                valid_2 = valid
        valid_8, column_8 = valid, columns[8]

        target, plan, tally = self._target_read.data, self._plan_read.data, self._tally_read.data
        magnitude = register(m, Mux(target < 0, -target, target), "magnitude_2")
        error = register(m, plan.expected - tally.sum, "error_2")
        target_negative = register(m, target < 0, "target_negative_2")
        plan_2, tally_2 = (Signal(shape, name=name, reset_less=True) for shape, name in
                           ((_plan_layout, "plan_2"), (_tally_layout, "tally_2")))
        m.d.sync += [plan_2.eq(plan), tally_2.eq(tally)]
        total_2 = register(m, (Mux(self._first_row, 0, self._total_read.data) + tally.sum)[:32], "total_2")
        m.d.comb += [
            self._total_write.addr.eq(columns[2]), self._total_write.data.eq(total_2),
            self._total_write.en.eq(valid_2 & (kind == _Pass.TOTAL)),
        ]

        # clock 2: what is multiplied, and whether the column is in its window
        of_target = (kind == _Pass.EXPECT) | (kind == _Pass.FIRST)
        error_size = Mux(error < 0, -error, error)
        judged = Signal(_judged_layout, name="judged_3", reset_less=True)
        m.d.sync += [
            judged.plan.eq(plan_2), judged.tally.eq(tally_2), judged.target_negative.eq(target_negative),
            judged.target_zero.eq(magnitude == 0), judged.error_negative.eq(error < 0),
            judged.converged.eq(tally_2.converged | ((kind == _Pass.DECIDE) & (error_size <= settings.window))),
        ]
        limit = (1 << _MAGNITUDE_BITS) - 1
        a = register(m, saturate(Mux(of_target, magnitude, error_size), 0, limit), "a_3")
        b = register(m, self._factor(m), "b_3")
        negate = Signal(name="negate_3", reset_less=True)
        m.d.sync += negate.eq(Mux(kind == _Pass.EXPECT, target_negative,
                                  (kind == _Pass.DECIDE) & ((error < 0) ^ plan_2.negative)))

        # clocks 3 to 8: multiply, sign, round, add to the amplitude of the pulse before
        product = register(m, register(m, a * b, "product_4"), "product_5")
        for k in (4, 5):
            negate = register(m, negate, f"negate_{k}")
        product = register(m, Mux(negate, -product, product), "product_6")
        # An expected sum is a rounded magnitude with a sign: a negative tie is rounded away from 0 too.
        expected = (product + (1 << 15) - register(m, negate, "negate_6")) >> 16
        rounded = register(m, Mux(kind == _Pass.EXPECT, expected,
                                  Mux(kind == _Pass.FIRST, round_shift(product, 15), round_shift(product, 8))),
                           "rounded_7")
        m.submodules.judged = ring = Delay(shape=_judged_layout, clocks=4)
        m.d.comb += ring.i.eq(judged)
        total = register(m, Mux(kind == _Pass.DECIDE, ring.o.plan.amplitude, 0) + rounded, "total_8")
        judged_8 = Signal(_judged_layout, name="judged_8", reset_less=True)
        m.d.sync += judged_8.eq(ring.o)

        self._store(m, valid_8, column_8, total, judged_8)

    def _factor(self, m):
        """Return the factor of a pass: counts per conductance, or conductance per conductance or count."""
        settings = self.settings
        factor = Signal(_FACTOR_BITS)
        with m.Switch(self._pass):
            with m.Case(_Pass.EXPECT):
                m.d.comb += factor.eq(settings.counts_per_g)
            with m.Case(_Pass.FIRST):
                m.d.comb += factor.eq(settings.main_scale)
            with m.Default():
                m.d.comb += factor.eq(Mux(self._minor, settings.minor_step, settings.main_step))
        return factor

    def _store(self, m, valid, column, total, judged):
        """Clock 8: store plan and tally of a column; a clock later its pulse leaves."""
        kind = self._pass
        amplitude = saturate(total, 0, G16_MAX)
        pulsed, negative = Signal(), Signal()
        m.d.comb += negative.eq(judged.plan.negative)
        with m.Switch(kind):
            with m.Case(_Pass.FIRST):
                m.d.comb += [pulsed.eq(~judged.target_zero), negative.eq(judged.target_negative)]
            with m.Case(_Pass.DECIDE):
                m.d.comb += pulsed.eq(~judged.converged & (self._iteration != self.settings.iterations))
            with m.Case(_Pass.MINOR):
                m.d.comb += [pulsed.eq(~judged.converged), negative.eq(judged.error_negative)]

        plan, tally = self._plan_write, self._tally_write
        m.d.comb += [
            plan.addr.eq(column), plan.en.eq(valid & (kind != _Pass.TOTAL)),
            plan.data.expected.eq(judged.plan.expected), plan.data.amplitude.eq(amplitude),
            plan.data.negative.eq(negative),
            tally.addr.eq(column), tally.en.eq(valid & (kind != _Pass.TOTAL)),
            tally.data.eq(judged.tally), tally.data.converged.eq(judged.converged),
        ]
        with m.If(pulsed & (judged.tally.pulses != _MAX_PULSES)):
            m.d.comb += tally.data.pulses.eq(judged.tally.pulses + 1)
        with m.If(kind == _Pass.EXPECT):
            m.d.comb += [plan.data.expected.eq(total), tally.data.eq(0),
                         tally.data.pulses.eq(self.geometry.devices)]
        with m.If(valid & (kind == _Pass.DECIDE) & ~judged.converged):
            m.d.sync += self._all_converged.eq(0)
        with m.If(self._collected):
            m.d.comb += [tally.addr.eq(self._collected_column), tally.en.eq(~self._keep_sum),
                         tally.data.eq(self._tally_read.data), tally.data.sum.eq(self._new_sum)]
        self._send(m, valid & (kind != _Pass.EXPECT) & (kind != _Pass.TOTAL), column, pulsed, negative, amplitude)

    def _send(self, m, valid, column, pulsed, negative, amplitude):
        """Register the pulse of a column, or a RESET of all its devices."""
        lanes = self.geometry.program_lanes
        device = Cat(negative, self._minor)[:bits_for(self.geometry.devices - 1)]
        request = Signal.like(self.pulse, name="request")
        m.d.comb += [
            request.first.eq(column == 0), request.advance.eq(1), request.amplitude.eq(amplitude),
            request.iteration.eq(self._iteration + Mux(self._minor, 129, 1)),
        ]
        with m.Switch(device):
            for k in range(self.geometry.devices):
                with m.Case(k):
                    m.d.comb += [request.group.eq(k // lanes), request.mask.eq(pulsed << (k % lanes))]
        m.d.comb += request.valid.eq(valid)
        with m.If(self._reset.valid):
            m.d.comb += request.eq(self._reset)
        with m.If(request.valid):
            m.d.sync += self.pulse.eq(request)
        with m.Elif(self.pace):
            m.d.sync += self.pulse.valid.eq(0)
