"""The link's side of inference: never more vectors under way than the device has room for the results of."""

import struct
from collections import deque

import numpy as np
import pytest

from host.backend import LinkBackend
from rtl.params import Opcode, preset
from rtl.params.protocol import VECTOR_BYTES


class Narrow:
    """A link to a device that answers each vector with `words` words, and stops for good when it has no more room.

    Its counters of vectors sent and results received are those before the first.
    """

    def __init__(self, geometry, words):
        self.geometry, self.words = geometry, words
        self.waiting = deque()
        self.most = 0

    def submit(self, opcode, body):
        if opcode in (Opcode.RECEIVE, Opcode.READ):
            return opcode
        event = struct.unpack_from("<I", body)[0]
        self.waiting.append(body[:VECTOR_BYTES] + np.full(self.words * self.geometry.transport, event, "<i4").tobytes())
        self.most = max(self.most, len(self.waiting))
        assert len(self.waiting) <= self.geometry.result_vectors
        assert len(self.waiting) == 1 or len(self.waiting) * (1 + self.words) <= self.geometry.result_words
        return opcode

    def result(self, ticket):
        """Answer a RECEIVE as late as can be: when somebody waits for it."""
        if ticket == Opcode.READ:
            return bytes(4 * 4)
        return self.receive() or b"" if ticket == Opcode.RECEIVE else b""

    def receive(self):
        return self.waiting.popleft() if self.waiting else None


@pytest.mark.parametrize(("words", "most"), [(1, 8), (3, 8), (7, 8), (8, 7), (16, 3), (31, 2), (32, 1), (63, 1)])
def test_results_always_find_room(words, most):
    geometry = preset("demo")
    link = Narrow(geometry, words)
    count = 30
    elements, times = LinkBackend(link).infer(np.arange(count), np.arange(count) * 7, np.zeros((count, 784), np.int64),
                                              lambda _done: None)
    np.testing.assert_array_equal(elements, np.repeat(np.arange(count)[:, None], words * 4, axis=1))
    np.testing.assert_array_equal(times, np.arange(count) * 7)
    assert link.most == most
