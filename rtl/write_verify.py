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
from rtl.params import ACTIVATION_MAX, EngineRegion, Geometry, PulseKind, Purpose
from rtl.params.formats import DIRECT_DOWN, DIRECT_MINOR, EPOCH_SHIFT, G16_BITS
from rtl.params.registers import register as described
from rtl.pipeline import register
from rtl.read import ReadSignature

__all__ = ["TargetAccess", "WriteVerify"]

_TARGET_BITS = described("engine", EngineRegion.TARGETS, "target").bits
_MAGNITUDE_BITS = _TARGET_BITS - 1
_FACTOR_BITS = 16
_MAX_AVERAGES = 16
_MAX_PULSES = 255
_ONE = 15
"""Fraction bits of `main_scale`, the factor of a first pulse."""
_STILL_BITS, _REFRESH_BITS = 3, 4
_PARTNER_BITS = described("engine", EngineRegion.REGISTERS, "refresh_limit").bits
_DRAIN = 10 + SLOTS
"""Clocks until a column's results are stored and its pulse has reached the array."""


class _Pass(enum.Enum, shape=3):
    """What a pass over the columns does."""

    EXPECT = 0
    """Expected sum of codes of each target; begins the tallies."""
    RESET = 1
    """RESET of every device of the row."""
    FIRST = 2
    """First melt pulse of the main pair."""
    DECIDE = 3
    """Compare; next pulse of the phase."""
    SECOND = 4
    """First pulse of the second phase."""
    TOTAL = 5
    """Add the sum of a probe to the totals."""
    DIRECT = 6
    """One pulse, as the target says."""


_plan_layout = data.StructLayout({
    "expected": signed(_TARGET_BITS), "reference": signed(16), "amplitude": G16_BITS, "still": _STILL_BITS,
    "partner": _PARTNER_BITS, "negative": 1, "down": 1, "fresh": 1, "draining": 1,
})
"""What is kept of a column between two pulses, as in `sim/write_verify.py`."""

