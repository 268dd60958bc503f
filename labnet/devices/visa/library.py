"""The few calls that labnet makes of a VISA library, on one open resource.

What a library says by a status code is returned, not raised (VPP-4.3.2 section 6), so that the
bytes that came before a time limit are not lost. With pyvisa-py the calls go to its own session
below the library's, which keeps those bytes and costs less; with others through the library.
"""

from __future__ import annotations

import select
import socket
from typing import Any

from pyvisa import constants, errors
from pyvisa.constants import StatusCode

TIMED_OUT = StatusCode.error_timeout
LOST = StatusCode.error_connection_lost
#: Seconds between two looks whether the other end of a socket is still there.
LOOK = 0.05


class Library:
    """Any VISA library."""

    def __init__(self, resource: Any) -> None:
        self.resource = resource
        self.visalib = resource.visalib
        self.session = resource.session
        self.is_serial = resource.interface_type == constants.InterfaceType.asrl

    def set_timeout(self, seconds: float) -> None:
        """The time limit of each read and write."""
        self.resource.timeout = max(1, round(seconds * 1000))

    def ends_with(self, end: bytes) -> None:
        """The last byte of `end` ends an answer, or nothing but END does."""
        self.resource.set_visa_attribute(
            constants.ResourceAttribute.termchar, end[-1] if end else 0x0A
        )
        self.use_end(bool(end))

    def use_end(self, on: bool) -> None:
        """Whether the termination character counts."""
        self.resource.set_visa_attribute(constants.ResourceAttribute.termchar_enabled, on)
        if self.is_serial:
            end = constants.SerialTermination
            self.resource.end_input = end.termination_char if on else end.none

    def read(self, count: int, timeout: float) -> tuple[bytes, StatusCode]:
        """At most `count` bytes, and why the reading has ended."""
        try:
            data, status = self.visalib.read(self.session, count)
        except errors.VisaIOError as error:
            return b"", StatusCode(error.error_code)
        return bytes(data), status

    def write(self, data: bytes, timeout: float) -> StatusCode:
        """Sends a message, with END where there is one."""
        try:
            return StatusCode(self.visalib.write(self.session, data)[1])
        except errors.VisaIOError as error:
            return StatusCode(error.error_code)

    def waiting(self) -> bytes | None:
        """What has arrived though nobody has asked; None where the library cannot tell."""
        if not self.is_serial:
            return None
        count = self.resource.bytes_in_buffer
        return self.read(count, 0.0)[0] if count else b""

    def clear(self) -> None:
        """Device clear; raises what the library raises."""
        self.visalib.clear(self.session)

    def close(self) -> None:
        """Ends the session."""
        self.resource.close()


class PythonLibrary(Library):
    """pyvisa-py, by its session."""

    def __init__(self, resource: Any) -> None:
        super().__init__(resource)
        self.inner = self.visalib.sessions[self.session]

    def read(self, count: int, timeout: float) -> tuple[bytes, StatusCode]:
        data, status = self.inner.read(count)
        return bytes(data), status

    def write(self, data: bytes, timeout: float) -> StatusCode:
        status: StatusCode = self.inner.write(data)[1]
        return status


class SocketLibrary(PythonLibrary):
    """pyvisa-py's raw socket, which by itself notices neither its end nor what lies there."""

    def __init__(self, resource: Any) -> None:
        super().__init__(resource)
        self.socket: socket.socket = self.inner.interface
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def set_timeout(self, seconds: float) -> None:
        super().set_timeout(min(seconds, LOOK))  # the rest is waited for here

    def read(self, count: int, timeout: float) -> tuple[bytes, StatusCode]:
        if not self.inner._pending_buffer:
            if not select.select([self.socket], (), (), timeout)[0]:
                return b"", TIMED_OUT
            if not self.socket.recv(1, socket.MSG_PEEK):
                return b"", LOST
        data, status = self.inner.read(count)
        if status == TIMED_OUT and data:
            status = StatusCode.success_max_count_read  # there is more to come
        return bytes(data), status

    def write(self, data: bytes, timeout: float) -> StatusCode:
        view = memoryview(data)
        while view:
            if not select.select((), [self.socket], (), timeout)[1]:
                return TIMED_OUT
            view = view[self.socket.send(view[:65536]) :]
        return StatusCode.success

    def waiting(self) -> bytes | None:
        found = bytes(self.inner._pending_buffer)
        self.inner._pending_buffer.clear()
        while select.select([self.socket], (), (), 0)[0]:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionResetError("the instrument has closed the connection")
            found += data
        return found


def library_of(resource: Any) -> Library:
    """The calls for an open resource, as its library allows."""
    sessions = getattr(resource.visalib, "sessions", None)
    inner = sessions.get(resource.session) if isinstance(sessions, dict) else None
    if inner is None or type(inner).__module__.partition(".")[0] != "pyvisa_py":
        return Library(resource)
    if isinstance(getattr(inner, "interface", None), socket.socket):
        return SocketLibrary(resource)
    return PythonLibrary(resource)
