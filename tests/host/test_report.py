"""Figures and page from made-up results: everything is drawn, nothing is lost, and the page tells what it stands on."""

import dataclasses
import re
import struct

import numpy as np
import pytest

from host.errors import BitlineError
from host.honesty import assumed, modelled, not_modelled
from host.report import write_report
from host.results import AGES, AccuracyAtAge, BitExact, DemoResult, LayerAtAge, Maps, Pictures, WriteVerify, age_name
from rtl.params import preset
from sim.presets import PCM

SECONDS = (0.0, 3600.0, 86400.0, 30 * 86400.0, 365 * 86400.0)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(3)
    targets = [rng.normal(0, 8, shape) for shape in ((40, 12), (12, 10))]
    return Pictures(
        maps=tuple(Maps(layer=name, gmax=25.0, target=t, programmed=t + rng.normal(0, 1, t.shape))
                   for name, t in zip(("hidden <1>", "output"), targets, strict=True)),
        pulses=rng.integers(2, 9, 600), sums=rng.integers(-200, 200, 600), wanted_sums=rng.normal(0, 100, 600),
        verify_window=10.0, codes=rng.integers(0, 1000, 255), clips=0.001, digits=rng.random((20, 784)),
        labels=np.arange(20) % 10, answers=np.where(np.arange(20) == 7, 3, np.arange(20) % 10),
        confidence=rng.random(20))


@pytest.fixture(scope="module")
def result():
    accuracy = tuple(AccuracyAtAge(seconds=s, compensated=c, values=(0.97, 0.96, 0.95 - 0.01 * k))
                     for c in (False, True) for k, s in enumerate(SECONDS))
    layers = tuple(LayerAtAge(seconds=s, compensated=c, layer=name, gain=1 - 0.1 * k, relative_error=0.05 + 0.1 * k,
                              error_after_gain=0.05)
                   for c in (False, True) for k, s in enumerate(SECONDS) for name in ("hidden <1>", "output"))
    return DemoResult(
        technology="pcm", geometry="demo", network="net.onnx", seed=1, images=1000, accuracy_float=0.971,
        accuracy_fresh=accuracy[0], accuracy_by_age=accuracy, layers_by_age=layers,
        write_verify=WriteVerify(devices=203_264, pulses_mean=3.2, converged_fraction=0.999, error_rms_us=0.98,
                                 error_rms_percent_of_gmax=3.9),
        bit_exact=BitExact(images=64, parts={"outputs": (640, 0), "device states": (203_264, 0)}),
        simulation="run", cycles_per_image=916, lower_bound_cycles=911, macs=101_632, lanes=112)


def sizes(path):
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", content[16:24])


def test_page_and_figures(result, pictures, tmp_path):
    page = write_report(tmp_path / "new" / "folder", result, pictures, PCM)
    text = page.read_text("utf-8")
    found = sorted(path.name for path in page.parent.glob("*.png"))
    assert found == ["accuracy.png", "adc.png", "digits.png", "layers.png", "maps-0.png", "maps-1.png",
                     "write-verify.png"]
    for name in found:
        width, height = sizes(page.parent / name)
        assert width > 600
        assert height > 300
    assert text.count("data:image/png;base64,") == len(found)
    assert not re.search(r'(src|href)="(?!data:)', text), "the page needs nothing beside itself"
    assert "hidden &lt;1&gt;" in text
    assert "hidden <1>" not in text
    assert "$" not in re.sub(r"base64,[^\"]*", "", text), "every place in the template is filled"
    for words in ("97.1%", "differing integers of 203,904", "An MLP hides a common factor", "1 month", "1 year"):
        assert words in text
    for line in (*modelled(PCM, preset("demo")), *not_modelled(PCM), *assumed(PCM)):
        assert line.replace("'", "&#x27;") in text


def test_figures_are_the_same_for_the_same_results(result, pictures, tmp_path):
    for name in ("a", "b"):
        write_report(tmp_path / name, result, pictures, PCM)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_page_without_simulation_says_so(result, pictures, tmp_path):
    alone = dataclasses.replace(result, bit_exact=None, simulation="the bit-exact check was not run: no compiler")
    text = write_report(tmp_path, alone, pictures, PCM).read_text("utf-8")
    assert "The bit-exact check was not run: no compiler" in text
    assert "differing integers" not in text


def test_a_directory_that_cannot_be(result, pictures, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BitlineError, match="cannot be written"):
        write_report(tmp_path / "file", result, pictures, PCM)


def test_effects_that_are_off_are_not_modelled():
    chip = preset("demo")
    before, after = modelled(PCM, chip), modelled(PCM.replace(drift=False), chip)
    assert len(after) == len(before) - 1
    assert any(line.startswith("drift") for line in before)
    assert not any(line.startswith("drift of") for line in after)
    assert "drift of conductance, with an exponent of its own for each device: switched off" in not_modelled(
        PCM.replace(drift=False))
    assert any("no source" in line for line in not_modelled(PCM.replace(drift_mean=None)))
    assert any(line.startswith("step = 0.5") for line in assumed(PCM))


def test_numbers_for_json(result):
    values = result.as_dict()
    for key in ("accuracy_float", "accuracy_fresh", "accuracy_fresh_sigma", "accuracy_by_age", "layers_by_age",
                "images", "bit_exact", "write_verify", "cycles_per_image", "lower_bound_cycles", "mac_per_cycle",
                "lanes"):
        assert key in values
    assert values["bit_exact"]["compared_integers"] == 203_904
    assert values["bit_exact"]["differing"] == 0
    assert values["write_verify"]["error_rms_uS"] == 0.98
    assert values["accuracy_by_age"][1] == {
        "seconds": 3600.0, "compensated": False, "accuracy": pytest.approx((0.97 + 0.96 + 0.94) / 3),
        "sigma": pytest.approx((7 / 3) ** 0.5 / 100)}
    assert {"seconds", "compensated", "layer", "gain", "relative_error"} <= set(values["layers_by_age"][0])
    assert values["mac_per_cycle"] == pytest.approx(101_632 / 916)


def test_one_difference_is_counted():
    assert BitExact(images=1, parts={"a": (5, 0), "b": (7, 2)}).differing == 2


@pytest.mark.parametrize(("seconds", "words"), [(value, name) for name, value in AGES.items()] + [
    (90.0, "1.5 minutes"), (7200.0, "2 hours"), (10 * 86400.0, "10 days"), (0.5, "0.5 seconds")])
def test_ages_in_words(seconds, words):
    assert age_name(seconds) == words
