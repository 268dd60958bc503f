"""The HiSLIP client against labnet's own server in memory, and against a scripted instrument."""

from __future__ import annotations

import zlib
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import (
    BadArguments,
    Cancelled,
    DeviceFault,
    LabError,
    Locked,
    NotAllowed,
    NotConnected,
    TimedOut,
    TooLarge,
    UnknownName,
    VisaStatus,
)
from labnet.testing import MemoryLab, MemoryReactor
from labnet.wires.hislip.client import HislipClient, LockInfo, RemoteLocal
from labnet.wires.hislip.codec import (
    FIRST_ID,
    HEADER,
    NO_ID,
    UNKNOWN_ID,
    Message,
    MessageSplitter,
    Type,
    encode,
    encode_initialize_response,
    encode_size,
)
from tests.wires.hislip_toy import Recorded

IDENTITY = "LABNET,SIM,0001,0.1"


class AgainstLabnet(SynchronousTestCase):
    """A lab in memory, and clients on its network."""

    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.lab = MemoryLab()
        self.device = Recorded(self.lab.net)
        self.lab.attach("sim", self.device)
        self.served = self.lab.serve("hislip", device="sim", **self.options)
        self.addCleanup(self.lab.close)
        self.clients: list[HislipClient] = []
        self.addCleanup(self.close_clients)

    def close_clients(self) -> None:
        for client in self.clients:
            self.lab.wait(client.close())

    def client(self, **options: Any) -> HislipClient:
        client = HislipClient(
            "127.0.0.1", self.served.port, reactor=self.lab.net, **{"timeout": 5.0, **options}
        )
        self.clients.append(client)
        return client

    def wait(self, deferred: Deferred[Any]) -> Any:
        return self.lab.wait(deferred)

    def fails(self, deferred: Deferred[Any], kind: type[LabError], status: int) -> LabError:
        """The error of a request, after as much time as that takes."""
        try:
            self.lab.wait(deferred)
        except kind as error:
            self.assertEqual(error.visa_status, status, error)
            return error
        raise AssertionError("it did not fail")


