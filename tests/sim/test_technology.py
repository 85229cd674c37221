"""The tables of the technologies against Monte-Carlo in floating point of the laws they come from.

The laws are typed here a second time, from the papers' model as aihwkit has it, and drawn with numpy's own generator.
"""

import dataclasses

import numpy as np
import pytest

from rtl.params import Geometry, Table, preset
from rtl.params.formats import GAUSS_FRACTION, GMAX_G16, VARIATION_FRACTION
from rtl.params.registers import EngineRegion, fields
from sim.array import Array, Pulses
from sim.convergence import Loop, converge
from sim.device import relaxed_and_exponent
from sim.presets import TECHNOLOGIES, technology
from sim.tables import age_settings, column_noise, log_time, noise_gain, sigma_loop, tables, verify_settings
from sim.technology import mean_shift, sigma_flicker, sigma_programmed

GMAX, T0, SIDE = 25.0, 20.0, 100
DAY = 86_400.0
G_VALUES = [1.0, 0.5, 0.25, 0.1]
RECORD = {"tile": 5, "rows": SIDE, "columns": SIDE, "state_base": 0}
GEOMETRY = Geometry(name="statistics", rows=SIDE, columns=SIDE, lanes=SIDE, cells=SIDE * SIDE)
NO_SWITCHES = {"programming": False, "drift": False, "flicker_noise": False, "read": False}


def array_of(device, age=0.0):
    array = Array(GEOMETRY)
    for table, values in tables(device, age).items():
        array.tables[table] = values
    return array, {**dict.fromkeys((r.name for r in fields("engine", EngineRegion.REGISTERS)), 0),
                   "seed": 9, "epoch": 1, **age_settings(device, age)}


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
    device = technology("pcm").replace(**NO_SWITCHES | {"flicker_noise": True})
    codes = aged(device, g, age)
    share = min(0.2, 0.0088 / g**0.65)
    sigma = share * np.sqrt(np.log((age + T0 + 250e-9) / 500e-9))
    drawn = 200 * g * (1 + sigma * np.random.default_rng(2).standard_normal(100_000))
    drawn = np.clip(np.rint(drawn), 0, 255)
    assert_close(codes, drawn, np.std, std_error)


def test_pcm_reset_devices_are_clamped_gaussian():
    array, settings = array_of(technology("pcm"))
    mask = np.ones((SIDE, SIDE, 2), bool)
    array.pulse(settings, RECORD, np.arange(SIDE), Pulses.melt(mask, np.zeros((SIDE, SIDE), np.int64)), 0)
    assert not array.states.any(), "the residual is all relaxation: write-verify cannot see it"
    xi = np.rint(np.random.default_rng(2).standard_normal(array.states.size) * (1 << GAUSS_FRACTION)).astype(np.int64)
    residual = relaxed_and_exponent(array.tables, array.states.ravel(), xi, xi)[0] * GMAX / GMAX_G16
    drawn = np.maximum(0, 0.26348 * np.random.default_rng(3).standard_normal(100_000))
    assert_close(residual, drawn, np.std, std_error)
    assert_close(residual, drawn, np.mean, mean_error)


