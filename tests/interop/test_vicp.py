"""The vicp wire of a running lab: pyvicp alone, and pyvisa-py's VICP sessions."""

from __future__ import annotations

import zlib
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from tests.interop.lab import start_lab
from tests.interop.peers import PeerError, PeerProcess, peer, start

# pyvisa-py knows no port but 1861, so the lab has a loopback address that nobody else uses.
HOST = "127.0.18.61"
LAB = """
[lab]
name = interop
drain = 1
[device linktester]
driver = simulated.linktester
[device dmm]
driver = simulated.dmm
[serve linktester-vicp]
wire = vicp
listen = tcp:0
device = linktester
[serve linktester-scpi]
wire = scpi
listen = tcp:0
device = linktester
"""
VISA_LAB = LAB.replace("listen = tcp:0", f"listen = tcp:1861:interface={HOST}", 1)
IDENTITY = "labnet,SIM-LINK,L0000001,1.0"


def pattern(size: int) -> bytes:
    """The block of that size that the link tester makes."""
    return bytes(range(256)) * (size // 256) + bytes(range(size % 256))


def answer_sum(size: int) -> list[int]:
    """Length and CRC-32 of the answer to ``TEST:BLOCK? <size>``."""
    answer = b"#%d%d%b\n" % (len(str(size)), size, pattern(size))
    return [len(answer), zlib.crc32(answer)]


class PyvicpTests(TestCase):
    """pyvicp, which tells more than pyvisa-py lets through."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        peer("pyvisa-py")
        self.lab = start_lab(self, LAB)
        self.port = str(await self.lab.port("linktester", "vicp"))

    def client(self) -> PeerProcess:
        return start(self, "pyvisa-py", "vicp_client", "127.0.0.1", self.port)

    async def test_queries(self) -> None:
        client = self.client()
        self.assertEqual(await client.ask("query", "*IDN?"), IDENTITY + "\n")
        for number in range(300):
            answer = await client.ask("query", f'TEST:ECHO? "{number}"')
            self.assertEqual(answer, f'"{number}"\n')

    async def test_blocks(self) -> None:
        client = self.client()
        for size in (0, 1, 4085, 20473, 262_144, 1_000_000, 20_000_000):
            self.assertEqual(
                await client.ask("query_sum", f"TEST:BLOCK? {size}"), answer_sum(size)
            )
        for size in (0, 70_000, 1_000_000):
            await client.ask("send_block", "TEST:LOAD", size)
            expected = f"{size},{zlib.crc32(pattern(size))}\n"
            self.assertEqual(await client.ask("query", "TEST:LOAD:SUM?"), expected)

    async def test_an_unread_answer_is_not_the_next_one(self) -> None:
        client = self.client()
        await client.ask("send", 'TEST:ECHO? "old"')
        self.assertEqual(await client.ask("query", 'TEST:ECHO? "new"'), '"new"\n')

    async def test_a_late_answer_is_not_the_next_one(self) -> None:
        client = self.client()
        await client.ask("timeout", 0.2)
        await client.ask("send", "TEST:WAIT? 500 MS")
        failure = await self.assertFailure(client.ask("receive"), PeerError)
        self.assertIn("time", failure.text.lower())
        await client.ask("timeout", 10)
        self.assertEqual(await client.ask("query", 'TEST:ECHO? "new"'), '"new"\n')

    async def test_clear_ends_a_query(self) -> None:
        client = self.client()
        await client.ask("query", "*IDN?")
        await client.ask("send", "TEST:WAIT? 1000 S")
        await client.ask("clear")
        self.assertEqual(await client.ask("query", "*IDN?"), IDENTITY + "\n")

    async def test_polls(self) -> None:
        client = self.client()
        await client.ask("send", "*SRE 32;*ESE 32;NO:SUCH")
        self.assertEqual(await client.ask("poll"), 0x64)
        self.assertEqual(await client.ask("query", "*STB?"), "100\n")
        self.assertEqual(await client.ask("poll_urgent"), 0x24)
        self.assertEqual(await client.ask("query", "*IDN?"), IDENTITY + "\n")

    async def test_urgent_poll_during_a_query(self) -> None:
        client = self.client()
        await client.ask("query", "*CLS;*IDN?")
        await client.ask("send", "TEST:WAIT? 1 S")
        self.assertEqual(await client.ask("poll_urgent"), 0)
        self.assertEqual((await client.ask("receive")).lower(), "done\n")

    async def test_service_requests_are_no_answers(self) -> None:
        client = self.client()
        await client.ask("send", "*SRE 1;TEST:SRQ")
        for _ in range(3):
            self.assertEqual(await client.ask("query", "*IDN?"), IDENTITY + "\n")

    async def test_the_lab_stops(self) -> None:
        """A client that reads notices it, rather than reading for ever."""
        client = self.client()
        await client.ask("query", "*IDN?")
        await client.ask("send", "TEST:WAIT? 1000 S")
        reading = client.ask("receive")
        await self.lab.stop()
        failure = await self.assertFailure(reading, PeerError)
        # pyvicp tries to connect again before it says so.
        self.assertIn(failure.type, ("ConnectionResetError", "ConnectionRefusedError"))

    async def test_a_killed_client_leaves_nothing(self) -> None:
        holder, other = self.client(), self.client()
        self.assertEqual(await holder.ask("query", "SYST:LOCK:REQ?"), "1\n")
        await other.ask("send", 'TEST:ECHO? "mine"')
        await other.ask("timeout", 0.2)
        await self.assertFailure(other.ask("receive"), PeerError)
        await other.ask("timeout", 30)
        await holder.kill()
        self.assertEqual(await other.ask("receive"), '"mine"\n')


class VisaTests(TestCase):
    """pyvisa with pyvisa-py."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        peer("pyvisa-py")
        self.lab = start_lab(self, VISA_LAB)
        await self.lab.port("linktester", "vicp")
        self.visa = start(self, "pyvisa-py", "visa_client")

    async def open(self, name: str, **options: Any) -> None:
        options = {"timeout": 10_000, **options}
        await self.visa.ask("open", name, f"VICP::{HOST}::INSTR", **options)

    async def query(self, name: str, message: str) -> str:
        answer: str = await self.visa.ask("query", name, message)
        return answer.strip()

    async def test_queries(self) -> None:
        await self.open("a")
        self.assertEqual(await self.query("a", "*IDN?"), IDENTITY)
        self.assertEqual(await self.query("a", 'TEST:ECHO? "x";*OPC?'), '"x";1')
        await self.visa.ask("write", "a", "NO:SUCH")
        self.assertRegex(await self.query("a", "SYST:ERR?"), "^-113,")

    async def test_blocks(self) -> None:
        """Also those that fill pyvisa's buffers to the last byte."""
        await self.open("a")
        for size in (0, 1, 20_480, 20_480 - 8, 40_960 - 8, 1_000_000):
            values = await self.visa.ask("query_binary", "a", f"TEST:BLOCK? {size}", datatype="B")
            self.assertEqual(bytes(values), pattern(size))
        for size in (20_480, 40_960, 4096):
            text = "x" * (size - 3)
            self.assertEqual(await self.query("a", f'TEST:ECHO? "{text}"'), f'"{text}"')
        for size in (1000, 1_000_000):
            data = [*pattern(size)]
            await self.visa.ask("write_binary", "a", "TEST:LOAD ", data, datatype="B")
            loaded = f"{size},{zlib.crc32(pattern(size))}"
            self.assertEqual(await self.query("a", "TEST:LOAD:SUM?"), loaded)

    async def test_64_sessions(self) -> None:
        drivers = [start(self, "pyvisa-py", "visa_client") for _ in range(4)]
        names = [(f"s{number}", drivers[number % 4]) for number in range(64)]
        resource = f"VICP::{HOST}::INSTR"
        await gatherResults(
            [visa.ask("open", name, resource, timeout=20_000) for name, visa in names]
        )
        answers = await gatherResults(
            [visa.ask("query", name, f'TEST:ECHO? "{name}"') for name, visa in names]
        )
        self.assertEqual([it.strip() for it in answers], [f'"{name}"' for name, _ in names])

    async def test_timeout_and_clear(self) -> None:
        await self.open("a", timeout=300)
        await self.query("a", "*IDN?")
        failure = await self.assertFailure(
            self.visa.ask("query", "a", "TEST:WAIT? 1000 S"), PeerError
        )
        self.assertEqual(failure.details["abbreviation"], "VI_ERROR_TMO")
        await self.visa.ask("clear", "a")
        self.assertEqual(await self.query("a", "*IDN?"), IDENTITY)

    async def test_two_sessions_and_another_wire(self) -> None:
        """Each gets its own answers, from a device that they share."""
        other = start(self, "pyvisa-py", "visa_client")
        port = await self.lab.port("linktester", "scpi")
        resource = f"TCPIP::127.0.0.1::{port}::SOCKET"
        await other.ask("open", "b", resource, read_termination="\n", timeout=10_000)
        await self.open("a")
        for number in range(50):
            answers = await gatherResults(
                [
                    self.visa.ask("query", "a", f'TEST:ECHO? "a{number}"'),
                    other.ask("query", "b", f'TEST:ECHO? "b{number}"'),
                ]
            )
            self.assertEqual([a.strip() for a in answers], [f'"a{number}"', f'"b{number}"'])

    async def test_a_lock_on_another_wire_is_waited_for(self) -> None:
        other = start(self, "pyvisa-py", "visa_client")
        port = await self.lab.port("linktester", "scpi")
        resource = f"TCPIP::127.0.0.1::{port}::SOCKET"
        await other.ask("open", "b", resource, read_termination="\n", timeout=10_000)
        await self.open("a")
        self.assertEqual(await other.ask("query", "b", "SYST:LOCK:REQ?"), "1")
        waiting = self.visa.ask("query", "a", 'TEST:ECHO? "mine"')
        self.assertEqual(await other.ask("query", "b", 'TEST:ECHO? "held"'), '"held"')
        self.assertFalse(waiting.called)
        await other.ask("write", "b", "SYST:LOCK:REL")
        self.assertEqual((await waiting).strip(), '"mine"')
