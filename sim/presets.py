"""Technologies of the literature: every number with its source and how far to trust it (marks: `sim/law.py`).

Where a source tells a law in conductance, it is rewritten here in g, the place between Gmin and Gmax.
"""

import math
from typing import Any

import numpy as np

from sim.law import Ageing, Law, Number
from sim.technology import Technology

__all__ = ["IDEAL", "PCM", "TECHNOLOGIES", "technology"]

_AIHWKIT = "IBM/aihwkit@4545f11"
_PCM = f"{_AIHWKIT}, PCMLikeNoiseModel (Nandakumar 2019, Joshi 2020)"
_HERMES = f"{_AIHWKIT}, HermesNoiseModel (HERMES project chip, Le Gallo 2023)"
_WAN = f"{_AIHWKIT}, ReRamWan2022NoiseModel (NeuRRAM, Wan 2022)"
_CMO = f"{_AIHWKIT}, ReRamCMONoiseModel (CMO/HfOx, Falcone 2025, arXiv 2502.04524)"
_DEVICES = f"{_AIHWKIT}, presets/devices.py"
_MILO = "sandialabs/cross-sim@0a2eb1e, RRAMMilo (HfO2, IGVVA-100; Milo, IRPS 2021)"
_SONOS = "sandialabs/cross-sim@0a2eb1e, SONOS (40 nm, 128K devices; Agrawal, IEDM 2022)"
_NEUROSIM = "neurosim/DNN_NeuroSim_V1.4@ac828e6, STT-MRAM default"
_DAY = 86_400.0


def _assumed(value: float, unit: str = "1", text: str = "assumed") -> Number:
    return Number(value, unit, "X", text)


def _c(value: float, unit: str, source: str) -> Number:
    return Number(value, unit, "C", source)


def _in_g(form: str, source: str, *powers: float, gmin: float = 0.0, span: float = 1.0, unit: str = "uS") -> Law:
    """Return the law sum of powers[k] * G**k as one in g, where G = gmin + span * g."""
    shifted = np.polynomial.Polynomial(powers)(np.polynomial.Polynomial([gmin, span]))
    return Law(form, tuple(float(c) for c in shifted.coef), unit, "C", source)


def _law(form: str, source: str, *coefficients: float, unit: str = "1") -> Law:
    return Law(form, coefficients, unit, "C", source)


_ITERATIONS = Number(30, "reads", "N", "HERMES project chip, at most 30 iterations (Le Gallo 2023)")
_LOOP: dict[str, Any] = {"pulse_share": _assumed(0.5), "averages": _assumed(4, "reads"), "iterations": _ITERATIONS,
         "step": _assumed(0.5)}
_GRADUAL: dict[str, Any] = {
    "averages": _LOOP["averages"], "iterations": _ITERATIONS,
    "step": _assumed(0.25, text="assumed; of the largest step, so that steeper devices do not overshoot"),
    "train_move": _assumed(1 / 200), "least_move": _assumed(0.5, text="assumed; of the window"),
    "sweep_reads": _assumed(9, "reads", "assumed: a device of a quarter of the nominal size is there in thirty")}
_PCM_READ = _law("power", f"{_AIHWKIT}, WeightNoiseType.PCM_READ, w_noise", 0.0175, 0.5)

PCM = Technology(
    name="pcm", title="phase-change memory, the inference model of aihwkit", pulse="melt",
    gmax=_c(25.0, "uS", _PCM), t0=_c(20.0, "s", _PCM), t_read=_c(250e-9, "s", _PCM),
    programmed=_law("polynomial", _PCM, 0.26348, 1.9650, -1.1731, unit="uS"),
    drift_mean=_law("clipped-log", _PCM, 0.0244, -0.0155, 0.049, 0.1),
    drift_spread=_law("clipped-log", _PCM, -0.0059, -0.0125, 0.008, 0.045),
    flicker=_law("inverse-power", _PCM, 0.0088, 0.65, 0.2, 1e-3), read_noise=_PCM_READ,
    window=_assumed(0.6, "uS", "assumed: 2.4 % of Gmax; HERMES project chip: 5 ADC counts [N]"),
    endurance=Number(1e7, "pulses", "M", "1e6 to 1e9, from memory"),
    activation_energy=Number(0.2, "eV", "M", "0.1 to 0.3 eV for the amorphous part, from memory"), **_LOOP)


