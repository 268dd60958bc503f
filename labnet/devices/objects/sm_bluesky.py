"""sm_bluesky's instrument servers: their registered commands, without their socket.

The server's object is made and its hardware opened as it would do itself, but it never listens.
What a handler sends as its response is the result of the command, what it sends as an error fails
it; of several replies the first counts, as for sm_bluesky's own client.
"""

from __future__ import annotations

import inspect
import re
from functools import partial
from typing import Any

from labnet.devices.objects.shell import ObjectDevice, help_of
from labnet.errors import DeviceFault
from labnet.literals import plain
from labnet.specs import NAME, ArgumentSpec, CommandSpec, first_paragraph
from labnet.values import BOOL, FLOAT, INT, RAW_TEXT, Kind, StrKind

#: What labnet does itself.
_OWN = {b"connect_hardware", b"disconnect_hardware", b"ping", b"command_list", b"shutdown"}


class TextKind(StrKind):
    """Text; of anything else what its client would send."""

    def check(self, value: Any, what: str = "value") -> str:
        return value if isinstance(value, str) else str(plain(value))


TEXT = TextKind()
_KINDS: dict[Any, Kind] = {
    float: FLOAT, int: INT, bool: BOOL, "float": FLOAT, "int": INT, "bool": BOOL,
}  # fmt: skip


class Replies:
    """Stands for the connection of a client: keeps what is sent."""

    def __init__(self) -> None:
        self.sent = bytearray()

    def sendall(self, data: bytes) -> None:
        """Takes bytes of a reply."""
        self.sent += data

    def close(self) -> None:
        """There is nothing to close."""

    def result(self) -> str | None:
        """The data of the first reply, None without one; raises `DeviceFault` for an error."""
        if not self.sent:
            return None
        status, _, data = bytes(self.sent).removesuffix(b"\n").partition(b"\t")
        if status != b"1":
            raise DeviceFault(_text(data.partition(b"\n")[0]))
        return _text(re.split(rb"\n[01]\t", data, maxsplit=1)[0])


class SmBlueskyDevice(ObjectDevice):
    """Stands for an instrument server."""

    #: It never listens, so it needs no address.
    defaults = {"host": "127.0.0.1", "port": 0}

    def describe_object(self, item: Any) -> None:
        for name, handler in item._command_registry.items():
            if name not in _OWN:
                spec = _spec(name, handler)
                if spec is not None and spec.name not in self.members:
                    self.add_command(spec.name, partial(self._command, name), spec=spec)

    def open(self, item: Any) -> None:
        item._hardware_connected = self._asked(item, item.connect_hardware)
        if item._hardware_connected is False:
            raise DeviceFault("its hardware cannot be connected")

    def close(self, item: Any) -> None:
        if getattr(item, "_hardware_connected", True):
            self._asked(item, item.disconnect_hardware)
            item._hardware_connected = False

    def _asked(self, item: Any, function: Any) -> Any:
        """Calls what may answer a client; an error that it sends is raised."""
        item._conn = replies = Replies()
        try:
            done = function()
        finally:
            item._conn = None
        replies.result()
        return done

    def _command(self, name: bytes, *args: Any, **kwargs: Any) -> str | None:
        item = self.item
        item._conn = replies = Replies()
        usual = item._timeout_seconds
        try:
            with item._timeout_context(seconds=min(usual, self.deadline.left())):
                named = {key: _argument(value) for key, value in kwargs.items()}
                item._command_registry[name](*map(_argument, args), **named)
        finally:
            item._conn = None
            item._timeout_seconds = usual  # its own context would keep the last caller's
        return replies.result()


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _argument(value: Any) -> bytes:
    """An argument as its client would write it."""
    return str(value).encode()


def _spec(name: bytes, handler: Any) -> CommandSpec | None:
    text = _text(name)
    shown = text if NAME.match(text) else re.sub(r"\W+", "_", text)
    if not NAME.match(shown):
        return None
    arguments, variadic = _arguments(handler)
    return CommandSpec(
        name=shown,
        arguments=arguments,
        variadic=variadic,
        result=RAW_TEXT,
        help=first_paragraph(help_of(handler)),
        stop=shown == "stop",
        urgent=shown == "stop",
        aliases=() if shown == text else (text,),
    )


def _arguments(handler: Any) -> tuple[tuple[ArgumentSpec, ...], Kind | None]:
    """The arguments of a handler, which gets bytes whatever its annotations say."""
    found, variadic = [], None
    for item in inspect.signature(handler).parameters.values():
        kind = _KINDS.get(item.annotation, TEXT)
        if item.kind is item.VAR_POSITIONAL:
            variadic = kind
        elif item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD):
            required = item.default is item.empty
            default = None if required else item.default
            found.append(
                ArgumentSpec(name=item.name, kind=kind, required=required, default=default)
            )
    return tuple(found), variadic
