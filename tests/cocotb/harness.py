"""Runs a bench module of cocotb on a component, in Verilator; needs no make and no perl.

The executable is kept in the cache, so a bench that changes does not compile anything.
"""

import os
import tempfile
from pathlib import Path

from cocotb_tools import config
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from boards.compiler import find_compiler
from boards.toolchain import cache_directory, content_hash, run_tool, verilog_of
from boards.verilator import verilate

__all__ = ["run_bench"]

# Only the top's ports are seen from outside, so that Verilator may optimise everything below.
_FLAGS = ("--vpi", "--public-depth", "1", "--timescale", "1ns/1ps")
# cocotb's library takes the functions of VPI from the executable, and its main program keeps the time itself.
_COMPILER_FLAGS = ("-fvisibility=default", "-UVL_TIME_CONTEXT")


def executable(component, cells: str = "") -> Path:
    """Return the directory with the simulation `top` of a component; `cells` is Verilog of the vendor's cells in it."""
    verilog = verilog_of(component) + cells
    key = content_hash([verilog, *find_compiler(), *_FLAGS, *_COMPILER_FLAGS, str(config.libs_dir)])
    home = cache_directory("cocotb") / key
    if not (home / "top").exists():
        home.mkdir(exist_ok=True)
        log = home / "make.log"
        with tempfile.TemporaryDirectory(dir=home) as temporary:
            directory = Path(temporary)
            objects = verilate(verilog, directory, log=log, flags=_FLAGS, compiler_flags=_COMPILER_FLAGS,
                               sources=[config.share_dir / "lib/verilator/verilator.cpp"],
                               runtime=("verilated", "verilated_threads", "verilated_vpi"))
            libraries = [f"-L{config.libs_dir}", f"-Wl,-rpath,{config.libs_dir}", "-lcocotbvpi_verilator"]
            run_tool([*find_compiler(), "-rdynamic", "-o", str(directory / "top"), *map(str, objects), *libraries,
                      "-pthread", "-ldl"], log=log, what="linking the simulation")
            os.replace(directory / "top", home / "top")
    return home


def run_bench(component, module: str, *, tests: int, where: Path, cells: str = "", **environment: str) -> None:
    """Run all tests of a bench module; fail if one fails or there are not `tests` of them."""
    results = get_runner("verilator").test(
        hdl_toplevel="top", hdl_toplevel_lang="verilog", test_module=module, build_dir=executable(component, cells),
        test_dir=where, results_xml=str(where / "results.xml"), extra_env=environment, timescale=("1ns", "1ps"))
    assert get_results(results) == (tests, 0)
