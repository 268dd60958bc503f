"""The PLESTY client without sockets: order, time limits, renewed connections, errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import (
    BadArguments,
    DeviceFault,
    LabError,
    Locked,
    NotAllowed,
    NotConnected,
    NotWritable,
    OutOfRange,
    TimedOut,
    UnknownName,
    WrongType,
)
from labnet.transports.zmq import Peer
from labnet.wires.plesty import conversation
from labnet.wires.plesty.client import PAUSE, PlestyBench, PlestyClient
from labnet.wires.plesty.codec import failure, parse_reply, success
from labnet.wires.plesty.faults import lab_error
from labnet.wires.plesty.server import Options
from tests.wires.plesty_toy import ToyServer

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


class Start(ClientCase):
    """``connect`` and ``describe``."""

    def test_the_real_clients_bytes(self) -> None:
        client = Client(resources=["axis/x"], connect_kwargs={"user": "ann"}, client_id="exp")
        connected = Deferred.fromCoroutine(client.connect())
        self.assertEqual(client.link.name, "exp")
        sent = b'{"type": "connect", "resources": ["axis/x"], "user": "ann"}'
        self.assertEqual(client.link.bodies, [sent])
        client.link.reply(client.granted("axis/x"))
        self.assertEqual(client.link.bodies[1], b'{"type": "describe", "id": 2}')
        client.link.reply(DESCRIPTION)
        self.successResultOf(connected)
        self.assertEqual(client.resources, ("axis/x",))
        self.assertEqual(client.methods, ("add", "nap", "query", "write"))
        self.assertEqual(client.budgets, {"nap": 7.5})

    def test_a_made_up_name(self) -> None:
        self.assertRegex(Client().client_id, r"\Aclient-[0-9a-f]{32}\Z")
        self.assertRaises(ValueError, Client, client_id="x" * 256)

    def test_a_server_without_connect(self) -> None:
        client = Client()
        connected = Deferred.fromCoroutine(client.connect())
        client.link.received([failure("ValueError", "Unknown request type: connect")])
        client.link.reply({"methods": ["a"]})
        self.successResultOf(connected)
        self.assertEqual((client.methods, client.budgets, client.doc), (("a",), {}, None))
        closed = Deferred.fromCoroutine(client.close())
        self.assertEqual([r["type"] for r in client.link.sent], ["connect", "describe"])
        assert client.link.closed is not None
        client.link.closed.callback(None)
        self.successResultOf(closed)

    def test_refused(self) -> None:
        client = Client(resources="laser")
        connected = Deferred.fromCoroutine(client.connect())
        text = "Requested resources are not available"
        client.link.received([failure("ResourceAllocationError", text, result={})])
        assert client.link.closed is not None
        client.link.closed.callback(None)
        self.assertEqual(str(self.failed(connected, NotAllowed)), text)

    def test_no_answer(self) -> None:
        client = Client(timeout=2.0)
        connected = Deferred.fromCoroutine(client.connect())
        client.clock.advance(2.0)
        assert client.link.closed is not None
        client.link.closed.callback(None)
        self.failed(connected, TimedOut)
        self.failed(client.query("x"), NotConnected)

    def test_a_failed_description_leaves_no_lock(self) -> None:
        client = Client(resources="laser")
        connected = Deferred.fromCoroutine(client.connect())
        client.link.reply(client.granted("laser"))
        client.link.received([failure("OSError", "boom")])
        self.assertEqual(client.link.sent[-1], {"type": "disconnect", "timeout": 30.0})
        client.link.reply({"client_id": "x"})
        assert client.link.closed is not None
        client.link.closed.callback(None)
        self.assertEqual(self.failed(connected, DeviceFault).kind, "OSError")

    def test_only_after_connect(self) -> None:
        self.failed(Client().query("x"), NotConnected)


class Requests(ClientCase):
    """Requests and their answers, in turn."""

    def test_bytes(self) -> None:
        client = self.ready()
        for deferred, body in (
            (
                client.query("wavelength"),
                b'{"type": "query", "param": "wavelength", "timeout": null}',
            ),
            (
                client.write("wavelength", 1064.0),
                b'{"type": "write", "param": "wavelength", "value": 1064.0, "timeout": null}',
            ),
            (
                client.call("add", 2, b=40),
                b'{"type": "call", "func": "add", "args": [2], "kwargs": {"b": 40}, '
                b'"timeout": null}',
            ),
            (
                client.nap(0.01),
                b'{"type": "call", "func": "nap", "args": [0.01], "kwargs": {}, "timeout": 7.5}',
            ),
            (
                client.add(1, timeout=2.0),
                b'{"type": "call", "func": "add", "args": [1], "kwargs": {}, "timeout": 2.0}',
            ),
        ):
            self.assertEqual(client.link.bodies[-1], body)
            client.link.reply(5)
            self.assertEqual(self.successResultOf(deferred), 5)

    def test_one_at_a_time(self) -> None:
        client = self.ready()
        answers = [client.query(name) for name in "abc"]
        for name, answer in zip("abc", answers, strict=True):
            self.assertEqual(len(client.link.sent), 1)
            self.assertEqual(client.link.sent.pop()["param"], name)
            client.link.reply(name)
            self.assertEqual(self.successResultOf(answer), name)

    def test_many_at_a_time_where_the_server_numbers(self) -> None:
        client = self.ready(numbered=True)
        answers = [client.query(str(number)) for number in range(100)]
        sent = client.link.sent
        self.assertEqual(len(sent), conversation.MAX_IN_FLIGHT)
        for request in reversed(sent[:64]):
            client.link.reply(request["param"], id=request["id"])
        for request in sent[64:]:
            client.link.reply(request["param"], id=request["id"])
        for number, answer in enumerate(answers):
            self.assertEqual(self.successResultOf(answer), str(number))

    def test_the_description_names_the_methods(self) -> None:
        client = self.ready()
        self.assertRaises(AttributeError, getattr, client, "zap")
        self.assertRaises(AttributeError, getattr, Client(), "add")

    def test_any_status_but_error_is_success(self) -> None:
        client = self.ready()
        answer = client.query("x")
        client.link.received([b'{"status": "fine"}'])
        self.assertIsNone(self.successResultOf(answer))

    def test_what_cannot_be_sent(self) -> None:
        client = self.ready()
        error = self.failed(client.write("x", {1, 2}), BadArguments)
        self.assertIn("has no form in JSON", str(error))
        self.failed(client.query("x", timeout=0), OutOfRange)
        self.failed(client.query("x", timeout=-1), OutOfRange)
        self.assertEqual(client.link.sent, [])

    def test_help(self) -> None:
        client = self.ready()
        answer = client.help()
        client.link.reply({"help": "text"})
        self.assertEqual(self.successResultOf(answer), "text")

    def test_cancelled_answers_keep_their_place(self) -> None:
        client = self.ready()
        first, second, third = client.query("a"), client.query("b"), client.query("c")
        first.cancel()
        second.cancel()
        self.failureResultOf(first, CancelledError)
        self.failureResultOf(second, CancelledError)
        client.link.reply("a")
        self.assertEqual([request["param"] for request in client.link.sent], ["a", "c"])
        client.link.reply("c")
        self.assertEqual(self.successResultOf(third), "c")

    def test_close(self) -> None:
        client = self.ready()
        waiting = client.query("a")
        client.link.reply(1)
        closed = Deferred.fromCoroutine(client.close())
        self.assertEqual(self.successResultOf(waiting), 1)
        self.assertEqual(client.link.sent[-1], {"type": "disconnect", "timeout": 30.0})
        self.assertNoResult(closed)
        self.failed(client.query("b"), NotConnected)
        client.link.reply({})
        self.assertNoResult(closed)
        assert client.link.closed is not None
        client.link.closed.callback(None)
        self.successResultOf(closed)
        self.assertEqual(client.clock.getDelayedCalls(), [])

    def test_close_with_locks_waits_for_what_is_under_way(self) -> None:
        client = self.ready(resources=["laser"])
        waiting = client.query("a")
        closed = Deferred.fromCoroutine(client.close())
        self.assertEqual(client.link.sent[-1]["type"], "query")
        client.link.reply(1)
        self.assertEqual(self.successResultOf(waiting), 1)
        self.assertEqual(client.link.sent[-1]["type"], "disconnect")
        client.clock.advance(5)
        assert client.link.closed is not None
        client.link.closed.callback(None)
        self.successResultOf(closed)


class Silence(ClientCase):
    """Answers that come late or not at all."""

    def test_time_limits(self) -> None:
        for timeout, limit in ((None, 5.0), (2.0, 5.0), (20.0, 24.0)):
            client = self.ready()
            answer = client.query("x", timeout=timeout)
            client.clock.advance(limit - 0.01)
            self.assertNoResult(answer)
            client.clock.advance(0.02)
            self.failed(answer, TimedOut)

    def test_a_late_answer_reaches_nobody(self) -> None:
        client = self.ready()
        late, following = client.query("late"), client.query("next")
        old = client.link
        client.clock.advance(5)
        self.failed(late, TimedOut)
        self.assertIsNotNone(old.closed)
        self.assertIsNot(client.link, old)
        self.assertNotEqual(client.link.name, old.name)
        old.reply("late")
        self.greet(client)
        old.reply("late")
        self.assertNoResult(following)
        self.assertEqual(client.link.sent[-1]["param"], "next")
        client.link.reply("next")
        self.assertEqual(self.successResultOf(following), "next")

    def test_a_holder_keeps_its_name_and_waits_for_the_old_connection(self) -> None:
        client = self.ready(resources=["axis"])
        client.resources = ("axis/x", "axis/y")
        old = client.link
        self.failed_by_time(client, client.query("x"))
        self.assertIs(client.link, old)
        self.let_close(client)
        self.assertIsNot(client.link, old)
        self.assertEqual(client.link.name, old.name)
        self.catch_up(client)
        self.assertEqual(client.link.sent[1]["resources"], ["axis/x", "axis/y"])

    def let_close(self, client: Client) -> None:
        """The socket is closed, and the server has had time to notice."""
        assert client.link.closed is not None
        client.link.closed.callback(None)
        client.clock.advance(PAUSE)

    def catch_up(self, client: Client) -> None:
        """The server's side: the parameter that there is not."""
        name = client.link.sent[0]["param"]
        self.assertRegex(name, r"\Alabnet-[0-9a-f]{32}\Z")
        text = f"\"Config parameter '{name}' is not registered.\""
        client.link.received([failure("KeyError", text)])

    def test_a_late_answer_on_the_new_connection(self) -> None:
        """plesty-lib sends it to whoever has the name by then."""
        client = self.ready(client_id="exp")
        late, following = client.query("late"), client.query("next")
        self.failed_by_time(client, late)
        self.let_close(client)
        client.link.reply("late")
        self.assertEqual(len(client.link.sent), 1)
        self.catch_up(client)
        self.greet(client)
        self.assertEqual(client.link.sent[-1]["param"], "next")
        client.link.reply("next")
        self.assertEqual(self.successResultOf(following), "next")

    def test_a_server_that_names_no_parameters(self) -> None:
        client = self.ready(client_id="exp")
        late, following = client.query("late"), client.query("next")
        self.failed_by_time(client, late)
        self.let_close(client)
        client.link.received([failure("ValueError", "late")])
        self.assertEqual(len(client.link.sent), 1)
        client.link.received([failure("ValueError", "no such thing")])
        self.greet(client)
        client.link.reply("next")
        self.assertEqual(self.successResultOf(following), "next")

    def test_a_server_that_does_not_catch_up(self) -> None:
        client = self.ready(client_id="exp")
        late, following = client.query("late"), client.query("next")
        self.failed_by_time(client, late)
        self.let_close(client)
        client.clock.advance(5)
        self.failed(following, NotConnected)
        busy = client.link
        again = client.query("again")
        client.clock.advance(5)
        self.failed(again, NotConnected)
        self.assertIs(client.link, busy, "a busy server would not read from another one")
        self.assertEqual(len(busy.sent), 1)
        third = client.query("third")
        self.let_close(client)
        self.assertIsNot(client.link, busy)
        self.catch_up(client)
        self.greet(client)
        client.link.reply("third")
        self.assertEqual(self.successResultOf(third), "third")

    def test_close_while_a_server_is_busy(self) -> None:
        client = self.ready(client_id="exp", resources=["laser"])
        late, following = client.query("late"), client.query("next")
        self.failed_by_time(client, late)
        self.let_close(client)
        client.clock.advance(5)
        self.failed(following, NotConnected)
        closed = Deferred.fromCoroutine(client.close())
        self.let_close(client)
        self.successResultOf(closed)
        self.assertEqual(client.clock.getDelayedCalls(), [])

    def test_a_server_that_catches_up_late(self) -> None:
        client = self.ready(client_id="exp")
        late, following = client.query("late"), client.query("next")
        self.failed_by_time(client, late)
        self.let_close(client)
        client.clock.advance(5)
        self.failed(following, NotConnected)
        client.link.reply("late")
        self.catch_up(client)
        again = client.query("again")
        self.greet(client)
        client.link.reply("again")
        self.assertEqual(self.successResultOf(again), "again")
        self.assertEqual(len(client.links), 2)

    def failed_by_time(self, client: Client, answer: Deferred[Any]) -> None:
        client.clock.advance(5)
        self.failed(answer, TimedOut)

    def test_a_server_that_stays_away(self) -> None:
        client = self.ready()
        answers = [client.query(str(number)) for number in range(10)]
        self.failed_by_time(client, answers[0])
        client.clock.advance(5)
        for answer in answers[1:]:
            self.assertIn("no answer from tcp://fake", str(self.failed(answer, NotConnected)))
        count = len(client.links)
        client.clock.advance(1000)
        self.assertEqual(len(client.links), count)
        again = client.query("again")
        self.assertEqual(len(client.links), count + 1)
        self.greet(client)
        client.link.reply("here")
        self.assertEqual(self.successResultOf(again), "here")

    def test_locks_that_were_lost_meanwhile(self) -> None:
        client = self.ready(client_id="exp", resources=["laser"])
        first, second = client.query("a"), client.query("b")
        self.failed_by_time(client, first)
        self.let_close(client)
        self.catch_up(client)
        client.link.received([failure("ResourceAllocationError", "taken", result={})])
        self.failed(second, NotAllowed)

    def test_a_slow_device_of_a_numbering_server_costs_no_socket(self) -> None:
        client = self.ready(numbered=True)
        slow, quick = client.query("slow"), client.query("quick")
        client.link.reply("quick", id=client.link.sent[1]["id"])
        self.assertEqual(self.successResultOf(quick), "quick")
        self.failed_by_time(client, slow)
        following = client.query("next")
        client.link.reply("late", id=client.link.sent[0]["id"])
        self.assertNoResult(following)
        client.link.reply("next", id=client.link.sent[2]["id"])
        self.assertEqual(self.successResultOf(following), "next")
        self.assertEqual(len(client.links), 1)

    def test_a_silent_numbering_server_costs_the_socket(self) -> None:
        client = self.ready(numbered=True)
        first, second = client.query("a"), client.query("b")
        self.failed_by_time(client, first)
        self.failed(second, TimedOut)
        self.assertEqual(len(client.links), 2)

    def test_close_while_a_new_connection_is_made(self) -> None:
        for resting in (False, True):
            self.close_while_renewing(resting)

    def close_while_renewing(self, resting: bool) -> None:
        client = self.ready(client_id="exp")
        first, second = client.query("a"), client.query("b")
        self.failed_by_time(client, first)
        assert client.link.closed is not None
        if resting:
            client.link.closed.callback(None)
        closed = Deferred.fromCoroutine(client.close())
        self.failed(second, NotConnected)
        if not resting:
            client.link.closed.callback(None)
        self.successResultOf(closed)
        self.assertEqual(len(client.links), 1)
        self.assertEqual(client.clock.getDelayedCalls(), [])

    def test_bad_answers(self) -> None:
        for frames in ([b"{"], [b""], [b'{"status": "ok"}', b"x"], [b"\xff"], []):
            client = self.ready()
            answer = client.query("a")
            client.link.received(frames)
            self.assertEqual(self.failed(answer, DeviceFault).kind, "ProtocolError")
            self.assertEqual(len(client.links), 2)

    def test_answers_to_nobody(self) -> None:
        client = self.ready()
        client.link.reply("x")
        answer = client.query("a")
        self.assertNoResult(answer)
        client.link.reply("a")
        self.assertEqual(self.successResultOf(answer), "a")