_tally_layout = data.StructLayout({
    "converged": 1, "unresponsive": 1, "refreshes": _REFRESH_BITS, "pulses": 8, "sum": signed(16),
})
_judged_layout = data.StructLayout({
    "plan": _plan_layout, "tally": _tally_layout, "pulsed": 1, "side": 1, "gradual": 1, "reset": 1, "over": 1,
    "grow": 1, "work": 1, "minor": 1,
})
"""Plan and tally as they will be, but for what the multiplier brings; the pulse: whether there is one, to which side of
which pair, of which sort; whether its amplitude adds to the one before; whether the phase still works on the column."""


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
                                Cat(tally.converged, tally.unresponsive, Const(0, 2), tally.refreshes, tally.pulses,
                                    tally.sum))),
        ]
        return m

    def _state(self, m):
        """Declare what control and passes share."""
        self._pass = Signal(_Pass)
        self._column = Signal(10)
        self._walking = Signal()
        self._all_converged = Signal()
        self._finished = Signal()
        self._iteration = Signal(8)
        self._second = Signal()
        self._repeat = Signal(4)
        self._row = Signal(10)
        self._first_row = Signal()
        self._reset = Signal(PulseRequest(self.geometry))
        self._gradual = self.settings.pulse_kind != PulseKind.MELT
        self._bipolar = self.settings.pulse_kind[1]

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
                    self._column.eq(0), self._all_converged.eq(0), self._finished.eq(0),
                    self._iteration.eq(0), self._second.eq(0), self._repeat.eq(0),
                    self._row.eq(settings.row), self._first_row.eq(1), left.eq(settings.row_count), group.eq(0),
                ]
                with m.If(self.start):
                    m.d.sync += self._pass.eq(Mux(settings.direct, _Pass.DIRECT, _Pass.EXPECT))
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
                            m.d.sync += self._pass.eq(_Pass.RESET)
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
                            m.d.sync += [self._column.eq(0), drain.eq(_DRAIN)]
                            m.next = "Drain"

            with m.State("Settle"):
                with m.If(self.array_idle):
                    m.next = "Judge"
                    with m.If((self._pass == _Pass.RESET) & ~self._gradual):
                        m.d.sync += self._pass.eq(_Pass.FIRST)
                        m.next = "Walk"
                    with m.If(self._pass == _Pass.DIRECT):
                        m.next = "Idle"
            with m.State("Judge"):
                m.d.sync += self._iteration.eq(self._iteration + 1)
                m.next = "Request"
                with m.If(self._finished | (self._iteration == settings.iterations)):
                    m.next = "Idle"
                    more = settings.absorb if self.geometry.pairs == 1 else 1
                    with m.If(more & ~self._all_converged & ~self._second):
                        m.d.sync += [self._second.eq(1), self._iteration.eq(0), self._finished.eq(0),
                                     self._pass.eq(_Pass.SECOND)]
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
                    m.d.sync += [self._repeat.eq(0), self._all_converged.eq(1), self._finished.eq(1)]
                    m.d.sync += self._pass.eq(Mux(self.probing, _Pass.TOTAL, _Pass.DECIDE))
                    m.next = "Walk"

        verify = Cat(self._repeat, self._coordinate(self._iteration))
        m.d.comb += [
            request.payload.context.eq(settings.context),
            request.payload.row.eq(self._row),
            request.payload.purpose.eq(Mux(self.probing, Purpose.PROBE, Purpose.VERIFY)),
            request.payload.event.eq(Mux(self.probing, Cat(self._repeat, settings.age, settings.epoch),
                                         Cat(verify, Const(0, EPOCH_SHIFT - len(verify)), settings.epoch))),
            request.payload.drive.ticks.eq(Mux(self.probing, settings.probe_ticks, ACTIVATION_MAX)),
            Cat(request.payload.drive.dense, request.payload.drive.inference_range).eq(
                Mux(self.probing, settings.probe_mode, 0)),
        ]

    def _coordinate(self, iteration):
        """Return `iteration_coordinate` of an iteration of this phase."""
        return Cat(iteration[:7], self._second, iteration[7])

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
        change = register(m, tally.sum - plan.reference, "change_2")
        target_negative = register(m, target < 0, "target_negative_2")
        plan_2, tally_2 = (Signal(shape, name=name, reset_less=True) for shape, name in
                           ((_plan_layout, "plan_2"), (_tally_layout, "tally_2")))
        m.d.sync += [plan_2.eq(plan), tally_2.eq(tally)]
        total_2 = register(m, (Mux(self._first_row, 0, self._total_read.data) + tally.sum)[:32], "total_2")
        m.d.comb += [
            self._total_write.addr.eq(columns[2]), self._total_write.data.eq(total_2),
            self._total_write.en.eq(valid_2 & (kind == _Pass.TOTAL)),
        ]

        # clock 2: what is multiplied, and what becomes of the column
        error_size = Mux(error < 0, -error, error)
        judged, over = self._judge(m, plan_2, tally_2, error < 0, error_size, magnitude, target_negative, change)
        direct = kind == _Pass.DIRECT
        of_target = (kind == _Pass.EXPECT) | (kind == _Pass.FIRST) | direct
        limit = (1 << _MAGNITUDE_BITS) - 1
        wanted = Mux(direct, magnitude[:G16_BITS], magnitude)
        a = register(m, saturate(Mux(of_target, wanted, error_size), 0, limit), "a_3")
        b = register(m, self._factor(m), "b_3")
        gradual = self._gradual & ~of_target
        negate = Signal(name="negate_3", reset_less=True)
        m.d.sync += negate.eq(Mux(of_target, target_negative & (kind == _Pass.EXPECT), over & ~self._gradual))

        # clocks 3 to 8: multiply, sign, round, add to the amplitude of the pulse before
        product = register(m, register(m, a * b, "product_4"), "product_5")
        for k in (4, 5):
            negate = register(m, negate, f"negate_{k}")
        product = register(m, Mux(negate, -product, product), "product_6")
        # An expected sum is a rounded magnitude with a sign: a negative tie is rounded away from 0 too.
        expected = (product + (1 << 15) - register(m, negate, "negate_6")) >> 16
        rounded = register(m, Mux(kind == _Pass.EXPECT, expected,
                                  Mux(of_target, round_shift(product, _ONE),
                                      Mux(gradual, product, round_shift(product, 8)))),
                           "rounded_7")
        m.submodules.judged = ring = Delay(shape=_judged_layout, clocks=4)
        m.d.comb += ring.i.eq(judged)
        total = register(m, Mux(ring.o.grow, ring.o.plan.amplitude, 0) + rounded, "total_8")
        judged_8 = Signal(_judged_layout, name="judged_8", reset_less=True)
        m.d.sync += judged_8.eq(ring.o)

        self._store(m, valid_8, column_8, total, judged_8, Mux(gradual, settings.least_amplitude, 0))

    def _judge(self, m, plan, tally, down, error_size, magnitude, target_negative, change):
        """Clock 2: return, a clock later, what becomes of a column; and whether the error calls for the partner."""
        settings, kind, two_pairs = self.settings, self._pass, self.geometry.pairs == 2
        second, decide = kind == _Pass.SECOND, kind == _Pass.DECIDE
        after = Signal(_judged_layout, name="after")
        at_work = (magnitude >= settings.minor_only) | self._second if two_pairs else 1
        converged = tally.converged | (decide & (error_size <= settings.window))
        m.d.comb += [
            after.plan.eq(plan), after.tally.eq(tally), after.tally.converged.eq(converged),
            after.work.eq(at_work & ~converged),
        ]
        with m.Switch(kind):
            with m.Case(_Pass.FIRST):
                m.d.comb += after.pulsed.eq(at_work & (magnitude != 0))
            with m.Case(_Pass.DECIDE):
                m.d.comb += after.pulsed.eq(after.work & (self._iteration != settings.iterations))
            with m.Case(_Pass.SECOND):
                m.d.comb += after.pulsed.eq(after.work)
            with m.Case(_Pass.DIRECT):
                m.d.comb += after.pulsed.eq(magnitude[:G16_BITS] != 0)

        still = Mux(Mux(change < 0, -change, change) > settings.window, 0, plan.still + ~plan.still.all())
        with m.If(decide & at_work & ~tally.converged):
            m.d.comb += after.plan.still.eq(still)
            with m.If(after.plan.still == 0):
                m.d.comb += after.plan.reference.eq(tally.sum)
            with m.If(after.plan.still.all()):
                m.d.comb += after.tally.unresponsive.eq(1)

        negative, over = Signal(), Signal()
        m.d.comb += [negative.eq(plan.negative), over.eq(down ^ negative)]
        with m.If(second):
            m.d.comb += negative.eq(down if two_pairs else ~plan.negative)
        one_way = self._gradual & ~self._bipolar
        draining = plan.draining & ~second
        partner = Mux(second, 0, plan.partner)
        restart = over & ~draining & settings.restart
        drain = over & ~draining & ~settings.restart & (partner >= settings.refresh_limit)
        m.d.comb += [
            after.over.eq(over), after.reset.eq(one_way & (restart | drain | draining)),
            after.side.eq(Mux(one_way & ~draining & ~restart, down, negative)),
            after.grow.eq(Mux(self._gradual, ~plan.fresh & ~second & (down == plan.down), decide)),
        ]
        with m.If(decide | second):
            m.d.comb += [
                after.gradual.eq(self._gradual & ~after.reset),
                after.plan.negative.eq(negative), after.plan.down.eq(down), after.plan.fresh.eq(after.reset),
                after.plan.draining.eq(one_way & drain), after.plan.partner.eq(partner),
            ]
            with m.If(drain | draining):
                m.d.comb += after.plan.partner.eq(0)
            with m.Elif(over & ~restart & ~partner.all()):
                m.d.comb += after.plan.partner.eq(partner + 1)
            with m.If(after.pulsed & after.reset & ~draining & ~tally.refreshes.all()):
                m.d.comb += after.tally.refreshes.eq(tally.refreshes + 1)
            m.d.comb += after.minor.eq(self._second)
        with m.Else():
            m.d.comb += [after.side.eq(plan.negative), after.reset.eq(0), after.grow.eq(0)]
        with m.If(second):
            m.d.comb += after.plan.still.eq(0)
        with m.If(kind == _Pass.EXPECT):
            m.d.comb += [
                after.plan.eq(0), after.plan.negative.eq(target_negative), after.plan.fresh.eq(1),
                after.tally.eq(0), after.tally.pulses.eq(self.geometry.devices),
            ]
        with m.If(after.pulsed & (tally.pulses != _MAX_PULSES)):
            m.d.comb += after.tally.pulses.eq(tally.pulses + 1)
        with m.If(kind == _Pass.DIRECT):
            m.d.comb += [
                after.side.eq(target_negative), after.over.eq(magnitude[DIRECT_DOWN]),
                after.minor.eq(magnitude[DIRECT_MINOR]), after.gradual.eq(self._gradual), after.work.eq(0),
                after.tally.eq(0), after.tally.pulses.eq(magnitude[:G16_BITS] != 0),
            ]
        judged = Signal(_judged_layout, name="judged_3", reset_less=True)
        m.d.sync += judged.eq(after)
        return judged, over

    def _factor(self, m):
        """Return the factor of a pass: counts per conductance, or conductance per conductance or count."""
        settings = self.settings
        factor = Signal(_FACTOR_BITS)
        with m.Switch(self._pass):
            with m.Case(_Pass.EXPECT):
                m.d.comb += factor.eq(settings.counts_per_g)
            with m.Case(_Pass.FIRST):
                m.d.comb += factor.eq(settings.main_scale)
            with m.Case(_Pass.DIRECT):
                m.d.comb += factor.eq(1 << _ONE)
            with m.Default():
                minor = self._second if self.geometry.pairs == 2 else 0
                m.d.comb += factor.eq(Mux(minor, settings.minor_step, settings.main_step))
        return factor

    def _store(self, m, valid, column, total, judged, least):
        """Clock 8: store plan and tally of a column; a clock later its pulse leaves."""
        kind, limit = self._pass, self.settings.amplitude_limit
        amplitude = Signal(G16_BITS)
        floored = Mux(total < least, least, total)
        m.d.comb += amplitude.eq(Mux(floored > limit, limit, floored))
        plan, tally = self._plan_write, self._tally_write
        stored = valid & (kind != _Pass.TOTAL)
        m.d.comb += [
            plan.addr.eq(column), plan.en.eq(stored), plan.data.eq(judged.plan), plan.data.amplitude.eq(amplitude),
            tally.addr.eq(column), tally.en.eq(stored), tally.data.eq(judged.tally),
        ]
        with m.If(kind == _Pass.EXPECT):
            m.d.comb += plan.data.expected.eq(total)
        with m.If(valid & (kind == _Pass.DECIDE)):
            with m.If(~judged.tally.converged):
                m.d.sync += self._all_converged.eq(0)
            with m.If(judged.work):
                m.d.sync += self._finished.eq(0)
        with m.If(self._collected):
            m.d.comb += [tally.addr.eq(self._collected_column), tally.en.eq(~self._keep_sum),
                         tally.data.eq(self._tally_read.data), tally.data.sum.eq(self._new_sum)]
        self._send(m, stored & (kind != _Pass.EXPECT), column, judged, amplitude)

    def _send(self, m, valid, column, judged, amplitude):
        """Register the pulse of a column, or a RESET of all its devices."""
        lanes = self.geometry.program_lanes
        device = Cat(judged.side, judged.minor)[:bits_for(self.geometry.devices - 1)]
        iteration = Mux(self._pass == _Pass.DIRECT, self.settings.iterations, (self._iteration + 1)[:8])
        request = Signal.like(self.pulse, name="request")
        m.d.comb += [
            request.first.eq(column == 0), request.advance.eq(1), request.gradual.eq(judged.gradual),
            request.down.eq(judged.over & self._bipolar), request.amplitude.eq(Mux(judged.reset, 0, amplitude)),
            request.iteration.eq(self._coordinate(iteration)),
        ]
        with m.Switch(device):
            for k in range(self.geometry.devices):
                with m.Case(k):
                    m.d.comb += [request.group.eq(k // lanes), request.mask.eq(judged.pulsed << (k % lanes))]
        m.d.comb += request.valid.eq(valid)
        with m.If(self._reset.valid):
            m.d.comb += request.eq(self._reset)
        with m.If(request.valid):
            m.d.sync += self.pulse.eq(request)
        with m.Elif(self.pace):
            m.d.sync += self.pulse.valid.eq(0)
