"""Programming on the model: what physics and the loop make of weights, and what must not depend on what."""

import numpy as np
import pytest

import sim.array
import sim.programming
from rtl.params import EngineOperation, EngineRegion, Geometry, Table
from rtl.params.formats import GMAX_G16
from sim.presets import technology
from sim.programming import Programming
from sim.tables import age_settings, noise_gain, tables, verify_settings
from sim.tile import Tiles

GMAX = 25.0
GEOMETRY = Geometry(name="weights", rows=112, columns=64, cells=112 * 64)


def build(device, geometry=GEOMETRY, rows=112, columns=64, seed=3):
    tiles = Tiles(geometry)
    tiles.records[0].update(tile=7, rows=rows, columns=columns)
    tiles.settings.update(seed=seed, epoch=1, noise_gain=noise_gain(device, geometry, rows))
    tiles.settings.update(verify_settings(device, geometry))
    programming = Programming(geometry, settings=tiles.settings, records=tiles.records, tiles=tiles)
    set_age(programming, device, 0.0)
    return programming


def set_age(programming, device, seconds):
    programming.settings.update(age_settings(device, seconds))
    for table, values in tables(device, seconds).items():
        programming.array.tables[table] = values


def nets(programming):
    record = programming.records[0]
    one_hot = np.eye(record["rows"], dtype=np.int64)
    return programming.tiles._weights[0].charges(one_hot)


def gaussian_weights(shape, seed=0):
    return np.clip(np.random.default_rng(seed).normal(0, 0.246, shape), -1, 1)


@pytest.mark.parametrize(("pairs", "significance"), [(1, 1), (2, 2)])
def test_pcm_programming_error_and_convergence(pairs, significance):
    device = technology("pcm")
    geometry = GEOMETRY.replace(pairs=pairs, significance=significance)
    programming = build(device, geometry)
    weights = gaussian_weights((112, 64))
    targets = np.rint(weights * GMAX_G16 * significance).astype(np.int64)
    outcomes = programming.program_rows(0, np.arange(112), targets)
    assert (outcomes & 1).mean() > 0.99
    programming.age(0)
    error = nets(programming) / (200 * significance) - weights
    assert 0.02 < np.sqrt((error**2).mean()) < 0.06


@pytest.mark.parametrize("g", [1.0, 0.5, 0.25, 0.1, 0.05])
def test_programmed_pairs_have_the_published_spread(g):
    """A positive weight: G+ = max(0, g + sigma_p(g) xi), G- = max(0, sigma_p(0) xi)."""
    device = technology("pcm").replace(flicker_noise=False, drift=False)
    programming = build(device)
    programming.program_rows(0, np.arange(112), np.full((112, 64), round(g * GMAX_G16)))
    programming.age(0)
    seen = nets(programming).ravel() / 200 * GMAX
    rng, count = np.random.default_rng(1), 100_000
    plus = np.maximum(0, GMAX * g + (0.26348 + 1.9650 * g - 1.1731 * g * g) * rng.standard_normal(count))
    drawn = plus - np.maximum(0, 0.26348 * rng.standard_normal(count))
    bound = max(0.02 * drawn.std(), 3 * drawn.std() * np.sqrt(0.5 / seen.size))
    assert abs(seen.std() - drawn.std()) < bound


def test_ideal_devices_end_within_a_code_of_their_weights():
    programming = build(technology("ideal"))
    weights = gaussian_weights((112, 64))
    outcomes = programming.program_rows(0, np.arange(112), np.rint(weights * GMAX_G16).astype(np.int64))
    assert (outcomes & 1).all()
    assert np.abs(nets(programming) / 200 - weights).max() < 0.02


def test_minor_pair_corrects_what_the_main_pair_left():
    """One try for the main pair: the minor pair must do the rest."""
    geometry = GEOMETRY.replace(pairs=2, significance=4)
    device = technology("pcm")
    programming = build(device, geometry)
    weights = gaussian_weights((112, 64))
    targets = np.rint(weights * GMAX_G16 * 4).astype(np.int64)
    programming.settings.update(iterations=1, window=1)
    programming.program_rows(0, np.arange(112), targets)
    one = np.std(nets(programming) / 800 - weights)
    programming.settings.update(iterations=8)
    outcomes = programming.program_rows(0, np.arange(112), targets)
    assert np.std(nets(programming) / 800 - weights) < one
    assert programming.array.states[:, 2:].max() > 0
    assert (outcomes & 1).mean() > 0.9


def test_two_steps_of_ageing_equal_one_and_states_stay():
    device = technology("pcm")
    ends = []
    for path in ((3600.0,), (60.0, 3600.0), (86_400.0, 3600.0)):
        programming = build(device)
        programming.program_rows(0, np.arange(112), np.rint(gaussian_weights((112, 64)) * GMAX_G16).astype(np.int64))
        states = programming.array.states.copy()
        for seconds in path:
            set_age(programming, device, seconds)
            programming.write(EngineRegion.REGISTERS, 0, EngineOperation.AGE)
        np.testing.assert_array_equal(programming.array.states, states)
        ends.append((nets(programming), programming.tiles.constants["noise"].copy()))
    for end in ends[1:]:
        np.testing.assert_array_equal(end[0], ends[0][0])
        np.testing.assert_array_equal(end[1], ends[0][1])


