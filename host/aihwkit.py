"""Names that users of IBM's aihwkit know, where they mean the same here; docs/aihwkit.md maps each."""

import dataclasses
from typing import Any

from host.device import Device, ProgramResult
from host.errors import BitlineError
from sim.presets import PCM
from sim.technology import Technology

__all__ = ["GlobalDriftCompensation", "PCMLikeNoiseModel", "PerColumnDriftCompensation", "drift_analog_weights",
           "program_analog_weights"]


@dataclasses.dataclass(frozen=True)
class PCMLikeNoiseModel:
    """The statistics of aihwkit's class of this name, which is where those of our PCM come from.

    Parameters
    ----------
    g_max : conductance of the largest weight in uS; spreads scale with it, as they do there
    prog_noise_scale, read_noise_scale, drift_scale : 1 (as published) or 0 (off); other factors are not supported

    Raises
    ------
    BitlineError
        If a value is not supported.
    """

    g_max: float = 25.0
    prog_noise_scale: float = 1.0
    read_noise_scale: float = 1.0
    drift_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.g_max < float("inf"):
            raise BitlineError(f"g_max must be a positive number of uS, not {self.g_max!r}")
        for name in ("prog_noise_scale", "read_noise_scale", "drift_scale"):
            if getattr(self, name) not in (0, 1):
                raise BitlineError(f"{name} must be 0 (off) or 1 (as published), not {getattr(self, name)!r}")

    def technology(self) -> Technology:
        """Return the technology that this model is here."""
        factor = self.g_max / PCM.gmax.one
        window = PCM.number("window")
        return PCM.replace(
            gmax=dataclasses.replace(PCM.gmax, value=self.g_max),
            programmed=PCM.law("programmed").scaled(factor),
            window=dataclasses.replace(window, value=window.one * factor),
            programming=bool(self.prog_noise_scale), drift=bool(self.drift_scale),
            flicker_noise=bool(self.read_noise_scale))


@dataclasses.dataclass(frozen=True)
class GlobalDriftCompensation:
    """One factor for each tile, measured on the device: what `Device.compensate("global")` does."""

    name: str = "global"


@dataclasses.dataclass(frozen=True)
class PerColumnDriftCompensation:
    """One factor for each column: what `Device.compensate("column")` does."""

    name: str = "column"


def program_analog_weights(device: Device, noise_model: PCMLikeNoiseModel | Technology | None = None,
                           **options: Any) -> ProgramResult:
    """Write the placed network into the devices; see `Device.program`."""
    if noise_model is None:
        kind = PCM
    else:
        kind = noise_model.technology() if isinstance(noise_model, PCMLikeNoiseModel) else noise_model
    return device.program(kind, **options)


def drift_analog_weights(
        device: Device, t_inference: float = 0.0,
        drift_compensation: GlobalDriftCompensation | PerColumnDriftCompensation | None = None) -> None:
    """Set the time since programming in seconds, and compensate if that is asked for; see `Device.age`."""
    device.age(t_inference)
    device.compensate("none" if drift_compensation is None else drift_compensation.name)


