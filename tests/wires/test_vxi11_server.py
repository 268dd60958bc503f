"""The VXI-11 server: links, locks, limits of time, abort, interrupt channel, bounds."""

from __future__ import annotations

from struct import pack
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, command, parameter
from labnet.errors import BadArguments, DeviceFault
from labnet.framing.xdr import RecordSplitter, encode_mark
from labnet.lab import Lab, ServeOptions
from labnet.wires.vxi11 import codec, link
from labnet.wires.vxi11.codec import Channel, ErrorCode, Given, Procedure, Program, Taken
from labnet.wires.vxi11.rpc import Accept, encode_call, encode_reply, read_call
from labnet.wires.vxi11.server import (
    AbortFactory,
    Options,
    Vxi11Factory,
    abort_endpoint,
    listen,
    names_of,
)
from tests.wires.vxi11_toy import HOST, Client, Reference, core, replies

IDENTITY = b"LABNET,REF,0,1\n"
HERE = Channel(0x0A4D0001, 5000, Program.INTERRUPT, 1, 0)


class Slow(Device):
    """Carries out what it is told when the test says so."""

    level = parameter(float, initial=1.0)

    def __init__(self) -> None:
        self.waits: list[Deferred[str]] = []

    @command(scpi="SLOW")
    def slow(self) -> Deferred[str]:
        """Ends when the test says so."""
        done: Deferred[str] = Deferred()
        self.waits.append(done)
        return done


class ServerTestCase(SynchronousTestCase):
    options = Options(portmapper="none")

    def setUp(self) -> None:
        self.clock: Any = MemoryReactorClock()
        self.lab = Lab(self.clock, self.clock)
        self.slow = Slow()
        for name in ("a", "b"):
            self.lab.attach(name, Reference(clock=self.clock))
        self.lab.attach("c", self.slow)
        self.addCleanup(self.lab.stop)
        common = ServeOptions(devices={"inst0": "a", "inst1": "b", "slow": "c"}, timeout=60.0)
        self.factory = Vxi11Factory(self.lab, common, self.options)
        self.factory.abort_port = 1234

    def client(self, device: bytes | None = b"inst0") -> Client:
        client = Client(self.factory, self.clock)
        if device is not None:
            made = client.make(device)
            assert made is not None and not made.error, made
        return client

    def aborter(self) -> Client:
        return Client(self.factory, self.clock, AbortFactory(self.factory))


