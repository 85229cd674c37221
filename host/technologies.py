"""Technologies by name or from a user's TOML file; docs/technologies.md describes the file."""

import dataclasses
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from host.errors import BitlineError
from sim.law import Ageing, Law, Number
from sim.presets import technology
from sim.technology import Technology

__all__ = ["load_technology", "technology_named"]

_NUMBERS = ("gmax", "gmin", "headroom", "t0", "t_read", "cycle_spread", "device_spread", "range_spread", "asymmetry",
            "asymmetry_spread", "write_noise", "endurance", "endurance_spread", "stuck_rate", "stuck_value",
            "activation_energy", "on_off", "mismatch", "converter_gain_spread",
            "converter_offset_spread", "pulse_share", "window", "averages", "iterations", "step", "train_move",
            "sweep_reads", "least_move", "refresh_share")
_LAWS = ("programmed", "drift_mean", "drift_spread", "flicker", "read_noise", "step_up", "step_down")
_AGEINGS = ("spread", "shift")
_PLAIN: dict[str, type] = {"name": str, "title": str, "pulse": str, "base": str, "steady": bool}

_COMMON: dict[str, type] = {"unit": str, "trust": str, "source": str}
_KEYS: dict[str, dict[str, type]] = {
    "number": {"value": float, **_COMMON},
    "law": {"form": str, "coefficients": list, **_COMMON},
    "ageing": {"between": str, "ages": list, "form": str, "laws": list, **_COMMON},
}


def technology_named(name: str, *, extrapolate: bool = False, illustrative: bool = False,
                     without: Iterable[str] = (), faults: Iterable[str] = (),
                     temperature: float | None = None) -> Technology:
    """Return a preset, or the technology of a .toml file, with some effects switched off and some faults on, read at
    a temperature (degrees Celsius).

    Raises
    ------
    BitlineError
        If there is no such preset, effect or fault, or something is wrong with the file.
    """
    try:
        found = load_technology(name) if name.endswith(".toml") else technology(name)
        for effect in without:
            found = found.without(effect)
        found = found.replace(extrapolate=extrapolate, illustrative=illustrative)
        for fault in faults:
            found = found.with_fault(fault)
        if temperature is not None:
            found = found.at_temperature(temperature)
    except ValueError as error:
        raise BitlineError(str(error)) from None
    return found


def load_technology(path: str | Path) -> Technology:
    """Return the technology that a TOML file describes.

    Raises
    ------
    BitlineError
        If the file cannot be read, is no TOML, has an unknown key, a wrong type, or a quantity without a source; the
        sentence names it.
    """
    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise BitlineError(f"{path} does not exist") from None
    except OSError as error:
        raise BitlineError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BitlineError(f"{path} is no TOML: {error}") from None
    try:
        return _technology(content)
    except (ValueError, TypeError) as error:
        raise BitlineError(f"{path}: {error}") from None


def _technology(content: dict[str, Any]) -> Technology:
    fields: dict[str, Any] = {}
    for key, value in content.items():
        if key in _PLAIN:
            fields[key] = _typed(key, value, _PLAIN[key])
        elif (kind := _kind(key)) is not None:
            fields[key] = _quantity(key, kind, value)
        else:
            raise ValueError(f"unknown key {key!r}")
    base = technology(fields.pop("base")) if "base" in fields else None
    for key in ("name",) if base else ("name", "title", "pulse", "gmax"):
        if key not in fields:
            raise ValueError(f"{key} is missing")
    return base.replace(**fields) if base else Technology(**fields)


def _kind(key: str) -> str | None:
    return {**dict.fromkeys(_NUMBERS, "number"), **dict.fromkeys(_LAWS, "law"),
            **dict.fromkeys(_AGEINGS, "ageing")}.get(key)


def _quantity(name: str, kind: str, table: Any) -> Number | Law | Ageing:
    if not isinstance(table, dict):
        raise ValueError(f"{name} must be a table [{name}], not {_type(table)}")
    known = _KEYS[kind]
    for key in table:
        if key not in known:
            raise ValueError(f"unknown key {key!r} in [{name}]: it may have {', '.join(known)}")
    found = {"unit": "1", "trust": "U"} | {key: _typed(f"{key} of [{name}]", value, known[key])
                                           for key, value in table.items()}
    for key in known:
        if key not in found:
            raise ValueError(f"[{name}] has no {key}")
    try:
        return _MAKE[kind](found)
    except ValueError as error:
        raise ValueError(f"[{name}]: {error}") from None


def _number(found: dict[str, Any]) -> Number:
    return Number(**found)


def _law(found: dict[str, Any]) -> Law:
    return Law(**found | {"coefficients": _numbers("coefficients", found["coefficients"])})


def _ageing(found: dict[str, Any]) -> Ageing:
    common = {key: found[key] for key in ("form", *_COMMON)}
    laws = tuple(_law(common | {"coefficients": _typed("an entry of laws", row, list)}) for row in found["laws"])
    return Ageing(found["between"], _numbers("ages", found["ages"]), laws)


_MAKE: dict[str, Callable[[dict[str, Any]], Number | Law | Ageing]] = {
    "number": _number, "law": _law, "ageing": _ageing}


def _numbers(name: str, values: list[Any]) -> tuple[float, ...]:
    return tuple(_typed(f"an entry of {name}", value, float) for value in values)


def _typed(name: str, value: Any, wanted: type) -> Any:
    """Return a value if it has the wanted type; a whole number will do for a number."""
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f"{name} must be {_NAMES[wanted]}, not {_type(value)}")
    return value


_NAMES = {str: "text", float: "a number", bool: "true or false", list: "a list"}


def _type(value: Any) -> str:
    return _NAMES.get(type(value), "a table" if isinstance(value, dict) else "a number" if isinstance(value, int)
                      else type(value).__name__)


# Every quantity of a technology may come from a file.
assert {field.name for field in dataclasses.fields(Technology)} >= {*_NUMBERS, *_LAWS, *_AGEINGS}
