"""Pickles for PyRogue's clients: byte for byte as recorded, and the quick ways give the same."""

from __future__ import annotations

import enum
import io
import pickle
import sys
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.values import LabeledArray
from labnet.wires.rogue.codec import (
    BadRequest,
    RequestCache,
    encode_binary,
    parse_binary,
    parse_text,
    text_reply,
)
from labnet.wires.rogue.model import Func, NodeInfo, RemoteException, VariableValue
from labnet.wires.rogue.pickles.fragments import Template, fragment, update, updates
from labnet.wires.rogue.pickles.node_pool import dumps_nodes
from labnet.wires.rogue.pickles.reader import read_reply
from labnet.wires.rogue.pickles.writer import NotPlain, dumps, dumps_exception
from labnet.wires.rogue.quick import quick_request
from tests.wires.vectors import records


class Recorded:
    """The state of a recorded object, whose class is not here."""

    value: Any


def interned(value: Any) -> Any:
    """Texts that are one object on a real server are one object again.

    A pickle shows which texts were the same object; those that are identifiers in the source of a
    program are.
    """
    if isinstance(value, str):
        return sys.intern(value) if value.isidentifier() else value
    if isinstance(value, list):
        return [interned(part) for part in value]
    if isinstance(value, dict):
        return type(value)((interned(key), interned(part)) for key, part in value.items())
    if isinstance(value, Recorded):
        state = {key: interned(part) for key, part in value.__dict__.items()}
        return VariableValue(
            state["value"], state["valueDisp"], state["disp"], state["enum"], state["updated"],
            state["status"], state["severity"],
        )  # fmt: skip
    return value


def node(fields: dict[str, Any]) -> NodeInfo:
    fields = interned(fields)
    funcs = {name: Func(func["args"], func["kwargs"]) for name, func in fields["funcs"].items()}
    return NodeInfo(
        fields["name"], fields["class"], fields["bases"], fields["description"],
        fields["groups"], fields["path"], fields["expand"], fields["guiGroup"],
        list(fields["nodes"]), fields["props"], funcs,
    )  # fmt: skip


class Unpickler(pickle.Unpickler):
    """Python's own, for frames that were recorded by ourselves."""

    def find_class(self, module: str, name: str) -> Any:
        known = {"VariableValue": Recorded, "VirtualFactory": node, "Exception": RemoteException}
        return known[name] if name in known else super().find_class(module, name)


def recorded_replies() -> list[tuple[str, bytes, Any]]:
    """What a real server sent as pickles, with the values."""
    found = []
    for record in records("rogue"):
        body = bytes.fromhex(record["frames"][-1])
        pickled = record["socket"] != "str" and record["direction"] == "s2c" and len(body) > 2
        if pickled and record["case"] != "simple.attr.base":
            found.append((record["case"], body, interned(Unpickler(io.BytesIO(body)).load())))
    return found


class RecordedTests(SynchronousTestCase):
    """Against what a real server wrote."""

    def test_byte_for_byte(self) -> None:
        replies = recorded_replies()
        self.assertGreater(len(replies), 200)
        for case, body, value in replies:
            self.assertEqual(dumps(value), body, case)

    def test_nodes_joined_from_pieces(self) -> None:
        checked = 0
        for case, body, value in recorded_replies():
            if isinstance(value, OrderedDict):
                told = dumps_nodes(value.values())
                self.assertEqual(read_reply(told), read_reply(body), case)
                self.assertEqual(Unpickler(io.BytesIO(told)).load(), value, case)
                self.assertLessEqual(len(told), len(body))
                checked += 1
        self.assertGreaterEqual(checked, 7)

    def test_updates_joined_from_pieces(self) -> None:
        checked = 0
        for case, body, value in recorded_replies():
            values = list(value.values()) if type(value) is dict else []
            if values and isinstance(values[0], VariableValue):
                told = updates(
                    update(Template(path, v.disp, v.enum), v.value, v.value_disp, v.status,
                           v.severity)
                    for path, v in value.items()
                )  # fmt: skip
                self.assertEqual(str(read_reply(told)), str(read_reply(body)), case)
                if len(value) == 1:
                    self.assertLess(len(told), len(body))
                checked += 1
        self.assertGreater(checked, 20)

    def test_exceptions(self) -> None:
        text = "pyrogue._Variable.VariableError: Value range error"
        self.assertEqual(dumps_exception(text), dumps(RemoteException(text)))
        self.assertIsInstance(pickle.loads(dumps_exception(text)), Exception)

    def test_quick_requests(self) -> None:
        quick = 0
        for record in records("rogue"):
            body = bytes.fromhex(record["frames"][-1])
            if record["direction"] == "c2s" and record["socket"] == "bin":
                found = quick_request(body)
                if found is not None:
                    value = pickle.loads(body)
                    self.assertEqual(found, (value["path"], value["attr"], value["args"]))
                    self.assertEqual((value["kwargs"], len(value)), ({}, 4))
                    quick += 1
        self.assertGreater(quick, 140)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 7


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)  # fmt: skip
ARRAYS = [
    np.arange(3.0), np.zeros((0, 2), np.uint8), np.arange(6, dtype=np.int32).reshape(2, 3).T,
    np.array(3.5), np.array([1j]), np.array(["a", "bc"]), np.array([True]), np.array([b"xy"]),
    np.arange(4, dtype=">u2"), np.arange(20)[::3], np.zeros(70_000, np.uint8),
]  # fmt: skip


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("=")


