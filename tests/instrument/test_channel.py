"""The channel to a device with a parameter model: headers, errors, overlapped commands, locks."""

from __future__ import annotations

from typing import Any

import numpy as np
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, Identity, command, parameter
from labnet.errors import DeviceFault, NotConnected, TooLarge
from labnet.instrument.channel import MAX_WAITING, MessageChannel, check_headers
from labnet.instrument.header import HeaderError
from labnet.lab import Lab


class Axis(Device):
    gain = parameter(float, initial=1.0)


class Stage(Device):
    """A stage whose moves and readings take as long as the test wants."""

    identity = Identity("labnet", "SIM-ST", "7", "1.0")
    velocity = parameter(float, unit="mm/s", limits=(0.1, 100), initial=10.0)
    mode = parameter(choices=("fast", "careful"), initial="fast")
    label = parameter(str, initial="")
    service_request = parameter(int, access="r", initial=0)
    operation_condition = parameter(int, access="r", initial=0)
    secret = parameter(str, initial="", access="w")
    hidden = parameter(int, initial=0, scpi="")

    def __init__(self) -> None:
        self.axis = {0: Axis(), 1: Axis()}
        self.moves: list[Deferred[None]] = []
        self.slow: list[Deferred[float]] = []
        self.calls: list[Any] = []
        self.at = 0.0

    @parameter(unit="mm")
    def position(self) -> float:
        return self.at

    @position.setter
    def position(self, value: float) -> None:
        self.at = value

    @parameter
    def temperature(self) -> Deferred[float]:
        self.calls.append("temperature")
        self.slow.append(Deferred())
        return self.slow[-1]

    @command(long=True, units={"position": "mm"}, limits={"position": (0, 100)}, scpi="MOVE:ABS")
    def move_abs(self, position: float) -> Deferred[None]:
        self.moves.append(Deferred())
        return self.moves[-1]

    @command(scpi="SUM?")
    def sum(self, first: float, *rest: float) -> float:
        return first + sum(rest)

    @command(scpi="OUTPut<1-4>:PULSe")
    def pulse(self, channel: int, seconds: float = 0.5) -> None:
        self.calls.append((channel, seconds))

    @command(scpi="FAIL")
    def fail(self, text: str) -> None:
        raise ValueError(text)

    @command(scpi="WAVeform?")
    def waveform(self) -> np.ndarray[Any, Any]:
        return np.arange(4.0)

    @command
    def trigger(self) -> None:
        self.calls.append("trigger")


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.lab = Lab(self.clock)
        self.stage = Stage()
        self.lab.attach("stage", self.stage)
        self.channel = self.open("192.0.2.1:5000")

    def open(self, peer: str, wait: bool = False) -> MessageChannel:
        session = self.lab.open_session("scpi", peer, device="stage", wait_for_locks=wait)
        channel = session.channel()
        channel.status.clear()
        return channel

    def ask(self, message: bytes, channel: MessageChannel | None = None) -> bytes:
        return self.successResultOf((channel or self.channel).execute(message))

    def errors(self, channel: MessageChannel | None = None) -> list[int]:
        return [error.number for error in (channel or self.channel).status.all_errors()]


