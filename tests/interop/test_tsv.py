"""The tsv wire and sm_bluesky's own classes."""

from __future__ import annotations

import signal
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from labnet.errors import DeviceFault, NotConnected, TimedOut, UnknownName
from labnet.wires.tsv.client import TsvClient
from tests.interop.lab import start_lab
from tests.interop.peers import PeerError, PeerProcess, peer, run_command, start


class ClientTests(TestCase):
    """labnet's client against a running subclass of AbstractInstrumentServer."""

    timeout = 60

    async def launch(self, *options: str, persistent: bool = False) -> TsvClient:
        self.server = start(self, "sm-bluesky", "sm_bluesky_server", *options)
        port = (await self.server.wait_for("listening"))["port"]
        return self.client(port, persistent)

    def client(self, port: int, persistent: bool = False) -> TsvClient:
        client = TsvClient(f"127.0.0.1:{port}", persistent=persistent, reactor=reactor)
        self.addCleanup(client.close)
        return client

    async def test_commands_and_data(self) -> None:
        client = await self.launch()
        await client.ping()
        self.assertEqual((await client.send("move_abs", 1e-07)).text, "Moved to 1e-07")
        self.assertEqual((await client.send("position")).text, "1e-07")
        self.assertEqual((await client.send("limits")).fields, ("-10.0", "10.0", "mm"))
        self.assertEqual((await client.send("echo", "a b", "c")).fields, ("a b", "c"))
        self.assertEqual((await client.send("raw")).data, b"\xff\xfe")
        self.assertEqual((await client.send("big", 300_000)).data, b"x" * 300_000)

    async def test_command_list(self) -> None:
        client = await self.launch()
        names = await client.command_list()
        self.assertLessEqual({"ping", "shutdown", "connect_hardware", "move_abs"}, {*names})

    async def test_errors(self) -> None:
        client = await self.launch()
        for failing, kind, text in (
            (client.send("fail", "bad thing"), DeviceFault, "'fail': bad thing"),
            (client.send("move_abs", "abc"), DeviceFault, "could not convert string to float"),
            (client.send("nosuch"), UnknownName, "unknown command 'nosuch'"),
            (client.send("fail2"), DeviceFault, "first line"),
        ):
            error = await self.assertFailure(failing, kind)
            self.assertIn(text, str(error))

    async def test_no_reply_times_out_and_the_next_request_is_right(self) -> None:
        for persistent in (False, True):
            client = await self.launch(persistent=persistent)
            await self.assertFailure(client.send("silent", timeout=0.2), TimedOut)
            self.assertEqual((await client.send("position")).text, "0.0")

    async def test_silent_commands(self) -> None:
        client = await self.launch()
        self.assertEqual((await client.send_silent("silent")).data, b"")
        self.assertEqual(await client.connect_hardware(), "")
        self.assertEqual(await client.disconnect_hardware(), "")

    async def test_hardware_that_replies(self) -> None:
        client = await self.launch("--hardware-replies")
        self.assertEqual(await client.connect_hardware(), "Hardware connected successfully")
        self.assertEqual(await client.disconnect_hardware(), "Hardware disconnected")

    async def test_one_connection_carries_all_requests(self) -> None:
        client = await self.launch(persistent=True)
        positions = range(20)
        replies = await gatherResults([client.send("move_abs", n) for n in positions])
        self.assertEqual([reply.text for reply in replies], [f"Moved to {n}" for n in positions])
        self.assertEqual(
            await self.server.ask("requests"), [["move_abs", str(n)] for n in positions]
        )

    async def test_two_clients_take_turns(self) -> None:
        """The real server serves one connection at a time: neither may keep it from the other."""
        first = await self.launch()
        port = (await self.server.wait_for("listening"))["port"]
        second = self.client(port)
        replies = await gatherResults(
            [client.send("echo", n) for n in range(5) for client in (first, second)]
        )
        self.assertEqual([reply.text for reply in replies], [str(n // 2) for n in range(10)])

    async def test_shutdown(self) -> None:
        client = await self.launch()
        await client.shutdown()
        self.assertEqual(await self.server.end(), 0)
        await self.assertFailure(client.ping(), NotConnected)

    async def test_server_that_dies_in_a_request(self) -> None:
        client = await self.launch()
        slow = client.send("slow", 30)
        await self.server.wait_for("slow")
        await self.server.kill()
        await self.assertFailure(slow, NotConnected)
        await self.assertFailure(client.ping(), NotConnected)


LAB = """
[lab]
name = interop
[device stage]
driver = simulated.stage
[serve stage-tsv]
wire = tsv
listen = tcp:0
device = stage
"""
TEMPLATE = "Communication layer failure: Server Error: "


class ServerCase(TestCase):
    """A running lab, and the real client."""

    timeout = 60
    config = LAB

    async def setUp(self) -> None:  # type: ignore[override]
        peer("sm-bluesky")
        self.lab = start_lab(self, self.config)
        self.port = str(await self.lab.port("stage", "tsv"))
        self.client = self.driver()

    def driver(self) -> PeerProcess:
        return start(self, "sm-bluesky", "sm_bluesky_client", "127.0.0.1", self.port, "10")

    async def send(self, *command: object) -> str:
        """The data of the reply."""
        data: str = await self.client.ask("send", *command)
        return data

    async def refused(self, *command: object) -> str:
        """The text of the error, as the server has sent it."""
        failure = await self.assertFailure(self.client.ask("send", *command), PeerError)
        self.assertEqual(failure.type, "ConnectionError")
        self.assertTrue(failure.text.startswith(TEMPLATE), failure.text)
        return str(failure.text).removeprefix(TEMPLATE)


class ServerTests(ServerCase):
    """The real InstrumentClient and the real command line against labnet."""

    async def test_ping_and_commands(self) -> None:
        self.assertEqual(await self.send("ping"), "")
        names = (await self.send("command_list")).split("\t")
        self.assertEqual(len(names), len({*names}))
        self.assertLessEqual(
            {"ping", "command_list", "connect_hardware", "disconnect_hardware", "shutdown"}
            | {"move_abs", "stop", "position", "velocity"},
            {*names},
        )

    async def test_moves_and_reads(self) -> None:
        self.assertEqual(await self.send("move_abs", 2.5), "2.5")
        self.assertEqual(await self.send("get", "position"), "2.5")
        self.assertEqual(await self.send("position"), "2.5")
        self.assertEqual(await self.send("move_rel", -1), "1.5")

    async def test_parameters(self) -> None:
        self.assertEqual(await self.send("set", "velocity", 20), "20.0")
        self.assertEqual(await self.send("get", "velocity"), "20.0")
        self.assertEqual(await self.send("velocity", 1e1), "10.0")
        self.assertEqual(await self.send("velocity"), "10.0")
        self.assertEqual(await self.send("moving"), "False")

    async def test_hardware_commands_reply(self) -> None:
        """With sm_bluesky's own base class the client waits for a reply in vain, and raises."""
        self.assertEqual(await self.send("disconnect_hardware"), "")
        self.assertEqual(await self.send("connect_hardware"), "")
        self.assertEqual(await self.send("get", "position"), "0.0")

    async def test_errors(self) -> None:
        self.assertEqual(
            await self.refused("nosuch"), "Received unknown command: 'nosuch': Unknown command"
        )
        for command, reason in (
            (("move_abs",), "position"),
            (("move_abs", "abc"), "abc"),
            (("move_abs", 1e9), "100"),
            (("move_abs", 1, 2), "move_abs"),
            (("set", "moving", 1), "moving"),
            (("get", "nosuch"), "nosuch"),
        ):
            text = await self.refused(*command)
            self.assertTrue(text.startswith(f"Error handling command '{command[0]}': "), text)
            self.assertIn(reason, text.partition("': ")[2])
        self.assertEqual(await self.send("ping"), "")

    async def test_many_requests(self) -> None:
        """Each of them over a connection of its own, from two clients at once."""
        clients = [self.client, self.driver()]
        for number in range(100):
            sent = [client.ask("send", "set", "velocity", number + 1) for client in clients]
            self.assertEqual(await gatherResults(sent), [f"{number + 1}.0"] * 2)

    async def test_slow_command_holds_up_nobody(self) -> None:
        await self.send("velocity", 10)
        moving = self.driver().ask("send", "move_abs", 10)
        while float(await self.send("position")) == 0:
            pass
        self.assertEqual(await self.send("moving"), "True")
        self.assertIn("wait, or stop it first", await self.refused("move_abs", 1))
        self.assertFalse(moving.called)
        self.assertEqual(await moving, "10.0")

    async def test_stop(self) -> None:
        await self.send("velocity", 10)
        moving = self.driver().ask("send", "move_abs", 100)
        while float(await self.send("position")) == 0:
            pass
        where = await self.send("stop")
        failure = await self.assertFailure(moving, PeerError)
        self.assertIn("Error handling command 'move_abs': stopped at ", failure.text)
        self.assertEqual((await self.send("position"), await self.send("moving")), (where, "False"))

    async def test_silent_client_holds_up_nobody(self) -> None:
        """sm_bluesky's own server serves nobody else as long as one client stays connected."""
        idle = TsvClient(f"127.0.0.1:{self.port}", persistent=True, reactor=reactor)
        self.addCleanup(idle.close)
        await idle.ping()
        self.assertEqual(await self.send("ping"), "")

    async def test_lock_of_a_client_that_connects_for_each_request(self) -> None:
        token = await self.send("lock", "stage", "alignment", 600)
        self.assertRegex(
            await self.refused("move_abs", 1),
            r"^Error handling command 'move_abs': stage.* is locked.* by alignment \(tsv 127\.",
        )
        self.assertRegex(await self.send("lock_info"), "^stage: alignment ")
        self.assertEqual(await self.send("with", token, "move_abs", 1), "1.0")
        await self.refused("unlock", f"{token}x")
        await self.send("unlock", token)
        self.assertEqual(await self.send("move_abs", 2), "2.0")

    async def test_lock_without_a_lease_ends_with_its_connection(self) -> None:
        holder = TsvClient(f"127.0.0.1:{self.port}", persistent=True, reactor=reactor)
        token = (await holder.send("lock", "stage", "alignment")).text
        self.assertIn("alignment", await self.refused("move_abs", 1))
        self.assertEqual(await self.send("with", token, "move_abs", 1), "1.0")
        await holder.close()
        while await self.send("lock_info"):
            pass  # until the lab has seen the end of the connection
        self.assertEqual(await self.send("move_abs", 2), "2.0")

    async def command(self, payload: str) -> str:
        arguments = ("sm_bluesky_command", "send", payload, "--port", self.port)
        done = await run_command(self, "sm-bluesky", *arguments)
        self.assertEqual(done.code, 0)
        return done.text

    async def test_command_line(self) -> None:
        self.assertIn("SUCCESS", await self.command("ping"))
        self.assertIn("SUCCESS: 1.5", await self.command("move_abs 1.5"))
        self.assertIn(
            f"FAILED: {TEMPLATE}Received unknown command: 'nosuch'", await self.command("nosuch")
        )

    async def test_shutdown_is_refused_unless_allowed(self) -> None:
        self.assertIn("allow_shutdown", await self.refused("shutdown"))
        self.assertEqual(await self.send("ping"), "")

    async def test_stops_on_term(self) -> None:
        await self.send("velocity", 1)
        moving = self.client.ask("send", "move_abs", 100)
        other = self.driver()
        while float(await other.ask("send", "position")) == 0:
            pass
        self.assertEqual(await self.lab.stop(), -signal.SIGTERM)
        await self.assertFailure(moving, PeerError)


class ShutDownListenerTests(ServerCase):
    """A listener that clients may end."""

    config = LAB + "allow_shutdown = listener\n[serve second]\nwire = scpi\nlisten = tcp:0\n"
    config += "device = stage\n"

    async def test_shutdown_ends_this_listener_only(self) -> None:
        """The client takes the end of the connection for an error, as with the real servers."""
        failure = await self.assertFailure(self.client.ask("send", "shutdown"), PeerError)
        self.assertIn("without returning data", failure.text)
        failure = await self.assertFailure(self.client.ask("send", "ping"), PeerError)
        self.assertIn("refused", failure.text)
        other = TCP4ClientEndpoint(reactor, "127.0.0.1", await self.lab.port("stage", "scpi"))
        connection: Any = await other.connect(Factory.forProtocol(Protocol))
        connection.transport.loseConnection()
        self.assertEqual(await self.lab.stop(), -signal.SIGTERM)


class ShutDownLabTests(ServerCase):
    """A lab that clients may end."""

    config = LAB + "allow_shutdown = lab\n"

    async def test_shutdown_ends_the_process(self) -> None:
        await self.assertFailure(self.client.ask("send", "shutdown"), PeerError)
        self.assertEqual(await self.lab.end(), 0)


class SeveralDevicesTests(TestCase):
    """The real client and a listener for all devices: commands begin with the device's name."""

    timeout = 60

    async def test_commands(self) -> None:
        peer("sm-bluesky")
        config = "[device meter]\ndriver = simulated.powermeter\n"
        lab = start_lab(self, LAB.replace("device = stage", "devices = *") + config)
        port = str(await lab.port("*", "tsv"))
        client = start(self, "sm-bluesky", "sm_bluesky_client", "127.0.0.1", port, "10")
        for command, answer in (
            (("stage.move_abs", 1.5), "1.5"),
            (("get", "stage.position"), "1.5"),
            (("set", "meter.wavelength", 700), "700.0"),
            (("meter.unit",), "W"),
            (("disconnect_hardware", "meter"), ""),
            (("connect_hardware", "meter"), ""),
            (("stop", "stage"), ""),
        ):
            self.assertEqual(await client.ask("send", *command), answer, command)
        names = (await client.ask("send", "command_list")).split("\t")
        self.assertLessEqual({"ping", "stage.home", "meter.zero"}, {*names})
        failure = await self.assertFailure(client.ask("send", "move_abs", 1), PeerError)
        self.assertIn("Received unknown command: 'move_abs'", failure.text)
