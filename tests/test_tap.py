"""The command's options, and how the process ends."""

from __future__ import annotations

import io
import sys
import time
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from labnet import tap
from labnet.service import LabService
from tests import fake_wire

GOOD = """\
[device gauge]
driver = fake.gauge
start = 1
[device other]
driver = fake.gauge
start = 2
[serve one]
wire = fake
device = gauge
[serve all]
wire = fake
listen = tcp:7001
devices = *
"""


class FakeReactor:
    """A reactor as far as ending goes."""

    def __init__(self, stopped: bool = False) -> None:
        self.stops = 0
        self.stopped = stopped

    def callWhenRunning(self, function: Any, *args: Any) -> None:
        function(*args)

    def stop(self) -> None:
        if self.stopped:
            raise ReactorNotRunning
        self.stops += 1


class ClockTests(SynchronousTestCase):
    """Which clock the reactor's timers follow."""

    def test_timers_cannot_be_set_back(self) -> None:
        fresh, begun = Clock(), Clock()
        begun.callLater(1.0, lambda: None)
        tap.use_monotonic_time(fresh)
        tap.use_monotonic_time(begun)
        self.assertIs(fresh.seconds, time.monotonic)
        self.assertIsNot(begun.seconds, time.monotonic)


class OptionsTests(SynchronousTestCase):
    """`twistd labnet ...`."""

    def setUp(self) -> None:
        fake_wire.install(self)
        self.patch(tap, "use_monotonic_time", lambda reactor: None)
        self.path = self.mktemp()
        self.output = io.StringIO()

    def parse(self, *words: str, text: str = GOOD) -> tap.Options:
        with open(self.path, "w") as file:
            file.write(text)
        options = tap.Options()
        self.patch(sys, "stdout", self.output)
        options.parseOptions(["--config", self.path, *words])
        return options

    def test_config(self) -> None:
        service = tap.makeService(self.parse())
        assert isinstance(service, LabService)
        self.assertEqual(service.config.file, self.path)
        self.assertEqual([child.name for child in service.listeners()], ["one", "all"])
        self.assertFalse(service.running)

    def test_wrong_config_is_one_line(self) -> None:
        ended = self.assertRaises(SystemExit, self.parse, text=GOOD.replace("listen", "lisen"))
        said = f"{self.path}:12: [serve all] unknown key 'lisen'; did you mean 'listen'?"
        self.assertEqual(ended.code, said)

    def test_no_such_file(self) -> None:
        ended = self.assertRaises(SystemExit, tap.Options().parseOptions, ["-c", "/no/file"])
        self.assertEqual(ended.code, "/no/file: cannot be read: No such file or directory")

    def test_words_without_an_option(self) -> None:
        error = self.assertRaises(UsageError, self.parse, "lab.ini")
        self.assertIn("unexpected 'lab.ini'", str(error))

    def test_check(self) -> None:
        ended = self.assertRaises(SystemExit, self.parse, "--check")
        self.assertEqual(ended.code, 0)
        self.assertEqual(
            self.output.getvalue().splitlines(),
            [
                f"{self.path}: lab would serve",
                "",
                "device  driver",
                "gauge   fake.gauge",
                "other   fake.gauge",
                "",
                "device        wire  listen",
                "gauge         fake  tcp:7000:interface=127.0.0.1:backlog=128",
                "gauge, other  fake  tcp:7001:interface=127.0.0.1:backlog=128",
            ],
        )

    def test_check_of_a_wrong_config(self) -> None:
        wrong = GOOD.replace("wire = fake", "wire = fakke", 1)
        ended = self.assertRaises(SystemExit, self.parse, "--check", text=wrong)
        self.assertEqual(
            ended.code, f"{self.path}:8: [serve one] unknown wire 'fakke'; did you mean 'fake'?"
        )

    def test_plugin(self) -> None:
        found = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "labnet"]
        self.assertEqual([maker.module for maker in found], ["labnet.tap"])


class EndTests(SynchronousTestCase):
    """`end_process`."""

    def setUp(self) -> None:
        self.registered: list[Any] = []
        self.patch(tap.atexit, "register", lambda *call: self.registered.append(call))

    def test_well(self) -> None:
        reactor = FakeReactor()
        tap.end_process(0, reactor)
        self.assertEqual((reactor.stops, self.registered), (1, []))

    def test_failed(self) -> None:
        reactor = FakeReactor()
        tap.end_process(1, reactor)
        self.assertEqual(reactor.stops, 1)
        ((function, status),) = self.registered
        codes: list[int] = []
        self.patch(tap.os, "_exit", codes.append)
        function(status)
        self.assertEqual(codes, [1])

    def test_already_ending(self) -> None:
        tap.end_process(0, FakeReactor(stopped=True))