class MessageTests(AgainstLabnet):
    def test_query(self) -> None:
        client = self.client()
        for _ in range(3):
            self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)
        self.assertEqual(self.wait(client.query_bytes(b"*IDN?")), IDENTITY.encode() + b"\n")

    def test_write_and_read(self) -> None:
        client = self.client()
        self.wait(client.write("LEV 2.5"))
        self.wait(client.write("LEV?"))
        self.assertEqual(self.wait(client.read()), b"2.5\n")
        self.assertEqual(self.wait(client.query("SYST:ERR:ALL?")), '0,"No error"')

    def test_requests_at_once_take_turns(self) -> None:
        client = self.client()
        queries = [client.query(f"TEST:BLOC? {size}") for size in range(20)]
        for size, query in enumerate(queries):
            self.assertTrue(self.wait(query).startswith(f"#{len(str(size))}{size}"))

    def test_blocks(self) -> None:
        client = self.client(max_message_size=1024)
        for size in (0, 1, 9, 10, 2500, 100_000):
            self.wait(client.write_block("TEST:SINK", bytes(size)))
            self.assertEqual(int(self.wait(client.query("TEST:SINK?")).split(",")[0]), size)
            block = self.wait(client.query_block(f"TEST:BLOC? {size}"))
            self.assertEqual(block, (bytes(range(256)) * 400)[:size])

    def test_progress(self) -> None:
        client = self.client()
        told: list[tuple[int, int]] = []
        size = 3_000_000
        self.wait(client.query_block(f"TEST:BLOC? {size}", lambda *args: told.append(args)))
        self.assertGreater(len(told), 3)
        self.assertEqual(told[-1], (size, size))
        self.assertEqual(told, sorted(told))
        told.clear()
        self.wait(client.write_block("TEST:SINK", bytes(size), lambda *args: told.append(args)))
        whole = size + len("TEST:SINK #7") + 7
        self.assertEqual(told[-1], (whole, whole))
        self.assertGreater(len(told), 2)
        self.assertEqual(int(self.wait(client.query("TEST:SINK?")).split(",")[0]), size)

    def test_no_block(self) -> None:
        client = self.client()
        self.fails(client.query_block("*IDN?"), DeviceFault, VisaStatus.IO)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_what_cannot_be_sent(self) -> None:
        client = self.client()
        self.fails(client.write("\u20ac"), BadArguments, VisaStatus.INV_PARAMETER)
        self.fails(client.lock(wait=-1), BadArguments, VisaStatus.INV_PARAMETER)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_an_answer_over_the_bound(self) -> None:
        client = self.client(max_response=1000)
        self.fails(client.query("TEST:BLOC? 2000"), TooLarge, VisaStatus.ALLOC)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_trigger(self) -> None:
        client = self.client()
        for expected in ("1", "2"):
            self.wait(client.trigger())
            self.assertEqual(self.wait(client.query("TEST:TRIG?")), expected)

    def test_status_and_service_requests(self) -> None:
        client = self.client()
        told: list[int] = []
        client.on_service_request(told.append)
        self.assertEqual(self.wait(client.status_byte()), 0)
        self.wait(client.write("*IDN?"))
        self.lab.advance(0.01)
        self.assertEqual(self.wait(client.status_byte()), 0x10)
        self.wait(client.read())
        self.assertEqual(self.wait(client.status_byte()), 0)
        self.wait(client.write("*SRE 1;TEST:SRQ"))
        self.lab.advance(0.01)
        self.assertEqual(told, [0x41])
        self.assertEqual(self.wait(client.status_byte()), 0x41)

    def test_a_callback_that_fails(self) -> None:
        client = self.client()
        client.on_service_request(lambda status: 1 // 0)
        self.wait(client.write("*SRE 1;TEST:SRQ"))
        self.lab.advance(0.01)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_remote_and_local(self) -> None:
        client = self.client()
        self.wait(client.remote_local(RemoteLocal.ENABLE_LOCK_OUT_AND_GO_TO_REMOTE))
        self.wait(client.remote_local(RemoteLocal.GO_TO_LOCAL))


class TimeTests(AgainstLabnet):
    def test_a_late_answer_is_not_the_next_one(self) -> None:
        client = self.client(timeout=0.5)
        self.wait(client.connect())
        error = self.fails(client.query("TEST:WAIT? 1"), TimedOut, VisaStatus.TMO)
        self.assertIn("'TEST:WAIT? 1' to 127.0.0.1", str(error))
        self.lab.advance(1)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_the_next_message_may_come_before_the_late_answer(self) -> None:
        client = self.client(timeout=5)
        self.fails(client.query("TEST:WAIT? 1", timeout=0.5), TimedOut, VisaStatus.TMO)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)
        self.assertIn("-410", self.wait(client.query("SYST:ERR?")))

    def test_a_late_answer_may_be_read(self) -> None:
        client = self.client()
        self.wait(client.connect())
        self.fails(client.query("TEST:WAIT? 1", timeout=0.5), TimedOut, VisaStatus.TMO)
        self.assertEqual(self.wait(client.read()), b"done\n")

    def test_cancelling(self) -> None:
        client = self.client()
        self.wait(client.connect())
        first, second = client.query("SLOW?"), client.query("*IDN?")
        self.lab.advance(0)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.device.waits[0].callback("late")
        self.assertEqual(self.wait(second), IDENTITY)

    def test_a_late_status_is_not_the_next_one(self) -> None:
        client = self.client(timeout=0.5)
        self.wait(client.connect())
        self.served.faults.hang("to_client")
        self.fails(client.status_byte(), TimedOut, VisaStatus.TMO)
        self.served.faults.clear()
        self.wait(client.write("*ESE 32;NO:SUCH"))
        self.lab.advance(0.01)
        self.assertEqual(self.wait(client.status_byte()), 0x24)

    def test_a_long_message_that_is_not_taken(self) -> None:
        """It is given up in the middle; a device clear comes before the next message."""
        client = self.client(timeout=1)
        self.wait(client.connect())
        other = self.client()
        self.wait(other.lock())
        error = self.fails(client.write_block("TEST:SINK", bytes(9_000_000)), TimedOut, -1073807339)
        self.assertIn("TEST:SINK", str(error))
        self.wait(other.unlock())
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)
        self.assertEqual(self.wait(client.query("TEST:SINK?")), "0,0")


class ClearTests(AgainstLabnet):
    def test_ends_a_request(self) -> None:
        client = self.client()
        slow, next_one = client.query("SLOW?"), client.query("*IDN?")
        self.lab.advance(0.01)
        self.wait(client.clear())
        self.failureResultOf(slow, Cancelled)
        self.assertEqual(self.wait(next_one), IDENTITY)

    def test_alone_and_twice(self) -> None:
        client = self.client()
        one, two = client.clear(), client.clear()
        self.wait(one)
        self.wait(two)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_while_a_long_message_is_sent(self) -> None:
        client, other = self.client(), self.client()
        self.wait(other.lock())
        sending = client.write_block("TEST:SINK", bytes(9_000_000))
        self.lab.advance(0.1)
        self.assertNoResult(sending)
        self.wait(client.clear())
        self.failureResultOf(sending, Cancelled)
        self.wait(other.unlock())
        self.assertEqual(self.wait(client.query("TEST:SINK?")), "0,0")

    def test_while_a_long_answer_comes(self) -> None:
        client = self.client()
        reading = client.query("TEST:BLOC? 9000000")
        reading.addErrback(lambda failure: failure.trap(Cancelled))
        self.wait(client.clear())
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)


