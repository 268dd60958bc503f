"""Questions and answers in any order, late, lost, cancelled: each gets its own answer or none."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import NotConnected, TimedOut
from labnet.wires.rogue.conversation import MAX_IN_FLIGHT, MAX_OLD_LINES, Conversation
from tests.wires.rogue_fakes import FakeLink, Received

numbers = st.integers(0, 1000)
steps = st.lists(
    st.tuples(st.just("ask"), st.sampled_from((0.5, 1.0, 5.0)))
    | st.tuples(st.just("answer"), numbers)
    | st.tuples(st.just("wait"), st.sampled_from((0.1, 0.5, 1.0)))
    | st.tuples(st.just("cancel"), numbers)
    | st.tuples(st.just("lose"), numbers)
    | st.tuples(st.just("nonsense"), numbers),
    max_size=200,
)


class World:
    """A conversation, its sockets, and what became of each question."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.links: list[FakeLink] = []
        self.asked: list[Deferred[bytes]] = []
        self.outcomes: dict[bytes, Any] = {}
        self.talk = Conversation(self.dial, "there", self.clock)

    def dial(self, received: Received) -> FakeLink:
        self.links.append(FakeLink(received))
        return self.links[-1]

    def ask(self, limit: float) -> None:
        body = b"%d" % len(self.asked)
        self.asked.append(self.talk.ask(body, "it", limit))
        self.asked[-1].addBoth(self.done, body)

    def done(self, outcome: Any, body: bytes) -> None:
        assert body not in self.outcomes, "answered twice"
        self.outcomes[body] = outcome

    def answer(self, number: int) -> None:
        """An answer to any question that was ever sent, over any socket that was ever open."""
        link = self.links[number % len(self.links)] if self.links else None
        if link is not None and link.sent:
            *envelope, body = link.sent[number % len(link.sent)]
            link.received([*envelope, b"answer to " + body])

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def cancel(self, number: int) -> None:
        if self.asked:
            self.asked[number % len(self.asked)].cancel()

    def lose(self, number: int) -> None:
        live = [link for link in self.links if not link.closed]
        if live:
            live[number % len(live)].lose()

    def nonsense(self, number: int) -> None:
        for link in self.links[-1:]:
            link.received([b"\0\0\0\0", b"", b"x"] if number % 2 else [b"x"])


class Conversations(SynchronousTestCase):
    """Any order of events."""

    @given(steps)
    @settings(deadline=None, max_examples=400)
    def test_each_gets_its_own_answer(self, steps: list[tuple[str, Any]]) -> None:
        world = World()
        for name, argument in steps:
            getattr(world, name)(argument)
            live = sum(not link.closed for link in world.links)
            self.assertLessEqual(live, MAX_OLD_LINES + 1)
        world.talk.close()
        self.assertEqual(len(world.outcomes), len(world.asked))
        for body, outcome in world.outcomes.items():
            if isinstance(outcome, Failure):
                outcome.trap(TimedOut, NotConnected, CancelledError)
            else:
                self.assertEqual(outcome, b"answer to " + body)
        self.assertTrue(all(link.closed for link in world.links))
        self.assertEqual(world.clock.getDelayedCalls(), [])

    @given(st.integers(1, 5 * MAX_IN_FLIGHT))
    @settings(deadline=None, max_examples=30)
    def test_no_more_than_so_many_are_sent(self, count: int) -> None:
        world = World()
        for _ in range(count):
            world.ask(5.0)
        self.assertEqual(len(world.links[0].sent), min(count, MAX_IN_FLIGHT))
        while world.links[0].waiting:
            world.links[0].reply(b"")
        self.assertEqual(len(world.outcomes), count)
        world.talk.close()
