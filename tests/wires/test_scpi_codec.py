"""Responses of SCPI instruments in any split: messages, blocks, counts, terminators."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import BadArguments, DeviceFault, TooLarge
from labnet.wires.scpi import codec
from labnet.wires.scpi.codec import (
    BlockReader,
    CountReader,
    Reader,
    ResponseReader,
    SilenceReader,
    UntilReader,
    is_plain,
)
from tests.wires.vectors import records

cuts = st.lists(st.integers(0, 80), max_size=10)


def feed(reader: Reader, data: bytes, where: list[int]) -> tuple[bytes, int]:
    """The result, and how many bytes of `data` it took."""
    edges = [0, *sorted({min(cut, len(data)) for cut in where}), len(data)]
    for start, end in itertools.pairwise(edges):
        used = reader.feed(data[start:end])
        if used is not None:
            return bytes(reader.result), start + used
    raise AssertionError("not complete")


def read_all(make: Callable[[], Reader], data: bytes, where: list[int]) -> list[bytes]:
    """All responses in `data`, each with a reader of its own."""
    found = []
    while data:
        result, used = feed(make(), data, where)
        found.append(result)
        data = data[used:]
    return found


class ResponseTests(SynchronousTestCase):
    def test_recorded_responses(self) -> None:
        seen = 0
        for record in records("scpi"):
            out = bytes.fromhex(record["out"])
            if out:
                step = range(len(out))
                whole = read_all(ResponseReader, out, [])
                self.assertEqual(read_all(ResponseReader, out, list(step)), whole, record["case"])
                self.assertEqual(b"".join(line + b"\n" for line in whole), out)
                seen += 1
        self.assertGreater(seen, 80)

    def test_recorded_responses_joined(self) -> None:
        out = b"".join(bytes.fromhex(record["out"]) for record in records("scpi"))
        whole = read_all(ResponseReader, out, [])
        self.assertEqual(read_all(ResponseReader, out, list(range(len(out)))), whole)

    def test_blocks_and_strings_hide_the_terminator(self) -> None:
        for response in (
            b"1;#15a\nb\nc;2", b'"a\nb""\n",3', b"'\n'", b'#10,#11\n;""', b"  #12\n\n", b'5","\n"',
            b"#A\x01", b"#0abc", b"1,2;#x", b"'it''s\n'", b'""""', b"",
        ):  # fmt: skip
            for where in ([], list(range(len(response) + 2))):
                result, used = feed(ResponseReader(), response + b"\nnext\n", where)
                self.assertEqual((result, used), (response, len(response) + 1), response)

    @given(st.text("ab#1\"';, \n\r", max_size=12), st.sampled_from((b"\n", b"\r\n")))
    def test_plain_responses(self, text: str, terminator: bytes) -> None:
        """What is taken for a plain response is just what a reader makes of it."""
        data = text.encode() + terminator
        plain = is_plain(data, terminator)
        if plain:
            reader = ResponseReader(terminator)
            self.assertEqual(reader.feed(data), len(data))
            self.assertEqual(reader.result, data[: -len(terminator)])
        hides = any(mark in text for mark in "#\"'")
        self.assertEqual(plain, not hides and data.count(terminator) == 1)
        self.assertFalse(is_plain(data[:-1], terminator) and not data[:-1].endswith(terminator))

    def test_marks_inside_a_datum_hide_nothing(self) -> None:
        for response in (b'5"', b"a#15", b"*5'"):
            result, _ = feed(ResponseReader(), response + b"\nx\n", [])
            self.assertEqual(result, response)

    def test_terminator_of_two_bytes(self) -> None:
        data = b"#12\r\n\rx\r\n;,"
        for where in ([], list(range(len(data)))):
            self.assertEqual(feed(ResponseReader(b"\r\n"), data, where), (b"#12\r\n\rx", 9))

    @given(
        st.lists(st.sampled_from("#12\"',;a \r")).map(lambda parts: "".join(parts).encode()),
        cuts,
    )
    def test_any_split_gives_the_same(self, response: bytes, where: list[int]) -> None:
        data = response + b"\n" * 30 + b'"\n'
        outcomes = []
        for split in ([], where, list(range(len(data)))):
            try:
                outcomes.append(feed(ResponseReader(), data, split))
            except AssertionError:
                outcomes.append((b"", -1))
        self.assertEqual(outcomes[0], outcomes[1])
        self.assertEqual(outcomes[0], outcomes[2])

    def test_too_long(self) -> None:
        self.assertEqual(feed(ResponseReader(limit=4), b"abcd\n", [4]), (b"abcd", 5))
        for data in (b"abcde", b"abcde\n", b"#15", b"#9999999999"):
            self.assertRaises(TooLarge, ResponseReader(limit=4).feed, data)


