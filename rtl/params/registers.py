"""The register map: every address the host may touch, told once.

An address is unit << 24 | region << 20 | offset, in 32-bit words. Units are mesh nodes: 0 is the port, 1... are the
engines, the last is the digital unit. Offsets are spelled as dotted strides where a region is a table of records.
A register access to a busy unit waits until it is idle.
"""

import dataclasses
import enum
import json
import zlib

from rtl.params.formats import POSITION_BITS
from rtl.params.geometry import Geometry
from rtl.params.program import INSTRUCTION_FIELDS
from rtl.params.protocol import PROTOCOL_VERSION

UNIT_SHIFT, REGION_SHIFT = 24, 20


class PortRegion(enum.IntEnum):
    """Regions of unit 0."""

    REGISTERS = 0
    COUNTERS = 1
    PLAN = 2
    """segment -> route | words << 8 | position << 16: how a sent vector is cut into messages."""
    BATCH = 8
    """word * batch_parts + part -> 4 activations, the first lowest: vectors to be replayed, one after another. It
    goes on through the three regions behind it."""
    ROUTES = 15


class EngineRegion(enum.IntEnum):
    """Regions of an engine's unit."""

    REGISTERS = 0
    COUNTERS = 1
    CONTEXTS = 2
    COLUMNS = 3
    TABLES = 4
    TARGETS = 5
    OUTCOMES = 6
    STATES = 7
    INPUTS = 8
    WEAR = 9
    ROUTES = 15


class DigitalRegion(enum.IntEnum):
    """Regions of the digital unit."""

    REGISTERS = 0
    COUNTERS = 1
    INPUT_ROUTES = 2
    PROGRAMS = 3
    INSTRUCTIONS = 4
    MEMORY = 5
    ACTIVATION_TABLES = 6
    ROUTES = 15


Region = PortRegion | EngineRegion | DigitalRegion
ROUTES = 15
"""The same in every unit: route -> mask of mesh outputs (bit 0 local, 1 north, 2 east, 3 south, 4 west) of its node."""


@dataclasses.dataclass(frozen=True)
class Register:
    """One word: its unit kind, region, offset inside its record, width, access and meaning."""

    unit: str
    region: Region
    name: str
    offset: int
    bits: int
    access: str
    text: str
    signed: bool = False


class EngineOperation(enum.IntEnum):
    """Written to the engine's `operation` register; the next access waits until it has ended."""

    PROGRAM = 1
    """Write-verify one row of a context to TARGETS; OUTCOMES tells how each column ended."""
    PROBE = 2
    """Read rows as `probe_ticks` and `probe_mode` say; OUTCOMES holds each column's sum of codes, over all of them."""
    AGE = 3
    """Recompute present conductances, nets and column noise constants of a context from its states."""


class Table(enum.IntEnum):
    """Tables of the device pipeline, 256 entries of 16 bits each, indexed by the top byte of a g16."""

    PULSE_SIGMA = 0
    """Spread of a melt pulse against its amplitude, of a gradual one against the state, g16."""
    RELAX_SIGMA = 1
    """Relaxation after the last pulse against the state, g16; in PROGRAM, the spread of gradual pulses down."""
    NU_MEAN = 2
    NU_SIGMA = 3
    """Drift exponent, 16 fraction bits; in PROGRAM, how near trains of gradual pulses come to a bound, g16."""
    FLICKER = 4
    """1/f noise of the present age relative to the drifted conductance, 16 fraction bits."""
    SHIFT = 5
    """Shift of the present age against the state, added with the relaxation, g16, signed."""
    STEP_UP = 6
    STEP_DOWN = 7
    """Step of a gradual pulse of amplitude 1 against the state, g16."""
    VARIATION = 8
    """Inverse distribution of the size of steps from device to device, 12 fraction bits: of steps up, indexed by seven
    random bits, and from entry 128 on of steps down."""
    ENDURANCE = 9
    """Inverse distribution of the wear that a device endures, indexed by a random byte."""


class PulseKind(enum.IntEnum):
    """How devices answer to programming pulses. RESET is a melt pulse of amplitude 0, whatever the kind."""

    MELT = 0
    """A pulse leaves its amplitude and a spread, whatever was there before."""
    ONE_WAY = 1
    """A pulse adds a step; only RESET takes away."""
    BIPOLAR = 2
    """A pulse adds or takes away a step."""


