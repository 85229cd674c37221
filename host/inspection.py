"""The work behind `bitline devices`, `info` and `regs`: what there is, and what it holds."""

import dataclasses
from typing import Any

from host.api import list_devices, open_device
from host.backend import Backend
from host.console import Screen
from host.errors import BitlineError
from rtl.params import PRESETS, REGISTER_MAP, Geometry, PortRegion, Register, geometry_hash, preset
from rtl.params.registers import address
from sim.law import TRUST, Ageing
from sim.presets import TECHNOLOGIES
from sim.technology import Technology

__all__ = ["list_everything", "show_info", "show_registers"]

_SINGLE = (PortRegion.REGISTERS, PortRegion.COUNTERS)
"""Regions of single registers, the same in every kind of unit."""


def list_everything(screen: Screen) -> None:
    """Print devices, geometries and technologies."""
    found = list_devices()
    screen.table(["device", ""], found)
    screen.say()
    screen.table(["geometry", "engines", "tile", "lanes", "contexts", "pairs", "hash"], [
        (g.name, g.engines, f"{g.rows} x {g.columns}", g.total_lanes, g.contexts, g.pairs, f"{geometry_hash(g):08x}")
        for g in PRESETS.values()])
    screen.say()
    screen.table(["technology", "", "pulses", "Gmax"],
                 [(t.name, t.title, t.pulse, str(t.gmax)) for t in TECHNOLOGIES.values()])
    for found_technology in TECHNOLOGIES.values():
        screen.say(f"\n{found_technology.name}")
        screen.table(["quantity", "value", "mark", "source"], _quantities(found_technology))
    screen.say("\nmarks: " + "; ".join(f"{mark} {text}" for mark, text in TRUST.items())
               + ". M is off unless --illustrative.")
    screen.result({"devices": [{"url": url, "text": text} for url, text in found], "geometries": list(PRESETS),
                   "technologies": {t.name: {
                       "title": t.title, "pulse": t.pulse, "quantities": [
                           dict(zip(("name", "value", "mark", "source"), row, strict=True)) for row in _quantities(t)]}
                       for t in TECHNOLOGIES.values()}})


def _quantities(technology: Technology) -> list[tuple[str, str, str, str]]:
    """Return (quantity, value, mark, source) of everything known of a technology."""
    rows = []
    for name, known in technology.quantities().items():
        text = name.replace("_", " ")
        if isinstance(known, Ageing):
            when = [known.ages_text()] * 2 if known.between == "logarithm" else [f"{age:g} s" for age in known.ages]
            rows += [(f"{text}, {age}", str(law), law.trust, law.source)
                     for age, law in zip(when, known.laws, strict=True)]
        else:
            rows.append((text, str(known), known.trust, known.source))
    return rows


def show_info(url: str, seed: int | None, screen: Screen) -> None:
    """Print geometry and counters of a device."""
    with open_device(url, seed=seed, progress=screen.tell) as device:
        counters, cycles = device.counters(), device.backend.cycles()
    geometry = device.geometry
    screen.table(["geometry", ""], list(dataclasses.asdict(geometry).items()))
    screen.say()
    screen.table(["counter", ""], [(name, f"{value:,}") for name, value in counters.items()])
    if cycles is not None:
        screen.say(f"cycles since power-up: {cycles:,}")
    screen.result({"device": url, "geometry": dataclasses.asdict(geometry), "counters": counters, "cycles": cycles,
                   "geometry_hash": f"{geometry_hash(geometry):08x}"})


def show_registers(url: str | None, geometry_name: str, seed: int | None, screen: Screen) -> None:
    """Print the register map, and what single registers hold if there is a device."""
    rows = [(register.unit, register.region.name, f"{register.offset:#x}", register.name, register.bits,
             register.access, register.text) for register in REGISTER_MAP]
    if url is None:
        try:
            geometry = preset(geometry_name)
        except ValueError as error:
            raise BitlineError(str(error)) from None
        screen.table(["unit", "region", "offset", "name", "bits", "access", "meaning"], rows)
        screen.say(f"address = unit << 24 | region << 20 | offset; units of {geometry.name}: "
                   + ", ".join(f"{unit} {kind}" for unit, kind in _units(geometry)))
        screen.result([dict(zip(("unit", "region", "offset", "name", "bits", "access", "text"), row, strict=True))
                       for row in rows])
        return
    with open_device(url, seed=seed, progress=screen.tell) as device:
        values = _values(device.backend)
    screen.table(["address", "unit", "register", "value"],
                 [(f"{place:#09x}", unit, name, value) for place, unit, name, value in values])
    screen.result([{"address": place, "unit": unit, "name": name, "value": value}
                   for place, unit, name, value in values])


def _units(geometry: Geometry) -> list[tuple[int, str]]:
    return [(0, "port"), *((unit, "engine") for unit in range(1, geometry.engines + 1)),
            (geometry.digital_unit, "digital")]


def _values(backend: Backend) -> list[tuple[int, str, str, int]]:
    """Return (address, unit, name, value) of every single register that can be read."""
    found = []
    for unit, kind in _units(backend.geometry):
        for register in REGISTER_MAP:
            if register.unit == kind and int(register.region) in _SINGLE and "r" in register.access:
                found.append((address(unit, register.region, register.offset), f"{kind} {unit}",
                              f"{register.region.name.lower()}.{register.name}", _value(backend, unit, register)))
    return found


def _value(backend: Backend, unit: int, register: Register) -> int:
    words: list[Any] = backend.read(unit, register.region, register.offset, 2 if register.bits == 64 else 1).tolist()
    value = sum(int(word) << 32 * k for k, word in enumerate(words))
    bits = 32 if register.signed else register.bits
    return value - (1 << bits) if register.signed and value >> (bits - 1) else value


