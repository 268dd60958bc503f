"""The Rogue mirror without sockets: a real server's tree and updates, loss and return."""

from __future__ import annotations

import pickle
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from labnet.errors import DeviceFault, NotConnected, TimedOut, TooLarge, UnknownName
from labnet.wires.rogue import mirror as mirrors
from labnet.wires.rogue.described import VariableInfo, describe, describe_all
from labnet.wires.rogue.mirrored import Node
from labnet.wires.rogue.model import VariableValue
from labnet.wires.rogue.pickles.reader import read_request
from tests.wires.rogue_fakes import Mirror, RogueCase

VOLTS = "Toy.Psu.Volts"
NONE = b"\x80\x04N."


def update_of(path: str, value: bytes) -> bytes:
    """An update with one value, which is given as pickle code."""
    begin = b"\x8c\x11pyrogue._Variable\x8c\x0dVariableValue\x93)\x81}\x8c\x05value"
    name = path.encode()
    return b"\x80\x04}\x8c" + bytes([len(name)]) + name + begin + value + b"sbs."


class Tree(RogueCase):
    """The tree of a real server."""

    def test_all_of_it(self) -> None:
        mirror = self.connected()
        self.assertEqual(mirror.top.name, "Toy")
        self.assertGreater(len(list(mirror)), 90)
        volts = mirror.node(VOLTS)
        self.assertTrue(volts.is_variable)
        self.assertFalse(volts.is_command or volts.is_device)
        self.assertTrue(mirror.node("Toy.Psu.Add").is_command)
        self.assertFalse(mirror.node("Toy.Psu.Add").is_variable)
        self.assertTrue(mirror.node("Toy.Ramp").is_process)
        self.assertTrue(mirror.top.is_device and mirror.node("Toy.Psu").is_device)
        self.assertIs(mirror.node("root.Psu.Volts"), volts)
        self.assertIs(mirror.node("root"), mirror.top)
        self.assertIn(volts, list(mirror.node("Toy.Psu").walk()))
        self.assertEqual(mirror.node("Toy.Ch[1].Gain").name, "Gain")

    def test_what_is_not_announced_is_left_out(self) -> None:
        """Real servers send children of the group NoServe, which they do not announce."""
        mirror = self.connected()
        self.assertRaises(UnknownName, mirror.node, "Toy.Psu.Unserved")

    def test_unknown(self) -> None:
        error = self.assertRaises(UnknownName, self.connected().node, "Toy.Psu.Vots")
        self.assertIn(VOLTS, error.near)

    def test_requests_that_need_not_ask_what_exists(self) -> None:
        mirror = self.connected()
        done = mirror.node(VOLTS).set(6.0)
        self.play(mirror, "virtual.set")
        self.assertIsNone(self.successResultOf(done))
        value = mirror.node(VOLTS).get()
        self.play(mirror, "virtual.get")
        self.assertEqual(self.successResultOf(value), 29.0)
        result = mirror.node("Toy.Psu.Add").exec(1)
        self.play(mirror, "virtual.call")
        self.assertEqual(self.successResultOf(result), 2)
        done = mirror.node(VOLTS).set_disp("6.5")
        self.play(mirror, "virtual.setDisp")
        self.assertIsNone(self.successResultOf(done))

    def test_too_many_nodes(self) -> None:
        self.patch(mirrors, "MAX_NODES", 50)
        self.refused(TooLarge)

    def test_too_many_levels(self) -> None:
        self.patch(mirrors, "MAX_DEPTH", 1)
        self.refused(TooLarge)

    def refused(self, kind: Any) -> None:
        mirror = Mirror()
        connecting = Deferred.fromCoroutine(mirror.connect())
        self.serve(mirror)
        self.failed(connecting, kind)
        self.assertTrue(mirror.link.closed and mirror.subs[-1].closed)
        self.assertEqual(mirror.clock.getDelayedCalls(), [])

    def test_nobody_there(self) -> None:
        mirror = Mirror(timeout=2.0)
        connecting = Deferred.fromCoroutine(mirror.connect())
        self.assertRaises(NotConnected, lambda: mirror.top)
        mirror.clock.advance(2.0)
        self.failed(connecting, NotConnected)
        self.assertTrue(mirror.link.closed and mirror.subs[-1].closed)
        self.failed(Deferred.fromCoroutine(mirror.connect()), NotConnected)

    def test_a_tree_that_is_none(self) -> None:
        mirror = Mirror()
        connecting = Deferred.fromCoroutine(mirror.connect())
        mirror.link.reply(NONE)
        self.failed(connecting, DeviceFault)

    def test_only_once(self) -> None:
        mirror = self.connected()
        self.failed(Deferred.fromCoroutine(mirror.connect()), NotConnected)
        self.assertFalse(mirror.link.closed)


