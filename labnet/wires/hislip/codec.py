"""HiSLIP messages (IVI-6.1, revision 1.1): bytes to meaning and back, for both sides.

Every message is a header of 16 bytes, big endian, and a payload: the prologue ``HS``, the message
type, a control code, a message parameter and the length of the payload.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from labnet.errors import LabError

HEADER = struct.Struct(">2sBBIQ")
PROLOGUE = b"HS"
HEADER_SIZE = HEADER.size
_INITIAL = struct.Struct(">BB2s")  # the parameter of Initialize: version, vendor
_SIZE = struct.Struct(">Q")

VERSION = (1, 0)
"""The version that labnet speaks: major, minor."""

VENDOR = b"LN"
SUB_ADDRESS_LIMIT = 256
ASYNC_LIMIT = 256
"""Longest payload of a message on the asynchronous channel, in bytes."""

ALLOWANCE = HEADER_SIZE
"""Some peers leave the header out of the maximum message size: so much more is accepted."""

ABSURD = 1 << 40
"""A payload announced from this size on (bytes) is not skipped: the header cannot be right."""

FIRST_ID = 0xFFFFFF00
NO_ID = 0xFFFFFEFE
"""What a client gives as the last message id before its first message."""

UNKNOWN_ID = 0xFFFFFFFF
"""A Data message of a server that does not know which message it answers."""


class Type(IntEnum):
    """Message types (IVI-6.1 table 4)."""

    INITIALIZE = 0
    INITIALIZE_RESPONSE = 1
    FATAL_ERROR = 2
    ERROR = 3
    ASYNC_LOCK = 4
    ASYNC_LOCK_RESPONSE = 5
    DATA = 6
    DATA_END = 7
    DEVICE_CLEAR_COMPLETE = 8
    DEVICE_CLEAR_ACKNOWLEDGE = 9
    ASYNC_REMOTE_LOCAL_CONTROL = 10
    ASYNC_REMOTE_LOCAL_RESPONSE = 11
    TRIGGER = 12
    INTERRUPTED = 13
    ASYNC_INTERRUPTED = 14
    ASYNC_MAXIMUM_MESSAGE_SIZE = 15
    ASYNC_MAXIMUM_MESSAGE_SIZE_RESPONSE = 16
    ASYNC_INITIALIZE = 17
    ASYNC_INITIALIZE_RESPONSE = 18
    ASYNC_DEVICE_CLEAR = 19
    ASYNC_SERVICE_REQUEST = 20
    ASYNC_STATUS_QUERY = 21
    ASYNC_STATUS_RESPONSE = 22
    ASYNC_DEVICE_CLEAR_ACKNOWLEDGE = 23
    ASYNC_LOCK_INFO = 24
    ASYNC_LOCK_INFO_RESPONSE = 25


# Module names: reading a member through its class costs a descriptor call in Python 3.11.
DATA = Type.DATA
DATA_END = Type.DATA_END
TRIGGER = Type.TRIGGER
DEVICE_CLEAR_COMPLETE = Type.DEVICE_CLEAR_COMPLETE

_DATA = frozenset((DATA, DATA_END))

FIRST_VENDOR_TYPE = 128


class Fatal(IntEnum):
    """Codes of FatalError."""

    UNIDENTIFIED = 0
    POORLY_FORMED = 1
    NOT_BOTH_CHANNELS = 2
    INVALID_INITIALIZATION = 3
    TOO_MANY_CLIENTS = 4


class Code(IntEnum):
    """Codes of Error."""

    UNIDENTIFIED = 0
    UNRECOGNIZED_TYPE = 1
    UNRECOGNIZED_CONTROL = 2
    UNRECOGNIZED_VENDOR = 3
    TOO_LARGE = 4


class Lock(IntEnum):
    """Control codes of AsyncLockResponse."""

    FAILED = 0
    GRANTED = 1  # also: the exclusive lock was released
    SHARED_RELEASED = 2
    ERROR = 3


class RemoteLocal(IntEnum):
    """Requests of AsyncRemoteLocalControl, in the words of VISA's viGpibControlREN."""

    DISABLE = 0
    ENABLE = 1
    DISABLE_AND_GO_TO_LOCAL = 2
    ENABLE_AND_GO_TO_REMOTE = 3
    ENABLE_AND_LOCK_OUT = 4
    ENABLE_LOCK_OUT_AND_GO_TO_REMOTE = 5
    GO_TO_LOCAL = 6


REQUEST_LOCK = 1
RELEASE_LOCK = 0
RMT_DELIVERED = 1
OVERLAP = 1  # the feature bit


