"""Law 7: imports run one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "rtl": {"rtl"},
    "sim": {"sim", "rtl.params"},
    "boards": {"boards", "rtl"},
    "host": {"host", "sim", "rtl.params"},
}
EXCEPTION = ("host/boards_entry.py", "boards")  # the one lazy entry point from host to boards


def imports(path: Path) -> set[str]:
    """Return the modules of this project that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module}
    return {name for name in found if name.split(".")[0] in ALLOWED}


def allowed(name: str, package: str) -> bool:
    return any(name == permitted or name.startswith(permitted + ".") for permitted in ALLOWED[package])


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_run_one_way(package):
    wrong = []
    for path in sorted((ROOT / package).rglob("*.py")):
        relative = path.relative_to(ROOT).as_posix()
        for name in imports(path):
            if not allowed(name, package) and (relative, name.split(".")[0]) != EXCEPTION:
                wrong.append(f"{relative} imports {name}")
    assert not wrong


@pytest.mark.parametrize("module", ["rtl.params", "sim.chip", "host.device", "host.cli"])
def test_no_amaranth_without_gateware(module):
    code = f"import sys, {module}; assert 'amaranth' not in sys.modules, 'amaranth was imported'"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
