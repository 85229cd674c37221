"""Train the demonstration network, 784-128-10 with ReLU, in numpy, and write it as ONNX.

Run from the root of the repository: `python -m models.train_mnist`. It takes about a minute and always gives the same
network on the same machine. Weights are clipped and disturbed while training, so that the network bears the errors of
analog devices.
"""

import time
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from host.data import mnist

SEED = 7
HIDDEN = 128
EPOCHS = 250
BATCH = 100
LEARNING_RATE = 2e-3
WEIGHT_NOISE = 0.05
"""Standard deviation of the disturbance of each weight, relative to the largest of its layer."""
CLIP = 2.5
"""Weights are limited to this many standard deviations of their layer."""
DROPOUT = 0.1
SHIFT = 2
"""Images are moved by up to this many pixels."""
OUTPUT = Path(__file__).with_name("mnist_784_128_10.onnx")

Floats = NDArray[np.float32]


def shifted(images: Floats, rng: np.random.Generator) -> Floats:
    """Return images moved by random whole pixels, dark where nothing was."""
    side = 28
    padded = np.pad(images.reshape(-1, side, side), ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
    down, right = rng.integers(0, 2 * SHIFT + 1, (2, len(images), 1))
    rows, columns = (np.arange(side) + down)[:, :, None], (np.arange(side) + right)[:, None, :]
    return padded[np.arange(len(images))[:, None, None], rows, columns].reshape(len(images), -1)


def disturbed(weight: Floats, rng: np.random.Generator) -> Floats:
    """Return weights with Gaussian noise relative to the largest."""
    noise = rng.standard_normal(weight.shape, dtype=np.float32)
    return weight + np.float32(WEIGHT_NOISE * np.abs(weight).max()) * noise


def gradients(parameters: list[Floats], x: Floats, labels: NDArray[np.int64],
              rng: np.random.Generator) -> list[Floats]:
    """Return the gradients of the mean cross-entropy, taken at disturbed weights."""
    w1, b1, w2, b2 = parameters
    w1, w2 = disturbed(w1, rng), disturbed(w2, rng)
    keep = (rng.random((len(x), HIDDEN)) >= DROPOUT).astype(np.float32) / np.float32(1 - DROPOUT)
    h = np.maximum(x @ w1.T + b1, 0) * keep
    z = h @ w2.T + b2
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(x)), labels] -= 1
    dz = p / np.float32(len(x))
    dh = (dz @ w2) * keep * (h > 0)
    return [dh.T @ x, dh.sum(axis=0), dz.T @ h, dz.sum(axis=0)]


def train() -> list[Floats]:
    """Return weights and biases of the two layers, weights as (outputs, inputs)."""
    digits = mnist()
    rng = np.random.default_rng(SEED)
    parameters = [(rng.standard_normal((HIDDEN, 784)) * (2 / 784) ** 0.5).astype(np.float32),
                  np.zeros(HIDDEN, np.float32),
                  (rng.standard_normal((10, HIDDEN)) * (2 / HIDDEN) ** 0.5).astype(np.float32),
                  np.zeros(10, np.float32)]
    means, squares = [np.zeros_like(p) for p in parameters], [np.zeros_like(p) for p in parameters]
    steps = EPOCHS * (len(digits.train) // BATCH)
    step = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(digits.train))
        for first in range(0, len(order), BATCH):
            chosen = order[first:first + BATCH]
            step += 1
            rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            found = gradients(parameters, shifted(digits.train[chosen], rng), digits.train_labels[chosen], rng)
            for p, g, mean, square in zip(parameters, found, means, squares, strict=True):
                mean += 0.1 * (g - mean)
                square += 0.001 * (g * g - square)
                p -= (rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)).astype(np.float32)
            for k in (0, 2):
                limit = CLIP * parameters[k].std()
                np.clip(parameters[k], -limit, limit, out=parameters[k])
    return parameters


def accuracy(parameters: list[Floats], images: Floats, labels: NDArray[np.int64]) -> float:
    """Return the share of images whose largest output is their label."""
    w1, b1, w2, b2 = parameters
    z = np.maximum(images @ w1.T + b1, 0) @ w2.T + b2
    return float((z.argmax(axis=1) == labels).mean())


def model(parameters: list[Floats]) -> onnx.ModelProto:
    """Return the network as ONNX, opset 17."""
    names = ("hidden.weight", "hidden.bias", "output.weight", "output.bias")
    nodes = [helper.make_node("Flatten", ["image"], ["pixels"], "flatten", axis=1),
             helper.make_node("Gemm", ["pixels", *names[:2]], ["sums"], "hidden", transB=1),
             helper.make_node("Relu", ["sums"], ["features"], "relu"),
             helper.make_node("Gemm", ["features", *names[2:]], ["logits"], "output", transB=1),
             helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1)]
    graph = helper.make_graph(
        nodes, "mnist_784_128_10",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 784])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(p, name) for p, name in zip(parameters, names, strict=True)])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="bitline")
    made.ir_version = 8
    onnx.checker.check_model(made)
    return made


def main() -> None:
    """Train, say how good the network is, and write it."""
    start = time.perf_counter()
    parameters = train()
    digits = mnist()
    onnx.save(model(parameters), OUTPUT)
    seen = accuracy(parameters, digits.train, digits.train_labels)
    unseen = accuracy(parameters, digits.test, digits.test_labels)
    print(f"{time.perf_counter() - start:.0f} s; accuracy {seen:.2%} of the 4,000, {unseen:.2%} of the 1,000")
    rng = np.random.default_rng(0)
    noisy = [accuracy([disturbed(p, rng) if p.ndim == 2 else p for p in parameters], digits.test, digits.test_labels)
             for _ in range(10)]
    print(f"with {WEIGHT_NOISE:.0%} weight noise {np.mean(noisy):.2%} on average, {min(noisy):.2%} at worst")


if __name__ == "__main__":
    main()
