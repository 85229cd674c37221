"""The digital unit's instruction: one nested loop of vector words through one pipeline.

for i2 < n2: for i1 < n1: for i0 < n0:
    x = a[a.base + i0 a.s0 + i1 a.s1 + i2 a.s2] `operation` b[...]      W elements at once
reduced over i0 (unless `reduce` is NONE), then round(x / 2**shift), `post`, saturated and stored at
d.base + i0 d.s0 + i1 d.s1 + i2 d.s2 or sent into the mesh.
"""

import dataclasses
import enum

from rtl.params.formats import POSITION_BITS


class Operation(enum.IntEnum):
    """Element-wise operation on A and B, 24-bit signed; a product keeps 48 bits until the shift."""

    PASS = 0
    ADD = 1
    SUB = 2
    MUL = 3
    MAX = 4
    MIN = 5


class Reduce(enum.IntEnum):
    """What happens over the inner loop: one result per inner loop unless NONE."""

    NONE = 0
    SUM = 1
    MAX = 2


class Post(enum.IntEnum):
    """Applied after the shift; the tables are indexed by the value saturated to 8 bits."""

    NONE = 0
    RELU = 1
    TABLE0 = 2
    TABLE1 = 3


class Mode(enum.IntEnum):
    """Where an operand lives."""

    MEMORY = 0
    LANDING = 1
    """Memory, plus the program's slot offset: the half of the double buffer where this vector landed."""
    IMMEDIATE = 2


class Destination(enum.IntEnum):
    """Where results go. A message to the mesh is one instruction: header first, last word marked."""

    MEMORY = 0
    ACTIVATION = 1
    """Mesh, saturated to -127...127 by the `activation` field, which must be set."""
    PARTIAL = 2
    """Mesh, 24-bit signed."""


INSTRUCTION_WORDS = 8
"""32-bit words of an instruction in the register map."""

INSTRUCTION_FIELDS: tuple[tuple[str, int, bool], ...] = (
    ("operation", 3, False), ("reduce", 2, False), ("post", 2, False), ("shift", 5, False), ("activation", 1, False),
    ("destination", 2, False), ("route", 6, False), ("last", 1, False),
    ("n0", 10, False), ("n1", 10, False), ("n2", 10, False),
    ("a_mode", 2, False), ("a_base", 12, False), ("a_s0", 11, True), ("a_s1", 11, True), ("a_s2", 11, True),
    ("b_mode", 2, False), ("b_base", 12, False), ("b_s0", 11, True), ("b_s1", 11, True), ("b_s2", 11, True),
    ("d_base", 12, False), ("d_s0", 11, True), ("d_s1", 11, True), ("d_s2", 11, True),
    ("immediate", 24, True), ("position", POSITION_BITS, False),
)
"""(name, bits, signed), packed from bit 0 upward without gaps."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction; strides and bases in words of W elements, counts 1 to 1,023."""

    operation: Operation = Operation.PASS
    reduce: Reduce = Reduce.NONE
    post: Post = Post.NONE
    shift: int = 0
    activation: bool = False
    """Saturate to an activation (-127...127) rather than to 24 bits."""
    destination: Destination = Destination.MEMORY
    route: int = 0
    last: bool = False
    """Ends the program."""
    n0: int = 1
    n1: int = 1
    n2: int = 1
    a_mode: Mode = Mode.MEMORY
    a_base: int = 0
    a_s0: int = 0
    a_s1: int = 0
    a_s2: int = 0
    b_mode: Mode = Mode.IMMEDIATE
    b_base: int = 0
    b_s0: int = 0
    b_s1: int = 0
    b_s2: int = 0
    d_base: int = 0
    d_s0: int = 0
    d_s1: int = 0
    d_s2: int = 0
    immediate: int = 0
    """Operand of every element where a mode is IMMEDIATE."""
    position: int = 0
    """Of the message, among those that one vector sends on one route; a coordinate of the noise it will meet."""

    def __post_init__(self) -> None:
        for name, bits, signed in INSTRUCTION_FIELDS:
            value = int(getattr(self, name))
            low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low} to {high}, not {value}")
            if name in ("n0", "n1", "n2") and value == 0:
                raise ValueError(f"{name} must be at least 1")
        if self.destination == Destination.ACTIVATION and not self.activation:
            raise ValueError("an instruction that sends activations must saturate to one")

    def words(self) -> list[int]:
        """Return the instruction as eight 32-bit words."""
        packed, position = 0, 0
        for name, bits, _ in INSTRUCTION_FIELDS:
            packed |= (int(getattr(self, name)) & ((1 << bits) - 1)) << position
            position += bits
        return [packed >> (32 * k) & 0xFFFFFFFF for k in range(INSTRUCTION_WORDS)]

    @classmethod
    def from_words(cls, words: list[int]) -> "Instruction":
        """Return the instruction that eight 32-bit words hold."""
        packed = sum(int(word) << (32 * k) for k, word in enumerate(words))
        values: dict[str, int] = {}
        for name, bits, signed in INSTRUCTION_FIELDS:
            value = packed & ((1 << bits) - 1)
            values[name] = value - (1 << bits) if signed and value >> (bits - 1) else value
            packed >>= bits
        return cls(**values)  # type: ignore[arg-type]
