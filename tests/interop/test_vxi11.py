"""The vxi11 wire of a running lab: pyvisa-py, python-vxi11, lxi-tools, rpcbind, labnet's client."""

from __future__ import annotations

import re
import signal
import socket
import struct
import zlib
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from labnet.errors import Locked, TimedOut
from labnet.wires.hislip.client import HislipClient
from labnet.wires.scpi.client import ScpiClient
from labnet.wires.vxi11 import codec
from labnet.wires.vxi11.client import Vxi11Client
from labnet.wires.vxi11.codec import Program
from labnet.wires.vxi11.rpc import encode_call
from tests.interop.lab import ROOT, TWISTD, LabProcess, start_lab
from tests.interop.namespace import Namespace
from tests.interop.peers import DRIVERS, PeerError, PeerProcess, peer, start, tool
from tests.interop.processes import Finished, LineChild, run

LAB = """
[lab]
name = interop
[device dmm]
driver = simulated.dmm
[device linktester]
driver = simulated.linktester
[serve vxi11]
wire = vxi11
listen = tcp:0
devices = inst0: dmm, inst1: linktester
portmapper = none
"""
MORE = """
[serve hislip]
wire = hislip
listen = tcp:0
devices = hislip0: dmm, hislip1: linktester
[serve linktester-scpi]
wire = scpi
listen = tcp:0
device = linktester
"""
DEVICES = "*"
IDENTITY = "labnet,SIM-LINK,L0000001,1.0"
DMM = "labnet,SIM-DMM,D0000001,1.0"


