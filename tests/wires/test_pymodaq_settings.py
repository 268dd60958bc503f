"""PyMoDAQ's settings as XML: as recorded, by type, in both directions; bombs and other nonsense."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.wires.pymodaq.codec import Malformed, Setting, read_settings, write_settings
from labnet.wires.pymodaq.settings import text_of, value_of
from tests.wires.vectors import records

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
letters = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
leaves = st.one_of(
    st.builds(Setting, names, st.sampled_from(["str", "text", "browsepath"]), letters),
    st.builds(Setting, names, st.just("int"), st.integers(-(1 << 63), (1 << 63) - 1)),
    st.builds(Setting, names, st.just("float"), st.floats(allow_nan=False)),
    st.builds(Setting, names, st.sampled_from(["bool", "led"]), st.booleans()),
    st.builds(
        Setting,
        names,
        st.just("list"),
        letters | st.integers() | st.floats(allow_nan=False) | st.booleans(),
    ),
    st.builds(Setting, names, st.just("itemselect"), st.lists(letters)),
    st.builds(Setting, names, st.just("color"), st.lists(st.integers(0, 255))),
    st.builds(Setting, names, st.just("table"), st.dictionaries(letters, st.integers())),
)
trees = st.recursive(
    leaves,
    lambda children: st.builds(
        Setting,
        names,
        st.just("group"),
        title=letters.filter(bool),
        children=st.lists(children, min_size=1, max_size=4).map(tuple),
        visible=st.booleans(),
        readonly=st.booleans(),
        attributes=st.dictionaries(names, letters, max_size=2).map(
            lambda found: {k: v for k, v in found.items() if k not in Setting.__slots__}
        ),
    ),
    max_leaves=12,
)


def plain(setting: Setting) -> Any:
    """What must come back of a setting."""
    return (
        setting.name, setting.type, setting.value, setting.label, setting.visible,
        setting.readonly, dict(setting.attributes), [plain(child) for child in setting.children],
    )  # fmt: skip


class SettingsTests(SynchronousTestCase):
    def recorded(self) -> list[str]:
        found = []
        for record in records("pymodaq"):
            if record["case"].endswith(("Infos", "Info_xml", "set_info")):
                xml = record["value"]["payload"][-1]
                found.append(xml["bytes"] if isinstance(xml, dict) else xml)
        return found

    def test_recorded_ones_are_written_as_they_were(self) -> None:
        recorded = self.recorded()
        self.assertGreater(len(recorded), 40)
        for xml in recorded:
            self.assertEqual(write_settings(read_settings(xml)), xml)

    def test_what_they_say(self) -> None:
        wanted = ("<move_settings", "0.1, 20.0", "<mode ")
        tree = read_settings(next(x for x in self.recorded() if all(w in x for w in wanted)))
        self.assertEqual((tree.name, tree.is_group), ("move_settings", True))
        velocity = tree.child("velocity")
        assert velocity is not None
        self.assertEqual((velocity.value, velocity.limits), (1.5, [0.1, 20.0]))
        self.assertEqual(velocity.label, "Velocity:")
        values = {".".join(path): setting.value for path, setting in tree.walk()}
        self.assertEqual(values["deep.inner"], 7)
        self.assertEqual(values["mode"], "fast")
        self.assertIs(values["enabled"], True)
        self.assertEqual(values["model"], "SIM & <check>")

    @settings(max_examples=150, deadline=None)
    @given(trees)
    def test_any_tree(self, tree: Setting) -> None:
        xml = write_settings(tree)
        self.assertTrue(xml.isascii())
        self.assertNotIn("\n", xml)
        self.assertEqual(plain(read_settings(xml)), plain(tree))

    @settings(max_examples=300, deadline=None)
    @given(st.text(max_size=60) | st.text("<>/&;!ab =\"'[]", max_size=60))
    def test_nonsense(self, xml: str) -> None:
        try:
            read_settings(xml)
        except (Malformed, UnicodeEncodeError):
            pass

    def test_paths(self) -> None:
        tree = read_settings(next(xml for xml in self.recorded() if "velocity" in xml))
        for given_path, path in (
            (("velocity",), ("velocity",)),
            (("move_settings", "velocity"), ("velocity",)),
            (("deep", "inner"), ("deep", "inner")),
            (("move_settings", "deep", "inner"), ("deep", "inner")),
            (("inner",), None),
            ((), None),
            (("move_settings",), None),
        ):
            self.assertEqual(tree.resolve(given_path), path)
        changed = tree.changed(("deep", "inner"), Setting("inner", "int", 9))
        self.assertEqual(changed.find(("deep", "inner")), Setting("inner", "int", 9))
        self.assertEqual(changed.child("velocity"), tree.child("velocity"))


class ValueTests(SynchronousTestCase):
    def test_texts_to_values(self) -> None:
        for kind, text, value in (
            ("int", "7", 7), ("int", "7.0", 7), ("int", "1e3", 1000), ("int", "", None),
            ("int", "inf", None), ("int", "x", None), ("float", "1.5", 1.5),
            ("float", "None", None), ("slide", "2", 2.0), ("bool", "1", True),
            ("bool", "False", False), ("led", "0", False), ("str", "", ""), ("str", " a ", " a "),
            ("list", "str('x')", "x"), ("list", "int(3)", 3), ("list", "float(1.5)", 1.5),
            ("list", "float('inf')", float("inf")), ("list", "True", True), ("list", "'y'", "y"),
            ("list", "plain", "plain"), ("list", "int('x')", "int('x')"),
            ("itemselect", "['a']", ["a"]), ("color", "[1, 2, 3, 4]", [1, 2, 3, 4]),
            ("table", "{'a': 1}", {"a": 1}), ("date_time", "1700000000000", 1700000000000),
            ("action", "None", None), ("group", "text", None), ("nobody", "knows", None),
        ):  # fmt: skip
            self.assertEqual(value_of(kind, text), value, (kind, text))

    def test_code_is_never_run(self) -> None:
        attack = "__import__('os').system('true')"
        self.assertEqual(value_of("list", attack), attack)
        for kind in ("itemselect", "table", "color", "action"):
            self.assertIsNone(value_of(kind, attack))
        self.assertIsNone(Setting("x", "int", attributes={"limits": attack}).limits)
        self.assertEqual(value_of("list", "str(str(1))"), "str(str(1))")

    def test_values_to_texts(self) -> None:
        for kind, value, text in (
            ("int", 7, "7"), ("int", True, "1"), ("float", 1, "1.0"), ("bool", True, "1"),
            ("bool", 0, "0"), ("list", "x", "str('x')"), ("list", 3, "int(3)"),
            ("list", True, "True"), ("list", float("nan"), "float('nan')"),
            ("str", "µ", "µ"), ("float", None, ""), ("group", 3, ""),
        ):  # fmt: skip
            self.assertEqual(text_of(kind, value), text)
        with self.assertRaises(ValueError):
            text_of("int", "x")

    def test_what_xml_cannot_say(self) -> None:
        xml = write_settings(Setting("a", "str", "x\0\x1by\ud800\rz", title='"<\n>'))
        self.assertEqual(read_settings(xml).value, "x??y?\rz")
        self.assertEqual(read_settings(xml).title, '"<\n>')
        with self.assertRaises(ValueError):
            write_settings(Setting("a b", "str", ""))


class BombTests(SynchronousTestCase):
    """What is refused before it can do harm."""

    def refused(self, xml: str, why: str) -> None:
        with self.assertRaises(Malformed) as caught:
            read_settings(xml)
        self.assertIn(why, str(caught.exception))

    def test_entities(self) -> None:
        lol = '<!ENTITY a "ha">' + "".join(
            f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9)
        )
        self.refused(f"<!DOCTYPE s [{lol}]><s>&j;</s>", "document type")
        self.refused('<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><s>&x;</s>', "document")
        self.refused('<!DOCTYPE s SYSTEM "http://127.0.0.1/s.dtd"><s/>', "document type")
        self.refused("<s>&x;</s>", "undefined entity")

    def test_too_much(self) -> None:
        self.refused("<s>" + "<a/>" * 10_000 + "</s>", "more than 10000")
        self.refused("<s>" * 40 + "</s>" * 40, "32 deep")
        self.refused("<s " + " ".join(f'a{n}=""' for n in range(50)) + "/>", "50 attributes")
        self.refused("<s>" + " " * (5 << 20) + "</s>", "5242887 bytes")

    def test_no_xml(self) -> None:
        for xml in ("", "text", "<s>", "<a/><b/>", "<s a=1/>", "\0", "<s>\x01</s>"):
            self.refused(xml, "no XML")
