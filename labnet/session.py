"""One client's presence in the lab: the only door from a wire to a device.

Every wire puts its requests into the verbs of a `Session`. They return Deferreds that can be
cancelled and that fail with `LabError`s only; a result that needs no wait comes as a Deferred that
has fired already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.python.failure import Failure

from labnet.calls import call_state, read_state, write_state
from labnet.device import check_writable
from labnet.errors import (
    Holder,
    LabError,
    Locked,
    NotAllowed,
    NotConnected,
    NotReadable,
    NotWritable,
    OutOfRange,
    UnknownName,
)
from labnet.lock_queue import MAX_SECONDS, check_text
from labnet.locks import Grant, Hold, Mode, Owner
from labnet.registry import (
    MAX_REMEMBERED,
    CommandNode,
    DeviceNode,
    Node,
    ParameterNode,
    with_parts,
)
from labnet.updates import Listener, Subscription
from labnet.values import Reading

if TYPE_CHECKING:
    from labnet.execution import DeviceQueue
    from labnet.instrument.channel import MessageChannel
    from labnet.lab import Lab

Path = str | tuple[str, ...]


class Session:
    """One client: who it is, what it holds, what it waits for. Made by `Lab.open_session`.

    `wire`, `peer` and `name` are what others are told about it; `device` is where its paths begin.
    `reach` are the paths at and below which it finds names, empty for the whole lab. With
    `wait_for_locks` an operation that meets another's lock waits instead of failing.
    """

    def __init__(
        self,
        lab: Lab,
        wire: str,
        peer: str,
        name: str | None,
        device: DeviceNode | None,
        *,
        wait_for_locks: bool = False,
        timeout: float | None = None,
        reach: tuple[str, ...] = (),
        allowed: Callable[[Session, str, Node], bool] | None = None,
    ) -> None:
        self.lab = lab
        self.wire = wire
        self.peer = peer
        self.name = name or peer
        self.device = device
        self.wait_for_locks = wait_for_locks
        #: Seconds that a call may take when neither the wire nor the command says so.
        self.timeout = timeout
        self.closed = False
        #: Calls without an answer yet.
        self.outstanding = 0
        self.named = name is not None
        self._locks = lab.locks
        self._reach = reach
        registry = lab.registry
        self._names = registry.reached_names(device, reach) if reach else registry.names(device)
        self._allowed = allowed
        self._owner: Owner | None = None
        self._subscriptions: list[Subscription] = []
        self._channels: dict[DeviceNode, MessageChannel] = {}
        self._waits: set[Deferred[Any]] = set()

    # Names

    def resolve(self, path: Path | Node) -> Node:
        """The node that `path` means here; raises `UnknownName`. A node means itself."""
        if isinstance(path, Node):
            return path
        return self._names.get(path) or self._find(path)

    def _find(self, path: Path) -> Node:
        node = self.lab.registry.find(path, self.device)
        if self._reach:
            if not any(f"{node.path}.".startswith(f"{part}.") for part in self._reach):
                raise UnknownName(path if isinstance(path, str) else ".".join(path))
            if len(self._names) >= MAX_REMEMBERED:
                self._names.clear()
            self._names[path] = node
        return node

    def describe(self, path: Path | Node = "") -> Node:
        """The node with all that is known about it; the session's device for an empty path."""
        if path:
            return self.resolve(path)
        if self.device is None:
            raise NotAllowed("this session has no device of its own; name one")
        return self.lab.registry.current(self.device)

    def _device(self, path: Path | None) -> DeviceNode:
        node = self.describe(path or "")
        return node if isinstance(node, DeviceNode) else node.ancestors[0]

    # Values and commands

    def get(self, path: Path, timeout: float | None = None) -> Deferred[Reading]:
        """Reads a parameter. `timeout` is in seconds; None means the section's."""
        node = self._names.get(path)
        if node is None:
            try:
                node = self.resolve(path)
            except LabError as error:
                return fail(error)
        if node.__class__ is not ParameterNode:
            return fail(NotReadable(node.path, f"is a {kind_name(node)}, not a parameter"))
        assert isinstance(node, ParameterNode)
        state = node.state
        if state.getter is not None:
            return self._run(read_state, (state,), None, node, "get", node.needs, timeout)
        queue = node.top.device_queue
        if (
            "r" in state.spec.access
            and not self._locks.count
            and not self.outstanding
            and self._allowed is None
            and queue.unavailable is None
            and not self.closed
        ):
            return succeed(state.reading)  # nothing to ask the device for, nobody to ask for leave
        return self._get(node, timeout)

    def _get(self, node: ParameterNode, timeout: float | None) -> Deferred[Reading]:
        """Of a parameter without a getter, where leave must be asked."""
        state = node.state
        if node.top.device_queue.unavailable is None and not self.outstanding:
            try:
                self._admit("get", node)
                self.check("get", node.needs)
                return succeed(read_state(state))
            except LabError as error:
                return fail(error)
        # Behind this client's own calls, so that it reads what it has written.
        return self._run(read_state, (state,), None, node, "get", node.needs, timeout)

    def set(self, path: Path, value: Any, timeout: float | None = None) -> Deferred[Reading]:
        """Writes a parameter; gives the reading that it then has."""
        try:
            node = self.resolve(path)
            if not isinstance(node, ParameterNode):
                raise NotWritable(node.path, f"is a {kind_name(node)}, not a parameter")
            check_writable(node.state)
            value = node.state.spec.check(value, node.name)
        except LabError as error:
            return fail(error)
        return self._run(write_state, (node.state, value), None, node, "set", node.needs, timeout)

    def call(
        self, path: Path, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Deferred[Any]:
        """Calls a command with arguments that its kinds must fit."""
        return self.call_with(path, args, kwargs, timeout)

    def call_with(
        self, path: Path, args: Sequence[Any], kwargs: dict[str, Any], timeout: float | None = None
    ) -> Deferred[Any]:
        """`call` for a wire whose commands may have an argument called ``timeout``."""
        try:
            node = self.resolve(path)
            if not isinstance(node, CommandNode):
                raise NotReadable(node.path, f"is a {kind_name(node)}, not a command")
            bound, named = node.state.spec.bind(tuple(args), kwargs)
        except LabError as error:
            return fail(error)
        return self._call(node, bound, named, timeout)

    def _call(
        self,
        node: CommandNode,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None,
    ) -> Deferred[Any]:
        spec = node.state.spec
        verb = "stop" if spec.stop else "get" if spec.reads else "call"
        return self._run(
            call_state,
            (node.state.function, args, kwargs),
            None,
            node,
            verb,
            node.needs,
            timeout if timeout is not None else spec.timeout,
            long=spec.long,
            urgent=spec.urgent,
        )

    def stop(self, device: Path | None = None, timeout: float | None = None) -> Deferred[Any]:
        """Calls the device's stop command, or those of all its sub-devices if it has none itself.

        Fails with `NotAllowed` if there is none, and if one fails with its error, after all.
        """
        try:
            node = self._device(device)
            stops = [command for command in node.commands() if command.spec.stop]
            if not stops:
                raise NotAllowed(f"{node.path} has no command that stops it")
        except LabError as error:
            return fail(error)
        stops = [command for command in stops if command.parent is node] or stops
        calls = [self._call(command, (), {}, timeout) for command in stops]
        if len(calls) == 1:
            return calls[0]
        return DeferredList(calls, consumeErrors=True).addCallback(_all_done)

    def connect(self, device: Path | None = None, timeout: float | None = None) -> Deferred[None]:
        """Opens the device's connection to its hardware (again)."""
        return self._hardware(device, "connect", timeout)

    def disconnect(
        self, device: Path | None = None, timeout: float | None = None
    ) -> Deferred[None]:
        """Closes the device's connection to its hardware; calls fail until it is opened again."""
        return self._hardware(device, "disconnect", timeout)

    def _hardware(self, device: Path | None, verb: str, timeout: float | None) -> Deferred[None]:
        try:
            node = self._device(device).top
            self._admit(verb, node)
            limit = self._limit(node.device_queue, timeout)
        except LabError as error:
            return fail(error)
        return self._clear(verb, (node,), lambda: self.lab.hardware(node, verb, self, limit))

    def _run(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        node: Node,
        verb: str,
        needs: Sequence[Node],
        timeout: float | None,
        long: bool = False,
        urgent: bool = False,
    ) -> Deferred[Any]:
        queue = node.top.device_queue
        try:
            self._admit(verb, node)
            limit = self._limit(queue, timeout)
        except LabError as error:
            return fail(error)

        if not self.wait_for_locks:
            return queue.run(
                function, args, kwargs, caller=self, verb=verb, needs=needs, what=node.path,
                timeout=limit, long=long, urgent=urgent,
            )  # fmt: skip
        go = partial(
            queue.run, function, args, kwargs, caller=self, verb=verb, needs=needs, what=node.path,
            timeout=limit, long=long, urgent=urgent,
        )  # fmt: skip
        return self._clear(verb, needs, go)

    def run_message(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        node: Node,
        device: DeviceNode,
        timeout: float | None,
        *,
        long: bool = False,
        urgent: bool = False,
        verb: str = "message",
    ) -> Deferred[Any]:
        """One call as part of a program message, which needs the whole `device` unlocked."""
        return self._run(
            function, args, None, node, verb, (device,), timeout, long=long, urgent=urgent
        )

    def _limit(self, queue: DeviceQueue, timeout: float | None) -> float | None:
        """The time limit of a call: the wire's or command's own, the device's, the section's."""
        if timeout is None:
            timeout = queue.limit
        if timeout is None:
            timeout = self.timeout
        if timeout is None or timeout == inf:
            return None
        if not 0 <= timeout <= MAX_SECONDS:
            raise OutOfRange("the time limit in seconds", timeout, 0, MAX_SECONDS)
        return timeout

    def turn(self, device: DeviceNode, timeout: float | None = None) -> Deferred[Any]:
        """The device for several calls in a row (`execution.Turn`), as for a program message."""
        def go() -> Deferred[Any]:
            return device.top.device_queue.turn(
                caller=self, verb="turn", needs=(), what=f"{device.path} message", timeout=limit
            )

        try:
            self._admit("message", device)
            limit = self._limit(device.top.device_queue, timeout)
        except LabError as error:
            return fail(error)
        return go()

    def clear(self, verb: str, needs: Sequence[Node]) -> Deferred[None]:
        """Fires when no lock stands in the way of `verb`; for sessions that wait for locks."""
        return self._clear(verb, needs, lambda: succeed(None))

    def _clear(
        self, verb: str, needs: Sequence[Node], go: Callable[[], Deferred[Any]]
    ) -> Deferred[Any]:
        """Calls `go`, after waiting for others' locks if this session does that.

        Waiting comes before the device's queue, else who waits would block who holds; so the lock
        may be gone again when the call is taken up, and the wait begins anew.
        """
        if not self.wait_for_locks:
            return go()
        if not self._locks.count:
            return go().addErrback(self._locked_again, verb, needs, go)
        try:
            blocked = [node for node in needs if self._refused(verb, node) is not None]
        except LabError as error:
            return fail(error)
        if not blocked:
            return go().addErrback(self._locked_again, verb, needs, go)
        wait = self._locks.clear(self.owner, blocked[0], verb, None)
        self._waits.add(wait)

        def waited(result: Any) -> Any:
            self._waits.discard(wait)
            return result

        return wait.addBoth(waited).addCallback(lambda _: self._clear(verb, needs, go))

    def _locked_again(
        self, failure: Failure, verb: str, needs: Sequence[Node], go: Callable[[], Deferred[Any]]
    ) -> Any:
        failure.trap(Locked)
        if any(self._refused(verb, node) for node in needs):
            return self._clear(verb, needs, go)
        return failure  # the device itself says so: it may stand for a server with its own locks

    # Leave

    def _admit(self, verb: str, node: Node) -> None:
        if self.closed:
            raise NotConnected("this session has been closed")
        if self._allowed is not None and not self._allowed(self, verb, node):
            raise NotAllowed(f"{self.name} may not {verb} {node.path}")

    def _refused(self, verb: str, node: Node) -> Hold | None:
        return self._locks.refusal(self.owner, node, verb)

    def shut_out(self, verb: str, node: Node) -> bool:
        """Whether another's lock stands in the way of `verb` now."""
        return self._locks.count > 0 and self._refused(verb, node) is not None

    def check(self, verb: str, needs: Iterable[Node]) -> None:
        """Raises `Locked` if another's lock stands in the way of `verb` on any of the nodes."""
        locks = self._locks
        if locks.count and verb not in locks.open_verbs:
            owner = self.owner
            for node in needs:
                hold = locks.refusal(owner, node, verb)
                if hold is not None:
                    error = locks.locked(hold, node.path)
                    self.lab.refused(self, verb, error)
                    raise error

    # Locks

    @property
    def owner(self) -> Owner:
        """Whose locks this session takes and obeys.

        A second live session under one name is an owner of its own, who cannot come back by name.
        """
        if self._owner is None:
            if self.closed:
                raise NotConnected("this session has been closed")
            known = self._locks.owner_by_name(self.wire, self.name) if self.named else None
            if known is not None and known.away and self._locks.back(known):
                self._owner = known
            else:
                named = self.named and known is None
                self._owner = self._locks.owner(self.name, self.wire, self.peer, named=named)
            self.lab.join(self)
        return self._owner

    def rename(self, name: str) -> None:
        """Others are told this name from now on; what is held keeps the name it was taken under."""
        check_text(name, "a client's name")
        self.name = name
        owner = self._owner
        if owner is not None and not owner.named and not owner.holds:
            owner.name = name

    @property
    def token(self) -> str:
        """The secret by which another session can be the same owner."""
        return self.owner.token

    def show_token(self, token: str) -> None:
        """Becomes the owner who has this token; raises `NotAllowed` if nobody has.

        Locks that this session took before under its own name are freed.
        """
        owner = self._locks.owner_by_token(token)
        if owner is None:
            raise NotAllowed("nobody holds a lock under this token")
        if self._owner is not None and self._owner is not owner:
            self.lab.leave(self)
        self._locks.back(owner)
        self._owner = owner
        self.lab.join(self)

    def lock(
        self,
        resources: Iterable[Path | Node],
        *,
        mode: Mode = Mode.EXCLUSIVE,
        key: str | None = None,
        wait: float = 0.0,
        lease: float = 0.0,
        replace: bool = False,
        note: str = "",
    ) -> Deferred[Grant]:
        """Locks all of `resources` or none; `wait` and `lease` are in seconds.

        A device that is made of others is locked with what it needs of them.
        `replace` swaps all that the owner holds for these at once. Fails with `Locked`, naming the
        holder, or `UnknownName`.
        """
        try:
            nodes = with_parts([self.resolve(path) for path in resources])
            for node in nodes:
                self._admit("lock", node)
            owner = self.owner
        except LabError as error:
            return fail(error)
        granted = self._locks.acquire(
            nodes,
            owner,
            mode=mode,
            key=key,
            wait=wait,
            lease=lease,
            replace=replace,
            note=note,
        )
        devices = self.lab.device_locks
        if devices.nodes:
            end = self.lab.clock.seconds() + wait
            granted = granted.addCallback(partial(devices.take, self), end)
        if isinstance(getattr(granted, "result", None), Failure) or not granted.called:
            granted.addErrback(self._not_granted)
        if not granted.called or granted.paused:
            self._waits.add(granted)
            granted.addBoth(self._waited, granted)
        return granted

    def _not_granted(self, failure: Failure) -> Failure:
        if isinstance(failure.value, Locked):
            self.lab.refused(self, "lock", failure.value)
        return failure

    def _waited(self, result: Any, wait: Deferred[Any]) -> Any:
        self._waits.discard(wait)
        return result

    def unlock(self, resources: Iterable[Path | Node] | None = None) -> list[Hold]:
        """Frees what this owner holds of `resources`, or all of it."""
        nodes = None
        if resources is not None:
            nodes = with_parts([self.resolve(path) for path in resources])
        return [] if self._owner is None else list(self._locks.free(self._owner, nodes))

    def release(self, holds: Iterable[Hold]) -> None:
        """Frees some of what this owner holds."""
        if self._owner is not None:
            nodes: list[Any] = [hold.node for hold in holds]
            self._locks.free(self._owner, with_parts(nodes))

    def release_one(self, path: Path | Node) -> Hold | None:
        """Frees one lock of this owner on a node, of two the exclusive one; None if it has none."""
        if self._owner is None:
            return None
        first, *parts = with_parts([self.resolve(path)])
        freed = self._locks.release(self._owner, first)
        for part in parts:
            self._locks.release(self._owner, part)
        return freed

    def renew(self, lease: float | None = None) -> None:
        """Begins the leases anew; `lease` in seconds gives them another length."""
        if self._owner is not None:
            self._locks.renew(self._owner, lease=lease)

    def holdings(self) -> list[Hold]:
        """What this session's owner holds."""
        return [] if self._owner is None else list(self._locks.holds(self._owner))

    def lock_info(self, path: Path | Node = "") -> list[Hold]:
        """All holds on a node, above it and below it."""
        return list(self._locks.info(self.describe(path)))

    def holders(self, path: Path | Node = "") -> list[Holder]:
        """Who holds a node, something above it or below it, as others may be told."""
        return [self._locks.locked(hold).holder for hold in self.lock_info(path)]

    def break_lock(self, path: Path | Node) -> list[Hold]:
        """Frees what others hold on a node or below it; what they have waiting there is refused.

        Raises `NotAllowed` where the lab, or this session's policy, does not allow it.
        """
        node = self.resolve(path)
        self._admit("break", node)
        if not self.lab.may_break:
            raise NotAllowed(f"the lab does not allow breaking the lock of {node.path}")
        broken = list(self._locks.break_(node, self.owner))
        breaker = Holder(node.path, self.name, self.wire, self.peer, 0.0)
        for hold in broken:
            self.lab.refuse(hold, Locked(breaker))
        return broken

    # Messages and updates

    def channel(self, device: Path | None = None) -> MessageChannel:
        """The message channel of this session to a device; one for each device."""
        from labnet.instrument.channel import open_channel

        node = self._device(device)
        channel = self._channels.get(node)
        if channel is None:
            channel = self._channels[node] = open_channel(self, node)
        return channel

    def subscribe(
        self, paths: Iterable[Path | Node], listener: Listener, *, at_once: bool = False
    ) -> Subscription:
        """Calls ``listener(updates)`` for what changes on the nodes and below them from now on.

        With `at_once` it is called for each update by itself, while that happens; it must be quick.
        """
        nodes = [self.resolve(path) for path in paths]
        for node in nodes:
            self._admit("subscribe", node)
        subscription = self.lab.updates.subscribe(nodes, listener, at_once=at_once)
        self._subscriptions = [*filter(Subscription.live, self._subscriptions), subscription]
        return subscription

    # The end

    def lost(self, grace: float | None = None) -> None:
        """The connection is gone but its client is known by name and may come back.

        Its locks stay for `grace` seconds (None: the lab's); what it had waiting is dropped.
        """
        self._end()
        if self._owner is not None:
            self.lab.leave(self, self.lab.grace if grace is None else grace)

    def back(self) -> None:
        """The client has come back under its name; what it held is free if that was too late."""
        self.closed = False
        if self._owner is not None and self._locks.back(self._owner):
            self.lab.join(self)
        else:
            self._owner = None

    def close(self, reason: str = "", *, keep_leased: bool = False) -> None:
        """The client is gone: frees its locks, leaves queues, drops what has not started.

        With `keep_leased` its locks that have a lease last as long as that.
        """
        if self._end() and self._owner is not None:
            self.lab.leave(self, keep_leased=keep_leased)

    def _end(self) -> bool:
        if self.closed:
            return False
        self.closed = True
        for wait in list(self._waits):
            wait.cancel()
        for subscription in self._subscriptions:
            subscription.end()
        self._subscriptions.clear()
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()
        if self.outstanding:
            self.lab.drop(self)
        return True

    def __repr__(self) -> str:
        return f"<Session {self.name} ({self.wire} {self.peer})>"


def _all_done(outcomes: list[tuple[bool, Any]]) -> None:
    """Nothing, or the first failure among the outcomes."""
    for succeeded, result in outcomes:
        if not succeeded:
            result.raiseException()


def kind_name(node: Node) -> str:
    """What a node is, in a user's words."""
    if isinstance(node, ParameterNode):
        return "parameter"
    return "command" if isinstance(node, CommandNode) else "device"
