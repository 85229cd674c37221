"""What one instruction of the digital unit computes, exactly, over a batch of memories."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtl.params import ACTIVATION_MAX, ELEMENT_BITS, Destination, Instruction, Mode, Operation, Post, Reduce
from sim.fixed import Ints, Narrow, operand

_ELEMENT_MAX = (1 << (ELEMENT_BITS - 1)) - 1
_ADDRESSES = 1 << 12
_STEPS_MAX = 1 << 20
"""Longest instruction: more steps than any memory has words, and few enough for one array."""


@dataclasses.dataclass(frozen=True)
class Walk:
    """The addresses of one instruction: `a` and `b` (results, inner) or None if immediate; `d` (results,)."""

    code: Instruction
    a: Ints | None
    b: Ints | None
    d: Ints

    @property
    def steps(self) -> int:
        """Words through the pipeline."""
        return self.code.n0 * self.code.n1 * self.code.n2


def _addresses(base: int, strides: Sequence[int], counts: Sequence[int]) -> Ints:
    """Return the addresses of nested loops, innermost stride first, as (n2, n1, n0)."""
    i0, i1, i2 = (np.arange(n, dtype=np.int64) for n in counts)
    address = (base + i0[None, None, :] * strides[0] + i1[None, :, None] * strides[1] + i2[:, None, None] * strides[2])
    return np.asarray(address % _ADDRESSES)


def walk(code: Instruction, offset: int, depth: int) -> Walk:
    """Return the addresses of an instruction whose landing slot begins `offset` words later.

    Raises
    ------
    ValueError
        If an address lies beyond the memory, or an operand is read after an earlier step of the same instruction
        wrote it: what such a read sees depends on the pipeline.
    """
    counts = (code.n0, code.n1, code.n2)
    if code.n0 * code.n1 * code.n2 > _STEPS_MAX:
        raise ValueError(f"an instruction of {code.n0} * {code.n1} * {code.n2} steps is above {_STEPS_MAX}")
    reads: dict[str, Ints | None] = {}
    for name in ("a", "b"):
        mode = getattr(code, f"{name}_mode")
        if mode == Mode.IMMEDIATE or (name == "b" and code.operation == Operation.PASS):
            reads[name] = None
            continue
        base = getattr(code, f"{name}_base") + (offset if mode == Mode.LANDING else 0)
        reads[name] = _addresses(base, [getattr(code, f"{name}_s{k}") for k in range(3)], counts)
    reduced = code.reduce != Reduce.NONE
    results = _addresses(code.d_base, (0 if reduced else code.d_s0, code.d_s1, code.d_s2),
                         (1 if reduced else code.n0, code.n1, code.n2))
    in_memory = code.destination == Destination.MEMORY
    used = {**reads, **({"d": results} if in_memory else {})}
    for name, addresses in used.items():
        if addresses is not None and addresses.max() >= depth:
            raise ValueError(f"{name} of an instruction reaches word {addresses.max()} of a memory of {depth}")
    if in_memory:
        written = np.full(_ADDRESSES, np.iinfo(np.int64).max)
        each = code.n0 if reduced else 1
        order = results.ravel()
        np.minimum.at(written, order, np.arange(order.size) * each + each - 1)
        for name, addresses in reads.items():
            if addresses is not None and (written[addresses.ravel()] < np.arange(addresses.size)).any():
                raise ValueError(f"{name} of an instruction reads a word that an earlier step of it wrote")
    shape = (results.size, code.n0 if reduced else 1)
    a, b = (None if addresses is None else addresses.reshape(shape) for addresses in (reads["a"], reads["b"]))
    return Walk(code, a, b, results.ravel())


Term = Callable[[Narrow], Any]
"""Takes memories (N, words, W) and returns what an inner step adds to the results (N, results, W)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reads:
    """What an instruction computes from: terms that know where its words lie in a memory, and constants.

    `first` and `others` are the inner steps, in a type that holds the accumulator and its rounding. `d` are the words
    written, None if the results go to the mesh.
    """

    first: Term
    others: list[Term]
    reduce: Callable[..., Any]
    halves: tuple[Any, Any]
    """Of rounding: what the first term takes with it, and what is added last, as a maximum must be known before."""
    shift: Any
    limits: tuple[Any, Any]
    """Of the result before a table, or of the result."""
    table: int | None
    activation: bool
    d: slice | Ints | None

    @classmethod
    def of(cls, step: Walk, place: Ints) -> "Reads":
        """Return the reads of a walk whose addresses lie at `place` of them in the memory."""
        code = step.code
        inner = code.n0 if code.reduce != Reduce.NONE else 1
        kind = np.int32 if _largest(code, inner) < 1 << 31 else np.int64
        immediate = _constant(code.immediate, kind, len(step.d))
        a, b = ([immediate] * inner if addresses is None else [_words(run_of(column), kind)
                                                               for column in place[addresses].T]
                for addresses in (step.a, step.b))
        nothing, half, shift, low, high = (operand(n, kind) for n in (0, 1 << code.shift >> 1, code.shift,
                                                                      *_limits(code)))
        largest = code.reduce == Reduce.MAX
        first, *others = [_both(_COMBINE[code.operation], *pair) for pair in zip(a, b, strict=True)]
        return cls(first=first, others=others, reduce=np.maximum if largest else np.add,
                   shift=shift, halves=(nothing, half) if largest else (half, nothing), limits=(low, high),
                   table=_TABLES.get(code.post), activation=bool(code.activation),
                   d=run_of(place[step.d]) if code.destination == Destination.MEMORY else None)


