"""The raw SCPI server: recorded messages, order, other endings, device clear, the end."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, command, parameter
from labnet.errors import LabError
from labnet.instrument.serving import only_device
from labnet.lab import Lab, ServeOptions
from labnet.wires.scpi.server import Options, ScpiFactory, ScpiProtocol
from tests.instrument.toy import Supply
from tests.wires.vectors import records


class Wire(StringTransportWithDisconnection):
    """A transport that forgets what the test has read, and counts writes."""

    writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)

    def taken(self) -> bytes:
        data = bytes(self.value())
        self.clear()
        return data

    def abortConnection(self) -> None:
        self.loseConnection()


class Bench(Supply):
    """The supply of the recordings, with commands that take time or give much."""

    ready = parameter(bool, initial=True)

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[Deferred[str]] = []

    @command(scpi="SLOW")
    def slow(self) -> Deferred[str]:
        """Ends when the test says so."""
        done: Deferred[str] = Deferred()
        self.waits.append(done)
        return done

    @command(scpi="BLOB", reads=True)
    def blob(self, size: int) -> bytes:
        """Many bytes."""
        return b"x" * size


class ServerTestCase(SynchronousTestCase):
    options = Options()

    def setUp(self) -> None:
        self.clock = Clock()
        self.lab = Lab(self.clock)
        self.bench = self.make_device()
        self.lab.attach("bench", self.bench)
        common = ServeOptions(device="bench", timeout=5.0)
        self.factory = ScpiFactory(self.lab, common, self.options, "bench")

    def make_device(self) -> Any:
        return Bench()

    def connect(self) -> ScpiProtocol:
        protocol: ScpiProtocol = self.factory.buildProtocol(None)
        transport = Wire()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return protocol

    def wire(self, protocol: ScpiProtocol) -> Wire:
        transport = protocol.transport
        assert isinstance(transport, Wire)
        return transport

    def ask(self, message: bytes, protocol: ScpiProtocol | None = None) -> bytes:
        protocol = protocol or self.connect()
        protocol.dataReceived(message + b"\n")
        return self.wire(protocol).taken()


class RecordedTests(ServerTestCase):
    """Each case on a device and a connection of its own; what errors it left is asked for."""

    def outcome(self, pieces: list[bytes], power_on: bool) -> tuple[bytes, list[int]]:
        self.setUp()
        protocol = self.connect()
        if not power_on:
            protocol.dataReceived(b"*CLS;*ESR?\n")
            self.wire(protocol).taken()
        for piece in pieces:
            protocol.dataReceived(piece)
        self.clock.advance(2)  # an open string is given up
        received = self.wire(protocol).taken()
        errors = [error.number for error in protocol.channel.status.all_errors()]
        return received, errors

    def test_each_case(self) -> None:
        for record in records("scpi"):
            pieces = [bytes.fromhex(piece) for piece in record["in"]]
            if not pieces:
                continue  # not about a socket
            expected = bytes.fromhex(record.get("socket_out", record["out"]))
            errors = record.get("socket_errors", record["errors"])
            whole = b"".join(pieces)
            single = [whole[n : n + 1] for n in range(len(whole))]
            for split in (pieces, [whole], single):
                outcome = self.outcome(split, record["case"] == "esr_power_on")
                if record.get("soft"):
                    lines = outcome[0].count(b"\n")
                    self.assertEqual(lines, expected.count(b"\n"), record["case"])
                else:
                    self.assertEqual(outcome, (expected, errors), record["case"])


class OrderTests(ServerTestCase):
    def test_a_response_leaves_in_one_write(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"*IDN?;*OPC?\n*TST?\nVOLT 1\nVOLT?\n")
        self.assertEqual(self.wire(protocol).taken(), b"ACME,PSU2,0,1.0;1\n0\n1\n")
        self.assertEqual(self.wire(protocol).writes, 1)

    def test_silence_for_what_has_no_response(self) -> None:
        protocol = self.connect()
        self.assertEqual(self.ask(b"VOLT 3", protocol), b"")
        self.assertEqual(self.ask(b"FOO?", protocol), b"")
        self.assertEqual(self.wire(protocol).writes, 0)
        self.assertEqual(self.ask(b"SYST:ERR?", protocol), b'-113,"Undefined header"\n')

    def test_errors_are_those_of_the_connection(self) -> None:
        first, second = self.connect(), self.connect()
        self.ask(b"FOO", first)
        self.assertEqual(self.ask(b"SYST:ERR?", second), b'0,"No error"\n')
        self.assertTrue(self.ask(b"SYST:ERR?", first).startswith(b"-113"))

    def test_a_slow_message_holds_up_its_own_connection_only(self) -> None:
        first, second = self.connect(), self.connect()
        first.dataReceived(b"SLOW?\n*TST?\n*OPC?\n")
        self.assertEqual(self.wire(first).taken(), b"")
        self.assertEqual(self.ask(b"*IDN?", second), b"ACME,PSU2,0,1.0\n")
        self.bench.waits[0].callback("there")
        self.assertEqual(self.wire(first).taken(), b'"there"\n0\n1\n')

    def test_a_long_response_is_sent_as_it_is_taken(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"BLOB? 3000000\n*OPC?\n")
        wire = self.wire(protocol)
        first = len(wire.value())
        self.assertLess(first, 2_000_000)
        protocol.dataReceived(b"*TST?\n")
        self.clock.pump([0] * 5)
        self.assertEqual(wire.taken(), b"#73000000" + b"x" * 3_000_000 + b"\n1\n0\n")

    def test_messages_too_long(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"DISP:TEXT 'a'," + b"1," * (1 << 19))
        protocol.dataReceived(b"1\n*OPC?\n")
        self.assertEqual(self.wire(protocol).taken(), b"1\n")
        self.assertTrue(self.ask(b"SYST:ERR?", protocol).startswith(b"-363"))

    def test_a_string_that_does_not_end(self) -> None:
        protocol = self.connect()
        self.assertEqual(self.ask(b'DISP:TEXT "abc', protocol), b"")
        self.assertEqual(self.ask(b"*OPC?", protocol), b"")
        self.clock.advance(1.0)
        self.assertTrue(self.ask(b"SYST:ERR?", protocol).startswith(b"-151"))
        self.assertIsNone(protocol._timer)

    def test_a_string_that_ends_in_time(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b'DISP:TEXT "a\n')
        self.clock.advance(0.9)
        protocol.dataReceived(b'b";TEXT?\n')
        self.assertEqual(self.wire(protocol).taken(), b'"a\nb"\n')
        self.assertIsNone(protocol._timer)


class LockTests(ServerTestCase):
    def test_a_locked_device_is_silent_and_says_why(self) -> None:
        other = self.lab.open_session("tsv", "192.0.2.9:1", name="alice", device="bench")
        self.successResultOf(other.lock(["bench"]))
        protocol = self.connect()
        self.assertEqual(self.ask(b"VOLT?", protocol), b"")
        error = self.ask(b"SYST:ERR?", protocol)
        self.assertTrue(error.startswith(b"-203,"), error)
        self.assertIn(b"alice", error)
        self.assertEqual(self.ask(b"*IDN?", protocol), b"ACME,PSU2,0,1.0\n")
        other.unlock()
        self.assertEqual(self.ask(b"VOLT?", protocol), b"0\n")

    def test_a_lock_ends_with_its_connection(self) -> None:
        holder = self.connect()
        self.assertEqual(self.ask(b"SYST:LOCK:REQ?", holder), b"1\n")
        self.assertEqual(self.ask(b"VOLT?"), b"")
        self.wire(holder).loseConnection()
        self.assertEqual(self.ask(b"VOLT?"), b"0\n")


class EndTests(ServerTestCase):
    def test_half_close_is_answered_then_closed(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"*IDN?\nSLOW?\n*OPC?\n*TS")
        protocol.readConnectionLost()
        wire = self.wire(protocol)
        self.assertTrue(wire.connected)
        self.bench.waits[0].callback("x")
        self.assertEqual(wire.taken(), b'ACME,PSU2,0,1.0\n"x"\n1\n')
        self.assertFalse(wire.connected)

    def test_what_has_not_begun_is_forgotten(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"SLOW?\nVOLT 3\n")
        session = protocol.channel.session
        self.wire(protocol).loseConnection()
        self.bench.waits[0].callback("x")
        self.assertTrue(session.closed)
        self.assertEqual(self.ask(b"VOLT?"), b"0\n")

    def test_the_device_has_gone(self) -> None:
        self.lab.detach("bench")
        protocol = self.connect()
        self.assertEqual(self.ask(b"*IDN?", protocol), b"")
        self.assertFalse(self.wire(protocol).connected)

    def test_a_connection_without_a_message_opens_nothing(self) -> None:
        protocol = self.connect()
        protocol.readConnectionLost()
        self.assertFalse(self.wire(protocol).connected)


class ServedDeviceTests(ServerTestCase):
    def check(self, **common: Any) -> str:
        error = self.assertRaises(
            LabError, only_device, self.lab, "scpi", ServeOptions(**common)
        )
        return str(error)

    def test_one_device(self) -> None:
        self.assertEqual(only_device(self.lab, "scpi", ServeOptions(device="bench")).path, "bench")
        named = ServeOptions(devices={"x": "bench"})
        self.assertEqual(only_device(self.lab, "scpi", named).path, "bench")

    def test_not_one_device(self) -> None:
        self.assertIn("one device", self.check())
        self.assertIn("one device", self.check(devices={"a": "bench", "b": "bench"}))
        self.assertIn("unknown", self.check(device="nothing"))

    def test_ambiguous_headers(self) -> None:
        class Twin(Device):
            a = parameter(float, scpi="SAME")
            b = parameter(float, scpi="SAME")

        self.lab.attach("twin", Twin())
        self.assertIn("SAME", self.check(device="twin"))


class Binary(Device):
    """Speaks a protocol of its own: answers each message with its length."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def expects_reply(self, data: bytes) -> bool:
        return True

    def message(self, data: bytes, expect_reply: bool) -> Any:
        self.messages.append(data)
        return succeed(b"%d" % len(data))


