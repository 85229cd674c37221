"""Bit slices: the chip computes the integer network exactly, and mismatch spreads it as published numbers say."""

import itertools

import numpy as np
import pytest
from typer.testing import CliRunner

from host.backend import ModelBackend
from host.cli import app
from host.compiler import CompileError, compile_network
from host.device import Device
from host.errors import BitlineError
from host.network import Dense, Network
from host.placement import Placement
from host.slicing import BIT_NET, integers, slice_network
from host.tiling import CapacityError
from rtl.params import Geometry, preset
from sim.presets import technology
from tests.host.small import save_onnx
from tests.host.small import vectors as small_vectors

ROOMY = preset("demo").replace(name="roomy", digital_words=4096, instructions=256, programs=8)
SHARED = Geometry(name="shared", engines=2, contexts=24, rows=24, columns=16, lanes=8, net_words=1024, cells=16384,
                  column_words=1024, digital_words=4096, instructions=128, programs=4, adc_bits=6)
PAIRS = SHARED.replace(name="pairs", pairs=2, significance=3, adc_bits=9)
WIDE = SHARED.replace(name="wide", transport=8, columns=40, mesh_columns=4)


def network(sizes, seed=0, relu=True):
    rng = np.random.default_rng(seed)
    layers = []
    for k, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        weight = rng.standard_normal((outputs, inputs)) * rng.uniform(0.1, 1, (outputs, 1))
        layers.append(Dense(f"dense{k}", weight, rng.standard_normal(outputs), relu and k + 2 < len(sizes)))
    return Network(sizes[0], tuple(layers))


def vectors(count, size, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (count, size))


def plain(net, layers, x):
    """The integer network, one multiplication after another, with nothing of chips in it."""
    activations = [[max(-127, min(127, round(float(v) * layers[0].input_scale))) for v in row] for row in x]
    for k, (dense, layer) in enumerate(zip(net.layers, layers, strict=True)):
        largest = [max(abs(w) for w in row) for row in dense.weight.tolist()]
        weights = [[round(w / top * 127) for w in row] for row, top in zip(dense.weight.tolist(), largest, strict=True)]
        biases = [round(b * 127 * layer.input_scale / top) for b, top in zip(dense.bias.tolist(), largest, strict=True)]
        after = []
        for row in activations:
            out = []
            for o, own in enumerate(weights):
                total = sum(w * a for w, a in zip(own, row, strict=True)) + biases[o]
                value = (2 * total * int(layer.multipliers[o]) + 2**layer.shift) // 2**(layer.shift + 1)
                value = max(value, 0) if dense.relu else value
                out.append(value if k + 1 == len(layers) else max(-127, min(127, value)))
            after.append(out)
        activations = after
    return np.array(activations)


def run(placement, x, kind=None, **options):
    with Device(ModelBackend(placement.geometry), **options) as device:
        device.configure(placement)
        device.program(kind or technology("ideal"))
        codes, times = device.infer_codes(x)
        return codes, times


CASES = [
    (preset("small"), (20, 8), True), (preset("small"), (30, 4, 4), True), (ROOMY, (40, 12, 10), True),
    (ROOMY, (150, 8, 5), False), (SHARED, (50, 9, 6), True), (SHARED, (33, 6, 7, 3), False), (WIDE, (30, 11, 9), True),
]


@pytest.mark.parametrize(("geometry", "sizes", "relu"), CASES, ids=str)
def test_without_errors_the_chip_is_the_integer_network(geometry, sizes, relu):
    net, x = network(sizes, relu=relu), vectors(30, sizes[0])
    placement = slice_network(net, geometry, x, 200 * geometry.significance)
    expected = plain(net, integers(net, x), x)
    codes, _ = run(placement, x)
    np.testing.assert_array_equal(codes, expected)
    assert (expected < 0).any()
    assert (expected > 0).any()
    logits, wanted = placement.logits(codes), net.forward(x)
    assert np.abs(logits - wanted).max() < 0.05 * np.abs(wanted).max()


def test_exact_means_exact():
    """One cell off by one code changes what comes out: the comparison above can fail."""
    net, x = network((20, 8)), vectors(30, 20)
    placement = slice_network(net, preset("small"), x, 200)
    tile = placement.tiles[0]
    tile.targets[np.argmax(np.abs(x).sum(axis=0)), 2] += 51_200
    assert (run(placement, x)[0] != plain(net, integers(net, x), x)).any()


