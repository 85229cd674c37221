"""One memory device at a time through a pipeline: what a pulse leaves behind, or what an age makes of a state.

The steps are those of `sim/device.py`. A device enters every `SLOTS` clocks, and one hash, one Gaussian table and two
multipliers serve it, a slot each. Pulse, relaxation, drift exponent and 1/f noise are the same sum: a base, and a
spread (sigma) times a sample. Another random value of a device takes the slot that is free, not another hash.

    slot   hash              sample                   sum                           product
    0      PULSE or STATIC   its first word           shifted + spread -> x         nu * log_time -> exponent
    1      FLICKER           its second word          mean + spread -> nu, floor    x * 2**-exponent -> drifted
    2      VARIATION         FLICKER's first word     drifted + spread -> code      drifted * share -> spread
    3      -                 free                     state +- strength * unit      amplitude * size -> strength

Each column is a pipeline of its own; what stands in a line need not meet in a clock.

Cost on ECP5 (synth_ecp5, preset board-small): two 18 x 18 multipliers, five block RAMs, 1,134 registers, 809 LUTs,
and the hash.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.context import settings_layout
from rtl.fixed import round_shift, saturate
from rtl.gauss import Gaussian
from rtl.hash import HASH_LATENCY, HashSignature
from rtl.params import Geometry, Purpose, Table
from rtl.params.formats import (
    AMPLITUDE_FRACTION,
    CODE_BITS,
    CODE_MAX,
    EPOCH_SHIFT,
    EXP2_BITS,
    EXP2_INDEX_BITS,
    EXPONENT_BITS,
    EXPONENT_FRACTION,
    FLOOR_AMPLITUDE_BIT,
    FLOOR_BITS,
    G16_BITS,
    G16_MAX,
    GAUSS_BITS,
    GAUSS_FRACTION,
    GMAX_G16,
    ITERATION_BITS,
    ITERATION_SHIFT,
    LOG_TIME_BITS,
    LOG_TIME_FRACTION,
    NU_FRACTION,
    SPREAD_BITS,
    VARIATION_FRACTION,
    exp2_table,
)
from rtl.pipeline import register

__all__ = ["SLOTS", "Device", "DeviceRequest", "TableWrite", "state_code"]

SLOTS = 4
"""Clocks from a device to the next."""

_INDEX_BITS = 8
_TABLE_BITS = 16
_TABLES = (Table.PULSE_SIGMA, Table.RELAX_SIGMA, Table.FLICKER, Table.SHIFT)
"""Tables that share a memory of 2**_TABLE_INDEX_BITS of them, in this order."""

_TRAITS = (Table.STEP_UP, Table.STEP_DOWN, Table.VARIATION, Table.ENDURANCE)
"""Tables that share another one."""

_TABLE_INDEX_BITS = 2
_PRODUCT_CLOCKS, _SUM_CLOCKS = 3, 6
"""From the choice of the operands to the result."""


class TableWrite(data.Struct):
    """One entry of a `Table` to store."""

    valid: unsigned(1)
    table: unsigned(4)
    index: unsigned(_INDEX_BITS)
    value: unsigned(_TABLE_BITS)


class DeviceRequest(data.Struct):
    """A device to age or to pulse, and its place in the hash.

    `g16` is its state, or the amplitude of a melt pulse. A `gradual` pulse, `down` or up, has its own `amplitude`.
    """

    g16: unsigned(G16_BITS)
    gradual: unsigned(1)
    down: unsigned(1)
    amplitude: unsigned(G16_BITS)
    device: unsigned(4)
    column: unsigned(14)
    row: unsigned(14)
    iteration: unsigned(ITERATION_BITS)


def state_code(state):
    """Return the present conductance of a device that neither relaxed nor drifted yet."""
    return _code(Cat(Const(0, G16_BITS - len(state)), state))


def _entry(g16, gradual):
    """Return the entry of a table: entry 0 is that of RESET, gradual pulses have the next one."""
    index = g16[-_INDEX_BITS:]
    return Cat(index[0] | (gradual & (index == 0)), index[1:])


def _code(g16):
    return saturate(round_shift(g16, G16_BITS - CODE_BITS), 0, CODE_MAX)


class Device(wiring.Component):
    """Pulse or age a device, feed-forward: a request every `SLOTS` clocks, its result `latency` clocks later.

    Members
    -------
    settings, tile, aging : In
        Chip, epoch, age and log_time; the logical tile; whether to age or to pulse. Steady while requests are
        inside.
    slot : In(range(SLOTS))
        Counts clocks. A request is taken in the last slot; a result changes with the last slot and is steady till the
        next.
    table_write : TableWrite, in
    hash : HashSignature, out
    i : DeviceRequest, in
    state : Out(state_bits)
        Left by a pulse.
    stuck : Out(1)
        The device is stuck: it has this state whatever wear says.
    wears, endurance : Out
        Of a pulse, in builds with wear: whether it wears the device, and the most wear with which the device answers.
    code : Out(8)
        Present conductance of an aged device.
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        self._gauss = Gaussian()
        super().__init__({
            "settings": In(settings_layout), "tile": In(16), "aging": In(1), "slot": In(range(SLOTS)),
            "table_write": In(TableWrite), "hash": Out(HashSignature()), "i": In(DeviceRequest),
            "state": Out(geometry.state_bits), "stuck": Out(1), "code": Out(CODE_BITS),
            "wears": Out(1), "endurance": Out(_TABLE_BITS),
        })

    @property
    def latency(self) -> int:
        """Clocks from the one that takes a request to the first that shows its result: a multiple of `SLOTS`."""
        return -(-(self._ended + 2) // SLOTS) * SLOTS

    # Clocks are counted from a device's slot 0, the clock after its request is taken. A pipeline begins a device's work
    # in slot `clock % SLOTS`, and no two works in the same one.

    @property
    def _sampled(self):  # the first sample is there; the second and the third follow
        return HASH_LATENCY + self._gauss.latency

    @property
    def _ended(self):  # the code is there
        return self._sampled + 28

    def elaborate(self, platform):
        m = Module()
        request = Signal(DeviceRequest, reset_less=True)
        with m.If(self._at(-1)):
            m.d.sync += request.eq(self.i)
        xi = self._samples(m, request)
        hashed_at = HASH_LATENCY
        limited = Signal(G16_BITS, reset_less=True)
        product = Signal(G16_BITS + LOG_TIME_BITS, reset_less=True)
        drifted = Signal(G16_BITS, reset_less=True)

        spread_at = self._sampled
        nu_at = spread_at + 1
        exponent_at = nu_at + _SUM_CLOCKS
        drift_at = exponent_at + _PRODUCT_CLOCKS + 2
        share_at = drift_at + _PRODUCT_CLOCKS + 3
        flicker_at = share_at + _PRODUCT_CLOCKS + 1
        stepped_at = hashed_at + 5
        moved_at = spread_at + _SUM_CLOCKS + 1
        floor_at = nu_at + _SUM_CLOCKS
        bounded_at = moved_at + _SUM_CLOCKS + 1
        merged_at = bounded_at + 1
        result_at = self.latency - 2
        g16 = self._line(m, "g16", request.g16, -1 + SLOTS, share_at)
        x = self._line(m, "x", limited, spread_at + _SUM_CLOCKS, merged_at)
        train = request.amplitude[FLOOR_AMPLITUDE_BIT:].any()
        pulse = self._line(m, "pulse", Cat(request.gradual, request.down, train), -1 + SLOTS, merged_at)
        amplitude = self._line(m, "amplitude", request.amplitude, -1 + SLOTS, max(spread_at, stepped_at))

        sigma = self._shared(m, g16, pulse(spread_at - 1)[:2], spread_at, share_at)
        shift = Mux(self.aging, sigma.as_signed(), 0)
        shifted = register(m, g16(spread_at + 3) + shift, "shifted")
        nu_mean, nu_sigma = self._exponents(m, g16(nu_at - 1))
        # A gradual pulse: its unit is step + spread, a sum like that of a melt pulse; it moves the state by as many of
        # them as its amplitude has, times the device's size, which scales step and spread alike.
        step, size = self._traits(m, g16, pulse, stepped_at, result_at)
        based_at, summed_at, strength_at = spread_at + 4, spread_at + 5, stepped_at + _PRODUCT_CLOCKS
        strength = self._line(m, "strength", saturate(product[VARIATION_FRACTION:], 0, G16_MAX), strength_at, moved_at)
        step = self._line(m, "unit_step", step, stepped_at, based_at)
        unit, move = Signal(signed(G16_BITS)), Signal(signed(GAUSS_BITS))
        total = self._sum(m, limited, folded=nu_at, terms={
            spread_at: (sigma, Mux(pulse(spread_at)[0], self._scattered(xi, amplitude(spread_at)), xi),
                        Mux(pulse(based_at)[0], step(based_at), shifted)),
            moved_at: (strength(moved_at), move, g16(moved_at + 4)),
            nu_at: (nu_sigma, xi, self._line(m, "nu_mean", nu_mean, nu_at, nu_at + 4)(nu_at + 4)),
            flicker_at: (
                self._line(m, "spread", product[NU_FRACTION:], flicker_at - 1, flicker_at)(flicker_at),
                self._line(m, "xi_flicker", xi, spread_at + 2, flicker_at)(flicker_at),
                self._line(m, "undisturbed", drifted, share_at, flicker_at + 4)(flicker_at + 4)),
        })
        limit = (1 << G16_BITS - 1) - 1
        m.d.comb += [
            unit.eq(self._line(m, "unit", saturate(total, -limit, limit), summed_at, moved_at)(moved_at)),
            move.eq(Mux(pulse(moved_at)[1], -unit, unit) << GAUSS_FRACTION - AMPLITUDE_FRACTION),
        ]
        moved = self._line(m, "moved", limited, moved_at + _SUM_CLOCKS, merged_at)
        bound = self._bound(m, limited, pulse, floor_at, bounded_at, merged_at)
        exponent, factor = self._exp2(m, product)
        self._multiply(m, product, {
            exponent_at: (limited, self.settings.log_time),
            drift_at: (x(drift_at), factor),
            share_at: (drifted, sigma),
            stepped_at: (amplitude(stepped_at), size),
        })
        octaves = self._line(m, "octaves", exponent[EXPONENT_FRACTION:], drift_at - 1, drift_at + _PRODUCT_CLOCKS + 1)
        coarse_at = drift_at + _PRODUCT_CLOCKS
        coarse = register(m, product[EXP2_BITS - 1:] >> Cat(Const(0, 2), octaves(coarse_at)[2:]), "coarse")
        fine = register(m, coarse >> octaves(coarse_at + 1)[:2], "fine")
        m.d.sync += drifted.eq((fine + 1) >> 1)

        state_bits = self.geometry.state_bits
        down = pulse(bounded_at)[1]
        beyond = register(m, (moved(bounded_at) < bound(bounded_at)) ^ ~down, "beyond")
        above = register(m, moved(bounded_at) > GMAX_G16, "above")
        stepped = Mux(beyond, bound(merged_at), Mux(above, GMAX_G16, moved(merged_at)))
        pulsed = self._line(m, "pulsed", Mux(pulse(merged_at)[0], stepped, x(merged_at)), merged_at, result_at)
        state = saturate(round_shift(pulsed(result_at), G16_BITS - state_bits), 0, (1 << state_bits) - 1)
        code = self._line(m, "present", _code(limited), self._ended, result_at)
        is_stuck = self._line(m, "is_stuck", self._words[1] < self.settings.stuck_rate, hashed_at + 2, result_at)
        stuck = self.settings.stuck_value[-state_bits:]
        with m.If(self._at(result_at)):
            m.d.sync += [
                self.stuck.eq(is_stuck(result_at)),
                self.state.eq(Mux(is_stuck(result_at), stuck, state)),
                self.code.eq(Mux(is_stuck(result_at), state_code(stuck), code(result_at))),
            ]
        return m

    def _bound(self, m, limited, pulse, floor_at, bounded_at, merged_at):
        """Return the line of the bound of a gradual pulse: a train comes no nearer to 0 or Gmax than a random floor.

        The floor is what the slot of the drift exponent makes of a pulse, |mean + spread|.
        """
        floor = Signal(FLOOR_BITS)
        with m.If(pulse(floor_at)[2]):
            above = limited[FLOOR_BITS:].any()
            m.d.comb += floor.eq(limited[:FLOOR_BITS] | above.replicate(FLOOR_BITS))  # limited to FLOOR_BITS
        return self._line(m, "bound", Mux(pulse(floor_at)[1], floor, GMAX_G16 - floor), floor_at, merged_at)

    def _traits(self, m, g16, pulse, stepped_at, result_at):
        """Return the step of a gradual pulse, and the size of the device's, in `stepped_at`. Endurance goes out."""
        hashed_at = HASH_LATENCY
        step_at, size_at, endurance_at = stepped_at - 1, hashed_at + 2, result_at - 2
        word0, word1 = self._words
        down = pulse(size_at)[1]
        own = down & ~self.settings.common_variation
        step_table = Cat(pulse(step_at)[1], Const(0, 1))  # STEP_UP or STEP_DOWN
        variation, endurance = (Const(_TRAITS.index(t), _TABLE_INDEX_BITS) for t in (Table.VARIATION, Table.ENDURANCE))
        addresses = {
            size_at: Cat(Mux(own, word0[8:], word0)[:_INDEX_BITS - 1], down, variation),
            step_at: Cat(g16(step_at)[-_INDEX_BITS:], step_table),
        }
        if self.geometry.wear_bits:
            byte = self._line(m, "endurance_byte", word0[16:24], size_at, endurance_at)
            addresses[endurance_at] = Cat(byte(endurance_at), endurance)
        read = self._memory(m, "traits", _TRAITS, addresses)
        if self.geometry.wear_bits:
            wears = self._line(m, "wearing", word1 < self.settings.wear_rate, hashed_at, result_at)
            endured = register(m, read, "endured")
            with m.If(self._at(result_at)):
                m.d.sync += [self.wears.eq(wears(result_at)), self.endurance.eq(endured)]
        return read, self._line(m, "size", read, size_at + 1, stepped_at)(stepped_at)

    def _scattered(self, xi, amplitude):
        """Return a sample as the unit of a pulse scatters: the less, the larger its amplitude."""
        for bit in SPREAD_BITS:
            xi = Mux(amplitude[bit:].any(), xi >> 1, xi)
        return xi

    def _memory(self, m, name, tables, addresses):
        """Return what a memory of tables shows a clock after each address, a slot each."""
        write = self.table_write
        # Tables are written while no device is inside: a word that is read in that clock is never used.
        m.submodules[name] = memory = Memory(
            shape=unsigned(_TABLE_BITS), depth=1 << _TABLE_INDEX_BITS + _INDEX_BITS, init=[],
            attrs={"no_rw_check": 1})
        store, read = memory.write_port(), memory.read_port()
        for k, table in enumerate(tables):
            with m.If(write.valid & (write.table == table)):
                m.d.comb += [store.addr.eq(Cat(write.index, Const(k, _TABLE_INDEX_BITS))), store.en.eq(1)]
        m.d.comb += [store.data.eq(write.value), read.en.eq(1)]
        for clock, address in addresses.items():
            with m.If(self._at(clock)):
                m.d.comb += read.addr.eq(address)
        return read.data

    def _samples(self, m, request):
        """Return the Gaussian samples: that of `_sampled` and those of the clocks after it."""
        settings, hashed = self.settings, self.hash
        place = Cat(self.tile, settings.chip)
        iteration = Cat(Mux(self.aging, 0, request.iteration), Const(0, EPOCH_SHIFT - ITERATION_SHIFT - ITERATION_BITS))
        m.submodules.gauss = gauss = self._gauss
        m.d.comb += hashed.counter.eq(Cat(request.device, request.column, request.row))
        with m.If(self._at(0)):
            m.d.comb += [
                hashed.key1.eq(Cat(place, Mux(self.aging, Const(Purpose.STATIC, 8), Const(Purpose.PULSE, 8)))),
                hashed.event.eq(Cat(Const(0, ITERATION_SHIFT), iteration, settings.epoch)),
            ]
        with m.Elif(self._at(2)):
            m.d.comb += hashed.key1.eq(Cat(place, Const(Purpose.VARIATION, 8)))
        with m.Else():
            m.d.comb += [
                hashed.key1.eq(Cat(place, Const(Purpose.FLICKER, 8))),
                hashed.event.eq(Cat(Const(0, 4), settings.age, settings.epoch)),
            ]
        self._words = hashed.word0, hashed.word1
        first, second = register(m, hashed.word0, "first_word"), register(m, hashed.word1, "second_word")
        m.d.comb += gauss.word.eq(Mux(self._at(HASH_LATENCY), hashed.word0,
                                      Mux(self._at(HASH_LATENCY + 1), second, first)))
        return gauss.xi

    def _shared(self, m, g16, pulse, spread_at, share_at):
        """Return what the shared memory shows.

        At `spread_at` the spread of a pulse or of relaxation, 3 clocks later the shift; at `share_at` that of 1/f.
        """
        shift, flicker = (Const(_TABLES.index(table), _TABLE_INDEX_BITS) for table in (Table.SHIFT, Table.FLICKER))
        return self._memory(m, "sigmas", _TABLES, {
            spread_at - 1: Cat(_entry(g16(spread_at - 1), pulse[0]), self.aging | pulse.all(), Const(0, 1)),
            spread_at + 2: Cat(g16(spread_at + 2)[-_INDEX_BITS:], shift),
            share_at - 1: Cat(g16(share_at - 1)[-_INDEX_BITS:], flicker),
        })

    def _exponents(self, m, g16):
        """Return mean and spread of the drift exponent, a clock after the conductance."""
        m.submodules.exponents = memory = Memory(
            shape=data.ArrayLayout(unsigned(_TABLE_BITS), 2), depth=1 << _INDEX_BITS, init=[],
            attrs={"no_rw_check": 1})
        store, read = memory.write_port(granularity=1), memory.read_port()
        m.d.comb += [store.addr.eq(self.table_write.index), read.addr.eq(g16[-_INDEX_BITS:]), read.en.eq(1)]
        for k, table in enumerate((Table.NU_MEAN, Table.NU_SIGMA)):
            m.d.comb += [store.data[k].eq(self.table_write.value),
                         store.en[k].eq(self.table_write.valid & (self.table_write.table == table))]
        return read.data[0], read.data[1]

    def _exp2(self, m, product):
        """Return the exponent, a clock after the product, and 2**-(its fraction) another clock later."""
        drop = NU_FRACTION + LOG_TIME_FRACTION - EXPONENT_FRACTION
        exponent = register(m, saturate(product >> drop, 0, (1 << EXPONENT_BITS) - 1), "exponent")
        m.submodules.exp2 = memory = Memory(shape=unsigned(EXP2_BITS), depth=1 << EXP2_INDEX_BITS, init=exp2_table())
        read = memory.read_port()
        m.d.comb += [read.addr.eq(exponent[EXPONENT_FRACTION - EXP2_INDEX_BITS:EXPONENT_FRACTION]), read.en.eq(1)]
        return exponent, read.data

    def _multiply(self, m, product, factors):
        """The multiplier: the two factors of a clock, and registers in front of it, right behind it, and once more."""
        a = register(m, self._choice(m, "a", {clock: pair[0] for clock, pair in factors.items()}), "factor_a")
        b = register(m, self._choice(m, "b", {clock: pair[1] for clock, pair in factors.items()}), "factor_b")
        m.d.sync += product.eq(register(m, a * b, "raw_product"))

    def _sum(self, m, limited, *, folded, terms):
        """The sum: base + sigma * xi, limited to 16 bits; one below 0 becomes 0, or positive where it is `folded`.

        A term is (sigma, xi, base), the base 4 clocks after the others. Returns the sum a clock earlier, not limited.
        """
        sigma = register(m, self._choice(m, "sigma", {clock: term[0] for clock, term in terms.items()}), "sum_sigma")
        xi = register(m, self._choice(m, "xi", {clock: term[1] for clock, term in terms.items()}), "sum_xi")
        spread = register(m, register(m, sigma * xi, "raw_spread"), "spread")
        step = register(m, round_shift(spread, GAUSS_FRACTION), "step")
        base = self._choice(m, "base", {clock + 4: term[2] for clock, term in terms.items()})
        total = register(m, base + step, "total")
        m.d.sync += limited.eq(saturate(Mux((total < 0) & self._at(folded + 5), -total, total), 0, G16_MAX))
        return total

    def _at(self, clock):
        return self.slot == clock % SLOTS

    def _choice(self, m, name, values):
        """Return the value of the clock; the first is the widest."""
        chosen = Signal.like(next(iter(values.values())), name=name)
        with m.Switch(self.slot):
            for clock, value in values.items():
                with m.Case(clock % SLOTS):
                    m.d.comb += chosen.eq(value)
        return chosen

    def _line(self, m, name, value, clock, until):
        """Return a function that tells what `value` was in `clock`, for every clock from then `until`."""
        stages = [value]
        for k in range(-(-(until - clock) // SLOTS)):
            stage = Signal(Value.cast(value).shape(), name=f"{name}_{k}", reset_less=True)
            with m.If(self._at(clock)):
                m.d.sync += stage.eq(stages[-1])
            stages.append(stage)
        return lambda when: stages[-(-(when - clock) // SLOTS)]