class Updates(RogueCase):
    """What a real server published."""

    def setUp(self) -> None:
        super().setUp()
        self.mirror = self.connected()

    def test_recorded(self) -> None:
        heard: list[tuple[str, Any]] = []
        for node in self.mirror:
            node.listen(lambda node, value: heard.append((node.path, value.value)))
        for bodies in self.recording.published.values():
            for body in bodies:
                self.mirror.publish(body)
        self.assertEqual(self.mirror.counts["unreadable"], 0)
        self.assertEqual(self.mirror.counts["heard"], len(heard))
        self.assertGreater(len(heard), 40)
        volts = [value for path, value in heard if path == VOLTS]
        self.assertEqual(volts[-1], 7.0)
        self.assertEqual(self.mirror.node(VOLTS).value, 7.0)

    def test_values_with_their_texts(self) -> None:
        self.mirror.publish(self.recording.published["pub.bool"][0])
        node = self.mirror.node("Toy.Psu.On")
        assert node.last is not None
        self.assertEqual((node.value, node.last.value_disp), (True, "True"))
        self.assertEqual(node.last.enum, {False: "False", True: "True"})
        self.assertGreater(node.heard_at, 0)

    def test_before_the_first(self) -> None:
        self.assertRaises(DeviceFault, lambda: self.mirror.node(VOLTS).value)

    def test_fetched(self) -> None:
        heard: list[Any] = []
        node = self.mirror.node(VOLTS)
        node.listen(lambda node, value: heard.append(value))
        value = node.fetch()
        self.assertEqual(self.serve(self.mirror), [])
        self.assertEqual(self.successResultOf(value).value_disp, "6.250")
        self.assertEqual((node.value, len(heard)), (6.25, 1))
        value = node.fetch()
        self.mirror.link.reply(NONE)
        self.failed(value, DeviceFault)

    def test_no_longer_heard(self) -> None:
        heard: list[Any] = []
        stop = self.mirror.node(VOLTS).listen(lambda *_: heard.append(1))
        self.mirror.publish(update_of(VOLTS, b"K\x01"))
        stop()
        self.mirror.publish(update_of(VOLTS, b"K\x02"))
        self.assertEqual(heard, [1])

    def test_unreadable_ones(self) -> None:
        for body in (b"", b"null\n", b"garbage", NONE, b"\x80\x04]."):
            self.mirror.publish(body)
        self.assertEqual(self.mirror.counts["unreadable"], 4)
        self.mirror.publish(b"\x80\x04}.")  # some servers of version 5 do
        self.mirror.publish(update_of(VOLTS, b"K\x05"))
        self.assertEqual(self.mirror.node(VOLTS).value, 5)

    def test_values_of_unknown_classes(self) -> None:
        self.mirror.publish(update_of(VOLTS, b"cdatetime\ndatetime\n)R"))
        error = self.assertRaises(DeviceFault, lambda: self.mirror.node(VOLTS).value)
        self.assertEqual(error.kind, "datetime.datetime")

    def test_unknown_variables(self) -> None:
        self.mirror.publish(update_of("Toy.Nope", b"K\x05"))
        self.mirror.publish(b"\x80\x04}\x8c\x0dToy.Psu.VoltsK\x05s.")
        self.assertEqual(self.mirror.counts["unknown"], 2)

    def test_a_listener_that_fails(self) -> None:
        heard: list[Any] = []

        def fails(node: Node, value: VariableValue) -> None:
            raise RuntimeError("no")

        node = self.mirror.node(VOLTS)
        node.listen(fails)
        node.listen(lambda *_: heard.append(1))
        self.mirror.publish(update_of(VOLTS, b"K\x05"))
        self.assertEqual(heard, [1])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_nothing_after_the_end(self) -> None:
        sub = self.mirror.subs[-1]
        self.successResultOf(self.mirror.close())
        self.assertTrue(sub.closed)
        sub.received([update_of(VOLTS, b"K\x05")])
        self.assertIsNone(self.mirror.node(VOLTS).last)
        self.assertEqual(self.mirror.clock.getDelayedCalls(), [])