class LinkTests(ServerTestCase):
    def test_names(self) -> None:
        client = self.client(None)
        for name in (b"", b"inst0", b"INST1", b" slow ", b"inst2"):
            made = client.make(name)
            assert made is not None
            self.assertEqual((made.error, made.abort_port), (0, 1234), name)
        for name, code in (
            (b"inst3", ErrorCode.NOT_ACCESSIBLE),
            (b"a", ErrorCode.NOT_ACCESSIBLE),
            (b"gpib0,5", ErrorCode.NOT_ACCESSIBLE),
            (b"\xff", ErrorCode.SYNTAX),
            (b"a\nb", ErrorCode.SYNTAX),
            (b"x" * 300, ErrorCode.SYNTAX),
        ):
            self.assertEqual(client.make(name), (code, 0, 0, 0))

    def test_names_of_a_section(self) -> None:
        self.assertEqual(names_of(ServeOptions(device="Dmm")), {"inst0": "Dmm", "dmm": "Dmm"})
        several = names_of(ServeOptions(devices={"Scope": "s", "inst0": "d"}))
        self.assertEqual(several, {"scope": "s", "inst0": "d", "inst1": "d"})

    def test_links_of_one_connection_are_strangers(self) -> None:
        client = self.client()
        first = client.link
        client.make()
        second = client.link
        self.assertNotEqual(first, second)
        client.write(b"*IDN?")
        client.link = first
        self.assertEqual(client.read(io=0), Given(ErrorCode.IO_TIMEOUT, 0, b""))
        client.lock()
        client.link = second
        self.assertEqual(client.read(), Given(ErrorCode.LOCKED, 0, b""))
        self.assertEqual(client.destroy(first), 0)
        self.assertEqual(client.read(), Given(0, codec.REASON_END, IDENTITY))

    def test_64_links_on_one_connection(self) -> None:
        client = self.client()
        links = {client.link}
        for _ in range(63):
            client.make()
            links.add(client.link)
        self.assertEqual(len(links), 64)
        for number in links:
            client.link = number
            self.assertEqual(client.query(b"*IDN?"), IDENTITY)
        client.vanish()
        self.assertEqual(self.factory.links, {})

    def test_links_of_others(self) -> None:
        client, other = self.client(), self.client()
        client.link = other.link
        self.assertEqual(client.write(b"*IDN?"), Taken(ErrorCode.INVALID_LINK, 0))
        self.assertEqual(client.destroy(), ErrorCode.INVALID_LINK)
        for procedure in range(13, 18):
            data = client.tell(core(procedure, pack(">4I", other.link, 0, 0, 0)))
            self.assertEqual(replies(data)[0].results().uint(), ErrorCode.INVALID_LINK)

    def test_a_device_that_leaves(self) -> None:
        client, other = self.client(), self.client(b"inst1")
        client.write(b"TEST:WAIT? 5")
        self.assertIsNone(client.read(io=10_000))
        self.lab.detach("a")
        self.assertEqual(client.given(), Given(ErrorCode.IO_ERROR, 0, b""))
        self.assertEqual(client.write(b"*IDN?"), Taken(ErrorCode.IO_ERROR, 0))
        self.assertEqual(client.lock(), ErrorCode.IO_ERROR)
        self.assertEqual(client.unlock(), ErrorCode.NO_LOCK)
        self.assertEqual(client.make(), (ErrorCode.NOT_ACCESSIBLE, 0, 0, 0))
        self.assertEqual(other.query(b"*IDN?"), IDENTITY)


class BoundsTests(ServerTestCase):
    options = Options(portmapper="none", links_per_connection=2, max_links=3, max_receive=2000)

    def test_links(self) -> None:
        full = (ErrorCode.OUT_OF_RESOURCES, 0, 0, 0)
        client = self.client()
        client.make()
        self.assertEqual(client.make(), full)
        other = self.client()
        self.assertEqual(other.make(), full)
        client.vanish()
        made = other.make()
        assert made is not None
        self.assertEqual(made.error, 0)

    def test_pieces(self) -> None:
        client = self.client()
        message = b"TEST:LOAD #41900" + bytes(1900)
        self.assertEqual(client.write(message, flags=0), Taken(0, len(message)))
        self.assertEqual(client.write(bytes(2001)), Taken(ErrorCode.PARAMETER, 0))
        self.assertEqual(client.write(b"\n"), Taken(0, 1))
        self.assertTrue(client.query(b"TEST:LOAD:SUM?").startswith(b"1900,"))

    def test_records(self) -> None:
        for announced in (0xFFFFFFFF, 0x7FFFFFFF, 0x47455420, 0x80000000 | 5025):
            client = self.client()
            self.assertEqual(client.tell(pack(">I", announced)), b"")
            self.assertTrue(client.ended)
            client.vanish()

    def test_records_without_a_link(self) -> None:
        client = self.client(None)
        client.tell(encode_mark(4097))
        self.assertTrue(client.ended)

    def test_fragments_without_end(self) -> None:
        client = self.client(None)
        for _ in range(70):
            client.tell(encode_mark(0, last=False) * 1000)
        self.assertTrue(client.ended)

    def test_answers_before_nonsense(self) -> None:
        client = self.client(None)
        data = client.tell(core(0) + encode_mark(4) + b"\0\0\0\1" + core(0))
        self.assertEqual(len(replies(data)), 1)
        self.assertTrue(client.ended)

    def test_messages_that_wait(self) -> None:
        self.patch(link, "MAX_MESSAGES", 2)
        client = self.client(b"slow")
        for _ in range(2):
            self.assertEqual(client.write(b"SLOW"), Taken(0, 4))
        self.assertIsNone(client.write(b"SLOW", io=500))
        self.clock.advance(0.5)
        self.assertEqual(codec.read_taken(client.reply()), Taken(ErrorCode.IO_TIMEOUT, 0))
        self.assertIsNone(client.write(b"SLOW", io=500))
        self.slow.waits[0].callback("")
        self.assertEqual(codec.read_taken(client.reply()), Taken(0, 4))
        self.slow.waits[1].callback("")
        self.assertEqual(len(self.slow.waits), 3, "in order")

    def test_long_answers_come_in_parts(self) -> None:
        self.patch(link, "MAX_GIVEN", 10)
        client = self.client()
        client.write(b"*IDN?")
        self.assertEqual(client.read(), Given(0, 0, IDENTITY[:10]))
        self.assertEqual(client.read(), Given(0, codec.REASON_END, IDENTITY[10:]))


