"""ONC RPC version 2 (RFC 5531) and its port mapper (RFC 1833 section 3): messages as bytes.

Whatever is made here is a whole record with its mark; over UDP the mark, 4 bytes, is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from labnet.framing.xdr import LAST, Record, XdrError, XdrReader, encode_uint

VERSION = 2
MARK = 4
"""Bytes of a record mark."""

MAX_CREDENTIAL = 400

_HEAD = Struct(">6I")  # xid, message type, RPC version, program, program version, procedure
_CALL = Struct(">11I")  # mark, the same, credential flavor and length, verifier flavor and length
_REPLY = Struct(">7I")  # mark, xid, message type, denied, verifier flavor and length, status
_SUCCESS = [0, 0, 0, 0]  # accepted, verifier flavor and length, status
_NOBODY = bytes(16)  # credential and verifier of flavor AUTH_NONE
_FIRST = Struct(">3I")  # xid, message type, denied
_PAIR = Struct(">2I")


class MessageType(IntEnum):
    """What a message is."""

    CALL = 0
    REPLY = 1


# As plain numbers, which are compared faster.
CALL, REPLY = int(MessageType.CALL), int(MessageType.REPLY)


class Accept(IntEnum):
    """Status of an accepted call (accept_stat)."""

    SUCCESS = 0
    PROG_UNAVAIL = 1
    PROG_MISMATCH = 2
    PROC_UNAVAIL = 3
    GARBAGE_ARGS = 4
    SYSTEM_ERR = 5


WORDS = {
    Accept.PROG_UNAVAIL: "does not serve this program",
    Accept.PROG_MISMATCH: "serves another version of the program",
    Accept.PROC_UNAVAIL: "does not know the procedure",
    Accept.GARBAGE_ARGS: "could not read the arguments",
    Accept.SYSTEM_ERR: "had a system error",
}


class Call(NamedTuple):
    """A call; its arguments begin at byte `at` of the record."""

    xid: int
    program: int
    version: int
    procedure: int
    record: Record
    at: int

    def arguments(self) -> XdrReader:
        """What reads the arguments."""
        return XdrReader(self.record, self.at)


class Answered(NamedTuple):
    """A call that is refused before anybody looks at its arguments; empty for no answer."""

    reply: bytes


class Reply(NamedTuple):
    """A reply; its results begin at byte `at` of the record. `problem` is empty for success."""

    xid: int
    problem: str
    record: Record
    at: int

    def results(self) -> XdrReader:
        """What reads the results."""
        return XdrReader(self.record, self.at)


def read_call(record: Record) -> Call | Answered:
    """The call in a record; raises `XdrError` for what cannot even be answered."""
    size = len(record)
    if size >= 40 and record[24:40] == _NOBODY:
        xid, kind, rpc, program, version, procedure = _HEAD.unpack_from(record)
        if kind == CALL and rpc == VERSION:
            return Call(xid, program, version, procedure, record, 40)
    return _read_call(record)


def _read_call(record: Record) -> Call | Answered:
    reader = XdrReader(record)
    xid, kind = reader.fields(_PAIR)
    if kind == MessageType.REPLY:
        return Answered(b"")
    if kind != MessageType.CALL:
        raise XdrError(f"a message of type {kind}")
    try:
        if reader.uint() != VERSION:
            return Answered(encode_denied(xid))
        program, version, procedure = reader.uint(), reader.uint(), reader.uint()
        for _ in ("credential", "verifier"):
            reader.uint()
            reader.opaque(MAX_CREDENTIAL)
    except XdrError:
        return Answered(encode_reply(xid, status=Accept.GARBAGE_ARGS))
    return Call(xid, program, version, procedure, record, reader.at)


def encode_call(
    xid: int, program: int, version: int, procedure: int, *arguments: bytes
) -> bytes:
    """A call without credentials."""
    return b"".join(encode_call_parts(xid, program, version, procedure, arguments))


def encode_call_parts(
    xid: int,
    program: int,
    version: int,
    procedure: int,
    arguments: Sequence[bytes | memoryview],
) -> list[bytes | memoryview]:
    """The same in parts: arguments may be long."""
    size = 40 + sum(map(len, arguments))
    head = _CALL.pack(LAST | size, xid, CALL, VERSION, program, version, procedure, 0, 0, 0, 0)
    return [head, *arguments]


def encode_reply(xid: int, *results: bytes | memoryview, status: int = Accept.SUCCESS) -> bytes:
    """The answer to a call that was accepted."""
    return b"".join(encode_reply_parts(xid, results, status))


def encode_reply_parts(
    xid: int, results: Sequence[bytes | memoryview], status: int = 0
) -> list[bytes | memoryview]:
    """The same in parts: results may be long."""
    size = 24 + sum(map(len, results))
    return [_REPLY.pack(LAST | size, xid, REPLY, 0, 0, 0, status), *results]


def encode_mismatch(xid: int, lowest: int, highest: int) -> bytes:
    """The answer to a call of another version of the program."""
    return encode_reply(xid, _PAIR.pack(lowest, highest), status=Accept.PROG_MISMATCH)


def encode_denied(xid: int) -> bytes:
    """The answer to a call of another version of RPC."""
    return Struct(">7I").pack(LAST | 24, xid, MessageType.REPLY, 1, 0, VERSION, VERSION)


def read_reply(record: Record) -> Reply:
    """The reply in a record; raises `XdrError` if it is none."""
    if len(record) >= 24:
        xid, kind, *refused = _HEAD.unpack_from(record)
        if kind == REPLY and refused == _SUCCESS:
            return Reply(xid, "", record, 24)
    return _read_reply(record)


def _read_reply(record: Record) -> Reply:
    reader = XdrReader(record)
    xid, kind, denied = reader.fields(_FIRST)
    if kind != MessageType.REPLY:
        raise XdrError("a call where a reply should come")
    if denied:
        return Reply(xid, "denied the call", record, reader.at)
    reader.uint()
    reader.opaque(MAX_CREDENTIAL)
    status = reader.uint()
    problem = ""
    if status != Accept.SUCCESS:
        problem = WORDS.get(Accept(status), "") if status <= Accept.SYSTEM_ERR else ""
        problem = problem or f"answered with the unknown status {status}"
    return Reply(xid, problem, record, reader.at)


# The port mapper

PORTMAPPER = 100000
PORTMAPPER_VERSION = 2
PORTMAPPER_PORT = 111
TCP, UDP = 6, 17
MAX_MAPPINGS = 1000


class Port(IntEnum):
    """Procedures of the port mapper."""

    NULL = 0
    SET = 1
    UNSET = 2
    GETPORT = 3
    DUMP = 4
    CALLIT = 5


class Mapping(NamedTuple):
    """A program of a version, the protocol, and the port where it is served."""

    program: int
    version: int
    protocol: int
    port: int

    def encode(self) -> bytes:
        """The mapping as arguments."""
        return _MAPPING.pack(*self)


_MAPPING = Struct(">4I")


def read_mapping(reader: XdrReader) -> Mapping:
    """A mapping from arguments."""
    return Mapping(*reader.fields(_MAPPING))


def encode_mappings(mappings: Iterable[Mapping]) -> bytes:
    """The result of DUMP."""
    parts = [encode_uint(1) + mapping.encode() for mapping in mappings]
    return b"".join((*parts, encode_uint(0)))


def read_mappings(reader: XdrReader) -> list[Mapping]:
    """The mappings in the result of DUMP, at most `MAX_MAPPINGS`."""
    found: list[Mapping] = []
    while reader.uint() and len(found) < MAX_MAPPINGS:
        found.append(read_mapping(reader))
    return found
