"""Registers of feed-forward pipelines. Data has no reset: only what is marked valid is ever looked at."""

from amaranth.hdl import Signal, Value

__all__ = ["delay", "register"]


def register(m, value, name, *, reset_less=True):
    """Return `value` of the clock before, in its own shape; `name` names the register."""
    value = Value.cast(value)
    stage = Signal(value.shape(), name=name, reset_less=reset_less)
    m.d.sync += stage.eq(value)
    return stage


def delay(m, value, clocks, name, *, reset_less=True):
    """Return `value` of `clocks` clocks before; `reset_less=False` for what tells whether the rest is valid."""
    for k in range(clocks):
        value = register(m, value, f"{name}_delay{k}", reset_less=reset_less)
    return value