class RpcTests(ServerTestCase):
    def status(self, client: Client, data: bytes) -> int:
        (record,) = RecordSplitter(100).feed(client.tell(data))
        return int.from_bytes(record[20:24], "big")

    def test_refusals(self) -> None:
        client = self.client()
        for procedure in (21, 24, 99):
            self.assertEqual(self.status(client, core(procedure)), Accept.PROC_UNAVAIL)
        self.assertEqual(self.status(client, encode_call(1, 7, 1, 0)), Accept.PROG_UNAVAIL)
        other = encode_call(1, Program.CORE, 2, 0)
        self.assertEqual(self.status(client, other), Accept.PROG_MISMATCH)
        for procedure in (*range(10, 21), 22, 23, 25):
            status = self.status(client, core(procedure, b"\0\0"))
            self.assertEqual(status, Accept.GARBAGE_ARGS, procedure)
        self.assertEqual(client.query(b"*IDN?"), IDENTITY)

    def test_null(self) -> None:
        self.assertEqual(self.client().tell(core(0, xid=5)), encode_reply(5))
        self.assertEqual(
            self.aborter().tell(encode_call(6, Program.ABORT, 1, 0)), encode_reply(6)
        )

    def test_programs_of_the_channels(self) -> None:
        self.assertEqual(self.status(self.aborter(), core(0)), Accept.PROG_UNAVAIL)
        interrupt = encode_call(1, Program.INTERRUPT, 1, 0)
        self.assertEqual(self.status(self.client(), interrupt), Accept.PROG_UNAVAIL)

    def test_a_reply_is_dropped(self) -> None:
        client = self.client()
        self.assertEqual(client.tell(encode_reply(5)), b"")
        self.assertEqual(client.query(b"*IDN?"), IDENTITY)

    def test_calls_behind_each_other(self) -> None:
        client = self.client()
        write = core(11, b"".join(codec.DeviceWrite(client.link, 0, 0, 8, b"*IDN?").encode()), 7)
        read = core(12, codec.DeviceRead(client.link, 99, 0, 0, 0, 0).encode(), 8)
        answers = replies(client.tell((write + read) * 3))
        self.assertEqual([reply.xid for reply in answers], [7, 8] * 3)


