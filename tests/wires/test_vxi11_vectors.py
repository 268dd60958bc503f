"""The recorded calls of VXI-11 clients, each in its situation; the answers byte by byte."""

from __future__ import annotations

import random
from struct import pack_into, unpack_from
from typing import Any

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from labnet.lab import Lab, ServeOptions
from labnet.wires.vxi11 import codec
from labnet.wires.vxi11.codec import EnableSrq, ErrorCode, Program
from labnet.wires.vxi11.rpc import encode_call
from labnet.wires.vxi11.server import AbortFactory, Options, Vxi11Factory
from tests.wires.vxi11_toy import (
    LINK_AT,
    MADE_AT,
    Client,
    Recorded,
    Reference,
    Sayer,
    recorded,
    replies,
)

ABORT_PORT = 46533


class Situation:
    """A new lab in which one recorded call is made."""

    def __init__(self, record: Recorded, split: str) -> None:
        self.record = record
        self.split = split
        self.clock: Any = MemoryReactorClock()
        self.lab = Lab(self.clock, self.clock)
        reads = record.value.get("name") == "device_read"
        self.device: Any = Sayer() if reads else Reference(clock=self.clock)
        self.lab.attach("a", self.device)
        self.lab.attach("b", Reference(clock=self.clock))
        third_party = record.source.startswith("python-vxi11-server")
        common = ServeOptions(devices={"inst0": "a", "inst1": "b"})
        size = 1024 if third_party else 1 << 20
        options = Options(portmapper="none", max_receive=size, interrupt_anywhere=True)
        self.factory = Vxi11Factory(self.lab, common, options)
        self.factory.abort_port = ABORT_PORT

    def client(self, make: Any = None) -> Client:
        return Client(self.factory, self.clock, make)

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = self.record.result.get("result") or {}
        return found

    def play(self) -> bytes:
        """The answer to the call."""
        client = self.client(AbortFactory(self.factory) if self.is_abort else None)
        if self.record.link is None or self.result.get("error") == ErrorCode.INVALID_LINK:
            self.prepare_others(client)
            answer = self.tell(client, self.record.call)
        else:
            owner = self.client() if self.is_abort else client
            owner.make()
            self.prepare(owner)
            answer = self.tell(client, self.record.to(owner.link))
        if self.clock.tcpClients:
            self.connect()
        if "ended by abort" in self.record.case:
            self.client().abort(client.link)
        self.clock.advance(0)
        answer += client.wire.taken()
        if not answer:
            self.clock.advance(5)  # the time limit of the call
            answer = client.wire.taken()
        return answer

    @property
    def is_abort(self) -> bool:
        return self.record.channel == "abort"

    def tell(self, client: Client, data: bytes) -> bytes:
        if self.split == "bytewise":
            return client.tell(*(data[at : at + 1] for at in range(len(data))))
        if self.split == "joined":
            program = Program.ABORT if self.is_abort else Program.CORE
            return client.tell(data + encode_call(99, program, 1, 0))
        return client.tell(data)

    def prepare(self, client: Client) -> None:
        """Brings about what was so when the call was recorded."""
        name, case = self.record.value["name"], self.record.case
        data = self.result.get("data")
        if name == "device_read" and data and not self.result["error"]:
            response = bytes.fromhex(data["hex"]) if "hex" in data else data["text"].encode()
            end = self.result["reason"] & codec.REASON_END
            self.device.says = response.removesuffix(b"\n") if end else response + b"and more"
            client.write(b"?")
        if self.result.get("stb") == 16:
            client.write(b"*IDN?")
        if self.result.get("stb") == 64:
            client.write(b"*SRE 1;TEST:SRQ")
        self.prepare_others(client)
        if "by the holder" in case or (name == "device_unlock" and not self.result["error"]):
            assert client.lock() == 0

    def prepare_others(self, client: Client) -> None:
        """What does not need a link of the client's."""
        if "locked" in self.record.case or "foreign" in self.record.case:
            other = self.client()
            other.make()
            assert other.lock() == 0
        if self.record.value.get("name") == "destroy_intr_chan" and not self.result["error"]:
            client.tell(self.call_of("create_intr_chan"))
            self.connect()
            client.reply()

    def call_of(self, name: str) -> bytes:
        return next(r.call for r in recorded() if r.value.get("name") == name)

    def connect(self) -> None:
        """The interrupt channel of the last create_intr_chan comes about, or not."""
        _, port, factory, *_ = self.clock.tcpClients.pop()
        if port == 9:
            factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        else:
            protocol = factory.buildProtocol(None)
            transport = StringTransportWithDisconnection()
            transport.setTcpNoDelay = transport.setTcpKeepAlive = lambda on: None
            transport.protocol = protocol
            protocol.makeConnection(transport)

    def expected(self) -> bytes:
        """The recorded answer, as it would be with this lab's numbers."""
        answer = bytearray(self.record.answer)
        if self.record.value.get("name") == "create_link":
            if self.result["error"]:
                answer[MADE_AT:] = bytes(12)
            else:
                size = self.factory.options.max_receive
                link = max(self.factory.links)
                pack_into(">3I", answer, MADE_AT, link, ABORT_PORT, size)
        if self.result.get("stb") == 64:
            answer[-1] |= 1  # the device itself has asked
        return bytes(answer)


