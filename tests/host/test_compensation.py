"""Compensation against what the device states say, through nothing that the probes share; and what is refused."""

import numpy as np
import pytest

from host import compensation
from host.api import open_device
from host.compensation import Gains, Statistics
from host.compiler import compile_network
from host.errors import BitlineError
from host.network import Dense, Network
from rtl.params import preset
from sim.presets import technology
from tests.host.small import network, placement, vectors

PCM = technology("pcm")
AGES = (3600.0, 86400.0, 30 * 86400.0, 365 * 86400.0)
FAINT_SHARE = 0.01


def faint_network():
    """One weight in 64 at its column's largest, the others at one per cent of it: |code| is mostly noise."""
    rng = np.random.default_rng(3)
    weight = FAINT_SHARE * rng.choice([-1.0, 1.0], (60, 112))
    large = rng.random(weight.shape) < 1 / 64
    large[:, 0] = True
    return Network(112, (Dense("faint", np.where(large, 100 * weight, weight), np.zeros(60), False),))


@pytest.fixture(scope="module")
def faint():
    return compile_network(faint_network(), preset("demo"), np.random.default_rng(4).random((30, 112)))


def programmed(placed, geometry="small", *, probes="one-hot", offset=0.0, seed=1):
    device = open_device(f"model:{geometry}", seed=seed)
    device.configure(placed)
    device.probes = probes
    device.set_converter_offset(offset)
    device.program(PCM)
    return device


def present_nets(device):
    """Nets recomputed from the device states by the laws of ageing: no probe, no converter, no noise of a read."""
    found = []
    for tile in device.placement.tiles:
        core = device.backend.chip.cores[tile.unit - 1]
        settings = dict(core.settings) | {"noise_gain": 0}
        aged = core.programming.array.aged
        found.append(core.programming.array.age(settings, core.records[tile.context])[0].copy())
        core.programming.array.aged = aged
    return found


def true_gains(fresh, aged):
    return [np.abs(a).sum() / np.abs(b).sum() for a, b in zip(fresh, aged, strict=True)]


@pytest.mark.parametrize("probes", compensation.PROBES)
@pytest.mark.parametrize("seed", [1, 2])
def test_global_gain_is_that_of_the_states(probes, seed):
    """Each tile, at every age, within 2 %, though the converters have an offset."""
    rng = np.random.default_rng(seed)
    layers = tuple(Dense(f"l{k}", rng.normal(size=shape), np.zeros(shape[0]), k == 0)
                   for k, shape in enumerate([(60, 200), (10, 60)]))
    placed = compile_network(Network(200, layers), preset("demo"), rng.random((30, 200)))
    with programmed(placed, "demo", probes=probes, offset=6.0, seed=seed) as device:
        fresh = present_nets(device)
        for seconds in AGES:
            device.age(seconds)
            found = device.compensate("global").gains
            np.testing.assert_allclose(found, true_gains(fresh, present_nets(device)), rtol=0.02)


def test_noise_is_not_rectified(faint):
    """Where sums of |code| would be far off, sums of signed codes are not."""
    with programmed(faint, "demo") as device:
        signs = [np.sign(tile.targets) for tile in faint.tiles]
        fresh, before = present_nets(device), device.probe([plan.probing for plan in device.plans])
        device.age(AGES[-1])
        found, aged = device.compensate("global").gains, present_nets(device)
        after = device.probe([plan.probing for plan in device.plans])
    for gain, sign, *nets, b, a in zip(found, signs, fresh, aged, before, after, strict=True):
        true = (sign * nets[0]).sum() / (sign * nets[1]).sum()
        assert abs(gain / true - 1) < 0.02
        assert abs(np.abs(b).sum() / np.abs(a).sum() / true - 1) > 0.05


def test_columns_have_gains_of_their_own():
    """A column's gain is nearer to its states' than the tile's is; those the columns share are the tile's."""
    with programmed(placement()) as device:
        fresh = present_nets(device)
        device.age(AGES[-1])
        found = device.compensate("column")
        aged = present_nets(device)
        sums = [np.sign(tile.targets) for tile in device.placement.tiles]
    own = shared = 0.0
    for gain, columns, sign, a, b in zip(found.gains, found.columns, sums, fresh, aged, strict=True):
        used = sign.any(axis=0)  # not a column that pads the tile
        true = (sign * a)[:, used].sum(axis=0) / (sign * b)[:, used].sum(axis=0)
        own += float(((columns[used] / true - 1) ** 2).sum())
        shared += float(((gain / true - 1) ** 2).sum())
    assert own < shared / 4
    assert found.weak == ()


