"""HiSLIP messages in any split, and announcements that lie."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.wires.hislip.codec import (
    ABSURD,
    DATA,
    DATA_END,
    HEADER,
    Code,
    Message,
    MessageSplitter,
    Oversized,
    Piece,
    PoorlyFormed,
    Type,
    decode_size,
    decode_text,
    decode_version,
    encode,
    encode_initialize,
    encode_initialize_response,
    encode_not_understood,
    encode_size,
    encode_too_large,
    negotiate,
    next_id,
    payload_size,
    reached,
    type_name,
)

MESSAGES = st.builds(
    Message,
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=60),
)


def bytes_of(messages: list[Message]) -> bytes:
    return b"".join(encode(*message) for message in messages)


def taken(splitter: MessageSplitter, pieces: list[bytes]) -> list[object]:
    """What the splitter gives for these pieces, payloads as bytes."""
    found: list[object] = []
    for piece in pieces:
        splitter.feed(piece)
        while (item := splitter.take()) is not None:
            if isinstance(item, Message):
                item = item._replace(payload=bytes(item.payload))
            found.append(item)
    return found


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """`data` in pieces."""
    edges = [0, *sorted({edge % (len(data) + 1) for edge in at}), len(data)]
    return [data[one:two] for one, two in pairwise(edges)]


class SplitterTests(SynchronousTestCase):
    @settings(max_examples=300)
    @given(st.lists(MESSAGES, max_size=6), st.lists(st.integers(0, 1000), max_size=12))
    def test_any_split(self, messages: list[Message], edges: list[int]) -> None:
        splitter = MessageSplitter(100)
        self.assertEqual(taken(splitter, cut(bytes_of(messages), edges)), messages)
        self.assertFalse(splitter.pending)

    @given(MESSAGES, st.integers(0, 100), st.binary(max_size=20))
    def test_one_message_alone(self, message: Message, cut_at: int, more: bytes) -> None:
        """`whole` gives what `feed` and `take` would, and nothing else."""
        data = encode(*message)
        splitter = MessageSplitter(50)
        fits = len(message.payload) <= 50
        self.assertEqual(splitter.whole(data), message if fits else None)
        self.assertIsNone(splitter.whole(data[:cut_at] if cut_at < len(data) else b""))
        self.assertEqual(splitter.whole(data + more), message if fits and not more else None)
        self.assertIsNone(splitter.whole(b"hs" + data[2:]))
        splitter.feed(data[:16])
        splitter.take()
        if message.payload:
            self.assertIsNone(splitter.whole(data))

    @given(st.lists(MESSAGES, max_size=6), st.lists(st.integers(0, 1000), max_size=12))
    def test_in_pieces(self, messages: list[Message], edges: list[int]) -> None:
        """Data and DataEND come as they come, the rest whole."""
        splitter = MessageSplitter(100, in_pieces=True)
        joined: list[Message] = []
        data = b""
        for item in taken_pieces(splitter, cut(bytes_of(messages), edges)):
            if isinstance(item, Message):
                joined.append(item)
                continue
            self.assertIn(item.type, (DATA, DATA_END))
            data += item.data
            if item.last:
                joined.append(Message(item.type, 0, item.parameter, data))
                data = b""
        for one, other in zip(joined, messages, strict=True):
            self.assertEqual(one._replace(control=0), other._replace(control=0))

    @given(st.lists(MESSAGES, max_size=4), st.integers(0, 30), st.lists(st.integers(0, 500)))
    def test_over_the_bound(self, messages: list[Message], limit: int, edges: list[int]) -> None:
        """What is too long is passed over, and what comes after it counts again."""
        expected = [
            message if len(message.payload) <= limit
            else Oversized(message.type, len(message.payload))
            for message in messages
        ]  # fmt: skip
        self.assertEqual(taken(MessageSplitter(limit), cut(bytes_of(messages), edges)), expected)

    @given(st.binary(min_size=16, max_size=40).filter(lambda data: data[:2] != b"HS"))
    def test_wrong_prologue(self, data: bytes) -> None:
        splitter = MessageSplitter()
        splitter.feed(data)
        self.assertRaises(PoorlyFormed, splitter.take)

    def test_payload_between_two_reads(self) -> None:
        splitter = MessageSplitter(10)
        splitter.feed(encode(DATA, 1, 2, b"abc")[:-1])
        self.assertIsNone(splitter.take())
        self.assertTrue(splitter.pending)
        splitter.feed(b"c" + encode(DATA_END))
        self.assertEqual(splitter.take(), Message(DATA, 1, 2, b"abc"))
        self.assertEqual(splitter.take(), Message(DATA_END))
        self.assertIsNone(splitter.take())

    def test_feeding_before_all_was_taken(self) -> None:
        splitter = MessageSplitter(10)
        data = encode(DATA, 1, 2, b"abc")
        splitter.feed(data + data[:7])
        splitter.feed(data[7:])
        self.assertEqual(splitter.take(), Message(DATA, 1, 2, b"abc"))
        self.assertEqual(splitter.take(), Message(DATA, 1, 2, b"abc"))


def taken_pieces(splitter: MessageSplitter, pieces: list[bytes]) -> list[Message | Piece]:
    found: list[Message | Piece] = []
    for piece in pieces:
        splitter.feed(piece)
        while (item := splitter.take()) is not None:
            assert not isinstance(item, Oversized)
            if isinstance(item, Piece):
                item = item._replace(data=memoryview(bytes(item.data)))
            found.append(item)
    return found


class AnnouncementTests(SynchronousTestCase):
    """Nothing is allocated for what a header promises."""

    def test_absurd(self) -> None:
        for length in (ABSURD, 1 << 60, (1 << 64) - 1):
            for kind in (DATA, Type.INITIALIZE, 99):
                for in_pieces in (False, True):
                    splitter = MessageSplitter(1 << 62, in_pieces)
                    splitter.feed(HEADER.pack(b"HS", kind, 0, 0, length))
                    self.assertRaises(PoorlyFormed, splitter.take)

    def test_memory(self) -> None:
        """Below the bound memory is what has come; above it not even that."""
        for limit, most in ((1 << 30, 200_000), (1 << 20, 40_000)):
            splitter = MessageSplitter(limit)
            tracemalloc.start()
            splitter.feed(HEADER.pack(b"HS", DATA, 0, 0, 1 << 28))
            for _ in range(100):
                self.assertIsNone(splitter.take())
                splitter.feed(bytes(1000))
            self.assertIsNone(splitter.take())
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            self.assertLess(peak, most)


class NumberTests(SynchronousTestCase):
    def test_ids_wrap(self) -> None:
        self.assertEqual(next_id(0xFFFFFF00), 0xFFFFFF02)
        self.assertEqual(next_id(0xFFFFFFFE), 0)

    @given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0x3FFFFFFF))
    def test_reached(self, number: int, steps: int) -> None:
        later = number + 2 * steps & 0xFFFFFFFF
        self.assertTrue(reached(later, number))
        self.assertEqual(reached(number, later), steps == 0)

    def test_version_of_a_session_is_the_lower_one(self) -> None:
        for theirs, agreed in (((1, 0), (1, 0)), ((2, 0), (1, 0)), ((127, 127), (1, 0))):
            self.assertEqual(negotiate(theirs), agreed)
        self.assertEqual(negotiate((2, 0), (2, 0)), (2, 0))
        self.assertEqual(negotiate((1, 0), (2, 0)), (1, 0))

    def test_initialization(self) -> None:
        self.assertEqual(
            encode_initialize("hislip0", vendor=b"xx").hex(),
            "48530000010078780000000000000007" + b"hislip0".hex(),
        )
        self.assertEqual(
            encode_initialize_response((1, 0), 1).hex(), "48530100010000010000000000000000"
        )
        self.assertEqual(decode_version(0x7F7F5045), (127, 127))

    def test_sizes(self) -> None:
        message = encode_size(Type.ASYNC_MAXIMUM_MESSAGE_SIZE, 1 << 20)
        self.assertEqual(message.hex(), "48530f000000000000000000000000080000000000100000")
        self.assertEqual(decode_size(message[16:]), 1 << 20)
        self.assertIsNone(decode_size(b""))
        self.assertEqual([payload_size(size) for size in (0, 16, 17, 1024)], [1, 1, 1, 1008])


class TextTests(SynchronousTestCase):
    def test_strings_lose_a_nul(self) -> None:
        self.assertEqual(decode_text(b"K1\0"), "K1")
        self.assertEqual(decode_text(bytearray(b"K\xe9")), "K\xe9")

    def test_type_names(self) -> None:
        self.assertEqual(type_name(7), "DataEnd")
        self.assertEqual(type_name(99), "type 99")

    def test_errors(self) -> None:
        for kind, code in ((99, Code.UNRECOGNIZED_TYPE), (200, Code.UNRECOGNIZED_VENDOR)):
            data = encode_not_understood(kind)
            self.assertEqual(data[2:4], bytes([Type.ERROR, code]))
            self.assertIn(str(kind).encode(), data)
        data = encode_too_large(Oversized(7, 5000), 1024)
        self.assertEqual(data[2:4], bytes([Type.ERROR, Code.TOO_LARGE]))
        self.assertIn(b"5000", data)
