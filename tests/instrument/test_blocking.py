"""A device with a thread of its own behind a channel, on the real reactor."""

from __future__ import annotations

import threading

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from labnet.device import Device, parameter
from labnet.lab import Lab


class Blocking(Device):
    blocking = True

    def __init__(self) -> None:
        self.value = 0
        self.threads: set[str] = set()

    @parameter
    def level(self) -> int:
        self.threads.add(threading.current_thread().name)
        return self.value

    @level.setter
    def level(self, value: int) -> None:
        self.threads.add(threading.current_thread().name)
        self.value = value


class BlockingTests(TestCase):
    timeout = 10

    async def test_messages_do_not_interleave(self) -> None:
        lab = Lab(reactor=reactor)
        device = Blocking()
        lab.attach("box", device)
        self.addCleanup(lab.stop)
        channels = [lab.open_session("scpi", str(n), device="box").channel() for n in range(8)]
        asked = [
            channel.execute(b"LEV %d;LEV?;LEV?;LEV?" % number)
            for _ in range(20)
            for number, channel in enumerate(channels)
        ]
        answers = await gatherResults(asked)
        wanted = [b";".join([b"%d" % number] * 3) for _ in range(20) for number in range(8)]
        self.assertEqual(answers, wanted)
        self.assertEqual(device.threads, {"labnet device box"})
        for channel in channels:
            self.assertEqual(channel.status.error_count, 0)
