"""The SDRAM beside a chip: its pads on a board, and a twin of it where there is none.

The part's clock is that of the chip, inverted in the output register of its own pad: all other pins change half a clock
before the edge that takes them, by the same kind of cell, so that set-up and hold times both have half a clock at any
frequency, and words read are taken in the middle of theirs. A shifted output of the loop would need one more clock tree
and a phase for each frequency; it would pay above some 80 MHz, where half a clock is less than the part's access time.
"""

from typing import Any

from amaranth.hdl import Array, Cat, ClockSignal, Instance, Module, Signal, unsigned
from amaranth.lib import io, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.params import Geometry
from rtl.pipeline import delay, register
from rtl.sdram import WORD_BITS, Sdram, SdramPart, SdramPins, attach

__all__ = ["ChipWithMemory", "SdramTwin", "simulated_chip", "with_pads"]

_DIRTY_WORDS = 4096
_CLOCK_HZ = 50e6
_TWIN_PART = SdramPart(t_power_up=1000)
"""A twin has no power to wait for."""


def with_pads(m: Module, sdram: Sdram, port: Any) -> None:
    """Add the pads of a controller; `port` returns the port of a part of the board's resource, as amaranth_boards names
    it."""
    pins = sdram.pins
    for name, value in {"ras": pins.ras, "cas": pins.cas, "we": pins.we, "ba": pins.bank, "a": pins.address,
                        "dqm": pins.mask, "clk_en": 1, "cs": 1}.items():
        m.submodules[f"sdram_{name}"] = pad = io.FFBuffer("o", port(name))
        m.d.comb += pad.o.eq(value)
    m.submodules.sdram_dq = dq = io.FFBuffer("io", port("dq"))
    m.submodules.sdram_clk = clock = io.DDRBuffer("o", port("clk"))
    m.d.comb += [dq.o.eq(pins.o), dq.oe.eq(pins.oe), pins.i.eq(dq.i), clock.o[0].eq(0), clock.o[1].eq(1)]


class _Words(wiring.Component):
    """The words of a twin, a power of two: block RAM where a platform has it, else the Verilog beside this file, as
    Amaranth would write out each word of 32 MB.

    Members
    -------
    read, word : a word is there a clock after its place
    write, data, enable : a word is written, in each half that is enabled
    """

    def __init__(self, address_bits: int):
        self._address_bits = address_bits
        super().__init__({"read": In(address_bits), "word": Out(WORD_BITS), "write": In(address_bits),
                          "data": In(WORD_BITS), "enable": In(2)})

    def elaborate(self, platform):
        if platform is None:
            return Instance("sdram_words", p_ADDRESS_BITS=self._address_bits, i_clk=ClockSignal(), i_read=self.read,
                            o_word=self.word, i_write=self.write, i_data=self.data, i_enable=self.enable)
        m = Module()
        depth = 1 << self._address_bits
        m.submodules.words = words = memory.Memory(
            shape=unsigned(WORD_BITS), depth=depth, init=[0x5EED] * min(depth, _DIRTY_WORDS))
        read, write = words.read_port(), words.write_port(granularity=WORD_BITS // 2)
        m.d.comb += [
            read.addr.eq(self.read), read.en.eq(1), self.word.eq(read.data), write.addr.eq(self.write),
            write.data.eq(self.data), write.en.eq(self.enable),
        ]
        return m


class SdramTwin(wiring.Component):
    """A part with its pads, clock for clock, for a controller that keeps to its limits: it checks none.

    Words with addresses of `address_bits` exist; the first ones are not zero at power up.
    """

    def __init__(self, *, part: SdramPart, address_bits: int):
        self.part = part
        self.address_bits = address_bits
        super().__init__({"pins": In(SdramPins(part))})

    def elaborate(self, platform):
        m = Module()
        part, pins = self.part, self.pins
        ras, cas, we, oe = (register(m, getattr(pins, name), name, reset_less=False)
                            for name in ("ras", "cas", "we", "oe"))
        bank, address, mask, word = (register(m, getattr(pins, name), name)
                                     for name in ("bank", "address", "mask", "o"))

        rows = Array(Signal(part.row_bits, name=f"row_{k}") for k in range(1 << part.bank_bits))
        with m.If(ras & ~cas & ~we):
            m.d.sync += rows[bank].eq(address)
        m.submodules.words = words = _Words(self.address_bits)
        place = Cat(address[:part.column_bits], bank, rows[bank])
        m.d.comb += [
            words.read.eq(place), words.write.eq(place), words.data.eq(word),
            words.enable.eq(~mask & (~ras & cas & we & oe).replicate(2)),
            pins.i.eq(delay(m, words.word, part.cas - 1, "word")),
        ]
        return m


class ChipWithMemory(wiring.Component):
    """A chip with states or batch in SDRAM, its controller and a twin of the part; streams `rx` and `tx` as of a chip
    alone."""

    def __init__(self, chip: Any):
        self.chip = chip
        self.geometry: Geometry = chip.geometry
        super().__init__({"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.chip = chip = self.chip
        m.submodules.sdram = sdram = Sdram(part=_TWIN_PART, clock_hz=_CLOCK_HZ, words=self.geometry.memory_burst)
        m.submodules.twin = twin = SdramTwin(part=_TWIN_PART, address_bits=self.geometry.memory_address_bits)
        attach(m, chip.sdram, sdram)
        connect(m, sdram.pins, twin.pins)
        connect(m, flipped(self.rx), chip.rx)
        connect(m, chip.tx, flipped(self.tx))
        return m


def simulated_chip(geometry: Geometry) -> Any:
    """Return a chip with nothing but `rx` and `tx`: with a twin of its SDRAM, if it keeps anything there."""
    from rtl.chip import Chip

    chip = Chip(geometry=geometry)
    return ChipWithMemory(chip) if geometry.memory_address_bits else chip
