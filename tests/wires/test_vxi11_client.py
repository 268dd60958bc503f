"""The VXI-11 client: against labnet's own server in memory, and against instruments with habits."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack, unpack_from
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
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
from labnet.framing.xdr import RecordSplitter, encode_mark, encode_opaque, encode_uint
from labnet.testing import MemoryLab, MemoryReactor
from labnet.wires.vxi11 import codec, rpc
from labnet.wires.vxi11.client import Vxi11Client
from labnet.wires.vxi11.codec import ErrorCode, LinkMade, Procedure, Program, Taken
from labnet.wires.vxi11.linked import error_of
from labnet.wires.vxi11.rpc import PORTMAPPER, Call, encode_reply, read_call
from tests.wires.vxi11_toy import Reference

IDENTITY = "LABNET,REF,0,1"


class LabTestCase(SynchronousTestCase):
    """labnet's own server."""

    def setUp(self) -> None:
        self.lab = MemoryLab()
        self.net = self.lab.net
        for name in ("a", "b"):
            self.lab.attach(name, Reference(clock=self.net))
        self.served = self.lab.serve(
            "vxi11", devices={"inst0": "a", "inst1": "b"}, portmapper="none", max_receive=1024
        )
        self.clients: list[Vxi11Client] = []
        self.addCleanup(self.close)

    def close(self) -> None:
        for client in self.clients:
            self.wait(client.close())
        self.lab.close()

    def client(self, device: str = "inst0", **options: Any) -> Vxi11Client:
        client: Vxi11Client = self.served.client(device=device, **options)
        self.clients.append(client)
        return client

    def wait(self, deferred: Deferred[Any]) -> Any:
        return self.lab.wait(deferred)

    def refused(self, deferred: Deferred[Any], kind: type[LabError], status: int) -> str:
        with self.assertRaises(kind) as caught:
            self.wait(deferred)
        self.assertEqual(caught.exception.visa_status, status)
        return str(caught.exception)


class MessageTests(LabTestCase):
    def test_queries(self) -> None:
        client = self.client()
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)
        self.assertEqual(self.wait(client.query_bytes(b"*IDN?")), f"{IDENTITY}\n".encode())
        self.assertIsNone(self.wait(client.write("*CLS")))
        self.wait(client.write(b"*IDN?"))
        self.assertEqual(self.wait(client.read()), f"{IDENTITY}\n".encode())

    def test_requests_at_once(self) -> None:
        client = self.client()
        asked = [client.query(f'TEST:ECHO? "{number}"') for number in range(20)]
        self.assertEqual([self.wait(one) for one in asked], [f'"{n}"' for n in range(20)])

    def test_blocks(self) -> None:
        client = self.client()
        told: list[tuple[int, int]] = []
        for size in (0, 1, 1023, 100_000, 3_000_000):
            block = self.wait(client.query_block(f"TEST:BLOCK? {size}"))
            self.assertEqual(len(block), size)
            self.wait(client.write_block("TEST:LOAD", bytes(block), lambda *it: told.append(it)))
            self.assertEqual(told[-1][0], told[-1][1])
            answer = self.wait(client.query("TEST:LOAD:SUM?"))
            self.assertEqual(int(answer.partition(",")[0]), size)

    def test_progress(self) -> None:
        told: list[tuple[int, int]] = []
        asked = self.client().query_block("TEST:BLOCK? 2500000", lambda *it: told.append(it))
        self.assertEqual(len(self.wait(asked)), 2_500_000)
        self.assertEqual([total for _, total in told], [2_500_000] * 3)
        self.assertEqual(sorted(told), told)

    def test_no_block(self) -> None:
        client = self.client()
        self.refused(client.query_block("*IDN?"), DeviceFault, VisaStatus.IO)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_too_long(self) -> None:
        client = self.client(max_response=1000)
        text = self.refused(client.query("TEST:BLOCK? 2000"), TooLarge, VisaStatus.ALLOC)
        self.assertIn("1000 bytes", text)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_what_cannot_be_sent(self) -> None:
        self.refused(self.client().query("5 €"), BadArguments, VisaStatus.INV_PARAMETER)

    def test_beside_the_messages(self) -> None:
        client = self.client()
        self.wait(client.write("*IDN?"))
        self.assertEqual(self.wait(client.status_byte()), 16)
        self.wait(client.clear())
        self.assertEqual(self.wait(client.status_byte()), 0)
        self.wait(client.trigger())
        self.assertEqual(self.wait(client.query("TEST:TRIG?")), "1")
        self.wait(client.remote())
        self.wait(client.local())
        self.wait(client.connect())

    def test_devices(self) -> None:
        self.assertEqual(self.wait(self.client("inst1").query("*IDN?")), IDENTITY)
        text = self.refused(
            self.client("inst7").query("*IDN?"), UnknownName, VisaStatus.RSRC_NFOUND
        )
        self.assertIn("'inst7'", text)


