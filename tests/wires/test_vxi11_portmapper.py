"""The port mapper: recorded questions, our answers, and registration with another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from labnet.errors import LabError, NotConnected
from labnet.framing.xdr import RecordSplitter, encode_mark, encode_uint
from labnet.transports.admission import Admission
from labnet.transports.listening import CannotListen
from labnet.wires.vxi11 import rpc
from labnet.wires.vxi11.codec import Program
from labnet.wires.vxi11.portmap import PortmapClient
from labnet.wires.vxi11.portmapper import (
    Directory,
    OwnPortmapper,
    PortmapDatagrams,
    PortmapProtocol,
    Registration,
    broadcasts_of,
    publish,
)
from labnet.wires.vxi11.rpc import PORTMAPPER, TCP, UDP, Mapping, Port, encode_call
from tests.wires.vectors import records

CORE = Mapping(Program.CORE, 1, TCP, 9010)


def questions(channel: str) -> list[tuple[str, bytes, bytes]]:
    """Name, question and rpcbind's answer."""
    found: list[tuple[str, bytes, bytes]] = []
    for record in records("vxi11"):
        if record["channel"] != channel:
            continue
        data = bytes.fromhex(record["bytes"])
        if record["direction"] == "client-to-server":
            found.append((record["case"], data, b""))
        else:
            found[-1] = (found[-1][0], found[-1][1], data)
    return found


