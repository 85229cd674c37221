# amaranth: UnusedElaboratable=no
"""The SDRAM controller against a part that checks every limit of its data sheet."""

import dataclasses
import random

import pytest
from amaranth.sim import Simulator

from rtl.sdram import Sdram, SdramPart
from tests.rtl import sdram_chip
from tests.rtl.flits import always, often, seldom
from tests.rtl.sdram_bench import PADS
from tests.rtl.sdram_chip import IS42S16160G_7, W9825G6KH_6, Limits, Pins, SdramChip, ViolationError

POWER_UP = 2000.0
WINBOND, ISSI, TIGHT = (dataclasses.replace(limits, t_power_up=POWER_UP) for limits in (
    W9825G6KH_6, IS42S16160G_7, sdram_chip.TIGHT))
WORDS = 16
PART = SdramPart(t_power_up=POWER_UP)
OWN = SdramPart(t_rcd=30, t_rp=30, t_ras=55, t_rc=110, t_rfc=80, t_power_up=POWER_UP)
"""As `TIGHT`, to the clock at 80 MHz."""
LONGEST = 50_000
"""Clocks after which what has not come never will."""


class Run:
    """A controller with a part at its pins: requests (write, address, words) go in, words read come out.

    `clocks` tells when each request was taken and each word given; words written are random.
    """

    def __init__(self, requests, *, part: SdramPart = PART, limits: Limits = WINBOND, mhz: float = 50,
                 go=(always, always, always), seed: int = 1, after: int = 0, idle: int = 0):
        self.dut = Sdram(part=part, clock_hz=mhz * 1e6, words=WORDS)
        self.chip = SdramChip(limits, 1e3 / mhz, part.column_bits)
        self.requests, self.go, self.after, self.idle = requests, go, after, idle
        dice = random.Random(seed)
        self.data = [[dice.randrange(1 << 16) for _ in range(words)] if write else [] for write, _, words in requests]
        self.expected, known = [], {}
        for (write, address, words), values in zip(requests, self.data, strict=True):
            for k in range(words):
                if write:
                    known[address + k] = values[k]
                else:
                    self.expected.append(known[address + k])
        self.got: list[int] = []
        self.taken: list[int] = []
        self.given: list[int] = []
        self.clock = 0
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(self.bench)
        simulator.run()

    async def bench(self, ctx):
        """Drive all three streams and the pins, a clock at a time: a limit that is not kept ends the run."""
        request, w, r, pins = self.dut.request, self.dut.w, self.dut.r, self.dut.pins
        dice = random.Random(2)
        words = [word for values in self.data for word in values]
        asked = written = pause = word = 0
        left = self.after
        while asked < len(self.requests) or written < len(words) or len(self.got) < len(self.expected) or left:
            assert self.clock < LONGEST, f"{len(self.got)} of {len(self.expected)} words read, {written} written"
            left -= left > 0 and len(self.got) == len(self.expected)
            # What is offered stays until it is taken.
            if not ctx.get(request.valid) and asked < len(self.requests) and not pause and self.go[0](dice):
                write, address, count = self.requests[asked]
                ctx.set(request.payload, {"write": write, "address": address, "last": count - 1})
                ctx.set(request.valid, 1)
            if not ctx.get(w.valid) and written < len(words) and self.go[1](dice):
                ctx.set(w.payload, words[written])
                ctx.set(w.valid, 1)
            ready = self.go[2](dice)
            ctx.set(r.ready, ready)
            _, _, taken, wrote, valid, read, *values = await ctx.tick().sample(
                request.valid & request.ready, w.valid & w.ready, r.valid, r.payload,
                *(getattr(pins, name) for name in PADS))
            ctx.set(pins.i, word)
            word = self.chip.edge(Pins(**dict(zip(PADS, values, strict=True))))
            pause -= pause > 0
            if taken:
                self.taken.append(self.clock)
                asked, pause = asked + 1, self.idle
                ctx.set(request.valid, 0)
            if wrote:
                self.given.append(self.clock)
                written += 1
                ctx.set(w.valid, 0)
            if valid and ready:
                self.given.append(self.clock)
                self.got.append(read)
            self.clock += 1


