"""The log: levels by wire and device, messages bounded, things said once."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from labnet import logs
from labnet.errors import Locked
from labnet.logs import Logger, WireLog, device_logger, preview, set_levels
from labnet.testing import FakeDevice, MemoryLab
from labnet.wires.plesty.server import Options
from tests.wires.plesty_toy import ToyServer


class LogTestCase(SynchronousTestCase):
    """Keeps what is logged, and puts the levels back."""

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.addCleanup(set_levels)

    def said(self) -> list[tuple[str, str]]:
        shown = [(event["log_level"].name, formatEvent(event)) for event in self.events]
        self.events.clear()
        return shown


class MessageTests(LogTestCase):
    """What each wire shows of its clients."""

    def test_plesty(self) -> None:
        set_levels("info", {"plesty": "debug"})
        server = ToyServer(Clock(), Options(token="s3cret"), device=None, devices={"t": "toy"})
        server.factory.send = server.factory._send_shown
        peer = server.peer("scan")
        server.tell(peer, b'{"type": "exec"}')
        server.lose(peer)
        refusal = (
            '{"status": "error", "error": "bad or missing token", "type": "PermissionError"}'
        )
        self.assertEqual(
            self.said(),
            [
                ("info", "plesty: 127.0.0.1:40001 connected"),
                ("debug", 'plesty: 127.0.0.1:40001 <- {"type": "exec"}'),
                ("warn", "plesty: 127.0.0.1:40001 refused: bad or missing token"),
                ("debug", f"plesty: 127.0.0.1:40001 -> {refusal}"),
                ("debug", "plesty: 127.0.0.1:40001 gone"),
            ],
        )

    def test_plesty_says_little_by_default(self) -> None:
        server = ToyServer(Clock())
        server.tell(server.peer("scan"), b'{"type": "describe"}')
        server.tell(server.peer("scan"), b"}{")
        self.assertEqual(
            [level for level, said in self.said() if "plesty:" in said], ["info", "warn"]
        )


class LevelTests(LogTestCase):
    """Which messages are shown."""

    def speak(self, namespace: str) -> list[str]:
        logger = Logger(namespace=namespace)
        for level in ("debug", "info", "warn", "error"):
            getattr(logger, level)("{x}", x=1)
        return [level for level, _ in self.said()]

    def test_default_is_info(self) -> None:
        self.assertEqual(self.speak("labnet.service"), ["info", "warn", "error"])

    def test_default_can_be_set(self) -> None:
        set_levels("error")
        self.assertEqual(self.speak("labnet.wires.tsv"), ["error"])

    def test_a_wire_and_a_device_have_their_own(self) -> None:
        set_levels("warn", {"tsv": "debug", "stage": "info"})
        self.assertEqual(len(self.speak("labnet.wires.tsv")), 4)
        self.assertEqual(len(self.speak("labnet.wires.tsv.server")), 4)
        self.assertEqual(len(self.speak("labnet.devices.stage")), 3)
        self.assertEqual(len(self.speak("labnet.wires.scpi")), 2)
        self.assertEqual(len(self.speak("labnet.tsv")), 2)

    def test_an_unknown_level_changes_nothing(self) -> None:
        set_levels("warn")
        self.assertRaises(KeyError, set_levels, "loud")
        self.assertRaises(KeyError, set_levels, "debug", {"tsv": "loud"})
        self.assertEqual(self.speak("labnet.wires.tsv"), ["warn", "error"])

    def test_namespace_is_the_module(self) -> None:
        class Speaker:
            log = Logger()

        Speaker().log.info("here")
        self.assertEqual(self.events[0]["log_namespace"], f"{__name__}.Speaker")

    def test_device(self) -> None:
        set_levels("info", {"stage": "debug"})
        device_logger("stage").debug("moving")
        device_logger("daq").debug("reading")
        self.assertEqual(self.said(), [("debug", "moving")])

    def test_failures(self) -> None:
        try:
            raise ValueError("no")
        except ValueError:
            Logger(namespace="labnet.x").failure("it broke")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class WireLogTests(LogTestCase):
    """What a wire says."""

    def setUp(self) -> None:
        super().setUp()
        self.log = WireLog("tsv")

    def test_flag_follows_the_levels(self) -> None:
        self.assertFalse(self.log.debug_on)
        set_levels("info", {"tsv": "debug"})
        self.assertTrue(self.log.debug_on)
        self.assertTrue(WireLog("tsv").debug_on)
        self.assertFalse(WireLog("scpi").debug_on)
        set_levels()
        self.assertFalse(self.log.debug_on)

    def test_a_peer_is_announced_once(self) -> None:
        self.log.connected("10.0.0.1:5000")
        self.log.connected("10.0.0.1:5001")
        self.log.connected("10.0.0.2:5001")
        said = [text for _, text in self.said()]
        self.assertEqual(said, ["tsv: 10.0.0.1:5000 connected", "tsv: 10.0.0.2:5001 connected"])

    def test_each_reason_of_refusal_is_said_once(self) -> None:
        for reason in ("line too long", "not allowed", "line too long"):
            self.log.refused("10.0.0.1:5000", reason)
        self.assertEqual(
            self.said(),
            [
                ("warn", "tsv: 10.0.0.1:5000 refused: line too long"),
                ("warn", "tsv: 10.0.0.1:5000 refused: not allowed"),
            ],
        )

    def test_memory_is_bounded(self) -> None:
        self.patch(logs, "REMEMBERED", 3)
        for number in range(10):
            self.log.connected(f"10.0.0.{number}:1")
        self.assertEqual(len(self.said()), 10)
        self.assertLessEqual(len(self.log._said), 3)

    def test_all_at_debug(self) -> None:
        set_levels("debug")
        self.log.connected("a:1")
        self.log.connected("a:2")
        self.log.received("a:1", b"ping\n")
        self.log.sent("a:1", "pong")
        self.log.disconnected("a:1")
        self.log.disconnected("a:2", "reset")
        self.assertEqual(
            [text for _, text in self.said()],
            [
                "tsv: a:1 connected",
                "tsv: a:2 connected",
                "tsv: a:1 <- ping\\n",
                "tsv: a:1 -> pong",
                "tsv: a:1 gone",
                "tsv: a:2 gone: reset",
            ],
        )

    def test_silent_by_default(self) -> None:
        self.log.disconnected("a:1")
        self.log.received("a:1", b"ping")
        self.assertEqual(self.said(), [])

    def test_braces_in_a_message(self) -> None:
        set_levels("debug")
        self.log.received("a:1", b"{wire!r} {nothing}")
        self.assertEqual(self.said(), [("debug", "tsv: a:1 <- {wire!r} {nothing}")])


class PreviewTests(SynchronousTestCase):
    """Messages as one printable line."""

    def test_short(self) -> None:
        cases: list[tuple[Any, str]] = [
            (b"a\t\xff\n", "a\\t\\xff\\n"),
            ("µ\n", "\\xb5\\n"),
            (b"", ""),
            (memoryview(b"abc"), "abc"),
        ]
        for message, shown in cases:
            self.assertEqual(preview(message), shown)

    def test_long(self) -> None:
        self.assertEqual(preview(b"x" * 250), "x" * 200 + "... (50 more bytes)")
        self.assertEqual(preview("x" * 201), "x" * 200 + "... (1 more characters)")

    def test_levels_are_ordered(self) -> None:
        self.assertEqual(list(logs.LEVELS.values()), sorted(logs.LEVELS.values()))
        self.assertIs(logs.LEVELS["warn"], LogLevel.warn)


class RefusalTests(LogTestCase):
    """What a lock keeps out is said, once for each client's host and each holder."""

    def test_refused_by_a_lock(self) -> None:
        lab = MemoryLab({"stage": FakeDevice("home")})
        holder = lab.open_session("plesty", "10.0.0.6:40000", name="scan")
        self.successResultOf(holder.lock(["stage"]))
        other = lab.open_session("tsv", "10.0.0.7:40001")
        for _ in range(3):
            self.failureResultOf(other.call("stage.home"), Locked)
        self.failureResultOf(other.lock(["stage"]), Locked)
        refused = [text for level, text in self.said() if "refused" in text]
        self.assertEqual(len(refused), 1)
        self.assertIn("tsv 10.0.0.7:40001", refused[0])
        self.assertIn("stage is locked by scan (plesty", refused[0])

    def test_an_alias_that_is_taken(self) -> None:
        lab = MemoryLab({"stage": FakeDevice()})
        other = FakeDevice()
        other.aliases = ("Stage",)
        lab.attach("old", other)
        said = [text for level, text in self.said() if level == "warn"]
        self.assertEqual(said, ["old: Stage is a name or an alias of stage too"])
