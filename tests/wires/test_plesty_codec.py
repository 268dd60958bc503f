"""The PLESTY codec: literals, recorded bodies, random values, hostile bodies."""

from __future__ import annotations

import json
import math
from datetime import datetime
from enum import Enum, IntEnum
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.values import Axis, LabeledArray
from labnet.wires.plesty import codec, dialect
from tests.wires.vectors import records


def messages(direction: str) -> list[dict[str, Any]]:
    """The recorded single-frame messages of one direction."""
    return [
        record
        for record in records("plesty")
        if record["direction"] == direction and "kind" not in record and len(record["frames"]) == 1
    ]


def frame(record: dict[str, Any], index: int = 0) -> bytes:
    """One recorded frame."""
    part = record["frames"][index]
    return part["utf8"].encode() if "utf8" in part else bytes.fromhex(part["hex"])


def refusal(case: SynchronousTestCase, body: bytes, limit: int = codec.MAX_BODY) -> tuple[str, str]:
    """Kind and text of the error reply to `body`."""
    error = case.assertRaises(dialect.BadRequest, codec.parse_request, body, limit)
    return error.kind, error.text


class RecordedBodies(SynchronousTestCase):
    """Every recorded body: understood, and written again byte for byte."""

    def test_replies_are_written_again(self) -> None:
        count = 0
        for record in messages("s2c"):
            body = frame(record)
            reply = codec.parse_reply(body)
            again = (
                codec.failure(reply.kind, reply.text, result=reply.result)
                if reply.failed and b'"result"' in body
                else codec.failure(reply.kind, reply.text)
                if reply.failed
                else codec.success(reply.result)
            )
            self.assertEqual(again, body, record["case"])
            count += 1
        self.assertGreater(count, 120)

    def test_requests_of_the_real_client_are_written_again(self) -> None:
        count = 0
        for record in messages("c2s"):
            if record["case"].startswith(("raw_", "killer_", "private_")):
                continue
            fields = json.loads(frame(record))
            kind = fields.pop("type")
            self.assertEqual(codec.encode_request(kind, fields), frame(record), record["case"])
            if record["case"] not in REFUSED:
                codec.parse_request(frame(record))
            count += 1
        self.assertGreater(count, 90)

    def test_refused_bodies_get_the_peers_words(self) -> None:
        """The texts that hold Python's own words differ (`OWN_WORDS`); the kinds do not."""
        replies = {record["case"]: frame(record) for record in messages("s2c")}
        seen = set()
        for record in messages("c2s"):
            case = record["case"]
            if case not in REFUSED:
                continue
            kind, text = refusal(self, frame(record))
            recorded = codec.parse_reply(replies[case])
            self.assertEqual(kind, recorded.kind, case)
            self.assertEqual(text, OWN_WORDS.get(case, recorded.text), case)
            seen.add(case)
        self.assertEqual(seen, REFUSED)


REFUSED = {
    "query_nonstring_param", "raw_args_null", "raw_empty_body", "raw_func_number",
    "raw_invalid_json", "raw_json_list", "raw_json_null", "raw_json_string", "raw_kwargs_list",
    "raw_kwargs_null", "raw_missing_func", "raw_missing_param", "raw_missing_type",
    "raw_missing_value", "raw_timeout_string", "raw_truncated_json", "raw_type_case",
    "raw_type_number", "raw_unknown_type", "raw_utf8_bom",
}  # fmt: skip

OWN_WORDS = {
    "query_nonstring_param": "param must be a string, not a number",
    "raw_func_number": "func must be a string, not a number",
    "raw_args_null": "args must be a list, not null",
    "raw_kwargs_null": "kwargs must be an object, not null",
    "raw_kwargs_list": "kwargs must be an object, not a list",
    "raw_json_list": "the request must be a JSON object, not a list",
    "raw_json_null": "the request must be a JSON object, not null",
    "raw_json_string": "the request must be a JSON object, not a string",
    "raw_timeout_string": "timeout must be a number of seconds or null, not a string",
}


