"""The real peers against each other: that they are what the other interop tests take them for."""

from __future__ import annotations

import math
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase
from zope.interface import implementer

from tests.interop import pins
from tests.interop.peers import (
    PeerError,
    PeerMissing,
    PeerProcess,
    peer,
    run_command,
    start,
    tool,
)
from tests.interop.processes import ChildFailed, run


class FindingTests(SynchronousTestCase):
    """What is said when a peer is not there."""

    def setUp(self) -> None:
        self.patch(os, "environ", {**os.environ, "LABNET_PEERS": self.mktemp(), "PATH": ""})
        os.environ.pop("CI", None)

    def test_skips_with_the_way_to_install_it(self) -> None:
        for find, name in ((peer, "plesty-0.6.0"), (tool, "lxi")):
            with self.assertRaises(SkipTest) as caught:
                find(name)
            self.assertIn(f"run tests/interop/install-peers {name}", str(caught.exception))

    def test_fails_in_continuous_integration(self) -> None:
        os.environ["CI"] = "true"
        self.assertRaises(PeerMissing, peer, "sm-bluesky")
        self.assertRaises(PeerMissing, tool, "nc")

    def test_unknown_name_lists_the_known(self) -> None:
        with self.assertRaisesRegex(KeyError, "sm-bluesky, plesty-0.6.0"):
            peer("sm_bluesky")

    def test_other_pins_are_another_installation(self) -> None:
        item = pins.Peer("one", (("a==1",),))
        item.python.parent.mkdir(parents=True)
        item.python.touch()
        (item.directory / pins.STAMP).write_text(item.stamp)
        self.assertTrue(item.is_installed())
        self.assertFalse(pins.Peer("one", (("a==2",),)).is_installed())

    def test_half_an_installation_does_not_count(self) -> None:
        item = pins.Peer("one", (("a==1",),))
        item.python.parent.mkdir(parents=True)
        item.python.touch()
        self.assertFalse(item.is_installed())


class InstallerTests(SynchronousTestCase):
    """The command line of install-peers, as far as it goes without installing anything."""

    script = Path(__file__).with_name("install-peers").resolve()

    def invoke(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "LABNET_PEERS": self.mktemp()}
        return subprocess.run(
            [sys.executable, str(self.script), *arguments],
            capture_output=True,
            text=True,
            env=environment,
        )

    def test_is_executable(self) -> None:
        self.assertTrue(self.script.stat().st_mode & stat.S_IXUSR)

    def test_lists_every_peer(self) -> None:
        done = self.invoke("--list")
        names = [line.split()[0] for line in done.stdout.splitlines()]
        self.assertEqual(names, [item.name for item in pins.everything()])
        self.assertIn("not installed", done.stdout)

    def test_unknown_name(self) -> None:
        done = self.invoke("plesty-9")
        self.assertEqual(done.returncode, 2)
        self.assertIn("no peer is called 'plesty-9'", done.stderr)


class DriverTests(TestCase):
    """What a test sees of a driver that errs, ends or hangs."""

    timeout = 60

    def setUp(self) -> None:
        self.driver = start(self, "sm-bluesky", "sm_bluesky_client", "127.0.0.1", "1")

    async def test_unknown_verb_is_the_drivers_error(self) -> None:
        failure = await self.assertFailure(self.driver.ask("nonsense"), PeerError)
        self.assertEqual(failure.type, "KeyError")

    async def test_question_to_a_killed_driver_fails(self) -> None:
        await self.driver.wait_for("ready")
        self.driver.signal("STOP")
        question = self.driver.ask("send", "ping")
        self.assertEqual(await self.driver.kill(), -signal.SIGKILL)
        await self.assertFailure(question, ChildFailed)
        await self.assertFailure(self.driver.ask("send", "ping"), ChildFailed)

    async def test_limit_says_what_it_waited_for(self) -> None:
        await self.driver.wait_for("ready")
        self.driver.signal("STOP")
        failure = await self.assertFailure(self.driver.ask("send", "ping", limit=0.1), ChildFailed)
        self.assertIn("did not answer 'send' within 0.1 s", str(failure))
        failure = await self.assertFailure(self.driver.end(limit=0.1), ChildFailed)
        self.assertIn("did not end within 0.1 s", str(failure))

    async def test_event_that_never_comes(self) -> None:
        await self.driver.wait_for("ready")
        self.driver.transport.closeStdin()
        with self.assertRaisesRegex(ChildFailed, "ended with 0"):
            await self.driver.wait_for("listening")

    async def test_broken_driver_shows_its_standard_error(self) -> None:
        broken = start(self, "sm-bluesky", "sm_bluesky_client", "127.0.0.1", "no port")
        with self.assertRaisesRegex(ChildFailed, "invalid literal for int"):
            await broken.wait_for("ready")


