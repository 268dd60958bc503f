"""Finding the real peers, and talking to the drivers that run in their environments.

A peer that is not installed skips its tests, with a sentence that says how to install it; where
``CI=true`` it fails them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

from tests.interop import pins
from tests.interop.processes import LIMIT, ChildFailed, Finished, LineChild, run

DRIVERS = Path(__file__).with_name("drivers").resolve()


class PeerMissing(AssertionError):
    """A peer that must be there is not."""


class PeerError(Exception):
    """The peer's own code raised: ``type`` is the bare class name, ``text`` its message.

    ``details`` has what the driver adds: ``cause`` (class name of ``__cause__`` or None), and for
    VISA ``abbreviation`` and ``error_code``.
    """

    def __init__(self, details: Mapping[str, Any]) -> None:
        self.type: str = details["type"]
        self.text: str = details["text"]
        self.details = details
        super().__init__(f"{self.type}: {self.text}")


def _missing(name: str) -> Exception:
    sentence = f"the peer {name} is not installed: run tests/interop/install-peers {name}"
    item = pins.named(name)
    optional = isinstance(item, pins.Peer) and item.optional
    needed = os.environ.get("CI") == "true" and not optional
    return PeerMissing(sentence) if needed else SkipTest(sentence)


def peer(name: str) -> str:
    """The Python interpreter of that peer's environment."""
    item = pins.named(name)
    if not isinstance(item, pins.Peer):
        raise TypeError(f"{name} is a program: ask tool() for it")
    if not item.is_installed():
        raise _missing(name)
    return str(item.python)


def tool(name: str) -> str:
    """The path of that program."""
    item = pins.named(name)
    if not isinstance(item, pins.Tool):
        raise TypeError(f"{name} is an environment: ask peer() for it")
    found = item.find()
    if found is None:
        raise _missing(name)
    return found


class PeerProcess(LineChild):
    """A driver script in a peer's environment, spoken to in JSON lines (drivers/lines.py)."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self._numbers: Iterator[int] = count(1)
        self._questions: dict[int, Deferred[Any]] = {}

    def outReceived(self, data: bytes) -> None:
        self.feed(data)

    def line_received(self, line: str) -> None:
        message = json.loads(line)
        waiter = self._questions.pop(message.get("id"), None)
        if waiter is None:
            super().line_received(line)
        elif "error" in message:
            waiter.errback(PeerError(message["error"]))
        else:
            waiter.callback(message["result"])

    def ask(self, verb: str, *args: Any, limit: float = LIMIT, **kwargs: Any) -> Deferred[Any]:
        """Ask the driver; gives its result, or fails with :class:`PeerError` or ChildFailed."""
        waiter: Deferred[Any] = Deferred()
        if self.code is not None:
            waiter.errback(ChildFailed(self.story(f"ended with {self.code} before {verb!r}")))
            return waiter
        number = next(self._numbers)
        self._questions[number] = waiter
        question = {"id": number, "ask": verb, "args": args, "kwargs": kwargs}
        self.transport.writeToChild(0, json.dumps(question).encode() + b"\n")
        return self.within(limit, waiter, f"answer {verb!r}").addErrback(self._drop, number)

    def _drop(self, failure: Failure, number: int) -> Failure:
        self._questions.pop(number, None)
        return failure

    async def wait_for(self, event: str, limit: float = LIMIT) -> dict[str, Any]:
        """The fields of the first such event, whether it has come or is to come."""
        line = await self.wait_for_line(
            lambda line: json.loads(line).get("event") == event, repr(event), limit
        )
        fields: dict[str, Any] = json.loads(line)
        return fields

    def processEnded(self, reason: Failure) -> None:
        super().processEnded(reason)
        questions, self._questions = self._questions, {}
        for waiter in questions.values():
            waiter.errback(ChildFailed(self.story(f"ended with {self.code} before its answer")))


def start(test: TestCase, name: str, driver: str, *arguments: str, **env: str) -> PeerProcess:
    """Start ``drivers/<driver>.py`` in the environment of the peer ``name``."""
    python = peer(name)
    process = PeerProcess(f"{driver} ({name})")
    process.start(test, [python, str(DRIVERS / f"{driver}.py"), *arguments], **env)
    return process


async def run_command(
    test: TestCase, name: str, driver: str, *arguments: str, limit: float = LIMIT
) -> Finished:
    """Run a driver that is a command line of its own to its end."""
    return await run(test, peer(name), str(DRIVERS / f"{driver}.py"), *arguments, limit=limit)
