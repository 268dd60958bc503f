"""ZMQ in Twisted: the sockets that wires use.

Servers: `RouterPort` (wherever a peer expects ROUTER or REP) with a `ZmqServerProtocol`, and
`PubPort`. Clients: `DealerConnection` and `SubConnection`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import txzmq
import zmq
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from labnet.endpoints import is_zmq_address
from labnet.logs import Logger
from labnet.transports.admission import Admission, Network
from labnet.transports.listening import CannotListen, why_not
from labnet.transports.zmq_peers import Peer, PeerTable
from labnet.transports.zmq_socket import (
    BYTES_A_TURN,
    EVENTS,
    HANDSHAKE,
    MAX_PARTS,
    MORE,
    NOBLOCK,
    POLLIN,
    Parts,
    ZmqFactory,
    ZmqSocket,
    allow_ipv6,
    connect,
    too_many_parts,
)
from labnet.transports.zmq_watch import (
    ACCEPTED,
    DISCONNECTED,
    LATER,
    LET_IN,
    NEVER,
    Monitor,
    doorkeeper,
    hang_up,
    peer_address,
)

__all__ = [
    "DealerConnection",
    "Parts",
    "Peer",
    "PubPort",
    "RouterPort",
    "SubConnection",
    "ZmqFactory",
    "ZmqServerProtocol",
    "split_envelope",
]

TWIN_PATIENCE = 1.0
"""Seconds between the end of a named client and the end of connections that may be its twins'."""

REPLIES_A_TURN = 1024 * 1024
"""Bytes of replies after which the other messages of a turn wait for the next one."""

LONG = 256 * 1024
MOST_WAITING = 64 * 1024 * 1024
"""From `LONG` bytes on it is known whether a peer has taken a reply; of what it has not taken there
are no more bytes than `MOST_WAITING`, or one reply."""

SRCFD = int(zmq.SRCFD)
_domains = count(1)


class ZmqServerProtocol:
    """What a server does with the messages of a `RouterPort`; one object serves all its clients."""

    log = Logger()
    port: RouterPort

    def makeConnection(self, port: RouterPort) -> None:
        """The port is open."""
        self.port = port

    def messageReceived(self, peer: Peer, parts: Parts) -> None:
        """A client has sent a message of one or more parts. It may be gone (not `alive`) by now."""
        raise NotImplementedError(self)

    def messageFailed(self, peer: Peer, parts: Parts, failure: Failure) -> None:
        """`messageReceived` has raised, or the message has too many parts: send a reply here.

        By default this is logged.
        """
        self.log.failure("a message of {peer} was not answered", failure, peer=peer)

    def peerLost(self, peer: Peer) -> None:
        """A client's connection has ended. Called once for each peer that has sent something."""

    def peerSlow(self, peer: Peer) -> None:
        """A reply was dropped, as `high_water_mark` of them wait already; told once a peer."""

    def connectionLost(self, reason: Failure) -> None:
        """The port is closed."""


