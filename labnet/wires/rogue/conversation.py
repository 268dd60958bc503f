"""Questions and answers over one request port of a PyRogue server.

The server's socket is a REP: it answers one request after the other and sends the envelope back, in
which each question has a number of its own, as PyRogue's own ``ZmqClient`` does it. So many may be
on their way, and a late answer is never taken for that to another question. When a question has had
no answer in time, and nothing else came either, or when the connection has ended, the next ones go
over a new socket: nothing that waits in the old one reaches a server that comes back later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import getrandbits
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from labnet.errors import LabError, NotConnected, TimedOut, TooLarge

MAX_IN_FLIGHT: Final = 64
"""Questions sent before their answers."""
MAX_WAITING: Final = 10_000
"""Questions kept until they can be sent."""
MAX_OLD_LINES: Final = 4
"""Sockets that are kept only for answers that may still come."""


class Link(Protocol):
    """A socket: what a conversation needs of it."""

    def send(self, parts: Sequence[bytes]) -> bool:
        """Sends one message; False if the queue is full."""

    def watch(self, lost: Callable[[], None] | None) -> None:
        """Calls ``lost()`` when the connection has ended without this side's doing."""

    def close(self) -> Any:
        """Closes the socket, sending nothing more."""


Dial = Callable[[Callable[[Sequence[bytes]], None]], Link]


class _Question:
    """A question: its bytes, who waits for the answer and how long that may take."""

    __slots__ = ("answer", "body", "heard", "limit", "line", "number", "timer", "what")

    def __init__(self, body: bytes, what: str, limit: float) -> None:
        self.body = body
        self.what = what
        self.limit = limit
        self.number = b""
        self.heard = 0
        self.line: _Line | None = None
        self.timer: IDelayedCall | None = None
        self.answer: Deferred[bytes] | None = Deferred(self._given_up)

    def _given_up(self, _: Deferred[bytes]) -> None:
        self.answer = None


class _Line:
    """One socket and the questions that went over it."""

    def __init__(
        self,
        dial: Dial,
        received: Callable[[_Line, Sequence[bytes]], None],
        lost: Callable[[_Line], None],
    ) -> None:
        self.flying: dict[bytes, _Question] = {}
        self.heard = 0
        self.link = dial(lambda parts: received(self, parts))
        self.link.watch(lambda: lost(self))


class Conversation:
    """Bodies of questions in, bodies of answers out.

    `dial` opens a socket that hands its messages to a function; `where` is the server as users know
    it; `heard` is called for each answer that comes, `lost` when a connection has ended.
    """

    def __init__(
        self,
        dial: Dial,
        where: str,
        clock: IReactorTime,
        heard: Callable[[], None] = lambda: None,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._dial = dial
        self._where = where
        self._clock = clock
        self._tell = heard
        self._tell_lost = lost
        self._line: _Line | None = None
        self._old: list[_Line] = []
        self._waiting: deque[_Question] = deque()
        self._last = getrandbits(32)
        self._closed = False
        self.answered = False
        """Whether the server has ever answered."""

    def ask(self, body: bytes, what: str, limit: float) -> Deferred[bytes]:
        """The answer to a question, within `limit` seconds; `what` names it in errors.

        Fails with `TimedOut`; with `NotConnected` if the server never answered anything or the
        conversation is closed; with `TooLarge` if too many questions wait. May be cancelled.
        """
        if self._closed:
            return fail(NotConnected(f"the client of {self._where} is closed"))
        if len(self._waiting) >= MAX_WAITING:
            return fail(TooLarge(f"{MAX_WAITING} requests wait to be sent already"))
        question = _Question(body, what, limit)
        answer = question.answer
        assert answer is not None
        question.timer = self._clock.callLater(limit, self._expired, question)
        self._waiting.append(question)
        self._pump()
        return answer

    def close(self) -> None:
        """Closes the sockets; every question that waits fails."""
        self._closed = True
        lines, self._old = self._old, []
        if self._line is not None:
            lines.append(self._line)
            self._line = None
        waiting = list(self._waiting)
        self._waiting.clear()
        for line in lines:
            waiting += line.flying.values()
            line.flying.clear()
            line.link.close()
        for question in waiting:
            self._finish(question, NotConnected(f"the client of {self._where} was closed"))

    # -- sending -------------------------------------------------------------------------------

    def _pump(self) -> None:
        while self._waiting and not self._closed:
            if self._waiting[0].answer is None:
                self._finish(self._waiting.popleft())
                continue
            if self._line is None:
                self._line = _Line(self._dial, self._received, self._lost)
            if len(self._line.flying) >= MAX_IN_FLIGHT:
                return
            self._send(self._line, self._waiting.popleft())

    def _send(self, line: _Line, question: _Question) -> None:
        number = self._new_number()
        question.number, question.line, question.heard = number, line, line.heard
        line.flying[number] = question
        line.link.send([number, b"", question.body])

    def _new_number(self) -> bytes:
        self._last = (self._last + 1) & 0xFFFFFFFF
        return self._last.to_bytes(4, "little")

    # -- answers -------------------------------------------------------------------------------

    def _received(self, line: _Line, parts: Sequence[bytes]) -> None:
        line.heard += 1
        self.answered = True
        self._tell()
        question = line.flying.pop(parts[0], None) if self._is_reply(parts) else None
        if question is not None:  # else late, and nobody waits for it any more
            self._finish(question, parts[2])
        self._tidy(line)
        self._pump()

    def _is_reply(self, parts: Sequence[bytes]) -> bool:
        return len(parts) == 3 and not parts[1]

    def _expired(self, question: _Question) -> None:
        question.timer = None
        line = question.line
        if line is not None and line.flying.pop(question.number, None) is not None:
            if line is self._line and line.heard == question.heard:
                self._wear(line)
            self._tidy(line)
        self._finish(question, self._no_answer(question))
        self._pump()

    def _no_answer(self, question: _Question) -> LabError:
        if not self.answered:
            return NotConnected(f"no answer from {self._where} within {question.limit:g} s")
        return TimedOut(question.what, question.limit)

    def _wear(self, line: _Line) -> None:
        """The next question opens a new socket."""
        self._line = None
        self._old.append(line)
        if len(self._old) > MAX_OLD_LINES:
            oldest = self._old[0]
            flying = list(oldest.flying.values())
            oldest.flying.clear()
            self._tidy(oldest)
            for question in flying:
                text = f"{self._where} has stopped answering; {question.what} was given up"
                self._finish(question, NotConnected(text))

    def _lost(self, line: _Line) -> None:
        """The connection has ended: what was on its way over it is not answered any more."""
        if line is self._line:
            self._line = None
        elif line in self._old:
            self._old.remove(line)
        flying = list(line.flying.values())
        line.flying.clear()
        line.link.close()
        for question in flying:
            text = f"the connection to {self._where} ended under {question.what}"
            self._finish(question, NotConnected(text))
        self._tell_lost()
        self._pump()

    def _tidy(self, line: _Line) -> None:
        """An old socket for which nobody waits is closed."""
        if line in self._old and not line.flying:
            self._old.remove(line)
            line.link.close()

    def _finish(self, question: _Question, result: bytes | LabError = b"") -> None:
        timer, question.timer = question.timer, None
        if timer is not None:
            timer.cancel()
        answer, question.answer = question.answer, None
        if answer is None:
            return
        if isinstance(result, LabError):
            answer.errback(result)
        else:
            answer.callback(result)
