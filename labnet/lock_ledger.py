"""What is entered and struck out, and what follows: deadlines, news, who is served next.

The inner half of `labnet.locks.LockService`. Nothing here calls a listener or fires a Deferred
while the table is being changed: that is put on a list, and `_settle` works it off at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from labnet import errors
from labnet.deadlines import Clock, Deadlines
from labnet.lock_owners import KnownOwners, Owner
from labnet.lock_queue import Queue, Request, check_seconds
from labnet.lock_table import (
    SHARED,
    Change,
    Hold,
    Place,
    What,
    covering_key,
    enter,
    leave,
)
from labnet.logs import Logger


class Grant(NamedTuple):
    """What a request was given: its holds in the order of the nodes, and those of them made now."""

    holds: tuple[Hold, ...]
    new: tuple[Hold, ...]

    @property
    def already(self) -> tuple[Hold, ...]:
        """Those the owner had before (HiSLIP 3, VXI-11 11)."""
        return tuple(hold for hold in self.holds if hold not in self.new)


class Ledger:
    """The holds, waiters and owners of a lab, and everything that changes them."""

    log = Logger()

    def __init__(self, clock: Clock) -> None:
        self.count = 0
        self.epoch = 0
        self._clock = clock
        self._fence = 0
        self._queue = Queue()
        self._deadlines: Deadlines[Hold | Request | Owner] = Deadlines(clock, self._due)
        self._known = KnownOwners()
        self._listeners: list[Callable[[Change], None]] = []
        self._todo: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._settling = False

    # Entering

    def _blocker(self, request: Request) -> Hold | Request | None:
        if self._queue.locks:
            earlier = self._queue.ahead(request)
            if earlier is not None:
                return earlier
        return request.stopped_by()

    def _grant(self, request: Request) -> Grant:
        """Enters the holds of a request that nothing stands against."""
        if request.replace:
            self._drop_others(request)
        now = self._clock.seconds()
        holds, new = [], []
        for place in request.places:
            hold = request.standing(place)
            if hold is None:
                hold = self._make(request, place, now)
                new.append(hold)
            holds.append(hold)
        if new and (self._queue.locks or request.owner.waiting):
            self._look_around(request)
        return Grant(tuple(holds), tuple(new))

    def _drop_others(self, request: Request) -> None:
        kept = {request.standing(place) for place in request.places}
        self._remove([hold for hold in request.owner.holds if hold not in kept], "freed")

    def _make(self, request: Request, place: Place, now: float) -> Hold:
        owner = request.owner
        key = request.key or ""
        if owner.keyed and not key and not request.replace:
            key = covering_key(place, owner)
        self._fence = fence = self._fence + 1
        hold = Hold(place, owner, request.mode, key, fence, now, request.note)
        enter(hold)
        self.count += 1
        self.epoch += 1
        if request.lease:
            self._set_lease(hold, request.lease, now)
        if self._listeners:
            self._tell("taken", owner, hold)
        return hold

    def _look_around(self, taken: Request) -> None:
        """What was taken can let in others: the owner's own requests, and those with its key."""
        for request in taken.owner.waiting:
            self._queue.look_again(request)
        if taken.mode is SHARED:
            for request in self._queue.locks.values():
                if request.key == taken.key:
                    self._queue.look_again(request)

    def _set_lease(self, hold: Hold, lease: float, now: float) -> None:
        self._stop_deadline(hold)
        hold.lease = lease
        hold.deadline = now + lease if lease else None
        if hold.deadline is not None:
            hold.entry = self._deadlines.add(hold.deadline, hold)

    def _stop_deadline(self, subject: Hold | Request | Owner) -> None:
        if subject.entry is not None:
            self._deadlines.drop(subject.entry)
            subject.entry = None

    # Striking out

    def _remove(self, holds: Iterable[Hold], why: What, by: str = "") -> None:
        for hold in holds:
            leave(hold)
            self.count -= 1
            if hold.entry is not None:
                self._stop_deadline(hold)
            if hold.behind is not None:
                self._queue.wake(hold)
            if self._listeners or hold.owner.changed is not None:
                self._tell(why, hold.owner, hold, by)
            if hold.owner.away and not hold.owner.holds:
                self._todo.append((self._forget_if_idle, hold.owner))

    def _await_return(self, owner: Owner, seconds: float) -> None:
        self._stop_deadline(owner)
        owner.entry = self._deadlines.add(self._clock.seconds() + seconds, owner)

    def _forget_if_idle(self, owner: Owner) -> None:
        """One who is away and holds nothing is gone for good."""
        if owner.away and not owner.holds and not owner.gone:
            owner.gone = True
            self._stop_deadline(owner)
            self._known.remove(owner)

    # Waiting

    def _enqueue(
        self, request: Request, blocker: Hold | Request, wait: float | None, operation: bool
    ) -> Deferred[Any]:
        if wait == 0:
            raise self._refused(request, blocker)
        if wait is not None:
            check_seconds(wait, "wait for a lock")
        self._queue.check_room(request)
        deferred: Deferred[Any] = Deferred(self._cancelled)
        now = self._clock.seconds()
        self._queue.join(request, deferred, now, operation)
        self._queue.put_behind(request, blocker)
        if wait is not None:
            request.deadline = now + wait
            request.entry = self._deadlines.add(request.deadline, request)
        return deferred

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        request = self._queue.find(deferred)
        if request is not None:
            self._withdraw(request)
            self._settle()

    def _withdraw(self, request: Request) -> Deferred[Any]:
        self._stop_deadline(request)
        return self._queue.leave(request)

    def _end_wait(self, request: Request, error: errors.LabError) -> None:
        """Out of the queue now; the caller hears of it when all is settled."""
        self._todo.append((_give_up, (self._withdraw(request), error)))

    def _end_waits(self, requests: Iterable[Request], why: str) -> None:
        for request in list(requests):
            self._end_wait(request, errors.Cancelled(why))

    def _settle(self) -> None:
        """Makes the calls that are due and serves who can be served, until neither is left.

        Callbacks may take, free and wait again; the outermost call does all the work, so a chain of
        any length needs no recursion.
        """
        if self._settling:
            return
        self._settling = True
        try:
            while True:
                while self._todo:
                    call, subject = self._todo.popleft()
                    call(subject)
                request = self._queue.next_ready()
                if request is None:
                    return
                self._serve(request)
        finally:
            self._settling = False

    def _serve(self, request: Request) -> None:
        blocker = request.stopped_by() if request.operation else self._blocker(request)
        if blocker is not None:
            self._queue.put_behind(request, blocker)
            return
        deferred = self._withdraw(request)
        deferred.callback(None if request.operation else self._grant(request))

    def _due(self, subjects: list[Hold | Request | Owner]) -> None:
        """Deadlines have passed. Locks end before waits: who waited to the last moment gets it."""
        late = []
        for subject in subjects:
            if isinstance(subject, Request):
                late.append(subject)
            elif self._deadlines.passed(subject.entry):
                holds = [subject] if isinstance(subject, Hold) else list(subject.holds)
                self._remove(holds, "expired")
        self._settle()
        late = [request for request in late if self._queue.waits(request)]
        refusals = [self._refused(request, request) for request in late]
        for request, refusal in zip(late, refusals, strict=True):
            self._end_wait(request, refusal)
        self._settle()

    def _refused(self, request: Request, blocker: Hold | Request) -> errors.Locked:
        """The error for a request; behind an earlier waiter it names whom that one waits for."""
        who = blocker.obstacle() if isinstance(blocker, Request) else blocker
        wanted = request.path
        if isinstance(who, Hold):
            near = (place.node.path for place in request.places if place.related(who.place))
            wanted = next(near, wanted)
        return errors.Locked(self._holder(who, self._clock.seconds()), wanted)

    @staticmethod
    def _holder(who: Hold | Request, now: float) -> errors.Holder:
        owner = who.owner
        grace = None if owner.entry is None else max(0.0, owner.entry[0] - now)
        return errors.Holder(
            who.path, owner.name, owner.wire, owner.peer, now - who.since, who.left(now), grace
        )

    # News

    def _tell(self, what: What, owner: Owner, hold: Hold | None = None, by: str = "") -> None:
        self._todo.append((self._spread, Change(what, owner, hold, by)))

    def _spread(self, change: Change) -> None:
        listeners = list(self._listeners)
        if change.owner.changed is not None and change.what in ("broken", "expired"):
            listeners.append(change.owner.changed)
        for listener in listeners:
            try:
                listener(change)
            except Exception:
                self.log.failure("a listener to locks failed at {change}", change=change)



def _give_up(wait: tuple[Deferred[Any], errors.LabError]) -> None:
    deferred, error = wait
    if not deferred.called:  # the caller may have cancelled it in the meantime
        deferred.errback(error)
