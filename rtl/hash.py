"""The hash behind every random value: Threefry-2x32 (Salmon et al., SC 2011), a round a clock."""

from amaranth.hdl import Array, Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.params.formats import HASH_ROUNDS
from rtl.pipeline import register

__all__ = ["HASH_LATENCY", "PARITY", "ROTATIONS", "HashSignature", "SharedHash", "Threefry"]

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
"""Left rotation of the second word in round k modulo 8."""

PARITY = 0x1BD11BDA
"""The third key word is this, exclusive-or the other two."""

_GROUP = 4  # rounds between two additions of the key


def _clocks(rounds):
    """One a round, one an addition of the key."""
    return rounds + rounds // _GROUP + 1


HASH_LATENCY = _clocks(HASH_ROUNDS)
"""Clocks from a request to its words behind a `HashSignature`."""


class Threefry(wiring.Component):
    """Hash of a key and a counter, feed-forward: a request each clock, its words `latency` clocks later.

    `key0` (the seed) is not delayed along the pipeline: hold it while requests are inside. `key1` (purpose, chip and
    tile) may change with every request.

    Parameters
    ----------
    rounds : int
        1 to 20.

    Members
    -------
    key0, key1, counter, event : In(32)
    word0, word1 : Out(32)
        Of the request `latency` clocks before.
    """

    def __init__(self, *, rounds: int = HASH_ROUNDS):
        if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds not in range(1, 21):
            raise ValueError(f"rounds must be 1 to 20, not {rounds!r}")
        self._rounds = rounds
        super().__init__({
            "key0": In(32), "key1": In(32), "counter": In(32), "event": In(32),
            "word0": Out(32), "word1": Out(32),
        })

    @property
    def rounds(self) -> int:
        """Rounds of the hash."""
        return self._rounds

    @property
    def latency(self) -> int:
        """Clocks from request to words."""
        return _clocks(self._rounds)

    def elaborate(self, platform):
        """Lay out one register stage a round and one a key addition."""
        m = Module()
        key1 = register(m, self.key1, "key1_start")
        x0 = register(m, (self.counter + self.key0)[:32], "x0_start")
        x1 = register(m, (self.event + self.key1)[:32], "x1_start")
        for k in range(self._rounds):
            added = (k + 1) % _GROUP == 0
            if added:  # made ready during the round before its use, so that no clock holds two additions
                addend0, addend1 = self._addends(m, (k + 1) // _GROUP, key1)
            key1 = register(m, key1, f"key1_round{k}")
            total = Signal(32, name=f"total{k}")
            m.d.comb += total.eq(x0 + x1)
            turn = 32 - ROTATIONS[k % 8]
            x0 = register(m, total, f"x0_round{k}")
            x1 = register(m, Cat(x1[turn:], x1[:turn]) ^ total, f"x1_round{k}")
            if added:
                x0 = register(m, (x0 + addend0)[:32], f"x0_key{k}")
                x1 = register(m, (x1 + addend1)[:32], f"x1_key{k}")
                key1 = register(m, key1, f"key1_key{k}")
        m.d.comb += [self.word0.eq(x0), self.word1.eq(x1)]
        return m

    def _addends(self, m, index, key1):
        """Return the registered key words that addition `index` puts on the two words."""
        words = (self.key0, key1, Const(PARITY, 32) ^ self.key0 ^ key1)
        return (register(m, words[index % 3], f"addend0_{index}"),
                register(m, (words[(index + 1) % 3] + index)[:32], f"addend1_{index}"))


class HashSignature(wiring.Signature):
    """Seen from the user of a `Threefry`: a request, and the words of that of `HASH_LATENCY` clocks before."""

    def __init__(self):
        super().__init__({
            "key1": Out(32), "counter": Out(32), "event": Out(32), "word0": In(32), "word1": In(32),
        })


class SharedHash(wiring.Component):
    """One Threefry for users that never have requests inside at the same time.

    Members
    -------
    key0 : In(32)
    chosen : In
        Number of the user that asks now; every user sees all words.
    users : HashSignature
    """

    def __init__(self, *, users: int = 1):
        super().__init__({
            "key0": In(32), "chosen": In(range(users)), "users": In(HashSignature()).array(users),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.threefry = threefry = Threefry()
        m.d.comb += threefry.key0.eq(self.key0)
        for name in ("key1", "counter", "event"):
            m.d.comb += getattr(threefry, name).eq(Array(getattr(user, name) for user in self.users)[self.chosen])
        for user in self.users:
            m.d.comb += [user.word0.eq(threefry.word0), user.word1.eq(threefry.word1)]
        return m
