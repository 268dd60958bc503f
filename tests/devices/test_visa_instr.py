"""``driver = visa``: instruments with END, behind pyvisa-py and another lab, and pyvisa-sim."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from labnet.devices.declared import parse_declarations
from labnet.devices.simulated.dmm import Dmm
from labnet.devices.simulated.linktester import LinkTester
from labnet.devices.visa.device import VisaDevice
from labnet.devices.visa.session import VisaSession
from labnet.devices.visa.settings import Settings
from labnet.errors import DeviceFault, LabError, Locked, NotConnected, OutOfRange, TimedOut
from labnet.service import Lab
from labnet.supervision import Retry

SIMULATION = Path(__file__).resolve().parents[1] / "interop" / "drivers" / "supply.yaml"


class FarLab(TestCase):
    """A lab with a VISA device whose instrument is served by another lab."""

    timeout = 30
    wire = "vxi11"

    async def setUp(self) -> None:  # type: ignore[override]
        self.far = Lab()
        self.addCleanup(self.far.stop)
        self.tester = LinkTester()
        self.far.add("dmm", Dmm())
        self.far.add("linktester", self.tester)
        await self.listen("tcp:0")

    async def listen(self, where: str) -> None:
        """Serves both devices."""
        self.service = self.far.serve(self.wire, where, devices=self.names(), **self.options())
        self.service.startService()
        self.addCleanup(self.stop_listening)
        listener: Any = await self.service.started
        self.assertIsNotNone(listener)
        self.port: int = listener.port.getHost().port

    async def stop_listening(self) -> None:
        if self.service.running:
            await self.service.stopService()

    def names(self) -> dict[str, str]:
        return {"inst0": "dmm", "inst1": "linktester"}

    def options(self) -> dict[str, Any]:
        return {"portmapper": "none"}

    def resource(self, number: int) -> str:
        return f"TCPIP::127.0.0.1,{self.port}::inst{number}::INSTR"

    def near(self, number: int, **options: Any) -> Any:
        """A session of a client of the VISA device."""
        options = {"io_timeout": 5.0, "service_interval": 0.02} | options
        lab = Lab(retry=Retry(0.01, 0.05))
        self.addCleanup(lab.stop)
        lab.add("it", VisaDevice(self.resource(number), **options))
        self.kernel = lab.host
        return lab.session(device="it")

    async def test_queries_and_identity(self) -> None:
        declared = parse_declarations({"parameter volts": '"MEAS:VOLT:DC?", float, V'})
        session = self.near(0, declared=declared)
        self.assertGreater((await session.get("volts")).value, 0)
        self.assertIn("labnet", (await session.call("ask", "*IDN?")))
        self.assertEqual(await session.call("ask", "*IDN?"), str(session.describe().identity))

    async def test_blocks_of_all_sizes(self) -> None:
        session = self.near(1, chunk_size=1000)
        for size in (0, 1, 989, 990, 991, 1000, 5000, 300_000):
            block = await session.call("ask_block", f"TEST:BLOCK? {size}")
            self.assertEqual(len(block), size)
            self.assertEqual(zlib.crc32(block), zlib.crc32(bytes(n & 255 for n in range(size))))

    async def test_a_long_message(self) -> None:
        session = self.near(1)
        channel = session.channel()
        data = bytes(range(256)) * 1000
        await channel.execute(b"TEST:LOAD #6256000" + data)
        answer = await channel.execute(b"TEST:LOAD:SUM?")
        self.assertEqual(answer.split(b",")[:2], [b"256000", b"%d" % zlib.crc32(data)])

    async def test_an_answer_that_comes_late(self) -> None:
        """A device clear and a question with a known answer come before the next message."""
        session = self.near(1, io_timeout=0.15)
        self.assertEqual(await session.call("ask", 'TEST:ECHO? "a"'), '"a"')
        error = await self.assertFailure(session.call("ask", "TEST:WAIT? 0.5"), TimedOut)
        self.assertIn("TEST:WAIT? 0.5", str(error))
        for text in ('"b"', '"c"'):
            while True:
                try:
                    answer = await session.call("ask", f"TEST:ECHO? {text}")
                    break
                except TimedOut:  # it is still at it
                    pass
            self.assertEqual(answer, text)

    async def test_status_byte_trigger_and_clear(self) -> None:
        session = self.near(1)
        channel = session.channel()
        await channel.execute(b"*SRE 0")
        self.assertEqual(await channel.status_byte() & 0x40, 0)
        before = int(await channel.execute(b"TEST:TRIG?"))
        await channel.trigger()
        self.assertEqual(int(await channel.execute(b"TEST:TRIG?")), before + 1)
        channel.clear()
        self.assertEqual(await channel.execute(b'TEST:ECHO? "x"'), b'"x"')

    async def test_service_requests_by_polls(self) -> None:
        session = self.near(1)
        channel = session.channel()
        asked: Deferred[int] = Deferred()
        channel.on_service_request(asked.callback)
        channel.enable_service(True)
        await channel.execute(b"*SRE 1")
        await channel.execute(b"TEST:SRQ 0.01")
        self.assertTrue(await asked & 0x40)

    async def test_lost_and_back(self) -> None:
        session = self.near(0, io_timeout=0.5)
        await session.call("ask", "*IDN?")
        where = f"tcp:{self.port}"
        await self.service.stopService()
        await self.assertFailure(session.call("ask", "*IDN?"), LabError)
        await self.listen(where)
        back: Deferred[None] = Deferred()

        def heard(updates: list[Any]) -> None:
            if any(update.what == "back" for update in updates) and not back.called:
                back.callback(None)

        session.subscribe(["it"], heard)
        try:
            answer = await session.call("ask", "*IDN?")
        except LabError:
            await back
            answer = await session.call("ask", "*IDN?")
        self.assertIn("labnet", answer)
        self.flushLoggedErrors()


class Vxi11Tests(FarLab):
    """``TCPIP::...::inst0::INSTR``"""

    async def test_the_instruments_own_lock(self) -> None:
        session = self.near(0, lock=True)
        await session.call("ask", "*IDN?")
        other = self.far.session(device="dmm")
        await session.lock(["it"])
        self.assertEqual(len(other.lock_info()), 1)
        self.assertIn("labnet", await session.call("ask", "*IDN?"))
        session.unlock()
        await self.until_free(other)
        held = await other.lock(["dmm"])
        self.assertTrue(held)
        await self.assertFailure(session.lock(["it"]), Locked, DeviceFault)
        other.close()

    async def until_free(self, other: Any) -> None:
        """Until the lock is given back, which the lab does not wait for."""
        grant = await other.lock(["dmm"], wait=5.0)
        self.assertTrue(grant)
        other.unlock()


class HislipTests(FarLab):
    """``TCPIP::...::hislip0::INSTR``"""

    wire = "hislip"

    def names(self) -> dict[str, str]:
        return {"hislip0": "dmm", "hislip1": "linktester"}

    def options(self) -> dict[str, Any]:
        return {}

    def resource(self, number: int) -> str:
        return f"TCPIP::127.0.0.1::hislip{number},{self.port}::INSTR"


class SocketTests(FarLab):
    """``TCPIP::...::SOCKET``"""

    wire = "scpi"

    async def listen(self, where: str) -> None:
        self.ports = []
        for device in ("dmm", "linktester"):
            self.service = self.far.serve("scpi", where, device=device)
            self.service.startService()
            self.addCleanup(self.service.stopService)
            listener: Any = await self.service.started
            self.ports.append(listener.port.getHost().port)

    def resource(self, number: int) -> str:
        return f"TCPIP::127.0.0.1::{self.ports[number]}::SOCKET"

    async def test_lost_and_back(self) -> None:
        """See the scripted instruments."""

    async def test_service_requests_by_polls(self) -> None:
        """A raw socket has no service requests; polls may be asked for."""
        device = VisaDevice(self.resource(1))
        self.assertNotIn("status_byte", device.members)
        self.assertIn("status_byte", VisaDevice(self.resource(1), service="poll").members)


del FarLab


class SimulationTests(TestCase):
    """pyvisa-sim: dialogues and properties, and operations that it has not."""

    timeout = 30

    def setUp(self) -> None:
        try:
            import pyvisa_sim  # type: ignore[import-untyped]  # noqa: F401
        except ImportError:
            raise SkipTest("install what the tests need: pip install -e '.[test]'") from None

    def session(self, resource: str, **options: Any) -> Any:
        declared = parse_declarations(
            {
                "parameter current": "CURR?, float, A",
                "parameter limit": "LIM?, LIM {value}, float, A, 0.1..5",
                "parameter tracking": "TRAC?, TRAC {value}, NONE | SER | PAR",
                "parameter output": "OUTP?, OUTP {value}, bool",
                "parameter trace": "TRACE?, array, V",
                "command zero": "ZERO",
            }
        )
        options = {"io_timeout": 0.2} | options
        lab = Lab(retry=Retry(0.01, 0.05))
        self.addCleanup(lab.stop)
        backend = f"{SIMULATION}@sim"
        lab.add("it", VisaDevice(resource, backend=backend, declared=declared, **options))
        return lab.session(device="it")

    async def test_every_kind_of_resource(self) -> None:
        for resource, options in (
            ("GPIB0::7::INSTR", {}),
            ("TCPIP0::supply::inst0::INSTR", {}),
            ("TCPIP0::supply::5025::SOCKET", {}),
            ("ASRL1::INSTR", {}),
        ):
            session = self.session(resource, read_termination=b"\n", **options)
            self.assertEqual((await session.get("current")).value, 0.25, resource)
            self.assertEqual((await session.set("limit", 2.5)).value, 2.5)
            self.assertEqual((await session.get("limit")).value, 2.5)
            self.assertEqual((await session.get("trace")).value.tolist(), [1.0, 2.0, 3.5])
            self.assertEqual(session.describe().identity.serial, "S-7")

    async def test_limits_and_choices(self) -> None:
        session = self.session("GPIB0::7::INSTR", read_termination=b"\n")
        await self.assertFailure(session.set("limit", 9.0), OutOfRange)
        await self.assertFailure(session.set("tracking", "LOOSE"), OutOfRange)
        await session.set("tracking", "SER")
        self.assertEqual((await session.get("tracking")).value, "SER")
        await session.set("output", True)
        self.assertIs((await session.get("output")).value, True)
        await session.call("zero")

    async def test_a_query_without_an_answer(self) -> None:
        session = self.session("GPIB0::7::INSTR", read_termination=b"\n")
        await self.assertFailure(session.call("ask", "SILENT?"), TimedOut, LabError)
        self.assertEqual((await session.get("current")).value, 0.25)

    async def test_what_the_library_has_not(self) -> None:
        session = self.session("GPIB0::7::INSTR", read_termination=b"\n")
        self.assertEqual((await session.get("current")).value, 0.25)
        channel = session.channel()
        await channel.trigger()  # as *TRG
        self.assertEqual(channel.status.error_count, 0)
        self.assertEqual((await session.get("current")).value, 0.25)

    async def test_a_resource_that_is_not_there(self) -> None:
        session = self.session("GPIB0::9::INSTR", read_termination=b"\n")
        error = await self.assertFailure(session.get("current"), NotConnected)
        self.assertIn("GPIB0::9::INSTR", str(error))
        self.flushLoggedErrors()


class EventTests(SynchronousTestCase):
    """Service requests by events, for libraries that have them."""

    def device(self, works: bool, **options: Any) -> VisaDevice:
        device = VisaDevice("GPIB0::7::INSTR", identify=False, **options)
        self.handlers: list[Any] = []
        self.enabled: list[Any] = []
        test = self

        class Resource:
            def wrap_handler(self, function: Any) -> Any:
                return function

            def install_handler(self, event: Any, handler: Any) -> None:
                if not works:
                    raise NotImplementedError
                test.handlers.append(handler)

            def enable_event(self, event: Any, mechanism: Any) -> None:
                test.enabled.append((event.name, mechanism.name))

        class Library:
            resource = Resource()

            def close(self) -> None: ...

        def opened(session: VisaSession) -> None:
            session._library = Library()  # type: ignore[assignment]

        with patch.object(VisaSession, "open", opened):
            device.connect()
        return device

    def test_events(self) -> None:
        device = self.device(True)
        self.assertEqual(self.enabled, [("service_request", "handler")])
        self.assertIsNone(device.members["status_byte"].spec.poll)  # type: ignore[union-attr]
        self.handlers[0](None, None, None)
        self.assertEqual(device.service_request, 0x40)

    def test_polls_where_there_are_none(self) -> None:
        device = self.device(False)
        self.assertEqual(device.members["status_byte"].spec.poll, 0.5)  # type: ignore[union-attr]

    def test_events_or_nothing(self) -> None:
        error = self.assertRaises(NotConnected, self.device, False, service="event")
        self.assertIn("set service = poll", str(error))

    def test_bad_settings(self) -> None:
        self.assertRaises(ValueError, Settings, "TCPIP::h::5::SOCKET", read_end=b"")
