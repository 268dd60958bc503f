"""Where program messages end: plain text, strings, blocks, bounds, any split of the stream."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.framing.program_message import MessageFault, Piece, ProgramMessageSplitter

#: Bytes that matter to the splitter come up often.
TRICKY = st.lists(
    st.sampled_from(
        [
            *(bytes([byte]) for byte in b"A? \n\r;,\"'#012(@\x00\xff"),
            *(b":X ", b" #12ab", b" #0a;"),
        ]
    ),
    max_size=60,
).map(b"".join)


def whole(data: bytes, **limits: int) -> list[Piece]:
    return list(ProgramMessageSplitter(**limits).feed(data))


def plain(pieces: list[Piece]) -> list[bytes | MessageFault]:
    return [piece if isinstance(piece, MessageFault) else bytes(piece) for piece in pieces]


class MessageEndTests(SynchronousTestCase):
    def ends(self, data: bytes, *messages: bytes, rest: int = 0) -> None:
        splitter = ProgramMessageSplitter()
        self.assertEqual(plain(list(splitter.feed(data))), list(messages))
        self.assertEqual(splitter.pending, rest)

    def test_lines(self) -> None:
        self.ends(b"*IDN?\nVOLT 1;VOLT?\r\n\n", b"*IDN?", b"VOLT 1;VOLT?\r", b"")

    def test_incomplete(self) -> None:
        self.ends(b"*IDN?\nVOL", b"*IDN?", rest=3)

    def test_line_feed_in_string(self) -> None:
        self.ends(b"A \"x\ny\";B 'p\n\"q'\nC\n", b"A \"x\ny\";B 'p\n\"q'", b"C")

    def test_doubled_quotes(self) -> None:
        self.ends(b'A "x""\n"\n', b'A "x""\n"')
        self.ends(b'A "x"\n"y"\n', b'A "x"', b'"y"')

    def test_line_feed_in_block(self) -> None:
        self.ends(b"A #13\n\n\n;B\n", b"A #13\n\n\n;B")
        self.ends(b"A 1, #203ab\n\n", b"A 1, #203ab\n")
        self.ends(b"A (#12\n\n)\n", b"A (#12\n\n)")

    def test_empty_block(self) -> None:
        self.ends(b"A #10\nB\n", b"A #10", b"B")

    def test_indefinite_block_ends_at_line_feed(self) -> None:
        self.ends(b"A #0x;\"y\nB\n", b'A #0x;"y', b"B")

    def test_no_block(self) -> None:
        """A hash in a header, a word or a number, and a length that is none."""
        self.ends(b"A#15\nB\n", b"A#15", b"B")
        self.ends(b"A x#15\nB\n", b"A x#15", b"B")
        self.ends(b"A #H1F\nB #2x\n#15\n", b"A #H1F", b"B #2x", b"#15")

    def test_no_string(self) -> None:
        """A quote in a header hides no line feed, so that a typing error costs one message."""
        self.ends(b"don't\n*IDN?\n", b"don't", b"*IDN?")

    def test_string_after_unit(self) -> None:
        self.ends(b"A 1;B 'x;\n'\n", b"A 1;B 'x;\n'")


class BoundTests(SynchronousTestCase):
    def test_text(self) -> None:
        pieces = whole(b"A" * 50 + b"\nB\n", text_limit=40)
        self.assertEqual(pieces, [MessageFault(-363, "message longer than 40 bytes"), b"B"])

    def test_text_at_the_limit(self) -> None:
        self.assertEqual(whole(b"A" * 40 + b"\n", text_limit=40), [b"A" * 40])

    def test_long_text_is_not_kept(self) -> None:
        splitter = ProgramMessageSplitter(text_limit=1000)
        for _ in range(100):
            self.assertEqual(list(splitter.feed(b"x" * 500)), [])
        self.assertLessEqual(splitter.pending, 1000)
        self.assertEqual(plain(list(splitter.feed(b"\nB\n")))[1:], [b"B"])

    def test_block(self) -> None:
        pieces = whole(b"A #3200" + b"\n" * 200 + b";B 1\nC\n", block_limit=100)
        fault = MessageFault(-223, "block data longer than 100 bytes")
        self.assertEqual(plain(pieces), [fault, b"C"])

    def test_announced_is_not_allocated(self) -> None:
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        splitter = ProgramMessageSplitter()
        list(splitter.feed(b"A #9900000000" + b"x" * 100))
        self.assertLess(tracemalloc.get_traced_memory()[1], 100_000)
        self.assertEqual(splitter.pending, 113)

    def test_string(self) -> None:
        pieces = whole(b'A "' + b"x" * 200 + b"\nB\n", string_limit=100)
        fault = MessageFault(-151, "string longer than 100 bytes")
        self.assertEqual(plain(pieces), [fault, b"B"])

    def test_give_up_string(self) -> None:
        splitter = ProgramMessageSplitter()
        splitter.feed(b'A "abc')
        self.assertFalse(splitter.waits_in_string)
        splitter.feed(b"\n")
        self.assertTrue(splitter.waits_in_string)
        self.assertEqual(splitter.give_up_string().number, -151)
        self.assertFalse(splitter.waits_in_string)
        self.assertEqual(plain(list(splitter.feed(b"*IDN?\n"))), [b"*IDN?"])

    def test_give_up_string_within_a_line(self) -> None:
        splitter = ProgramMessageSplitter()
        splitter.feed(b'A "abc\nVOL')
        splitter.give_up_string()
        self.assertEqual(plain(list(splitter.feed(b"T 1\n*IDN?\n"))), [b"*IDN?"])

    def test_clear(self) -> None:
        splitter = ProgramMessageSplitter()
        splitter.feed(b"A #19x")
        splitter.clear()
        self.assertEqual(plain(list(splitter.feed(b"B\n"))), [b"B"])


class PropertyTests(SynchronousTestCase):
    @given(TRICKY, st.lists(st.integers(1, 9), max_size=40))
    @settings(max_examples=500, deadline=None)
    def test_any_split_gives_the_same(self, data: bytes, sizes: list[int]) -> None:
        limits = {"text_limit": 40, "block_limit": 12, "string_limit": 10}
        splitter = ProgramMessageSplitter(**limits)
        pieces: list[Piece] = []
        rest = data
        for size in [*sizes, len(data)]:
            pieces += splitter.feed(rest[:size])
            rest = rest[size:]
            self.assertLessEqual(splitter.pending, 40 + 12 + 12)
        self.assertEqual(plain(pieces), plain(whole(data, **limits)))

    @given(TRICKY)
    @settings(max_examples=300, deadline=None)
    def test_nothing_is_lost(self, data: bytes) -> None:
        splitter = ProgramMessageSplitter()
        pieces = plain(list(splitter.feed(data)))
        kept = b"".join(piece + b"\n" for piece in pieces if isinstance(piece, bytes))
        self.assertTrue(data.startswith(kept))
        self.assertEqual(len(data) - len(kept), splitter.pending)

    @given(st.binary(max_size=300))
    @settings(max_examples=200, deadline=None)
    def test_blocks_come_through(self, data: bytes) -> None:
        length = str(len(data)).encode()
        message = b"DATA #%d%s%s;NEXT" % (len(length), length, data)
        self.assertEqual(plain(whole(message + b"\nX\n")), [message, b"X"])