class RecordedTests(SynchronousTestCase):
    def check(self, split: str) -> None:
        count = 0
        for record in recorded():
            if record.case == "create_intr_chan again" or "again" in record.case.split(": ")[-1]:
                continue
            count += 1
            situation = Situation(record, split)
            answer = situation.play()
            if split == "joined":
                answer, last = answer[:-28], answer[-28:]
                self.assertEqual(replies(last)[0][:2], (99, ""), record.case)
            if record.answer:
                self.assertEqual(answer.hex(), situation.expected().hex(), record.case)
            else:
                nothing = 15 if record.value["name"] == "device_read" else 0
                self.assertEqual(replies(answer)[0].results().uint(), nothing, record.case)
            situation.lab.stop()
        self.assertGreater(count, 140)

    def test_whole(self) -> None:
        self.check("whole")

    def test_bytewise(self) -> None:
        self.check("bytewise")

    def test_joined_with_the_next(self) -> None:
        self.check("joined")

    def test_again(self) -> None:
        """What is refused the second time."""
        for record in recorded():
            what = record.case.removeprefix("rules: ")
            if not what.endswith("again"):
                continue
            situation = Situation(record, "whole")
            client = situation.client()
            client.make()
            if "create_intr_chan" in what:
                client.tell(record.call)
                situation.connect()
                client.reply()
            data = record.call if "intr" in what else record.to(client.link)
            if "destroy" in what:
                client.tell(data)
            self.assertEqual(client.tell(data).hex(), record.answer.hex(), record.case)

    def test_service_requests(self) -> None:
        """What the server sends by the interrupt channel."""
        for record in recorded(("core", "intr")):
            if record.value.get("name") != "device_enable_srq" or not record.answer:
                continue
            handle = record.value["args"]["handle"]
            if not record.value["args"]["enable"] or "hex" in handle:
                continue
            situation = Situation(record, "whole")
            client = situation.client()
            client.make()
            client.tell(situation.call_of("create_intr_chan"))
            situation.connect()
            client.reply()
            self.assertEqual(client.tell(record.to(client.link)), record.answer)
            client.write(b"TEST:SRQ")
            channel = client.protocol._interrupt
            wanted = next(
                bytes.fromhex(r["bytes"])
                for r in self.interrupts()
                if r["value"]["args"]["handle"] == handle
            )
            sent = channel.transport.value()
            self.assertEqual(sent.hex()[16:], wanted.hex()[16:])
            client.write(b"TEST:SRQ")
            self.assertEqual(channel.transport.value(), sent, "not again before a poll")
            client.status_byte()
            client.enable(b"", False)
            client.write(b"TEST:SRQ")
            self.assertEqual(channel.transport.value(), sent)

    def interrupts(self) -> list[dict[str, Any]]:
        from tests.wires.vectors import records

        return [record for record in records("vxi11") if record["channel"] == "intr"]


class MutatedTests(SynchronousTestCase):
    """10,000 calls in which something is wrong."""

    timeout = 120

    def test_nonsense_harms_nobody_else(self) -> None:
        chance = random.Random(7)
        record = next(recorded())
        situation = Situation(record, "whole")
        situation.factory.log.debug_on = False
        calls = [
            r.to(1) if r.link is not None else r.call
            for r in recorded()
            if len(r.call) > 40 and len(r.call) < 2000
        ]
        good = situation.client()
        good.make(b"inst1")
        client = situation.client()
        client.make()
        ended = 0
        for number in range(10_000):
            if client.ended:
                ended += 1
                client.vanish()
                client = situation.client()
                client.make()
            data = self.mutated(chance, chance.choice(calls), client.link)
            client.tell(data)
            situation.clock.tcpClients.clear()
            if number % 50 == 0:
                situation.clock.advance(100_000)  # whatever waits is over
                self.assertEqual(good.query(b"*IDN?"), b"LABNET,REF,0,1\n")
                client.vanish()
        self.assertGreater(ended, 100)
        client.vanish()
        good.vanish()
        situation.clock.advance(100_000)
        self.assertEqual(situation.lab.locks.count, 0)
        self.assertEqual(situation.factory.links, {})
        self.assertEqual(situation.factory.live, set())
        situation.lab.stop()

    def mutated(self, chance: random.Random, call: bytes, link: int) -> bytes:
        data = bytearray(call)
        if len(data) >= LINK_AT + 4 and unpack_from(">I", data, LINK_AT)[0] == 1:
            pack_into(">I", data, LINK_AT, link)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data))
            match chance.randrange(6):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
                case 2:
                    del data[at:]
                case 3:
                    data[at:at] = chance.randbytes(chance.randint(1, 8))
                case 4:
                    pack_into(">I", data, min(at & ~3, max(0, len(data) - 4)), 0xFFFFFFF0)
                case 5:
                    data += data[: chance.randint(1, len(data))]
            if len(data) < 4:
                break
        return bytes(data)


class EnableTests(SynchronousTestCase):
    def test_handles_are_at_most_40_bytes(self) -> None:
        situation = Situation(next(recorded()), "whole")
        client = situation.client()
        client.make()
        self.assertEqual(client.enable(bytes(40)), 0)
        self.assertEqual(client.enable(bytes(41)), ErrorCode.PARAMETER)
        self.assertEqual(EnableSrq(1, 1, b"a").handle, b"a")
