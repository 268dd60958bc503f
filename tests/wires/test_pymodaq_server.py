"""Modules that dial in are devices of the lab: names, members, loss and return, other wires."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, parameter
from labnet.errors import (
    DeviceFault,
    Locked,
    NotConnected,
    NotWritable,
    OutOfRange,
    UnknownName,
)
from labnet.lab import Lab, ServeOptions
from labnet.registry import ParameterNode
from labnet.values import LabeledArray, Limits
from labnet.wires.pymodaq.codec import (
    Axis,
    Data,
    DataToExport,
    Done,
    Generation,
    Info,
    Infos,
    MoveAbs,
    Quit,
    SendData,
    SetInfo,
    Setting,
    StopMotion,
)
from labnet.wires.pymodaq.frames import from_frame
from labnet.wires.pymodaq.panel import Panel, valid_name
from labnet.wires.pymodaq.server import Options, devices, listen
from tests.wires.pymodaq_module import FakeModule

B, C4, D = Generation.B, Generation.C4, Generation.D

NAMES = st.from_regex(r"[A-Za-z_\u00b5][A-Za-z0-9_.-]{0,6}", fullmatch=True)
TYPES = st.sampled_from(
    ["int", "float", "str", "bool", "list", "itemselect", "action", "date", "table_view", "odd"]
)
TEXTS = st.one_of(
    st.text(max_size=8), st.sampled_from(["[1, 5]", "['a', 'b']", "{'a': 1}", "[None, 3]", "[[]]"])
)
VALUES = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.none()))
LEAVES = st.builds(
    Setting,
    name=NAMES,
    type=TYPES,
    value=VALUES,
    title=st.text(max_size=12),
    readonly=st.booleans(),
    attributes=st.dictionaries(st.sampled_from(["limits", "suffix", "values"]), TEXTS, max_size=3),
)


def trees() -> Any:
    """Trees of settings of any names, types, limits and values, fitting or not."""
    groups = st.recursive(
        LEAVES,
        lambda below: st.builds(
            Setting,
            name=NAMES,
            type=st.just("group"),
            children=st.lists(below, max_size=4).map(tuple),
        ),
        max_leaves=8,
    )
    return st.builds(
        Setting,
        name=NAMES,
        type=st.just("group"),
        children=st.lists(groups, max_size=5).map(tuple),
    )


class ServerCase(SynchronousTestCase):
    """A lab in which modules may dial in."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.lab = Lab(self.reactor, self.reactor)
        self.session = self.lab.open_session("test", "here", timeout=10.0)

    def listen(self, **options: Any) -> Any:
        listening = Deferred.fromCoroutine(
            listen(self.lab, "tcp:6341", ServeOptions("modules"), Options(**options), self.reactor)
        )
        self.listener = self.successResultOf(listening)
        return self.reactor.tcpServers[-1][1]

    def advance(self, seconds: float) -> None:
        self.reactor.pump([0.25] * round(seconds * 4))

    def actuator(self, factory: Any, at: float = 1.25, **about: Any) -> FakeModule:
        """An actuator that has introduced itself."""
        fake = FakeModule(factory, **about)
        fake.answer_questions(at)
        return fake

    def value(self, path: str) -> Any:
        return self.successResultOf(self.session.get(path)).value


