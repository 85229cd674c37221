"""The host end over channels that lose, repeat and spoil: always the same end state, or one clear error."""

import random
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import host.link
from host.channels import ChannelError, LoopbackChannel, SimChannel
from host.link import Link, LinkError, RequestError
from rtl.params import Opcode, Status, geometry_hash, preset
from rtl.params.protocol import MAGIC, PROTOCOL_VERSION, REQUEST_BYTES, WINDOW
from sim.link import Endpoint, frame
from tests.fake_device import DEAD_REGION, FakeDevice
from tests.host.faults import FAULTS, FaultyChannel, drop
from tests.link_run import HEAD, place, run

GEOMETRY = preset("tiny")
OTHER = 0x65736C65
"""Session of another host."""


def both_ends(choose, **device) -> tuple[list[object], FakeDevice, FaultyChannel, Link]:
    fake = FakeDevice(**device)
    channel = FaultyChannel(Endpoint(fake, GEOMETRY), choose)
    link = Link(channel, GEOMETRY, tries=40)
    return run(link), fake, channel, link


CLEAN, CLEAN_DEVICE, CLEAN_CHANNEL, CLEAN_LINK = both_ends(lambda direction, number: None)


def check_same(out, fake, channel, link):
    assert out == CLEAN
    assert fake.log == CLEAN_DEVICE.log
    assert fake.registers == CLEAN_DEVICE.registers
    assert (channel.endpoint.digest, channel.endpoint.commands) == (
        CLEAN_CHANNEL.endpoint.digest, CLEAN_CHANNEL.endpoint.commands)
    assert (link._digest, link._commands) == (channel.endpoint.digest, channel.endpoint.commands)


class Trickle:
    """A simulated chip on a busy machine: every run brings a byte, and takes a minute, until it is `deaf`."""

    def __init__(self):
        self.endpoint, self.sent, self.waiting = Endpoint(FakeDevice(), GEOMETRY), b"", b""
        self.minutes, self.deaf = 0, False

    def push(self, data):
        self.waiting += self.endpoint.exchange(data)

    def pull(self):
        sent, self.sent = self.sent, b""
        return sent

    def run(self, cycles):
        assert cycles > 0
        self.minutes += 1
        if not self.deaf:
            self.sent, self.waiting = self.sent + self.waiting[:1], self.waiting[1:]


def test_a_simulated_chip_is_given_its_own_time(monkeypatch):
    chip = Trickle()
    monkeypatch.setattr(host.link.time, "monotonic", lambda: 60.0 * chip.minutes)
    link = Link(SimChannel(chip), GEOMETRY)
    assert (run(link), link.repeats) == (CLEAN, 0)
    chip.deaf = True
    with pytest.raises(LinkError, match="no answer from the device: READ repeated 8 times"):
        link.read(place(1, 2, 0))


def test_a_clean_run_repeats_nothing():
    assert CLEAN_LINK.repeats == 0
    assert CLEAN_CHANNEL.counts["request"] == CLEAN_CHANNEL.counts["reply"] == 20
    # Nine writes and vectors: what the digest is made of, spelled out.
    bodies = [(Opcode.WRITE, struct.pack("<IB3I", place(1, 2, 0), 1, 3, 1, 4))]
    bodies += [(Opcode.WRITE, struct.pack("<IB2I", place(1, 2, 8), 1, k, k + 1)) for k in range(6)]
    bodies += [(Opcode.SEND, HEAD + b"\1\2\3"), (Opcode.SEND, HEAD + b"\4\5\6")]
    digest = zlib.crc32(b"".join(bytes([opcode]) + body + bytes([Status.OK]) for opcode, body in bodies))
    assert (CLEAN_CHANNEL.endpoint.digest, CLEAN_CHANNEL.endpoint.commands) == (digest, 9)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("direction", ["request", "reply"])
def test_every_frame_spoiled_in_turn(fault, direction):
    for spoiled in range(CLEAN_CHANNEL.counts[direction]):
        def choose(way, number, spoiled=spoiled):
            return fault if (way, number) == (direction, spoiled) else None
        check_same(*both_ends(choose))