CONTEXT_STRIDE, COLUMN_STRIDE, PROGRAM_STRIDE, ROUTE_STRIDE = 16, 4, 4, 4

_ENGINE_REGISTERS = (
    ("operation", 2, "w", "start an EngineOperation; reads as 0"),
    ("context", 6, "rw", "context the operation works on"),
    ("row", 10, "rw", "first row of PROGRAM and PROBE"),
    ("row_count", 11, "rw", "rows of PROBE"),
    ("seed", 32, "rw", "seed of every random value"),
    ("chip", 8, "rw", "logical chip, a coordinate of the hash"),
    ("epoch", 8, "rw", "programming epoch, a coordinate of the hash"),
    ("age", 20, "rw", "age as a coordinate of the hash: log2((t + t0) / t0) with 12 fraction bits, modulo 2**20"),
    ("log_time", 18, "rw", "log2((t + t0) / t0), 12 fraction bits"),
    ("noise_gain", 22, "rw", "K: a column's noise constant is isqrt(sum of |net| * K) after AGE; 0 is noiseless"),
    ("verify_noise", 16, "rw", "noise constant of verify reads, 12 fraction bits"),
    ("verify_gain", 20, "rw", "ADC gain of the verify range, 2**-24 codes per charge unit"),
    ("verify_offset", 32, "rw", "ADC offset of the verify range, 2**-24 codes, signed"),
    ("averages", 5, "rw", "reads summed per verify, 1 to 16"),
    ("window", 16, "rw", "accepted |error| of the sum of codes"),
    ("iterations", 8, "rw", "most verify reads of a cell in each phase of PROGRAM"),
    ("counts_per_g", 16, "rw", "sum of codes per g16, 16 fraction bits"),
    ("main_step", 16, "rw", "amplitude per count of error, main pair: of melt pulses g16, 8 fraction bits; of gradual "
     "ones 12 fraction bits, added to the amplitude before while the error keeps its sign"),
    ("minor_step", 16, "rw", "the same for the minor pair"),
    ("main_scale", 16, "rw", "g16 of first amplitude per g16 of target, main pair, 15 fraction bits (1/F)"),
    ("probe_ticks", 8, "rw", "signed pulse of the rows that PROBE drives, -127 to 127 ticks; 0 drives none"),
    ("probe_mode", 2, "rw", "of PROBE: bit 0 (dense) drives every row r, with its sign changed where r & the row asked "
     "for has odd parity (a Walsh function), not that row alone; bit 1 reads in the inference range"),
    ("pulse_kind", 2, "rw", "PulseKind of the devices"),
    ("least_amplitude", 16, "rw", "smallest amplitude of a gradual pulse, 12 fraction bits"),
    ("amplitude_limit", 16, "rw", "largest amplitude: g16 of a melt pulse, 12 fraction bits of a gradual one"),
    ("restart", 1, "rw", "one-way devices mend an overshoot by RESET and a new start, not on the partner"),
    ("refresh_limit", 6, "rw", "pulses of the partner after which a pair of one-way devices is RESET"),
    ("absorb", 1, "rw", "where a cell has one pair, the other device tries to absorb what is left when tries run out"),
    ("minor_only", 16, "rw", "targets smaller than this (g16) go to the minor pair alone, the main pair stays RESET"),
    ("common_variation", 1, "rw", "one VARIATION of a device serves both directions"),
    ("stuck_rate", 32, "rw", "share of stuck devices, 32 fraction bits"),
    ("stuck_value", 16, "rw", "where they are stuck, g16"),
    ("wear_rate", 32, "rw", "probability that a pulse wears a device by one, 32 fraction bits"),
    ("direct", 1, "rw", "PROGRAM gives each column one pulse without RESET or verify, as TARGETS says: |target| is "
     "amplitude (16) | takes away (1) << 16 | minor pair (1) << 17, its sign the side; amplitude 0 is no pulse; "
     "`iterations` is then the coordinate of the pulses"),
)