def test_pulses_spread_about_their_amplitude():
    array, settings = array_of(technology("pcm"))
    mask = np.zeros((SIDE, SIDE, 2), bool)
    mask[..., 1] = True
    amplitude = np.full((SIDE, SIDE), GMAX_G16 // 2)
    array.pulse(settings, RECORD, np.arange(SIDE), Pulses.melt(mask, amplitude), 3)
    states = array.states[:, 1] * GMAX / GMAX_G16
    drawn = GMAX / 2 + 0.5 * 0.9527 * np.random.default_rng(4).standard_normal(100_000)
    assert_close(states, drawn, np.std, std_error)
    assert_close(states, drawn, np.mean, mean_error)
    assert not array.states[:, 0].any()


NOT_OF_MELT = {Table.SHIFT, Table.STEP_UP, Table.STEP_DOWN}


def test_switches_silence_their_own_effect_only():
    device = technology("pcm")
    full = tables(device, 3600.0)
    silent = {
        "programming": {Table.PULSE_SIGMA, Table.RELAX_SIGMA}, "drift": {Table.NU_MEAN, Table.NU_SIGMA},
        "flicker_noise": {Table.FLICKER}, "read": set(),
    }
    for switch, tables_off in silent.items():
        off = tables(device.replace(**{switch: False}), 3600.0)
        assert {table for table, values in off.items() if not values.any()} == tables_off | NOT_OF_MELT
        if switch != "read":  # the loop's spread depends on read noise, so relaxation does; on it, drift exponents do
            shaped = {Table.NU_MEAN, Table.NU_SIGMA} if switch == "programming" else set()
            for table in set(Table) - tables_off - shaped:
                np.testing.assert_array_equal(off[table], full[table])
    assert noise_gain(device.replace(read=False), GEOMETRY, 100) == 0
    assert verify_settings(device.replace(read=False), GEOMETRY)["verify_noise"] == 0
    assert noise_gain(device, GEOMETRY, 100) > 0


def test_the_three_errors_of_write_verify_have_switches():
    device, full = technology("pcm"), tables(technology("pcm"))
    landing = tables(device.without("window"))[Table.PULSE_SIGMA]
    assert not landing[1:].any()
    assert landing[0] == full[Table.PULSE_SIGMA][0]  # RESET is never verified
    silent = device.without("verify-noise")
    assert verify_settings(silent, GEOMETRY)["verify_noise"] == 0
    assert noise_gain(silent, GEOMETRY, 100) == noise_gain(device, GEOMETRY, 100)
    still = tables(device.without("relaxation"))
    assert not still[Table.RELAX_SIGMA].any()
    np.testing.assert_array_equal(still[Table.PULSE_SIGMA], full[Table.PULSE_SIGMA])
    with pytest.raises(ValueError, match="unknown effect 'gravity': choose from programming, window"):
        device.without("gravity")


def test_ideal_is_noiseless():
    found = tables(technology("ideal"), DAY)
    assert not any(values.any() for table, values in found.items() if table not in (Table.VARIATION, Table.ENDURANCE))
    assert (found[Table.VARIATION] == 1 << VARIATION_FRACTION).all(), "all devices are alike"
    assert (found[Table.ENDURANCE] == 65_535).all(), "no device wears"
    assert noise_gain(technology("ideal"), GEOMETRY, 100) == 0


def test_noise_gain_gives_the_published_read_noise():
    """sigma = 0.0175 sqrt(sum |w| x**2): all w = 0.5, all x = 1, in units of one fully-on device."""
    gain = noise_gain(technology("pcm"), GEOMETRY, SIDE)
    constant = np.sqrt(SIDE * 100 * gain) / 4096
    sigma = constant * np.sqrt(SIDE) * 127 / (200 * 127)
    assert sigma == pytest.approx(0.0175 * np.sqrt(SIDE * 0.5), rel=1e-3)


@pytest.mark.parametrize(("celsius", "factor"), [(25.0, 1.0), (34.0, 1.25620), (5.0, 0.57121)])
def test_conductance_follows_the_temperature_of_reads(celsius, factor):
    """0.2 eV: exp(0.2 / k (1 / 298.15 - 1 / T)); a table's word at Gmax and at half of it."""
    kind = technology("pcm").replace(illustrative=True)
    shift = tables(kind.at_temperature(celsius))[Table.SHIFT] - tables(kind)[Table.SHIFT]
    assert shift[200] == pytest.approx((factor - 1) * 51_200 * 200.5 / 200, rel=2e-3, abs=1)
    assert shift[100] == pytest.approx((factor - 1) * 51_200 * 100.5 / 200, rel=2e-3, abs=1)


@pytest.mark.parametrize(("name", "illustrative", "celsius", "sentence"), [
    ("pcm", False, 30, "has its temperature law from memory only"),
    ("rram-cmo", True, 30, "'rram-cmo' has no temperature law: no source tells it"),
    ("pcm", True, 85, "'pcm' conducts 3.68 times as well at 85 degrees Celsius as at 25"),
    ("pcm", True, 0, "'pcm' conducts 0.49 times as well at 0 degrees"),
    ("pcm", True, 200, "temperature must be -40 to 125 degrees Celsius, not 200"),
])
def test_temperatures_that_nothing_tells_of_are_refused(name, illustrative, celsius, sentence):
    with pytest.raises(ValueError, match=sentence):
        technology(name).replace(illustrative=illustrative).at_temperature(celsius)


@pytest.mark.parametrize("significance", [1, 2, 3, 4])
def test_the_smallest_tile_of_two_pairs_has_its_read_noise(significance):
    geometry = preset("pairs").replace(significance=significance)
    wanted = (0.0175 * 4096)**2 * 200 * significance
    assert noise_gain(technology("pcm"), geometry, 1) == pytest.approx(wanted, rel=1e-3)


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
    assert log_time(device, 3e20) < 1 << 18
    with pytest.raises(ValueError, match=r"age 4e\+20 s is too large.*64 doublings of t0 = 20 s"):
        log_time(device, 4e20)
    with pytest.raises(ValueError, match="not nan"):
        tables(device, float("nan"))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"unknown technology 'flash': choose from pcm, pcm-hermes-1, .*, ideal"):
        technology("flash")
    with pytest.raises(ValueError, match="technology 'ideal' has no 1/f noise: no source tells it"):
        technology("ideal").law("flicker")
    with pytest.raises(ValueError, match="technology 'sonos' has no temperature law: no source tells it"):
        technology("sonos").number("activation_energy")