def mixed(seed: int, count: int = 120):
    """Return requests of all lengths; a read is of what was written, some go over the end of a row or of a bank."""
    dice = random.Random(seed)
    places = [0, 500, 505, 511, 1024 * 2 - 3, (1 << 22) - 5, (1 << 24) - WORDS, 77 << 11, 78 << 11]
    requests, written = [], []
    for _ in range(count):
        if written and dice.random() < 0.5:
            address, words = dice.choice(written)
            first = dice.randrange(words)
            requests.append((0, address + first, dice.randint(1, words - first)))
        else:
            words = dice.choice([1, 1, 2, 3, WORDS])
            address = dice.choice(places)
            written.append((address, words))
            requests.append((1, address, words))
    return requests


@pytest.mark.parametrize("cas", [2, 3])
@pytest.mark.parametrize(("limits", "mhz"), [(WINBOND, 50), (WINBOND, 80), (ISSI, 66), (WINBOND, 25)],
                         ids=["winbond-50", "winbond-80", "issi-66", "winbond-25"])
def test_what_is_written_is_read(limits, mhz, cas):
    run = Run(mixed(mhz), part=dataclasses.replace(PART, cas=cas), limits=limits, mhz=mhz)
    assert run.got == run.expected
    assert run.chip.commands["refresh"] >= 9


@pytest.mark.parametrize("go", [(often, seldom, always), (always, often, seldom), (seldom, always, often)],
                         ids=["writes late", "reads late", "requests late"])
def test_stalls_on_every_side(go):
    run = Run(mixed(7), go=go)
    assert run.got == run.expected


def test_the_whole_power_up():
    run = Run([(1, 5, 1), (0, 5, 1)], part=SdramPart(), limits=W9825G6KH_6, mhz=20)
    assert run.got == run.expected
    with pytest.raises(ViolationError, match="power up"):
        SdramChip(W9825G6KH_6, 50).edge(Pins(1, 0, 1, 0, 1 << 10, 3, 0, 0))


def test_refresh_is_in_time_while_idle_and_while_a_burst_waits():
    """For as long as nobody asks, and where words to write or room for words read do not come."""
    assert Run([(1, 5, 1), (0, 5, 1)], after=2000).chip.commands["refresh"] >= 8 + 4
    run = Run([(1, 5, 16)] * 4 + [(0, 5, 16)] * 4, go=(always, lambda dice: dice.random() < 0.02,
                                                       lambda dice: dice.random() < 0.02))
    assert run.got == run.expected
    assert run.chip.commands["refresh"] >= 8 + 10


@pytest.mark.parametrize("write", [0, 1])
def test_sequential_words_run_near_the_roofline(write):
    count = 3000
    addresses = range(0, count, WORDS)
    run = Run([*([(1, a, WORDS) for a in addresses] if not write else []), *((write, a, WORDS) for a in addresses)])
    given = run.given[-len(addresses) * WORDS:]
    rate = len(given) / (given[-1] - given[0] + 1)
    assert rate > 0.975
    assert run.got == run.expected


def test_latency_of_a_read():
    """Of an open row, and of another one."""
    requests = [(1, 5, 1), (1, 5 + (1 << 11), 1), (0, 5 + (1 << 11), 1), (0, 5, 1)]
    run = Run(requests, idle=30)
    assert [given - taken for given, taken in zip(run.given[2:], run.taken[2:], strict=True)] == [7, 9]


SHORT = {
    "t_rcd": "tRCD", "t_rp": "tRP", "t_ras": "tRAS", "t_rc": "tRC", "t_rfc": "tRFC", "t_wr": "tWR", "t_mrd": "tMRD",
    "t_power_up": "power up", "turnaround": "DQ contention",
}


