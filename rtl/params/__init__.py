"""The one description: geometry, number formats, register map and protocol, free of Amaranth.

Gateware, model, host and documentation all read it; nothing in it is typed a second time.
"""

from rtl.params.formats import (
    ACTIVATION_BITS,
    ACTIVATION_MAX,
    ADC_SHIFT,
    CODE_MAX,
    ELEMENT_BITS,
    EVENT_BITS,
    GAUSS_FRACTION,
    GMAX_CODE,
    TIME_BITS,
    FlitKind,
    Purpose,
    exp2_table,
    gaussian_table,
    hash_counter,
    hash_key,
)
from rtl.params.geometry import PRESETS, Geometry, preset
from rtl.params.program import INSTRUCTION_FIELDS, Destination, Instruction, Mode, Operation, Post, Reduce
from rtl.params.protocol import Opcode, Status
from rtl.params.registers import (
    REGISTER_MAP,
    ROUTES,
    DigitalRegion,
    EngineOperation,
    EngineRegion,
    PortRegion,
    Region,
    Register,
    Table,
    address,
    geometry_hash,
)

__all__ = [
    "ACTIVATION_BITS",
    "ACTIVATION_MAX",
    "ADC_SHIFT",
    "CODE_MAX",
    "ELEMENT_BITS",
    "EVENT_BITS",
    "GAUSS_FRACTION",
    "GMAX_CODE",
    "INSTRUCTION_FIELDS",
    "PRESETS",
    "REGISTER_MAP",
    "ROUTES",
    "TIME_BITS",
    "Destination",
    "DigitalRegion",
    "EngineOperation",
    "EngineRegion",
    "FlitKind",
    "Geometry",
    "Instruction",
    "Mode",
    "Opcode",
    "Operation",
    "PortRegion",
    "Post",
    "Purpose",
    "Reduce",
    "Region",
    "Register",
    "Status",
    "Table",
    "address",
    "exp2_table",
    "gaussian_table",
    "geometry_hash",
    "hash_counter",
    "hash_key",
    "preset",
]
