"""Which C++ compiler this machine has: one on the path, else the one of the `ziglang` wheel.

Needs only the standard library: the set-up asks it before anything is installed.
"""

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Sequence

__all__ = ["CompilerMissingError", "find_compiler"]


class CompilerMissingError(RuntimeError):
    """No C++ compiler was found; the sentence tells how to get one."""


def find_compiler(names: Sequence[str] = ("g++", "clang++")) -> list[str]:
    """Return the command of a C++ compiler: `CXX` of the environment, one of `names` on the path, else zig's.

    Raises
    ------
    CompilerMissingError
        If there is none.
    """
    chosen = shlex.split(os.environ.get("CXX", ""))
    if chosen and shutil.which(chosen[0]):
        return chosen
    for name in names:
        path = shutil.which(name)
        if path:
            return [path]
    if importlib.util.find_spec("ziglang"):
        # Unless told, zig ends a program at a shift of a negative number, which in Verilator's C++ is as good as any.
        return [sys.executable, "-m", "ziglang", "c++", "-fno-sanitize=undefined"]
    raise CompilerMissingError(f"no C++ compiler found: install g++, or run `{sys.executable} -m pip install ziglang`")
