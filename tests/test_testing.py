"""What labnet offers to tests: the fake device, the lab in memory, faults, recorded bytes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    CannotListenError,
    ConnectError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
)
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from labnet.device import Device, command, parameter
from labnet.devices.simulated.powermeter import PowerMeter
from labnet.errors import DeviceFault, NotConnected, OutOfRange, TimedOut, UnknownName
from labnet.testing import (
    Call,
    FakeDevice,
    MemoryLab,
    MemoryReactor,
    Pair,
    Relay,
    connected_pair,
    exchanges,
    serve_on_loopback,
    vector_header,
    vectors,
)
from labnet.transports.faults import SEND_BUFFER
from labnet.wires.tsv.client import TsvClient

PAGE = Path(__file__).resolve().parents[1] / "docs" / "testing.md"


def page_names() -> dict[str, Any]:
    """What the code on the page about tests has defined; its scripts are run by ``test_docs``."""
    names: dict[str, Any] = {"__name__": __name__}
    text = PAGE.read_text(encoding="utf-8")
    for found in re.finditer(r"(?<!-->\n)^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, found.start(1))
        exec(compile("\n" * line + found[1], str(PAGE), "exec"), names)
    return names


PAGE_CASES = {
    f"Page{name}": case
    for name, case in page_names().items()
    if isinstance(case, type) and issubclass(case, SynchronousTestCase) and name.endswith("Tests")
}
globals().update(PAGE_CASES)


class PageTests(SynchronousTestCase):
    def test_the_page_has_its_cases(self) -> None:
        self.assertEqual(
            sorted(PAGE_CASES),
            ["PageEchoTests", "PageLockTests", "PageLoopbackTests", "PageMeanPowerTests",
             "PagePowerMeterTests"],
        )  # fmt: skip


class ExampleTests(SynchronousTestCase):
    """The example of ``docs/testing.md``: a power meter over TSV, and an instrument that hangs."""

    def setUp(self) -> None:
        self.lab = MemoryLab()
        self.lab.attach("powermeter", PowerMeter(beam=2.5e-3, clock=self.lab.reactor))
        self.addCleanup(self.lab.close)

    def test_power(self) -> None:
        served = self.lab.serve("tsv", device="powermeter")
        client = served.client(timeout=2.0)
        power = float(self.lab.wait(client.get("power")).text)
        self.assertApproximates(power, 2.5e-3, 1e-4)

    def test_a_reply_that_never_comes(self) -> None:
        served = self.lab.serve("tsv", device="powermeter")
        client = served.client(timeout=2.0)
        served.faults.hang("to_client")
        began = self.lab.clock.seconds()
        with self.assertRaises(TimedOut):
            self.lab.wait(client.get("power"))
        self.assertEqual(self.lab.clock.seconds() - began, 2.0)
        served.faults.clear()
        self.lab.wait(client.ping())


class FakeDeviceTests(SynchronousTestCase):
    """A device made on the spot."""

    def setUp(self) -> None:
        self.device = FakeDevice("zero", power=1e-3, range={"initial": 5, "limits": (1, 10)})
        self.lab = MemoryLab({"meter": self.device})
        self.session = self.lab.session(device="meter")
        self.device.calls.clear()

    def test_records_what_it_is_asked(self) -> None:
        self.lab.wait(self.session.set("range", 7))
        self.assertEqual(self.lab.wait(self.session.get("range")).value, 7)
        self.assertIsNone(self.lab.wait(self.session.call("zero", 1, fast=True)))
        self.assertEqual(
            self.device.calls,
            [
                Call("set", "range", (7,)),
                Call("get", "range"),
                Call("call", "zero", (1,), {"fast": True}),
            ],
        )
        self.assertEqual(self.device.asked("get", "power"), [])
        self.assertEqual(len(self.device.asked("set")), 1)

    def test_limits_hold_before_it_is_asked(self) -> None:
        with self.assertRaises(OutOfRange):
            self.lab.wait(self.session.set("range", 11))
        self.assertEqual(self.device.calls, [])

    def test_answers(self) -> None:
        def scale(by: float) -> float:
            return 2 * by

        self.device.answer("identify", "meter 5")
        self.device.answer("scale", scale)
        self.assertEqual(self.lab.wait(self.session.call("identify")), "meter 5")
        self.assertEqual(self.lab.wait(self.session.call("scale", 2)), 4.0)
        self.device.answer("identify", "meter 6")
        self.assertEqual(self.lab.wait(self.session.call("identify")), "meter 6")

    def test_values_and_reports(self) -> None:
        heard: list[Any] = []
        self.session.subscribe(["power"], heard.extend)
        self.device.values["power"] = 2.0
        self.assertEqual(self.lab.wait(self.session.get("power")).value, 2.0)
        self.device.report("power", 3.0)
        self.lab.advance()
        self.assertEqual(heard[-1].reading.value, 3.0)
        self.assertRaises(UnknownName, self.device.report, "pwer", 1.0)

    def test_delay(self) -> None:
        self.device.delay(0.5, "power")
        reading = self.session.get("power")
        self.lab.advance(0.4)
        self.assertNoResult(reading)
        self.lab.advance(0.1)
        self.assertEqual(self.successResultOf(reading).value, 1e-3)
        self.assertEqual(self.lab.wait(self.session.get("range"), within=0).value, 5)

    def test_late_answer_is_cancelled_by_the_deadline(self) -> None:
        self.device.delay(5.0)
        with self.assertRaises(TimedOut):
            self.lab.wait(self.session.get("power", timeout=1.0))
        self.assertEqual(self.device.cancelled, ["power"])

    def test_delay_needs_a_clock(self) -> None:
        self.device.clock = None
        self.device.delay(1.0)
        with self.assertRaises(DeviceFault):
            self.lab.wait(self.session.get("power"))

    def test_hang_and_release(self) -> None:
        self.device.hang("zero")
        zero = self.session.call("zero")
        power = self.session.get("power")
        self.lab.advance(1.0)
        self.assertNoResult(zero)
        self.assertNoResult(power)
        self.assertEqual(self.device.hanging, ["zero"])
        self.assertEqual(self.device.release(), 1)
        self.assertIsNone(self.successResultOf(zero))
        self.assertEqual(self.successResultOf(power).value, 1e-3)

    def test_hanging_call_can_be_given_up(self) -> None:
        self.device.hang("zero")
        zero = self.session.call("zero")
        zero.cancel()
        self.failureResultOf(zero, CancelledError)
        self.assertEqual((self.device.hanging, self.device.cancelled), ([], ["zero"]))
        self.assertEqual(self.device.release(), 0)

    def test_fail_and_recover(self) -> None:
        self.device.fail("no light", "power")
        with self.assertRaisesRegex(DeviceFault, "no light"):
            self.lab.wait(self.session.get("power"))
        self.device.fail(OSError("bus"), "power")
        with self.assertRaises(DeviceFault) as caught:
            self.lab.wait(self.session.get("power"))
        self.assertEqual(caught.exception.kind, "OSError")
        self.lab.wait(self.session.get("range"))
        self.device.recover("power")
        self.lab.wait(self.session.get("power"))

    def test_everything_fails_until_recover(self) -> None:
        self.device.fail()
        for path in ("power", "range"):
            with self.assertRaises(DeviceFault):
                self.lab.wait(self.session.get(path))
        self.device.recover()
        self.lab.wait(self.session.get("range"))

    def test_misspelt_names_are_told(self) -> None:
        self.assertRaises(UnknownName, self.device.fail, "why", "pwer")
        self.assertRaises(UnknownName, self.device.hang, "zro")

    def test_unplug(self) -> None:
        self.device.unplug("no cable")
        with self.assertRaisesRegex(NotConnected, "no cable"):
            self.lab.wait(self.session.get("power"))
        with self.assertRaises(NotConnected):
            self.lab.wait(self.session.connect())
        self.device.plug()
        with self.assertRaises(NotConnected):
            self.lab.wait(self.session.get("power"))
        self.lab.wait(self.session.connect())
        self.lab.wait(self.session.get("power"))

    def test_read_only(self) -> None:
        self.device.declare("serial", str, initial="5", access="r")
        self.assertEqual(self.lab.wait(self.session.get("serial")).value, "5")


class BlockingMeter(Device):
    blocking = True
    power = parameter(float, initial=1.0)

    @command
    def double(self, value: float) -> float:
        return 2 * value


class MemoryLabTests(SynchronousTestCase):
    """A lab whose time passes when told."""

    def test_blocking_devices_are_called_in_the_test(self) -> None:
        lab = MemoryLab({"meter": BlockingMeter()})
        session = lab.session(device="meter")
        self.assertEqual(self.successResultOf(session.call("double", 2.0)), 4.0)

    def test_timers_run_at_their_own_time(self) -> None:
        lab = MemoryLab()
        seen: list[float] = []
        lab.clock.callLater(1.0, lambda: seen.append(lab.clock.seconds()))
        lab.clock.callLater(
            2.0, lambda: lab.clock.callLater(0.5, lambda: seen.append(lab.clock.seconds()))
        )
        lab.advance(10.0)
        self.assertEqual(seen, [1.0, 2.5])
        self.assertEqual(lab.clock.seconds(), 10.0)

    def test_wait(self) -> None:
        lab = MemoryLab()
        fired: Deferred[int] = Deferred()
        lab.clock.callLater(3.0, fired.callback, 5)

        async def more() -> int:
            return await fired + 1

        self.assertEqual(lab.wait(more()), 6)
        self.assertEqual(lab.clock.seconds(), 3.0)
        with self.assertRaisesRegex(AssertionError, "no result after 4 s"):
            lab.wait(Deferred(), within=4.0)
        self.assertEqual(lab.clock.seconds(), 7.0)

    def test_zmq_is_not_in_memory(self) -> None:
        self.assertRaises(ValueError, MemoryLab().serve, "plesty")
        self.assertRaises(UnknownName, MemoryLab().serve, "tvs")

    def test_close_finds_timers(self) -> None:
        lab = MemoryLab({"meter": FakeDevice()})
        lab.clock.callLater(1000.0, lambda: None)
        self.assertRaises(AssertionError, lab.close)

    def test_options_go_to_the_wire(self) -> None:
        lab = MemoryLab({"meter": FakeDevice("zero", power=1.0)})
        served = lab.serve("tsv", device="meter", max_line=64, timeout=1.0)
        client = served.client()
        self.assertEqual(lab.wait(client.get("power")).text, "1.0")
        with self.assertRaises(DeviceFault):
            lab.wait(client.send("x" * 100))
        self.assertRaises(TypeError, lab.serve, "tsv", max_lines=64)
        lab.close()
        with self.assertRaises(NotConnected):
            lab.wait(client.ping())


class Recorder(Protocol):
    """Keeps what befalls it."""

    transport: Any

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)


@implementer(IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    half = ""

    def readConnectionLost(self) -> None:
        self.half += "read"

    def writeConnectionLost(self) -> None:
        self.half += "write"


class Producer:
    """Writes 10,000 bytes whenever it may, up to `left` times."""

    def __init__(self, transport: Any, left: int, streaming: bool) -> None:
        self.transport = transport
        self.left = left
        self.paused = self.stopped = False
        self.pauses = 0
        transport.registerProducer(self, streaming)

    def resumeProducing(self) -> None:
        self.paused = False
        self.produce(1)

    def produce(self, most: int) -> None:
        while self.left and most and not self.paused:
            self.left, most = self.left - 1, most - 1
            self.transport.write(b"x" * 10_000)
        if not self.left and self.transport.producer is self:
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.paused = True
        self.pauses += 1

    def stopProducing(self) -> None:
        self.stopped = True


class NetworkCase(SynchronousTestCase):
    """Two recorders, joined."""

    server_protocol: Any = Recorder

    def setUp(self) -> None:
        self.client: Any = Recorder()
        self.pair = self.join()
        self.server: Any = self.pair.server

    def join(self) -> Pair:
        return connected_pair(Factory.forProtocol(self.server_protocol), self.client)

    def lost(self, end: Recorder, error: type[Exception]) -> None:
        assert end.reason is not None
        self.assertIs(end.reason.type, error)


class ConnectionTests(NetworkCase):
    """Connections in memory have the manners of real ones."""

    def test_bytes_both_ways(self) -> None:
        self.client.transport.write(b"abc")
        self.client.transport.writeSequence([b"d", b"e"])
        self.server.transport.write(b"fgh")
        self.assertEqual((self.server.data, self.client.data), (b"", b""))
        self.pair.pump()
        self.assertEqual((self.server.pieces, self.client.pieces), ([b"abcde"], [b"fgh"]))

    def test_addresses(self) -> None:
        client, server = self.client.transport, self.server.transport
        self.assertEqual(client.getPeer().port, self.pair.port.number)
        self.assertEqual(server.getPeer(), client.getHost())

    def test_options(self) -> None:
        transport = self.client.transport
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(1)
        self.assertEqual((transport.getTcpNoDelay(), transport.getTcpKeepAlive()), (True, True))

    def test_close_sends_what_was_written(self) -> None:
        self.client.transport.write(b"bye")
        self.client.transport.loseConnection()
        self.assertIsNone(self.client.reason, "never inside the call")
        self.pair.pump()
        self.assertEqual(self.server.data, b"bye")
        self.lost(self.client, ConnectionDone)
        self.lost(self.server, ConnectionDone)
        self.client.transport.write(b"nobody hears")
        self.pair.pump()
        self.assertEqual(self.pair.faults.links, [])

    def test_close_with_much_to_send(self) -> None:
        self.client.transport.write(b"x" * (5 * SEND_BUFFER))
        self.client.transport.loseConnection()
        self.pair.faults.hang()
        self.pair.pump()
        self.assertIsNone(self.client.reason)
        self.pair.faults.resume()
        self.pair.pump()
        self.assertEqual(len(self.server.data), 5 * SEND_BUFFER)
        self.lost(self.client, ConnectionDone)

    def test_abort(self) -> None:
        self.client.transport.write(b"never")
        self.client.transport.abortConnection()
        self.assertIsNone(self.client.reason)
        self.pair.pump()
        self.assertEqual(self.server.data, b"")
        self.lost(self.client, ConnectionAborted)
        self.lost(self.server, ConnectionLost)

    def test_paused_reader(self) -> None:
        self.server.transport.pauseProducing()
        self.client.transport.write(b"abc")
        self.pair.pump()
        self.assertEqual(self.server.data, b"")
        self.server.transport.resumeProducing()
        self.pair.pump()
        self.assertEqual(self.server.data, b"abc")

    def test_streaming_producer_is_paused(self) -> None:
        self.pair.faults.hang()
        producer = Producer(self.client.transport, 50, True)
        producer.produce(50)
        self.assertTrue(producer.paused)
        self.assertEqual(producer.left, 50 - SEND_BUFFER // 10_000 - 1)
        self.pair.faults.resume()
        self.pair.pump()
        producer.produce(50)
        self.pair.pump()
        while producer.left:
            producer.produce(50)
            self.pair.pump()
        self.assertEqual(len(self.server.data), 500_000)

    def test_pull_producer_is_asked_each_time(self) -> None:
        producer = Producer(self.client.transport, 5, False)
        self.client.transport.loseConnection()
        self.pair.pump()
        self.assertEqual((len(self.server.data), producer.left), (50_000, 0))
        self.lost(self.client, ConnectionDone)

    def test_producer_is_stopped_with_the_connection(self) -> None:
        self.pair.faults.hang()
        producer = Producer(self.client.transport, 50, True)
        self.assertRaises(RuntimeError, self.client.transport.registerProducer, producer, True)
        self.pair.faults.disconnect()
        self.pair.pump()
        self.assertTrue(producer.stopped)
        late = Producer(self.client.transport, 1, True)
        self.assertTrue(late.stopped)

    def test_refused(self) -> None:
        self.pair.faults.refuse()
        failed = TsvClient(f"127.0.0.1:{self.pair.port.number}", reactor=self.pair.reactor).ping()
        self.pair.pump()
        self.failureResultOf(failed, NotConnected)

    def test_port_is_taken(self) -> None:
        reactor, number = self.pair.reactor, self.pair.port.number
        self.assertRaises(CannotListenError, reactor.listenTCP, number, Factory())
        self.pair.port.stopListening()
        reactor.listenTCP(number, Factory())

    def test_close_ends_all(self) -> None:
        self.pair.close()
        self.lost(self.client, ConnectionLost)
        self.lost(self.server, ConnectionLost)
        self.assertEqual(self.pair.reactor.getDelayedCalls(), [])


class HalfCloseTests(NetworkCase):
    """A peer that has said all but still listens."""

    server_protocol = HalfRecorder

    def test_half_close(self) -> None:
        self.client.transport.write(b"question")
        self.client.transport.loseWriteConnection()
        self.pair.pump()
        self.assertEqual((self.server.data, self.server.half), (b"question", "read"))
        self.server.transport.write(b"answer")
        self.server.transport.loseConnection()
        self.pair.pump()
        self.assertEqual(self.client.data, b"answer")
        self.lost(self.client, ConnectionDone)
        self.lost(self.server, ConnectionDone)

    def test_both_halves(self) -> None:
        self.client.transport.loseWriteConnection()
        self.pair.pump()
        self.server.transport.loseWriteConnection()
        self.pair.pump()
        self.assertEqual(self.server.half, "readwrite")
        self.lost(self.server, ConnectionDone)
        self.lost(self.client, ConnectionDone)


class FaultTests(NetworkCase):
    """What can go wrong between the two."""

    def test_delay(self) -> None:
        self.pair.faults.delay(0.5, "to_server")
        self.client.transport.write(b"late")
        self.server.transport.write(b"soon")
        self.pair.advance(0.4)
        self.assertEqual((self.server.data, self.client.data), (b"", b"soon"))
        self.client.transport.write(b"r")
        self.pair.advance(0.1)
        self.assertEqual(self.server.data, b"late")
        self.pair.faults.delay(0.0)
        self.client.transport.write(b"!")
        self.pair.advance(0.39)
        self.assertEqual(self.server.data, b"late", "later bytes never overtake")
        self.pair.advance(0.02)
        self.assertEqual(self.server.data, b"later!")

    def test_in_pieces(self) -> None:
        self.pair.faults.in_pieces(2)
        self.client.transport.write(b"abcde")
        self.client.transport.loseConnection()
        self.pair.pump()
        self.assertEqual(self.server.pieces, [b"ab", b"cd", b"e"])
        self.lost(self.server, ConnectionDone)

    def test_hang(self) -> None:
        self.pair.faults.hang("to_server")
        self.client.transport.write(b"abc")
        self.client.transport.loseConnection()
        self.pair.advance(100.0)
        self.assertEqual(self.server.data, b"")
        self.assertIsNone(self.server.reason)
        self.pair.faults.resume()
        self.pair.pump()
        self.assertEqual(self.server.data, b"abc")
        self.lost(self.server, ConnectionDone)

    def test_drop_is_a_pulled_cable(self) -> None:
        self.client.transport.write(b"before")
        self.pair.faults.drop()
        self.client.transport.write(b"gone")
        self.client.transport.abortConnection()
        self.pair.advance(1000.0)
        self.lost(self.client, ConnectionAborted)
        self.assertEqual(self.server.data, b"")
        self.assertIsNone(self.server.reason, "nobody has told the server")

    def test_garbage(self) -> None:
        self.pair.faults.garbage(b"\xff\xff")
        self.pair.faults.garbage(b"\x00", "to_server")
        self.pair.pump()
        self.assertEqual((self.client.data, self.server.data), (b"\xff\xff", b"\x00"))
        self.pair.faults.garbage(b"!", "both")
        self.pair.pump()
        self.assertEqual((self.client.data, self.server.data), (b"\xff\xff!", b"\x00!"))

    def test_disconnect(self) -> None:
        self.client.transport.write(b"lost")
        self.pair.faults.hang()
        self.pair.faults.disconnect()
        self.pair.pump()
        self.lost(self.client, ConnectionLost)
        self.lost(self.server, ConnectionLost)
        self.assertEqual(self.server.data, b"")

    def test_clear(self) -> None:
        faults = self.pair.faults
        faults.delay(5.0)
        faults.in_pieces()
        faults.drop()
        faults.refuse()
        faults.hang()
        faults.clear()
        self.client.transport.write(b"abc")
        self.pair.pump()
        self.assertEqual(self.server.pieces, [b"abc"])
        self.assertFalse(faults.refusing)


class ConnectingTests(SynchronousTestCase):
    """The making of a connection."""

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.port = self.reactor.listenTCP(0, Factory.forProtocol(Recorder))
        self.client = TsvClient(
            f"127.0.0.1:{self.port.number}", timeout=3.0, reactor=self.reactor
        )

    def connect(self, port: int | None = None) -> tuple[Any, list[Any]]:
        """A connector, and what its factory heard."""
        heard: list[Any] = []

        class Listening(Factory):
            noisy = False

            def startedConnecting(self, connector: Any) -> None:
                heard.append("started")

            def buildProtocol(self, addr: Any) -> Recorder:
                built = Recorder()
                heard.append(built)
                return built

            def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
                heard.append(reason.type)

            def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
                heard.append(reason.type)

        number = self.port.number if port is None else port
        return self.reactor.connectTCP("127.0.0.1", number, Listening(), 3.0), heard

    def test_nobody_listens(self) -> None:
        _, heard = self.connect(1)
        self.reactor.advance(0)
        self.assertEqual(heard, ["started", ConnectionRefusedError])

    def test_no_answer(self) -> None:
        self.port.faults.hang()
        _, heard = self.connect()
        self.reactor.advance(2.9)
        self.assertEqual(heard, ["started"])
        self.reactor.advance(0.1)
        self.assertEqual(heard, ["started", TimeoutError])
        self.port.faults.resume()
        self.reactor.advance(10)
        self.assertEqual(len(heard), 2)

    def test_late_answer(self) -> None:
        self.port.faults.hang()
        connector, heard = self.connect()
        self.reactor.advance(1.0)
        self.port.faults.resume()
        self.reactor.advance(10.0)
        self.assertIsInstance(heard[1], Recorder)
        self.assertEqual(connector.getDestination().port, self.port.number)
        connector.disconnect()
        self.reactor.advance(0)
        self.assertIs(heard[2], ConnectionDone)

    def test_given_up(self) -> None:
        self.port.faults.delay(1.0)
        connector, heard = self.connect()
        connector.disconnect()
        self.reactor.advance(10.0)
        self.assertEqual(len(heard), 2)
        self.assertTrue(issubclass(heard[1], ConnectError))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_server_that_turns_away(self) -> None:
        self.port.factory.buildProtocol = lambda addr: None
        _, heard = self.connect()
        self.reactor.advance(0)
        self.assertIn(ConnectionRefusedError, heard)

    def test_a_client_of_a_silent_server(self) -> None:
        answer = self.client.ping()
        self.reactor.advance(3.0)
        self.failureResultOf(answer, TimedOut)


class PairTests(SynchronousTestCase):
    """A client class is given the endpoint and the reactor."""

    def test_client_connects_when_it_likes(self) -> None:
        pair = connected_pair(Factory.forProtocol(Recorder), TsvClient, timeout=1.0)
        self.assertIsNone(pair.server)
        answer = pair.client.ping()
        pair.pump()
        self.assertEqual(pair.server.data, b"ping\n")
        pair.server.transport.write(b"1\t\n")
        self.assertIsNone(pair.wait(answer))


class RelayTests(TestCase):
    """Faults between real sockets, and wires on the loopback address."""

    timeout = 20

    async def serve(self, wire: str) -> Any:
        from labnet.lab import Lab

        self.device = FakeDevice(power=1e-3, clock=reactor)
        self.lab = Lab(reactor=reactor)
        self.lab.attach("meter", self.device)
        served = await serve_on_loopback(self.lab, wire, device="meter")
        self.addCleanup(self.lab.stop)
        self.addCleanup(served.stop)
        return served

    async def test_tsv(self) -> None:
        served = await self.serve("tsv")
        relay = await Relay(reactor, served.port).start()
        self.addCleanup(lambda: Deferred.fromCoroutine(relay.stop()))
        client = TsvClient(f"127.0.0.1:{relay.port}", persistent=True)
        self.addCleanup(client.close)
        self.assertEqual((await client.get("power")).text, "0.001")
        relay.faults.in_pieces(1)
        self.assertEqual((await client.get("power")).text, "0.001")
        relay.faults.hang("to_client")
        answer = client.get("power", timeout=0.05)
        await self.assertFailure(answer, TimedOut)
        relay.faults.clear()
        self.assertEqual((await client.get("power")).text, "0.001")

    async def test_relay_refuses_and_cuts(self) -> None:
        served = await self.serve("tsv")
        relay = await Relay(reactor, served.port).start()
        self.addCleanup(lambda: Deferred.fromCoroutine(relay.stop()))
        client = TsvClient(f"127.0.0.1:{relay.port}")
        self.addCleanup(client.close)
        relay.faults.refuse()
        await self.assertFailure(client.ping(), NotConnected)
        relay.faults.refuse(False)
        self.device.hang("power")
        answer = client.get("power")
        while not self.device.hanging:
            await turn()
        relay.faults.disconnect()
        await self.assertFailure(answer, NotConnected)
        self.device.release()

    async def test_zmq(self) -> None:
        served = await self.serve("plesty")
        client = await served.client().connect()
        self.addCleanup(lambda: Deferred.fromCoroutine(closed(client)))
        self.assertEqual(await client.query("power"), 1e-3)


async def closed(client: Any) -> None:
    await client.close()


def turn() -> Deferred[None]:
    """Fires in the next turn of the reactor."""
    later: Deferred[None] = Deferred()
    reactor.callLater(0, later.callback, None)
    return later


class VectorTests(SynchronousTestCase):
    """Files of recorded bytes."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        lines: list[dict[str, Any]] = [
            {"describes": "two cases"},
            {"case": "a", "peer": "p", "direction": "c2s", "bytes": "01"},
            {"case": "a", "peer": "p", "direction": "c2s", "bytes": "02"},
            {"case": "a", "peer": "p", "direction": "s2c", "bytes": "ff", "then": "open"},
            {"case": "b", "peer": "p", "direction": "c2s", "bytes": "03", "note": "n"},
            {"case": "b", "peer": "p", "direction": "s2c", "bytes": "", "then": "closed"},
        ]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def test_records(self) -> None:
        self.assertEqual(vector_header(self.path), {"describes": "two cases"})
        self.assertEqual([record["bytes"] for record in vectors(self.path)][:2], ["01", "02"])

    def test_exchanges(self) -> None:
        first, second = exchanges(self.path)
        self.assertEqual((first.sent, first.received), ([b"\1", b"\2"], b"\xff"))
        self.assertEqual(first.then, "open")
        self.assertEqual((second.case, second.then, second.note), ("b", "closed", "n"))