def test_a_column_in_the_noise_falls_back_to_its_tile():
    reference, now = np.array([4000.0, 30.0, 0.0, 2000.0]), np.array([2000.0, 11.0, 0.0, -3.0])
    found = compensation.gains(reference, now, np.array([5.0, 5.0, 0.0, 5.0]))
    assert found.tile == pytest.approx(6030 / 2008)
    np.testing.assert_allclose(found.columns, [2.0, found.tile, found.tile, found.tile])
    assert found.weak.tolist() == [False, True, False, True]  # nothing is wanted of the third
    assert compensation.weak_columns([found, found]) == ((0, 1), (0, 3), (1, 1), (1, 3))
    noisy = compensation.gains(reference / 100, now / 100, np.full(4, 5.0))
    assert (noisy.tile, noisy.columns.tolist()) == (1.0, [1.0] * 4)


def test_statistics_restore_mean_and_spread():
    tile = placement().tiles[0]
    rng = np.random.default_rng(0)
    fresh = rng.normal(3000, 4000, (400, tile.columns))
    fresh[:, 2] = 70  # never moves
    aged = (fresh - 500) / 2
    found, shifts = compensation.statistics_gains(tile, Statistics.of(fresh), Statistics.of(aged))
    np.testing.assert_allclose(aged * found.columns + shifts, fresh, atol=1e-6)
    assert found.weak.tolist() == [column == 2 for column in range(tile.columns)]
    assert found.tile == pytest.approx(2.0)


def test_adabs_brings_the_statistics_back():
    x = vectors()
    with programmed(placement()) as device:
        device.take_statistics(x)
        fresh = device.trace(x)
        device.age(AGES[-1])
        error = {}
        for kind in ("none", "global", "adabs"):
            found = device.compensate(kind, calibration=x if kind == "adabs" else None)
            aged = device.trace(x)
            error[kind] = [float(np.sqrt(((a - b) ** 2).mean() / b.var())) for a, b in zip(aged, fresh, strict=True)]
            if kind == "adabs":
                for now, before in zip(aged, fresh, strict=True):
                    # 0.09 at most over eight seeds; one gain a tile leaves 0.22 to 1.5, none at all 1.2 to 1.8
                    assert (np.abs(now.mean(axis=0) - before.mean(axis=0)) < 0.15 * before.std(axis=0)).all()
                    np.testing.assert_allclose(now.std(axis=0), before.std(axis=0), rtol=0.1)
        assert error["adabs"][0] < error["global"][0] < error["none"][0]
        assert error["adabs"][1] < error["none"][1]
        tiles = device.placement.tiles
        assert found.cost.conversions == 2 * len(x) * sum(tile.columns for tile in tiles)
        assert all(1.5 < gain < 3 for gain in found.gains)


def test_cost_is_counted():
    with programmed(placement()) as device:
        device.age(3600.0)
        none, found = device.compensate("none"), device.compensate("global")
    averages = int(PCM.averages.one)
    tiles = placement().tiles
    reads = [averages * (min(compensation.IDLE, tile.rows) + tile.rows) for tile in tiles]
    assert (none.cost.conversions, none.cost.target_time_ps, none.cost.board_cycles) == (0, 0, None)
    assert found.cost.conversions == sum(n * tile.columns for n, tile in zip(reads, tiles, strict=True))
    idle, probes = (averages * max(n * tile.latency for n, tile in zip(rows, tiles, strict=True))
                    for rows in ([min(compensation.IDLE, tile.rows) for tile in tiles], [tile.rows for tile in tiles]))
    assert found.cost.target_time_ps == idle + probes


@pytest.mark.parametrize("offset", [5.0, -11.5])
def test_offsets_are_taken_off(offset):
    """As probes see them: outputs and gains are those of converters without the offset, or near."""
    x, outputs, gains = vectors(), {}, {}
    for error, calibrated in ((0.0, False), (offset, False), (offset, True)):
        with programmed(placement(), offset=error) as device:
            if calibrated:
                found = device.calibrate()
                assert max(np.abs(one - offset).max() for one in found.inference) < 0.6
                assert max(abs(one - offset) for one in found.verify) < 0.6
                assert found.cost.conversions > 0
                again = device.calibrate()  # of what is left: the converters have not changed, their trim has
                assert max(abs(one) for one in again.verify) < 0.6
            device.program(PCM)  # write-verify goes by the trimmed range
            outputs[error, calibrated] = device.trace(x)[0]
            device.age(86400.0)
            gains[error, calibrated] = device.compensate("global").gains
    exact = network().layers[0].weight @ x.T + network().layers[0].bias[:, None]
    wrong = {key: float(np.sqrt(((found.T - exact) ** 2).mean() / exact.var())) for key, found in outputs.items()}
    assert wrong[offset, False] > 2 * wrong[0.0, False]
    assert wrong[offset, True] < 1.3 * wrong[0.0, False]
    np.testing.assert_allclose(gains[offset, True], gains[0.0, False], rtol=0.04)


