"""Names to nodes: how they are found, what joins, leaves and takes another's place."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, ParameterState, command, parameter
from labnet.errors import UnknownName
from labnet.registry import (
    MAX_NAME,
    MAX_REMEMBERED,
    MAX_SEGMENTS,
    CommandNode,
    DeviceNode,
    Node,
    ParameterNode,
    Registry,
)


class Line(Device):
    value = parameter(bool)


class Port(Device):
    direction = parameter(choices=("in", "out"))

    def __init__(self) -> None:
        self.line0 = Line()
        self.line0.aliases = ("L0",)


class Daq(Device):
    aliases = ("Dev1", "the card")
    Rate = parameter(float)
    rate = parameter(float)
    gain = parameter(float, aliases=("Gain", "Verst\u00e4rkung", "a.b"))

    def __init__(self) -> None:
        self.port0 = Port()
        self.ai = {1: Line(), 12: Line()}

    @command(touches=("port0", "gain"))
    def scan(self) -> None:
        pass

    @command(touches=("nothing",))
    def odd(self) -> None:
        pass

    @command
    def reset(self) -> None:
        pass


class RegistryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.registry = Registry()
        self.daq = Daq()
        self.node = self.registry.add("daq", self.daq)

    def found(self, path: Any, base: DeviceNode | None = None) -> str:
        return self.registry.find(path, base).path

    def unknown(self, path: Any, base: DeviceNode | None = None) -> UnknownName:
        with self.assertRaises(UnknownName) as caught:
            self.registry.find(path, base)
        error: UnknownName = caught.exception
        return error


class FindTests(RegistryCase):
    """Paths, as clients write them."""

    def test_exact(self) -> None:
        for path in ("daq", "daq.port0", "daq.port0.line0.value", "daq.ai[12].value", "daq.scan"):
            self.assertEqual(self.found(path), path)
        self.assertEqual(self.found(("daq", "port0", "line0")), "daq.port0.line0")

    def test_relative_first_then_from_the_root(self) -> None:
        self.registry.add("port0", Port())
        self.assertEqual(self.found("port0", self.node), "daq.port0")
        self.assertEqual(self.found("port0"), "port0")
        self.assertEqual(self.found("daq.gain", self.node), "daq.gain")

    def test_without_regard_to_case_if_only_one_fits(self) -> None:
        self.assertEqual(self.found("DAQ.PORT0.Line0.VALUE"), "daq.port0.line0.value")
        self.assertEqual((self.found("daq.rate"), self.found("daq.Rate")), ("daq.rate", "daq.Rate"))
        self.unknown("daq.RATE")

    def test_alias(self) -> None:
        self.assertEqual(self.found(("Dev1", "port0", "l0", "value")), "daq.port0.line0.value")
        self.assertEqual(self.found("The Card.gain"), "daq.gain")
        self.assertEqual(self.found(("daq", "a.b")), "daq.gain")
        self.assertEqual(self.found("daq.VERST\u00c4RKUNG"), "daq.gain")

    def test_an_alias_that_is_the_name_in_other_letters(self) -> None:
        for written in ("gain", "Gain", "GAIN"):
            self.assertEqual(self.found(f"daq.{written}"), "daq.gain")

    def test_exact_alias_before_another_s_name(self) -> None:
        other = Line()
        other.aliases = ("DAQ",)
        self.registry.add("line", other)
        self.assertEqual(self.found("DAQ"), "line")
        self.assertEqual(self.found("daq"), "daq")
        self.unknown("Daq")

    def test_errors_name_what_is_near(self) -> None:
        error = self.unknown("daq.port0.line")
        self.assertEqual(str(error), "unknown name in daq.port0: 'line'; did you mean line0?")
        self.assertEqual(str(self.unknown("dac")), "unknown device 'dac'; did you mean daq?")
        self.assertEqual(str(self.unknown("daq.gain.x")), "unknown name in daq.gain: 'x'")
        self.assertEqual(str(self.unknown("port", self.node)),
                         "unknown name in daq: 'port'; did you mean port0?")  # fmt: skip

    def test_hostile_paths(self) -> None:
        for path in ("", ".", "..", "daq.", ".daq", "daq..gain", "daq.gain.", "\0", "\ud800",
                     "daq." * 10_000, "x" * 1_000_000, ("",), ("x" * (MAX_NAME + 1),),
                     ("daq",) * (MAX_SEGMENTS + 1), "daq.__class__", "daq.device", "daq.ai",
                     "daq.ai[1", "daq.ai[01]", "daq.ai[ 1]", ()):  # fmt: skip
            self.assertLess(len(str(self.unknown(path))), 1200)
            self.assertLess(len(str(self.unknown(path, self.node))), 1200)

    @given(st.one_of(st.text(st.characters()), st.lists(st.text()).map(tuple)))
    def test_any_path(self, path: Any) -> None:
        for base in (None, self.node):
            try:
                node = self.registry.find(path, base)
            except UnknownName:
                continue
            self.assertTrue(node.path.startswith("daq"))

    @given(st.sampled_from(["daq.port0.line0", "daq.gain", "daq.ai[12].value"]), st.randoms())
    def test_any_case(self, path: str, random: Any) -> None:
        written = "".join(random.choice((c.lower(), c.upper())) for c in path)
        self.assertEqual(self.found(written), path)

    def test_names_are_remembered_within_bounds(self) -> None:
        names = self.registry.names(self.node)
        self.found("GAIN", self.node)
        self.assertEqual(names["GAIN"].path, "daq.gain")
        for number in range(MAX_REMEMBERED + 10):
            names[f"x{number}"] = self.node
        self.found("Gain", self.node)
        self.assertEqual(list(names), ["Gain"])

    def test_unknown_names_are_not_remembered(self) -> None:
        self.unknown("nothing")
        self.assertEqual(self.registry.names(None), {})


class TreeTests(RegistryCase):
    """Nodes and their relations."""

    def test_walk_in_order(self) -> None:
        self.assertEqual(
            [node.relative() for node in self.node.walk()],
            ["", "Rate", "rate", "gain", "scan", "odd", "reset", "port0", "port0.direction",
             "port0.line0", "port0.line0.value", "ai[1]", "ai[1].value", "ai[12]", "ai[12].value"],
        )  # fmt: skip
        self.assertEqual(len(list(self.node.parameters())), 7)
        self.assertEqual(len(list(self.node.commands())), 3)

    def test_ancestors_and_top(self) -> None:
        value = self.registry.find("daq.port0.line0.value")
        self.assertEqual([above.path for above in value.ancestors],
                         ["daq.port0.line0", "daq.port0", "daq"])  # fmt: skip
        self.assertIs(value.top, self.node)
        self.assertEqual(repr(value), "<ParameterNode daq.port0.line0.value>")

    def test_needs(self) -> None:
        def needs(path: str) -> list[str]:
            node = self.registry.find(path)
            assert isinstance(node, ParameterNode | CommandNode | DeviceNode)
            return [need.path for need in node.needs]

        self.assertEqual(needs("daq.gain"), ["daq.gain"])
        self.assertEqual(needs("daq.reset"), ["daq"])
        self.assertEqual(needs("daq.scan"), ["daq.port0", "daq.gain"])
        self.assertEqual(needs("daq.port0"), ["daq.port0"])
        self.assertEqual(needs("daq.odd"), ["daq"], "what is not there is the whole device")
        self.daq.add_device("nothing", Line())
        self.assertEqual(needs("daq.odd"), ["daq.nothing"])

    def test_children_cannot_be_changed(self) -> None:
        with self.assertRaises(TypeError):
            self.node.children["x"] = self.node  # type: ignore[index]
        with self.assertRaises(TypeError):
            self.registry.devices["x"] = self.node  # type: ignore[index]


class JoinTests(RegistryCase):
    """Members that join after the device has come into the lab."""

    def test_parameters_commands_and_devices(self) -> None:
        self.daq.add_parameter("late", float)
        self.daq.add_command("later", lambda: 5)
        self.daq.port0.add_device("line[7]", Line())
        self.daq.port1 = Port()
        self.daq.relay = [Line(), Line()]
        for path in ("daq.late", "daq.later", "daq.port0.line[7].value", "daq.port1.line0.value",
                     "daq.relay[1].value"):  # fmt: skip
            self.assertEqual(self.found(path), path)

    def test_each_hears_of_those_that_join(self) -> None:
        heard: list[str] = []
        self.node.each(lambda node: heard.append(node.path))
        self.assertEqual(len(heard), 15)
        heard.clear()
        self.daq.port1 = Port()
        self.assertEqual(heard, ["daq.port1", "daq.port1.direction", "daq.port1.line0",
                                 "daq.port1.line0.value"])  # fmt: skip
        heard.clear()
        self.daq.port0.line0.add_parameter("late", float)
        self.assertEqual(heard, ["daq.port0.line0.late"])

    def test_a_member_takes_another_s_node(self) -> None:
        before = self.registry.find("daq.port0.line0.value")
        line = Line()
        self.daq.port0.line0 = line
        self.assertIs(self.registry.find("daq.port0.line0.value"), before)
        assert isinstance(before, ParameterNode)
        self.assertIs(before.state, line.members["value"])
        self.assertEqual(self.found("daq.port0.L0"), "daq.port0.line0", "still by its alias")
        line.add_parameter("late", float)
        self.assertEqual(self.found("daq.port0.line0.late"), "daq.port0.line0.late")

    def test_the_replaced_one_may_join_another_lab(self) -> None:
        line = self.daq.port0.line0
        self.daq.port0.line0 = Line()
        self.registry.add("line", line)
        line.add_parameter("late", float)
        self.assertEqual(self.found("line.late"), "line.late")
        self.unknown("daq.port0.line0.late")

    def test_a_command_takes_another_s_node(self) -> None:
        node = self.registry.find("daq.reset")
        state = self.daq.add_command("reset", lambda: "other")
        self.assertIs(self.registry.find("daq.reset"), node)
        assert isinstance(node, CommandNode)
        self.assertIs(node.state, state)

    def test_the_same_device_again_changes_nothing(self) -> None:
        node = self.registry.find("daq.port0")
        self.daq.port0 = self.daq.port0
        self.assertIs(self.registry.find("daq.port0"), node)

    def test_another_kind_of_member_is_refused(self) -> None:
        self.assertRaises(ValueError, self.daq.add_parameter, "port0", float)
        self.assertRaises(ValueError, self.daq.add_command, "gain", lambda: 5)
        self.assertRaises(ValueError, self.daq.add_parameter, "scan", float)
        self.assertEqual(self.found("daq.port0.direction"), "daq.port0.direction")

    def test_what_another_device_has_not_goes(self) -> None:
        self.daq.port0 = Line()  # type: ignore[assignment]
        self.assertEqual(self.found("daq.port0.value"), "daq.port0.value")
        self.unknown("daq.port0.direction")


class Follower(Device):
    def __init__(self, leader: Device) -> None:
        self.leader = leader


class Discreet(Device):
    def __init__(self, leader: Device) -> None:
        self._leader = leader


class Child(Device):
    def __init__(self, parent: Device) -> None:
        self.parent = parent


class Parent(Device):
    def __init__(self) -> None:
        self.name = parameter(str)
        self.child = Child(self)


class OwnershipTests(RegistryCase):
    """A device is in one place of one lab."""

    def test_taken_names(self) -> None:
        self.assertRaises(ValueError, self.registry.add, "daq", Line())
        self.assertRaises(ValueError, self.registry.add, "a.b", Line())
        self.assertRaises(ValueError, Registry().add, "other", self.daq)

    def test_a_reference_is_no_child(self) -> None:
        with self.assertRaisesRegex(ValueError, "begins with an underscore"):
            self.registry.add("follower", Follower(self.daq))
        with self.assertRaisesRegex(ValueError, "begins with an underscore"):
            self.registry.add("parent", Parent())
        self.registry.add("discreet", Discreet(self.daq))
        self.daq.add_parameter("late", float)
        self.assertEqual(self.found("daq.late"), "daq.late", "the first place still holds")

    def test_a_failed_arrival_leaves_nothing_behind(self) -> None:
        line, holder = Line(), Device()
        holder.line = line
        holder.daq = self.daq
        self.assertRaises(ValueError, self.registry.add, "holder", holder)
        self.assertNotIn("holder", self.registry.devices)
        self.registry.add("line", line)

    def test_a_device_may_come_back(self) -> None:
        self.registry.remove("daq")
        self.assertRaises(UnknownName, self.registry.remove, "daq")
        self.unknown("daq.gain")
        self.registry.add("card", self.daq)
        self.assertEqual(self.found("card.port0.line0.value"), "card.port0.line0.value")


class DepartureTests(RegistryCase):
    """What was known of a device that has left."""

    def test_a_base_that_left_is_followed_by_its_successor(self) -> None:
        old = self.registry.find("gain", self.node)
        self.registry.remove("daq")
        self.assertIs(self.registry.current(self.node), self.node)
        again = self.registry.add("daq", Daq())
        new = self.registry.find("gain", self.node)
        self.assertIsNot(new, old)
        self.assertIs(new.top, again)
        self.assertIs(self.registry.current(self.node), again)

    def test_names_of_the_old_and_the_new_are_kept_apart(self) -> None:
        self.registry.remove("daq")
        self.registry.find("gain", self.node)  # a client of the old one that has not heard of it
        again = self.registry.add("daq", Daq())
        self.assertIs(self.registry.find("gain", again).top, again)

    def test_sub_device_as_base(self) -> None:
        port = self.registry.find("daq.port0")
        assert isinstance(port, DeviceNode)
        self.registry.remove("daq")
        again = self.registry.add("daq", Daq())
        self.assertIs(self.registry.find("direction", port).top, again)
        self.registry.remove("daq")
        self.registry.add("daq", Line())
        self.assertIs(self.registry.current(port), port, "the successor has no such part")

    def test_parameters_tell_nobody_any_more(self) -> None:
        state = self.daq.members["gain"]
        assert isinstance(state, ParameterState)
        state.notify = lambda reading: None
        self.registry.remove("daq")
        self.assertIsNone(state.notify)


class WatchTests(RegistryCase):
    """Arrivals and departures."""

    def test_watch(self) -> None:
        heard: list[tuple[str, str]] = []
        end = self.registry.watch(
            lambda node: heard.append(("came", node.path)),
            lambda node: heard.append(("left", node.path)),
        )
        self.registry.announce(self.registry.add("line", Line()))
        self.registry.remove("line")
        end()
        end()
        self.registry.announce(self.node)
        self.assertEqual(heard, [("came", "line"), ("left", "line")])

    def test_one_that_fails_disturbs_nobody(self) -> None:
        heard: list[Node] = []

        def fails(node: DeviceNode) -> None:
            raise ZeroDivisionError

        self.registry.watch(fails, fails)
        self.registry.watch(heard.append, heard.append)
        self.registry.announce(self.node)
        self.registry.remove("daq")
        self.assertEqual(len(heard), 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_one_may_leave_while_it_is_told(self) -> None:
        heard: list[Node] = []
        ends = [self.registry.watch(lambda node: ends[0](), heard.append)]
        self.registry.watch(heard.append, heard.append)
        self.registry.announce(self.node)
        self.assertEqual(heard, [self.node])
