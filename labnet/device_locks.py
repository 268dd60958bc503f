"""Locks of the lab passed on to devices that have locks of their own (`Device.locked`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

from labnet.device import Device
from labnet.errors import NotConnected, TimedOut
from labnet.lock_ledger import Grant
from labnet.lock_table import Change, Hold
from labnet.logs import Logger
from labnet.polling import Nobody
from labnet.registry import DeviceNode, Node

if TYPE_CHECKING:
    from labnet.session import Session

log = Logger()

#: Seconds that a device has for giving a lock back.
UNLOCKING = 10.0

Place = tuple[DeviceNode, str]


class DeviceLocks:
    """What is locked at which device; several holds on one node are one lock there."""

    def __init__(self) -> None:
        #: The devices that want to know.
        self.nodes: set[DeviceNode] = set()
        self._held: dict[Place, set[Hold]] = {}
        #: What a device has not given back, as it did not answer then.
        self._owed: set[Place] = set()

    def adopt(self, node: DeviceNode) -> None:
        """A device has come into the lab."""
        if type(node.device).locked is not Device.locked:
            self.nodes.add(node)

    def forget(self, node: DeviceNode) -> None:
        """A device has left the lab."""
        self.nodes.discard(node)
        for place in [place for place in self._held if place[0] is node]:
            del self._held[place]
        self._owed = {place for place in self._owed if place[0] is not node}

    def settle(self, node: DeviceNode) -> None:
        """A device answers again: what it had to give back meanwhile it gives back now."""
        for place in [place for place in self._owed if place[0] is node]:
            self._owed.discard(place)
            if place not in self._held:
                self._give_back(place)

    def take(self, session: Session, grant: Grant, end: float) -> Deferred[Grant]:
        """Locks at the devices what has been granted to a session, or takes it all back.

        `end` is the time, by the lab's clock, until which they may wait for that.
        """
        new = [(hold, place) for hold in grant.new if (place := self._place(hold)) is not None]
        wait = max(0.0, end - session.lab.clock.seconds())
        calls = [self._take(session, hold, place, wait) for hold, place in new]
        done = gatherResults(calls, consumeErrors=True)
        return done.addCallbacks(lambda _: grant, self._refused, errbackArgs=(session, grant.new))

    def _place(self, hold: Hold) -> Place | None:
        node: Any = hold.node
        assert isinstance(node, Node)
        top = node if isinstance(node, DeviceNode) and node.parent is None else node.ancestors[-1]
        return (top, node.relative()) if top in self.nodes else None

    def _take(self, session: Session, hold: Hold, place: Place, wait: float) -> Deferred[None]:
        top, path = place
        queue = top.device_queue
        limit = queue.limit or session.timeout
        taken = queue.run(
            top.device.locked,
            (path, session.name, wait),
            caller=session,
            verb="lock",
            needs=(hold.node,),
            what=f"the lock of {hold.path}",
            timeout=None if limit is None else limit + wait,
            long=True,
        )
        return taken.addCallback(self._taken, hold, place)

    def _taken(self, _: object, hold: Hold, place: Place) -> None:
        self._held.setdefault(place, set()).add(hold)
        if not hold.held:  # the client has gone meanwhile
            self._free(hold, place)

    def _refused(self, failure: Failure, session: Session, new: Iterable[Hold]) -> Failure:
        error = failure.value
        session.release(hold for hold in new if hold.held)
        return error.subFailure if isinstance(error, FirstError) else failure

    def changed(self, change: Change) -> None:
        """A lock of the lab has ended, or something else has happened to it."""
        if change.hold is None or change.what == "taken" or not self._held:
            return
        place = self._place(change.hold)
        if place is not None:
            self._free(change.hold, place)

    def _free(self, hold: Hold, place: Place) -> None:
        holds = self._held.get(place, set())
        holds.discard(hold)
        if holds or place not in self._held:
            return
        del self._held[place]
        self._give_back(place)

    def _give_back(self, place: Place) -> None:
        top, path = place
        shown = f"{top.path}.{path}" if path else top.path
        freed = top.device_queue.run(
            top.device.unlocked,
            (path,),
            caller=Nobody(),
            verb="unlock",
            needs=(),
            what=f"unlocking {shown}",
            timeout=UNLOCKING,
        )
        freed.addErrback(self._not_freed, place, shown)

    def _not_freed(self, failure: Failure, place: Place, shown: str) -> None:
        why = failure.getErrorMessage()
        log.info("{path} could not be unlocked at the device: {why}", path=shown, why=why)
        if place[0] in self.nodes and failure.check(TimedOut, NotConnected):
            self._owed.add(place)
