"""The states of one device of every cell: more words than a block RAM has, read at the block RAM's own speed.

Banks of one block RAM's depth side by side, with registers between every two of: address, banks, and the multiplexers
that choose among them.
"""

from amaranth.hdl import Array, Module, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.pipeline import delay, register
from rtl.primitives import BlockMemory

__all__ = ["StateMemory"]

_BANK_BITS = 11
_CHOICE_BITS = 3
"""A clock chooses one of so many (a power of two) banks."""


class StateMemory(wiring.Component):
    """One word read and one written each clock, in the order of the clocks.

    Parameters
    ----------
    depth, bits : int
        Words, and bits of each.

    Members
    -------
    address : in
    state : out
        The word there, `latency` clocks later. A word asked for in the clock of its own write is undefined on a board.
    w_en, w_address, w_state : in
        A word to write: every later clock reads it.
    """

    def __init__(self, *, depth: int, bits: int):
        self.depth = depth
        self.bits = bits
        super().__init__({
            "address": In(ceil_log2(depth)), "state": Out(bits),
            "w_en": In(1), "w_address": In(ceil_log2(depth)), "w_state": In(bits),
        })

    @staticmethod
    def banks_of(depth: int) -> int:
        """Return the block memories side by side."""
        return -(-depth // (1 << _BANK_BITS))

    @property
    def banks(self) -> int:
        """Block memories side by side."""
        return self.banks_of(self.depth)

    @property
    def latency(self) -> int:
        """Clocks from `address` to `state`: address, bank, choices."""
        return 1 + BlockMemory.latency + -(-ceil_log2(self.banks) // _CHOICE_BITS)

    def elaborate(self, platform):
        m = Module()
        address = register(m, self.address, "address")
        w_address, w_state = register(m, self.w_address, "w_address"), register(m, self.w_state, "w_state")

        words = []
        for k in range(self.banks):
            depth = min(self.depth - (k << _BANK_BITS), 1 << _BANK_BITS)
            m.submodules[f"bank_{k}"] = bank = BlockMemory(depth=depth, parts=1, shape=unsigned(self.bits))
            w_en = register(m, self.w_en & (self.w_address[_BANK_BITS:] == k), f"w_en_{k}", reset_less=False)
            m.d.comb += [bank.address.eq(address), bank.w_address.eq(w_address), bank.w_mask.eq(w_en),
                         bank.w_part.eq(w_state)]
            words.append(bank.word[0])

        choice = delay(m, address[_BANK_BITS:], BlockMemory.latency, "choice")
        level = 0
        while len(words) > 1:
            among = [Array(words[k:k + (1 << _CHOICE_BITS)]) for k in range(0, len(words), 1 << _CHOICE_BITS)]
            words = [register(m, group[choice[:_CHOICE_BITS]], f"chosen_{level}_{k}") for k, group in enumerate(among)]
            choice = register(m, choice[_CHOICE_BITS:], f"choice_{level}")
            level += 1
        m.d.comb += self.state.eq(words[0])
        return m