class _Port(ZmqSocket):
    """A bound socket: who may connect, and which connections are open."""

    def __init__(
        self,
        address: str,
        *,
        reactor: Any = None,
        factory: ZmqFactory | None = None,
        allow: Sequence[Network] = (),
        max_connections: int = 0,
        **bounds: Any,
    ) -> None:
        _check_address(address)
        self._own_factory: ZmqFactory | None = None
        if factory is None:
            factory = self._own_factory = _new_factory(reactor)
        self._admission = Admission(address, allow, max_connections)
        self._let_in: deque[float] = deque(maxlen=max_connections or 1)
        self._domain = b"%d" % next(_domains)
        self.peers = PeerTable(self._peer_lost)
        try:
            super().__init__(factory, **bounds)
            self._clock = self.factory.reactor
            self._monitor = Monitor(self, self._happened, self._monitor_ready)
            self._guard()
            self.address = self._bind(address)
        except BaseException:
            self._abandon()
            raise
        self.example = self._admission.where = self.address

    def _guard(self) -> None:
        self.socket.set(zmq.HANDSHAKE_IVL, int(HANDSHAKE * 1000))
        self.socket.set(zmq.ZAP_DOMAIN, self._domain)
        doorkeeper(self.factory).add(self._domain, self._judge)

    def _bind(self, address: str) -> str:
        allow_ipv6(self, address)
        endpoint = txzmq.ZmqEndpoint(txzmq.ZmqEndpointType.bind, address)
        try:
            self.addEndpoints([endpoint])
        except zmq.ZMQError as error:
            raise CannotListen(address, why_not(error.errno))
        bound: bytes = self.socket.get(zmq.LAST_ENDPOINT)
        return bound.rstrip(b"\0").decode()

    def _abandon(self) -> None:
        if self._own_factory is not None:
            self._own_factory.close()
        elif getattr(self, "factory", None) is not None:
            self.shutdown()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self.peers.open)

    async def stop(self) -> None:
        """Close the port; return when what it had to send is sent, or half a second has passed."""
        self.shutdown()
        if self._own_factory is not None:
            await self._own_factory.stop()

    def shutdown(self) -> None:
        """Close the port."""
        if self.factory is None:
            return
        keeper = self.factory.doorkeeper
        if keeper is not None:
            keeper.remove(self._domain)
        monitor = getattr(self, "_monitor", None)
        if monitor is not None:
            monitor.close()
        super().shutdown()
        self.peers.clear()

    def _judge(self, host: str) -> bytes:
        """The doorkeeper asks about a connection that the monitor knows already."""
        self._monitor_ready()
        self._monitor.drain()
        if not self._admission.allows(host):
            return NEVER
        if not self._admission.has_room(self._others()):
            return LATER
        self._let_in.append(self._clock.seconds())
        return LET_IN

    def _others(self) -> int:
        """How many connections were let in besides the one that is being judged.

        libzmq asks about hosts, not about descriptors. But connections that are older than a
        handshake were let in, and of the younger ones no more than were let in meanwhile.
        """
        start: float = self._clock.seconds() - HANDSHAKE - 0.5
        while self._let_in and self._let_in[0] < start:
            self._let_in.popleft()
        old = sum(accepted < start for _, accepted in self.peers.open.values())
        return old + min(self.connections - old - 1, len(self._let_in))

    def _happened(self, event: int, descriptor: int) -> None:
        if event == ACCEPTED:
            self.peers.accepted(descriptor, peer_address(descriptor), self._clock.seconds())
        else:
            self.peers.disconnected(descriptor)

    def _monitor_ready(self) -> None:
        self._monitor.drain()

    def _peer_lost(self, peer: Peer) -> None:
        """A peer that has sent something is gone."""


