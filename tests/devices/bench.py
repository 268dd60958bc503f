"""A lab on a clock of its own, with one device and a client of it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device
from labnet.instrument.channel import check_headers
from labnet.lab import Lab
from labnet.registry import CommandNode, ParameterNode
from labnet.session import Path, Session
from labnet.specs import CommandSpec, ParameterSpec
from labnet.updates import Update


class BenchCase(SynchronousTestCase):
    """Tests of a device through a session; time passes only when a test says so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.lab = Lab(self.clock)
        self.addCleanup(self.no_timers_left)

    def no_timers_left(self) -> None:
        """Stops the lab, after which no device may have a timer running."""
        self.lab.stop()
        self.clock.advance(10)
        self.assertEqual([str(call) for call in self.clock.getDelayedCalls()], [])

    def attach(self, name: str, device: Device) -> Session:
        """Puts the device into the lab and gives a client of it."""
        self.lab.attach(name, device)
        return self.client(name)

    def client(self, name: str) -> Session:
        return self.lab.open_session("test", "here", device=name)

    def passes(self, seconds: float, step: float = 0.01) -> None:
        """Time passes, in small steps."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def get(self, session: Session, path: Path) -> Any:
        """The value of a parameter that needs no waiting."""
        return self.successResultOf(session.get(path)).value

    def set(self, session: Session, path: Path, value: object) -> None:
        self.successResultOf(session.set(path, value))

    def call(self, session: Session, path: Path, *args: object) -> Any:
        """The result of a command that needs no waiting."""
        return self.successResultOf(session.call(path, *args))

    def takes(self, deferred: Deferred[Any], seconds: float, step: float = 0.01) -> Any:
        """The result, which must come after `seconds` and not before (to within a step)."""
        self.passes(seconds - step, step)
        self.assertNoResult(deferred)
        self.passes(2 * step, step)
        return self.successResultOf(deferred)

    def spec(self, session: Session, path: Path) -> ParameterSpec | CommandSpec:
        """What is known about a parameter or command."""
        node = session.resolve(path)
        assert isinstance(node, ParameterNode | CommandNode)
        return node.spec

    def assert_helpful(self, name: str) -> None:
        """All members of the device have a help text on one line, and headers that differ."""
        node = self.lab.devices()[name]
        check_headers(node)
        helps = {parameter.path: parameter.spec.help for parameter in node.parameters()}
        helps |= {command.path: command.spec.help for command in node.commands()}
        for path, text in helps.items():
            self.assertTrue(text, path)
            self.assertNotIn("\n", text, path)

    def told(self, session: Session, *paths: str) -> list[Update]:
        """The updates on the paths from now on."""
        heard: list[Update] = []
        session.subscribe(list(paths), heard.extend)
        return heard

    def scpi(self, session: Session, message: bytes) -> bytes:
        """The response to a program message that needs no waiting."""
        response: bytes = self.successResultOf(session.channel().execute(message))
        return response
