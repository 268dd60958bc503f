"""Messages passed on to a device that speaks them itself."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, Identity
from labnet.errors import DeviceFault
from labnet.instrument import passing
from labnet.instrument.channel import MessageChannel
from labnet.instrument.passing import asks, without_terminator
from labnet.lab import Lab
from tests.instrument.toy import channel_to


class Remote(Device):
    """Keeps what it was sent; answers when the test says so."""

    identity = Identity("ACME", "R", "0", "1")

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bool]] = []
        self.answers: list[Any] = []

    def message(self, data: bytes, expect_reply: bool) -> Any:
        self.sent.append((data, expect_reply))
        if not expect_reply:
            return None
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Gateway(Remote):
    """A device with all that one may have."""

    keeps_terminators = True

    def __init__(self) -> None:
        super().__init__()
        self.did: list[str] = []

    def expects_reply(self, data: bytes) -> bool:
        return data.startswith(b"R")

    def poll_status(self) -> int:
        return 0x51

    def clear(self) -> None:
        self.did.append("clear")

    def trigger(self) -> None:
        self.did.append("trigger")


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.remote = Remote()
        self.lab, self.clock, self.channel = channel_to(self.remote)
        self.channel.status.clear()

    def ask(self, message: bytes, channel: MessageChannel | None = None, **options: Any) -> bytes:
        return self.successResultOf((channel or self.channel).execute(message, **options))

    def errors(self, channel: MessageChannel | None = None) -> list[int]:
        return [error.number for error in (channel or self.channel).status.all_errors()]


class PassingTests(Case):
    def test_query_and_command(self) -> None:
        self.remote.answers = [b"1.5"]
        self.assertEqual(self.ask(b"MEAS?\r", terminator=b"\n"), b"1.5\n")
        self.assertEqual(self.ask(b"RANGE 5"), b"")
        self.assertEqual(self.remote.sent, [(b"MEAS?", True), (b"RANGE 5", False)])

    def test_syntax_is_the_devices(self) -> None:
        self.ask(b"!$%&/ ;; '")
        self.ask(b"\r\n")
        self.assertEqual(self.remote.sent, [(b"!$%&/ ;; '", False)])
        self.assertEqual(self.errors(), [])

    def test_a_query_and_its_answer_are_one_job(self) -> None:
        other = self.lab.open_session("vxi11", "x", device="psu").channel()
        slow: Deferred[bytes] = Deferred()
        self.remote.answers = [slow, b"two"]
        first = self.channel.execute(b"A?")
        second = other.execute(b"B?")
        self.assertEqual(self.remote.sent, [(b"A?", True)])
        slow.callback(b"one")
        self.assertEqual(self.successResultOf(first), b"one")
        self.assertEqual(self.successResultOf(second), b"two")

    def test_failures(self) -> None:
        self.remote.answers = [DeviceFault("no answer"), "text", b"x" * 20]
        self.assertEqual(self.ask(b"A?"), b"")
        self.assertEqual(self.ask(b"A?"), b"")
        self.patch(passing, "MAX_ANSWER", 10)
        self.assertEqual(self.ask(b"A?"), b"")
        self.assertEqual(self.errors(), [-240, -240, -223])

    def test_out_of_time(self) -> None:
        self.remote.answers = [Deferred()]
        done = self.channel.execute(b"A?", timeout=1.0)
        self.clock.advance(1.1)
        self.assertEqual(self.successResultOf(done), b"")
        self.assertEqual(str(self.channel.status.next_error())[:4], "-365")

    def test_a_query_of_the_listener(self) -> None:
        self.channel.define("SYSTem:COMMunicate:TCPip:CONTrol?", lambda: 5026)
        self.assertEqual(self.ask(b"SYST:COMM:TCP:CONT?"), b"5026")
        self.assertEqual(self.remote.sent, [])

    def test_own_errors_are_read_here(self) -> None:
        self.remote.answers = [b'0,"No error"']
        self.channel.error(-363)
        self.assertEqual(self.ask(b"SYST:ERR?"), b'-363,"Input buffer overrun"')
        self.assertEqual(self.remote.sent, [])
        self.assertEqual(self.ask(b"SYST:ERR?"), b'0,"No error"')
        self.assertEqual(self.remote.sent, [(b"SYST:ERR?", True)])

    def test_exchange(self) -> None:
        self.remote.answers = [b"#12\n\n", b"b"]
        self.channel.write(b"A?\n")
        self.assertEqual(self.channel.read_now(4), (b"#12\n", False))
        self.channel.write(b"B?\n")
        self.assertEqual(self.successResultOf(self.channel.read()), (b"b", True))
        self.assertEqual(self.errors(), [-410])

    def test_cancelled(self) -> None:
        cancelled: list[object] = []
        self.remote.answers = [Deferred(cancelled.append)]
        done = self.channel.execute(b"A?")
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.errors(), [])


class LockTests(Case):
    def test_locked(self) -> None:
        other = self.lab.open_session("scpi", "x", device="psu").channel()
        other.status.clear()
        self.assertEqual(self.ask(b"SYST:LOCK:REQ?"), b"1")
        self.assertEqual(self.ask(b"MEAS?", other), b"")
        self.assertEqual(self.ask(b"*STB?", other), b"4")
        self.assertIn(b"-203", self.ask(b"SYST:ERR?", other))
        self.assertEqual(self.ask(b"SYST:ERR?", other), b'0,"No error"')
        self.assertEqual(self.ask(b"*IDN?", other), b"ACME,R,0,1")
        self.assertEqual(self.remote.sent, [])
        self.remote.answers = [b"mine"]
        self.assertEqual(self.ask(b"*IDN?"), b"mine")

    def test_waits(self) -> None:
        session = self.lab.open_session("hislip", "x", device="psu", wait_for_locks=True)
        self.ask(b"SYST:LOCK:REQ?")
        done = session.channel().execute(b"RANGE 1")
        self.assertNoResult(done)
        self.assertEqual(self.remote.sent, [])
        self.ask(b"SYST:LOCK:REL")
        self.successResultOf(done)
        self.assertEqual(self.remote.sent, [(b"RANGE 1", False)])


class GatewayTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.device = Gateway()
        self.lab: Lab
        self.lab, _, self.channel = channel_to(self.device)

    def test_bytes_as_they_are(self) -> None:
        self.device.answers = [b"\n\r"]
        done = self.channel.execute(b"R\x00?\r\n")
        self.assertEqual(self.successResultOf(done), b"\n\r")
        self.channel.execute(b"Q?\n")
        self.assertEqual(self.device.sent, [(b"R\x00?\r\n", True), (b"Q?\n", False)])

    def test_beside_the_messages(self) -> None:
        self.assertEqual(self.successResultOf(self.channel.status_byte()), 0x41)
        self.device.answers = [b"x"]
        self.channel.write(b"R")
        self.assertEqual(self.successResultOf(self.channel.status_byte()), 0x51)
        self.successResultOf(self.channel.trigger())
        self.channel.clear()
        self.assertEqual(self.device.did, ["trigger", "clear"])
        self.channel.close()
        self.assertEqual(self.device.did, ["trigger", "clear"])


class TextTests(SynchronousTestCase):
    def test_asks(self) -> None:
        for message, wanted in (
            (b"A?", True), (b"A", False), (b"A '?'", False), (b"A #11?", False),
            (b"A '?';B?", True), (b"?", True), (b'A "?', False),
        ):  # fmt: skip
            self.assertEqual(asks(message), wanted, message)

    def test_terminators(self) -> None:
        for message, wanted in (
            (b"A\r\n", b"A"), (b"A\n\n", b"A"), (b"A #12x\n", b"A #12x\n"),
            (b"A #11\n", b"A #11\n"),
            (b"A #12x\n\n", b"A #12x\n"), (b"A 'x'\n", b"A 'x'"), (b"A 'x\n", b"A 'x\n"),
        ):  # fmt: skip
            self.assertEqual(without_terminator(message), wanted, message)