class Links(RogueCase):
    """A server that falls silent, and comes back."""

    def setUp(self) -> None:
        super().setUp()
        self.mirror = self.connected(link_timeout=10.0)
        self.told: list[Any] = []
        self.mirror.on_link(self.told.append)
        self.mirror.on_tree(lambda: self.told.append("tree"))
        self.mirror.on_lost(lambda: self.told.append("lost"))

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.mirror.clock.advance(1.0)

    def lose(self) -> None:
        self.wait(10)
        self.assertEqual(self.told, [False, "lost"])
        self.told.clear()

    def test_updates_are_signs_of_life(self) -> None:
        for _ in range(30):
            self.wait(1)
            self.mirror.publish(update_of("Toy.Time", b"K\x05"))
        self.assertTrue(self.mirror.linked and self.mirror.updating)
        self.assertEqual(self.mirror.link.waiting, [])
        self.assertEqual(self.told, [])

    def test_an_answer_is_a_sign_of_life(self) -> None:
        self.wait(5)
        self.assertEqual(read_request(self.mirror.link.bodies[-1])["attr"], "name")
        self.mirror.link.reply(pickle.dumps("Toy", 4))
        self.wait(4)
        self.assertEqual(self.told, [])

    def test_lost(self) -> None:
        self.lose()
        self.assertFalse(self.mirror.linked)

    def test_connections_that_end(self) -> None:
        """A server that restarts is noticed at once, and its tree is loaded anew."""
        for end in (lambda: self.mirror.subs[-1].lose(), lambda: self.mirror.link.lose()):
            end()
            self.assertFalse(self.mirror.linked or self.mirror.updating)
            self.mirror.link.reply_to("name", pickle.dumps("Toy", 4))
            self.assertTrue(self.mirror.linked)
            self.assertIn(b"__ROOT__", self.mirror.link.bodies[-1])
            self.serve(self.mirror)
        self.assertEqual(self.told, [False, "lost", True, False, True])

    def test_back_but_slow(self) -> None:
        """The tree is asked for until the server has told it."""
        self.mirror.subs[-1].lose()
        for _ in range(2):
            self.mirror.publish(update_of("Toy.Time", b"K\x05"))
            self.mirror.clock.advance(5.0)
        self.assertTrue(self.mirror.linked)
        self.mirror.clock.advance(1.0)
        self.assertIn(b"__ROOT__", self.mirror.link.bodies[-1])
        self.assertFalse(self.mirror._stale)
        self.mirror.clock.advance(0.0)
        self.serve(self.mirror)
        self.wait(1)
        self.assertFalse(self.mirror._stale or self.mirror._loading)

    def test_a_listener_that_closes(self) -> None:
        self.mirror.on_link(lambda up: self.mirror.close())
        self.mirror.subs[-1].lose()
        self.assertEqual(self.mirror.clock.getDelayedCalls(), [])
        self.assertTrue(all(link.closed for link in self.mirror.links + self.mirror.subs))

    def test_connections_that_end_before_the_tree_is_there(self) -> None:
        mirror = Mirror()
        connecting = Deferred.fromCoroutine(mirror.connect())
        mirror.subs[-1].lose()
        mirror.link.lose()
        self.failed(connecting, NotConnected)

    def test_back_by_an_update(self) -> None:
        first = self.mirror.subs[-1]
        self.mirror.publish(update_of(VOLTS, b"K\x05"))
        self.lose()
        self.assertTrue(first.closed)  # it may be that only this connection was dead
        self.mirror.publish(update_of("Toy.Time", b"K\x05"))
        self.assertEqual(self.told, [True])
        self.assertTrue(self.mirror.linked and self.mirror.updating)
        volts = self.mirror.node(VOLTS)
        asked = self.serve(self.mirror)
        self.assertIs(self.mirror.node(VOLTS), volts)
        self.assertEqual(self.told, [True])  # the tree is the same
        known = {read_request(body)["path"] for body in asked if b"getVariableValue" in body}
        self.assertEqual(known, {"Toy.Time"})
        self.assertEqual(volts.value, 6.25)  # asked for again, as recorded

    def test_back_by_an_answer(self) -> None:
        self.lose()
        self.wait(5)
        self.mirror.link.reply(pickle.dumps("Toy", 4))
        self.assertEqual(self.told, [True])
        self.assertFalse(self.mirror.updating)

    def test_back_with_another_tree(self) -> None:
        heard: list[Any] = []
        self.mirror.node("Toy.Time").listen(lambda *_: heard.append(1))
        self.lose()
        self.mirror.publish(update_of("Toy.Time", b"K\x05"))
        self.mirror.link.reply_to(None, self.recording.exchange("virtual.connect")[1])
        nodes = self.recording.exchange("virtual.children.of-variable")[1]
        self.mirror.link.reply_to("nodes", nodes)
        self.assertEqual(self.told, [True, "tree"])
        self.assertEqual(list(self.mirror), [self.mirror.top])
        self.assertRaises(UnknownName, self.mirror.node, VOLTS)
        self.assertEqual(heard, [1])

    def test_back_and_away_again(self) -> None:
        self.lose()
        self.mirror.publish(update_of("Toy.Time", b"K\x05"))
        self.wait(5)
        self.assertEqual(self.told, [True])
        self.wait(5)
        self.assertEqual(self.told, [True, False])

    def test_dead_updates(self) -> None:
        """Answers come but no updates: they are subscribed to again."""
        first = self.mirror.subs[-1]
        for _ in range(12):
            self.wait(1)
            if self.mirror.link.waiting:
                self.mirror.link.reply(pickle.dumps("Toy", 4))
        self.assertTrue(self.mirror.linked)
        self.assertFalse(self.mirror.updating)
        self.assertTrue(first.closed)
        first.received([update_of(VOLTS, b"K\x05")])
        self.assertIsNone(self.mirror.node(VOLTS).last)
        self.mirror.publish(update_of(VOLTS, b"K\x05"))
        self.assertTrue(self.mirror.updating)

    def test_requests_to_a_lost_server(self) -> None:
        value = self.mirror.node(VOLTS).get()
        self.wait(5)
        self.failed(value, TimedOut)


