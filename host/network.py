"""Networks: ONNX files become a chain of dense layers, or are refused by the name of the node that cannot be mapped.

Quantised exports are understood: QuantizeLinear, DequantizeLinear and `Quant` (qonnx) of constants are evaluated, and
around activations they pass values on, since the chip has converters of its own.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

__all__ = ["Dense", "Network", "NetworkError", "load_network"]

Floats = NDArray[np.float64]


class NetworkError(Exception):
    """The network cannot be read or mapped; the sentence names the node."""


@dataclasses.dataclass(frozen=True)
class Dense:
    """y = relu(W x + b), or without relu.

    Attributes
    ----------
    weight : (outputs, inputs), float64
    bias : (outputs,), float64
    """

    name: str
    weight: Floats
    bias: Floats
    relu: bool

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or 0 in self.weight.shape or self.bias.shape != self.weight.shape[:1]:
            raise NetworkError(f"layer {self.name!r} needs weights (outputs, inputs) and one bias per output, "
                               f"not {self.weight.shape} and {self.bias.shape}")
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise NetworkError(f"layer {self.name!r} has weights or biases that are not finite")

    @property
    def outputs(self) -> int:
        """Rows of the weight."""
        return int(self.weight.shape[0])

    @property
    def inputs(self) -> int:
        """Columns of the weight."""
        return int(self.weight.shape[1])

    def __call__(self, x: Floats) -> Floats:
        """Return the outputs for x (N, inputs)."""
        y = x @ self.weight.T + self.bias
        return np.maximum(y, 0) if self.relu else y


@dataclasses.dataclass(frozen=True)
class Network:
    """Dense layers one after the other; `softmax` tells that the file ends with one, which the host would compute."""

    input_size: int
    layers: tuple[Dense, ...]
    softmax: bool = False

    def __post_init__(self) -> None:
        if not self.layers:
            raise NetworkError("the network has no dense layer")
        size = self.input_size
        for layer in self.layers:
            if layer.inputs != size:
                raise NetworkError(f"layer {layer.name!r} takes {layer.inputs} inputs, but {size} come to it")
            size = layer.outputs

    def forward(self, x: Any) -> Floats:
        """Return the logits (N, outputs) of x (N, input_size), without the softmax."""
        return self.trace(x)[-1]

    def trace(self, x: Any) -> list[Floats]:
        """Return the outputs of every layer, each (N, outputs)."""
        values = np.asarray(x, np.float64)
        if values.ndim != 2 or values.shape[1] != self.input_size:
            raise ValueError(f"inputs must be (N, {self.input_size}), not {values.shape}")
        outputs = []
        for layer in self.layers:
            values = layer(values)
            outputs.append(values)
        return outputs


def load_network(path: str | Path) -> Network:
    """Return the network in an ONNX file.

    Raises
    ------
    NetworkError
        If the file cannot be read, or holds anything but a chain of dense layers.
    """
    path = Path(path)
    try:
        model = onnx.load(path)
        graph = model.graph
        if not graph.node:
            raise NetworkError(f"{path} is no ONNX network: it has no nodes")
    except NetworkError:
        raise
    except FileNotFoundError as error:
        raise NetworkError(f"{path} does not exist") from error
    except Exception as error:  # protobuf, onnx and the operating system each raise their own
        raise NetworkError(f"{path} is not a readable ONNX file ({type(error).__name__})") from error
    return _Walker(graph).walk()


class _Walker:
    """Follows the one activation from the graph's input to its output and collects layers."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.constants: dict[str, NDArray[Any]] = {}
        for tensor in graph.initializer:
            try:
                self.constants[tensor.name] = numpy_helper.to_array(tensor)
            except Exception as error:  # whatever a damaged tensor makes numpy or onnx raise
                raise NetworkError(f"the values of {tensor.name!r} cannot be read ({type(error).__name__})") from error
        self.layers: list[Dense] = []
        self.size: int | None = None
        """Elements of the present activation per image, once known."""
        self.linear = False
        """Whether the last layer may still take a bias or a relu."""
        self.softmax = False

    def walk(self) -> Network:
        """Return the network, or raise NetworkError."""
        self._input()
        for node in self.graph.node:
            label = f"node {(node.name or (node.output[0] if node.output else ''))!r} ({node.op_type})"
            try:
                self._node(node, label)
            except NetworkError:
                raise
            except Exception as error:  # attributes of wrong types, operands that do not fit each other
                raise NetworkError(f"{label} is malformed: {error}") from error
        outputs = [value.name for value in self.graph.output]
        if outputs != [self.value]:
            raise NetworkError(f"the network must have the one output {self.value!r}, not {outputs}")
        if not self.layers:
            raise NetworkError("the network has no dense layer")
        return Network(self.layers[0].inputs, tuple(self.layers), self.softmax)

    def _input(self) -> None:
        inputs = [value for value in self.graph.input if value.name not in self.constants]
        if len(inputs) != 1:
            raise NetworkError(f"the network must have one input, not {[value.name for value in inputs]}")
        self.value = inputs[0].name
        dimensions = inputs[0].type.tensor_type.shape.dim
        if len(dimensions) < 2:
            raise NetworkError(f"input {self.value!r} must have the shape (batch, ...), "
                               f"not {len(dimensions)} dimensions")
        for dimension in dimensions[1:]:
            if not dimension.HasField("dim_value") or dimension.dim_value < 1:
                raise NetworkError(f"input {self.value!r} has a dynamic dimension other than the batch")
        self.size = int(np.prod([dimension.dim_value for dimension in dimensions[1:]]))
        self.flat = len(dimensions) == 2
        """Whether the present activation is (batch, elements)."""

    def _node(self, node: Any, label: str) -> None:
        if all(name in self.constants or not name for name in node.input):
            self._constant(node, label)
            return
        handler = _HANDLERS.get(node.op_type)
        if not node.output:
            raise NetworkError(f"{label} has no output")
        if handler is None:
            raise NetworkError(f"{label} is not supported: only dense layers are")
        live = [name for name in node.input if name and name not in self.constants]
        if live != [self.value]:
            raise NetworkError(f"{label} takes {live}, but only a chain is supported: {self.value!r} comes next")
        if self.softmax:
            raise NetworkError(f"{label} follows a Softmax, which is supported only at the end")
        handler(self, node, label)
        self.value = node.output[0]

    def _constant(self, node: Any, label: str) -> None:
        values = [self.constants[name] if name else None for name in node.input]
        evaluate = _CONSTANT.get(node.op_type)
        if evaluate is None or len(node.output) != 1:
            raise NetworkError(f"{label} computes a constant, which only {', '.join(sorted(_CONSTANT))} may")
        self.constants[node.output[0]] = evaluate(values, _attributes(node))

    def _dense(self, label: str, name: str, weight: NDArray[Any], bias: NDArray[Any] | None) -> None:
        if weight.ndim != 2:
            raise NetworkError(f"{label} has weights of {weight.ndim} dimensions, not 2")
        if not self.flat:
            raise NetworkError(f"{label} takes an activation that is not (batch, elements): flatten it first")
        if self.size != weight.shape[1]:
            raise NetworkError(f"{label} takes {weight.shape[1]} inputs, but {self.size} come to it")
        offset = np.zeros(weight.shape[0]) if bias is None else self._offset(label, bias, weight.shape[0])
        self.layers.append(Dense(name, weight.astype(np.float64), offset, False))
        self.size, self.linear = int(weight.shape[0]), True

    def _offset(self, label: str, bias: NDArray[Any], outputs: int) -> Floats:
        if bias.size not in (1, outputs) or bias.shape[-1:] != (bias.size,) * (bias.ndim > 0):
            raise NetworkError(f"{label} adds {bias.shape} to {outputs} outputs")
        return np.broadcast_to(bias.astype(np.float64).ravel(), outputs).copy()

    def _operand(self, node: Any, position: int, label: str) -> NDArray[Any]:
        name = node.input[position] if len(node.input) > position else ""
        if name not in self.constants:
            raise NetworkError(f"{label} needs a constant as input {position + 1}")
        return self.constants[name]

    def gemm(self, node: Any, label: str) -> None:
        """Add a layer: alpha A B + beta C."""
        options = _attributes(node)
        if options.get("transA", 0):
            raise NetworkError(f"{label} transposes its activation, which is not supported")
        if node.input[0] != self.value:
            raise NetworkError(f"{label} has the activation on the right, which is not supported")
        weight = self._operand(node, 1, label).astype(np.float64)
        weight = weight if options.get("transB", 0) else weight.T
        bias = None
        if len(node.input) > 2 and node.input[2]:
            bias = self._operand(node, 2, label) * float(options.get("beta", 1.0))
        self._dense(label, node.name or node.output[0], weight * float(options.get("alpha", 1.0)), bias)

    def matmul(self, node: Any, label: str) -> None:
        """Add a layer without a bias."""
        if node.input[0] != self.value:
            raise NetworkError(f"{label} has the activation on the right, which is not supported")
        self._dense(label, node.name or node.output[0], self._operand(node, 1, label).T, None)

    def add(self, node: Any, label: str) -> None:
        """Add to the last layer's bias."""
        if not self.linear:
            raise NetworkError(f"{label} does not follow a dense layer")
        constant = self._operand(node, 1 if node.input[0] == self.value else 0, label)
        last = self.layers[-1]
        self.layers[-1] = dataclasses.replace(last, bias=last.bias + self._offset(label, constant, last.outputs))

    def relu(self, node: Any, label: str) -> None:
        """Give the last layer its relu."""
        if not self.layers:
            raise NetworkError(f"{label} does not follow a dense layer")
        self.layers[-1] = dataclasses.replace(self.layers[-1], relu=True)
        self.linear = False

    def flatten(self, node: Any, label: str) -> None:
        """Make the activation (batch, elements)."""
        axis = _attributes(node).get("axis", 1)
        if axis != 1 and not (self.flat and axis == -1):
            raise NetworkError(f"{label} does not keep the batch: its axis must be 1")
        self.flat = True

    def reshape(self, node: Any, label: str) -> None:
        """Accept shapes that keep the batch."""
        shape = [int(n) for n in self._operand(node, 1, label).ravel()]
        known = int(np.prod([n for n in shape[1:] if n > 0]))
        if len(shape) < 2 or 0 in shape[1:] or shape[0] not in (0, 1, -1) or shape.count(-1) > 1 or (
                known != self.size and -1 not in shape[1:]) or (self.size or 0) % max(known, 1):
            raise NetworkError(f"{label} to {shape} does not keep (batch, {self.size})")
        self.flat = len(shape) == 2

    def identity(self, _node: Any, _label: str) -> None:
        """Pass the activation on."""

    def quantize(self, node: Any, label: str) -> None:
        """Pass the activation on; a quantiser whose lowest step is zero is a relu, which exporters fold into it."""
        if node.input[0] != self.value:
            raise NetworkError(f"{label} has the activation as a parameter, which is not supported")
        point = self._operand(node, 2, label) if len(node.input) > 2 and node.input[2] else np.zeros(1, np.uint8)
        if node.op_type == "Quant":
            clips = not _attributes(node).get("signed", 1) and not point.any()
        else:
            clips = bool((point == np.iinfo(point.dtype).min).all())
        if self.layers and clips:
            self.layers[-1] = dataclasses.replace(self.layers[-1], relu=True)
            self.linear = False

    def final_softmax(self, node: Any, label: str) -> None:
        """Note the softmax, after which nothing may follow."""
        if _attributes(node).get("axis", -1) not in (1, -1) or not self.flat or not self.layers:
            raise NetworkError(f"{label} is supported over the classes at the end only")
        self.softmax, self.linear = True, False