class CarriageReturnTests(ServerTestCase):
    options = Options(terminator="CR", max_message=64)

    def make_device(self) -> Any:
        return Binary()

    def test_messages(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"one\rtw")
        protocol.dataReceived(b"o\n2\r" + b"x" * 65 + b"\rthree\r")
        self.assertEqual(self.bench.messages, [b"one", b"two\n2", b"three"])
        self.assertEqual(self.wire(protocol).taken(), b"3\r5\r5\r")
        self.assertEqual([e.number for e in protocol.channel.status.all_errors()], [-363])


class CountTests(ServerTestCase):
    options = Options(terminator="count:4")

    def make_device(self) -> Any:
        return Binary()

    def test_messages(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"abcdefg")
        protocol.dataReceived(b"h?")
        self.assertEqual(self.bench.messages, [b"abcd", b"efgh"])
        self.assertEqual(self.wire(protocol).taken(), b"44")


class SilenceTests(ServerTestCase):
    options = Options(terminator="silence:0.1")

    def make_device(self) -> Any:
        return Binary()

    def test_messages(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"abc")
        self.clock.advance(0.09)
        protocol.dataReceived(b"def")
        self.clock.advance(0.09)
        self.assertEqual(self.bench.messages, [])
        self.clock.advance(0.02)
        self.assertEqual(self.bench.messages, [b"abcdef"])
        self.assertEqual(self.wire(protocol).taken(), b"6")

    def test_half_close_ends_a_message(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"abc")
        protocol.readConnectionLost()
        self.assertEqual(self.wire(protocol).taken(), b"3")
        self.assertFalse(self.wire(protocol).connected)
        self.assertIsNone(protocol._timer)

    def test_the_end_stops_the_timer(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"abc")
        self.wire(protocol).loseConnection()
        self.assertIsNone(protocol._timer)