def _constant(value: int, kind: type[np.integer[Any]], results: int) -> Term:
    return lambda memory: np.full((len(memory), results, memory.shape[2]), value, kind)


def _words(words: slice | Ints, kind: type[np.integer[Any]]) -> Term:
    if kind is np.int32:
        return lambda memory: memory[:, words]
    return lambda memory: memory[:, words].astype(kind)


def _both(combine: Callable[[Any, Any], Any] | None, a: Term, b: Term) -> Term:
    if combine is None:
        return a
    return lambda memory: combine(a(memory), b(memory))


def run_of(words: Ints) -> slice | Ints:
    """Return words as a slice, which numpy reads without a copy, where each follows the one before."""
    first = int(words[0])
    return slice(first, first + len(words)) if np.array_equal(words, first + np.arange(len(words))) else words


def compute(reads: Reads, memory: Narrow, tables: Narrow) -> Narrow:
    """Return the results (N, results, W) of an instruction on memories (N, words, W) and tables (2, 256)."""
    begin, end = reads.halves
    total: Any = reads.first(memory) + begin
    for term in reads.others:
        reads.reduce(total, term(memory), out=total)
    if end:
        total += end
    total >>= reads.shift
    result: Narrow = _limited(total, *reads.limits).astype(np.int32, copy=False)
    if reads.table is not None:
        result = tables[reads.table][result + 128]
        if reads.activation:
            result = _limited(result, -ACTIVATION_MAX, ACTIVATION_MAX)
    return result


def _limited(total: NDArray[Any], low: Any, high: Any) -> NDArray[Any]:
    """Limit in place, and return it."""
    np.maximum(total, low, out=total)
    return np.minimum(total, high, out=total)


def _limits(code: Instruction) -> tuple[int, int]:
    """Return what the result is limited to before a table, or in the end: one range within the other."""
    if code.post in (Post.TABLE0, Post.TABLE1):
        return -128, 127
    low, high = (-ACTIVATION_MAX, ACTIVATION_MAX) if code.activation else (-_ELEMENT_MAX - 1, _ELEMENT_MAX)
    return 0 if code.post == Post.RELU else low, high


def _largest(code: Instruction, inner: int) -> int:
    """Return a bound of what the accumulator and its rounding can reach."""
    element = 1 << (ELEMENT_BITS - 1)
    term = {Operation.ADD: 2 * element, Operation.SUB: 2 * element, Operation.MUL: element * element}
    terms = inner if code.reduce == Reduce.SUM else 1
    return term.get(code.operation, element) * terms + (1 << code.shift >> 1)


_COMBINE = {Operation.PASS: None, Operation.ADD: np.add, Operation.SUB: np.subtract, Operation.MUL: np.multiply,
            Operation.MAX: np.maximum, Operation.MIN: np.minimum}
_TABLES = {Post.TABLE0: 0, Post.TABLE1: 1}