class OverlapTests(AgainstLabnet):
    """Messages that do not wait for the answers to those before."""

    def client(self, **options: Any) -> HislipClient:
        client = super().client(**{"overlap": True, **options})
        self.wait(client.connect())
        return client

    def test_answers_in_order(self) -> None:
        client = self.client()
        slow = client.query("SLOW?")
        blocks = [client.query_block(f"TEST:BLOC? {size}") for size in (3, 300_000, 0)]
        last = client.query("*IDN?")
        self.lab.advance(0.1)
        self.assertNoResult(last)
        self.device.waits[0].callback("at last")
        self.assertEqual(self.wait(slow), '"at last"')
        self.assertEqual([len(self.wait(block)) for block in blocks], [3, 300_000, 0])
        self.assertEqual(self.wait(last), IDENTITY)
        self.assertEqual(self.wait(client.query("SYST:ERR?")), '0,"No error"')

    def test_very_many_at_once(self) -> None:
        client = self.client()
        queries = [client.query(f"TEST:BLOC? {number}") for number in range(1500)]
        answers = [self.wait(query) for query in queries]
        self.assertEqual([answer[:2] for answer in answers[:2]], ["#1", "#1"])
        self.assertEqual(len(answers[1499]), len("#41499") + 1499)

    def test_writes_then_reads(self) -> None:
        client = self.client()
        for size in (1, 2, 100_000):
            self.wait(client.write(f"TEST:BLOC? {size}"))
        self.lab.advance(0.1)
        answers = [self.wait(client.read()) for _ in range(3)]
        self.assertEqual([len(answer) for answer in answers], [5, 6, 100_009])

    def test_long_messages_between(self) -> None:
        client = self.client()
        data = bytes(range(256)) * 20_000
        asked = client.query("*IDN?")
        loaded = client.write_block("TEST:SINK", data)
        total = client.query("TEST:SINK?")
        self.wait(loaded)
        self.assertEqual(self.wait(asked), IDENTITY)
        self.assertEqual(self.wait(total), f"{len(data)},{zlib.crc32(data)}")

    def test_an_answer_that_is_given_up(self) -> None:
        """Nobody gets another one's answer: those behind fail, then all is cleared."""
        client = self.client()
        ahead = client.query("TEST:WAIT? 1", timeout=3)
        slow = client.query("TEST:WAIT? 2", timeout=2)
        behind = client.query("*IDN?")
        self.fails(slow, TimedOut, VisaStatus.TMO)
        self.assertIn("given up", self.failureResultOf(behind, Cancelled).getErrorMessage())
        self.assertEqual(self.successResultOf(ahead), "done")
        again = client.query("TEST:TRIG?")
        self.assertEqual(self.wait(again), "0")
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_who_waits_ahead_of_it_is_answered(self) -> None:
        client = self.client()
        ahead = client.query("TEST:WAIT? 2")
        given_up = client.query("*IDN?")
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        later = client.query("TEST:TRIG?")
        self.assertEqual(self.wait(ahead), "done")
        self.assertEqual(self.wait(later), "0")

    def test_a_clear_during_the_clear_that_is_due(self) -> None:
        """What waits for the first is not sent into the second, which would drop it."""
        client = self.client()
        given_up = client.query("TEST:WAIT? 2")
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        queries = [client.query("TEST:TRIG?"), client.query("*IDN?")]
        self.wait(client.clear())
        self.assertEqual([self.wait(query) for query in queries], ["0", IDENTITY])

    def test_a_read_that_is_given_up_may_be_repeated(self) -> None:
        client = self.client()
        self.wait(client.write("TEST:WAIT? 1"))
        self.fails(client.read(timeout=0.5), TimedOut, VisaStatus.TMO)
        self.assertEqual(self.wait(client.read()), b"done\n")

    def test_status(self) -> None:
        client = self.client()
        self.assertEqual(self.wait(client.status_byte()), 0)
        self.wait(client.write("*IDN?"))
        self.lab.advance(0.1)
        self.assertEqual(self.wait(client.status_byte()), 0x10)
        self.wait(client.read())
        self.assertEqual(self.wait(client.status_byte()), 0)

    def test_clear(self) -> None:
        client = self.client()
        slow, other = client.query("SLOW?"), client.query("*IDN?")
        self.lab.advance(0.1)
        self.wait(client.clear())
        for query in (slow, other):
            self.failureResultOf(query, Cancelled)
        first, second = client.query("SLOW?"), client.query("*IDN?")
        self.lab.advance(0.1)
        self.device.waits[1].callback("still")  # and still in overlap mode: both were sent
        self.assertEqual(self.wait(first), '"still"')
        self.assertEqual(self.wait(second), IDENTITY)

    def test_the_end_of_the_connection(self) -> None:
        client = self.client()
        queries = [client.query("SLOW?"), client.query("*IDN?")]
        self.lab.advance(0.1)
        self.served.faults.disconnect()
        self.lab.advance(0.1)
        for query in queries:
            self.failureResultOf(query, NotConnected)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)