def exercise():
    """Return requests that make every limit bind: short stays in a row, both ways, reads before writes."""
    far = 1 << 11
    requests = []
    for k in range(60):
        requests += [(1, k * far, 3), (0, k * far + 1, 2), (1, k * far, 1), (0, k * far, 1), (1, k * far + 1, 1)]
        requests += [(0, max(k - 1, 0) * far, 1), (0, k * far, 1)]
    return requests


def test_the_tight_part_is_served():
    run = Run(exercise(), part=OWN, limits=TIGHT, mhz=80)
    assert run.got == run.expected


@pytest.mark.parametrize("name", SHORT)
def test_a_clock_less_is_seen(name):
    """Each limit short by one clock: the part names it."""
    clock = 1 if name in ("t_wr", "t_mrd", "turnaround") else 12.5
    part = dataclasses.replace(OWN, **{name: getattr(OWN, name) - clock})
    with pytest.raises(ViolationError, match=f"^{SHORT[name]}:"):
        Run(exercise(), part=part, limits=TIGHT, mhz=80)


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"cas": 4}, "cas must be 2 or 3, not 4"),
    ({"t_rp": 0}, "t_rp must be more than 0, not 0"),
    ({"column_bits": 11}, "column_bits must be at most 10, not 11"),
    ({"t_wr": 1.5}, "t_wr must be an integer, not 1.5"),
    ({"row_bits": 10}, "row_bits must be more than 10, not 10"),
    ({"t_rfc": -1.0}, "t_rfc must be more than 0, not -1.0"),
])
def test_a_bad_part_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        SdramPart(**changes)


def test_a_bad_controller_is_refused():
    with pytest.raises(ValueError, match="words must be a positive integer, not 0"):
        Sdram(part=PART, clock_hz=50e6, words=0)
    with pytest.raises(ValueError, match="clock_hz must be more than 0, not 0"):
        Sdram(part=PART, clock_hz=0, words=8)
    with pytest.raises(ValueError, match=r"clock_hz \(1e\+06\) leaves no time between two refreshes"):
        Sdram(part=PART, clock_hz=1e6, words=8)


# --- the part itself ------------------------------------------------------------------------------------------------

ACTIVATE, READ, WRITE, PRECHARGE, REFRESH, MODE = "activate", "read", "write", "precharge", "refresh", "mode"
COMMANDS = {ACTIVATE: (1, 0, 0), READ: (0, 1, 0), WRITE: (0, 1, 1), PRECHARGE: (1, 0, 1), REFRESH: (1, 1, 0),
            MODE: (1, 1, 1), "stop": (0, 0, 1)}
START = [(PRECHARGE, {"address": 1 << 10, "mask": 3}, 41), *[(REFRESH, {}, 2)] + [(REFRESH, {}, 5)] * 7,
         (MODE, {"address": 0x20}, 5)]


def play(commands, limits=TIGHT, clock=20.0):
    """Give a part commands: (name, pins, clocks after the command before); return what pads took after each clock."""
    limits = dataclasses.replace(limits, t_power_up=800)
    chip, taken = SdramChip(limits, clock), []
    quiet = dict.fromkeys(PADS, 0)
    for name, pins, after in commands:
        for _ in range(after - 1):
            taken.append(chip.edge(Pins(**quiet)))
        ras, cas, we = COMMANDS[name]
        taken.append(chip.edge(Pins(**quiet | {"ras": ras, "cas": cas, "we": we} | pins)))
    return taken


W = {"oe": 1, "o": 0x1234}
OPEN = [*START, (ACTIVATE, {"address": 7}, 5)]


