"""A small network on a small chip, as tests of sessions use it."""

import functools
import itertools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from host.compiler import compile_network
from host.network import Dense, Network
from rtl.params import preset

SIZES = (20, 9, 5)


@functools.cache
def network():
    """20-9-5 with relu."""
    rng = np.random.default_rng(11)
    return Network(SIZES[0], tuple(
        Dense(f"layer{k}", rng.normal(size=(outputs, inputs)), rng.normal(size=outputs), k == 0)
        for k, (inputs, outputs) in enumerate(itertools.pairwise(SIZES))))


@functools.cache
def vectors(count=40):
    """Inputs for it, 0 to 1."""
    return np.random.default_rng(12).random((count, SIZES[0]))


@functools.cache
def placement(geometry="small"):
    """The network on a chip."""
    return compile_network(network(), preset(geometry), vectors())


def save_onnx(path, *, node=None):
    """Write the network as ONNX, with one more node in front if asked."""
    layers = network().layers
    nodes = [node] if node else []
    value = node.output[0] if node else "x"
    tensors = []
    for k, layer in enumerate(layers):
        tensors += [numpy_helper.from_array(layer.weight.astype(np.float32), f"w{k}"),
                    numpy_helper.from_array(layer.bias.astype(np.float32), f"b{k}")]
        nodes.append(helper.make_node("Gemm", [value, f"w{k}", f"b{k}"], [f"s{k}"], layer.name, transB=1))
        value = f"s{k}"
        if layer.relu:
            nodes.append(helper.make_node("Relu", [value], [f"h{k}"], f"relu{k}"))
            value = f"h{k}"
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", SIZES[0]])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", SIZES[-1]])], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path
