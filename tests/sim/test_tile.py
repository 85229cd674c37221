"""The model of an engine's tiles against one vector at a time, in plain integers."""

import math

import numpy as np
import pytest

from rtl.params import FlitKind, Purpose, gaussian_table, hash_counter, hash_key, preset
from rtl.params.registers import EngineRegion
from sim.hash import threefry2x32
from sim.message import Message
from sim.tile import Drive, Tiles


def xi_of(key, counter, event) -> int:
    word = int(threefry2x32(*key, counter, event)[0])
    table = gaussian_table()
    halves = [(word >> shift) & 2047 for shift in (0, 11)]
    return sum(-table[h & 1023] if h >> 10 else table[h] for h in halves)


def code_of(charge, noise, norm, xi, gain, offset, limit) -> tuple[int, bool]:
    sigma = min((noise * norm) >> 14, 2**18 - 1)
    charge += (sigma * xi + 2**15) >> 16
    code = (charge * gain + offset + 2**23) >> 24
    return max(-limit, min(limit, code)), abs(code) > limit


@pytest.fixture
def tiles() -> Tiles:
    rng = np.random.default_rng(5)
    tiles = Tiles(preset("tiny"))
    tiles.settings |= {"seed": 0x12345678, "chip": 3, "verify_noise": 5000, "verify_gain": 50000, "verify_offset": -99}
    tiles.records[1] |= {"tile": 77, "rows": 7, "columns": 6, "column_base": 9, "route": 4, "adc_gain": 60000,
                         "adc_offset": 12345678, "latency": 500}
    tiles.write(EngineRegion.INPUTS, 3, 1 | 1 << 6)
    tiles.set_nets(1, rng.integers(-255, 256, (7, 6)))
    for k in range(6):
        for field, value in enumerate(rng.integers(-2**15, 2**15, 3) & 0xFFFF):
            tiles.write(EngineRegion.COLUMNS, (9 + k) * 4 + field, int(value))
    return tiles


@pytest.mark.parametrize("position", [0, 6, 4095])
def test_partial_sums(tiles, position):
    rng = np.random.default_rng(6)
    x = np.pad(rng.integers(-127, 128, (20, 7)), ((0, 0), (0, 1)))
    batch = Message(route=3, kind=FlitKind.ACTIVATION, events=rng.integers(0, 2**32, 20),
                    times=np.sort(rng.integers(0, 9000, 20)), elements=x, position=position)
    (out,) = tiles.accept(batch)
    nets = tiles._weights[1].nets.tolist()
    key = hash_key(0x12345678, Purpose.READ, 3, 77)
    clips, free, expected, times = 0, 0, [], []
    for event, time, vector in zip(batch.events.tolist(), batch.times.tolist(), x.tolist(), strict=True):
        norm = math.isqrt(sum(a * a for a in vector) << 8)
        row = []
        for c in range(6):
            charge = sum(vector[r] * nets[r][c] for r in range(7))
            noise, scale, bias = (int(tiles.constants[name][9 + c]) for name in ("noise", "scale", "bias"))
            xi = xi_of(key, hash_counter(position, c), event)
            code, clipped = code_of(charge, noise, norm, xi, 60000, 12345678, 127)
            row.append(max(-2**23, min(2**23 - 1, ((code * scale + 128) >> 8) + bias)))
            clips += clipped
        expected.append([*row, 0, 0])
        free = max(time, free) + 500
        times.append(free)
    np.testing.assert_array_equal(out.elements, expected)
    np.testing.assert_array_equal(out.times, times)
    np.testing.assert_array_equal(out.events, batch.events)
    assert (out.route, out.kind) == (4, FlitKind.PARTIAL)
    assert 0 < clips < 120
    assert tiles.counters == {"vectors": 20, "row_ticks": int(np.abs(x).sum()), "conversions": 120, "clips": clips,
                              "verify_conversions": 0}

    (later,) = tiles.accept(Message(route=3, kind=FlitKind.ACTIVATION, events=batch.events[:1], times=batch.times[:1],
                                    elements=x[:1]))
    assert later.times[0] == times[-1] + 500


