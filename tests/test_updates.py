"""Who hears of changes: when, of how many, and at whose cost."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, parameter
from labnet.errors import NotConnected
from labnet.registry import Node
from labnet.testing import FakeDevice, MemoryLab
from labnet.updates import Subscription, Update


class UpdateCase(SynchronousTestCase):
    """A stage with a sub-device, in a lab whose turns a test takes one by one."""

    def setUp(self) -> None:
        self.device = FakeDevice("home", position=0.0, velocity=1.0)
        self.head = FakeDevice(heat=20.0)
        self.device.add_device("head", self.head)
        self.lab = MemoryLab({"stage": self.device})
        self.session = self.lab.session(device="stage")
        self.heard: list[list[Update]] = []

    def listen(self, *paths: str) -> Subscription:
        return self.session.subscribe(list(paths), self.heard.append)

    def turn(self) -> list[tuple[str, str, Any, int]]:
        """What was heard in one turn: path, what, value, how many were missed."""
        self.heard.clear()
        self.lab.advance()
        self.assertLessEqual(len(self.heard), 1, "one list a turn")
        return [
            (u.path, u.what, None if u.reading is None else u.reading.value, u.missed)
            for batch in self.heard
            for u in batch
        ]


class HearingTests(UpdateCase):
    """Which changes are heard."""

    def test_a_parameter(self) -> None:
        self.listen("position")
        self.device.report("position", 5.0)
        self.device.report("velocity", 5.0)
        self.assertEqual(self.heard, [], "never inside the change")
        self.assertEqual(self.turn(), [("stage.position", "value", 5.0, 0)])
        self.assertEqual(self.turn(), [])

    def test_all_below_a_node(self) -> None:
        self.listen("stage")
        self.device.report("velocity", 2.0)
        self.head.report("heat", 30.0)
        self.assertEqual(self.turn(), [("stage.velocity", "value", 2.0, 0),
                                       ("stage.head.heat", "value", 30.0, 0)])  # fmt: skip

    def test_once_where_two_subscribed_nodes_cover_it(self) -> None:
        subscription = self.listen("head.heat", "stage", "head", "head.heat")
        self.assertEqual([node.path for node in subscription.nodes], ["stage"])
        self.head.report("heat", 30.0)
        self.assertEqual(len(self.turn()), 1)

    def test_writes_and_reads_of_clients(self) -> None:
        self.listen("position")
        other = self.lab.session("other", device="stage")
        self.lab.wait(other.set("position", 3))
        self.assertEqual(self.turn(), [("stage.position", "value", 3.0, 0)])
        self.device.values["position"] = 4.0
        self.lab.wait(other.get("position"))
        self.assertEqual(self.turn(), [("stage.position", "value", 4.0, 0)])

    def test_each_at_once(self) -> None:
        subscription = self.session.subscribe(["stage"], self.heard.append, at_once=True)
        for value in (1.0, 2.0, 2.0):
            self.device.report("position", value)
        values = [update.reading.value for (update,) in self.heard if update.reading is not None]
        self.assertEqual(values, [1.0, 2.0, 2.0])
        self.assertEqual(self.turn(), [], "nothing comes later")
        subscription.end()
        self.device.report("position", 3.0)
        self.assertEqual(self.heard, [])

    def test_a_failure_of_one_that_listens_at_once_is_not_the_devices(self) -> None:
        def fail(updates: list[Update]) -> None:
            raise ValueError("it is broken")

        self.session.subscribe(["position"], fail, at_once=True)
        self.listen("position")
        self.device.report("position", 5.0)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.turn(), [("stage.position", "value", 5.0, 0)])

    def test_members_that_join_later(self) -> None:
        self.listen("stage")
        self.device.declare("late", initial=1)
        self.device.report("late", 2)
        self.assertEqual(self.turn(), [("stage.late", "value", 2, 0)])

    def test_metadata(self) -> None:
        self.listen("position")
        self.device.change("position", unit="mm")
        self.device.change("velocity", unit="mm/s")
        self.assertEqual(self.turn(), [("stage.position", "metadata", 0.0, 0)])

    def test_locks(self) -> None:
        self.listen("stage")
        self.lab.wait(self.session.lock(["head"]))
        self.assertEqual(self.turn(), [("stage.head", "lock", None, 0)])
        (update,) = self.heard[0]
        self.assertEqual((update.detail.what, update.detail.owner), ("taken", self.session.owner))
        self.session.unlock()
        self.turn()
        self.assertEqual(self.heard[0][0].detail.what, "freed")

    def test_lost_and_back(self) -> None:
        self.listen("stage")
        self.lab.lose(self.lab.devices()["stage"], "no answer")
        self.assertEqual(self.turn(), [("stage", "lost", None, 0)])
        self.assertEqual(self.heard[0][0].detail, "no answer")
        self.lab.wait(self.session.connect())
        self.assertIn(("stage", "back", None, 0), self.turn())

    def test_departure(self) -> None:
        self.listen("stage")
        self.lab.wait(self.lab.detach("stage"))
        self.lab.advance()
        self.assertEqual([(u.path, u.what, u.detail) for batch in self.heard for u in batch],
                         [("stage", "lost", "it has left the lab")])  # fmt: skip

    def test_order_of_different_changes(self) -> None:
        self.listen("stage")
        self.device.report("position", 1.0)
        self.device.change("position", unit="mm")
        self.device.report("position", 2.0)
        self.assertEqual([u[1:3] for u in self.turn()], [("metadata", 1.0), ("value", 2.0)])


class SquashTests(UpdateCase):
    """Only the newest is told, with the number of those that were not."""

    def test_within_a_turn(self) -> None:
        self.listen("stage")
        for value in (1.0, 2.0, 3.0):
            self.device.report("position", value)
        self.device.report("velocity", 9.0)
        self.assertEqual(self.turn(), [("stage.position", "value", 3.0, 2),
                                       ("stage.velocity", "value", 9.0, 0)])  # fmt: skip
        self.device.report("position", 4.0)
        self.assertEqual(self.turn(), [("stage.position", "value", 4.0, 0)])

    def test_sequence_numbers_tell_the_gap(self) -> None:
        self.listen("position")
        self.device.report("position", 1.0)
        self.turn()
        first = self.heard[0][0].reading
        for value in (2.0, 3.0, 4.0):
            self.device.report("position", value)
        self.turn()
        update = self.heard[0][0]
        assert first is not None and update.reading is not None
        self.assertEqual(update.reading.sequence - first.sequence, update.missed + 1)


class SlowTests(UpdateCase):
    """A listener that takes its time, or fails."""

    def test_slow_listener_is_told_the_newest_when_it_is_ready(self) -> None:
        told: list[list[Update]] = []
        ready: list[Deferred[None]] = []

        def slow(updates: list[Update]) -> Deferred[None]:
            told.append(updates)
            ready.append(Deferred())
            return ready[-1]

        self.session.subscribe(["stage"], slow)
        self.listen("stage")
        for value in (1.0, 2.0, 3.0, 4.0):
            self.device.report("position", value)
            self.assertEqual(len(self.turn()), 1, "nobody else waits for it")
        self.assertEqual(len(told), 1)
        ready[0].callback(None)
        self.lab.advance()
        (update,) = told[1]
        assert update.reading is not None
        self.assertEqual((update.reading.value, update.missed), (4.0, 2))
        ready[1].callback(None)
        self.lab.advance()
        self.assertEqual(len(told), 2)
        self.device.report("position", 5.0)
        self.lab.advance()
        self.assertEqual(len(told), 3)

    def test_coroutine(self) -> None:
        told: list[list[Update]] = []
        ready: Deferred[None] = Deferred()

        async def slow(updates: list[Update]) -> None:
            told.append(updates)
            await ready

        self.session.subscribe(["stage"], slow)
        for value in (1.0, 2.0):
            self.device.report("position", value)
            self.lab.advance()
        self.assertEqual(len(told), 1)
        ready.callback(None)
        self.lab.advance()
        self.assertEqual(len(told), 2)

    def test_failing_listener_is_called_again(self) -> None:
        told: list[Any] = []

        def fails(updates: list[Update]) -> None:
            told.append(updates)
            raise ZeroDivisionError

        async def fails_later(updates: list[Update]) -> None:
            told.append(updates)
            raise ZeroDivisionError

        self.session.subscribe(["stage"], fails)
        self.session.subscribe(["stage"], fails_later)
        self.listen("stage")
        for value in (1.0, 2.0):
            self.device.report("position", value)
            self.assertEqual(len(self.turn()), 1)
        self.assertEqual(len(told), 4)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)

    def test_changes_made_by_a_listener_come_in_a_later_call(self) -> None:
        told: list[float] = []

        def more(updates: list[Update]) -> None:
            (update,) = updates
            assert update.reading is not None
            told.append(update.reading.value)
            if update.reading.value < 5:
                self.device.report("position", update.reading.value + 1)

        self.session.subscribe(["position"], more)
        self.device.report("position", 1.0)
        self.lab.advance()
        self.assertEqual(told, [1.0, 2.0, 3.0, 4.0, 5.0])


class EndTests(UpdateCase):
    """Nobody is told after the end."""

    def test_end(self) -> None:
        subscription = self.listen("position")
        self.device.report("position", 1.0)
        subscription.end()
        subscription.end()
        self.assertEqual(self.turn(), [])
        self.assertEqual(self.lab.updates.count, 0)
        self.assertFalse(subscription.live())

    def test_the_others_go_on(self) -> None:
        others: list[list[Update]] = []
        self.session.subscribe(["position"], others.append)
        self.listen("position").end()
        self.device.report("position", 1.0)
        self.assertEqual(self.turn(), [])
        self.assertEqual(len(others), 1)

    def test_end_of_the_session(self) -> None:
        self.listen("position")
        self.session.close()
        self.device.report("position", 1.0)
        self.assertEqual(self.turn(), [])
        with self.assertRaises(NotConnected):
            self.listen("position")

    def test_slow_listener_whose_session_ends(self) -> None:
        ready: Deferred[None] = Deferred()
        told: list[list[Update]] = []

        def slow(updates: list[Update]) -> Deferred[None]:
            told.append(updates)
            return ready

        self.session.subscribe(["position"], slow)
        for value in (1.0, 2.0):
            self.device.report("position", value)
            self.lab.advance()
        self.session.close()
        ready.callback(None)
        self.lab.advance()
        self.assertEqual(len(told), 1)

    def test_many_short_subscriptions_leave_nothing(self) -> None:
        for _ in range(100):
            self.listen("position").end()
        self.assertLessEqual(len(self.session._subscriptions), 1)
        self.assertEqual(self.lab.updates._by_node, {})


class Plain(Device):
    value = parameter(float)


class CostTests(SynchronousTestCase):
    """While nobody listens nothing is made."""

    def test_no_listener_no_call(self) -> None:
        plain = Plain()
        lab = MemoryLab({"plain": plain})
        published: list[Node] = []
        lab.updates.publish = lambda node, update: published.append(node)  # type: ignore
        plain.value = 1.0
        self.assertEqual((published, lab.net.getDelayedCalls()), ([], []))
        lab.session().subscribe(["plain"], lambda updates: None)
        plain.value = 2.0
        self.assertEqual([node.path for node in published], ["plain.value"])
