"""``driver = visa``: raw sockets and serial lines with instruments that misbehave."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from labnet.config import parse_config
from labnet.devices.declared import parse_declarations
from labnet.devices.visa.device import LockingVisaDevice, VisaDevice
from labnet.devices.visa.session import words
from labnet.devices.visa.settings import Settings, Termination
from labnet.errors import DeviceFault, LabError, NotConnected, OutOfRange, TimedOut, TooLarge
from labnet.service import Lab
from labnet.supervision import Retry
from labnet.values import FLOAT, Limits
from tests.devices.scripted_instrument import Send, SerialInstrument, SocketInstrument

DECLARED = parse_declarations(
    {
        "parameter power": "MEAS:POW?, float, W",
        "parameter wavelength": "SENS:WAV?, SENS:WAV {value}, float, nm, 400..1100",
        "command zero": "SENS:ZERO",
    }
)


class SectionTests(SynchronousTestCase):
    """What a section may set."""

    def device(self, text: str) -> Any:
        (config,) = parse_config(f"[device dmm]\ndriver = visa\n{text}\n").devices
        return config.make()

    def refused(self, text: str) -> str:
        return str(self.assertRaises(LabError, self.device, text))

    def test_socket(self) -> None:
        device = self.device("resource = TCPIP::h::5025::SOCKET\nio_timeout = 0.5")
        settings = device._settings
        found = (settings.io_timeout, settings.end, settings.write_end)
        self.assertEqual(found, (0.5, b"\n", b"\n"))
        self.assertTrue(settings.is_socket)

    def test_instr_ends_with_end(self) -> None:
        device = self.device("resource = TCPIP::h::hislip0::INSTR\nread_termination = CRLF")
        self.assertEqual(device._settings.end, b"\r\n")
        self.assertEqual(self.device("resource = GPIB0::7::INSTR")._settings.end, b"")

    def test_serial(self) -> None:
        device = self.device(
            "resource = ASRL/dev/ttyS0::INSTR\nbaud_rate = 19200\nparity = odd\nstop_bits = two\n"
            "write_termination = CR\nread_termination = \\x03"
        )
        settings = device._settings
        self.assertTrue(settings.is_serial)
        self.assertEqual((settings.write_end, settings.end), (b"\r", b"\x03"))
        self.assertEqual(settings.attributes["baud_rate"], 19200)
        self.assertEqual(settings.attributes["parity"].name, "odd")

    def test_declarations(self) -> None:
        device = self.device(
            "resource = GPIB0::7::INSTR\nparameter power = MEAS:POW?, float, W\n"
            "parameter wavelength = SENS:WAV?, SENS:WAV {value}, float, nm, 400..1100"
        )
        spec = device.members["wavelength"].spec
        self.assertEqual((spec.kind, spec.unit, spec.limits), (FLOAT, "nm", Limits(400, 1100)))
        self.assertEqual(device.members["power"].spec.access, "r")

    def test_a_lock_of_its_own(self) -> None:
        resource = "resource = GPIB0::7::INSTR\n"
        self.assertIsInstance(self.device(f"{resource}lock = yes"), LockingVisaDevice)
        self.assertNotIsInstance(self.device(resource), LockingVisaDevice)

    def test_mistakes(self) -> None:
        for text, said in (
            ("", "the key 'resource' is missing"),
            ("resource = nonsense", "unknown interface type"),
            ("resource = GPIB0::7::INSTR\nbackend = @nope", "needs the package pyvisa-nope"),
            ("resource = GPIB0::7::INSTR\nparity = uneven", "parity: 'uneven' is not one of"),
            ("resource = GPIB0::7::INSTR\nio_timeout = 0", "io_timeout"),
            ("resource = TCPIP::h::1::SOCKET\nread_termination = none", "need a read_termination"),
            ("resource = GPIB0::7::INSTR\nparameter p = P?, flaot", "parameter p: 'flaot'"),
            ("resource = GPIB0::7::INSTR\ncommand ask = P?", "'ask' is a name that all"),
        ):
            self.assertIn(said, self.refused(text))

    def test_terminations(self) -> None:
        for text, end in (("lf", b"\n"), ("NONE", b""), ("\\r\\n", b"\r\n"), (";", b";")):
            self.assertEqual(Termination.from_text(text), end)
        self.assertEqual(str(Termination(b"\r\n")), "crlf")
        self.assertEqual(str(Termination(b"\x03")), "\\x03")
        self.assertRaises(ValueError, Termination.from_text, "\u20ac")

    def test_words_of_the_system(self) -> None:
        """Without the number that Python puts before them."""
        self.assertEqual(words(OSError(111, "Connection refused")), "Connection refused")
        self.assertEqual(words(ValueError("no such port")), "no such port")

    def test_settings(self) -> None:
        self.assertRaises(ValueError, Settings, "")


class VisaCase(TestCase):
    """A lab with an instrument behind a VISA resource."""

    timeout = 30

    def lab(self, resource: str, **options: Any) -> Any:
        """A session of a client of the device."""
        options.setdefault("io_timeout", 0.1)
        lab = Lab(retry=Retry(0.01, 0.05))
        self.addCleanup(lab.stop)
        self.node = lab.add("dmm", VisaDevice(resource, declared=DECLARED, **options))
        self.kernel = lab.host
        return lab.session(device="dmm")

    def client(self) -> Any:
        """One more client."""
        return self.kernel.open_session("test", "here", device="dmm")

    async def ask(self, session: Any, message: str) -> str:
        answer: str = await session.call("ask", message)
        return answer

    async def until_answered(self, session: Any, message: str) -> str:
        """Asks until the device is connected."""
        while True:
            back: Deferred[None] = Deferred()
            ended = session.subscribe(["dmm"], partial(_tell, back))
            try:
                return await self.ask(session, message)
            except NotConnected:
                await back
            finally:
                ended.end()


def _tell(back: Deferred[None], updates: list[Any]) -> None:
    if any(update.what == "back" for update in updates) and not back.called:
        back.callback(None)


class Ways(VisaCase):
    """What holds for sockets and serial lines alike; `instrument` makes the far end."""

    def instrument(self) -> Any:
        raise NotImplementedError

    async def test_identity_parameters_and_commands(self) -> None:
        far = self.instrument()
        far.answers |= {b"MEAS:POW?": b"1.5E-3\n", b"SENS:WAV?": b"633.0\n"}
        session = self.lab(far.resource)
        self.assertEqual((await session.get("power")).value, 1.5e-3)
        self.assertEqual((await session.set("wavelength", 800)).value, 800.0)
        await self.assertFailure(session.set("wavelength", 300), OutOfRange)
        await session.call("zero")
        self.assertEqual((await session.get("wavelength")).value, 633.0)
        self.assertEqual(str(self.node.identity), "Example,Scripted,S-1,1.0")
        self.assertEqual(
            far.heard, [b"*IDN?", b"MEAS:POW?", b"SENS:WAV 800.0", b"SENS:ZERO", b"SENS:WAV?"]
        )

    async def test_messages_of_many_clients(self) -> None:
        """Each gets its own answers, whatever the others ask."""
        session = self.lab(self.instrument().resource, io_timeout=5.0)
        await self.ask(session, "READY?")
        clients = [self.client() for _ in range(5)]
        wanted = [[f"C{number}:N{count}?" for count in range(20)] for number in range(5)]
        asked = [
            client.channel().execute(f"{text}".encode())
            for count in range(20)
            for client, text in zip(clients, [row[count] for row in wanted], strict=True)
        ]
        answers = await gatherResults(asked)
        self.assertEqual(
            answers, [wanted[number][count].encode() for count in range(20) for number in range(5)]
        )

    async def test_an_answer_that_comes_late(self) -> None:
        """It goes to nobody."""
        far = self.instrument()
        session = self.lab(far.resource)
        await self.ask(session, "READY?")
        asked = far.asked(b"SLOW?")
        slow = self.ask_later(session, "SLOW?")
        answer = await asked
        error = await self.assertFailure(slow, TimedOut)
        self.assertIn("SLOW?", str(error))
        identity = far.answers[b"*IDN?"]
        far.answers[b"NEXT?"] = lambda send: (self.at_last(answer), send(b"next\n"))
        far.answers[b"*IDN?"] = lambda send: (self.at_last(answer), send(identity))
        self.late = [b"late\n"]
        self.assertEqual(await self.ask(session, "NEXT?"), "next")
        self.assertEqual(await self.ask(session, "AFTER?"), "AFTER?")

    def ask_later(self, session: Any, message: str) -> Deferred[str]:
        return Deferred.fromCoroutine(self.ask(session, message))

    def at_last(self, answer: Send) -> None:
        """Sends what is late, once; the connection may have been closed."""
        while self.late:
            try:
                answer(self.late.pop())
            except (OSError, AttributeError):
                pass

    async def test_an_instrument_that_answers_twice(self) -> None:
        far = self.instrument()
        session = self.lab(far.resource)
        far.answers[b"TWICE?"] = b"first\nsecond\n"
        self.assertEqual(await self.ask(session, "TWICE?"), "first")
        self.assertEqual(await self.ask(session, "NEXT?"), "NEXT?")

    async def test_an_answer_to_what_was_no_question(self) -> None:
        far = self.instrument()
        session = self.lab(far.resource)
        sent: Deferred[None] = Deferred()
        far.answers[b"SET 1"] = lambda send: (
            send(b"OK\n"),
            far.settle(),
            sent.callback(None),
        )
        await session.call("send", "SET 1")
        await sent
        self.assertEqual(await self.ask(session, "NEXT?"), "NEXT?")

    async def test_half_an_answer(self) -> None:
        far = self.instrument()
        session = self.lab(far.resource)
        far.answers[b"HALF?"] = b"12.34"
        error = await self.assertFailure(self.ask_later(session, "HALF?"), TimedOut)
        self.assertIn("only 5 bytes of it came", str(error))
        self.assertEqual(await self.ask(session, "NEXT?"), "NEXT?")

    async def test_garbage_without_end(self) -> None:
        far = self.instrument()
        session = self.lab(far.resource, longest_answer=2000, chunk_size=500)
        far.answers[b"FLOOD?"] = b"x" * 3000
        await self.assertFailure(self.ask_later(session, "FLOOD?"), TooLarge, TimedOut)
        self.assertEqual(await self.ask(session, "NEXT?"), "NEXT?")

    async def test_blocks_may_hold_any_byte(self) -> None:
        far = self.instrument()
        session = self.lab(far.resource)
        data = bytes(range(256)) * 4
        far.answers[b"CURVE?"] = b"#41024" + data + b"\n"
        self.assertEqual(await session.call("ask_block", "CURVE?"), data)
        channel = self.client().channel()
        self.assertEqual(await channel.execute(b"CURVE?"), b"#41024" + data)
        self.assertEqual(await self.ask(session, "NEXT?"), "NEXT?")

    async def test_blocks_of_a_wrong_length(self) -> None:
        far = self.instrument()
        session = self.lab(far.resource)
        far.answers[b"SHORT?"] = b"#41024" + bytes(100) + b"\n"
        error = await self.assertFailure(session.call("ask_block", "SHORT?"), TimedOut)
        self.assertIn("only 107 bytes", str(error))
        far.answers[b"LONG?"] = b"#210" + bytes(range(48, 88)) + b"\n"
        error = await self.assertFailure(session.call("ask_block", "LONG?"), DeviceFault)
        self.assertIn("goes on after the block", str(error))
        far.answers[b"ODD?"] = b"#4zzzzabc\n"
        await self.assertFailure(session.call("ask_block", "ODD?"), DeviceFault)
        self.assertEqual(await self.ask(session, "NEXT?"), "NEXT?")

    async def test_an_instrument_that_does_not_answer_at_all(self) -> None:
        far = self.instrument()
        far.answers[b"*IDN?"] = b""
        session = self.lab(far.resource)
        await self.assertFailure(self.ask_later(session, "X?"), NotConnected)
        far.answers[b"*IDN?"] = b"Example,Scripted,S-1,1.0\n"
        self.assertEqual(await self.until_answered(session, "X?"), "X?")
        self.flushLoggedErrors()

    async def test_what_is_no_number(self) -> None:
        far = self.instrument()
        far.answers[b"MEAS:POW?"] = b"overload\n"
        session = self.lab(far.resource)
        error = await self.assertFailure(session.get("power"), DeviceFault)
        self.assertEqual(str(error), "power: 'overload' was answered, no float")

    async def test_errors_of_the_instrument(self) -> None:
        far = self.instrument()
        queue = [b'-222,"Data out of range"\n', b'0,"No error"\n', b"what?\n"]
        far.answers[b"SYST:ERR?"] = lambda send: send(queue.pop(0))
        session = self.lab(far.resource, errors=True)
        error = await self.assertFailure(session.set("wavelength", 800), DeviceFault)
        self.assertEqual((str(error), error.number), ("Data out of range", -222))
        await session.set("wavelength", 700)
        await self.assertFailure(session.call("zero"), DeviceFault)
        self.assertEqual(await self.ask(session, "NEXT?"), "NEXT?")

    async def test_the_status_byte(self) -> None:
        far = self.instrument()
        far.answers[b"*STB?"] = b"68\n"
        session = self.lab(far.resource)
        await self.ask(session, "READY?")
        self.assertEqual(await self.client().channel().status_byte(), 68)

    async def test_clear_and_trigger(self) -> None:
        far = self.instrument()
        session = self.lab(far.resource)
        await self.ask(session, "READY?")
        channel = self.client().channel()
        channel.clear()
        await channel.trigger()
        self.assertEqual(await self.ask(session, "NEXT?"), "NEXT?")
        self.assertIn(b"*TRG", far.heard)


    async def test_a_call_that_never_returns(self) -> None:
        """A client who connects again gets a new thread and a new session."""
        far = self.instrument()
        session = self.lab(far.resource, io_timeout=5.0)
        await self.ask(session, "READY?")
        library: Any = self.node.device._session.library  # type: ignore[attr-defined]
        hang, read = threading.Event(), library.read
        self.addCleanup(hang.set)

        def hanging(*args: Any) -> Any:
            hang.wait()
            return read(*args)

        library.read = hanging
        await self.assertFailure(session.call("ask", "HANG?", timeout=0.05), TimedOut)
        await session.connect()
        self.assertEqual(await self.ask(session, "X?"), "X?")
        hang.set()
        self.assertEqual(await self.ask(session, "Y?"), "Y?")
        self.assertEqual(await self.ask(session, "Z?"), "Z?")
        self.flushLoggedErrors()


class SocketTests(Ways):
    """``TCPIP::...::SOCKET``"""

    def instrument(self) -> SocketInstrument:
        return SocketInstrument(self)

    async def test_pulled_in_the_middle_of_an_answer(self) -> None:
        far = self.instrument()
        session = self.lab(far.resource, io_timeout=5.0)
        far.answers[b"CUT?"] = lambda send: (send(b"12."), far.cut())
        error = await self.assertFailure(self.ask_later(session, "CUT?"), LabError)
        self.assertIn("lost", str(error).lower() + "reset lost")
        self.assertEqual(await self.until_answered(session, "NEXT?"), "NEXT?")
        self.flushLoggedErrors()

    async def test_closed_while_nobody_asks(self) -> None:
        far = self.instrument()
        session = self.lab(far.resource)
        await self.ask(session, "READY?")
        gone: Deferred[None] = Deferred()
        far.empty.append(gone)
        far.cut()
        await gone
        await self.assertFailure(self.ask_later(session, "X?"), LabError)
        self.assertEqual(await self.until_answered(session, "NEXT?"), "NEXT?")
        self.flushLoggedErrors()

    async def test_a_loss_is_noticed_though_nobody_asks(self) -> None:
        """Instruments that close idle connections are there again for the next question."""
        far = self.instrument()
        session = self.lab(far.resource, probe=0.02)
        await self.ask(session, "READY?")
        told: list[str] = []
        back: Deferred[None] = Deferred()
        session.subscribe(["dmm"], lambda updates: told.extend(it.what for it in updates))
        session.subscribe(["dmm"], partial(_tell, back))
        far.cut()
        await back
        self.assertEqual([what for what in told if what in ("lost", "back")], ["lost", "back"])
        self.assertEqual(await self.ask(session, "NEXT?"), "NEXT?")
        self.flushLoggedErrors()

    async def test_not_there_at_first(self) -> None:
        far = self.instrument()
        port = far.port
        await far.stop()
        session = self.lab(far.resource)
        error = await self.assertFailure(self.ask_later(session, "X?"), NotConnected)
        self.assertIn("TCPIP::127.0.0.1", str(error))
        SocketInstrument(self, port)
        self.assertEqual(await self.until_answered(session, "X?"), "X?")
        self.flushLoggedErrors()

    async def test_pulled_and_back_many_times(self) -> None:
        """No call is left without an answer, none gets another's, nothing is left open."""
        far = self.instrument()
        session = self.lab(far.resource)
        await self.ask(session, "READY?")
        before = len(os.listdir("/proc/self/fd")), threading.active_count()
        for round in range(100):
            text = f"R{round}?"
            self.assertEqual(await self.until_answered(session, text), text)
            far.cut()
            pending = [self.ask_later(self.client(), f"R{round}:C{n}?") for n in range(3)]
            for number, asked in enumerate(pending):
                try:
                    self.assertEqual(await asked, f"R{round}:C{number}?")
                except LabError:
                    pass
        self.assertEqual(await self.until_answered(session, "LAST?"), "LAST?")
        after = len(os.listdir("/proc/self/fd")), threading.active_count()
        self.assertLessEqual(after[0], before[0] + 2)  # a connection may just have been closed
        self.assertEqual(after[1], before[1])
        self.flushLoggedErrors()


class SerialTests(Ways):
    """``ASRL...::INSTR`` on a pseudo terminal."""

    def instrument(self) -> SerialInstrument:
        return SerialInstrument(self)

    async def test_unplugged(self) -> None:
        """The adapter is pulled out while an answer is awaited."""
        far = self.instrument()
        session = self.lab(far.resource, io_timeout=5.0)
        await self.ask(session, "READY?")
        asked = far.asked(b"LAST?")
        pending = self.ask_later(session, "LAST?")
        await asked
        far.unplug()
        await self.assertFailure(pending, LabError)
        error = await self.assertFailure(self.ask_later(session, "X?"), NotConnected)
        self.assertIn("ASRL", str(error))
        self.flushLoggedErrors()


del Ways