class NameTests(ServerCase):
    """Which module is which device."""

    def peers(self) -> dict[str, str]:
        """The host of the module that each device is."""
        return {
            name: node.device.peer.rpartition(":")[0]
            for name, node in self.lab.devices().items()
            if node.device_queue.unavailable is None
        }

    def test_in_the_order_of_arrival(self) -> None:
        factory = self.listen(actuators=("stage", "rotor"), grabbers=("camera",))
        self.assertEqual(list(self.lab.devices()), ["stage", "rotor", "camera"])
        self.assertEqual(self.peers(), {})
        for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"):
            self.actuator(factory, host=host)
        FakeModule(factory, "GRABBER", host="10.0.0.5")
        FakeModule(factory, "GRABBER", host="10.0.0.6")
        self.assertEqual(
            self.peers(),
            {
                "stage": "10.0.0.1", "rotor": "10.0.0.2", "camera": "10.0.0.5",
                "actuator1": "10.0.0.3", "actuator2": "10.0.0.4", "grabber1": "10.0.0.6",
            },
        )  # fmt: skip

    def test_by_address(self) -> None:
        factory = self.listen(actuators=("stage@10.0.0.7", "rotor"))
        self.actuator(factory, host="10.0.0.1")
        self.actuator(factory, host="10.0.0.2")
        self.actuator(factory, host="10.0.0.7")
        hosts = {"rotor": "10.0.0.1", "actuator1": "10.0.0.2", "stage": "10.0.0.7"}
        self.assertEqual(self.peers(), hosts)

    def test_by_title(self) -> None:
        factory = self.listen(actuators=("stage", "rotor"))
        for host, title in (("10.0.0.1", "rotor"), ("10.0.0.2", "other")):
            FakeModule(factory, host=host).answer_questions(title=title)
        self.assertEqual(self.peers(), {"rotor": "10.0.0.1", "stage": "10.0.0.2"})

    def test_back_under_the_same_name(self) -> None:
        factory = self.listen(actuators=("stage", "rotor"))
        fakes = [self.actuator(factory, host=f"10.0.0.{number}") for number in (1, 2, 3)]
        before = {name: node.path for name, node in self.lab.devices().items()}
        for fake in fakes:
            fake.vanish()
        self.assertEqual(self.peers(), {})
        for number in (3, 2, 1):
            self.actuator(factory, host=f"10.0.0.{number}")
        self.assertEqual(
            self.peers(), {"stage": "10.0.0.1", "rotor": "10.0.0.2", "actuator1": "10.0.0.3"}
        )
        self.assertEqual({name: node.path for name, node in self.lab.devices().items()}, before)

    def test_numbers_that_are_taken(self) -> None:
        self.lab.attach("actuator1", Device())
        self.actuator(self.listen())
        self.assertEqual(list(self.lab.devices()), ["actuator1", "actuator2"])

    def test_one_that_says_nothing_when_asked(self) -> None:
        factory = self.listen(actuators=("stage",))
        FakeModule(factory, generation=B, settings=None)
        self.advance(1.0)
        self.assertEqual(self.peers(), {})
        self.advance(1.0)
        self.assertEqual(self.peers(), {"stage": "127.0.0.1"})

    def test_names_in_the_section(self) -> None:
        made = devices(Options(actuators=("stage", "rotor@10.0.0.1"), grabbers=("camera",)))
        self.assertEqual(list(made), ["stage", "rotor", "camera"])
        for names in (("no name",), ("a", "a"), ("@10.0.0.1",)):
            self.assertRaises(ValueError, devices, Options(actuators=names))

    def test_the_end_of_the_listener(self) -> None:
        factory = self.listen(actuators=("stage",))
        fakes = [self.actuator(factory), FakeModule(factory, "GRABBER")]
        stopping = Deferred.fromCoroutine(self.listener.stop())
        self.assertTrue(all(fake.dropped for fake in fakes))
        for fake in fakes:
            fake.vanish()
        self.advance(6)
        self.successResultOf(stopping)
        self.assertEqual(dict(self.lab.devices()), {})


