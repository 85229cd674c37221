"""Set up and run: `python3 run.py demo|test|test-long|lint|bench|figures|setup`, the same as `make` of that name.

Every target makes its own environment in .venv first, once: with `uv` if it is there, else with pip. After that nothing
needs the network. Only the standard library is imported here, since this runs before anything is installed.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
OLDEST = (3, 11)
TEST_LIMIT_S = 40 * 60
LONG_LIMIT_S = 80 * 60

PROFILES = {"demo": ("data",), "test": ("data", "fpga", "dev"), "test-long": ("data", "fpga", "dev", "formal")}
"""Extras of pyproject.toml that each set-up installs beside the core."""

PROBE, PROBE_S = "platformdirs", 8
"""A small package, asked for before all others, and the seconds that an index has to answer."""

ALONE = {"data"}
"""Extras whose packages are installed without what they depend on (pyproject.toml says why)."""


class RunError(Exception):
    """Ends the run with one sentence that tells what to do."""


def say(text):
    print(text, flush=True)


def python_of(venv):
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


# --- set-up ---------------------------------------------------------------------------------------------------------

def wanted(profile):
    """Return two lists of requirements of a profile: with what they depend on, and alone."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    names = list(PROFILES[profile])
    if needs_zig():
        names.append("cxx")
    whole = [line for name in names if name not in ALONE for line in extras[name]]
    alone = [line for name in names if name in ALONE for line in extras[name]]
    return [*project["dependencies"], *whole], alone


def needs_zig():
    """Tell whether the machine has no C++ compiler of its own."""
    from boards.compiler import CompilerMissingError, find_compiler

    try:
        return "ziglang" in find_compiler()
    except CompilerMissingError:
        return True


def digest(whole, alone):
    text = "\n".join([sys.version, *whole, "--", *alone])
    return hashlib.sha256(text.encode()).hexdigest()


def setup(profile):
    """Make .venv with all that a profile needs; returns at once if it is there."""
    whole, alone = wanted(profile)
    mark = digest(whole, alone)
    stamps = {name: VENV / f"stamp-{name}" for name in PROFILES}
    larger = list(PROFILES)[list(PROFILES).index(profile):]
    for name in larger:
        # A larger set-up serves a smaller target too, if it is as new.
        stamp = stamps[name]
        if stamp.exists() and stamp.read_text("utf-8") == digest(*wanted(name)):
            return
    uv = shutil.which("uv")
    say(f"set-up ({profile}): into {VENV.name} with {'uv' if uv else 'pip'}, a minute or two, once")
    make_venv(uv)
    lock = ROOT / "requirements.lock"
    options = ["--constraint", str(lock)] if lock.exists() else []
    install(uv, [*options, *whole])
    if alone:
        install(uv, ["--no-deps", *alone])
    install(uv, ["--no-deps", "--editable", str(ROOT)])
    stamps[profile].write_text(mark, "utf-8")


def make_venv(uv):
    if python_of(VENV).exists() and works(python_of(VENV)):
        return
    shutil.rmtree(VENV, ignore_errors=True)
    if uv and subprocess.run([uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(VENV)]).returncode == 0:
        return
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise RunError("Python's venv module is missing: run `sudo apt-get install python3-venv`, then this again.")
    result = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True)
    if result.returncode:
        raise RunError(f"Python cannot make the environment {VENV}: run `sudo apt-get install python3-venv`, then this "
                   f"again ({last_line(result.stdout + result.stderr)}).")


def works(python):
    """Tell whether an environment still runs with this version of Python (it breaks when Python is replaced)."""
    code = "import sys; print(*sys.version_info[:2])"
    result = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    return result.stdout.split() == [str(part) for part in sys.version_info[:2]]


def install(uv, arguments):
    log = VENV / "setup.log"
    python = str(python_of(VENV))
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    tools = [[uv, "pip", "install", "--python", python]] if uv else []
    # uv does not read pip's configuration (mirrors): where uv fails pip may succeed.
    for tool in [*tools, pip]:
        with log.open("w", encoding="utf-8") as stream:
            if not reaches(tool, stream):
                continue
            if subprocess.run([*tool, *arguments], stdout=stream, stderr=subprocess.STDOUT).returncode == 0:
                return
    text = log.read_text("utf-8", "replace")
    signs = ("connection", "name resolution", "network", "timed out", "proxy", "No matching distribution")
    if any(sign.lower() in text.lower() for sign in signs):
        raise RunError("The packages could not be fetched: check the network (PIP_INDEX_URL names a mirror), then "
                   f"run `{command_line()}` again; pip's words are in {log}.")
    raise RunError(f"The packages could not be installed: run `{python} -m pip install -e {ROOT}` to see why; "
               f"pip's words are in {log} ({last_line(text)}).")


def reaches(tool, stream):
    """Tell whether a tool gets an answer from its index, soon: by itself pip tries for minutes, package by package."""
    pip = ["--ignore-installed", "--timeout", str(PROBE_S), "--retries", "0"]
    options = pip if "-m" in tool else ["--reinstall"]
    environment = {**os.environ, "UV_HTTP_TIMEOUT": str(PROBE_S), "UV_HTTP_RETRIES": "0"}
    try:
        return subprocess.run([*tool, *options, "--dry-run", "--no-deps", PROBE], stdout=stream, env=environment,
                              stderr=subprocess.STDOUT, timeout=2 * PROBE_S).returncode == 0
    except subprocess.TimeoutExpired:
        print("connection timed out", file=stream)
        return False


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


