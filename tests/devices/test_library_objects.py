"""Objects that have the shape of PLESTY's, sm_bluesky's and pymeasure's; the real ones are in
tests/interop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from labnet.device import Device
from labnet.devices.objects.kinds import adapter_of, as_device, defaults_of, maker_of
from labnet.devices.objects.kinds_of_value import (
    LOOSE,
    NUMBER,
    kind_of_choices,
    kind_of_type,
    limits_of,
)
from labnet.devices.objects.pymeasure import unit_in
from labnet.devices.objects.sm_bluesky import Replies
from labnet.errors import DeviceFault, NotConnected, WrongType
from labnet.service import Lab
from labnet.values import ANY, BOOL, FLOAT, EnumKind, Limits
from tests.devices.bench import BenchCase


class Duck:
    """Like a PLESTY device, without the library."""

    def __init__(self, refuses: bool = False) -> None:
        self.values: dict[str, Any] = {"gain": 2.0, "MOTOR.position": 1.0}
        self.refuses = refuses
        self.events: list[str] = []

    def init(self) -> None:
        self.events.append("init")

    async def connect(self) -> None:
        self.events.append("connect")
        self.loop = asyncio.get_running_loop()

    def disconnect(self) -> None:
        self.events.append("disconnect")

    def identity(self) -> str:
        return "Duck,D-1"

    def get_config_list(self) -> list[str]:
        return [*self.values, "not a name"]

    def query(self, key: str, **kwargs: Any) -> Any:
        return self.values[key]

    async def write(self, key: str, value: Any, **kwargs: Any) -> bool:
        assert asyncio.get_running_loop() is self.loop, "each call has a loop of its own"
        self.values[key] = value
        return not self.refuses

    def quack(self, times: int = 1, **kwargs: Any) -> str:
        """Says so."""
        return "quack" * times

    quack.__plesty_expose_in_api__ = True  # type: ignore[attr-defined]
    quack.__plesty_op_budget_s__ = 12.0  # type: ignore[attr-defined]

    def hidden(self) -> None: ...


class Server:
    """Like an instrument server of sm_bluesky, without the library."""

    def __init__(self, host: str, port: int, works: bool = True) -> None:
        self.where = (host, port)
        self.works = works
        self.limit: list[float] = []
        self._conn: Any = None
        self._hardware_connected = False
        self._timeout_seconds = 60.0
        self._command_registry: dict[bytes, Callable[..., Any]] = {
            b"connect_hardware": self.connect_hardware,
            b"ping": self.ping,
            b"set-delay": self.set_delay,
            b"fail": self.fail,
            b"late": self.late,
            b"\xff": self.ping,
        }

    def connect_hardware(self) -> bool:
        return self.works

    def disconnect_hardware(self) -> None:
        self._conn.sendall(b"1\tHardware disconnected\n")

    def _handle_command(self, cmd: bytes, args: list[bytes]) -> None: ...

    @contextmanager
    def _timeout_context(self, seconds: float) -> Iterator[float]:
        self._timeout_seconds = seconds
        self.limit.append(seconds)
        yield time.time() + seconds

    def ping(self, *args: Any) -> None:
        self._conn.sendall(b"1\t\n")

    def set_delay(self, delay: bytes) -> None:
        self._conn.sendall(b"1\tset to " + delay + b"\n")

    def fail(self) -> None:
        self._conn.sendall(b"0\tno vacuum\n1\tbut well\n")

    def late(self) -> None:
        raise TimeoutError("late exceeded 60.0s limit")


class ShapeTests(SynchronousTestCase):
    """Which adapter stands for what."""

    def test_shapes(self) -> None:
        shapes = {Duck: "PlestyDevice", Server: "SmBlueskyDevice", str: "PlainDevice"}
        for cls, name in shapes.items():
            self.assertEqual(adapter_of(cls).__name__, name)

    def test_defaults(self) -> None:
        self.assertEqual(dict(defaults_of(Server)), {"host": "127.0.0.1", "port": 0})
        self.assertEqual(dict(defaults_of(Duck)), {})
        self.assertEqual(dict(defaults_of(Device)), {})


class DuckTests(TestCase):
    """PLESTY's shape."""

    timeout = 20

    def lab(self, device: Device) -> Any:
        lab = Lab()
        self.addCleanup(lab.stop)
        lab.add("it", device)
        return lab.session(device="it")

    async def test_values_and_operations(self) -> None:
        duck = Duck()
        session = self.lab(as_device(duck))
        await session.connect()
        self.assertEqual((await session.get("gain")).value, 2.0)
        await session.set("MOTOR.position", 5.0)
        self.assertEqual(duck.values["MOTOR.position"], 5.0)
        self.assertEqual(await session.call("quack", 2), "quackquack")
        names = set(session.describe().children)
        self.assertEqual(names, {"gain", "MOTOR", "quack"})
        self.assertEqual(session.resolve("quack").spec.timeout, 12.0)
        self.assertEqual(str(session.describe().identity), "Duck,D-1,0,0")
        self.assertEqual(duck.events[:2], ["init", "connect"])

    async def test_a_refusal(self) -> None:
        session = self.lab(maker_of(Duck)(refuses=True))
        await session.connect()
        error = await self.assertFailure(session.set("gain", 1.0), DeviceFault)
        self.assertIn("gain was not written", str(error))


