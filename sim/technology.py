"""Device technologies: what is known of one kind of memory device, and what follows from it.

A technology is data: numbers and laws, each with its source (`sim/presets.py` has those of the literature, a user's own
come from a file, `sim/technology_file.py`). What has no source is absent, and asking for it is refused by name. Below,
g is the place of a device between its lowest (0) and its largest (1) conductance; quantities in the unit of Gmax are
absolute. `sim/tables.py` makes fixed-point tables of them.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from sim.law import Ageing, Floats, Law, Number

__all__ = ["CLOSED_LOOP", "EFFECTS", "FAULTS", "GRADIENT", "PULSES", "STATISTICAL", "TEMPERATURES", "WAYS",
           "Technology", "drift_mean", "drift_spread", "heat_shift", "mean_shift", "sigma_flicker",
           "sigma_programmed", "sigma_pulse", "sigma_read"]

PULSES = ("melt", "one-way", "bipolar", "bits")
"""What a pulse does: makes a new state (melt), only adds (one-way; back by RESET only), moves both ways, sets a bit."""

CLOSED_LOOP, STATISTICAL, GRADIENT = "closed-loop", "statistical", "gradient"
_WORDS = {"activation_energy": "temperature law", "programmed": "spread of programmed devices", "flicker": "1/f noise",
          "step_up": "pulse response"}
"""Quantities that are not called by their field's name."""

WAYS = (CLOSED_LOOP, STATISTICAL, GRADIENT)
"""Programming: by write-verify in the chip, the published distribution in one step, or by gradient descent from the
host, which reads whole arrays. What pulses and relaxation are is the same in the first and the last."""


EFFECTS = {"programming": "programming", "window": "window_error", "verify-noise": "verify_noise",
           "relaxation": "relaxation", "drift": "drift", "1/f": "flicker_noise", "read": "read"}
"""Effects that can be switched off, and their switches."""


FAULTS = {"stuck": ("stuck", "stuck_rate", "1", 1.0), "wear": ("wear", "endurance", "pulses", 1e12),
          "converters": ("converters", "converter_gain_spread", "1", 0.4)}
"""Faults that can be switched on: switch, quantity, its unit and largest value."""


TEMPERATURES = (-40.0, 125.0)
"""Lowest and highest temperature of an array, in degrees Celsius."""

_HEAT = (0.5, 1.27)
"""Least and largest growth of a conductance: shifts have 16 bits, and engines hold 1.275 Gmax."""
_BOLTZMANN, _KELVIN, _PROGRAMMED_AT = 8.617333e-5, 273.15, 25.0  # eV/K, K, degrees Celsius


