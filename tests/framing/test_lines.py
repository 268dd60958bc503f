"""The splitters: every way to cut a stream must give the same messages."""

from __future__ import annotations

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.framing.lines import (
    TOO_LONG,
    CountSplitter,
    Ending,
    Line,
    LineSplitter,
    SilenceSplitter,
    Splitter,
    parse_ending,
)


def feed_in_pieces(splitter: Splitter, data: bytes, cuts: list[int]) -> list[Line]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found: list[Line] = []
    for start, end in itertools.pairwise(edges):
        found += splitter.feed(data[start:end])
    return found


def expected_lines(data: bytes, terminator: bytes, limit: int) -> list[Line]:
    """What the splitter must find, written without any state."""
    *whole, rest = data.split(terminator)
    lines: list[Line] = [line if len(line) <= limit else TOO_LONG for line in whole]
    if len(rest) > limit + len(terminator) - 1:
        lines.append(TOO_LONG)
    return lines


class LineSplitterTests(SynchronousTestCase):
    def test_whole_lines(self) -> None:
        self.assertEqual(LineSplitter().feed(b"a\n\nb c\n"), [b"a", b"", b"b c"])

    def test_byte_by_byte(self) -> None:
        splitter = LineSplitter()
        found = [line for byte in b"one\ntwo\n" for line in splitter.feed(bytes([byte]))]
        self.assertEqual(found, [b"one", b"two"])
        self.assertEqual(splitter.pending, 0)

    def test_incomplete_line_is_held(self) -> None:
        splitter = LineSplitter()
        self.assertEqual(splitter.feed(b"pi"), [])
        self.assertEqual(splitter.pending, 2)
        self.assertEqual(splitter.feed(b"ng\npos"), [b"ping"])
        self.assertEqual(splitter.feed(b"ition\n"), [b"position"])

    def test_terminator_of_two_bytes_cut_in_the_middle(self) -> None:
        splitter = LineSplitter(b"\r\n")
        self.assertEqual(splitter.feed(b"a\r"), [])
        self.assertEqual(splitter.feed(b"\nb\rc\r"), [b"a"])
        self.assertEqual(splitter.feed(b"\n"), [b"b\rc"])

    def test_longest_line_passes(self) -> None:
        for cut in (0, 3, 4, 5, 6):
            splitter = LineSplitter(b"\r\n", limit=4)
            self.assertEqual(feed_in_pieces(splitter, b"abcd\r\n", [cut]), [b"abcd"])

    def test_too_long_is_reported_once_and_at_once(self) -> None:
        splitter = LineSplitter(limit=4)
        self.assertEqual(splitter.feed(b"abc"), [])
        self.assertEqual(splitter.feed(b"de"), [TOO_LONG])
        self.assertEqual(splitter.feed(b"f" * 100), [])
        self.assertEqual(splitter.pending, 0)
        self.assertEqual(splitter.feed(b"g\nok\n"), [b"ok"])

    def test_too_long_within_one_read(self) -> None:
        found = LineSplitter(limit=4).feed(b"ok\nabcdef\nfine\nghijkl")
        self.assertEqual(found, [b"ok", TOO_LONG, b"fine", TOO_LONG])

    def test_resynchronises_at_a_terminator_cut_in_two(self) -> None:
        splitter = LineSplitter(b"<>", limit=3)
        self.assertEqual(splitter.feed(b"abcdefg<"), [TOO_LONG])
        self.assertEqual(splitter.feed(b">x<>"), [b"x"])

    def test_end_gives_the_rest(self) -> None:
        splitter = LineSplitter()
        splitter.feed(b"a\nrest")
        self.assertEqual(splitter.end(), [b"rest"])
        self.assertEqual(splitter.end(), [])

    def test_end_after_too_long_is_silent(self) -> None:
        splitter = LineSplitter(limit=2)
        self.assertEqual(splitter.feed(b"abc"), [TOO_LONG])
        self.assertEqual(splitter.end(), [])
        self.assertEqual(splitter.feed(b"a\n"), [b"a"])

    def test_clear_forgets(self) -> None:
        splitter = LineSplitter(limit=3)
        splitter.feed(b"ab")
        splitter.clear()
        self.assertEqual(splitter.feed(b"c\n"), [b"c"])
        splitter.feed(b"abcd")
        splitter.clear()
        self.assertEqual(splitter.feed(b"d\n"), [b"d"])

    def test_empty_terminator_is_refused(self) -> None:
        self.assertRaises(ValueError, LineSplitter, b"")

    @given(
        data=st.lists(st.sampled_from([b"a", b"b", b"\r", b"\n", b"ab", b"\r\n"])).map(b"".join),
        cuts=st.lists(st.integers(0, 60)),
        terminator=st.sampled_from([b"\n", b"\r\n", b"aba", b"aa"]),
        limit=st.integers(1, 8),
    )
    def test_any_split_gives_the_same(
        self, data: bytes, cuts: list[int], terminator: bytes, limit: int
    ) -> None:
        splitter = LineSplitter(terminator, limit)
        found = feed_in_pieces(splitter, data, cuts)
        self.assertEqual(found, expected_lines(data, terminator, limit))
        self.assertLessEqual(splitter.pending, limit + len(terminator))

    def test_a_long_line_in_small_pieces_takes_linear_time(self) -> None:
        def seconds(size: int) -> float:
            splitter = LineSplitter(limit=1 << 24)
            began = time.process_time()
            for _ in range(size // 1024):
                splitter.feed(b"x" * 1024)
            splitter.feed(b"\n")
            return time.process_time() - began

        # Quadratic work would make it 64 times as long; leave room for a busy machine.
        short = min(seconds(1 << 20) for _ in range(3))
        self.assertLess(min(seconds(1 << 23) for _ in range(2)), 24 * short + 0.05)


class CountSplitterTests(SynchronousTestCase):
    @given(
        data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60)), count=st.integers(1, 9)
    )
    def test_any_split_gives_the_same(self, data: bytes, cuts: list[int], count: int) -> None:
        splitter = CountSplitter(count)
        whole = len(data) // count * count
        expected = [data[start : start + count] for start in range(0, whole, count)]
        self.assertEqual(feed_in_pieces(splitter, data, cuts), expected)
        self.assertEqual(splitter.pending, len(data) - whole)
        self.assertEqual(splitter.end(), [data[whole:]] if data[whole:] else [])

    def test_clear_forgets(self) -> None:
        splitter = CountSplitter(2)
        splitter.feed(b"a")
        splitter.clear()
        self.assertEqual(splitter.feed(b"bc"), [b"bc"])

    def test_nothing_is_no_message(self) -> None:
        self.assertRaises(ValueError, CountSplitter, 0)


