"""What one instruction of the digital unit computes, exactly, over a batch of memories."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from rtl.params import ACTIVATION_MAX, ELEMENT_BITS, Destination, Instruction, Mode, Operation, Post, Reduce
from sim.fixed import Ints, Narrow, round_shift, saturate

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


@dataclasses.dataclass(frozen=True)
class Reads:
    """What an instruction computes from: words of a memory as they lie there, `a` and `b` one entry an inner step.

    An entry is the words (results,) that one inner step reads, a slice where they follow each other; None is the
    immediate. `d` are the words written, None if the results go to the mesh.
    """

    code: Instruction
    results: int
    inner: int
    wide: type[np.integer[Any]]
    """What holds the accumulator and its rounding."""
    limits: tuple[int, int]
    """Of the result before a table, or of the result."""
    a: list[slice | Ints] | None
    b: list[slice | Ints] | None
    d: slice | Ints | None

    @classmethod
    def of(cls, step: Walk, place: Ints) -> "Reads":
        """Return the reads of a walk whose addresses lie at `place` of them in the memory."""
        a, b = (None if addresses is None else [run_of(column) for column in place[addresses].T]
                for addresses in (step.a, step.b))
        code = step.code
        d = run_of(place[step.d]) if code.destination == Destination.MEMORY else None
        inner = code.n0 if code.reduce != Reduce.NONE else 1
        wide = np.int32 if _largest(code, inner) < 1 << 31 else np.int64
        return cls(code, len(step.d), inner, wide, _limits(code), a, b, d)


def run_of(words: Ints) -> slice | Ints:
    """Return words as a slice, which numpy reads without a copy, where each follows the one before."""
    first = int(words[0])
    return slice(first, first + len(words)) if np.array_equal(words, first + np.arange(len(words))) else words


def compute(reads: Reads, memory: Narrow, tables: Narrow) -> Narrow:
    """Return the results (N, results, W) of an instruction on memories (N, words, W) and tables (2, 256)."""
    code = reads.code
    total = np.empty((len(memory), reads.results, memory.shape[2]), reads.wide)
    total[:] = _term(reads, memory, 0)
    for k in range(1, reads.inner):
        if code.reduce == Reduce.SUM:
            total += _term(reads, memory, k)
        else:
            np.maximum(total, _term(reads, memory, k), out=total)
    result: Narrow = saturate(round_shift(total, code.shift), *reads.limits).astype(np.int32, copy=False)
    if code.post in (Post.TABLE0, Post.TABLE1):
        result = tables[int(code.post == Post.TABLE1)][result + 128]
        if code.activation:
            result = saturate(result, -ACTIVATION_MAX, ACTIVATION_MAX)
    return result


def _term(reads: Reads, memory: Narrow, k: int) -> Any:
    """Return what inner step k adds to every result: (N, results, W), or a number if both operands are immediate."""
    a, b = (reads.code.immediate if words is None else memory[:, words[k]].astype(reads.wide, copy=False)
            for words in (reads.a, reads.b))
    return _combine(reads.code.operation, a, b)


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


def _combine(operation: Operation, a: Any, b: Any) -> Any:
    if operation == Operation.ADD:
        return a + b
    if operation == Operation.SUB:
        return a - b
    if operation == Operation.MUL:
        return a * b
    if operation == Operation.MAX:
        return np.maximum(a, b)
    if operation == Operation.MIN:
        return np.minimum(a, b)
    return a