class SmBlueskyTests(TestCase):
    """The real InstrumentClient and command line against a real AbstractInstrumentServer."""

    timeout = 60

    async def launch(self, *options: str) -> PeerProcess:
        self.server = start(self, "sm-bluesky", "sm_bluesky_server", *options)
        self.port = str((await self.server.wait_for("listening"))["port"])
        return start(self, "sm-bluesky", "sm_bluesky_client", "127.0.0.1", self.port, "0.5")

    async def test_moves_and_reads(self) -> None:
        client = await self.launch()
        self.assertEqual(await client.ask("send", "move_abs", 1e-07), "Moved to 1e-07")
        self.assertEqual(await client.ask("send", "position"), "1e-07")
        self.assertEqual(await client.ask("send", "limits"), "-10.0\t10.0\tmm")
        self.assertEqual(
            await self.server.ask("requests"), [["move_abs", "1e-07"], ["position"], ["limits"]]
        )

    async def test_errors(self) -> None:
        client = await self.launch()
        failure = await self.assertFailure(client.ask("send", "fail", "bad thing"), PeerError)
        self.assertEqual(
            str(failure),
            "ConnectionError: Communication layer failure: "
            "Server Error: Error handling command 'fail': bad thing",
        )
        self.assertEqual(failure.details["cause"], "RuntimeError")
        failure = await self.assertFailure(client.ask("send", "oops"), PeerError)
        self.assertIn("command: oops - hardware not responding: by hand", failure.text)

    async def test_no_reply_is_a_timeout(self) -> None:
        client = await self.launch()
        failure = await self.assertFailure(client.ask("send", "silent"), PeerError)
        self.assertEqual(failure.details["cause"], "TimeoutError")
        self.assertEqual(await client.ask("send", "ping"), "")

    async def test_hardware_replies(self) -> None:
        client = await self.launch("--hardware-replies")
        self.assertEqual(
            await client.ask("send", "connect_hardware"), "Hardware connected successfully"
        )

    async def test_shutdown_ends_the_server(self) -> None:
        client = await self.launch()
        failure = await self.assertFailure(client.ask("send", "shutdown"), PeerError)
        self.assertIn("without returning data", failure.text)
        self.assertEqual(await self.server.end(), 0)

    async def test_command_line(self) -> None:
        await self.launch()
        options = ("--port", self.port)
        done = await run_command(
            self, "sm-bluesky", "sm_bluesky_command", "send", "move_abs 2.5", *options
        )
        self.assertIn("SUCCESS: Moved to 2.5", done.text)
        done = await run_command(
            self, "sm-bluesky", "sm_bluesky_command", "send", "nosuch", *options
        )
        self.assertIn("FAILED: Communication layer failure: Server Error: Received", done.text)
        self.assertEqual(done.code, 0)


