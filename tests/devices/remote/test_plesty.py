"""What a PLESTY server says of itself, as a device here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.devices.declared import Declared, parse_declarations
from labnet.devices.remote.plesty import PlestyDevice, from_json, kind_from
from labnet.specs import NAME
from labnet.values import ANY, BYTES, COMPLEX, EnumKind, OptionalKind

TEXTS = st.sampled_from(
    [
        "float", "int", "str", "float | None", "Any", "W", "motor", "default", "a.b", "name",
        "position", "MOTOR.position", "1st", "",
    ]
)  # fmt: skip
SIMPLE = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | TEXTS
KEYS = st.sampled_from(
    [
        "name", "dtype", "unit", "value", "read_only", "write_only", "min_value", "max_value",
        "options", "description", "kind", "iparams", "oparams", "required", "default", "range",
        "parameters", "functions", "standard_methods", "motor",
    ]
)  # fmt: skip
DATA = st.recursive(
    SIMPLE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)


def device(declared: Declared | None = None) -> PlestyDevice:
    """One whose server has not been asked."""
    made = PlestyDevice(
        "tcp://127.0.0.1:1", dial=lambda wire, *args, **options: None, clock=Clock(),
        declared=declared,
    )  # fmt: skip
    made.client = SimpleNamespace(methods=("run", "identity", "odd name"), budgets={"run": 3.0})
    return made


class DescriptionTests(SynchronousTestCase):
    """Parameters and operations."""

    def members(self, doc: Any, keys: list[Any], declared: Declared | None = None) -> Any:
        return device(declared)._found(doc, keys).members

    def test_groups_have_the_prefix_of_the_keys(self) -> None:
        doc = {"parameters": {"motor": [{"name": "position", "dtype": "float", "unit": "mm"}]}}
        members = self.members(doc, ["MOTOR.position", "other"])
        self.assertEqual(members["MOTOR"].members["position"].spec.unit, "mm")
        self.assertIs(members["other"].spec.kind, ANY)

    def test_operations(self) -> None:
        sort = {"kind": "motion"}
        run = {"name": "run", "iparams": [{"name": "x", "dtype": "int"}], "kind": sort}
        members = self.members({"functions": [run]}, [])
        self.assertEqual([it.name for it in members["run"].spec.arguments], ["x"])
        self.assertEqual((members["run"].spec.long, members["run"].spec.timeout), (True, 3.0))
        self.assertNotIn("identity", members)
        self.assertEqual(members["odd_name"].spec.aliases, ("odd name",))

    def test_arguments_may_have_any_name(self) -> None:
        asked: list[Any] = []
        made = device()

        def request(*args: Any) -> Any:
            asked.append(args)
            return succeed(5)

        made.client.request = request
        run = made._found(None, []).members["run"]
        called = run.function(1, timeout=2.0, name="x", result="y")
        self.assertEqual(self.successResultOf(called), 5)
        (kind, fields, what, limit) = asked[0]
        self.assertEqual((kind, what, limit), ("call", "run", None))
        self.assertEqual(fields["kwargs"], {"timeout": 2.0, "name": "x", "result": "y"})

    def test_declared(self) -> None:
        declared = parse_declarations({"parameter gain": "GAIN, GAIN {value}, float, dB, 0..20"})
        gain = self.members(None, ["GAIN"], declared)["gain"]
        self.assertEqual((gain.spec.unit, gain.spec.access), ("dB", "rw"))

    def test_kinds(self) -> None:
        self.assertIsInstance(kind_from({"dtype": "float | None"}), OptionalKind)
        self.assertIsInstance(kind_from({"dtype": "str", "options": ["a", "b"]}), EnumKind)
        self.assertIs(kind_from({"dtype": "Something | Else"}), ANY)
        self.assertEqual(from_json(COMPLEX, [1, 2]), 1 + 2j)
        self.assertEqual(from_json(BYTES, "a\xff"), b"a\xff")

    @given(DATA, st.lists(SIMPLE, max_size=5))
    def test_any_description_gives_members(self, doc: Any, keys: list[Any]) -> None:
        for name in self.members(doc, keys):
            self.assertRegex(name, NAME)

    @given(st.lists(st.dictionaries(KEYS, DATA, max_size=8), max_size=4), DATA)
    def test_any_entries_do(self, entries: list[Any], other: Any) -> None:
        doc = {"parameters": {"default": entries, "motor": other}, "functions": entries}
        self.members(doc, ["position"])