class HeaderTests(Case):
    def test_derived_headers(self) -> None:
        self.assertEqual(self.ask(b"VEL 0.02 M/S;VEL?;:velocity?;:AXIS0:GAIN?"), b"20;20;1")
        self.ask(b"AXIS1:GAIN 3;:axis0:gain 2")
        self.assertEqual((self.stage.axis[0].gain, self.stage.axis[1].gain), (2, 3))
        self.assertEqual(self.errors(), [])

    def test_access(self) -> None:
        self.ask(b"TEMP 5;:SECRET?;:HIDDEN?;:SECRET 'x'")
        self.assertEqual(self.errors(), [-113, -113, -113])

    def test_limits_of_a_query(self) -> None:
        self.assertEqual(self.ask(b"VEL? MIN;VEL? MAX;VEL? DEF;MODE? DEF"), b"0.1;100;10;FAST")
        self.ask(b"VEL? 5")
        self.assertEqual(self.errors(), [-108])

    def test_choices(self) -> None:
        self.assertEqual(self.ask(b"MODE CAR;MODE?"), b"CAR")
        self.assertEqual(self.stage.mode, "careful")

    def test_command_arguments(self) -> None:
        self.assertEqual(self.ask(b"SUM? 1,2.5,#HA"), b"13.5")
        self.ask(b"SUM?;:SUM? 'a';:OUTP3:PULS 100 S;:OUTP3:PULS;:OUTP:PULS 1,2")
        self.assertEqual(self.errors(), [-109, -104, -138, -108])
        self.assertEqual(self.stage.calls, [(3, 0.5)])

    def test_failures_of_the_device(self) -> None:
        self.ask(b"FAIL 'no light'")
        error = str(self.channel.status.next_error())
        self.assertEqual(error, '-240,"Hardware error;no light"')

    def test_a_number_of_the_devices_own(self) -> None:
        def fail() -> None:
            raise DeviceFault("lens cap on", number=42)

        self.stage.add_command("cap", fail, scpi="CAP")
        self.ask(b"CAP")
        self.assertEqual(
            str(self.channel.status.next_error()), '42,"Device-specific error;lens cap on"'
        )

    def test_members_that_come_later(self) -> None:
        self.ask(b"LATE?")
        self.stage.add_parameter("late", int, initial=4)
        self.assertEqual(self.ask(b"LATE?"), b"4")
        self.assertEqual(self.errors(), [-113])

    def test_ambiguous_headers(self) -> None:
        self.stage.add_command("move_rel", lambda: None)
        self.stage.add_command("move_up", lambda: None)
        node = self.lab.registry.devices["stage"]
        with self.assertRaises(HeaderError) as raised:
            check_headers(node)
        self.assertIn("stage.move_up and stage.move_rel", str(raised.exception))
        session = self.lab.open_session("scpi", "x", device="stage")
        self.assertRaises(DeviceFault, session.channel)

    def test_formats(self) -> None:
        self.assertEqual(self.ask(b"WAV?;:FORM?"), b"0,1,2,3;ASC,0")
        block = b"#232" + np.arange(4, dtype="<f8").tobytes()
        self.assertEqual(self.ask(b"FORM REAL;FORM:BORD SWAP;:WAV?"), block)
        self.assertEqual(self.ask(b"FORM UINT,8;FORM?;FORM:BORD?;:WAV?")[:12], b"UINT,8;SWAP;")
        self.ask(b"FORM REAL,8;FORM FOO;FORM;FORM:BORD 1")
        self.assertEqual(self.errors(), [-224, -224, -109, -104])

    def test_list_of_headers(self) -> None:
        listed = self.ask(b"SYST:HELP:HEAD?")
        self.assertIn(b"\n:SUM?/qonly/\n", listed)
        self.assertIn(b"\n:VELocity\n", listed)
        self.assertNotIn(b"HIDDEN", listed)

    def test_learn(self) -> None:
        self.ask(b"VEL 5;:AXIS0:GAIN 7;:LAB 'a;b'")
        learnt = self.ask(b"*LRN?")
        self.ask(b"*RST")
        self.assertEqual((self.stage.velocity, self.stage.label), (10, ""))
        self.ask(learnt)
        self.assertEqual((self.stage.velocity, self.stage.label), (5, "a;b"))
        self.assertEqual((self.stage.axis[0].gain, self.errors()), (7, []))

    def test_an_unknown_node_is_named(self) -> None:
        self.ask(b'SYST:LOCK:REQ? "nosuch"')
        self.assertIn(b"nosuch", self.ask(b"SYST:ERR?"))

    def test_reset_moves_nothing(self) -> None:
        self.stage.at = 5.0
        self.ask(b"*RST")
        self.assertEqual(self.stage.at, 5.0)

    def test_reset_of_the_devices_own(self) -> None:
        self.stage.add_command("reset", lambda: self.stage.calls.append("reset"))
        self.ask(b"VEL 5;*RST;VEL?")
        self.assertEqual((self.stage.calls, self.stage.velocity), (["reset"], 5))

    def test_trigger(self) -> None:
        self.assertTrue(self.channel.can_trigger)
        self.successResultOf(self.channel.trigger())
        self.ask(b"*TRG")
        self.assertEqual(self.stage.calls, ["trigger", "trigger"])

    def test_a_query_of_the_listener(self) -> None:
        self.channel.define("SYSTem:COMMunicate:TCPip:CONTrol?", lambda: 5026)
        self.assertEqual(self.ask(b"SYST:COMM:TCP:CONT?;:VEL?"), b"5026;10")
        self.ask(b"SYST:COMM:TCP:CONT?", self.open("192.0.2.2:1"))