class Errors(SynchronousTestCase):
    """Error replies, by the words of the stock device base."""

    def error(self, kind: str, text: str, result: Any = None) -> Any:
        return lab_error(parse_reply(failure(kind, text, result=result)), "x", 2.0)

    def test_known_forms(self) -> None:
        for kind, text, expected in (
            ("KeyError", "\"Config parameter 'nope' is not registered.\"", UnknownName),
            ("KeyError", "\"Grouped parameter 'a' requires full key format 'b'\"", UnknownName),
            ("AttributeError", "'ToyDevice' object has no attribute 'nope'", UnknownName),
            ("AttributeError", "unknown operation 'nope'", UnknownName),
            ("ValueError", "Config parameter 's' is read-only and cannot be set.", NotWritable),
            ("ValueError", "w Value 633 does not match expected type float", WrongType),
            ("ValueError", "Value 1.0 is below minimum of 185.0", OutOfRange),
            ("ValueError", "Value 1e9 is above maximum of 2500.0", OutOfRange),
            ("ValueError", "Value X is not in allowed options: ['W']", OutOfRange),
            ("TimeoutError", "Operation timed out", TimedOut),
            ("TimeoutError", "", TimedOut),
            ("ResourceAllocationError", "Requested resources are not available", NotAllowed),
        ):
            error = self.error(kind, text)
            self.assertIs(type(error), expected, text)
            if text:
                self.assertEqual(str(error), text.strip('"'))
        self.assertEqual(self.error("ValueError", "Value 1.0 is below minimum of 185.0").low, 185.0)

    def test_everything_else_is_the_devices_own(self) -> None:
        for kind, text in (
            ("KeyError", "'boom'"), ("ValueError", "boom"), ("TimeoutError", "boom"),
            ("RuntimeError", "x"), ("AttributeError", "x"), ("", "x"), ("TypeError", "bad call"),
        ):  # fmt: skip
            error = self.error(kind, text)
            self.assertIs(type(error), DeviceFault)
            self.assertEqual((error.kind, str(error)), (kind, text))
        self.assertEqual(str(self.error("ValueError", "")), "x failed with ValueError")

    def test_holders(self) -> None:
        holder = {"resource": "stage", "name": "ann", "wire": "tsv", "peer": "p", "age": 3}
        error = self.error("ResourceLockedError", "stage is locked by ann", {"holder": holder})
        self.assertIs(type(error), Locked)
        held = error.holder
        self.assertEqual((held.name, held.age, held.left), ("ann", 3.0, None))
        error = self.error("ResourceAllocationError", "no", {"unknown": ["nope"]})
        self.assertEqual(error.name, "nope")
        for odd in ([], {"holder": 5}, {"unknown": []}, {"holder": {"age": "x"}}):
            self.assertIsInstance(self.error("ResourceLockedError", "no", odd), LabError)


