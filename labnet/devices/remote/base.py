"""What all servers have in common that are a device here.

A new wire plugs in with a class of its own::

    class RogueDevice(RemoteDevice):
        wire = "rogue"                              # its row in labnet/wires/table.py
        locks_there = True                          # it has locks of its own

        def __init__(self, address: str, *, dial: Dial, clock: Clock) -> None:
            '''A Rogue tree.

            Args:
                address: host and port of the tree
            '''
            super().__init__(dial, clock)
            self._address = address

        async def greet(self) -> Found:             # connected, and what the server has
            self.client = self.new_client(self._address, timeout=5.0)
            found = Found()
            for node in await self.client.tree():
                found.parameter(
                    node.path,                      # dotted, or a tuple of foreign names
                    node.kind,
                    getter=lambda: self.ask(lambda client: client.get(node.path)),
                    setter=lambda value: self.ask(lambda client: client.set(node.path, value)),
                    unit=node.unit,
                )
            return found

        async def lock_there(self, path: str, holder: str, wait: float) -> None: ...
        async def unlock_there(self, path: str) -> None: ...
        async def hang_up(self, client) -> None: ...    # if ``client.close()`` is not all
        async def drop(self, client) -> None: ...       # the same when the server is gone

        def probe(self) -> Deferred[object]: ...    # a sign of life, every `probe_interval` s

and a row in ``labnet/devices/table.py``. The keyword arguments of the constructor are keys of the
section (`labnet.options`); `dial` and `clock` come from the service. An update that the server
sends goes on by ``self.update(path, value)``.

The lab calls `connect` when the device comes in and after each loss: `greet` is asked again with a
new client, its members take the places of the old ones, and locks of the lab's clients are taken
again at the server. `ask` reports a loss by itself, and a client with ``on_lost`` does too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from labnet.device import CommandState, Device, ParameterState
from labnet.devices.remote.names import lab_name, unused
from labnet.errors import LabError, NotConnected, TimedOut, TooLarge, UnknownName, shorten
from labnet.specs import CommandSpec, make_spec

T = TypeVar("T")

CLOSING = 2.0
"""Seconds that a client has for its goodbye."""

MAX_DEPTH = 32
"""The most parts of the path of a member."""


class Clock(Protocol):
    """The lab's clock."""

    def callLater(self, delay: float, function: Callable[..., Any], *args: Any) -> Any: ...
    def seconds(self) -> float: ...


class Dial(Protocol):
    """Makes a client of a wire, on the lab's reactor: ``dial("tsv", "host:7891", timeout=5.0)``."""

    def __call__(self, wire: str, *args: Any, **options: Any) -> Any: ...


class Part(Device):
    """A part of a server's tree."""

    polls_unheard = False


