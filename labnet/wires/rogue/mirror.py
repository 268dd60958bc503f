"""A client that follows a PyRogue server: its tree, the values that it publishes, its link.

    mirror = await RogueMirror("127.0.0.1:9099").connect()
    volts = mirror.node("Toy.Psu.Volts")
    stop = volts.listen(lambda node, value: print(node.path, value.value_disp))
    await volts.set(2.5)
    await mirror.close()

It differs from PyRogue's VirtualClient in that it waits for nothing for ever, loads the whole tree
at once, survives updates that it cannot read, and looks at the tree again when a lost server is
back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from twisted.internet.defer import Deferred, FirstError, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from labnet.errors import LabError, NotConnected, TooLarge, UnknownName
from labnet.logs import Logger
from labnet.wires.rogue.client import RogueClient, addresses
from labnet.wires.rogue.conversation import Link
from labnet.wires.rogue.mirrored import Node
from labnet.wires.rogue.model import NodeInfo, VariableValue
from labnet.wires.rogue.pickles.bounds import REPLY, BadPickle
from labnet.wires.rogue.pickles.reader import read_reply

if TYPE_CHECKING:
    from labnet.wires.rogue.described import VariableInfo

MAX_NODES: Final = 200_000
MAX_DEPTH: Final = 32
AT_ONCE: Final = 32
"""Requests for parts of the tree, or for values, on their way at a time."""
TICK: Final = 1.0
"""Seconds between two looks at the link."""
_NULL: Final = b"null\n"
"""What servers publish when they start; nobody should hear it."""


class RogueMirror(RogueClient):
    """All of one server's tree, with the values that it publishes.

    `linked` says whether the connections stand and the server has been heard within `link_timeout`
    seconds: a silent one is asked for a sign of life before it is given up. `updating` says whether
    updates come; they are subscribed to anew when none has come for that time. When a server is
    back, its tree is loaded again, and values known before are asked for. `counts` are updates that
    were ``heard``, ``unreadable``, and ``unknown`` (of a variable that is not in the tree).

    Raises what `RogueClient` raises; every listener's error is logged and stops nothing else.
    """

    _log = Logger()

    def __init__(
        self,
        address: str = "127.0.0.1",
        *,
        timeout: float = 5.0,
        link_timeout: float = 10.0,
        reactor: Any = None,
    ) -> None:
        super().__init__(address, timeout=timeout, reactor=reactor)
        self.link_timeout = link_timeout
        self.linked = False
        self.updating = False
        self.counts = {"heard": 0, "unreadable": 0, "unknown": 0}
        self._updates = addresses(address)[0]
        self._top: Node | None = None
        self._by_path: dict[str, Node] = {}
        self._on_link: tuple[Callable[[bool], object], ...] = ()
        self._on_tree: tuple[Callable[[], object], ...] = ()
        self._lost: Callable[[], object] | None = None
        self._sub: Link | None = None
        self._timer: IDelayedCall | None = None
        self._last = self._last_update = 0.0
        self._probing = self._stale = self._loading = False
        self._state = "new"
        self._told = ""

    # -- life ----------------------------------------------------------------------------------

    async def connect(self) -> Self:
        """Subscribes to the updates and loads the tree; closed again if that fails."""
        if self._state != "new":
            raise NotConnected(f"this client of {self.address} was connected already")
        self._state = "open"
        try:
            self._subscribe()
            await self.load()
        except BaseException:
            await self.close()
            raise
        self.linked = self.updating = True
        self._last = self._last_update = self._reactor.seconds()
        self._timer = self._reactor.callLater(TICK, self._tick)
        return self

    def close(self) -> Deferred[None]:
        """Closes all connections; every request that waits fails."""
        self._state = "closed"
        self.linked = self.updating = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._unsubscribe()
        return super().close()

    # -- the tree ------------------------------------------------------------------------------

    @property
    def top(self) -> Node:
        """The root."""
        if self._top is None:
            raise self._not_connected()
        return self._top

    def node(self, path: str) -> Node:
        """The node at a path, which may begin with ``root``; raises `UnknownName`."""
        first, dot, rest = path.partition(".")
        if first == "root" and path not in self._by_path:
            path = f"{self.top.path}{dot}{rest}"
        try:
            return self._by_path[path]
        except KeyError:
            raise UnknownName(path, self._by_path, "node") from None

    def __iter__(self) -> Iterator[Node]:
        """All nodes, the root first."""
        return iter(list(self._by_path.values()))

    async def load(self) -> None:
        """Asks for the whole tree; nodes that stay are the same, with values and listeners.

        Raises `TooLarge` for more than `MAX_NODES` nodes or `MAX_DEPTH` levels.
        """
        info = await self.root()
        top = Node(self, info.name, info)
        found = {top.path: top}
        level = [top]
        for _ in range(MAX_DEPTH):
            level = [node for node in level if node.info.nodes]
            if not level:
                break
            level = await self._load_level(level, found)
        else:
            raise TooLarge(f"the tree of {self.address} has more than {MAX_DEPTH} levels")
        self._take(top, found)

    async def _load_level(self, parents: Sequence[Node], found: dict[str, Node]) -> list[Node]:
        below: list[Node] = []
        for start in range(0, len(parents), AT_ONCE):
            some = parents[start : start + AT_ONCE]
            asked = [self.request(parent.path, "nodes") for parent in some]
            for parent, nodes in zip(some, await _all(asked), strict=True):
                below += self._add_children(parent, self._children(nodes), found)
        return below

    def _add_children(
        self, parent: Node, nodes: Mapping[str, NodeInfo], found: dict[str, Node]
    ) -> list[Node]:
        """The children that the parent has announced: the others are not meant for clients."""
        for name in parent.info.nodes:
            info = nodes.get(name)
            if info is not None:
                child = Node(self, f"{parent.path}.{name}", info)
                parent.children[name] = found[child.path] = child
        if len(found) > MAX_NODES:
            raise TooLarge(f"the tree of {self.address} has more than {MAX_NODES} nodes")
        return list(parent.children.values())

    def _take(self, top: Node, found: dict[str, Node]) -> None:
        before = self._by_path
        same = before.keys() == found.keys() and all(
            before[path].info == node.info for path, node in found.items()
        )
        kept = {path: before.get(path, node) for path, node in found.items()}
        for path, new in found.items():
            node = kept[path]
            node.info = new.info
            node.children = {name: kept[child.path] for name, child in new.children.items()}
        self._by_path, self._top, self._known = kept, kept[top.path], set(kept)
        if before and not same:
            for function in self._on_tree:
                self.tell(function)

    def describe(self, nodes: Sequence[Node]) -> Deferred[list[VariableInfo]]:
        """What is known of variables and commands besides their places: units, limits, types..."""
        from labnet.wires.rogue.described import describe_all

        return Deferred.fromCoroutine(describe_all(nodes))

    def alive(self, timeout: float) -> Deferred[Any]:
        """Fires at once if updates come, else when the server answers; a long command of anybody
        holds up all answers of a real server."""
        if self.updating and self._reactor.seconds() - self._last_update < timeout:
            return succeed(None)
        return self.request(self.top.path, "name", timeout=timeout)

    # -- what is told --------------------------------------------------------------------------

    def on_link(self, function: Callable[[bool], object]) -> None:
        """Calls ``function(linked)`` when the server is lost and when it is back."""
        self._on_link = (*self._on_link, function)

    def on_tree(self, function: Callable[[], object]) -> None:
        """Calls ``function()`` when a server that is back has another tree."""
        self._on_tree = (*self._on_tree, function)

    def on_lost(self, function: Callable[[], object] | None) -> None:
        """Calls ``function()`` once the server is lost; None: no longer."""
        self._lost = function

    @property
    def where(self) -> str:
        """The server, for messages."""
        return self.address

    def tell(self, function: Callable[..., object], *args: Any) -> None:
        """Calls a listener; what it raises is logged."""
        try:
            function(*args)
        except Exception:
            self._log.failure("a listener to {address} failed", address=self.address)

    # -- updates -------------------------------------------------------------------------------

    def _subscribe(self) -> None:
        sub: Link | None = None

        def received(parts: Sequence[bytes]) -> None:
            if sub is self._sub and sub is not None:
                self._update(parts)

        sub = self._dial_updates(received)
        self._sub = sub
        sub.watch(self._ended)

    def _dial_updates(self, received: Callable[[Sequence[bytes]], None]) -> Link:
        from labnet.transports.zmq import SubConnection

        link: Link = SubConnection(
            self._updates, received, reactor=self._reactor, max_message=REPLY.size
        )
        return link

    def _unsubscribe(self) -> None:
        sub, self._sub = self._sub, None
        if sub is not None:
            sub.close()

    def _update(self, parts: Sequence[bytes]) -> None:
        body = parts[-1]
        if body != _NULL:
            self._published(body)
        self._last_update = self._reactor.seconds()
        self.updating = True
        self._heard()

    def _published(self, body: bytes) -> None:
        try:
            values = read_reply(body)
        except BadPickle as error:
            self._unreadable(str(error))
            return
        if not isinstance(values, dict):
            self._unreadable("it is no mapping from paths to values")
            return
        for path, value in values.items():
            node = self._by_path.get(path)
            if node is None or not isinstance(value, VariableValue):
                self.counts["unknown"] += 1
            else:
                self.counts["heard"] += 1
                node.heard(value)

    def _unreadable(self, reason: str) -> None:
        self.counts["unreadable"] += 1
        if self.counts["unreadable"] == 1:
            self._log.warn(
                "an update of {address} cannot be read: {reason}; no more such ones are told",
                address=self.address,
                reason=reason,
            )

    # -- the link ------------------------------------------------------------------------------

    def _heard(self) -> None:
        self._last = self._reactor.seconds()
        if not self.linked and self._timer is not None:
            self._set_link(True)

    def _ended(self) -> None:
        """A connection has ended: the server has gone, if only to come back at once."""
        if self._timer is None:
            return
        self.updating = False
        if self.linked:
            self._set_link(False)
        if self._timer is not None and not self._probing:  # no listener has closed it
            self._probe()

    def _tick(self) -> None:
        self._timer = self._reactor.callLater(TICK, self._tick)
        now = self._reactor.seconds()
        silent = now - self._last
        if self.linked and silent >= self.link_timeout:
            self._set_link(False)
        doubtful = silent >= self.link_timeout / 2 or not self.linked
        if doubtful and not self._probing and self._state == "open":
            self._probe()
        if self.linked and self._stale:
            self._load_again()
        if now - self._last_update >= self.link_timeout and self._state == "open":
            self.updating = False
            self._last_update = now
            self._unsubscribe()
            self._subscribe()

    def _probe(self) -> None:
        """Asks for a sign of life; the answer is heard as any other."""
        self._probing = True
        limit = max(self.link_timeout / 2, TICK)
        asked = self.request(self.top.path, "name", timeout=limit)

        def done(_: object) -> None:
            self._probing = False

        asked.addBoth(done)

    def _set_link(self, up: bool) -> None:
        self.linked = up
        for function in self._on_link:
            self.tell(function, up)
        if not up:
            lost, self._lost = self._lost, None
            if lost is not None:
                self.tell(lost)
        elif self._state == "open":
            self._stale = True
            self._load_again()

    def _load_again(self) -> None:
        if not self._loading:
            self._loading = True
            self._stale = False
            Deferred.fromCoroutine(self._again()).addErrback(self._not_again).addBoth(self._loaded)

    def _loaded(self, _: object) -> None:
        self._loading = False

    async def _again(self) -> None:
        """A server is back: its tree may be another, and values have changed unheard."""
        await self.load()
        self._told = ""
        known = [node for node in self if node.last is not None]
        for start in range(0, len(known), AT_ONCE):
            asked = [node.fetch() for node in known[start : start + AT_ONCE]]
            for deferred in asked:
                deferred.addErrback(_refusal)
            await _all(asked)

    def _not_again(self, failure: Failure) -> None:
        self._stale = True
        reason = failure.getErrorMessage()
        if self._state == "open" and reason != self._told:
            self._told = reason
            self._log.warn(
                "{address} is back, but its tree is not known: {reason}",
                address=self.address,
                reason=reason,
            )


def _refusal(failure: Failure) -> None:
    """One variable that does not answer: the others do."""
    failure.trap(LabError)
    if failure.check(NotConnected):
        failure.raiseException()


def _all(asked: Sequence[Deferred[Any]]) -> Deferred[list[Any]]:
    """All results; the first error ends the others' wait and is raised itself."""
    if not asked:
        return succeed([])
    return gatherResults(asked, consumeErrors=True).addErrback(first_error)


def first_error(failure: Failure) -> Any:
    """An errback: the error of the request that failed first, in its own words."""
    error = failure.value
    return error.subFailure if isinstance(error, FirstError) else failure
