"""PyRogue's pickles: recorded ones, random values, and those that were made to do harm."""

from __future__ import annotations

import copyreg
import os
import pickle
import posix
import sys
import tracemalloc
from collections import OrderedDict
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from twisted.trial.unittest import SynchronousTestCase

from labnet.wires.rogue.model import NodeInfo, RemoteException, VariableValue
from labnet.wires.rogue.pickles.bounds import Bounds
from labnet.wires.rogue.pickles.reader import (
    BadPickle,
    Opaque,
    RefusedName,
    read_reply,
    read_request,
)
from tests.wires.rogue_reference import equal, expected
from tests.wires.vectors import records

BAD = {"bin.garbage", "bin.truncated", "bin.text-json", "bin.empty", "bin.global-os.getpid"}
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def recorded(direction: str) -> list[tuple[str, bytes]]:
    """Case and body of each recorded pickle of one direction that is sound."""
    return [
        (record["case"], bytes.fromhex(record["frames"][-1]))
        for record in records("rogue")
        if record["direction"] == direction
        and record["socket"] in ("bin", "pub")
        and len(record["frames"][-1]) > 2
        and not (direction == "c2s" and record["case"] in BAD)
    ]


class Recorded(SynchronousTestCase):
    """What real clients and servers sent is read as Python itself reads it."""

    def test_requests(self) -> None:
        bodies = [body for case, body in recorded("c2s") if case != "sub.connect"]
        self.assertGreater(len(bodies), 150)
        for body in bodies:
            self.assertTrue(equal(read_request(body), expected(body)), body)

    def test_replies_and_updates(self) -> None:
        count = 0
        for case, body in recorded("s2c"):
            if b"pyrogue._Model" in body:
                self.assertIsInstance(read_reply(body), Opaque, case)
                continue
            self.assertTrue(equal(read_reply(body), expected(body)), case)
            count += 1
        self.assertGreater(count, 150)

    def test_garbage(self) -> None:
        bodies = {
            record["case"]: bytes.fromhex(record["frames"][-1])
            for record in records("rogue")
            if record["direction"] == "c2s" and record["case"] in BAD
        }
        texts = {case: str(self.refused(body)) for case, body in bodies.items()}
        self.assertEqual(texts["bin.garbage"], "pickle data was truncated")
        self.assertEqual(texts["bin.truncated"], "pickle data was truncated")
        self.assertEqual(texts["bin.text-json"], "invalid load key, '{'.")
        self.assertEqual(texts["bin.global-os.getpid"], "os.getpid is not allowed in a pickle")

    def refused(self, body: bytes) -> BadPickle:
        return self.assertRaises(BadPickle, read_request, body)

    def test_every_beginning_is_refused(self) -> None:
        for _case, body in recorded("s2c")[::7]:
            for end in {*range(min(len(body), 60)), len(body) - 1}:
                self.assertRaises(BadPickle, read_reply, body[:end])

    def test_a_node(self) -> None:
        body = dict(recorded("s2c"))["bin.root"]
        node = read_reply(body)
        self.assertIsInstance(node, NodeInfo)
        self.assertEqual((node.name, node.path), ("Toy", "Toy"))
        self.assertIn("Psu", node.nodes)
        self.assertIn("readFirst", node.funcs["getYaml"].args)


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 4000), 1 << 4000) | st.floats()
    | st.complex_numbers() | st.text(st.characters(exclude_categories=["Cs"])) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc") | st.integers(), inner)
    | st.tuples(inner, inner) | st.tuples(inner),
    max_leaves=30,
)  # fmt: skip
arrays = hnp.arrays(
    hnp.boolean_dtypes() | hnp.integer_dtypes(endianness="?") | hnp.floating_dtypes(endianness="?")
    | hnp.complex_number_dtypes() | hnp.unicode_string_dtypes(min_len=1, max_len=8)
    | hnp.byte_string_dtypes(min_len=1, max_len=8),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)  # fmt: skip
protocols = st.sampled_from(list(PROTOCOLS))


