"""One device on the four wires that carry messages: locks that all of them obey, answers that never
get to somebody else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from labnet.errors import Locked
from labnet.resources import MessageClient, open_resource
from labnet.wires.hislip.client import HislipClient
from labnet.wires.vxi11.client import Vxi11Client
from tests.interop.lab import start_lab
from tests.interop.peers import PeerError, PeerProcess, peer, start

# pyvisa-py knows no port of VICP but 1861: a loopback address that nobody else uses.
HOST = "127.0.18.62"
DEVICES = """
[lab]
name = family
[device stage]
driver = simulated.stage
[device linktester]
driver = simulated.linktester
"""


def served(wire: str, device: str, listen: str = "tcp:0", more: str = "") -> str:
    """A section."""
    return f"[serve {device}-{wire}]\nwire = {wire}\nlisten = {listen}\ndevice = {device}\n{more}\n"


def messages(device: str) -> str:
    """The sections of the four wires."""
    return (
        served("scpi", device)
        + served("hislip", device)
        + served("vxi11", device, more="portmapper = none")
        + served("vicp", device, f"tcp:1861:interface={HOST}")
    )


class AnswerTests(TestCase):
    """Clients of four wires ask one device at the same time, and keep asking."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]
        self.lab = start_lab(self, DEVICES + messages("linktester"))
        ports = {
            wire: await self.lab.port("linktester", wire) for wire in ("scpi", "hislip", "vxi11")
        }
        await self.lab.port("linktester", "vicp")
        self.names = {
            "scpi": f"TCPIP::127.0.0.1::{ports['scpi']}::SOCKET",
            "hislip": f"TCPIP::127.0.0.1::hislip0,{ports['hislip']}::INSTR",
            "vxi11": f"TCPIP::127.0.0.1,{ports['vxi11']}::inst0::INSTR",
            "vicp": f"VICP::{HOST}::INSTR",
        }

    async def test_thousands_of_queries(self) -> None:
        """labnet's clients, two sessions of each wire."""
        clients = [
            (f"{wire}{number}", open_resource(name, timeout=30))
            for wire, name in self.names.items()
            for number in range(2)
        ]
        for _, client in clients:
            self.addCleanup(client.close)

        async def ask(mark: str, client: MessageClient) -> None:
            for number in range(1500):
                # Now and then one that takes the device time, so that others overtake it.
                message = f'TEST:WAIT? 1 MS;:TEST:ECHO? "{mark} {number}"'
                slow = number % 100 == 0
                answer = await client.query(message if slow else message.partition(";:")[2])
                wanted = f'"{mark} {number}"'
                self.assertEqual(answer, f"done;{wanted}" if slow else wanted)

        await gatherResults(
            [Deferred.fromCoroutine(ask(mark, client)) for mark, client in clients]
        )

    async def test_the_real_clients(self) -> None:
        """pyvisa-py on all four, each in a process of its own."""
        asking = []
        for wire, name in self.names.items():
            visa = start(self, "pyvisa-py", "visa_client")
            options: dict[str, Any] = {"timeout": 20_000, "read_termination": "\n"}
            if wire == "vxi11":
                options["open_timeout"] = 5000
            await visa.ask("open", wire, name, **options)
            asking.append(Deferred.fromCoroutine(self.ask(visa, wire)))
        await gatherResults(asking)

    async def ask(self, visa: PeerProcess, wire: str) -> None:
        for number in range(400):
            text = f'"{wire} {number}"'
            answer = await visa.ask("query", wire, f"TEST:ECHO? {text}")
            self.assertEqual(answer.strip(), text)


