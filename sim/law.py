"""Published numbers and laws: small frozen objects that know their unit, their source and how far to trust it.

The marks of trust: C read in a program's source code, A abstract or publisher's page, N second-hand note, D derived
here, M from memory, X assumed, U given by the user.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FORMS", "TRUST", "Ageing", "Floats", "Law", "Number"]

Floats = NDArray[np.float64]

TRUST = {"C": "read in source code", "A": "abstract or publisher's page", "N": "second-hand note", "D": "derived",
         "M": "from memory, unchecked", "X": "assumed", "U": "given by the user"}

G_FLOOR = 1e-7
"""Smallest g that a logarithm sees (as in aihwkit)."""


def _polynomial(g: Floats, *powers: float) -> Floats:
    return np.asarray(np.polynomial.polynomial.polyval(g, powers), np.float64)


def _clipped_log(g: Floats, start: float, slope: float, low: float, high: float) -> Floats:
    return np.clip(start + slope * np.log(np.maximum(g, G_FLOOR)), low, high)


def _branches(g: Floats, split: float, start: float, slope: float, low: float, high: float, *powers: float) -> Floats:
    return np.where(g < split, _clipped_log(g, start, slope, low, high), _polynomial(g, *powers))


def _inverse_power(g: Floats, scale: float, power: float, top: float, floor: float) -> Floats:
    return np.minimum(scale / np.maximum(g**power, floor), top)


def _power(g: Floats, scale: float, power: float) -> Floats:
    return scale * g**power


def _saturating(g: Floats, height: float, width: float) -> Floats:
    return height * -np.expm1(-g / width)


def _exponential(g: Floats, constant: float, scale: float, rate: float) -> Floats:
    return constant + scale * np.exp(rate * g)


def _logarithm(g: Floats, constant: float, slope: float, shift: float) -> Floats:
    return constant + slope * np.log(g + shift)


@dataclasses.dataclass(frozen=True)
class _Form:
    function: Callable[..., Floats]
    least: int
    most: int
    text: str


_MANY = 16

FORMS: dict[str, _Form] = {
    "polynomial": _Form(_polynomial, 1, _MANY, "c0 + c1 g + c2 g^2 + ..."),
    "clipped-log": _Form(_clipped_log, 4, 4, "c0 + c1 ln g, clipped to c2...c3"),
    "branches": _Form(_branches, 6, _MANY, "g < c0: c1 + c2 ln g, clipped to c3...c4; else c5 + c6 g + ..."),
    "inverse-power": _Form(_inverse_power, 4, 4, "min(c2, c0 / max(g^c1, c3))"),
    "power": _Form(_power, 2, 2, "c0 g^c1"),
    "saturating": _Form(_saturating, 2, 2, "c0 (1 - exp(-g / c1))"),
    "exponential": _Form(_exponential, 3, 3, "c0 + c1 exp(c2 g)"),
    "logarithm": _Form(_logarithm, 3, 3, "c0 + c1 ln(g + c2)"),
}
"""What a law may look like: its function of g, and how many coefficients it takes."""


@dataclasses.dataclass(frozen=True)
class Number:
    """One published number."""

    value: float
    unit: str
    trust: str
    source: str

    def __post_init__(self) -> None:
        _check_source(self)
        if not math.isfinite(self.value):
            raise ValueError(f"{self.value!r} is no number")

    @property
    def one(self) -> float:
        """The number."""
        return float(self.value)

    def __str__(self) -> str:
        return f"{self.value:g}" if self.unit == "1" else f"{self.value:g} {self.unit}"


@dataclasses.dataclass(frozen=True)
class Law:
    """A quantity as a function of g, the place of a device between its lowest (0) and largest (1) conductance."""

    form: str
    coefficients: tuple[float, ...]
    unit: str
    trust: str
    source: str

    def __post_init__(self) -> None:
        _check_source(self)
        if self.form not in FORMS:
            raise ValueError(f"unknown form {self.form!r}: choose from {', '.join(FORMS)}")
        form = FORMS[self.form]
        if not form.least <= len(self.coefficients) <= form.most:
            count = str(form.least) if form.least == form.most else f"{form.least} to {form.most}"
            raise ValueError(f"form {self.form!r} takes {count} coefficients, not {len(self.coefficients)}")
        if not all(map(math.isfinite, self.coefficients)):
            raise ValueError(f"coefficients {self.coefficients} are not all numbers")

    def __call__(self, g: Any) -> Floats:
        """Return the quantity at each g, in `unit`."""
        return FORMS[self.form].function(np.asarray(g, np.float64), *self.coefficients)

    def scaled(self, factor: float) -> "Law":
        """Return a polynomial law times a factor."""
        assert self.form == "polynomial"
        return dataclasses.replace(self, coefficients=tuple(factor * c for c in self.coefficients))

    def __str__(self) -> str:
        text = f"{self.form}({', '.join(f'{c:.6g}' for c in self.coefficients)})"
        return text if self.unit == "1" else f"{text} {self.unit}"


@dataclasses.dataclass(frozen=True)
class Ageing:
    """A quantity of g that changes with age: laws and the ages (s) that they belong to.

    `between` says what holds between them: `refused` (nothing is known), `linear` (interpolated in time), or
    `logarithm` (two laws and one age: the first, plus the second times ln(t / 1 s), from that age on).
    """

    between: str
    ages: tuple[float, ...]
    laws: tuple[Law, ...]

    def __post_init__(self) -> None:
        if self.between not in ("refused", "linear", "logarithm"):
            raise ValueError(f"unknown between {self.between!r}: choose from refused, linear, logarithm")
        wanted = 2 if self.between == "logarithm" else len(self.ages)
        if not self.ages or len(self.laws) != wanted or (self.between == "logarithm" and len(self.ages) != 1):
            raise ValueError(f"{len(self.ages)} ages and {len(self.laws)} laws do not fit {self.between!r}")
        if list(self.ages) != sorted(set(self.ages)) or self.ages[0] < 0:
            raise ValueError("ages must be 0 or more and rise")

    @property
    def source(self) -> str:
        """Where the laws come from."""
        return self.laws[0].source

    @property
    def trust(self) -> str:
        """The mark of the laws."""
        return self.laws[0].trust

    @property
    def unit(self) -> str:
        """The unit of the laws."""
        return self.laws[0].unit

    def covers(self, age: float) -> bool:
        """Tell whether the data reach to an age."""
        if self.between == "refused":
            return age in self.ages
        return age >= self.ages[0] and (self.between == "logarithm" or age <= self.ages[-1])

    def ages_text(self) -> str:
        """Return the ages that the data reach, in words."""
        words = [_age_text(age) for age in self.ages]
        if self.between == "refused":
            return f"exactly {', '.join(words)}"
        return f"{words[0]} to {words[-1]}" if self.between == "linear" else f"{words[0]} and more"

    def at(self, age: float, g: Any) -> Floats:
        """Return the quantity at an age; outside the data it is extrapolated, linearly in time or its logarithm."""
        if self.between == "logarithm":
            return self.laws[0](g) + self.laws[1](g) * math.log(max(age, G_FLOOR))
        if len(self.ages) == 1:
            return self.laws[0](g)
        place: Callable[[float], float] = float if self.between == "linear" else lambda t: math.log(max(t, G_FLOOR))
        k = min(max(sum(a <= age for a in self.ages) - 1, 0), len(self.ages) - 2)
        first, second = place(self.ages[k]), place(self.ages[k + 1])
        share = (place(age) - first) / (second - first)
        return (1 - share) * self.laws[k](g) + share * self.laws[k + 1](g)


def _age_text(age: float) -> str:
    for unit, seconds in (("day", 86_400.0), ("h", 3600.0)):
        if age >= seconds and age % seconds == 0:
            count = int(age / seconds)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return f"{age:g} s"


def _check_source(found: Number | Law) -> None:
    if found.trust not in TRUST:
        raise ValueError(f"unknown trust {found.trust!r}: choose from {', '.join(TRUST)}")
    if not found.source.strip():
        raise ValueError("a source is missing")
