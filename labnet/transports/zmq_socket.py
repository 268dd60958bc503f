"""A ZMQ socket in Twisted: txzmq's factory and connection, with other loops to read and send.

What differs from txzmq's own classes: at most `MESSAGES_A_TURN` messages of one socket are handled
in one turn of the reactor; queues, messages and the number of clients are bounded; the reactor is
the factory's; a handler that fails gets a chance to answer; a ROUTER socket tells when a client has
gone (`labnet.transports.zmq_peers`).

libzmq's descriptor is edge-triggered: it becomes readable when something *happens*, not while
messages wait, and both reading and sending may take note of what has happened. So each turn ends
by asking the socket whether messages wait, and so does a send outside a turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import txzmq
import zmq
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from labnet.errors import LabError, TooLarge
from labnet.logs import Logger

MESSAGES_A_TURN = 64
BYTES_A_TURN = 4 * 1024 * 1024
MAX_PARTS = 64
MAX_MESSAGE = 64 * 1024 * 1024
HIGH_WATER_MARK = 1000
PATIENCE = 10.0
"""Seconds of silence after which the network to a peer is taken for dead."""

PROBES = 2
"""Seconds of quiet before the system probes a connection, and between its probes."""

HANDSHAKE = 2.0
"""Seconds that a new connection has to say who it is."""

LINGER = 0.5
"""Seconds that a closed socket goes on sending what it has."""

# Plain numbers: turning pyzmq's enumerations into them costs time at every call.
NOBLOCK = int(zmq.NOBLOCK)
MORE = NOBLOCK | int(zmq.SNDMORE)
EVENTS = int(zmq.EVENTS)
POLLIN = int(zmq.POLLIN)

Parts = list[bytes]


class ZmqFactory(txzmq.ZmqFactory):  # type: ignore[misc]
    """A ZMQ context and its sockets, on one reactor, with one I/O thread."""

    ioThreads = 1  # the order of monitor events and messages depends on it
    lingerPeriod = int(LINGER * 1000)
    context: Any
    connections: Any

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self.reactor = reactor
        self.doorkeeper: Any = None  # `zmq_watch.Doorkeeper`, when a port needs one

    def stop(self) -> Deferred[None]:
        """Close all sockets; fires when what they still had to send is sent, or `LINGER` passed."""
        if self.context is None:
            return succeed(None)
        for connection in list(self.connections):
            connection.shutdown()
        context, self.context = self.context, None
        pool = self.reactor.getThreadPool()
        return deferToThreadPool(self.reactor, pool, context.term)

    def close(self) -> None:
        """Close all sockets and drop what they still had to send."""
        self.lingerPeriod = 0
        for connection in list(self.connections):
            connection.socket.set(zmq.LINGER, 0)
        if self.context is not None:
            self.shutdown()


class ZmqSocket(txzmq.ZmqConnection):  # type: ignore[misc]
    """A ZMQ socket in a reactor; the base of the classes that are used.

    `identity` is sent to peers; `max_message` (bytes) bounds each part of a message that comes in;
    `high_water_mark` (messages) bounds what waits for or from each peer; `patience` (s) is how
    long a peer's system may leave unanswered what TCP sends or probes, 0 for no limit.

    ZMTP's own heartbeats are off. libzmq 4.3.5 ends the whole process ("Assertion failed:
    !_io_error", libzmq issue 4364) when one is due for a peer that has gone while more of its
    messages waited than the high-water mark allows: any client could do that to the lab.
    """

    log = Logger()
    read_scheduled: IDelayedCall | None
    factory: Any  # a ZmqFactory; None when closed

    def __init__(
        self,
        factory: ZmqFactory,
        *,
        identity: bytes | None = None,
        max_message: int = MAX_MESSAGE,
        high_water_mark: int = HIGH_WATER_MARK,
        patience: float = PATIENCE,
    ) -> None:
        check_identity(identity)
        self.highWaterMark = high_water_mark
        self._want = 1
        self._share_used = False  # this turn has done enough, however few its messages were
        self._in_turn = True  # txzmq reads in its constructor, and sets read_scheduled before
        super().__init__(factory, None, identity or None)
        self._in_turn = False
        self._recv = self.socket.recv
        # The method below pyzmq's own, which is a layer of Python for socket types not used here.
        backend: Any = super(zmq.Socket, self.socket)
        self._send = backend.send
        self._get = self.socket.get
        self.socket.set(zmq.MAXMSGSIZE, max_message)
        if patience:
            self.socket.set(zmq.TCP_KEEPALIVE, 1)
            self.socket.set(zmq.TCP_KEEPALIVE_IDLE, PROBES)
            self.socket.set(zmq.TCP_KEEPALIVE_INTVL, PROBES)
            self.socket.set(zmq.TCP_KEEPALIVE_CNT, max(1, round(patience / PROBES)))
            self.socket.set(zmq.TCP_MAXRT, round(patience * 1000))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(e.address for e in self.endpoints)}>"

    # What subclasses give.

    def readMessages(self, want: int) -> int:
        """Take at most `want` messages from the socket and act upon them; say how many."""
        batch: list[Parts] = []
        self._collect(batch, want)
        for parts in batch:
            if self.factory is None:
                break
            try:
                if len(parts) > MAX_PARTS:
                    raise too_many_parts()
                self.messageReceived(parts)
            except Exception:
                self.messageFailed(parts, Failure())
        return len(batch)

    def messageReceived(self, parts: Parts) -> None:
        """A message has come."""
        raise NotImplementedError(self)

    def messageFailed(self, parts: Parts, failure: Failure) -> None:
        """`messageReceived` has raised; by default this is logged."""
        self.log.failure("{socket}: a message was not handled", failure, socket=self)

    # Reading.

    def doRead(self) -> None:
        """The reactor: something has happened on the socket."""
        if not self._in_turn and self.read_scheduled is None:
            self._turn()

    def _turn(self) -> None:
        """Handle what waits, but no more than a turn's share."""
        self._in_turn = True
        left = MESSAGES_A_TURN
        try:
            while True:
                # Trying in vain costs more than asking first, so read as many as last time.
                want = min(self._want, left)
                count = self.readMessages(want)
                if self.factory is None:
                    return
                left -= count
                if self._share_used:
                    self._schedule()
                    return
                waiting = self._get(EVENTS) & POLLIN
                self._want = min(4 * want, MESSAGES_A_TURN) if waiting else max(1, count)
                if not waiting:
                    return
                if left <= 0:
                    self._schedule()
                    return
        finally:
            self._in_turn = False

    def _schedule(self) -> None:
        if self.read_scheduled is None:
            self.read_scheduled = self.factory.reactor.callLater(0, self._scheduled)

    def _scheduled(self) -> None:
        self.read_scheduled = None
        self._turn()

    def _collect(self, batch: list[Parts], want: int) -> None:
        """Add at most `want` messages, and not many more than `BYTES_A_TURN`, to `batch`."""
        recv = self._recv
        size = 0
        try:
            while len(batch) < want and size < BYTES_A_TURN:
                frame = recv(NOBLOCK, False)
                body = frame.bytes
                size += len(body)
                batch.append(self._whole(body) if frame.more else [body])
        except zmq.Again:
            pass

    def _whole(self, first: bytes) -> Parts:
        """All parts of a message that begins with `first`; TooLarge stands for too many."""
        parts = [first]
        more = True
        while more:
            frame = self._recv(NOBLOCK, False)
            more = frame.more
            if len(parts) <= MAX_PARTS:
                parts.append(frame.bytes)
        return parts

    # Sending.

    def send(self, parts: Sequence[bytes]) -> bool:
        """Send a message of one or more parts; False if its peer's queue is full.

        The queue holds `high_water_mark` messages. Nothing waits elsewhere.
        """
        send = self._send
        try:
            for part in parts[:-1]:
                send(part, MORE)
            send(parts[-1], NOBLOCK)
        except zmq.Again:
            return False
        if not self._in_turn:
            self._look()
        return True

    def _look(self) -> None:
        """After a send: it may have swallowed the news that a message has come."""
        if self.read_scheduled is None and self._get(EVENTS) & POLLIN:
            self._schedule()

    # The end.

    def shutdown(self) -> None:
        """Close the socket; what waits to be sent is sent for another `LINGER` seconds."""
        if self.factory is None:
            return
        scheduled, self.read_scheduled = self.read_scheduled, None
        if scheduled is not None:
            scheduled.cancel()
        super().shutdown()
        del self._recv, self._send, self._get  # they keep the socket


def too_many_parts() -> TooLarge:
    """The error for a message of more than `MAX_PARTS` parts."""
    return TooLarge(f"a message of more than {MAX_PARTS} parts")


def check_identity(identity: bytes | None) -> None:
    """Raise LabError for an identity that ZMQ does not take."""
    if identity and (len(identity) > 255 or identity[0] == 0):
        raise LabError("a ZMQ identity has 1 to 255 bytes, of which the first is not zero")


def connect(connection: ZmqSocket, address: str) -> None:
    """Connect; LabError if `address` is none."""
    allow_ipv6(connection, address)
    endpoint = txzmq.ZmqEndpoint(txzmq.ZmqEndpointType.connect, address)
    try:
        connection.addEndpoints([endpoint])
    except zmq.ZMQError:
        raise LabError(f"{address!r} is no ZMQ address such as tcp://127.0.0.1:5555")


def allow_ipv6(connection: ZmqSocket, address: str) -> None:
    """IPv6 is an option of its own in libzmq."""
    if "[" in address:
        connection.socket.set(zmq.IPV6, 1)