class ActuatorTests(ServerCase):
    """An actuator as a device."""

    def setUp(self) -> None:
        super().setUp()
        self.factory = self.listen(actuators=("stage",))

    def test_not_yet(self) -> None:
        error = self.failureResultOf(self.session.get("stage.position"), NotConnected)
        self.assertIn("no module has dialled in yet", error.getErrorMessage())
        self.failureResultOf(self.session.connect("stage"), NotConnected)
        self.actuator(self.factory)
        self.successResultOf(self.session.connect("stage"))

    def test_members(self) -> None:
        self.actuator(self.factory)
        node = self.lab.devices()["stage"]
        found = {child.relative() for child in node.walk() if child is not node}
        self.assertLessEqual(
            {"position", "move_abs", "move_rel", "move_home", "stop_motion", "moving", "settings"},
            found,
        )
        self.assertEqual(self.session.resolve("stage.stop").name, "stop_motion")
        self.assertEqual(self.value("stage.generation"), "C4")
        position = self.session.resolve("stage.position")
        assert isinstance(position, ParameterNode)
        self.assertEqual(position.spec.unit, "mm")

    def test_position(self) -> None:
        fake = self.actuator(self.factory)
        asked = self.session.get("stage.position")
        fake.answer_questions(7.5)
        self.assertEqual(self.successResultOf(asked).value, 7.5)
        self.failureResultOf(self.session.set("stage.position", 1.0), NotWritable)

    def test_moves(self) -> None:
        fake = self.actuator(self.factory)
        moved = self.session.call("stage.move_abs", 3.25)
        (order,) = fake.orders()
        assert isinstance(order, MoveAbs)
        self.assertEqual(order.position.value, 3.25)
        self.assertTrue(self.value("stage.moving"))
        asked = self.session.get("stage.position")  # the device is free meanwhile
        fake.answer_questions(2.0)
        self.assertEqual(self.successResultOf(asked).value, 2.0)
        fake.has_moved(3.25)
        self.assertEqual(self.successResultOf(moved), 3.25)
        self.assertFalse(self.value("stage.moving"))

    def test_stopped_by_another(self) -> None:
        fake = self.actuator(self.factory)
        moved = self.session.call("stage.move_abs", 9.0)
        other = self.lab.open_session("test", "there", timeout=10.0)
        stopped = other.stop("stage")
        self.assertIsInstance(fake.orders()[1], StopMotion)
        fake.has_moved(4.0)
        self.assertEqual(self.successResultOf(stopped), 4.0)
        self.failureResultOf(moved, DeviceFault)

    def test_unasked_positions_are_updates(self) -> None:
        fake = self.actuator(self.factory)
        told: list[Any] = []
        self.session.subscribe(["stage.position"], told.extend)
        fake.is_at(5.0)
        self.reactor.advance(0)
        self.assertEqual([(it.path, it.reading.value) for it in told], [("stage.position", 5.0)])
        del told[:]
        asked = self.session.get("stage.position")
        fake.answer_questions(6.0)
        self.reactor.advance(0)
        self.successResultOf(asked)
        self.assertEqual([(it.reading.value, it.missed) for it in told], [(6.0, 0)])

    def test_gone_in_the_middle(self) -> None:
        fake = self.actuator(self.factory)
        waiting = [
            self.session.call("stage.move_abs", 9.0),
            self.session.get("stage.position"),
            self.session.set("stage.settings.velocity", 3.0),
        ]
        fake.vanish()
        for it in (*waiting, self.session.get("stage.position"), self.session.stop("stage")):
            error = self.failureResultOf(it, NotConnected)
            self.assertIn("its connection is lost", error.getErrorMessage())

    def test_back_with_its_listeners_and_locks(self) -> None:
        fake = self.actuator(self.factory)
        told: list[Any] = []
        self.session.subscribe(["stage"], told.extend)
        self.successResultOf(self.session.lock(["stage"]))
        fake.say(Quit())
        fake.vanish()
        self.reactor.advance(0)
        self.assertEqual((told[-1].what, told[-1].detail), ("lost", "it has said goodbye"))
        del told[:]
        again = self.actuator(self.factory, at=8.0)
        self.reactor.advance(0)
        self.assertIn("back", [it.what for it in told])
        again.is_at(9.0)
        self.reactor.advance(0)
        self.assertEqual(told[-1].reading.value, 9.0)
        other = self.lab.open_session("test", "there")
        self.failureResultOf(other.call("stage.move_abs", 1.0), Locked)

    def test_time_limits(self) -> None:
        self.actuator(self.factory)
        moved, asked = self.session.call("stage.move_abs", 9.0), self.session.get("stage.position")
        self.advance(11)
        self.failureResultOf(asked)
        self.assertNoResult(moved)
        self.advance(50)
        self.failureResultOf(moved)