class Values(SynchronousTestCase):
    """Whatever Python and numpy write, in every protocol, comes out the same."""

    @given(plain_values, protocols)
    @settings(deadline=None, max_examples=300)
    def test_plain(self, value: Any, protocol: int) -> None:
        self.assertTrue(equal(read_request(pickle.dumps(value, protocol)), value))

    @given(arrays, protocols)
    @settings(deadline=None, max_examples=200)
    def test_arrays(self, array: Any, protocol: int) -> None:
        if array.flags.f_contiguous and array.size % 2:
            array = np.asfortranarray(array)
        again = read_request(pickle.dumps({"a": [array], "b": array.T}, protocol))
        self.assertTrue(equal(again["a"][0], array))
        self.assertTrue(equal(again["b"], array.T))
        self.assertFalse(again["b"].flags.writeable)

    def test_numbers_of_numpy(self) -> None:
        for number in (np.float64(2.5), np.int32(-5), np.bool_(True), np.complex64(1j)):
            for protocol in PROTOCOLS:
                again = read_request(pickle.dumps((number, number), protocol))
                self.assertEqual(again, (number, number))
                self.assertIs(type(again[0]), type(number))

    def test_an_array_held_twice(self) -> None:
        array = np.arange(3)
        for protocol in PROTOCOLS:
            again = read_request(pickle.dumps([array, array], protocol))
            self.assertTrue(equal(again, [array, array]))

    def test_other_orders_of_axes(self) -> None:
        array = np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0)
        for protocol in PROTOCOLS:
            self.assertTrue(equal(read_request(pickle.dumps(array, protocol)), array))

    def test_names_of_numpy_1(self) -> None:
        for value in (np.arange(4.0), np.float32(1.5)):
            for protocol in (2, 4, 5):
                old = pickle.dumps(value, protocol)
                old = old.replace(b"\x16numpy._core.multi", b"\x15numpy.core.multi")
                old = old.replace(b"\x13numpy._core.numeric", b"\x12numpy.core.numeric")
                old = old.replace(b"cnumpy._core.", b"cnumpy.core.")
                self.assertIn(b"numpy.core", old)
                self.assertTrue(equal(read_request(_unframed(old)), value))

    def test_sets_and_bytearrays(self) -> None:
        for value in ({1, "a"}, frozenset({2.5}), bytearray(b"ab"), bytearray(), b"", set()):
            for protocol in PROTOCOLS:
                again = read_request(pickle.dumps(value, protocol))
                self.assertTrue(equal(again, value), (value, protocol))

    def test_ordered_dicts_are_dicts(self) -> None:
        for protocol in PROTOCOLS:
            again = read_request(pickle.dumps(OrderedDict(b=1, a=2), protocol))
            self.assertTrue(equal(again, {"b": 1, "a": 2}))

    def test_old_texts(self) -> None:
        body = b"(U\x02abT\x01\x00\x00\x00cI01\nL5L\nt."
        self.assertEqual(read_request(body), ("ab", "c", True, 5))

    def test_large_ones(self) -> None:
        for value in ("x" * 100_000, b"y" * 100_000, list(range(50_000)), np.zeros(1 << 20)):
            for protocol in PROTOCOLS[2:]:
                self.assertTrue(equal(read_request(pickle.dumps(value, protocol)), value))


def _unframed(body: bytes) -> bytes:
    """A pickle without its frame, whose length a test has changed."""
    return body[:2] + body[11:] if body[2:3] == b"\x95" else body


