"""Which ZMQ peer is alive: identities, and the descriptors that they were last seen on.

libzmq hides connections behind identities and says nothing when one ends. But its socket monitor
tells which descriptors were accepted and which have ended, and a message tells which descriptor it
came from. Putting the two together needs care, because the system uses descriptors again at once:

- messages are read first, then the monitor is emptied, then the messages are acted upon, so that
  what the monitor knows is never older than the messages;
- a message *claims* its descriptor for its identity;
- a claim ends with DISCONNECTED; with ACCEPTED for a claimed descriptor; with a message of another
  identity from it; and with a message of the same identity from another descriptor;
- a message from a descriptor that is not open comes from a peer that is already dead.

The claims are kept here, without I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


class Peer:
    """One connection of one client of a ROUTER socket.

    `identity` is the client's routing id (1 to 255 bytes; five of which the first is zero if
    libzmq made it up), `address` its TCP address such as ``127.0.0.1:40312`` (empty if unknown),
    `alive` whether its connection is open, `dropped` how many replies it did not take, `long` the
    long ones that it may not have taken yet. `data` is for the protocol. A client that connects
    again is another `Peer`, with the same identity.
    """

    __slots__ = ("address", "alive", "data", "descriptor", "dropped", "identity", "long")

    def __init__(self, identity: bytes, descriptor: int, address: str = "") -> None:
        self.identity = identity
        self.descriptor = descriptor
        self.address = address
        self.alive = True
        self.dropped = 0
        self.long: list[Any] = []
        self.data: Any = None

    @property
    def named(self) -> bool:
        """Did the client choose its identity itself?"""
        return self.identity[:1] != b"\0"

    def __repr__(self) -> str:
        return f"<Peer {self.identity!r} {self.address or self.descriptor}>"


class PeerTable:
    """Open descriptors, and the peers that claim them; `lost` is called once for each dead peer."""

    def __init__(self, lost: Callable[[Peer], None]) -> None:
        self.open: dict[int, tuple[str, float]] = {}
        self.claims: dict[int, Peer] = {}
        self._lost = lost
        self._by_identity: dict[bytes, Peer] = {}
        self._dead: list[Peer] = []

    @property
    def unclaimed(self) -> list[int]:
        """Open descriptors from which no message has come: clients that are silent as yet."""
        return [descriptor for descriptor in self.open if descriptor not in self.claims]

    @property
    def unclaimed_count(self) -> int:
        """How many descriptors are `unclaimed`."""
        return len(self.open) - len(self.claims)

    def silent_since(self, address: str, when: float) -> int:
        """How many of the `unclaimed` come from the host of `address` and opened at `when` or
        later (s)."""
        host = address.rpartition(":")[0]
        opened = (self.open[descriptor] for descriptor in self.unclaimed)
        return sum(at >= when and came.rpartition(":")[0] == host for came, at in opened)

    def peer(self, identity: bytes) -> Peer | None:
        """The living peer of this identity."""
        return self._by_identity.get(identity)

    def accepted(self, descriptor: int, address: str, now: float) -> None:
        """The monitor: a connection from `address` was accepted at `now` (s)."""
        self._end_claim(descriptor)
        self.open[descriptor] = (address, now)

    def disconnected(self, descriptor: int) -> None:
        """The monitor: a connection has ended."""
        self._end_claim(descriptor)
        self.open.pop(descriptor, None)

    def claim(self, identity: bytes, descriptor: int) -> Peer:
        """The peer whose message this is; one that is not `alive` if its connection has ended."""
        peer = self.claims.get(descriptor)
        if peer is not None and peer.identity == identity:
            return peer
        if descriptor not in self.open:
            return self._ghost(identity, descriptor)
        self._end_claim(descriptor)
        moved = self._by_identity.get(identity)
        if moved is not None:
            self._end_claim(moved.descriptor)
        peer = Peer(identity, descriptor, self.open[descriptor][0])
        self.claims[descriptor] = self._by_identity[identity] = peer
        return peer

    def dead(self, identity: bytes) -> None:
        """The socket itself has said that there is no such peer."""
        peer = self._by_identity.get(identity)
        if peer is not None:
            self._end_claim(peer.descriptor)

    def settle(self, coming: Iterable[tuple[Any, ...]] = ()) -> None:
        """Tell of the dead, but for those whose messages are still to be acted upon.

        Each of these begins with the identity and the descriptor of its sender.
        """
        if not self._dead:
            return
        last_words = {key[:2] for key in coming if key[1] not in self.open}
        dead, self._dead = self._dead, []
        for peer in dead:
            if (peer.identity, peer.descriptor) in last_words:
                self._dead.append(peer)
            else:
                self._lost(peer)

    def clear(self) -> None:
        """The socket is closed: every peer is lost."""
        for descriptor in list(self.open):
            self.disconnected(descriptor)
        self.settle()

    def _end_claim(self, descriptor: int) -> None:
        peer = self.claims.pop(descriptor, None)
        if peer is not None:
            peer.alive = False
            self._dead.append(peer)
            if self._by_identity.get(peer.identity) is peer:
                del self._by_identity[peer.identity]

    def _ghost(self, identity: bytes, descriptor: int) -> Peer:
        """Somebody who sent a message and was gone before it was read."""
        for peer in self._dead:
            if peer.identity == identity and peer.descriptor == descriptor:
                return peer
        peer = Peer(identity, descriptor)
        peer.alive = False
        self._dead.append(peer)
        return peer