class SettingTests(ServerCase):
    """A module's settings as parameters."""

    def setUp(self) -> None:
        super().setUp()
        self.fake = self.actuator(self.listen(actuators=("stage",)))

    def spec(self, path: str) -> Any:
        node = self.session.resolve(path)
        assert isinstance(node, ParameterNode)
        return node.spec

    def test_what_is_known_of_them(self) -> None:
        velocity = self.spec("stage.settings.velocity")
        self.assertEqual(velocity.kind.name, "float")
        self.assertEqual((velocity.unit, velocity.limits), ("mm/s", Limits(0.1, 20.0)))
        self.assertEqual(velocity.help, "Velocity (mm/s)")
        self.assertEqual(self.spec("stage.settings.model").access, "r")
        self.assertEqual(list(self.spec("stage.settings.mode").choices), ["fast", "slow"])
        self.assertEqual(self.spec("stage.settings.deep.in_ner").kind.name, "int")
        self.assertEqual(self.spec("stage.settings.deep.in_ner").aliases, ("in.ner",))
        values = {name: self.value(f"stage.settings.{name}") for name in ("enabled", "model")}
        self.assertEqual(values, {"enabled": True, "model": "SIM & more"})

    def test_written_here(self) -> None:
        written = self.session.set("stage.settings.deep.in_ner", 8)
        order = self.fake.orders()[-1]
        assert isinstance(order, SetInfo)
        self.assertEqual(order.path, ("move_settings", "deep", "in.ner"))
        self.fake.changes(order.path, order.xml)
        self.assertEqual(self.successResultOf(written).value, 8)
        self.failureResultOf(self.session.set("stage.settings.velocity", 50.0), OutOfRange)
        self.failureResultOf(self.session.set("stage.settings.mode", "idle"), OutOfRange)
        self.failureResultOf(self.session.set("stage.settings.model", "x"), NotWritable)
        self.assertEqual(self.fake.orders(), [])

    def test_changed_there(self) -> None:
        told: list[Any] = []
        self.session.subscribe(["stage.settings"], told.extend)
        self.fake.changes(
            ("move_settings", "velocity"),
            '<velocity type="float" title="Velocity (mm/s):" limits="[0.1, 30.0]">7.5</velocity>',
        )
        self.reactor.advance(0)
        self.assertEqual([it.what for it in told], ["metadata", "value"])
        self.assertEqual(told[1].reading.value, 7.5)
        self.assertEqual(self.spec("stage.settings.velocity").limits, Limits(0.1, 30.0))

    def test_one_update_for_one_write(self) -> None:
        told: list[Any] = []
        self.session.subscribe(["stage.settings"], told.extend)
        written = self.session.set("stage.settings.velocity", 2.0)
        order: Any = self.fake.orders()[-1]
        self.fake.changes(order.path, order.xml)
        self.successResultOf(written)
        self.reactor.advance(0)
        self.assertEqual([(it.reading.value, it.missed) for it in told], [(2.0, 0)])

    def test_another_tree(self) -> None:
        node = self.session.resolve("stage.settings.velocity")
        self.fake.say(
            Infos(
                '<move_settings type="group"><velocity type="float">3.5</velocity>'
                '<gain type="int">4</gain></move_settings>'
            )
        )
        self.assertIs(self.session.resolve("stage.settings.velocity"), node)
        self.assertEqual(self.value("stage.settings.velocity"), 3.5)
        self.assertEqual(self.value("stage.settings.gain"), 4)
        self.failureResultOf(self.session.get("stage.settings.enabled"), UnknownName)

    def test_another_tree_when_it_comes_back(self) -> None:
        self.fake.vanish()
        self.actuator(
            self.listener.reception.modules,
            settings='<move_settings type="group"><units type="str">um</units></move_settings>',
        )
        self.assertEqual(self.value("stage.settings.units"), "um")
        self.failureResultOf(self.session.get("stage.settings.velocity"), UnknownName)

    def test_lines_of_information(self) -> None:
        self.fake.say(Info("room temperature", "21"), Info("room temperature", "22"))
        self.assertEqual(self.value("stage.info.room_temperature"), "22")
        self.fake.vanish()
        again = self.actuator(self.listener.reception.modules)
        again.say(Info("room temperature", "23"))
        self.assertEqual(self.value("stage.info.room_temperature"), "23")

    def test_names(self) -> None:
        names = {"a": "a", "in.ner": "in_ner", "9": "x9", "": "x", "_a": "x_a", "\u00b5": "x_"}
        for text, name in names.items():
            self.assertEqual(valid_name(text), name)
        self.assertEqual(valid_name("a.b", ["a_b", "a_b_2"]), "a_b_3")

    def test_very_many(self) -> None:
        many = "".join(f'<a{n} type="int">{n}</a{n}>' for n in range(9000))
        self.fake.say(Infos(f'<move_settings type="group">{many}</move_settings>'))
        node: Any = self.session.resolve("stage.settings")
        self.assertEqual(len(node.children), 2000)

    @given(trees())
    @settings(max_examples=150, deadline=None)
    def test_any_tree(self, tree: Setting) -> None:
        """Whatever a module calls its settings and says of them, they are shown and can be read."""
        device = Device()
        panel = Panel(device, lambda path, value: Deferred())
        panel.show(tree)
        for path, setting in tree.walk():
            panel.changed(path, tree.changed(path, setting.with_value(None)))
        lab = Lab(self.reactor, self.reactor)
        node = lab.attach("panel", device)
        session = lab.open_session("test", "here")
        for shown in node.parameters():
            self.assertEqual(len(self.successResultOf(session.get(shown.path))), 5)
        lab.stop()

    def test_odd_settings(self) -> None:
        """What has no value of a known kind is left out, what does not fit its kind is unknown."""
        odd = (
            '<move_settings type="group"><go type="action">None</go>'
            '<t type="table_view">{}</t><n type="int">many</n><l type="list">str(\'x\')</l>'
            '<i type="itemselect" all_items="[\'a\', \'b\']">[\'a\']</i><e type="group"/>'
            '<f type="float" limits="[5, 1]">2</f><a type="int">1</a><A type="int">2</A>'
            "</move_settings>"
        )
        self.fake.say(Infos(odd))
        node = self.session.resolve("stage.settings")
        self.assertEqual([it.name for it in node.children.values()], list("nliefaA"))  # type: ignore[attr-defined]
        self.assertIsNone(self.value("stage.settings.n"))
        self.assertEqual(self.value("stage.settings.l"), "x")
        self.assertEqual(self.value("stage.settings.i"), ["a"])
        self.assertIsNone(self.spec("stage.settings.f").limits)
        self.assertEqual((self.value("stage.settings.a"), self.value("stage.settings.A")), (1, 2))


