"""What a host knows of a programmed device and the device does not: kept in a file, so that another host can go on.

References of compensation are measured at t0 and cannot be measured again. A host that opens a programmed device
without them must program it anew; with a session it goes on, if the device still holds what it held.
"""

import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from host import compensation
from host.compensation import Affine, Statistics
from host.device import Device
from host.errors import BitlineError
from host.placement import Placement
from rtl.params import geometry_hash
from sim.technology import Technology

__all__ = ["resume", "save"]

_FORMAT = 1
_PLAIN = ("seed", "chip", "epoch", "event", "age_seconds", "probes", "gains")


def save(device: Device, path: str | Path) -> None:
    """Write the session of a programmed device to a file; the device is read, not changed.

    Raises
    ------
    BitlineError
        If nothing is programmed, or the file cannot be written.
    """
    if device.placement is None or device.technology is None:
        raise BitlineError("nothing is programmed on this device: there is no session to save")
    head = {name: getattr(device, name) for name in _PLAIN} | _identity(device, device.placement, device.technology)
    head |= {"format": _FORMAT, "inner": device.inner_state()}
    arrays: dict[str, Any] = {"head": json.dumps(head)}
    for k, (words, reference) in enumerate(zip(device.affine, device.reference, strict=True)):
        arrays |= {f"scales{k}": words.scales, f"biases{k}": words.biases, f"reference{k}": reference}
    for k, one in enumerate(device.statistics):
        arrays |= {f"mean{k}": one.mean, f"variance{k}": one.variance}
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    try:
        Path(path).write_bytes(content.getvalue())
    except OSError as error:
        raise BitlineError(f"{path} cannot be written: {error.strerror}") from error


def resume(device: Device, path: str | Path, placement: Placement, technology: Technology) -> None:
    """Take up the session of a file on a device that was programmed in it; nothing is written to the device.

    Raises
    ------
    BitlineError
        If the file is no session, or is one of another placement, technology or chip, or if the device holds other
        states or column constants than when it was saved; the device must then be configured and programmed anew.
    """
    try:
        file = np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False)
        head = json.loads(str(file["head"]))
        arrays = {name: file[name] for name in file.files}
        if head["format"] != _FORMAT:
            raise ValueError
    except FileNotFoundError:
        raise BitlineError(f"{path} does not exist") from None
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        raise BitlineError(f"{path} is not a session") from None
    if placement.geometry != device.geometry:
        raise BitlineError("the placement is for another chip than this device")
    held, device.placement = device.placement, placement
    try:
        found = _identity(device, placement, technology)
    finally:
        device.placement = held
    for name, value in found.items():
        if head[name] != value:
            raise BitlineError(f"{path} is no session of this device: its {name} differ; "
                               "configure and program the device")
    device.placement, device.technology = placement, technology
    for name in _PLAIN:
        setattr(device, name, head[name])
    tiles = placement.tiles
    device.affine = [Affine(arrays[f"scales{k}"], arrays[f"biases{k}"]) for k in range(len(tiles))]
    device.reference = [arrays[f"reference{k}"] for k in range(len(tiles))]
    device.statistics = [Statistics(arrays[f"mean{k}"], arrays[f"variance{k}"])
                         for k in range(len(tiles)) if f"mean{k}" in arrays]
    device.plans = [compensation.plan(device.probes, tile, technology, device.geometry) for tile in tiles]
    device.set_inner_state(head["inner"])


def _identity(device: Device, placement: Placement, technology: Technology) -> dict[str, int]:
    """Return checksums of everything that must be the same."""
    return {
        "sizes": geometry_hash(device.geometry),
        "targets and scales": _checksum([array for tile in placement.tiles for array in (tile.targets, tile.scales)]),
        "numbers of the technology": zlib.crc32(repr(technology).encode()),
        "states": _checksum(device.read_back()),
        "column constants": _checksum(device.column_constants()),
    }


def _checksum(arrays: list[Any]) -> int:
    value = 0
    for array in arrays:
        value = zlib.crc32(np.ascontiguousarray(array, np.int64).tobytes(), value)
    return value
