"""The hash behind every random value: Threefry-2x32 (Salmon et al., SC 2011), a round a clock."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.params.formats import HASH_ROUNDS

__all__ = ["PARITY", "ROTATIONS", "Threefry"]

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
"""Left rotation of the second word in round k modulo 8."""

PARITY = 0x1BD11BDA
"""The third key word is this, exclusive-or the other two."""

_GROUP = 4  # rounds between two additions of the key


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
        if isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= 20:
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
        """Clocks from request to words: one a round, one an addition of the key."""
        return self._rounds + self._rounds // _GROUP + 1

    def elaborate(self, platform):
        """Lay out one register stage a round and one a key addition."""
        m = Module()
        key1 = self._register(m, "key1_start", self.key1)
        x0 = self._register(m, "x0_start", self.counter + self.key0)
        x1 = self._register(m, "x1_start", self.event + self.key1)
        for k in range(self._rounds):
            added = (k + 1) % _GROUP == 0
            if added:  # made ready during the round before its use, so that no clock holds two additions
                addend0, addend1 = self._addends(m, (k + 1) // _GROUP, key1)
            key1 = self._register(m, f"key1_round{k}", key1)
            total = Signal(32, name=f"total{k}")
            m.d.comb += total.eq(x0 + x1)
            turn = 32 - ROTATIONS[k % 8]
            x0 = self._register(m, f"x0_round{k}", total)
            x1 = self._register(m, f"x1_round{k}", Cat(x1[turn:], x1[:turn]) ^ total)
            if added:
                x0 = self._register(m, f"x0_key{k}", x0 + addend0)
                x1 = self._register(m, f"x1_key{k}", x1 + addend1)
                key1 = self._register(m, f"key1_key{k}", key1)
        m.d.comb += [self.word0.eq(x0), self.word1.eq(x1)]
        return m

    def _addends(self, m, index, key1):
        """Return the registered key words that addition `index` puts on the two words."""
        words = (self.key0, key1, Const(PARITY, 32) ^ self.key0 ^ key1)
        return (self._register(m, f"addend0_{index}", words[index % 3]),
                self._register(m, f"addend1_{index}", words[(index + 1) % 3] + index))

    @staticmethod
    def _register(m, name, value):
        register = Signal(32, name=name, reset_less=True)
        m.d.sync += register.eq(value)
        return register
