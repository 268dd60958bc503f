"""Bytes that come in pieces."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.framing.gathering import LONG, Gathered

SIZES = st.one_of(st.integers(0, 20), st.integers(LONG - 2, LONG + 2))


class GatheredTests(SynchronousTestCase):
    @given(st.lists(SIZES, max_size=12), st.integers(0, 3 * LONG))
    def test_pieces_of_any_size(self, sizes: list[int], head: int) -> None:
        gathered, whole = Gathered(), b""
        for number, size in enumerate(sizes):
            piece = bytes([number + 1]) * size
            kinds = (piece, bytearray(piece), memoryview(piece))
            gathered.add(kinds[number % 3])
            whole += piece
            self.assertEqual(len(gathered), len(whole))
        self.assertEqual(gathered.head(head), whole[:head])
        self.assertEqual(gathered.take(), whole)
        self.assertEqual((len(gathered), gathered.take()), (0, b""))

    def test_what_was_given_is_not_changed(self) -> None:
        gathered, given_one = Gathered(), bytearray(b"x")
        gathered.add(given_one)
        gathered.add(b"y")
        self.assertEqual((given_one, gathered.take()), (b"x", b"xy"))

    def test_clear(self) -> None:
        gathered = Gathered()
        gathered.add(bytes(LONG))
        gathered.clear()
        gathered.add(b"new")
        self.assertEqual(gathered.take(), b"new")

    def test_memory_of_many_short_pieces(self) -> None:
        """A peer that sends byte by byte costs no more than its bytes."""
        gathered = Gathered()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(200_000):
            gathered.add(b"x")
        self.assertLess(tracemalloc.get_traced_memory()[0], 300_000)
