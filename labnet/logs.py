"""Who says what in the log, and from which level on.

Each part of labnet logs under a dotted name: ``labnet.wires.plesty``, ``labnet.devices.stage``. The
``[log]`` section sets a level for all and for single wires and devices. `Logger` is Twisted's own,
but asks for the level first, so that a silenced message costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

import twisted.logger
from constantly import NamedConstant
from twisted.logger import LogLevel

from labnet.errors import shorten

LEVELS: Mapping[str, NamedConstant] = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}
SHOWN = 200  # characters of a message that a debug line shows
REMEMBERED = 1000  # peers and reasons kept to say a thing only once

_default: NamedConstant = LogLevel.info
_by_name: dict[str, NamedConstant] = {}
_wire_logs: WeakSet[WireLog] = WeakSet()


def set_levels(default: str = "info", by_name: Mapping[str, str] | None = None) -> None:
    """Show messages from `default` on, and those of a wire or device from its own level on.

    Levels are ``debug``, ``info``, ``warn`` and ``error``; KeyError for any other word.
    """
    global _default
    levels = {name: LEVELS[level] for name, level in (by_name or {}).items()}
    _default = LEVELS[default]
    _by_name.clear()
    _by_name.update(levels)
    for log in _wire_logs:
        log.debug_on = shows(log.logger.namespace, LogLevel.debug)


def threshold(namespace: str) -> NamedConstant:
    """The level from which on messages under `namespace` are shown."""
    part, _, rest = namespace.removeprefix("labnet.").partition(".")
    if part in ("wires", "devices") and _by_name:
        return _by_name.get(rest.partition(".")[0], _default)
    return _default


def shows(namespace: str, level: NamedConstant) -> bool:
    """Whether a message of `level` under `namespace` is shown."""
    return bool(level >= threshold(namespace))


class Logger(twisted.logger.Logger):
    """Twisted's `Logger`, which emits only what the levels of `set_levels` let through."""

    def emit(self, level: NamedConstant, format: str | None = None, **kwargs: Any) -> None:
        """Emit the event if its level is shown; see `twisted.logger.Logger.emit`."""
        if shows(self.namespace, level):
            super().emit(level, format, **kwargs)


def device_logger(name: str) -> Logger:
    """The logger of the device that the lab calls `name`."""
    return Logger(namespace=f"labnet.devices.{name}")


class WireLog:
    """What a wire says about its connections and, at level debug, its messages.

    Test `debug_on` before calling `received` or `sent`: it is a plain attribute, kept up to date.
    A new peer and a refusal are shown once for each peer's host, then only at debug.
    """

    def __init__(self, wire: str) -> None:
        self.logger = Logger(namespace=f"labnet.wires.{wire}")
        self.wire = wire
        self.debug_on = shows(self.logger.namespace, LogLevel.debug)
        self._said: set[tuple[str, str]] = set()
        _wire_logs.add(self)

    def connected(self, peer: str) -> None:
        """A client has connected; `peer` is its address, ``host:port`` where there is a port."""
        level = LogLevel.info if self._first("connected", peer) else LogLevel.debug
        self.logger.emit(level, "{wire}: {peer} connected", wire=self.wire, peer=peer)

    def disconnected(self, peer: str, reason: str = "") -> None:
        """A client has gone (shown at debug)."""
        if self.debug_on:
            why = f": {reason}" if reason else ""
            self.logger.debug("{wire}: {peer} gone{why}", wire=self.wire, peer=peer, why=why)

    def refused(self, peer: str, reason: str) -> None:
        """A client was turned away, or its connection closed for what it sent."""
        level = LogLevel.warn if self._first(reason, peer) else LogLevel.debug
        reason = shorten(reason, SHOWN)
        self.logger.emit(
            level, "{wire}: {peer} refused: {reason}", wire=self.wire, peer=peer, reason=reason
        )

    def received(self, peer: str, message: bytes | str) -> None:
        """Show a message that has come from `peer`, bounded in length."""
        self._message("<-", peer, message)

    def sent(self, peer: str, message: bytes | str) -> None:
        """Show a message that goes to `peer`, bounded in length."""
        self._message("->", peer, message)

    def _message(self, arrow: str, peer: str, message: bytes | str) -> None:
        text = preview(message)
        self.logger.debug(
            "{wire}: {peer} {arrow} {text}", wire=self.wire, peer=peer, arrow=arrow, text=text
        )

    def _first(self, what: str, peer: str) -> bool:
        host = peer.rpartition(":")[0] or peer
        key = (what[:SHOWN], host)
        if key in self._said:
            return False
        if len(self._said) >= REMEMBERED:
            self._said.clear()
        self._said.add(key)
        return True


def preview(message: bytes | str) -> str:
    """`message` as one printable line of bounded length; what was cut is counted."""
    text = message[:SHOWN]
    shown = text if isinstance(text, str) else bytes(text).decode("latin-1")
    line = shown.encode("unicode_escape").decode("ascii")
    left = len(message) - len(text)
    unit = "characters" if isinstance(message, str) else "bytes"
    return f"{line}... ({left} more {unit})" if left else line