class BlockTests(SynchronousTestCase):
    @given(st.binary(max_size=60), cuts, st.sampled_from([b"", b"CURVE ", b":C1:WF DAT1,"]))
    def test_any_split_gives_the_same(self, data: bytes, where: list[int], header: bytes) -> None:
        told: list[tuple[int, int]] = []
        message = header + codec.encode_block(data)
        reader = BlockReader(progress=lambda got, of: told.append((got, of)))
        self.assertEqual(feed(reader, message + b"\nrest", where), (data, len(message) + 1))
        if data:
            self.assertEqual(told[-1], (len(data), len(data)))
            self.assertEqual(told, sorted(told))

    def test_forms(self) -> None:
        for message, data in {
            b"#3005abcde\n": b"abcde",
            b"#10\n": b"",
            b"#0abc\n": b"abc",
            b"#15abcde\r\n": b"abcde",
        }.items():
            for where in ([], list(range(len(message)))):
                self.assertEqual(feed(BlockReader(), message, where), (data, len(message)))

    def test_no_block(self) -> None:
        for answer in (b"1.5\n", b"\n", b"#A1\n", b"x" * 400, b"#2x1\n", b"ERR\n#15abcde\n"):
            for where in ([], list(range(len(answer)))):
                self.assertRaises(DeviceFault, feed, BlockReader(), answer, where)
        self.assertRaises(DeviceFault, feed, BlockReader(), b"#11ab\n", [])

    def test_announced_too_long(self) -> None:
        self.assertRaises(TooLarge, BlockReader(limit=99).feed, b"#3100")
        self.assertRaises(TooLarge, BlockReader(limit=3).feed, b"#0abcd")

    def test_a_large_one_is_not_copied_per_piece(self) -> None:
        reader = BlockReader()
        size = 1 << 24
        reader.feed(b"#8%08d" % size)
        piece = b"x" * (1 << 16)
        for _ in range(size >> 16):
            self.assertIsNone(reader.feed(piece))
        self.assertEqual(reader.feed(b"\n"), 1)
        self.assertEqual(len(reader.result), size)


class PlainReaderTests(SynchronousTestCase):
    @given(cuts)
    def test_count(self, where: list[int]) -> None:
        self.assertEqual(feed(CountReader(5), b"ab\ncdefg", where), (b"ab\ncd", 5))

    @given(cuts)
    def test_until(self, where: list[int]) -> None:
        self.assertEqual(feed(UntilReader(b"\r\n"), b"a\rb\nc\r\nd\r\n", where), (b"a\rb\nc", 7))

    def test_until_too_long(self) -> None:
        self.assertEqual(feed(UntilReader(b"\r\n", 3), b"abc\r\n", [4]), (b"abc", 5))
        self.assertRaises(TooLarge, UntilReader(b"\r\n", 3).feed, b"abcde")
        self.assertRaises(TooLarge, UntilReader(b"\n", 3).feed, b"abcd\n")

    def test_silence(self) -> None:
        reader = SilenceReader(4)
        self.assertIsNone(reader.feed(b"ab"))
        self.assertIsNone(reader.feed(b"\n"))
        self.assertEqual(reader.result, b"ab\n")
        self.assertRaises(TooLarge, reader.feed, b"cd")


class MessageTests(SynchronousTestCase):
    def test_text(self) -> None:
        self.assertEqual(codec.encode_text("*IDN?\r\n"), b"*IDN?")
        self.assertEqual(codec.encode_text("DISP 'µ'"), b"DISP '\xb5'")
        self.assertRaises(BadArguments, codec.encode_text, "VOLT 1 Ω")

    def test_one_message(self) -> None:
        for message in (b"VOLT 1", b'T "a\nb"', b"DATA #13a\nb", b"", b"T 'it''s'", b"A;B 'x';C"):
            codec.check_one_message(message)
        for message in (b"VOLT 1\nVOLT 2", b'T "a', b"DATA #19abc", b"A 'b\nC"):
            self.assertRaises(BadArguments, codec.check_one_message, message)

    def test_strings_and_blocks(self) -> None:
        self.assertEqual(codec.quote_string('say "a"'), '"say ""a"""')
        self.assertEqual(codec.encode_block(b"0123456789"), b"#2100123456789")
        self.assertEqual(codec.encode_block(b""), b"#10")

    def test_errors(self) -> None:
        for response, error in {
            '0,"No error"': (0, "No error"),
            '+0,"No error"': (0, "No error"),
            '-113, "Undefined header;FOO" ': (-113, "Undefined header;FOO"),
            '-100,"a ""b"""': (-100, 'a "b"'),
            "-5,bare": (-5, "bare"),
        }.items():
            self.assertEqual(codec.decode_error(response), error)
        for response in ("", "No error", "x,1"):
            self.assertRaises(DeviceFault, codec.decode_error, response)

    def test_response_text(self) -> None:
        self.assertEqual(codec.decode_text(b"ACME\r"), "ACME")
        self.assertEqual(codec.decode_text(bytearray(b"\xb5")), "µ")
