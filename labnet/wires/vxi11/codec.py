"""The calls of VXI-11 (TCP/IP Instrument Protocol, revision 1.0) as bytes, both ways.

Times on the wire are whole milliseconds. Every field of a result is sent with an error as well.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from labnet.framing.xdr import XdrReader, encode_opaque, encode_uint, padding
from labnet.wires.vxi11.rpc import encode_reply_parts

VERSION = 1

# Flags of an operation (VXI-11 section B.5.3).
WAITLOCK = 0x01
END = 0x08
TERMCHRSET = 0x80

# Why a read ended (B.6.4); several may be set at once.
REASON_REQCNT = 0x01
REASON_CHR = 0x02
REASON_END = 0x04

MAX_DEVICE_NAME = 256
MAX_HANDLE = 40
MAX_DATA = (1 << 31) - 1
FOREVER = 0xFFFFFFFF
"""Milliseconds that mean no time limit."""

LONGEST = 86400.0
"""Seconds after which even such a limit has passed."""

OVERHEAD = 1024
"""Bytes of a record beside the data of a write: more is never needed."""


class Program(IntEnum):
    """The three programs: two are served by the instrument, the last one by the client."""

    CORE = 0x0607AF
    ABORT = 0x0607B0
    INTERRUPT = 0x0607B1


class Procedure(IntEnum):
    """Procedures of all three programs."""

    NULL = 0
    DEVICE_ABORT = 1
    CREATE_LINK = 10
    DEVICE_WRITE = 11
    DEVICE_READ = 12
    DEVICE_READSTB = 13
    DEVICE_TRIGGER = 14
    DEVICE_CLEAR = 15
    DEVICE_REMOTE = 16
    DEVICE_LOCAL = 17
    DEVICE_LOCK = 18
    DEVICE_UNLOCK = 19
    DEVICE_ENABLE_SRQ = 20
    DEVICE_DOCMD = 22
    DESTROY_LINK = 23
    CREATE_INTR_CHAN = 25
    DESTROY_INTR_CHAN = 26
    DEVICE_INTR_SRQ = 30


class ErrorCode(IntEnum):
    """Device_ErrorCode (B.5.2)."""

    NONE = 0
    SYNTAX = 1
    NOT_ACCESSIBLE = 3
    INVALID_LINK = 4
    PARAMETER = 5
    NO_CHANNEL = 6
    NOT_SUPPORTED = 8
    OUT_OF_RESOURCES = 9
    LOCKED = 11
    NO_LOCK = 12
    IO_TIMEOUT = 15
    IO_ERROR = 17
    INVALID_ADDRESS = 21
    ABORT = 23
    CHANNEL_EXISTS = 29


class Family(IntEnum):
    """How the interrupt channel is connected."""

    TCP = 0
    UDP = 1


_CREATE = Struct(">iII")
_WRITE = Struct(">4I")
_WRITE_HEAD = Struct(">5I")
_READ = Struct(">6I")
_FOUR = Struct(">4I")
_THREE = Struct(">3I")
TWO = Struct(">2I")
"""An error code and a number: how most results begin."""

_CHANNEL = Struct(">5I")
_COMMAND = Struct(">7I")


def seconds(milliseconds: int) -> float:
    """A time of the wire in seconds, at most `LONGEST`."""
    return min(milliseconds / 1000, LONGEST)


def milliseconds(seconds: float) -> int:
    """A time for the wire; what is too long for it means without limit."""
    return min(max(0, round(seconds * 1000)), FOREVER)


# Arguments


class CreateLink(NamedTuple):
    """create_link; `client_id` only informs."""

    client_id: int
    lock_device: int
    lock_timeout: int
    device: bytes

    def encode(self) -> bytes:
        head = _CREATE.pack(self.client_id, self.lock_device, self.lock_timeout)
        return head + encode_opaque(self.device)


def read_create_link(reader: XdrReader) -> CreateLink:
    """Raises `XdrError`, as all these do."""
    return CreateLink._make((*reader.fields(_CREATE), reader.opaque(MAX_DATA)))


class DeviceWrite(NamedTuple):
    """device_write."""

    link: int
    io_timeout: int
    lock_timeout: int
    flags: int
    data: bytes | memoryview

    def encode(self) -> tuple[bytes | memoryview, ...]:
        """In parts: the data may be long."""
        data = self.data
        head = _WRITE.pack(*self[:4]) + encode_uint(len(data))
        return head, data, padding(len(data))


def encode_write_head(link: int, io_timeout: int, lock_timeout: int, end: bool, size: int) -> bytes:
    """What comes before the `size` bytes of a device_write that waits for locks if there is a limit
    for that, and their padding."""
    flags = (END if end else 0) | (WAITLOCK if lock_timeout else 0)
    return _WRITE_HEAD.pack(link, io_timeout, lock_timeout, flags, size)


def read_device_write(reader: XdrReader) -> DeviceWrite:
    """Long data is not copied."""
    return DeviceWrite._make((*reader.fields(_WRITE), reader.view(MAX_DATA)))


class DeviceRead(NamedTuple):
    """device_read."""

    link: int
    size: int
    io_timeout: int
    lock_timeout: int
    flags: int
    termchar: int

    def encode(self) -> bytes:
        return _READ.pack(*self)


def read_device_read(reader: XdrReader) -> DeviceRead:
    """The termination character is one byte, which some peers send with its sign."""
    request = DeviceRead(*reader.fields(_READ))
    return request if request.termchar < 256 else request._replace(termchar=request.termchar & 255)


class Generic(NamedTuple):
    """readstb, trigger, clear, remote and local: here the limit for the lock comes first."""

    link: int
    flags: int
    lock_timeout: int
    io_timeout: int

    def encode(self) -> bytes:
        return _FOUR.pack(*self)


def read_generic(reader: XdrReader) -> Generic:
    return Generic(*reader.fields(_FOUR))


class DeviceLock(NamedTuple):
    """device_lock."""

    link: int
    flags: int
    lock_timeout: int

    def encode(self) -> bytes:
        return _THREE.pack(*self)


def read_device_lock(reader: XdrReader) -> DeviceLock:
    return DeviceLock(*reader.fields(_THREE))


class EnableSrq(NamedTuple):
    """device_enable_srq; the handle is given back with each service request."""

    link: int
    enable: int
    handle: bytes

    def encode(self) -> bytes:
        return TWO.pack(self.link, self.enable) + encode_opaque(self.handle)


def read_enable_srq(reader: XdrReader) -> EnableSrq:
    return EnableSrq._make((*reader.fields(TWO), reader.opaque(MAX_DATA)))


class DoCommand(NamedTuple):
    """device_docmd: commands of a GPIB interface."""

    link: int
    flags: int
    io_timeout: int
    lock_timeout: int
    command: int
    network_order: int
    size: int
    data: bytes

    def encode(self) -> bytes:
        return _COMMAND.pack(*self[:7]) + encode_opaque(self.data)


def read_do_command(reader: XdrReader) -> DoCommand:
    return DoCommand._make((*reader.fields(_COMMAND), reader.opaque(MAX_DATA)))


class Channel(NamedTuple):
    """create_intr_chan: where the client listens. `host` is an IPv4 address as a number."""

    host: int
    port: int
    program: int
    version: int
    family: int

    def encode(self) -> bytes:
        return _CHANNEL.pack(*self)

    @property
    def address(self) -> str:
        """The host in dotted form."""
        return ".".join(str(byte) for byte in self.host.to_bytes(4, "big"))


def read_channel(reader: XdrReader) -> Channel:
    return Channel(*reader.fields(_CHANNEL))


# Results


class LinkMade(NamedTuple):
    """The result of create_link."""

    error: int
    link: int
    abort_port: int
    max_receive: int

    def encode(self) -> bytes:
        return _FOUR.pack(*self)


def read_link_made(reader: XdrReader) -> LinkMade:
    """The port is an unsigned short, which some instruments send with its sign."""
    made = LinkMade(*reader.fields(_FOUR))
    return made._replace(abort_port=made.abort_port & 0xFFFF)


class Taken(NamedTuple):
    """The result of device_write and of device_readstb: error, and size or status byte."""

    error: int
    value: int

    def encode(self) -> bytes:
        return TWO.pack(*self)


def read_taken(reader: XdrReader) -> Taken:
    return Taken(*reader.fields(TWO))


class Given(NamedTuple):
    """The result of device_read."""

    error: int
    reason: int
    data: bytes | memoryview


def read_given(reader: XdrReader) -> Given:
    return Given._make((*reader.fields(TWO), reader.opaque(MAX_DATA)))


def encode_given(
    xid: int, error: int, reason: int, data: bytes | memoryview = b""
) -> bytes:
    """The whole reply to device_read."""
    return b"".join(encode_given_parts(xid, error, reason, data))


def encode_given_parts(
    xid: int, error: int, reason: int, data: bytes | memoryview
) -> list[bytes | memoryview]:
    """The same in parts: the data may be long."""
    size = len(data)
    return encode_reply_parts(xid, (_THREE.pack(error, reason, size), data, padding(size)))


def encode_error(error: int) -> bytes:
    """The result of a call that has no other; with `encode_opaque(b"")` that of device_docmd."""
    return encode_uint(error)
