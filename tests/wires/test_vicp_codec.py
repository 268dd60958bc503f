"""The VICP codec: recorded blocks in any split, numbers, answers, blocks in answers, nonsense."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.wires.vicp import codec
from labnet.wires.vicp.codec import (
    MOST_LETTERS,
    Block,
    BlockSplitter,
    Item,
    Letter,
    Malformed,
    Operation,
)
from tests.wires.vectors import records
from tests.wires.vicp_toy import answers, blocks, message


def feed(data: bytes, where: list[int], limit: int = codec.DEFAULT_LIMIT) -> list[Item]:
    """What comes of `data`, cut at the places `where`."""
    splitter = BlockSplitter(limit, letters=True)
    cuts = [0, *sorted(min(cut, len(data)) for cut in where), len(data)]
    items: list[Item] = []
    for start, end in pairwise(cuts):
        items += splitter.feed(data[start:end])
    return items


def joined(items: list[Item]) -> list[Item]:
    """Items with the parts of long blocks joined."""
    whole: list[Item] = []
    for item in items:
        last = whole[-1] if whole else None
        if (
            isinstance(item, Block)
            and isinstance(last, Block)
            and not last.operation & codec.EOI
            and last.sequence == item.sequence
        ):
            whole[-1] = Block(item.operation, item.sequence, last.data + item.data)
        else:
            whole.append(item)
    return whole


cuts = st.lists(st.integers(0, 1000), max_size=12)
block = st.builds(
    Block,
    st.integers(0, 255).map(lambda number: number & ~2),
    st.integers(0, 255),
    st.binary(max_size=40),
)
letter = st.builds(Letter, st.integers(0, 255).map(lambda number: number | 2))


def encoded(item: Item) -> bytes:
    if isinstance(item, Letter):
        return bytes([item.code])
    assert isinstance(item, Block)
    return codec.encode_block(*item)


class RecordedTests(SynchronousTestCase):
    def recorded(self) -> list[tuple[bytes, Item]]:
        """The bytes of each record and what they mean."""
        found: list[tuple[bytes, Item]] = []
        for record in records("vicp"):
            data, value = bytes.fromhex(record["bytes"]), record["value"]
            if record["direction"] == "c2s-oob":
                found.append((data, Letter(ord(value["letter"]))))
            elif record["direction"] != "s2c-oob" and value["version"] == 1:
                operation = sum(Operation[name] for name in value["operation"])
                found.append((data, Block(operation, value["sequence"], data[8:])))
                self.assertEqual(value["length"], len(data) - 8)
        return found

    def test_each_block(self) -> None:
        recorded = self.recorded()
        self.assertGreater(len(recorded), 45)
        for data, item in recorded:
            self.assertEqual(feed(data, []), [item])
            self.assertEqual(feed(data, list(range(len(data)))), [item])
            self.assertEqual(encoded(item), data)

    def test_all_of_them_joined(self) -> None:
        recorded = self.recorded()
        data = b"".join(data for data, _ in recorded)
        expected = [item for _, item in recorded]
        self.assertEqual(feed(data, []), expected)
        self.assertEqual(feed(data, list(range(len(data)))), expected)

    def test_a_version_that_nobody_knows(self) -> None:
        (bad,) = (r for r in records("vicp") if "bad version" in r["case"])
        items = feed(bytes.fromhex(bad["bytes"]) + message(b"*IDN?"), [])
        self.assertEqual(len(items), 1)
        assert isinstance(items[0], Malformed)
        self.assertIn("version 7", items[0].reason)

    def test_mutated_vectors(self) -> None:
        """Ten thousand of them: nothing raises, and only what has come is held."""
        chance = random.Random(1861)
        recorded = [data for data, _ in self.recorded()]
        for _ in range(10_000):
            data = bytearray(b"".join(chance.choices(recorded, k=3)))
            for _ in range(chance.randint(1, 8)):
                at = chance.randrange(len(data))
                change = chance.randrange(3)
                if change == 0:
                    data[at] = chance.randrange(256)
                elif change == 1:
                    del data[at : at + chance.randint(1, 12)]
                else:
                    data[at:at] = chance.randbytes(chance.randint(1, 12))
                if not data:
                    break
            splitter = BlockSplitter(1 << 20, letters=chance.random() < 0.5)
            cut = chance.randrange(len(data) + 1)
            items = splitter.feed(bytes(data[:cut])) + splitter.feed(bytes(data[cut:]))
            held = sum(len(encoded(item)) for item in items if not isinstance(item, Malformed))
            self.assertLessEqual(held + splitter.pending, len(data))


class SplitterTests(SynchronousTestCase):
    @given(st.lists(block | letter, max_size=8), cuts)
    def test_any_split(self, items: list[Item], where: list[int]) -> None:
        data = b"".join(map(encoded, items))
        self.assertEqual(feed(data, where), items)

    @given(st.binary(max_size=300), cuts)
    def test_nonsense_in_any_split(self, data: bytes, where: list[int]) -> None:
        self.assertEqual(feed(data, where, 100), feed(data, [], 100))

    def test_a_long_block_comes_in_parts(self) -> None:
        data = random.Random(1).randbytes(3 * codec.PIECE + 5)
        whole = Block(codec.CLEAR | codec.DATA | codec.EOI, 7, data)
        stream = encoded(whole) + message(b"*IDN?", 8)
        for size in (1000, 65536, codec.PIECE, codec.PIECE + 9, len(stream)):
            items = feed(stream, list(range(0, len(stream), size)))
            first, *rest, last = items
            assert isinstance(first, Block) and isinstance(last, Block)
            self.assertTrue(first.operation & codec.CLEAR)
            self.assertFalse(any(item.operation & codec.CLEAR for item in rest))  # type: ignore
            self.assertEqual(last, Block(0x81, 8, b"*IDN?"))
            together = b"".join(item.data for item in items[:-1])  # type: ignore[union-attr]
            self.assertEqual(together, data)
            self.assertEqual(len([i for i in items[:-1] if i.operation & 1]), 1)  # type: ignore

    def test_only_what_has_come_is_held(self) -> None:
        splitter = BlockSplitter(1 << 32)
        self.assertEqual(splitter.feed(codec.encode_header(0x81, 1, (1 << 32) - 1) + b"abc"), [])
        self.assertEqual(splitter.pending, 3)

    def test_the_bound(self) -> None:
        self.assertEqual(feed(message(b"12345"), [], 5), [Block(0x81, 1, b"12345")])
        (item,) = feed(message(b"123456"), [], 5)
        self.assertEqual(item, Malformed("a block of 6 bytes; the limit is 5"))

    def test_a_million_letters(self) -> None:
        items = BlockSplitter(1 << 20, letters=True).feed(b"\xff" * (1 << 20))
        self.assertEqual(items[:-1], [Letter(0xFF)] * MOST_LETTERS)
        self.assertEqual(items[-1], Malformed("a header that begins with 0xff"))

    def test_a_letter_where_there_are_none(self) -> None:
        (item,) = BlockSplitter().feed(b"S")
        self.assertEqual(item, Malformed("a header that begins with 0x53"))


class NumberTests(SynchronousTestCase):
    def test_after_255_comes_1(self) -> None:
        numbers = [1]
        for _ in range(254):
            numbers.append(codec.next_sequence(numbers[-1]))
        self.assertEqual(numbers, list(range(1, 256)))
        self.assertEqual(codec.next_sequence(255), 1)

    def test_late(self) -> None:
        self.assertTrue(codec.is_late(8, 9))
        self.assertTrue(codec.is_late(255, 1))
        self.assertTrue(codec.is_late(200, 20))
        for sequence, sent in ((9, 9), (10, 9), (1, 255), (0, 9), (9, 0)):
            self.assertFalse(codec.is_late(sequence, sent), (sequence, sent))


class AnswerTests(SynchronousTestCase):
    @given(st.integers(0, 20), st.integers(1, 9))
    def test_pieces(self, size: int, piece: int) -> None:
        data = bytes(range(size))
        sent = b"".join(codec.encode_answer(3, data, piece))
        self.assertEqual(answers(sent), [(3, data)])
        self.assertFalse(any(block.operation & codec.EOI for block in blocks(sent)[:-1]))

    def test_an_answer_that_fills_a_buffer_ends_in_an_empty_block(self) -> None:
        for size in (4096, 20480, 40960, 1 << 20):
            found = blocks(b"".join(codec.encode_answer(1, bytes(size))))
            self.assertEqual(found[-1], Block(0x81, 1, b""))
            self.assertEqual([block.operation for block in found[:-1]], [0x80] * (len(found) - 1))
        for size in (0, 1, 4095, 4097, 20481):
            self.assertEqual(len(blocks(b"".join(codec.encode_answer(1, bytes(size))))), 1)
