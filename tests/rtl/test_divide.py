"""Division by constants is exact for every value."""

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.divide import divide, divide_up
from tests.rtl.bench import run_pipeline

DIVISORS = (1, *range(4, 17), 56)


class Dividers(wiring.Component):
    def __init__(self):
        super().__init__({"value": In(11)} | {f"{way}_{d}": Out(12) for way in ("down", "up") for d in DIVISORS})

    def elaborate(self, platform):
        m = Module()
        for d in DIVISORS:
            m.d.comb += [getattr(self, f"down_{d}").eq(divide(self.value, d)),
                         getattr(self, f"up_{d}").eq(divide_up(self.value, d))]
        m.d.sync += Signal().eq(0)  # the bench wants a clock
        return m


def test_every_value():
    values = np.arange(2048)
    dut = Dividers()
    got = run_pipeline(dut, {"value": values}, [f"{way}_{d}" for way in ("down", "up") for d in DIVISORS], 0)
    for d in DIVISORS:
        np.testing.assert_array_equal(got[f"down_{d}"], values // d)
        np.testing.assert_array_equal(got[f"up_{d}"], -(-values // d))
