"""What a result stands on: what is modelled, with its sources, and what is not; made from the settings in use."""

from rtl.params import Geometry
from sim.law import TRUST, Ageing, Law, Number
from sim.technology import CLOSED_LOOP, GRADIENT, Technology

__all__ = ["assumed", "marks", "modelled", "not_modelled"]

_EFFECTS = (
    ("programming", "programmed", "spread of programmed devices"),
    ("programming", "spread", "growth of that spread with age"),
    ("drift", "drift_mean", "drift of conductance, with an exponent of its own for each device"),
    ("drift", "shift", "shift of the mean conductance with age"),
    ("flicker_noise", "flicker", "1/f noise, one value for each device and age"),
    ("read", "read_noise", "white noise of each read"),
)
"""Switch of a technology, the number it needs, and the effect in words."""

_NEVER = (
    "random telegraph noise", "correlation of 1/f noise in time: each age has a value of its own",
    "disturb of half-selected cells", "edges of pulses and jitter of their duration",
    "voltage drop along rows and columns", "non-linearity and noise of the converters themselves",
    "saturation and leakage of the integrating capacitors",
    "energy: events are counted, but not yet weighed",
)


_FAULTS = (("stuck", "stuck devices"), ("wear", "wear of devices by pulses"),
           ("converters", "converters that differ in gain and offset from column to column"))

_OPTIONAL = {"spread", "shift", "drift_mean"}
"""Numbers that a technology has or has not, by how its source tells of time: their absence is told once."""


def modelled(technology: Technology, geometry: Geometry, way: str = CLOSED_LOOP) -> list[str]:
    """Return the effects that are in the numbers, each with its source."""
    effects = [f"{text} ({_source(getattr(technology, number))})" for switch, number, text in _EFFECTS
               if _present(technology, switch, number)]
    programming = "statistical programming: the published distribution in one step, without a verify"
    if way == CLOSED_LOOP:
        programming = (f"write-verify through the array's own read path, window {technology.number('window')}, "
                       f"{technology.number('averages')} a verify, at most {technology.number('iterations')}; "
                       "relaxation after it fills up to the published spread")
    elif way == GRADIENT:
        programming = (f"gradient descent on products of the whole array, window {technology.number('window')}, "
                       f"at most {technology.number('iterations')} steps a phase; relaxation as after write-verify")
    return [
        *effects,
        *([] if technology.temperature is None else [
            f"conductance at {technology.temperature:g} degrees Celsius, with an activation energy "
            f"({_source(technology.number('activation_energy'))})"]),
        *(text for switch, text in _FAULTS if getattr(technology, switch)),
        programming,
        f"conductance of a device in steps of {geometry.state_bits} bits, as the engine reads it of 8",
        "activations of sign and 7 bits, as durations of pulses",
        f"converters of {geometry.adc_bits} bits with a range from calibration, clipping counted",
        "drift compensation measured through the same noisy read path",
        "time of the chip, from the latency of tiles, links and digital unit",
    ]


def not_modelled(technology: Technology) -> list[str]:
    """Return what is switched off or absent, and what does not exist in this machine."""
    off = [f"{text}: {'switched off' if getattr(technology, number) is not None else 'no source tells it'}"
           for switch, number, text in _EFFECTS if not _present(technology, switch, number)
           and (number not in _OPTIONAL or getattr(technology, number) is not None)]
    if not technology.steady and all(getattr(technology, number) is None for number in _OPTIONAL):
        off.append("change with age: no source tells it")
    parts = (("window_error", "what the window of write-verify leaves"), ("verify_noise", "noise of verify reads"),
             ("relaxation", "relaxation after programming"))
    off += [f"{text}: switched off" for switch, text in parts if not getattr(technology, switch)]
    if technology.temperature is None:
        off.append("temperature: arrays are read at that of programming")
    off += [f"{text}: switched off" for switch, text in _FAULTS if not getattr(technology, switch)]
    return [*off, *_NEVER]


def assumed(technology: Technology) -> list[str]:
    """Return the constants that no source gives."""
    found = [f"{name.replace('_', ' ')} = {value}" for name, value in technology.quantities().items()
             if value.trust == "X"]
    return [*found, "a link of the mesh takes 5 ns, a word of the digital unit 1 ns"]


def marks(technology: Technology, age_seconds: float) -> list[str]:
    """Return what every output must say of itself: that it is extrapolated, or an illustration."""
    found = []
    if technology.extrapolated(age_seconds):
        found.append(f"EXTRAPOLATED: {technology.name} at {age_seconds:g} s lies outside its data")
    if technology.illustrative:
        found.append(f"ILLUSTRATIVE: {technology.name} uses numbers from memory, unchecked")
    return found


def _present(technology: Technology, switch: str, number: str) -> bool:
    return bool(getattr(technology, switch)) and getattr(technology, number) is not None


def _source(known: Number | Law | Ageing) -> str:
    return f"{known.source}; {TRUST[known.trust]}"
