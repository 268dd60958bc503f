"""Where a client connects to: addresses as users write them, as Twisted endpoints."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    clientFromString,
)
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IStreamClientEndpoint

from labnet.errors import LabError, NotConnected, VisaStatus

GIVEN_UP = (CancelledError, ConnectingCancelledError)
"""What an attempt to connect fails with when it was cancelled."""

_TCP6: Any = TCP6ClientEndpoint  # untyped in Twisted
_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]/]+))(?::([0-9]{1,5}))?\Z")


def client_endpoint(
    address: str | IStreamClientEndpoint, port: int, reactor: Any, timeout: float = 10.0
) -> IStreamClientEndpoint:
    """The endpoint for `address`: ``host``, ``host:port``, or a Twisted endpoint such as
    ``tls:host:port``; an endpoint object is itself.

    `port` is the wire's usual port, `timeout` the seconds that connecting may take. Raises
    ValueError for an address that is none of these.
    """
    if not isinstance(address, str):
        return address
    match = _HOST_AND_PORT.match(address.strip())
    if match is None:
        parse: Any = clientFromString  # untyped in Twisted
        endpoint: IStreamClientEndpoint = parse(reactor, address)
        return endpoint
    bracketed, host, given = match.groups()
    port = int(given) if given else port
    if not 1 <= port <= 65535:
        raise ValueError(f"{address!r}: a port is a number from 1 to 65535")
    if bracketed is not None or isIPv6Address(host):
        six: IStreamClientEndpoint = _TCP6(reactor, bracketed or host, port, timeout)
        return six
    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, timeout)
    return HostnameEndpoint(reactor, host, port, timeout)


def shown_address(address: str | IStreamClientEndpoint, port: int) -> str:
    """`address` for error messages: with the port, without the words of an endpoint."""
    if not isinstance(address, str):
        return "the server"
    match = _HOST_AND_PORT.match(address.strip())
    if match is None:
        return address
    return address.strip() if match[3] else f"{address.strip()}:{port}"


def not_connected(error: Exception, where: str) -> LabError:
    """The `LabError` for a connection that could not be made; VISA has not found the resource."""
    if isinstance(error, LabError):
        return error
    refused = NotConnected(f"no connection to {where}: {str(error).rstrip('.')}")
    refused.visa_status = VisaStatus.RSRC_NFOUND
    return refused
