"""One client of one port: its requests in, its replies out, in the same order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from labnet.transports.zmq import Parts, Peer, split_envelope
from labnet.wires.rogue.nodes import settled

if TYPE_CHECKING:
    from labnet.session import Session
    from labnet.wires.rogue.server import RequestPort
    from labnet.wires.rogue.variables import LabVariable

MAX_WAITING: Final = 1000
"""Requests of one client that may wait for the one under way."""
MAX_HELD: Final = 2
"""How many of the longest requests those may amount to in bytes."""


class RogueProtocol:
    """Answers one connection; its locks end with it.

    `staged` are the values that it has set with ``write=False``.
    """

    __slots__ = ("_busy", "_held", "_port", "_waiting", "peer", "session", "staged")

    def __init__(self, port: RequestPort, peer: Peer, session: Session) -> None:
        self._port = port
        self.peer: Peer | None = peer
        self.session = session
        self.staged: dict[LabVariable, Any] = {}
        self._busy = False
        self._held = 0
        self._waiting: deque[tuple[Sequence[bytes], bytes]] = deque()

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer."""
        return self._busy

    def received(self, parts: Parts) -> None:
        """One message: an envelope, and a request in the last part behind it."""
        if len(parts) == 2 and not parts[0]:
            envelope, body = parts[:1], parts[1]
        else:
            envelope, rest = split_envelope(parts)
            body = rest[-1]
        if not self._busy:
            self._begin(envelope, body)
        elif self._has_room(body):
            self._held += len(body)
            self._waiting.append((envelope, body))
        else:
            self._reply(envelope, self._port.too_many())

    def _has_room(self, body: bytes) -> bool:
        room = MAX_HELD * self._port.max_request - self._held
        return len(self._waiting) < MAX_WAITING and len(body) <= room

    def _begin(self, envelope: Sequence[bytes], body: bytes) -> None:
        port = self._port
        try:
            result = port.ask(self, body)
            if result.__class__ is Deferred:
                result = settled(result)
                if result.__class__ is Deferred:
                    self._busy = True
                    result.addBoth(self._answered, envelope)
                    return
            reply = port.encode(result)
        except Exception as error:
            reply = port.refusal(error)
        self._reply(envelope, reply)

    def _answered(self, result: Any, envelope: Sequence[bytes]) -> None:
        """What was waited for is there: the answer, then what has come meanwhile."""
        port = self._port
        try:
            if isinstance(result, Failure):
                result.raiseException()
            reply = port.encode(result)
        except Exception as error:
            reply = port.refusal(error)
        self._reply(envelope, reply)
        self._busy = False
        while self._waiting and not self._busy:
            envelope, body = self._waiting.popleft()
            self._held -= len(body)
            self._begin(envelope, body)
        port.answered()

    def _reply(self, envelope: Sequence[bytes], reply: bytes) -> None:
        if self.peer is not None:
            self._port.send(self.peer, [*envelope, reply])

    def close(self, reason: str) -> None:
        """The client is gone: its locks are free, what it waits for is dropped."""
        self.peer = None
        self._busy = False
        self._waiting.clear()
        self.staged.clear()
        self.session.close(reason)