class LockTests(AgainstLabnet):
    def test_exclusive(self) -> None:
        one, two = self.client(), self.client()
        self.assertTrue(self.wait(one.lock()))
        self.assertFalse(self.wait(one.lock()))
        self.assertEqual(self.wait(two.lock_info()), LockInfo(True, 1))
        error = self.fails(two.lock(), Locked, VisaStatus.RSRC_LOCKED)
        self.assertIn("hislip0 at 127.0.0.1", str(error))
        self.fails(two.query("*IDN?", timeout=1), TimedOut, VisaStatus.TMO)
        self.assertEqual(self.wait(one.unlock()), "exclusive")
        self.assertEqual(self.wait(two.query("*IDN?")), IDENTITY)

    def test_shared(self) -> None:
        one, two, three = self.client(), self.client(), self.client()
        for client in (one, two):
            self.assertTrue(self.wait(client.lock("K")))
        self.fails(three.lock("L"), Locked, VisaStatus.RSRC_LOCKED)
        self.assertTrue(self.wait(one.lock()))
        self.assertEqual(self.wait(three.lock_info()), LockInfo(True, 2))
        self.assertEqual(self.wait(one.unlock()), "exclusive")
        self.assertEqual(self.wait(one.unlock()), "shared")

    def test_waiting_longer_than_the_time_limit(self) -> None:
        one, two = self.client(timeout=1), self.client(timeout=1)
        self.wait(one.lock())
        waiting = two.lock(wait=10)
        self.lab.advance(5)
        self.assertNoResult(waiting)
        self.wait(one.unlock())
        self.assertTrue(self.wait(waiting))

    def test_nothing_to_release(self) -> None:
        self.fails(self.client().unlock(), NotAllowed, VisaStatus.SESN_NLOCKED)

    def test_a_lock_that_comes_too_late_is_given_back(self) -> None:
        one, two = self.client(), self.client()
        self.wait(one.lock())
        given_up = two.lock(wait=100)
        self.lab.advance(1)
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.wait(one.unlock())
        self.lab.advance(1)
        self.assertEqual(self.wait(one.lock_info()), LockInfo(False, 0))

    def test_a_lost_lock_is_told(self) -> None:
        """Nobody goes on by mistake as if the instrument were still locked."""
        client = self.client()
        self.wait(client.lock())
        self.served.faults.disconnect()
        self.lab.advance(1)
        self.assertIn("lock", str(self.fails(client.write("LEV 3"), NotConnected, -1073807194)))
        self.assertEqual(self.wait(client.query("LEV?")), "1")


