"""One memory device at a time through a pipeline: what a pulse leaves behind, or what an age makes of a state.

The steps are those of `sim/device.py`. A pulse and the relaxation of an ageing device are the same sum, a conductance
and a spread that depends on it, so they share table, multiplier and hash; operations never mix the two.

Cost on ECP5 (synth_ecp5): six 18 x 18 multipliers, seven block RAMs, 3,800 registers, 3,100 LUTs, most of them two
hashes. One device a clock.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.context import settings_layout
from rtl.delay import Delay
from rtl.fixed import round_shift, saturate
from rtl.gauss import Gaussian
from rtl.hash import Threefry
from rtl.params import Geometry, Purpose, Table
from rtl.params.formats import (
    CODE_BITS,
    CODE_MAX,
    EXP2_BITS,
    EXP2_INDEX_BITS,
    EXPONENT_BITS,
    EXPONENT_FRACTION,
    G16_BITS,
    G16_MAX,
    GAUSS_FRACTION,
    GAUSS_INDEX_BITS,
    LOG_TIME_FRACTION,
    NU_FRACTION,
    exp2_table,
)
from rtl.pipeline import delay, register

__all__ = ["Device", "DeviceRequest", "TableWrite", "state_code"]

_INDEX_BITS = 8
_TABLE_BITS = 16
_ENTRIES = 1 << _INDEX_BITS


class TableWrite(data.Struct):
    """One entry of a `Table` to store."""

    valid: unsigned(1)
    table: unsigned(3)
    index: unsigned(_INDEX_BITS)
    value: unsigned(_TABLE_BITS)


class DeviceRequest(data.Struct):
    """A device: the state (g16) to age, or the amplitude (g16) of a pulse, and its place in the hash."""

    aging: unsigned(1)
    g16: unsigned(G16_BITS)
    device: unsigned(4)
    column: unsigned(14)
    row: unsigned(14)
    iteration: unsigned(8)


def state_code(state):
    """Return the present conductance of a device that neither relaxed nor drifted yet."""
    return _code(Cat(Const(0, G16_BITS - len(state)), state))


def _code(g16):
    return saturate(round_shift(g16, G16_BITS - CODE_BITS), 0, CODE_MAX)


class Device(wiring.Component):
    """Pulse or age a device, feed-forward: a request each clock, its result `latency` clocks later.

    Members
    -------
    settings, tile : In
        Seed, chip, epoch, age and log_time, and the logical tile: steady while requests are inside.
    table_write : TableWrite, in
    i : DeviceRequest, in
    state : Out(state_bits)
        Left by a pulse.
    code : Out(8)
        Present conductance of an aged device.
    """

    def __init__(self, *, geometry: Geometry):
        self.geometry = geometry
        self._hash, self._gauss = Threefry(), Gaussian()
        self._sampled = self._hash.latency + self._gauss.latency
        super().__init__({
            "settings": In(settings_layout), "tile": In(16), "table_write": In(TableWrite),
            "i": In(DeviceRequest), "state": Out(geometry.state_bits), "code": Out(CODE_BITS),
        })

    @property
    def latency(self) -> int:
        """Clocks from request to result."""
        return self._sampled + 23

    def elaborate(self, platform):
        m = Module()

        # Clocks are counted from the request. `sampled` is the clock of the first two Gaussian samples.
        sampled = self._sampled
        word0, word1, word_flicker = self._hashes(m)
        xi_spread = self._gaussian(m, "gauss_spread", self._gauss, word0)
        xi_nu = self._gaussian(m, "gauss_nu", Gaussian(), word1)
        aging, g16 = self._delayed(m, "lookup", Cat(self.i.aging, self.i.g16), sampled - 2, split=1)

        # sampled - 2: tables; sampled: multiplied; + 2: rounded; + 3: added; + 4: limited
        sigma, nu_mean, nu_sigma = self._tables(m, aging, g16[-_INDEX_BITS:])
        step = register(m, round_shift(self._multiply(m, "spread", sigma, xi_spread), GAUSS_FRACTION), "spread_step")
        total = register(m, delay(m, g16, 5, "g16") + step, "spread_total")
        x = register(m, saturate(total, 0, G16_MAX), "x")
        step = register(m, round_shift(self._multiply(m, "nu", nu_sigma, xi_nu), GAUSS_FRACTION), "nu_step")
        total = register(m, delay(m, nu_mean, 3, "nu_mean") + step, "nu_total")
        nu = register(m, saturate(Mux(total < 0, -total, total), 0, (1 << NU_FRACTION) - 1), "nu")

        drifted = self._drift(m, x, nu)  # sampled + 5 to + 15
        code = self._flicker(m, drifted, g16, word_flicker)  # sampled + 15 to + 22
        m.d.sync += self.code.eq(code)

        state_bits = self.geometry.state_bits
        state = register(m, saturate(round_shift(x, G16_BITS - state_bits), 0, (1 << state_bits) - 1), "pulsed")
        m.d.comb += self.state.eq(self._delayed(m, "state_delay", state, 17))
        return m

    def _hashes(self, m):
        """Return the words of pulse or static variation, and the first word of the 1/f noise, of one request."""
        settings, i = self.settings, self.i
        place = Cat(self.tile, settings.chip)
        m.submodules.hash = spread = self._hash
        m.submodules.hash_flicker = flicker = Threefry()
        m.d.comb += [
            spread.key1.eq(Cat(place, Mux(i.aging, Const(Purpose.STATIC, 8), Const(Purpose.PULSE, 8)))),
            spread.event.eq(Cat(Const(0, 4), Mux(i.aging, 0, i.iteration), Const(0, 12), settings.epoch)),
            flicker.key1.eq(Cat(place, Const(Purpose.FLICKER, 8))),
            flicker.event.eq(Cat(Const(0, 4), settings.age, settings.epoch)),
        ]
        for hashed in (spread, flicker):
            m.d.comb += [hashed.key0.eq(settings.seed), hashed.counter.eq(Cat(i.device, i.column, i.row))]
        return spread.word0, spread.word1, flicker.word0

    def _tables(self, m, aging, index):
        """Return spread, mean and spread of the exponent, two clocks after the index."""
        write = self.table_write
        m.submodules.spreads = spreads = Memory(shape=unsigned(_TABLE_BITS), depth=2 * _ENTRIES, init=[])
        m.submodules.exponents = exponents = Memory(
            shape=data.ArrayLayout(unsigned(_TABLE_BITS), 2), depth=_ENTRIES, init=[])
        store, read = spreads.write_port(), spreads.read_port()
        m.d.comb += [
            store.addr.eq(Cat(write.index, write.table == Table.RELAX_SIGMA)), store.data.eq(write.value),
            store.en.eq(write.valid & ((write.table == Table.PULSE_SIGMA) | (write.table == Table.RELAX_SIGMA))),
            read.addr.eq(Cat(index, aging)), read.en.eq(1),
        ]
        store, read_nu = exponents.write_port(granularity=1), exponents.read_port()
        m.d.comb += [store.addr.eq(write.index), read_nu.addr.eq(index), read_nu.en.eq(1)]
        for k, table in enumerate((Table.NU_MEAN, Table.NU_SIGMA)):
            m.d.comb += [store.data[k].eq(write.value), store.en[k].eq(write.valid & (write.table == table))]
        return (register(m, read.data, "sigma"), register(m, read_nu.data[0], "nu_mean"),
                register(m, read_nu.data[1], "nu_sigma"))

    def _drift(self, m, relaxed, nu):
        """Return relaxed * 2**-(nu * log_time), rounded, ten clocks later."""
        log_time = register(m, self.settings.log_time, "log_time")
        product = self._multiply(m, "exponent", nu, log_time)
        drop = NU_FRACTION + LOG_TIME_FRACTION - EXPONENT_FRACTION
        exponent = register(m, saturate(product >> drop, 0, (1 << EXPONENT_BITS) - 1), "exponent")

        m.submodules.exp2 = exp2 = Memory(shape=unsigned(EXP2_BITS), depth=1 << EXP2_INDEX_BITS, init=exp2_table())
        read = exp2.read_port()
        m.d.comb += [read.addr.eq(exponent[EXPONENT_FRACTION - EXP2_INDEX_BITS:EXPONENT_FRACTION]), read.en.eq(1)]
        factor = register(m, read.data, "factor")
        product = self._multiply(m, "drift", delay(m, relaxed, 5, "relaxed"), factor)

        octaves = delay(m, exponent[EXPONENT_FRACTION:], 4, "octaves")
        coarse = register(m, product[EXP2_BITS - 1:] >> Cat(Const(0, 2), octaves[2:]), "coarse")
        fine = register(m, coarse >> register(m, octaves[:2], "octaves_fine"), "fine")
        return register(m, ((fine + 1) >> 1)[:G16_BITS], "drifted")

    def _flicker(self, m, drifted, g16, word):
        """Return the code of the drifted conductance with its 1/f noise, seven clocks later, not yet registered."""
        m.submodules.flicker = memory = Memory(shape=unsigned(_TABLE_BITS), depth=_ENTRIES, init=[])
        store, read = memory.write_port(), memory.read_port()
        m.d.comb += [
            store.addr.eq(self.table_write.index), store.data.eq(self.table_write.value),
            store.en.eq(self.table_write.valid & (self.table_write.table == Table.FLICKER)),
            read.addr.eq(self._delayed(m, "index_delay", g16[-_INDEX_BITS:], 15)), read.en.eq(1),
        ]
        share = register(m, read.data, "share")
        sigma = self._multiply(m, "share", drifted, share)[NU_FRACTION:]

        used = word[:2 * GAUSS_INDEX_BITS]
        wait = self._sampled + 17 - self._gauss.latency - self._hash.latency
        xi = self._gaussian(m, "gauss_flicker", Gaussian(), self._delayed(m, "word_delay", used, wait))
        noise = register(m, round_shift(self._multiply(m, "noise", sigma, xi), GAUSS_FRACTION), "noise")
        total = register(m, delay(m, drifted, 5, "drifted") + noise, "present_total")
        return _code(register(m, saturate(total, 0, G16_MAX), "present"))

    @staticmethod
    def _multiply(m, name, a, b):
        """Return the product two clocks later: registers right behind the multiplier, and once more."""
        shape = (a * b).shape()
        product = Signal(shape, name=f"{name}_product", reset_less=True)
        after = Signal(shape, name=f"{name}_after", reset_less=True)
        m.d.sync += [product.eq(a * b), after.eq(product)]
        return after

    @staticmethod
    def _gaussian(m, name, gaussian, word):
        m.submodules[name] = gaussian
        m.d.comb += gaussian.word.eq(word)
        return gaussian.xi

    @staticmethod
    def _delayed(m, name, value, clocks, split=0):
        """Return `value` of `clocks` clocks before; with `split`, its first bits and the others apart."""
        m.submodules[name] = ring = Delay(shape=unsigned(len(value)), clocks=clocks)
        m.d.comb += ring.i.eq(value)
        return (ring.o[:split], ring.o[split:]) if split else ring.o