class RouterPort(_Port):
    """A server's socket, for clients with DEALER or REQ sockets.

    `address` is a ZMQ address, ``tcp://127.0.0.1:5555``; ``*`` as the host means all interfaces, as
    the port any that is free. After construction `address` is what was really bound; `CannotListen`
    is raised if that was not possible. Connections from outside `allow` are refused for good, those
    beyond `max_connections` (0: no limit) for as long as there is no room. The other bounds are
    those of `ZmqSocket`.

    A second connection under the identity of a living client is not served, as ROUTER_HANDOVER is
    off. libzmq would not serve it after the first one's end either; so when a client that named
    itself has gone, connections from which nothing was ever read are ended a second later: clients
    of libzmq then connect again by themselves, and what they send next is read. TCP finds
    the client whose host or network died without a word.
    """

    socketType = zmq.ROUTER

    def __init__(self, protocol: ZmqServerProtocol, address: str, **options: Any) -> None:
        self.protocol = protocol
        self._replied = 0  # bytes of replies since messages were read
        self._rest: deque[tuple[Peer, Parts]] = deque()
        self._twins: IDelayedCall | None = None
        super().__init__(address, **options)
        self.socket.set(zmq.ROUTER_MANDATORY, 1)  # a reply to nobody is an error, not silence
        protocol.makeConnection(self)

    def _monitor_ready(self) -> None:
        """What is read before the monitor is drained cannot be taken for a later client's."""
        self.doRead()

    @property
    def unclaimed(self) -> int:
        """How many open connections have sent nothing yet: one may be a client that came back."""
        return self.peers.unclaimed_count

    def silent_newcomers(self, address: str, age: float) -> int:
        """How many connections from the host of `address` have come in the last `age` seconds and
        sent nothing yet: one may be the client of that address, come back."""
        return self.peers.silent_since(address, self._clock.seconds() - age)

    def readMessages(self, want: int) -> int:
        """Read, then drain the monitor, then act (see `labnet.transports.zmq_peers`).

        When the replies have been long, the rest of the messages is acted upon in the next turn.
        """
        self._replied = 0
        self._share_used = False
        if self._rest:
            return self._act_on_rest()
        batch: list[tuple[bytes, int, Parts]] = []
        self._collect_from(batch, want)
        self._monitor.drain()
        peers = self.peers
        peers.settle(batch)
        claims = peers.claims
        received = self.protocol.messageReceived
        for number, (identity, descriptor, parts) in enumerate(batch, 1):
            peer = claims.get(descriptor)
            if peer is None or peer.identity != identity:
                peer = peers.claim(identity, descriptor)
            try:
                if len(parts) > MAX_PARTS:
                    raise too_many_parts()
                received(peer, parts)
            except Exception:
                self._failed(peer, parts, Failure())
            if self.factory is None:
                break
            if self._replied > REPLIES_A_TURN:
                self._share_used = True
                rest = batch[number:]
                self._rest.extend((peers.claim(name, where), parts) for name, where, parts in rest)
                break
        if not self._rest:
            peers.settle()
        return len(batch)

    def _act_on_rest(self) -> int:
        """What an earlier turn has read; the news of who is dead waits for it."""
        count, rest = 0, self._rest
        while rest and self._replied <= REPLIES_A_TURN and self.factory is not None:
            peer, parts = rest.popleft()
            count += 1
            try:
                self.protocol.messageReceived(peer, parts)
            except Exception:
                self._failed(peer, parts, Failure())
        self._share_used = self._replied > REPLIES_A_TURN
        if not rest or self.factory is None:
            rest.clear()
            self.peers.settle()
        return count

    def reply(self, peer: Peer, parts: Sequence[bytes]) -> bool:
        """Send `parts` to `peer`; False if it has gone or does not take its replies.

        A reply goes only to the connection that asked: a client that has connected again meanwhile
        would take it for the answer to another question.
        """
        if not peer.alive:
            return False
        size = len(parts[-1])
        self._replied += size
        if size >= LONG and not _has_room(peer, size):
            self._slow(peer)
            return False
        send = self._send
        try:
            send(peer.identity, MORE)
            for part in parts[:-1]:
                send(part, MORE)
            if size < LONG:
                send(parts[-1], NOBLOCK)
            else:
                peer.long.append((size, send(parts[-1], NOBLOCK, False, True)))
        except zmq.Again:
            self._slow(peer)
            return False
        except zmq.ZMQError:  # EHOSTUNREACH
            self.peers.dead(peer.identity)
            self._settle_soon()
            return False
        if not self._in_turn:
            self._look()
        return True

    def shutdown(self) -> None:
        """Close the port; every peer is lost."""
        if self.factory is None:
            return
        if self._twins is not None:
            self._twins.cancel()
            self._twins = None
        super().shutdown()
        if hasattr(self.protocol, "port"):
            self.protocol.connectionLost(Failure(ConnectionAbortedError("the port is closed")))

    def _collect_from(self, batch: list[tuple[bytes, int, Parts]], want: int) -> None:
        recv = self._recv
        size = 0
        try:
            while len(batch) < want and size < BYTES_A_TURN:
                head = recv(NOBLOCK, False)
                frame = recv(NOBLOCK, False)
                body = frame.bytes
                size += len(body)
                parts = self._whole(body) if frame.more else [body]
                batch.append((head.bytes, head.get(SRCFD), parts))
        except zmq.Again:
            pass

    def _failed(self, peer: Peer, parts: Parts, failure: Failure) -> None:
        try:
            self.protocol.messageFailed(peer, parts, failure)
        except Exception:
            self.log.failure("a message of {peer} was not answered", peer=peer)

    def _slow(self, peer: Peer) -> None:
        peer.dropped += 1
        if peer.dropped == 1:
            self.log.warn("{peer} does not take its replies; they are dropped", peer=peer)
            self.protocol.peerSlow(peer)

    def _settle_soon(self) -> None:
        """Not now: whoever replies does not expect to lose the peer within the call."""
        if not self._in_turn:
            self._schedule()

    def _peer_lost(self, peer: Peer) -> None:
        try:
            self.protocol.peerLost(peer)
        except Exception:
            self.log.failure("the end of {peer} was not handled", peer=peer)
        if peer.named and self.peers.unclaimed_count and self.factory and self._twins is None:
            self._twins = self._clock.callLater(
                TWIN_PATIENCE, self._end_twins, self._clock.seconds()
            )

    def _end_twins(self, since: float) -> None:
        """End the connections that were open at `since` and from which nothing was ever read."""
        self._twins = None
        if self._get(EVENTS) & POLLIN:  # a message of theirs may be waiting
            self._schedule()
            self._twins = self._clock.callLater(TWIN_PATIENCE, self._end_twins, since)
            return
        self._monitor_ready()
        for descriptor in self.peers.unclaimed:
            address, accepted = self.peers.open[descriptor]
            if accepted <= since:
                hang_up(descriptor, address)


