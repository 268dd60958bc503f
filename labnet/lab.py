"""The lab: owns the registry, the locks, the queues and the updates, and hands out sessions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from threading import get_ident
from typing import Any, Literal, Protocol

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import LogLevel

from labnet.deadlines import Clock
from labnet.device import Device, ParameterState
from labnet.device_locks import DeviceLocks
from labnet.errors import LabError, Locked
from labnet.execution import DeviceQueue, fault_text
from labnet.lock_queue import check_text
from labnet.locks import Change, Hold, LockService, Owner
from labnet.logs import Logger, shows
from labnet.parts import Parts
from labnet.polling import Poller
from labnet.registry import DeviceNode, Node, ParameterNode, Registry
from labnet.session import Session
from labnet.supervision import RETRY, Retry, Supervisor
from labnet.updates import Update, Updates
from labnet.values import Reading

log = Logger()

#: Refusals by locks that are remembered, so that each is said once.
MOST_REFUSALS = 10_000

Network = IPv4Network | IPv6Network


def the_reactor() -> Any:
    """The reactor that is installed; importing it any earlier would choose one."""
    from twisted.internet import reactor

    return reactor


class MonotonicClock:
    """A reactor's timers with a clock that nobody can set back."""

    def __init__(self, reactor: Any) -> None:
        self.callLater: Callable[..., IDelayedCall] = reactor.callLater

    def seconds(self) -> float:
        return time.monotonic()


class AllDevices(Mapping[str, str]):
    """All devices that the lab has just now, by their own names: what ``devices = *`` means."""

    def __init__(self, host: Callable[[], Host]) -> None:
        self._host = host

    def __getitem__(self, name: str) -> str:
        if name not in self._host().devices():
            raise KeyError(name)
        return name

    def __iter__(self) -> Iterator[str]:
        return iter(self._host().devices())

    def __len__(self) -> int:
        return len(self._host().devices())


@dataclass(frozen=True)
class ServeOptions:
    """What all wires share of a ``[serve NAME]`` section; times in seconds.

    `device` is the path of the one device, or `devices` maps the wire's names to paths (all devices
    of the lab for ``*``). `allow` are the networks whose peers may connect, empty for all; `drain`
    is how long a listener that stops may wait for what is under way.
    """

    name: str = ""
    device: str | None = None
    devices: Mapping[str, str] = field(default_factory=dict)
    allow: tuple[Network, ...] = ()
    timeout: float = 10.0
    max_connections: int = 1000
    allow_shutdown: Literal["no", "listener", "lab"] = "no"
    drain: float = 5.0

    @property
    def reach(self) -> tuple[str, ...]:
        """The paths of all that is served; none means all that there is."""
        if isinstance(self.devices, AllDevices):
            return ()
        return tuple(self.devices.values()) if self.device is None else (self.device,)


class Listener(Protocol):
    """A listening wire: where it can be reached, and a line to try it with."""

    address: str
    example: str

    async def stop(self) -> None:
        """Closes the port, drains what is under way and ends the connections."""


class Host(Protocol):
    """What a wire's server gets of the lab."""

    @property
    def clock(self) -> Clock: ...
    @property
    def reactor(self) -> Any: ...
    @property
    def grace(self) -> float: ...

    def open_session(
        self,
        wire: str,
        peer: str,
        *,
        name: str | None = None,
        device: str | DeviceNode | None = None,
        reach: tuple[str, ...] = (),
        wait_for_locks: bool = False,
        timeout: float | None = None,
    ) -> Session: ...
    def devices(self) -> Mapping[str, DeviceNode]: ...
    def watch(
        self, arrived: Callable[[DeviceNode], None], departed: Callable[[DeviceNode], None]
    ) -> Callable[[], None]: ...
    def attach(
        self, name: str, device: Device, retry: Retry | None = None
    ) -> DeviceNode: ...
    def detach(self, name: str) -> Deferred[None]: ...
    def shut_down(self, why: str) -> None: ...


