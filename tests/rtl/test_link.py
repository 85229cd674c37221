"""The link in RTL against its twin in Python: the same bytes in give the same bytes out and the same accesses."""

import random
import struct
import zlib

import pytest
from cobs import cobs

from host.link import Link
from rtl.params import Opcode, Status, preset
from rtl.params.protocol import READ_WORDS, REPLY_BYTES, REQUEST_BYTES, WINDOW
from sim.link import Endpoint, frame, unframe
from tests.fake_device import COUNT_REGION, DEAD_REGION, FakeDevice
from tests.host.faults import FAULTS, FaultyChannel
from tests.link_run import place, run
from tests.rtl.link_bench import frames, run_link

GEOMETRY = preset("tiny")
SESSION, OTHER = 0x636E6F6E, 0x65736C65
IDENTIFY = frame(Opcode.IDENTIFY, 0, SESSION)


def read(sequence: int, address: int, count: int = 1, step: int = 1, *, session: int = SESSION) -> bytes:
    return frame(Opcode.READ, sequence, session, struct.pack("<IHB", address, count, step))


def write(sequence: int, address: int, words: list[int], step: int = 1, *, session: int = SESSION) -> bytes:
    return frame(Opcode.WRITE, sequence, session, struct.pack(f"<IB{len(words)}I", address, step, *words))


def send(sequence: int, activations: bytes, *, session: int = SESSION) -> bytes:
    return frame(Opcode.SEND, sequence, session, bytes(range(10)) + activations)


def receive(sequence: int, *, session: int = SESSION) -> bytes:
    return frame(Opcode.RECEIVE, sequence, session)


def both(received: bytes, *, seed: int | None = None, share: float | None = None, quiet: int = 800,
         geometry=GEOMETRY, **device) -> list[tuple[int, int, bytes]]:
    """Return status, sequence and body of each reply to `received`, after checking that RTL and twin agree in all."""
    real, model = FakeDevice(**device), FakeDevice(**device)
    answered, _ = run_link(geometry, real, received, seed=seed, share=share, quiet=quiet)
    assert answered == Endpoint(model, geometry).exchange(received)
    assert (real.log, real.sessions) == (model.log, model.sessions)
    replies = [unframe(part) for part in frames(answered)]
    assert None not in replies
    return [(status, sequence, body) for status, sequence, _, body in replies]


@pytest.mark.parametrize("seed", [None, 1])
def test_every_request_once(seed):
    replies = both(b"".join([
        IDENTIFY, write(1, place(1, 2, 16), [5, 6, 7]), read(2, place(1, 2, 16), 4), send(3, bytes([1, 255, 128])),
        receive(4), receive(5), read(6, place(2, 3, 9), 3, step=0),
    ]), seed=seed)
    assert [(status, sequence) for status, sequence, _ in replies] == [(Status.OK, k) for k in range(7)]
    assert struct.unpack("<4I", replies[2][2]) == (5, 6, 7, place(1, 2, 19))
    assert replies[4][2] == bytes(range(10)) + struct.pack("<3i", 1, -1, -128)
    assert replies[5][2] == b""
    assert struct.unpack("<3I", replies[6][2]) == (place(2, 3, 9),) * 3


def test_a_repeat_is_answered_but_not_executed():
    count = [read(k, place(1, COUNT_REGION, 0)) for k in range(1, WINDOW + 3)]
    replies = both(b"".join([IDENTIFY, *count[:-1], *count[1:], count[0]]))
    values = [int.from_bytes(body, "little") for status, _, body in replies[1:] if status == Status.OK]
    assert values == [*range(WINDOW + 1), *range(1, WINDOW + 2)]
    assert replies[-1] == (Status.OUT_OF_SEQUENCE, WINDOW + 3, b"")


def test_a_gap_is_refused_and_the_expected_number_told():
    replies = both(IDENTIFY + write(2, 0, [1]) + write(255, 0, [1]) + write(1, 0, [2]) + write(2, 0, [3]))
    assert [reply[:2] for reply in replies[1:]] == [
        (Status.OUT_OF_SEQUENCE, 1), (Status.OUT_OF_SEQUENCE, 1), (Status.OK, 1), (Status.OK, 2)]


def test_nothing_is_done_before_a_session():
    replies = both(write(0, 0, [1]) + write(1, 0, [1]) + send(0, b"abc"))
    assert replies == [(Status.NO_SESSION, 0, b"")] * 3