def command_line():
    return " ".join(["python3", "run.py", *sys.argv[1:]])


# --- stages ---------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def ending(child):
    """End a process that still runs when the body ends."""
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


def _give_way():
    os.nice(10)


class Run:
    """Runs stages one after the other, tells name and time of each, and stops when the time is up."""

    def __init__(self, limit_s):
        self.started = time.monotonic()
        self.limit_s = limit_s
        self.results = []

    def stage(self, name, action):
        """Run a function as a stage; it returns None or an exit code."""
        say(f"\n=== {name}")
        began = time.monotonic()
        failed = True
        try:
            failed = bool(action())
        finally:
            took = time.monotonic() - began
            self.results.append((name, took, failed))
            say(f"=== {name}: {'FAILED' if failed else 'done'} in {took:.0f} s")

    def command(self, name, *arguments):
        """Run a command of the environment's Python as a stage."""
        return self.stage(name, lambda: self._command(arguments))

    def _command(self, arguments):
        with ending(subprocess.Popen([str(python_of(VENV)), *arguments], cwd=ROOT)) as child:
            return self._wait(child)

    def _wait(self, child):
        left = max(0, self.limit_s - (time.monotonic() - self.started))
        try:
            return child.wait(timeout=left)
        except subprocess.TimeoutExpired:
            raise RunError(f"The limit of {self.limit_s // 60} minutes passed in the stage above.") from None

    @contextlib.contextmanager
    def beside(self, name, *arguments):
        """Run a command beside the stages within, in what time they leave; then, as a stage, wait for it and tell."""
        log = ROOT / "build" / f"{name.replace(' ', '-')}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("w", encoding="utf-8") as stream:
            # Not a session of its own: between those the kernel shares time equally, whatever their priority.
            child = subprocess.Popen([str(python_of(VENV)), *arguments], cwd=ROOT, stdout=stream,
                                     stderr=subprocess.STDOUT, preexec_fn=_give_way if os.name == "posix" else None)
            with ending(child):
                yield
                try:
                    self.stage(name, lambda: self._wait(child))
                finally:
                    say(log.read_text("utf-8", "replace"))

    def summary(self):
        """Print the time of each stage; return the exit code."""
        say("")
        for name, took, failed in self.results:
            say(f"{name:<16} {took:7.0f} s{'   FAILED' if failed else ''}")
        say(f"{'all':<16} {time.monotonic() - self.started:7.0f} s")
        return 1 if any(failed for _, _, failed in self.results) else 0


def pytest(*arguments):
    return ["-m", "pytest", "--numprocesses", "2", "--quiet", *arguments]


def demo(run, extra):
    run.stage("set-up", lambda: setup("demo"))
    run.command("demo", "-m", "host.cli", "demo", *extra)


def test(run, extra):
    run.stage("set-up", lambda: setup("test"))
    if extra:
        run.command("chosen tests", *pytest(*extra))
        return
    with run.beside("board build", "-m", "boards.build", "ulx3s-12f"):
        run.command("units", *pytest("-m", "not slow and not cocotb and not hardware", "tests"))
        run.command("cocotb", *pytest("-m", "cocotb and not slow and not hardware", "tests/cocotb"))


def test_long(run, extra):
    run.stage("set-up", lambda: setup("test-long"))
    run.command("lint", "-m", "ruff", "check", ".")
    run.command("types", "-m", "mypy")
    run.command("all tests", *pytest("-m", "not hardware", "tests", *extra))
    for board in ("ulx3s-12f", "ulx3s-45f", "ulx3s-85f"):
        run.command(f"build {board}", "-m", "boards.build", board)


def lint(run, extra):
    run.stage("set-up", lambda: setup("test"))
    run.command("ruff", "-m", "ruff", "check", ".", *extra)
    run.command("mypy", "-m", "mypy")


def bench(run, extra):
    run.stage("set-up", lambda: setup("demo"))
    run.command("bench", "-m", "host.cli", "bench", "--physics", str(ROOT / "docs" / "physics.md"),
                "--digits", str(ROOT / "docs" / "digits.md"),
                "--performance", str(ROOT / "docs" / "performance.md"), "--large", *extra)


def figures(run, extra):
    run.stage("set-up", lambda: setup("test"))
    run.command("figures", "-m", "host.cli", "figures", *extra)


def only_setup(run, extra):
    run.stage("set-up", lambda: setup("test"))


TARGETS = {"demo": demo, "test": test, "test-long": test_long, "lint": lint, "bench": bench, "figures": figures,
           "setup": only_setup}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=list(TARGETS))
    arguments, extra = parser.parse_known_args()
    run = Run(TEST_LIMIT_S if arguments.target == "test" else LONG_LIMIT_S)
    try:
        if sys.version_info < OLDEST:
            raise RunError("Python {}.{} is too old: `sudo apt-get install python3` for {}.{} or later, then again."
                       .format(*sys.version_info[:2], *OLDEST))
        TARGETS[arguments.target](run, extra)
    except RunError as error:
        run.summary()
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return run.summary()


if __name__ == "__main__":
    sys.exit(main())
