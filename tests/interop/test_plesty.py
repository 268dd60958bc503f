"""labnet's PLESTY client and plesty-lib's own server."""

from __future__ import annotations

import math
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from labnet.errors import (
    DeviceFault,
    NotAllowed,
    NotWritable,
    OutOfRange,
    TimedOut,
    UnknownName,
    WrongType,
)
from labnet.wires.plesty.client import PlestyClient
from tests.interop.peers import start


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
