"""The plesty wire of a running lab: plesty-lib's own client, and plain REQ sockets."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.interop.lab import start_lab
from tests.interop.peers import PeerProcess, peer, start
from tests.interop.plesty_case import GRACE, SOON, LabCase
from tests.interop.processes import ChildFailed

REFUSAL = "ResourceAllocationError: Requested resources are not available"


class ClientTests(LabCase):
    """What a program does with a device."""

    devices = ("stage", "powermeter", "daq", "linktester")

    async def test_describe(self) -> None:
        client = await self.client("powermeter")
        methods = {*(await client.ask("describe"))["methods"]}
        self.assertLessEqual({"query", "write", "identity", "get_config_list", "zero"}, methods)
        self.assertEqual(await client.ask("proxy", "identity"), "labnet,SIM-PM,P0000001,1.0")
        names = await client.ask("proxy", "get_config_list")
        self.assertLessEqual({"wavelength", "power", "range", "averaging", "unit"}, {*names})
        for name in names:
            await client.ask("query", name)

    async def test_queries_and_writes(self) -> None:
        client = await self.client("powermeter")
        for name, value in (("wavelength", 780.0), ("averaging", 20), ("unit", "DBM")):
            self.assertIs(await client.ask("write", name, value), True)
            self.assertEqual(await client.ask("query", name), value)
        self.assertTrue(-10 < await client.ask("query", "power") < 10)
        daq = await self.client("daq")
        self.assertIs(await daq.ask("write", "port0.line3", True), True)
        self.assertEqual(await daq.ask("query", "port0.value"), 8)

    async def test_calls(self) -> None:
        client = await self.client(client_id="one")
        self.assertEqual(await client.ask("call", "move_abs", 5.0), 5.0)
        self.assertEqual(await client.ask("call", "move_rel", distance=-2), 3.0)
        self.assertEqual(await client.ask("proxy", "move_abs", position=1.5), 1.5)
        self.assertEqual(await client.ask("query", "position"), 1.5)

    async def test_a_long_call_holds_up_no_other_client(self) -> None:
        client, other = await gatherResults(
            [Deferred.fromCoroutine(self.client()) for _ in range(2)]
        )
        await client.ask("write", "velocity", 10.0)
        moving = client.ask("proxy", "move_abs", 10.0)
        while await other.ask("query", "position") == 0:
            pass
        self.assertIs(await other.ask("query", "moving"), True)
        self.assertFalse(moving.called)
        self.assertEqual(await moving, 10.0)

    async def test_errors(self) -> None:
        client = await self.client("powermeter")
        for question, text in (
            (("query", "nope"), "KeyError: \"Config parameter 'nope' is not registered.\""),
            (("write", "wavelength", 1.0), "ValueError: Value 1.0 is below minimum of 400.0"),
            (("write", "wavelength", "red"), "ValueError: wavelength Value red does not match"),
            (("write", "unit", "X"), "ValueError: Value X is not in allowed options: ['W', 'DBM']"),
            (("write", "power", 1.0), "ValueError: Config parameter 'power' is read-only"),
            (("call", "nope"), "AttributeError: "),
            (("call", "__init__"), "AttributeError: "),
            (("call", "zero", 1, 2, 3), "TypeError: "),
        ):
            self.assertTrue((await self.refused(client, *question)).startswith(text), question)
        self.assertEqual(await client.ask("query", "wavelength"), 633.0)
        tester = await self.client("linktester")
        text = await self.refused(tester, "call", "fail", -300, "the lamp is broken")
        self.assertEqual(text, "TestFailure: the lamp is broken")


class BudgetTests(LabCase):
    """Operations that say how long they may take: newer clients wait for them that long."""

    devices = ("linktester",)

    async def test_longer_than_the_clients_own_limit(self) -> None:
        client = await self.client("linktester", timeout=300)
        self.assertEqual(await client.ask("call", "wait", 0.8), "done")
        self.assertEqual(await client.ask("proxy", "wait", 0.8), "done")

    async def test_a_limit_that_passes_is_an_error_reply(self) -> None:
        client = await self.client("linktester")
        text = await self.refused(client, "call", "wait", 20, timeout=0.3)
        self.assertTrue(text.startswith("TimeoutError: "), text)
        self.assertEqual(await client.ask("call", "echo", "next"), "next")


class OlderClientTests(ClientTests):
    """The same with an older client."""

    version = "0.3.6"


class LockTests(LabCase):
    """Two programs that want one device."""

    async def test_second_client_is_refused_then_served(self) -> None:
        one = await self.client(client_id="one", resources=["stage"])
        two = self.driver()
        wanted: dict[str, Any] = {"client_id": "two", "resources": ["stage"]}
        text = await self.refused(two, "connect", await self.address(), **wanted)
        self.assertEqual(text, REFUSAL)
        three = await self.client(client_id="three")
        self.assertEqual(await three.ask("query", "position"), 0.0)
        for question in (("call", "move_abs", 1.0), ("write", "velocity", 1.0)):
            self.assertRegex(
                await self.refused(three, *question),
                r"ResourceLockedError: .* is locked.* by one \(plesty 127\.0\.0\.1:",
            )
        self.assertEqual(await one.ask("call", "move_abs", 1.0), 1.0)
        await one.ask("close")
        await two.ask("connect", await self.address(), **wanted)
        self.assertEqual(await two.ask("call", "move_abs", 2.0), 2.0)
        self.assertIn("two", await self.refused(three, "call", "move_abs", 1.0))

    async def test_a_parameter_is_a_resource_too(self) -> None:
        one = await self.client(client_id="one", resources=["velocity"])
        two = await self.client(client_id="two", resources=["acceleration"])
        self.assertIs(await one.ask("write", "velocity", 10.0), True)
        self.assertIs(await two.ask("write", "acceleration", 100.0), True)
        self.assertIn("by one", await self.refused(two, "write", "velocity", 20.0))
        self.assertIn("by two", await self.refused(one, "write", "acceleration", 20.0))

    async def test_other_resources_over_the_same_connection(self) -> None:
        one = await self.client(client_id="one", resources=["velocity"])
        two = await self.client(client_id="two")
        await one.ask("reconnect", ["acceleration"])
        self.assertIs(await two.ask("write", "velocity", 20.0), True)
        self.assertIn("by one", await self.refused(two, "write", "acceleration", 20.0))
        await one.ask("disconnect")
        self.assertIs(await two.ask("write", "acceleration", 20.0), True)

    async def test_killed_holder_is_waited_for(self) -> None:
        one = await self.client(client_id="one", resources=["stage"])
        other = await self.client(client_id="two")
        killed = time.monotonic()
        await one.kill()
        refused, when = await self.until_served(other, "one")
        self.assertGreater(refused, 0)
        self.assertGreaterEqual(when - killed, GRACE)
        self.assertLess(when - killed, GRACE + SOON)

    async def test_killed_holder_of_a_move(self) -> None:
        one = await self.client(client_id="one", resources=["stage"])
        other = await self.client(client_id="two")
        await one.ask("write", "velocity", 50.0)
        moving = one.ask("call", "move_abs", 20.0)
        while await other.ask("query", "position") == 0:
            pass
        killed = time.monotonic()
        await one.kill()
        await self.assertFailure(moving, ChildFailed)
        _, when = await self.until_served(other, "one")
        self.assertGreaterEqual(when - killed, GRACE)
        self.assertLess(when - killed, GRACE + SOON)


class OlderLockTests(LockTests):
    """The same with an older client."""

    version = "0.3.6"


class RequestTests(LabCase):
    """Plain REQ sockets."""

    def request(self, address: str) -> PeerProcess:
        return start(self, "plesty-0.6.0", "zmq_req", address)

    async def test_requests(self) -> None:
        client = self.request(await self.address())
        for request, result in (
            ({"type": "query", "param": "velocity"}, 100.0),
            ({"type": "write", "param": "velocity", "value": 50}, True),
            ({"type": "query", "param": "velocity", "timeout": 1}, 50.0),
            ({"type": "call", "func": "move_abs", "args": [2.0]}, 2.0),
            ({"type": "call", "func": "identity", "kwargs": {}}, "labnet,SIM-STAGE,S0000001,1.0"),
        ):
            reply = await client.ask("request", request)
            self.assertEqual((reply["status"], reply.get("result")), ("ok", result), reply)
        reply = await client.ask("request", {"type": "describe"})
        self.assertIn("move_abs", reply["result"]["methods"])

    async def test_errors_leave_the_socket_usable(self) -> None:
        client = self.request(await self.address())
        for text in ("{", "[]", "{}", '{"type": "dance"}', '{"type": "query"}', ""):
            reply = await client.ask("send_text", text)
            self.assertEqual(reply["status"], "error", text)
            self.assertTrue(reply["type"] and reply["error"], reply)
        reply = await client.ask("request", {"type": "query", "param": "velocity"})
        self.assertEqual(reply["result"], 100.0)

    async def test_two_sockets(self) -> None:
        clients = [self.request(await self.address()) for _ in range(2)]
        first, second = clients
        await first.ask("request", {"type": "write", "param": "velocity", "value": 10})
        moving = first.ask("request", {"type": "call", "func": "move_abs", "args": [5.0]})
        query = {"type": "query", "param": "position"}
        while (await second.ask("request", query))["result"] == 0:
            pass
        self.assertFalse(moving.called)
        self.assertEqual((await moving)["result"], 5.0)

    async def test_locks(self) -> None:
        one, two = [self.request(await self.address()) for _ in range(2)]
        await one.ask("request", {"type": "connect", "resources": ["stage"]})
        reply = await two.ask("request", {"type": "call", "func": "home"})
        self.assertEqual(reply["type"], "ResourceLockedError")
        self.assertEqual(reply["result"]["holder"]["wire"], "plesty")
        await one.ask("request", {"type": "disconnect"})
        reply = await two.ask("request", {"type": "call", "func": "home"})
        self.assertEqual(reply["result"], 0.0)


class BenchTests(TestCase):
    """A REQ socket and a listener for all devices: a request holds the one for the device."""

    timeout = 60

    async def test_requests(self) -> None:
        peer("plesty-0.6.0")
        bench = "[serve bench]\nwire = plesty\nlisten = tcp://127.0.0.1:*\ndevices = *\n"
        devices = "[device stage]\ndriver = simulated.stage\n[device daq]\ndriver = simulated.daq\n"
        lab = start_lab(self, devices + bench)
        address = f"tcp://127.0.0.1:{await lab.port('*', 'plesty')}"
        client = start(self, "plesty-0.6.0", "zmq_req", address)
        reply = await client.ask("request", {"type": "describe"})
        self.assertEqual(reply["result"]["fleet"], ["daq", "stage"])
        for device, inner, result in (
            ("stage", {"type": "call", "func": "move_abs", "args": [1.5]}, 1.5),
            ("stage", {"type": "query", "param": "position"}, 1.5),
            ("daq", {"type": "write", "param": "port0.value", "value": 5}, True),
            ("daq", {"type": "query", "param": "port0.line2"}, True),
        ):
            outer = {"type": "device", "name": device, "request": inner}
            reply = await client.ask("request", outer)
            self.assertEqual(reply, {"status": "ok", "result": result})
        unknown = {"type": "device", "name": "stag", "request": {"type": "describe"}}
        reply = await client.ask("request", unknown)
        self.assertEqual((reply["status"], reply["type"]), ("error", "KeyError"))
        self.assertIn("stage", reply["error"])
        reply = await client.ask("request", {"type": "query", "param": "position"})
        self.assertEqual((reply["status"], reply["type"]), ("error", "ValueError"))
