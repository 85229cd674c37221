"""What a result stands on: what is modelled, with its sources, and what is not; made from the settings in use."""

from rtl.params import Geometry
from sim.technology import Number, Technology

__all__ = ["assumed", "modelled", "not_modelled"]

_TRUST = {"C": "read in source code", "A": "abstract or publisher's page", "N": "second-hand note", "D": "derived",
          "M": "from memory, unchecked", "X": "assumed"}

_EFFECTS = (
    ("programming", "programmed", "spread of programmed devices, by pulses, write-verify and relaxation after it"),
    ("drift", "drift_mean", "drift of conductance, with an exponent of its own for each device"),
    ("flicker", "flicker_share", "1/f noise, one value for each device and age"),
    ("read", "read_noise_share", "white noise of each read"),
)
"""Switch of a technology, the number it needs, and the effect in words."""

_NEVER = (
    "random telegraph noise", "correlation of 1/f noise in time: each age has a value of its own",
    "temperature", "disturb of half-selected cells", "edges of pulses and jitter of their duration",
    "voltage drop along rows and columns", "non-linearity, mismatch and noise of the converters themselves",
    "saturation and leakage of the integrating capacitors", "broken devices", "wear",
    "energy: events are counted, but not yet weighed",
)


def modelled(technology: Technology, geometry: Geometry) -> list[str]:
    """Return the effects that are in the numbers, each with its source."""
    effects = [f"{text} ({_source(technology.number(number))})" for switch, number, text in _EFFECTS
               if _present(technology, switch, number)]
    return [
        *effects,
        f"conductance of a device in steps of {geometry.state_bits} bits, as the engine reads it of 8",
        "activations of sign and 7 bits, as durations of pulses",
        f"converters of {geometry.adc_bits} bits with a range from calibration, clipping counted",
        f"write-verify through the array's own read path, window {_number(technology.window)}, "
        f"{_number(technology.averages)} a verify, at most {_number(technology.iterations)}",
        "drift compensation measured through the same noisy read path",
        "time of the chip, from the latency of tiles, links and digital unit",
    ]


def not_modelled(technology: Technology) -> list[str]:
    """Return what is switched off or absent, and what does not exist in this machine."""
    off = [f"{text}: {'switched off' if getattr(technology, number) is not None else 'no source tells it'}"
           for switch, number, text in _EFFECTS if not _present(technology, switch, number)]
    return [*off, *_NEVER]


def assumed(technology: Technology) -> list[str]:
    """Return the constants that no source gives."""
    found = []
    for name in vars(technology):
        value = getattr(technology, name)
        if isinstance(value, Number) and value.trust == "X":
            found.append(f"{name.replace('_', ' ')} = {_number(value)}")
    return [*found, "a link of the mesh takes 5 ns, a word of the digital unit 1 ns"]


def _present(technology: Technology, switch: str, number: str) -> bool:
    return bool(getattr(technology, switch)) and getattr(technology, number) is not None


def _source(number: Number) -> str:
    return f"{number.source}; {_TRUST[number.trust]}"


def _number(number: Number) -> str:
    value = f"{number.one:g}" if not isinstance(number.value, tuple) else ", ".join(f"{v:g}" for v in number.value)
    return value if number.unit == "1" else f"{value} {number.unit.replace('uS', 'µS')}"