def test_every_bit_has_its_cell():
    net, x = network((50, 9, 6)), vectors(10, 50)
    placement = slice_network(net, SHARED, x, 200)
    for number, layer in enumerate(integers(net, x)):
        weights, cells = np.zeros_like(layer.weights), 0
        for tile in (tile for tile in placement.tiles if tile.layer == number):
            assert tile.rows <= SHARED.code_max
            assert set(np.unique(tile.targets)) <= {-51_200, 0, 51_200}
            _, outputs = placement.layers[number].column_tiles[tile.column_tile]
            wide = tile.columns // len(set(tile.scales.tolist()))
            for column, scale in enumerate(tile.scales.tolist()):
                if column % wide < outputs:
                    weights[tile.first_column + column % wide, tile.first_row:tile.first_row + tile.rows] += (
                        tile.targets[:, column] // 51_200 * (scale >> 8))
                    cells += tile.rows
                else:
                    assert not tile.targets[:, column].any()
        np.testing.assert_array_equal(weights, layer.weights)
        assert cells == 7 * weights.size


@pytest.mark.parametrize(("geometry", "sizes", "message"), [
    (preset("small"), (20, 12), "needs 360 digital memory words, but the chip has 256"),
    (preset("small"), (60, 16), "needs 14 contexts, but the chip has 8"),
    (preset("demo"), (784, 4), "bytes in a vector sent, but the chip has 2048"),
    (SHARED, (240, 4), "segments of a vector, but the chip has 63"),
    (WIDE.replace(adc_bits=4), (20, 4), "layer 'dense0' needs an ADC that counts the 8 rows of a word of inputs, "
                                        "but its 4 bits count to 7"),
    (SHARED.replace(columns=7, transport=8), (20, 4), "slices of 8 outputs, which the 7 columns of a tile do not hold"),
])
def test_what_does_not_fit_is_named(geometry, sizes, message):
    with pytest.raises(CapacityError, match=message):
        slice_network(network(sizes), geometry, vectors(10, sizes[0]), 200)


def test_sums_that_do_not_fit_are_refused():
    net = network((8, 4))
    net.layers[0].bias[:] = 1e9
    with pytest.raises(CompileError, match="layer 'dense0' can sum up to"):
        slice_network(net, preset("small"), vectors(10, 8), 200)


def test_save_and_load(tmp_path):
    net, x = network((30, 4, 4)), vectors(20, 30)
    placement = slice_network(net, preset("small"), x, 200)
    placement.save(tmp_path / "bits.npz")
    again = Placement.load(tmp_path / "bits.npz", preset("small"))
    assert (again.bit, again.plan, again.layers, again.landings) == (
        placement.bit, placement.plan, placement.layers, placement.landings)
    np.testing.assert_array_equal(run(again, x)[0], run(placement, x)[0])


def test_table_shows_slices_and_planes():
    placement = slice_network(network((30, 4, 4), relu=False), ROOMY, vectors(20, 30), 200)
    heads, *lines = placement.table()
    assert heads[-2:] == ("slices", "planes")
    assert [line[-2:] for line in lines] == [("7", "7"), ("7", "8")]
    assert lines[0][:3] == ("dense0", "30 x 4", "1 x 1 of 30 x 28")
    assert placement.cycles_per_image >= placement.lower_bound_cycles


def test_a_vector_is_the_sum_of_its_planes():
    placement = slice_network(network((30, 4)), preset("small"), vectors(20, 30), 200)
    activations = np.random.default_rng(3).integers(-127, 128, (5, 30))
    sent = placement.arrange(activations).reshape(5, 7, -1, 32)
    assert set(np.unique(sent)) == {-1, 0, 1}
    for copy in range(sent.shape[2]):
        np.testing.assert_array_equal((sent[:, :, copy] * 2**np.arange(7)[:, None]).sum(axis=1)[:, :30], activations)


def mismatched(layer, x, seed):
    """The same layer of MRAM bits in floating point: on 125 uS, off 125/3 uS, each with a spread of 7 %."""
    rng = np.random.default_rng(seed)
    bits = np.sign(layer.weights) * (np.abs(layer.weights) >> np.arange(7)[:, None, None] & 1)
    plus, minus = (np.where(bits == sign, 125.0, 125 / 3) * (1 + 0.07 * rng.standard_normal(bits.shape))
                   for sign in (1, -1))
    planes = np.sign(x) * (np.abs(x) >> np.arange(7)[:, None, None] & 1)
    counts = np.rint(np.einsum("pni,koi->pkno", planes, plus - minus) / (125 - 125 / 3))
    total = np.einsum("pkno,p,k->no", counts, 2.0**np.arange(7), 2.0**np.arange(7)) + layer.biases
    return np.floor(total * layer.multipliers / 2.0**layer.shift + 0.5)


def test_mismatch_spreads_results_as_a_float_monte_carlo_does():
    net, x = network((32, 8)), vectors(24, 32)
    placement = slice_network(net, ROOMY, x, BIT_NET)
    (layer,) = integers(net, x)
    exact = plain(net, [layer], x)
    chip = [run(placement, x, technology("mram"), seed=seed)[0] - exact for seed in range(12)]
    judge = [mismatched(layer, placement.quantize(x).astype(np.int64), seed) - exact for seed in range(60)]
    assert np.std(judge) > 10
    assert np.std(chip) == pytest.approx(np.std(judge), rel=0.12)
    assert abs(np.mean(chip)) < 0.2 * np.std(chip)


def test_sram_without_mismatch_is_exact_for_all_its_finite_ratio():
    net, x = network((30, 4, 4)), vectors(20, 30)
    placement = slice_network(net, preset("small"), x, BIT_NET)
    np.testing.assert_array_equal(run(placement, x, technology("sram"))[0], plain(net, integers(net, x), x))


def test_bits_in_cells_of_weights_are_refused():
    net, x = network((8, 4)), vectors(10, 8)
    placement = compile_network(net, preset("small"), x)
    with pytest.raises(BitlineError, match="'sram' holds bits, but the network was compiled for cells that hold weig"):
        run(placement, x, technology("sram"))


def test_commands_say_what_bits_are(tmp_path):
    net, data, out = str(tmp_path / "net.onnx"), str(tmp_path / "data.npz"), str(tmp_path / "net.npz")
    save_onnx(net)
    np.savez(data, x=small_vectors())

    def command(*words):
        found = CliRunner().invoke(app, words)
        return found.exit_code, found.output

    code, said = command("compile", net, "--data", data, "--technology", "sram", "--output", out)
    assert code == 0
    assert "functional equivalent: bit-sliced, 7 slices a weight" in said
    assert "planes" in said
    assert Placement.load(out).bit == BIT_NET
    code, said = command("run", net, "--data", data, "--technology", "mram", "--images", "5")
    assert code == 0
    assert "functional equivalent: bit-sliced" in said
    code, said = command("compile", net, "--data", data, "--geometry", "tiny", "--technology", "sram")
    assert code == 2
    assert "the network needs" in said