class ReadTests(ServerTestCase):
    def test_reasons(self) -> None:
        client = self.client()
        client.write(b"TEST:BLOCK? 5")
        self.assertEqual(client.read(0), Given(0, codec.REASON_REQCNT, b""))
        self.assertEqual(client.read(3), Given(0, codec.REASON_REQCNT, b"#15"))
        chr_ = client.read(99, flags=codec.TERMCHRSET, termchar=2)
        self.assertEqual(chr_, Given(0, codec.REASON_CHR, b"\0\1\2"))
        every = client.read(3, flags=codec.TERMCHRSET, termchar=10)
        self.assertEqual(every, Given(0, 7, b"\3\4\n"))

    def test_nothing_waits(self) -> None:
        client = self.client()
        nothing = Given(ErrorCode.IO_TIMEOUT, 0, b"")
        self.assertEqual(client.read(io=0), nothing)
        self.assertIsNone(client.read(io=100))
        self.clock.advance(0.1)
        self.assertEqual(client.given(), nothing)
        self.assertEqual(client.read(0), Given(0, codec.REASON_REQCNT, b""))
        self.assertEqual(client.status_byte(), Taken(0, 0), "that is no error of the client's")

    def test_what_waits_comes_without_time(self) -> None:
        client = self.client()
        client.write(b"*IDN?")
        self.assertEqual(client.read(io=0), Given(0, codec.REASON_END, IDENTITY))

    def test_an_answer_that_takes_time(self) -> None:
        client = self.client()
        self.assertEqual(client.write(b"TEST:WAIT? 1"), Taken(0, 12), "taken at once")
        self.assertIsNone(client.read(io=500))
        self.clock.advance(0.5)
        self.assertEqual(client.given(), Given(ErrorCode.IO_TIMEOUT, 0, b""))
        self.assertIsNone(client.read(io=2000))
        self.clock.advance(0.5)
        self.assertEqual(client.given().data.lower(), b"done\n")

    def test_without_limit(self) -> None:
        client = self.client()
        client.write(b"TEST:WAIT? 60")
        self.assertIsNone(client.read(io=codec.FOREVER))
        self.clock.advance(59)
        self.assertEqual(client.wire.taken(), b"")
        self.clock.advance(1)
        self.assertEqual(client.given().error, 0)

    def test_a_message_in_parts(self) -> None:
        client = self.client()
        client.write(b"*ID", flags=0)
        client.write(b"", flags=0)
        self.assertEqual(client.read(io=0).error, ErrorCode.IO_TIMEOUT)
        client.write(b"N?", flags=0)
        client.write(b"", flags=codec.END)
        self.assertEqual(client.read(), Given(0, codec.REASON_END, IDENTITY))
        client.write(b"", flags=codec.END)
        self.assertEqual(client.read(io=0).error, ErrorCode.IO_TIMEOUT)

    def test_status_trigger_clear(self) -> None:
        client = self.client()
        client.write(b"*IDN?")
        self.assertEqual(client.status_byte(), Taken(0, 16))
        self.assertEqual(client.generic(Procedure.DEVICE_CLEAR), 0)
        self.assertEqual(client.status_byte(), Taken(0, 0))
        self.assertEqual(client.generic(Procedure.DEVICE_TRIGGER), 0)
        self.assertEqual(client.query(b"TEST:TRIG?"), b"1\n")
        self.assertEqual(client.generic(Procedure.DEVICE_REMOTE), 0)
        self.assertEqual(client.generic(Procedure.DEVICE_LOCAL), 0)

    def test_no_trigger(self) -> None:
        client = self.client(b"slow")
        code = client.generic(Procedure.DEVICE_TRIGGER)
        self.assertEqual(code, ErrorCode.NOT_SUPPORTED)

    def test_a_trigger_waits_for_the_message_before_it(self) -> None:
        client = self.client()
        client.write(b"TEST:WAIT? 1;*WAI")
        self.assertIsNone(client.generic(Procedure.DEVICE_TRIGGER, io=100))
        self.clock.advance(0.1)
        self.assertEqual(client.reply().uint(), ErrorCode.IO_TIMEOUT)

    def test_docmd(self) -> None:
        client = self.client()
        for number, code in (
            (client.link, ErrorCode.NOT_SUPPORTED),
            (999, ErrorCode.INVALID_LINK),
        ):
            request = codec.DoCommand(number, 0, 0, 0, 0x20001, 1, 2, b"\0\1")
            reader = client.calls(core(22, request.encode()))
            assert reader is not None
            self.assertEqual((reader.uint(), reader.opaque(9)), (code, b""))