@pytest.mark.parametrize(("name", "commands"), [
    ("power up", [(PRECHARGE, {"address": 1 << 10, "mask": 3}, 40)]),
    ("initialisation", [(PRECHARGE, {"address": 0, "mask": 3}, 41)]),
    ("initialisation", [(PRECHARGE, {"address": 1 << 10}, 41)]),
    ("initialisation", [*START[:4], START[-1], (ACTIVATE, {}, 5)]),
    ("initialisation", [*START[:-1], (ACTIVATE, {}, 5)]),
    ("mode register", [*START[:-1], (MODE, {"address": 0x21}, 5)]),
    ("tRP", [*OPEN, (PRECHARGE, {}, 4), (ACTIVATE, {}, 1)]),
    ("tRP", [*OPEN, (PRECHARGE, {}, 4), (REFRESH, {}, 1)]),
    ("tRFC", [*START, (REFRESH, {}, 5), (ACTIVATE, {}, 3)]),
    ("tMRD", [*START, (ACTIVATE, {}, 1)]),
    ("tRCD", [*OPEN, (READ, {}, 1)]),
    ("tRAS", [*OPEN, (PRECHARGE, {}, 2)]),
    ("tRAS", [*OPEN, (PRECHARGE, {"address": 1 << 10}, 2)]),
    ("tRC", [*OPEN, (PRECHARGE, {}, 3), (ACTIVATE, {}, 2)]),
    ("tRRD", [*OPEN, (ACTIVATE, {"bank": 1}, 1)]),
    ("tWR", [*OPEN, (WRITE, W, 3), (PRECHARGE, {}, 1)]),
    ("tREFI", [*OPEN, (READ, {}, 400)]),
    ("bank state", [*OPEN, (ACTIVATE, {}, 6)]),
    ("bank state", [*OPEN, (READ, {"bank": 1}, 6)]),
    ("bank state", [*OPEN, (READ, {"address": 512}, 6)]),
    ("bank state", [*OPEN, (READ, {"address": 1 << 10}, 6)]),
    ("bank state", [*OPEN, (REFRESH, {}, 6)]),
    ("bank state", [*OPEN, ("stop", {}, 6)]),
    ("DQ contention", [*OPEN, (READ, W, 2)]),
    ("DQ contention", [*OPEN, (READ, {}, 2), (WRITE, W, 1)]),
    ("DQ contention", [*OPEN, (READ, {}, 2), (WRITE, W, 2)]),
    ("DQ", [*OPEN, (WRITE, {}, 2)]),
])
def test_the_part_names_what_was_not_kept(name, commands):
    with pytest.raises(ViolationError, match=f"^{name}:"):
        play(commands)


@pytest.mark.parametrize(("limits", "clock", "name"), [(W9825G6KH_6, 7.0, "tCK"), (W9825G6KH_6, 11.0, "tAC")])
def test_the_part_knows_its_clock(limits, clock, name):
    with pytest.raises(ViolationError, match=f"^{name}:"):
        play([(command, pins, 200) for command, pins, _ in OPEN] + [(READ, {}, 20), (READ, {}, 20)], limits, clock)


def test_the_part_is_content_with_what_is_allowed():
    taken = play([*OPEN, (WRITE, W, 2), (WRITE, W | {"o": 0xABCD, "mask": 2}, 1), (READ, {}, 1), (WRITE, W, 3),
                  (READ, {}, 1), (PRECHARGE, {}, 4), (ACTIVATE, {"address": 7}, 2), (READ, {}, 2), (PRECHARGE, {}, 5)])
    assert taken[-5] == 0x1234  # taken a clock and a half after the read's edge
    masked = [*OPEN, (WRITE, W, 2), (WRITE, W | {"o": 0xABCD, "mask": 2}, 1), (READ, {}, 1), (PRECHARGE, {}, 4)]
    assert play(masked)[-4] == 0x12CD
    masked[-2] = (READ, {"mask": 1}, 1)
    assert play(masked)[-4] >> 8 == 0x12
    assert play(masked)[-4] & 0xFF != 0xCD
