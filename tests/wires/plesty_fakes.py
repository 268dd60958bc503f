"""A PLESTY client without sockets, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import LabError
from labnet.wires.plesty.client import PlestyClient

DESCRIPTION = {"methods": ["add", "nap", "query", "write"], "budgets": {"nap": 7.5}, "doc": None}


class FakeLink:
    """A socket: keeps what is sent; `reply` brings an answer."""

    def __init__(self, name: str, received: Callable[[Sequence[bytes]], None]) -> None:
        self.name = name
        self.received = received
        self.sent: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.closed: Deferred[None] | None = None

    def send(self, frames: Sequence[bytes]) -> bool:
        assert self.closed is None, "sent on a closed socket"
        (body,) = frames
        self.bodies.append(body)
        self.sent.append(json.loads(body))
        return True

    def close(self) -> Deferred[None]:
        self.closed = Deferred()
        return self.closed

    def reply(self, result: Any, **keys: Any) -> None:
        self.received([json.dumps({"status": "ok", "result": result, **keys}).encode()])


class Client(PlestyClient):
    """A client whose sockets are fakes."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.links: list[FakeLink] = []
        super().__init__("tcp://fake", reactor=self.clock, **options)

    def _dial(self, received: Callable[[Sequence[bytes]], None]) -> FakeLink:
        self.links.append(FakeLink(self.client_id, received))
        return self.links[-1]

    @property
    def link(self) -> FakeLink:
        return self.links[-1]

    def granted(self, *names: str) -> dict[str, Any]:
        return {"client_id": self.client_id, "resources": names, "metadata": {}}


class ClientCase(SynchronousTestCase):
    def ready(self, numbered: bool = False, **options: Any) -> Client:
        """A client that is connected."""
        client = Client(**options)
        connected = Deferred.fromCoroutine(client.connect())
        self.greet(client, numbered)
        self.assertIs(self.successResultOf(connected), client)
        client.link.sent.clear()
        client.link.bodies.clear()
        return client

    def greet(self, client: Client, numbered: bool = False) -> None:
        """The server's side of the start."""
        wanted = client.link.sent[-1]["resources"]
        client.link.reply(client.granted(*wanted))
        asked = client.link.sent[-1]
        keys = {"id": asked["id"]} if numbered else {}
        client.link.reply(DESCRIPTION, **keys)

    def failed(self, deferred: Deferred[Any], kind: type[LabError]) -> Any:
        return self.failureResultOf(deferred, kind).value