class TimeTests(LabTestCase):
    def test_a_late_answer_is_not_the_next_one(self) -> None:
        client = self.client()
        text = self.refused(client.query("TEST:WAIT? 3", timeout=1), TimedOut, VisaStatus.TMO)
        self.assertIn("'TEST:WAIT? 3'", text)
        self.assertIn("1 s", text)
        self.assertEqual(self.wait(client.query("*IDN?", timeout=0.5)), IDENTITY)

    def test_a_late_answer_may_be_read(self) -> None:
        client = self.client()
        self.refused(client.query("TEST:WAIT? 3", timeout=1), TimedOut, VisaStatus.TMO)
        self.assertEqual(self.wait(client.read(timeout=5)).lower(), b"done\n")
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_cancelling(self) -> None:
        client = self.client()
        asked = client.query("TEST:WAIT? 1000", timeout=2000)
        self.lab.advance(0.1)
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.wait(client.query("*IDN?", timeout=0.5)), IDENTITY)
        link = next(iter(self.core().links.values()))
        self.assertFalse(link._channel.responding)

    def core(self) -> Any:
        return self.served.listener._factory  # type: ignore[attr-defined]

    def test_cancelling_what_waits_for_its_turn(self) -> None:
        client = self.client()
        first = client.query("TEST:WAIT? 1")
        second = client.query("*RST;*IDN?")
        third = client.query("*IDN?")
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.wait(first).lower(), "done")
        self.assertEqual(self.wait(third), IDENTITY)

    def test_waiting_for_a_turn_has_an_end(self) -> None:
        client = self.client()
        first = client.query("TEST:WAIT? 10", timeout=20)
        self.refused(client.query("*IDN?", timeout=1), TimedOut, VisaStatus.TMO)
        self.assertEqual(self.wait(first).lower(), "done")

    def test_a_server_that_hangs(self) -> None:
        client = self.client()
        self.wait(client.query("*IDN?"))
        self.served.faults.hang("to_client")
        begun = self.net.seconds()
        self.refused(client.query("*IDN?", timeout=1), TimedOut, VisaStatus.TMO)
        self.assertLess(self.net.seconds() - begun, 2.1)
        self.lab.advance(3)  # the abort has no effect either
        self.served.faults.clear()
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)


