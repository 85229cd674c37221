"""Networks, technologies and devices that the tests of whole chips share."""

import dataclasses
import itertools

import numpy as np
from hypothesis import strategies as st

from boards.verilator import VerilatedChip
from host.backend import LinkBackend, ModelBackend
from host.channels import Channel, LoopbackChannel, SimChannel
from host.compiler import CapacityError, compile_network
from host.device import Device
from host.link import Link
from host.network import Dense, Network
from rtl.params import Geometry
from sim.chip import Chip
from sim.link import Endpoint
from sim.presets import technology
from sim.tables import noise_gain

SWITCHES = ("programming", "drift", "flicker_noise", "read")


class OwnedChip(SimChannel):
    """A channel to a verilated chip that is freed with it."""

    def __init__(self, geometry: Geometry, *, rx: int = 1, tx: int = 1, **options) -> None:
        self.chip = VerilatedChip(geometry)
        self.chip.pace(rx=rx, tx=tx)
        super().__init__(self.chip, **options)

    def close(self) -> None:
        self.chip.close()


def model(geometry: Geometry, **options) -> Device:
    """Return the numpy model, by its own ways of doing much at once."""
    return Device(ModelBackend(geometry), **options)


def registers(geometry: Geometry, **options) -> Device:
    """Return the numpy model, register by register behind the protocol."""
    return linked(LoopbackChannel(Endpoint(Chip(geometry), geometry)), geometry, **options)


def verilated(geometry: Geometry, *, rx: int = 1, tx: int = 1, **options) -> Device:
    """Return the gates, with at least so many clocks from byte to byte."""
    return linked(OwnedChip(geometry, rx=rx, tx=tx), geometry, **options)


def linked(channel: Channel, geometry: Geometry, *, timeout: float = 0.25, tries: int = 8, **options) -> Device:
    """Return a device behind a channel."""
    return Device(LinkBackend(Link(channel, geometry, timeout=timeout, tries=tries)), **options)


def network(sizes: tuple[int, ...], seed: int) -> Network:
    """Return a chain of random dense layers, relu between them."""
    rng = np.random.default_rng(seed)
    layers = []
    for k, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        weight = rng.normal(size=(outputs, inputs)) / np.sqrt(inputs)
        layers.append(Dense(f"layer{k}", weight, rng.normal(size=outputs) / 4, relu=k + 2 < len(sizes)))
    return Network(sizes[0], tuple(layers))


def images(sizes: tuple[int, ...], seed: int, count: int):
    """Return random inputs (count, inputs), of both signs."""
    return np.random.default_rng(seed).normal(size=(count, sizes[0]))


def place(sizes: tuple[int, ...], seed: int, geometry: Geometry):
    """Return the placement of `network`."""
    return compile_network(network(sizes, seed), geometry, images(sizes, seed + 1, 16))


def fits(sizes: tuple[int, ...], geometry: Geometry) -> bool:
    """Tell whether a chip has room for layers of these sizes."""
    try:
        place(sizes, 0, geometry)
    except CapacityError:
        return False
    return True


def bearable(kind, geometry: Geometry, placement) -> bool:
    """Tell whether the read noise of the smallest tile fits its register: with two pairs it needs a few rows."""
    try:
        return all(noise_gain(kind, geometry, tile.rows) >= 0 for tile in placement.tiles)
    except ValueError:
        return False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One random run. `switches` are those of the technology; `verify` its numbers (averages, iterations, window)."""

    sizes: tuple[int, ...]
    seed: int
    chip: int
    kind: str
    switches: tuple[bool, ...]
    verify: tuple[int, int, float]
    ages: tuple[float, ...]
    count: int
    rx: int
    tx: int

    @property
    def technology(self):
        """The technology with what is switched off, and with its settings of write-verify."""
        base = technology(self.kind)
        averages, iterations, window = self.verify
        numbers = {"averages": averages, "iterations": iterations, "window": base.window.one * window}
        return base.replace(extrapolate=True, **dict(zip(SWITCHES, self.switches, strict=True)), **{
            name: dataclasses.replace(getattr(base, name), value=value) for name, value in numbers.items()})


def cases(geometry: Geometry, *, largest: int, count: int = 4):
    """Return a strategy of cases whose networks fit a chip."""
    size = st.integers(1, largest)
    sizes = st.lists(size, min_size=2, max_size=4).map(tuple).filter(lambda found: fits(found, geometry))
    ages = st.lists(st.sampled_from([1.0, 3600.0, 86400.0, 2.6e6, 3.15e7, 1e9]), max_size=2, unique=True)
    return st.builds(
        Case, sizes=sizes, seed=st.integers(0, 2**32 - 1), chip=st.integers(0, 255),
        kind=st.sampled_from(["pcm", "pcm", "ideal", "pcm-set", "rram-sb", "ecram"]),
        switches=st.tuples(*[st.booleans()] * len(SWITCHES)),
        verify=st.tuples(st.integers(1, 16), st.integers(1, 6), st.sampled_from([0.25, 1.0, 4.0])),
        ages=ages.map(sorted).map(tuple), count=st.integers(1, count), rx=st.integers(1, 9), tx=st.integers(1, 40))