def test_a_context_named_as_an_input_begins_at_time_0(tiles):
    batch = Message(route=3, kind=FlitKind.ACTIVATION, events=np.zeros(1, np.int64), times=np.array([70]),
                    elements=np.zeros((1, 8), np.int64))

    def left() -> int:
        return int(tiles.accept(batch)[0].times[0])

    assert [left(), left()] == [570, 1070]
    for offset, value in ((5, 1), (6, 2 | 1 << 6), (7, 63 | 1 << 6)):  # cleared; another context; none
        tiles.write(EngineRegion.INPUTS, offset, value)
    assert left() == 1570
    tiles.write(EngineRegion.INPUTS, 3, 1 | 1 << 6)
    assert left() == 570


def test_batch_is_the_same_as_one_by_one(tiles):
    rng = np.random.default_rng(7)
    x = rng.integers(-127, 128, (9, 8))
    events, times = np.arange(9), rng.integers(0, 5000, 9)
    fields = {"route": 3, "kind": FlitKind.ACTIVATION}
    (whole,) = tiles.accept(Message(events=events, times=times, elements=x, **fields))
    tiles.free[:] = 0
    for k in range(9):
        one = slice(k, k + 1)
        (out,) = tiles.accept(Message(events=events[one], times=times[one], elements=x[one], **fields))
        np.testing.assert_array_equal(out.elements, whole.elements[one])
        np.testing.assert_array_equal(out.times, whole.times[one])


@pytest.mark.parametrize("count", [1, 5, 40])
def test_contexts_at_once_are_the_same_as_one_by_one(tiles, count):
    rng = np.random.default_rng(8)
    tiles.records[2] |= {"tile": 5, "rows": 4, "columns": 3, "net_base": 32, "column_base": 2, "route": 6,
                         "adc_gain": 90000, "latency": 70}
    tiles.write(EngineRegion.INPUTS, 4, 2 | 1 << 6)
    tiles.set_nets(2, rng.integers(-255, 256, (4, 3)))
    for name, high in (("scale", 1 << 14), ("bias", 1 << 14), ("noise", 1 << 13)):
        tiles.set_constants(name, 2, rng.integers(0, high, 3))
    fields = {"kind": FlitKind.ACTIVATION, "events": np.arange(count), "times": 90 * np.arange(count)}
    messages = [Message(route=route, elements=rng.integers(-127, 128, (count, used)), **fields)
                for route, used in ((3, 8), (4, 4), (9, 4))]
    found = []
    for answer in (lambda: tiles.accept(*messages), lambda: [out for one in messages for out in tiles.accept(one)]):
        tiles.free[:] = 0
        tiles.counters.update(dict.fromkeys(tiles.counters, 0))
        sums = [(out.route, out.elements.tolist(), out.times.tolist()) for out in answer()]
        found.append((sums, dict(tiles.counters)))
    assert found[0] == found[1]
    assert [route for route, _, _ in found[0][0]] == [4, 6]
    assert found[0][1]["vectors"] == 2 * count