class Lab:
    """The kernel's lab. `clock` is monotonic time; `reactor` is needed for blocking devices only.

    `reads_open` and `stop_open`: what others may do while somebody holds a lock. `grace`: seconds
    that an owner known by name keeps its locks through a lost connection. `retry`: how devices
    that cannot be opened, or are lost, are tried again.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        reactor: Any = None,
        *,
        reads_open: bool = True,
        stop_open: bool = False,
        grace: float = 10.0,
        may_break: bool = False,
        on_shut_down: Callable[[str], None] | None = None,
        retry: Retry = RETRY,
    ) -> None:
        if reactor is None and clock is None:
            reactor = the_reactor()
        self.reactor: Any = reactor if reactor is not None else clock
        self.clock: Clock = MonotonicClock(self.reactor) if clock is None else clock
        self.grace = grace
        self.may_break = may_break
        self.registry = Registry()
        self.updates = Updates(self.clock)
        self.locks = LockService(self.clock, reads_open=reads_open, stop_open=stop_open)
        self.locks.subscribe(self._lock_changed)
        self._on_shut_down = on_shut_down
        self._gate = _Gate(self.locks)
        self.retry = retry
        self.device_locks = DeviceLocks()
        self.locks.subscribe(self.device_locks.changed)
        self._polls: dict[DeviceNode, Poller] = {}
        self._supervisors: dict[DeviceNode, Supervisor] = {}
        self._members: dict[Any, set[Session]] = {}
        self._refusals: set[tuple[object, ...]] = set()
        self._thread = get_ident()

    def set_policy(
        self, *, reads_open: bool, stop_open: bool, grace: float, may_break: bool
    ) -> None:
        """Changes the rules of a lab that runs; locks and those who wait go on."""
        self.grace = grace
        self.may_break = may_break
        self.locks.set_open(reads_open=reads_open, stop_open=stop_open)

    # Devices

    def devices(self) -> Mapping[str, DeviceNode]:
        """The devices of the lab by name."""
        return self.registry.devices

    def watch(
        self, arrived: Callable[[DeviceNode], None], departed: Callable[[DeviceNode], None]
    ) -> Callable[[], None]:
        """Calls `arrived` and `departed` from now on; returns what ends it."""
        return self.registry.watch(arrived, departed)

    def attach(self, name: str, device: Device, retry: Retry | None = None) -> DeviceNode:
        """Brings a device into the lab and opens it; it is there at once, connected or not.

        `retry` says how one that cannot be opened, or is lost, is tried again.
        """
        node = self.registry.add(name, device)
        node.device_queue = DeviceQueue(
            name,
            self.clock,
            self._gate,
            blocking=device.blocking,
            from_thread=getattr(self.reactor, "callFromThread", None),
        )
        node.hop = partial(self._hop, node.device_queue)
        node.members_changed = partial(self._members_changed, node)
        node.look_up = self.registry.find
        if device.reaches_out:
            device.parts = Parts(self, node)
        self._polls[node] = Poller(self, node)
        self._supervisors[node] = Supervisor(self, node, retry or self.retry)
        if type(device).means_lost is not Device.means_lost:
            node.device_queue.raised = partial(self._raised, node)
        self.device_locks.adopt(node)
        node.each(self._wire_up)
        self._supervisors[node].begin()
        self.registry.announce(node)
        return node

    def _raised(self, node: DeviceNode, error: BaseException) -> None:
        supervisor = self._supervisors.get(node)
        if supervisor is not None and node.device.means_lost(error):
            supervisor.reported(f"{type(error).__name__}: {fault_text(error)}")

    def _hop(self, queue: DeviceQueue, function: Callable[..., Any], *args: Any) -> None:
        """Calls `function` in the reactor's thread: now, or before any later result of a call."""
        if get_ident() == self._thread:
            function(*args)
        else:
            queue.in_reactor(function, *args)

    def _wire_up(self, node: Node) -> None:
        """Lets what changes in the device reach the listeners."""
        if isinstance(node, ParameterNode):
            node.state.notify = partial(self._changed, node)
            self._polls[node.top].plan(node)
        elif isinstance(node, DeviceNode):
            node.device._changed = partial(node.top.hop, self._described, node)
            node.device._reported = partial(node.top.hop, self._supervisors[node.top].reported)
        self.updates.appeared(node)

    def _members_changed(self, device: DeviceNode, gone: list[Node]) -> None:
        """Members of a device were replaced: locks, polls and listeners follow."""
        self.registry.forget_names()
        for top in gone:
            for node in top.walk() if isinstance(top, DeviceNode) else (top,):
                self._polls[device].forget(node)
            self.locks.forget(top)
            self.updates.spread(top, Update(top.path, "lost", detail="it is there no longer"))
            self.updates.vanished(top)
        self.registry.announce(device)

    def _changed(self, node: ParameterNode, reading: Reading) -> None:
        if self.updates.count:
            self._publish(node, Update(node.path, "value", reading))

    def _described(self, device: DeviceNode, state: ParameterState) -> None:
        node = device.children.get(state.spec.name)
        if isinstance(node, ParameterNode) and device.top in self._polls:
            self._polls[device.top].plan(node)
            self.updates.publish(node, Update(node.path, "metadata", state.reading))

    def _publish(self, node: Node, update: Update) -> None:
        if get_ident() == self._thread:
            self.updates.publish(node, update)
        else:
            self.reactor.callFromThread(self.updates.publish, node, update)

    def detach(self, name: str) -> Deferred[None]:
        """Takes a device out of the lab: its calls fail, its locks end, it is closed."""
        node = self.registry.remove(name)
        self._polls.pop(node).stop()
        supervisor = self._supervisors.pop(node)
        self.device_locks.forget(node)
        self.locks.forget(node)
        self.lose(node, "it has left the lab")
        self.updates.vanished(node)
        return supervisor.close()

    def change_retry(self, node: DeviceNode, first: float, longest: float) -> None:
        """How a device that is not connected is tried again from now on; `Retry` has the rest."""
        self._supervisors[node].change_retry(first, longest)

    def hardware(
        self, node: DeviceNode, verb: str, caller: Any, timeout: float | None
    ) -> Deferred[None]:
        """Opens or closes the device's connection to its hardware."""
        return self._supervisors[node].hardware(verb, caller, timeout)

    def lose(self, node: DeviceNode, reason: str) -> None:
        """A device is lost: its calls fail at once, its listeners are told."""
        node.device_queue.lose(reason)
        self.updates.spread(node, Update(node.path, "lost", detail=reason))

    # Sessions

    def open_session(
        self,
        wire: str,
        peer: str,
        *,
        name: str | None = None,
        device: str | DeviceNode | None = None,
        reach: tuple[str, ...] = (),
        wait_for_locks: bool = False,
        timeout: float | None = None,
    ) -> Session:
        """A client has come. `name` is what it is known by, if by anything; `device` is where its
        paths begin, `reach` the paths at and below which it finds names (empty: all).

        Raises `UnknownName` for a device that is not there, `TooLarge` for a name of more than 256
        characters.
        """
        check_text(name or "", "a client's name")
        if isinstance(device, str):
            node = self.registry.find(device)
            device = node if isinstance(node, DeviceNode) else node.ancestors[0]
        return Session(
            self,
            wire,
            peer,
            name,
            device,
            reach=reach,
            wait_for_locks=wait_for_locks,
            timeout=timeout,
        )

    def join(self, session: Session) -> None:
        """A session acts as an owner of locks; several may act as one, by its token."""
        self._members.setdefault(session.owner, set()).add(session)

    def session_of(self, owner: Owner) -> Session | None:
        """A session that acts as this owner; None for one who is away."""
        return next(iter(self._members.get(owner, ())), None)

    def leave(
        self, session: Session, grace: float | None = None, keep_leased: bool = False
    ) -> None:
        """A session ends; with the last one of an owner its locks end, now or after `grace`.

        With `keep_leased` those with a lease last as long as that. An owner known by name for whom
        only others have acted lately is still waited for.
        """
        owner = session.owner
        members = self._members.get(owner, set())
        members.discard(session)
        if members:
            return
        self._members.pop(owner, None)
        if owner.away:
            return
        if owner.named and not session.named:
            grace = self.grace
        if grace:
            self.locks.lost(owner, grace)
        else:
            self.locks.gone(owner, keep_leased=keep_leased)

    def drop(self, session: Session) -> None:
        """Forgets what a session has waiting in any queue."""
        for node in self.registry.devices.values():
            node.device_queue.drop(session)

    def refuse(self, broken: Hold, error: LabError) -> None:
        """What the owner of a broken lock has waiting under it fails; what runs cannot be recalled.
        """
        node: Any = broken.node
        for session in self._members.get(broken.owner, ()):
            node.queue.refuse(session, node, error)

    def refused(self, session: Session, verb: str, error: Locked) -> None:
        """A lock has kept a client out: said once for each client's host and each holder."""
        holder = error.holder
        host = session.peer.rpartition(":")[0]
        case = session.wire, host, holder.resource, holder.name, holder.peer
        if case in self._refusals:
            return
        if len(self._refusals) >= MOST_REFUSALS:
            self._refusals.clear()
        self._refusals.add(case)
        log.info(
            "{client} ({wire} {peer}) refused: {verb}: {error}",
            client=session.name,
            wire=session.wire,
            peer=session.peer,
            verb=verb,
            error=str(error),
        )

    def _lock_changed(self, change: Change) -> None:
        self._log_change(change)
        if change.hold is not None and self.updates.count:
            node: Any = change.hold.node
            self.updates.publish(node, Update(node.path, "lock", detail=change))

    def _log_change(self, change: Change) -> None:
        """What an owner did not ask for is told; what it did ask for is a matter of debugging."""
        owner, hold = change.owner, change.hold
        waited = change.what == "freed" and owner.away and owner.lost_at
        asked = change.what in ("taken", "freed") and not waited
        if asked and not shows(log.namespace, LogLevel.debug):
            return
        tell = log.debug if asked else log.info
        tell(
            "{owner} ({wire} {peer}): {what}",
            owner=owner.name,
            wire=owner.wire,
            peer=owner.peer,
            what=_CHANGES[change.what].format(path=hold and hold.path, by=change.by),
        )

    # The end

    def shut_down(self, why: str) -> None:
        """A client that may do so asks the whole lab to end."""
        log.info("shutting down: {why}", why=why)
        if self._on_shut_down is not None:
            self._on_shut_down(why)

    def stop(self, wait: float = 5.0) -> Deferred[None]:
        """Closes all devices; fires when they are idle, or after `wait` seconds."""
        ended = []
        for node in list(self.registry.devices.values()):
            poller = self._polls.pop(node, None)
            if poller is not None:  # else a second stop
                poller.stop()
                node.device_queue.lose("the lab is shutting down")
                ended.append(self._supervisors.pop(node).close(wait))
        self.locks.stop()
        return DeferredList(ended).addCallback(lambda _: None) if ended else succeed(None)


_CHANGES = {
    "taken": "lock on {path} taken",
    "freed": "lock on {path} freed",
    "broken": "lock on {path} broken by {by}",
    "expired": "lease of the lock on {path} has ended",
    "lost": "connection lost; its locks wait for it",
    "back": "has come back to its locks",
}


class _Gate:
    """Asks the lock service whether a call may be taken up now."""

    def __init__(self, locks: LockService) -> None:
        self._locks = locks

    @property
    def epoch(self) -> int:
        return self._locks.epoch

    def check(self, caller: Any, verb: str, needs: Any) -> None:
        locks = self._locks
        if locks.count and needs and verb not in locks.open_verbs:
            caller.check(verb, needs)