_HANDLERS: dict[str, Callable[[_Walker, Any, str], None]] = {
    "Gemm": _Walker.gemm, "MatMul": _Walker.matmul, "Add": _Walker.add, "Relu": _Walker.relu,
    "Flatten": _Walker.flatten, "Reshape": _Walker.reshape, "Identity": _Walker.identity,
    "Dropout": _Walker.identity, "Softmax": _Walker.final_softmax, "QuantizeLinear": _Walker.quantize,
    "DequantizeLinear": _Walker.identity, "Quant": _Walker.quantize,
}


def _attributes(node: Any) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _axis(parameter: Any, x: NDArray[Any], axis: int) -> NDArray[Any]:
    values = np.asarray(parameter)
    if values.size == 1:
        return values.reshape(())
    shape = [1] * x.ndim
    shape[axis] = -1
    return values.reshape(shape)


def _quantize(values: list[Any], options: dict[str, Any]) -> NDArray[Any]:
    x, scale, *zero = values
    axis = int(options.get("axis", 1))
    if any(key.startswith("block") and value for key, value in options.items()):
        raise ValueError("blocks are not supported")
    point = zero[0] if zero and zero[0] is not None else np.zeros(1, np.uint8)
    limits = np.iinfo(point.dtype)
    steps = np.rint(x / _axis(scale, x, axis)) + _axis(point.astype(np.float64), x, axis)
    return np.clip(steps, limits.min, limits.max).astype(point.dtype)