@pytest.mark.parametrize("device", TECHNOLOGIES.values(), ids=lambda device: device.name)
def test_quantities_name_their_source_and_trust(device):
    assert "gmax" in device.quantities()
    for quantity in device.quantities().values():
        assert quantity.trust in "CANDMX"
        assert len(quantity.source) > 6 or quantity.trust == "X"
        assert quantity.unit in ("1", "g", "uS", "nA", "s", "eV", "pulses", "reads")


def test_numbers_from_memory_are_off_by_default():
    device = technology("pcm")
    with pytest.raises(ValueError, match="has its endurance from memory only, unchecked: --illustrative allows it"):
        device.number("endurance")
    assert device.replace(illustrative=True).number("endurance").one == 1e7


@pytest.mark.parametrize(("name", "g", "sigma"), [
    ("pcm", 1.0, 1.055), ("pcm", 0.1, 0.448), ("pcm-hermes-1", 0.25, 0.61), ("pcm-hermes-1", 1.0, 1.01),
    ("pcm-hermes-2", 0.1, 0.56), ("pcm-hermes-2", 1.0, 1.09), ("rram-wan2022", 0.25, 2.26), ("rram-milo", 1.0, 2.733),
    ("sonos", 0.5, 19.674), ("rram-cmo", 1.0, 0.0951)])
def test_published_spreads(name, g, sigma):
    """The values of the sources, to their digits (docs/technologies.md)."""
    assert sigma_programmed(technology(name), g) == pytest.approx(sigma, abs=0.006)


@pytest.mark.parametrize(("name", "age", "g", "sigma"), [
    ("rram-wan2022", DAY, 0.5, 3.91), ("rram-wan2022", 1.0, 0.1, 1.56), ("sonos", 5 * DAY, 0.5, 33.7),
    ("rram-cmo", 1000.0, 0.5, 0.042 * np.log(1000) + 0.4118), ("pcm", DAY, 1.0, 1.055)])
def test_published_spreads_at_an_age(name, age, g, sigma):
    assert sigma_programmed(technology(name), g, age) == pytest.approx(sigma, rel=3e-3)


def test_shift_of_the_mean():
    assert mean_shift(technology("rram-cmo"), 0.5, 3600.0) == pytest.approx(-0.089 * np.log(3600) - 0.0739, rel=1e-3)
    assert mean_shift(technology("pcm"), 0.5, 3600.0) == 0
    half_way = [mean_shift(technology("sonos"), 0.5, k * DAY) for k in (4, 4.5, 5)]
    assert half_way[1] == pytest.approx((half_way[0] + half_way[2]) / 2)


@pytest.mark.parametrize(("name", "age", "words"), [
    ("rram-wan2022", 3600.0, "data at exactly 1 s, 1 day, 2 days, not at 3600 s: --extrapolate"),
    ("sonos", 6 * DAY, "data at 0 s to 5 days, not at 518400 s"),
    ("rram-cmo", 0.5, "data at 1 s and more, not at 0.5 s"),
    ("rram-milo", 1.0, "data at age 0 only: it has no law of time, not at 1 s"),
])
def test_ages_outside_the_data(name, age, words):
    device = technology(name)
    with pytest.raises(ValueError, match=words):
        tables(device, age, way="statistical")
    allowed = device.replace(extrapolate=True)
    assert allowed.extrapolated(age)
    assert tables(allowed, age, way="statistical")[Table.RELAX_SIGMA].any()
    assert not device.extrapolated(0.0)


@pytest.mark.parametrize(("name", "way", "words"), [
    ("rram-wan2022", "closed-loop", "has no window: no source tells it"),
    ("ecram", "statistical", "technology 'ecram' has no spread of programmed devices: no source tells it"),
    ("sram", "statistical", "technology 'sram' holds bits"),
    ("pcm", "by hand", "unknown programming 'by hand': choose from closed-loop, statistical, gradient"),
])
def test_ways_that_a_technology_does_not_know(name, way, words):
    with pytest.raises(ValueError, match=words):
        tables(technology(name), way=way)