def _hermes(name: str, devices: int, gmax: float, t0: float, programmed: tuple[float, ...],
            spread: tuple[float, ...], flicker: tuple[float, ...]) -> Technology:
    return Technology(
        name=name, title=f"phase-change memory of the 64-core HERMES chip, {devices} a polarity", pulse="melt",
        gmax=_c(gmax, "uS", _HERMES), t0=_c(t0, "s", _HERMES), t_read=_c(512e-9, "s", _HERMES),
        programmed=_law("polynomial", _HERMES, *programmed, unit="uS"),
        drift_mean=_law("branches", _HERMES, 0.0945, -0.0182, -0.0387, 0.072, 0.13, 0.0736, -0.0126, -0.0436),
        drift_spread=_law("branches", _HERMES, *spread), flicker=_law("branches", _HERMES, *flicker),
        read_noise=_PCM_READ, converter_gain_spread=Number(
            0.07, "1", "D", "HERMES core: static spread within +-21 %, taken as three standard deviations [N]"),
        window=_assumed(0.024 * gmax, "uS", "assumed: 2.4 % of Gmax"), **_LOOP)


HERMES_1 = _hermes(
    "pcm-hermes-1", 1, 10.35, 200.0, (0.15781817, 2.32443916, -2.16310839, 0.68841818),
    (0.3039, -0.0023, -0.0120, 0.0124, 0.04, 0.0104, 0.0116, -0.0165),
    (0.1591, 0.0038, -0.0078, 0.0179, 0.04, 0.0088, 0.0768, -0.1352, 0.0664))
HERMES_2 = _hermes(
    "pcm-hermes-2", 2, 20.7, 300.0, (0.16603222, 4.71806468, -8.48101252, 4.68961419),
    (0.3055, -0.0057, -0.0117, 0.0091, 0.04, 0.0073, 0.0093, -0.0118),
    (0.16, -0.0069, -0.0117, 0.015, 0.04, 0.0123, 0.0211, -0.0280, 0.0069))

PCM_SET = Technology(
    name="pcm-set", title="phase-change memory in gradual SET, as it is trained", pulse="one-way",
    gmax=_c(25.0, "uS", _PCM),
    # dw = 0.01 (1 + 27.235 exp(-2.5 w)) with w = 2 g
    step_up=_law("exponential", f"{_DEVICES}, PCMPresetDevice", 0.005, 0.005 * 27.235, -5.0),
    cycle_spread=_c(0.6, "1", f"{_DEVICES}, PCMPresetDevice"),
    device_spread=_c(0.2, "1", f"{_DEVICES}, PCMPresetDevice"),
    refresh_share=_assumed(0.25, "1", "assumed: where aihwkit refreshes one-sided pairs (PCMPresetUnitCell)"),
    window=_assumed(0.6, "uS"), **_GRADUAL)


def _wan(*powers: float) -> Law:
    return _law("polynomial", _WAN, *powers, unit="uS")


_WAN_FRESH = _wan(0.348, 16.030, -43.853, 45.393, -16.815)
RRAM_WAN = Technology(
    name="rram-wan2022", title="RRAM of the NeuRRAM chip", pulse="bipolar", gmax=_c(40.0, "uS", _WAN),
    programmed=_WAN_FRESH,
    spread=Ageing("refused", (1.0, _DAY, 2 * _DAY), (
        _WAN_FRESH, _wan(0.701, 22.086, -50.773, 47.095, -16.458), _wan(0.782, 20.274, -43.507, 37.062, -11.934))),
    read_noise=_law("polynomial", f"{_WAN}: additive constant", 0.01),
    endurance=Number(1e6, "pulses", "N", "1e6 to 1e9"))

