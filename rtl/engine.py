"""The engine: charges of a crossbar in closed form, one column a clock.

A chain of groups of W multipliers. Activations stay at the lanes; everything else hops from group to group, a group a
clock: the place that is read, the words that are loaded for later columns, writes, and the partial sum, which so meets
each group's products of its own column. Nothing is broadcast, so nothing gets slower as the chain gets longer.

With geometry.pump the chain has a faster clock of its own (`rtl/crossing.py`), in which each multiplier serves `pump`
lanes in turn and the chain's end adds up `pump` sums for one charge. The chip's clock does not see any of that.

Backward (geometry.backward), the column address takes an error delta with it, every lane adds delta * net to its own
row, and a drain wave then sends the rows' sums down the same chain.

Cost on ECP5: a hardware multiplier for `pump` lanes, a block RAM or two and W bytes of LUT RAM a group.
"""

import functools
import itertools
import operator

from amaranth.hdl import Cat, DomainRenamer, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from rtl.crossing import CALC, Middle
from rtl.delay import Delay
from rtl.params import ACTIVATION_BITS, Geometry
from rtl.primitives import BlockMemory, Multiplier

__all__ = ["BANKS", "Engine", "Issue", "Load", "NetWrite"]

BANKS = 4
"""Sets of activations at the lanes: one that multiplies, and others that are loaded meanwhile."""


class NetWrite(data.StructLayout):
    """One net to store: lane = row % lanes, address = net_base + (row // lanes) * columns + column."""

    def __init__(self, geometry: Geometry):
        super().__init__({
            "valid": 1,
            "lane": bits_for(geometry.lanes - 1),
            "address": ceil_log2(geometry.net_places),
            "net": signed(geometry.net_bits),
        })


class Load(data.StructLayout):
    """W activations of a bank, for lanes W * group to W * group + W - 1; with `first`, all its other lanes are 0."""

    def __init__(self, geometry: Geometry):
        super().__init__({
            "valid": 1,
            "first": 1,
            "bank": range(BANKS),
            "group": bits_for(geometry.lane_words - 1),
            "word": data.ArrayLayout(signed(ACTIVATION_BITS), geometry.transport),
        })


def _backward(geometry: Geometry) -> dict[str, object]:
    return {
        "backward": 1,
        "first": 1,
        "delta": signed(ACTIVATION_BITS),
        "drain": 1,
        "lane": bits_for(geometry.lanes - 1),
    } if geometry.backward else {}


class Issue(data.StructLayout):
    """One column to read, with the activations of a bank.

    With geometry.backward also: `backward` adds delta * net of the column to every lane's row sum, which begins anew
    with `first`; `drain` gives the row sum of `lane`. Neither reads forward.
    """

    def __init__(self, geometry: Geometry):
        super().__init__({
            "valid": 1,
            "address": ceil_log2(geometry.net_places),
            "bank": range(BANKS),
        } | _backward(geometry))


class _Read(data.StructLayout):
    """What a group does for an issue in one clock: lane `turn` of each of its multipliers."""

    def __init__(self, geometry: Geometry):
        super().__init__({
            "address": ceil_log2(geometry.net_words),
            "turn": range(geometry.pump),
            "bank": range(BANKS),
        } | _backward(geometry))


class _Write(data.StructLayout):
    """A net to store; `address` is that of the lane with turn 0."""

    def __init__(self, geometry: Geometry):
        super().__init__({
            "valid": 1,
            "lane": bits_for(geometry.lanes - 1),
            "address": ceil_log2(geometry.net_words),
            "net": signed(geometry.net_bits),
        })


def _tree_levels(terms: int) -> int:
    return ceil_log2(terms)


def _sum_tree(m, terms, bits):
    """Add `terms` pairwise with a register after each level; no level is wider than `bits`."""
    for level in range(_tree_levels(len(terms))):
        width = min(bits, terms[0].shape().width + 1)
        pairs = [terms[k:k + 2] for k in range(0, len(terms), 2)]
        terms = [Signal(signed(width), name=f"sum_{level}_{k}", reset_less=True) for k in range(len(pairs))]
        m.d.sync += [term.eq(sum(pair[1:], pair[0])) for term, pair in zip(terms, pairs, strict=True)]
    return terms[0]


def _later(m, value, clocks: int, name: str):
    """Return a value some clocks later."""
    for clock in range(clocks):
        after = Signal.like(value, name=f"{name}_{clock}", reset_less=True)
        m.d.sync += after.eq(value)
        value = after
    return value