class ValueTests(SynchronousTestCase):
    """Any value."""

    @given(PLAIN)
    def test_the_same_both_ways(self, value: Any) -> None:
        joined = b"\x80\x04" + fragment(value) + b"."
        self.assertEqual(pickle.loads(joined), value)
        self.assertEqual(pickle.loads(dumps(value)), value)
        self.assertEqual(repr(pickle.loads(joined)), repr(pickle.loads(dumps(value))))

    def test_arrays(self) -> None:
        for array in [*ARRAYS, *(np.float32(2.5), np.int64(-3), np.complex64(1j), np.bool_(True))]:
            for body in (b"\x80\x04" + fragment(array) + b".", dumps(array)):
                for loads in (pickle.loads, read_reply):
                    found = loads(body)
                    self.assertEqual(native(found.dtype), native(array.dtype))
                    self.assertEqual(found.shape, array.shape)
                    self.assertTrue(np.array_equal(found, array))

    def test_what_only_python_knows(self) -> None:
        values = [
            (Colour.RED, "red"), (Level.HIGH, 7), (bytearray(b"x"), b"x"),
            (LabeledArray(np.arange(2)), np.arange(2)), (np.array([1, None]), [1, None]),
            ({"a": [Colour.RED]}, {"a": ["red"]}), ({1}, [1]),
        ]  # fmt: skip
        for value, told in values:
            found = pickle.loads(b"\x80\x04" + fragment(value) + b".")
            self.assertEqual(repr(found), repr(told))
        for value, told in values[:-1]:
            self.assertEqual(repr(pickle.loads(dumps(value))), repr(told))

    def test_what_cannot_be_sent(self) -> None:
        deep: list[Any] = []
        for _ in range(2000):
            deep = [deep]
        for value in (threading.Lock(), object(), print, int, ValueError("x"), deep, [object()]):
            with self.assertRaises(NotPlain):
                fragment(value)
        for value in (threading.Lock(), object(), print, {"a": object()}, [print]):
            with self.assertRaises(NotPlain):
                dumps(value)

    @given(st.text(), st.text(), st.text(), st.text())
    def test_any_text_in_an_update(self, path: str, value: str, shown: str, disp: str) -> None:
        body = updates([update(Template(path, disp, None), value, shown, "None", "None")])
        ((name, found),) = Unpickler(io.BytesIO(body)).load().items()
        state = found.__dict__
        self.assertEqual((name, state["value"], state["valueDisp"], state["disp"]),
                         (path, value, shown, disp))  # fmt: skip


class ParserTests(SynchronousTestCase):
    """Requests."""

    @given(st.binary(max_size=200))
    def test_any_bytes(self, body: bytes) -> None:
        for parse in (parse_binary, parse_text):
            try:
                parse(body)
            except BadRequest as error:
                self.assertTrue(str(error))

    @given(
        st.text(max_size=20), st.text(max_size=20) | st.none(), st.lists(PLAIN, max_size=3),
        st.dictionaries(st.text(max_size=5), PLAIN, max_size=2),
    )  # fmt: skip
    def test_what_was_asked(self, path: str, attr: str, args: Any, kwargs: Any) -> None:
        request = parse_binary(encode_binary(path, attr, args, kwargs))
        self.assertEqual((request.path, request.attr), (path, attr))
        self.assertEqual(repr(request.args), repr(tuple(args)))
        self.assertEqual(repr(request.kwargs), repr(kwargs))

    @given(st.data())
    def test_quick_or_slow(self, data: Any) -> None:
        """A damaged request is read as Python reads it, or not at all."""
        body = bytearray(encode_binary("Toy.Psu.Volts", "set", (2.5,)))
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
        found = quick_request(bytes(body))
        if found is not None:
            value = pickle.loads(bytes(body))
            self.assertEqual(repr(found), repr((value["path"], value["attr"], value["args"])))

    def test_remembered(self) -> None:
        asked: list[bytes] = []

        def parse(body: bytes) -> Any:
            asked.append(body)
            return parse_binary(body)

        cache = RequestCache(parse, 1000)
        short, long = encode_binary("a.b", "get"), encode_binary("a.b", "set", (list(range(9)),))
        for body in (short, short, long, long):
            self.assertEqual(cache.get(body).path, "a.b")
        self.assertEqual(asked, [short, long, long])
        with self.assertRaises(BadRequest):
            cache.get(bytes(1001))

    def test_texts(self) -> None:
        self.assertEqual(text_reply(np.array([1.0, 2.0])), b"[1. 2.]")
        self.assertEqual(text_reply(""), b"")
        self.assertEqual(text_reply("\ud800"), b"?")
        self.assertEqual(text_reply([Colour.RED, Level.HIGH]), b"['red', 7]")
        self.assertEqual(text_reply(Colour.RED), b"red")
        self.assertEqual(text_reply(VariableValue(2.0, "2.000")), b"2.000")
        with self.assertRaises(NotPlain):
            text_reply(object())