class AnswerTests(SynchronousTestCase):
    def directory(self, answer: bytes) -> Directory:
        """One that knows the port that was answered."""
        port = int.from_bytes(answer[-4:], "big")
        known = [Mapping(PORTMAPPER, 2, protocol, 111) for protocol in (TCP, UDP)]
        return Directory([*known, CORE._replace(port=port)])

    def same(self, case: str, answer: bytes, rpcbinds: bytes) -> None:
        if case == "DUMP":  # rpcbind is there in three versions
            self.assertEqual(answer[:24], rpcbinds[: len(answer[:24])])
        elif case == "version 9":  # and answers for three
            self.assertEqual(answer[:-4], rpcbinds[:-4])
            self.assertEqual(answer[-4:], encode_uint(2))
        elif case in ("SET", "UNSET", "GETPORT of it"):  # we know our own programs only
            self.assertEqual(answer, rpcbinds[:-4] + encode_uint(0))
        else:
            self.assertEqual(answer, rpcbinds, case)

    def test_recorded_streams(self) -> None:
        found = questions("pmap-tcp")
        self.assertGreater(len(found), 14)
        for size in (1, 7, 1000):
            for case, question, answer in found:
                if case == "DUMP" and answer:
                    continue
                protocol = PortmapProtocol(self.directory(answer), MemoryReactorClock(), None)
                transport = StringTransport()
                protocol.makeConnection(transport)
                for at in range(0, len(question), size):
                    protocol.dataReceived(question[at : at + size])
                self.same(case, transport.value(), answer)

    def test_recorded_datagrams(self) -> None:
        found = questions("pmap-udp")
        self.assertGreater(len(found), 8)
        for case, question, answer in found:
            if case == "DUMP":
                continue
            sent = self.ask(self.directory(answer), question)
            self.assertEqual(sent[1], ("10.1.1.1", 999))
            self.same(case, sent[0], answer)

    def ask(self, directory: Directory, question: bytes) -> Any:
        written: list[Any] = []
        protocol = PortmapDatagrams(directory, Admission("udp:111"))

        class Transport:
            def write(self, data: bytes, addr: Any) -> None:
                written.append((data, addr))

        protocol.transport = Transport()  # type: ignore[assignment]
        protocol.datagramReceived(question, ("10.1.1.1", 999))
        return written[0] if written else None

    def test_dump(self) -> None:
        directory = Directory([CORE, CORE._replace(program=Program.ABORT, port=1)])
        answer = directory.answer(encode_call(1, PORTMAPPER, 2, Port.DUMP)[4:])
        (record,) = RecordSplitter(200).feed(answer)
        self.assertEqual(rpc.read_mappings(rpc.read_reply(record).results()), directory.mappings)

    def test_silence(self) -> None:
        directory = Directory([CORE])
        callit = encode_call(1, PORTMAPPER, 2, Port.CALLIT, bytes(16))[4:]
        for question in (callit, b"", b"nonsense", rpc.encode_reply(1)[4:]):
            self.assertIsNone(self.ask(directory, question), question)

    def test_garbage(self) -> None:
        answer = self.ask(Directory([CORE]), encode_call(1, PORTMAPPER, 2, Port.GETPORT)[4:])
        self.assertEqual(answer[0][-4:], encode_uint(rpc.Accept.GARBAGE_ARGS))
        protocol = PortmapProtocol(Directory([CORE]), MemoryReactorClock(), None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(encode_mark(1 << 30))
        self.assertTrue(transport.disconnecting)

    def test_ports(self) -> None:
        directory = Directory([CORE, CORE._replace(version=2, port=2)])
        self.assertEqual(directory.port_of(CORE._replace(version=2)), 2)
        self.assertEqual(directory.port_of(CORE._replace(version=9)), 9010)
        self.assertEqual(directory.port_of(CORE._replace(protocol=UDP)), 0)
        self.assertEqual(directory.port_of(CORE._replace(program=7)), 0)

    def test_broadcasts(self) -> None:
        self.assertEqual(broadcasts_of("0.0.0.0"), [])
        self.assertEqual(broadcasts_of("::1"), [])
        self.assertEqual(broadcasts_of("127.0.0.1"), ["127.255.255.255"])
        self.assertEqual(broadcasts_of("203.0.113.9"), ["255.255.255.255"])


class Registrar(Directory):
    """A port mapper that lets others register, as rpcbind does."""

    willing = True

    def _answer(self, call: Any) -> bytes:
        if call.procedure not in (Port.SET, Port.UNSET):
            return super()._answer(call)
        mapping = rpc.read_mapping(call.arguments())
        known = [it for it in self.mappings if it[:2] == mapping[:2]]
        if call.procedure == Port.UNSET:
            self.mappings = [it for it in self.mappings if it not in known]
            return rpc.encode_reply(call.xid, encode_uint(bool(known)))
        granted = self.willing and not known
        if granted:
            self.mappings.append(mapping)
        return rpc.encode_reply(call.xid, encode_uint(granted))


class PublishTests(TestCase):
    """On real sockets, at any port."""

    timeout = 20

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor

    async def publish(self, how: Any, port: int, *mappings: Mapping) -> Any:
        publication = await publish(
            how, mappings or (CORE,), "127.0.0.1", port=port, reactor=self.reactor
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(publication.stop()))
        return publication

    async def own(self) -> Any:
        publication = await self.publish("own", 0)
        self.assertIsInstance(publication, OwnPortmapper)
        return publication

    def client(self, port: int) -> PortmapClient:
        return PortmapClient("127.0.0.1", port, timeout=5, reactor=self.reactor)

    async def test_own(self) -> None:
        publication = await self.own()
        number = publication.port.getHost().port
        client = self.client(number)
        self.assertTrue(publication.found)
        self.assertEqual(await client.get_port(CORE), 9010)
        self.assertEqual(await client.get_port(CORE._replace(program=7)), 0)
        self.assertFalse(await client.set(CORE._replace(program=7)))
        self.assertFalse(await client.unset(CORE))
        known = await client.dump()
        self.assertEqual(known, [(PORTMAPPER, 2, TCP, number), (PORTMAPPER, 2, UDP, number), CORE])

    async def test_datagrams_and_broadcasts(self) -> None:
        number = (await self.own()).port.getHost().port
        for address in ("127.0.0.1", "127.255.255.255"):
            asker = Asker()
            port = self.reactor.listenUDP(0, asker, interface="127.0.0.1")
            self.addCleanup(port.stopListening)
            port.setBroadcastAllowed(True)
            question = encode_call(5, PORTMAPPER, 2, Port.GETPORT, CORE.encode())[4:]
            port.write(question, (address, number))
            data, source = await asker.answer.addTimeout(5, self.reactor)
            self.assertEqual(data[-4:], encode_uint(9010))
            self.assertEqual(source, ("127.0.0.1", number), "where one can connect to")

    async def test_a_port_in_use(self) -> None:
        number = (await self.own()).port.getHost().port
        with self.assertRaises(CannotListen):
            await publish("own", (CORE,), "127.0.0.1", port=number, reactor=self.reactor)

    async def registrar(self, *mappings: Mapping) -> tuple[Registrar, int]:
        publication = await self.own()
        directory = Registrar(mappings)
        publication._listener._gate._factory._directory = directory
        return directory, publication.port.getHost().port

    async def test_register(self) -> None:
        directory, number = await self.registrar()
        for how in ("rpcbind", "auto"):
            publication = await self.publish(how, number)
            self.assertIsInstance(publication, Registration)
            self.assertEqual(directory.mappings, [CORE])
            await publication.stop()
            self.assertEqual(directory.mappings, [])

    async def test_what_a_dead_server_has_left(self) -> None:
        directory, number = await self.registrar(CORE._replace(port=1))
        await self.publish("auto", number)
        self.assertEqual(directory.mappings, [CORE])

    async def test_another_server_that_lives(self) -> None:
        directory, number = await self.registrar()
        directory.mappings = [CORE._replace(port=number)]
        said = self.warnings()
        publication = await self.publish("auto", number)
        self.assertFalse(publication.found)
        self.assertEqual(directory.mappings, [CORE._replace(port=number)])
        self.assertIn(f"another VXI-11 server already, at port {number}", said()[0])
        self.assertIn("TCPIP::host,9010::INSTR", said()[0])

    async def test_a_refusal(self) -> None:
        directory, number = await self.registrar()
        directory.willing = False
        said = self.warnings()
        self.assertFalse((await self.publish("auto", number)).found)
        self.assertIn("refuses", said()[0])

    async def test_no_rpcbind(self) -> None:
        publication = await self.own()
        number = publication.port.getHost().port
        await publication.stop()
        said = self.warnings()
        self.assertFalse((await self.publish("rpcbind", number)).found)
        self.assertEqual(len(said()), 1)
        auto = await self.publish("auto", number)
        self.assertIsInstance(auto, OwnPortmapper)
        self.assertEqual(await self.client(number).get_port(CORE), 9010)

    async def test_a_port_that_may_not_be_opened(self) -> None:
        from labnet.wires.vxi11 import portmapper

        async def refuse(*args: Any) -> Any:
            raise CannotListen("tcp:111", "this user may not open it")

        publication = await self.own()
        number = publication.port.getHost().port
        await publication.stop()
        self.patch(portmapper, "own", refuse)
        said = self.warnings()
        self.assertFalse((await self.publish("auto", number)).found)
        self.assertIn("ip_unprivileged_port_start", said()[0])
        self.assertEqual(len(said()), 1)

    async def test_none(self) -> None:
        self.assertFalse((await self.publish("none", 111)).found)

    async def test_nobody_answers(self) -> None:
        publication = await self.own()
        number = publication.port.getHost().port
        await publication.stop()
        with self.assertRaises(NotConnected):
            await self.client(number).get_port(CORE)
        with self.assertRaises(LabError):
            await PortmapClient("203.0.113.1", 1, timeout=0.05, reactor=self.reactor).dump()

    def warnings(self) -> Callable[[], list[str]]:
        """What is logged from now on by the port mapper."""
        from labnet.wires.vxi11 import portmapper

        said: list[str] = []

        def warn(format: str, **fields: Any) -> None:
            said.append(format.format(**fields))

        self.patch(portmapper.log, "warn", warn)
        return lambda: said


class Asker:
    """Asks by UDP."""

    noisy = False

    def __init__(self) -> None:
        self.answer: Deferred[Any] = Deferred()

    def makeConnection(self, transport: Any) -> None:
        """Bound."""

    def doStop(self) -> None:
        """Closed."""

    def datagramReceived(self, data: bytes, addr: Any) -> None:
        self.answer.callback((data, addr))
