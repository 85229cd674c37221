"""The one description of a chip: what it refuses, what it derives, and that names and fields are told apart."""

import dataclasses

import pytest

from rtl.params import PRESETS, Geometry, preset


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"engines": 0}, "engines must be a positive integer, not 0"),
    ({"engines": 255}, "engines must be 1 to 254, not 255"),
    ({"lanes": True}, "lanes must be a positive integer, not True"),
    ({"lanes": 56.0}, "lanes must be a positive integer, not 56.0"),
    ({"rows": "112"}, "rows must be a positive integer, not '112'"),
    ({"rows": 1028}, "rows must be 1 to 1024, not 1028"),
    ({"columns": 3}, "columns must be 4 to 1024, not 3"),
    ({"adc_bits": 13}, "adc_bits must be 4 to 12, not 13"),
    ({"state_bits": 8}, "state_bits must be 9 to 16, not 8"),
    ({"wear_bits": -1}, "wear_bits must be a whole number, not -1"),
    ({"wear_bits": 17}, "wear_bits must be 0 to 16, not 17"),
    ({"contexts": 65}, "contexts must be 1 to 64, not 65"),
    ({"transport": 1}, "transport must be 2 to 16, not 1"),
    ({"pump": 5}, "pump must be 1 to 4, not 5"),
    ({"pump": 3}, r"pump \(3\) must divide the 14 groups of 4 lanes"),
    ({"soft_groups": 15}, r"soft_groups \(15\) must not exceed the 14 groups of an engine"),
    ({"state_store": "disk"}, "state_store must be block or sdram, not 'disk'"),
    ({"pairs": 3}, "pairs must be 1 or 2, not 3"),
    ({"pairs": 2, "significance": 5}, "significance must be 1, 2, 3 or 4, not 5"),
    ({"significance": 2}, "significance must be 1 with one pair, not 2"),
    ({"lanes": 58}, r"lanes \(58\) and rows \(112\) must be multiples of transport \(4\)"),
    ({"lanes": 116}, r"lanes \(116\) must not exceed rows \(112\): the rest would never work"),
    ({"program_lanes": 3}, r"program_lanes \(3\) must divide the 2 devices of a cell"),
    ({"digital_turns": 3}, r"digital_turns \(3\) must divide transport \(4\)"),
    ({"net_words": 1000}, "net_words must be a power of two, not 1000"),
    ({"column_words": 500}, "column_words must be a power of two, not 500"),
    ({"mesh_columns": 5}, r"mesh_columns \(5\) must not exceed the 4 units"),
    ({"engines": 240, "mesh_columns": 60},
     r"mesh_columns \(60\) and engines \(240\) make 300 nodes, but an address tells 256"),
    ({"pairs": 2, "cells": (1 << 19) + 1}, r"cells \(524289\) of 2 pairs must not exceed 1048576 pairs: "
     "no address would tell the others"),
    ({"batch_words": 100}, "batch_words must be 0 or a power of two from 2 on, not 100"),
    ({"batch_words": 1 << 23}, "batch_words must be 0 to 4194304, not 8388608"),
    ({"transport": 8, "batch_words": 1 << 22}, "batch_words must be 0 to 2097152, not 4194304"),
    ({"batch_store": "tape"}, "batch_store must be block or sdram, not 'tape'"),
    ({"batch_store": "sdram"}, "batch_store is sdram, but batch_words is 0: there is no batch to keep there"),
    ({"result_vectors": 256}, "result_vectors must be 1 to 255, not 256"),
    ({"cells": (1 << 20) + 1}, "cells must be 1 to 1048576, not 1048577"),
])
def test_what_cannot_be_built_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        preset("demo").replace(**changes)


def test_parameters_have_names():
    with pytest.raises(TypeError, match="positional"):
        Geometry(2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("demo").lanes = 60


@pytest.mark.parametrize(("name", "widths"), [
    # net, charge: 255 * (F + 1 with two pairs) * 127 * the longer side
    ("demo", (9, 23)),
    ("pairs", (11, 21)),
    ("tile1024", (9, 26)),
])
def test_widths(name, widths):
    assert (preset(name).net_bits, preset(name).charge_bits) == widths


@pytest.mark.parametrize(("changes", "bits"), [
    # states: cell, word of a cell, engine; batch: word, word of 16 bits; one more bit tells which
    ({"state_store": "block", "batch_store": "block"}, 0),
    ({"batch_store": "block"}, 8 + 1 + 1),
    ({"batch_store": "block", "engines": 3, "cells": 257, "wear_bits": 1}, 9 + 2 + 2),
    ({"state_store": "block"}, 10 + 1),
    ({"state_store": "block", "transport": 2, "batch_words": 64}, 6),
    ({"transport": 8, "lanes": 8}, 1 + 10 + 2),
    ({"batch_words": 64}, 1 + 8 + 1 + 1),
])
def test_addresses_of_a_memory_off_the_chip(changes, bits):
    assert preset("tiny-sdram").replace(**changes).memory_address_bits == bits


def test_presets_are_known_by_their_own_names():
    assert all(geometry.name == name for name, geometry in PRESETS.items())
    with pytest.raises(ValueError, match="unknown geometry 'nano': choose from tiny, pairs, "):
        preset("nano")