class Group(wiring.Component):
    """W multipliers, the activations of W * pump lanes and their weight memory: one link of the chain.

    Members
    -------
    i_read, i_load, i_write, o_read, o_load, o_write
        What hops, one clock from i to o.
    i_sum, o_sum : signed charge
        Partial sum of a column: i_sum is expected one clock before o_sum leaves, `latency` clocks after i_read.
    """

    def __init__(self, *, geometry: Geometry, index: int):
        self.geometry = geometry
        self.index = index
        hops = {"read": _Read(geometry), "load": Load(geometry), "write": _Write(geometry)}
        super().__init__(
            {f"i_{name}": In(shape) for name, shape in hops.items()}
            | {f"o_{name}": Out(shape) for name, shape in hops.items()}
            | {"i_sum": In(signed(geometry.charge_bits)), "o_sum": Out(signed(geometry.charge_bits))})

    @staticmethod
    def latency_of(geometry: Geometry) -> int:
        """Return the clocks from i_read to o_sum: hop, memory, multiplier, tree, chain (and the drain's way in)."""
        return (1 + BlockMemory.latency + Group._multiplier_latency(geometry) + _tree_levels(geometry.transport) + 1
                + geometry.backward)

    @staticmethod
    def _multiplier_latency(geometry: Geometry) -> int:
        """Return the clocks from factors to product: with a clock of its own, one more for the way there or back."""
        return Multiplier.latency + (geometry.pump > 1)

    def elaborate(self, platform):
        m = Module()
        g = self.geometry

        read, load, write = (Signal(shape, name=name, reset_less=True) for name, shape in
                             (("read", _Read(g)), ("load", Load(g)), ("write", _Write(g))))
        m.d.sync += [read.eq(self.i_read), load.eq(self.i_load), write.eq(self.i_write)]
        m.d.comb += [self.o_read.eq(read), self.o_load.eq(load), self.o_write.eq(write)]

        # Nets are written while their tile is held: no word that is used was read in the clock of its own write.
        m.submodules.weights = weights = BlockMemory(depth=g.net_words, parts=g.transport, shape=signed(g.net_bits))
        m.d.comb += weights.address.eq(read.address)
        self._write(m, write, weights)

        active = self._activations(m, read, load)
        # Multipliers of logic take their factors in many places and have no registers for them; hard ones are far away.
        soft = g.soft(self.index)
        before, behind = (g.pump > 1) * soft, (g.pump > 1) * (not soft)
        products = []
        for k in range(g.transport):
            multiplier = Multiplier(a_bits=g.net_bits, b_bits=ACTIVATION_BITS, soft=soft)
            m.submodules[f"multiplier_{k}"] = multiplier
            m.d.comb += [multiplier.a.eq(_later(m, weights.word[k], before, f"net_{k}")),
                         multiplier.b.eq(_later(m, active[k], before, f"activation_{k}"))]
            products.append(_later(m, multiplier.p, behind, f"product_{k}"))

        total = Signal(signed(g.charge_bits), reset_less=True)
        charge = _sum_tree(m, products, g.charge_bits)
        if g.backward:
            charge = self._rows(m, read, products, charge)
        m.d.sync += total.eq(self.i_sum + charge)
        m.d.comb += self.o_sum.eq(total)
        return m

    def _word(self, turn):
        """Number of the word of W lanes that the multipliers serve in their turn."""
        return self.index * self.geometry.pump + turn

    def _lane(self, turn, k):
        return self._word(turn) * self.geometry.transport + k

    def _write(self, m, write, weights):
        """Decode the lane: lanes need not be a power of two per group, so each net compares for itself."""
        g = self.geometry
        mine = Signal(data.ArrayLayout(g.transport, g.pump), reset_less=True)
        address, net = (_later(m, value, 1, name) for name, value in
                        (("w_address", write.address), ("w_net", write.net)))
        m.d.sync += [mine[turn][k].eq(write.valid & (write.lane == self._lane(turn, k)))
                     for turn in range(g.pump) for k in range(g.transport)]
        mask = functools.reduce(operator.or_, mine)
        if g.pump > 1:
            turn = functools.reduce(operator.or_, (Mux(mine[turn].any(), turn, 0) for turn in range(g.pump)))
            mask, address, net = (_later(m, value, 1, name) for name, value in
                                  (("mask", mask), ("base", (address + turn)[:len(address)]), ("later_net", net)))
        m.d.comb += [weights.w_mask.eq(mask), weights.w_address.eq(address), weights.w_part.eq(net)]

    def _activations(self, m, read, load):
        """Return what the multipliers take when the net is there: of a bank that is not being loaded."""
        g = self.geometry
        word = data.ArrayLayout(signed(ACTIVATION_BITS), g.transport)
        m.submodules.activations = banks = memory.Memory(shape=word, depth=BANKS << ceil_log2(g.pump), init=[])
        store, fetch = banks.write_port(), banks.read_port(domain="comb")
        own = Signal(g.pump, reset_less=True)  # the turn that is loaded, if it is one of this group
        begins = Signal(reset_less=True)
        bank, turn, new = (Signal.like(value, name=f"load_{name}", reset_less=True)
                           for name, value in (("bank", load.bank), ("turn", read.turn), ("word", load.word)))
        m.d.sync += [begins.eq(load.valid & load.first), bank.eq(load.bank), new.eq(load.word)]
        for k in range(g.pump):
            m.d.sync += own[k].eq(load.valid & (load.group == self._word(k)))
            with m.If(load.group == self._word(k)):
                m.d.sync += turn.eq(k)
        m.d.comb += [store.en.eq(own.any()), store.addr.eq(Cat(turn, bank)), store.data.eq(new)]

        loaded = Signal(data.ArrayLayout(g.pump, BANKS), reset_less=True)
        m.d.sync += loaded[bank].eq(Mux(begins, 0, loaded[bank]) | own)

        now = Cat(read.turn, read.bank)
        place = _later(m, now, BlockMemory.latency - 1, "place")
        # With several turns there is time to look a clock ahead, and more to look among.
        at, ahead = (now, 1) if g.pump > 1 else (place, 0)
        turns = len(read.turn)
        live = _later(m, loaded[at[turns:]].bit_select(at[:turns], 1), ahead, "live")
        active = Signal(word, reset_less=True)
        m.d.comb += fetch.addr.eq(place)
        m.d.sync += active.eq(Mux(live, fetch.data, 0))
        if not g.backward:
            return active

        back, delta = (_later(m, value, BlockMemory.latency, name) for name, value in
                       (("back", read.backward | read.drain), ("delta", Mux(read.drain, 0, read.delta))))
        return [Mux(back, delta, active[k]) for k in range(g.transport)]

    def _rows(self, m, read, products, charge):
        """Row sums of the lanes, each in its turn, and the one that a drain asks for in place of the products' sum."""
        g = self.geometry
        at_product = BlockMemory.latency + self._multiplier_latency(g)
        add, first, drain, lane, turn = (_later(m, value, at_product, f"row_{name}") for name, value in (
            ("add", read.backward), ("first", read.first), ("drain", read.drain), ("lane", read.lane),
            ("turn", read.turn)))
        picked = Signal(signed(g.charge_bits))
        for k, product in enumerate(products):
            # The sums of a multiplier's lanes go round: the last one is that of the lane whose product is there.
            rows = [Signal(signed(g.charge_bits), name=f"row_{k}_{turn}", reset_less=True) for turn in range(g.pump)]
            m.d.sync += [after.eq(row) for row, after in itertools.pairwise(rows)]
            m.d.sync += rows[0].eq(Mux(add, Mux(first, 0, rows[-1]) + product, rows[-1]))
            for own in range(g.pump):
                with m.If((lane == self._lane(own, k)) & (turn == own)):
                    m.d.comb += picked.eq(rows[-1])
        levels = _tree_levels(g.transport)
        merged = Signal(signed(g.charge_bits), reset_less=True)
        m.d.sync += merged.eq(Mux(_later(m, drain, levels, "draining"), _later(m, picked, levels, "picked"), charge))
        return merged


