"""Inputs that are loaded into a chip once and replayed at any age, seed and setting: only results cross the link."""

from functools import partial
from typing import Any

import numpy as np

from host.backend import Backend
from host.errors import BitlineError
from host.placed import Floats, Progress, silent
from host.placement import Placement
from host.tracing import TracedChip
from rtl.params import PRESETS
from sim.fixed import Ints

__all__ = ["BatchChip"]


class BatchChip(TracedChip):
    """A placed network whose inputs may stay on the chip.

    Results of a replay are those of `infer` on the same inputs at the same `event`, to the bit.
    """

    def __init__(self, backend: Backend, *, url: str = "", seed: int = 1, chip: int = 0) -> None:
        super().__init__(backend, url=url, seed=seed, chip=chip)
        self.loaded = 0
        """Vectors that a replay finds on the chip."""
        self._loading = False  # a load has begun and not come to its end

    def configure(self, placement: Placement) -> None:
        super().configure(placement)
        self.loaded, self._loading = 0, False

    @property
    def batch_capacity(self) -> int:
        """Vectors of the network placed that the batch memory holds; 0 in a build without."""
        return self.geometry.batch_words // self._placed().vector_words

    def load(self, x: Any, *, progress: Progress = silent) -> None:
        """Write inputs (N, inputs) into the batch memory, in place of those there; another configuration forgets them.

        A load that is broken off blocks replays until another one has come to its end, and nothing else.

        Raises
        ------
        BitlineError
            If the build has no batch memory, the inputs do not fit it, or `infer` would refuse them; nothing is
            written then.
        """
        self._check_whole("program")
        placement = self._placed()
        if not self.geometry.batch_words:
            names = ", ".join(name for name, known in PRESETS.items() if known.batch_words)
            raise BitlineError(f"geometry {self.geometry.name!r} has no batch memory: stream the inputs, or take a "
                               f"build that has one ({names})")
        activations = placement.arrange(placement.quantize(self._checked(x)))
        if len(activations) > self.batch_capacity:
            raise BitlineError(f"{len(activations)} vectors of {placement.vector_words} words do not fit the batch "
                               f"memory of {self.geometry.batch_words:,} words: load {self.batch_capacity} at most")
        self.loaded, self._loading = 0, True
        self.backend.load(activations, progress("loading", len(activations)))
        self.loaded, self._loading = len(activations), False

    def replay(self, first: int = 0, count: int | None = None, *, progress: Progress = silent) -> Floats:
        """Return what `infer` would for vectors loaded, from `first` on (all if no count is given).

        Raises
        ------
        BitlineError
            If those vectors are not loaded, or `infer` would refuse; nothing is begun then.
        """
        codes, _ = self.replay_codes(first, count, progress=progress)
        return codes.astype(np.float64) * self._placed().output_scale

    def replay_codes(self, first: int = 0, count: int | None = None, *,
                     progress: Progress = silent) -> tuple[Ints, Ints]:
        """Return the outputs as the chip gives them, integers (N, outputs), and their target times (N,) in ps."""
        self._check_whole("infer")
        placement = self._placed()
        self._programmed()
        if self._loading:
            raise BitlineError("the last load was broken off before its end: call it again")
        if not self.loaded:
            raise BitlineError("nothing is loaded on this device: call load first")
        count = self.loaded - first if count is None else count
        if first < 0 or count < 1 or first + count > self.loaded:
            raise BitlineError(f"{count} vectors from {first} on cannot be replayed: {self.loaded} are loaded")
        events = self._events(count)
        return self._through(events, partial(self.backend.replay, first * placement.vector_words, events),
                             progress("replay", count * len(placement.phases)))
