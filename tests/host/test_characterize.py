"""Pages of a technology: what there is a source for is drawn, and the rest is named."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from host.cli import app
from host.crossbar import Crossbar
from sim.presets import technology

PAGES = {"pulse-response", "programming-error", "drift-fan", "read-noise", "convergence"}


def characterize(name, directory):
    ran = CliRunner().invoke(app, ["characterize", name, "--output", str(directory), "--json", "-"])
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


@pytest.mark.parametrize(("name", "drawn"), [
    ("pcm", PAGES), ("rram-wan2022", {"programming-error", "drift-fan", "read-noise"}), ("sram", set()),
    ("ecram", {"pulse-response", "convergence"}), ("pcm-set", {"pulse-response", "convergence"})])
def test_pages(tmp_path, name, drawn):
    found = characterize(name, tmp_path)
    assert set(found["pages"]) == drawn
    assert set(found["absent"]) == PAGES - drawn
    assert all(name in why for why in found["absent"].values())
    for page in drawn:
        assert (tmp_path / f"{page}.png").read_bytes().startswith(b"\x89PNG")
    assert found["not_modelled"]


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    ran = CliRunner().invoke(app, ["characterize", "pcm-set", "--output", str(tmp_path / "file")])
    assert ran.exit_code == 2
    assert "the pages cannot be written to" in ran.stderr


def test_a_tile_multiplies():
    """Weights that are exact, and read noise of the law: sigma = 0.0175 sqrt(sum |w| x**2)."""
    rng = np.random.default_rng(1)
    kind = technology("pcm").replace(programming=False, drift=False, flicker_noise=False)
    targets = np.rint(200 * rng.uniform(-1, 1, (12, 8))) / 200
    tile = Crossbar(kind.replace(read=False), 12, 8, way="statistical", adc_bits=12).program(targets)
    np.testing.assert_allclose(tile.weights(), targets, atol=1e-9)
    x = rng.uniform(-1, 1, (50, 12))
    np.testing.assert_allclose(tile.multiply(x), np.rint(127 * x) / 127 @ targets, atol=2e-3)
    noisy = Crossbar(kind, 12, 8, way="statistical", adc_bits=12).program(targets)
    reads = noisy.multiply(np.ones((4000, 12)))
    np.testing.assert_allclose(reads.std(axis=0), 0.0175 * np.sqrt(np.abs(targets).sum(axis=0)), rtol=0.06)


def test_an_ideal_partner_is_exactly_low():
    kind = technology("pcm").replace(flicker_noise=False)
    tile = Crossbar(kind, 8, 8, ideal_partner=True).program(0.5)
    assert not tile.devices()[0][..., 1].any()
    assert Crossbar(kind, 8, 8).program(0.5).devices()[0][..., 1].any()