class ConnectionTests(AgainstLabnet):
    def test_unknown_name(self) -> None:
        client = self.client(name="hislip7")
        error = self.fails(client.query("*IDN?"), UnknownName, VisaStatus.RSRC_NFOUND)
        self.assertIn("hislip7", str(error))

    def test_nobody_there(self) -> None:
        client = HislipClient("127.0.0.1", 9, reactor=self.lab.net)
        self.fails(client.connect(), NotConnected, VisaStatus.RSRC_NFOUND)

    def test_lost_and_made_again(self) -> None:
        client = self.client()
        slow = client.query("SLOW?")
        self.lab.advance(0.1)
        self.served.faults.disconnect()
        self.fails(slow, NotConnected, VisaStatus.CONN_LOST)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_one_opening_for_all(self) -> None:
        client = self.client()
        requests = [client.query("*IDN?"), client.status_byte(), client.lock_info()]
        for request in requests:
            self.wait(request)
        self.assertEqual(self.served.listener.connections, 2)

    def test_closing(self) -> None:
        client = self.client()
        self.wait(client.lock())
        slow = client.query("SLOW?")
        self.lab.advance(0.1)
        self.wait(client.close())
        self.failureResultOf(slow, NotConnected)
        self.assertEqual(self.lab.locks.count, 0)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_what_was_written_before_closing_arrives(self) -> None:
        client = self.client()
        self.wait(client.write("LEV 4"))
        self.wait(client.close())
        self.lab.advance(0.1)
        self.assertEqual(self.wait(self.client().query("LEV?")), "4")

    def test_closing_while_opening(self) -> None:
        client = self.client()
        self.served.faults.hang("to_client")
        query = client.query("*IDN?")
        self.lab.advance(0.1)
        closed = client.close()
        self.failureResultOf(query, NotConnected)
        self.served.faults.clear()
        self.wait(closed)

    def test_keepalive(self) -> None:
        for wanted in (True, False):
            client = self.client(keepalive=wanted)
            self.wait(client.connect())
            link = client._link
            assert link is not None
            transport: Any = link.synchronous.transport
            self.assertEqual(bool(transport.getTcpKeepAlive()), wanted)


class Scripted(Protocol):
    """One connection of an instrument that does what the test says."""

    def __init__(self, said: list[Message]) -> None:
        self.said = said
        self._splitter = MessageSplitter(1 << 20)

    def dataReceived(self, data: bytes) -> None:
        self._splitter.feed(data)
        while (message := self._splitter.take()) is not None:
            assert isinstance(message, Message)
            self.said.append(message)

    def say(self, *message: Any) -> None:
        assert self.transport is not None
        self.transport.write(encode(*message))


class AgainstScript(SynchronousTestCase):
    """An instrument whose every message is the test's."""

    def setUp(self) -> None:
        self.net = MemoryReactor()
        self.made: list[Scripted] = []
        factory = Factory()
        factory.buildProtocol = self.connected  # type: ignore[assignment]
        self.port = self.net.listenTCP(4880, factory)
        self.client = HislipClient("127.0.0.1", timeout=2.0, reactor=self.net, max_response=10_000)
        self.addCleanup(self.ended)

    def ended(self) -> None:
        self.client.close()
        self.net.advance(1)
        self.assertEqual(self.net.getDelayedCalls(), [])

    def connected(self, address: Any) -> Scripted:
        self.made.append(Scripted([]))
        return self.made[-1]

    def opened(self, control: int = 0) -> Deferred[None]:
        """Opens a session, up to a device clear if the server prefers another mode."""
        connecting = self.client.connect()
        self.net.advance(0)
        self.sync = self.made[-1]
        response = encode_initialize_response((1, 0), 77)
        assert self.sync.transport is not None
        self.sync.transport.write(response[:3] + bytes([control]) + response[4:])
        self.net.advance(0)
        self.asyn = self.made[-1]
        self.assertEqual(self.asyn.said.pop(), Message(Type.ASYNC_INITIALIZE, 0, 77))
        self.asyn.say(Type.ASYNC_INITIALIZE_RESPONSE)
        self.net.advance(0)
        self.assertEqual(self.asyn.said.pop().type, Type.ASYNC_MAXIMUM_MESSAGE_SIZE)
        assert self.asyn.transport is not None
        self.asyn.transport.write(encode_size(Type.ASYNC_MAXIMUM_MESSAGE_SIZE_RESPONSE, 1024))
        self.net.advance(0)
        if not control:
            self.successResultOf(connecting)
        self.sync.said.clear()
        return connecting

    def ask(self, text: str = "Q?") -> Deferred[str]:
        query = self.client.query(text)
        self.net.advance(0)
        return query

    def say(self, *message: Any) -> None:
        self.sync.say(*message)
        self.net.advance(0)


