"""The VICP server: recorded clients, order, clears and polls, locks, long answers, nonsense."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, parameter
from labnet.errors import BadArguments, DeviceFault
from labnet.instrument.serving import only_device
from labnet.lab import Lab, ServeOptions
from labnet.wires.vicp import codec, server
from labnet.wires.vicp.codec import Block
from labnet.wires.vicp.server import Options, VicpFactory, VicpProtocol, listen
from tests.wires.vicp_toy import Recorded, answers, blocks, connections, message

IDENTITY = b"LECROY,SIM,LCRY0001,1.0\n"


class Wire(StringTransportWithDisconnection):
    """A transport that forgets what the test has read, and whose client may stop reading."""

    def __init__(self) -> None:
        super().__init__()
        self.urgent = b""
        self.aborted = False

    def taken(self) -> bytes:
        data = bytes(self.value())
        self.clear()
        return data

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()

    def stop_reading(self) -> None:
        assert self.producer is not None
        self.producer.pauseProducing()  # type: ignore[attr-defined]

    def read_again(self) -> None:
        assert self.producer is not None
        self.producer.resumeProducing()


class ServerTestCase(SynchronousTestCase):
    options = Options(max_message=1 << 20)

    def setUp(self) -> None:
        self.clock: Any = MemoryReactorClock()
        self.lab = Lab(self.clock, self.clock)
        self.device = self.make_device()
        self.lab.attach("bench", self.device)
        self.addCleanup(self.lab.stop)
        common = ServeOptions(device="bench", timeout=5.0)
        self.factory = VicpFactory(self.lab, common, self.options, "bench")
        self.patch(server, "send_urgent", self.urgent)

    def make_device(self) -> Any:
        return Recorded(self.clock)

    def urgent(self, transport: Wire, byte: int) -> None:
        transport.urgent += bytes([byte])

    def connect(self) -> VicpProtocol:
        protocol: VicpProtocol = self.factory.buildProtocol(None)
        transport = Wire()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return protocol

    def wire(self, protocol: VicpProtocol) -> Wire:
        transport = protocol.transport
        assert isinstance(transport, Wire)
        return transport

    def tell(self, protocol: VicpProtocol, *data: bytes) -> bytes:
        for piece in data:
            if self.wire(protocol).connected:
                protocol.dataReceived(piece)
            self.clock.advance(0)
        return self.wire(protocol).taken()

    def ask(self, text: bytes, protocol: VicpProtocol | None = None, number: int = 1) -> bytes:
        ((got, answer),) = answers(self.tell(protocol or self.connect(), message(text, number)))
        self.assertEqual(got, number)
        return answer


class RecordedTests(ServerTestCase):
    """Each connection once in whole blocks, once in bytes, once joined."""

    def expected(self, record: dict[str, Any]) -> list[tuple[int, bytes]]:
        data = bytes.fromhex(record["bytes"])
        found = []
        for block in blocks(data):
            number = block.sequence
            if "sequence 0" in record["case"]:
                number = 2  # there the reference server plays an old one
            found.append((number, block.data))
        return found

    def replay(self, split: str) -> None:
        for connection in connections():
            self.setUp()
            protocol = self.connect()
            protocol.channel.enable_service(True)  # else TEST:SRQ would need *SRE
            wanted: list[tuple[int, bytes]] = []
            got = b""
            if split == "joined":
                sent = [r for r in connection if r["direction"].startswith("c2s")]
                got = self.tell(protocol, b"".join(bytes.fromhex(r["bytes"]) for r in sent))
            for record in connection:
                data = bytes.fromhex(record["bytes"])
                if record["direction"] == "s2c":
                    wanted += self.expected(record)
                elif record["direction"].startswith("c2s") and split != "joined":
                    pieces = [data[n : n + 1] for n in range(len(data))]
                    got += self.tell(protocol, *(pieces if split == "bytewise" else [data]))
                self.clock.advance(0 if split == "joined" else 1)
                got += self.wire(protocol).taken()
            self.compare(connection, got, wanted, split)

    def compare(
        self,
        connection: list[dict[str, Any]],
        got: bytes,
        wanted: list[tuple[int, bytes]],
        split: str,
    ) -> None:
        joined: dict[int, bytes] = {}
        for number, data in wanted:
            joined[number] = joined.get(number, b"") + data
        found: dict[int, bytes] = {}
        for number, data in answers(got):
            data = data.replace(b"DONE", b"done")
            found[number] = found.get(number, b"") + data
        if split == "joined":
            # The device clear in these overtakes the query that waits.
            for number in range(8, 12):
                joined.pop(number, None)
            if 14 in joined:
                joined[15] += joined.pop(14)  # the request for service comes a turn later
        for poll in (r for r in connection if "in band, before" in r["case"]):
            # The status byte of the reference server: here nothing asks for service.
            if poll["direction"] == "s2c":
                joined[1] = joined[1].replace(b"D", b"\0", 1)
        self.assertEqual(found, joined)

    def test_whole(self) -> None:
        self.replay("whole")

    def test_bytewise(self) -> None:
        self.replay("bytewise")

    def test_joined(self) -> None:
        self.replay("joined")

    def test_what_ends_a_connection(self) -> None:
        for connection in connections():
            protocol = self.connect()
            bad = any("bad version" in record["case"] for record in connection)
            for record in connection:
                if record["direction"].startswith("c2s"):
                    self.tell(protocol, bytes.fromhex(record["bytes"]))
            self.assertEqual(self.wire(protocol).aborted, bad)


class MessageTests(ServerTestCase):
    def test_the_answer_repeats_the_number(self) -> None:
        protocol = self.connect()
        for number in (1, 2, 9, 255, 1, 0):
            self.assertEqual(self.ask(b"*IDN?\r\n", protocol, number), IDENTITY)

    def test_a_message_in_blocks(self) -> None:
        protocol = self.connect()
        sent = [codec.encode_block(0x80, n, data) for n, data in ((5, b"*I"), (6, b""), (7, b"DN"))]
        self.assertEqual(self.tell(protocol, *sent), b"")
        self.assertEqual(answers(self.tell(protocol, message(b"?", 8))), [(8, IDENTITY)])
        self.tell(protocol, codec.encode_block(0x80, 9, b"*OPC?"))
        self.assertEqual(answers(self.tell(protocol, message(b"", 9))), [(9, b"1\n")])

    def test_nothing_to_say(self) -> None:
        protocol = self.connect()
        sent = [message(text) for text in (b"*CLS", b"", b"NO:SUCH")]
        self.assertEqual(self.tell(protocol, *sent), b"")
        self.assertTrue(self.ask(b"SYST:ERR?", protocol).startswith(b"-113,"))

    def test_answers_in_the_order_of_the_questions(self) -> None:
        protocol = self.connect()
        sent = b"".join(message(b"SLOW?", n) + message(b"*OPC?", n + 1) for n in (1, 3))
        self.assertEqual(self.tell(protocol, sent), b"")
        self.device.waits[0].callback("a")
        self.assertEqual([n for n, _ in answers(self.wire(protocol).taken())], [1, 2])
        self.device.waits[1].callback("b")
        self.assertEqual([n for n, _ in answers(self.wire(protocol).taken())], [3, 4])

    def test_remote_and_lockout(self) -> None:
        protocol = self.connect()
        seen = []
        for operation in (0x60, 0x40, 0x41, 0x80, 0x00, 0xE1):
            self.assertEqual(self.tell(protocol, codec.encode_header(operation, 0)), b"")
            seen.append((protocol.remote, protocol.lockout))
        both, one, none = (True, True), (True, False), (False, False)
        self.assertEqual(seen, [both, one, one, one, none, both])
        self.assertEqual(self.ask(b"*IDN?", protocol), IDENTITY)

    def test_data_of_a_block_that_is_not_data(self) -> None:
        protocol = self.connect()
        self.assertEqual(self.tell(protocol, codec.encode_block(0x41, 1, b"*IDN?")), b"")
        self.assertEqual(self.ask(b"*OPC?", protocol), b"1\n")

    def test_a_half_closing_client_gets_its_answers(self) -> None:
        protocol = self.connect()
        self.tell(protocol, message(b"SLOW?"))
        protocol.readConnectionLost()
        self.assertTrue(self.wire(protocol).connected)
        self.device.waits[0].callback("x")
        self.assertEqual(answers(self.wire(protocol).taken()), [(1, b'"x"\n')])
        self.assertFalse(self.wire(protocol).connected)

    def test_the_listener_stops(self) -> None:
        """An idle connection is reset at once, another one when its answer has left."""
        idle, busy = self.connect(), self.connect()
        self.tell(busy, message(b"SLOW?", 1), message(b"*OPC?", 2))
        idle.wind_up()
        busy.wind_up()
        self.assertEqual((self.wire(idle).aborted, self.wire(busy).aborted), (True, False))
        self.device.waits[0].callback("x")
        self.assertEqual(answers(self.wire(busy).taken()), [(1, b'"x"\n')])
        self.assertFalse(self.wire(busy).aborted)
        self.clock.advance(1)
        self.assertTrue(self.wire(busy).aborted)

    def test_the_end_of_the_connection_ends_the_session(self) -> None:
        protocol = self.connect()
        self.ask(b"SYST:LOCK:REQ?", protocol)
        self.assertEqual(self.lab.locks.count, 1)
        self.wire(protocol).loseConnection()
        self.assertEqual(self.lab.locks.count, 0)


class ClearAndPollTests(ServerTestCase):
    clear = codec.encode_header(codec.DATA | codec.CLEAR, 2)

    def poll(self, number: int) -> bytes:
        return codec.encode_header(codec.DATA | codec.SERIAL_POLL, number)

    def test_clear_drops_a_half_message(self) -> None:
        for clear in (self.clear, codec.encode_header(codec.CLEAR, 0)):
            protocol = self.connect()
            self.assertEqual(self.tell(protocol, codec.encode_block(0x80, 1, b"VOLT"), clear), b"")
            self.assertEqual(self.ask(b"*IDN?", protocol), IDENTITY)

    def test_clear_with_data(self) -> None:
        protocol = self.connect()
        sent = codec.encode_block(0x80, 1, b"XX") + codec.encode_block(0x91, 2, b"*OPC?")
        self.assertEqual(answers(self.tell(protocol, sent)), [(2, b"1\n")])

    def test_clear_cancels_what_is_carried_out_and_what_waits(self) -> None:
        slow, other = message(b"SLOW?", 1), message(b"*OPC?", 2)
        after = message(b"*IDN?", 3)
        for pieces in ([slow, other, self.clear, after], [slow + other + self.clear + after]):
            protocol = self.connect()
            self.assertEqual(answers(self.tell(protocol, *pieces)), [(3, IDENTITY)])
            self.device.waits.pop().callback("late")
            self.assertEqual(self.wire(protocol).taken(), b"")
            self.assertEqual(self.ask(b"*OPC?", protocol), b"1\n")

    def test_clear_of_two_slow_ones(self) -> None:
        protocol = self.connect()
        sent = message(b"SLOW?", 1) + self.clear + message(b"SLOW?", 2) + self.clear
        self.assertEqual(self.tell(protocol, sent + message(b"*OPC?", 3))[2:3], b"\3")

    def test_clear_drops_the_rest_of_a_long_answer(self) -> None:
        protocol = self.connect()
        self.tell(protocol, message(b"*IDN?"))
        self.wire(protocol).stop_reading()
        protocol.dataReceived(message(b"TEST:BLOCK? 3000000", 1))
        self.wire(protocol).read_again()
        self.wire(protocol).stop_reading()
        protocol.dataReceived(self.clear)
        protocol.dataReceived(message(b"*OPC?", 2))
        self.wire(protocol).read_again()
        self.clock.advance(0)
        found = blocks(self.wire(protocol).taken())
        self.assertEqual(found[-1], Block(0x81, 2, b"1\n"))
        self.assertTrue(all(block.operation == 0x80 for block in found[:-1]))
        self.assertLess(sum(len(block.data) for block in found), 3_000_000)

    def test_poll_in_band(self) -> None:
        protocol = self.connect()
        self.assertEqual(blocks(self.tell(protocol, self.poll(7))), [Block(0x81, 7, b"\0")])
        self.tell(protocol, message(b"*SRE 32;*ESE 32;NO:SUCH"))
        self.assertEqual(blocks(self.tell(protocol, self.poll(8)))[0].data, b"\x64")
        self.assertEqual(blocks(self.tell(protocol, self.poll(9)))[0].data, b"\x24")

    def test_poll_overtakes_a_message_that_waits(self) -> None:
        for joined in (False, True):
            protocol = self.connect()
            sent = [message(b"SLOW?", 1), self.poll(2), b"S"]
            got = self.tell(protocol, *([b"".join(sent)] if joined else sent))
            self.assertEqual(blocks(got), [Block(0x81, 2, b"\0")])
            self.assertEqual(self.wire(protocol).urgent, b"\0")
            self.device.waits.pop().callback("done")
            self.assertEqual(answers(self.wire(protocol).taken()), [(1, b'"done"\n')])

    def test_poll_out_of_band(self) -> None:
        protocol = self.connect()
        self.assertEqual(self.tell(protocol, b"S", b"w", b"S"), b"")
        self.assertEqual(self.wire(protocol).urgent, b"\0\0")

    def test_service_request(self) -> None:
        protocol, other = self.connect(), self.connect()
        asserted, withdrawn = (b"\x89\1%%c\0\0\0\0\1%d" % state for state in (1, 0))
        self.tell(other, message(b"*IDN?"))
        self.assertEqual(self.tell(protocol, message(b"TEST:SRQ", 2)), b"")
        self.tell(protocol, self.poll(3), message(b"*SRE 33;*ESE 32", 3))
        self.assertEqual(self.tell(protocol, message(b"NO:SUCH", 4)), asserted % 4)
        self.assertEqual(self.tell(protocol, message(b"TEST:SRQ", 5)), b"")  # it asks already
        answer = self.tell(protocol, self.poll(6))
        self.assertEqual(answer, b"\x81\1\6\0\0\0\0\1\x65" + withdrawn % 6)
        self.assertEqual(self.tell(protocol, self.poll(6))[8:], b"\x24")  # withdrawn before
        self.tell(protocol, message(b"*CLS", 6))
        self.device.srq()
        self.clock.advance(0)
        self.assertEqual(self.wire(protocol).taken(), asserted % 6)
        self.assertEqual(self.tell(protocol, message(b"*CLS", 7)), withdrawn % 7)
        self.assertEqual(self.wire(other).taken(), b"")


class LockTests(ServerTestCase):
    def test_messages_wait_for_the_lock_of_another(self) -> None:
        holder, other = self.connect(), self.connect()
        self.ask(b"SYST:LOCK:REQ?", holder)
        self.assertEqual(self.tell(other, message(b"TEST:BLOCK? 1", 1), message(b"*IDN?", 2)), b"")
        self.clock.advance(100)
        self.assertEqual(self.wire(other).taken(), b"")
        self.tell(holder, message(b"SYST:LOCK:REL"))
        self.assertEqual(answers(self.wire(other).taken()), [(1, b"#11\0\n"), (2, IDENTITY)])

    def test_clear_ends_the_wait(self) -> None:
        holder, other = self.connect(), self.connect()
        self.ask(b"SYST:LOCK:REQ?", holder)
        self.tell(other, message(b"TEST:BLOCK? 1", 1), codec.encode_header(0x90, 2))
        self.tell(holder, message(b"SYST:LOCK:REL"))
        self.assertEqual(self.wire(other).taken(), b"")
        self.assertEqual(self.ask(b"*IDN?", other), IDENTITY)

    def test_a_client_that_waits_may_go(self) -> None:
        holder, other = self.connect(), self.connect()
        self.ask(b"SYST:LOCK:REQ?", holder)
        self.tell(other, message(b"TEST:BLOCK? 1", 1))
        self.wire(other).loseConnection()
        self.wire(holder).loseConnection()
        self.assertEqual(self.lab.locks.count, 0)


class LongAnswerTests(ServerTestCase):
    def sizes(self, size: int) -> None:
        answer = self.ask(b"TEST:BLOCK? %d" % size)
        digits = str(size)
        self.assertEqual(answer[2 + len(digits) : -1], self.device.block(size))

    def test_sizes(self) -> None:
        for size in (0, 1, 4085, 4086, 20473, 262_134, 262_135, 262_136, 300_000, 3_000_000):
            self.sizes(size)

    def test_a_slow_reader_gets_it_in_pieces(self) -> None:
        protocol = self.connect()
        self.tell(protocol, message(b"*IDN?"))
        self.wire(protocol).stop_reading()
        protocol.dataReceived(message(b"TEST:BLOCK? 5000000", 4) + message(b"*OPC?", 5))
        self.assertEqual(self.wire(protocol).taken(), b"")
        got = b""
        for _ in range(100):
            self.wire(protocol).read_again()
            self.wire(protocol).stop_reading()
            self.clock.advance(0)
            piece = self.wire(protocol).taken()
            self.assertLess(len(piece), 2_000_000)
            got += piece
        (first, block), second = answers(got)
        self.assertEqual((first, len(block)), (4, 5_000_010))
        self.assertEqual(second, (5, b"1\n"))

    def test_service_requests_come_between_blocks(self) -> None:
        protocol = self.connect()
        self.tell(protocol, message(b"*SRE 1"))
        protocol.dataReceived(message(b"TEST:BLOCK? 5000000", 4))
        self.device.srq()
        for _ in range(10):
            self.clock.advance(0)
        found = blocks(self.wire(protocol).taken())
        self.assertEqual(sum(block.operation == 0x89 for block in found), 1)
        data = [block for block in found if block.operation & 8 == 0]
        self.assertEqual(sum(len(block.data) for block in data), 5_000_010)


class NonsenseTests(ServerTestCase):
    def ends(self, data: bytes) -> None:
        protocol, other = self.connect(), self.connect()
        self.tell(protocol, data)
        self.assertTrue(self.wire(protocol).aborted)
        self.assertEqual(self.ask(b"*IDN?", other), IDENTITY)

    def test_headers(self) -> None:
        self.ends(b"\x81\2\1\0\0\0\0\0")
        self.ends(codec.encode_header(0x81, 1, (1 << 20) + 1))
        self.ends(codec.encode_header(0x81, 1, (1 << 32) - 1))
        self.ends(b"GET / HTTP/1.1\r\n\r\n")

    def test_a_message_over_the_bound_in_blocks(self) -> None:
        piece = codec.encode_block(0x80, 1, bytes(700_000))
        self.ends(piece + piece + message(b"*IDN?"))

    def test_what_came_before_is_answered(self) -> None:
        protocol = self.connect()
        got = self.tell(protocol, message(b"*IDN?") + b"\x81\2\1\0\0\0\0\0" + message(b"*IDN?"))
        self.assertEqual(answers(got), [(1, IDENTITY)])
        self.assertTrue(self.wire(protocol).aborted)

    def test_nonsense_ends_a_wait(self) -> None:
        for joined in (False, True):
            protocol = self.connect()
            sent = [message(b"SLOW?"), b"\x81\2\1\0\0\0\0\0"]
            self.tell(protocol, *([b"".join(sent)] if joined else sent))
            self.assertTrue(self.wire(protocol).aborted)

    def mutated(self, chance: random.Random, recorded: list[bytes]) -> bytes:
        data = bytearray(b"".join(chance.choices(recorded, k=chance.randint(1, 3))))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 2))
            if not data:
                break
        return bytes(data)

    def test_mutated_vectors(self) -> None:
        """Ten thousand of them; none disturbs another client or leaves anything behind."""
        chance = random.Random(4)
        recorded = [
            bytes.fromhex(record["bytes"])
            for connection in connections()
            for record in connection
            if record["direction"].startswith("c2s")
        ]
        other = self.connect()
        for number in range(10_000):
            protocol = self.connect()
            data = self.mutated(chance, recorded)
            cut = chance.randrange(len(data) + 1)
            self.tell(protocol, data[:cut], data[cut:])
            if self.wire(protocol).connected:
                self.wire(protocol).loseConnection()
            if number % 100 == 0:
                self.assertEqual(self.ask(b"*IDN?", other), IDENTITY)
        self.clock.advance(10_000)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])


class SplitTests(ServerTestCase):
    pieces = st.sampled_from(
        [
            message(b"*IDN?", 1),
            message(b"TEST:TRIG?", 2),
            message(b"SLOW?", 3),
            message(b"TEST:BLOCK? 300000", 4),
            codec.encode_block(0x80, 5, b"*OPC"),
            message(b"?", 6),
            codec.encode_header(0x90, 7),
            codec.encode_header(0x84, 8),
            codec.encode_header(0x60, 0),
            b"S",
            b"\x81\7\1\0\0\0\0\0",
        ]
    )

    @given(st.lists(pieces, max_size=10))
    def test_any_split_does_the_same(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        found = []
        for cut in (pieces, [data], [data[:20], data[20:]]):
            protocol = self.connect()
            wire = self.wire(protocol)
            found.append((self.tell(protocol, *cut), wire.urgent, wire.aborted))
            if wire.connected:
                wire.loseConnection()
            self.clock.advance(10)
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0], found[2])


class ListenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock: Any = MemoryReactorClock()
        self.lab = Lab(self.clock, self.clock)

    def test_the_device(self) -> None:
        self.lab.attach("bench", Recorded(self.clock))
        self.assertEqual(only_device(self.lab, "vicp", ServeOptions(device="bench")).path, "bench")
        named = ServeOptions(devices={"any": "bench"})
        self.assertEqual(only_device(self.lab, "vicp", named).path, "bench")
        for common in (ServeOptions(), ServeOptions(devices={"a": "bench", "b": "bench"})):
            self.assertRaises(BadArguments, only_device, self.lab, "vicp", common)

    def test_headers_that_mean_the_same(self) -> None:
        class Twice(Device):
            one = parameter(float, scpi="VOLTage")
            two = parameter(float, scpi="VOLT")

        self.lab.attach("twice", Twice())
        self.assertRaises(DeviceFault, only_device, self.lab, "vicp", ServeOptions(device="twice"))

    def test_example(self) -> None:
        self.lab.attach("bench", Recorded(self.clock))
        common = ServeOptions(device="bench")
        listening = Deferred.fromCoroutine(
            listen(self.lab, "tcp:1861", common, Options(), self.clock)
        )
        self.assertIn("VICP::", self.successResultOf(listening).example)