class Replies(SynchronousTestCase):
    """What only a server may send."""

    def test_errors_of_old_servers(self) -> None:
        body = pickle.dumps(KeyError("missing"), 4)
        error = read_reply(body)
        self.assertEqual(error, RemoteException("missing", "builtins.KeyError"))
        self.assertRaises(RefusedName, read_request, body)

    def test_errors_with_attributes(self) -> None:
        error = OSError(2, "no such file")
        error.add_note("a note")
        self.assertEqual(read_reply(pickle.dumps(error, 4)).text, "2, no such file")

    def test_unknown_classes_are_opaque(self) -> None:
        from datetime import datetime
        from fractions import Fraction

        value = read_reply(pickle.dumps({"a": [datetime.now(), Fraction(1, 2)], "b": 1}, 4))
        self.assertEqual(repr(value), "<datetime.datetime>")

    def test_an_opaque_value_among_others(self) -> None:
        begin = b"\x8c\x11pyrogue._Variable\x8c\x0dVariableValue\x93)\x81}\x8c\x05value"
        unknown = b"]\x94(cdatetime\ndatetime\n)Re"
        both = b"\x8c\x01a" + begin + unknown + b"sb\x8c\x01b" + begin + b"h\x00sb"
        value = read_reply(b"\x80\x04}(" + both + b"\x8c\x01c" + begin + b"K\x05sbu.")
        for name in ("a", "b"):
            self.assertEqual(value[name].value.kind, "datetime.datetime")
        self.assertEqual(value["c"], VariableValue(5, "", ""))

    def test_opaque_containers(self) -> None:
        from collections import Counter, defaultdict, deque

        for value in (deque([1, 2]), defaultdict(list, a=[1]), Counter("aab")):
            opaque = read_reply(pickle.dumps(value, 4))
            self.assertEqual(opaque.kind, f"collections.{type(value).__name__}")

    def test_a_value_of_an_old_server(self) -> None:
        body = (
            b"\x80\x04\x8c\x11pyrogue._Variable\x8c\x0dVariableValue\x93)\x81"
            b"}(\x8c\x05valueK\x05\x8c\x09valueDisp\x8c\x015ub."
        )
        self.assertEqual(read_reply(body), VariableValue(5, "5", ""))

    def test_incomplete_nodes(self) -> None:
        head = b"\x80\x04\x8c\x1bpyrogue.interfaces._Virtual\x8c\x0eVirtualFactory\x93"
        for argument in (b"}", b"]", b"N", b"}(\x8c\x04nameK\x05u"):
            self.assertRaises(BadPickle, read_reply, head + argument + b"\x85R.")

    def test_a_server_may_not_name_what_a_client_runs(self) -> None:
        with patch("os.getpid") as getpid:
            value = read_reply(b"cos\ngetpid\n(tR.")
        self.assertEqual(value.kind, "os.getpid")
        getpid.assert_not_called()


