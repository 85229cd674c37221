"""A user's own technology: what the file says is what the chip gets, and each mistake is named."""

import re
from pathlib import Path

import numpy as np
import pytest

from host.errors import BitlineError
from host.technologies import load_technology, technology_named
from rtl.params import Table
from sim.law import FORMS
from sim.presets import TECHNOLOGIES
from sim.tables import tables
from sim.technology import Technology, sigma_programmed

PAGE = Path(__file__).parent.parent.parent / "docs" / "technologies.md"

GOOD = """
name = "mine"
title = "a device of my own"
pulse = "melt"
[gmax]
value = 50
unit = "uS"
source = "my laboratory"
[programmed]
form = "polynomial"
coefficients = [1, 0.5]
unit = "uS"
source = "my laboratory"
[spread]
between = "linear"
ages = [0, 86400]
form = "polynomial"
laws = [[1, 0.5], [2.0]]
unit = "uS"
source = "my laboratory"
"""


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    return str(path)


def test_a_file_becomes_tables(tmp_path):
    device = technology_named(written(tmp_path, GOOD))
    assert device.programmed.trust == "U"
    np.testing.assert_allclose(sigma_programmed(device, [0, 1]), [1, 1.5])
    np.testing.assert_allclose(sigma_programmed(device, [0, 1], 43_200), [1.5, 1.75])
    assert tables(device, way="statistical")[Table.RELAX_SIGMA][0] == 1024


def test_a_file_may_start_from_a_preset(tmp_path):
    device = load_technology(written(tmp_path, 'base = "pcm"\nname = "warm"\n[t0]\nvalue = 30.0\nunit = "s"\n'
                                               'source = "mine"\n'))
    assert device.t0.one == 30
    assert device.programmed == TECHNOLOGIES["pcm"].programmed


@pytest.mark.parametrize(("old", "new", "words"), [
    ("[gmax]", "[gmax", "is no TOML"),
    ("[gmax]", "[gmin]", "gmax is missing"),
    ('pulse = "melt"', "", "pulse is missing"),
    ('pulse = "melt"', "pulse = 3", "pulse must be text, not a number"),
    ('pulse = "melt"', 'pulse = "hammer"', "unknown pulse 'hammer'"),
    ("[programmed]", "[programed]", "unknown key 'programed'"),
    ("value = 50", "valeu = 50", r"unknown key 'valeu' in \[gmax\]"),
    ("value = 50", 'value = "50"', r"value of \[gmax\] must be a number, not text"),
    ("value = 50", "value = true", r"value of \[gmax\] must be a number, not true or false"),
    ("value = 50", "value = nan", r"\[gmax\]: nan is no number"),
    ("value = 50", "value = -2", "gmax must be above gmin"),
    ('unit = "uS"\nsource = "my laboratory"\n[programmed]', 'unit = "uS"\n[programmed]', r"\[gmax\] has no source"),
    ('unit = "uS"\nsource = "my laboratory"\n[programmed]', 'unit = "uS"\nsource = " "\n[programmed]',
     r"\[gmax\]: a source is missing"),
    ("coefficients = [1, 0.5]", 'coefficients = ["a"]', r"\[programmed\]: an entry of coefficients must be a number"),
    ('form = "polynomial"\ncoeff', 'form = "spline"\ncoeff', r"\[programmed\]: unknown form 'spline'"),
    ('form = "polynomial"\ncoeff', 'form = "clipped-log"\ncoeff', "form 'clipped-log' takes 4 coefficients, not 2"),
    ('between = "linear"', 'between = "cubic"', r"\[spread\]: unknown between 'cubic'"),
    ("ages = [0, 86400]", "ages = [0]", r"\[spread\]: 1 ages and 2 laws do not fit"),
    ("ages = [0, 86400]", "ages = [5, 4]", r"\[spread\]: ages must be 0 or more and rise"),
    ('pulse = "melt"', 'pulse = "melt"\nprogrammed = 3', r"is no TOML|must be a table \[programmed\], not a number"),
    ('name = "mine"', 'base = "flash"\nname = "mine"', "unknown technology 'flash'"),
])
def test_each_mistake_is_named(tmp_path, old, new, words):
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(BitlineError, match=words) as caught:
        technology_named(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BitlineError, match="does not exist"):
        technology_named(str(tmp_path / "none.toml"))


def test_the_page_names_every_preset_form_and_quantity():
    page = PAGE.read_text("utf-8")
    known = {*TECHNOLOGIES, *FORMS, *Technology.__dataclass_fields__} - {
        "programming", "window_error", "verify_noise", "relaxation", "drift", "flicker_noise", "read", "illustrative",
        "extrapolate"}
    assert {name for name in known if f"`{name}`" not in page} == set()


def test_the_example_of_the_page_is_accepted(tmp_path):
    example = re.search(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL).group(1)
    assert load_technology(written(tmp_path, example)).name == "my-rram"