class WaitingTests(Case):
    """Messages whose units take time."""

    def test_a_slow_query(self) -> None:
        done = self.channel.execute(b"VEL?;TEMP?;MODE?", terminator=b"\n")
        self.assertNoResult(done)
        self.stage.slow[0].callback(21.5)
        self.assertEqual(self.successResultOf(done), b"10;21.5;FAST\n")

    def test_messages_of_one_session_in_order(self) -> None:
        first = self.channel.execute(b"TEMP?")
        second = self.channel.execute(b"*IDN?")
        order: list[bytes] = []
        first.addCallback(order.append)
        second.addCallback(order.append)
        self.stage.slow[0].callback(1.0)
        self.assertEqual(order, [b"1", b"labnet,SIM-ST,7,1.0"])

    def test_messages_do_not_interleave(self) -> None:
        other = self.open("192.0.2.2:1")
        first = self.channel.execute(b"VEL 1;TEMP?;VEL?")
        second = self.ask_later(other, b"VEL 2;VEL?")
        third = self.lab.open_session("plesty", "x", device="stage").set("velocity", 3.0)
        self.stage.slow[0].callback(5.0)
        self.assertEqual(self.successResultOf(first), b"5;1")
        self.assertEqual(self.successResultOf(second), b"2")
        self.successResultOf(third)
        self.assertEqual(self.stage.velocity, 3)

    def ask_later(self, channel: MessageChannel, message: bytes) -> Deferred[bytes]:
        done = channel.execute(message)
        self.assertNoResult(done)
        return done

    def test_status_of_others_does_not_wait(self) -> None:
        self.channel.execute(b"TEMP?;TEMP?")
        self.assertEqual(self.ask(b"*IDN?;*STB?", self.open("x")), b"labnet,SIM-ST,7,1.0;16")

    def test_cancelled(self) -> None:
        done = self.channel.execute(b"VEL 1;TEMP?;VEL 2")
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(self.ask(b"VEL?"), b"1")

    def test_cancelled_in_the_queue(self) -> None:
        first = self.channel.execute(b"TEMP?")
        second = self.channel.execute(b"VEL 1")
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.stage.slow[0].callback(2.0)
        self.assertEqual(self.successResultOf(first), b"2")
        self.assertEqual(self.stage.velocity, 10)

    def test_too_many(self) -> None:
        waiting = [self.channel.execute(b"TEMP?") for _ in range(MAX_WAITING + 1)]
        self.failureResultOf(self.channel.execute(b"*IDN?"), TooLarge)
        self.assertNoResult(waiting[-1])
        self.channel.close()
        for done in waiting:
            self.failureResultOf(done, CancelledError)

    def test_a_call_out_of_time(self) -> None:
        done = self.channel.execute(b"TEMP?;*IDN?", timeout=2.0)
        self.clock.advance(2.1)
        self.assertEqual(self.successResultOf(done), b"labnet,SIM-ST,7,1.0")
        self.assertEqual(self.errors(), [-365])

    def test_a_failing_unit_in_a_turn(self) -> None:
        done = self.channel.execute(b"VEL 1;TEMP?;VEL?")
        self.stage.slow[0].errback(ValueError("loose wire"))
        self.assertEqual(self.successResultOf(done), b"1")
        self.assertEqual(self.errors(), [-240])

    def test_closed(self) -> None:
        done = self.channel.execute(b"TEMP?")
        self.channel.session.close()
        self.failureResultOf(done, CancelledError)
        self.failureResultOf(self.channel.execute(b"*IDN?"), NotConnected)


