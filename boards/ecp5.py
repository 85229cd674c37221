"""What an ECP5 has of its own: phase-locked loop, clock gate, multiplier, block RAM. Each is wrapped here, once.

Limits of the loop are those of the family's data sheet (FPGA-DS-02012, "sysCLOCK PLL Timing", speed grade 6).

Multiplier and block RAM stand in for `rtl/primitives.py` on a platform that has `Ecp5Cells` among its bases. Their
registers are the cell's own, which synthesis never infers: a block RAM takes 5.8 ns from the clock to its output
without its output register and 1 ns with it; a multiplier takes 3.9 ns without registers, 0.7 ns with them.
"""

import dataclasses
from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from boards.carry import CARRY_FACTOR_BITS, carry_multiplier
from rtl.primitives import BlockMemory, Multiplier

__all__ = ["ClockGate", "Ecp5Cells", "Pll", "PllDividers"]

INPUT_HZ = (8e6, 400e6)
OUTPUT_HZ = (3.125e6, 400e6)
VCO_HZ = (400e6, 800e6)
PHASE_DETECTOR_HZ = (3.125e6, 400e6)
DIVIDER_MAX = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class PllDividers:
    """Dividers of a loop whose feedback is its output: output = input * feedback / reference.

    The oscillator runs at output * post; a second output is `pump` times as fast as the first.
    """

    input_hz: float
    reference: int
    feedback: int
    post: int
    pump: int = 1

    @property
    def output_hz(self) -> float:
        """The frequency that comes out."""
        return self.input_hz * self.feedback / self.reference

    @property
    def vco_hz(self) -> float:
        """The frequency of the oscillator."""
        return self.output_hz * self.post

    @property
    def fast_post(self) -> int:
        """Divider of the second output."""
        return self.post // self.pump

    @property
    def half_fast(self) -> tuple[int, int]:
        """Half a clock of the second output, in clocks of the oscillator and eighths of one."""
        return self.fast_post // 2, 4 * (self.fast_post % 2)

    @classmethod
    def solve(cls, *, input_hz: float, output_hz: float, pump: int = 1, tolerance: float = 1e-3) -> "PllDividers":
        """Return the dividers that come nearest to a frequency; among equals those with the fastest phase detector.

        Raises
        ------
        ValueError
            If a frequency is outside the device's limits, or nothing comes within `tolerance` (a ratio).
        """
        _check("input_hz", input_hz, INPUT_HZ)
        _check("output_hz", output_hz, OUTPUT_HZ)
        _check("pump * output_hz", pump * output_hz, OUTPUT_HZ)
        best: PllDividers | None = None
        for reference in range(1, DIVIDER_MAX + 1):
            if not PHASE_DETECTOR_HZ[0] <= input_hz / reference <= PHASE_DETECTOR_HZ[1]:
                continue
            feedback = round(output_hz * reference / input_hz)
            if not 1 <= feedback <= DIVIDER_MAX:
                continue
            actual = input_hz * feedback / reference
            posts = [post for post in range(pump, DIVIDER_MAX + 1, pump) if VCO_HZ[0] <= actual * post <= VCO_HZ[1]]
            if not posts:
                continue
            middle = sum(VCO_HZ) / 2
            post = min(posts, key=lambda post: abs(actual * post - middle))
            found = cls(input_hz=input_hz, reference=reference, feedback=feedback, post=post, pump=pump)
            if best is None or abs(found.output_hz - output_hz) < abs(best.output_hz - output_hz):
                best = found
        if best is None or abs(best.output_hz - output_hz) > tolerance * output_hz:
            raise ValueError(f"no divider makes output_hz {output_hz:g} of input_hz {input_hz:g}")
        return best


def _check(name: str, value: float, limits: tuple[float, float]) -> None:
    if not limits[0] <= value <= limits[1]:
        raise ValueError(f"{name} must be {limits[0]:g} to {limits[1]:g}, not {value:g}")


