"""VISA resource strings of instruments on the network: ``TCPIP0::host::hislip0::INSTR``.

VPP-4.3 section 4.3.1.1 has the grammar; a port after the host or after the HiSLIP name is what
pyvisa-py and others understand besides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from labnet.errors import BadArguments, shorten

INVALID_NAME = -1073807342
"""The VISA status code for a resource string that cannot be read (VI_ERROR_INV_RSRC_NAME)."""

PORTS = {"hislip": 4880, "scpi": 5025, "vicp": 1861}
"""The port of each wire that a resource string may leave out."""

Wire = Literal["vxi11", "hislip", "scpi", "vicp"]

_START = re.compile(
    r"(?P<interface>TCPIP|VICP)(?P<board>[0-9]{0,4})::"
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]\s,/@]+))"
    r"(?:,(?P<port>[0-9]{1,5}))?"
    r"(?P<rest>(?:::.*)?)\Z",
    re.IGNORECASE | re.DOTALL,
)
_HISLIP = re.compile(r"(hislip[^,\s]*)(?:,([0-9]{1,5}))?\Z", re.IGNORECASE)
_NAME = re.compile(r"[ -9;-~]{1,256}\Z")


@dataclass(frozen=True)
class ResourceName:
    """One resource: the wire that leads to it, where, and what it is called there.

    `port` is None where the wire has a usual one, or the portmapper knows it; `name` is that of the
    device on a wire that serves several.
    """

    wire: Wire
    host: str
    port: int | None = None
    name: str = ""
    board: int = 0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port in (None, PORTS.get(self.wire)) else f",{self.port}"
        if self.wire == "scpi":
            return f"TCPIP{self.board}::{host}::{self.port or PORTS['scpi']}::SOCKET"
        if self.wire == "vicp":
            return f"VICP::{host}{port}::INSTR"
        if self.wire == "hislip":
            return f"TCPIP{self.board}::{host}::{self.name or 'hislip0'}{port}::INSTR"
        return f"TCPIP{self.board}::{host}{port}::{self.name or 'inst0'}::INSTR"


def parse_resource_name(text: str) -> ResourceName:
    """What a resource string means; `BadArguments` for one that cannot be read.

    Case does not matter but in the name of a device; ``INSTR`` may be left out.
    """
    start = _START.match(text.strip())
    if start is None:
        raise _unreadable(text, "it is no TCPIP or VICP resource")
    host = start["six"] or start["host"]
    port = None if start["port"] is None else _port(text, start["port"])
    board = int(start["board"] or 0)
    parts = start["rest"].split("::")[1:]
    kind = parts[-1].upper() if parts else ""
    if kind == "SOCKET":
        return _socket(text, start["interface"], host, port, parts[:-1], board)
    if kind == "INSTR":
        parts = parts[:-1]
    if len(parts) > 1 or (parts and not _NAME.match(parts[0])):
        raise _unreadable(text, f"{'::'.join(parts)!r} is no name of a device")
    name = parts[0] if parts else ""
    if start["interface"].upper() == "VICP":
        if name:
            raise _unreadable(text, "a VICP resource has no name behind its host")
        return ResourceName("vicp", host, port, board=board)
    return _instrument(text, host, port, name, board)


def _socket(
    text: str, interface: str, host: str, port: int | None, parts: list[str], board: int
) -> ResourceName:
    if interface.upper() != "TCPIP" or len(parts) != 1 or port is not None:
        raise _unreadable(text, "a SOCKET resource is TCPIP::host::port::SOCKET")
    return ResourceName("scpi", host, _port(text, parts[0]), board=board)


def _instrument(text: str, host: str, port: int | None, name: str, board: int) -> ResourceName:
    hislip = _HISLIP.match(name)
    if hislip is None:
        if name.lower().startswith("hislip"):
            raise _unreadable(text, f"{name!r} is no HiSLIP name such as hislip0 or hislip0,4881")
        return ResourceName("vxi11", host, port, name or "inst0", board)
    if port is not None:
        raise _unreadable(text, "the port of HiSLIP stands behind its name: hislip0,4881")
    number = None if hislip[2] is None else _port(text, hislip[2])
    return ResourceName("hislip", host, number, hislip[1], board)


def _port(text: str, digits: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", digits) or not 0 < int(digits) <= 65535:
        raise _unreadable(text, f"{shorten(digits)!r} is no port, a number from 1 to 65535")
    return int(digits)


def _unreadable(text: str, why: str) -> BadArguments:
    error = BadArguments(f"the resource {shorten(text)!r} cannot be read: {why}")
    error.visa_status = INVALID_NAME  # type: ignore[assignment]
    return error
