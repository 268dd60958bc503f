"""The link tester by its SCPI headers."""

from __future__ import annotations

import zlib

from labnet.devices.simulated.linktester import STEP, LinkTester
from labnet.errors import (
    BadArguments,
    Cancelled,
    DeviceFault,
    NotConnected,
    TimedOut,
    TooLarge,
)
from tests.devices.bench import BenchCase

PATTERN = bytes(range(256))


class LinkTesterTests(BenchCase):
    def setUp(self) -> None:
        super().setUp()
        self.session = self.attach("linktester", LinkTester(clock=self.clock))

    def error(self) -> bytes:
        return self.scpi(self.session, b"SYST:ERR?")

    def test_blocks(self) -> None:
        self.assertEqual(self.scpi(self.session, b"TEST:BLOCK? 0"), b"#10")
        self.assertEqual(self.scpi(self.session, b"test:bloc? 5"), b"#15\0\1\2\3\4")
        long = self.scpi(self.session, b"TEST:BLOCK? 1000000")
        self.assertEqual(long[:9], b"#71000000")
        self.assertEqual(long[9:], (PATTERN * 4000)[:1000000])

    def test_very_long_blocks_leave_time_for_others(self) -> None:
        length = 2 * STEP + 1000
        block = self.session.call("block", length)
        between: list[bool] = []
        self.clock.callLater(0, lambda: between.append(block.called))
        self.assertNoResult(block)
        self.clock.advance(0)
        self.assertEqual(between, [False])
        first = self.successResultOf(block)
        self.assertEqual(zlib.crc32(first), zlib.crc32((PATTERN * (length // 256 + 1))[:length]))
        again = self.successResultOf(self.session.call("block", length - 1))
        self.assertEqual(len(again), length - 1)
        self.assertTrue(memoryview(again).obj is memoryview(first).obj)

    def test_blocks_that_are_too_long(self) -> None:
        self.assertEqual(self.scpi(self.session, b"TEST:BLOCK? %d" % ((1 << 30) + 1)), b"")
        self.assertEqual(self.error(), b'-222,"Data out of range"')
        small = self.attach("small", LinkTester(longest=100, clock=self.clock))
        self.failureResultOf(small.call("block", 101), TooLarge)
        self.failureResultOf(small.call("load", bytes(101)), TooLarge)
        self.assertEqual(len(self.call(small, "block", 100)), 100)
        self.assertRaises(ValueError, LinkTester, longest=1 << 31)

    def test_load(self) -> None:
        self.assertEqual(self.scpi(self.session, b"TEST:LOAD:SUM?"), b"0,0")
        data = b"a;\n#\0" * 1000
        self.assertEqual(self.scpi(self.session, b"TEST:LOAD #45000" + data), b"")
        sum_ = b"5000,%d" % zlib.crc32(data)
        self.assertEqual(self.scpi(self.session, b"TEST:LOAD:SUM?"), sum_)
        self.assertEqual(self.scpi(self.session, b"TEST:LOAD?"), b"#45000" + data)
        self.assertEqual(self.scpi(self.session, b"TEST:LOAD #10;LOAD:SUM?"), b"0,0")

    def test_summing_up_much_leaves_time_for_others(self) -> None:
        data = bytes(STEP) + b"end"
        self.call(self.session, "load", data)
        sum_ = self.session.call("load_sum")
        self.assertNoResult(sum_)
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(sum_), [len(data), zlib.crc32(data)])

    def test_summing_up_ends_with_its_client(self) -> None:
        self.call(self.session, "load", bytes(3 * STEP))
        sum_ = self.session.call("load_sum")
        self.clock.callLater(0, self.session.close, "gone")
        self.clock.advance(0)
        self.assertTrue(sum_.called)
        self.call(self.client("linktester"), "load", b"after")
        after = self.call(self.client("linktester"), "load_sum")
        self.assertEqual(after, [5, zlib.crc32(b"after")])

    def test_wait(self) -> None:
        channel = self.session.channel()
        for time, seconds in ((b"0.5", 0.5), (b"2 S", 2.0), (b"250 MS", 0.25), (b"100ms", 0.1)):
            done = self.takes(channel.execute(b"TEST:WAIT? " + time), seconds)
            self.assertEqual(done.lower(), b"done")
        self.scpi(self.session, b"TEST:WAIT? 4000")
        self.assertEqual(self.error(), b'-222,"Data out of range"')

    def test_others_need_not_wait(self) -> None:
        wait = self.session.call("wait", 10.0)
        self.assertEqual(self.scpi(self.client("linktester"), b"TEST:ECHO? 'here'"), b'"here"')
        late = self.client("linktester").call("wait", 5.0, timeout=1)
        self.clock.advance(1)
        self.failureResultOf(late, TimedOut)
        self.assertEqual(self.takes(wait, 9.0), "done")

    def test_a_wait_can_be_cancelled(self) -> None:
        wait = self.session.call("wait", 10.0)
        self.clock.advance(1)
        wait.cancel()
        self.assertTrue(self.failureResultOf(wait))
        self.assertIsNone(self.session.resolve("wait").queue.busy())

    def test_service_request(self) -> None:
        channel, asleep = self.session.channel(), self.client("linktester").channel()
        asked: list[int] = []
        channel.on_service_request(asked.append)
        asleep.on_service_request(lambda byte: self.fail("service is not enabled here"))
        channel.enable_service(True)
        self.scpi(self.session, b"TEST:SRQ 500 MS")
        self.passes(0.48)
        self.assertEqual(asked, [])
        self.passes(0.05)
        self.assertEqual(len(asked), 1)
        self.assertTrue(asked[0] & 64)
        self.assertTrue(self.successResultOf(channel.status_byte()) & 64)
        self.assertFalse(self.successResultOf(channel.status_byte()) & 64)
        self.scpi(self.session, b"TEST:SRQ")
        self.passes(0.05)
        self.assertEqual(len(asked), 2)

    def test_service_requests_are_bounded(self) -> None:
        for _ in range(100):
            self.call(self.session, "srq", 100.0)
        self.failureResultOf(self.session.call("srq", 100.0), TooLarge)
        self.assertEqual(self.get(self.session, "service_request"), 0)
        self.clock.advance(100)
        self.assertEqual(self.get(self.session, "service_request"), 100)
        self.call(self.session, "srq", 100.0)

    def test_power_off_forgets_service_requests(self) -> None:
        self.call(self.session, "srq", 1.0)
        self.successResultOf(self.session.disconnect())
        self.failureResultOf(self.session.call("trigger"), NotConnected)
        self.successResultOf(self.session.connect())
        self.passes(1.5)
        self.assertEqual(self.get(self.session, "service_request"), 0)

    def test_triggers(self) -> None:
        self.assertEqual(self.scpi(self.session, b"TEST:TRIG?"), b"0")
        self.scpi(self.session, b"*TRG;*TRG")
        self.successResultOf(self.session.channel().trigger())
        self.assertEqual(self.scpi(self.session, b"TEST:TRIGGER?"), b"3")

    def test_echo(self) -> None:
        self.assertEqual(self.scpi(self.session, b'TEST:ECHO? "a ""b"";c"'), b'"a ""b"";c"')
        self.assertEqual(self.call(self.session, "echo", "\u00e9"), "\u00e9")

    def test_fail(self) -> None:
        self.scpi(self.session, b'TEST:FAIL 42,"out of helium"')
        error = self.error()
        self.assertTrue(error.startswith(b'42,"') and b"out of helium" in error, error)
        self.scpi(self.session, b"TEST:FAIL -310,'memory'")
        self.assertEqual(self.error(), b'-310,"System error;memory"')
        self.failureResultOf(self.session.call("fail", 0, "text"), BadArguments)
        fault = self.failureResultOf(self.session.call("fail", 7, "text"), DeviceFault).value
        self.assertEqual((fault.number, str(fault)), (7, "text"))
        self.assertNotIsInstance(fault, Cancelled)

    def test_every_member_has_help(self) -> None:
        self.assert_helpful("linktester")
