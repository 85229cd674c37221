"""The engine: charges of a crossbar in closed form, one column a clock.

A chain of groups of W lanes. Activations stay at the lanes; everything else hops from group to group, a group a clock:
the address that is read, the command to swap new activations in, the words that are loaded for the next swap, writes,
and the partial sum, which so meets each group's products of its own column. Nothing is broadcast, so nothing gets
slower as the chain gets longer.

Backward (geometry.backward), the column address takes an error delta with it, every lane adds delta * net to its own
row, and a drain wave then sends the rows' sums down the same chain.

Cost on ECP5: a hardware multiplier a lane, a block RAM or two a group.
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from rtl.delay import Delay
from rtl.params import ACTIVATION_BITS, Geometry
from rtl.primitives import BlockMemory, Multiplier

__all__ = ["Engine", "Issue", "Load", "NetWrite"]


class NetWrite(data.StructLayout):
    """One net to store: lane = row % lanes, address = net_base + (row // lanes) * columns + column."""

    def __init__(self, geometry: Geometry):
        super().__init__({
            "valid": 1,
            "lane": bits_for(geometry.lanes - 1),
            "address": ceil_log2(geometry.net_words),
            "net": signed(geometry.net_bits),
        })


class Load(data.StructLayout):
    """W activations for the shadow registers of one group."""

    def __init__(self, geometry: Geometry):
        super().__init__({
            "valid": 1,
            "group": bits_for(geometry.lane_words - 1),
            "word": data.ArrayLayout(signed(ACTIVATION_BITS), geometry.transport),
        })


class Issue(data.StructLayout):
    """One column to read, after a `swap` with the activations loaded before.

    With geometry.backward also: `backward` adds delta * net of the column to every lane's row sum, which begins anew
    with `first`; `drain` gives the row sum of `lane`. Neither reads forward.
    """

    def __init__(self, geometry: Geometry):
        backward = {
            "backward": 1,
            "first": 1,
            "delta": signed(ACTIVATION_BITS),
            "drain": 1,
            "lane": bits_for(geometry.lanes - 1),
        }
        super().__init__({
            "valid": 1,
            "address": ceil_log2(geometry.net_words),
            "swap": 1,
        } | (backward if geometry.backward else {}))


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
    for clock in range(clocks):
        after = Signal.like(value, name=f"{name}_{clock}", reset_less=True)
        m.d.sync += after.eq(value)
        value = after
    return value


class Group(wiring.Component):
    """W lanes and their weight memory: one link of the chain.

    Members
    -------
    i_issue, i_load, i_write, o_issue, o_load, o_write
        What hops, one clock from i to o.
    i_sum, o_sum : signed charge
        Partial sum of a column: i_sum is expected one clock before o_sum leaves, `latency` clocks after i_issue.
    """

    def __init__(self, *, geometry: Geometry, index: int):
        self.geometry = geometry
        self.index = index
        hops = {"issue": Issue(geometry), "load": Load(geometry), "write": NetWrite(geometry)}
        super().__init__(
            {f"i_{name}": In(shape) for name, shape in hops.items()}
            | {f"o_{name}": Out(shape) for name, shape in hops.items()}
            | {"i_sum": In(signed(geometry.charge_bits)), "o_sum": Out(signed(geometry.charge_bits))})

    @staticmethod
    def latency_of(geometry: Geometry) -> int:
        """Return the clocks from i_issue to o_sum: hop, memory, multiplier, tree, chain (and the drain's way in)."""
        return (1 + BlockMemory.latency + Multiplier.latency + _tree_levels(geometry.transport) + 1
                + geometry.backward)

    def elaborate(self, platform):
        m = Module()
        g = self.geometry

        issue, load, write = (Signal(shape, name=name, reset_less=True) for name, shape in
                              (("issue", Issue(g)), ("load", Load(g)), ("write", NetWrite(g))))
        m.d.sync += [issue.eq(self.i_issue), load.eq(self.i_load), write.eq(self.i_write)]
        m.d.comb += [self.o_issue.eq(issue), self.o_load.eq(load), self.o_write.eq(write)]

        # Nets are written while their tile is held: no word that is used was read in the clock of its own write.
        m.submodules.weights = weights = BlockMemory(depth=g.net_words, parts=g.transport, shape=signed(g.net_bits))
        m.d.comb += weights.address.eq(issue.address)
        self._write(m, write, weights)

        active = self._activations(m, issue, load)
        products = []
        for k in range(g.transport):
            multiplier = Multiplier(a_bits=g.net_bits, b_bits=ACTIVATION_BITS)
            m.submodules[f"multiplier_{k}"] = multiplier
            m.d.comb += [multiplier.a.eq(weights.word[k]), multiplier.b.eq(active[k])]
            products.append(multiplier.p)

        total = Signal(signed(g.charge_bits), reset_less=True)
        charge = _sum_tree(m, products, g.charge_bits)
        if g.backward:
            charge = self._rows(m, issue, products, charge)
        m.d.sync += total.eq(self.i_sum + charge)
        m.d.comb += self.o_sum.eq(total)
        return m

    def _lane(self, k):
        return self.index * self.geometry.transport + k

    def _write(self, m, write, weights):
        """Decode the lane: lanes need not be a power of two per group, so each net compares for itself."""
        mask = Signal(self.geometry.transport, reset_less=True)
        address, net = (Signal.like(value, name=name, reset_less=True)
                        for name, value in (("w_address", weights.w_address), ("w_net", weights.w_part)))
        m.d.sync += [mask[k].eq(write.valid & (write.lane == self._lane(k))) for k in range(self.geometry.transport)]
        m.d.sync += [address.eq(write.address), net.eq(write.net)]
        m.d.comb += [weights.w_mask.eq(mask), weights.w_address.eq(address), weights.w_part.eq(net)]

    def _activations(self, m, issue, load):
        """Shadow registers, loaded at any time, and the ones that multiply, which change with the first column."""
        word = data.ArrayLayout(signed(ACTIVATION_BITS), self.geometry.transport)
        shadow, active = (Signal(word, name=name, reset_less=True) for name in ("shadow", "active"))
        with m.If(load.valid & (load.group == self.index)):
            m.d.sync += shadow.eq(load.word)
        swap = Signal(reset_less=True)
        m.d.comb += swap.eq(issue.valid & issue.swap)
        with m.If(_later(m, swap, BlockMemory.latency - 1, "swap")):
            m.d.sync += active.eq(shadow)
        if not self.geometry.backward:
            return active

        back, delta = (_later(m, value, BlockMemory.latency, name) for name, value in
                       (("back", issue.backward | issue.drain), ("delta", Mux(issue.drain, 0, issue.delta))))
        return [Mux(back, delta, active[k]) for k in range(self.geometry.transport)]

    def _rows(self, m, issue, products, charge):
        """Row sums of the lanes, and the one that a drain asks for in place of the products' sum."""
        g = self.geometry
        at_product = BlockMemory.latency + Multiplier.latency
        add, first, drain, lane = (_later(m, value, at_product, f"row_{name}") for name, value in (
            ("add", issue.valid & issue.backward), ("first", issue.first), ("drain", issue.drain),
            ("lane", issue.lane)))
        rows = [Signal(signed(g.charge_bits), name=f"row_{k}", reset_less=True) for k in range(g.transport)]
        with m.If(add):
            m.d.sync += [row.eq(Mux(first, 0, row) + product) for row, product in zip(rows, products, strict=True)]

        picked = Signal(signed(g.charge_bits))
        with m.Switch(lane):
            for k, row in enumerate(rows):
                with m.Case(self._lane(k)):
                    m.d.comb += picked.eq(row)
        levels = _tree_levels(g.transport)
        merged = Signal(signed(g.charge_bits), reset_less=True)
        m.d.sync += merged.eq(Mux(_later(m, drain, levels, "draining"), _later(m, picked, levels, "picked"), charge))
        return merged


class Engine(wiring.Component):
    """Column dot products of up to `lanes` rows, one a clock, with no back-pressure.

    A load may be sent with the swap that uses it or earlier, and from the clock after a swap for the next one. A write
    is stored `lanes / W` + 3 clocks later at the latest.

    Parameters
    ----------
    geometry : Geometry
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
    def latency(self) -> int:
        """Clocks from `issue` to `charge`."""
        return Group.latency_of(self.geometry) + self.geometry.lane_words - 1

    def elaborate(self, platform):
        m = Module()
        g = self.geometry

        issue, load, write, total = self.issue, self.load, self.write, 0
        for index in range(g.lane_words):
            m.submodules[f"group_{index}"] = group = Group(geometry=g, index=index)
            m.d.comb += [group.i_issue.eq(issue), group.i_load.eq(load), group.i_write.eq(write),
                         group.i_sum.eq(total)]
            issue, load, write, total = group.o_issue, group.o_load, group.o_write, group.o_sum
        m.d.comb += self.charge.eq(total)

        m.submodules.tags = tags = Delay(shape=self.tag_shape, clocks=self.latency)
        sums = self.issue.valid
        if g.backward:
            sums &= self.issue.drain | ~self.issue.backward
        m.d.comb += [tags.i.eq(self.tag), tags.i_valid.eq(sums), self.o_valid.eq(tags.o_valid),
                     self.o_tag.eq(tags.o)]
        return m
