"""The geometry of a chip: every size that is fixed when it is built, checked where it is stated."""

import dataclasses
import math

from rtl.params.formats import ACTIVATION_MAX, CODE_MAX

NODES_MAX = 256
"""Most nodes of a mesh: an address has 8 bits for them."""
CELL_WORDS_MAX = 1 << 20
"""Most words of an engine's cells: an address has 20 bits for them, one word a pair of devices."""

BATCH_BUS_WORDS_MAX = 1 << 22
"""Most words of the batch as the register bus has them, four activations each: four regions of an address."""
_BURST_WORDS = 128
"""Words of 16 bits of a burst from the batch in SDRAM, at most: some 12 clocks of waiting are a tenth of it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Geometry:
    """Sizes of one chip.

    Raises
    ------
    ValueError
        If a parameter, or a combination of them, cannot be built; the sentence names it.
    """

    name: str
    engines: int = 2
    """Engines on the chip; each stands at its own mesh node with its converters and its write-verify controller."""
    contexts: int = 8
    """Tiles that can share one engine."""
    rows: int = 112
    """Most rows (wordlines) of a tile."""
    columns: int = 64
    """Most columns (bitlines) of a tile."""
    lanes: int = 56
    """Multiplications per clock of one engine: more rows than lanes are folded."""
    pump: int = 1
    """Calculation clocks in a clock of the chip: an engine has lanes / pump multipliers, each used so often a clock."""
    soft_groups: int = 0
    """Groups of W multipliers of an engine that are made of logic, for want of hardware multipliers."""
    pairs: int = 1
    """Device pairs per cell: 1 (G+ - G-) or 2 (F (G+ - G-) + (g+ - g-))."""
    significance: int = 1
    """F, the weight of the main pair; 1 where there is only one pair."""
    state_bits: int = 16
    """Bits of one device state, 9 to 16."""
    wear_bits: int = 0
    """Bits of the wear counter beside each device state, up to 16; 0 builds none."""
    mismatch: bool = False
    """Converters can be given errors of gain and offset, column by column."""
    adc_bits: int = 8
    """Bits of an ADC code, 4 to 12."""
    transport: int = 4
    """W: elements a flit carries, activations an engine loads per clock, elements of a word of the digital unit."""
    digital_turns: int = 1
    """Clocks that the digital unit takes for a word: it has W / digital_turns lanes."""
    program_lanes: int = 1
    """P: devices that programming and ageing process side by side; divides 2 * pairs."""
    net_words: int = 1024
    """Depth of the weight memory of each group of W multipliers: `pump` words a column and fold of a context."""
    cells: int = 50944
    """Cells whose device states one engine holds."""
    state_store: str = "block"
    """Where states and wear are kept: "block" RAM, or "sdram", and then in block RAM only what is worked on."""
    column_words: int = 512
    """Column constants one engine holds: one a column of a context."""
    digital_words: int = 1024
    """Depth of the digital unit's memory, in words of W elements."""
    instructions: int = 64
    programs: int = 8
    routes: int = 64
    result_words: int = 64
    """Depth of the port's result memory, in flits."""
    result_vectors: int = 8
    """Vectors that may be sent before their results are received."""
    batch_words: int = 0
    """Words of W activations of the batch memory, from which vectors are replayed; 0 builds none."""
    batch_store: str = "block"
    """Where the batch is kept: "block" RAM, or "sdram", beside the states if they are there too."""
    backward: bool = False
    """Engines can also read backward: columns driven, rows integrated."""
    mesh_columns: int = 2
    """Width of the mesh; units fill it row by row: port, engines, digital unit."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("wear_bits", "soft_groups", "batch_words") else 1
            if field.type in (int, "int") and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                kind = "positive integer" if least else "whole number"
                raise ValueError(f"{field.name} must be a {kind}, not {value!r}")
        self._in_range("state_bits", 9, 16)
        self._in_range("wear_bits", 0, 16)
        self._in_range("adc_bits", 4, 12)
        self._in_range("rows", 1, 1024)
        self._in_range("columns", 4, 1024)
        self._in_range("contexts", 1, 64)
        self._in_range("transport", 2, 16)
        self._in_range("pump", 1, 4)
        self._in_range("engines", 1, NODES_MAX - 2)
        self._in_range("routes", 2, 64)
        self._in_range("programs", 1, 16)
        self._in_range("instructions", 1, 256)
        self._in_range("digital_words", 2, 4096)
        self._in_range("cells", 1, CELL_WORDS_MAX)
        self._in_range("result_vectors", 1, 255)
        for name in ("state_store", "batch_store"):
            if getattr(self, name) not in ("block", "sdram"):
                raise ValueError(f"{name} must be block or sdram, not {getattr(self, name)!r}")
        if self.pairs not in (1, 2):
            raise ValueError(f"pairs must be 1 or 2, not {self.pairs}")
        if self.cells * self.pairs > CELL_WORDS_MAX:
            raise ValueError(f"cells ({self.cells}) of {self.pairs} pairs must not exceed {CELL_WORDS_MAX} pairs: "
                             "no address would tell the others")
        if self.significance not in (1, 2, 3, 4):
            raise ValueError(f"significance must be 1, 2, 3 or 4, not {self.significance}")
        if self.pairs == 1 and self.significance != 1:
            raise ValueError(f"significance must be 1 with one pair, not {self.significance}")
        if self.lanes % self.transport or self.rows % self.transport:
            raise ValueError(f"lanes ({self.lanes}) and rows ({self.rows}) must be multiples of "
                             f"transport ({self.transport})")
        if self.lane_words % self.pump:
            raise ValueError(f"pump ({self.pump}) must divide the {self.lane_words} groups of {self.transport} lanes")
        if self.soft_groups > self.groups:
            raise ValueError(f"soft_groups ({self.soft_groups}) must not exceed the {self.groups} groups of an engine")
        if self.transport % self.digital_turns:
            raise ValueError(f"digital_turns ({self.digital_turns}) must divide transport ({self.transport})")
        if self.lanes > self.rows:
            raise ValueError(f"lanes ({self.lanes}) must not exceed rows ({self.rows}): the rest would never work")
        if self.devices % self.program_lanes:
            raise ValueError(f"program_lanes ({self.program_lanes}) must divide the {self.devices} devices of a cell")
        if self.net_words & (self.net_words - 1):
            raise ValueError(f"net_words must be a power of two, not {self.net_words}")
        if self.net_words < self.pump:
            raise ValueError(f"net_words ({self.net_words}) must be at least pump ({self.pump})")
        if self.column_words & (self.column_words - 1):
            raise ValueError(f"column_words must be a power of two, not {self.column_words}")
        if self.batch_words & (self.batch_words - 1) or self.batch_words == 1:
            raise ValueError(f"batch_words must be 0 or a power of two from 2 on, not {self.batch_words}")
        self._in_range("batch_words", 0, BATCH_BUS_WORDS_MAX // self.batch_parts)
        if self.batch_in_sdram and not self.batch_words:
            raise ValueError("batch_store is sdram, but batch_words is 0: there is no batch to keep there")
        if self.mesh_columns > self.units:
            raise ValueError(f"mesh_columns ({self.mesh_columns}) must not exceed the {self.units} units")
        if self.nodes > NODES_MAX:
            raise ValueError(f"mesh_columns ({self.mesh_columns}) and engines ({self.engines}) make {self.nodes} "
                             f"nodes, but an address tells {NODES_MAX}")

    def _in_range(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise ValueError(f"{name} must be {low} to {high}, not {value}")

    def replace(self, **changes: object) -> "Geometry":
        """Return a copy with some parameters changed and all checked again."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    @property
    def devices(self) -> int:
        """Devices of a cell: G+, G- and, with two pairs, g+, g-."""
        return 2 * self.pairs

    @property
    def kept_words(self) -> int:
        """Words of 16 bits that a cell takes in SDRAM, a power of two: its states, and wear if it is counted."""
        return self.devices * (2 if self.wear_bits else 1)

    @property
    def states_in_sdram(self) -> bool:
        """Whether states and wear are off the chip."""
        return self.state_store == "sdram"

    @property
    def batch_in_sdram(self) -> bool:
        """Whether the batch is off the chip."""
        return self.batch_store == "sdram"

    @property
    def batch_kept_words(self) -> int:
        """Words of 16 bits that a word of the batch takes in SDRAM, a power of two."""
        return 1 << (-(-self.transport // 2) - 1).bit_length()

    @property
    def batch_burst(self) -> int:
        """Words of W activations that are read from the batch in SDRAM at once, a power of two; no burst goes over a
        multiple of it, nor over the end."""
        return min(_BURST_WORDS // self.batch_kept_words, self.batch_words)

    @property
    def states_address_bits(self) -> int:
        """Bits of the address of a word of 16 bits among the states of one engine in SDRAM."""
        return (self.kept_words - 1).bit_length() + max(1, (self.cells - 1).bit_length())

    @property
    def batch_address_bits(self) -> int:
        """Bits of the address of a word of 16 bits in the batch in SDRAM."""
        return (self.batch_words * self.batch_kept_words - 1).bit_length()

    @property
    def memory_address_bits(self) -> int:
        """Bits of the address of a word of 16 bits in SDRAM, 0 if nothing is there.

        Of states and batch each has a half, so that they cannot meet: the highest bit is 1 in the batch's.
        """
        states = self.states_address_bits + (self.engines - 1).bit_length() if self.states_in_sdram else 0
        batch = self.batch_address_bits if self.batch_in_sdram else 0
        return max(states, batch) + bool(states and batch)

    @property
    def memory_burst(self) -> int:
        """Most words of 16 bits that are read or written in SDRAM by one request."""
        return max(self.kept_words if self.states_in_sdram else 1,
                   max(2, self.batch_burst * self.batch_kept_words) if self.batch_in_sdram else 1)

    @property
    def window_halves(self) -> int:
        """Cells of each half of the window for ageing: a column of states in one, the next column in the other."""
        return 1 << (self.rows - 1).bit_length()

    @property
    def window_cells(self) -> int:
        """Cells whose states are in block RAM: all, or a row and two columns of those in SDRAM, at different times."""
        return max(self.columns, 2 * self.window_halves) if self.states_in_sdram else self.cells

    @property
    def net_max(self) -> int:
        """Largest magnitude of a net."""
        return CODE_MAX * (self.significance + 1 if self.pairs == 2 else 1)

    @property
    def net_bits(self) -> int:
        """Bits of a net, signed: 9 to 12."""
        return self.net_max.bit_length() + 1

    @property
    def folds(self) -> int:
        """Passes over the columns that the largest tile needs."""
        return -(-self.rows // self.lanes)

    @property
    def charge_max(self) -> int:
        """Largest magnitude of a complete charge, forward or backward."""
        return self.net_max * ACTIVATION_MAX * max(self.rows, self.columns)

    @property
    def charge_bits(self) -> int:
        """Bits of a charge, signed: it never wraps (docs/numbers.md)."""
        return self.charge_max.bit_length() + 1

    @property
    def batch_parts(self) -> int:
        """Words of four activations, as the register bus has them, in a word of the batch memory; a power of two."""
        return 1 << (-(-self.transport // 4) - 1).bit_length()

    def results_held(self, words: int) -> int:
        """Return how many vectors may be under way whose results have so many words, so that each finds room."""
        return max(1, min(self.result_vectors, self.result_words // (1 + words)))

    @property
    def row_words(self) -> int:
        """Words of W activations of the largest tile's input."""
        return self.rows // self.transport

    @property
    def lane_words(self) -> int:
        """Groups of W lanes of an engine: words that one fold loads."""
        return self.lanes // self.transport

    @property
    def groups(self) -> int:
        """Groups of W multipliers of an engine."""
        return self.lane_words // self.pump

    def soft(self, group: int) -> bool:
        """Tell whether a group's multipliers are made of logic: such groups are spread evenly over the engine."""
        return group * self.soft_groups // self.groups < (group + 1) * self.soft_groups // self.groups

    @property
    def net_places(self) -> int:
        """Nets that each lane has room for: one a column and fold of a context."""
        return self.net_words // self.pump

    @property
    def digital_lanes(self) -> int:
        """Elements that the digital unit takes up per clock."""
        return self.transport // self.digital_turns

    @property
    def code_max(self) -> int:
        """Largest magnitude of an ADC code."""
        return (1 << (self.adc_bits - 1)) - 1

    @property
    def units(self) -> int:
        """Port, engines, digital unit: the units of the mesh, in this order."""
        return self.engines + 2

    @property
    def digital_unit(self) -> int:
        """Number of the digital unit's mesh node; the port is unit 0, engine k is unit k + 1."""
        return self.engines + 1

    @property
    def mesh_rows(self) -> int:
        """Height of the mesh."""
        return math.ceil(self.units / self.mesh_columns)

    @property
    def nodes(self) -> int:
        """Nodes of the mesh; those past the last unit only route."""
        return self.mesh_rows * self.mesh_columns

    @property
    def unit_bits(self) -> int:
        """Bits of an address that tell a unit, or a node of the mesh: 4 or more."""
        return max(4, (self.nodes - 1).bit_length())

    @property
    def total_lanes(self) -> int:
        """Multiplications per clock of the chip."""
        return self.engines * self.lanes


def _presets(*geometries: Geometry) -> dict[str, Geometry]:
    return {geometry.name: geometry for geometry in geometries}


PRESETS = _presets(
    Geometry(name="tiny", engines=1, contexts=4, rows=8, columns=8, lanes=4, net_words=64, cells=256, column_words=32,
             digital_words=128, instructions=16, programs=4, routes=16, result_words=32, result_vectors=4,
             batch_words=256),
    Geometry(name="pairs", engines=1, contexts=4, rows=8, columns=8, lanes=8, pairs=2, significance=3, adc_bits=10,
             program_lanes=2, net_words=64, cells=256, column_words=32, digital_words=128, instructions=16, programs=4,
             routes=16, result_words=32, result_vectors=4),
    Geometry(name="small", engines=2, contexts=4, rows=32, columns=16, lanes=16, net_words=128, cells=2048,
             column_words=64, digital_words=256, instructions=32, programs=4, routes=32, batch_words=2048),
    Geometry(name="pumped", engines=1, contexts=4, rows=48, columns=16, lanes=24, pump=3, soft_groups=1, net_words=256,
             cells=2048, state_store="sdram", column_words=64, digital_words=256, instructions=32, programs=4,
             routes=32, batch_words=1024, batch_store="sdram"),
    Geometry(name="faulty", contexts=16, wear_bits=16, mismatch=True, net_words=2048, cells=1 << 16,
             column_words=1024, batch_words=1 << 16),
    Geometry(name="board-small", engines=1, contexts=4, rows=32, columns=16, lanes=8, transport=2,
             digital_turns=2, state_bits=9,
             net_words=256, cells=2048, column_words=64, digital_words=256, instructions=32, programs=4, routes=16,
             result_words=32, result_vectors=4, mesh_columns=3),
    Geometry(name="tiny-sdram", engines=2, contexts=4, rows=8, columns=8, lanes=4, net_words=32, cells=256,
             state_store="sdram", column_words=32, digital_words=128, instructions=16, programs=4, routes=16,
             result_words=32, result_vectors=4, batch_words=1024, batch_store="sdram"),
    Geometry(name="demo", state_bits=9),
    Geometry(name="demo-sdram", state_store="sdram", batch_words=1 << 22, batch_store="sdram"),
    Geometry(name="demo-stream", state_store="sdram", program_lanes=2, contexts=32, cells=1 << 17, column_words=2048,
             digital_words=2048),
    Geometry(name="demo-fast", contexts=11, rows=216, lanes=216, pump=3, soft_groups=2, net_words=2048, cells=118784,
             column_words=1024, instructions=32, state_store="sdram", batch_words=1 << 22, batch_store="sdram"),
    Geometry(name="tile512", engines=1, rows=512, columns=512, lanes=128, net_words=4096, cells=1 << 18,
             column_words=1024, batch_words=1 << 16, mesh_columns=3),
    Geometry(name="tile1024", engines=1, contexts=4, rows=1024, columns=1024, lanes=256, transport=8, net_words=4096,
             cells=1 << 20, column_words=1024, result_words=256, batch_words=1 << 16, mesh_columns=3),
    Geometry(name="speech", engines=34, contexts=1, pairs=2, rows=512, columns=512, lanes=64, transport=16,
             program_lanes=4, net_words=4096, cells=1 << 18, digital_words=4096, programs=16, mesh_columns=6),
    Geometry(name="speech-part", engines=2, contexts=4, pairs=2, rows=512, columns=512, lanes=64, transport=16,
             program_lanes=4, net_words=4096, cells=1 << 19, state_store="sdram", column_words=1024,
             digital_words=4096, programs=16),
)
"""Named geometries. `demo` holds 784-128-10 and fits the ULX3S-85F; its states have 9 bits because 16 would not.
`demo-sdram` is the same with states of 16 bits in SDRAM and room for a batch, `tiny-sdram` a small one of that kind,
with states of twice as many cells as nets. `demo-stream` has the nets of `demo` and states of twice as many cells:
networks that need more nets run in phases (docs/decisions/0019-networks-in-phases.md).
`demo-fast` holds 784-256-128-10 and has three times as fast a clock for its 144 multipliers, with states and a batch in
SDRAM; `pumped` is a small one of its kind.
`faulty` holds what `demo` does and spares; its devices wear and its converters differ where a technology says so.
`tile512` and `tile1024` have tiles as large as published chips, for the model: no board of ours holds their states.
`speech` is as large as the IBM 14 nm chip of 34 tiles of 512 x 2,048 PCM devices, four to a weight (Ambrogio and
others, Nature 620:768, 2023): 35,651,584 devices, a tile an engine. `speech-part` has states of four
such tiles and nets of two, on two engines (docs/decisions/0018-thirty-four-tiles.md).
"""


def preset(name: str) -> Geometry:
    """Return a named geometry, or raise ValueError that lists the names."""
    if name not in PRESETS:
        raise ValueError(f"unknown geometry {name!r}: choose from {', '.join(PRESETS)}")
    return PRESETS[name]
