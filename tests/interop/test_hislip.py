"""The hislip wire of a running lab: pyvisa-py's INSTR sessions, and labnet's own client."""

from __future__ import annotations

import zlib
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.trial.unittest import TestCase

from labnet.errors import Locked, NotConnected, TimedOut
from labnet.wires.hislip.client import HislipClient
from tests.interop.lab import start_lab
from tests.interop.peers import PeerError, PeerProcess, peer, start

LAB = """
[lab]
name = interop
[device dmm]
driver = simulated.dmm
[device linktester]
driver = simulated.linktester
[serve hislip]
wire = hislip
listen = tcp:0
devices = hislip0: dmm, hislip1: linktester
[serve quiet]
wire = hislip
listen = tcp:0
device = linktester
interrupted = quiet
[serve linktester-scpi]
wire = scpi
listen = tcp:0
device = linktester
"""
IDENTITY = "labnet,SIM-LINK,L0000001,1.0"


def pattern(size: int) -> bytes:
    """The block of that size that the link tester makes."""
    return bytes(range(256)) * (size // 256) + bytes(range(size % 256))


class HislipCase(TestCase):
    """A lab, and pyvisa with pyvisa-py."""

    timeout = 90

    async def setUp(self) -> None:  # type: ignore[override]
        peer("pyvisa-py")
        self.lab = start_lab(self, LAB)
        self.port = await self.lab.port("*", "hislip")
        self.visa = self.driver()

    def driver(self) -> PeerProcess:
        return start(self, "pyvisa-py", "visa_client")

    def resource(self, device: str = "hislip1", port: int | None = None) -> str:
        return f"TCPIP::127.0.0.1::{device},{port or self.port}::INSTR"

    async def open(
        self,
        name: str,
        device: str = "hislip1",
        visa: PeerProcess | None = None,
        port: int | None = None,
        **options: Any,
    ) -> None:
        options = {"timeout": 10_000, **options}
        await (visa or self.visa).ask("open", name, self.resource(device, port), **options)

    async def query(self, name: str, message: str, visa: PeerProcess | None = None) -> str:
        answer: str = await (visa or self.visa).ask("query", name, message)
        return answer.strip()

    def client(self, name: str = "hislip1", **options: Any) -> HislipClient:
        client = HislipClient("127.0.0.1", self.port, name, **{"timeout": 10.0, **options})
        self.addCleanup(client.close)
        return client


class VisaTests(HislipCase):
    async def test_devices(self) -> None:
        await self.open("dmm", "hislip0")
        self.assertEqual(await self.query("dmm", "*IDN?"), "labnet,SIM-DMM,D0000001,1.0")
        self.assertTrue(-20 < float(await self.query("dmm", "MEAS:VOLT:DC?")) < 20)
        await self.open("link", "hislip1")
        self.assertEqual(await self.query("link", "*IDN?"), IDENTITY)

    async def test_unknown_device(self) -> None:
        failure = await self.assertFailure(self.visa_open("hislip7"), PeerError)
        self.assertEqual(failure.details["abbreviation"], "VI_ERROR_RSRC_NFOUND")

    def visa_open(self, device: str) -> Deferred[Any]:
        opening: Deferred[Any] = self.visa.ask("open", "x", self.resource(device))
        return opening

    async def test_many_queries(self) -> None:
        await self.open("a")
        for number in range(300):
            self.assertEqual(await self.query("a", f'TEST:ECHO? "{number}"'), f'"{number}"')
        self.assertEqual(await self.query("a", "SYST:ERR?"), '0,"No error"')

    async def test_errors(self) -> None:
        await self.open("a")
        await self.visa.ask("write", "a", "NO:SUCH")
        self.assertRegex(await self.query("a", "SYST:ERR?"), "^-113,")

    async def test_blocks(self) -> None:
        """Up to what fills several messages, and pyvisa's own buffers, to the byte."""
        await self.open("a", chunk_size=1 << 20)
        for size in (0, 1, 20_480, 20_480 - 8, 262_144 - 16, 1_000_000, 3_000_000):
            values = await self.visa.ask("query_binary", "a", f"TEST:BLOCK? {size}", datatype="B")
            self.assertEqual(zlib.crc32(bytes(values)), zlib.crc32(pattern(size)))
        for size in (0, 1000, 1_048_560, 1_048_561, 2_500_000):
            data = pattern(size)
            await self.visa.ask("write_binary", "a", "TEST:LOAD ", list(data), datatype="B")
            loaded = f"{size},{zlib.crc32(data)}"
            self.assertEqual(await self.query("a", "TEST:LOAD:SUM?"), loaded)

    async def test_a_message_of_more_than_a_mebibyte(self) -> None:
        await self.open("a")
        text = "x" * 1_500_000
        self.assertEqual(await self.query("a", f'TEST:ECHO? "{text}"'), f'"{text}"')

    async def test_timeout_and_recovery(self) -> None:
        """The late answer is dropped, whether it comes before the next message or interrupts."""
        await self.open("a")
        for pause in ("300 MS", "1200 MS"):
            await self.visa.ask("set", "a", "timeout", 200)
            failure = await self.assertFailure(
                self.visa.ask("query", "a", f"TEST:WAIT? {pause}"), PeerError
            )
            self.assertEqual(failure.details["abbreviation"], "VI_ERROR_TMO")
            await self.visa.ask("set", "a", "timeout", 10_000)
            for number in range(3):
                self.assertEqual(await self.query("a", f'TEST:ECHO? "{number}"'), f'"{number}"')

    async def test_status_after_an_interruption(self) -> None:
        """With ``interrupted = quiet`` pyvisa-py does not come out of step."""
        port = await self.lab.port("linktester", "hislip")
        await self.open("a", "hislip0", port=port)
        await self.visa.ask("write", "a", "TEST:WAIT? 200 MS")
        self.assertEqual(await self.query("a", "*IDN?"), IDENTITY)
        await self.visa.ask("write", "a", "*CLS")
        await self.eventually_status("a", 0)
        await self.visa.ask("write", "a", "*ESE 32;NO:SUCH")
        await self.eventually_status("a", 0x24)

    async def test_status(self) -> None:
        await self.open("a")
        self.assertEqual(await self.visa.ask("read_stb", "a"), 0)
        await self.visa.ask("write", "a", "*IDN?")
        await self.eventually_status("a", 0x10)
        self.assertEqual((await self.visa.ask("read", "a")).strip(), IDENTITY)
        self.assertEqual(await self.visa.ask("read_stb", "a"), 0)
        await self.visa.ask("write", "a", "*ESE 32;NO:SUCH")
        await self.eventually_status("a", 0x24)

    async def eventually_status(self, name: str, expected: int) -> None:
        """The two connections may overtake each other."""
        for _ in range(1000):
            if await self.visa.ask("read_stb", name) == expected:
                return
        self.fail(f"the status byte never became {expected}")

    async def test_clear(self) -> None:
        await self.open("a", timeout=300)
        await self.assertFailure(self.visa.ask("query", "a", "TEST:WAIT? 1000 S"), PeerError)
        await self.visa.ask("clear", "a")
        self.assertEqual(await self.query("a", "*IDN?"), IDENTITY)
        await self.visa.ask("clear", "a")
        await self.visa.ask("clear", "a")
        self.assertEqual(await self.query("a", "*IDN?"), IDENTITY)

    async def test_sixty_four_sessions(self) -> None:
        names = [str(number) for number in range(64)]
        for name in names:
            await self.open(name)
        asked = [self.visa.ask("query", name, f'TEST:ECHO? "{name}"') for name in names]
        answers = await gatherResults(asked)
        self.assertEqual([answer.strip() for answer in answers], [f'"{name}"' for name in names])

    async def test_a_killed_client_leaves_nothing(self) -> None:
        other = self.driver()
        await self.open("a")
        await self.open("b", visa=other)
        self.assertEqual(await self.query("a", "SYST:LOCK:REQ?"), "1")
        waiting = other.ask("query", "b", 'TEST:ECHO? "mine"')
        await self.visa.kill()
        self.assertEqual((await waiting).strip(), '"mine"')

    async def test_two_wires_never_mix_answers(self) -> None:
        other = self.driver()
        port = await self.lab.port("linktester", "scpi")
        await other.ask(
            "open", "b", f"TCPIP::127.0.0.1::{port}::SOCKET", read_termination="\n", timeout=10_000
        )
        await self.open("a")
        for number in range(200):
            answers = await gatherResults(
                [
                    self.visa.ask("query", "a", f'TEST:ECHO? "a{number}"'),
                    other.ask("query", "b", f'TEST:ECHO? "b{number}"'),
                ]
            )
            self.assertEqual([a.strip() for a in answers], [f'"a{number}"', f'"b{number}"'])

    async def test_a_lock_of_another_wire_is_waited_for(self) -> None:
        other = self.driver()
        port = await self.lab.port("linktester", "scpi")
        await other.ask(
            "open", "b", f"TCPIP::127.0.0.1::{port}::SOCKET", read_termination="\n", timeout=10_000
        )
        await self.open("a")
        self.assertEqual(await other.ask("query", "b", "SYST:LOCK:REQ?"), "1")
        waiting = self.visa.ask("query", "a", 'TEST:ECHO? "mine"')
        self.assertEqual(await other.ask("query", "b", 'TEST:ECHO? "held"'), '"held"')
        self.assertFalse(waiting.called)
        await other.ask("write", "b", "SYST:LOCK:REL")
        self.assertEqual((await waiting).strip(), '"mine"')


class ClientTests(HislipCase):
    """labnet's client beside pyvisa-py's, on one instrument."""

    async def test_a_lock_holds_pyvisa_up(self) -> None:
        """Its message waits and is carried out after the release."""
        client = self.client()
        await self.open("a")
        self.assertTrue(await client.lock())
        waiting = self.visa.ask("query", "a", 'TEST:ECHO? "mine"')
        self.assertEqual(await client.query("*IDN?"), IDENTITY)
        self.assertFalse(waiting.called)
        self.assertEqual(await client.unlock(), "exclusive")
        self.assertEqual((await waiting).strip(), '"mine"')

    async def test_shared_keys(self) -> None:
        one, two, three = (self.client() for _ in range(3))
        await gatherResults([one.lock("K"), two.lock("K")])
        await self.assertFailure(three.lock("L", wait=0.1), Locked)
        self.assertEqual(await three.lock_info(), (False, 2))
        await self.assertFailure(three.query("*IDN?", timeout=0.1), TimedOut)
        await one.close()
        await two.unlock()
        self.assertEqual(await three.query("*IDN?"), IDENTITY)

    async def test_sixty_four_sessions(self) -> None:
        clients = [self.client() for _ in range(64)]
        for _ in range(5):
            answers = await gatherResults(
                [client.query(f'TEST:ECHO? "{n}"') for n, client in enumerate(clients)]
            )
            self.assertEqual(answers, [f'"{n}"' for n in range(64)])

    async def test_sixteen_mebibytes_both_ways(self) -> None:
        client = self.client(timeout=60.0)
        size = 16 << 20
        data = pattern(size)
        self.assertEqual(await client.query_block(f"TEST:BLOCK? {size}"), data)
        await client.write_block("TEST:LOAD", data)
        self.assertEqual(await client.query("TEST:LOAD:SUM?"), f"{size},{zlib.crc32(data)}")

    async def test_trigger_status_and_service_request(self) -> None:
        client = self.client()
        before = int(await client.query("TEST:TRIG?"))
        await client.trigger()
        self.assertEqual(int(await client.query("TEST:TRIG?")), before + 1)
        asked: Deferred[int] = Deferred()
        client.on_service_request(asked.callback)
        await client.write("*SRE 1;TEST:SRQ 10 MS")
        self.assertEqual(await asked, 0x41)
        self.assertEqual(await client.status_byte(), 0x41)

    async def test_either_channel_is_cut(self) -> None:
        """The session ends with it, and the lock; pyvisa's message that waited is carried out."""
        await self.open("a")
        for number, name in enumerate(("synchronous", "_asynchronous")):
            client = self.client()
            await client.lock()
            waiting = self.visa.ask("query", "a", f'TEST:ECHO? "{number}"')
            link = client._link
            assert link is not None
            getattr(link, name).transport.abortConnection()
            self.assertEqual((await waiting).strip(), f'"{number}"')
            with self.assertRaises(NotConnected):
                await client.query("*IDN?")
            self.assertEqual(await client.query("*IDN?"), IDENTITY)

    async def test_overlap_mode(self) -> None:
        """Hundreds of messages on their way at once, blocks among them, beside pyvisa's."""
        client = self.client(overlap=True)
        await self.open("a")
        asked = [client.query(f'TEST:ECHO? "{number}"') for number in range(200)]
        block = client.query_block("TEST:BLOCK? 3000000")
        loaded = client.write_block("TEST:LOAD", pattern(3_000_000))
        total = client.query("TEST:LOAD:SUM?")
        self.assertEqual(await self.query("a", "*IDN?"), IDENTITY)
        answers = await gatherResults(asked)
        self.assertEqual(answers, [f'"{number}"' for number in range(200)])
        self.assertEqual(await block, pattern(3_000_000))
        await loaded
        self.assertEqual(await total, f"3000000,{zlib.crc32(pattern(3_000_000))}")
        self.assertEqual(await client.status_byte(), 0)
        await self.assertFailure(client.query("TEST:WAIT? 1000 S", timeout=0.2), TimedOut)
        self.assertEqual(await client.query("*IDN?"), IDENTITY)

    async def test_clear_ends_a_query(self) -> None:
        client = self.client()
        await client.connect()
        slow = client.query("TEST:WAIT? 1000 S", timeout=60)
        outcome = DeferredList([slow], consumeErrors=True)
        await client.clear()
        [(succeeded, _)] = await outcome
        self.assertFalse(succeeded)
        self.assertEqual(await client.query("*IDN?"), IDENTITY)


class CompiledClientTests(TestCase):
    """cPyHiSLIP, a client in C++.

    Only what it does on the synchronous channel: its asynchronous calls lose answers by themselves
    ("No promise"), and connecting does so unless answers there come a little later.
    """

    timeout = 90

    async def setUp(self) -> None:  # type: ignore[override]
        peer("cpyhislip")
        self.lab = start_lab(
            self, LAB.replace("interrupted = quiet", "interrupted = quiet\nasync_delay = 0.005")
        )
        port = await self.lab.port("linktester", "hislip")
        self.client = start(self, "cpyhislip", "cpyhislip_client", "127.0.0.1", str(port))

    async def test_queries(self) -> None:
        self.assertEqual(await self.client.ask("query", "*IDN?\n"), IDENTITY + "\n")
        for number in range(100):
            answer = await self.client.ask("query", f'TEST:ECHO? "{number}"\n')
            self.assertEqual(answer, f'"{number}"\n')
        self.assertEqual(await self.client.ask("query", "SYST:ERR?\n"), '0,"No error"\n')

    async def test_blocks(self) -> None:
        for size in (0, 1, 8192, 1_000_000, 3_000_000):
            answer = b"#%d%d%b\n" % (len(str(size)), size, pattern(size))
            got = await self.client.ask("query_sum", f"TEST:BLOCK? {size}\n")
            self.assertEqual(got, [len(answer), zlib.crc32(answer)])
        for size in (0, 70_000, 3_000_000):
            await self.client.ask("send_block", "TEST:LOAD", size)
            expected = f"{size},{zlib.crc32(pattern(size))}\n"
            self.assertEqual(await self.client.ask("query", "TEST:LOAD:SUM?\n"), expected)

    async def test_trigger(self) -> None:
        before = int(await self.client.ask("query", "TEST:TRIG?\n"))
        await self.client.ask("trigger")
        self.assertEqual(int(await self.client.ask("query", "TEST:TRIG?\n")), before + 1)
