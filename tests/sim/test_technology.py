"""The tables of the technologies against Monte-Carlo in floating point of the laws they come from.

The laws are typed here a second time, from the papers' model as aihwkit has it, and drawn with numpy's own generator.
"""

import numpy as np
import pytest

from rtl.params import Geometry, Table, preset
from rtl.params.formats import GMAX_G16
from sim.array import Array
from sim.technology import (
    TECHNOLOGIES,
    age_settings,
    log_time,
    noise_gain,
    sigma_flicker,
    tables,
    technology,
    verify_settings,
)

GMAX, T0, SIDE = 25.0, 20.0, 100
DAY = 86_400.0
G_VALUES = [1.0, 0.5, 0.25, 0.1]
RECORD = {"tile": 5, "rows": SIDE, "columns": SIDE, "state_base": 0}
GEOMETRY = Geometry(name="statistics", rows=SIDE, columns=SIDE, lanes=SIDE, cells=SIDE * SIDE)
NO_SWITCHES = {"programming": False, "drift": False, "flicker": False, "read": False}


def array_of(device, age=0.0):
    array = Array(GEOMETRY)
    for table, values in tables(device, age).items():
        array.tables[table] = values
    return array, {"seed": 9, "chip": 0, "epoch": 1, "noise_gain": 0, **age_settings(device, age)}


def aged(device, g, age):
    """Present conductance (codes) of devices whose states are exactly g."""
    array, settings = array_of(device, age)
    array.states[:, 0] = round(g * GMAX_G16)
    return array.age(settings, RECORD)[0].ravel()


def assert_close(seen, drawn, statistic, error):
    """Within the larger of 2 % and three standard errors of both samples together."""
    a, b = statistic(seen), statistic(drawn)
    bound = max(0.02 * abs(b), 3 * np.hypot(error(seen), error(drawn)))
    assert abs(a - b) <= bound, (a, b, bound)


def mean_error(x):
    return np.std(x) / np.sqrt(len(x))


def std_error(x):
    return np.std(x) / np.sqrt(2 * len(x))


def drift_exponents(rng, g, count):
    mean = np.clip(0.0244 - 0.0155 * np.log(g), 0.049, 0.1)
    spread = np.clip(-0.0059 - 0.0125 * np.log(g), 0.008, 0.045)
    return np.abs(mean + spread * rng.standard_normal(count))


@pytest.mark.parametrize("age", [3600.0, DAY])
@pytest.mark.parametrize("g", G_VALUES)
def test_pcm_drift_follows_the_published_law(g, age):
    device = technology("pcm").replace(**NO_SWITCHES | {"drift": True})
    factor = aged(device, g, age) / (200 * g)
    drawn = ((age + T0) / T0) ** -drift_exponents(np.random.default_rng(1), g, 100_000)
    assert_close(factor, drawn, np.mean, mean_error)


@pytest.mark.parametrize(("g", "hour", "day"), [(1.0, 0.775, 0.664), (0.5, 0.775, 0.664), (0.1, 0.732, 0.605)])
def test_pcm_drift_at_the_mean_exponent(g, hour, day):
    device = technology("pcm").replace(**NO_SWITCHES | {"drift": True})
    for age, factor in ((3600.0, hour), (DAY, day)):
        assert np.median(aged(device, g, age)) / (200 * g) == pytest.approx(factor, abs=0.5 / 200 / g + 0.005)


@pytest.mark.parametrize("age", [0.0, 3600.0])
@pytest.mark.parametrize("g", [1.0, 0.5, 0.25])
def test_pcm_flicker_follows_the_published_law(g, age):
    device = technology("pcm").replace(**NO_SWITCHES | {"flicker": True})
    codes = aged(device, g, age)
    share = min(0.2, 0.0088 / g**0.65)
    sigma = share * np.sqrt(np.log((age + T0 + 250e-9) / 500e-9))
    drawn = 200 * g * (1 + sigma * np.random.default_rng(2).standard_normal(100_000))
    drawn = np.clip(np.rint(drawn), 0, 255)
    assert_close(codes, drawn, np.std, std_error)


def test_pcm_reset_devices_are_clamped_gaussian():
    array, settings = array_of(technology("pcm"))
    mask = np.ones((SIDE, SIDE, 2), bool)
    array.pulse(settings, RECORD, np.arange(SIDE), mask, np.zeros((SIDE, SIDE), np.int64), 0)
    residual = array.states.ravel() * GMAX / GMAX_G16
    drawn = np.maximum(0, 0.26348 * np.random.default_rng(3).standard_normal(100_000))
    assert_close(residual, drawn, np.std, std_error)
    assert_close(residual, drawn, np.mean, mean_error)


