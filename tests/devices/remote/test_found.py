"""Names and members of foreign servers."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.description import describe, kind_as_data
from labnet.device import CommandState, Device, Identity, ParameterState, command, parameter
from labnet.devices.remote.base import MAX_DEPTH, Found
from labnet.devices.remote.described import identity_from, kind_from_data, members_from
from labnet.devices.remote.names import lab_name, unused
from labnet.lab import Lab
from labnet.specs import NAME
from labnet.testing import MemoryLab
from labnet.values import (
    FLOAT,
    INT,
    ArrayKind,
    EnumKind,
    Kind,
    Limits,
    OptionalKind,
    kind_of,
)

KEYS = (
    "path", "is", "kind", "enum", "array", "optional", "list", "arguments", "limits", "name",
    "groups", "timeout", "access", "members", "identity", "variadic",
)  # fmt: skip


class NameTests(SynchronousTestCase):
    """What becomes of names that the lab would not take."""

    def test_examples(self) -> None:
        for foreign, name in (
            ("power", "power"),
            ("Ch[1]", "Ch[1]"),
            ("my power", "my_power"),
            ("1st axis", "x_1st_axis"),
            ("µm", "m"),
            ("", "x"),
            ("__", "x"),
        ):
            self.assertEqual(lab_name(foreign), name)

    @given(st.text())
    def test_always_a_name(self, foreign: str) -> None:
        self.assertRegex(lab_name(foreign), NAME)

    @given(st.text(), st.integers(0, 5))
    def test_never_one_that_is_taken(self, foreign: str, count: int) -> None:
        taken: list[str] = []
        for _ in range(count + 1):
            name = unused(lab_name(foreign), taken)
            self.assertNotIn(name, taken)
            self.assertRegex(name, NAME)
            taken.append(name)


class FoundTests(SynchronousTestCase):
    """Members put together from paths."""

    def test_parts_are_made(self) -> None:
        found = Found()
        state = found.parameter("motor.x.position", FLOAT, getter=lambda: 1.0)
        motor: Any = found.members["motor"]
        self.assertIs(motor.members["x"].members["position"], state)
        self.assertEqual(state.spec.access, "r")
        found.parameter("motor.x.speed", FLOAT, setter=lambda value: None)
        self.assertEqual(list(motor.members["x"].members), ["position", "speed"])

    def test_foreign_names_are_aliases(self) -> None:
        found = Found()
        found.parameter(("axis 1", "pos (mm)"), FLOAT)
        found.parameter(("axis 1", "pos/mm"), FLOAT)
        part: Any = found.members["axis_1"]
        self.assertEqual(part.aliases, ("axis 1",))
        self.assertEqual(list(part.members), ["pos_mm", "pos_mm_2"])
        self.assertEqual(part.members["pos_mm"].spec.aliases, ("pos (mm)",))
        lab = MemoryLab()
        device = Device()
        device.replace_members(found.members)
        lab.attach("far", device)
        session = lab.session(device="far")
        self.assertEqual(session.resolve(("axis 1", "pos/mm")).path, "far.axis_1.pos_mm_2")


class Full(Device):
    """A device with something of everything."""

    identity = Identity("labnet", "FULL", "1", "2")
    power = parameter(float, unit="W", limits=(0, 2), help="how much", groups=("light",))
    count = parameter(int, access="r", initial=3)
    mode = parameter(choices={1: "one", 2: "two"})
    trace = parameter(ArrayKind("f4"), access="r")
    maybe = parameter(OptionalKind(FLOAT))

    def __init__(self) -> None:
        self.part = Device()
        self.part.add_parameter("level", float, initial=1.0)

    @command(units={"seconds": "s"}, limits={"seconds": (0, 9)}, timeout=5.0, long=True)
    def zero(self, seconds: float = 1.0) -> str:
        """Sets zero."""
        return f"{seconds}"


class DescriptionTests(SynchronousTestCase):
    """What one labnet tells another, there and back."""

    def described(self) -> Any:
        lab = Lab(clock=MemoryLab().net)
        return json.loads(json.dumps(describe(lab.attach("full", Full()))))

    def members(self, data: Any) -> dict[str, Any]:
        def reach(path: str, kind: Kind, arguments: Any = ()) -> Any:
            return lambda *args: path

        return members_from(data, reach, reach, reach, 1.0).members

    def test_parameters(self) -> None:
        members = self.members(self.described())
        power = members["power"]
        assert isinstance(power, ParameterState)
        self.assertEqual((power.spec.unit, power.spec.help), ("W", "how much"))
        self.assertEqual(power.spec.limits, Limits(0, 2))
        self.assertEqual(power.spec.groups, ("light",))
        self.assertEqual(members["count"].spec.access, "r")
        self.assertIsNone(members["count"].setter)
        self.assertEqual(dict(members["mode"].spec.kind.choices), {1: "one", 2: "two"})
        self.assertEqual(members["part"].members["level"].getter(), "part.level")

    def test_commands(self) -> None:
        zero = self.members(self.described())["zero"]
        assert isinstance(zero, CommandState)
        (seconds,) = zero.spec.arguments
        self.assertEqual((seconds.kind, seconds.required, seconds.default), (FLOAT, False, 1.0))
        self.assertEqual((zero.spec.long, zero.spec.timeout), (True, 5.0))
        self.assertEqual(zero.spec.help, "Sets zero.")

    def test_paths_without_end_are_left_out(self) -> None:
        entries = [
            {"is": "parameter", "path": path, "kind": "float"}
            for path in ("a." * 5000 + "b", "a." * (MAX_DEPTH - 1) + "b", "c")
        ]
        device: Any = Device()
        device.members = self.members({"members": entries})
        self.assertEqual(set(device.members), {"a", "c"})
        for _ in range(MAX_DEPTH - 1):
            device = device.members["a"]
        self.assertEqual(set(device.members), {"b"})

    def test_many_of_one_name(self) -> None:
        """Each has a name of its own, without a search through all the others for each."""
        entries = [{"is": "parameter", "path": "p", "kind": "float"}] * 10_000
        members = self.members({"members": entries})
        self.assertEqual(len(members), 10_000)
        self.assertEqual(list(members)[:3], ["p", "p_2", "p_3"])
        tried: dict[str, int] = {}
        self.assertEqual(unused("p", members, tried), "p_10001")
        self.assertEqual(tried, {"p": 10_001})

    def test_identity(self) -> None:
        self.assertEqual(identity_from(self.described()), Full.identity)
        self.assertEqual(identity_from({}), Identity())

    def test_kinds_there_and_back(self) -> None:
        for kind in (FLOAT, INT, EnumKind([1, 2]), EnumKind(["a"]), kind_of(list), kind_of(dict)):
            back = kind_from_data(json.loads(json.dumps(kind_as_data(kind))))
            self.assertEqual(kind_as_data(back), kind_as_data(kind))
        array = kind_from_data(kind_as_data(ArrayKind("<u2")))
        assert isinstance(array, ArrayKind)
        self.assertEqual(str(array.dtype), "uint16")
        optional = kind_from_data(kind_as_data(OptionalKind(INT)))
        assert isinstance(optional, OptionalKind)
        self.assertIs(optional.inner, INT)

    data = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner | st.sampled_from(["parameter", "command", "a.b", "float", "<f4"]),
            max_size=6,
        ),
        max_leaves=20,
    )

    @given(st.fixed_dictionaries({"members": st.lists(data, max_size=5), "identity": data}))
    def test_any_description_gives_members_or_none(self, data: Any) -> None:
        identity_from(data)
        for name in self.members(data):
            self.assertRegex(name, NAME)
