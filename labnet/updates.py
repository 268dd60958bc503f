"""Changes of values to whoever listens.

A listener gets the updates of one turn of the reactor as one list. One that returns a Deferred is
called again when that has fired; meanwhile only the newest update of each path is kept, with the
number of those it missed, so a slow listener costs bounded memory and nobody else's time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import CoroutineType
from typing import Any, Literal, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from labnet.deadlines import Clock
from labnet.logs import Logger
from labnet.registry import Node
from labnet.values import Reading

log = Logger()

What = Literal["value", "metadata", "lock", "lost", "back", "gap"]


class Update(NamedTuple):
    """One change. `reading` comes with values only; `missed` counts older ones that were left out;
    `detail` is the reason of a loss or the `Change` of a lock.

    A "gap" comes when a device that was lost is back: what it did meanwhile nobody knows. `detail`
    is then the seconds of its absence; the current values follow.
    """

    path: str
    what: What
    reading: Reading | None = None
    missed: int = 0
    detail: Any = None


Listener = Callable[[list[Update]], Any]


class Subscription:
    """One listener and what it has not heard yet; `end` it when nobody listens any more."""

    def __init__(self, updates: Updates, nodes: Iterable[Node], listener: Listener) -> None:
        wanted = dict.fromkeys(nodes)
        # What a subscribed node covers need not be subscribed again.
        self.nodes = tuple(n for n in wanted if not any(above in wanted for above in n.ancestors))
        self._updates = updates
        self._listener = listener
        self._pending: dict[tuple[str, What], Update] = {}
        self._busy = False
        self._ended = False

    def live(self) -> bool:
        """Whether somebody still listens."""
        return not self._ended

    def put(self, update: Update) -> None:
        """One more update for this listener."""
        key = update.path, update.what
        before = self._pending.pop(key, None)
        if before is not None:
            update = update._replace(missed=before.missed + 1)
        self._pending[key] = update
        if not self._busy:
            self._busy = True
            self._updates.later(self._deliver)

    def _deliver(self, _: object = None) -> None:
        if self._ended or not self._pending:
            self._busy = False
            return
        batch, self._pending = list(self._pending.values()), {}
        try:
            result = self._listener(batch)
        except Exception:
            log.failure("a listener to updates failed")
            result = None
        if isinstance(result, CoroutineType):
            result = Deferred.fromCoroutine(result)
        if isinstance(result, Deferred):
            result.addErrback(self._failed).addCallback(self._deliver)
        elif self._pending:
            self._updates.later(self._deliver)
        else:
            self._busy = False

    def _failed(self, failure: Failure) -> None:
        log.failure("a listener to updates failed", failure)

    def end(self) -> None:
        """No more calls of the listener."""
        self._ended = True
        self._pending.clear()
        self._updates.remove(self)


class Follower(Subscription):
    """A listener that is called for each single update while it happens, so that none is left out.

    It must be quick: whoever changes a value waits for it.
    """

    def put(self, update: Update) -> None:
        """One more update for this listener."""
        try:
            self._listener([update])
        except Exception:
            log.failure("a listener to updates failed")


class Updates:
    """Who listens to which nodes."""

    def __init__(self, clock: Clock) -> None:
        #: How many subscriptions there are; 0 spares the publishers all work.
        self.count = 0
        self._clock = clock
        self._by_node: dict[Node, list[Subscription]] = {}
        #: Who listened to nodes that have gone, by their paths: for those that come again.
        self._absent: dict[str, list[Subscription]] = {}

    def later(self, function: Callable[[], None]) -> None:
        """Calls `function` in the next turn of the reactor."""
        self._clock.callLater(0, function)

    def subscribe(
        self, nodes: Iterable[Node], listener: Listener, *, at_once: bool = False
    ) -> Subscription:
        """Calls ``listener(updates)`` for all that changes on the nodes and below them.

        With `at_once` it is called for each update by itself, while that happens.
        """
        subscription = (Follower if at_once else Subscription)(self, nodes, listener)
        for node in subscription.nodes:
            self._by_node.setdefault(node, []).append(subscription)
        self.count += 1
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Takes a subscription out; nothing happens if it is out already."""
        found = False
        for node in subscription.nodes:
            listening = self._by_node.get(node, [])
            if subscription in listening:
                found = True
                listening.remove(subscription)
            if not listening:
                self._by_node.pop(node, None)
        for path, absent in list(self._absent.items()):
            if subscription in absent:
                found = True
                absent.remove(subscription)
                if not absent:
                    del self._absent[path]
        self.count -= found

    def publish(self, node: Node, update: Update) -> None:
        """Tells those who listen to the node or to one above it."""
        if not self.count:
            return
        for level in (node, *node.ancestors):
            for subscription in self._by_node.get(level, ()):
                subscription.put(update)

    def spread(self, node: Node, update: Update) -> None:
        """Tells those who listen to the node, to one above it or to one below it."""
        if not self.count:
            return
        self.publish(node, update)
        for below, listening in list(self._by_node.items()):
            if node in below.ancestors:
                for subscription in list(listening):
                    subscription.put(update)

    def heard(self, node: Node) -> bool:
        """Whether somebody listens to the node or to one above it."""
        return self.count > 0 and any(
            level in self._by_node for level in (node, *node.ancestors)
        )

    def vanished(self, node: Node) -> None:
        """The node and those below are gone; who listened there may hear of them again."""
        for gone in [it for it in self._by_node if it is node or node in it.ancestors]:
            for subscription in self._by_node.pop(gone):
                subscription.nodes = tuple(it for it in subscription.nodes if it is not gone)
                self._absent.setdefault(gone.path, []).append(subscription)

    def appeared(self, node: Node) -> None:
        """A node has come, perhaps again: who listened to one of its path listens to it."""
        for subscription in self._absent.pop(node.path, ()) if self._absent else ():
            subscription.nodes = (*subscription.nodes, node)
            self._by_node.setdefault(node, []).append(subscription)