def test_pulses_spread_about_their_amplitude():
    array, settings = array_of(technology("pcm"))
    mask = np.zeros((SIDE, SIDE, 2), bool)
    mask[..., 1] = True
    amplitude = np.full((SIDE, SIDE), GMAX_G16 // 2)
    array.pulse(settings, RECORD, np.arange(SIDE), mask, amplitude, 3)
    states = array.states[:, 1] * GMAX / GMAX_G16
    drawn = GMAX / 2 + 0.5 * 0.9527 * np.random.default_rng(4).standard_normal(100_000)
    assert_close(states, drawn, np.std, std_error)
    assert_close(states, drawn, np.mean, mean_error)
    assert not array.states[:, 0].any()


def test_switches_silence_their_own_effect_only():
    device = technology("pcm")
    full = tables(device, 3600.0)
    silent = {
        "programming": {Table.PULSE_SIGMA, Table.RELAX_SIGMA}, "drift": {Table.NU_MEAN, Table.NU_SIGMA},
        "flicker": {Table.FLICKER}, "read": set(),
    }
    for switch, tables_off in silent.items():
        off = tables(device.replace(**{switch: False}), 3600.0)
        assert {table for table, values in off.items() if not values.any()} == tables_off
        if switch != "read":  # the loop's spread depends on read noise, so relaxation does
            for table in set(Table) - tables_off:
                np.testing.assert_array_equal(off[table], full[table])
    assert noise_gain(device.replace(read=False), GEOMETRY, 100) == 0
    assert verify_settings(device.replace(read=False), GEOMETRY)["verify_noise"] == 0
    assert noise_gain(device, GEOMETRY, 100) > 0


def test_ideal_is_noiseless():
    assert not any(values.any() for values in tables(technology("ideal"), DAY).values())
    assert noise_gain(technology("ideal"), GEOMETRY, 100) == 0


def test_noise_gain_gives_the_published_read_noise():
    """sigma = 0.0175 sqrt(sum |w| x**2): all w = 0.5, all x = 1, in units of one fully-on device."""
    gain = noise_gain(technology("pcm"), GEOMETRY, SIDE)
    constant = np.sqrt(SIDE * 100 * gain) / 4096
    sigma = constant * np.sqrt(SIDE) * 127 / (200 * 127)
    assert sigma == pytest.approx(0.0175 * np.sqrt(SIDE * 0.5), rel=1e-3)
    assert noise_gain(technology("pcm"), GEOMETRY, 1) < 1 << 20


@pytest.mark.parametrize("name", ["tiny", "pairs", "demo"])
def test_verify_range_spans_the_codes(name):
    """A cell at 1.25 Gmax gives the largest code, and a target in g16 the sum of codes that it reads as."""
    geometry = preset(name)
    settings = verify_settings(technology("pcm"), geometry)
    charge = 1.25 * 200 * geometry.significance * 127
    assert charge * settings["verify_gain"] / 2**24 == pytest.approx(geometry.code_max, rel=1e-3)
    target = GMAX_G16 * geometry.significance
    codes = settings["averages"] * geometry.code_max / 1.25
    assert target * settings["counts_per_g"] / 2**16 == pytest.approx(codes, rel=5e-3)
    assert settings["main_scale"] * geometry.significance == pytest.approx(1 << 15, rel=1e-3)
    assert settings["main_step"] * geometry.significance == pytest.approx(settings["minor_step"], rel=1e-3)
    for register, value in settings.items():
        assert 0 <= value < 1 << (20 if register == "verify_gain" else 16)


def test_log_time_and_age():
    device = technology("pcm")
    assert log_time(device, 0) == 0
    assert log_time(device, 20) == 4096
    assert age_settings(device, 60) == {"log_time": 8192, "age": 8192}
    with pytest.raises(ValueError, match="age must be 0 or more seconds, not -1"):
        log_time(device, -1)
    with pytest.raises(ValueError, match="not nan"):
        tables(device, float("nan"))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown technology 'flash': choose from pcm, ideal"):
        technology("flash")
    with pytest.raises(ValueError, match="technology 'ideal' has no flicker_share"):
        technology("ideal").number("flicker_share")


def test_numbers_name_their_source_and_trust():
    for device in TECHNOLOGIES.values():
        assert device.number("gmax").value == GMAX
        for name in ("gmax", "t0", "pulse_share", "window", "averages", "iterations", "step"):
            number = device.number(name)
            assert number.source
            assert set(number.trust) <= set("CANDMX")


def test_flicker_is_not_zero_at_age_zero():
    device = technology("pcm")
    assert sigma_flicker(device, np.array([1.0]), 0.0)[0] == pytest.approx(0.0088 * 4.18, rel=2e-3)