@dataclasses.dataclass(frozen=True, kw_only=True)
class Technology:
    """What is known of one kind of device. A quantity that is None has no source."""

    name: str
    title: str
    pulse: str
    """One of PULSES."""

    gmax: Number
    gmin: Number | None = None
    """Lowest conductance; 0 if None."""
    headroom: Number | None = None
    """How far, in units of g, devices may scatter below their lowest conductance; they are clamped there."""
    t0: Number | None = None
    """Time of the first read after programming: age 0."""
    t_read: Number | None = None

    programmed: Law | None = None
    """Spread of a programmed device at its first read."""
    spread: Ageing | None = None
    """Spread at an age, where it is published against time; that of the first read included."""
    shift: Ageing | None = None
    """Shift of the mean at an age."""
    drift_mean: Law | None = None
    """Mean drift exponent nu: G(t) = G (t / t0)**-nu."""
    drift_spread: Law | None = None
    """Its spread from device to device."""
    flicker: Law | None = None
    """1/f noise over sqrt(ln((t + t_read) / (2 t_read))): relative to the conductance if its unit is 1."""
    read_noise: Law | None = None
    """White noise of one read of a weight g, in units of the largest weight."""
    steady: bool = False
    """Nothing changes with age, by definition."""

    step_up: Law | None = None
    """Gain of g by one pulse of unit amplitude."""
    step_down: Law | None = None
    """Loss of g by one pulse of unit amplitude."""
    cycle_spread: Number | None = None
    """Spread of a step from pulse to pulse, relative to the step, or absolute if its unit is "g"."""
    device_spread: Number | None = None
    """Spread of the step from device to device, relative to the step; above one half, of its logarithm."""
    range_spread: Number | None = None
    """Spread of the largest conductance from device to device, relative to it."""
    asymmetry: Number | None = None
    """By how much steps down (if positive) or up (if negative) are smaller, relative to the step."""
    asymmetry_spread: Number | None = None
    write_noise: Number | None = None
    """Spread between the state that steps see and the one that reads see, drawn anew at each pulse, in units of g."""
    endurance: Number | None = None
    """Pulses after which half of the devices are worn."""
    endurance_spread: Number | None = None
    """Spread of its natural logarithm."""
    stuck_rate: Number | None = None
    stuck_value: Number | None = None
    activation_energy: Number | None = None
    """Of the conductance against temperature."""
    on_off: Number | None = None
    """Ratio of the two states of a bit."""
    converter_gain_spread: Number | None = None
    """Spread of the gain of the converters of an array, relative to it."""
    converter_offset_spread: Number | None = None
    """Spread of their offset, in codes."""
    mismatch: Number | None = None
    """Spread of a bit's conductance from cell to cell, relative to it."""

    train_move: Number | None = None
    """Share of the range that a train of gradual pulses moves a device; a pulse, where one moves it further."""
    sweep_reads: Number | None = None
    """Reads in which the largest trains sweep the range: trains are as long as this needs."""
    least_move: Number | None = None
    """Move of the weakest gradual pulse of a device at its largest step, in windows."""
    refresh_share: Number | None = None
    """Where the partner of a one-way device stands at most, as g; beyond it the pair is RESET."""

    pulse_share: Number | None = None
    """Spread of one programming pulse, in units of the spread of a programmed device."""
    window: Number | None = None
    """Accepted difference to the target in a verify read."""
    averages: Number | None = None
    iterations: Number | None = None
    step: Number | None = None
    """Share of a measured error that the next pulse corrects."""

    programming: bool = True
    """Spread of programmed devices, in every form."""
    window_error: bool = True
    """Pulses scatter, so that write-verify leaves what its window accepts; off, a pulse lands where it aims."""
    verify_noise: bool = True
    """Noise of verify reads."""
    relaxation: bool = True
    """Spread that follows after the last pulse and that write-verify cannot remove."""
    drift: bool = True
    """Drift of the mean: exponent, or shift."""
    flicker_noise: bool = True
    read: bool = True
    """White noise of reads."""
    stuck: bool = False
    """Some devices are stuck."""
    wear: bool = False
    """Pulses wear devices, in builds that count it."""
    converters: bool = False
    """Converters differ, in builds where they can."""
    temperature: float | None = None
    """Of the array when it is read, in degrees Celsius; None is that of programming, 25."""
    illustrative: bool = False
    """Numbers from memory (mark M) count, too; results are illustrations then."""
    extrapolate: bool = False
    """Ages outside the data are allowed; results are extrapolations then."""

    def __post_init__(self) -> None:
        if self.pulse not in PULSES:
            raise ValueError(f"technology {self.name!r}: unknown pulse {self.pulse!r}: choose from {', '.join(PULSES)}")
        if self.range <= 0:
            raise ValueError(f"technology {self.name!r}: gmax must be above gmin")

    def replace(self, **changes: Any) -> "Technology":
        """Return a copy with some quantities or switches changed."""
        return dataclasses.replace(self, **changes)

    @property
    def range(self) -> float:
        """Gmax - Gmin."""
        return self.gmax.one - (0.0 if self.gmin is None else self.gmin.one)

    def quantities(self) -> dict[str, Number | Law | Ageing]:
        """Return everything that is known, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, (Number, Law, Ageing))}

    def without(self, effect: str) -> "Technology":
        """Return a copy with an effect of EFFECTS switched off, or raise ValueError that lists them."""
        if effect not in EFFECTS:
            raise ValueError(f"unknown effect {effect!r}: choose from {', '.join(EFFECTS)}")
        return self.replace(**{EFFECTS[effect]: False})

    def number(self, name: str) -> Number:
        """Return a number by name, or raise ValueError if this technology has none, or has it from memory only."""
        found = self._known(name)
        assert isinstance(found, Number), name
        return found

    def law(self, name: str) -> Law:
        """Return a law by name, or raise ValueError if this technology has none, or has it from memory only."""
        found = self._known(name)
        assert isinstance(found, Law), name
        return found

    def with_fault(self, text: str) -> "Technology":
        """Return a copy with a fault of FAULTS switched on: its name, or name=value in place of the source's number.

        Raises
        ------
        ValueError
            If there is no such fault, or the value is none.
        """
        name, _, value = text.partition("=")
        if name not in FAULTS:
            raise ValueError(f"unknown fault {name!r}: choose from {', '.join(FAULTS)}")
        switch, quantity, unit, largest = FAULTS[name]
        changes: dict[str, Any] = {switch: True}
        if value:
            try:
                number = float(value)
            except ValueError:
                number = math.nan
            if not 0 <= number <= largest:
                raise ValueError(f"{name}={value}: {quantity.replace('_', ' ')} must be 0 to {largest:g}")
            changes[quantity] = Number(number, unit, "U", "as asked for")
        if switch == "stuck" and self.stuck_value is None:
            changes["stuck_value"] = Number(0.0, "1", "X", "assumed: at the lowest conductance")
        found = self.replace(**changes)
        found.number(quantity)
        return found

    def at_temperature(self, celsius: float) -> "Technology":
        """Return a copy that is read at a temperature, or raise ValueError if no source tells what it does."""
        self.number("activation_energy")
        low, high = TEMPERATURES
        if not low <= celsius <= high:
            raise ValueError(f"temperature must be {low:g} to {high:g} degrees Celsius, not {celsius:g}")
        if not _HEAT[0] <= self.heat(celsius) <= _HEAT[1]:
            raise ValueError(f"technology {self.name!r} conducts {self.heat(celsius):.3g} times as well at {celsius:g} "
                             f"degrees Celsius as at {_PROGRAMMED_AT:g}: a chip's tables hold {_HEAT[0]:g} to "
                             f"{_HEAT[1]:g} times")
        return self.replace(temperature=celsius)

    def heat(self, celsius: float) -> float:
        """Return by how much conductances grow from programming to a temperature."""
        inverse = [1 / (value + _KELVIN) for value in (_PROGRAMMED_AT, celsius)]
        return math.exp(self.number("activation_energy").one / _BOLTZMANN * (inverse[0] - inverse[1]))

    def _known(self, name: str) -> Any:
        found = getattr(self, name, None)
        words = _WORDS.get(name, name.replace("_", " "))
        if found is None:
            raise ValueError(f"technology {self.name!r} has no {words}: no source tells it")
        if found.trust == "M" and not self.illustrative:
            raise ValueError(f"technology {self.name!r} has its {words} from memory only, unchecked: "
                             "--illustrative allows it")
        return found

    def check_age(self, seconds: float) -> None:
        """Raise ValueError if an age is none, or lies outside the data and may not be extrapolated."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"age must be 0 or more seconds, not {seconds!r}")
        if self.extrapolated(seconds) and not self.extrapolate:
            reach = next((law.ages_text() for law in (self.spread, self.shift)
                          if law is not None and not law.covers(seconds)), "age 0 only: it has no law of time")
            raise ValueError(f"technology {self.name!r} has data at {reach}, not at {seconds:g} s: "
                             "--extrapolate goes beyond them")

    def extrapolated(self, seconds: float) -> bool:
        """Tell whether an age lies outside the data; age 0, the first read, never does."""
        if seconds == 0 or self.steady:
            return False
        laws = [law for law in (self.spread, self.shift) if law is not None]
        return not all(law.covers(seconds) for law in laws) if laws else self.drift_mean is None

    def check_way(self, way: str) -> None:
        """Raise ValueError if a device of this kind cannot be programmed in a way."""
        if way not in WAYS:
            raise ValueError(f"unknown programming {way!r}: choose from {', '.join(WAYS)}")
        if self.pulse == "bits":
            raise ValueError(f"technology {self.name!r} holds bits: compile the network with --technology {self.name}")
        if way == STATISTICAL:
            if not self.steady:
                self.law("programmed")
            return
        if way == GRADIENT and self.pulse == "one-way":
            raise ValueError(f"technology {self.name!r} steps one way only: gradient descent would fill both devices "
                             f"of a cell; choose programming {CLOSED_LOOP}")
        try:
            self._check_closed_loop()
        except ValueError as error:
            if self.steady or self.programmed is not None:
                raise ValueError(f"{error}; choose programming {STATISTICAL}") from None
            raise

    def _check_closed_loop(self) -> None:
        for name in ("window", "averages", "iterations", "step"):
            self.number(name)
        if self.pulse == "melt":
            self.number("pulse_share")
        else:
            for name in ("step_up", "step_down")[:1 + (self.pulse == "bipolar")]:
                self.law(name)