class LockTests(LabTestCase):
    def test_locks(self) -> None:
        holder, other = self.client(), self.client()
        self.wait(holder.lock())
        text = self.refused(other.query("*IDN?"), Locked, VisaStatus.RSRC_LOCKED)
        self.assertIn("inst0", text)
        self.refused(other.lock(), Locked, VisaStatus.RSRC_LOCKED)
        self.refused(other.status_byte(), Locked, VisaStatus.RSRC_LOCKED)
        begun = self.net.seconds()
        self.refused(other.lock(wait=2), Locked, VisaStatus.RSRC_LOCKED)
        self.assertAlmostEqual(self.net.seconds() - begun, 2, 1)
        self.refused(other.unlock(), NotAllowed, VisaStatus.SESN_NLOCKED)
        waiting = other.lock(wait=60)
        self.lab.advance(30)
        self.wait(holder.unlock())
        self.wait(waiting)
        self.wait(other.unlock())

    def give_up(self, query: Deferred[str]) -> None:
        self.lab.advance(0.1)
        query.cancel()
        self.failureResultOf(query, CancelledError)
        self.lab.advance(0.1)

    def test_a_lock_that_the_client_has(self) -> None:
        """Asking for it once more is refused, and later it is not given back by mistake."""
        holder, other = self.client(), self.client()
        self.wait(holder.lock())
        text = self.refused(holder.lock(wait=5), Locked, VisaStatus.RSRC_LOCKED)
        self.assertIn("by this client already", text)
        self.give_up(holder.query("TEST:WAIT? 30"))
        self.assertEqual(self.wait(holder.query("*IDN?")), IDENTITY)
        self.refused(other.query("*IDN?"), Locked, VisaStatus.RSRC_LOCKED)

    def test_a_lock_that_was_refused_and_then_taken(self) -> None:
        holder, other = self.client(), self.client()
        self.wait(holder.lock())
        self.refused(other.lock(), Locked, VisaStatus.RSRC_LOCKED)
        self.wait(holder.unlock())
        self.wait(other.lock())
        self.give_up(other.query("TEST:WAIT? 30"))
        self.refused(holder.query("*IDN?"), Locked, VisaStatus.RSRC_LOCKED)

    def test_operations_that_wait(self) -> None:
        holder, patient = self.client(), self.client(lock_timeout=60)
        self.wait(holder.lock())
        asked = patient.query("*IDN?", timeout=1)
        self.lab.advance(30)
        self.assertNoResult(asked)
        self.wait(holder.unlock())
        self.assertEqual(self.wait(asked), IDENTITY)

    def test_a_lock_that_nobody_wants_any_more(self) -> None:
        holder, other = self.client(), self.client()
        self.wait(holder.lock())
        waiting = other.lock(wait=60)
        self.lab.advance(1)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.lab.advance(1)
        self.wait(holder.unlock())
        self.lab.advance(1)
        self.assertEqual(self.lab.locks.count, 0)

    def test_a_lock_that_is_lost(self) -> None:
        client = self.client()
        self.wait(client.lock())
        self.served.faults.disconnect()
        self.lab.advance(1)
        text = self.refused(client.query("*IDN?"), NotConnected, VisaStatus.CONN_LOST)
        self.assertIn("the lock of inst0", text)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY, "said once")


class ConnectionTests(LabTestCase):
    def test_connected_again(self) -> None:
        client = self.client()
        self.wait(client.query("*IDN?"))
        self.served.faults.disconnect()
        self.lab.advance(1)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_lost_in_a_query(self) -> None:
        client = self.client()
        asked = client.query("TEST:WAIT? 10", timeout=20)
        self.lab.advance(1)
        self.served.faults.disconnect()
        self.refused(asked, NotConnected, VisaStatus.CONN_LOST)
        self.assertEqual(self.wait(client.query("*IDN?")), IDENTITY)

    def test_cancelled_while_it_connects(self) -> None:
        reactor = MemoryReactorClock()
        asked = Vxi11Client("10.0.0.7", port=1, reactor=reactor).query("*IDN?")
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_nobody_there(self) -> None:
        client = Vxi11Client("127.0.0.1", port=1, reactor=self.net)
        self.refused(client.query("*IDN?"), NotConnected, VisaStatus.RSRC_NFOUND)
        mapped = Vxi11Client("127.0.0.1", reactor=self.net)
        text = self.refused(mapped.query("*IDN?"), NotConnected, VisaStatus.RSRC_NFOUND)
        self.assertIn("127.0.0.1:111", text)

    def test_close(self) -> None:
        client = self.client()
        self.wait(client.lock())
        self.wait(client.close())
        self.assertEqual(self.lab.locks.count, 0)
        busy = self.client()
        asked = busy.query("TEST:WAIT? 100", timeout=200)
        self.lab.advance(1)
        closing = busy.close()
        self.refused(asked, NotConnected, VisaStatus.CONN_LOST)
        self.wait(closing)


