"""The TSV server against the recorded exchanges, and what it does better than the recorded peer."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import fail
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, command, parameter
from labnet.lab import Lab, ServeOptions
from labnet.wires.tsv.server import Options, TsvFactory, TsvProtocol
from tests.wires.toy_motor import ToyMotor
from tests.wires.vectors import Exchange, exchanges


class Wire(StringTransportWithDisconnection):
    """A transport that forgets what the test has read."""

    def taken(self) -> bytes:
        data = bytes(self.value())
        self.clear()
        return data

    def abortConnection(self) -> None:
        self.loseConnection()


class ServerTestCase(SynchronousTestCase):
    """A lab with a toy motor, and a TSV listener for it."""

    device: str | None = "motor"
    devices: dict[str, str] = {}
    shutdown: Any = "no"
    options = Options()

    def setUp(self) -> None:
        self.clock = Clock()
        self.shut_down: list[str] = []
        self.lab = Lab(self.clock, on_shut_down=self.shut_down.append)
        self.motor = ToyMotor(self.clock)
        self.lab.attach("motor", self.motor)
        common = ServeOptions(
            device=self.device, devices=self.devices, timeout=1.0, allow_shutdown=self.shutdown
        )
        self.factory = TsvFactory(self.lab, common, self.options)

    def connect(self) -> TsvProtocol:
        protocol: TsvProtocol = self.factory.buildProtocol(None)
        transport = Wire()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return protocol

    def wire(self, protocol: TsvProtocol) -> Wire:
        transport = protocol.transport
        assert isinstance(transport, Wire)
        return transport

    def ask(self, line: bytes, protocol: TsvProtocol | None = None) -> bytes:
        """What comes back for one line at once."""
        protocol = protocol or self.connect()
        protocol.dataReceived(line + b"\n")
        return self.wire(protocol).taken()


#: Where labnet answers otherwise than the recorded 1.4.0 server, and with what.
DIFFERENT: dict[str, bytes] = {
    # One reply for each request, also where the peer's subclass says nothing or too much.
    "connect_hardware": b"1\t\n",
    "disconnect_hardware": b"1\t\n",
    "connect_then_ping": b"1\t\n1\t\n",
    "silent": b"1\t\n",
    "silent_then_ping": b"1\t\n1\t\n",
    "twice": b"0\tReceived unknown command: 'twice': Unknown command\n",
    "errthenok": b"0\tReceived unknown command: 'errthenok': Unknown command\n",
    # One reply is one line.
    "fail2_multiline": b"0\tError handling command 'fail2': first line second line\twith tab\n",
    "nl_in_value": b"1\tline one line two\n",
    "cr_in_value": b"1\ta b c d\n",
    # An argument is of its kind before the device sees it.
    "move_abs_blank": b"1\tMoved to 2\n",
    # The same prefixes, texts about the command instead of Python.
    "connect_hardware_arg": b"0\tError handling command 'connect_hardware':"
    b" too many arguments; usage: connect_hardware\n",
    "disconnect_hardware_arg": b"0\tError handling command 'disconnect_hardware':"
    b" too many arguments; usage: disconnect_hardware\n",
    "move_abs_noarg": b"0\tError handling command 'move_abs':"
    b" missing argument position; usage: move_abs position\n",
    "move_abs_two": b"0\tError handling command 'move_abs':"
    b" too many arguments; usage: move_abs position\n",
    "move_abs_nonfloat": b"0\tError handling command 'move_abs': position takes float, not 'abc'\n",
    "move_abs_nonutf8": b"0\tError handling command 'move_abs':"
    b" position takes float (as UTF-8 text), not '\\xff'\n",
    "fail_empty": b"0\tError handling command 'fail': missing argument text; usage: fail text\n",
    "typed_bad": b"0\tError handling command 'typed': f takes float, not 'abc'\n",
    "typed_bad_int": b"0\tError handling command 'typed': n takes int, not '2.5'\n",
    "typed_none": b"0\tError handling command 'typed': missing argument f; usage: typed f [n]\n",
    "typed_many": b"0\tError handling command 'typed': too many arguments; usage: typed f [n]\n",
    "typed_nonutf8": b"0\tError handling command 'typed':"
    b" f takes float (as UTF-8 text), not '\\xff'\n",
    "unknown_nonutf8": b"0\tHandler Error:"
    b" the command is not UTF-8 text: byte 0xff at position 0\n",
    # Deadlines are kept by the server, for each command, and name what did not answer.
    "deadline_exceeded": b"0\tError handling command: slow - hardware not responding:"
    b" motor.slow exceeded 1.0s limit\n",
    "deadline_nested": b"0\tError handling command: deadline - hardware not responding:"
    b" motor.deadline exceeded 0.2s limit\n",
    "deadline_after_nested": b"1\tdone\n",
    "deadline_not_checked": b"0\tReceived unknown command: 'stall': Unknown command\n",
}

#: Recorded with devices of their own, whose commands a toy motor does not have.
PEER = "1.4.0"


class RecordedTests(ServerTestCase):
    shutdown = "lab"

    def answers(self, exchange: Exchange, pieces: list[bytes]) -> tuple[bytes, bool]:
        protocol = self.connect()
        for piece in pieces:
            protocol.dataReceived(piece)
        if "half_close" in exchange.case:
            protocol.readConnectionLost()
        self.clock.pump([0.05] * 45)
        wire = self.wire(protocol)
        connected = bool(wire.connected)
        if connected:
            wire.loseConnection()
        return wire.taken(), connected

    def check(self, exchange: Exchange, pieces: list[bytes]) -> None:
        received, connected = self.answers(exchange, pieces)
        if exchange.case.startswith("command_list"):
            ours, theirs = (set(data[2:-1].split(b"\t")) for data in (received, exchange.received))
            missing = theirs - ours
            self.assertEqual(
                missing, {b"stall", b"twice", b"errthenok", b"count", b"quit_hard"}, exchange.case
            )
        else:
            expected = DIFFERENT.get(exchange.case, exchange.received)
            self.assertEqual(received, expected, exchange.case)
        self.assertEqual(connected, exchange.then == "open", exchange.case)

    def recorded(self) -> list[Exchange]:
        found = [exchange for exchange in exchanges("tsv") if exchange.peer == PEER]
        self.assertGreater(len(found), 75)
        return found

    def test_as_written(self) -> None:
        for exchange in self.recorded():
            self.check(exchange, exchange.sent)

    def test_in_one_piece(self) -> None:
        for exchange in self.recorded():
            self.check(exchange, [b"".join(exchange.sent)])

    def test_byte_by_byte(self) -> None:
        for exchange in self.recorded():
            data = b"".join(exchange.sent)
            self.check(exchange, [data[n : n + 1] for n in range(len(data))])

    def test_every_difference_is_one(self) -> None:
        recorded = {exchange.case: exchange.received for exchange in self.recorded()}
        for case, expected in DIFFERENT.items():
            self.assertNotEqual(recorded[case], expected, case)

    def test_older_versions_ask_the_same(self) -> None:
        """Every request of the older recordings gets one reply, and white lines none."""
        for exchange in exchanges("tsv"):
            if exchange.peer not in ("1.1.2", "1.0.3") or "shutdown" in exchange.case:
                continue
            lines = [line for line in b"".join(exchange.sent).split(b"\n")[:-1] if line.strip()]
            received, _ = self.answers(exchange, exchange.sent)
            self.assertEqual(received.count(b"\n"), len(lines), exchange.case)


class OrderTests(ServerTestCase):
    def test_one_write_for_one_read(self) -> None:
        protocol = self.connect()
        writes: list[bytes] = []
        self.wire(protocol).write = writes.append  # type: ignore[method-assign]
        protocol.dataReceived(b"ping\nposition\nlimits\n" * 3)
        protocol.dataReceived(b"ping\nposition\n")
        self.assertEqual(
            writes, [b"1\t\n1\t0.0\n1\t-10.0\t10.0\tmm\n" * 3, b"1\t\n1\t0.0\n"]
        )

    def test_a_slow_command_keeps_the_order(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"ping\nslow\t0.5\nping\necho\ta\n")
        self.assertEqual(self.wire(protocol).taken(), b"1\t\n")
        protocol.dataReceived(b"echo\tb\n")
        self.assertEqual(self.wire(protocol).taken(), b"")
        self.clock.advance(0.5)
        self.assertEqual(self.wire(protocol).taken(), b"1\tdone\n1\t\n1\ta\n1\tb\n")
        self.assertEqual(self.ask(b"ping", protocol), b"1\t\n")

    def test_a_slow_command_holds_up_its_own_connection_only(self) -> None:
        self.connect().dataReceived(b"slow\t0.5\n")
        self.assertEqual(self.ask(b"position"), b"1\t0.0\n")

    def test_a_deadline_frees_the_connection(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"slow\t30\nping\n")
        self.clock.advance(1.0)
        self.assertEqual(
            self.wire(protocol).taken(),
            b"0\tError handling command: slow - hardware not responding:"
            b" motor.slow exceeded 1.0s limit\n1\t\n",
        )

    def test_at_most_so_many_lines_a_turn(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"ping\n" * 200)
        counts = [self.wire(protocol).taken().count(b"\n")]
        while counts[-1]:
            self.clock.advance(0)
            counts.append(self.wire(protocol).taken().count(b"\n"))
        self.assertEqual(sum(counts), 200)
        self.assertLessEqual(max(counts), 128)
        self.assertGreaterEqual(len(counts), 3)

    def test_reading_stops_while_too_much_waits(self) -> None:
        protocol = self.connect()
        wire = self.wire(protocol)
        protocol.dataReceived(b"slow\t0.5\n")
        for _ in range(20):
            protocol.dataReceived(b"echo\t" + b"x" * 4000 + b"\n")
        self.assertEqual(wire.producerState, "paused")
        self.clock.advance(0.5)
        self.assertEqual(wire.taken().count(b"\n"), 21)
        self.assertEqual(wire.producerState, "producing")

    @settings(max_examples=30)
    @given(st.lists(st.integers(0, 200), max_size=12))
    def test_any_split_gives_the_same(self, cuts: list[int]) -> None:
        self.setUp()
        data = b"ping\r\n\n \nposition\nnosuch\t1\necho\t a\t\tb \nlimits\nmove_abs\t2.5\nspeed\n"
        protocol = self.connect()
        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for start, end in itertools.pairwise(edges):
            if start < end:
                protocol.dataReceived(data[start:end])
        self.assertEqual(
            self.wire(protocol).taken(),
            b"1\t\n1\t0.0\n0\tReceived unknown command: 'nosuch': Unknown command\n1\t a\tb\n"
            b"1\t-10.0\t10.0\tmm\n1\tMoved to 2.5\n1\t1.0\n",
        )


class EndTests(ServerTestCase):
    def test_half_close_is_answered_then_closed(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"slow\t0.5\nping\npi")
        protocol.readConnectionLost()
        wire = self.wire(protocol)
        self.assertTrue(wire.connected)
        self.clock.advance(0.5)
        self.assertEqual(wire.taken(), b"1\tdone\n1\t\n")
        self.assertFalse(wire.connected)

    def test_half_close_when_idle_closes(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"ping\n")
        protocol.readConnectionLost()
        self.assertFalse(self.wire(protocol).connected)

    def test_what_has_not_begun_is_forgotten(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"slow\t0.5\nmove_abs\t1\nmove_abs\t2\n")
        self.wire(protocol).loseConnection()
        self.clock.advance(2)
        self.assertEqual(self.motor.log, ["slow begins"])
        self.assertEqual(self.wire(protocol).taken(), b"")

    def test_what_waits_for_the_device_is_forgotten(self) -> None:
        first, second = self.connect(), self.connect()
        first.dataReceived(b"deadline\t0.05\n")
        second.dataReceived(b"move_abs\t1\n")
        self.wire(second).loseConnection()
        self.clock.advance(0.1)
        self.assertEqual(self.wire(first).taken(), b"1\tdone\n")
        self.assertEqual(self.motor.log, [])

    def test_half_close_during_a_long_reply(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"big\t3000000\nping\nbig\t1000000\n")
        protocol.readConnectionLost()
        self.assertTrue(self.wire(protocol).connected)
        self.clock.pump([0] * 6)
        self.assertEqual(len(self.wire(protocol).taken()), 4_000_000 + 9)
        self.assertFalse(self.wire(protocol).connected)

    def test_a_reply_waits_for_the_long_one_before_it(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"big\t3000000\nslow\t0\nping\n")
        self.clock.pump([0] * 6)
        self.assertTrue(self.wire(protocol).taken().endswith(b"xx\n1\tdone\n1\t\n"))

    def test_line_too_long(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"ping\nslow\t0.5\n")
        for _ in range(17):
            protocol.dataReceived(b"x" * (1 << 16))
        wire = self.wire(protocol)
        self.assertTrue(wire.connected)
        self.clock.advance(0.5)
        self.assertEqual(wire.taken(), b"1\t\n1\tdone\n0\tLine too long\n")
        self.assertFalse(wire.connected)

    def test_line_too_long_first(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"x" * ((1 << 20) + 1))
        self.assertEqual(self.wire(protocol).taken(), b"0\tLine too long\n")
        self.assertFalse(self.wire(protocol).connected)

    def test_longest_line(self) -> None:
        line = b"argc\t" + b"z" * ((1 << 20) - 5)
        protocol = self.connect()
        reply = self.ask(line, protocol)
        self.clock.advance(0)
        reply += self.wire(protocol).taken()
        self.assertEqual(len(reply), len(line) + 3)

    def test_shutdown_is_refused(self) -> None:
        protocol = self.connect()
        self.assertTrue(self.ask(b"shutdown", protocol).startswith(b"0\tshutdown is not allowed"))
        self.assertEqual(self.ask(b"ping", protocol), b"1\t\n")
        self.assertEqual(self.shut_down, [])

    def test_sessions_end_with_their_connections(self) -> None:
        protocol = self.connect()
        self.ask(b"position", protocol)
        session = protocol.session
        self.wire(protocol).loseConnection()
        self.assertTrue(session.closed)


class ShutdownTests(ServerTestCase):
    shutdown = "lab"

    def test_the_stream_ends_without_a_byte(self) -> None:
        protocol = self.connect()
        protocol.dataReceived(b"ping\nshutdown\nmove_abs\t9\nping\n")
        self.assertEqual(self.wire(protocol).taken(), b"1\t\n")
        self.assertFalse(self.wire(protocol).connected)
        self.assertEqual(len(self.shut_down), 1)
        self.assertEqual(self.motor.log, [])


class DeviceTests(ServerTestCase):
    def test_parameters(self) -> None:
        for line, reply in {
            b"speed": b"1\t1.0\n",
            b"speed\t2": b"1\t2.0\n",
            b"get\tspeed": b"1\t2.0\n",
            b"set\tspeed\t3.5": b"1\t3.5\n",
            b"get\tmotor.speed": b"1\t3.5\n",
            b"motor.speed": b"1\t3.5\n",
            b"get\tSPEED": b"1\t3.5\n",
            b"SPEED": b"0\tReceived unknown command: 'SPEED': Unknown command\n",
            b"mode": b"1\tslow\n",
            b"mode\tFAST": b"1\tfast\n",
            b"speed\t9": b"0\tError handling command 'speed': speed takes 0.1 to 5, not 9.0\n",
            b"speed\t1\t2": b"0\tError handling command 'speed':"
            b" too many arguments; usage: speed [value]\n",
            b"set\tposition\t1": b"0\tError handling command 'set': position can only be read\n",
            b"set\tspeed": b"0\tError handling command 'set':"
            b" missing argument; usage: set NODE VALUE\n",
            b"get\tspede": b"0\tError handling command 'get':"
            b" unknown name in motor: 'spede'; did you mean speed or typed?\n",
            b"get\tmove_abs": b"0\tError handling command 'get':"
            b" motor.move_abs is a command, not a parameter\n",
            b"set\tmotor\t1": b"0\tError handling command 'set':"
            b" motor is a device, not a parameter\n",
            b"motor": b"0\tReceived unknown command: 'motor': Unknown command\n",
            b"stop": b"1\tstopped\n",
        }.items():
            self.assertEqual(self.ask(line), reply, line)

    def test_a_device_that_is_disconnected(self) -> None:
        self.assertEqual(self.ask(b"disconnect_hardware"), b"1\t\n")
        reply = self.ask(b"position")
        self.assertTrue(reply.startswith(b"0\tError handling command 'position': motor is not"))
        self.assertEqual(self.ask(b"connect_hardware"), b"1\t\n")
        self.assertEqual(self.ask(b"position"), b"1\t0.0\n")

    def test_names_are_looked_up_anew_when_devices_change(self) -> None:
        self.assertEqual(self.ask(b"position"), b"1\t0.0\n")
        self.lab.detach("motor")
        self.assertIn(b"unknown command", self.ask(b"position").lower())
        self.lab.attach("motor", Nested())
        self.assertEqual(self.ask(b"axis.angle"), b"1\t45.0\n")
        self.assertEqual(self.ask(b"position"), b"1\tnone\n")

    def test_members_that_join_later(self) -> None:
        self.assertIn(b"unknown command", self.ask(b"gain").lower())
        self.motor.add_parameter("gain", float, initial=2.0)
        self.assertEqual(self.ask(b"gain"), b"1\t2.0\n")

    def test_a_bug_is_answered_and_logged(self) -> None:
        protocol = self.connect()
        for broken in (lambda path: fail(RuntimeError("x")), lambda path: 1 / 0):
            protocol.session.get = broken  # type: ignore
            reply = self.ask(b"speed", protocol)
            self.assertEqual(
                reply,
                b"0\tError handling command 'speed': the server failed; its log says why\n",
            )
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError, ZeroDivisionError)), 2)

    def test_what_is_remembered_is_bounded(self) -> None:
        protocol = self.connect()
        for number in range(5000):
            self.ask(b"echo\t%d" % number, protocol)
        self.assertLessEqual(len(self.factory.table._actions), 4096)


class Axis(Device):
    angle = parameter(float, initial=45.0)

    @command
    def home(self) -> str:
        """Goes home."""
        return "home"


class Nested(Device):
    position = parameter(str, initial="none")

    def __init__(self) -> None:
        super().__init__()
        self.axis = Axis()

    @command
    def get(self) -> str:
        """Its own."""
        return "own get"

    @command
    def ping(self) -> str:
        """Never reached."""
        return "own ping"


class SeveralDevicesTests(ServerTestCase):
    device = None
    devices = {"m": "motor", "n": "nested"}

    def setUp(self) -> None:
        super().setUp()
        self.lab.attach("nested", Nested())

    def test_names(self) -> None:
        for line, reply in {
            b"m.position": b"1\t0.0\n",
            b"n.axis.angle": b"1\t45.0\n",
            b"n.axis.angle\t30": b"1\t30.0\n",
            b"n.axis.home": b"1\thome\n",
            b"n.get": b"1\town get\n",
            b"get\tn.axis.angle": b"1\t30.0\n",
            b"set\tn.axis.angle\t1": b"1\t1.0\n",
            b"connect_hardware\tm": b"1\t\n",
            b"connect_hardware": b"0\tError handling command 'connect_hardware':"
            b" missing argument; usage: connect_hardware DEVICE\n",
            b"stop\tm": b"1\t\n",
            b"stop\tn": b"0\tError handling command 'stop':"
            b" nested has no command that stops it\n",
        }.items():
            self.assertEqual(self.ask(line), reply, line)

    def test_command_list(self) -> None:
        names = self.ask(b"command_list")[2:-1].decode().split("\t")
        for name in ("ping", "m.move_abs", "n.axis.home", "lock", "stop"):
            self.assertIn(name, names)
        self.assertNotIn("move_abs", names)


class OwnCommandsTests(ServerTestCase):
    device = "nested"

    def setUp(self) -> None:
        super().setUp()
        self.lab.attach("nested", Nested())

    def test_a_device_may_have_a_get_of_its_own_but_no_ping(self) -> None:
        self.assertEqual(self.ask(b"get"), b"1\town get\n")
        self.assertEqual(self.ask(b"ping"), b"1\t\n")
        names = self.ask(b"command_list")[2:-1].split(b"\t")
        self.assertEqual((names.count(b"get"), names.count(b"ping")), (1, 1))


class HelpTests(ServerTestCase):
    def test_all(self) -> None:
        usages = self.ask(b"help")[2:-1].decode().split("\t")
        for usage in (
            "move_abs position", "speed [value]", "position", "typed f [n]", "echo ...",
            "lock NODE [NAME [LEASE]]", "ping",
        ):  # fmt: skip
            self.assertIn(usage, usages)

    def test_one(self) -> None:
        for name, text in {
            b"move_abs": b"move_abs position. Moves to a position. position: float",
            b"speed": b"speed [value]. along the axis. float mm/s. 0.1 to 5",
            b"mode": b"mode [value]. enum. one of slow, fast",
            b"ping": b"ping: answers success",
        }.items():
            self.assertEqual(self.ask(b"help\t" + name), b"1\t" + text + b"\n")
        self.assertIn(b"must give one", self.ask(b"help\tlock"))
        self.assertIn(b"command_list", self.ask(b"help\tnosuch"))


class LockTests(ServerTestCase):
    def token(self, line: bytes, protocol: TsvProtocol | None = None) -> bytes:
        reply = self.ask(line, protocol)
        self.assertRegex(reply, rb"\A1\t[0-9a-f]{16,}\n\Z")
        return reply[2:-1]

    def test_others_are_shut_out_and_told_why(self) -> None:
        holder = self.connect()
        self.token(b"lock\tmotor\talice\t30", holder)
        self.assertEqual(self.ask(b"move_abs\t1", holder), b"1\tMoved to 1\n")
        refused = self.ask(b"move_abs\t2")
        self.assertTrue(refused.startswith(b"0\tError handling command 'move_abs': motor"), refused)
        self.assertIn(b"locked by alice (tsv", refused)
        self.assertEqual(self.ask(b"position"), b"1\t1.0\n")
        again = self.ask(b"lock\tmotor\tbob\t30")
        self.assertTrue(again.startswith(b"0\tError handling command 'lock': motor is locked by"))

    def test_a_lock_without_lease_ends_with_its_connection(self) -> None:
        holder = self.connect()
        self.token(b"lock\tmotor", holder)
        self.assertIn(b"locked", self.ask(b"move_abs\t2"))
        self.wire(holder).loseConnection()
        self.assertEqual(self.ask(b"move_abs\t2"), b"1\tMoved to 2\n")

    def test_a_leased_lock_outlives_its_connection(self) -> None:
        holder = self.connect()
        token = self.token(b"lock\tmotor\talice\t30", holder)
        self.wire(holder).loseConnection()
        self.assertIn(b"locked by alice", self.ask(b"move_abs\t2"))
        mine = self.connect()
        self.assertEqual(self.ask(b"with\t%b\tmove_abs\t3" % token, mine), b"1\tMoved to 3\n")
        self.assertIn(b"locked by alice", self.ask(b"move_abs\t2", mine))
        self.wire(mine).loseConnection()
        self.assertEqual(self.ask(b"with\t%b\tspeed\t3" % token), b"1\t3.0\n")
        self.clock.advance(30)
        self.assertEqual(self.ask(b"move_abs\t2"), b"1\tMoved to 2\n")
        self.assertIn(b"nobody holds", self.ask(b"with\t%b\tmove_abs\t3" % token))

    def test_unlock(self) -> None:
        holder = self.connect()
        token = self.token(b"lock\tmotor\talice\t30", holder)
        self.wire(holder).loseConnection()
        self.assertEqual(self.ask(b"unlock\t%b" % token), b"1\t\n")
        self.assertEqual(self.ask(b"move_abs\t2"), b"1\tMoved to 2\n")
        self.assertIn(b"nobody holds", self.ask(b"unlock\t%b" % token))

    def test_unlock_on_the_same_connection(self) -> None:
        holder = self.connect()
        token = self.token(b"lock\tmotor", holder)
        self.assertEqual(self.ask(b"unlock\t%b" % token, holder), b"1\t\n")
        self.assertEqual(self.ask(b"move_abs\t2"), b"1\tMoved to 2\n")
        self.token(b"lock\tmotor", holder)

    def test_renew(self) -> None:
        token = self.token(b"lock\tmotor\talice\t10")
        self.clock.advance(8)
        self.assertEqual(self.ask(b"renew\t%b" % token), b"1\t\n")
        self.clock.advance(8)
        self.assertEqual(self.ask(b"renew\t%b\t20" % token), b"1\t\n")
        self.clock.advance(19)
        self.assertIn(b"locked", self.ask(b"move_abs\t2"))
        self.clock.advance(2)
        self.assertEqual(self.ask(b"move_abs\t2"), b"1\tMoved to 2\n")
        self.assertIn(b"above 0", self.ask(b"renew\t%b\t0" % token))

    def test_a_slow_command_under_a_token(self) -> None:
        token = self.token(b"lock\tmotor\talice\t30")
        mine = self.connect()
        mine.dataReceived(b"with\t%b\tslow\t0.5\n" % token)
        self.assertEqual(len(mine._borrowed), 1)
        self.clock.advance(0.5)
        self.assertEqual(self.wire(mine).taken(), b"1\tdone\n")
        self.assertEqual(len(mine._borrowed), 0)

    def test_a_slow_command_under_a_token_whose_client_goes(self) -> None:
        token = self.token(b"lock\tmotor\talice\t30")
        mine = self.connect()
        mine.dataReceived(b"with\t%b\tslow\t0.5\n" % token)
        self.wire(mine).loseConnection()
        self.clock.advance(0.5)
        self.assertEqual(self.wire(mine).taken(), b"")
        self.assertEqual(self.ask(b"with\t%b\tmove_abs\t3" % token), b"1\tMoved to 3\n")

    def test_what_makes_no_sense_under_a_token(self) -> None:
        token = self.token(b"lock\tmotor\talice\t30")
        for line in (b"with\t%b\tmove_abs", b"shutdown", b"unlock\t%b", b"lock\tmotor"):
            reply = self.ask(b"with\t%b\t%b" % (token, line.replace(b"%b", token)))
            self.assertTrue(reply.startswith(b"0\tError handling command 'with': "), reply)
        self.assertIn(b"missing argument", self.ask(b"with\t%b" % token))
        self.assertIn(b"nobody holds", self.ask(b"with\tnonsense\tping"))

    def test_another_lock_under_a_token(self) -> None:
        token = self.token(b"lock\tmotor.speed\talice\t10")
        self.assertEqual(
            self.token(b"with\t%b\tlock\tmotor.mode\talice\t20" % token), token
        )
        self.assertIn(b"locked", self.ask(b"mode\tfast"))
        self.clock.advance(15)
        self.assertEqual(self.ask(b"speed\t2"), b"1\t2.0\n")
        self.assertIn(b"locked", self.ask(b"mode\tfast"))

    def test_another_name_for_the_next_lock(self) -> None:
        first = self.token(b"lock\tmotor\talice")
        self.ask(b"unlock\t" + first)
        self.token(b"lock\tmotor\tbob")
        self.assertEqual(self.ask(b"lock_info"), b"1\tmotor: bob (tsv local, for 0 s)\n")

    def test_lock_info(self) -> None:
        self.assertEqual(self.ask(b"lock_info"), b"1\t\n")
        self.token(b"lock\tmotor.speed\talice\t30")
        holder = self.connect()
        self.token(b"lock\tmotor.mode\tbob", holder)
        self.clock.advance(3)
        self.assertEqual(
            self.ask(b"lock_info"),
            b"1\tmotor.speed: alice (tsv local, for 3 s, 27 s left)"
            b"\tmotor.mode: bob (tsv local, for 3 s)\n",
        )
        self.assertEqual(
            self.ask(b"lock_info\tmode"), b"1\tmotor.mode: bob (tsv local, for 3 s)\n"
        )

    def test_bad_requests(self) -> None:
        for line, text in {
            b"lock": b"usage: lock NODE [NAME [LEASE]]",
            b"lock\tnothing": b"unknown",
            b"lock\tmotor\ta\tsoon": b"LEASE takes float",
            b"lock\tmotor\ta\t-1": b"lease",
            b"lock\tmotor\ta\tnan": b"lease",
            b"lock\tmotor\t" + b"a" * 5000: b"name",
        }.items():
            reply = self.ask(line)
            self.assertTrue(reply.startswith(b"0\tError handling command 'lock': "), reply)
            self.assertIn(text, reply)