class RuleTests(AgainstScript):
    def test_delivered_is_told_once(self) -> None:
        """With the first message after an answer was read, or with a status query."""
        self.opened()
        for number in (FIRST_ID, FIRST_ID + 2):
            query = self.ask()
            self.say(Type.DATA_END, 0, number, b"a\n")
            self.assertEqual(self.successResultOf(query), "a")
        self.assertEqual([m.control for m in self.sync.said], [0, 1])
        status = self.client.status_byte()
        self.net.advance(0)
        self.assertEqual(self.asyn.said.pop()[:3], (Type.ASYNC_STATUS_QUERY, 1, FIRST_ID + 2))
        self.asyn.say(Type.ASYNC_STATUS_RESPONSE, 5)
        self.net.advance(0)
        self.assertEqual(self.successResultOf(status), 5)
        self.successResultOf(self.client.write("W"))
        self.net.advance(0)
        self.assertEqual(self.sync.said.pop()[:3], (Type.DATA_END, 0, FIRST_ID + 4))

    def test_status_before_any_message(self) -> None:
        self.opened()
        status = self.client.status_byte()
        self.net.advance(0)
        self.assertEqual(self.asyn.said.pop()[:3], (Type.ASYNC_STATUS_QUERY, 0, NO_ID))
        self.asyn.say(Type.ASYNC_STATUS_RESPONSE, 0)
        self.net.advance(0)
        self.assertEqual(self.successResultOf(status), 0)

    def test_which_answers_count(self) -> None:
        """Data of the last message or of an unknown one; DataEND of the last message only."""
        self.opened()
        query = self.ask()
        self.say(Type.DATA, 0, UNKNOWN_ID, b"a")
        self.say(Type.DATA_END, 0, UNKNOWN_ID, b"b")
        self.say(Type.DATA_END, 0, FIRST_ID - 2, b"c")
        self.assertNoResult(query)
        self.say(Type.DATA, 0, FIRST_ID, b"d")
        self.say(Type.DATA, 0, UNKNOWN_ID, b"e")
        self.say(Type.DATA_END, 0, FIRST_ID, b"f")
        self.assertEqual(self.successResultOf(query), "def")

    def test_parts_of_a_message(self) -> None:
        """Not longer than the server takes, the header included."""
        self.opened()
        writing = self.client.write("x" * 2500)
        self.net.advance(0)
        self.successResultOf(writing)
        self.assertEqual([len(m.payload) for m in self.sync.said], [1008, 1008, 484])
        kinds = [m[:3] for m in self.sync.said]
        self.assertEqual(kinds[0], (Type.DATA, 0, FIRST_ID))
        self.assertEqual(kinds[2], (Type.DATA_END, 0, FIRST_ID + 4))
        reading = self.client.read()
        self.say(Type.DATA_END, 0, FIRST_ID + 4, b"ok")
        self.assertEqual(self.successResultOf(reading), b"ok")

    def test_interrupted_first(self) -> None:
        """Nothing is sent until AsyncInterrupted is there as well."""
        self.opened()
        query = self.ask()
        self.say(Type.DATA, 0, FIRST_ID, b"old")
        self.say(Type.INTERRUPTED, 0, FIRST_ID)
        self.say(Type.DATA_END, 0, FIRST_ID, b"new")
        self.assertEqual(self.successResultOf(query), "new")
        self.sync.said.clear()
        second = self.ask()
        self.assertEqual(self.sync.said, [])
        self.asyn.say(Type.ASYNC_INTERRUPTED, 0, FIRST_ID)
        self.net.advance(0)
        self.assertEqual(len(self.sync.said), 1)
        self.say(Type.DATA_END, 0, FIRST_ID + 2, b"b")
        self.assertEqual(self.successResultOf(second), "b")

    def test_async_interrupted_first(self) -> None:
        """What has no number is dropped until Interrupted is there."""
        self.opened()
        query = self.ask()
        self.asyn.say(Type.ASYNC_INTERRUPTED, 0, FIRST_ID)
        self.net.advance(0)
        self.say(Type.DATA, 0, UNKNOWN_ID, b"old")
        self.say(Type.INTERRUPTED, 0, FIRST_ID)
        self.say(Type.DATA, 0, UNKNOWN_ID, b"n")
        self.say(Type.DATA_END, 0, FIRST_ID, b"ew")
        self.assertEqual(self.successResultOf(query), "new")

    def test_a_server_that_prefers_overlap_mode(self) -> None:
        """It is asked for the other one, by a device clear."""
        self.opened(control=1)
        self.assertEqual(self.asyn.said.pop(), Message(Type.ASYNC_DEVICE_CLEAR))
        self.asyn.say(Type.ASYNC_DEVICE_CLEAR_ACKNOWLEDGE, 1)
        self.net.advance(0)
        self.assertEqual(self.sync.said, [Message(Type.DEVICE_CLEAR_COMPLETE, 0)])
        self.say(Type.DEVICE_CLEAR_ACKNOWLEDGE, 0)
        self.successResultOf(self.client.write("x"))

    def agreed(self, mode: int) -> None:
        """The server's part of a device clear."""
        self.assertEqual(self.asyn.said.pop(), Message(Type.ASYNC_DEVICE_CLEAR))
        self.asyn.say(Type.ASYNC_DEVICE_CLEAR_ACKNOWLEDGE)
        self.net.advance(0)
        self.assertEqual(self.sync.said.pop(), Message(Type.DEVICE_CLEAR_COMPLETE, 1))
        self.say(Type.DEVICE_CLEAR_ACKNOWLEDGE, mode)

    def test_overlap_mode(self) -> None:
        """All is sent at once; answers have the server's numbers, which a status query tells."""
        self.client.overlap = True
        self.opened(control=2)
        self.agreed(1)
        queries = [self.client.query(text) for text in "ABC"]
        self.net.advance(0)
        self.assertEqual([bytes(m.payload) for m in self.sync.said], [b"A", b"B", b"C"])
        self.assertEqual([m.parameter - FIRST_ID for m in self.sync.said], [0, 2, 4])
        self.say(Type.DATA, 0, FIRST_ID, b"a")
        self.say(Type.DATA_END, 0, FIRST_ID + 2, b"a")
        self.say(Type.DATA_END, 0, FIRST_ID + 4, b"b")
        self.assertEqual([self.successResultOf(q) for q in queries[:2]], ["aa", "b"])
        status = self.client.status_byte()
        self.net.advance(0)
        expected = Message(Type.ASYNC_STATUS_QUERY, 1, FIRST_ID + 4)
        self.assertEqual(self.asyn.said.pop(), expected)
        self.asyn.say(Type.ASYNC_STATUS_RESPONSE, 0x10)
        self.net.advance(0)
        self.assertEqual(self.successResultOf(status), 0x10)
        self.say(Type.DATA_END, 0, FIRST_ID + 6, b"c")
        self.assertEqual(self.successResultOf(queries[2]), "c")

    def test_a_server_that_is_in_overlap_mode_already(self) -> None:
        self.client.overlap = True
        self.opened(control=1)
        self.assertEqual(self.asyn.said, [])
        self.successResultOf(self.client.write("x"))

    def test_a_server_without_overlap_mode(self) -> None:
        self.client.overlap = True
        connecting = self.opened(control=2)
        self.agreed(0)
        error = self.failureResultOf(connecting, NotAllowed)
        self.assertIn("no overlap mode", error.getErrorMessage())

    def test_a_server_that_stays_in_overlap_mode(self) -> None:
        """Then requests go out without waiting, in spite of what the client asked for."""
        self.opened(control=1)
        self.asyn.said.clear()
        self.asyn.say(Type.ASYNC_DEVICE_CLEAR_ACKNOWLEDGE, 1)
        self.net.advance(0)
        self.say(Type.DEVICE_CLEAR_ACKNOWLEDGE, 1)
        self.sync.said.clear()
        one, two = self.ask("1?"), self.ask("2?")
        self.assertEqual(len(self.sync.said), 2)
        self.say(Type.DATA_END, 0, FIRST_ID, b"one")
        self.say(Type.DATA_END, 0, FIRST_ID + 2, b"two")
        self.assertEqual([self.successResultOf(one), self.successResultOf(two)], ["one", "two"])

    def test_a_progress_that_fails(self) -> None:
        """The mistake is the caller's, who is told; the session goes on."""
        self.opened()

        def mistaken(got: int, size: int) -> None:
            raise KeyError(got)

        query = self.client.query_block("Q?", mistaken)
        self.net.advance(0)
        number = self.sync.said.pop().parameter
        self.say(Type.DATA, 0, number, b"#15ab")
        self.failureResultOf(query, KeyError)
        self.say(Type.DATA_END, 0, number, b"cde")
        writing = self.client.write_block("X", bytes(5000), mistaken)
        self.net.advance(0)
        self.failureResultOf(writing, KeyError)

    def test_errors_of_the_server(self) -> None:
        self.opened()
        query = self.ask()
        self.say(Type.ERROR, 4, 0, b"too large")
        self.assertIn("too large", self.failureResultOf(query, DeviceFault).getErrorMessage())
        info = self.client.lock_info()
        self.net.advance(0)
        self.asyn.say(Type.ERROR, 1, 0, b"what?")
        self.net.advance(0)
        self.assertIn("what?", self.failureResultOf(info, DeviceFault).getErrorMessage())
        query = self.ask()
        self.asyn.say(Type.FATAL_ERROR, 0, 0, b"enough")
        self.net.advance(0)
        self.assertIn("enough", self.failureResultOf(query, NotConnected).getErrorMessage())

    def test_a_clear_that_is_not_answered_ends_the_session(self) -> None:
        self.opened()
        query = self.ask()
        clear = self.client.clear()
        self.net.advance(2.1)
        self.failureResultOf(query, Cancelled)
        self.failureResultOf(clear, TimedOut)
        self.client.connect().addErrback(lambda failure: failure.trap(LabError))
        self.net.advance(0.1)
        self.assertEqual(len(self.made), 3)

    def test_answers_that_are_clears_leftovers(self) -> None:
        self.opened()
        clear = self.client.clear()
        self.net.advance(0)
        self.say(Type.DATA_END, 0, NO_ID, b"old")
        self.asyn.say(Type.ASYNC_DEVICE_CLEAR_ACKNOWLEDGE)
        self.net.advance(0)
        self.say(Type.DATA_END, 0, FIRST_ID, b"old")
        self.say(Type.DEVICE_CLEAR_ACKNOWLEDGE)
        self.successResultOf(clear)
        query = self.ask()
        self.assertNoResult(query)
        self.say(Type.DATA_END, 0, FIRST_ID, b"new")
        self.assertEqual(self.successResultOf(query), "new")


