"""Gradual pulses, stuck and worn devices, and what write-verify makes of them.

Statistics are compared with a Monte-Carlo in floating point that draws with numpy's own generator and shares no code
with the model.
"""

import numpy as np
import pytest

from rtl.params import EngineRegion, Geometry, PulseKind, Table
from rtl.params.formats import GMAX_G16
from rtl.params.registers import fields
from sim.array import Array, Pulses
from sim.presets import technology
from sim.programming import Programming
from sim.tables import verify_settings
from sim.tile import Tiles

SIDE = 100
RECORD = {"tile": 5, "rows": SIDE, "columns": SIDE, "state_base": 0}
GEOMETRY = Geometry(name="statistics", rows=SIDE, columns=SIDE, lanes=SIDE, cells=SIDE * SIDE, wear_bits=12)
REGISTERS = dict.fromkeys((r.name for r in fields("engine", EngineRegion.REGISTERS)), 0)
FULL = 1 << 16
GRID = (np.arange(256) + 0.5) * 256
LOGNORMAL = np.exp(0.3 * np.array([-1, 1]))
"""Two sizes of devices, far enough from each other to tell."""


def array_of(**tables):
    """An array with some tables, the others zero."""
    array = Array(GEOMETRY)
    for name, values in tables.items():
        array.tables[Table[name]] = np.rint(values)
    return array


def pulse(array, settings, *, down=False, amplitude=1.0, count=1, start=0):
    """Pulse the first device of every cell."""
    mask = np.zeros((SIDE, SIDE, 2), bool)
    mask[..., 0] = True
    flags = np.ones((SIDE, SIDE), bool)
    for k in range(count):
        array.pulse(settings, RECORD, np.arange(SIDE), Pulses(mask, np.full((SIDE, SIDE), round(amplitude * 4096)),
                                                              flags, flags & down), start + k)


def soft(g):
    return np.maximum(1 - g / 60_000, 0)


@pytest.mark.parametrize("down", [False, True])
def test_steps_have_their_mean_and_both_spreads(down):
    """Thirty pulses: a device's size scales its step and its spread from pulse to pulse alike."""
    sizes = np.tile(np.repeat(LOGNORMAL, 64), 2)
    array = array_of(STEP_UP=700 * soft(GRID), STEP_DOWN=300 + 0 * GRID, PULSE_SIGMA=4 * 400 + 0 * GRID,
                     RELAX_SIGMA=4 * 250 + 0 * GRID, VARIATION=sizes * 2**12)
    settings = REGISTERS | {"seed": 3, "epoch": 2, "pulse_kind": PulseKind.BIPOLAR}
    array.states[:, 0] = begin = 40_000 if down else 1000
    pulse(array, settings, down=down, amplitude=1.5, count=30)
    rng = np.random.default_rng(8)
    g = np.full(200_000, float(begin))
    size = rng.choice(LOGNORMAL, g.size)
    for _ in range(30):
        spread = 250 if down else 400
        step = (300.0 if down else 700 * soft(g)) + spread * rng.standard_normal(g.size)
        g = np.clip(g + (-1.5 if down else 1.5) * step * size, 0, FULL - 1)
    seen = array.states[:, 0]
    error = np.sqrt(1 / seen.size + 1 / g.size)
    assert abs(seen.mean() - g.mean()) < max(0.01 * g.std(), 3 * g.std() * error)
    assert abs(seen.std() / g.std() - 1) < max(0.02, 3 * error / np.sqrt(2))
    assert (array.states[:, 1] == 0).all()


def test_a_device_keeps_its_size_and_directions_differ_unless_common():
    sizes = np.tile(np.linspace(0.5, 1.5, 128), 2)
    array = array_of(STEP_UP=500 + 0 * GRID, STEP_DOWN=500 + 0 * GRID, VARIATION=sizes * 2**12)
    ends = {}
    for common in (0, 1):
        settings = REGISTERS | {"seed": 3, "pulse_kind": PulseKind.BIPOLAR, "common_variation": common}
        moves = []
        for down, start in ((False, 0), (False, 1), (True, 2)):
            array.states[:] = 20_000
            pulse(array, settings, down=down, start=start)
            moves.append(np.abs(array.states[:, 0] - 20_000))
        assert (moves[0] == moves[1]).all(), "without a spread from pulse to pulse, the same step twice"
        assert moves[0].min() < 260 < 740 < moves[0].max()
        ends[common] = np.corrcoef(moves[0], moves[2])[0, 1]
    assert ends[1] == pytest.approx(1)
    assert abs(ends[0]) < 0.05


