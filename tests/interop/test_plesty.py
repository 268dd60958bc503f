"""The plesty wire and plesty-lib's own server and client."""

from __future__ import annotations

import math
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from labnet.device import Device, Identity, command, parameter
from labnet.errors import (
    DeviceFault,
    NotAllowed,
    NotWritable,
    OutOfRange,
    TimedOut,
    UnknownName,
    WrongType,
)
from labnet.lab import Lab, ServeOptions
from labnet.wires.plesty.client import PlestyClient
from labnet.wires.plesty.server import Options, listen
from tests.interop.peers import PeerError, PeerProcess, start


class ClientTests(TestCase):
    """labnet's client against a running device server of plesty-lib."""

    timeout = 60
    version = "0.6.0"

    async def launch(self) -> str:
        self.server = start(self, f"plesty-{self.version}", "plesty_server")
        address: str = (await self.server.wait_for("listening"))["address"]
        return address.replace("*", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")

    async def client(self, address: str, **options: Any) -> PlestyClient:
        client = PlestyClient(address, reactor=reactor, **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return await client.connect()

    async def test_parameters_and_operations(self) -> None:
        client = await self.client(await self.launch())
        self.assertEqual(await client.query("wavelength"), 532.0)
        self.assertIs(await client.write("wavelength", 1064.0), True)
        self.assertEqual(await client.query("wavelength"), 1064.0)
        self.assertIs(await client.write("MOTOR.position", 2.5), True)
        self.assertIn("MOTOR.position", await client.get_config_list())
        self.assertEqual(await client.identity(), "Example,Bench,B-0001,1.0")
        self.assertEqual(await client.add(2, b=40), 42)
        self.assertTrue(math.isnan(await client.echo(math.nan)))
        odd = {"a": [2**70, "\u00b5\ud800", None]}
        self.assertEqual(await client.echo(odd), odd)
        self.assertIn("measure_power", client.methods)

    async def test_many_requests_at_once_keep_their_answers(self) -> None:
        client = await self.client(await self.launch())
        answers = await gatherResults([client.echo(number) for number in range(200)])
        self.assertEqual(answers, list(range(200)))

    async def test_errors(self) -> None:
        client = await self.client(await self.launch())
        for failing, kind, text in (
            (client.query("nope"), UnknownName, "Config parameter 'nope' is not registered."),
            (client.write("serial", "x"), NotWritable, "read-only"),
            (client.write("wavelength", "633"), WrongType, "does not match expected type float"),
            (client.write("wavelength", 1.0), OutOfRange, "below minimum of 185.0"),
            (client.write("power_unit", "X"), OutOfRange, "allowed options"),
            (client.boom("RuntimeError", "bang"), DeviceFault, "bang"),
            (client.image(), DeviceFault, "ndarray"),
            (client.call("nope"), UnknownName, "nope"),
        ):
            error = await self.assertFailure(failing, kind)
            self.assertIn(text, str(error))

    async def test_locks(self) -> None:
        address = await self.launch()
        one = await self.client(address, resources=["axis"], client_id="one")
        self.assertEqual(one.resources, ("axis/x", "axis/y"))
        refused = PlestyClient(address, resources="axis/x", client_id="two", reactor=reactor)
        await self.assertFailure(Deferred.fromCoroutine(refused.connect()), NotAllowed)
        await one.close()
        two = await self.client(address, resources="axis/x", client_id="two")
        self.assertEqual(two.resources, ("axis/x",))

    async def test_a_late_answer_is_nobodys(self) -> None:
        """The real client would take it for the answer to its next request."""
        client = await self.client(await self.launch(), timeout=0.3)
        await self.assertFailure(client.nap(0.5), TimedOut)
        client.timeout = 5.0
        self.assertEqual(await client.query("serial"), "B-0001")
        self.assertEqual(await client.query("averaging"), 10)

    async def test_a_holder_keeps_its_locks_through_a_timeout(self) -> None:
        address = await self.launch()
        client = await self.client(address, resources="laser", client_id="one", timeout=0.3)
        await self.assertFailure(client.nap(0.5), TimedOut)
        client.timeout = 5.0
        self.assertEqual(await client.query("serial"), "B-0001")
        self.assertEqual(client.resources, ("laser",))
        refused = PlestyClient(address, resources="laser", client_id="two", reactor=reactor)
        await self.assertFailure(Deferred.fromCoroutine(refused.connect()), NotAllowed)


class OlderServerTests(ClientTests):
    """The same against an older server."""

    version = "0.3.6"


class PowerMeter(Device):
    """Parameters, a group, and operations that answer, fail and wait."""

    identity = Identity("labnet", "TEST-PM", "P1", "1.0")
    wavelength = parameter(float, unit="nm", limits=(400.0, 1100.0), initial=633.0)
    unit = parameter(choices=("W", "DBM"), initial="W")
    serial = parameter(str, initial="P1", access="r")

    def __init__(self) -> None:
        self.motor = Motor()
        self.laser = Device()
        self.waiting: list[Deferred[str]] = []

    @command(reads=True)
    def add(self, a: float, b: float = 1.0) -> float:
        return a + b

    @command(timeout=7.5)
    def wait(self) -> Deferred[str]:
        self.waiting.append(Deferred())
        return self.waiting[-1]

    @command(reads=True)
    def boom(self, text: str) -> None:
        raise ValueError(text)


class Motor(Device):
    position = parameter(float, unit="mm", initial=1.0)


class ServerTests(TestCase):
    """plesty-lib's real client against labnet's server."""

    timeout = 60
    version = "0.6.0"

    async def setUp(self) -> None:
        self.lab = Lab(reactor=reactor, grace=0.5)
        self.addCleanup(self.lab.stop)
        self.device = PowerMeter()
        self.lab.attach("meter", self.device)
        listener = await listen(
            self.lab, "tcp://127.0.0.1:*", ServeOptions(device="meter"), Options(), reactor
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(listener.stop()))
        self.address = listener.address

    async def driver(self, **options: Any) -> PeerProcess:
        driver = start(self, f"plesty-{self.version}", "plesty_client")
        await driver.wait_for("ready")
        self.info = await driver.ask("connect", self.address, **options)
        return driver

    async def test_parameters_and_operations(self) -> None:
        driver = await self.driver()
        self.assertEqual(await driver.ask("query", "wavelength"), 633.0)
        self.assertIs(await driver.ask("write", "wavelength", 700), True)
        self.assertEqual(await driver.ask("query", "wavelength"), 700.0)
        self.assertEqual(await driver.ask("query", "MOTOR.position"), 1.0)
        self.assertEqual(await driver.ask("proxy", "identity"), "labnet,TEST-PM,P1,1.0")
        self.assertEqual(await driver.ask("proxy", "add", 2, b=3), 5.0)
        names = await driver.ask("proxy", "get_config_list")
        self.assertEqual(names, ["wavelength", "unit", "serial", "motor.position"])
        self.assertIn("doc", await driver.ask("describe"))

    async def test_errors(self) -> None:
        driver = await self.driver()
        for verb, args, text in (
            ("query", ("nope",), "KeyError: \"Config parameter 'nope' is not registered.\""),
            ("write", ("serial", "x"), "ValueError: Config parameter 'serial' is read-only"),
            ("write", ("wavelength", 1.0), "ValueError: Value 1.0 is below minimum of 400.0"),
            ("write", ("unit", "X"), "ValueError: Value X is not in allowed options: ['W', 'DBM']"),
            ("call", ("boom", "bang"), "ValueError: bang"),
            ("call", ("_obj",), "AttributeError: unknown operation '_obj'"),
        ):
            with self.assertRaises(PeerError) as caught:
                await driver.ask(verb, *args)
            self.assertEqual(caught.exception.type, "RuntimeError")
            self.assertIn(text, caught.exception.text)

    async def test_locks(self) -> None:
        one = await self.driver(client_id="one", resources=["laser"])
        self.assertEqual(self.info["resources"], ["laser"])
        two = start(self, f"plesty-{self.version}", "plesty_client")
        with self.assertRaises(PeerError) as caught:
            await two.ask("connect", self.address, client_id="two", resources=["laser"])
        self.assertIn("Requested resources are not available", caught.exception.text)
        await two.ask("connect", self.address, client_id="two", resources=["motor"])
        info = await one.ask("reconnect", ["laser", "wavelength"])
        self.assertEqual(info["resources"], ["laser", "wavelength"])
        self.assertIs(await two.ask("write", "unit", "DBM"), True)
        with self.assertRaises(PeerError) as caught:
            await two.ask("write", "wavelength", 500.0)
        self.assertIn("ResourceLockedError: ", caught.exception.text)
        self.assertIn("one", caught.exception.text)
        await one.ask("close")
        await two.ask("write", "wavelength", 500.0)

    async def test_a_killed_client_frees_its_locks(self) -> None:
        one = await self.driver(client_id="one", resources=["laser"])
        freed: Deferred[None] = Deferred()

        def changed(change: Any) -> None:
            if not self.lab.locks.count and not freed.called:
                freed.callback(None)

        self.lab.locks.subscribe(changed)
        one.signal("KILL")
        await freed
        await self.driver(client_id="two", resources=["laser"])
        self.assertEqual(self.info["resources"], ["laser"])

    async def test_a_budget_is_the_time_limit(self) -> None:
        driver = await self.driver()
        waiting = driver.ask("proxy", "wait")
        self.assertEqual(await (await self.driver()).ask("query", "serial", timeout=1), "P1")
        self.device.waiting.pop().callback("done")
        self.assertEqual(await waiting, "done")


class OlderClientTests(ServerTests):
    """The same with an older client."""

    version = "0.3.6"