@pytest.mark.parametrize("seed", [None, 7])
def test_a_frame_of_another_session_does_nothing_and_gets_nobodys_answer(seed):
    mine, others = (place(1, 2, k) for k in (4, 5))
    begin = frame(Opcode.IDENTIFY, 9, OTHER)
    stale = [write(1, mine, [7]), read(2, mine), send(2, b"abc"), receive(2), frame(0x77, 2, SESSION, b"x")]
    stream = b"".join([
        IDENTIFY, write(1, mine, [1]), begin, *stale, write(1, others, [2], session=OTHER), *stale,
        read(2, others, session=OTHER), begin, IDENTIFY, read(1, others, session=OTHER), read(1, mine), IDENTIFY,
    ])
    replies = both(stream, seed=seed)
    assert [reply[:2] for reply in replies] == [
        (Status.OK, 0), (Status.OK, 1), (Status.OK, 9), *[(Status.NO_SESSION, 0)] * 5, (Status.OK, 1),
        *[(Status.NO_SESSION, 0)] * 5, (Status.OK, 2), (Status.OK, 9), (Status.OK, 0), (Status.NO_SESSION, 0),
        (Status.OK, 1), (Status.OK, 0)]
    assert [int.from_bytes(replies[k][2], "little") for k in (14, 18)] == [2, 1]
    assert [identity(replies[k][2])["executed"] for k in (2, 15, 16, 19)] == [0, 2, 0, 1]
    # Every reply names the session that was present when it was given.
    sessions = [unframe(part)[2] for part in frames(run_link(GEOMETRY, FakeDevice(), stream)[0])]
    assert sessions == [SESSION] * 2 + [OTHER] * 14 + [SESSION] * 4


def identity(body: bytes) -> dict[str, int]:
    names = ("magic", "version", "geometry", "digest", "commands", "executed")
    return dict(zip(names, struct.unpack("<6I", body), strict=True))


def sessions_of(stream: bytes) -> list[int]:
    """How many requests had been executed when each session began."""
    device = FakeDevice()
    run_link(GEOMETRY, device, stream)
    return device.sessions


def test_identify_begins_a_session_once():
    replies = both(b"".join([
        IDENTIFY, write(1, 5, [1]), IDENTIFY, write(2, 6, [1]), frame(Opcode.IDENTIFY, 77, OTHER),
        write(2, 7, [1], session=OTHER), write(1, 7, [1], session=OTHER), frame(Opcode.IDENTIFY, 3, SESSION, b"1"),
    ]))
    assert [reply[:2] for reply in replies] == [
        (Status.OK, 0), (Status.OK, 1), (Status.OK, 0), (Status.OK, 2), (Status.OK, 77), (Status.OUT_OF_SEQUENCE, 1),
        (Status.OK, 1), (Status.BAD_REQUEST, 3)]
    first, again, other = (identity(replies[k][2]) for k in (0, 2, 4))
    assert [part["commands"] for part in (first, again, other)] == [0, 1, 2]
    assert [part["executed"] for part in (first, again, other)] == [0, 1, 0]
    assert sessions_of(IDENTIFY + IDENTIFY + write(1, 5, [1]) + IDENTIFY + frame(Opcode.IDENTIFY, 0, OTHER)) == [0, 1]
    assert first["digest"] == 0
    assert len({part["digest"] for part in (first, again, other)}) == 3


