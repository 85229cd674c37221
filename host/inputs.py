"""What comes in from files and from the command line: data sets, networks, ages; checked, and refused by name."""

import dataclasses
import io
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.compiler import compile_network
from host.data import mnist
from host.errors import BitlineError
from host.network import Network, load_network
from host.placement import Placement
from host.slicing import BIT_NET, slice_network
from rtl.params import Geometry

__all__ = ["Data", "calibrated_network", "load_data", "parse_age", "place"]

CALIBRATION = 500
"""Vectors of the data from which ranges are taken where the file has no calibration of its own."""

_UNITS = {"s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0,
          "day": 86400.0, "w": 7 * 86400.0, "week": 7 * 86400.0, "month": 30 * 86400.0, "y": 365 * 86400.0,
          "year": 365 * 86400.0}


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """Inputs x (N, inputs), labels y (N,) if there are any, and what to calibrate with."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.int64] | None
    calibration: NDArray[np.float64]


def parse_age(text: str) -> float:
    """Return seconds of an age such as `3600`, `1h`, `1day`, `30 days`, `1 year` or `fresh`.

    Raises
    ------
    BitlineError
        If it is not an age, or is negative.
    """
    if text.strip() == "fresh":
        return 0.0
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]*)\s*", text)
    unit = match.group(2).lower() if match else ""
    factor = _UNITS.get(unit or "s", _UNITS.get(unit.removesuffix("s")))
    if match is None or factor is None or not math.isfinite(float(match.group(1))):
        raise BitlineError(f"{text!r} is not an age: write seconds, or for example 1h, 1day, 1month, 1year, fresh")
    return float(match.group(1)) * factor


def load_data(name: str, *, images: int | None = None) -> Data:
    """Return the data of an .npz file with `x`, `y` (optional) and `calibration` (optional), or those called `mnist`.

    Raises
    ------
    BitlineError
        If the file cannot be read, or its arrays have wrong shapes or hold anything but finite numbers.
    """
    if name == "mnist":
        digits = mnist()
        found = Data(name, np.asarray(digits.test, np.float64), digits.test_labels,
                     np.asarray(digits.train[:CALIBRATION], np.float64))
    else:
        found = _load_file(Path(name))
    if images is None:
        return found
    if not 0 < images <= len(found.x):
        raise BitlineError(f"--images {images}: {name} has 1 to {len(found.x)}")
    return dataclasses.replace(found, x=found.x[:images], y=None if found.y is None else found.y[:images])


def _load_file(path: Path) -> Data:
    try:
        file = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise BitlineError(f"{path} is one array, not an .npz file with x")
        arrays = {key: file[key] for key in file.files}
    except FileNotFoundError:
        raise BitlineError(f"{path} does not exist") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BitlineError(f"{path} is not an .npz file of numbers ({type(error).__name__})") from error
    if "x" not in arrays:
        raise BitlineError(f"{path} has no x, only {', '.join(arrays) or 'nothing'}")
    x = _vectors(path, "x", arrays["x"])
    calibration = _vectors(path, "calibration", arrays["calibration"]) if "calibration" in arrays else x[:CALIBRATION]
    if calibration.shape[1] != x.shape[1]:
        raise BitlineError(f"{path}: calibration has {calibration.shape[1]} values a vector, x has {x.shape[1]}")
    y = arrays.get("y")
    if y is not None and (y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer)):
        raise BitlineError(f"{path}: y must be {len(x)} whole numbers, one for each of x, not {y.dtype} {y.shape}")
    return Data(path.name, x, None if y is None else y.astype(np.int64), calibration)


def _vectors(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.float64]:
    if array.ndim < 2 or not len(array) or array.dtype.kind not in "buif":
        raise BitlineError(f"{path}: {name} must be numbers (N, ...) with N of at least 1, "
                           f"not {array.dtype} {array.shape}")
    vectors = array.reshape(len(array), -1).astype(np.float64)
    good = np.isfinite(vectors).all(axis=1)
    if not good.all():
        raise BitlineError(f"{path}: {name}[{int(np.argmin(good))}] holds NaN or infinity")
    return vectors


def place(path: str | Path, geometry: Geometry, calibration: Any | None, *, bits: bool = False) -> Placement:
    """Return a placement: read from the file of `bitline compile`, or compiled from an ONNX file.

    Parameters
    ----------
    bits : a cell holds a bit, not a weight

    Raises
    ------
    BitlineError
        If there is nothing to calibrate with, or of another size.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return Placement.load(path, geometry)
    network, calibration = calibrated_network(path, calibration)
    if bits:
        return slice_network(network, geometry, calibration, BIT_NET * geometry.significance)
    return compile_network(network, geometry, calibration)


def calibrated_network(path: str | Path, calibration: Any | None) -> tuple[Network, Any]:
    """Return the network of an ONNX file, and what to calibrate it with, (N, inputs).

    Raises
    ------
    BitlineError
        If there is nothing to calibrate with, or of another size.
    """
    network = load_network(path)
    if calibration is None:
        raise BitlineError(f"{path} must be calibrated: give --data with inputs of the kind that it will see")
    if calibration.shape[1] != network.input_size:
        raise BitlineError(f"the data has {calibration.shape[1]} values a vector, {path} takes {network.input_size}")
    return network, calibration