def test_statistical_programming_draws_everything_from_the_target():
    found = tables(technology("pcm"), way="statistical")
    assert not found[Table.PULSE_SIGMA].any()
    assert found[Table.RELAX_SIGMA][0] == round(0.26348 / 25 * 51200)
    assert found[Table.NU_MEAN][0] == round(0.1 * 65536)
    two = tables(technology("pcm"), way="statistical", geometry=preset("pairs"))
    assert two[Table.PULSE_SIGMA][0] == round(0.26348 / 25 * 51200)
    assert not two[Table.RELAX_SIGMA].any()


def test_entry_0_is_a_reset_device():
    """A RESET lands at 0; all of its spread is relaxation, and its drift that of a target of 0."""
    found = tables(technology("pcm"))
    assert found[Table.PULSE_SIGMA][0] == 0
    assert found[Table.RELAX_SIGMA][0] == round(0.26348 / 25 * 51200)
    assert found[Table.NU_MEAN][0] == round(0.1 * 65536)


def test_drift_exponents_of_a_target_are_those_of_its_law():
    """States lie beside their target by what write-verify leaves, and the exponent follows the state."""
    device = technology("pcm-hermes-1")
    found, rng = tables(device), np.random.default_rng(6)
    for g, mean, spread in ((0.9975, 0.01765, 0.005547), (0.0525, 0.0960, 0.03305)):
        states = g + sigma_loop(device, np.array([g]), GEOMETRY)[0] / 10.35 * rng.standard_normal(400_000)
        entry = np.clip(states * 200, 0, 255).astype(int)
        nu = (found[Table.NU_MEAN][entry] + found[Table.NU_SIGMA][entry] * rng.standard_normal(states.size)) / 65536
        assert nu.mean() == pytest.approx(mean, rel=0.015)
        assert nu.std() == pytest.approx(spread, rel=0.02)


def test_a_loop_that_leaves_too_much_is_refused_by_name():
    device = technology("pcm")
    wide = device.replace(window=dataclasses.replace(device.window, value=4.0),
                          pulse_share=dataclasses.replace(device.pulse_share, value=1.3))
    with pytest.raises(ValueError, match=r"the window of 4 uS is too wide: write-verify leaves .* uS at g = .*, more"):
        tables(wide)
    noisy = device.replace(read_noise=dataclasses.replace(device.read_noise, coefficients=(0.2, 0.5)),
                           averages=dataclasses.replace(device.averages, value=1))
    with pytest.raises(ValueError, match="1 reads a verify are too few"):
        tables(noisy)


@pytest.mark.parametrize(("loop", "sigma"), [
    (Loop(0.645, 0.16, 0.5, 30), 0.53), (Loop(0.3, 0.16, 1.0, 30), 0.53), (Loop(0.645, 0.16, 0.25, 30), 1.05),
    (Loop(0.645, 0.0, 0.5, 30), 0.53), (Loop(0.1, 0.16, 0.5, 30), 1.05)])
def test_convergence_equals_a_random_walk(loop, sigma):
    count = 100_000
    rng = np.random.default_rng(7)
    x, a, busy, pulses = np.zeros(count), np.zeros(count), np.ones(count, bool), np.zeros(count)
    for _ in range(loop.iterations):
        x = np.where(busy, a + sigma * rng.standard_normal(count), x)
        pulses += busy
        y = x + loop.read * rng.standard_normal(count)
        busy &= np.abs(y) > loop.window
        a = np.where(busy, a - loop.step * y, a)
    found = converge(loop, np.array([sigma]))
    assert found.sigma[0] == pytest.approx(x.std(), rel=0.012)
    assert found.converged[0] == pytest.approx(1 - busy.mean(), abs=0.004)
    mean = found.pulses[0] @ np.arange(1, 31) / found.converged[0]
    assert mean == pytest.approx(pulses[~busy].mean(), rel=0.01)


def test_column_noise_of_laws_that_nets_do_not_give():
    """Additive constant 0.01: sigma of a column is 0.01 |x|, whatever its weights."""
    device, geometry = technology("rram-wan2022"), preset("small")
    assert noise_gain(device, geometry, 10) == 0
    noise = column_noise(device, geometry, np.full((10, 4), GMAX_G16 // 3))
    np.testing.assert_array_equal(noise, round(0.01 * 200 * 4096))
    assert column_noise(technology("pcm"), geometry, np.zeros((10, 4), np.int64)) is None
    flash = column_noise(technology("sonos"), geometry, np.array([[0, GMAX_G16]] * 4))
    assert flash[0] == 0
    assert flash[1] == pytest.approx(12.58 / 1600 * 200 * 4096, rel=1e-3)


def test_flicker_is_not_zero_at_age_zero():
    device = technology("pcm")
    assert sigma_flicker(device, np.array([1.0]), 0.0)[0] == pytest.approx(0.0088 * 4.18, rel=2e-3)