def test_malformed_requests_are_refused_and_keep_the_sequence():
    bodies = [
        (0x7F, b""), (Opcode.READ, b""), (Opcode.READ, struct.pack("<IHB", 0, 0, 1)),
        (Opcode.READ, struct.pack("<IHB", 0, REPLY_BYTES // 4 + 1, 1)), (Opcode.READ, struct.pack("<IHB", 0, 1, 2)),
        (Opcode.READ, struct.pack("<IHB", 1 << 28, 1, 1)), (Opcode.WRITE, struct.pack("<IB", 0, 1)),
        (Opcode.WRITE, struct.pack("<IBI", 0, 2, 7)), (Opcode.WRITE, struct.pack("<IBIH", 0, 1, 7, 7)),
        (Opcode.WRITE, struct.pack("<IBI", 1 << 28, 1, 7)), (Opcode.SEND, bytes(10)), (Opcode.RECEIVE, b"x"),
    ]
    requests = [frame(opcode, k + 1, SESSION, body) for k, (opcode, body) in enumerate(bodies)]
    replies = both(b"".join([IDENTIFY, *requests, IDENTIFY]))
    assert replies[1:-1] == [(Status.BAD_REQUEST, k + 1, b"") for k in range(len(bodies))]
    assert identity(replies[-1][2])["commands"] == 0


def test_an_address_has_the_bits_that_the_chip_needs():
    """Sixteen units are told by 4 bits; one more engine, or a node without a unit, takes a fifth."""
    assert [GEOMETRY.replace(engines=engines, mesh_columns=columns).unit_bits
            for engines, columns in ((1, 3), (14, 2), (14, 11), (15, 2), (34, 6), (254, 16))] == [4, 4, 5, 5, 6, 8]
    wide = GEOMETRY.replace(engines=34, mesh_columns=6)
    last = place(35, 2, 16)
    requests = b"".join([IDENTIFY, write(1, last, [5]), read(2, last), read(3, place(3, 2, 16)), read(4, 1 << 30),
                         read(5, place(63, 15, (1 << 20) - 1), 2)])
    replies = both(requests, geometry=wide)
    assert [status for status, _, _ in replies[1:]] == [Status.OK] * 3 + [Status.BAD_REQUEST, Status.OK]
    assert [struct.unpack("<I", body) for _, _, body in replies[2:4]] == [(5,), (place(3, 2, 16),)]
    assert struct.unpack("<2I", replies[5][2]) == (place(63, 15, (1 << 20) - 1), 0), "a burst wraps"
    assert [status for status, _, _ in both(requests)[1:]] == [Status.BAD_REQUEST] * 2 + [Status.OK] + [
        Status.BAD_REQUEST] * 2


@pytest.mark.parametrize("seed", [None, 2])
def test_registers_that_never_answer(seed):
    dead = place(1, DEAD_REGION, 0)
    replies = both(b"".join([
        IDENTIFY, write(1, dead, [1, 2, 3]), read(2, place(1, 2, 7), 2), read(3, dead, 5),
        write(4, place(1, 2, 0), [9]), read(5, place(1, 2, 0)), IDENTIFY,
    ]), seed=seed)
    # The answers that come too late hold up the access after them, but are not taken for its own.
    assert [reply[0] for reply in replies[1:6]] == [
        Status.BUS_TIMEOUT, Status.OK, Status.BUS_TIMEOUT, Status.OK, Status.OK]
    assert replies[2][2] == struct.pack("<2I", place(1, 2, 7), place(1, 2, 8))
    assert replies[5][2] == struct.pack("<I", 9)
    assert identity(replies[6][2])["commands"] == 2


def test_no_vector_without_credit():
    sends = [send(k, bytes([k] * 3)) for k in range(1, 4)]
    replies = both(b"".join([IDENTIFY, *sends, receive(4), send(5, b"new"), receive(6), receive(7)]), vectors=2)
    assert [reply[0] for reply in replies[1:]] == [
        Status.OK, Status.OK, Status.NO_CREDIT, Status.OK, Status.OK, Status.OK, Status.OK]
    assert [reply[2][10::4] for reply in replies if reply[2]][1:] == [b"\1\1\1", b"\2\2\2", b"new"]


@pytest.mark.parametrize("seed", [None, 3])
def test_long_results_come_in_parts(seed):
    activations = bytes(range(100, 180))
    replies = both(b"".join([
        IDENTIFY, send(1, activations), *(receive(k) for k in (2, 3, 3, 4, 5)), send(6, activations), receive(7),
        frame(Opcode.IDENTIFY, 0, OTHER), receive(1, session=OTHER),
    ]), stretch=4, seed=seed, quiet=2000)  # throwing away the rest of a result takes long
    parts = [(reply[0], len(reply[2])) for reply in replies[2:7]]
    assert parts == [(Status.MORE, 512), (Status.MORE, 512), (Status.MORE, 512), (Status.OK, 266), (Status.OK, 0)]
    # A new session does not begin with the rest of an old result.
    assert replies[-1] == (Status.OK, 1, b"")


def test_largest_frames():
    words = [random.Random(3).getrandbits(32) for _ in range((REQUEST_BYTES - 5) // 4)]
    both(b"".join([
        IDENTIFY, write(1, 0, words), read(2, 0, REPLY_BYTES // 4), send(3, bytes(REQUEST_BYTES - 10)),
        frame(Opcode.SEND, 4, SESSION, bytes(REQUEST_BYTES + 1)), bytes(5000).replace(b"\0", b"\7"), b"\0",
        write(4, 0, [1]),
    ]))


def test_wrong_frames_are_dropped():
    good = write(1, 3, [8])
    wrong = [good[:k] + b"\0" for k in range(len(good) - 1)]
    wrong += [good[:k] + good[k + 1:] for k in range(len(good) - 1)]
    wrong += [good[:k] + bytes([good[k] ^ 1 << k % 8 or 255]) + good[k + 1:] for k in range(len(good) - 1)]
    replies = both(b"".join([IDENTIFY, *wrong, b"\0\0\0", good, *wrong, IDENTIFY]))
    assert [reply[:2] for reply in replies] == [(Status.OK, 0), (Status.OK, 1), (Status.OK, 0)]
    assert identity(replies[-1][2])["commands"] == 1


def random_request(rng: random.Random, sequence: int, session: int) -> bytes:
    address = place(rng.randint(0, 3), rng.choice((0, 2, 7, COUNT_REGION, DEAD_REGION)), rng.randint(0, 9))
    return rng.choice((
        lambda: read(sequence, address, rng.randint(1, 9), rng.randint(0, 1), session=session),
        lambda: write(sequence, address, [rng.getrandbits(32) for _ in range(rng.randint(1, 9))], session=session),
        lambda: send(sequence, rng.randbytes(rng.randint(1, 40)), session=session),
        lambda: receive(sequence, session=session),
        lambda: frame(rng.randint(0, 255), rng.randint(0, 255), session, rng.randbytes(rng.randint(0, 9))),
        lambda: frame(Opcode.IDENTIFY, 0, session),
    ))()


def random_stream(rng: random.Random, count: int) -> bytes:
    """Requests of a session with repeats, gaps, dropped, cut and corrupted frames."""
    out, sequence, session = [IDENTIFY], 1, SESSION
    for _ in range(count):
        request = random_request(rng, sequence, session if rng.random() < 0.95 else OTHER)
        fate = rng.choice(("once",) * 6 + ("twice", "never", "cut", "corrupt"))
        if fate == "cut":
            request = request[:rng.randrange(len(request))] + b"\0" * rng.randint(0, 1)
        elif fate == "corrupt":
            k = rng.randrange(len(request))
            request = request[:k] + rng.randbytes(1) + request[k + 1:]
        out += [request] * {"never": 0, "twice": 2}.get(fate, 1)
        sequence = (sequence + rng.choice((1,) * 8 + (0, -3, 2))) % 256
        if rng.random() < 0.1:
            sequence, session = 1, rng.getrandbits(32)
            out.append(frame(Opcode.IDENTIFY, rng.randint(0, 255), session))
    return b"".join(out)


def test_a_reply_under_way_is_not_written_over():
    """The line is slow, and while the oldest reply is repeated on it the next request wants its place."""
    first, last = (read(k, place(1, 2, 1000 * k), READ_WORDS) for k in (1, WINDOW + 1))
    short = [read(k, place(1, 2, 0)) for k in range(2, WINDOW + 1)]
    replies = both(b"".join([IDENTIFY, first, *short, first, last]), share=0.12)
    assert replies[-2] == replies[1]
    assert replies[-2][2] == struct.pack(f"<{READ_WORDS}I", *range(place(1, 2, 1000), place(1, 2, 1000) + READ_WORDS))


def test_a_right_crc_does_not_excuse_a_wrong_length():
    def wrong(length: int, body: bytes) -> bytes:
        plain = struct.pack("<BBHI", Opcode.WRITE, 1, length, SESSION) + body
        return cobs.encode(plain + struct.pack("<I", zlib.crc32(plain))) + b"\0"

    body = struct.pack("<IB2I", place(1, 2, 0), 1, 5, 6)
    wrongs = [wrong(length, body) for length in (0, 9, len(body) - 1, len(body) + 1, len(body) + 256, 0xFFFF)]
    short = [cobs.encode(plain + struct.pack("<I", zlib.crc32(plain))) + b"\0" for plain in (
        b"", b"\x12", b"\x12\1\0", b"\x12\1\0\0\6\6\6")]
    replies = both(b"".join([IDENTIFY, *wrongs, *short, write(1, place(1, 2, 0), [7])]))
    assert [reply[:2] for reply in replies] == [(Status.OK, 0), (Status.OK, 1)]


@pytest.mark.parametrize("seed", range(6))
def test_random_streams_with_errors(seed):
    both(random_stream(random.Random(seed), 60), seed=seed if seed % 2 else None, stretch=5)


@pytest.mark.parametrize("seed", range(3))
def test_what_a_host_sends_over_a_bad_line(seed):
    """The host's repeats, as they reached the twin, lead the RTL to the same end."""
    rng = random.Random(seed)
    twin = FakeDevice()
    channel = FaultyChannel(Endpoint(twin, GEOMETRY), lambda way, number: rng.choice((None,) * 6 + FAULTS))
    link = Link(channel, GEOMETRY, tries=40)
    run(link)
    assert link.repeats > 10
    real = FakeDevice()
    run_link(GEOMETRY, real, bytes(channel.carried), seed=seed)
    assert real.log == twin.log
    both(bytes(channel.carried))


def test_speed():
    """An image of 784 bytes in under 900 clocks, a word of a WRITE in 6, each to the last byte of its reply."""
    image, words = random.Random(1).randbytes(784), list(range(1, 401))
    clocks = []
    for request in (send(1, image), write(1, 0, words)):
        stream = IDENTIFY + request
        answered, when = run_link(GEOMETRY, FakeDevice(), stream, quiet=2500)
        assert unframe(list(frames(answered))[1])[:2] == (Status.OK, 1)
        clocks.append(when[-1])
    # The stream itself takes a clock a byte to come in; the rest is what the link adds.
    assert clocks[0] < len(IDENTIFY + send(1, image)) + 900
    assert clocks[1] < len(IDENTIFY + write(1, 0, words)) + 6 * len(words) + 60
