"""The recorded tree and a motor behind a Rogue server in memory, for the tests of the server."""


from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, command, parameter
from labnet.lab import Lab, ServeOptions
from labnet.wires.rogue.model import RemoteException
from tests.wires.rogue_toy import Toy, ToyServer, parts_of


class Motor(Device):
    """Commands of several arguments."""

    position = parameter(float, initial=1.0, limits=(0, 10), unit="mm")

    @command
    def move(self, target: float, speed: float = 1.0) -> list[float]:
        return [target, speed]

    @command
    def name_it(self, text: str) -> str:
        return text

    @command
    def total(self, *values: float) -> float:
        return sum(values)

    @command
    def home(self) -> str:
        return "home"


class RogueCase(SynchronousTestCase):
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.lab = Lab(self.clock, self.clock)
        self.lab.attach("toy", Toy(self.clock))
        self.motor = Motor()
        self.lab.attach("motor", self.motor)
        self.addCleanup(self.lab.stop)
        names = {"motor": "motor", **parts_of("toy")}
        common = ServeOptions(devices=names, timeout=10.0)
        self.toy = ToyServer(self.clock, lab=self.lab, common=common, root="Toy", **self.options)
        self.client = self.toy.client()

    def ask(self, path: str, attr: str, *args: Any, **kwargs: Any) -> Any:
        return self.client.ask(path, attr, *args, **kwargs)

    def refused(self, path: str, attr: str, *args: Any, **kwargs: Any) -> str:
        """The text of the error."""
        answer = self.client.ask(path, attr, *args, **kwargs)
        self.assertIsInstance(answer, RemoteException)
        for internal in ("Traceback", "NoneType", " object at 0x", "labnet.wires"):
            self.assertNotIn(internal, answer.text)
        kind, colon, text = answer.text.partition(": ")
        self.assertRegex(kind, r"^\w+(\.\w+)+$")
        self.assertTrue(colon and text)
        return str(answer.text)

    def updates(self) -> list[dict[str, Any]]:
        """The values of each message that was published, by path."""
        return [
            {path: value.value for path, value in message.items()}
            for message in self.toy.subscribers.taken()
        ]