def sigma_programmed(device: Technology, g: Any, age_seconds: float = 0.0) -> Floats:
    """Return the published spread of devices programmed to g, at an age; 0 if programming noise is off or absent."""
    g = np.asarray(g, np.float64)
    if not device.programming or device.programmed is None:
        return np.zeros_like(g)
    if age_seconds == 0 or device.spread is None:
        sigma = device.programmed(g)
    else:
        sigma = device.spread.at(age_seconds, g + mean_shift(device, g, age_seconds) / device.range)
    return np.maximum(sigma, 0)


def mean_shift(device: Technology, g: Any, age_seconds: float) -> Floats:
    """Return how far the mean of devices programmed to g has moved at an age; 0 if drift is off or absent."""
    g = np.asarray(g, np.float64)
    if not device.drift or device.shift is None or age_seconds == 0:
        return np.zeros_like(g)
    return device.shift.at(age_seconds, g)


def heat_shift(device: Technology, g: Any) -> Floats:
    """Return how far devices at g move by the temperature of their reads, T: G exp(Ea / k (1 / T0 - 1 / T)) - G."""
    g = np.asarray(g, np.float64)
    if device.temperature is None:
        return np.zeros_like(g)
    lowest = 0.0 if device.gmin is None else device.gmin.one
    return (lowest + g * device.range) * (device.heat(device.temperature) - 1)


