"""PyRogue servers, and labnet's own, as devices here: the whole tree, with its updates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
from twisted.internet.defer import Deferred, succeed

from labnet.devices.remote.base import Clock, Dial, Found, RemoteDevice
from labnet.errors import DeviceFault, LabError
from labnet.logs import Logger
from labnet.specs import ArgumentSpec
from labnet.values import (
    ANY,
    BOOL,
    BYTES,
    COMPLEX,
    FLOAT,
    INT,
    STR,
    ArrayKind,
    EnumKind,
    Kind,
    Limits,
    kind_of,
)

MAX_MEMBERS: Final = 20_000
SIGN_OF_LIFE: Final = 3.0
"""Seconds that a server has for a sign of life."""

LOCKS: Final = "Locks"
"""The child of a labnet's root with the commands for its locks."""

_ACCESS: Final[Mapping[str, str]] = {"RW": "rw", "RO": "r", "WO": "w"}
_KINDS: Final[tuple[tuple[re.Pattern[str], Kind], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"bool\Z", BOOL), (r"u?int\d*(be|le)?\Z", INT), (r"(float|double|u?fixed)", FLOAT),
        (r"str(ing)?\Z", STR), (r"bytes\Z", BYTES), (r"complex", COMPLEX),
        (r"list\Z", kind_of(list)), (r"dict\Z", kind_of(dict)),
    )
)  # fmt: skip
_ARRAY: Final = re.compile(r"\w+[\[(].*[\])]\Z")


class RogueDevice(RemoteDevice):
    """A PyRogue server.

    Args:
        address: HOST or HOST:PORT with the server's base port, which usually is 9099
        node: the part of the tree that comes here, such as Psu; empty: all
        include: groups whose variables and commands come here; empty: all
        exclude: groups whose variables and commands do not come here
        answer: seconds that the server has for an answer
        poll: seconds between two readings of a parameter that somebody listens to, for servers that
            do not poll their hardware; 0: none
        silence: seconds without an update or answer after which the server is taken for lost
        probe: seconds between two signs of life besides; 0: none
    """

    wire = "rogue"
    _log = Logger()

    def __init__(
        self,
        address: str,
        *,
        dial: Dial,
        clock: Clock,
        node: str = "",
        include: tuple[str, ...] = (),
        exclude: tuple[str, ...] = ("Hidden",),
        answer: float = 5.0,
        poll: float = 0.0,
        silence: float = 10.0,
        probe: float = 0.0,
    ) -> None:
        super().__init__(dial, clock)
        self.probe_interval = probe
        self._address = address
        self._part = node
        self._base = ""
        self._include = frozenset(include)
        self._exclude = frozenset(exclude)
        self._answer = answer
        self._poll = poll or None
        self._silence = silence

    async def greet(self) -> Found:
        """Loads the tree and asks what is known of each variable and command."""
        client = self.new_client(self._address, timeout=self._answer)
        self.client = mirror = client.mirror(link_timeout=self._silence)
        await client.close()
        await mirror.connect()
        self.locks_there = _has_locks(mirror)
        top = self._top(mirror)
        self._base = top.path
        wanted = [node for node in top.walk() if self._wanted(node)]
        if len(wanted) > MAX_MEMBERS:
            raise DeviceFault(
                f"{self._address} has more than {MAX_MEMBERS} variables and commands; choose groups"
                " of them by include or exclude"
            )
        found = Found()
        for node, info in zip(wanted, await mirror.describe(wanted), strict=True):
            try:
                (self._command if node.is_command else self._parameter)(found, node, info)
            except (ValueError, TypeError, LabError) as error:
                self._log.warn("{path} is left out: {error}", path=node.path, error=error)
        return found

    def _top(self, mirror: Any) -> Any:
        """The node that is the device here; its path may begin with the root's name or not."""
        first = self._part.partition(".")[0]
        if not self._part or first in (mirror.top.name, "root"):
            return mirror.node(self._part or "root")
        return mirror.node(f"root.{self._part}")

    def _below(self, path: str) -> tuple[str, ...]:
        return tuple(path[len(self._base) + 1 :].split("."))

    def _wanted(self, node: Any) -> bool:
        if not (node.is_variable or node.is_command):
            return False
        groups = frozenset(node.info.groups)
        return not groups & self._exclude and (not self._include or bool(groups & self._include))

    def _parameter(self, found: Found, node: Any, info: Any) -> None:
        kind = kind_from(info) if node.info.class_name != "EnableVariable" else _enable(info)
        access = _ACCESS[info.mode]
        state = found.parameter(
            self._below(node.path),
            kind,
            getter=partial(self._get, node.path) if "r" in access else None,
            setter=partial(self._set, node.path) if "w" in access else None,
            unit=info.units,
            limits=_limits(kind, info.minimum, info.maximum),
            alarms=_limits(kind, info.low_alarm, info.high_alarm),
            warnings=_limits(kind, info.low_warning, info.high_warning),
            display=info.disp if "{" in info.disp and not isinstance(kind, EnumKind) else "",
            groups=tuple(node.info.groups),
            help=node.info.description,
            poll=self._poll if "r" in access else None,
            initial=_first(kind, info),
        )
        node.listen(partial(self._heard, state))

    def _command(self, found: Found, node: Any, info: Any) -> None:
        stop = node.name.lower() == "stop"
        argument = ArgumentSpec(name="arg", kind=kind_from(info), required=False)
        found.command(
            self._below(node.path),
            partial(self._call, node.path),
            arguments=(argument,) if info.takes else (),
            result=ANY,
            help=node.info.description,
            groups=tuple(node.info.groups),
            stop=stop,
            urgent=stop,
        )

    # Locks: PyRogue has none, another labnet has

    async def lock_there(self, path: str, holder: str, wait: float) -> None:
        """Takes the locks of a labnet for what is at `path`, or for all its devices; all or none.

        They belong to this connection, and `holder` is their note.
        """
        taken: list[str] = []
        try:
            for name in self._lockable(path):
                await self._locks("Lock", name, 0.0, holder)
                taken.append(name)
        except LabError:
            for name in taken:
                await self._locks("Unlock", name)
            raise

    async def unlock_there(self, path: str) -> None:
        """Gives them back."""
        for name in self._lockable(path):
            await self._locks("Unlock", name)

    def _lockable(self, path: str) -> list[str]:
        """The devices of the lab there, or `path` if it lies in one: the rest is the server's."""
        top = self.client.top
        devices = [
            name for name, node in top.children.items() if node.is_device and name != LOCKS
        ]
        parts = [*self._base.split(".")[1:], *([path] if path else [])]
        far = ".".join(parts)
        return devices if not far else [far] if far.partition(".")[0] in devices else []

    def _locks(self, command: str, *args: Any) -> Deferred[Any]:
        return self.ask(lambda client: client.exec(f"{client.top.path}.{LOCKS}.{command}", *args))

    # Requests and updates

    def _get(self, path: str) -> Deferred[Any]:
        left = self.seconds_left()
        return self.ask(lambda client: client.get(path, timeout=left))

    def _set(self, path: str, value: Any) -> Deferred[Any]:
        left = self.seconds_left()
        return self.ask(lambda client: client.set(path, value, timeout=left))

    def _call(self, path: str, *args: Any, arg: Any = None) -> Deferred[Any]:
        left = self.seconds_left()
        given = args or (() if arg is None else (arg,))
        return self.ask(lambda client: client.exec(path, *given, timeout=left))

    def _heard(self, state: Any, node: Any, value: Any) -> None:
        """An update: it is passed on if it is news, as servers publish every reading too."""
        try:
            new = state.result(node.value)
        except LabError:
            return  # of a class or a kind that is not known; who reads it is told
        if not _same(new, state.reading.value):
            state.store(new)

    def probe(self) -> Deferred[Any]:
        """Something is heard of the server; a long command of anybody may hold its answers up."""
        if self.client is None:
            return succeed(None)
        return self.ask(lambda client: client.alive(SIGN_OF_LIFE))


