"""What an ECP5 has of its own: the phase-locked loop. Each primitive is wrapped here, once.

Limits are those of the family's data sheet (FPGA-DS-02012, "sysCLOCK PLL Timing", speed grade 6).
"""

import dataclasses

from amaranth.hdl import Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Pll", "PllDividers"]

INPUT_HZ = (8e6, 400e6)
OUTPUT_HZ = (3.125e6, 400e6)
VCO_HZ = (400e6, 800e6)
PHASE_DETECTOR_HZ = (3.125e6, 400e6)
DIVIDER_MAX = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class PllDividers:
    """Dividers of a loop whose feedback is its output: output = input * feedback / reference.

    The oscillator runs at output * post.
    """

    input_hz: float
    reference: int
    feedback: int
    post: int

    @property
    def output_hz(self) -> float:
        """The frequency that comes out."""
        return self.input_hz * self.feedback / self.reference

    @property
    def vco_hz(self) -> float:
        """The frequency of the oscillator."""
        return self.output_hz * self.post

    @classmethod
    def solve(cls, *, input_hz: float, output_hz: float, tolerance: float = 1e-3) -> "PllDividers":
        """Return the dividers that come nearest to a frequency; among equals those with the fastest phase detector.

        Raises
        ------
        ValueError
            If a frequency is outside the device's limits, or nothing comes within `tolerance` (a ratio).
        """
        _check("input_hz", input_hz, INPUT_HZ)
        _check("output_hz", output_hz, OUTPUT_HZ)
        best: PllDividers | None = None
        for reference in range(1, DIVIDER_MAX + 1):
            if not PHASE_DETECTOR_HZ[0] <= input_hz / reference <= PHASE_DETECTOR_HZ[1]:
                continue
            feedback = round(output_hz * reference / input_hz)
            if not 1 <= feedback <= DIVIDER_MAX:
                continue
            actual = input_hz * feedback / reference
            posts = [post for post in range(1, DIVIDER_MAX + 1) if VCO_HZ[0] <= actual * post <= VCO_HZ[1]]
            if not posts:
                continue
            middle = sum(VCO_HZ) / 2
            post = min(posts, key=lambda post: abs(actual * post - middle))
            found = cls(input_hz=input_hz, reference=reference, feedback=feedback, post=post)
            if best is None or abs(found.output_hz - output_hz) < abs(best.output_hz - output_hz):
                best = found
        if best is None or abs(best.output_hz - output_hz) > tolerance * output_hz:
            raise ValueError(f"no divider makes output_hz {output_hz:g} of input_hz {input_hz:g}")
        return best


def _check(name: str, value: float, limits: tuple[float, float]) -> None:
    if not limits[0] <= value <= limits[1]:
        raise ValueError(f"{name} must be {limits[0]:g} to {limits[1]:g}, not {value:g}")


class Pll(wiring.Component):
    """One EHXPLLL: multiplies a clock.

    Parameters
    ----------
    input_hz, output_hz : float
        See `PllDividers.solve`; what it found is the attribute `dividers`.

    Members
    -------
    clk_in : In(1)
    clk_out : Out(1)
    locked : Out(1)
        Asynchronous: low until the output is stable.
    """

    def __init__(self, *, input_hz: float, output_hz: float):
        self.dividers = PllDividers.solve(input_hz=input_hz, output_hz=output_hz)
        super().__init__({"clk_in": In(1), "clk_out": Out(1), "locked": Out(1)})

    def elaborate(self, platform):
        m = Module()

        dividers = self.dividers
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
            o_CLKOP=self.clk_out, o_LOCK=self.locked,
        )

        return m