class LockTests(ServerTestCase):
    def test_lock(self) -> None:
        holder, other = self.client(), self.client()
        self.assertEqual(holder.unlock(), ErrorCode.NO_LOCK)
        self.assertEqual(holder.lock(), 0)
        self.assertEqual(holder.lock(codec.WAITLOCK, 500), ErrorCode.LOCKED)
        self.assertEqual(other.unlock(), ErrorCode.NO_LOCK)
        self.assertEqual(other.lock(0, 10_000), ErrorCode.LOCKED, "at once")
        self.assertEqual(other.write(b"*IDN?", 8, lock=500), Taken(ErrorCode.LOCKED, 0))
        self.assertEqual(other.write(b"*IDN?", 9, lock=0), Taken(ErrorCode.LOCKED, 0))
        self.assertEqual(other.read(0), Given(ErrorCode.LOCKED, 0, b""))
        self.assertEqual(other.status_byte(), Taken(ErrorCode.LOCKED, 0))
        for procedure in (14, 15, 16, 17):
            self.assertEqual(other.generic(procedure), ErrorCode.LOCKED)
        self.assertEqual(holder.query(b"*IDN?"), IDENTITY)
        self.assertEqual(self.client(b"inst1").query(b"*IDN?"), IDENTITY)
        self.assertEqual(holder.unlock(), 0)
        self.assertEqual(other.query(b"*IDN?"), IDENTITY)

    def test_waiting_in_time(self) -> None:
        holder, other = self.client(), self.client()
        holder.lock()
        self.assertIsNone(other.write(b"*IDN?", 9, io=10, lock=1000))
        self.clock.advance(0.9)
        self.assertEqual(other.wire.taken(), b"", "the time limit of the call does not run")
        holder.unlock()
        self.assertEqual(codec.read_taken(other.reply()), Taken(0, 5))
        self.assertEqual(other.read().data, IDENTITY)

    def test_waiting_too_long(self) -> None:
        holder, other = self.client(), self.client()
        holder.lock()
        for begin in (
            lambda: other.write(b"*IDN?", 9, lock=200),
            lambda: other.read(flags=1, lock=200),
            lambda: other.status_byte(1, 200),
            lambda: other.generic(Procedure.DEVICE_CLEAR, 1, 200),
            lambda: other.lock(1, 200),
        ):
            self.assertIsNone(begin())
            self.clock.advance(0.2)
            self.assertEqual(other.reply().uint(), ErrorCode.LOCKED)
        self.assertEqual(self.lab.locks.count, 1)

    def test_first_come_first_served(self) -> None:
        holder, second, third = self.client(), self.client(), self.client()
        holder.lock()
        self.assertIsNone(second.lock(1, 5000))
        self.assertIsNone(third.lock(1, 5000))
        holder.unlock()
        self.assertEqual(second.reply().uint(), 0)
        self.assertEqual(third.wire.taken(), b"")
        second.vanish()
        self.assertEqual(third.reply().uint(), 0)

    def test_a_waiter_that_goes_leaves_the_queue(self) -> None:
        holder, second, third = self.client(), self.client(), self.client()
        holder.lock()
        second.lock(1, 5000)
        third.lock(1, 5000)
        second.vanish()
        holder.destroy()
        self.assertEqual(third.reply().uint(), 0)

    def test_a_lock_with_the_link(self) -> None:
        holder = self.client(None)
        made = holder.make(lock=True)
        assert made is not None
        self.assertEqual(made.error, 0)
        other = self.client(None)
        self.assertIsNone(other.make(lock=True, wait=200))
        self.clock.advance(0.2)
        self.assertEqual(codec.read_link_made(other.reply()), (ErrorCode.LOCKED, 0, 0, 0))
        self.assertEqual(len(self.factory.links), 1)
        self.assertIsNone(other.make(lock=True, wait=1000))
        holder.vanish()
        self.assertEqual(codec.read_link_made(other.reply()).error, 0)
        waiting = self.client(None)
        waiting.make(lock=True, wait=1000)
        waiting.vanish()
        other.vanish()
        self.assertEqual((self.lab.locks.count, self.factory.links), (0, {}))

    def test_the_end_of_a_stream_frees_the_lock(self) -> None:
        """At once, although the client could still read what it is answered."""
        holder, other = self.client(), self.client()
        holder.lock()
        holder.write(b"TEST:WAIT? 1000")
        self.assertIsNone(holder.read(io=1_000_000))
        holder.protocol.readConnectionLost()
        self.assertEqual(other.lock(), 0)
        self.assertTrue(holder.ended)

    def test_other_wires(self) -> None:
        session = self.lab.open_session("tsv", "elsewhere", device="a")
        session.lock(["a"])
        client = self.client()
        self.assertEqual(client.write(b"*IDN?"), Taken(ErrorCode.LOCKED, 0))
        self.assertIsNone(client.lock(1, 1000))
        session.close()
        self.assertEqual(client.reply().uint(), 0)

    def test_lock_by_message(self) -> None:
        client, other = self.client(), self.client()
        self.assertEqual(client.query(b"SYST:LOCK:REQ?"), b"1\n")
        self.assertEqual(other.write(b"*IDN?"), Taken(ErrorCode.LOCKED, 0))
        self.assertEqual(client.lock(), ErrorCode.LOCKED)
        self.assertEqual(client.unlock(), 0)
        self.assertEqual(other.query(b"*IDN?"), IDENTITY)


