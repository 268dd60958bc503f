"""TSV servers as devices here: sm_bluesky's instrument servers, and labnet's own.

A labnet server describes its device (``describe``). One of sm_bluesky only names its commands: each
becomes a command here that takes and gives text, and the section says which of them are
parameters::

    parameter delay = get_delay, set_delay {value}, int, , 0..1023
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from labnet.devices.declared import Declared
from labnet.devices.remote.base import Clock, Dial, Found, RemoteDevice
from labnet.devices.remote.described import identity_from, members_from
from labnet.errors import BadArguments, DeviceFault, Holder, Locked, UnknownName
from labnet.specs import ArgumentSpec
from labnet.values import ANY, BYTES, NONE, STR, AnyKind, ArrayKind, Kind, ListKind, OptionalKind

#: Commands of every server that are something else here.
_STOCK = frozenset(("connect_hardware", "disconnect_hardware", "ping", "command_list", "shutdown"))

_PREFIX = re.compile(r"Error handling command '[^']*': ")
_LOCKED = re.compile(r"(\S+) is locked(?: at (\S+))? by (.*?) \((\S+) (\S+), for ([0-9]+) s")

SIGN_OF_LIFE = 3.0
"""Seconds that a server has for a sign of life."""


class _Word(AnyKind):
    """An argument of a command of which only the name is known: any value; text stays as it is."""

    def parse(self, text: str, what: str = "value") -> Any:
        return text


class TsvDevice(RemoteDevice):
    """A TSV server.

    Args:
        address: HOST or HOST:PORT, or a Twisted endpoint; the usual port is 7891
        hardware: connect the server's hardware with the device, and disconnect it
        silent: commands that the server does not answer
        poll: seconds between two readings of a parameter that somebody listens to; 0: none
        probe: seconds between two signs of life
    """

    wire = "tsv"

    def __init__(
        self,
        address: str,
        *,
        dial: Dial,
        clock: Clock,
        declared: Declared | None = None,
        hardware: bool = False,
        silent: tuple[str, ...] = (),
        poll: float = 1.0,
        probe: float = 5.0,
    ) -> None:
        super().__init__(dial, clock)
        self.probe_interval = probe
        self._address = address
        self._hardware = hardware
        self._silent = silent
        self._poll = poll or None
        self._declared_members = declared or Declared()
        self._name = ""
        self._tokens: dict[str, str] = {}

    async def greet(self) -> Found:
        """Asks for the commands, and a labnet server for its description."""
        self.client = client = self.new_client(self._address)
        try:
            commands = await client.command_list()
        except (DeviceFault, UnknownName):
            commands = ()  # a server of sm-bluesky before 1.1
        if self._hardware:
            await client.connect_hardware()
        described = {"describe", "lock", "with"} <= set(commands)
        self.locks_there = described
        self._tokens.clear()
        if described:
            await self._stay_connected()
            found = await self._described()
        else:
            found = self._named(commands)
        self._declared_members.add_to(found.root, self._ask, self._send, _then)
        return found

    async def _stay_connected(self) -> None:
        """labnet serves many at a time, and its locks last as long as their connection."""
        await self.client.close()
        self.client = self.new_client(self._address, persistent=True)

    async def hang_up(self, client: Any) -> None:
        """Disconnects the hardware too, if it is this lab's to do so."""
        if self._hardware and client is self.client:
            await client.disconnect_hardware()
        await client.close()

    # What a server of sm_bluesky has

    def _named(self, commands: tuple[str, ...]) -> Found:
        found = Found()
        for name in commands:
            if name not in _STOCK:
                found.command(
                    (name,), partial(self._call_by_name, name), variadic=_Word(), result=ANY,
                    stop=name == "stop", urgent=name == "stop",
                )  # fmt: skip
        return found

    def _call_by_name(self, name: str, *arguments: Any) -> Deferred[Any]:
        return self._request(name, *arguments).addCallback(_fields)

    def _ask(self, message: str) -> Deferred[bytes]:
        return self._request(*message.split()).addCallback(lambda reply: reply.data)

    def _send(self, message: str) -> Deferred[None]:
        return self._request(*message.split()).addCallback(lambda reply: None)

    def _request(self, command: str, *arguments: Any) -> Deferred[Any]:
        limit = self.seconds_left()

        def request(client: Any) -> Deferred[Any]:
            send = client.send_silent if command in self._silent else client.send
            answer: Deferred[Any] = send(command, *arguments, timeout=limit)
            return answer

        return self.ask(request).addErrback(_in_its_words)

    # What labnet has

    async def _described(self) -> Found:
        reply = await self.client.send("describe")
        try:
            data = json.loads(reply.data)
        except (ValueError, RecursionError):
            raise DeviceFault(f"{self.client.where} sent a description that is none") from None
        if not isinstance(data, Mapping):
            raise DeviceFault(f"{self.client.where} sent a description that is none")
        self.identity = identity_from(data)
        self._name = str(data.get("device", ""))
        return members_from(data, self._getter, self._setter, self._caller, self._poll)

    def _getter(self, path: str, kind: Kind) -> Callable[[], Any]:
        return lambda: self._request("get", path).addCallback(_value, kind, path)

    def _setter(self, path: str, kind: Kind) -> Callable[[Any], Any]:
        def set_value(value: Any) -> Deferred[Any]:
            texts = _texts(value, kind)
            return self._request("set", path, *texts).addCallback(_value, kind, path)

        return set_value

    def _caller(
        self, path: str, kind: Kind, arguments: tuple[ArgumentSpec, ...]
    ) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Deferred[Any]:
            values = in_order(arguments, args, kwargs)
            texts = [text for value in values for text in _texts(value, ANY)]
            return self._request(path, *texts).addCallback(_value, kind, path)

        return call

    # Locks

    async def lock_there(self, path: str, holder: str, wait: float) -> None:
        """A lock on the node, under the name of who holds it here; lasts as the connection does."""
        name = re.sub(r"\s+", " ", holder).strip() or "labnet"
        asked = self.client.lock(path or self._name, name)
        self._tokens[path] = await asked.addErrback(_in_its_words)

    async def unlock_there(self, path: str) -> None:
        """One token stands for all that the connection holds: what else is held is locked anew."""
        token = self._tokens.pop(path, "")
        if token:
            await self.client.unlock(token)
            for other, holder in self._held.items():
                await self.lock_there(other, holder, 0.0)

    def probe(self) -> Deferred[Any]:
        """The server answers."""
        if self.client is None:
            return succeed(None)
        return self.ask(lambda client: client.ping(timeout=SIGN_OF_LIFE))


