"""The service tree: all listeners or none, and an end in bounded time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

import labnet
from labnet import lab as kernel
from labnet.config import Config, parse_config
from labnet.device import Device, parameter
from labnet.errors import DeviceFault, LabError, UnknownName
from labnet.logs import set_levels
from labnet.service import LabService, format_rows
from tests import fake_wire

ROOT = Path(__file__).resolve().parents[1]
TWO = """\
[lab]
name = bench
drain = 3
[locks]
reads = closed
grace = 7
[device gauge]
driver = fake.gauge
start = 1
[serve one]
wire = fake
listen = tcp:0
device = gauge
timeout = 2
max_connections = 5
[serve two]
wire = fake
listen = tcp:7002
devices = a: gauge
"""


class FakeListener:
    """A listener that ends when told to."""

    address = "127.0.0.1:1"
    example = "nc 127.0.0.1 1"

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self.stops = 0

    async def stop(self) -> None:
        self.stops += 1
        await self.ended


class Recorder:
    """Keeps the text of what is logged."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        test.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        test.addCleanup(set_levels)

    def lines(self, level: str) -> list[str]:
        events = [event for event in self.events if event["log_level"].name == level]
        return [formatEvent(event) for event in events]


Outcome = Callable[[], "Deferred[Any]"]


class TreeTests(SynchronousTestCase):
    """`LabService` on a clock, with listeners that do as they are told."""

    def setUp(self) -> None:
        fake_wire.install(self)
        self.clock = Clock()
        self.log = Recorder(self)
        self.ends: list[int] = []
        self.listeners: dict[str, FakeListener] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.patch(fake_wire, "listen", self.listen)

    async def listen(self, *asked: Any) -> FakeListener:
        name = asked[2].name
        self.asked.append(asked)
        if name in self.outcomes:
            await self.outcomes[name]()
        self.listeners[name] = FakeListener()
        return self.listeners[name]

    def make_lab(self, **policy: Any) -> kernel.Lab:
        self.policy = policy
        self.lab = kernel.Lab(self.clock, self.clock, **policy)
        return self.lab

    def service(self, text: str = TWO) -> LabService:
        return LabService(parse_config(text), self.ends.append, self.make_lab)

    def started(self, text: str = TWO) -> LabService:
        service = self.service(text)
        service.startService()
        return service

    def test_nothing_happens_before_the_start(self) -> None:
        service = self.service()
        self.assertIsNone(service.lab)
        self.assertEqual([child.name for child in service], ["one", "two"])
        self.assertEqual(self.asked, [])

    def test_what_the_lab_and_the_wires_are_told(self) -> None:
        self.started()
        self.assertEqual(
            (self.policy["reads_open"], self.policy["stop_open"], self.policy["grace"]),
            (False, False, 7.0),
        )
        host, address, common, options, reactor = self.asked[0]
        self.assertIs(host, self.lab)
        self.assertIs(reactor, self.clock)
        self.assertEqual(address, "tcp:0:interface=127.0.0.1:backlog=128")
        self.assertEqual((common.device, common.timeout, common.max_connections), ("gauge", 2, 5))
        self.assertEqual(options, fake_wire.Options())
        self.assertEqual(dict(self.asked[1][2].devices), {"a": "gauge"})

    def test_the_table(self) -> None:
        service = self.started()
        self.successResultOf(service.starting)
        self.assertEqual(
            self.log.lines("info"),
            [
                "bench serves at 2 addresses\n"
                "device  wire  address      try\n"
                "gauge   fake  127.0.0.1:1  nc 127.0.0.1 1\n"
                "*       fake  127.0.0.1:1  nc 127.0.0.1 1"
            ],
        )
        self.assertEqual(self.ends, [])

    def test_one_failure_ends_all(self) -> None:
        taken = OSError(98, "Address already in use")
        self.outcomes["two"] = lambda: fail(CannotListenError("127.0.0.1", 7002, taken))
        service = self.started()
        self.assertEqual(
            self.log.lines("error"),
            ["lab.ini:18: [serve two] listen: tcp:7002: Address already in use"],
        )
        self.assertEqual(self.listeners["one"].stops, 1)
        self.assertEqual(self.ends, [])
        self.listeners["one"].ended.callback(None)
        self.assertEqual(self.ends, [1])
        self.assertEqual(self.log.lines("info"), [])
        self.assertFalse(service.running)

    def test_a_failure_can_be_raised_at_once(self) -> None:
        self.outcomes["one"] = lambda: fail(LabError("no"))
        config = parse_config(TWO)
        service = LabService(config, self.ends.append, self.make_lab, raise_at_once=True)
        error = self.assertRaises(LabError, service.startService)
        self.assertEqual(str(error), "lab.ini:12: [serve one] listen: tcp:0: no")
        self.listeners["two"].ended.callback(None)
        self.assertEqual(self.ends, [1])

    def test_a_failure_waits_for_the_others(self) -> None:
        waiting: Deferred[None] = Deferred()
        self.outcomes["one"] = lambda: fail(LabError("no"))
        self.outcomes["two"] = lambda: waiting
        service = self.started()
        self.assertNoResult(service.starting)
        waiting.callback(None)
        self.assertEqual(self.listeners["two"].stops, 1)
        self.listeners["two"].ended.callback(None)
        self.assertEqual(self.ends, [1])

    def test_each_failure_is_one_line(self) -> None:
        class WordedError(Exception):
            strerror = "No such device"

        self.outcomes["one"] = lambda: fail(WordedError(19))
        self.outcomes["two"] = lambda: fail(UnknownName("gage", ["gauge"], "device"))
        self.started()
        self.assertEqual(
            self.log.lines("error"),
            [
                "lab.ini:12: [serve one] listen: tcp:0: No such device",
                "lab.ini:18: [serve two] listen: tcp:7002: unknown device 'gage'; "
                "did you mean gauge?",
            ],
        )
        self.assertEqual(self.ends, [1])

    def test_an_error_of_ours_is_logged_whole(self) -> None:
        self.outcomes["one"] = lambda: fail(ZeroDivisionError("ours"))
        self.started()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.listeners["two"].ended.callback(None)
        self.assertEqual(self.ends, [1])

    def test_a_device_that_cannot_be_made(self) -> None:
        self.started(TWO.replace("start = 1", "start = 1\ncount = 200"))
        said = "lab.ini:8: [device gauge] the device cannot be made: no more than 100 counts"
        self.assertEqual(self.log.lines("error"), [said])
        self.assertEqual((self.ends, self.asked), ([1], []))

    def test_a_time_limit_of_a_device(self) -> None:
        self.started(TWO.replace("start = 1", "start = 1\ntimeout = 30"))
        self.assertEqual(self.lab.devices()["gauge"].device_queue.limit, 30)

    def test_a_part_that_is_not_there(self) -> None:
        self.started(TWO.replace("a: gauge", "a: gauge.valu"))
        (line,) = self.log.lines("error")
        self.assertIn("[serve two] devices: unknown name in gauge: 'valu'", line)
        self.assertIn("did you mean value?", line)

    def test_stop(self) -> None:
        service = self.started()
        stopped = service.stopService()
        self.assertEqual([listener.stops for listener in self.listeners.values()], [1, 1])
        self.assertIn("gauge", self.lab.devices())
        for listener in self.listeners.values():
            self.assertNoResult(stopped)
            listener.ended.callback(None)
        self.successResultOf(stopped)
        self.assertIsNone(service.lab)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_listener_that_hangs_is_left(self) -> None:
        service = self.started()
        self.listeners["one"].ended.callback(None)
        stopped = service.stopService()
        self.clock.advance(3.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(self.log.lines("warn"), ["two has not stopped within 3.0 s"])

    def test_a_listener_that_fails_to_stop(self) -> None:
        service = self.started()
        self.listeners["one"].ended.errback(ZeroDivisionError())
        self.listeners["two"].ended.callback(None)
        self.successResultOf(service.stopService())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop_while_starting(self) -> None:
        cancelled: list[Deferred[None]] = []
        waiting: Deferred[None] = Deferred(cancelled.append)
        self.outcomes["two"] = lambda: waiting
        service = self.started()
        stopped = service.stopService()
        self.assertEqual(cancelled, [waiting])
        self.listeners["one"].ended.callback(None)
        self.successResultOf(stopped)
        self.successResultOf(service.starting)
        self.assertEqual((self.ends, self.log.lines("info")), ([], []))

    def test_start_again(self) -> None:
        service = self.started()
        for listener in self.listeners.values():
            listener.ended.callback(None)
        self.successResultOf(service.stopService())
        service.startService()
        self.successResultOf(service.starting)
        self.assertEqual(len(self.asked), 4)
        self.assertEqual(len(self.log.lines("info")), 2)

    def test_a_client_ends_the_lab(self) -> None:
        self.started()
        self.lab.shut_down("asked by 127.0.0.1")
        self.assertEqual(self.ends, [0])

    def test_a_device_that_hangs_at_the_end(self) -> None:
        service = self.started()
        self.patch(self.lab, "stop", lambda wait: Deferred())
        for listener in self.listeners.values():
            listener.ended.callback(None)
        stopped = service.stopService()
        self.clock.advance(3.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(self.log.lines("warn"), ["devices have not stopped within 3.0 s"])

    def test_log_levels(self) -> None:
        service = self.started(TWO + "[log]\ndefault = error\n")
        self.successResultOf(service.starting)
        self.assertEqual(self.log.lines("info"), [])

    def test_config_without_listeners(self) -> None:
        config = Config("x.ini")
        service = LabService(config, self.ends.append, self.make_lab)
        service.startService()
        self.successResultOf(service.stopService())


class Connected(Protocol):
    """A client that tells when it has received and when it has gone."""

    def __init__(self) -> None:
        self.received: Deferred[bytes] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received.callback(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.gone.callback(None)


class Gauge(Device):
    """A device with one value."""

    value = parameter(float, initial=1.5)


class ScriptTests(TestCase):
    """`labnet.Lab` on the real reactor."""

    timeout = 10

    def setUp(self) -> None:
        fake_wire.install(self)
        self.log = Recorder(self)
        self.lab = labnet.Lab()
        self.addCleanup(self.lab.stop)
        self.lab.add("gauge", Gauge())

    async def test_serve(self) -> None:
        from twisted.internet import reactor
        from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

        service = self.lab.serve("fake", "tcp:0", device="gauge", greeting="hi")
        service.startService()
        self.addCleanup(service.stopService)
        listener = await service.started
        assert listener is not None
        port = int(listener.address.rpartition(":")[2])
        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Connected())
        assert client.transport is not None
        client.transport.write(b"ping")
        self.assertEqual(await client.received, b"ping")
        client.transport.loseConnection()
        await client.gone
        await service.stopService()
        with self.assertRaises(ConnectionRefusedError):
            await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(Factory())

    async def test_a_port_that_is_taken(self) -> None:
        from twisted.internet import reactor
        from twisted.internet.endpoints import TCP4ServerEndpoint

        factory = Factory.forProtocol(Protocol)
        port: IListeningPort = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            factory
        )
        self.addCleanup(port.stopListening)
        number = port.getHost().port
        service = self.lab.serve("fake", f"tcp:{number}", device="gauge")
        service.startService()
        self.assertIsNone(await service.started)
        await service.stopService()
        address = f"tcp:{number}:interface=127.0.0.1:backlog=128"
        self.assertEqual(
            self.log.lines("critical"), [f"fake at {address}: Address already in use"]
        )

    async def test_all_devices(self) -> None:
        service = self.lab.serve("fake")
        self.assertEqual(service.common.devices, {"gauge": "gauge"})
        self.assertEqual(service.shown_device, "*")
        self.assertTrue(service.address.startswith("tcp:7000:"))
        self.assertRaises(UnknownName, self.lab.serve, "fakke")
        self.assertRaises(TypeError, self.lab.serve, "fake", greting="hi")

    async def test_the_script_is_a_client_too(self) -> None:
        session = self.lab.session()
        self.addCleanup(session.close)
        reading = await session.get("gauge.value")
        self.assertEqual(reading.value, 1.5)

    async def test_a_device_that_fails_at_the_end(self) -> None:
        class Broken(Gauge):
            def disconnect(self) -> None:
                raise DeviceFault("the cable is out")

        lab = labnet.Lab()
        lab.add("broken", Broken())
        await lab.stop()
        (line,) = self.log.lines("warn")
        self.assertIn("the cable is out", line)


class ImportTests(SynchronousTestCase):
    """`import labnet` is cheap."""

    def loaded(self, code: str) -> set[str]:
        script = f"{code}\nimport sys\nprint(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
        )
        return set(done.stdout.split())

    def test_labnet_alone(self) -> None:
        loaded = self.loaded("import labnet")
        self.assertFalse(loaded & {"numpy", "twisted", "labnet.lab"})

    def test_its_names_leave_the_choice_of_reactor(self) -> None:
        loaded = self.loaded("from labnet import Lab, Device, parameter, command, Identity")
        self.assertNotIn("twisted.internet.reactor", loaded)

    def test_names(self) -> None:
        for name in labnet.__all__:
            self.assertEqual(getattr(labnet, name).__name__, name)
        self.assertRaises(AttributeError, getattr, labnet, "Labb")


class RowTests(SynchronousTestCase):
    """Columns."""

    def test_columns(self) -> None:
        rows = [("a", "bb", "c"), ("aaa", "b", "")]
        self.assertEqual(format_rows(rows), ["a    bb  c", "aaa  b"])
