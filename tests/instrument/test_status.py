"""Registers, the error queue and the service request (IEEE 488.2 chapter 11)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import Holder, Locked, OutOfRange, TimedOut
from labnet.instrument.errors import ScpiError, event_bit, from_lab_error
from labnet.instrument.status import ERROR_QUEUE, Status, StatusByte


class StatusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.requests: list[int] = []
        self.status = Status(self.requests.append)
        self.status.clear()

    def test_power_on(self) -> None:
        self.assertEqual(Status().read_events(), 128)

    def test_error_classes(self) -> None:
        for number, bit in (
            (-113, 32), (-222, 16), (-365, 8), (-410, 4), (-500, 128), (-600, 64), (-800, 1),
            (17, 8), (-9999, 8),
        ):  # fmt: skip
            self.assertEqual(event_bit(number), bit)

    def test_queue_overflows_at_its_newest(self) -> None:
        for number in range(ERROR_QUEUE + 3):
            self.status.error(ScpiError(100 + number))
        errors = [error.number for error in self.status.all_errors()]
        self.assertEqual(len(errors), ERROR_QUEUE)
        self.assertEqual((errors[0], errors[-2], errors[-1]), (100, 98 + ERROR_QUEUE, -350))

    def test_request_on_error(self) -> None:
        self.status.service_enable = 4
        self.status.error(ScpiError(-113))
        self.assertEqual(self.requests, [4 | 64])
        self.status.error(ScpiError(-113))
        self.assertEqual(len(self.requests), 1)
        self.assertEqual(self.status.serial_poll(), 4 | 64)
        self.assertEqual(self.status.serial_poll(), 4)
        self.assertEqual(self.status.status_byte(), 4 | 64)  # MSS is no request, it stays
        self.status.all_errors()
        self.status.error(ScpiError(-113))
        self.assertEqual(len(self.requests), 2)

    def test_enabling_what_is_already_there(self) -> None:
        self.status.error(ScpiError(-222))
        self.status.event_enable = 16
        self.assertEqual(self.requests, [])
        self.status.service_enable = 32
        self.assertEqual(self.requests, [32 | 4 | 64])

    def test_message_available(self) -> None:
        self.status.service_enable = 16
        self.status.message_available = True
        self.status.message_available = False
        self.status.message_available = True
        self.assertEqual(self.requests, [16 | 64, 16 | 64])

    def test_bit_6_cannot_be_enabled(self) -> None:
        self.status.service_enable = 255
        self.assertEqual(self.status.service_enable, 191)

    def test_the_end_of_a_request(self) -> None:
        """By a poll, or when there is no reason any more; told once."""
        told: list[str] = []
        status = Status(lambda byte: told.append("on"))
        status.service_ended = lambda: told.append("off")
        status.service_enable = StatusByte.ERRORS
        for end in (status.serial_poll, status.clear, status.all_errors):
            status.error(ScpiError(-113))
            self.assertEqual(told, ["on"])
            end()
            self.assertEqual(told, ["on", "off"])
            status.serial_poll()
            status.clear()
            self.assertEqual(told, ["on", "off"])
            told.clear()
        status.error(ScpiError(-113))
        status.service_enable = 0
        self.assertEqual(told, ["on", "off"])

    def test_device_request(self) -> None:
        self.status.request_service()
        self.assertEqual(self.requests, [])
        self.status.device_requests = True
        self.status.request_service()
        self.assertEqual(self.requests, [1 | 64])
        self.assertEqual(self.status.serial_poll(), 1 | 64)
        self.assertEqual(self.status.serial_poll(), 0)

    def test_register_group(self) -> None:
        group = self.status.operation
        group.update(0b11)
        self.assertEqual(group.event, 0b11)
        group.positive, group.negative = 0, 0b1
        group.update(0b10)
        self.assertEqual((group.condition, group.read_event(), group.event), (0b10, 0b11, 0))
        group.update(0b11)
        group.enable = 0b1
        self.assertEqual(self.status.status_byte(), 0)
        group.update(0b10)
        self.assertEqual(self.status.status_byte(), 128)
        self.status.clear()
        self.assertEqual((group.event, group.enable, group.condition), (0, 1, 0b10))
        self.status.preset()
        self.assertEqual((group.enable, group.positive, group.negative), (0, 0x7FFF, 0))


class ErrorTests(SynchronousTestCase):
    def test_texts(self) -> None:
        self.assertEqual(str(ScpiError(0)), '0,"No error"')
        self.assertEqual(str(ScpiError(-113)), '-113,"Undefined header"')
        self.assertEqual(str(ScpiError(-203, 'by "x"\n')), '-203,"Command protected;by ""x"" "')
        self.assertEqual(str(ScpiError(-199)), '-199,"Command error"')
        self.assertEqual(str(ScpiError(42, "hot")), '42,"Device-specific error;hot"')
        self.assertLess(len(str(ScpiError(-200, "x" * 1000))), 270)

    def test_lab_errors(self) -> None:
        holder = Holder("dmm", "alice", "hislip", "192.0.2.7", 3.0)
        self.assertEqual(
            str(from_lab_error(Locked(holder))), '-203,"Command protected;locked by alice"'
        )
        self.assertEqual(from_lab_error(OutOfRange("x", 5, 0, 1)).number, -222)
        self.assertEqual(from_lab_error(OutOfRange("x", 5, choices=("a",))).number, -224)
        self.assertEqual(from_lab_error(TimedOut("x", 1.0)).number, -365)