class OverlappedTests(Case):
    """A move goes on while its client and others go on."""

    def test_position_during_a_move(self) -> None:
        self.assertEqual(self.ask(b"MOVE:ABS 5;:POS?"), b"0")
        self.assertEqual(self.ask(b"POS?;VEL?", self.open("x")), b"0;10")
        self.stage.moves[0].callback(None)

    def test_operation_complete_query(self) -> None:
        done = self.channel.execute(b"MOVE:ABS 5;*OPC?;:VEL?")
        self.assertNoResult(done)
        self.assertEqual(self.ask(b"VEL 3;VEL?", self.open("x")), b"3")
        self.stage.moves[0].callback(None)
        self.assertEqual(self.successResultOf(done), b"1;3")

    def test_operation_complete_event(self) -> None:
        self.ask(b"MOVE:ABS 5;*OPC")
        self.assertEqual(self.ask(b"*ESR?"), b"0")
        self.stage.moves[0].callback(None)
        self.assertEqual(self.ask(b"*ESR?"), b"1")

    def test_clear_status_forgets_completion(self) -> None:
        self.ask(b"MOVE:ABS 5;*OPC;*CLS")
        self.stage.moves[0].callback(None)
        self.assertEqual(self.ask(b"*ESR?"), b"0")

    def test_wait(self) -> None:
        done = self.channel.execute(b"MOVE:ABS 5;*WAI;:VEL 7")
        self.assertEqual(self.stage.velocity, 10)
        self.stage.moves[0].callback(None)
        self.assertEqual((self.successResultOf(done), self.stage.velocity), (b"", 7))

    def test_only_ones_own_operations_count(self) -> None:
        self.ask(b"MOVE:ABS 5")
        self.assertEqual(self.ask(b"*OPC?", self.open("x")), b"1")
        self.stage.moves[0].callback(None)

    def test_a_move_that_fails(self) -> None:
        self.ask(b"MOVE:ABS 5")
        self.stage.moves[0].errback(DeviceFault("end switch"))
        self.assertEqual(self.ask(b"SYST:ERR?"), b'-240,"Hardware error;end switch"')

    def test_single_message_then_query(self) -> None:
        self.ask(b"MOVE:ABS 5")
        done = self.channel.execute(b"*OPC?")
        self.assertNoResult(done)
        self.stage.moves[0].callback(None)
        self.assertEqual(self.successResultOf(done), b"1")