RRAM_MILO = Technology(
    name="rram-milo", title="HfO2 RRAM, multilevel, programmed by IGVVA-100", pulse="bipolar",
    gmax=_c(225.0, "uS", _MILO), gmin=_c(50.0, "uS", _MILO),
    headroom=Number(0.1, "1", "D", "four times the spread at Gmin; the source does not clamp"),
    programmed=_in_g("polynomial", _MILO, 4.782321, -0.009107, gmin=50.0, span=175.0))

_CMO_MIN, _CMO_SPAN = 9.0, 79.2
RRAM_CMO = Technology(
    name="rram-cmo", title="CMO/HfOx RRAM, 0.2 % acceptance", pulse="bipolar",
    gmax=_c(88.2, "uS", _CMO), gmin=_c(9.0, "uS", _CMO),
    headroom=Number(_CMO_MIN / _CMO_SPAN, "1", "D", "a whole Gmin; the source clamps at Gmin"),
    t_read=_c(1e-6, "s", _CMO),
    programmed=_in_g("polynomial", _CMO, 0.00081107, 0.00106879, gmin=_CMO_MIN, span=_CMO_SPAN),
    spread=Ageing("logarithm", (1.0,), (_law("polynomial", _CMO, 0.41183342, unit="uS"),
                                        _law("polynomial", _CMO, 0.04201137, unit="uS"))),
    shift=Ageing("logarithm", (1.0,), (
        _in_g("polynomial", _CMO, 0.0, 49.92383444 / 50 - 1, gmin=_CMO_MIN, span=_CMO_SPAN),
        _law("polynomial", _CMO, -0.08900206, unit="uS"))),
    # 0.02773 log10(G)
    flicker=_law("logarithm", _CMO, 0.02773 * math.log10(_CMO_SPAN), 0.02773 / math.log(10), _CMO_MIN / _CMO_SPAN,
                 unit="uS"),
    read_noise=_law("polynomial", f"{_CMO}: additive constant", 0.01))


def _array(name: str, title: str, source: str, gmax: Number, *, dw: float, up: tuple[float, ...],
           down: tuple[float, ...], bounds: tuple[float, float] = (-1.0, 1.0), device: float, cycle: float,
           bound_spread: float, asymmetry: float = 0.0, asymmetry_spread: float = 0.01, write_noise: float = 0.0,
           form: str = "polynomial", additive: bool = False, **more: Any) -> Technology:
    """Return a bipolar technology of a training preset; w in `bounds` becomes g, and so do steps and spreads.

    `up` and `down` are the coefficients, in g, of the step in units of dw; the spread from cycle to cycle is in units
    of the step, or of dw if it is `additive`.
    """
    span = bounds[1] - bounds[0]

    def step(coefficients: tuple[float, ...]) -> Law:
        scale = (1.0,) * len(coefficients) if form == "polynomial" else (1.0, 1.0, span / dw)
        return _law(form, source, *(c * s * dw / span for c, s in zip(coefficients, scale, strict=True)))

    cycles = _c(cycle * dw / span, "g", source) if additive else _c(cycle, "1", source)
    return Technology(
        name=name, title=title, pulse="bipolar", gmax=gmax, step_up=step(up), step_down=step(down),
        cycle_spread=cycles, device_spread=_c(device, "1", source),
        range_spread=_c(bound_spread, "1", source), asymmetry=_c(asymmetry, "1", source),
        asymmetry_spread=_c(asymmetry_spread, "1", source), write_noise=_c(write_noise * dw / span, "1", source),
        window=Number(0.024 * gmax.one, gmax.unit, "X", "assumed: 2.4 % of Gmax"),
        **_GRADUAL, **more)


def _soft(bounds: tuple[float, float] = (-1.0, 1.0), gamma: tuple[float, float] = (1.0, 1.0)) -> dict[str, Any]:
    """Return steps, in units of dw, that shrink towards the bounds: 1 - gamma w / bound."""
    low, high = bounds
    span = high - low
    return {"bounds": bounds, "up": (1 - gamma[0] * low / high, -gamma[0] * span / high),
            "down": (1 - gamma[1], -gamma[1] * span / low)}


