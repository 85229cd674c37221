"""Another host goes on where the first one stopped, or is told why it cannot."""

import numpy as np
import pytest

from host import session
from host.api import open_device
from host.device import Device
from host.errors import BitlineError
from sim.presets import technology
from tests.host.small import placement, vectors

PCM = technology("pcm")


def first_host():
    device = open_device("model:small", seed=5)
    device.configure(placement())
    device.program(PCM)
    device.take_statistics(vectors())
    device.age(3600.0)
    device.infer(vectors()[:3])
    return device


def test_another_host_compensates_with_the_same_references(tmp_path):
    found = []
    for reopened in (False, True):
        device = first_host()
        if reopened:
            session.save(device, tmp_path / "session.npz")
            device = Device(device.backend)
            session.resume(device, tmp_path / "session.npz", placement(), PCM)
        device.age(86400.0)
        for kind in ("global", "column", "adabs"):
            result = device.compensate(kind, calibration=vectors())
            found.append([*result.columns, device.infer_codes(vectors())[0], *device.column_constants()])
    for ours, theirs in zip(found[:3], found[3:], strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_without_a_session_it_must_program():
    device = Device(first_host().backend)
    device.configure(placement())
    with pytest.raises(BitlineError, match="not programmed: call program first"):
        device.compensate("global")
    with pytest.raises(BitlineError, match="there is no session to save"):
        session.save(device, "never")


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: d.program(PCM), "its states differ"),
    (lambda d: d.compensate("global"), "its column constants differ"),
])
def test_a_device_that_went_on_is_refused(tmp_path, change, message):
    device = first_host()
    session.save(device, tmp_path / "session.npz")
    change(device)
    other = Device(device.backend)
    with pytest.raises(BitlineError, match=message):
        session.resume(other, tmp_path / "session.npz", placement(), PCM)
    assert (other.placement, other.technology) == (None, None)


def test_another_technology_is_refused(tmp_path):
    device = first_host()
    session.save(device, tmp_path / "session.npz")
    with pytest.raises(BitlineError, match="its numbers of the technology differ"):
        session.resume(Device(device.backend), tmp_path / "session.npz", placement(), technology("ideal"))


def test_what_is_no_session(tmp_path):
    device = Device(first_host().backend)
    with pytest.raises(BitlineError, match="does not exist"):
        session.resume(device, tmp_path / "nothing", placement(), PCM)
    for content in (b"", b"PK\x03\x04", b"{}"):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(BitlineError, match="bad is not a session"):
            session.resume(device, tmp_path / "bad", placement(), PCM)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(BitlineError, match="is not a session"):
        session.resume(device, tmp_path / "other.npz", placement(), PCM)
    with pytest.raises(BitlineError, match="cannot be written"):
        session.save(first_host(), tmp_path / "no" / "folder")
