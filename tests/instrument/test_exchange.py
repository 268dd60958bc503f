"""The message exchange protocol of wires with END: write, read, MAV, -410, -420, device clear."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, Identity, parameter
from labnet.errors import TooLarge
from labnet.instrument import channel as channel_module
from labnet.instrument.channel import MessageChannel
from tests.instrument.toy import channel_to


class Meter(Device):
    identity = Identity("labnet", "M", "0", "1")
    data = parameter(bytes, initial=b"")

    def __init__(self) -> None:
        self.waiting: list[Deferred[float]] = []

    @parameter
    def level(self) -> Deferred[float]:
        self.waiting.append(Deferred())
        return self.waiting[-1]


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.meter = Meter()
        self.channel: MessageChannel = channel_to(self.meter)[2]
        self.channel.status.clear()

    def write(self, data: bytes, end: bool = True) -> None:
        self.successResultOf(self.channel.write(data, end))

    def read(self, limit: int | None = None) -> Any:
        return self.successResultOf(self.channel.read(limit))

    def errors(self) -> list[int]:
        return [error.number for error in self.channel.status.all_errors()]


class ExchangeTests(Case):
    def test_query(self) -> None:
        self.write(b"*IDN?\r\n")
        self.assertTrue(self.channel.message_available)
        self.assertEqual(self.read(), (b"labnet,M,0,1", True))
        self.assertFalse(self.channel.message_available)
        self.assertEqual(self.errors(), [])

    def test_in_pieces(self) -> None:
        self.write(b"*ID", end=False)
        self.assertFalse(self.channel.responding)
        self.write(b"N?")
        self.assertEqual(self.read(5), (b"labne", False))
        self.assertTrue(self.channel.message_available)
        self.assertEqual(self.read(7), (b"t,M,0,1", True))

    def test_an_empty_end(self) -> None:
        self.write(b"*IDN?", end=False)
        self.write(b"")
        self.assertEqual(self.read(), (b"labnet,M,0,1", True))
        self.write(b"")
        self.assertEqual(self.errors(), [])

    def test_block_with_line_feeds(self) -> None:
        self.write(b"DATA #14\n;\n\n\n")
        self.write(b"DATA?")
        self.assertEqual(self.read(), (b"#14\n;\n\n", True))

    def test_indefinite_block_ends_with_end(self) -> None:
        self.write(b"DATA #0a\nb;c\n")
        self.write(b"DATA?")
        self.assertEqual(self.read(), (b"#15a\nb;c", True))

    def test_take(self) -> None:
        """Nothing is waited for where the device answers at once; long input may be a view."""
        self.assertIsNone(self.channel.take(memoryview(b"*ESE 3;"), False))
        self.assertIsNone(self.channel.take(memoryview(b"*ESE?"), True, None, b"\n"))
        self.assertEqual(self.channel.read_now(2), (b"3\n", True))
        slow = self.channel.take(b"LEV?")
        assert slow is not None
        self.assertNoResult(slow)

    def test_read_waits_for_the_response(self) -> None:
        self.channel.write(b"LEV?")
        self.assertTrue(self.channel.responding)
        waiting = self.channel.read()
        self.assertNoResult(waiting)
        self.meter.waiting[0].callback(0.5)
        self.assertEqual(self.successResultOf(waiting), (b"0.5", True))
        self.assertEqual(self.errors(), [])

    def test_unterminated(self) -> None:
        waiting = self.channel.read()
        self.assertNoResult(waiting)
        self.assertEqual(self.errors(), [-420])
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.write(b"*OPC?")
        self.assertEqual(self.read(), (b"1", True))

    def test_interrupted(self) -> None:
        self.write(b"*IDN?")
        self.read(3)
        self.write(b"*OPC?")
        self.assertEqual(self.read(), (b"1", True))
        self.assertEqual(self.errors(), [-410])

    def test_interrupted_before_the_response(self) -> None:
        self.channel.write(b"LEV?")
        self.channel.write(b"*OPC?")
        self.meter.waiting[0].callback(0.5)
        self.assertEqual(self.read(), (b"1", True))
        self.assertEqual(self.errors(), [-410])

    def test_commands_interrupt_nothing(self) -> None:
        self.write(b"*CLS")
        self.write(b"*OPC?")
        self.assertEqual((self.read(), self.errors()), ((b"1", True), []))

    def test_message_available_in_the_status_byte(self) -> None:
        self.write(b"*SRE 16")
        requests: list[int] = []
        self.channel.on_service_request(requests.append)
        self.write(b"*IDN?")
        self.assertEqual(requests, [16 | 64])
        self.assertEqual(self.successResultOf(self.channel.status_byte()), 16 | 64)
        self.read()
        self.assertEqual(self.successResultOf(self.channel.status_byte()), 0)

    def test_termination_character(self) -> None:
        self.write(b"*IDN?")
        for limit, until, read in (
            (100, b",", (b"labnet,", False)), (1, b"z", (b"M", False)),
            (None, b"1", (b",0,1", True)),
        ):  # fmt: skip
            self.assertEqual(self.successResultOf(self.channel.read(limit, until[0])), read)

    def test_read_now(self) -> None:
        self.assertIsNone(self.channel.read_now())
        self.write(b"*IDN?")
        self.assertEqual(self.channel.read_now(6), (b"labnet", False))
        self.assertEqual(self.errors(), [])


class ClearTests(Case):
    def test_input_and_output(self) -> None:
        self.write(b"*IDN?")
        self.write(b"*CL", end=False)
        self.channel.clear()
        self.assertFalse(self.channel.message_available)
        self.write(b"*OPC?")
        self.assertEqual((self.read(), self.errors()), ((b"1", True), []))

    def test_what_is_carried_out(self) -> None:
        done = self.channel.write(b"LEV?")
        queued = self.channel.write(b"*IDN?")
        self.channel.clear()
        self.successResultOf(done)
        self.successResultOf(queued)
        self.assertFalse(self.channel.responding)
        self.write(b"*OPC?")
        self.assertEqual((self.read(), self.errors()), ((b"1", True), []))

    def test_status_stays(self) -> None:
        self.write(b"FOO")
        self.channel.clear()
        self.assertEqual(self.errors(), [-113])

    def test_close(self) -> None:
        waiting = self.channel.read()
        self.channel.write(b"LEV?")
        self.channel.close()
        self.channel.close()
        self.assertIsNone(self.successResultOf(waiting))


class BoundTests(Case):
    def test_input(self) -> None:
        self.patch(channel_module, "MAX_INPUT", 10)
        self.write(b"123456", end=False)
        self.failureResultOf(self.channel.write(b"123456", end=False), TooLarge)
        self.assertEqual(self.errors(), [-363])
        self.write(b"*OPC?")
        self.assertEqual(self.read(), (b"1", True))

    def test_deadlock(self) -> None:
        self.patch(channel_module, "MAX_WAITING", 3)
        for _ in range(3):
            self.channel.write(b"LEV?")
        self.failureResultOf(self.channel.write(b"LEV?"), TooLarge)
        self.assertEqual(self.errors(), [-430])
        self.channel.clear()
