"""The self test passes on what works, reaches every weight word, and names what does not work."""

import numpy as np
import pytest

from host.backend import ModelBackend
from host.console import Screen
from host.selftest import _contexts, check_device
from rtl.params import PRESETS, DigitalRegion, EngineRegion, PortRegion, preset


@pytest.mark.parametrize("name", ["tiny", "pairs", "small", "tiny-sdram"])
def test_passes(name):
    found = check_device(ModelBackend(preset(name)), seed=1, screen=Screen())
    assert found["failures"] == []
    assert found["differing"] == 0
    assert found["compared"] > 1000


@pytest.mark.parametrize("geometry", PRESETS.values(), ids=PRESETS)
def test_contexts_reach_every_weight_word(geometry):
    reached = set()
    for context in _contexts(geometry):
        words = geometry.folds * context["columns"]
        reached |= set(range(context["net_base"], context["net_base"] + words))
        assert context["state_base"] + context["rows"] * context["columns"] <= geometry.cells
        assert context["column_base"] + context["columns"] <= geometry.column_words
    # As many words as there are columns for: the presets have more words than columns of all contexts need.
    wanted = min(geometry.net_places, geometry.contexts * geometry.folds * min(geometry.columns, geometry.column_words))
    assert len(reached) >= min(wanted, geometry.net_places)


class Faulty(ModelBackend):
    """A model with one fault."""

    def __init__(self, geometry, fault):
        super().__init__(geometry)
        self.fault = fault

    def write(self, unit, region, offset, values):
        values = np.array(values, np.int64)
        if self.fault == "memory" and (unit, region) == (self.geometry.digital_unit, DigitalRegion.MEMORY):
            values[5 * 16 + 2] ^= 1 << 20
        if self.fault == "column" and (unit, region) == (1, EngineRegion.COLUMNS) and len(values) > 3 * 4:
            values[3 * 4] ^= 1
        if self.fault == "batch" and (unit, region) == (0, PortRegion.BATCH):
            offset += offset == 8
        super().write(unit, region, offset, values)

    def infer(self, events, times, activations, report):
        if self.fault == "lane":
            activations = np.array(activations)
            activations[:, 2::self.geometry.lanes] //= 2
        return super().infer(events, times, activations, report)


@pytest.mark.parametrize(("fault", "words"), [
    ("memory", "digital unit, memory word 5, element 2"),
    ("column", "engine 1, scale of column constant 3"),
    ("lane", "lane 2"),
    ("batch", "batch, word 8, element 0"),
])
def test_names_the_fault(fault, words):
    found = check_device(Faulty(preset("tiny"), fault), seed=1, screen=Screen())
    assert found["differing"] > 0
    assert any(words in line for line in found["failures"])
    if fault == "lane":
        assert not any("lane 1," in line or "lane 3," in line for line in found["failures"])