def _then(answer: Deferred[bytes], convert: Callable[[bytes], Any]) -> Deferred[Any]:
    return answer.addCallback(convert)


def _in_its_words(failure: Failure) -> Failure:
    """An error of the far device without what its server puts before it."""
    error = failure.value
    if not isinstance(error, DeviceFault):
        return failure
    text = _PREFIX.sub("", str(error), count=1)
    found = _LOCKED.match(text)
    if found is None:
        return Failure(DeviceFault(text, error.kind, error.number))
    wanted, where, name, wire, peer, age = found.groups()
    return Failure(Locked(Holder(where or wanted, name, wire, peer, float(age)), wanted))


def in_order(
    arguments: tuple[ArgumentSpec, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[Any]:
    """All arguments by their places, as the wire has no names for them.

    One that is left out before one that is given stands there with its default; `BadArguments` if
    it has none, or for a name that has no place.
    """
    values, rest = list(args), dict(kwargs)
    for spec in arguments[len(args) :]:
        if not rest:
            break
        if spec.name not in rest and spec.default is None:
            given = ", ".join(rest)
            raise BadArguments(f"{spec.name} must be given too, as TSV has no name for {given}")
        values.append(rest.pop(spec.name, spec.default))
    if rest:
        raise BadArguments(f"TSV has no place for the argument {next(iter(rest))}")
    return values


def _fields(reply: Any) -> Any:
    """One text, several, or nothing."""
    fields = reply.fields
    return None if not fields else fields[0] if len(fields) == 1 else list(fields)


def _texts(value: Any, kind: Kind) -> list[Any]:
    """A value as arguments: one for each item of a list."""
    if isinstance(value, list | tuple) or hasattr(value, "tolist"):
        items = value.tolist() if hasattr(value, "tolist") else list(value)
        return items if isinstance(items, list) else [items]
    return [value if isinstance(value, bytes) else kind.format(value)]


def _value(reply: Any, kind: Kind, path: str) -> Any:
    """The value in a reply, by its kind."""
    if kind is NONE:
        return None
    if kind is BYTES:
        return reply.data
    if isinstance(kind, OptionalKind):
        return _value(reply, kind.inner, path) if reply.data else None
    if isinstance(kind, ArrayKind | ListKind):
        return [ANY.parse(field) for field in reply.fields]
    if kind is STR:
        return reply.text
    if kind is ANY and len(reply.fields) != 1:
        return [ANY.parse(field) for field in reply.fields] or None
    return ANY.parse(reply.text) if kind.name == "dict" else kind.parse(reply.text, path)
