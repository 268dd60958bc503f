"""Other programs as children of a trial test: started without blocking, always reaped.

Every child ends with its test: a clean-up kills it and waits until the system has reported its end.
Every wait has a limit, and its failure shows what the child has printed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

# Generous: it is there to end a test that hangs, not to measure anything.
LIMIT = 30.0
KEPT = 20_000


class ChildFailed(AssertionError):
    """A child ended, or did nothing, while a test waited for it."""


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would change another Python's behaviour."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **more}


class Child(ProcessProtocol):
    """One child process.

    Attributes: ``code``, the exit code, or minus the number of the signal, or None while it runs;
    ``errors``, the end of what it wrote to standard error.
    """

    transport: IProcessTransport

    def __init__(self, title: str) -> None:
        self.title = title
        self.errors = ""
        self.code: int | None = None
        self._end_waiters: list[Deferred[int]] = []

    def start(self, test: TestCase, command: list[str], **env: str) -> None:
        directory: str = cast(Any, test).mktemp()
        os.makedirs(directory)
        cast(IReactorProcess, _reactor()).spawnProcess(
            self, command[0], command, env=environment(**env), path=directory
        )
        test.addCleanup(self.kill)

    def errReceived(self, data: bytes) -> None:
        self.errors = (self.errors + data.decode("utf-8", "replace"))[-KEPT:]

    def processEnded(self, reason: Failure) -> None:
        error = cast(Any, reason.value)
        self.code = -error.signal if error.signal else error.exitCode
        waiters, self._end_waiters = self._end_waiters, []
        for waiter in waiters:
            waiter.callback(self.code)

    def end(self, limit: float = LIMIT) -> Deferred[int]:
        """Wait for its end: gives the exit code, or minus the number of the signal."""
        waiter: Deferred[int] = Deferred()
        if self.code is not None:
            waiter.callback(self.code)
            return waiter
        self._end_waiters.append(waiter)
        return self.within(limit, waiter, "end")

    def within(self, limit: float, waiter: Deferred[Any], what: str) -> Deferred[Any]:
        """Fail ``waiter`` with what the child has printed, unless it fires within ``limit`` s."""

        def late(result: Any, seconds: float) -> Any:
            if isinstance(result, Failure) and isinstance(result.value, CancelledError):
                raise ChildFailed(self.story(f"did not {what} within {seconds:g} s"))
            return result

        return waiter.addTimeout(limit, cast(IReactorTime, _reactor()), late)

    def story(self, what: str) -> str:
        return f"{self.title} {what}; it wrote:\n{self.errors or '(nothing)'}"

    def signal(self, name: str) -> None:
        """Send a signal by its name without SIG: ``KILL``, ``STOP``, ``CONT``, ``TERM``."""
        try:
            # Twisted knows some by their names, all by their numbers.
            self.transport.signalProcess(cast(Any, signal.Signals[f"SIG{name}"]))
        except ProcessExitedAlready:
            pass

    def kill(self) -> Deferred[int]:
        """SIGKILL, which also ends a stopped process; fires when it has been reaped."""
        if self.code is None:
            self.signal("KILL")
        return self.end()


class LineChild(Child):
    """A child whose lines are events: each goes to those who wait for it, and is kept."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self.lines: list[str] = []
        self._partial = b""
        self._line_waiters: list[tuple[Callable[[str], bool], Deferred[str]]] = []

    def feed(self, data: bytes) -> None:
        *whole, self._partial = (self._partial + data).split(b"\n")
        for line in whole:
            self.line_received(line.decode("utf-8", "replace"))

    def line_received(self, line: str) -> None:
        self.lines.append(line)
        matching = [entry for entry in self._line_waiters if entry[0](line)]
        for entry in matching:
            self._line_waiters.remove(entry)
            entry[1].callback(line)

    def wait_for_line(
        self, accept: Callable[[str], bool], what: str, limit: float = LIMIT
    ) -> Deferred[str]:
        """The first line that ``accept`` likes, of those that were or will be."""
        waiter: Deferred[str] = Deferred()
        for line in self.lines:
            if accept(line):
                waiter.callback(line)
                return waiter
        if self.code is not None:
            waiter.errback(ChildFailed(self.story(f"ended with {self.code}, without {what}")))
            return waiter
        entry = (accept, waiter)
        self._line_waiters.append(entry)
        return self.within(limit, waiter, f"say {what}").addErrback(self._forget, entry)

    def _forget(self, failure: Failure, entry: tuple[Callable[[str], bool], Deferred[str]]) -> Any:
        if entry in self._line_waiters:
            self._line_waiters.remove(entry)
        return failure

    def processEnded(self, reason: Failure) -> None:
        super().processEnded(reason)
        waiters, self._line_waiters = self._line_waiters, []
        for _, waiter in waiters:
            waiter.errback(ChildFailed(self.story(f"ended with {self.code}")))


@dataclass(frozen=True)
class Finished:
    """What a command that ran to its end has left."""

    code: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        return self.output.decode("utf-8", "replace")


class _Command(Child):
    def __init__(self, title: str, stdin: bytes | None) -> None:
        super().__init__(title)
        self.output = bytearray()
        self._stdin = stdin

    def connectionMade(self) -> None:
        if self._stdin is not None:
            cast(Any, self.transport).write(self._stdin)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self.output += data


async def run(
    test: TestCase,
    *command: str,
    stdin: bytes | None = None,
    limit: float = LIMIT,
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Run a command to its end, whatever its exit code; ``stdin`` is written, then closed."""
    child = _Command(os.path.basename(command[0]), stdin)
    child.start(test, list(command), **(env or {}))
    code = await child.end(limit)
    return Finished(code, bytes(child.output), child.errors)