class Engine(wiring.Component):
    """Column dot products of up to `lanes` rows, one a clock, with no back-pressure.

    A load must be sent a clock before the first issue that uses it, and after the last issue that uses what the bank
    held before. A write is stored `groups` + 4 clocks later at the latest, with pump > 1 one more.

    Parameters
    ----------
    geometry : Geometry
        With pump > 1 there is a domain `calc` (`rtl/crossing.py`), `pump` times as fast.
    tag : ShapeLike
        What travels with a column.

    Members
    -------
    issue : Issue, in
    tag : tag, in
        Given back with the charge of that issue.
    load : Load, in
    write : NetWrite, in
    o_valid, o_tag, charge : out
        A forward column sum or a drained row sum, `latency` clocks after its issue; signed, never wraps.
    """

    def __init__(self, *, geometry: Geometry, tag=1):
        self.geometry = geometry
        self.tag_shape = tag
        super().__init__({
            "issue": In(Issue(geometry)),
            "tag": In(tag),
            "load": In(Load(geometry)),
            "write": In(NetWrite(geometry)),
            "o_valid": Out(1),
            "o_tag": Out(tag),
            "charge": Out(signed(geometry.charge_bits)),
        })

    @property
    def _chain_latency(self) -> int:
        """Clocks of the chain from a read to its sum."""
        return Group.latency_of(self.geometry) + self.geometry.groups - 1

    @property
    def latency(self) -> int:
        """Clocks from `issue` to `charge`: those of the chain; with pump > 1 three more for the ways in and out."""
        if self.geometry.pump == 1:
            return self._chain_latency
        return 3 + -(-(self._chain_latency + 1) // self.geometry.pump)

    def elaborate(self, platform):
        m = Module()
        g = self.geometry

        read, write = Signal(_Read(g)), Signal(_Write(g))
        for ours, theirs in ((read, self.issue), (write, self.write)):
            m.d.comb += [ours[name].eq(theirs[name]) for name in ours.shape().members if name != "turn"]
            # Sums of shifts: synthesis would take a hardware multiplier for a product.
            m.d.comb += ours.address.eq(sum(theirs.address << k for k in range(3) if g.pump >> k & 1))
        if g.backward:
            m.d.comb += read.backward.eq(self.issue.valid & self.issue.backward)

        if g.pump == 1:
            m.d.comb += self.charge.eq(self._chain(m, "sync", read, self.load, write))
        else:
            m.submodules.middle = middle = Middle(pump=g.pump)
            hops = [self._taken(m, middle.tick, name, value)
                    for name, value in (("read", read), ("load", self.load), ("write", write))]
            with m.If(~middle.tick):
                m.d[CALC] += [hops[0].address.eq(hops[0].address + 1), hops[0].turn.eq(hops[0].turn + 1)]
            self._give(m, middle.tick, self._chain(m, CALC, *hops))

        m.submodules.tags = tags = Delay(shape=self.tag_shape, clocks=self.latency)
        sums = self.issue.valid
        if g.backward:
            sums &= self.issue.drain | ~self.issue.backward
        m.d.comb += [tags.i.eq(self.tag), tags.i_valid.eq(sums), self.o_valid.eq(tags.o_valid),
                     self.o_tag.eq(tags.o)]
        return m

    def _chain(self, m, domain, read, load, write):
        """Join the groups, in a clock domain; return the sum of a read, `_chain_latency` clocks later."""
        total = 0
        for index in range(self.geometry.groups):
            group = Group(geometry=self.geometry, index=index)
            m.submodules[f"group_{index}"] = DomainRenamer(domain)(group)
            m.d.comb += [group.i_read.eq(read), group.i_load.eq(load), group.i_write.eq(write), group.i_sum.eq(total)]
            read, load, write, total = group.o_read, group.o_load, group.o_write, group.o_sum
        return total

    @staticmethod
    def _taken(m, tick, name, value):
        """Return a value of the chip's clock in the calculation's; what is loaded or stored is so once a turn."""
        held, taken = (Signal(value.shape(), name=f"{name}_{where}", reset_less=True) for where in ("held", "taken"))
        m.d.sync += held.eq(value)
        with m.If(tick):
            m.d[CALC] += taken.eq(held)
        return taken

    def _give(self, m, tick, total):
        """Add up the sums of all turns; the charge is complete when it may leave."""
        charge, given = (Signal.like(self.charge, name=name, reset_less=True) for name in ("sum", "given"))
        for clock in range((-1 - self._chain_latency) % self.geometry.pump):
            after = Signal.like(total, name=f"total_{clock}", reset_less=True)
            m.d[CALC] += after.eq(total)
            total = after
        with m.If(tick):
            m.d[CALC] += [given.eq(charge), charge.eq(total)]
        with m.Else():
            m.d[CALC] += charge.eq(charge + total)
        left = Signal.like(self.charge, name="left", reset_less=True)
        m.d.sync += left.eq(given)
        m.d.comb += self.charge.eq(left)