_GONG_22 = f"{_DEVICES}, ReRamArrayOMPresetDevice (Gong, IEDM 2022)"
_GONG_22_HFO2 = f"{_DEVICES}, ReRamArrayHfO2PresetDevice (Gong, IEDM 2022)"
_GONG_18 = f"{_DEVICES}, ReRamSBPresetDevice (Gong, Nat. Commun. 2018)"
_GONG_18_ES = f"{_DEVICES}, ReRamESPresetDevice (Gong, Nat. Commun. 2018)"
_TANG = f"{_DEVICES}, EcRamPresetDevice (Tang, IEDM 2018)"
_KIM = f"{_DEVICES}, EcRamMOPresetDevice (Kim, IEDM 2019)"
_ONE = _assumed(25.0, "uS", "assumed: the source knows weights only")

RRAM_OM = _array(
    "rram-om", "OM-RRAM array, soft bounds", _GONG_22, _ONE, dw=0.0949, **_soft(), device=0.783, cycle=0.416,
    additive=True, bound_spread=0.35, write_noise=1.411,
    stuck_rate=_c(0.135, "1", _GONG_22), stuck_value=_assumed(0.5, "1", "assumed: anywhere, on average the middle"))
RRAM_HFO2 = _array(
    "rram-hfo2", "HfO2 RRAM array, soft bounds", _GONG_22_HFO2, _ONE, dw=0.4622, **_soft(), device=0.713, cycle=0.217,
    additive=True, bound_spread=0.43, write_noise=0.584,
    stuck_rate=_c(0.098, "1", _GONG_22_HFO2),
    stuck_value=_assumed(0.5, "1", "assumed: anywhere, on average the middle"))
RRAM_SB = _array(
    "rram-sb", "RRAM, soft bounds", _GONG_18, _ONE, dw=0.002, **_soft((-0.75, 1.25)), device=0.3, cycle=3.75,
    additive=True, bound_spread=0.24, write_noise=56.0)
RRAM_ES = _array(
    "rram-es", "RRAM, exponential steps", _GONG_18_ES, _ONE, dw=0.00135, form="exponential",
    # 1 - A exp(+-5 z) with z = -0.5 w - 0.5 = -g
    up=(1.0, 1.18445, -5.0), down=(1.0, 0.081404, 5.0), device=0.2, cycle=5.0, bound_spread=0.3, asymmetry=0.259359,
    asymmetry_spread=0.05, write_noise=75.0)
ECRAM = _array(
    "ecram", "ECRAM, lithium", _TANG, _ONE, dw=0.002, **_soft((-0.8276, 1.1724), (0.1153, 0.5085)), device=0.1,
    cycle=0.3, bound_spread=0.05, endurance=Number(1e8, "pulses", "N", "above 1e8, one survey of low trust"))
ECRAM_MO = _array(
    "ecram-mo", "ECRAM, metal oxide", _KIM, _ONE, dw=2.8214e-4, **_soft((-0.8286, 1.1714), (0.4152, 0.7342)),
    device=0.1, cycle=2.0, bound_spread=0.05,
    endurance=Number(1e8, "pulses", "N", "above 1e8, one survey of low trust"))

_SONOS_MAX = 1600.0
_SONOS_WIDTHS = ((19.88665, 176.3115), (25.59102, 186.85544), (28.72753, 193.56834), (31.04318, 198.90332),
                 (33.76214, 204.77023), (34.57909, 207.34309))
