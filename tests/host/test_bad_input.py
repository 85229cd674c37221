"""What a user can do wrong: exit code 2, one sentence that names the thing, and the device is as it was.

The device is a served one that holds a programmed network. Before and after each mistake its digest (of everything ever
written to it) and all its states are compared.
"""

import dataclasses
import json
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from host.api import open_device
from host.channels import LoopbackChannel
from host.cli import app
from host.serve import TcpDoor
from rtl.params import geometry_hash, preset
from sim.chip import Chip
from sim.link import Endpoint
from sim.presets import technology
from tests.host.small import SIZES, placement, save_onnx, vectors
from tests.host.test_serve import serving

SMALL = preset("small")


@dataclasses.dataclass
class Served:
    """A programmed chip behind a TCP port."""

    url: str
    endpoint: Endpoint

    def state(self):
        """Everything that a mistake must leave alone."""
        chip, end = self.endpoint.device, self.endpoint
        states = [core.programming.array.states.tolist() for core in chip.cores]
        return end.digest, end.commands, states, [core.counters() for core in chip.cores], chip.port.sent


@pytest.fixture(scope="module")
def served():
    chip, door = Chip(SMALL), TcpDoor()
    endpoint = Endpoint(chip, SMALL)
    with serving(LoopbackChannel(endpoint), door):
        url = f"tcp:127.0.0.1:{door.port}"
        with open_device(f"{url}?geometry=small") as device:
            device.configure(placement())
            device.program(technology("pcm"))
        yield Served(url, endpoint)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of every kind, most of them broken."""
    home = tmp_path_factory.mktemp("bad")
    x = vectors()
    save_onnx(home / "net.onnx")
    np.savez(home / "data.npz", x=x, y=np.arange(len(x)) % SIZES[-1])
    _data_files(home, x)
    _network_files(home)
    _placements(home)
    return home


def _data_files(home, x):
    bad = x.copy()
    bad[3, 4] = np.nan
    arrays = {
        "nan": {"x": bad}, "inf": {"x": np.where(np.isnan(bad), np.inf, bad)}, "narrow": {"x": x[:, :19]},
        "text": {"x": x.astype(str)}, "objects": {"x": np.array([{1: 2}], object)}, "flat": {"x": x[0]},
        "none": {"x": x[:0]}, "labels": {"x": x, "y": np.arange(3)}, "floats": {"x": x, "y": np.ones(len(x))},
        "other": {"z": x}, "ranges": {"x": x, "calibration": x[:, :7]}, "complex": {"x": x * 1j},
    }
    for name, content in arrays.items():
        np.savez(home / f"{name}.npz", **content)
    (home / "garbage.npz").write_bytes(b"not a zip file")
    whole = (home / "data.npz").read_bytes()
    (home / "short.npz").write_bytes(whole[:len(whole) // 2])


def _onnx(path, nodes, tensors, shape=("n", SIZES[0])):
    graph = helper.make_graph(
        nodes, "bad", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def _network_files(home):
    whole = (home / "net.onnx").read_bytes()
    (home / "short.onnx").write_bytes(whole[:len(whole) // 2])
    (home / "garbage.onnx").write_bytes(b"\x08nothing")
    (home / "empty.onnx").write_bytes(b"")
    (home / "folder.onnx").mkdir()
    save_onnx(home / "conv.onnx", node=helper.make_node("Conv", ["x", "w0"], ["c"], "conv1"))
    gemm = helper.make_node("Gemm", ["x", "w"], ["y"], "wide", transB=1)
    _onnx(home / "large.onnx", [gemm], {"w": np.ones((3000, SIZES[0]))})
    second = helper.make_node("Gemm", ["h", "v"], ["y"], "narrow", transB=1)
    first = helper.make_node("Gemm", ["x", "w"], ["h"], "wide", transB=1)
    _onnx(home / "weights.onnx", [first, second], {"w": np.ones((900, SIZES[0])), "v": np.ones((5, 900))})
    _onnx(home / "nan.onnx", [gemm], {"w": np.full((5, SIZES[0]), np.nan)})
    _onnx(home / "unknown.onnx", [helper.make_node("Gemm", ["x", "nowhere"], ["y"], "lost")], {})
    _onnx(home / "shape.onnx", [gemm], {"w": np.ones((5, 7))})
    _onnx(home / "nothing.onnx", [helper.make_node("Identity", ["x"], ["y"], "same")], {})


def _placements(home):
    """Placements of which one thing each was changed."""
    good = placement()
    good.save(home / "good.npz")
    placement("demo").save(home / "demo-placed.npz")
    with np.load(home / "good.npz") as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(arrays["meta"].tobytes())
    _write_changed(home, meta, arrays)


def _write_changed(home, meta, arrays):
    def write(name, *, drop=(), change=None, **replaced):
        described = meta | (change or {})
        content = arrays | replaced | {"meta": np.frombuffer(json.dumps(described).encode(), np.uint8)}
        np.savez(home / f"{name}.npz", **{key: value for key, value in content.items() if key not in drop})

    write("no-meta", drop=("meta",))
    write("no-targets", drop=("targets0",))
    write("no-memory", drop=("memory",))
    write("format", change={"format": 99})
    write("hash", change={"hash": geometry_hash(SMALL) ^ 1})
    write("no-geometry", change={"geometry": {"name": "small", "wings": 2}})
    write("unit", change={"tiles": [meta["tiles"][0] | {"unit": 9}, *meta["tiles"][1:]]})
    write("context", change={"tiles": [meta["tiles"][0] | {"context": 99}, *meta["tiles"][1:]]})
    write("rows", change={"tiles": [meta["tiles"][0] | {"rows": 99999}, *meta["tiles"][1:]]})
    write("field", change={"tiles": [meta["tiles"][0] | {"wings": 2}, *meta["tiles"][1:]]})
    write("no-tiles", change={"tiles": []})
    write("no-layers", change={"layers": []})
    write("plan", change={"plan": [[1, 2, 3]]})
    write("instruction", change={"instructions": [[1]]})
    write("targets", targets0=np.zeros((2, 2), np.int64))
    write("scales", scales0=np.full(arrays["scales0"].shape, np.nan))
    write("memory", memory=np.zeros(3))
    whole = (home / "good.npz").read_bytes()
    (home / "short-placed.npz").write_bytes(whole[:-50])
    with zipfile.ZipFile(home / "no-arrays.npz", "w") as archive:
        archive.writestr("meta.npy", b"nothing")


RUN = ("run", "NET", "--data", "DATA", "--device", "SERVED")
CASES = [
    # files that are not what they should be
    (("run", "missing.onnx", *RUN[2:]), "missing.onnx does not exist"),
    (("run", "folder.onnx", *RUN[2:]), "folder.onnx"),
    (("run", "empty.onnx", *RUN[2:]), "empty.onnx"),
    (("run", "short.onnx", *RUN[2:]), "short.onnx"),
    (("run", "garbage.onnx", *RUN[2:]), "garbage.onnx"),
    (("run", "conv.onnx", *RUN[2:]), "node 'conv1' (Conv) is not supported"),
    (("run", "unknown.onnx", *RUN[2:]), "nowhere"),
    (("run", "nothing.onnx", *RUN[2:]), "the network has no dense layer"),
    (("run", "shape.onnx", *RUN[2:]), "'wide'"),
    (("run", "nan.onnx", *RUN[2:]), "'wide' has weights or biases that are not finite"),
    (("run", "large.onnx", *RUN[2:]), "3000 outputs, but a result holds 252"),
    (("run", "weights.onnx", *RUN[2:]), "contexts, but the chip has"),
    *[(("run", "NET", "--data", f"{name}.npz", "--device", "SERVED"), words) for name, words in (
        ("missing", "missing.npz does not exist"), ("garbage", "garbage.npz is not an .npz file of numbers"),
        ("short", "short.npz is not an .npz file of numbers"), ("other", "other.npz has no x, only z"),
        ("nan", "nan.npz: x[3] holds NaN or infinity"), ("inf", "inf.npz: x[3] holds NaN or infinity"),
        ("narrow", "19 values a vector"), ("text", "text.npz: x must be numbers"), ("objects", "objects.npz"),
        ("flat", "flat.npz: x must be numbers"), ("none", "none.npz: x must be numbers"),
        ("labels", "labels.npz: y must be 40 whole numbers"), ("floats", "floats.npz: y must be 40 whole numbers"),
        ("ranges", "ranges.npz: calibration has 7 values"), ("complex", "complex.npz: x must be numbers"))],
    *[(("run", f"{name}.npz", *RUN[2:]), f"{name}.npz") for name in (
        "no-meta", "no-targets", "no-memory", "format", "hash", "no-geometry", "unit", "context", "rows", "field",
        "no-tiles", "no-layers", "plan", "instruction", "targets", "scales", "memory", "short-placed", "no-arrays",
        "demo-placed", "data", "garbage")],
    # words that mean nothing
    ((*RUN, "--technology", "tape"), "tape"),
    ((*RUN, "--age", "yesterday"), "'yesterday' is not an age"),
    ((*RUN, "--age", "-1"), "'-1' is not an age"),
    ((*RUN, "--age", "1e999"), "'1e999' is not an age"),
    ((*RUN, "--compensate", "local"), "local"),
    ((*RUN, "--images", "0"), "--images 0"),
    ((*RUN, "--images", "41"), "--images 41"),
    ((*RUN, "--json", "/no/such/place.json"), "/no/such"),
    ((*RUN[:4], "--device", "TCP?geometry=demo"), "the device was built as small"),
    ((*RUN[:4], "--device", "TCP?geometry=huge"), "'huge'"),
    ((*RUN[:4], "--device", "TCP?speed=9"), "unknown option 'speed'"),
    ((*RUN[:4], "--device", "TCP?geometry=small&seed=-1"), "seed must be 0 to 4294967295"),
    ((*RUN[:4], "--device", "TCP?geometry=small&geometry=small"), "gives an option twice"),
    ((*RUN[:4], "--device", "tcp:127.0.0.1:1"), "127.0.0.1:1"),
    ((*RUN[:4], "--device", "tcp:127.0.0.1:99999"), "names no host and port"),
    ((*RUN[:4], "--device", "serial:/dev/nothing-there"), "/dev/nothing-there"),
    ((*RUN[:4], "--device", "serial:"), "names no serial line"),
    ((*RUN[:4], "--device", "toaster:"), "unknown device 'toaster:'"),
    (("compile", "NET", "--geometry", "small", "--output", "/no/such/place.npz"), "/no/such/place.npz"),
    (("compile", "NET", "--geometry", "small", "--data", "narrow.npz"), "19 values a vector"),
    (("verify", "NET", "--data", "DATA", "--device", "SERVED", "--against", "model:tiny"), "they cannot agree"),
    (("selftest", "TCP?geometry=tiny"), "the device was built as small"),
    (("info", "TCP?geometry=tiny"), "the device was built as small"),
    (("regs", "TCP?geometry=tiny"), "the device was built as small"),
    (("build", "ulx3s-12f", "--seed", "1", "--every", "2"), "--seed is one seed and --every is many"),
]


@pytest.mark.parametrize(("arguments", "words"), CASES, ids=lambda value: value if isinstance(value, str) else None)
def test_a_mistake_is_one_sentence_and_changes_nothing(arguments, words, files, served):
    names = {"NET": str(files / "net.onnx"), "DATA": str(files / "data.npz"), "SERVED": f"{served.url}?geometry=small"}
    spelled = [names.get(word, word) for word in arguments]
    spelled = [str(files / word) if (files / word).exists() and not word.startswith("/") else
               word.replace("TCP", served.url) for word in spelled]
    before = served.state()
    ran = CliRunner().invoke(app, spelled, catch_exceptions=False)
    assert served.state() == before
    assert ran.exit_code == 2
    assert ran.stdout == ""
    (sentence,) = [line for line in ran.stderr.splitlines() if line.startswith("bitline: ")]
    assert words in sentence
    assert "Traceback" not in ran.stderr