@pytest.mark.parametrize("seed", range(60))
def test_random_mixes(seed):
    rng = random.Random(seed)
    share = rng.choice((0.05, 0.2, 0.4))

    def choose(way, number):
        return rng.choice(FAULTS) if rng.random() < share else None

    check_same(*both_ends(choose))


@pytest.mark.parametrize("direction", ["request", "reply"])
def test_a_dead_line_is_given_up(direction):
    alive = 6
    channel = FaultyChannel(Endpoint(FakeDevice(), GEOMETRY),
                            lambda way, number: drop if way == direction and number >= alive else None)
    link = Link(channel, GEOMETRY, tries=3)
    with pytest.raises(LinkError, match=r"no answer from the device: .* repeated 3 times"):
        run(link)


def test_a_device_that_never_answers():
    with pytest.raises(LinkError, match="4 times asked who it is"):
        Link(FaultyChannel(Endpoint(FakeDevice(), GEOMETRY), lambda way, number: drop), GEOMETRY, tries=4)


def test_another_geometry_is_named():
    channel = LoopbackChannel(Endpoint(FakeDevice(), preset("small")))
    with pytest.raises(LinkError) as caught:
        Link(channel, GEOMETRY)
    assert str(caught.value) == (
        f"the device was built as small ({geometry_hash(preset('small')):08x}), "
        f"but tiny ({geometry_hash(GEOMETRY):08x}) is asked for")


def test_another_protocol_is_named():
    class Newer(Endpoint):
        def _identify(self, session):
            self._session = session
            return struct.pack("<6I", MAGIC, PROTOCOL_VERSION + 1, self.geometry_hash, 0, 0, 0)

    with pytest.raises(LinkError, match=f"speaks protocol {PROTOCOL_VERSION + 1}, this host {PROTOCOL_VERSION}"):
        Link(LoopbackChannel(Newer(FakeDevice(), GEOMETRY)), GEOMETRY)


def fresh(**device) -> tuple[Link, Endpoint, FakeDevice]:
    fake = FakeDevice(**device)
    endpoint = Endpoint(fake, GEOMETRY)
    return Link(LoopbackChannel(endpoint), GEOMETRY), endpoint, fake


def test_long_bursts_and_signed_words():
    link, _, fake = fresh()
    values = [random.Random(1).randint(-(1 << 31), (1 << 31) - 1) for _ in range(1500)]
    link.write(place(1, 2, 100), values)
    assert link.read(place(1, 2, 100), 1500) == [value % (1 << 32) for value in values]
    link.write(place(1, 2, 7), [1, 2, 3], step=0)
    assert fake.log[-3:] == [("write", 1, 2, 7, value) for value in (1, 2, 3)]
    assert link.read(place(1, 2, 7), 3, step=0) == [3, 3, 3]


def test_errors_carry_their_status():
    link, _, _ = fresh(vectors=1)
    with pytest.raises(RequestError, match="WRITE ended with BUS_TIMEOUT"):
        link.write(place(1, DEAD_REGION, 0), 1)
    with pytest.raises(RequestError, match="READ ended with BUS_TIMEOUT"):
        link.read(place(1, DEAD_REGION, 0))
    link.send(HEAD + b"\1")
    with pytest.raises(RequestError, match="SEND ended with NO_CREDIT"):
        link.send(HEAD + b"\1")
    with pytest.raises(RequestError, match="request 0x77 ended with BAD_REQUEST"):
        link.request(0x77)
    with pytest.raises(ValueError, match=f"longer than {REQUEST_BYTES}"):
        link.request(Opcode.SEND, bytes(REQUEST_BYTES + 1))
    assert link.receive() == HEAD + struct.pack("<i", 1)
    assert link.receive() is None


def test_long_results_are_joined():
    link, _, _ = fresh(stretch=300)
    link.send(HEAD + b"\1\xff")
    assert link.receive() == HEAD + struct.pack("<2i", 1, -1) * 300
    assert link.receive() is None