class Requests(SynchronousTestCase):
    """What a request holds."""

    def test_query(self) -> None:
        request = codec.parse_request(b'{"type": "query", "param": "p", "timeout": 2}')
        self.assertEqual((request.type, request.name, request.timeout), ("query", "p", 2.0))
        self.assertIsNone(request.resources)
        self.assertEqual(request.tail, "}")

    def test_call(self) -> None:
        request = codec.parse_request(b'{"type": "call", "func": "f", "args": [1], "id": "a"}')
        self.assertEqual((request.name, request.args, request.kwargs), ("f", [1], {}))
        reply = codec.success(3, request.tail)
        self.assertEqual(reply, b'{"status": "ok", "result": 3, "id": "a"}')

    def test_arguments_like_the_peer(self) -> None:
        body = b'{"type": "call", "func": "f", "args": "ab", "kwargs": [["x", 1]]}'
        request = codec.parse_request(body)
        self.assertEqual((request.args, request.kwargs), (["a", "b"], {"x": 1}))

    def test_connect_keeps_metadata(self) -> None:
        request = codec.parse_request(b'{"type": "connect", "timeout": "", "user": "eve", "id": 1}')
        self.assertEqual(request.metadata, {"user": "eve", "id": 1})
        self.assertEqual(request.resources, ())

    def test_timeouts(self) -> None:
        self.assertEqual(codec.seconds_of(-1), -1.0)
        self.assertIsNone(codec.seconds_of(math.inf))
        self.assertEqual(codec.seconds_of(-math.inf), -math.inf)
        self.assertIsNone(codec.seconds_of(10**400))
        self.assertEqual(codec.seconds_of(-(10**400)), -1.0)
        for bad in (math.nan, True, [], "1"):
            self.assertRaises(dialect.BadRequest, codec.seconds_of, bad)

    def test_odd_identifiers_are_not_echoed(self) -> None:
        for text in (b"[1]", b"{}", b'"' + b"x" * 201 + b'"', b"1" * 2000):
            request = codec.parse_request(b'{"type": "describe", "id": ' + text + b"}")
            self.assertEqual(request.tail, "}", text[:20])
        for text in (b"null", b"true", b"NaN", b"1.5", b'"\\ud800"'):
            request = codec.parse_request(b'{"type": "describe", "id": ' + text + b"}")
            self.assertEqual(request.tail, ', "id": ' + text.decode() + "}")

    def test_refusal_keeps_the_identifier(self) -> None:
        body = b'{"type":"query","id":7}'
        error = self.assertRaises(dialect.BadRequest, codec.parse_request, body)
        self.assertEqual(error.tail, ', "id": 7}')

    def test_bounds(self) -> None:
        self.assertEqual(refusal(self, b"[" * 100_000)[0], "RecursionError")
        deep = b'{"type": "write", "param": "p", "value": ' + b"[" * 150 + b"]" * 150 + b"}"
        self.assertEqual(
            refusal(self, deep),
            ("RecursionError", "the request is nested deeper than 100 levels"),
        )
        wide = b'{"type": "write", "param": "p", "value": [' + b"[]," * 500 + b"[]]}"
        self.assertEqual(len(codec.parse_request(wide).value), 501)
        self.assertEqual(refusal(self, b" " * 11, 10)[1], "the request is longer than 10 bytes")
        self.assertEqual(
            refusal(self, b"9" * 5000)[1], "a number in the request has too many digits"
        )
        self.assertEqual(refusal(self, b'{"type": "\xff"}')[0], "UnicodeDecodeError")

    def test_bench_requests(self) -> None:
        body = b'{"type": "device", "name": "pm", "request": {"type": "describe"}, "token": "t"}'
        request = codec.parse_request(body)
        self.assertEqual((request.name, request.token), ("pm", "t"))
        self.assertEqual(codec.request_of(request.inner).type, "describe")

    def test_cache_holds_only_what_cannot_change(self) -> None:
        cache = codec.RequestCache()
        query = b'{"type": "query", "param": "p"}'
        self.assertIs(cache.parse(query), cache.parse(query))
        for body in (
            b'{"type": "write", "param": "p", "value": []}',
            b'{"type": "call", "func": "p", "args": [{}]}',
            b'{"type": "query", "param": "p", "id": 1}',
            b'{"type": "describe"}',
            b'{"type": "query", "param": "' + b"p" * 256 + b'"}',
        ):
            self.assertIsNot(cache.parse(body), cache.parse(body))

    def test_cache_is_bounded(self) -> None:
        cache = codec.RequestCache()
        for number in range(3 * codec.MAX_CACHED):
            cache.parse(b'{"type": "query", "param": "%d"}' % number)
        self.assertLessEqual(len(cache._known), codec.MAX_CACHED)


class Resources(SynchronousTestCase):
    """The forms of `resources`."""

    def test_forms(self) -> None:
        for given_, paths in (
            (None, ()),
            ([], ()),
            ("axis", ("axis",)),
            (["a", ["b", {"c": ["d"]}], None], ("a", "b", "c/d")),
            ({"axis": ["x", "y"], "laser": None, "no": []}, ("axis/x", "axis/y", "laser")),
            ({"a": {"b": {"c": None}}}, ("a/b/c",)),
            ([" /laser/ ", "laser"], ("laser",)),
            (5, ("5",)),
            ("", ("",)),
        ):
            self.assertEqual(codec.resource_paths(given_), paths)

    def test_bounds(self) -> None:
        deep: Any = "x"
        for _ in range(20):
            deep = [deep]
        for bad in (deep, list(range(1001)), "x" * 201):
            self.assertRaises(dialect.BadRequest, codec.resource_paths, bad)


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 7