class ServiceTests(LabTestCase):
    def test_service_requests(self) -> None:
        client = self.client()
        told: list[None] = []
        self.wait(client.on_service_request(lambda: told.append(None)))
        self.wait(client.write("TEST:SRQ 1"))
        self.lab.advance(0.9)
        self.assertEqual(told, [])
        self.lab.advance(0.2)
        self.assertEqual(len(told), 1)
        self.assertEqual(self.wait(client.status_byte()), 65)
        self.wait(client.on_service_request(None))
        self.wait(client.write("TEST:SRQ"))
        self.lab.advance(1)
        self.assertEqual(len(told), 1)

    def test_a_callback_that_fails(self) -> None:
        def fail() -> None:
            raise RuntimeError("ours")

        client = self.client()
        self.wait(client.on_service_request(fail))
        self.wait(client.write("TEST:SRQ"))
        self.assertEqual(self.wait(client.status_byte()), 65)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_after_a_new_connection(self) -> None:
        client = self.client()
        told: list[None] = []
        self.wait(client.on_service_request(lambda: told.append(None)))
        self.served.faults.disconnect()
        self.lab.advance(1)
        self.wait(client.write("TEST:SRQ"))
        self.lab.advance(1)
        self.assertEqual(len(told), 1)


class Together(LabTestCase):
    """The same of a client whose messages and reads leave at once."""

    def client(self, device: str = "inst0", **options: Any) -> Vxi11Client:
        return super().client(device, together=True, **options)


class MessagesTogetherTests(Together, MessageTests):
    pass


class TimesTogetherTests(Together, TimeTests):
    pass


class LocksTogetherTests(Together, LockTests):
    pass


# Instruments with habits

Answers = Callable[[Call], bytes | None]


class Instrument(Protocol):
    """Answers each call as the test says."""

    def __init__(self, answer: Answers) -> None:
        self._answer = answer
        self._splitter = RecordSplitter(1 << 24)

    def dataReceived(self, data: bytes) -> None:
        for record in self._splitter.feed(data):
            call = read_call(record)
            assert isinstance(call, Call)
            reply = self._answer(call)
            if reply is not None and self.transport is not None:
                self.transport.write(reply)


class Habits(Factory):
    """A whole instrument: with a port mapper, and what is different about it in `changes`."""

    noisy = False

    def __init__(self, net: MemoryReactor) -> None:
        self.net = net
        self.calls: list[tuple[int, Call]] = []
        self.changes: dict[int, Answers] = {}
        self.made: list[Any] = []
        self.port = net.listenTCP(0, self, interface="127.0.0.1").getHost().port

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        self.made.append(Instrument(self.answer))
        return self.made[-1]  # type: ignore[no-any-return]

    def answer(self, call: Call) -> bytes | None:
        key = call.procedure + (1000 if call.program == PORTMAPPER else 0)
        self.calls.append((key, call))
        if key in self.changes:
            return self.changes[key](call)
        xid = call.xid
        match key:
            case 1003:
                return encode_reply(xid, encode_uint(self.port))
            case Procedure.CREATE_LINK:
                return encode_reply(xid, LinkMade(0, 5, self.port, 1 << 20).encode())
            case Procedure.DEVICE_WRITE:
                size = len(codec.read_device_write(call.arguments()).data)
                return encode_reply(xid, Taken(0, size).encode())
            case Procedure.DEVICE_READ:
                return codec.encode_given(xid, 0, codec.REASON_END, b"hello\n")
        return encode_reply(xid, encode_uint(0), encode_uint(0))

    def count(self, key: int) -> int:
        return sum(key == it for it, _ in self.calls)


class HabitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = MemoryReactor()
        self.there = Habits(self.net)
        self.client = Vxi11Client("127.0.0.1", port=self.there.port, reactor=self.net)

    def wait(self, deferred: Deferred[Any]) -> Any:
        fired: list[Any] = []
        deferred.addBoth(fired.append)
        self.assertTrue(self.net.until(lambda: bool(fired), 100))
        if hasattr(fired[0], "raiseException"):
            fired[0].raiseException()
        return fired[0]

    def test_the_port_mapper(self) -> None:
        client = Vxi11Client("127.0.0.1", portmapper_port=self.there.port, reactor=self.net)
        self.assertEqual(self.wait(client.query("?")), "hello")
        ((_, call),) = [it for it in self.there.calls if it[0] == 1003]
        mapping = rpc.read_mapping(call.arguments())
        self.assertEqual(mapping, (Program.CORE, 1, rpc.TCP, 0))

    def test_no_instrument(self) -> None:
        self.there.changes[1003] = lambda call: encode_reply(call.xid, encode_uint(0))
        client = Vxi11Client("127.0.0.1", portmapper_port=self.there.port, reactor=self.net)
        with self.assertRaises(NotConnected) as caught:
            self.wait(client.query("?"))
        self.assertIn("no VXI-11 instrument", str(caught.exception))

    def test_a_last_fragment_that_is_not_marked(self) -> None:
        def answer(call: Call) -> bytes:
            return encode_mark(28, last=False) + encode_reply(
                call.xid, encode_uint(self.there.port)
            )[4:]

        self.there.changes[1003] = answer
        client = Vxi11Client("127.0.0.1", portmapper_port=self.there.port, reactor=self.net)
        self.assertEqual(self.wait(client.query("?")), "hello")

    def test_padded_and_fragmented_replies(self) -> None:
        def answer(call: Call) -> bytes:
            record = codec.encode_given(call.xid, 0, codec.REASON_END, b"abc")[4:] + bytes(8)
            first, rest = record[:7], record[7:]
            return encode_mark(7, last=False) + first + encode_mark(len(rest)) + rest

        self.there.changes[Procedure.DEVICE_READ] = answer
        self.assertEqual(self.wait(self.client.query("?")), "abc")

    def test_no_size(self) -> None:
        """Real oscilloscopes announce that they take pieces of 0 bytes."""
        self.there.changes[Procedure.CREATE_LINK] = lambda call: encode_reply(
            call.xid, LinkMade(0, 5, 0, 0).encode()
        )
        self.wait(self.client.write("x" * 3000))
        self.assertEqual(self.there.count(Procedure.DEVICE_WRITE), 3)

    def test_part_of_a_piece(self) -> None:
        def two(call: Call) -> bytes:
            size = len(codec.read_device_write(call.arguments()).data)
            return encode_reply(call.xid, Taken(0, min(2, size)).encode())

        self.there.changes[Procedure.DEVICE_WRITE] = two
        self.wait(self.client.write(b"abcde"))
        pieces = [
            codec.read_device_write(call.arguments())
            for key, call in self.there.calls
            if key == Procedure.DEVICE_WRITE
        ]
        self.assertEqual([it.data for it in pieces], [b"abcde", b"cde", b"e"])

    def test_part_of_a_message_whose_read_has_left(self) -> None:
        """The rest cannot follow any more."""
        self.client.together = True
        self.wait(self.client.connect())
        self.there.changes[Procedure.DEVICE_WRITE] = lambda call: encode_reply(
            call.xid, Taken(0, 3).encode()
        )
        with self.assertRaises(DeviceFault) as caught:
            self.wait(self.client.query("*IDN?"))
        self.assertIn("took 3 of 6 bytes", str(caught.exception))
        self.assertEqual(self.there.count(Procedure.DEVICE_READ), 1)
        del self.there.changes[Procedure.DEVICE_WRITE]
        self.assertEqual(self.wait(self.client.query("*IDN?")), "hello")

    def test_nothing_is_taken(self) -> None:
        self.there.changes[Procedure.DEVICE_WRITE] = lambda call: encode_reply(
            call.xid, Taken(0, 0).encode()
        )
        with self.assertRaises(DeviceFault):
            self.wait(self.client.write(b"abcde"))

    def test_an_empty_message(self) -> None:
        self.wait(self.client.write(b""))
        self.assertEqual(self.there.count(Procedure.DEVICE_WRITE), 1)

    def test_parts_without_a_reason(self) -> None:
        parts = [b"a", b"b", b""]

        def answer(call: Call) -> bytes:
            data = parts.pop(0) if parts else b"c"
            return codec.encode_given(call.xid, 0, 0 if parts else codec.REASON_CHR, data)

        self.there.changes[Procedure.DEVICE_READ] = answer
        self.assertEqual(self.wait(self.client.query("?")), "ab")

    def test_no_reason_for_ever(self) -> None:
        def answer(call: Call) -> None:
            nothing = codec.encode_given(call.xid, 0, 0, b"")
            self.net.callLater(0.1, self.there.made[0].transport.write, nothing)

        self.there.changes[Procedure.DEVICE_READ] = answer
        with self.assertRaises(TimedOut):
            self.wait(self.client.query("?", timeout=2))

    def test_a_reply_that_comes_too_late_is_dropped(self) -> None:
        late: list[bytes] = []

        def hold(call: Call) -> None:
            late.append(codec.encode_given(call.xid, 0, codec.REASON_END, b"late"))

        def abort(call: Call) -> bytes:
            self.there.made[0].transport.write(late.pop())
            return encode_reply(call.xid, encode_uint(0))

        self.there.changes[Procedure.DEVICE_READ] = hold
        self.there.changes[Procedure.DEVICE_ABORT] = abort
        with self.assertRaises(TimedOut):
            self.wait(self.client.query("?", timeout=1))
        del self.there.changes[Procedure.DEVICE_READ]
        self.assertEqual(self.wait(self.client.query("?")), "hello")
        self.assertEqual(self.there.count(Procedure.CREATE_LINK), 1, "on the same link")
        self.assertEqual(self.there.count(Procedure.DEVICE_CLEAR), 1)
        abort_call = next(c for key, c in self.there.calls if key == Procedure.DEVICE_ABORT)
        self.assertEqual(unpack_from(">I", abort_call.record, abort_call.at), (5,))

    def test_no_abort(self) -> None:
        """An instrument that does not end the call loses its connection."""
        self.there.changes[Procedure.DEVICE_READ] = lambda call: None
        with self.assertRaises(TimedOut):
            self.wait(self.client.query("?", timeout=1))
        del self.there.changes[Procedure.DEVICE_READ]
        self.assertEqual(self.wait(self.client.query("?", timeout=5)), "hello")
        self.assertEqual(self.there.count(Procedure.CREATE_LINK), 2)

    def test_no_device_clear(self) -> None:
        self.there.changes[Procedure.DEVICE_READ] = lambda call: codec.encode_given(
            call.xid, ErrorCode.IO_TIMEOUT, 0
        )
        self.there.changes[Procedure.DEVICE_CLEAR] = lambda call: encode_reply(
            call.xid, encode_uint(ErrorCode.NOT_SUPPORTED)
        )
        with self.assertRaises(TimedOut):
            self.wait(self.client.query("?"))
        del self.there.changes[Procedure.DEVICE_READ]
        self.assertEqual(self.wait(self.client.query("?")), "hello")

    def test_a_link_that_is_gone(self) -> None:
        self.wait(self.client.connect())
        self.there.changes[Procedure.DEVICE_WRITE] = lambda call: encode_reply(
            call.xid, Taken(ErrorCode.INVALID_LINK, 0).encode()
        )
        with self.assertRaises(NotConnected):
            self.wait(self.client.query("?"))
        del self.there.changes[Procedure.DEVICE_WRITE]
        self.assertEqual(self.wait(self.client.query("?")), "hello")
        self.assertEqual(self.there.count(Procedure.CREATE_LINK), 2)

    def test_no_service_requests(self) -> None:
        self.there.changes[Procedure.CREATE_INTR_CHAN] = lambda call: encode_reply(
            call.xid, encode_uint(ErrorCode.NOT_SUPPORTED)
        )
        with self.assertRaises(NotAllowed) as caught:
            self.wait(self.client.on_service_request(lambda: None))
        self.assertEqual(caught.exception.visa_status, VisaStatus.NSUP_OPER)
        self.assertEqual(self.wait(self.client.query("?")), "hello")
        self.assertEqual(len(self.net.ports), 1, "nobody listens any more")

    def test_refusals_of_rpc(self) -> None:
        self.there.changes[Procedure.DEVICE_TRIGGER] = lambda call: encode_reply(
            call.xid, status=rpc.Accept.PROC_UNAVAIL
        )
        with self.assertRaises(DeviceFault) as caught:
            self.wait(self.client.trigger())
        self.assertIn("does not know the procedure", str(caught.exception))
        self.assertEqual(self.wait(self.client.query("?")), "hello")

    def test_nonsense(self) -> None:
        for reply in (
            encode_mark(1 << 30),
            encode_mark(8) + bytes(8),
            encode_mark(3) + bytes(3),
            pack(">I", 0x47455420),
        ):
            self.there.changes[Procedure.DEVICE_WRITE] = lambda call, it=reply: it  # type: ignore[misc]
            with self.assertRaises(NotConnected):
                self.wait(self.client.query("?"))
            del self.there.changes[Procedure.DEVICE_WRITE]
            self.assertEqual(self.wait(self.client.query("?")), "hello")

    def test_results_that_are_too_short(self) -> None:
        for procedure in (Procedure.DEVICE_WRITE, Procedure.DEVICE_READ):
            self.there.changes[procedure] = lambda call: encode_reply(call.xid, encode_uint(0))
            with self.assertRaises(DeviceFault):
                self.wait(self.client.query("?"))
            del self.there.changes[procedure]
        self.assertEqual(self.wait(self.client.query("?")), "hello")

    def test_a_handle_of_somebody_else(self) -> None:
        told: list[None] = []
        self.wait(self.client.on_service_request(lambda: told.append(None)))
        where = next(c for key, c in self.there.calls if key == Procedure.CREATE_INTR_CHAN)
        channel = codec.read_channel(where.arguments())
        self.assertEqual((channel.address, channel.family), ("127.0.0.1", 0))
        caller = Caller()
        self.net.connectTCP(channel.address, channel.port, caller)
        self.net.advance(1)
        for handle in (b"other", b"labnet"):
            call = rpc.encode_call(
                1, Program.INTERRUPT, 1, Procedure.DEVICE_INTR_SRQ, encode_opaque(handle)
            )
            caller.protocol_made.transport.write(call)
        self.net.advance(1)
        self.assertEqual(len(told), 1)
        self.assertEqual(caller.protocol_made.heard, b"", "such a call has no answer")