class PlestyPair:
    """The real build_client against the real build_server; the versions are the subclass's."""

    timeout = 60
    client_version: str
    server_version: str

    async def launch(self) -> None:
        self.server = start(self, f"plesty-{self.server_version}", "plesty_server")  # type: ignore[arg-type]
        self.address = (await self.server.wait_for("listening"))["address"]

    def new_client(self) -> PeerProcess:
        return start(self, f"plesty-{self.client_version}", "plesty_client")  # type: ignore[arg-type]

    async def connected(self, name: str, resources: Any = None) -> PeerProcess:
        client = self.new_client()
        info = await client.ask("connect", self.address, client_id=name, resources=resources)
        self.assertEqual(info["client_id"], name)
        return client

    async def test_queries_writes_and_calls(self) -> None:
        await self.launch()
        client = await self.connected("one")
        self.assertEqual(await client.ask("query", "wavelength"), 532.0)
        self.assertIs(await client.ask("write", "wavelength", 633.0), True)
        self.assertEqual(await client.ask("query", "wavelength"), 633.0)
        self.assertIs(await client.ask("write", "MOTOR.position", 1.5), True)
        self.assertEqual(await client.ask("call", "add", 2, b=40), 42)
        self.assertTrue(math.isnan(await client.ask("call", "echo", math.nan)))
        self.assertEqual(await client.ask("proxy", "identity"), "Example,Bench,B-0001,1.0")
        self.assertEqual(await client.ask("call", "measure_power", samples=5), {"power": 0.005})
        values = await self.server.ask("values")
        self.assertEqual(values, {"wavelength": 633.0, "MOTOR.position": 1.5})

    async def test_describe(self) -> None:
        await self.launch()
        description = await (await self.connected("one")).ask("describe")
        self.assertLessEqual({"add", "nap", "measure_power", "query"}, {*description["methods"]})

    async def test_errors(self) -> None:
        await self.launch()
        client = await self.connected("one")
        for question, text in (
            (client.ask("write", "wavelength", 1.0), "ValueError: Value 1.0 is below minimum"),
            (client.ask("write", "serial", "x"), "ValueError: Config parameter 'serial' is read-"),
            (client.ask("query", "nope"), "KeyError: \"Config parameter 'nope' is not"),
            (client.ask("call", "boom", "OSError", "no link"), "OSError: no link"),
            (client.ask("call", "image"), "SerializationError: result of type ndarray"),
        ):
            failure = await self.assertFailure(question, PeerError)
            self.assertEqual(failure.type, "RuntimeError")
            self.assertIn(text, failure.text)

    async def test_locks_refuse_a_second_connect(self) -> None:
        await self.launch()
        first = await self.connected("one", ["axis"])
        second = self.new_client()
        failure = await self.assertFailure(
            second.ask("connect", self.address, client_id="two", resources=["axis/x"]), PeerError
        )
        self.assertIn("Requested resources are not available", failure.text)
        await first.ask("close")
        info = await second.ask(
            "connect", self.address, client_id="two", resources=["axis/x"], connect_kwargs={"n": 1}
        )
        self.assertEqual(info["resources"], ["axis/x"])
        self.assertEqual(info["metadata"], {"n": 1})

    async def test_locks_of_a_killed_client_stay(self) -> None:
        """What labnet does better; and the reason why its clients must say goodbye."""
        await self.launch()
        first = await self.connected("one", ["laser"])
        await first.kill()
        second = self.new_client()
        await self.assertFailure(
            second.ask("connect", self.address, client_id="two", resources=["laser"]), PeerError
        )

    async def test_two_clients_at_once(self) -> None:
        await self.launch()
        first, second = await self.connected("one"), await self.connected("two")
        answers = await gatherResults(
            [first.ask("call", "nap", 0.1), second.ask("call", "add", 1, 1)]
        )
        self.assertEqual(answers, ["rested", 2])


class Plesty060Tests(PlestyPair, TestCase):
    client_version = server_version = "0.6.0"


class Plesty036Tests(PlestyPair, TestCase):
    client_version = server_version = "0.3.6"


class PlestyOldClientTests(PlestyPair, TestCase):
    client_version, server_version = "0.3.6", "0.6.0"


@implementer(IHalfCloseableProtocol)
class Instrument(LineOnlyReceiver):
    """Enough of a SCPI instrument to tell whether a client works."""

    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        if line.rstrip() == b"*IDN?":
            self.transport.write(b"Example,Instrument,1,0\n")
        elif line.rstrip() == b"CURV?":
            self.transport.write(b"#14\x01\x02\x0a\x04\n")

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing to do."""


class SocketClientTests(TestCase):
    """pyvisa-py's SOCKET sessions, lxi-tools and netcat against a server of a few lines."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        listener = await endpoint.listen(Factory.forProtocol(Instrument))
        self.addCleanup(listener.stopListening)
        self.port = str(listener.getHost().port)

    async def test_visa(self) -> None:
        visa = start(self, "pyvisa-py", "visa_client")
        resource = f"TCPIP::127.0.0.1::{self.port}::SOCKET"
        await visa.ask("open", "a", resource, read_termination="\n", timeout=2000)
        self.assertEqual(await visa.ask("query", "a", "*IDN?"), "Example,Instrument,1,0")
        values = await visa.ask("query_binary", "a", "CURV?", datatype="B")
        self.assertEqual(values, [1, 2, 10, 4])
        await visa.ask("set", "a", "timeout", 50)
        failure = await self.assertFailure(visa.ask("query", "a", "NOTHING?"), PeerError)
        self.assertEqual(failure.details["abbreviation"], "VI_ERROR_TMO")
        await visa.ask("clear", "a")
        await visa.ask("close", "a")

    async def test_lxi(self) -> None:
        done = await run(
            self, tool("lxi"), "scpi", "-r", "-a", "127.0.0.1", "-p", self.port, "*IDN?"
        )
        self.assertEqual((done.code, done.text.strip()), (0, "Example,Instrument,1,0"))

    async def test_netcat(self) -> None:
        command = (tool("nc"), "-N", "127.0.0.1", self.port)
        done = await run(self, *command, stdin=b"*IDN?\n*IDN?\n")
        self.assertEqual((done.code, done.output), (0, b"Example,Instrument,1,0\n" * 2))
