"""The other devices of the lab, for a device that is made of them.

What such a device asks of its parts is asked for the client whose call is in progress: that
client's locks count at the parts as they do at the device itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from labnet.calls import call_state, read_state, write_state
from labnet.device import check_writable, current_deadline
from labnet.errors import NotConnected, NotReadable, NotWritable, UnknownName
from labnet.logs import Logger
from labnet.polling import Nobody
from labnet.registry import CommandNode, DeviceNode, Node, ParameterNode, with_parts
from labnet.updates import Subscription, Update, What
from labnet.values import Reading

if TYPE_CHECKING:
    from labnet.deadlines import Clock
    from labnet.lab import Lab

log = Logger()


class Parts:
    """What one device (`node`) may do with the others of its lab."""

    def __init__(self, lab: Lab, node: DeviceNode) -> None:
        self._lab = lab
        self._node = node

    @property
    def clock(self) -> Clock:
        """The lab's clock."""
        return self._lab.clock

    def find(self, path: str) -> Node:
        """The node of a path from the root; raises `NotConnected` while it is not there."""
        try:
            return self._lab.registry.find(path)
        except UnknownName as error:
            raise NotConnected(f"{path} is not in the lab: {error}") from None

    # Calls

    def get(self, path: str) -> Deferred[Reading]:
        """Reads a parameter."""
        node = self.find(path)
        if not isinstance(node, ParameterNode):
            raise NotReadable(path, "is no parameter")
        return self._run(node, "get", read_state, (node.state,))

    def set(self, path: str, value: Any) -> Deferred[Reading]:
        """Writes a parameter; gives the reading that it then has."""
        node = self.find(path)
        if not isinstance(node, ParameterNode):
            raise NotWritable(path, "is no parameter")
        check_writable(node.state)
        value = node.state.spec.check(value, path)
        return self._run(node, "set", write_state, (node.state, value))

    def call(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Deferred[Any]:
        """Calls a command."""
        node = self.find(path)
        if not isinstance(node, CommandNode):
            raise NotReadable(path, "is no command")
        spec = node.spec
        bound, named = spec.bind(args, kwargs)
        verb = "stop" if spec.stop else "get" if spec.reads else "call"
        function = (node.state.function, bound, named)
        return self._run(node, verb, call_state, function, long=spec.long, urgent=spec.urgent)

    def _run(
        self,
        node: ParameterNode | CommandNode,
        verb: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        **how: Any,
    ) -> Deferred[Any]:
        deadline = current_deadline.get()
        limit = deadline.left()
        caller: Any = deadline.caller
        nobody = caller is None or isinstance(caller, Nobody)
        return node.queue.run(
            function,
            args,
            caller=Nobody() if nobody else caller,
            verb="poll" if nobody else verb,
            needs=() if nobody else node.needs,
            what=node.path,
            timeout=None if limit == float("inf") else limit,
            **how,
        )

    # What happens to the parts

    def subscribe(
        self, paths: Iterable[str], listener: Callable[[list[Update]], Any]
    ) -> Subscription:
        """Calls ``listener(updates)`` for all that changes at the paths; those that are there."""
        nodes = [self.find(path) for path in paths]
        return self._lab.updates.subscribe(nodes, listener)

    def watch(self, names: Iterable[str], changed: Callable[[], None]) -> Callable[[], None]:
        """Calls `changed` when one of these devices comes, goes or has other members.

        Returns what ends it.
        """
        wanted = set(names)

        def told(node: DeviceNode) -> None:
            if node.name in wanted:
                changed()

        return self._lab.registry.watch(told, told)

    def lock_again(self) -> None:
        """Locks on the device reach the parts that are there now; where others were first, not."""
        locks, devices = self._lab.locks, self._lab.device_locks
        for hold in locks.info(self._node):
            node: Any = hold.node
            reached = with_parts([node])[1:]
            if reached:
                granted = locks.acquire(
                    reached,
                    hold.owner,
                    mode=hold.mode,
                    key=hold.key or None,
                    lease=hold.left(self.clock.seconds()) or 0.0,
                    note=hold.note,
                )
                session = self._lab.session_of(hold.owner)
                if devices.nodes and session is not None:
                    granted.addCallback(partial(devices.take, session), self.clock.seconds())
                granted.addErrback(self._not_locked, node)

    def _not_locked(self, failure: Failure, node: Node) -> None:
        why = failure.getErrorMessage()
        log.warn("the lock of {path} does not reach its parts: {why}", path=node.path, why=why)

    def tell(self, name: str, what: What, detail: Any = None) -> None:
        """Tells the listeners of one of the device's own parameters."""
        node = self._node.children.get(name)
        if node is not None:
            self._lab.updates.publish(node, Update(node.path, what, detail=detail))
