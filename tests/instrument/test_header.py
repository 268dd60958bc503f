"""Header patterns, the command tree, headers made from names, ambiguities."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from labnet.instrument.errors import ScpiError
from labnet.instrument.header import (
    CommandTree,
    HeaderError,
    Rank,
    derived,
    literal_pattern,
    read_pattern,
    short_form,
    spelled,
)


class SpellingTests(SynchronousTestCase):
    def test_short_forms(self) -> None:
        for long, short in (
            ("VOLTAGE", "VOLT"), ("FREQUENCY", "FREQ"), ("MODE", "MODE"), ("MEASURE", "MEAS"),
            ("POWER", "POW"), ("RANGE", "RANG"), ("CURRENT", "CURR"), ("X", "X"),
        ):  # fmt: skip
            self.assertEqual(short_form(long), short)

    def test_spelled(self) -> None:
        self.assertEqual(spelled("VOLTage"), ("VOLT", "VOLTAGE"))
        self.assertEqual(spelled("TIME_DIV"), ("TIME_DIV", "TIME_DIV"))
        self.assertEqual(spelled("internal"), ("INT", "INTERNAL"))
        self.assertEqual(spelled("Internal"), ("INT", "INTERNAL"))

    def test_derived(self) -> None:
        self.assertEqual(derived("wavelength"), ("WAVelength", None))
        self.assertEqual(derived("move_abs"), ("MOVeabs", None))
        self.assertEqual(derived("line3"), ("LINE", 3))
        self.assertEqual(derived("ch[2]"), ("CH", 2))
        self.assertEqual(derived("a_very_long_name_indeed"), ("AVERylongnam", None))


class TreeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.tree: CommandTree[str] = CommandTree()

    def found(self, header: str) -> tuple[str, tuple[int, ...]] | int:
        query = header.endswith("?")
        try:
            leaf, numbers = self.tree.find(header.rstrip("?").split(":"), query)
        except ScpiError as error:
            return error.number
        return leaf.target, numbers

    def test_only_short_and_long(self) -> None:
        self.tree.add(read_pattern("SYSTem:ERRor[:NEXT]?"), "x", query="e")
        for header in ("SYST:ERR?", "SYSTEM:ERROR?", "SYST:ERROR:NEXT?"):
            self.assertEqual(self.found(header), ("e", ()))
        for header in ("SYSTE:ERR?", "SYS:ERR?", "SYST:ERR", "SYST?", "ERR?", "SYST:ERR:ERR?"):
            self.assertEqual(self.found(header), -113)

    def test_captured_numbers(self) -> None:
        self.tree.add(read_pattern("OUTPut<1-3>[:CHANnel<1|4>]:STATe"), "x", command="s")
        self.assertEqual(self.found("OUTP3:CHAN4:STAT"), ("s", (3, 4)))
        self.assertEqual(self.found("OUTP2:STAT"), ("s", (2, 1)))
        self.assertEqual(self.found("OUTP:CHAN:STAT"), ("s", (1, 1)))
        for header in ("OUTP4:STAT", "OUTP0:STAT", "OUTP1:CHAN2:STAT", "OUTP99999999999:STAT"):
            self.assertEqual(self.found(header), -114)

    def test_own_numbers(self) -> None:
        for number in (1, 2):
            pattern = read_pattern("[SOURce<n>]:VOLTage", [number])
            self.tree.add(pattern, f"source[{number}]", query=f"v{number}")
        self.assertEqual(self.found("VOLT?"), ("v1", ()))
        self.assertEqual(self.found("SOUR:VOLT?"), ("v1", ()))
        self.assertEqual(self.found("SOURCE2:VOLT?"), ("v2", ()))
        self.assertEqual(self.found("SOUR3:VOLT?"), -114)
        self.assertEqual(self.found("VOLT2?"), -113)

    def test_query_and_command_are_apart(self) -> None:
        self.tree.add(read_pattern("ABORt"), "x", command="a")
        self.tree.add(read_pattern("ABORt?"), "y", query="b")
        self.assertEqual((self.found("ABOR"), self.found("ABOR?")), (("a", ()), ("b", ())))

    def test_common(self) -> None:
        self.tree.add(read_pattern("*TST?"), "x", query="t")
        self.assertEqual(self.found("*TST?"), ("t", ()))

    def test_nested_brackets(self) -> None:
        self.tree.add(read_pattern("A[:B[:C]]:D"), "x", command="d")
        for header in ("A:D", "A:B:D", "A:B:C:D"):
            self.assertEqual(self.found(header), ("d", ()))
        self.assertEqual(self.found("A:C:D"), -113)

    def test_bad_patterns(self) -> None:
        for text in ("", "[A]", "A[:B", "A]", "A<x>", "A<9-99999>", "A B", "[A<n>]:B", "A<1-"):
            self.assertRaises(HeaderError, read_pattern, text)
        self.assertRaises(HeaderError, read_pattern, "".join(f"[A{'X' * n}:]" for n in range(9)))

    def test_ambiguous_headers_name_both(self) -> None:
        self.tree.add(read_pattern("[SENSe]:RANGe"), "dmm.span", command="a")
        with self.assertRaises(HeaderError) as raised:
            self.tree.add(read_pattern("RANGe"), "dmm.reach", command="b")
        for word in ("dmm.span", "dmm.reach", "scpi="):
            self.assertIn(word, str(raised.exception))

    def test_derived_that_collide(self) -> None:
        self.tree.add(literal_pattern(["move_abs"]), "stage.move_abs", Rank.DERIVED, command="a")
        with self.assertRaises(HeaderError) as raised:
            self.tree.add(
                literal_pattern(["move_rel"]), "stage.move_rel", Rank.DERIVED, command="r"
            )
        self.assertIn("stage.move_abs", str(raised.exception))

    def test_derived_gives_way_to_the_standard(self) -> None:
        self.tree.add(read_pattern("STATus:PRESet"), "the standard", Rank.STANDARD, command="p")
        self.tree.add(literal_pattern(["state"]), "x.state", Rank.DERIVED, query="s")
        self.tree.add(literal_pattern(["status"]), "x.status", Rank.DERIVED, query="t")
        self.assertEqual(self.found("STAT:PRES"), ("p", ()))
        self.assertEqual(self.found("STATE?"), ("s", ()))
        self.assertEqual(self.found("STAT?"), ("t", ()))

    def test_declared_comes_before_the_standard(self) -> None:
        self.tree.add(read_pattern("*TST?"), "x.test", query="own")
        self.tree.add(read_pattern("*TST?"), "the standard", Rank.STANDARD, query="other")
        self.assertEqual(self.found("*TST?"), ("own", ()))

    def test_list(self) -> None:
        self.tree.add(read_pattern("*IDN?"), "x", query="i")
        self.tree.add(read_pattern("VOLTage"), "x", query="v", command="v")
        self.tree.add(read_pattern("ABORt"), "x", command="a")
        self.assertEqual(list(self.tree.headers()), ["*IDN?/qonly/", ":ABORt/nquery/", ":VOLTage"])
