"""Bytes from a socket to where they belong, without a buffer in between.

Twisted's TCP transport makes a new bytes object at each read; of an array of megabytes, whose place
in memory is known, each byte would be copied once more.
"""

from __future__ import annotations

from typing import cast

from twisted.internet import tcp
from twisted.internet.interfaces import ITransport

USUAL_READ = tcp.Connection.bufferSize


def read_at_most(transport: ITransport | None, size: int) -> None:
    """Let a plain TCP transport read so many bytes at a time from now on.

    Little, where what is large is received by `receive_into`: else its beginning is copied twice.
    """
    if isinstance(transport, tcp.Connection):
        transport.bufferSize = size


def receive_into(transport: ITransport | None, room: memoryview) -> int:
    """Receive what has come on a plain TCP transport, at most as much as `room` holds.

    0 where nothing has come, for another transport, or at the end of the connection: that, as any
    error, is left for the reactor to find.
    """
    kind = type(transport)
    if not issubclass(kind, tcp.Connection) or kind.doRead is not tcp.Connection.doRead:
        return 0
    plain = cast(tcp.Connection, transport)
    if not plain.connected or plain.disconnecting or plain.TLS:
        return 0
    try:
        return plain.socket.recv_into(room)
    except OSError:
        return 0