class GrabberTests(ServerCase):
    """A detector as a device."""

    def setUp(self) -> None:
        super().setUp()
        self.fake = FakeModule(self.listen(grabbers=("camera",)), "GRABBER")

    def grabbed(self, *arrays: Any, **about: Any) -> Any:
        grabbed = self.session.call("camera.grab", "2D")
        self.assertEqual(self.fake.orders(), [SendData("2D")])
        self.fake.shows(*arrays, **about)
        return self.successResultOf(grabbed)

    def test_a_frame(self) -> None:
        axes = (Axis("y", "um", np.arange(2.0), 0), Axis("x", "mm", np.arange(3.0), 1))
        picture = np.arange(6, dtype=np.uint16).reshape(2, 3)
        frame = self.grabbed(picture, axes=axes, labels=("CCD",), units="counts")
        assert isinstance(frame, LabeledArray)
        self.assertTrue(np.array_equal(frame.data, picture))
        self.assertEqual((frame.label, frame.unit), ("CCD", "counts"))
        self.assertEqual([(it.label, it.unit) for it in frame.axes], [("y", "um"), ("x", "mm")])
        self.assertIs(self.value("camera.frame"), frame)
        self.assertEqual(self.value("camera.generation"), "C4")

    def test_one_number(self) -> None:
        frame = self.grabbed([2.5])
        self.assertEqual((frame.data.shape, float(frame.data)), ((), 2.5))

    def test_several_channels(self) -> None:
        frame = self.grabbed([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], labels=("left", "right"))
        self.assertEqual(frame.data.shape, (2, 3))
        self.assertEqual(frame.axes[0].values.tolist(), ["left", "right"])

    def test_unasked_frames_are_updates(self) -> None:
        told: list[Any] = []
        self.session.subscribe(["camera.frame"], told.extend)
        self.fake.shows([1.0])
        self.fake.shows([2.0])
        self.reactor.advance(0)
        self.assertEqual([(float(it.reading.value.data), it.missed) for it in told], [(2.0, 1)])

    def test_gone(self) -> None:
        grabbed = self.session.call("camera.grab")
        self.fake.vanish()
        self.failureResultOf(grabbed, NotConnected)

    def test_grabs_pass_another_s_lock(self) -> None:
        """As reads do: an exposure changes nothing."""
        other = self.lab.open_session("test", "there", timeout=10.0)
        self.successResultOf(other.lock(["camera"]))
        self.grabbed([1.0])

    def test_frames_that_are_none(self) -> None:
        grabbed = self.session.call("camera.grab")
        self.fake.say(Done(DataToExport("empty", ())))
        self.failureResultOf(grabbed, DeviceFault)
        self.fake.shows([1.0], [1.0, 2.0])
        self.assertFalse(self.fake.dropped)

    def test_several_data(self) -> None:
        zero = np.zeros(1)
        parts = [Data(name, (zero,)) for name in ("a", "b", "a", "")]
        frame = from_frame(DataToExport("all", tuple(parts)))
        assert isinstance(frame, dict)
        self.assertEqual(list(frame), ["a", "b", "a_3", "data4"])


class OtherWireTests(ServerCase):
    """A module is as good a device as any."""

    def test_the_rest_of_the_lab_does_not_mind(self) -> None:
        class Bench(Device):
            level = parameter(float, initial=1.0)

        self.lab.attach("bench", Bench())
        factory = self.listen()
        fake = self.actuator(factory)
        fake.send(b"\xff" * 50)
        self.assertTrue(fake.dropped)
        self.assertEqual(self.value("bench.level"), 1.0)

    def test_many_at_once(self) -> None:
        factory = self.listen()
        fakes = [self.actuator(factory, host=f"10.0.{n // 200}.{n % 200}") for n in range(300)]
        asked = [self.session.get(f"actuator{n}.position") for n in range(1, 301)]
        for number, fake in enumerate(fakes):
            fake.answer_questions(float(number))
        self.assertEqual([self.successResultOf(it).value for it in asked], list(range(300)))

    def test_a_generation_that_is_configured(self) -> None:
        fake = self.actuator(self.listen(generation="D", actuators=("stage",)), generation=D)
        self.assertEqual(self.value("stage.generation"), "D")
        other = FakeModule(self.listener.reception.modules, generation=C4)
        self.assertTrue(other.dropped)
        self.assertFalse(fake.dropped)