def test_nets_that_others_were_written_over_are_not_read(tiles):
    """What a chip would multiply by then is defined by no context; rows that were written again are."""
    x, read = np.ones((2, 8), np.int64), (1, np.array([2]), Purpose.VERIFY, np.array([5]))
    message = Message(route=3, kind=FlitKind.ACTIVATION, events=np.arange(2), times=np.zeros(2, np.int64), elements=x)
    nets = tiles._weights[1].nets
    (before,), codes = tiles.accept(message), tiles.read_rows(*read)
    words = -(-tiles.records[1]["rows"] // tiles.geometry.lanes) * tiles.records[1]["columns"]
    last = tiles.records[1]["net_base"] + words
    tiles.records[2] |= {"tile": 5, "rows": 4, "columns": 3, "net_base": last}
    tiles.set_nets(2, np.ones((4, 3), np.int64))
    np.testing.assert_array_equal(tiles.accept(message)[0].elements, before.elements)
    tiles.records[2]["net_base"] = last - 1
    tiles.set_nets(2, np.ones((4, 3), np.int64))
    dense = (1, np.array([0]), Purpose.PROBE, np.array([5]), Drive(dense=True))
    for action in (lambda: tiles.accept(message), lambda: tiles.read_rows(*read), lambda: tiles.read_rows(*dense)):
        with pytest.raises(ValueError, match="context 1 is read, but nets of another context were written over"):
            action()
    tiles.set_nets(1, nets, [2])
    np.testing.assert_array_equal(tiles.read_rows(*read), codes)
    with pytest.raises(ValueError, match="context 1 is read"):
        tiles.read_rows(*dense)
    tiles.set_nets(1, nets)
    np.testing.assert_array_equal(tiles.accept(message)[0].elements, before.elements)


def test_verify_reads(tiles):
    rows, events = np.array([0, 6, 6, 3]), np.array([1, 2, 3, 2**32 - 1])
    codes = tiles.read_rows(1, rows, Purpose.PROBE, events)
    key = hash_key(0x12345678, Purpose.PROBE, 3, 77)
    nets = tiles._weights[1].nets
    expected = [[code_of(127 * int(nets[r, c]), 5000, 127 << 4, xi_of(key, hash_counter(r, c), e), 50000, -99, 127)[0]
                 for c in range(6)] for r, e in zip(rows.tolist(), events.tolist(), strict=True)]
    np.testing.assert_array_equal(codes, expected)
    assert tiles.counters["verify_conversions"] == 24


def test_probes(tiles):
    """One row with a pulse of its own, or all rows with the signs of a Walsh function, in either range."""
    record, nets = tiles.records[1], tiles._weights[1].nets
    record |= {"adc_gain": 21000, "adc_offset": 4 << 24}
    tiles.set_constants("noise", 9, [0, 300, 900, 1500, 60, 7])
    key = hash_key(0x12345678, Purpose.PROBE, 3, 77)
    for ticks, dense, inference in ((-31, False, False), (0, False, False), (0, False, True), (31, True, False),
                                    (-31, True, True)):
        place = 5 | dense << 10 | inference << 11 | (ticks < 0) << 12 | (ticks == 0) << 13
        signs = [(-1) ** ((r & 5).bit_count()) for r in range(7)] if dense else [int(r == 5) for r in range(7)]
        gain, offset = (21000, 4 << 24) if inference else (50000, -99)
        norm = math.isqrt(7 * ticks * ticks << 8) if dense else 127 << 4
        expected = [code_of(ticks * sum(s * int(net) for s, net in zip(signs, nets[:, c], strict=True)),
                            int(tiles.constants["noise"][9 + c]) if dense else 5000, norm,
                            xi_of(key, hash_counter(place, c), 8), gain, offset, 127)[0] for c in range(6)]
        codes = tiles.read_rows(1, [5], Purpose.PROBE, [8], Drive(ticks, dense=dense, inference_range=inference))
        assert codes.tolist() == [expected]
    assert tiles.counters["row_ticks"] == 2 * 7 * 31


def test_strays_and_wrong_lengths(tiles):
    batch = Message(route=9, kind=FlitKind.ACTIVATION, events=np.zeros(1, np.int64), times=np.zeros(1, np.int64),
                    elements=np.zeros((1, 12), np.int64))
    assert tiles.accept(batch) == []
    tiles.write(EngineRegion.INPUTS, 9, 1 | 1 << 6)
    with pytest.raises(ValueError, match="context 1 takes 8 activations, not 12"):
        tiles.accept(batch)