def test_nets_are_exact():
    with programmed(placement(), offset=2.25) as device:
        device.age(86400.0)
        before, counted = dict(device.backend.chip.cores[0].settings), present_nets(device)
        for got, wanted in zip(device.nets(), counted, strict=True):
            np.testing.assert_array_equal(got, wanted)
        after = device.backend.chip.cores[0].settings
        changed = {name for name in after if after[name] != before[name]}
        assert changed <= {"context", "row", "row_count", "probe_ticks", "probe_mode"}


# --- refused --------------------------------------------------------------------------------------------------------

def words(device):
    return np.concatenate([one.ravel() for one in device.column_constants()])


@pytest.mark.parametrize(("call", "message"), [
    (lambda d: d.compensate("local"), "unknown compensation 'local': choose none, global, column, adabs"),
    (lambda d: d.compensate("adabs"), "adabs needs a calibration set"),
    (lambda d: d.compensate("adabs", calibration=vectors()), "adabs has no reference: call take_statistics"),
    (lambda d: d.take_statistics(vectors()[:1]), "at least 2 vectors"),
    (lambda d: d.take_statistics(np.ones((3, 19))), "takes 20 inputs, not 19"),
    (lambda d: d.take_statistics(np.full((3, 20), np.nan)), "input 0 holds NaN"),
    (lambda d: d.set_converter_offset(128), "within \\+-127 codes, not 128"),
    (lambda d: d.set_converter_offset(float("nan")), "within \\+-127 codes, not nan"),
])
def test_what_is_missing_is_named_and_nothing_changes(call, message):
    with programmed(placement()) as device:
        device.age(0)
        device.compensate("column")
        before, counters = words(device), device.counters()
        with pytest.raises(BitlineError, match=message):
            call(device)
        np.testing.assert_array_equal(words(device), before)
        assert device.counters() == counters


def test_statistics_of_old_devices_are_no_reference():
    with programmed(placement()) as device:
        device.age(60.0)
        with pytest.raises(BitlineError, match="these are 60 s old: take them after programming"):
            device.take_statistics(vectors())


@pytest.mark.parametrize("kind", ["global", "column", "adabs"])
def test_words_that_overflow_leave_the_old_ones(kind, monkeypatch):
    with programmed(placement()) as device:
        device.take_statistics(vectors())
        device.age(AGES[0])
        device.compensate("global")
        before, gains = words(device), device.gains
        device.reference = [one * 10 for one in device.reference]
        device.statistics = [Statistics(one.mean, one.variance * 100) for one in device.statistics]
        with pytest.raises(BitlineError, match=r"tile 0 cannot be compensated by 1\d\.\d\d: .* scale would overflow"):
            device.compensate(kind, calibration=vectors())
        np.testing.assert_array_equal(words(device), before)
        assert device.gains == gains


def test_another_programming_forgets_references():
    """They are those of the devices that were; and a host that opens a programmed device anew has none."""
    with programmed(placement()) as device:
        device.take_statistics(vectors())
        first = device.reference
        device.program(PCM)
        assert any((a != b).any() for a, b in zip(first, device.reference, strict=True))
        device.age(60.0)
        with pytest.raises(BitlineError, match="no reference"):
            device.compensate("adabs", calibration=vectors())
        device.configure(placement())
        with pytest.raises(BitlineError, match="not programmed"):
            device.compensate("global")


def test_gains_of_a_tile_without_signal_are_one():
    found = compensation.gains(np.zeros(4), np.zeros(4), np.zeros(4))
    assert isinstance(found, Gains)
    assert (found.tile, found.columns.tolist(), found.weak.any()) == (1.0, [1.0] * 4, False)


def test_probes_have_noise_even_where_programming_reads_have_none():
    """However the devices were programmed: two probes of one row at two ages of an ideal device differ."""
    still = technology("ideal").replace(read_noise=PCM.read_noise, verify_noise=False)
    with open_device("model:small") as device:
        device.configure(placement())
        device.program(still)
        first = device.probe([plan.probing for plan in device.plans])
        device.age(1000.0)
        second = device.probe([plan.probing for plan in device.plans])
    assert all((a != b).mean() > 0.2 for a, b in zip(first, second, strict=True))
