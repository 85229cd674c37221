"""Reading nextpnr's report, the constraints of each board, and a whole build of the stand-in."""

import json
import re
import sys
from pathlib import Path

import pytest

from boards.build import Attempt, Report, build, by_component, read_report, route, search, too_much, write_design
from boards.catalog import BOARDS, board
from boards.toolchain import ToolError, ToolTimeoutError
from tests.boards.standin import Echo

REPORT = json.dumps({
    "fmax": {"$glbnet$clk": {"achieved": 71.347, "constraint": 60.0024}},
    "utilization": {"DP16KD": {"available": 56, "used": 14}, "TRELLIS_COMB": {"available": 24288, "used": 9021},
                    "GSR": {"available": 1, "used": 0}},
})


def attempt(seed, achieved):
    return made(seed, {"clk": (achieved, 60.0)})


def made(seed, clocks, router="router1"):
    return Attempt(seed=seed, router=router, seconds=1.0, processor_seconds=2.0, clocks=clocks)


def report(*attempts):
    return Report(board="b", geometry="g", clock_mhz=60.0, baud=3_000_000, tools="t", seed=attempts[-1].seed,
                  met=attempts[-1].met, attempts=attempts, resources={"DP16KD": (14, 56)},
                  block_ram={"core0.states": 8}, multipliers={}, seconds=2.0, bitstream="b.bit")


def test_report_is_read():
    clocks, resources = read_report(REPORT)
    assert clocks == {"$glbnet$clk": (71.35, 60.0)}
    assert resources == {"TRELLIS_COMB": (9021, 24288), "DP16KD": (14, 56)}


def test_paths_between_two_clocks_are_as_short_as_a_clock_of_the_faster_one():
    delays = [{"from": "posedge a", "to": "posedge a", "path": [{"delay": 5.0}]},
              {"from": "posedge a", "to": "posedge b", "path": [{"delay": 4.0}, {"delay": 3.0}]},
              {"from": "<async>", "to": "posedge b", "path": [{"delay": 30.0}]}]
    text = json.dumps({"fmax": {"a": {"achieved": 200, "constraint": 150}, "b": {"achieved": 60, "constraint": 50}},
                       "critical_paths": delays, "utilization": {}})
    clocks, _ = read_report(text)
    assert clocks == {"a": (200, 150), "b": (60, 50), "a to b": (142.86, 150)}
    assert not made(1, clocks).met


def test_report_without_a_clock_is_refused():
    with pytest.raises(ToolError, match="reported no clock"):
        read_report(json.dumps({"fmax": {}, "utilization": {}}))


def test_timing_is_met_only_if_every_clock_is():
    assert attempt(1, 60.0).met
    assert not attempt(1, 59.99).met
    assert not made(1, {"a": (80.0, 60.0), "b": (20.0, 25.0)}).met


def test_report_tells_what_was_missed():
    text = report(attempt(1, 50.0), attempt(2, 61.5)).table()
    assert "timing met with seed 2" in text
    assert text.count("missed") == 1
    assert "25.0 %" in text
    assert "TIMING NOT MET" in report(attempt(1, 50.0)).table()
    assert json.loads(report(attempt(2, 61.5)).to_json())["fmax_mhz"] == 61.5


def tried(outcomes, seeds, routers=("router1", "router2"), **options):
    """Search with the outcome of each (seed, router): a frequency, or None if it does not end in time."""
    asked = []

    def one(seed, router):
        asked.append((seed, router))
        if outcomes[seed, router] is None:
            raise ToolTimeoutError(f"seed {seed}, {router} did not end")
        return made(seed, {"clk": (outcomes[seed, router], 60.0)}, router), {}

    attempts, _ = search(one, seeds, routers, **options)
    return asked, [(attempt.seed, attempt.router) for attempt in attempts]


def test_a_router_that_does_not_end_is_followed_by_the_other():
    outcomes = {(1, "router1"): None, (1, "router2"): 50.0, (2, "router1"): 61.0}
    assert tried(outcomes, [1, 2, 3]) == (list(outcomes), [(1, "router2"), (2, "router1")])


def test_a_seed_that_ends_with_no_router_is_followed_by_the_next():
    outcomes = {(4, "router1"): None, (4, "router2"): None, (5, "router1"): 59.0}
    assert tried(outcomes, [4, 5]) == (list(outcomes), [(5, "router1")])
    with pytest.raises(ToolTimeoutError, match="seed 4, router2 did not end"):
        tried(outcomes, [4])


def test_every_seed_is_tried_where_that_is_asked():
    outcomes = {(seed, "router1"): frequency for seed, frequency in ((1, 61.0), (2, 70.0), (3, 50.0))}
    assert tried(outcomes, [1, 2, 3])[0] == [(1, "router1")]
    assert tried(outcomes, [1, 2, 3], every=True)[0] == list(outcomes)


def test_report_has_the_medians_of_what_was_tried():
    found = report(attempt(1, 61.0), attempt(2, 70.0), attempt(3, 50.0))
    assert found.medians == json.loads(found.to_json())["medians"] == {"clk": 61.0}
    assert re.search(r"median +clk +61.0", found.table())
    assert "median" not in report(attempt(1, 61.0)).table()