def test_tickets_are_good_once_and_in_any_order():
    link, _, _ = fresh()
    tickets = [link.submit(Opcode.READ, struct.pack("<IHB", place(2, 2, k), 1, 1)) for k in range(30)]
    for k in random.Random(2).sample(range(30), 30):
        assert link.result(tickets[k]) == struct.pack("<I", place(2, 2, k))
    with pytest.raises(ValueError, match=f"ticket {tickets[3]} was never given or is used up"):
        link.result(tickets[3])


class Breaking:
    """A channel to an endpoint that breaks, before or after the endpoint got the bytes, at the n-th write."""

    def __init__(self, endpoint: Endpoint, at: int, *, heard: bool) -> None:
        self.endpoint, self.at, self.heard = endpoint, at, heard

    def write(self, payload: bytes) -> None:
        self.at -= 1
        if self.at > 0 or self.heard:
            self.answered = getattr(self, "answered", b"") + self.endpoint.exchange(payload)
        if self.at <= 0:
            raise ChannelError("the cable was pulled")

    def read(self, timeout: float) -> bytes:
        if self.at <= 0:
            raise ChannelError("the cable was pulled")
        answered, self.answered = self.answered, b""
        return answered

    def close(self) -> None:
        pass


def break_in_the_middle(*, heard: bool) -> tuple[Link, Endpoint, FakeDevice, list[int]]:
    """Two requests done, three in hand of which the device has heard all or none, and the line is gone."""
    fake = FakeDevice()
    endpoint = Endpoint(fake, GEOMETRY)
    link = Link(Breaking(endpoint, 4, heard=heard), GEOMETRY)
    link.write(place(1, 2, 0), [1])
    link.write(place(1, 2, 1), [2])
    tickets = [link.submit(Opcode.WRITE, struct.pack("<IBI", place(1, 2, k), 1, k)) for k in (2, 3)]
    tickets.append(link.submit(Opcode.READ, struct.pack("<IHB", place(1, 2, 0), 4, 1)))
    with pytest.raises(LinkError, match="cable was pulled"):
        link.result(tickets[-1])
    return link, endpoint, fake, tickets


@pytest.mark.parametrize("heard", [True, False])
def test_resume_in_the_same_session(heard):
    link, endpoint, fake, tickets = break_in_the_middle(heard=heard)
    link.resume(LoopbackChannel(endpoint))
    assert [link.result(ticket) for ticket in tickets] == [b"", b"", struct.pack("<4I", 1, 2, 2, 3)]
    assert [entry[0] for entry in fake.log] == ["write"] * 4 + ["read"] * 4
    assert endpoint.commands == 4


def other_session(endpoint: Endpoint, *requests: bytes) -> None:
    endpoint.exchange(frame(Opcode.IDENTIFY, 0, OTHER) + b"".join(requests))


def test_resume_after_another_host_that_changed_nothing():
    link, endpoint, fake, tickets = break_in_the_middle(heard=False)
    other_session(endpoint)
    link.resume(LoopbackChannel(endpoint))
    assert [link.result(ticket) for ticket in tickets] == [b"", b"", struct.pack("<4I", 1, 2, 2, 3)]
    assert (endpoint.commands, len([entry for entry in fake.log if entry[0] == "write"])) == (4, 4)


def test_resume_settles_what_the_digest_proves():
    link, endpoint, fake, tickets = break_in_the_middle(heard=False)
    endpoint.exchange(frame(Opcode.WRITE, 3, link._session, struct.pack("<IBI", place(1, 2, 2), 1, 2)))
    other_session(endpoint)
    link.resume(LoopbackChannel(endpoint))
    assert [link.result(ticket) for ticket in tickets] == [b"", b"", struct.pack("<4I", 1, 2, 2, 3)]
    assert len([entry for entry in fake.log if entry[0] == "write"]) == 4
    link.write(place(1, 2, 9), [5])
    assert (link._digest, link._commands) == (endpoint.digest, endpoint.commands)


def test_refuse_after_another_host_wrote():
    link, endpoint, _, _ = break_in_the_middle(heard=False)
    other_session(endpoint, frame(Opcode.WRITE, 1, OTHER, struct.pack("<IBI", place(1, 2, 2), 1, 99)))
    with pytest.raises(LinkError, match=r"state is not what this session left: digest .* after 3 commands"):
        link.resume(LoopbackChannel(endpoint))


