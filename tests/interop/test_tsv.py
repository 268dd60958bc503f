"""The tsv wire and sm_bluesky's own classes."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from labnet.errors import DeviceFault, NotConnected, TimedOut, UnknownName
from labnet.wires.tsv.client import TsvClient
from tests.interop.peers import start


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
