"""Networks on 8x8 digits: emulated devices against aihwkit's results on the same weights and images (models/DATA.md).

Layers are multiplied in floating point by the conductances that the engine reads; convolutions are unrolled into
patches. Converters are perfect, or those of aihwkit's default in floating point; the chip's own have no output noise.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from host import periphery
from host.crossbar import Crossbar
from host.judge import PcmTile
from sim.presets import technology
from sim.technology import STATISTICAL

__all__ = ["AIHWKIT", "CONVERTERS", "DEVICES", "NETWORKS", "QUANTITIES", "DigitsComparison", "DigitsTable",
           "compare_digits", "programming"]

Floats = NDArray[np.float64]
Rng = np.random.Generator
_MODELS = Path(__file__).resolve().parent.parent / "models"
NETWORKS = ("mlp", "cnn")
CONVERTERS = ("perfect", "default")
QUANTITIES = ("accuracy", "logit_rel_l2_error")
DEVICES = ("emulated, net", "float64, net", "emulated", "float64")
"""Of the emulation or of the judge; *net* as aihwkit ages them: the difference of a pair, not its devices."""
AIHWKIT = "aihwkit"
SHUFFLES = 1000


@dataclasses.dataclass(frozen=True)
class DigitsComparison:
    """One quantity at one age: means and standard errors over programmings, and those it is held against."""

    converters: str
    compensated: bool
    age: str
    quantity: str
    emulated: float
    emulated_error: float
    published: float
    published_error: float

    @property
    def holds(self) -> bool:
        """Whether the means agree within two combined standard errors."""
        return abs(self.emulated - self.published) <= 2 * math.hypot(self.emulated_error, self.published_error)


@dataclasses.dataclass(frozen=True)
class DigitsTable:
    """All comparisons of a network on `devices` with `against`.

    expected : comparisons apart on average, were there no difference
    chance : how often there are at least as many as here, were there no difference
    """

    network: str
    devices: str
    against: str
    expected: float
    chance: float
    comparisons: list[DigitsComparison]

    @property
    def apart(self) -> list[DigitsComparison]:
        """Comparisons of more than two combined standard errors."""
        return [one for one in self.comparisons if not one.holds]


class _Tile(Protocol):
    @property
    def rows(self) -> int: ...
    def age(self, seconds: float) -> Any: ...
    def weights(self) -> Floats: ...
    def probe(self) -> float: ...


def _tile(targets: Floats, seed: int, devices: str) -> _Tile:
    """Return a programmed tile of one of `DEVICES`."""
    if devices.startswith("float64"):
        return PcmTile(targets, seed, net=devices == "float64, net")
    kind = technology("pcm").replace(read=False)
    tile = Crossbar(kind, *targets.shape, way=STATISTICAL, seed=seed, adc_bits=12).program(targets)
    return tile.net_pairs() if devices == "emulated, net" else tile


class _Layer:
    """One layer on a tile of its own; each output has its own weight scale, as there."""

    def __init__(self, weight: Floats, bias: Floats, seed: int, devices: str) -> None:
        self.scale, self.bias = np.abs(weight).max(axis=1), bias
        self.rng = np.random.default_rng(seed)
        self.tile = _tile((weight / self.scale[:, None]).T, seed, devices)
        self._reference = {converters: self._size(converters) for converters in CONVERTERS}

    def choose(self, converters: str, *, compensated: bool) -> None:
        """Read through these converters from now on; compensated for what a probe finds now."""
        self.converters = converters
        self.gain = self._reference[converters] / self._size(converters) if compensated else 1.0

    def _size(self, converters: str) -> float:
        """Return the mean magnitude of the outputs of one-hot inputs: by the tile's own probe, or as aihwkit reads."""
        if converters == "perfect":
            return self.tile.probe()
        return float(np.abs(periphery.read(np.eye(self.tile.rows), self.tile.weights(), self.rng)).mean())

    def __call__(self, x: Floats) -> Floats:
        w = self.tile.weights()
        y = x @ w if self.converters == "perfect" else periphery.read(x, w, self.rng)
        return self.gain * y * self.scale + self.bias


def programming(network: str, seed: int, ages: Sequence[float], devices: str) -> dict[tuple[str, bool, float], Any]:
    """Return (accuracy in %, relative error of the logits) by (converters, compensated, age) of one programming.

    Devices are the same with either converters, as in aihwkit's results.
    """
    content = np.load(_MODELS / f"digits_{network}.npz")
    names = [name.removesuffix("_weight") for name in content.files if name.endswith("_weight")]
    layers = [_Layer(content[f"{name}_weight"].reshape(len(content[f"{name}_bias"]), -1).astype(np.float64),
                     content[f"{name}_bias"].astype(np.float64), 100 * seed + k, devices)
              for k, name in enumerate(names)]
    x, y, logits = content["x"] / 16.0, content["y"], content["logits"].astype(np.float64)
    forward = _mlp if network == "mlp" else _cnn
    found = {}
    for age in ages:
        for layer in layers:
            layer.tile.age(age)
        for converters, compensated in itertools.product(CONVERTERS, (False, True)):
            for layer in layers:
                layer.choose(converters, compensated=compensated)
            got = forward(layers, x)
            error = float(np.linalg.norm(got - logits) / np.linalg.norm(logits))
            found[converters, compensated, age] = 100 * float((got.argmax(axis=1) == y).mean()), error
    return found


