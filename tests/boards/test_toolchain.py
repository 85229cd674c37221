"""Caches, tools that fail, Verilog with flat names, memories that may collide."""

import re
import sys

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from boards import compiler
from boards.toolchain import (
    ToolError,
    ToolTimeoutError,
    cache_directory,
    content_hash,
    for_synthesis,
    loop_zeros,
    plain_names,
    relax_collisions,
    run_tool,
    run_yosys,
    verilog_of,
)
from tests.boards.standin import Echo


def test_hash_depends_on_contents_and_their_borders():
    hashes = {content_hash(parts) for parts in (["ab", "c"], ["a", "bc"], ["abc"], ["ab", "c", ""], [b"ab", "d"])}
    assert len(hashes) == 5
    assert content_hash(["ab", "c"]) == content_hash([b"ab", b"c"])


def test_cache_directory_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("BITLINE_CACHE", str(tmp_path / "elsewhere"))
    assert cache_directory("logs") == tmp_path / "elsewhere" / "logs"
    assert cache_directory("logs").is_dir()


def test_failing_tool_names_its_log(tmp_path):
    log = tmp_path / "tool.log"
    with pytest.raises(ToolError, match=rf"^counting failed with code 3: see {re.escape(str(log))}$"):
        run_tool([sys.executable, "-c", "print('words'); raise SystemExit(3)"], log=log, what="counting")
    assert "words" in log.read_text()
    with pytest.raises(ToolError, match="counting failed: no-such-tool cannot be started"):
        run_tool(["no-such-tool"], log=log, what="counting")


def test_tool_that_takes_too_long_is_stopped(tmp_path):
    log = tmp_path / "tool.log"
    with pytest.raises(ToolTimeoutError, match=rf"^waiting did not end within 0.2 s: see {re.escape(str(log))}$"):
        run_tool([sys.executable, "-c", "import time; time.sleep(60)"], log=log, what="waiting", limit_s=0.2)


def test_yosys_error_is_a_sentence(tmp_path):
    with pytest.raises(ToolError, match="synthesis failed"):
        run_yosys(["read_rtlil missing.il"], log=tmp_path / "log", what="synthesis", cwd=tmp_path)


def words(name, values):
    return "  initial begin\n" + "".join(f"    {name}[{k}] = {value};\n" for k, value in values) + "  end\n"


def test_zeros_of_a_memory_become_a_loop():
    head, tail = "  reg [8:0] nets [7:0];\n", "  always @(posedge clk) begin\n  end\n"
    for name in ("nets", r"\core0.nets "):
        found = loop_zeros(head + words(name, [(k, "9'h000") for k in range(8)]) + tail)
        assert found == f"{head}  initial for (int k = 0; k < 8; k = k + 1) {name}[k] = 9'h000;\n{tail}"


@pytest.mark.parametrize("values", [
    [(0, "9'h000"), (1, "9'h001"), (2, "9'h000")],
    [(0, "9'h000"), (2, "9'h000")],
    [(1, "9'h000"), (2, "9'h000")],
])
def test_other_memories_stay_as_they_are(values):
    text = words("nets", values) + words("others", values)
    assert loop_zeros(text) == text


def test_verilog_has_flat_port_names():
    text = verilog_of(Echo())
    header = text[text.index("module top("):text.index(";", text.index("module top("))]
    names = {name.strip() for name in header.partition("(")[2].rstrip(")").split(",")}
    assert names == {"clk", "rst", "rx_valid", "rx_payload", "rx_ready", "tx_valid", "tx_payload", "tx_ready"}


class _Store(wiring.Component):
    """One memory, marked or not, 36 bits wide with a write enable for each 9."""

    def __init__(self, *, marked):
        self.attrs = {"no_rw_check": 1} if marked else {}
        super().__init__({"address": In(10), "write": In(10), "data": In(36), "enable": In(4), "o": Out(36)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = memory.Memory(shape=36, depth=1024, init=[], attrs=self.attrs)
        write, read = words.write_port(granularity=9), words.read_port()
        m.d.comb += [write.addr.eq(self.write), write.data.eq(self.data), write.en.eq(self.enable),
                     read.addr.eq(self.address), self.o.eq(read.data)]
        return m


def _cells(tmp_path, *, marked):
    text = rtlil.convert(_Store(marked=marked), name="top")
    (tmp_path / "top.il").write_text(relax_collisions(text))
    run_yosys(["read_rtlil top.il", "synth_ecp5 -top top", "tee -o stat stat"], log=tmp_path / "log", what="synthesis",
              cwd=tmp_path)
    found = re.findall(r"^\s+(\d+)\s+(?:\S+\s+)?(DP16KD|TRELLIS_FF|LUT4)\s*$", (tmp_path / "stat").read_text(), re.M)
    return {name: int(count) for count, name in found}


def test_marked_memory_needs_no_logic_beside_its_block_ram(tmp_path):
    plain, marked = _cells(tmp_path, marked=False), _cells(tmp_path, marked=True)
    assert plain["DP16KD"] == marked["DP16KD"] == 2
    assert plain["TRELLIS_FF"] > 50
    assert "TRELLIS_FF" not in marked


def test_relaxing_changes_nothing_else():
    text = rtlil.convert(_Store(marked=True), name="top")
    relaxed = relax_collisions(text)
    different = [line for line, other in zip(text.splitlines(), relaxed.splitlines(), strict=True) if line != other]
    assert len(different) == 1
    assert "COLLISION_X_MASK" in different[0]


def test_brackets_leave_names_but_not_slices():
    text = "wire width 9 \\a.word[3]\nwire \\b[0].c[12]$4\nconnect \\a.word[3] [2:1] { \\b[0].c[12]$4 \\w [1] }\n"
    assert plain_names(text) == ("wire width 9 \\a.word.3\nwire \\b.0.c.12$4\n"
                                 "connect \\a.word.3 [2:1] { \\b.0.c.12$4 \\w [1] }\n")


def test_synthesis_has_plain_names_and_relaxed_memories():
    text = rtlil.convert(_Store(marked=True), name="top").replace("\\address", "\\address[0]")
    ready = for_synthesis(text)
    assert "\\address.0" in ready
    assert "\\address[0]" not in ready
    assert ready != plain_names(text)  # the memory is relaxed, too


def test_compiler_chosen_by_the_environment(monkeypatch):
    monkeypatch.setenv("CXX", f"{sys.executable} -c")
    assert compiler.find_compiler() == [sys.executable, "-c"]


def test_no_compiler(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(compiler.CompilerMissingError, match=r"install g\+\+, or run `.* -m pip install ziglang`"):
        compiler.find_compiler(names=())
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: name)
    assert compiler.find_compiler(names=()) == [sys.executable, "-m", "ziglang", "c++", "-fno-sanitize=undefined"]