class ControlTests(ServerTestCase):
    """The control connection, with a reactor that only remembers who listens."""

    options = Options(control=True)

    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.lab = Lab(self.clock, self.clock)
        self.bench = Bench()
        self.lab.attach("bench", self.bench)
        self.factory = ScpiFactory(
            self.lab, ServeOptions(device="bench", timeout=5.0), self.options, "bench"
        )

    def control(self, protocol: ScpiProtocol, host: str = "127.0.0.1") -> Any:
        """A control connection to the port that the raw connection was told."""
        number = self.ask(b"SYST:COMM:TCP:CONT?", protocol)
        assert protocol._control is not None
        self.assertEqual(number, b"%d\n" % protocol._control.number)
        control = protocol._control.accept(host)
        if control is not None:
            control.makeConnection(Wire())
            control.transport.protocol = control
        return control

    def test_device_clear(self) -> None:
        protocol = self.connect()
        control = self.control(protocol)
        protocol.dataReceived(b"SLOW?\n*TST?\n*OP")
        control.dataReceived(b"dcl\r\n")
        self.assertEqual(control.transport.taken(), b"DCL\n")
        self.assertEqual(self.ask(b"*IDN?", protocol), b"ACME,PSU2,0,1.0\n")
        self.bench.waits[0].callback("late")
        self.clock.advance(0)
        self.assertEqual(self.wire(protocol).taken(), b"")
        self.assertEqual(self.ask(b"VOLT?", protocol), b"0\n")

    def test_a_long_response_is_cut_short(self) -> None:
        protocol = self.connect()
        control = self.control(protocol)
        protocol.dataReceived(b"BLOB? 8000000\n")
        control.dataReceived(b"DCL\n")
        self.clock.pump([0] * 20)
        self.assertLess(len(self.wire(protocol).taken()), 4_000_000)
        self.assertEqual(self.ask(b"*OPC?", protocol), b"1\n")

    def test_service_requests(self) -> None:
        protocol = self.connect()
        control = self.control(protocol)
        self.ask(b"*CLS;*ESE 1;*SRE 32", protocol)
        self.ask(b"*OPC", protocol)
        self.assertEqual(control.transport.taken(), b"SRQ +96\n")

    def test_one_control_connection_from_the_same_host(self) -> None:
        protocol = self.connect()
        self.assertIsNone(self.control(protocol, "192.0.2.7"))
        first = self.control(protocol)
        self.assertIsNone(self.control(protocol))
        first.transport.loseConnection()
        self.assertIsNotNone(self.control(protocol))

    def test_it_ends_with_the_raw_connection(self) -> None:
        protocol = self.connect()
        control = self.control(protocol)
        port: IListeningPort = protocol._control._listening  # type: ignore[union-attr]
        self.wire(protocol).loseConnection()
        self.assertFalse(control.transport.connected)
        self.assertIsNotNone(port)

    def test_nonsense_is_ignored(self) -> None:
        protocol = self.connect()
        control = self.control(protocol)
        control.dataReceived(b"x" * 1000 + b"\nHELLO\n\nDCL\n")
        self.assertEqual(control.transport.taken(), b"DCL\n")

    def test_each_connection_has_its_own(self) -> None:
        first, second = self.connect(), self.connect()
        one, other = self.control(first), self.control(second)
        self.ask(b"*ESE 1;*SRE 32;*OPC", second)
        self.assertEqual(one.transport.taken(), b"")
        self.assertEqual(other.transport.taken(), b"SRQ +96\n")


class NoControlTests(ServerTestCase):
    def test_off_unless_asked_for(self) -> None:
        protocol = self.connect()
        self.assertEqual(self.ask(b"SYST:COMM:TCP:CONT?", protocol), b"")
        self.assertTrue(self.ask(b"SYST:ERR?", protocol).startswith(b"-113"))