_CONTEXT_FIELDS = (
    ("tile", 16, "logical tile, a coordinate of the hash"),
    ("rows", 11, "rows in use"),
    ("columns", 11, "columns in use, at least 4"),
    ("net_base", 12, "first word in the weight memory: fold f, column c is at net_base + f * columns + c"),
    ("state_base", 20, "first cell: row r, column c is at state_base + c * rows + r"),
    ("column_base", 12, "first column constant"),
    ("route", 6, "route of the partial sums"),
    ("adc_gain", 20, "ADC gain of the inference range, 2**-24 codes per charge unit"),
    ("adc_offset", 32, "ADC offset of the inference range, 2**-24 codes, signed"),
    ("latency", 32, "target time of one vector, transport included, ps"),
)

_COLUMN_FIELDS = (
    ("scale", 16, "affine scale, signed, 8 fraction bits"),
    ("bias", 24, "affine bias, signed"),
    ("noise", 16, "noise constant, 12 fraction bits; written by AGE"),
    ("mismatch", 28, "error of the converter: of its gain (signed 12 bits, 2**-12 of it) << 16 | of its offset "
     "(signed 16 bits, 2**-8 codes); 0 in a build without mismatch (emulation only)"),
)

_ENGINE_COUNTERS = (
    ("vectors", "inference reads"), ("row_ticks", "ticks of all row pulses of inference reads and dense probes"),
    ("conversions", "ADC conversions of inference reads"), ("clips", "of these, clipped"),
    ("verify_conversions", "ADC conversions of verify and probe reads"), ("pulses", "programming pulses"),
    ("aged", "devices whose present conductance was recomputed"), ("busy", "clock cycles a column was issued (board)"),
)

_DIGITAL_COUNTERS = (
    ("messages", "programs run"), ("operations", "words (of W elements) through the pipeline"),
    ("busy", "clock cycles a program ran (board)"),
)

_PORT_COUNTERS = (
    ("sent", "vectors accepted"), ("received", "results handed out"),
    ("cycles", "clock cycles since power-up (board)"), ("hops", "flits that crossed a link between two nodes"),
)