class Message(NamedTuple):
    """One message. `payload` is bytes, or a bytearray that nobody else keeps."""

    type: int
    control: int = 0
    parameter: int = 0
    payload: bytes | bytearray = b""


class Oversized(NamedTuple):
    """A message whose payload was over the bound and has been passed over."""

    type: int
    length: int


class Piece(NamedTuple):
    """Some bytes of the payload of a Data or DataEND message; `last` if no more come in it."""

    type: int
    parameter: int
    data: memoryview
    last: bool


class PoorlyFormed(LabError):
    """What came is no HiSLIP message, or announces a payload that cannot be."""


def encode(
    type: int,
    control: int = 0,
    parameter: int = 0,
    *payload: bytes | bytearray | memoryview,
) -> bytes:
    """A whole message; its payload may come in pieces."""
    length = sum(map(len, payload)) if payload else 0
    header = HEADER.pack(PROLOGUE, type, control, parameter, length)
    return b"".join((header, *payload)) if length else header


def encode_header(type: int, control: int, parameter: int, length: int) -> bytes:
    """The header of a message whose payload of `length` bytes is sent by itself."""
    return HEADER.pack(PROLOGUE, type, control, parameter, length)


class MessageSplitter:
    """Cuts a stream into messages. `limit` is the longest payload, in bytes.

    `feed` takes what has come and `take` gives the next message, so that one may stop between two.
    Memory is what has really arrived, whatever a header announces. With `in_pieces` a Data or
    DataEND message that does not come at once is given as it comes, whatever its length; the bytes
    of a piece are good until the next `feed`.
    """

    def __init__(self, limit: int = ASYNC_LIMIT, in_pieces: bool = False) -> None:
        self.limit = limit
        self._in_pieces = in_pieces
        self._data = b""
        self._at = 0  # of the first byte not taken
        self._head: Message | None = None  # of the message whose payload is coming
        self._payload: bytearray | None = None
        self._missing = 0
        self._oversized: Oversized | None = None

    @property
    def pending(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._head is not None or self._at < len(self._data)

    def whole(self, data: bytes) -> Message | None:
        """The message that `data` is, if it is just that; else feed it.

        The usual case, at half the cost.
        """
        if self._head is not None or self._at < len(self._data) or len(data) < HEADER_SIZE:
            return None
        prologue, type_, control, parameter, length = HEADER.unpack_from(data)
        if length != len(data) - HEADER_SIZE or length > self.limit or prologue != PROLOGUE:
            return None
        return Message(type_, control, parameter, data[HEADER_SIZE:])

    def feed(self, data: bytes) -> None:
        """Takes bytes that have come."""
        self._data = data if self._at == len(self._data) else self._data[self._at :] + data
        self._at = 0

    def take(self) -> Message | Piece | Oversized | None:
        """The next message, None if it is not complete; raises `PoorlyFormed`."""
        if self._head is not None:
            return self._fill(self._head)
        data, at = self._data, self._at
        body = at + HEADER_SIZE
        if len(data) < body:
            return None
        prologue, type_, control, parameter, length = HEADER.unpack_from(data, at)
        if prologue != PROLOGUE:
            raise PoorlyFormed("a message begins with HS")
        end = body + length
        if end <= len(data) and length <= self.limit:
            self._at = end
            return Message(type_, control, parameter, data[body:end])
        if length >= ABSURD:
            raise PoorlyFormed(f"a payload of {length} bytes is announced")
        self._at = body
        self._missing = length
        self._head = Message(type_, control, parameter)
        if self._in_pieces and type_ in _DATA:
            pass
        elif length > self.limit:
            self._oversized = Oversized(type_, length)
        else:
            self._payload = bytearray()
        return self._fill(self._head)

    def _fill(self, head: Message) -> Message | Piece | Oversized | None:
        """Goes on with a payload that did not come at once."""
        at = self._at
        come = min(len(self._data) - at, self._missing)
        data = memoryview(self._data)[at : at + come]
        self._at = at + come
        self._missing -= come
        if self._payload is not None:
            self._payload += data
        elif self._oversized is None and (come or not self._missing):
            if not self._missing:
                self._head = None
            return Piece(head.type, head.parameter, data, not self._missing)
        if self._missing:
            return None
        payload, self._payload = self._payload, None
        oversized, self._oversized = self._oversized, None
        self._head = None
        if payload is None:
            return oversized
        return head._replace(payload=payload)


# Initialization


def negotiate(theirs: tuple[int, int], ours: tuple[int, int] = VERSION) -> tuple[int, int]:
    """The version of a session: the lower one."""
    return min(theirs, ours)


def encode_initialize(
    sub_address: str, version: tuple[int, int] = VERSION, vendor: bytes = VENDOR
) -> bytes:
    """Initialize; UnicodeEncodeError for a name with characters beyond Latin-1."""
    parameter = int.from_bytes(_INITIAL.pack(*version, vendor), "big")
    return encode(Type.INITIALIZE, 0, parameter, sub_address.encode("latin-1"))


def decode_version(parameter: int) -> tuple[int, int]:
    """The version in the parameter of Initialize and InitializeResponse."""
    return parameter >> 24, parameter >> 16 & 0xFF


def encode_initialize_response(version: tuple[int, int], session: int) -> bytes:
    """InitializeResponse; the server prefers synchronized mode."""
    return encode(Type.INITIALIZE_RESPONSE, 0, version[0] << 24 | version[1] << 16 | session)


def decode_session(parameter: int) -> int:
    """The session in the parameter of InitializeResponse and AsyncInitialize."""
    return parameter & 0xFFFF


def encode_size(type: int, size: int) -> bytes:
    """AsyncMaximumMessageSize or its response."""
    return encode(type, 0, 0, _SIZE.pack(size))


def decode_size(payload: bytes | bytearray) -> int | None:
    """The size in such a message; None if there is none."""
    if len(payload) != _SIZE.size:
        return None
    size: int = _SIZE.unpack(payload)[0]
    return size


RESPONSES = {
    Type.ASYNC_LOCK: Type.ASYNC_LOCK_RESPONSE,
    Type.ASYNC_REMOTE_LOCAL_CONTROL: Type.ASYNC_REMOTE_LOCAL_RESPONSE,
    Type.ASYNC_MAXIMUM_MESSAGE_SIZE: Type.ASYNC_MAXIMUM_MESSAGE_SIZE_RESPONSE,
    Type.ASYNC_INITIALIZE: Type.ASYNC_INITIALIZE_RESPONSE,
    Type.ASYNC_DEVICE_CLEAR: Type.ASYNC_DEVICE_CLEAR_ACKNOWLEDGE,
    Type.ASYNC_STATUS_QUERY: Type.ASYNC_STATUS_RESPONSE,
    Type.ASYNC_LOCK_INFO: Type.ASYNC_LOCK_INFO_RESPONSE,
}
"""What answers a request on the asynchronous channel."""


# Message ids


def next_id(number: int) -> int:
    """The id after this one."""
    return number + 2 & 0xFFFFFFFF


def reached(last: int, wanted: int) -> bool:
    """Whether `last` is at or past `wanted`; ids wrap at 32 bits."""
    return last - wanted & 0xFFFFFFFF < 0x80000000


# Sizes


def payload_size(maximum: int) -> int:
    """Bytes of payload in a message of at most `maximum` bytes; at least one."""
    return max(1, maximum - HEADER_SIZE)


# Texts


def encode_fatal(code: int, text: str) -> bytes:
    """FatalError."""
    return encode(Type.FATAL_ERROR, code, 0, _latin(text))


def encode_error(code: int, text: str) -> bytes:
    """Error."""
    return encode(Type.ERROR, code, 0, _latin(text))


def decode_text(payload: bytes | bytearray) -> str:
    """A string of a peer: 8-bit characters, without the NUL that some append."""
    return payload.rstrip(b"\0").decode("latin-1")


def encode_too_large(refused: Oversized, limit: int) -> bytes:
    """The Error for a message whose payload is longer than `limit` bytes."""
    name = type_name(refused.type)
    text = f"{name} with {refused.length} bytes of payload; {limit} are the most"
    return encode_error(Code.TOO_LARGE, text)


def encode_not_understood(type: int) -> bytes:
    """The Error for a message that has no meaning on its channel."""
    if type >= FIRST_VENDOR_TYPE:
        return encode_error(Code.UNRECOGNIZED_VENDOR, f"unrecognized vendor message {type}")
    return encode_error(Code.UNRECOGNIZED_TYPE, f"unrecognized on this channel: {type_name(type)}")


def type_name(number: int) -> str:
    """The name of a message type, in the words of the standard."""
    try:
        return "".join(word.capitalize() for word in Type(number).name.split("_"))
    except ValueError:
        return f"type {number}"


def _latin(text: str) -> bytes:
    return text.encode("latin-1", "replace")[:ASYNC_LIMIT]
