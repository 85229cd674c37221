"""Set-up where there is no network: one sentence that tells what to do, soon."""

import os
import sys
import time
from pathlib import Path

import pytest

import run


@pytest.mark.parametrize("index", ["http://127.0.0.1:9/simple", "http://192.0.2.1/simple"],
                         ids=["refuses", "never answers"])
def test_without_network_set_up_ends_soon(index, tmp_path, monkeypatch):
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", index)
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "180")
    monkeypatch.setattr(run, "VENV", tmp_path)
    monkeypatch.setattr(run, "python_of", lambda _venv: Path(sys.executable))
    began = time.monotonic()
    with pytest.raises(run.RunError, match=r"could not be fetched: check the network .*, then run `python3 run.py"):
        run.install(None, ["numpy"])
    assert time.monotonic() - began < 30


ENDLESS = ("-c", "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)")


@pytest.fixture
def stages(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "python_of", lambda _venv: Path(sys.executable))
    return run.Run(limit_s=20)


def names_and_failures(stages):
    return [(name, failed) for name, _, failed in stages.results]


def test_a_command_beside_others_is_waited_for_and_told(stages, capfd):
    with stages.beside("slow one", "-c", "import time; time.sleep(0.5); print('words'); exit(3)"):
        stages.command("quick one", "-c", "pass")
    assert names_and_failures(stages) == [("quick one", False), ("slow one", True)]
    assert stages.summary() == 1
    assert "words" in capfd.readouterr().out


def test_a_command_beside_others_ends_with_them(stages, tmp_path):
    pid = tmp_path / "pid"

    def fails():
        with stages.beside("endless", *ENDLESS):
            while not (pid.exists() and pid.read_text()):
                time.sleep(0.01)
            raise run.RunError("no")

    began = time.monotonic()
    with pytest.raises(run.RunError, match="no"):
        fails()
    assert time.monotonic() - began < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    stages.limit_s = 0
    with pytest.raises(run.RunError, match="limit of 0 minutes"), stages.beside("late", *ENDLESS):
        pass
    assert names_and_failures(stages) == [("late", True)]
