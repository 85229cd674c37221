"""What one instruction of the digital unit computes, exactly, over a batch of memories."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from rtl.params import ACTIVATION_MAX, ELEMENT_BITS, Destination, Instruction, Mode, Operation, Post, Reduce
from sim.fixed import Ints, round_shift, saturate

_ELEMENT_MAX = (1 << (ELEMENT_BITS - 1)) - 1
_ADDRESSES = 1 << 12


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


def compute(step: Walk, memory: Ints, tables: Ints) -> Ints:
    """Return the results (N, results, W) of an instruction on memories (N, words, W) and tables (2, 256).

    The addresses of `step` index the second axis of `memory`.
    """
    code = step.code
    inner = code.n0 if code.reduce != Reduce.NONE else 1
    immediate = np.full((1, len(step.d), inner, 1), code.immediate, np.int64)
    a = immediate if step.a is None else memory[:, step.a]
    b = immediate if step.b is None else memory[:, step.b]
    value = np.broadcast_to(_combine(code.operation, a, b), (len(memory), len(step.d), inner, memory.shape[2]))
    if code.reduce == Reduce.SUM:
        total = value.sum(axis=2)
    elif code.reduce == Reduce.MAX:
        total = value.max(axis=2)
    else:
        total = value[:, :, 0]
    result = saturate(round_shift(total, code.shift), -_ELEMENT_MAX - 1, _ELEMENT_MAX)
    if code.post == Post.RELU:
        result = np.maximum(result, 0)
    elif code.post in (Post.TABLE0, Post.TABLE1):
        result = tables[int(code.post == Post.TABLE1)][saturate(result, -128, 127) + 128]
    return np.asarray(saturate(result, -ACTIVATION_MAX, ACTIVATION_MAX) if code.activation else result)


def _combine(operation: Operation, a: Ints, b: Ints) -> Ints:
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