class LabnetServer(SynchronousTestCase):
    """labnet's client with labnet's server, without sockets between them."""

    def joined(self, client_class: Any, server: ToyServer, **options: Any) -> Any:
        """A client of `server`."""

        class Joined(client_class):  # type: ignore[misc]
            def _dial(self, received: Callable[[Sequence[bytes]], None]) -> Any:
                return Wire(server, self.client_id, received)

        return Joined("tcp://fake", reactor=server.clock, **options)

    def result(self, server: ToyServer, coroutine: Any) -> Any:
        deferred = Deferred.fromCoroutine(coroutine)
        for _ in range(100):
            server.clock.advance(0.01)
        return self.successResultOf(deferred)

    def test_everything(self) -> None:
        server = ToyServer(Clock())
        client = self.joined(PlestyClient, server, resources=["laser"], client_id="exp")
        self.result(server, client.connect())
        self.assertEqual(client.resources, ("laser",))
        self.assertTrue(client._talk.numbered)

        async def use() -> list[Any]:
            await client.write("MOTOR.position", 2)
            nap = client.nap(0.2)
            return [
                await client.query("motor.position"),
                await client.identity(),
                await client.get_config_list(),
                await client.add(1, b=2),
                await nap,
            ]

        position, identity, names, total, nap = self.result(server, use())
        self.assertEqual((position, total, nap), (2.0, 3, 0.2))
        self.assertEqual(identity, "PLESTY,ToyDevice,TOY-0001,1.0")
        self.assertIn("wavelength", names)
        other = self.joined(PlestyClient, server, resources=["laser"])
        error = self.failed(server, other.connect())
        self.assertEqual(error.holder.name, "exp")
        self.result(server, client.close())
        self.assertEqual(server.lab.locks.count, 0)

    def failed(self, server: ToyServer, coroutine: Any) -> Any:
        deferred = Deferred.fromCoroutine(coroutine)
        for _ in range(100):
            server.clock.advance(0.01)
        return self.failureResultOf(deferred, LabError).value

    def test_a_bench(self) -> None:
        server = ToyServer(Clock(), Options(token="sesame"), device=None)
        bench = self.joined(PlestyBench, server, token="sesame")
        self.result(server, bench.connect())
        self.assertEqual(bench.description["fleet"], ["toy"])

        async def use() -> list[Any]:
            toy = bench.device("toy")
            await toy.describe()
            return [await toy.add(1), await toy.query("averaging"), await toy.nap(0.1)]

        self.assertEqual(self.result(server, use()), [2, 10, 0.1])

        async def wrong() -> None:
            await bench.device("nope").query("x")

        self.assertIsInstance(self.failed(server, wrong()), LabError)
        self.result(server, bench.close())