class LockTests(TestCase):
    """A key that two HiSLIP sessions share, and everybody else."""

    timeout = 90

    async def setUp(self) -> None:  # type: ignore[override]
        for name in ("python-vxi11", "plesty-0.6.0", "sm-bluesky"):
            peer(name)
        others = served("tsv", "stage") + served("plesty", "stage", "tcp://127.0.0.1:*")
        self.lab = start_lab(self, DEVICES + messages("stage") + others)
        self.vxi11_port = await self.lab.port("stage", "vxi11")
        self.vxi11 = start(self, "python-vxi11", "vxi11_client")
        await self.vxi11.ask("open", "a", "127.0.0.1", "inst0", self.vxi11_port, timeout=5)
        port = str(await self.lab.port("stage", "tsv"))
        self.bluesky = start(self, "sm-bluesky", "sm_bluesky_client", "127.0.0.1", port, "10")
        self.plesty = start(self, "plesty-0.6.0", "plesty_client")
        address = f"tcp://127.0.0.1:{await self.lab.port('stage', 'plesty')}"
        await self.plesty.ask("connect", address, client_id="analysis")

    async def sharing(self) -> list[HislipClient]:
        """Two sessions with one key."""
        port = await self.lab.port("stage", "hislip")
        both = [HislipClient("127.0.0.1", port, timeout=10.0) for _ in range(2)]
        for client in both:
            self.addCleanup(client.close)
            await client.lock(key="alignment")
        return both

    def link(self, **options: Any) -> Vxi11Client:
        client = Vxi11Client("127.0.0.1", port=self.vxi11_port, timeout=10.0, **options)
        self.addCleanup(client.close)
        return client

    def moves(self) -> list[Callable[[], Awaitable[Any]]]:
        """Ways to move the stage, by PLESTY and by TSV."""
        return [
            lambda: self.plesty.ask("call", "move_abs", 1.0),
            lambda: self.bluesky.ask("send", "move_abs", 1),
        ]

    async def check_kept_out(self) -> None:
        for method, *arguments in (("lock",), ("ask", "*IDN?"), ("read_stb",), ("clear",)):
            asked = self.vxi11.ask("do", "a", method, *arguments)
            failure = await self.assertFailure(asked, PeerError)
            self.assertRegex(failure.text, "^11:", method)
        await self.assertFailure(self.link().lock(wait=0.05), Locked)
        for move in self.moves():
            with self.assertRaises(PeerError) as caught:
                await move()
            self.assertRegex(
                caught.exception.text, r"is locked by [^()]+ \(hislip 127\.0\.0\.1:[0-9]+"
            )

    async def test_a_shared_key(self) -> None:
        first, second = await self.sharing()
        await self.check_kept_out()
        waiting = self.link(lock_timeout=60.0).query("*IDN?")
        for client in (first, second):  # the key lets both in
            self.assertRegex(await client.query("*IDN?"), "SIM-STAGE")
        await first.unlock()
        await self.check_kept_out()
        self.assertFalse(waiting.called)
        await second.unlock()
        self.assertRegex(await waiting, "SIM-STAGE")
        for move in self.moves():
            await move()
        self.assertRegex(await self.vxi11.ask("do", "a", "ask", "*IDN?"), "SIM-STAGE")

    async def test_the_end_of_one_session_is_not_the_end_of_the_lock(self) -> None:
        first, second = await self.sharing()
        await first.close()
        await self.check_kept_out()
        waiting = self.link().lock(wait=60)
        await second.close()
        await waiting

    async def test_the_other_way_round(self) -> None:
        """A link's lock keeps everybody else out; a HiSLIP message waits for its end."""
        await self.vxi11.ask("do", "a", "lock")
        for move in self.moves():
            with self.assertRaises(PeerError) as caught:
                await move()
            self.assertRegex(caught.exception.text, r"is locked by [^()]+ \(vxi11 127\.0\.0\.1:")
        port = await self.lab.port("stage", "hislip")
        hislip = HislipClient("127.0.0.1", port, timeout=30.0)
        self.addCleanup(hislip.close)
        await self.assertFailure(hislip.lock("alignment", wait=0.05), Locked)
        waiting = hislip.query("*IDN?")
        vicp = open_resource(f"VICP::{HOST}::INSTR", timeout=30)
        self.addCleanup(vicp.close)
        waiting_too = vicp.query("*IDN?")
        self.assertRegex(await self.vxi11.ask("do", "a", "ask", "*IDN?"), "SIM-STAGE")
        self.assertFalse(waiting.called or waiting_too.called)
        await self.vxi11.kill()
        for answer in (waiting, waiting_too):
            self.assertRegex(await answer, "SIM-STAGE")
