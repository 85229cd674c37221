"""Frames of the host link: what the two ends say to each other. docs/protocol.md tells the rules."""

import enum

PROTOCOL_VERSION = 1
MAGIC = 0x4C544942
"""'BITL', little-endian: the first word of the answer to IDENTIFY."""

WINDOW = 8
"""Requests that may be unanswered; the device keeps the answers of as many for repeats."""

REQUEST_BYTES = 2048
"""Most bytes of a request's body."""

REPLY_BYTES = 512
"""Most bytes of a reply's body."""

HEADER_BYTES = 4
"""Before the body of a frame, all little-endian: u8 opcode (request) or status (reply), u8 sequence, u16 body length.
After it: u32 CRC-32 (zlib) of header and body. The whole is COBS-coded and ends with a zero byte."""


class Opcode(enum.IntEnum):
    """What a request asks."""

    IDENTIFY = 0x10
    """Body: u32 nonce. Begins a session: the next request has sequence 1. Reply: see IDENTIFY_FIELDS."""
    READ = 0x11
    """Body: u32 address, u16 count, u8 step (0 or 1). Reply: count words of u32."""
    WRITE = 0x12
    """Body: u32 address, u8 step, then words of u32. Reply: empty."""
    SEND = 0x13
    """Body: u32 event, u48 target time, then activations (i8) in the order of the port's plan. Reply: empty."""
    RECEIVE = 0x14
    """Body: empty. Reply: one result (u32 event, u48 target time, elements of i32), or empty if none is ready."""


class Status(enum.IntEnum):
    """How a request ended."""

    OK = 0x20
    BAD_REQUEST = 0x21
    """Unknown opcode or malformed body; nothing was done."""
    NO_CREDIT = 0x22
    """SEND while `result_vectors` results are outstanding; nothing was done."""
    BUS_TIMEOUT = 0x23
    """A register did not answer within the chip's limit."""
    OUT_OF_SEQUENCE = 0x24
    """The sequence number is neither the next nor among the last WINDOW; its field holds the one expected."""


IDENTIFY_FIELDS: tuple[tuple[str, str], ...] = (
    ("magic", "I"), ("version", "I"), ("geometry", "I"), ("nonce", "I"), ("digest", "I"), ("commands", "I"),
)
"""Reply to IDENTIFY, as `struct` codes: geometry is `geometry_hash`; digest is the CRC-32 of every state-changing
request (opcode and body of each WRITE and SEND) executed since power-up, commands their number."""