class Pll(wiring.Component):
    """One EHXPLLL: multiplies a clock, by two numbers if there is a `pump`.

    Parameters
    ----------
    input_hz, output_hz : float
    pump : int
        See `PllDividers.solve`; what it found is the attribute `dividers`.

    Members
    -------
    clk_in : In(1)
    clk_out : Out(1)
    clk_fast : Out(1)
        With pump > 1: `pump` times as fast, half of its own clock behind, so that no two edges meet.
    locked : Out(1)
        Asynchronous: low until the output is stable.
    """

    def __init__(self, *, input_hz: float, output_hz: float, pump: int = 1):
        self.dividers = PllDividers.solve(input_hz=input_hz, output_hz=output_hz, pump=pump)
        super().__init__({"clk_in": In(1), "clk_out": Out(1), "clk_fast": Out(1), "locked": Out(1)})

    def elaborate(self, platform):
        m = Module()

        dividers = self.dividers
        fast: dict[str, Any] = {}
        if dividers.pump > 1:
            coarse, fine = dividers.half_fast
            fast = {
                "a_FREQUENCY_PIN_CLKOS": f"{dividers.pump * dividers.output_hz / 1e6:g}",
                "p_CLKOS_DIV": dividers.fast_post, "p_CLKOS_ENABLE": "ENABLED", "p_OUTDIVIDER_MUXB": "DIVB",
                "p_CLKOS_CPHASE": dividers.fast_post - 1 + coarse, "p_CLKOS_FPHASE": fine,
                "o_CLKOS": self.clk_fast,
            }
        m.submodules.pll = Instance(
            "EHXPLLL",
            # Analog settings of the loop filter that fit all dividers used here.
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            a_FREQUENCY_PIN_CLKI=f"{dividers.input_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOP=f"{dividers.output_hz / 1e6:g}",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED", p_DPHASE_SOURCE="DISABLED",
            p_CLKI_DIV=dividers.reference,
            p_CLKFB_DIV=dividers.feedback,
            p_CLKOP_DIV=dividers.post, p_CLKOP_ENABLE="ENABLED", p_OUTDIVIDER_MUXA="DIVA",
            p_CLKOP_CPHASE=dividers.post - 1, p_CLKOP_FPHASE=0,
            p_FEEDBK_PATH="CLKOP",
            i_RST=0, i_STDBY=0, i_CLKI=self.clk_in, i_CLKFB=self.clk_out,
            i_PHASESEL0=0, i_PHASESEL1=0, i_PHASEDIR=1, i_PHASESTEP=1, i_PHASELOADREG=1, i_PLLWAKESYNC=0, i_ENCLKOP=0,
            o_CLKOP=self.clk_out, o_LOCK=self.locked, **fast,
        )

        return m


