"""A toy server for tests: one request, one reply."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, command, parameter
from labnet.transports.zmq import Peer
from tests.wires.plesty_toy import ToyServer


class ServerCase(SynchronousTestCase):
    """A toy server; `ask` sends one request and gives the reply, if it comes at once."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = ToyServer(self.clock)

    def client(self, name: str | bytes = b"") -> Peer:
        return self.server.peer(name)

    def ask(self, peer: Peer, type: str, **fields: Any) -> dict[str, Any]:
        body = json.dumps({"type": type, **fields}).encode()
        replies = [json.loads(reply) for reply in self.server.tell(peer, body)]
        self.assertEqual(len(replies), 1, "one reply at once")
        return replies[0]

    def result(self, peer: Peer, type: str, **fields: Any) -> Any:
        reply = self.ask(peer, type, **fields)
        self.assertEqual(reply["status"], "ok", reply)
        return reply["result"]

    def refused(self, peer: Peer, type: str, **fields: Any) -> tuple[str, str]:
        reply = self.ask(peer, type, **fields)
        self.assertEqual(reply["status"], "error", reply)
        return reply["type"], reply["error"]

    def lock(self, peer: Peer, *names: str, **metadata: Any) -> list[str]:
        granted: list[str] = self.result(peer, "connect", resources=names, **metadata)["resources"]
        return granted


class Gauge(Device):
    """Kinds that JSON has no form for, and a call that never ends by itself."""

    level = parameter(float, initial=0.0)
    phase = parameter(complex, initial=1j)
    raw = parameter(bytes, initial=b"\xff")
    trace = parameter(np.ndarray, initial=np.zeros(3))
    broken: Any = parameter(initial=object())

    def __init__(self) -> None:
        self.answers: list[Deferred[str]] = []

    @command
    def zero(self) -> str:
        return "zeroed"

    @command
    def turn(self, by: complex, label: bytes = b"") -> str:
        return f"{by} {label!r}"

    @command(long=True)
    def hang(self) -> Deferred[str]:
        self.answers.append(Deferred())
        return self.answers[-1]

    @command(urgent=True)
    def release(self) -> str:
        self.answers.pop().callback("released")
        return "done"

    @command
    def late(self, timeout: float) -> float:
        return timeout


class GaugeCase(ServerCase):
    """The same with a gauge."""

    def setUp(self) -> None:
        super().setUp()
        self.gauge = Gauge()
        self.server = ToyServer(self.clock, others={"gauge": self.gauge}, device="gauge")
