"""The PLESTY client without sockets: the start, requests in turn, errors."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
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
from labnet.wires.plesty import conversation
from labnet.wires.plesty.codec import failure, parse_reply
from labnet.wires.plesty.faults import lab_error
from tests.wires.plesty_fakes import DESCRIPTION, Client, ClientCase


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
