"""Blocks and text in whole messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import BadArguments, DeviceFault, TooLarge
from labnet.framing.blocks import decode_text, encode_block, encode_text, find_block, take_block


class Huge(bytes):
    def __len__(self) -> int:
        return 1_000_000_000


class BlockTests(SynchronousTestCase):
    @given(st.binary(max_size=300), st.sampled_from([b"", b"C1:WF ALL,", b"CURVE "]))
    def test_what_is_written_is_read(self, data: bytes, header: bytes) -> None:
        answer = header + encode_block(data)
        found = find_block(answer)
        self.assertEqual(found, (len(answer) - len(data), len(data)))
        self.assertEqual(take_block(bytearray(answer + b"\n")), data)
        self.assertEqual(take_block(bytearray(answer)), data)

    def test_a_block_without_a_length(self) -> None:
        self.assertEqual(take_block(bytearray(b"#0a\nb\n")), b"a\nb")

    def test_a_beginning(self) -> None:
        for answer in (b"", b"CURVE", b"CURVE #", b"#3", b"#312"):
            self.assertIsNone(find_block(answer), answer)

    def test_none(self) -> None:
        for answer in (b"hello\n", b"x" * 200, b"#3x12", b"#3100abc", b"#13abcd", b"#3"):
            self.assertRaises(DeviceFault, take_block, bytearray(answer))

    def test_too_long(self) -> None:
        self.assertRaises(TooLarge, encode_block, Huge())


class TextTests(SynchronousTestCase):
    def test_text(self) -> None:
        self.assertEqual(encode_text("10 µV"), b"10 \xb5V")
        self.assertEqual(encode_text(b"\0"), b"\0")
        self.assertEqual(decode_text(b"a\xb5\r\n"), "aµ")
        self.assertIn("'€'", str(self.assertRaises(BadArguments, encode_text, "1 €")))