class Found:
    """The members that a server has, as they are found one after the other.

    A path is dotted, or a tuple of the server's own names, which become names of the lab; the
    server's name is then an alias. Parts on the way are made. Raises `TooLarge` for a path of more
    than `MAX_DEPTH` parts.
    """

    def __init__(self) -> None:
        self.root = Part()
        self._tried: dict[Device, dict[str, int]] = {}

    @property
    def members(self) -> dict[str, Any]:
        """What `labnet.device.Device.replace_members` takes."""
        return self.root.members

    def parameter(
        self,
        path: str | Sequence[str],
        kind: Any,
        *,
        getter: Callable[[], Any] | None = None,
        setter: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> ParameterState:
        """One parameter; `options` are those of `labnet.device.parameter`."""
        part, name, alias = self._place(path)
        if alias:
            options["aliases"] = (*options.get("aliases", ()), alias)
        readable, writable = getter is not None, setter is not None
        options.setdefault("access", f"{'r' * readable}{'w' * writable}" or "rw")
        state = ParameterState(part, make_spec(name, kind, **options), getter, setter)
        part.members[name] = state
        return state

    def command(
        self, path: str | Sequence[str], function: Callable[..., Any], **fields: Any
    ) -> CommandState:
        """One command; `fields` are those of `labnet.specs.CommandSpec` but its name."""
        part, name, alias = self._place(path)
        if alias:
            fields["aliases"] = (*fields.get("aliases", ()), alias)
        state = CommandState(part, CommandSpec(name=name, **fields), function)
        part.members[name] = state
        return state

    def _place(self, path: str | Sequence[str]) -> tuple[Device, str, str]:
        """The part for a new member, its name, and its alias if that is another."""
        foreign = path.split(".") if isinstance(path, str) else list(path)
        if len(foreign) > MAX_DEPTH:
            raise TooLarge(f"{shorten('.'.join(foreign))!r} has more than {MAX_DEPTH} parts")
        part: Device = self.root
        for name in foreign[:-1]:
            part = self._part(part, name)
        wanted = lab_name(foreign[-1])
        name = self._unused(wanted, part)
        return part, name, foreign[-1] if name != foreign[-1] else ""

    def _part(self, above: Device, foreign: str) -> Device:
        wanted = lab_name(foreign)
        if wanted in above.members:
            for name, member in above.members.items():
                if isinstance(member, Device) and foreign in (name, *member.aliases):
                    return member
        part = Part()
        name = self._unused(wanted, above)
        if name != foreign:
            part.aliases = (foreign,)
        above.members[name] = part
        return part

    def _unused(self, name: str, part: Device) -> str:
        return unused(name, part.members, self._tried.setdefault(part, {}))


class RemoteDevice(Device):
    """A server somewhere else."""

    #: The wire that it speaks.
    wire: str = ""
    #: Whether it has locks of its own, which are taken for the lab's clients.
    locks_there: bool = False
    described_late = True
    polls_unheard = False

    def __init__(self, dial: Dial, clock: Clock) -> None:
        self.client: Any = None
        self._dial = dial
        self._clock = clock
        self._held: dict[str, str] = {}  # what is locked, and for whom

    # For subclasses

    async def greet(self) -> Found:
        """Makes `client`, connects it, and asks what the server has."""
        raise NotImplementedError

    async def lock_there(self, path: str, holder: str, wait: float) -> None:
        """Takes the server's own lock; raises what it says. The whole device for an empty path."""

    async def unlock_there(self, path: str) -> None:
        """Gives it back."""

    async def hang_up(self, client: Any) -> None:
        """Says goodbye, and closes the client."""
        await maybeDeferred(client.close)

    async def drop(self, client: Any) -> None:
        """Closes a client whose server is gone."""
        await maybeDeferred(client.close)

    def new_client(self, *args: Any, **options: Any) -> Any:
        """A client of the wire on the lab's reactor."""
        return self._dial(self.wire, *args, **options)

    def ask(self, request: Callable[[Any], Deferred[T]]) -> Deferred[T]:
        """One request to the server, made by ``request(client)``.

        When the server turns out to be gone, the device is lost.
        """
        client = self.client
        if client is None:
            raise NotConnected("there is no connection to the server")
        asked = request(client)
        return asked.addErrback(self._not_answered, client)

    def seconds_left(self) -> float | None:
        """What is left of the time of the call in progress; None for no limit."""
        left = self.deadline.left()
        return None if left == float("inf") else max(left, 0.001)

    def update(self, path: str, value: Any) -> None:
        """The server has reported a new value of the parameter at a dotted path."""
        *parts, name = path.split(".")
        device: Any = self
        for part in parts:
            device = device.members.get(part)
            if not isinstance(device, Device):
                raise UnknownName(path)
        device.store(name, value)

    # Losses

    def _not_answered(self, failure: Failure, client: Any) -> Failure:
        if failure.check(NotConnected):
            self._cut(client, str(failure.value))
        elif failure.check(TimedOut):
            self._clock.callLater(0, self._suspect, client)
        return failure

    def _cut(self, client: Any, reason: str) -> None:
        # In the next turn: the request in progress fails in its own words.
        self._clock.callLater(0, self._lost, client, reason)

    def _lost(self, client: Any, reason: str) -> None:
        if client is self.client:
            self.client = None
            self._put_away(client)
            self.lost(reason)

    def _suspect(self, client: Any) -> None:
        """A request was not answered in time: is the server still there?"""
        if client is not self.client or type(self).probe is Device.probe:
            return
        alive: Deferred[Any] = maybeDeferred(self.probe)
        alive.addErrback(lambda failure: self._lost(client, failure.getErrorMessage()))

    def _put_away(self, client: Any) -> None:
        gone = Deferred.fromCoroutine(self._close(client, self.drop))
        gone.addErrback(lambda _: None)

    async def _close(
        self, client: Any, how: Callable[[Any], Coroutine[Deferred[Any], Any, None]]
    ) -> None:
        if hasattr(client, "on_lost"):
            client.on_lost(None)
        done: Deferred[None] = Deferred.fromCoroutine(how(client))
        done.addTimeout(CLOSING, self._clock)  # type: ignore[arg-type]
        try:
            await done
        except Exception:  # one that cannot say goodbye is gone all the same
            if how != self.drop:
                await self._close(client, self.drop)

    # What the lab asks for

    async def connect(self) -> None:
        """Connects to the server and takes over what it has."""
        before, self.client = self.client, None
        if before is not None:
            await self._close(before, self.hang_up)
        try:
            found = await self.greet()
            client = self.client
            if hasattr(client, "on_lost"):
                where = getattr(client, "where", "the server")
                client.on_lost(lambda: self._cut(client, f"{where} closed the connection"))
            await self._lock_again()
        except BaseException:
            client, self.client = self.client, None
            if client is not None:
                self._put_away(client)
            raise
        self.replace_members(self._own() | found.members)

    async def _lock_again(self) -> None:
        """What the lab's clients hold is locked at the server; else the device is not connected."""
        held, self._held = self._held, {}
        try:
            for path, holder in held.items():
                await self.lock_there(path, holder, 0.0)
                self._held[path] = holder
        except BaseException:
            self._held = held | self._held
            raise

    def _own(self) -> dict[str, Any]:
        """The members that the class itself declares."""
        return {name: self.members[name] for name in self._declared() if name in self.members}

    async def disconnect(self) -> None:
        """Ends the connection."""
        client, self.client = self.client, None
        if client is not None:
            await self._close(client, self.hang_up)

    async def locked(self, path: str, holder: str, wait: float) -> None:
        """Takes the server's own lock where it has one."""
        if self.locks_there:
            await self.lock_there(path, holder, wait)
            self._held[path] = holder

    async def unlocked(self, path: str) -> None:
        """Gives the server's own lock back."""
        if self._held.pop(path, None) is not None and self.client is not None:
            await self.unlock_there(path)


async def or_nothing(asked: Awaitable[T]) -> T | None:
    """A result, or None where the server refuses to give it; a loss is a loss."""
    try:
        return await asked
    except (NotConnected, TimedOut):
        raise
    except LabError:
        return None


def named(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Those of `values` under `keys` that say something."""
    return {key: values[key] for key in keys if values.get(key) not in (None, "")}