def pattern(size: int) -> bytes:
    """The block of that size that the link tester makes."""
    return bytes(range(256)) * (size // 256) + bytes(range(size % 256))


def answer_sum(size: int) -> list[int]:
    """Length and CRC-32 of the answer to ``TEST:BLOCK? <size>``."""
    answer = b"#%d%d%b\n" % (len(str(size)), size, pattern(size))
    return [len(answer), zlib.crc32(answer)]


class LabCase(TestCase):
    """A lab whose core port the clients are told."""

    timeout = 90

    async def begin(self, config: str = LAB) -> None:
        self.lab = start_lab(self, config)
        self.port = await self.lab.port(DEVICES, "vxi11")

    def client(self, device: str = "inst1", **options: Any) -> Vxi11Client:
        """labnet's own."""
        options = {"timeout": 10.0, **options}
        client = Vxi11Client("127.0.0.1", device, port=self.port, **options)
        self.addCleanup(client.close)
        return client


class VisaTests(LabCase):
    """pyvisa with pyvisa-py, by ``host,port``."""

    async def setUp(self) -> None:  # type: ignore[override]
        peer("pyvisa-py")
        await self.begin(LAB + MORE)
        self.visa = self.driver()

    def driver(self) -> PeerProcess:
        return start(self, "pyvisa-py", "visa_client")

    def opening(
        self, name: str, device: str = "inst1", visa: PeerProcess | None = None, **options: Any
    ) -> Deferred[Any]:
        resource = f"TCPIP::127.0.0.1,{self.port}::{device}::INSTR"
        # By default pyvisa-py gives up connecting after a tenth of a second.
        options = {"timeout": 10_000, "open_timeout": 5000, **options}
        asked: Deferred[Any] = (visa or self.visa).ask("open", name, resource, **options)
        return asked

    async def query(self, name: str, message: str, visa: PeerProcess | None = None) -> str:
        answer: str = await (visa or self.visa).ask("query", name, message)
        return answer.strip()

    async def fails(self, asked: Deferred[Any], abbreviation: str) -> None:
        failure = await self.assertFailure(asked, PeerError)
        self.assertEqual(failure.details.get("abbreviation"), abbreviation, failure)

    async def test_devices(self) -> None:
        for name, identity in (("inst0", DMM), ("inst1", IDENTITY), ("INST1", IDENTITY)):
            await self.opening(name, name)
            self.assertEqual(await self.query(name, "*IDN?"), identity)
        self.assertTrue(-20 < float(await self.query("inst0", "MEAS:VOLT:DC?")) < 20)
        failure = await self.assertFailure(self.opening("x", "inst7"), PeerError)
        self.assertIn("error creating link: 3", failure.text)

    async def test_many_queries(self) -> None:
        await self.opening("a", read_termination="\n", write_termination="\n")
        for number in range(300):
            answer = await self.visa.ask("query", "a", f'TEST:ECHO? "{number}"')
            self.assertEqual(answer, f'"{number}"')
        self.assertEqual(await self.query("a", "SYST:ERR?"), '0,"No error"')

    async def test_blocks(self) -> None:
        for chunk in (20_480, 1 << 20):
            name = f"chunk {chunk}"
            await self.opening(name, chunk_size=chunk)
            for size in (0, 1, 1000, 1_000_000, 3_000_000):
                values = await self.visa.ask(
                    "query_binary", name, f"TEST:BLOCK? {size}", datatype="B"
                )
                self.assertEqual(zlib.crc32(bytes(values)), zlib.crc32(pattern(size)))
            for size in (1000, 1_048_560, 1_048_576, 2_500_000):
                data = pattern(size)
                await self.visa.ask("write_binary", name, "TEST:LOAD ", list(data), datatype="B")
                loaded = f"{size},{zlib.crc32(data)}"
                self.assertEqual(await self.query(name, "TEST:LOAD:SUM?"), loaded)

    async def test_timeout_and_recovery(self) -> None:
        await self.opening("a", timeout=500)
        await self.fails(self.visa.ask("query", "a", "TEST:WAIT? 20"), "VI_ERROR_TMO")
        await self.visa.ask("clear", "a")
        self.assertEqual(await self.query("a", "*IDN?"), IDENTITY)
        await self.fails(self.visa.ask("read", "a"), "VI_ERROR_TMO")
        self.assertEqual(await self.query("a", "*IDN?"), IDENTITY, "a read too much harms nothing")
        await self.fails(self.visa.ask("query", "a", "TEST:WAIT? 700 MS"), "VI_ERROR_TMO")
        self.assertEqual(await self.query("a", "*IDN?"), IDENTITY, "and so does a late answer")

    async def test_status_trigger_clear(self) -> None:
        await self.opening("a")
        await self.visa.ask("write", "a", "*IDN?")
        self.assertEqual(await self.visa.ask("read_stb", "a"), 16)
        await self.visa.ask("clear", "a")
        self.assertEqual(await self.visa.ask("read_stb", "a"), 0)
        before = int(await self.query("a", "TEST:TRIG?"))
        await self.visa.ask("trigger", "a")
        self.assertEqual(int(await self.query("a", "TEST:TRIG?")), before + 1)
        await self.visa.ask("write", "a", "*SRE 1;TEST:SRQ")
        while not (status := await self.visa.ask("read_stb", "a")):
            pass  # the device asks a turn after it has taken the message
        self.assertEqual(status, 65)
        self.assertEqual(await self.visa.ask("read_stb", "a"), 0)

    async def test_locks(self) -> None:
        await self.opening("a")
        await self.opening("b")
        await self.visa.ask("lock", "a", 1000)
        for verb, *arguments in (("lock", 1000), ("read_stb",), ("clear",), ("trigger",)):
            await self.fails(self.visa.ask(verb, "b", *arguments), "VI_ERROR_RSRC_LOCKED")
        await self.fails(self.visa.ask("unlock", "b"), "VI_ERROR_SESN_NLOCKED")
        await self.fails(self.visa.ask("query", "b", "*IDN?"), "VI_ERROR_IO")
        self.assertEqual(await self.query("a", "*IDN?"), IDENTITY)
        await self.visa.ask("unlock", "a")
        self.assertEqual(await self.query("b", "*IDN?"), IDENTITY)

    async def test_a_killed_client_leaves_nothing(self) -> None:
        other = self.driver()
        await self.opening("a")
        await self.opening("b", visa=other)
        await self.visa.ask("lock", "a", 1000)
        waiting = self.client().lock(wait=30)
        await self.fails(other.ask("lock", "b", 1000), "VI_ERROR_RSRC_LOCKED")
        await self.visa.kill()
        await waiting

    async def test_the_lab_stops(self) -> None:
        await self.opening("a", timeout=500)
        await self.query("a", "*IDN?")
        await self.lab.stop()
        await self.fails(self.visa.ask("query", "a", "*IDN?"), "VI_ERROR_IO")

    async def test_64_sessions(self) -> None:
        drivers = [self.driver() for _ in range(4)]
        names = [(f"s{number}", drivers[number % 4]) for number in range(64)]
        await gatherResults([self.opening(name, visa=visa) for name, visa in names])
        answers = await gatherResults(
            [visa.ask("query", name, f'TEST:ECHO? "{name}"') for name, visa in names]
        )
        self.assertEqual([it.strip() for it in answers], [f'"{name}"' for name, _ in names])

    async def test_locks_of_other_wires(self) -> None:
        """A HiSLIP key that two sessions share keeps links out, and so does a raw socket's lock."""
        hislip = await self.lab.port(DEVICES, "hislip")
        first, second = (
            HislipClient("127.0.0.1", hislip, "hislip1", timeout=10.0) for _ in range(2)
        )
        for client in (first, second):
            self.addCleanup(client.close)
            await client.lock(key="ours")
        await self.opening("a", timeout=2000)
        await self.fails(self.visa.ask("lock", "a", 1000), "VI_ERROR_RSRC_LOCKED")
        patient = self.client(lock_timeout=30.0).query("*IDN?")
        await first.unlock()
        await self.fails(self.visa.ask("read_stb", "a"), "VI_ERROR_RSRC_LOCKED")
        self.assertEqual(await second.query("*IDN?"), IDENTITY)
        await second.unlock()
        self.assertEqual(await patient, IDENTITY)
        await self.visa.ask("lock", "a", 1000)
        raw = ScpiClient(f"127.0.0.1:{await self.lab.port('linktester', 'scpi')}")
        self.addCleanup(raw.close)
        await raw.write('TEST:ECHO? "mine"')
        self.assertRegex(await raw.query("SYST:ERR?"), "^-203,.*locked by")

    async def test_two_wires_ask_one_device(self) -> None:
        """Thousands of times at once; nobody gets another one's answer."""
        raw = ScpiClient(f"127.0.0.1:{await self.lab.port('linktester', 'scpi')}")
        self.addCleanup(raw.close)
        ours = self.client()

        async def ask(client: Any, mark: str) -> None:
            for number in range(1500):
                text = f'"{mark}{number}"'
                self.assertEqual(await client.query(f"TEST:ECHO? {text}"), text)

        await gatherResults(
            [Deferred.fromCoroutine(ask(raw, "raw")), Deferred.fromCoroutine(ask(ours, "link"))]
        )


class PythonVxi11Tests(LabCase):
    """python-vxi11, told the port."""

    async def setUp(self) -> None:  # type: ignore[override]
        peer("python-vxi11")
        await self.begin()
        self.vxi11 = self.driver()

    def driver(self) -> PeerProcess:
        return start(self, "python-vxi11", "vxi11_client")

    async def opened(self, name: str = "a", visa: PeerProcess | None = None, **more: Any) -> str:
        await (visa or self.vxi11).ask("open", name, "127.0.0.1", "inst1", self.port, **more)
        return name

    async def do(self, name: str, method: str, *arguments: Any) -> Any:
        return await self.vxi11.ask("do", name, method, *arguments)

    async def fails(self, asked: Any, code: int) -> None:
        failure = await self.assertFailure(Deferred.fromCoroutine(asked), PeerError)
        self.assertEqual(failure.type, "Vxi11Exception")
        self.assertRegex(failure.text, rf"^{code}:")

    async def test_everything(self) -> None:
        await self.opened()
        self.assertEqual(await self.do("a", "ask", "*IDN?"), IDENTITY)
        await self.do("a", "remote")
        await self.do("a", "local")
        await self.do("a", "trigger")
        self.assertGreaterEqual(int(await self.do("a", "ask", "TEST:TRIG?")), 1)
        await self.do("a", "write", "*IDN?")
        self.assertEqual(await self.do("a", "read_stb"), 16)
        await self.do("a", "clear")
        self.assertEqual(await self.do("a", "read_stb"), 0)
        for number in range(200):
            text = f'"{number}"'
            self.assertEqual(await self.do("a", "ask", f"TEST:ECHO? {text}"), text)
        await self.vxi11.ask("close", "a")

    async def test_blocks(self) -> None:
        await self.opened()
        self.assertGreaterEqual(await self.vxi11.ask("get", "a", "max_recv_size"), 1 << 20)
        for size in (0, 1, 1000, 1_048_576 - 10, 1_000_000, 16 << 20):
            asked = self.vxi11.ask("ask_sum", "a", f"TEST:BLOCK? {size}")
            self.assertEqual(await asked, answer_sum(size))
            await self.vxi11.ask("load", "a", size)
            loaded = f"{size},{zlib.crc32(pattern(size))}"
            self.assertEqual(await self.do("a", "ask", "TEST:LOAD:SUM?"), loaded)

    async def test_timeout_and_recovery(self) -> None:
        await self.opened(timeout=0.5)
        await self.fails(self.do("a", "ask", "TEST:WAIT? 20"), 15)
        await self.do("a", "clear")
        self.assertEqual(await self.do("a", "ask", "*IDN?"), IDENTITY)

    async def test_abort(self) -> None:
        await self.opened(timeout=60)
        await self.vxi11.ask("begin", "a", "TEST:WAIT? 50")
        failure = await self.vxi11.ask("abort", "a")
        self.assertRegex(failure, "^23:")
        self.assertEqual(await self.do("a", "ask", "*IDN?"), IDENTITY)

    async def test_locks(self) -> None:
        await self.opened("a")
        await self.opened("b", timeout=1)
        await self.do("a", "lock")
        for method in ("lock", "read_stb", "trigger", "clear", "remote", "local"):
            await self.fails(self.do("b", method), 11)
        await self.fails(self.do("b", "ask", "*IDN?"), 11)
        await self.fails(self.do("b", "unlock"), 12)
        await self.do("a", "unlock")
        self.assertEqual(await self.do("b", "ask", "*IDN?"), IDENTITY)
        await self.do("a", "lock")
        await self.vxi11.ask("close", "a")
        self.assertEqual(await self.do("b", "ask", "*IDN?"), IDENTITY)

    async def test_a_killed_client_leaves_nothing(self) -> None:
        holder = self.driver()
        await self.opened("a", holder)
        await holder.ask("do", "a", "lock")
        await holder.ask("do", "a", "write", "TEST:WAIT? 1000")
        waiting = self.client().lock(wait=30)
        await holder.kill()
        await waiting

    async def test_64_links_on_one_connection(self) -> None:
        answers = await self.vxi11.ask("links", "127.0.0.1", self.port, 64)
        self.assertEqual(answers, [f"{IDENTITY}\n"] * 64)

    async def test_64_instruments(self) -> None:
        names = [f"i{number}" for number in range(64)]
        for name in names:
            await self.opened(name)
        for name in names:
            text = f'"{name}"'
            self.assertEqual(await self.do(name, "ask", f"TEST:ECHO? {text}"), text)


class Resetting:
    """A bare connection that ends by a reset, in the middle of a call."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def answer(self, arguments: bytes) -> tuple[int, ...]:
        """What create_link answers: error, link, port of the abort channel, longest piece."""
        call = encode_call(1, Program.CORE, 1, codec.Procedure.CREATE_LINK, arguments)
        self._socket.sendall(call)
        reply = b""
        while len(reply) < 44:
            reply += self._socket.recv(44 - len(reply))
        return struct.unpack(">4I", reply[28:])

    def reset(self) -> None:
        """Half a call, then the end."""
        self._socket.sendall(encode_call(2, Program.ABORT, 1, 1, bytes(4))[:30])
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


class ClientTests(LabCase):
    """labnet's own client, over real sockets."""

    async def setUp(self) -> None:  # type: ignore[override]
        await self.begin()

    async def test_blocks(self) -> None:
        client = self.client()
        for size in (1_000_000, 16 << 20):
            told: list[int] = []
            block = await client.query_block(
                f"TEST:BLOCK? {size}", lambda have, whole, told=told: told.append(have), timeout=30
            )
            self.assertEqual((zlib.crc32(block), told[-1]), (zlib.crc32(pattern(size)), size))
            await client.write_block("TEST:LOAD", bytes(block), timeout=30)
            loaded = f"{size},{zlib.crc32(block)}"
            self.assertEqual(await client.query("TEST:LOAD:SUM?"), loaded)

    async def test_a_lab_that_is_stopped(self) -> None:
        """What does not answer in time is given up in time; then all is as before."""
        client = self.client()
        self.assertEqual(await client.query("*IDN?"), IDENTITY)
        self.lab.signal("STOP")
        with self.assertRaises(TimedOut):
            await client.query("*IDN?", timeout=0.3)
        self.lab.signal("CONT")
        self.assertEqual(await client.query("*IDN?"), IDENTITY)

    async def test_service_requests(self) -> None:
        client = self.client()
        asked: Deferred[None] = Deferred()
        await client.on_service_request(lambda: asked.callback(None))
        await client.write("TEST:SRQ 0.05")
        await asked
        self.assertEqual(await client.status_byte(), 65)

    async def test_channels_that_end_abruptly(self) -> None:
        """Half a call, then a reset, on either channel; a client that refuses service requests."""
        client = self.client()
        asked: list[None] = []
        await client.on_service_request(lambda: asked.append(None))
        link = await self.resetting(self.port)
        abort_port = link.answer(codec.CreateLink(1, True, 0, b"inst1").encode())[2]
        abort = await self.resetting(abort_port)
        for channel in (abort, link):
            with self.assertRaises(Locked):
                await client.query("*IDN?")  # as long as the link is there, with its lock
            channel.reset()
        await client.lock(wait=30)
        client._close_interrupts()  # as a program would that has crashed in part
        await client.write("TEST:SRQ")
        while not (status := await client.status_byte()):
            pass
        self.assertEqual((status, asked), (65, []))
        self.assertEqual(await client.query("*IDN?"), IDENTITY)

    async def resetting(self, port: int) -> Resetting:
        """A new connection."""
        return await deferToThread(Resetting, port)

    async def test_many_clients(self) -> None:
        clients = [self.client() for _ in range(64)]
        answers = await gatherResults(
            [client.query(f'TEST:ECHO? "{number}"') for number, client in enumerate(clients)]
        )
        self.assertEqual(answers, [f'"{number}"' for number in range(64)])
        await clients[0].lock()
        outcomes = await DeferredList(
            [client.query("*IDN?") for client in clients[1:]], consumeErrors=True
        )
        failures = [cast(Any, outcome).value for succeeded, outcome in outcomes if not succeeded]
        self.assertEqual([type(failure) for failure in failures], [Locked] * 63)


class NamespaceTests(TestCase):
    """Clients that know no port but 111, in a network of their own."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]
        self.network = Namespace(self)
        await self.network.make()

    async def start_lab(self, interface: str = "0.0.0.0", **keys: str) -> LabProcess:
        config = LAB.replace("tcp:0", f"tcp:0:interface={interface}")
        config = config.replace("portmapper = none\n", "")
        config += "".join(f"{key} = {value}\n" for key, value in keys.items())
        file = Path(cast(Any, self).mktemp()).absolute()
        file.write_text(config)
        lab = LabProcess()
        command = self.network.inside(*TWISTD, "labnet", "--config", str(file))
        lab.start(self, command, PYTHONPATH=str(ROOT))
        self.addCleanup(lab.leave)
        self.port = await lab.port(DEVICES, "vxi11")
        return lab

    def driver(self, name: str, driver: str) -> PeerProcess:
        process = PeerProcess(driver)
        command = self.network.inside(peer(name), str(DRIVERS / f"{driver}.py"))
        process.start(self, command)
        return process

    async def lxi(self, *words: str) -> Finished:
        return await run(self, *self.network.inside(tool("lxi"), *words))

    async def test_pyvisa(self) -> None:
        await self.start_lab()
        visa = self.driver("pyvisa-py", "visa_client")
        address = Namespace.ADDRESS
        found = await visa.ask("resources", limit=60)
        self.assertIn(f"TCPIP::{address}::INSTR", found)
        for name in (found[0], f"TCPIP::{address}::inst0::INSTR"):
            await visa.ask("open", name, name, open_timeout=5000, timeout=5000)
            self.assertEqual((await visa.ask("query", name, "*IDN?")).strip(), DMM)

    async def test_python_vxi11(self) -> None:
        await self.start_lab()
        vxi11 = self.driver("python-vxi11", "vxi11_client")
        self.assertEqual(await vxi11.ask("devices", Namespace.BROADCAST), [Namespace.ADDRESS])
        self.assertEqual(await vxi11.ask("devices", "127.255.255.255"), ["127.0.0.1"])
        for host in (Namespace.ADDRESS, "127.0.0.1"):
            await vxi11.ask("open", host, host)
            self.assertEqual(await vxi11.ask("do", host, "ask", "*IDN?"), DMM)

    async def test_one_interface(self) -> None:
        """Broadcasts are heard there, and nowhere else."""
        for address, broadcast, other in (
            (Namespace.ADDRESS, Namespace.BROADCAST, "127.255.255.255"),
            ("127.0.0.1", "127.255.255.255", Namespace.BROADCAST),
        ):
            lab = await self.start_lab(address)
            vxi11 = self.driver("python-vxi11", "vxi11_client")
            self.assertEqual(await vxi11.ask("devices", broadcast), [address])
            self.assertEqual(await vxi11.ask("devices", other), [])
            await lab.stop()

    async def test_lxi(self) -> None:
        await self.start_lab()
        address = Namespace.ADDRESS
        done = await self.lxi("scpi", "--address", address, "*IDN?")
        self.assertEqual((done.code, done.text.strip()), (0, DMM))
        done = await self.lxi("benchmark", "--address", address, "--count", "200")
        self.assertEqual(done.code, 0)
        self.assertRegex(done.text, r"[0-9.]+ requests/second")
        done = await self.lxi("discover", "--timeout", "1")
        self.assertEqual(done.code, 0, done.errors)
        self.assertIn(f'Found "{DMM}" on address {address}', done.text)

    async def test_rpcbind(self) -> None:
        """Registered while the lab runs, and not afterwards; what a dead one left is replaced."""
        rpcbind = await self.start_rpcbind()
        lab = await self.start_lab()
        visa = self.driver("pyvisa-py", "visa_client")
        await self.opens(visa, "first")
        first = self.port
        lab.signal("KILL")
        await lab.end()
        lab = await self.start_lab(portmapper="rpcbind")
        self.assertNotEqual(self.port, first)
        await self.opens(visa, "second")
        other = await self.start_other(lab)
        self.assertIn(f"another VXI-11 server already, at port {self.port}", other)
        done = await self.lxi("discover", "--timeout", "1")
        self.assertIn(f'Found "{DMM}"', done.text)
        await lab.stop()
        failure = await self.assertFailure(
            visa.ask("open", "third", f"TCPIP::{Namespace.ADDRESS}::INSTR"), PeerError
        )
        self.assertEqual(failure.details.get("abbreviation"), "VI_ERROR_RSRC_NFOUND")
        self.assertIsNone(rpcbind.code)

    async def opens(self, visa: PeerProcess, name: str) -> None:
        resource = f"TCPIP::{Namespace.ADDRESS}::INSTR"
        await visa.ask("open", name, resource, open_timeout=5000, timeout=5000)
        self.assertEqual((await visa.ask("query", name, "*IDN?")).strip(), DMM)

    async def start_rpcbind(self) -> LineChild:
        """Its files go to a place that only it sees."""
        rpcbind = LineChild("rpcbind")
        script = f"mount -t tmpfs none /run && exec {tool('rpcbind')} -f"
        command = self.network.inside("unshare", "--mount", "sh", "-c", script)
        rpcbind.start(self, command)
        asking = "import socket; socket.create_connection(('127.0.0.1', 111)).close()"
        while (await run(self, *self.network.inside("python3", "-c", asking))).code:
            self.assertIsNone(rpcbind.code, rpcbind.errors)
        return rpcbind

    async def start_other(self, lab: LabProcess) -> str:
        """A second lab beside the first; the line that says how it is to be reached."""
        port = self.port
        other = await self.start_lab()
        self.port = port
        line = await other.wait_for_line(lambda it: "clients cannot look up" in it, "why not")
        self.assertEqual(await other.stop(), -signal.SIGTERM)
        return line

    async def test_where_111_is_not_allowed(self) -> None:
        """Not root, and no privileged port: one line says how to allow it."""
        file = Path(cast(Any, self).mktemp()).absolute()
        file.write_text(LAB.replace("portmapper = none\n", ""))
        lab = LabProcess()
        drop = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
        command = self.network.inside(*drop, *TWISTD, "labnet", "--config", str(file))
        lab.start(self, command, PYTHONPATH=str(ROOT))
        self.addCleanup(lab.leave)
        line = await lab.wait_for_line(lambda it: "clients cannot look up" in it, "why not")
        self.assertIn("net.ipv4.ip_unprivileged_port_start=111", line)
        port = await lab.port(DEVICES, "vxi11")
        visa = self.driver("pyvisa-py", "visa_client")
        resource = f"TCPIP::127.0.0.1,{port}::inst0::INSTR"
        await visa.ask("open", "a", resource, open_timeout=5000, timeout=5000)
        self.assertEqual((await visa.ask("query", "a", "*IDN?")).strip(), DMM)
        self.assertEqual(len(re.findall("clients cannot look up", "\n".join(lab.lines))), 1)