class _Calls:
    """Pickles as a call with these arguments."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


class NothingRuns(SynchronousTestCase):
    """Names outside the list are refused before anything is done with them."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.command = f"touch {self.path}"

    def tearDown(self) -> None:
        self.assertFalse(os.path.exists(self.path))

    def check(self, body: bytes) -> None:
        """Refused, or at the most opaque to a client; and never run."""
        self.assertRaises(BadPickle, read_request, body)
        try:
            value = read_reply(body)
        except BadPickle:
            return
        self.assertRegex(repr(value), "<|RemoteException")

    def hostile(self) -> list[Any]:
        touch = f"__import__('os').system({self.command!r})"
        getter = _Calls(getattr, _Calls(__import__, "os"), "system")
        return [
            _Calls(os.getpid),
            _Calls(posix.system, self.command),
            _Calls(eval, touch),
            _Calls(exec, touch),
            _Calls(getattr, _Calls(__import__, "os"), "getpid"),
            _Calls(_Calls, getter),
            _Calls(os.popen, self.command),
            _Calls(pickle.loads, pickle.dumps(_Calls(posix.system, self.command))),
            _Calls(open, self.path, "w"),
            _Calls(np.fromfile, self.path),
            _Calls(np.load, self.path),
            _Calls(np.save, self.path, _Calls(posix.system, self.command)),
            _Calls(complex, _Calls(eval, touch), 0.0),
            _Calls(KeyError, _Calls(eval, touch)),
            _Calls(map, eval, [touch]),
        ]

    def test_calls(self) -> None:
        for value in self.hostile():
            for protocol in PROTOCOLS:
                self.check(pickle.dumps(value, protocol))

    def test_calls_inside_values(self) -> None:
        for value in self.hostile():
            self.check(pickle.dumps({"path": "Lab", "args": ([value],)}, 4))
            self.check(pickle.dumps(np.array([value], dtype=object), 4))

    def test_python_itself_would_have_run_them(self) -> None:
        with patch("posix.system") as system:
            pickle.loads(pickle.dumps(_Calls(pickle.loads, b"cposix\nsystem\n(S'x'\ntR.")))
        system.assert_called_once_with("x")

    def test_the_names_are_refused_by_name(self) -> None:
        for value, name in (
            (_Calls(os.getpid), "posix.getpid"),
            (_Calls(posix.system, ""), "posix.system"),
            (_Calls(eval, ""), "builtins.eval"),
            (_Calls(getattr, 1, ""), "builtins.getattr"),
        ):
            error = self.assertRaises(RefusedName, read_request, pickle.dumps(value, 4))
            self.assertEqual(error.name, name)

    def test_dotted_names(self) -> None:
        for module, name in (
            ("numpy", "ndarray.tofile"),
            ("numpy", "core.multiarray._reconstruct"),
            ("collections", "OrderedDict.__init__.__globals__"),
            ("builtins", "complex.__class__"),
            ("numpy.core.multiarray", "fromfile"),
            ("numpy", "load"),
            ("", ""),
            ("os\0", "getpid"),
        ):
            for code in (
                f"c{module}\n{name}\n.".encode(),
                b"\x80\x04\x8c%c%b\x8c%c%b\x93."
                % (len(module), module.encode(), len(name), name.encode()),
            ):
                self.assertRaises(RefusedName, read_request, code)

    def test_nothing_is_imported(self) -> None:
        this = b"\x8c\x04this\x8c\x01s\x93."
        for body in (b"cantigravity\nfly\n.", b"cpyrogue\nRoot\n(tR.", this):
            self.check(body)
        self.assertFalse({"antigravity", "pyrogue", "this"} & set(sys.modules))

    def test_extension_codes(self) -> None:
        copyreg.add_extension("posix", "system", 240)
        self.addCleanup(copyreg.remove_extension, "posix", "system", 240)
        command = f"S'{self.command}'\n".encode()
        for code in (b"\x82\xf0", b"\x83\xf0\x00", b"\x84\xf0\x00\x00\x00"):
            body = b"\x80\x02" + code + b"(" + command + b"tR."
            self.assertRaises(BadPickle, read_request, body)
            self.assertRaises(BadPickle, read_reply, body)

    def test_other_ways_in(self) -> None:
        command = self.command.encode()
        for body in (
            b"(S'" + command + b"'\niposix\nsystem\n.",
            b"(cposix\nsystem\nS'" + command + b"'\no.",
            b"Pposix.system\n.",
            b"K\x05Q.",
            b"\x80\x05\x97.",
            b"\x80\x05K\x01\x98.",
            b"\x80\x06N.",
            b"c__main__\nx\n)\x81}b.",
            b"\x80\x04cposix\nsystem\n)}\x92.",
        ):
            self.check(body)

    def test_names_on_the_list_cannot_be_changed(self) -> None:
        state = b"}\x8c\x04callK\x05s"
        for name in (
            b"cnumpy\ndtype\n",
            b"ccollections\nOrderedDict\n",
            b"cpyrogue._Variable\nVariableValue\n",
        ):
            for body in (
                name + state + b"b.",
                name + b"N" + state + b"\x86b.",
                name + b"\x8c\x01xK\x01s.",
                name + b"K\x01a.",
            ):
                self.assertRaises(BadPickle, read_reply, body)
        self.assertTrue(equal(read_reply(pickle.dumps(np.arange(3))), np.arange(3)))

    def test_names_on_the_list_are_not_values(self) -> None:
        for body in (b"cnumpy\nndarray\n.", b"(cnumpy\ndtype\nt.", b"}K\x01cnumpy\nndarray\ns."):
            self.assertRaises(BadPickle, read_request, body)
            self.assertRaises(BadPickle, read_reply, body)