_SONOS_SHIFTS = (
    (0.0,),
    (6.83650e-01, 6.51250e-03, -4.03163e-04, 3.37944e-06, -1.87435e-08, 5.88902e-11, -1.07685e-13, 1.17751e-16,
     -7.60016e-20, 2.67255e-23, -3.94954e-27),
    (6.60925e-01, 8.60627e-03, -1.72936e-04, 7.44096e-07, -5.94866e-09, 2.36734e-11, -4.83740e-14, 5.56072e-17,
     -3.65397e-20, 1.28405e-23, -1.87450e-27),
    (1.15821e00, 1.96116e-02, -4.70807e-04, 3.67510e-06, -2.08786e-08, 6.59752e-11, -1.19499e-13, 1.28435e-16,
     -8.11574e-20, 2.78802e-23, -4.02057e-27),
    (8.72216e-01, 1.70926e-02, -2.23370e-04, 1.57526e-06, -1.32779e-08, 5.08256e-11, -1.01251e-13, 1.14633e-16,
     -7.46124e-20, 2.60559e-23, -3.78724e-27),
    (1.15294e00, 1.03149e-02, -6.05199e-05, 1.76086e-08, -6.46690e-09, 3.39044e-11, -7.53872e-14, 8.98185e-17,
     -6.00346e-20, 2.12615e-23, -3.11099e-27),
)
"""Per day 0 to 5, in nA: height and width of the spread; powers of the current of the shift of the mean."""

_SONOS_DAYS = tuple(k * _DAY for k in range(6))
SONOS = Technology(
    name="sonos", title="SONOS flash, 40 nm, cell currents", pulse="bipolar", gmax=_c(_SONOS_MAX, "nA", _SONOS),
    programmed=_law("saturating", _SONOS, _SONOS_WIDTHS[0][0], _SONOS_WIDTHS[0][1] / _SONOS_MAX, unit="nA"),
    spread=Ageing("linear", _SONOS_DAYS, tuple(
        _law("saturating", _SONOS, height, width / _SONOS_MAX, unit="nA") for height, width in _SONOS_WIDTHS)),
    shift=Ageing("linear", _SONOS_DAYS, tuple(
        _in_g("polynomial", _SONOS, *powers, span=_SONOS_MAX, unit="nA") for powers in _SONOS_SHIFTS)),
    read_noise=_law("saturating", _SONOS, 12.58037 / _SONOS_MAX, 215.36557 / _SONOS_MAX),
    endurance=Number(3e4, "pulses", "M", "1e4 to 1e5, from memory"))

MRAM = Technology(
    name="mram", title="STT-MRAM bits, a functional equivalent in a current-sum array", pulse="bits",
    gmax=_c(125.0, "uS", f"{_NEUROSIM}: 8 kOhm"), gmin=_c(1e3 / 24, "uS", f"{_NEUROSIM}: 24 kOhm"),
    headroom=Number(0.14, "1", "D", "four spreads at Gmin"),
    programmed=_in_g("polynomial", f"{_NEUROSIM}: conductance spread of 7 %", 0.0, 0.07, gmin=1e3 / 24,
                     span=125.0 - 1e3 / 24),
    on_off=_c(3.0, "1", f"{_NEUROSIM}: 8 and 24 kOhm"), mismatch=_c(0.07, "1", f"{_NEUROSIM}: conductance spread"),
    endurance=Number(1e12, "pulses", "M", "1e12 and more, from memory"))
SRAM = Technology(
    name="sram", title="SRAM bits, a functional equivalent in a current-sum array", pulse="bits",
    gmax=_ONE, on_off=Number(1000.0, "1", "N", "SRAM in-memory computing, on/off about 1000"), steady=True)

IDEAL = Technology(
    name="ideal", title="devices without any error", pulse="melt", gmax=_c(25.0, "uS", _PCM), steady=True,
    pulse_share=Number(0.0, "1", "D", "no noise"),
    window=_assumed(0.15, "uS", "assumed: half a code of a verify read"), averages=_LOOP["averages"],
    iterations=_ITERATIONS, step=Number(1.0, "1", "D", "nothing else disturbs"))

TECHNOLOGIES = {preset.name: preset for preset in (
    PCM, HERMES_1, HERMES_2, PCM_SET, RRAM_WAN, RRAM_MILO, RRAM_CMO, RRAM_OM, RRAM_HFO2, RRAM_SB, RRAM_ES, SONOS, ECRAM,
    ECRAM_MO, MRAM, SRAM, IDEAL)}


def technology(name: str) -> Technology:
    """Return a technology by name, or raise ValueError that lists the names."""
    if name not in TECHNOLOGIES:
        raise ValueError(f"unknown technology {name!r}: choose from {', '.join(TECHNOLOGIES)}")
    return TECHNOLOGIES[name]