def test_rows_at_once_equal_rows_one_by_one():
    device, rows = technology("pcm"), np.array([5, 0, 3, 9])
    targets = np.rint(gaussian_weights((4, 64)) * GMAX_G16).astype(np.int64)
    at_once, one_by_one = build(device), build(device)
    outcomes = at_once.program_rows(0, rows, targets)
    for row, words, target in zip(rows, outcomes, targets, strict=True):
        one_by_one.settings["row"] = int(row)
        for column, value in enumerate(target):
            one_by_one.write(EngineRegion.TARGETS, column, int(value) & 0xFFFFFFFF)
        one_by_one.write(EngineRegion.REGISTERS, 0, EngineOperation.PROGRAM)
        seen = [one_by_one.read(EngineRegion.OUTCOMES, column) for column in range(64)]
        np.testing.assert_array_equal(seen, words)
    np.testing.assert_array_equal(at_once.array.states, one_by_one.array.states)
    np.testing.assert_array_equal(nets(at_once), nets(one_by_one))
    assert at_once.counters == one_by_one.counters
    assert at_once.tiles.counters == one_by_one.tiles.counters
    for region in (EngineRegion.TARGETS, EngineRegion.OUTCOMES):
        assert [at_once.read(region, k) for k in range(64)] == [one_by_one.read(region, k) for k in range(64)]


def test_every_coordinate_changes_what_is_programmed():
    device, targets = technology("pcm").replace(read=False), np.full((1, 64), GMAX_G16 // 2)
    changes = [{}, {"seed": 4}, {"epoch": 2}, {"chip": 1}, {"tile": 8}]
    seen = []
    for change in changes:
        programming = build(device)
        programming.records[0].update({k: v for k, v in change.items() if k == "tile"})
        programming.settings.update({k: v for k, v in change.items() if k != "tile"})
        programming.program_rows(0, np.array([2]), targets)
        seen.append(programming.array.states.tobytes())
    assert len(set(seen)) == len(changes)


@pytest.mark.parametrize("effect", ["programming", "drift", "flicker_noise"])
def test_every_coordinate_changes_what_ages(effect):
    silent = dict.fromkeys(("programming", "drift", "flicker_noise", "read"), False)
    device = technology("pcm").replace(**silent | {effect: True})
    changes = [{}, {"seed": 4}, {"epoch": 2}, {"chip": 1}, {"tile": 8}, {"age": 5}]
    seen = []
    for change in changes:
        programming = build(device)
        set_age(programming, device, 3600.0)
        programming.records[0].update({k: v for k, v in change.items() if k == "tile"})
        programming.settings.update({k: v for k, v in change.items() if k != "tile"})
        programming.array.states[:, 0] = GMAX_G16 // 2
        programming.age(0)
        seen.append(nets(programming).tobytes())
    assert len(set(seen)) == len(changes) - (effect != "flicker_noise")  # only 1/f noise is new at every age


def test_bad_calls_are_refused_by_name():
    programming = build(technology("pcm"))
    with pytest.raises(ValueError, match=r"targets must be \(2, 64\), not \(1, 64\)"):
        programming.program_rows(0, np.array([0, 1]), np.zeros((1, 64), np.int64))
    with pytest.raises(ValueError, match="rows must differ"):
        programming.program_rows(0, np.array([1, 1]), np.zeros((2, 64), np.int64))
    programming.records[0]["state_base"] = 100
    with pytest.raises(ValueError, match="state_base"):
        programming.age(0)


def test_probe_measures_the_drift():
    device = technology("pcm")
    programming = build(device)
    programming.program_rows(0, np.arange(112), np.rint(gaussian_weights((112, 64)) * GMAX_G16).astype(np.int64))
    programming.settings.update(row=0, row_count=112, probe_ticks=127)
    totals = []
    for seconds in (0.0, 86_400.0):
        set_age(programming, device, seconds)
        programming.age(0)
        programming.write(EngineRegion.REGISTERS, 0, EngineOperation.PROBE)
        totals.append([programming.read(EngineRegion.OUTCOMES, column) for column in range(64)])
    totals = (np.array(totals) ^ 1 << 31) - (1 << 31)
    assert (totals < 0).any(axis=1).all()
    assert 0.6 < (totals[1] * totals[0]).sum() / (totals[0] ** 2).sum() < 0.75
    assert len(programming.array.tables) == len(Table)


def test_parts_change_nothing(monkeypatch):
    """Rows programmed and columns aged a few at a time: the same outcomes, states, nets, noise constants, registers."""
    kind = technology("pcm")
    found = []
    for size in (1 << 14, 3 * 24):
        monkeypatch.setattr(sim.programming, "_CELLS", size)
        monkeypatch.setattr(sim.array, "_CELLS", size)
        programming = build(kind, rows=23, columns=24)
        programming.settings.update(stuck_rate=1 << 28, stuck_value=1 << 15)
        targets = np.rint(gaussian_weights((23, 24)) * GMAX_G16).astype(np.int64)
        outcomes = programming.program_rows(0, np.arange(23)[::-1], targets)
        set_age(programming, kind, 1e4)
        programming.age(0)
        found.append([outcomes, programming.array.states, nets(programming), programming.tiles.constants["noise"],
                      programming.targets, programming.outcomes, programming.array.pulses, programming.array.aged])
    for whole, parts in zip(*found, strict=True):
        np.testing.assert_array_equal(whole, parts)
    assert found[0][2].any()
