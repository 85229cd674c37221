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