class AbortTests(ServerTestCase):
    def test_a_read(self) -> None:
        client = self.client()
        client.write(b"TEST:WAIT? 1000")
        self.assertIsNone(client.read(io=1_000_000))
        self.assertEqual(self.aborter().abort(client.link), 0)
        self.assertEqual(client.given(), Given(ErrorCode.ABORT, 0, b""))
        self.assertEqual(client.query(b"*IDN?"), IDENTITY, "the device has stopped as well")

    def test_a_read_of_nothing(self) -> None:
        client = self.client()
        self.assertIsNone(client.read(io=5000))
        self.client().abort(client.link)  # on a core connection it is as good
        self.assertEqual(client.given(), Given(ErrorCode.ABORT, 0, b""))

    def test_waiting_for_a_lock(self) -> None:
        holder, client = self.client(), self.client()
        holder.lock()
        aborter = self.aborter()
        for begin in (
            lambda: client.lock(1, 5000),
            lambda: client.write(b"*IDN?", 9, lock=5000),
            lambda: client.generic(Procedure.DEVICE_TRIGGER, 1, 5000),
        ):
            self.assertIsNone(begin())
            self.assertEqual(aborter.abort(client.link), 0)
            self.assertEqual(client.reply().uint(), ErrorCode.ABORT)
        holder.unlock()
        self.assertEqual(client.query(b"*IDN?"), IDENTITY)
        self.assertEqual(self.lab.locks.count, 0)

    def test_nothing(self) -> None:
        client, aborter = self.client(), self.aborter()
        self.assertEqual(aborter.abort(999), ErrorCode.INVALID_LINK)
        client.write(b"*IDN?")
        self.assertEqual(aborter.abort(client.link), 0)
        self.assertEqual(client.read().data, IDENTITY, "no effect on what comes later")