class Described(RogueCase):
    """What is known of a variable besides its place."""

    ANSWERS = {
        "mode": "RO", "typeStr": "float", "units": "V", "disp": "{:.3f}", "enum": None,
        "minimum": 0.0, "maximum": 30, "lowAlarm": 1.0, "lowWarning": None, "highWarning": 28.0,
        "highAlarm": 29.0, "pollInterval": 0,
    }  # fmt: skip

    def test_a_variable(self) -> None:
        mirror = self.connected()
        info = describe(mirror.node(VOLTS))
        self.answer(mirror, self.ANSWERS)
        told = self.successResultOf(info)
        self.assertEqual(told.value.value, 6.25)
        expected = VariableInfo(
            mode="RO", type="float", units="V", disp="{:.3f}", minimum=0.0, maximum=30,
            low_alarm=1.0, high_warning=28.0, high_alarm=29.0, value=told.value,
        )  # fmt: skip
        self.assertEqual(told, expected)

    def answer(self, mirror: Mirror, answers: dict[str, Any]) -> None:
        while mirror.link.waiting:
            body = mirror.link.bodies[-len(mirror.link.waiting)]
            attr = read_request(body)["attr"]
            if attr in answers:
                mirror.link.reply(pickle.dumps(answers[attr], 4))
            else:
                answer = self.recording.answer("bin", body)
                if attr == "getVariableValue":
                    answer = self.recording.exchange("virtual.getVariableValue")[1]
                mirror.link.reply(answer or pickle.dumps(KeyError("no"), 4))

    def test_nonsense(self) -> None:
        mirror = self.connected()
        info = describe(mirror.node(VOLTS))
        nonsense: list[Any] = [1, "x", None, True, [], {}, "-", float("nan"), b"", 5, 7, "RW", ""]
        self.answer(mirror, dict(zip(self.ANSWERS, nonsense, strict=False)))
        told = self.successResultOf(info)
        self.assertEqual((told.mode, told.type, told.units, told.enum), ("RW", "x", "", None))
        self.assertEqual((told.minimum, told.maximum, told.disp), (None, None, ""))

    def test_what_is_refused_is_left_out(self) -> None:
        mirror = self.connected()
        nodes = [mirror.node(VOLTS), mirror.node("Toy.Psu.Add")]
        infos = Deferred.fromCoroutine(describe_all(nodes))
        self.answer(mirror, {"arg": True, "typeStr": "int"})
        first, second = self.successResultOf(infos)
        self.assertEqual((first.mode, first.units), ("RW", "V"))
        self.assertEqual((second.takes, second.type, second.value), (True, "int", None))

    def test_nobody_answers(self) -> None:
        mirror = self.connected()
        info = describe(mirror.node(VOLTS))
        mirror.clock.advance(5.0)
        failure: Failure = self.failureResultOf(info)
        self.assertIsInstance(failure.value, TimedOut)
