"""XDR values and records in fragments of any kind."""

from __future__ import annotations

from struct import Struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.framing.xdr import (
    LONG,
    MAX_FRAGMENTS,
    RecordSplitter,
    XdrError,
    XdrReader,
    encode_mark,
    encode_opaque,
    encode_uint,
)


def fragments(record: bytes, cuts: list[int]) -> bytes:
    """The record on the stream, cut at these places (modulo its length)."""
    places = sorted({cut % (len(record) + 1) for cut in cuts})
    pieces = [record[a:b] for a, b in zip([0, *places], [*places, len(record)], strict=True)]
    *first, last = pieces
    sent = [encode_mark(len(piece), last=False) + piece for piece in first]
    return b"".join(sent) + encode_mark(len(last)) + last


def in_pieces(splitter: RecordSplitter, data: bytes, size: int) -> list[bytes]:
    found = []
    for at in range(0, len(data), size):
        found += splitter.feed(data[at : at + size])
    return [bytes(record) for record in found]


class ReaderTests(SynchronousTestCase):
    def test_values(self) -> None:
        reader = XdrReader(bytes.fromhex("00000007 00000003 61626300 fffffffe"))
        self.assertEqual(reader.uint(), 7)
        self.assertEqual(reader.opaque(10), b"abc")
        self.assertEqual(reader.fields(Struct(">i")), (-2,))
        self.assertEqual(reader.at, 16)
        self.assertRaises(XdrError, reader.uint)

    def test_a_view(self) -> None:
        """What is long is not copied; what is read is the same."""
        for size in (0, 1, LONG, LONG + 1):
            data = bytes(range(256)) * 20
            reader = XdrReader(encode_opaque(data[:size]) + encode_uint(7))
            self.assertEqual(bytes(reader.view(1 << 20)), data[:size])
            self.assertEqual(reader.uint(), 7)
        self.assertIsInstance(XdrReader(encode_opaque(bytes(LONG + 1))).view(1 << 20), memoryview)
        self.assertRaises(XdrError, XdrReader(encode_opaque(bytes(9))).view, 8)

    def test_lengths_that_lie(self) -> None:
        for text in ("ffffffff", "00000005 61626364", "80000000 00", "000000"):
            self.assertRaises(XdrError, XdrReader(bytes.fromhex(text)).opaque, 1 << 31)

    def test_a_bound(self) -> None:
        data = encode_opaque(b"12345")
        self.assertEqual(XdrReader(data).opaque(5), b"12345")
        self.assertRaises(XdrError, XdrReader(data).opaque, 4)

    def test_padding(self) -> None:
        self.assertEqual(encode_opaque(b""), bytes(4))
        self.assertEqual(encode_opaque(b"abcd"), b"\0\0\0\4abcd")
        self.assertEqual(encode_opaque(b"abcde"), b"\0\0\0\5abcde\0\0\0")
        self.assertEqual(XdrReader(b"\0\0\0\1a").opaque(9), b"a", "padding that is missing")

    @given(st.lists(st.binary(max_size=50), max_size=8))
    def test_what_is_written_is_read(self, values: list[bytes]) -> None:
        data = b"".join(encode_opaque(value) + encode_uint(len(value)) for value in values)
        reader = XdrReader(data)
        for value in values:
            self.assertEqual((reader.opaque(50), reader.uint()), (value, len(value)))
        self.assertEqual(reader.at, len(data))


class RecordTests(SynchronousTestCase):
    @given(
        st.lists(
            st.tuples(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5)),
            min_size=1,
            max_size=5,
        ),
        st.integers(1, 100),
    )
    def test_any_fragments_in_any_pieces(
        self, records: list[tuple[bytes, list[int]]], size: int
    ) -> None:
        data = b"".join(fragments(record, cuts) for record, cuts in records)
        splitter = RecordSplitter(60)
        self.assertEqual(in_pieces(splitter, data, size), [record for record, _ in records])
        self.assertEqual((splitter.fault, splitter.pending), ("", False))

    @given(st.binary(max_size=300), st.integers(1, 40))
    def test_nonsense_is_bounded(self, data: bytes, size: int) -> None:
        splitter = RecordSplitter(50)
        for record in in_pieces(splitter, data, size):
            self.assertLessEqual(len(record), 50)
        self.assertLessEqual(len(splitter.held), 50)

    def test_empty_fragments(self) -> None:
        data = encode_mark(0, last=False) + encode_mark(2, last=False) + b"ab" + encode_mark(0)
        for size in (1, 3, 100):
            self.assertEqual(in_pieces(RecordSplitter(10), data, size), [b"ab"])

    def test_announcements(self) -> None:
        """Nothing is kept for what is only announced."""
        for mark in ("ffffffff", "7fffffff", "47455420", "80000033"):
            splitter = RecordSplitter(50)
            self.assertEqual(splitter.feed(bytes.fromhex(mark) + bytes(20)), [])
            self.assertIn("more than 50 bytes", splitter.fault)
            self.assertEqual(splitter.held, b"")
            self.assertEqual(splitter.feed(encode_mark(1) + b"x"), [], "nothing can follow")

    def test_a_record_in_too_many_parts(self) -> None:
        splitter = RecordSplitter(50)
        part = encode_mark(40, last=False) + bytes(40)
        self.assertEqual(splitter.feed(part), [])
        self.assertEqual(splitter.feed(part), [])
        self.assertIn("more than 50 bytes", splitter.fault)

    def test_fragments_without_end(self) -> None:
        splitter = RecordSplitter(50)
        self.assertEqual(splitter.feed(encode_mark(0, last=False) * MAX_FRAGMENTS), [])
        self.assertEqual(splitter.fault, "")
        splitter.feed(encode_mark(0, last=False))
        self.assertIn("fragments", splitter.fault)

    def test_a_limit_that_grows(self) -> None:
        splitter = RecordSplitter(4)
        self.assertEqual(splitter.feed(encode_mark(4) + b"abcd"), [b"abcd"])
        splitter.limit = 8
        self.assertEqual(splitter.feed(encode_mark(8) + b"abcdefgh"), [b"abcdefgh"])

    def test_what_is_held(self) -> None:
        splitter = RecordSplitter(50)
        splitter.feed(encode_mark(5, last=False) + b"abc")
        self.assertEqual(splitter.held, b"abc")
        self.assertTrue(splitter.pending)