def test_a_reset_has_the_spread_of_entry_0_and_steps_never_do():
    sigma = np.zeros(256)
    sigma[0] = 2000
    array = array_of(STEP_UP=100 + 0 * GRID, PULSE_SIGMA=sigma, VARIATION=2**12 + 0 * GRID)
    settings = REGISTERS | {"pulse_kind": PulseKind.ONE_WAY}
    pulse(array, settings)
    assert (array.states[:, 0] == 100).all()
    mask = np.ones((SIDE, SIDE, 2), bool)
    array.pulse(settings, RECORD, np.arange(SIDE), Pulses.melt(mask, np.zeros((SIDE, SIDE), np.int64)), 1)
    assert array.states.std() == pytest.approx(2000 * np.sqrt(0.5 - 0.5 / np.pi), rel=0.03)  # half is clamped


@pytest.mark.parametrize("down", [False, True])
def test_a_train_comes_no_nearer_to_a_bound_than_its_floor(down):
    """From the bound on, against it: what is left is the floor, half-normal; a pulse that is no train has none."""
    array = array_of(STEP_UP=400 + 0 * GRID, STEP_DOWN=400 + 0 * GRID, NU_SIGMA=np.where(GRID < 25_600, 300, 200),
                     VARIATION=2**12 + 0 * GRID)
    settings = REGISTERS | {"seed": 4, "pulse_kind": PulseKind.BIPOLAR}
    array.states[:, 0] = bound = 0 if down else GMAX_G16
    pulse(array, settings, down=down, amplitude=0.49)
    assert (array.states[:, 0] == bound).all()
    pulse(array, settings, down=down, start=1)
    floor = np.abs(array.states[:, 0] - bound)
    sigma = 300 if down else 200
    assert floor.mean() == pytest.approx(sigma * np.sqrt(2 / np.pi), rel=0.03)
    assert (floor**2).mean() == pytest.approx(sigma**2, rel=0.05)
    pulse(array, settings, down=not down, start=2)
    assert (np.abs(array.states[:, 0] - bound) == floor + 400).all(), "away from it nothing is in the way"


def test_stuck_devices_are_at_their_value_after_pulses_and_at_every_age():
    array = array_of(STEP_UP=3000 + 0 * GRID, RELAX_SIGMA=500 + 0 * GRID, NU_MEAN=4000 + 0 * GRID,
                     VARIATION=2**12 + 0 * GRID)
    settings = REGISTERS | {"seed": 5, "pulse_kind": PulseKind.ONE_WAY, "stuck_rate": round(0.04 * 2**32),
                            "stuck_value": 200 << 8}
    pulse(array, settings, count=3)
    seen = array.states[:, 0]
    stuck = seen == 200 << 8
    assert (seen[~stuck] == 9000).all()
    assert abs(stuck.mean() - 0.04) < 3 * np.sqrt(0.04 / seen.size)
    nets, _ = array.age(settings | {"log_time": 50_000}, RECORD)
    nets = nets.T.ravel()
    other = array._born(settings, RECORD).stuck[..., 1].ravel()
    assert (nets[stuck & ~other] >= 200 - 5).all()
    assert np.abs(nets[~stuck & ~other]).max() < 100


def test_wear_counts_a_share_of_the_pulses_and_worn_devices_stay():
    """Endurance of 10 or 30 wears, a fifth of the pulses wears: the same as drawn in floating point."""
    array = array_of(STEP_UP=100 + 0 * GRID, VARIATION=2**12 + 0 * GRID, ENDURANCE=np.repeat([10, 30], 128))
    settings = REGISTERS | {"seed": 6, "pulse_kind": PulseKind.ONE_WAY, "wear_rate": round(0.2 * 2**32)}
    pulse(array, settings, count=120)
    rng = np.random.default_rng(1)
    wear = np.cumsum(rng.random((20_000, 120)) < 0.2, axis=1)
    before = np.concatenate([np.zeros((len(wear), 1), int), wear[:, :-1]], axis=1)
    answered = (before <= rng.choice([10, 30], (len(wear), 1))).sum(axis=1)
    seen = array.states[:, 0] / 100
    assert abs(seen.mean() - answered.mean()) < 3 * answered.std() * np.sqrt(1 / seen.size + 1 / answered.size)
    assert abs(seen.std() / answered.std() - 1) < 0.03
    assert abs(array.wear[:, 0].mean() - 24) < 3 * np.sqrt(120 * 0.16 / seen.size)
    assert (array.wear[:, 1] == 0).all()


