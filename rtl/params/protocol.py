"""Frames of the host link: what the two ends say to each other. docs/protocol.md tells the rules."""

import enum
import struct

PROTOCOL_VERSION = 2
MAGIC = 0x4C544942
"""'BITL', little-endian: the first word of the answer to IDENTIFY."""

WINDOW = 8
"""Requests that may be unanswered; the device keeps the answers of as many for repeats."""

REQUEST_BYTES = 2048
"""Most bytes of a request's body."""

REPLY_BYTES = 512
"""Most bytes of a reply's body."""

RECEIVE_BYTES = 4096
"""Bytes of requests (header, body, CRC) the device can hold: a host keeps fewer unanswered."""

HEADER_FORMAT = "<BBHI"
"""Before the body of a frame, all little-endian: u8 opcode (request) or status (reply), u8 sequence, u16 body length,
u32 session. After it: u32 CRC-32 (zlib) of header and body. The whole is COBS-coded and ends with a zero byte."""

HEADER_BYTES = struct.calcsize(HEADER_FORMAT)
LENGTH_OFFSET = struct.calcsize("<BB")
"""Of the body length in the header."""
SESSION_OFFSET = struct.calcsize("<BBH")
"""Of the session in the header, its last part."""
CRC_BYTES = 4

READ_FORMAT = "<IHB"
WRITE_FORMAT = "<IB"
"""Before the words of a WRITE."""

READ_WORDS = REPLY_BYTES // 4
"""Most words of a READ."""

VECTOR_BYTES = 10
"""Event and target time, before the activations of a SEND and the elements of a RECEIVE."""


class Opcode(enum.IntEnum):
    """What a request asks."""

    IDENTIFY = 0x10
    """Body: empty. Begins the session that the header names, a random number, unless it is the present one: the next
    request has sequence 1, and a replay ends. Itself it has any sequence and takes no part in it. Reply: see
    IDENTIFY_FIELDS."""
    READ = 0x11
    """Body: u32 address, u16 count (1 to READ_WORDS), u8 step (0 or 1). Reply: count words of u32."""
    WRITE = 0x12
    """Body: u32 address, u8 step (0 or 1), then one or more words of u32. Reply: empty."""
    SEND = 0x13
    """Body: u32 event, u48 target time, then activations (i8) in the order of the port's plan. Reply: empty."""
    RECEIVE = 0x14
    """Body: empty. Reply: one result (u32 event, u48 target time, elements of i32), or empty if none is ready. Of a
    result longer than REPLY_BYTES, the next part, with the status MORE but for the last."""


class Status(enum.IntEnum):
    """How a request ended."""

    OK = 0x20
    BAD_REQUEST = 0x21
    """Unknown opcode or malformed body; nothing was done."""
    NO_CREDIT = 0x22
    """SEND while `result_vectors` results are outstanding, or any of a replay; nothing was done."""
    BUS_TIMEOUT = 0x23
    """A register did not answer within the chip's limit; words of a WRITE before it were written, those after not."""
    OUT_OF_SEQUENCE = 0x24
    """The sequence number is neither the next nor among the last WINDOW; its field holds the one expected."""
    MORE = 0x25
    """OK, and the next RECEIVE brings the following part of the same result."""
    NO_SESSION = 0x26
    """The request names another session than the present one, or there is none since power-up; nothing was done. The
    field of the sequence is 0, that of the session names the present one (0 if there is none)."""


IDENTIFY_FIELDS: tuple[tuple[str, str], ...] = (
    ("magic", "I"), ("version", "I"), ("geometry", "I"), ("digest", "I"), ("commands", "I"), ("executed", "I"),
)
"""Reply to IDENTIFY, as `struct` codes: geometry is `geometry_hash`; digest is the CRC-32 of opcode, body and status of
every WRITE and SEND executed since power-up, one after the other (not those refused with BAD_REQUEST or NO_CREDIT),
commands their number; executed is the number of requests executed in this session: 0 if it has just begun."""