class BadServerTests(AgainstScript):
    def test_not_hislip(self) -> None:
        query = self.ask()
        assert self.made[0].transport is not None
        self.made[0].transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.net.advance(0)
        self.assertIn("HiSLIP", self.failureResultOf(query, NotConnected).getErrorMessage())

    def test_another_answer_to_initialize(self) -> None:
        for answer, kind in (
            ((Type.ERROR, 0, 0, b"no"), NotConnected),
            ((Type.FATAL_ERROR, 4, 0, b"full"), NotConnected),
            ((Type.FATAL_ERROR, 3, 0, b"who?"), UnknownName),
            ((Type.FATAL_ERROR, 130, 0, b"who?"), UnknownName),
        ):
            query = self.ask()
            self.made[-1].say(*answer)
            self.net.advance(0)
            error = self.failureResultOf(query, kind).value
            self.assertEqual(error.visa_status, VisaStatus.RSRC_NFOUND)

    def test_silence(self) -> None:
        query = self.client.query("*IDN?", timeout=10)
        self.net.advance(2.5)
        self.assertIn("opening hislip0", self.failureResultOf(query, TimedOut).getErrorMessage())

    def test_absurd_announcements(self) -> None:
        for channel in ("sync", "asyn"):
            self.opened()
            query = self.ask()
            transport: Any = getattr(self, channel).transport
            transport.write(HEADER.pack(b"HS", Type.DATA_END, 0, FIRST_ID, 1 << 60))
            self.net.advance(0)
            self.failureResultOf(query, NotConnected)

    def test_too_long_for_the_asynchronous_channel(self) -> None:
        self.opened()
        query = self.ask()
        self.asyn.say(Type.ASYNC_STATUS_RESPONSE, 0, 0, bytes(300))
        self.net.advance(0)
        self.failureResultOf(query, NotConnected)

    def test_an_endless_answer(self) -> None:
        self.opened()
        query = self.ask()
        for _ in range(11):
            self.say(Type.DATA, 0, FIRST_ID, bytes(1000))
        self.failureResultOf(query, TooLarge)

    def test_requests_that_are_never_answered(self) -> None:
        """So many are remembered; then the session is given up."""
        self.opened()
        for _ in range(64):
            self.client.status_byte().addErrback(lambda failure: failure.trap(TimedOut))
        self.net.advance(2.5)
        self.failureResultOf(self.client.status_byte(), NotConnected)

    def test_what_nobody_asked_for(self) -> None:
        self.opened()
        for kind in range(256):
            if kind not in (Type.FATAL_ERROR, Type.ASYNC_INTERRUPTED, Type.INTERRUPTED):
                self.say(kind, 1, 2, b"abc")
                self.asyn.say(kind, 1, 2, b"abc")
        self.net.advance(0)
        query = self.ask()
        self.say(Type.DATA_END, 0, FIRST_ID, b"new")
        self.assertEqual(self.successResultOf(query), "new")

    def test_nobody_reads(self) -> None:
        """Then no more is taken than a bound, and it is there when somebody does."""
        client = HislipClient("127.0.0.1", timeout=2.0, reactor=self.net)
        self.client, kept = client, self.client
        self.opened()
        self.successResultOf(client.write("x"))
        self.net.advance(0)
        for _ in range(40):
            self.say(Type.DATA, 0, FIRST_ID, bytes(100_000))
        self.say(Type.DATA_END, 0, FIRST_ID, b"end")
        self.net.advance(0.1)
        link = client._link
        assert link is not None
        self.assertLess(len(link._answers._data), 3_000_000)
        reading = client.read()
        self.net.advance(1)
        self.assertEqual(len(self.successResultOf(reading)), 4_000_003)
        kept.close()