def test_refuse_after_power_was_lost():
    link, _, fake, _ = break_in_the_middle(heard=False)
    with pytest.raises(LinkError, match="digest 00000000 after 0 commands"):
        link.resume(LoopbackChannel(Endpoint(fake, GEOMETRY)))


def test_refuse_when_a_result_may_be_lost():
    fake = FakeDevice()
    endpoint = Endpoint(fake, GEOMETRY)
    link = Link(Breaking(endpoint, 3, heard=False), GEOMETRY)
    link.send(HEAD + b"\1")
    with pytest.raises(LinkError, match="pulled"):
        link.receive()
    other_session(endpoint)
    with pytest.raises(LinkError, match="before the reply to RECEIVE came; what it read is lost"):
        link.resume(LoopbackChannel(endpoint))


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("heard", [True, False])
def test_a_result_broken_off_is_received_after_resume(parts, heard):
    """Two results wait, and the line is lost at every RECEIVE of the first one's parts in turn."""
    for lost in range(parts):
        fake = FakeDevice(stretch=60 * parts)
        endpoint = Endpoint(fake, GEOMETRY)
        link = Link(Breaking(endpoint, 4 + lost, heard=heard), GEOMETRY)
        link.send(HEAD + b"\1\2")
        link.send(HEAD + b"\3\4")
        with pytest.raises(LinkError, match="pulled"):
            link.receive()
        link.resume(LoopbackChannel(endpoint))
        assert link.receive() == HEAD + struct.pack("<2i", 1, 2) * 60 * parts
        assert link.receive() == HEAD + struct.pack("<2i", 3, 4) * 60 * parts
        assert link.receive() is None


def test_refuse_when_the_rest_of_a_result_is_lost():
    fake = FakeDevice(stretch=200)
    endpoint = Endpoint(fake, GEOMETRY)
    link = Link(Breaking(endpoint, 4, heard=False), GEOMETRY)
    link.send(HEAD + b"\1")
    with pytest.raises(LinkError, match="pulled"):
        link.receive()
    link._pending.clear()  # the second RECEIVE never left
    other_session(endpoint)
    with pytest.raises(LinkError, match="while a result was received in parts; the rest is lost"):
        link.resume(LoopbackChannel(endpoint))


def test_power_lost_on_a_living_line_is_noticed():
    link, _, _ = fresh()
    link.write(place(1, 2, 0), [1])
    link._channel._endpoint = Endpoint(FakeDevice(), GEOMETRY)
    with pytest.raises(LinkError, match="state is not what this session left"):
        link.write(place(1, 2, 0), [1])


def test_more_than_256_requests_and_a_full_window():
    link, _, fake = fresh()
    tickets = []
    for k in range(600):
        tickets.append(link.submit(Opcode.WRITE, struct.pack("<IBI", place(1, 2, k), 1, k)))
        assert len(link._pending) <= WINDOW
    for ticket in tickets:
        link.result(ticket)
    assert [entry[4] for entry in fake.log] == list(range(600))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(
    st.binary(max_size=60),
    st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**32 - 1), st.binary(max_size=40)).map(
        lambda t: frame(*t)[:-3] + b"\0"),
), max_size=20))
def test_garbage_never_executes(parts):
    fake = FakeDevice()
    endpoint = Endpoint(fake, GEOMETRY)
    for part in parts:
        endpoint.exchange(part)
    endpoint.exchange(b"\0")
    assert fake.log == []
    link = Link(LoopbackChannel(endpoint), GEOMETRY)
    assert link.identity.commands == 0
    link.write(place(1, 2, 0), [1])
    assert fake.log == [("write", 1, 2, 0, 1)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=20))
def test_garbage_from_the_device_never_hurts(parts):
    fake = FakeDevice()

    class Noisy(LoopbackChannel):
        def read(self, timeout):
            return (parts.pop() + b"\0" if parts else b"") + super().read(timeout)

    assert run(Link(Noisy(Endpoint(fake, GEOMETRY)), GEOMETRY)) == CLEAN
    assert fake.log == CLEAN_DEVICE.log