class Arrays(SynchronousTestCase):
    """Arrays that are not what they say."""

    def check(self, *pieces: bytes) -> None:
        self.assertRaises(BadPickle, read_request, b"\x80\x04" + b"".join(pieces) + b".")

    RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
    BEGUN = RECONSTRUCT + b"cnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    DTYPE = b"cnumpy\ndtype\n\x8c\x02f8\x89\x88\x87R"

    def test_shapes(self) -> None:
        huge = b"\x8a\x08" + b"\xff" * 7 + b"\x7f"
        for shape in (
            b"K\x02\x85", b"K\x05\x85", b"J\xff\xff\xff\xff\x85", huge + b"\x85", b"N\x85", b"]",
            b"G" + b"\0" * 8 + b"\x85", b"(" + b"K\x01" * 33 + b"t", huge + huge + b"\x86",
        ):  # fmt: skip
            self.check(self.BEGUN, b"(K\x01", shape, self.DTYPE, b"\x89C\x08", b"\0" * 8, b"tb")

    def test_empty_but_endless(self) -> None:
        huge = b"\x8a\x08" + b"\xff" * 7 + b"\x7f"
        self.check(self.BEGUN, b"(K\x01K\x00", huge, b"\x86", self.DTYPE, b"\x89C\x00tb")

    def test_dtypes(self) -> None:
        for code in (b"O8", b"V8", b"M8", b"f8,f8", b"(2,)f8", b"S0", b"U9999999", b"f3", b"x"):
            self.check(b"cnumpy\ndtype\n\x8c", bytes([len(code)]), code, b"\x89\x88\x87R")
        for code in (b"N", b"K\x01", b"]"):
            self.check(b"cnumpy\ndtype\n", code, b"\x89\x88\x87R")

    def test_records(self) -> None:
        record = np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
        for value in (record, record[0], record.dtype, np.array(["2020"], "M8[s]")):
            self.assertRaises(BadPickle, read_request, pickle.dumps(value, 4))

    def test_unfinished(self) -> None:
        self.check(self.BEGUN)
        self.check(self.BEGUN, b"\x85")
        self.check(self.BEGUN, b"\x94h\x00b")
        self.check(b"]", self.BEGUN, b"a")
        self.check(self.DTYPE)

    def test_built_twice(self) -> None:
        state = b"(K\x01K\x01\x85" + self.DTYPE + b"\x89C\x08" + b"\0" * 8 + b"t"
        self.check(self.BEGUN, state, b"b", state, b"b")
        self.check(self.BEGUN, b"\x940h\x00", state, b"b")

    def test_other_classes(self) -> None:
        self.check(self.RECONSTRUCT, b"cnumpy\ndtype\nK\x00\x85C\x01b\x87R")
        self.assertRaises(RefusedName, read_request, pickle.dumps(np.matrix([[1]]), 4))
        self.assertRaises(RefusedName, read_request, pickle.dumps(np.ma.array([1]), 4))


