"""A device offered over TCP and over a pseudo-terminal, and what clients may do to it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from host.channels import BUSY_NOTICE, ChannelError, LoopbackChannel, SerialChannel, SimChannel, TcpChannel
from host.link import Link, LinkError
from host.serve import PtyDoor, Server, TcpDoor
from rtl.params import preset
from sim.link import Endpoint
from tests.fake_device import FakeDevice
from tests.link_run import place, run

GEOMETRY = preset("tiny")


@contextlib.contextmanager
def serving(channel, door):
    with Server(channel, door) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join(timeout=5)
            assert not thread.is_alive()


def expected() -> list[object]:
    return run(Link(LoopbackChannel(Endpoint(FakeDevice(), GEOMETRY)), GEOMETRY))


def test_tcp_serves_one_client_after_the_other():
    fake, door = FakeDevice(), TcpDoor()
    with serving(LoopbackChannel(Endpoint(fake, GEOMETRY)), door) as server:
        assert server.name == f"tcp:127.0.0.1:{door.port}"
        with Link(TcpChannel("127.0.0.1", door.port), GEOMETRY) as link:
            assert run(link) == expected()
            assert link.repeats == 0
        with Link(TcpChannel("127.0.0.1", door.port), GEOMETRY) as link:
            assert link.identity.commands == 9
            assert link.read(place(1, 2, 0), 3) == [3, 1, 4]


def test_a_second_client_is_sent_away():
    door = TcpDoor()
    with serving(LoopbackChannel(Endpoint(FakeDevice(), GEOMETRY)), door):
        with Link(TcpChannel("127.0.0.1", door.port), GEOMETRY) as link:
            with pytest.raises(LinkError, match=f"127.0.0.1:{door.port} is serving another client"):
                Link(TcpChannel("127.0.0.1", door.port), GEOMETRY)
            with socket.create_connection(("127.0.0.1", door.port), timeout=2) as second:
                assert second.recv(100) == BUSY_NOTICE
                assert second.recv(100) == b""
            link.write(place(1, 2, 0), [7])
            assert link.read(place(1, 2, 0)) == [7]


def test_clients_that_leave_in_the_middle():
    fake, door = FakeDevice(), TcpDoor()
    with serving(LoopbackChannel(Endpoint(fake, GEOMETRY)), door):
        for payload in (b"", b"\x05half", bytes(range(1, 255)) * 400):
            with socket.create_connection(("127.0.0.1", door.port), timeout=2) as client:
                client.sendall(payload)
                # Reset, not a clean end: what is unread is thrown away.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            time.sleep(0.05)
        with Link(TcpChannel("127.0.0.1", door.port), GEOMETRY) as link:
            assert run(link) == expected()


def test_resume_over_a_new_connection():
    fake, door = FakeDevice(), TcpDoor()
    with serving(LoopbackChannel(Endpoint(fake, GEOMETRY)), door):
        link = Link(TcpChannel("127.0.0.1", door.port), GEOMETRY)
        link.write(place(1, 2, 0), [7])
        link._channel._socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(LinkError, match=r"closed by the other end|failed"):
            link.write(place(1, 2, 1), [8])
        time.sleep(0.05)
        link.resume(TcpChannel("127.0.0.1", door.port))
        assert link.read(place(1, 2, 0), 2) == [7, 8]
        assert [entry[0] for entry in fake.log] == ["write", "write", "read", "read"]
        link.close()


def test_pty_is_a_serial_device(tmp_path):
    fake = FakeDevice()
    name = tmp_path / "bitline"
    with serving(LoopbackChannel(Endpoint(fake, GEOMETRY)), PtyDoor(str(name))) as server:
        assert server.name == f"serial:{name}"
        for commands in (0, 9):
            with Link(SerialChannel(str(name), baud=115200), GEOMETRY) as link:
                assert link.identity.commands == commands
                if not commands:
                    assert run(link) == expected()
    assert not name.is_symlink()


def test_a_served_server():
    """TCP to TCP: the device behind a server is another server."""
    inner, outer = TcpDoor(), None
    with serving(LoopbackChannel(Endpoint(FakeDevice(), GEOMETRY)), inner):
        outer = TcpDoor()
        with serving(TcpChannel("127.0.0.1", inner.port), outer):
            with Link(TcpChannel("127.0.0.1", outer.port), GEOMETRY) as link:
                assert run(link) == expected()


class SlowChip:
    """Answers only while it is run, a byte in ten cycles, as a simulated chip on a serial line would."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint, self.queue, self.out, self.cycles = endpoint, bytearray(), bytearray(), 0

    def push(self, data: bytes) -> None:
        self.queue += data

    def pull(self) -> bytes:
        out = bytes(self.out)
        self.out.clear()
        return out

    def run(self, cycles: int) -> None:
        self.cycles += cycles
        taken = bytes(self.queue[:cycles // 10])
        del self.queue[:len(taken)]
        self.out += self.endpoint.exchange(taken)


def test_simulated_chip_in_process_and_served():
    chip = SlowChip(Endpoint(FakeDevice(), GEOMETRY))
    link = Link(SimChannel(chip), GEOMETRY)
    assert run(link) == expected()
    assert link.repeats == 0
    assert chip.cycles < 30_000
    door = TcpDoor()
    with serving(SimChannel(SlowChip(Endpoint(FakeDevice(), GEOMETRY))), door):
        with Link(TcpChannel("127.0.0.1", door.port), GEOMETRY) as link:
            assert run(link) == expected()


def ignore_interrupts():
    """What a shell does for a process in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly(number):
    script = (
        "from host.channels import LoopbackChannel\n"
        "from host.serve import TcpDoor, serve\n"
        "from rtl.params import preset\n"
        "from sim.link import Endpoint\n"
        "from tests.fake_device import FakeDevice\n"
        "channel = LoopbackChannel(Endpoint(FakeDevice(), preset('tiny')))\n"
        "serve(channel, TcpDoor(), lambda name: print(name, flush=True))\n"
        "print('ended')\n")
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, preexec_fn=ignore_interrupts) as process:
        try:
            _, host, port = process.stdout.readline().split(":")
            with Link(TcpChannel(host, int(port)), GEOMETRY) as link:
                link.write(place(1, 2, 0), [1])
                os.kill(process.pid, number)
                out, err = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "ended\n", "")


def test_channels_that_cannot_be_opened():
    with pytest.raises(ChannelError, match="cannot open serial device /nowhere/tty at 9600 baud"):
        SerialChannel("/nowhere/tty", baud=9600)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ChannelError, match=f"cannot listen on 127.0.0.1:{port}"):
            TcpDoor(port=port)
    with pytest.raises(ChannelError, match=f"cannot connect to 127.0.0.1:{port}"):
        TcpChannel("127.0.0.1", port)
