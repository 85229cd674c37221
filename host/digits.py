"""Networks on 8x8 digits: emulated devices against aihwkit's results on the same weights and images (models/DATA.md).

Layers are multiplied in floating point by the conductances that the engine reads; convolutions are unrolled into
patches. Converters are perfect, or those of aihwkit's default in floating point; the chip's own have no output noise.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from host.crossbar import Crossbar
from host.judge import PcmTile
from sim.presets import technology
from sim.technology import STATISTICAL

__all__ = ["AIHWKIT", "DEVICES", "NETWORKS", "DigitsComparison", "compare_digits", "programming"]

Floats = NDArray[np.float64]
Rng = np.random.Generator
_MODELS = Path(__file__).resolve().parent.parent / "models"
NETWORKS = ("mlp", "cnn")
CONVERTERS = ("perfect", "default")
DEVICES = ("emulated, net", "float64, net", "emulated", "float64")
"""Of the emulation or of the judge; *net* as aihwkit ages them: the difference of a pair, not its devices."""
AIHWKIT = "aihwkit"
_READ_NOISE = 0.0175
_OUTPUT_NOISE, _OUTPUT_BOUND, _OUTPUT_STEP, _INPUT_STEP = 0.06, 12.0, 24 / 510, 2 / 126


@dataclasses.dataclass(frozen=True)
class DigitsComparison:
    """One quantity at one age: means and standard errors over programmings of `devices`, and of `against`."""

    network: str
    converters: str
    devices: str
    against: str
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

    def __init__(self, weight: Floats, bias: Floats, seed: int, converters: str, devices: str) -> None:
        self.scale, self.bias, self.converters = np.abs(weight).max(axis=1), bias, converters
        self.rng = np.random.default_rng(seed)
        self.tile = _tile((weight / self.scale[:, None]).T, seed, devices)
        self.gain = 1.0
        self._reference = self._size()

    def age(self, seconds: float) -> None:
        self.tile.age(seconds)
        self.gain = 1.0

    def compensate(self) -> None:
        self.gain = self._reference / self._size()

    def _size(self) -> float:
        """Return the mean magnitude of the outputs of one-hot inputs: by the tile's own probe, or as aihwkit reads."""
        if self.converters == "perfect":
            return self.tile.probe()
        return float(np.abs(self._read(np.eye(self.tile.rows))).mean())

    def __call__(self, x: Floats) -> Floats:
        return self.gain * self._read(x) * self.scale + self.bias

    def _read(self, x: Floats) -> Floats:
        w = self.tile.weights()
        if self.converters == "perfect":
            return x @ w
        scale = np.abs(x).max(axis=1, keepdims=True)
        scale = np.where(scale > 0, scale, 1.0)
        y = np.empty((len(x), w.shape[1]))
        todo, factor = np.arange(len(x)), 1.0
        while len(todo):  # an output out of bounds: once more with half the input
            part = np.rint(x[todo] / scale[todo] / factor / _INPUT_STEP) * _INPUT_STEP
            sigma = np.hypot(_OUTPUT_NOISE, _READ_NOISE * np.sqrt(part**2 @ np.abs(w)))
            got = part @ w + sigma * self.rng.standard_normal(sigma.shape)
            got = np.rint(got / _OUTPUT_STEP) * _OUTPUT_STEP
            y[todo] = np.clip(got, -_OUTPUT_BOUND, _OUTPUT_BOUND) * factor
            todo, factor = todo[(np.abs(got) >= _OUTPUT_BOUND).any(axis=1)], 2 * factor
        return y * scale


def programming(network: str, converters: str, seed: int, ages: Sequence[float],
                devices: str) -> dict[tuple[float, bool], Any]:
    """Return (accuracy in %, relative error of the logits) by (age, compensated) of one programming."""
    content = np.load(_MODELS / f"digits_{network}.npz")
    names = [name.removesuffix("_weight") for name in content.files if name.endswith("_weight")]
    layers = [_Layer(content[f"{name}_weight"].reshape(len(content[f"{name}_bias"]), -1).astype(np.float64),
                     content[f"{name}_bias"].astype(np.float64), 100 * seed + k, converters, devices)
              for k, name in enumerate(names)]
    x, y, logits = content["x"] / 16.0, content["y"], content["logits"].astype(np.float64)
    forward = _mlp if network == "mlp" else _cnn
    found = {}
    for age in ages:
        for layer in layers:
            layer.age(age)
        for compensated in (False, True):
            if compensated:
                for layer in layers:
                    layer.compensate()
            got = forward(layers, x)
            error = float(np.linalg.norm(got - logits) / np.linalg.norm(logits))
            found[age, compensated] = 100 * float((got.argmax(axis=1) == y).mean()), error
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


def compare_digits(network: str, converters: str, *, devices: str = "emulated, net", against: str = AIHWKIT,
                   programmings: int = 20, ages: Sequence[str] = (),
                   progress: Callable[[], None] = lambda: None) -> list[DigitsComparison]:
    """Return accuracy and error of the logits at each age, with and without compensation, beside those of `against`.

    devices : one of `DEVICES`
    against : `AIHWKIT`, or another of `DEVICES`
    """
    published = json.loads((_MODELS / "digits_aihwkit.json").read_text("utf-8"))
    seconds = published["ages_seconds"]
    chosen = list(ages or seconds)

    def run(which: str, first: int) -> list[dict[tuple[float, bool], Any]]:
        runs = []
        for seed in range(first, first + programmings):
            runs.append(programming(network, converters, seed, [seconds[age] for age in chosen], which))
            progress()
        return runs

    runs = run(devices, 1)
    others = [] if against == AIHWKIT else run(against, 1 + programmings)
    found = []
    for compensated in (False, True):
        theirs = published[network][f"{converters}_gdc{int(compensated)}"]
        for age in chosen:
            for k, quantity in enumerate(("accuracy", "logit_rel_l2_error")):
                ours = np.array([run[seconds[age], compensated][k] for run in runs])
                wanted = np.array([run[seconds[age], compensated][k] for run in others] or theirs[quantity][age])
                found.append(DigitsComparison(
                    network, converters, devices, against, compensated, age, quantity, float(ours.mean()),
                    _error(ours), float(wanted.mean()), _error(wanted)))
    return found


def _error(values: Floats) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))