def _mlp(layers: Sequence[_Layer], x: Floats) -> Floats:
    values = x.reshape(len(x), -1)
    for layer in layers[:-1]:
        values = np.maximum(layer(values), 0)
    return layers[-1](values)


def _cnn(layers: Sequence[_Layer], x: Floats) -> Floats:
    values = x[:, None]
    for layer in layers[:-1]:
        values = _pooled(np.maximum(_convolved(layer, values), 0))
    return layers[-1](values.reshape(len(values), -1))


def _convolved(layer: _Layer, images: Floats) -> Floats:
    """3x3, padded by 1: (N, channels, height, width) to (N, outputs, height, width)."""
    count, channels, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    flat = patches.transpose(0, 2, 3, 1, 4, 5).reshape(count * height * width, channels * 9)
    return layer(flat).reshape(count, height, width, -1).transpose(0, 3, 1, 2)


def _pooled(images: Floats) -> Floats:
    count, channels, height, width = images.shape
    return images.reshape(count, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))


def _published(network: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_MODELS / "digits_aihwkit.json").read_text("utf-8"))
    return {"ages": content["ages_seconds"]} | content[network]


def _runs(network: str, devices: str, seeds: Sequence[int], ages: Sequence[str],
          progress: Callable[[], None]) -> Floats:
    """Return `QUANTITIES` of programmings: (seeds, converters, compensated, ages, quantities)."""
    seconds = [_published(network)["ages"][age] for age in ages]
    found = []
    for seed in seeds:
        run = programming(network, seed, seconds, devices)
        found.append([[[run[converters, compensated, age] for age in seconds] for compensated in (False, True)]
                      for converters in CONVERTERS])
        progress()
    return np.array(found)


def _aihwkits(network: str, ages: Sequence[str]) -> Floats:
    """Return the same of aihwkit's programmings."""
    published = _published(network)
    by_case = [[[[published[f"{converters}_gdc{compensated}"][quantity][age] for quantity in QUANTITIES]
                 for age in ages] for compensated in (0, 1)] for converters in CONVERTERS]
    return np.moveaxis(np.array(by_case), -1, 0)


def compare_digits(network: str, *, devices: str = "emulated, net", against: str = AIHWKIT, programmings: int = 20,
                   ages: Sequence[str] = (), progress: Callable[[], None] = lambda: None) -> DigitsTable:
    """Compare accuracy and error of the logits at each age, with and without compensation, with those of `against`.

    devices : one of `DEVICES`
    against : `AIHWKIT`, of which there are 20 programmings, or another of `DEVICES`
    """
    chosen = list(ages or _published(network)["ages"])
    ours = _runs(network, devices, range(1, 1 + programmings), chosen, progress)
    theirs = (_aihwkits(network, chosen) if against == AIHWKIT else
              _runs(network, against, range(1 + programmings, 1 + 2 * programmings), chosen, progress))
    means, errors = zip(*(_means(runs) for runs in (ours, theirs)), strict=True)
    cases = itertools.product(enumerate(CONVERTERS), (False, True), enumerate(chosen), enumerate(QUANTITIES))
    return DigitsTable(network, devices, against, *_shuffled(ours, theirs), comparisons=[
        DigitsComparison(converters, compensated, age, quantity,
                         *(float(values[j, int(compensated), k, q]) for pair in zip(means, errors, strict=True)
                           for values in pair))
        for (j, converters), compensated, (k, age), (q, quantity) in cases])


def _means(runs: Floats) -> tuple[Floats, Floats]:
    """Return means over programmings, and their standard errors."""
    return runs.mean(axis=0), runs.std(axis=0, ddof=1) / math.sqrt(len(runs))


def _apart(ours: Floats, theirs: Floats) -> int:
    """Return how many means lie more than two combined standard errors apart."""
    (mean, error), (wanted, wanted_error) = _means(ours), _means(theirs)
    return int((np.abs(mean - wanted) > 2 * np.hypot(error, wanted_error)).sum())


def _shuffled(ours: Floats, theirs: Floats) -> tuple[float, float]:
    """Return how many comparisons are apart when nothing but chance is: on average, and how often as many as here.

    A permutation test: all programmings are pooled and dealt out again to both sides, each keeping all its ages,
    converters and quantities, which are far from independent.
    """
    rng = np.random.default_rng(20261125)
    pool, found = np.concatenate([ours, theirs]), _apart(ours, theirs)
    counts = []
    for _ in range(SHUFFLES):
        dealt = rng.permutation(len(pool))
        counts.append(_apart(pool[dealt[:len(ours)]], pool[dealt[len(ours):]]))
    return float(np.mean(counts)), float(np.mean(np.array(counts) >= found))