class ServerTests(TestCase):
    """sm_bluesky's shape."""

    timeout = 20

    def lab(self, **arguments: Any) -> Any:
        lab = Lab()
        self.addCleanup(lab.stop)
        lab.add("it", maker_of(Server)(host="h", port=0, **arguments))
        return lab.session(device="it")

    async def test_commands(self) -> None:
        session = self.lab()
        await session.connect()
        self.assertEqual(await session.call("set_delay", "5"), "set to 5")
        self.assertEqual(await session.call("set-delay", delay=7), "set to 7")
        error = await self.assertFailure(session.call("fail"), DeviceFault)
        self.assertEqual(str(error), "no vacuum")
        error = await self.assertFailure(session.call("late"), DeviceFault)
        self.assertEqual(error.kind, "TimeoutError")
        self.assertEqual(set(session.describe().children), {"set_delay", "fail", "late"})

    async def test_the_deadline_of_the_call_is_the_servers(self) -> None:
        session = self.lab()
        await session.connect()
        await session.call("set_delay", "5", timeout=2.0)
        server = session.describe().device.item
        self.assertTrue(0 < server.limit[-1] <= 2.0)
        self.assertEqual(server._timeout_seconds, 60.0)

    async def test_hardware_that_is_not_there(self) -> None:
        session = self.lab(works=False)
        error = await self.assertFailure(session.connect(), DeviceFault, NotConnected)
        self.assertIn("its hardware cannot be connected", str(error))
        self.flushLoggedErrors()

    def test_replies(self) -> None:
        for sent, result in ((b"", None), (b"1\ta\tb\n", "a\tb"), (b"1\tone\n1\ttwo\n", "one")):
            replies = Replies()
            replies.sendall(sent)
            self.assertEqual(replies.result(), result)


class KindTests(BenchCase):
    """Kinds for what a library says loosely."""

    def test_loose_numbers(self) -> None:
        self.assertEqual(LOOSE.check(3), 3.0)
        self.assertEqual(LOOSE.check("text"), "text")
        self.assertEqual(LOOSE.parse("1e3"), 1000.0)
        self.assertIs(type(NUMBER.check(3)), int)
        self.assertEqual(NUMBER.parse("2.5"), 2.5)
        self.assertRaises(WrongType, NUMBER.check, "3")
        self.assertRaises(WrongType, NUMBER.check, True)

    def test_choices(self) -> None:
        self.assertIs(kind_of_choices([True, False]), BOOL)
        self.assertIs(kind_of_choices([]), ANY)
        self.assertIs(kind_of_choices([1, "1"]), ANY)
        kind = kind_of_choices(["a", "b"])
        assert isinstance(kind, EnumKind)
        self.assertEqual(dict(kind.choices), {"a": "a", "b": "b"})

    def test_types_by_name(self) -> None:
        self.assertIs(kind_of_type("float"), FLOAT)
        self.assertIs(kind_of_type(None), ANY)
        self.assertIs(kind_of_type("Table"), ANY)
        self.assertIsNone(kind_of_type("float | None").check(None))

    def test_limits(self) -> None:
        self.assertEqual(limits_of(0, float("inf")), Limits(0, None))
        self.assertIsNone(limits_of(None, 10**18))
        self.assertIsNone(limits_of("a", "b"))

    def test_units_in_a_description(self) -> None:
        for text, unit in (
            ("Control the voltage in Volts (float).", "V"),
            ("Measure it in the usual way, in Hz.", "Hz"),
            ("Set the delay in seconds.", "s"),
            ("Control how it is in general.", ""),
            (None, ""),
        ):
            self.assertEqual(unit_in(text), unit)
