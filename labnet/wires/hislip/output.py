"""What a HiSLIP server sends on a synchronous channel, no faster than the client takes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from twisted.internet.interfaces import IDelayedCall

SENT_A_TURN = 1024 * 1024
"""Bytes that are sent before others have their turn."""


class Connection(Protocol):
    """What a session needs of one of its two connections."""

    @property
    def full(self) -> bool:
        """Whether the client does not take what has been sent."""

    def send(self, data: bytes) -> None:
        """Sends whole messages."""

    def go_on(self) -> None:
        """Handles what has come, as far as it need not wait."""

    def close(self) -> None:
        """Closes after what has been sent."""


class _Answer(NamedTuple):
    messages: Iterator[bytes]
    size: int
    sent: Callable[[], None]


class Output:
    """Answers on their way, each an iterator of whole messages that is asked when there is room.

    `size` is how many bytes of answers have not been sent to the end.
    """

    def __init__(self, connection: Connection, clock: Any, drained: Callable[[], None]) -> None:
        self.size = 0
        self._connection = connection
        self._clock = clock
        self._drained = drained
        self._answers: deque[_Answer] = deque()
        self._due: IDelayedCall | None = None
        self._flushing = False

    def send(self, messages: Iterator[bytes], size: int, sent: Callable[[], None]) -> None:
        """Sends an answer of `size` bytes after those before it; `sent` is called at its end."""
        self._answers.append(_Answer(messages, size, sent))
        self.size += size
        self.flush()

    def drop(self) -> None:
        """What has not been sent stays unsent; a message is never cut."""
        self._answers.clear()
        self.size = 0
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def flush(self) -> None:
        """Sends what there is room for."""
        if self._due is not None or self._flushing:
            return
        self._flushing = True
        try:
            self._flush()
        finally:
            self._flushing = False

    def _flush(self) -> None:
        room = SENT_A_TURN
        while self._answers and not self._connection.full:
            if room <= 0:
                self._due = self._clock.callLater(0, self._next_turn)
                return
            answer = self._answers[0]
            message = next(answer.messages, None)
            if message is None:
                self._answers.popleft()
                self.size -= answer.size
                answer.sent()
            else:
                room -= len(message)
                self._connection.send(message)

    def _next_turn(self) -> None:
        self._due = None
        self.flush()
        self._drained()