def _has_locks(mirror: Any) -> bool:
    locks = mirror.top.children.get(LOCKS)
    return locks is not None and {"Lock", "Unlock", "Use"} <= locks.children.keys()


def kind_from(info: Any) -> Kind:
    """The kind of a variable, or of a command's argument, by its enum, type and value."""
    if info.enum:
        keys = list(info.enum)
        return BOOL if all(isinstance(key, bool) for key in keys) else EnumKind(info.enum)
    value = None if info.value is None else info.value.value
    if isinstance(value, np.ndarray):
        return ArrayKind(value.dtype)
    if _ARRAY.match(info.type):
        return ArrayKind()
    for pattern, kind in _KINDS:
        if pattern.match(info.type):
            return kind
    return ANY


def _enable(info: Any) -> Kind:
    """The kind of a device's ``enable``: another device may have switched it off, too."""
    return EnumKind({False: "False", True: "True", "parent": "parent", "deps": "deps",
                     **(info.enum or {})})  # fmt: skip


def _limits(kind: Kind, low: float | None, high: float | None) -> Limits | None:
    numbers = kind in (INT, FLOAT) or isinstance(kind, ArrayKind)
    return Limits(low, high) if numbers and (low is not None or high is not None) else None


def _first(kind: Kind, info: Any) -> Any:
    try:
        return None if info.value is None else kind.check(info.value.value)
    except LabError:
        return None


def _same(new: Any, old: Any) -> bool:
    """Whether a value is no news; arrays always are, as comparing them takes as long."""
    if isinstance(new, np.ndarray) or type(new) is not type(old):
        return False
    return bool(new == old)