class Ear(Protocol):
    heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


class Caller(ClientFactory):
    """Connects like an instrument."""

    noisy = False
    protocol_made: Any

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        self.protocol_made = Ear()
        return self.protocol_made  # type: ignore[no-any-return]


class ErrorTests(SynchronousTestCase):
    def test_all_codes(self) -> None:
        for code, kind, status in (
            (1, BadArguments, VisaStatus.INV_PARAMETER),
            (3, UnknownName, VisaStatus.RSRC_NFOUND),
            (4, NotConnected, VisaStatus.CONN_LOST),
            (5, BadArguments, VisaStatus.INV_PARAMETER),
            (6, NotAllowed, VisaStatus.NSUP_OPER),
            (8, NotAllowed, VisaStatus.NSUP_OPER),
            (9, TooLarge, VisaStatus.ALLOC),
            (11, Locked, VisaStatus.RSRC_LOCKED),
            (12, NotAllowed, VisaStatus.SESN_NLOCKED),
            (15, TimedOut, VisaStatus.TMO),
            (17, DeviceFault, VisaStatus.IO),
            (21, DeviceFault, VisaStatus.IO),
            (23, Cancelled, VisaStatus.ABORT),
            (29, NotAllowed, VisaStatus.NSUP_OPER),
            (99, DeviceFault, VisaStatus.IO),
        ):
            error = error_of(code, "reading", "inst0", "scope", 1.0)
            self.assertIs(type(error), kind, code)
            self.assertEqual(error.visa_status, status)