class ClockGate(wiring.Component):
    """One DCCA: a clock on the global network that runs, without a glitch, only while it is enabled.

    Members
    -------
    clk_in, enable : In(1)
        `enable` changes with `clk_in`.
    clk_out : Out(1)
    """

    def __init__(self):
        super().__init__({"clk_in": In(1), "enable": In(1), "clk_out": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.cell = Instance("DCCA", i_CLKI=self.clk_in, i_CE=self.enable, o_CLKO=self.clk_out)
        return m


# --- cells in place of rtl/primitives.py ----------------------------------------------------------------------------

_MULTIPLIER_BITS = 18
_BYTE_BITS = 9
_PORTS_BYTES = 4
_WORDS = {1: 2048, 2: 1024, 4: 512}
"""Words of a block RAM by the bytes of 9 bits that they have."""


class Ecp5Cells:
    """The parts of `rtl/primitives.py` as cells of the family: a base for platforms."""

    def get_multiplier(self, part: Multiplier) -> Module | None:
        """Return one MULT18X18D with all its registers, or carry cells, or None if a factor is too wide for them.

        The factors stand at the upper end of their ports, zeros below: a constant costs nothing, while copies of the
        sign would have to be routed.
        """
        if part.soft:
            return carry_multiplier(part) if len(part.b) == CARRY_FACTOR_BITS else None
        spare = [_MULTIPLIER_BITS - len(factor) for factor in (part.a, part.b)]
        if min(spare) < 0:
            return None
        m = Module()
        product = Signal(2 * _MULTIPLIER_BITS)
        registers = {f"p_REG_{rank}_{control}": f"{control}0" for rank in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")
                     for control in ("CLK", "CE", "RST")}
        m.submodules.cell = Instance(
            "MULT18X18D", **registers, p_SOURCEB_MODE="B_SHIFT", p_RESETMODE="SYNC", p_GSR="DISABLED",
            i_CLK0=ClockSignal(), i_CE0=Const(1), i_RST0=Const(0),
            i_SIGNEDA=Const(1), i_SIGNEDB=Const(1), i_SOURCEA=Const(0), i_SOURCEB=Const(0),
            **_bits("i_A", Cat(Const(0, spare[0]), part.a), _MULTIPLIER_BITS),
            **_bits("i_B", Cat(Const(0, spare[1]), part.b), _MULTIPLIER_BITS),
            **_bits("i_C", Const(0), _MULTIPLIER_BITS), **_bits("o_P", product, 2 * _MULTIPLIER_BITS),
        )
        m.d.comb += part.p.eq(product[sum(spare):])
        return m

    def get_block_memory(self, part: BlockMemory) -> Module | None:
        """Return DP16KDs with their output registers, or None for parts or depths that one cell has not.

        Port A writes and port B reads. Parts of up to 9 bits share a cell, each with its own byte enable: four of 512
        words, two of 1,024, or one of 2,048. With four, each port has the pins of both.
        """
        parts, bits = part.shape.length, len(part.w_part)
        together = min(4, 1 << ceil_log2(parts))
        while together > 1 and part.depth > _WORDS[together]:
            together //= 2
        if bits > _BYTE_BITS or part.depth > _WORDS[together]:
            return None
        m = Module()
        byte = Cat(part.w_part, Const(0, _BYTE_BITS - bits))
        for first in range(0, parts, together):
            mask = part.w_mask[first:first + together]
            # Below a word's number an address has its byte enables, if it has several bytes.
            enables = Cat(mask, Const(0, (5 if together == 4 else 4) - len(mask))) if together > 1 else Const(0, 3)
            word = Signal(_PORTS_BYTES * _BYTE_BITS, name=f"word_{first}")
            m.submodules[f"cell_{first}"] = _block_ram(
                width=_BYTE_BITS * together, write=mask.any(), w_address=Cat(enables, part.w_address),
                data=byte.replicate(together), address=Cat(Const(0, len(enables)), part.address), word=word)
            for k in range(first, min(first + together, parts)):
                m.d.comb += Value.cast(part.word)[bits * k:bits * (k + 1)].eq(word[_BYTE_BITS * (k - first):])
        return m


def _block_ram(*, width: int, write: Value, w_address: Value, data: Value, address: Value, word: Value) -> Instance:
    """Return a cell whose port A writes `data` and whose port B reads `word`, which go on at the other's pins."""
    whole = width > 2 * _BYTE_BITS
    low, high = word[:2 * _BYTE_BITS], word[2 * _BYTE_BITS:]
    outputs = {**_bits("o_DOA", low, 18), **_bits("o_DOB", high, 18)} if whole else _bits("o_DOB", low, 18)
    # What a word of two ports is written and read with is not said of either.
    modes = {} if whole else {"p_WRITEMODE_A": "READBEFOREWRITE", "p_WRITEMODE_B": "READBEFOREWRITE"}
    return Instance(
        "DP16KD", p_DATA_WIDTH_A=width, p_DATA_WIDTH_B=width, p_REGMODE_A="OUTREG" if whole else "NOREG",
        p_REGMODE_B="OUTREG", p_RESETMODE="SYNC", p_ASYNC_RESET_RELEASE="SYNC", p_CSDECODE_A="0b000",
        p_CSDECODE_B="0b000", **modes, p_GSR="DISABLED",
        i_CLKA=ClockSignal(), i_CEA=Const(1), i_OCEA=Const(1), i_WEA=write, i_RSTA=Const(0),
        i_CLKB=ClockSignal(), i_CEB=Const(1), i_OCEB=Const(1), i_WEB=Const(0), i_RSTB=Const(0),
        **_bits("i_CSA", Const(0), 3), **_bits("i_ADA", w_address, 14), **_bits("i_DIA", data[:18], 18),
        **_bits("i_CSB", Const(0), 3), **_bits("i_ADB", address, 14), **_bits("i_DIB", data[18:], 18),
        **outputs,
    )


def _bits(name: str, value: Value, count: int) -> dict[str, Value]:
    """Return a port for each bit, zero past the value's end: the family's cells have no buses."""
    return {f"{name}{k}": value[k] if k < len(value) else Const(0) for k in range(count)}
