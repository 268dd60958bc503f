"""A real PyRogue server's recorded bytes, played to clients without sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import LabError, NotConnected
from labnet.wires.rogue.client import RogueClient
from labnet.wires.rogue.mirror import RogueMirror
from labnet.wires.rogue.pickles.reader import read_request
from tests.wires.vectors import records

NO_NODES = "virtual.children.of-variable"
VALUE_OF_VOLTS = {"path": "Toy.Psu.Volts", "attr": "getVariableValue"}.items()
Received = Callable[[Sequence[bytes]], None]


class Recording:
    """What was recorded, by socket and case: the bodies of requests and their answers."""

    def __init__(self) -> None:
        self.asked: dict[tuple[str, str], list[tuple[bytes, bytes]]] = {}
        self.published: dict[str, list[bytes]] = {}
        self.answers: dict[tuple[str, bytes], list[bytes]] = {}
        pending: dict[tuple[str, str], bytes] = {}
        for record in records("rogue"):
            key, body = (record["socket"], record["case"]), bytes.fromhex(record["frames"][-1])
            if key[0] == "pub" and record["direction"] == "s2c":
                self.published.setdefault(record["case"], []).append(body)
            elif record["direction"] == "c2s":
                pending[key] = body
            elif key in pending:
                request = pending.pop(key)
                self.asked.setdefault(key, []).append((request, body))
                self.answers.setdefault((key[0], request), []).append(body)

    def exchange(self, case: str, socket: str = "bin", place: int = 0) -> tuple[bytes, bytes]:
        """The request and the answer of one recorded case."""
        return self.asked[socket, case][place]

    def answer(self, socket: str, request: bytes) -> bytes | None:
        """The next recorded answer to a request; the last one again when there are no more."""
        answers = self.answers.get((socket, request))
        if not answers:
            return None
        return answers.pop(0) if len(answers) > 1 else answers[0]


class FakeLink:
    """A socket: keeps what is sent; `reply` brings an answer to the oldest unanswered request."""

    def __init__(self, received: Received) -> None:
        self.received = received
        self.sent: list[list[bytes]] = []
        self.bodies: list[bytes] = []
        self.waiting: list[list[bytes]] = []
        self.closed = False
        self.lost: Callable[[], None] | None = None

    def watch(self, lost: Callable[[], None] | None) -> None:
        self.lost = lost

    def lose(self) -> None:
        """The connection ends."""
        assert self.lost is not None
        self.lost()

    def send(self, parts: Sequence[bytes]) -> bool:
        assert not self.closed, "sent on a closed socket"
        self.sent.append(list(parts))
        self.waiting.append(list(parts[:-1]))
        self.bodies.append(parts[-1])
        return True

    def close(self) -> None:
        self.closed = True

    def reply(self, body: bytes, place: int = 0) -> None:
        self.received([*self.waiting.pop(place), body])

    def reply_to(self, attr: str | None, body: bytes) -> None:
        """Brings the answer to the oldest unanswered request for an attribute."""
        waiting = self.bodies[-len(self.waiting) :] if self.waiting else []
        attrs = [read_request(request)["attr"] for request in waiting]
        self.reply(body, attrs.index(attr))


class Client(RogueClient):
    """A client whose sockets are fakes."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.links: list[FakeLink] = []
        super().__init__("fake:9099", reactor=self.clock, **options)

    def _dial(self, received: Received) -> FakeLink:
        self.links.append(FakeLink(received))
        return self.links[-1]

    @property
    def link(self) -> FakeLink:
        return self.links[-1]


class Mirror(RogueMirror):
    """A mirror whose sockets are fakes."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.links: list[FakeLink] = []
        self.subs: list[FakeLink] = []
        super().__init__("fake:9099", reactor=self.clock, **options)

    def _dial(self, received: Received) -> FakeLink:
        self.links.append(FakeLink(received))
        return self.links[-1]

    def _dial_updates(self, received: Received) -> FakeLink:
        self.subs.append(FakeLink(received))
        return self.subs[-1]

    @property
    def link(self) -> FakeLink:
        return self.links[-1]

    def publish(self, body: bytes) -> None:
        """An update comes."""
        self.subs[-1].received([body])


class RogueCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.recording = Recording()

    def play(self, client: Client | Mirror, case: str, socket: str = "bin", place: int = 0) -> None:
        """The last request sent must be the recorded one; brings the recorded answer."""
        request, answer = self.recording.exchange(case, socket, place)
        self.assertEqual(client.link.bodies[-1], request, case)
        client.link.reply(answer)

    def serve(self, client: Client | Mirror) -> list[bytes]:
        """Answers all requests as recorded, with no nodes where none were; gives the unknown ones.
        """
        unknown = []
        while client.link.waiting:
            body = client.link.bodies[-len(client.link.waiting)]
            answer = self.recording.answer("bin", body)
            if answer is None and read_request(body).items() >= VALUE_OF_VOLTS:
                answer = self.recording.exchange("virtual.getVariableValue")[1]
            if answer is None:
                unknown.append(body)
                answer = self.recording.exchange(NO_NODES)[1]
            client.link.reply(answer)
        return unknown

    def connected(self, **options: Any) -> Mirror:
        """A mirror of the recorded server."""
        mirror = Mirror(**options)
        self.addCleanup(mirror.close)
        connecting = Deferred.fromCoroutine(mirror.connect())
        self.serve(mirror)
        self.assertIs(self.successResultOf(connecting), mirror)
        return mirror

    def unheeded(self, deferred: Deferred[Any]) -> Deferred[Any]:
        """One that may still wait when the client is closed."""
        return deferred.addErrback(lambda failure: failure.trap(NotConnected) and None)

    def failed(self, deferred: Deferred[Any], kind: type[LabError]) -> Any:
        return self.failureResultOf(deferred, kind).value