class SilenceSplitterTests(SynchronousTestCase):
    def test_ends_when_told(self) -> None:
        splitter = SilenceSplitter()
        self.assertEqual(splitter.feed(b"ab"), [])
        self.assertEqual(splitter.feed(b"c\n"), [])
        self.assertEqual(splitter.end(), [b"abc\n"])
        self.assertEqual(splitter.end(), [])

    def test_too_long_is_reported_once(self) -> None:
        splitter = SilenceSplitter(limit=3)
        self.assertEqual(splitter.feed(b"abcd"), [TOO_LONG])
        self.assertEqual(splitter.feed(b"efgh"), [])
        self.assertEqual(splitter.end(), [])
        self.assertEqual(splitter.feed(b"x"), [])
        self.assertEqual(splitter.pending, 1)
        self.assertEqual(splitter.end(), [b"x"])


class EndingTests(SynchronousTestCase):
    def test_words(self) -> None:
        for text, ending in {
            "LF": Ending(terminator=b"\n"),
            "crlf": Ending(terminator=b"\r\n"),
            "CR LF": Ending(terminator=b"\r\n"),
            "CR": Ending(terminator=b"\r"),
            "hex:0D 0a": Ending(terminator=b"\r\n"),
            "hex:0x03": Ending(terminator=b"\x03"),
            "text:;\\r": Ending(terminator=b";\r"),
            "text:\\x03\\\\": Ending(terminator=b"\x03\\"),
            "count:12": Ending(count=12),
            "silence:0.05": Ending(silence=0.05),
        }.items():
            self.assertEqual(parse_ending(text), ending, text)

    def test_everything_else_is_refused_with_the_choices(self) -> None:
        for text in (
            "", "EOF", "count:", "count:0", "count:-1", "count:1.5", "silence:0", "silence:nan",
            "hex:", "hex:0", "hex:" + "41" * 17, "text:", "text:\\q", "text:\\x4", "none:1",
        ):  # fmt: skip
            error = self.assertRaises(ValueError, parse_ending, text)
            self.assertIn("silence:0.05", str(error))

    def test_splitters(self) -> None:
        self.assertEqual(Ending(terminator=b";").splitter(9).feed(b"a;b;c"), [b"a", b"b"])
        self.assertEqual(Ending(count=2).splitter(9).feed(b"abcde"), [b"ab", b"cd"])
        silence = Ending(silence=1.0).splitter(3)
        self.assertEqual(silence.feed(b"abcd"), [TOO_LONG])