def _has_room(peer: Peer, size: int) -> bool:
    """Whether a peer has taken enough of its long replies to get another of `size` bytes."""
    peer.long = [(length, taken) for length, taken in peer.long if not taken.done]
    waiting = sum(length for length, _ in peer.long)
    return not waiting or waiting + size <= MOST_WAITING


class PubPort(_Port):
    """A publisher's socket; options as for `RouterPort`.

    A subscriber that does not keep up misses messages once `high_water_mark` of them wait for it.
    """

    socketType = zmq.PUB

    def publish(self, parts: Sequence[bytes]) -> None:
        """Send to all subscribers of the first part; it never waits, nor is there news to look for.
        """
        send = self._send
        for part in parts[:-1]:
            send(part, MORE)
        send(parts[-1], NOBLOCK)

    def readMessages(self, want: int) -> int:
        """Subscribers send nothing that one could read."""
        return 0


class DealerConnection(ZmqSocket):
    """A client's socket: sends messages to one server, and hands what comes to `received`.

    It connects, and connects again, by itself; what is sent before is kept, up to the high-water
    mark. `identity` (1 to 255 bytes, the first not zero) is the name that the server knows it by.
    """

    socketType = zmq.DEALER

    def __init__(
        self,
        address: str,
        received: Callable[[Parts], None],
        *,
        identity: bytes | None = None,
        reactor: Any = None,
        **bounds: Any,
    ) -> None:
        self._received = received
        self._monitor: Monitor | None = None
        self._lost: Callable[[], None] | None = None
        factory = _new_factory(reactor)
        try:
            super().__init__(factory, identity=identity, **bounds)
            connect(self, address)
        except BaseException:
            factory.close()
            raise

    def messageReceived(self, parts: Parts) -> None:
        """Hand it on."""
        self._received(parts)

    def watch(self, lost: Callable[[], None] | None) -> None:
        """Calls ``lost()`` whenever the connection to the server has ended."""
        self._lost = lost
        if lost is not None and self._monitor is None and self.factory is not None:
            self._monitor = Monitor(self, self._happened, self._monitor_ready)

    def _monitor_ready(self) -> None:
        if self._monitor is not None:
            self._monitor.drain()

    def _happened(self, event: int, descriptor: int) -> None:
        if event == DISCONNECTED and self._lost is not None:
            self._lost()

    def close(self) -> Deferred[None]:
        """Close the socket and drop what it has not sent; the server can see it at once."""
        self._lost = None
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.close()
        if self.factory is not None:
            self.factory.close()
        return succeed(None)


class SubConnection(DealerConnection):
    """A subscriber: hands all messages whose first part begins with one of `topics` on."""

    socketType = zmq.SUB

    def __init__(
        self,
        address: str,
        received: Callable[[Parts], None],
        *,
        topics: Sequence[bytes] = (b"",),
        reactor: Any = None,
        **bounds: Any,
    ) -> None:
        super().__init__(address, received, reactor=reactor, **bounds)
        for topic in topics:
            self.socket.set(zmq.SUBSCRIBE, topic)


def split_envelope(parts: Parts) -> tuple[Parts, Parts]:
    """A request's envelope, up to and including the first empty part, and its body.

    A REQ socket puts an empty part before the body, with ZMQ_REQ_CORRELATE a counter before that;
    the reply must begin with the same parts. Without an empty part the envelope is empty.
    """
    for place, part in enumerate(parts[:-1]):
        if not part:
            return parts[: place + 1], parts[place + 1 :]
    return [], parts


def _new_factory(reactor: Any) -> ZmqFactory:
    if reactor is None:
        from twisted.internet import reactor
    return ZmqFactory(reactor)


def _check_address(address: str) -> None:
    if not is_zmq_address(address) or address.partition("://")[0] not in ("tcp", "ipc"):
        raise CannotListen(address, "it is no ZMQ address such as tcp://127.0.0.1:5555")