class InterruptTests(ServerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.wire = StringTransportWithDisconnection()
        options: Any = self.wire
        options.setTcpNoDelay = options.setTcpKeepAlive = lambda on: None

    def connect(self) -> None:
        host, port, factory, *_ = self.clock.tcpClients.pop()
        self.assertEqual((host, port), (HOST, 5000))
        protocol = factory.buildProtocol(IPv4Address("TCP", HOST, 5000))
        self.wire.protocol = protocol
        protocol.makeConnection(self.wire)

    def opened(self) -> Client:
        client = self.client()
        self.assertIsNone(client.channel(HERE))
        self.connect()
        self.assertEqual(client.reply().uint(), 0)
        return client

    def handles(self) -> list[bytes]:
        found = []
        for record in RecordSplitter(1000).feed(self.wire.value()):
            call: Any = read_call(record)
            self.assertEqual(call[1:4], (Program.INTERRUPT, 1, Procedure.DEVICE_INTR_SRQ))
            found.append(call.arguments().opaque(40))
        self.wire.clear()
        return found

    def test_service_requests(self) -> None:
        client = self.opened()
        self.assertEqual(client.enable(b"me"), 0)
        client.write(b"TEST:SRQ 2")
        self.clock.advance(1)
        self.assertEqual(self.handles(), [])
        self.clock.advance(1)
        self.assertEqual(self.handles(), [b"me"])
        self.assertEqual(client.status_byte(), Taken(0, 65))
        self.assertEqual(client.status_byte(), Taken(0, 0))
        client.write(b"TEST:SRQ")
        self.assertEqual(self.handles(), [b"me"])

    def test_reasons_that_the_client_enables(self) -> None:
        client = self.opened()
        client.enable(b"me")
        client.write(b"*SRE 32;*ESE 32;NO:SUCH")
        self.assertEqual(self.handles(), [b"me"])

    def test_what_is_pending_is_told_at_once(self) -> None:
        client = self.opened()
        client.write(b"*SRE 1;TEST:SRQ")
        self.assertEqual(self.handles(), [])
        client.enable(b"late")
        self.assertEqual(self.handles(), [b"late"])

    def test_enabled_before_there_is_a_channel(self) -> None:
        client = self.client()
        client.enable(b"early")
        client.write(b"TEST:SRQ")
        client.channel(HERE)
        self.connect()
        self.assertEqual(self.handles(), [b"early"])

    def test_what_the_client_answers_is_dropped(self) -> None:
        client = self.opened()
        client.enable(b"me")
        self.wire.protocol.dataReceived(encode_reply(1) * 100)
        client.write(b"TEST:SRQ")
        self.assertEqual(self.handles(), [b"me"])

    def test_a_client_that_does_not_read(self) -> None:
        client = self.opened()
        client.enable(b"me")
        producer: Any = self.wire.producer
        producer.pauseProducing()
        client.write(b"TEST:SRQ")
        self.assertEqual(self.handles(), [])
        producer.resumeProducing()
        client.status_byte()
        client.write(b"TEST:SRQ")
        self.assertEqual(self.handles(), [b"me"])

    def test_what_is_refused(self) -> None:
        client = self.opened()
        self.assertEqual(client.channel(HERE), ErrorCode.CHANNEL_EXISTS)
        other = self.client()
        for where, code in (
            (HERE._replace(family=1), ErrorCode.NOT_SUPPORTED),
            (HERE._replace(program=7), ErrorCode.NOT_SUPPORTED),
            (HERE._replace(version=2), ErrorCode.NOT_SUPPORTED),
            (HERE._replace(host=0x0A4D0002), ErrorCode.NO_CHANNEL),
            (HERE._replace(port=0), ErrorCode.NO_CHANNEL),
            (HERE._replace(port=70_000), ErrorCode.NO_CHANNEL),
        ):
            self.assertEqual(other.channel(where), code, where)
        self.assertEqual(self.clock.tcpClients, [])
        self.assertEqual(other.code(core(26)), ErrorCode.NO_CHANNEL)

    def test_nobody_listens(self) -> None:
        client = self.client()
        client.channel(HERE)
        self.clock.tcpClients.pop()[2].clientConnectionFailed(
            None, Failure(ConnectionRefusedError())
        )
        self.assertEqual(client.reply().uint(), ErrorCode.NO_CHANNEL)

    def test_the_channel_is_lost(self) -> None:
        client = self.opened()
        client.enable(b"me")
        self.wire.loseConnection()
        client.write(b"TEST:SRQ")
        self.wire = StringTransportWithDisconnection()
        options: Any = self.wire
        options.setTcpNoDelay = options.setTcpKeepAlive = lambda on: None
        client.channel(HERE)
        self.connect()
        self.assertEqual(self.handles(), [b"me"])

    def test_the_channel_ends_with_the_connection(self) -> None:
        client = self.opened()
        client.vanish()
        self.assertFalse(self.wire.connected)
        waiting = self.client()
        waiting.channel(HERE)
        waiting.vanish()
        self.assertEqual(self.factory.live, set())

    def test_destroy(self) -> None:
        client = self.opened()
        self.assertEqual(client.code(core(26)), 0)
        self.assertFalse(self.wire.connected)
        self.assertEqual(client.code(core(26)), ErrorCode.NO_CHANNEL)


class EndTests(ServerTestCase):
    def test_nothing_is_left(self) -> None:
        holder, client = self.client(), self.client()
        holder.lock()
        client.write(b"*IDN?", 9, lock=60_000)
        holder.write(b"TEST:WAIT? 100")
        holder.read(io=60_000)
        for each in (holder, client):
            each.vanish()
        self.assertEqual(self.lab.locks.count, 0)
        self.assertEqual((self.factory.links, self.factory.live), ({}, set()))
        self.clock.advance(4000)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_listener_stops(self) -> None:
        client = self.client()
        client.write(b"TEST:WAIT? 100")
        client.read(io=60_000)
        client.protocol.wind_up()
        self.assertEqual(client.given(), Given(ErrorCode.ABORT, 0, b""))
        self.assertTrue(client.ended)


class ListenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock: Any = MemoryReactorClock()
        self.lab = Lab(self.clock, self.clock)
        self.lab.attach("a", Reference(clock=self.clock))
        self.addCleanup(self.lab.stop)

    def listen(self, address: str = "tcp:9010", **options: Any) -> Any:
        common = ServeOptions(device=options.pop("device", "a"))
        made = Options(portmapper="none", **options)
        return Deferred.fromCoroutine(listen(self.lab, address, common, made, self.clock))

    def test_ports(self) -> None:
        listener = self.successResultOf(self.listen(abort_port=9011))
        ports = [(port, interface) for port, _, _, interface in self.clock.tcpServers]
        self.assertEqual(ports, [(9010, "127.0.0.1"), (9011, "127.0.0.1")])
        self.assertRegex(listener.example, r"^TCPIP::[0-9.]+,[0-9]+::inst0::INSTR$")
        self.successResultOf(Deferred.fromCoroutine(listener.stop()))

    def test_refused(self) -> None:
        self.failureResultOf(self.listen("unix:/tmp/x"), BadArguments)
        self.assertRaises(BadArguments, abort_endpoint, "ssl:1", 2)
        self.assertEqual(
            abort_endpoint("tcp:9010:interface=127.0.0.1", 0), "tcp:0:interface=127.0.0.1"
        )
        none = listen(self.lab, "tcp:1", ServeOptions(), Options(), self.clock)
        self.failureResultOf(Deferred.fromCoroutine(none), BadArguments)

    def test_a_device_that_cannot_be_served(self) -> None:
        class Ambiguous(Device):
            one = parameter(int, scpi="SAME")
            two = parameter(int, scpi="SAME")

        self.lab.attach("twice", Ambiguous())
        failure = self.failureResultOf(self.listen(device="twice"), DeviceFault)
        self.assertIn("twice", str(failure.value))
        self.assertEqual(self.clock.tcpServers, [])
