"""The lines of the sm_bluesky servers, against recorded exchanges and by their rules."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import BadArguments, DeviceFault, TimedOut, UnknownName
from labnet.framing.lines import Line, LineSplitter
from labnet.values import ANY, BOOL, EnumKind, LabeledArray
from labnet.wires.tsv import codec
from labnet.wires.tsv.codec import Reply, Request
from tests.wires.vectors import exchanges

#: Where the real server broke its own framing: a line feed inside the data.
BROKEN_FRAMING = {("fail2_multiline", "1.4.0"), ("nl_in_value", "1.4.0")}


def byte_by_byte(data: bytes) -> list[Line]:
    splitter = LineSplitter()
    return [line for start in range(len(data)) for line in splitter.feed(data[start : start + 1])]


class RecordedTests(SynchronousTestCase):
    def test_requests_in_any_split(self) -> None:
        count = 0
        for exchange in exchanges("tsv"):
            data = b"".join(exchange.sent)
            whole = LineSplitter().feed(data)
            in_writes = LineSplitter()
            written = [line for piece in exchange.sent for line in in_writes.feed(piece)]
            self.assertEqual(byte_by_byte(data), whole, exchange.case)
            self.assertEqual(written, whole, exchange.case)
            count += 1
        self.assertGreater(count, 140)

    def test_all_requests_joined(self) -> None:
        data = b"".join(b"".join(exchange.sent) for exchange in exchanges("tsv"))
        self.assertEqual(byte_by_byte(data), LineSplitter().feed(data))

    def test_every_reply_is_decoded_and_made_again(self) -> None:
        for exchange in exchanges("tsv"):
            lines = LineSplitter().feed(exchange.received)
            self.assertEqual(byte_by_byte(exchange.received), lines)
            for number, line in enumerate(lines):
                assert isinstance(line, bytes)
                reply = codec.decode_reply(line)
                if (exchange.case, exchange.peer) in BROKEN_FRAMING and number:
                    self.assertIsNone(reply, exchange.case)
                    continue
                assert reply is not None, exchange.case
                self.assertEqual(b"%d\t%b" % (reply.ok, reply.data), line)
                if exchange.case != "cr_in_value":
                    self.assertEqual(codec.encode_reply(reply.ok, reply.data), line + b"\n")

    def test_error_texts_are_those_of_the_real_server(self) -> None:
        recorded = {(e.case, e.peer): e.received for e in exchanges("tsv")}
        for case, made in {
            "unknown": codec.unknown_command("nosuch"),
            "unknown_utf8": codec.unknown_command("mó"),
            "unknown_nul": codec.unknown_command("\0"),
            "fail": codec.command_failed("fail", "bad thing"),
            "oops_timeouterror": codec.not_responding("oops", "by hand"),
            "deadline_exceeded": codec.not_responding("slow", "Slow move exceeded 0.3s limit"),
            "ping": codec.ACKNOWLEDGED,
        }.items():
            self.assertEqual(made, recorded[case, "1.4.0"], case)


class RequestTests(SynchronousTestCase):
    def test_rules(self) -> None:
        for line, request in {
            b"ping": Request(b"ping"),
            b"\tping": Request(b"ping"),
            b"  ping\r": Request(b"ping"),
            b"ping x": Request(b"ping x"),
            b"move\t 2": Request(b"move", (b" 2",)),
            b"echo\ta\t\tb": Request(b"echo", (b"a", b"b")),
            b"echo\ta\t\t": Request(b"echo", (b"a",)),
            b"argc\t\x0ba\x0c": Request(b"argc", (b"\x0ba",)),
            b"argc\t\0\xe9": Request(b"argc", (b"\0\xe9",)),
            b"\x1cping": Request(b"\x1cping"),
            b"": None,
            b"\r": None,
            b"   ": None,
            b"\t\t\t": None,
        }.items():
            self.assertEqual(codec.decode_request(line), request, line)

    def test_encoding(self) -> None:
        self.assertEqual(codec.encode_request("ping"), b"ping\n")
        self.assertEqual(codec.encode_request("move", 1e-7, True), b"move\t1e-07\tTrue\n")
        self.assertEqual(codec.encode_request("move", np.float64(1.5)), b"move\t1.5\n")
        self.assertEqual(codec.encode_request("write", b"\xff*IDN?"), b"write\t\xff*IDN?\n")

    def test_what_cannot_be_carried_is_refused(self) -> None:
        for arguments in (("a\tb",), ("a\nb",), ("",), ("a", ""), ("a ",), ("a\r",), (b"\t",)):
            self.assertRaises(BadArguments, codec.encode_request, "echo", *arguments)
        self.assertRaises(BadArguments, codec.encode_request, "")
        self.assertRaises(BadArguments, codec.encode_request, " ping")
        codec.encode_request("echo", " a", "b\rc")

    @given(
        st.lists(
            st.text(
                st.characters(exclude_categories=["Cs"], exclude_characters="\t\n"), min_size=1
            ),
            min_size=1,
        )
    )
    def test_what_is_accepted_arrives(self, texts: list[str]) -> None:
        try:
            line = codec.encode_request(*texts)
        except BadArguments:
            joined = "\t".join(texts)
            self.assertNotEqual(joined.strip(" \t\r\n\v\f"), joined)
            return
        request = codec.decode_request(line[:-1])
        assert request is not None
        received = [request.command, *request.arguments]
        self.assertEqual([part.decode() for part in received], texts)

    @given(st.binary())
    def test_any_line_is_taken(self, line: bytes) -> None:
        request = codec.decode_request(line.replace(b"\n", b""))
        if request is not None:
            self.assertTrue(all([request.command, *request.arguments]))


class ReplyTests(SynchronousTestCase):
    def test_views(self) -> None:
        self.assertEqual(Reply(True).fields, ())
        self.assertEqual(Reply(True, b"-10.0\t10.0\tmm").fields, ("-10.0", "10.0", "mm"))
        self.assertEqual(Reply(True, b"\xff").text.encode("utf-8", "surrogateescape"), b"\xff")

    def test_lenient_about_a_missing_tab(self) -> None:
        self.assertEqual(codec.decode_reply(b"1"), Reply(True))
        self.assertEqual(codec.decode_reply(b"0"), Reply(False))
        for line in (b"", b"12", b"2\t", b"line two", b"1 x"):
            self.assertIsNone(codec.decode_reply(line))

    def test_line_breaks_become_blanks(self) -> None:
        self.assertEqual(codec.encode_reply(True, "a\r\nb\nc\rd"), b"1\ta b c d\n")
        self.assertEqual(codec.encode_reply(True, b"a\rb\vc\fd\n"), b"1\ta b c d \n")

    @given(st.text(), st.booleans())
    def test_a_reply_is_one_line_for_every_reader(self, text: str, ok: bool) -> None:
        line = codec.encode_reply(ok, text)
        shown = line.decode("utf-8", "replace")
        self.assertEqual(shown.splitlines(), [shown[:-1]])
        reply = codec.decode_reply(line[:-1])
        assert reply is not None
        self.assertEqual(reply.ok, ok)

    @given(st.binary())
    def test_bytes_keep_their_length(self, data: bytes) -> None:
        line = codec.encode_reply(True, data.replace(b"\r\n", b""))
        self.assertEqual(line.count(b"\n"), 1)
        self.assertEqual(len(line), len(data.replace(b"\r\n", b"")) + 3)


class ValueTests(SynchronousTestCase):
    def test_forms(self) -> None:
        for value, data in (
            (None, b""),
            (1.5, b"1.5"),
            (float("nan"), b"nan"),
            (7, b"7"),
            ("two words", b"two words"),
            ("a\tb", b"a\tb"),
            (b"\xff\xfe", b"\xff\xfe"),
            ([-10.0, 10.0, "mm"], b"-10.0\t10.0\tmm"),
            ((), b""),
            (["a\tb", None, b"c"], b"a b\t\tc"),
            ([[1], [1, 2]], b"[1]\t[1, 2]"),
            (np.array([1, 2], np.uint8), b"1\t2"),
            (np.array([[1.5, 2.0], [3.0, 4.0]]), b"[1.5, 2.0]\t[3.0, 4.0]"),
            (LabeledArray(np.array([True, False])), b"True\tFalse"),
            (np.array(3.5), b"3.5"),
        ):
            self.assertEqual(codec.encode_value(value, ANY), b"1\t%b\n" % data, value)
        self.assertEqual(codec.encode_value(True, BOOL), b"1\tTrue\n")
        self.assertEqual(codec.encode_value(1, EnumKind({1: "slow", 2: "fast"})), b"1\tslow\n")

    def test_a_mapping_is_json(self) -> None:
        line = codec.encode_value({"a": [1, np.float64(2.5)], "b": np.arange(2)}, ANY)
        self.assertEqual(json.loads(line[2:]), {"a": [1, 2.5], "b": [0, 1]})


class FailureTests(SynchronousTestCase):
    def test_unknown_command(self) -> None:
        reply = codec.decode_reply(codec.unknown_command("mvoe")[:-1])
        assert reply is not None
        error = codec.failure(reply)
        assert isinstance(error, UnknownName)
        self.assertEqual(error.name, "mvoe")

    def test_deadline(self) -> None:
        line = codec.not_responding("slow", "Slow move exceeded 0.3s limit")
        reply = codec.decode_reply(line[:-1])
        assert reply is not None
        error = codec.failure(reply)
        assert isinstance(error, TimedOut)
        self.assertEqual((error.what, error.seconds), ("Slow move", 0.3))

    def test_anything_else_keeps_the_text(self) -> None:
        for data in (b"careful", b"Error handling command 'x': bad", b"\xff"):
            error = codec.failure(Reply(False, data))
            self.assertIs(type(error), DeviceFault)
            self.assertEqual(str(error).encode("utf-8", "surrogateescape"), data)
        self.assertIn("without a text", str(codec.failure(Reply(False))))
