"""The PLESTY client when answers come late or not at all."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from labnet.errors import (
    DeviceFault,
    NotAllowed,
    NotConnected,
    TimedOut,
)
from labnet.wires.plesty.client import PAUSE
from labnet.wires.plesty.codec import failure
from tests.wires.plesty_fakes import Client, ClientCase


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