def sigma_pulse(device: Technology, g: Any) -> Floats:
    """Return the spread of one melt pulse to g; RESET (g = 0) has none: its spread is all relaxation."""
    g = np.asarray(g, np.float64)
    share = device.number("pulse_share").one if device.window_error else 0.0
    return sigma_programmed(device, g) * np.where(g > 0, share, 0.0)


def drift_mean(device: Technology, g: Any) -> Floats:
    """Return the mean drift exponent at g; 0 if drift is off or absent."""
    return _law(device.drift_mean if device.drift else None, g)


def drift_spread(device: Technology, g: Any) -> Floats:
    """Return the spread of the drift exponent from device to device at g; 0 if drift is off or absent."""
    return _law(device.drift_spread if device.drift else None, g)


def sigma_flicker(device: Technology, g: Any, age_seconds: float) -> Floats:
    """Return the spread of 1/f noise at an age relative to the conductance of then; 0 if off or absent."""
    g = np.asarray(g, np.float64)
    if not device.flicker_noise or device.flicker is None:
        return np.zeros_like(g)
    t_read = device.number("t_read").one
    since = age_seconds + (0.0 if device.t0 is None else device.t0.one)
    sigma = device.flicker(g) * math.sqrt(math.log(max((since + t_read) / (2 * t_read), 1.0)))
    if device.flicker.unit == "1":
        return sigma
    lowest = 0.0 if device.headroom is None else device.headroom.one * device.range
    return sigma / np.maximum(g * device.range + lowest + mean_shift(device, g, age_seconds), 1e-9)


def sigma_read(device: Technology, g: Any) -> Floats:
    """Return the white noise of one read of a weight g, in units of the largest weight; 0 if off or absent."""
    return np.maximum(_law(device.read_noise if device.read else None, g), 0)


def _law(law: Law | None, g: Any) -> Floats:
    return np.zeros_like(np.asarray(g, np.float64)) if law is None else law(g)