def test_wear_stops_at_the_largest_count():
    array = Array(GEOMETRY.replace(wear_bits=3))
    array.tables[Table.ENDURANCE] = 65_535
    settings = REGISTERS | {"pulse_kind": PulseKind.ONE_WAY, "wear_rate": 2**32 - 1}
    pulse(array, settings, count=9)
    assert (array.wear[:, 0] == 7).all()


# --- write-verify -----------------------------------------------------------------------------------------------------

STEP = 1024  # g16 of a nominal pulse: fifty to Gmax


def build(kind, *, pairs=1, significance=1, rows=20, columns=32, sigma=0.3, step=STEP, **settings):
    """A tile of devices with constant steps, read without noise."""
    geometry = Geometry(name="loop", rows=rows, columns=columns, lanes=rows, cells=rows * columns, pairs=pairs,
                        significance=significance)
    tiles = Tiles(geometry)
    tiles.records[0].update(tile=7, rows=rows, columns=columns)
    tiles.settings.update(verify_settings(technology("ideal"), geometry))
    tiles.settings.update(seed=3, epoch=1, pulse_kind=kind, least_amplitude=4096, window=3, averages=4, iterations=100,
                          refresh_limit=20)
    spread = sigma * step
    if kind != PulseKind.MELT:
        spread *= 4  # which is what the tables hold of gradual pulses
        per_count = 4096 * (1 << 16) / (step * tiles.settings["counts_per_g"])
        tiles.settings.update(main_step=round(0.25 * per_count / significance), minor_step=round(0.25 * per_count))
    tiles.settings.update(settings)
    programming = Programming(geometry, settings=tiles.settings, records=tiles.records, tiles=tiles)
    for table, values in ((Table.STEP_UP, step), (Table.STEP_DOWN, step), (Table.PULSE_SIGMA, spread),
                          (Table.RELAX_SIGMA, spread), (Table.VARIATION, 2**12)):
        programming.array.tables[table] = round(values)
    programming.array.tables[Table.PULSE_SIGMA, 0] = 0
    return programming


def program(programming, weights):
    """Return the outcomes by name."""
    targets = np.rint(weights * GMAX_G16 * programming.geometry.significance).astype(np.int64)
    words = programming.program_rows(0, np.arange(len(weights)), targets)
    return {"converged": words & 1, "unresponsive": words >> 1 & 1, "refreshes": words >> 4 & 15,
            "pulses": words >> 8 & 255}


def weights_of(programming, seed=0):
    record = programming.records[0]
    return np.clip(np.random.default_rng(seed).normal(0, 0.3, (record["rows"], record["columns"])), -0.9, 0.9)


def programmed(programming):
    record, geometry = programming.records[0], programming.geometry
    states = programming.array.states.reshape(record["columns"], record["rows"], -1).transpose(1, 0, 2)
    net = states[..., 0] - states[..., 1]
    if geometry.pairs == 2:
        net = geometry.significance * net + states[..., 2] - states[..., 3]
    return net / (GMAX_G16 * geometry.significance)


@pytest.mark.parametrize("kind", [PulseKind.ONE_WAY, PulseKind.BIPOLAR])
@pytest.mark.parametrize(("pairs", "significance"), [(1, 1), (2, 2)])
def test_gradual_devices_converge(kind, pairs, significance):
    programming = build(kind, pairs=pairs, significance=significance)
    weights = weights_of(programming)
    outcome = program(programming, weights)
    assert outcome["converged"].mean() > 0.99
    assert np.abs(programmed(programming) - weights)[outcome["converged"] == 1].max() < 0.02
    states = programming.array.states
    if kind == PulseKind.BIPOLAR and pairs == 1:
        unused = np.where(weights.T.ravel() < 0, states[:, 0], states[:, 1])
        assert (unused == 0).all(), "the partner is RESET and keeps what that left"


def test_pulses_that_follow_the_error_are_fewer_than_identical_ones():
    weights = weights_of(build(PulseKind.BIPOLAR))
    same = {"sigma": 0, "iterations": 255, "step": 256}
    identical = program(build(PulseKind.BIPOLAR, amplitude_limit=4096, **same), weights)
    growing = program(build(PulseKind.BIPOLAR, **same), weights)
    assert identical["converged"].all()
    assert growing["converged"].all()
    assert growing["pulses"].mean() < 0.5 * identical["pulses"].mean()
    expected = np.abs(weights) * GMAX_G16 / 256
    assert np.abs(identical["pulses"] - 2 - expected).max() < 6, "a step each, no more and no less"