class Wire:
    """One connection between a client and a server without a socket, with a turn between."""

    def __init__(
        self, server: ToyServer, name: str, received: Callable[[Sequence[bytes]], None]
    ) -> None:
        self.server = server
        self.peer: Peer = server.peer(name)
        self.received = received
        self.pending = False
        self.open = True

    def send(self, frames: Sequence[bytes]) -> bool:
        self.server.factory.messageReceived(self.peer, list(frames))
        self._look()
        return True

    def _look(self) -> None:
        """Replies that are there, now and for as long as the connection lasts."""
        if not self.pending:
            self.pending = True
            self.server.clock.callLater(0.005, self._deliver)

    def _deliver(self) -> None:
        self.pending = False
        for body in self.server.port.taken(self.peer):
            self.received([body])
        if self.open:
            self._look()

    def close(self) -> Deferred[None]:
        self.open = False
        self.server.lose(self.peer)
        closed: Deferred[None] = Deferred()
        self.server.clock.callLater(0.001, closed.callback, None)
        return closed


class Bytes(SynchronousTestCase):
    """The helpers of this file's fakes."""

    def test_reply(self) -> None:
        got: list[bytes] = []
        FakeLink("x", lambda frames: got.extend(frames)).reply(1)
        self.assertEqual(got, [success(1)])