class Bombs(SynchronousTestCase):
    """A few bytes that ask for much."""

    def check(self, body: bytes, text: str = "") -> None:
        for read in (read_request, read_reply):
            self.assertIn(text, str(self.assertRaises(BadPickle, read, body)))

    def test_doubled_lists(self) -> None:
        for make in (b"h%ch%c\x86", b"](h%ch%ce", b"}(\x8c\x01ah%c\x8c\x01bh%cu"):
            steps = (make % (i, i) + b"\x940" for i in range(60))
            self.check(b"\x80\x04)\x940" + b"".join(steps) + b"h\x3c.", "in all")

    def test_doubled_lists_as_keys(self) -> None:
        body = b"\x80\x04)\x94" + b"".join(b"h%ch%c\x86\x94" % (i, i) for i in range(60))
        self.check(body + b"0}h\x3cNs.", "keys")

    def test_one_long_text_many_times(self) -> None:
        body = b"\x80\x04](X\x00\x00\x10\x00" + b"x" * (1 << 20) + b"\x94" + b"h\x00" * 1000 + b"e."
        self.check(body, "in all")

    def test_one_long_array_many_times(self) -> None:
        array = np.zeros(1 << 17)
        self.check(pickle.dumps([array] * 1000, 4), "in all")

    def test_copies_of_one_long_text(self) -> None:
        """Calls that make something anew, each of a text or list that is there only once."""
        long = 1 << 20
        text = b"X" + long.to_bytes(4, "little") + b"x" * long + b"\x94"
        data = b"B" + long.to_bytes(4, "little") + b"x" * long + b"\x94"
        many = b"](" + b"K\x01" * 100_000 + b"e\x94"
        scalar = b"cnumpy.core.multiarray\nscalar\n"
        scalar += b"cnumpy\ndtype\n\x8c\x07S900000\x89\x88\x87R"
        raw = b"B" + (900_000).to_bytes(4, "little") + b"x" * 900_000
        for first, call in (
            (text, b"c_codecs\nencode\nh\x00\x8c\x06latin1\x86R0"),
            (data, b"cbuiltins\nbytearray\nh\x00\x85R0"),
            (many, b"cbuiltins\nset\nh\x00\x85R0"),
            (scalar + raw + b"\x86\x940" + b"N", b"cnumpy.core.multiarray\nscalar\nh\x00R0"),
        ):
            self.check(b"\x80\x04" + first + b"0" + call * 1000 + b"N.", "in all")

    def test_nodes_with_one_long_list(self) -> None:
        names = b"".join(b"\x8c\x04%04dN" % number for number in range(10_000))
        fields = (b"bases", b"groups", b"props")
        body = b"\x80\x04cpyrogue.interfaces._Virtual\nVirtualFactory\n\x940}(" + b"".join(
            b"\x8c%c%b]" % (len(field), field) for field in fields
        )
        for field in (b"name", b"class", b"description", b"path"):
            body += b"\x8c%c%b\x8c\x00" % (len(field), field)
        body += b"\x8c\x06expandN\x8c\x08guiGroupN\x8c\x05funcs}\x8c\x05nodes}(" + names + b"uu"
        self.assertIsInstance(read_reply(body + b"\x85\x940h\x00h\x01R."), NodeInfo)
        error = self.assertRaises(
            BadPickle, read_reply, body + b"\x85\x940" + b"h\x00h\x01R0" * 5000 + b"N."
        )
        self.assertIn("in all", str(error))

    def test_long_errors(self) -> None:
        text = b"X\x00\x00\x10\x00" + b"x" * (1 << 20)
        body = b"\x80\x04cbuiltins\nException\n" + text + b"\x85R."
        self.assertEqual(len(read_reply(body).text), 10_000)

    def test_values_that_hold_themselves(self) -> None:
        for body in (b"]\x94h\x00a.", b"}\x94\x8c\x01ah\x00s.", b"](](]2eee.", b"]2a."):
            self.check(b"\x80\x04" + body)

    def test_deep_ones(self) -> None:
        n = 100_000
        for body in (b"]" * n + b"a" * (n - 1), b")" + b"\x85" * n, b"(" * 300 + b"t" * 300):
            self.check(b"\x80\x04" + body + b".")
        self.check(pickle.dumps(_nested(70)), "64 deep")
        self.assertEqual(read_request(pickle.dumps(_nested(60))), _nested(60))

    def test_memo(self) -> None:
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for put in (b"r\xff\xff\xff\xff", b"p99999999999999\n", b"q\xff"):
            self.assertEqual(read_request(b"\x80\x02K\x05" + put + b"."), 5)
        self.check(b"\x80\x02j\xff\xff\xff\xff.")
        self.check(b"p9999999999999999999999999\n.", "characters")
        self.assertLess(tracemalloc.get_traced_memory()[1], 1 << 20)

    def test_lengths_without_data(self) -> None:
        endless = b"\xff" * 7 + b"\x7f"
        for code in (b"\x8e", b"\x8d", b"\x96", b"\x95"):
            self.check(b"\x80\x05" + code + endless + b"abc.", "truncated")
        for code in (b"B", b"X"):
            self.check(b"\x80\x04" + code + b"\xff\xff\xff\xff.", "truncated")
        self.check(b"\x80\x04\x8b\xff\xff\xff\x7f.", "number")
        self.check(b"\x80\x02T\xff\xff\xff\xff.", "nothing")

    def test_long_numbers(self) -> None:
        self.check(b"I" + b"9" * 2000 + b"\n.", "characters")
        self.check(pickle.dumps(1 << 5000), "bytes")

    def test_steps(self) -> None:
        self.assertIn("steps", str(self.assertRaises(BadPickle, read_request, b"N0" * 200_000)))

    def test_size(self) -> None:
        error = self.assertRaises(BadPickle, read_request, bytes(101), Bounds(size=100))
        self.assertIn("100 bytes", str(error))

    def test_keys_that_collide(self) -> None:
        prime = (1 << 61) - 1
        self.check(pickle.dumps(dict.fromkeys(range(prime, 5000 * prime, prime))), "keys")
        self.check(pickle.dumps(set(range(prime, 5000 * prime, prime))), "keys")
        self.check(pickle.dumps({float(i): i for i in range(5000)}), "keys")