def _dequantize(values: list[Any], options: dict[str, Any]) -> NDArray[Any]:
    x, scale, *zero = values
    axis = int(options.get("axis", 1))
    if any(key.startswith("block") and value for key, value in options.items()):
        raise ValueError("blocks are not supported")
    point = zero[0].astype(np.float64) if zero and zero[0] is not None else np.zeros(1)
    return (x.astype(np.float64) - _axis(point, x, axis)) * _axis(scale.astype(np.float64), x, axis)


def _quant(values: list[Any], options: dict[str, Any]) -> NDArray[Any]:
    """Evaluate qonnx's Quant: x, scale, zero point, bits."""
    x, scale, zero, bits = (value.astype(np.float64) for value in values)
    width, signed = float(bits.ravel()[0]), bool(options.get("signed", 1))
    narrow = bool(options.get("narrow", 0))
    high = 2 ** (width - 1) - 1 if signed else 2**width - 1 - narrow
    low = -(2 ** (width - 1)) + narrow if signed else 0.0
    mode = options.get("rounding_mode", b"ROUND")
    mode = (mode.decode() if isinstance(mode, bytes) else str(mode)).upper()
    rounding = {"ROUND": np.rint, "CEIL": np.ceil, "FLOOR": np.floor, "ROUND_TO_ZERO": np.trunc}.get(mode)
    if rounding is None:
        raise ValueError(f"rounding mode {mode} is unknown")
    return (np.clip(rounding(x / scale + zero), low, high) - zero) * scale


def _transpose(values: list[Any], options: dict[str, Any]) -> NDArray[Any]:
    return np.transpose(values[0], options.get("perm"))


def _value(_values: list[Any], options: dict[str, Any]) -> NDArray[Any]:
    return numpy_helper.to_array(options["value"])


_CONSTANT: dict[str, Callable[[list[Any], dict[str, Any]], NDArray[Any]]] = {
    "Constant": _value, "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize, "Quant": _quant,
    "Transpose": _transpose, "Identity": lambda values, _options: values[0],
}