def test_overshoots_go_to_the_partner_or_to_reset():
    """Steps of more than the window overshoot."""
    weights = weights_of(build(PulseKind.ONE_WAY))
    partner = build(PulseKind.ONE_WAY, sigma=0.5)
    assert program(partner, weights)["refreshes"].max() == 0
    both = (partner.array.states > 0).all(axis=1)
    assert both.mean() > 0.2
    restart = build(PulseKind.ONE_WAY, sigma=0.5, restart=1)
    outcome = program(restart, weights)
    assert outcome["refreshes"].max() > 0
    assert (restart.array.states > 0).all(axis=1).mean() < 0.05, "only where a target of zero begins on the wrong side"


def test_pairs_with_much_pulsed_partners_are_refreshed():
    weights = weights_of(build(PulseKind.ONE_WAY))
    programming = build(PulseKind.ONE_WAY, sigma=1.5, window=1, refresh_limit=3)
    outcome = program(programming, weights)
    assert 0 < (outcome["refreshes"] > 0).mean() < 1
    never = build(PulseKind.ONE_WAY, sigma=1.5, window=1, refresh_limit=63)
    assert program(never, weights)["refreshes"].max() == 0
    lower = [np.quantile(loop.array.states.min(axis=1), 0.95) for loop in (never, programming)]
    assert lower[0] > 2 * lower[1]


@pytest.mark.parametrize("kind", list(PulseKind))
def test_stuck_cells_are_unresponsive_and_absorbed_where_possible(kind):
    """Every eighth device is stuck at 0.4 Gmax: the partner absorbs it for targets below, nothing does above."""
    common = {"stuck_rate": 1 << 29, "stuck_value": round(0.4 * GMAX_G16), "sigma": 0, "iterations": 120,
              "least_amplitude": 2048, "refresh_limit": 63}
    if kind == PulseKind.MELT:
        common["sigma"] = 0.5
    if kind == PulseKind.ONE_WAY:  # whose partner must not overshoot, as the stuck device could not mend it
        common["amplitude_limit"] = 2048
    weights = np.abs(weights_of(build(kind)))
    failing, absorbing = build(kind, **common), build(kind, absorb=1, **common)
    before, after = program(failing, weights), program(absorbing, weights)
    stuck = failing.array._born(failing.settings, failing.records[0]).stuck.transpose(1, 0, 2)
    main = stuck[..., 0] & ~stuck[..., 1]
    far = np.abs(weights - 0.4) > 0.05
    sound = ~stuck.any(axis=-1) & (weights > 0.05)
    assert ((before["converged"] == 1) & (before["unresponsive"] == 0))[sound].mean() > 0.98
    if kind != PulseKind.ONE_WAY:  # whose partner helps at once
        assert (before["unresponsive"] == 1)[main & far].all()
        assert (before["converged"] == 0)[main & far].all()
    assert after["converged"][main & far & (weights < 0.4)].all()
    assert not after["converged"][main & far & (weights > 0.4)].any()
    assert (after["unresponsive"] == 1)[main & far & (weights > 0.4)].all()


def test_the_minor_pair_absorbs_a_stuck_main_device():
    programming = build(PulseKind.BIPOLAR, pairs=2, significance=2, stuck_rate=1 << 28, stuck_value=0, sigma=0)
    weights = weights_of(programming) / 2
    outcome = program(programming, weights)
    stuck = programming.array._born(programming.settings, programming.records[0]).stuck.transpose(1, 0, 2)
    main = (stuck[..., 0] | stuck[..., 1]) & ~stuck[..., 2:].any(axis=-1)
    assert main.sum() > 20
    assert outcome["converged"][main & (np.abs(weights) < 0.4)].all()


def test_small_weights_go_to_the_minor_pair_alone():
    programming = build(PulseKind.MELT, pairs=2, significance=2, sigma=0.2, minor_only=GMAX_G16)
    weights = weights_of(programming)
    assert program(programming, weights)["converged"].all()
    states = programming.array.states.reshape(32, 20, 4).transpose(1, 0, 2)
    small = np.abs(weights) < 0.49
    assert (states[small][:, :2] == 0).all()
    assert states[small][:, 2:].any()
    assert (states[np.abs(weights) > 0.51][:, :2].max(axis=1) > 0).all()