class Results(SynchronousTestCase):
    """How results are written."""

    def test_values(self) -> None:
        for value, text in (
            (1.0, "1.0"),
            (math.nan, "NaN"),
            (-math.inf, "-Infinity"),
            (2**70, str(2**70)),
            (True, "true"),
            (None, "null"),
            ("\u00b5\ud800", '"\\u00b5\\ud800"'),
            ((1, 2), "[1, 2]"),
            ({1: "a", None: 2.5, False: 1}, '{"1": "a", "null": 2.5, "false": 1}'),
            ({np.int64(3): 1}, '{"3": 1}'),
            ({Colour.RED: Colour.RED}, '{"red": "red"}'),
            (Level.HIGH, "7"),
            (np.float32(0.5), "0.5"),
            (np.float64("nan"), "NaN"),
            (np.bool_(True), "true"),
            (np.array([[1, 2], [3, 4]]), "[[1, 2], [3, 4]]"),
            (np.array([1 + 2j]), "[[1.0, 2.0]]"),
            (np.array(5), "5"),
            ({"a": [np.arange(2)]}, '{"a": [[0, 1]]}'),
            (1 - 2j, "[1.0, -2.0]"),
            (b"\x00\xff", '"\\u0000\\u00ff"'),
        ):
            self.assertEqual(dialect.json_text(value), text)

    def test_labelled_array(self) -> None:
        axis = Axis("wavelength", "nm", np.array([400.0, 401.0]))
        text = dialect.json_text(LabeledArray(np.array([1, 2]), "counts", "1", (axis,)))
        self.assertEqual(
            json.loads(text),
            {
                "data": [1, 2],
                "unit": "1",
                "label": "counts",
                "axes": [{"label": "wavelength", "unit": "nm", "values": [400.0, 401.0]}],
            },
        )

    def test_refused(self) -> None:
        deep: list[Any] = []
        deep.append(deep)
        times = np.array(["2020-01-01"], dtype="datetime64[s]")
        for value in ({1, 2}, datetime(2020, 1, 1), object(), deep, times, {(1, 2): 3}):
            error = self.assertRaises(dialect.NotSerializable, codec.success, value)
            self.assertIn(f"result of type {type(value).__name__} is not JSON", str(error))

    def test_names_the_container(self) -> None:
        error = self.assertRaises(dialect.NotSerializable, codec.success, {"a": {1}})
        self.assertIn("result of type dict is not", str(error))


class Replies(SynchronousTestCase):
    """What a client makes of a reply."""

    def test_any_other_status_is_success(self) -> None:
        reply = codec.parse_reply(b'{"status": "fine", "result": 1, "id": 4}')
        self.assertEqual((reply.failed, reply.result, reply.id), (False, 1, 4))

    def test_bad(self) -> None:
        for body in (b"", b"[]", b"{}", b"\xff", b"[" * 100_000):
            self.assertRaises(codec.BadReply, codec.parse_reply, body)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


class Properties(SynchronousTestCase):
    """Random values and random bodies."""

    @given(PLAIN)
    @settings(deadline=None)
    def test_written_as_the_peers_library_writes(self, value: Any) -> None:
        self.assertEqual(dialect.json_text(value), json.dumps(value))
        self.assertEqual(
            codec.success(value), json.dumps({"status": "ok", "result": value}).encode()
        )

    @given(st.text(), st.text())
    @settings(deadline=None)
    def test_failures(self, kind: str, text: str) -> None:
        expected = {"status": "error", "error": text, "type": kind}
        self.assertEqual(codec.failure(kind, text), json.dumps(expected).encode())

    @given(PLAIN, st.booleans())
    @settings(deadline=None)
    def test_requests_survive(self, value: Any, numbered: bool) -> None:
        fields = {"param": "p", "value": value, "timeout": None}
        request = codec.parse_request(codec.encode_request("write", fields, 9 if numbered else 0))
        self.assertEqual(json.dumps(request.value), json.dumps(value))
        self.assertEqual(request.tail, ', "id": 9}' if numbered else "}")

    @given(st.binary(max_size=200) | PLAIN.map(lambda v: json.dumps(v).encode("utf-8", "replace")))
    @settings(deadline=None, max_examples=300)
    def test_any_body_is_a_request_or_refused(self, body: bytes) -> None:
        try:
            request = codec.parse_request(body)
        except dialect.BadRequest as error:
            json.loads(codec.failure(error.kind, error.text, error.tail))
        else:
            self.assertIn(request.type, codec.PEER_TYPES | codec.BENCH_TYPES)

    @given(PLAIN)
    @settings(deadline=None)
    def test_any_resources_are_paths_or_refused(self, value: Any) -> None:
        try:
            paths = codec.resource_paths(value)
        except dialect.BadRequest:
            return
        self.assertEqual(len(set(paths)), len(paths))