class LockTests(Case):
    def test_refused_with_the_holders_name(self) -> None:
        alice = self.lab.open_session("plesty", "192.0.2.9", name="alice", device="stage")
        self.successResultOf(alice.lock(["stage.velocity"]))
        self.assertEqual(self.ask(b"VEL 5;VEL?;*IDN?;*STB?"), b"labnet,SIM-ST,7,1.0;20")
        error = self.ask(b"SYST:ERR?")
        self.assertEqual(error, b'-203,"Command protected;locked by alice"')
        self.assertEqual(self.ask(b"SYST:LOCK:OWN?"), b'"alice (plesty 192.0.2.9)"')
        alice.unlock()
        self.assertEqual(self.ask(b"VEL?;SYST:LOCK:OWN?"), b'10;"NONE"')

    def test_a_holders_name_is_one_line(self) -> None:
        eve = self.lab.open_session("plesty", "192.0.2.9", name='e\nv"e', device="stage")
        self.successResultOf(eve.lock(["stage"]))
        self.assertEqual(self.ask(b"SYST:LOCK:OWN?"), b'"e v""e (plesty 192.0.2.9)"')

    def test_stop_may_be_open(self) -> None:
        stopped: list[str] = []
        for stop_open in (False, True):
            stage = Stage()
            stage.add_command("stop", lambda: stopped.append("stop"))
            lab = Lab(Clock(), stop_open=stop_open)
            lab.attach("stage", stage)
            self.successResultOf(lab.open_session("tsv", "x", device="stage").lock(["stage"]))
            channel = lab.open_session("scpi", "y", device="stage").channel()
            self.ask(b"STOP;VEL 1;STOP", channel)
            self.assertEqual(len(stopped), 2 * stop_open)
            self.assertEqual(stage.velocity, 10)

    def test_request_and_release(self) -> None:
        other = self.open("192.0.2.2:1")
        self.assertEqual(self.ask(b"SYST:LOCK:REQ?"), b"1")
        self.assertEqual(self.ask(b"SYST:LOCK:REQ?;:VEL?", other), b"0")
        self.assertEqual(self.errors(other), [-203])
        self.assertEqual(self.ask(b"SYST:LOCK:REQ? 'axis[1]';:VEL?;:SYST:LOCK:REL"), b"1;10")
        self.assertEqual(self.ask(b'SYST:LOCK:REQ? "axis[0]",2 MIN', other), b"1")
        self.ask(b"SYST:LOCK:REQ? 'nothing';REQ? 5 V;REQ? -1")
        self.assertEqual(self.errors(), [-224, -131, -222])
        self.clock.advance(121)
        self.assertEqual(self.ask(b"VEL?"), b"10")

    def test_token(self) -> None:
        other = self.open("192.0.2.2:1")
        self.assertEqual(self.ask(b"SYST:LOCK:REQ?"), b"1")
        token = self.ask(b"SYST:LOCK:TOK?")
        self.assertEqual(self.ask(b"SYST:LOCK:TOK " + token + b";:VEL?", other), b"10")
        self.ask(b"SYST:LOCK:TOK 'wrong'", other)
        self.assertEqual(self.errors(other), [-203])

    def test_lock_ends_with_the_session(self) -> None:
        self.assertEqual(self.ask(b"SYST:LOCK:REQ?"), b"1")
        other = self.open("192.0.2.2:1")
        self.channel.session.close()
        self.assertEqual(self.ask(b"VEL?", other), b"10")

    def test_a_message_that_waits(self) -> None:
        waiting = self.open("192.0.2.3:1", wait=True)
        self.ask(b"SYST:LOCK:REQ?")
        done = waiting.execute(b"VEL 3;*IDN?")
        self.assertNoResult(done)
        self.assertEqual(self.ask(b"VEL?"), b"10")
        self.ask(b"SYST:LOCK:REL")
        self.assertEqual(self.successResultOf(done), b"labnet,SIM-ST,7,1.0")
        self.assertEqual(self.stage.velocity, 3)

    def test_clear_ends_the_wait(self) -> None:
        waiting = self.open("192.0.2.3:1", wait=True)
        self.ask(b"SYST:LOCK:REQ?")
        done = waiting.execute(b"VEL 3")
        waiting.clear()
        self.failureResultOf(done, CancelledError)
        self.ask(b"SYST:LOCK:REL")
        self.assertEqual(self.stage.velocity, 10)


class ReportTests(Case):
    """What the device reports by itself."""

    def setUp(self) -> None:
        super().setUp()
        self.requests: list[int] = []
        self.channel.on_service_request(self.requests.append)

    def test_service_request(self) -> None:
        self.stage.store("service_request", 1)
        self.clock.advance(0)
        self.assertEqual(self.requests, [])
        self.ask(b"*SRE 1")  # the reason is there already
        self.assertEqual(self.requests, [65])
        self.stage.store("service_request", 2)
        self.clock.advance(0)
        self.assertEqual(self.requests, [65])
        self.assertEqual(self.successResultOf(self.channel.status_byte()), 65)
        self.assertEqual(self.successResultOf(self.channel.status_byte()), 0)

    def test_service_enabled_by_the_wire(self) -> None:
        self.channel.enable_service(True)
        self.stage.store("service_request", 1)
        self.clock.advance(0)
        self.assertEqual(self.requests, [65])

    def test_operation_condition(self) -> None:
        self.ask(b"STAT:OPER:ENAB 16;*SRE 128")
        self.stage.store("operation_condition", 16)
        self.clock.advance(0)
        self.assertEqual(self.requests, [128 | 64])
        self.assertEqual(self.ask(b"STAT:OPER:COND?;EVEN?;:STAT:OPER?"), b"16;16;0")

    def test_after_the_end(self) -> None:
        self.ask(b"*SRE 1")
        self.channel.session.close()
        self.stage.store("service_request", 1)
        self.clock.advance(0)
        self.assertEqual(self.requests, [])
