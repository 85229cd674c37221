"""What experiments bring home: plain numbers, ready for reports, tables and JSON."""

import dataclasses
import enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AccuracyAtAge", "BitExact", "DemoResult", "LayerAtAge", "Maps", "Outcome", "Pictures",
           "WriteVerify", "age_name"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

class Outcome(enum.IntEnum):
    """How write-verify of a cell ended. One that does not respond is worn if it took that many pulses, else stuck."""

    CONVERGED = 0
    FAILED = 1
    WORN = 2
    STUCK = 3


AGES = {"fresh": 0.0, "1 second": 1.0, "1 hour": 3600.0, "1 day": 86400.0, "1 month": 30 * 86400.0,
        "1 year": 365 * 86400.0}
"""Times since programming that people ask for, in seconds."""


def age_name(seconds: float) -> str:
    """Return a time since programming in words."""
    for name, value in AGES.items():
        if value == seconds:
            return name
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} seconds"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccuracyAtAge:
    """Share of right answers, mean and standard deviation over programmings; `values` holds one of each."""

    seconds: float
    compensated: bool
    values: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Mean over the programmings."""
        return float(np.mean(self.values))

    @property
    def sigma(self) -> float:
        """Standard deviation over the programmings."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON holds."""
        return {"seconds": self.seconds, "compensated": self.compensated, "accuracy": self.accuracy,
                "sigma": self.sigma}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerAtAge:
    """One layer's outputs y against those of the exact layer y0 for the same inputs, without bias.

    Attributes
    ----------
    gain : sum of y y0 / sum of y0**2
    relative_error : root of (sum of (y - y0)**2 / sum of y0**2)
    error_after_gain : the same after y is divided by its gain: what a common factor does not explain
    """

    seconds: float
    compensated: bool
    layer: str
    gain: float
    relative_error: float
    error_after_gain: float

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON holds."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WriteVerify:
    """How write-verify ended; errors are those of the programmed cells as probes read them, relaxation included."""

    devices: int
    pulses_mean: float
    converged_fraction: float
    error_rms_us: float
    error_rms_percent_of_gmax: float

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON holds."""
        values = dataclasses.asdict(self)
        values["error_rms_uS"] = values.pop("error_rms_us")
        return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class BitExact:
    """Two devices compared; `parts` tells integers compared and differing of outputs, states, counters..."""

    images: int
    parts: dict[str, tuple[int, int]]

    @property
    def compared(self) -> int:
        """Integers compared."""
        return sum(compared for compared, _ in self.parts.values())

    @property
    def differing(self) -> int:
        """Integers that differ: 0, or a defect."""
        return sum(differing for _, differing in self.parts.values())

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON holds."""
        return {"images": self.images, "compared_integers": self.compared, "differing": self.differing,
                "parts": {name: {"compared": c, "differing": d} for name, (c, d) in self.parts.items()}}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """Net conductances (inputs, outputs) of one layer in uS: wanted, and as probes read them back."""

    layer: str
    gmax: float
    target: Floats
    programmed: Floats

    @property
    def error(self) -> Floats:
        """Programmed minus target."""
        return np.asarray(self.programmed - self.target)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """What figures show beside the numbers.

    Attributes
    ----------
    maps : one for each layer
    pulses : pulses of each cell
    sums, wanted_sums : sums of codes of each cell's last verify, and what they should have been
    verify_window : accepted difference of the two
    codes : ADC codes of inference, counted from -code_max to code_max
    clips : of these, share that was clipped
    digits : images (n, 784), 0 to 1, with `labels`, `answers` (n,) and `confidence` (n,)
    """

    maps: tuple[Maps, ...]
    pulses: Ints
    sums: Ints
    wanted_sums: Floats
    verify_window: float
    codes: Ints
    clips: float
    digits: Floats
    labels: Ints
    answers: Ints
    confidence: Floats


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DemoResult:
    """All that `bitline demo` found."""

    technology: str
    geometry: str
    network: str
    seed: int
    images: int
    accuracy_float: float
    accuracy_fresh: AccuracyAtAge
    accuracy_by_age: tuple[AccuracyAtAge, ...]
    layers_by_age: tuple[LayerAtAge, ...]
    write_verify: WriteVerify
    bit_exact: BitExact | None
    """None where no verilated chip could be made; `simulation` says why."""
    simulation: str
    cycles_per_image: int
    lower_bound_cycles: int
    macs: int
    lanes: int
    busy_cycles_per_image: float | None = None
    """Cycles in which the busiest engine of the verilated chip took a column, or None where it was not run."""
    streaming_cycles_per_image: float | None = None
    """Cycles of a stream through its link, which brings less than the array can take."""
    images_per_second: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def mac_per_cycle(self) -> float:
        """The network's own multiplications over the cycles that the busiest engine computes."""
        return self.macs / (self.busy_cycles_per_image or self.cycles_per_image)

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON holds."""
        return {
            "technology": self.technology, "geometry": self.geometry, "network": self.network, "seed": self.seed,
            "images": self.images,
            "accuracy_float": self.accuracy_float,
            "accuracy_fresh": self.accuracy_fresh.accuracy, "accuracy_fresh_sigma": self.accuracy_fresh.sigma,
            "programmings": len(self.accuracy_fresh.values),
            "accuracy_by_age": [point.as_dict() for point in self.accuracy_by_age],
            "layers_by_age": [point.as_dict() for point in self.layers_by_age],
            "bit_exact": self.bit_exact.as_dict() if self.bit_exact else None,
            "simulation": self.simulation,
            "write_verify": self.write_verify.as_dict(),
            "cycles_per_image": self.busy_cycles_per_image or self.cycles_per_image,
            "cycles_per_image_expected": self.cycles_per_image,
            "cycles_per_image_measured": self.busy_cycles_per_image,
            "cycles_per_image_through_the_link": self.streaming_cycles_per_image,
            "lower_bound_cycles": self.lower_bound_cycles,
            "mac_per_cycle": self.mac_per_cycle, "lanes": self.lanes,
            "lane_utilisation": self.mac_per_cycle / self.lanes,
            "images_per_second": self.images_per_second, "seconds": self.seconds,
        }
