"""Data files and ages: what they mean, and what is refused by name."""

import numpy as np
import pytest

from host.errors import BitlineError
from host.inputs import load_data, parse_age


@pytest.mark.parametrize(("text", "seconds"), [
    ("fresh", 0), ("0", 0), ("3600", 3600), ("1h", 3600), ("1 hour", 3600), ("2hours", 7200), ("1day", 86400),
    ("30 days", 30 * 86400), ("1month", 30 * 86400), ("1 year", 365 * 86400), ("1e3 s", 1000), (".5 min", 30),
    ("1w", 7 * 86400),
])
def test_ages(text, seconds):
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "old", "-1", "1 fortnight", "1h 2min", "nan", "inf", "1e999", "day"])
def test_ages_refused(text):
    with pytest.raises(BitlineError, match="is not an age"):
        parse_age(text)


def test_images_become_vectors(tmp_path):
    rng = np.random.default_rng(1)
    x, y = rng.random((7, 2, 3)), np.arange(7)
    np.savez(tmp_path / "a.npz", x=x, y=y, calibration=x[:2])
    data = load_data(str(tmp_path / "a.npz"), images=5)
    np.testing.assert_array_equal(data.x, x[:5].reshape(5, 6))
    np.testing.assert_array_equal(data.y, y[:5])
    np.testing.assert_array_equal(data.calibration, x[:2].reshape(2, 6))


def test_calibration_is_the_data_itself_if_there_is_no_other(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 4), np.uint8))
    data = load_data(str(tmp_path / "a.npz"))
    assert data.y is None
    np.testing.assert_array_equal(data.calibration, np.ones((3, 4)))


@pytest.mark.parametrize(("arrays", "words"), [
    ({"z": np.ones((2, 2))}, "has no x, only z"),
    ({"x": np.ones(4)}, "x must be numbers"),
    ({"x": np.ones((0, 4))}, "x must be numbers"),
    ({"x": np.array([["a", "b"]])}, "x must be numbers"),
    ({"x": np.ones((2, 2), complex)}, "x must be numbers"),
    ({"x": np.array([[1.0, 2.0], [np.nan, 0.0]])}, r"x\[1\] holds NaN"),
    ({"x": np.array([[1.0, np.inf]])}, r"x\[0\] holds NaN or infinity"),
    ({"x": np.ones((2, 2)), "y": np.arange(3)}, "y must be 2 whole numbers"),
    ({"x": np.ones((2, 2)), "y": np.ones(2)}, "y must be 2 whole numbers"),
    ({"x": np.ones((2, 2)), "calibration": np.ones((2, 3))}, "calibration has 3 values"),
])
def test_wrong_arrays_are_named(arrays, words, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BitlineError, match=words):
        load_data(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\3\4cut"])
def test_damaged_files_are_named(content, tmp_path):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(BitlineError, match=r"a\.npz is not an \.npz file"):
        load_data(str(tmp_path / "a.npz"))


def test_one_array_is_no_data(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    with pytest.raises(BitlineError, match="is one array"):
        load_data(str(tmp_path / "a.npy"))


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{1: 2}], object))
    with pytest.raises(BitlineError, match="not an"):
        load_data(str(tmp_path / "a.npz"))


def test_missing_file():
    with pytest.raises(BitlineError, match=r"nothing\.npz does not exist"):
        load_data("nothing.npz")


@pytest.mark.parametrize("images", [0, -1, 1001])
def test_number_of_images(images):
    with pytest.raises(BitlineError, match="1 to 1000"):
        load_data("mnist", images=images)
