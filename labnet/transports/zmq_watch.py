"""What libzmq tells about connections: the socket monitor, and who may connect (ZAP)."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

import txzmq
import zmq
from twisted.internet.interfaces import IFileDescriptor, IReadDescriptor
from zope.interface import implementer

from labnet.transports.zmq_socket import NOBLOCK, Parts, ZmqFactory, ZmqSocket

_EVENT = struct.Struct("=Hi")  # event, value: for these events a descriptor
ACCEPTED = int(zmq.EVENT_ACCEPTED)
DISCONNECTED = int(zmq.EVENT_DISCONNECTED)

LET_IN = b"200"
LATER = b"300"  # libzmq says nothing, ends the handshake after its time, and the client tries again
NEVER = b"400"


@implementer(IReadDescriptor, IFileDescriptor)
class Monitor:
    """Reads the socket monitor of a bound socket.

    `happened(event, descriptor)` is called for each event; `ready` when the reactor finds that
    there are some, and should call `drain`.
    """

    def __init__(
        self,
        port: ZmqSocket,
        happened: Callable[[int, int], None],
        ready: Callable[[], None],
    ) -> None:
        self._watched = port.socket
        self._reactor = port.factory.reactor
        self._happened = happened
        self._ready = ready
        self._socket: Any = port.socket.get_monitor_socket(ACCEPTED | DISCONNECTED)
        self._fd: int = self._socket.get(zmq.FD)
        # The descriptor is edge-triggered, but as `drain` always empties the socket it can be
        # asked, which is several times as fast as asking the socket.
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._reactor.addReader(self)
        self._empty()  # nobody is woken for a socket that was never found empty

    def drain(self) -> None:
        """Tell of everything that has happened until now."""
        if self._poll.poll(0):
            self._empty()

    def _empty(self) -> None:
        while self._socket is not None:
            try:
                event, _endpoint = self._socket.recv_multipart(NOBLOCK)
            except zmq.Again:
                return
            self._happened(*_EVENT.unpack(event))

    def close(self) -> None:
        """Stop watching."""
        self._reactor.removeReader(self)
        monitor, self._socket = self._socket, None
        self._watched.disable_monitor()
        monitor.close(0)

    def fileno(self) -> int:
        """For the reactor."""
        return self._fd

    def doRead(self) -> None:
        """For the reactor."""
        self._ready()

    def logPrefix(self) -> str:
        """For the reactor."""
        return "ZMQ monitor"

    def connectionLost(self, reason: object) -> None:
        """For the reactor, which is stopping."""


class Doorkeeper(ZmqSocket):
    """Answers the question whether a client may connect (ZAP, 27/ZAP in the ZeroMQ RFCs).

    A factory has at most one; ports are told apart by their domain.
    """

    socketType = zmq.ROUTER

    def __init__(self, factory: ZmqFactory) -> None:
        super().__init__(factory, patience=0)
        self._judges: dict[bytes, Callable[[str], bytes]] = {}
        endpoint = txzmq.ZmqEndpoint(txzmq.ZmqEndpointType.bind, "inproc://zeromq.zap.01")
        self.addEndpoints([endpoint])

    def add(self, domain: bytes, judge: Callable[[str], bytes]) -> None:
        """`judge(host)` is to answer `LET_IN`, `LATER` or `NEVER` for the port of this domain."""
        self._judges[domain] = judge

    def remove(self, domain: bytes) -> None:
        """The port is closed."""
        self._judges.pop(domain, None)

    def messageReceived(self, parts: Parts) -> None:
        """One request: route, empty, version, request id, domain, address, identity, mechanism."""
        route, empty, version, request, domain, host = parts[:6]
        judge = self._judges.get(domain)
        answer = NEVER if judge is None else judge(host.decode("ascii", "replace"))
        self.send([route, empty, version, request, answer, b"", b"", b""])


def doorkeeper(factory: ZmqFactory) -> Doorkeeper:
    """The factory's doorkeeper."""
    if factory.doorkeeper is None:
        factory.doorkeeper = Doorkeeper(factory)
    keeper: Doorkeeper = factory.doorkeeper
    return keeper


def peer_address(descriptor: int) -> str:
    """``host:port`` of the peer of a TCP connection, empty if that cannot be known."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            return _host_and_port(connection)
    except OSError:
        return ""


def hang_up(descriptor: int, address: str) -> None:
    """End the TCP connection that libzmq has under `descriptor`, if it still is that to `address`.

    libzmq then finds it closed by the peer, and the peer, if it is libzmq, connects again.
    """
    try:
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            if address and _host_and_port(connection) == address:
                connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended meanwhile


def _host_and_port(connection: socket.socket) -> str:
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    host, port = connection.getpeername()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
