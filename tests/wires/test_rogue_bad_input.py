"""What a Rogue server does with messages that mean harm; nothing in them is ever run."""

from __future__ import annotations

import json
import os
import pickle
from typing import Any

from labnet.lab import ServeOptions
from labnet.wires.rogue.codec import encode_binary
from labnet.wires.rogue.model import RemoteException, VariableValue
from labnet.wires.rogue.pickles.reader import read_reply
from tests.wires.rogue_case import RogueCase
from tests.wires.rogue_toy import ToyServer, parts_of


class Touched:
    """Unpickling this would run something."""

    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


TOUCHED = pickle.dumps(Touched()), pickle.dumps({"path": "Toy", "args": (Touched(),)})


class BadInputTests(RogueCase):
    """Pickles and texts that mean harm; none is ever run."""

    def setUp(self) -> None:
        super().setUp()
        self.ran: list[str] = []
        self.patch(os, "getpid", lambda: self.ran.append("getpid"))
        self.patch(os, "system", lambda text: self.ran.append(text))

    def check(self, body: bytes) -> str:
        ((_, reply),) = self.client.send("bin", b"", body)
        answer = read_reply(reply)
        self.assertIsInstance(answer, RemoteException)
        self.assertEqual(self.ran, [])
        self.assertEqual(self.ask("Toy.Psu.Volts", "get"), 7.5)
        return str(answer.text)

    def test_names(self) -> None:
        for body in (
            b"cos\ngetpid\n(tR.", b"cposix\nsystem\n(S'exit 1'\ntR.",
            b"cbuiltins\neval\n(S'1'\ntR.", b"c__builtin__\neval\n(S'1'\ntR.",
            b"\x80\x04\x8c\x02os\x8c\x06getpid\x93)R.", *TOUCHED,
            b"(S'exit 1'\nios\nsystem\n.", b"(cos\nsystem\nS'exit 1'\no.",
            b"cnumpy\nload\n(S'x'\ntR.", b"cnumpy.testing._private.utils\nrunstring\n.",
            b"cpyrogue._Variable\nVariableValue\n)\x81.", b"cbuiltins\nException\n(tR.",
            b"ccollections\nnamedtuple\n.", b"cbuiltins\ngetattr\n(cos\nS'system'\ntR.",
        ):  # fmt: skip
            self.assertRegex(self.check(body), "UnpicklingError|TypeError")

    def test_opcodes(self) -> None:
        for body in (b"\x80\x02\x82\x01.", b"\x80\x02\x83\x01\x00.", b"\x80\x02\x84\1\0\0\0.",
                     b"P1\n.", b"\x80\x02K\x01Q.", b"\x80\x05\x97.", b"h\x05.", b"0.", b"R.", b".",
                     b"\x80\xff.", b"garbage", b"\x80", b"}"):  # fmt: skip
            self.assertIn("_pickle.UnpicklingError", self.check(body))

    def test_bombs(self) -> None:
        laughs = b"\x80\x04]\x94" + b"]\x94(" + b"h\x00" * 50 + b"e"
        for number in range(1, 12):
            laughs += b"]\x94(" + b"h%c" % number * 50 + b"e"
        bombs = [
            laughs + b".", b"\x80\x04" + b"]" * 100_000 + b".",
            b"\x80\x04" + b"(" * 100_000 + b"t" * 100_000 + b".",
            b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.", b"\x80\x04B\xff\xff\xff\x7fx.",
            b"\x80\x04r\xff\xff\xff\x7f.", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
            b"\x80\x04\x8b\xff\xff\xff\x7f.", b"I" + b"9" * 100_000 + b"\n.",
            pickle.dumps({"path": "Toy", "args": list(range(300_000))}),
        ]  # fmt: skip
        for bomb in bombs:
            self.assertRegex(self.check(bomb), "UnpicklingError|TypeError|ValueError")

    def test_requests_that_are_none(self) -> None:
        for value in (
            [1], 3, None, "x", {}, {"path": 3}, {"path": None}, {"path": ["a"]}, {"path": b"Toy"},
            {"path": "Toy", "attr": 3}, {"path": "Toy", "attr": "name", "args": 3},
            {"path": "Toy", "attr": "name", "args": "ab"}, {"path": "Toy"},
            {"path": "Toy", "attr": "name", "kwargs": []}, {1: 2},
            {"path": "Toy", "attr": "name", "kwargs": {1: 2}},
        ):  # fmt: skip
            self.assertTrue(self.check(pickle.dumps(value, 4)))
            try:
                body = json.dumps(value).encode()
            except TypeError:
                continue
            if not isinstance(value, dict) or 1 not in value:
                ((reply,),) = self.client.send("str", body)
                self.assertTrue(reply.startswith(b"EXCEPTION: "), (value, reply))

    def test_texts(self) -> None:
        for body in (b"", b"garbage", b"\xff\xfe", b"[" * 100_000, b'{"path": "Toy"', b"null",
                     b'{"path": "Toy", "attr": "name"}\0', b"\0", b'{"path": NaN}'):  # fmt: skip
            ((_, reply),) = self.client.send("str", b"", body)
            self.assertTrue(reply.startswith(b"EXCEPTION: "), body)

    def test_a_long_number(self) -> None:
        """Python's advice on how to set itself is not for clients."""
        body = b'{"path": "Toy.Psu.Count", "attr": "set", "args": [1' + b"0" * 5000 + b"]}"
        ((reply,),) = self.client.send("str", body)
        self.assertEqual(reply, b"EXCEPTION: a number has too many digits")

    def test_envelopes(self) -> None:
        body = encode_binary("Toy.Psu.Volts", "mode")
        wanted = pickle.dumps("RW", 4)
        for envelope in ([], [b""], [b"\1\2\3\4", b""], [b"a", b"b", b""]):
            self.assertEqual(self.client.send("bin", *envelope, body), [[*envelope, wanted]])
        self.assertEqual(self.client.send("bin", b"", b"one", body), [[b"", wanted]])
        for parts in ([b""], [b"", b""], [b"", b"", b""], [b"x", b""], [b"x", b"", b""]):
            ((*_, reply),) = self.client.send("bin", *parts)
            self.assertIsInstance(read_reply(reply), RemoteException, parts)

    def test_too_much(self) -> None:
        server = ToyServer(
            self.clock, lab=self.lab, common=ServeOptions(devices=parts_of("toy")), root="Toy",
            max_request=1024, max_reply=2048,
        )  # fmt: skip
        client = server.client()
        self.assertIn("longer than 1024", client.ask("Toy.Psu.Label", "set", "x" * 2000).text)
        self.assertIn("max_reply", client.ask("Toy.Psu.Array", "__call__", 1000).text)
        for kind in ("bin", "str"):
            port, replies = client._port(kind)
            port.messageFailed(client.peers[kind], [b"", *[b"x"] * 65], _too_many())
            ((empty, reply),) = replies.sent.pop(client.peers[kind])
            self.assertIn(b"parts", reply)
            self.assertEqual(empty, b"")

    def test_long_requests_that_wait(self) -> None:
        server = ToyServer(
            self.clock, lab=self.lab, common=ServeOptions(devices=parts_of("toy")), root="Toy",
            max_request=4096,
        )  # fmt: skip
        client = server.client()
        client.send("bin", b"", encode_binary("Toy.Psu.Slow", "__call__", (1.0,)))
        long = encode_binary("Toy.Psu.Label", "set", ("x" * 4000,))
        answers = [client.send("bin", b"", long) for _ in range(4)]
        self.assertEqual([bool(answer) for answer in answers], [False, False, True, True])
        self.clock.advance(1.0)
        self.assertEqual(list(map(read_reply, client.came("bin"))), [1.0, None, None])

    def test_a_value_that_is_an_update(self) -> None:
        """Only a server may name PyRogue's classes."""
        from labnet.wires.rogue.pickles.writer import dumps

        body = dumps({"path": "Toy", "attr": "name", "args": [VariableValue(1)]})
        self.assertIn("not allowed", self.check(body))


def _too_many() -> Any:
    from twisted.python.failure import Failure

    from labnet.transports.zmq_socket import too_many_parts

    return Failure(too_many_parts())
