"""How fast the numpy model is on one thread, read noise on, beside what other simulators reach.

Run as a process of its own (`model_speed`), because numpy takes its number of threads when it is loaded.
"""

import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from host.api import open_device
from host.compiler import compile_network
from host.data import mnist
from host.demo import MODEL
from host.errors import BitlineError
from host.network import Dense, Network, load_network
from host.placement import Placement
from rtl.params import FlitKind, preset
from rtl.params.registers import EngineRegion
from sim.message import Message
from sim.presets import technology
from sim.tile import Tiles

__all__ = ["BATCHES", "PEERS", "Peer", "model_speed", "random_network", "wide_placement"]

SIZES = (784, 256, 128, 10)
BATCHES = (1, 256)
SECONDS = 1.0
"""Of each measurement."""

_ROOT = Path(__file__).resolve().parent.parent
_TIMEOUT_S = 600.0
_SLOWING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Settings of the environment that may force numpy's library to code made for another processor."""

_BIAS, _SCALE, _NOISE, _GAIN = 0, 1 << 8, 1 << 12, 1 << 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """Images a second of another simulator on the MLP 784-256-128-10, by batch."""

    name: str
    noise: str
    batch: tuple[int, int]


PEERS = (
    Peer(name="aihwkit 1.2.0, C++ engine", noise="output and PCM read noise", batch=(1_121, 2_032)),
    Peer(name="aihwkit 1.2.0, torch tile", noise="output noise", batch=(613, 11_139)),
    Peer(name="aihwkit-lightning 2.1.0", noise="output noise", batch=(1_485, 21_182)),
    Peer(name="CrossSim 3.2.0", noise="read noise", batch=(29, 19)),
)
"""Medians measured on another machine (one thread of two shared AMD EPYC cores, November 2026)."""


def model_speed(seed: int) -> dict[str, dict[str, Any]]:
    """Return what `_measure` finds in a fresh process with one thread.

    Raises
    ------
    BitlineError
        If that process fails or takes too long.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _SLOWING}
    environment |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        done = subprocess.run([sys.executable, "-m", "host.speed", str(seed)], cwd=_ROOT, env=environment, text=True,
                              capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise BitlineError(f"measuring the model's speed took more than {_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        reason = done.stderr.splitlines() or ["no reason told"]
        raise BitlineError(f"measuring the model's speed failed: {reason[-1]}")
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def _measure(seed: int) -> dict[str, dict[str, Any]]:
    """Return rates by what was run and batch: images or vectors a second, `best` and `median` of the repeats."""
    digits = mnist()
    found: dict[str, dict[str, Any]] = {}
    for name, placement in (
            ("784-256-128-10 on tiles of 512 x 512", wide_placement(digits.train[:200])),
            ("784-128-10 on tiles of 112 x 64",
             compile_network(load_network(MODEL), preset("demo"), digits.train[:200]))):
        with open_device(f"model:{placement.geometry.name}", seed=seed) as device:
            device.configure(placement)
            device.program(technology("pcm"))
            found[name] = {str(batch): _rate(lambda n: device.infer(digits.test[:n]), batch) for batch in BATCHES}
    tile = _tile(seed)
    found["one tile of 1,024 x 1,024"] = {str(batch): _rate(tile, batch) for batch in BATCHES}
    return found


def wide_placement(calibration: Any) -> Placement:
    """Return 784-256-128-10 placed on tiles of 512 x 512."""
    return compile_network(random_network(SIZES), preset("tile512"), calibration)


def _rate(action: Callable[[int], Any], batch: int) -> dict[str, float]:
    """Return items a second of an action on a batch, repeated for a while."""
    action(batch)  # what is made once is made now
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while not taken or time.perf_counter() < end:
        began = time.perf_counter()
        action(batch)
        taken.append(time.perf_counter() - began)
    return {"best": batch / min(taken), "median": batch / statistics.median(taken)}


def random_network(sizes: tuple[int, ...]) -> Network:
    """Return random dense layers: speed does not depend on what they have learnt."""
    rng = np.random.default_rng(1)
    return Network(sizes[0], tuple(
        Dense(f"layer{k}", rng.normal(size=(outputs, inputs)) / np.sqrt(inputs), np.zeros(outputs), k + 2 < len(sizes))
        for k, (inputs, outputs) in enumerate(itertools.pairwise(sizes))))


def _tile(seed: int) -> Callable[[int], Any]:
    """Return an action that multiplies a batch of vectors by one tile, noise on, with new noise at every call."""
    geometry = preset("tile1024")
    rng = np.random.default_rng(seed)
    tiles = Tiles(geometry)
    tiles.settings["seed"] = seed
    tiles.records[0] |= {"rows": geometry.rows, "columns": geometry.columns, "adc_gain": _GAIN}
    tiles.write(EngineRegion.INPUTS, 0, 1 << 6)
    tiles.set_nets(0, rng.integers(-60, 61, (geometry.rows, geometry.columns)))
    for name, value in (("scale", _SCALE), ("bias", _BIAS), ("noise", _NOISE)):
        tiles.set_constants(name, 0, np.full(geometry.columns, value))
    x = rng.integers(-127, 128, (max(BATCHES), geometry.rows)).astype(np.int8)
    event = itertools.count()

    def multiply(batch: int) -> None:
        first = next(event) * batch
        tiles.accept(Message(route=0, kind=FlitKind.ACTIVATION, events=np.arange(first, first + batch),
                             times=np.zeros(batch, np.int64), elements=x[:batch]))

    return multiply


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]))))
