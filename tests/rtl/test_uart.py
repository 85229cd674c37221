# amaranth: UnusedElaboratable=no
import pytest
from amaranth.sim import Simulator

from rtl.uart import UartReceiver, UartTransmitter
from tests.rtl.link_bench import put_bytes

CLOCK = 48e6
RATIOS = [(48e6, 3e6), (25e6, 3e6), (50e6, 3e6), (48e6, 4e6), (12e6, 115200)]


def levels(byte: int, *, stop: int = 1) -> list[int]:
    return [0, *(byte >> k & 1 for k in range(8)), stop]


def drive(clock: float, baud: float, bits: list[int], stretch: float) -> bytes:
    """Drive a receiver's pin with bits of a length that is off by `stretch`, at times that know no clock."""
    dut = UartReceiver(clock=clock, baud=baud)
    bit = stretch / baud
    taken = bytearray()

    async def line(ctx):
        now, edge = 0, 3.3 / clock
        for level in bits:
            await ctx.delay(edge - now)
            ctx.set(dut.pin, level)
            now, edge = edge, edge + bit
        await ctx.delay(12 / baud)

    async def take(ctx):
        ctx.set(dut.o.ready, 1)
        async for _, _, valid, payload in ctx.tick().sample(dut.o.valid, dut.o.payload):
            if valid:
                taken.append(payload)

    simulator = Simulator(dut)
    simulator.add_clock(1 / clock)
    simulator.add_testbench(line)
    simulator.add_process(take)
    simulator.run()
    return bytes(taken)


@pytest.mark.parametrize(("clock", "baud"), RATIOS)
@pytest.mark.parametrize("stretch", [0.98, 1.0, 1.02])
def test_receiver_takes_bits_two_percent_off(clock, baud, stretch):
    sent = bytes([0x55, 0x00, 0xFF, 0xA7, 0x01, 0x80])
    bits = [bit for byte in sent for bit in levels(byte)]
    assert drive(clock, baud, [1, 1, *bits, 1], stretch) == sent


def test_receiver_drops_a_byte_without_stop_bit():
    bits = [1, *levels(0x21), *levels(0x00, stop=0), *[1] * 11, *levels(0x43), 1]
    assert drive(CLOCK, 3e6, bits, 1.0) == b"\x21\x43"


def test_receiver_ignores_a_short_spike():
    dut = UartReceiver(clock=CLOCK, baud=1e6)

    async def line(ctx):
        await ctx.tick().repeat(10)
        ctx.set(dut.pin, 0)
        await ctx.tick().repeat(20)
        ctx.set(dut.pin, 1)
        for level in [1, *levels(0x6B), 1]:
            ctx.set(dut.pin, level)
            await ctx.tick().repeat(48)
        assert ctx.get(dut.o.valid)
        assert ctx.get(dut.o.payload) == 0x6B

    simulator = Simulator(dut)
    simulator.add_clock(1 / CLOCK)
    simulator.add_testbench(line)
    simulator.run()


def test_receiver_keeps_the_byte_that_waits():
    dut = UartReceiver(clock=CLOCK, baud=4e6)

    async def line(ctx):
        for byte in (0x12, 0x34):
            for level in levels(byte):
                ctx.set(dut.pin, level)
                await ctx.tick().repeat(12)
        await ctx.tick().repeat(5)
        assert ctx.get(dut.o.valid)
        assert ctx.get(dut.o.payload) == 0x12

    simulator = Simulator(dut)
    simulator.add_clock(1 / CLOCK)
    simulator.add_testbench(line)
    simulator.run()


@pytest.mark.parametrize(("clock", "baud"), RATIOS[:4])
def test_transmitter_timing_and_bits(clock, baud):
    dut = UartTransmitter(clock=clock, baud=baud)
    sent, bit, seen = bytes([0x00, 0xFF, 0x55, 0x9C]), clock / baud, []

    async def feed(ctx):
        await put_bytes(ctx, dut.i, sent, None)

    async def watch(ctx):
        for _ in range(round(len(sent) * 10 * bit) + 20):
            _, _, pin = await ctx.tick().sample(dut.pin)
            seen.append(pin)

    simulator = Simulator(dut)
    simulator.add_clock(1 / clock)
    simulator.add_testbench(watch)
    simulator.add_testbench(feed, background=True)
    simulator.run()

    start = 0
    for byte in sent:
        begin = seen.index(0, start)
        assert begin <= start + bit / 2 + 3, "bytes follow each other without a pause"
        assert [seen[round(begin + (k + 0.5) * bit)] for k in range(10)] == levels(byte)
        start = round(begin + 9.5 * bit)


@pytest.mark.parametrize(("clock", "baud"), [(10e6, 3e6), (48e6, 0), (48e6, -1)])
def test_rates_that_cannot_work_are_refused(clock, baud):
    for kind in (UartReceiver, UartTransmitter):
        with pytest.raises(ValueError, match=r"clock .* must be at least 6 times baud"):
            kind(clock=clock, baud=baud)