NATIVE = """#!{python}
import pathlib, sys, time
given = dict(zip(sys.argv[1:], sys.argv[2:]))
until = time.process_time() + 0.3
while time.process_time() < until:
    pass
pathlib.Path(given["--report"]).write_text({report!r})
"""


def test_a_tool_that_the_environment_names_takes_the_place_of_the_wheels(tmp_path, monkeypatch):
    tool = tmp_path / "nextpnr"
    tool.write_text(NATIVE.format(python=sys.executable, report=REPORT))
    tool.chmod(0o755)
    monkeypatch.setenv("NEXTPNR_ECP5", str(tool))
    found, _ = route(board("ulx3s-12f").make_platform(), tmp_path, "top", 7)
    assert (found.seed, found.clocks) == (7, {"$glbnet$clk": (71.35, 60.0)})
    assert 0.3 <= found.processor_seconds < 3
    monkeypatch.setenv("NEXTPNR_ECP5", str(tmp_path / "missing"))
    with pytest.raises(ToolError, match="missing cannot be started"):
        route(board("ulx3s-12f").make_platform(), tmp_path, "top", 7)


def test_block_ram_is_counted_by_owner(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("top/chip.core0.tile.weights0.0.0\ntop/chip.core0.tile.weights1.0.0\n"
                    "top/chip.core0.tile.weights1.0.1\ntop/chip.port.results.0.0\ntop/x_MULT18X18D_P0\n")
    assert by_component(path) == {"chip": 1, "chip.core0.tile.weights": 3, "chip.port.results": 1}


def test_what_does_not_fit_is_named():
    log = ("Info:     Total LUT4s:     28635/24288   117%\nInfo:     Total DFFs:     23517/24288    96%\n"
           "Info: \t          TRELLIS_IO:       7/    197     3%\n"
           "Info: \t          MULT18X18D:      40/     28   142%\n")
    assert too_much(log) == "LUT4s 28635 of 24288, multiplier 40 of 28"
    assert too_much("Info: Packing IOs..\n") == ""


PINS = {
    "ulx3s": {"clk25_0__io": "G2", "uart_0__rx__io": "M1", "uart_0__tx__io": "L4", "esp32_0__gpio0__io": "L2",
              "led_0__io": "B2", "led_1__io": "C2", "led_2__io": "C1"},
    "orangecrab": {"clk_0__io": "A9", "uart_0__rx__io": "N17", "uart_0__tx__io": "M18", "rgb_led_0__g__io": "M3",
                   "rgb_led_0__b__io": "J3", "rgb_led_0__r__io": "K4"},
    "ecpix5": {"clk100_0__io": "K23", "uart_0__rx__io": "R26", "uart_0__tx__io": "R24", "rgb_led_0__g__io": "R21",
               "rgb_led_1__g__io": "W21", "rgb_led_2__g__io": "K24"},
    "icepi-zero": {"clk50_0__io": "M1", "uart_0__rx__io": "K16", "uart_0__tx__io": "K15", "led_0__io": "E13",
                   "led_1__io": "D14", "led_2__io": "E12"},
}
"""Net of the constraints to pin of the package, by family."""


@pytest.mark.parametrize("name", BOARDS)
def test_constraints_of_each_board(name, tmp_path):
    write_design(board(name), board(name).make_top(Echo()), tmp_path, "top")
    lines = (tmp_path / "top.lpf").read_text().splitlines()
    pins = dict(line.removesuffix(";").replace('"', "").split()[2::2] for line in lines if line.startswith("LOCATE"))
    family = re.sub(r"-\d+f(-fast|-sdram)?$", "", name)
    assert pins == PINS[family]
    documented = (Path(__file__).parents[2] / f"docs/boards/{family}.md").read_text("utf-8")
    assert [pin for pin in pins.values() if not re.search(rf"\| .*\b{pin}\b.* \|", documented)] == []
    assert name in documented
    crystal = next(pin for pin in pins if pin.startswith("clk"))
    assert f'FREQUENCY PORT "{crystal}" {board(name).platform().default_clk_frequency:.1f} HZ;' in lines
    assert "EHXPLLL" in (tmp_path / "top.il").read_text()


def test_unknown_board():
    with pytest.raises(ValueError, match="unknown board 'icebreaker': choose from ulx3s-85f, ulx3s-85f-fast"):
        board("icebreaker")


@pytest.mark.slow
def test_build_makes_a_bitstream(tmp_path):
    said = []
    made = build("ulx3s-12f", chip=Echo(lanes=8, words=256), directory=tmp_path, progress=said.append)
    assert made.met
    assert made.resources["MULT18X18D"][0] == 8
    assert made.block_ram == {"serial.chip.weights": 2}
    assert (tmp_path / "ulx3s_12f.bit").stat().st_size > 50_000
    assert json.loads((tmp_path / "ulx3s_12f.report.json").read_text())["seed"] == made.seed
    assert said[0] == "elaborating"


@pytest.mark.slow
def test_build_says_when_timing_is_missed(tmp_path):
    made = build("ulx3s-12f", chip=Echo(), clock_hz=400e6, seeds=[3, 4], directory=tmp_path)
    assert not made.met
    assert [attempt.seed for attempt in made.attempts] == [3, 4]
    assert made.fmax_mhz == max(min(got for got, _ in attempt.clocks.values()) for attempt in made.attempts)
