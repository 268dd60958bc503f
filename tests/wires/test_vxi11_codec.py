"""The calls of VXI-11 and of the port mapper as bytes: all that was recorded, and any values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.framing.xdr import RecordSplitter, XdrError, XdrReader, encode_opaque, encode_uint
from labnet.wires.vxi11 import codec, rpc
from labnet.wires.vxi11.codec import Procedure
from labnet.wires.vxi11.rpc import Answered, Call, Mapping, read_call, read_reply
from tests.wires.vectors import records

READ: dict[str, Callable[[XdrReader], Any]] = {
    "create_link": codec.read_create_link,
    "device_write": codec.read_device_write,
    "device_read": codec.read_device_read,
    "device_readstb": codec.read_generic,
    "device_trigger": codec.read_generic,
    "device_clear": codec.read_generic,
    "device_remote": codec.read_generic,
    "device_local": codec.read_generic,
    "device_lock": codec.read_device_lock,
    "device_enable_srq": codec.read_enable_srq,
    "device_docmd": codec.read_do_command,
    "create_intr_chan": codec.read_channel,
}
NUMBER = st.integers(0, 0xFFFFFFFF)


def plain(value: Any) -> Any:
    """A recorded value as bytes or a number."""
    if isinstance(value, dict):
        return bytes.fromhex(value["hex"]) if "hex" in value else value["text"].encode("latin-1")
    return value.encode() if isinstance(value, str) else value


def whole(record: dict[str, Any]) -> bytes:
    """A recorded message without marks."""
    data = bytes.fromhex(record["bytes"])
    if record["channel"] == "pmap-udp":
        return data
    (message,) = RecordSplitter(1 << 20).feed(data)
    return bytes(message)


def joined(encoded: bytes | tuple[bytes, ...]) -> bytes:
    return encoded if isinstance(encoded, bytes) else b"".join(encoded)


class RecordedTests(SynchronousTestCase):
    def calls(self) -> list[tuple[dict[str, Any], Call]]:
        found = []
        for record in records("vxi11"):
            value = record["value"]
            if value.get("type") == "call" and value["rpcvers"] == 2:
                call = read_call(whole(record))
                assert isinstance(call, Call), record["case"]
                found.append((record, call))
        return found

    def test_heads(self) -> None:
        calls = self.calls()
        self.assertGreater(len(calls), 150)
        for record, call in calls:
            value = record["value"]
            self.assertEqual(
                call[:4], (value["xid"], value["prog"], value["vers"], value["proc"])
            )
            if value["cred"] == [0, ""] and "frags" not in record["case"]:
                arguments = whole(record)[call.at :]
                made = rpc.encode_call(*call[:4], arguments)
                skipped = 4 if record["channel"] == "pmap-udp" else 0
                self.assertEqual(made[skipped:].hex(), record["bytes"])

    def test_arguments(self) -> None:
        seen = set()
        for record, call in self.calls():
            name = record["value"]["name"]
            if name not in READ:
                continue
            seen.add(name)
            request = READ[name](call.arguments())
            wanted = tuple(plain(item) for item in record["value"]["args"].values())
            self.assertEqual(tuple(request), wanted, record["case"])
            if "trailing" not in record["case"]:
                self.assertEqual(joined(request.encode()), bytes(call.record[call.at :]))
        self.assertEqual(seen, set(READ))

    def test_replies(self) -> None:
        for record in records("vxi11"):
            value = record["value"]
            if value.get("type") != "reply":
                continue
            reply = read_reply(whole(record))
            self.assertEqual(reply.xid, value["xid"])
            self.assertEqual(not reply.problem, value.get("accept") == 0, record["case"])
            result = value.get("result") or {}
            if "reason" in result:
                self.assertEqual(
                    tuple(codec.read_given(reply.results())), tuple(map(plain, result.values()))
                )
            elif "abortPort" in result:
                self.assertEqual(
                    tuple(codec.read_link_made(reply.results())), tuple(result.values())
                )
            elif "mappings" in result:
                found = rpc.read_mappings(reply.results())
                self.assertEqual([list(mapping) for mapping in found], result["mappings"])
                self.assertIn(rpc.encode_mappings(found), bytes(reply.record))


class ValueTests(SynchronousTestCase):
    @given(NUMBER, NUMBER, NUMBER, NUMBER, st.binary(max_size=40))
    def test_write(self, link: int, io: int, lock: int, flags: int, data: bytes) -> None:
        request = codec.DeviceWrite(link, io, lock, flags, data)
        self.assertEqual(codec.read_device_write(XdrReader(joined(request.encode()))), request)

    @given(st.integers(-(1 << 31), (1 << 31) - 1), NUMBER, NUMBER, st.binary(max_size=40))
    def test_create_link(self, client: int, lock: int, wait: int, device: bytes) -> None:
        request = codec.CreateLink(client, lock, wait, device)
        self.assertEqual(codec.read_create_link(XdrReader(request.encode())), request)

    @given(NUMBER, NUMBER, NUMBER, st.binary(max_size=50))
    def test_given(self, xid: int, error: int, reason: int, data: bytes) -> None:
        (record,) = RecordSplitter(200).feed(codec.encode_given(xid, error, reason, data))
        reply = read_reply(record)
        self.assertEqual(reply.xid, xid)
        self.assertEqual(codec.read_given(reply.results()), (error, reason, data))

    @given(st.lists(st.builds(Mapping, NUMBER, NUMBER, NUMBER, NUMBER), max_size=5))
    def test_mappings(self, mappings: list[Mapping]) -> None:
        self.assertEqual(rpc.read_mappings(XdrReader(rpc.encode_mappings(mappings))), mappings)

    @given(st.binary(max_size=80))
    def test_nonsense(self, data: bytes) -> None:
        """Either something, or `XdrError`; nothing else."""
        for read in (read_call, read_reply):
            try:
                read(data)
            except XdrError:
                pass
        for read_arguments in READ.values():
            try:
                read_arguments(XdrReader(data))
            except XdrError:
                pass

    def test_a_character_with_its_sign(self) -> None:
        request = codec.DeviceRead(1, 2, 3, 4, codec.TERMCHRSET, 0xFFFFFF8A)
        read = codec.read_device_read(XdrReader(request.encode()))
        self.assertEqual(read.termchar, 0x8A)

    def test_a_port_with_its_sign(self) -> None:
        made = codec.LinkMade(0, 1, 0xFFFF8E9D, 1024)
        self.assertEqual(codec.read_link_made(XdrReader(made.encode())).abort_port, 0x8E9D)

    def test_times(self) -> None:
        self.assertEqual(codec.seconds(2500), 2.5)
        self.assertEqual(codec.seconds(codec.FOREVER), codec.LONGEST)
        self.assertEqual(codec.milliseconds(0.0104), 10)
        self.assertEqual(codec.milliseconds(-1), 0)
        self.assertEqual(codec.milliseconds(1e12), codec.FOREVER)

    def test_an_address(self) -> None:
        self.assertEqual(codec.Channel(0x7F000001, 1, 2, 3, 0).address, "127.0.0.1")


class RpcTests(SynchronousTestCase):
    def call(self, *numbers: int) -> bytes:
        return b"".join(map(encode_uint, numbers))

    def answered(self, data: bytes) -> bytes:
        read = read_call(data)
        assert isinstance(read, Answered), read
        return read.reply

    def test_credentials(self) -> None:
        nobody = self.call(0, 0)
        head = self.call(1, 0, 2, 3, 4, 5)
        for size in (0, 4, 5, 400):
            credential = encode_uint(1) + encode_opaque(bytes(size))
            read = read_call(head + credential + nobody + b"arguments")
            assert isinstance(read, Call)
            self.assertEqual(bytes(read.record[read.at :]), b"arguments")
        too_long = head + encode_uint(1) + encode_opaque(bytes(401)) + nobody
        self.assertEqual(self.answered(too_long)[-4:], encode_uint(4))

    def test_what_is_no_call(self) -> None:
        self.assertEqual(self.answered(self.call(1, 1, 0)), b"", "a reply has no answer")
        self.assertEqual(self.answered(self.call(1, 0, 3))[8:16], self.call(1, 1))
        self.assertEqual(self.answered(self.call(1, 0))[-4:], encode_uint(4))
        self.assertEqual(self.answered(self.call(1, 0, 2, 3, 4, 5, 0))[-4:], encode_uint(4))
        for data in (b"", b"\0\0\0", self.call(1), self.call(1, 2)):
            self.assertRaises(XdrError, read_call, data)

    def test_refusals(self) -> None:
        for status, word in ((1, "program"), (2, "version"), (3, "procedure"), (9, "status 9")):
            (record,) = RecordSplitter(100).feed(rpc.encode_reply(7, status=status))
            self.assertIn(word, read_reply(record).problem)
        (record,) = RecordSplitter(100).feed(rpc.encode_denied(7))
        self.assertEqual(read_reply(record)[:2], (7, "denied the call"))
        self.assertEqual(Procedure(30), Procedure.DEVICE_INTR_SRQ)