def _registers() -> tuple[Register, ...]:
    port, engine, digital = PortRegion, EngineRegion, DigitalRegion
    out = [Register("engine", engine.REGISTERS, n, k, b, a, t, signed=n in ("verify_offset", "probe_ticks"))
           for k, (n, b, a, t) in enumerate(_ENGINE_REGISTERS)]
    out += [Register("engine", engine.CONTEXTS, n, k, b, "rw", t, signed=n == "adc_offset")
            for k, (n, b, t) in enumerate(_CONTEXT_FIELDS)]
    out += [Register("engine", engine.COLUMNS, n, k, b, "rw", t, signed=n in ("scale", "bias"))
            for k, (n, b, t) in enumerate(_COLUMN_FIELDS)]
    out += [
        Register("engine", engine.TABLES, "table", 0, 16, "w", "Table << 8 | index"),
        Register("engine", engine.TARGETS, "target", 0, 19, "rw", "column -> net target, g16, signed", signed=True),
        Register("engine", engine.OUTCOMES, "outcome", 0, 32, "r",
                 "column -> after PROGRAM: sum of codes (signed 16) << 16 | pulses (8) << 8 | refreshes (4) << 4 "
                 "| unresponsive (1) << 1 | converged (1); "
                 "after PROBE: sum of codes (signed 32)"),
        Register("engine", engine.STATES, "state", 0, 32, "rw",
                 "cell * pairs + pair -> G- << 16 | G+ (emulation only: write-verify never uses it)"),
        Register("engine", engine.WEAR, "wear", 0, 32, "rw",
                 "cell * pairs + pair -> wear of G- << 16 | of G+ (emulation only); 0 in a build without wear"),
        Register("engine", engine.INPUTS, "input", 0, 7, "rw",
                 "route -> context | valid << 6; the context named is free at target time 0"),
        Register("digital", digital.INPUT_ROUTES, "base", 0, 12, "rw", "route -> first word of its landing zone"),
        Register("digital", digital.INPUT_ROUTES, "program", 1, 5, "rw", "route -> program | valid << 4"),
        Register("digital", digital.INPUT_ROUTES, "more", 2, 10, "rw",
                 "messages of the route in one run beyond the first; they land one after another"),
        Register("digital", digital.PROGRAMS, "start", 0, 8, "rw", "program -> its first instruction"),
        Register("digital", digital.PROGRAMS, "messages", 1, 12, "rw",
                 "messages that one run consumes, of all its routes together"),
        Register("digital", digital.PROGRAMS, "slot", 2, 12, "rw", "words between the two landing slots"),
        Register("digital", digital.PROGRAMS, "latency", 3, 32, "rw", "target time of one run, transport included, ps"),
        Register("digital", digital.INSTRUCTIONS, "word", 0, 32, "w", "instruction * 8 + word"),
        Register("digital", digital.MEMORY, "element", 0, 24, "rw", "word * 16 + element, signed", signed=True),
        Register("digital", digital.ACTIVATION_TABLES, "value", 0, 24, "w", "table << 8 | index (value + 128)",
                 signed=True),
        Register("port", port.REGISTERS, "window", 0, 4, "rw", "vectors that may be in the mesh at once"),
        Register("port", port.REGISTERS, "segments", 1, 6, "rw", "messages a sent vector is cut into"),
        Register("port", port.REGISTERS, "room", 2, 8, "rw", "vectors whose results the port holds: a replayed one "
                 "starts when fewer are outstanding; as the four below, 0 in a build without batch memory"),
        Register("port", port.REGISTERS, "vector_words", 3, 14, "rw", "words of a replayed vector"),
        Register("port", port.REGISTERS, "replay_word", 4, 22, "rw", "first word, in BATCH, of the next vector that is "
                 "replayed; goes on with each that starts; BATCH wraps"),
        Register("port", port.REGISTERS, "replay_event", 5, 32, "rw", "event of that vector; goes on, too"),
        Register("port", port.REGISTERS, "replay", 6, 20, "rw", "vectors still to start: writing begins a replay when "
                 "no result is outstanding; 0, or a new session, ends one after the vector at hand"),
        Register("port", port.BATCH, "activations", 0, 32, "w", "word * batch_parts + part -> 4 activations (i8)"),
        Register("port", port.PLAN, "segment", 0, 16 + POSITION_BITS, "rw",
                 "segment -> route | words << 8 | position << 16"),
    ]
    regions: tuple[tuple[str, type[PortRegion] | type[EngineRegion] | type[DigitalRegion],
                         tuple[tuple[str, str], ...]], ...] = (
        ("port", port, _PORT_COUNTERS), ("engine", engine, _ENGINE_COUNTERS), ("digital", digital, _DIGITAL_COUNTERS))
    for kind, region, counters in regions:
        out += [Register(kind, region.COUNTERS, n, 2 * k, 64, "r", t) for k, (n, t) in enumerate(counters)]
        out.append(Register(kind, region.ROUTES, "outputs", 0, 5, "rw", "route -> mask of outputs of the node"))
    return tuple(out)


REGISTER_MAP = _registers()
_BY_NAME = {(r.unit, r.region, r.name): r for r in REGISTER_MAP}


def register(unit_kind: str, region: Region, name: str) -> Register:
    """Return a register by the kind of its unit (port, engine, digital), its region and its name."""
    return _BY_NAME[unit_kind, region, name]


def fields(unit_kind: str, region: Region) -> tuple[Register, ...]:
    """Return the registers of one region, in the order of their offsets."""
    return tuple(r for r in REGISTER_MAP if r.unit == unit_kind and r.region == region)


def column_fields(geometry: Geometry) -> tuple[Register, ...]:
    """Return the constants of a column that a build has."""
    return tuple(r for r in fields("engine", EngineRegion.COLUMNS) if geometry.mismatch or r.name != "mismatch")


def address(unit: int, region: Region | int, offset: int) -> int:
    """Return the address of a word."""
    return unit << UNIT_SHIFT | int(region) << REGION_SHIFT | offset


def geometry_hash(geometry: Geometry) -> int:
    """Return 32 bits that differ whenever geometry, register map, instruction or protocol differ."""
    description = {
        "geometry": dataclasses.asdict(geometry),
        "registers": [dataclasses.astuple(r) for r in REGISTER_MAP],
        "instruction": INSTRUCTION_FIELDS,
        "protocol": PROTOCOL_VERSION,
    }
    return zlib.crc32(json.dumps(description, sort_keys=True).encode())