CODES = st.sampled_from(
    [
        b"(", b"]", b"}", b")", b"N", b"K\x01", b"\x8c\x01a", b"\x94", b"h\x00", b"h\x01", b"h\x02",
        b"0", b"1", b"2", b"t", b"l", b"d", b"a", b"e", b"s", b"u", b"\x85", b"\x86", b"\x87", b"R",
        b"b", b"\x81", b"\x92", b"\x8f", b"\x90", b"\x91", b"C\x01b", b"\x88", b"\x89", b"\x93",
        b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"ccollections\nOrderedDict\n", b"\x8c\x02f8",
        b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n",
        b"cnumpy.core.numeric\n_frombuffer\n", b"cbuiltins\nException\n", b"cbuiltins\nset\n",
        b"cpyrogue._Variable\nVariableValue\n", b"c_codecs\nencode\n", b"cbuiltins\nbytearray\n",
        b"cpyrogue.interfaces._Virtual\nVirtualFactory\n", b"cbuiltins\ncomplex\n", b"cx\ny\n",
        Arrays.BEGUN, Arrays.DTYPE, b"(K\x01K\x01\x85" + Arrays.DTYPE + b"\x89C\x08abcdefght",
    ]
)  # fmt: skip
PLAIN = (
    type(None), bool, int, float, complex, str, bytes, bytearray, np.generic, np.ndarray, Opaque,
    NodeInfo, RemoteException,
)  # fmt: skip


def sound(value: Any) -> bool:
    """Whether a value holds nothing but what the reader promises."""
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(sound, value))
    if isinstance(value, dict):
        return all(map(sound, value)) and all(map(sound, value.values()))
    if isinstance(value, VariableValue):
        return sound(value.value) and sound(value.enum)
    return isinstance(value, PLAIN)


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


class Anything(SynchronousTestCase):
    """Random bytes and steps, and damaged recordings: a sound value or `BadPickle`."""

    def read(self, body: bytes) -> None:
        for read in (read_request, read_reply):
            try:
                value = read(body)
            except BadPickle as error:
                self.assertTrue(str(error))
            else:
                self.assertTrue(sound(value), body)

    @given(st.lists(CODES, max_size=40))
    @settings(deadline=None, max_examples=1500)
    def test_steps(self, codes: list[bytes]) -> None:
        self.read(b"".join(codes) + b".")

    @given(st.binary(max_size=200))
    @settings(deadline=None, max_examples=1000)
    def test_bytes(self, body: bytes) -> None:
        self.read(body + b".")

    @given(st.data())
    @settings(deadline=None, max_examples=800)
    def test_damaged(self, data: Any) -> None:
        bodies = _BODIES or _BODIES.extend(body for _, body in recorded("s2c") if len(body) < 4000)
        body = bytearray(data.draw(st.sampled_from(bodies or _BODIES)))
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(body) - 1))
            body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
            body += b"."
        self.read(bytes(body))


_BODIES: list[bytes] = []
