"""The HiSLIP server, by the rules of IVI-6.1: opening, answers, status, errors."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, Identity, parameter
from labnet.errors import BadArguments, UnknownName
from labnet.lab import AllDevices, ServeOptions
from labnet.wires.hislip.codec import (
    HEADER,
    NO_ID,
    Code,
    Fatal,
    Message,
    RemoteLocal,
    Type,
    encode,
    encode_initialize,
    encode_size,
)
from labnet.wires.hislip.exchange import MAX_QUEUED, PIECE
from labnet.wires.hislip.server import Options, listen
from tests.wires.hislip_toy import FIRST, Bench, Pair, Recorded, Wire

IDENTITY = b"LABNET,SIM,0001,0.1\n"
NO_ERROR = b'0,"No error"\n'


class HislipCase(SynchronousTestCase):
    """A lab with two instruments."""

    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.bench = Bench(**self.options)
        self.addCleanup(self.bench.lab.stop)
        self.addCleanup(self.check_nothing_is_left)
        self.opened: list[Wire] = []

    def check_nothing_is_left(self) -> None:
        for wire in self.opened:
            wire.vanish()
        self.assertEqual(self.bench.factory.sessions, {})
        self.assertEqual(self.bench.lab.locks.count, 0)
        self.bench.advance(100)
        self.assertEqual(self.bench.reactor.getDelayedCalls(), [])

    def pair(self, name: str = "hislip0") -> Pair:
        pair = self.bench.pair(name)
        self.opened += [pair.sync, pair.asyn]
        return pair

    def wire(self) -> Wire:
        wire = self.bench.wire()
        self.opened.append(wire)
        return wire

    def check_fatal(self, wire: Wire, code: int) -> str:
        """The connection was ended by that error; its text."""
        [message] = wire.received()
        self.assertEqual((message.type, message.control), (Type.FATAL_ERROR, code))
        self.assertTrue(wire.closed)
        return bytes(message.payload).decode()

    def check_error(self, message: Message | None, code: int) -> None:
        assert message is not None
        self.assertEqual((message.type, message.control), (Type.ERROR, code))
        self.assertTrue(message.payload)

    def errors(self, pair: Pair) -> bytes:
        return pair.query(b"SYST:ERR:ALL?", 1)


class OpeningTests(HislipCase):
    def test_names(self) -> None:
        """The empty one, hislip and any case mean the first device."""
        for name in ("", "hislip", "HISLIP0", "hislip0"):
            pair = self.pair(name)
            pair.query(b"TEST:SINK #13abc")
        self.pair("Hislip1").query(b"TEST:SINK #12ab")
        self.assertEqual(self.pair().query(b"TEST:SINK?"), b"3,891568578\n")
        self.assertEqual(self.pair("hislip1").query(b"TEST:SINK?"), b"2,2659403885\n")

    def test_unknown_name(self) -> None:
        wire = self.wire()
        wire.send(encode_initialize("hislip2"))
        self.assertIn("hislip1", self.check_fatal(wire, Fatal.INVALID_INITIALIZATION))

    def test_name_too_long(self) -> None:
        wire = self.wire()
        wire.send(encode_initialize("x" * 257))
        self.check_fatal(wire, Fatal.INVALID_INITIALIZATION)

    def test_a_nul_after_the_name(self) -> None:
        self.assertEqual(self.pair("hislip0\0").query(b"*IDN?"), IDENTITY)

    def test_a_device_that_has_left(self) -> None:
        self.bench.lab.detach("sim")
        wire = self.wire()
        wire.send(encode_initialize("hislip0"))
        self.check_fatal(wire, Fatal.INVALID_INITIALIZATION)

    def test_a_device_that_leaves(self) -> None:
        """The session stays, its messages are in error."""
        pair = self.pair()
        self.bench.lab.detach("sim")
        self.assertEqual(pair.query(b"LEV?"), b"")
        self.assertIn(b"-2", self.errors(pair))

    def test_versions(self) -> None:
        for version in ((1, 0), (2, 0), (127, 127)):
            wire = self.wire()
            wire.send(encode_initialize("hislip0", version))
            [message] = wire.received()
            self.assertEqual(message.parameter >> 16, 0x0100)

    def test_a_probe(self) -> None:
        """Opening one channel and going away is no error."""
        wire = self.wire()
        wire.send(encode_initialize("hislip0"))
        wire.vanish()
        self.assertEqual(self.bench.factory.sessions, {})

    def test_unknown_session(self) -> None:
        pair, wire = self.pair(), self.wire()
        wire.send(encode(Type.ASYNC_INITIALIZE, 0, 0x1234))
        self.check_fatal(wire, Fatal.INVALID_INITIALIZATION)
        wire = self.wire()
        wire.send(encode(Type.ASYNC_INITIALIZE, 0, pair.number))
        self.check_fatal(wire, Fatal.INVALID_INITIALIZATION)
        self.assertEqual(pair.query(b"*IDN?"), IDENTITY)

    def test_half_open(self) -> None:
        """Connections that never become a session end."""
        silent, half = self.wire(), self.wire()
        pair = self.pair()
        half.send(encode_initialize("hislip0"))
        half.received()
        self.bench.advance(29.9)
        self.assertFalse(silent.closed or half.closed)
        self.bench.advance(0.2)
        self.check_fatal(silent, Fatal.INVALID_INITIALIZATION)
        self.check_fatal(half, Fatal.INVALID_INITIALIZATION)
        self.assertEqual(pair.query(b"*IDN?"), IDENTITY)
        self.assertEqual(list(self.bench.factory.sessions), [pair.number])

    def test_session_numbers_are_not_used_twice(self) -> None:
        factory = self.bench.factory
        one = self.pair()
        factory._number = 0xFFFF - 1
        others = [self.pair() for _ in range(3)]
        self.assertEqual([one.number, *(o.number for o in others)], [1, 0xFFFF, 2, 3])

    def test_no_number_is_left(self) -> None:
        sessions = self.bench.factory.sessions
        pair = self.pair()
        session = sessions[pair.number]
        sessions.update(dict.fromkeys(range(1, 0x10000), session))
        wire = self.wire()
        wire.send(encode_initialize("hislip0"))
        self.check_fatal(wire, Fatal.TOO_MANY_CLIENTS)
        for number in range(2, 0x10000):
            del sessions[number]

    def test_initialize_again(self) -> None:
        for channel, kind in (("sync", Type.INITIALIZE), ("asyn", Type.ASYNC_INITIALIZE)):
            pair = self.pair()
            getattr(pair, channel).send(encode(kind, 0, pair.number))
            self.check_fatal(pair.sync, Fatal.INVALID_INITIALIZATION)
            self.check_fatal(pair.asyn, Fatal.INVALID_INITIALIZATION)


class AnswerTests(HislipCase):
    def test_ids(self) -> None:
        pair = self.pair()
        for number in range(200):
            self.assertEqual(pair.query(b"*IDN?\r\n", int(number > 0)), IDENTITY)
        self.assertEqual(self.errors(pair), NO_ERROR)

    def test_ids_wrap(self) -> None:
        pair = self.pair()
        pair.id = 0xFFFFFFFE
        self.assertEqual(pair.query(b"*IDN?"), IDENTITY)
        self.assertEqual(pair.id, 0)
        self.assertEqual(pair.query(b"*IDN?", 1), IDENTITY)

    def test_a_message_in_parts(self) -> None:
        """It is joined as it is, and the answer has the id of the last part."""
        pair = self.pair()
        block = bytes(range(256)) * 4
        for part in (b"TEST:SI", b"NK #41024", block[:500]):
            pair.write(part, kind=Type.DATA)
        pair.write(block[500:] + b";SINK?")
        [answer] = pair.sync.received()
        self.assertEqual(answer.parameter, FIRST + 6)
        self.assertEqual(bytes(answer.payload).partition(b",")[0], b"1024")

    def test_an_empty_message(self) -> None:
        pair = self.pair()
        self.assertEqual(pair.query(b""), b"")
        self.assertEqual(pair.query(b"*IDN?"), IDENTITY)

    def test_sizes_of_the_client(self) -> None:
        pair = self.pair()
        for size in (1, 16, 17, 100, 1024, 1 << 20, 1 << 62):
            pair.asyn.send(encode_size(Type.ASYNC_MAXIMUM_MESSAGE_SIZE, size))
            [answer] = pair.asyn.received()
            self.assertEqual(int.from_bytes(answer.payload, "big"), 1 << 20)
            number = pair.write(b"TEST:BLOC? 5000", 1)
            parts = pair.sync.received()
            self.assertEqual({part.parameter for part in parts}, {number})
            self.assertEqual([part.type for part in parts[:-1]], [Type.DATA] * (len(parts) - 1))
            self.assertEqual(parts[-1].type, Type.DATA_END)
            for part in parts:
                self.assertLessEqual(len(part.payload) + 16, max(size, 17))
            whole = b"".join(bytes(part.payload) for part in parts)
            self.assertEqual(len(whole), 5000 + 7)

    def test_bad_size(self) -> None:
        answer = self.pair().ask(Type.ASYNC_MAXIMUM_MESSAGE_SIZE, payload=b"abc")
        self.check_error(answer, Code.UNIDENTIFIED)

    def test_long_answers_wait_for_the_client(self) -> None:
        pair = self.pair()
        size = 8 * PIECE
        pair.write(b"TEST:BLOC? %d" % size)
        pair.sync.server.pauseProducing()
        parts = pair.sync.received()
        self.bench.advance(0)
        self.assertEqual(pair.sync.received(), [])
        self.assertEqual(pair.status(), 0x10)
        pair.sync.server.resumeProducing()
        self.bench.advance(0)
        parts += pair.sync.received()
        self.assertEqual(len(parts), 9)
        self.assertEqual(sum(len(part.payload) for part in parts), size + 10)

    def test_many_messages_at_once(self) -> None:
        """They share the reactor with others."""
        pair, other = self.pair(), self.pair()
        data = encode(Type.DATA_END, 1, FIRST, b"*IDN?")
        pair.sync.send(data * 500)
        self.assertLess(len(pair.sync.received()), 500)
        self.assertEqual(other.query(b"*IDN?"), IDENTITY)
        for _ in range(10):
            self.bench.advance(0)
        pair.write(b"TEST:TRIG?")
        self.assertGreater(len(pair.sync.received()), 400)

    def test_two_sessions_have_their_own_errors_and_answers(self) -> None:
        one, two = self.pair(), self.pair()
        one.query(b"NO:SUCH")
        self.assertEqual(self.errors(two), NO_ERROR)
        self.assertIn(b"-113", self.errors(one))

    def test_too_long_a_program_message(self) -> None:
        self.bench = Bench(max_message=1000)
        pair = self.pair()
        for _ in range(3):
            pair.write(b"x" * 400, kind=Type.DATA)
        pair.write(b"x" * 400)
        self.assertEqual(pair.query(b"*IDN?"), IDENTITY)
        self.assertIn(b"-363", self.errors(pair))
        pair.write(b"x" * 1001)
        self.assertIn(b"-363", self.errors(pair))
        self.assertEqual(self.errors(pair), NO_ERROR)


class InterruptedTests(HislipCase):
    def test_a_message_before_the_answer(self) -> None:
        pair = self.pair()
        pair.write(b"SLOW?")
        number = pair.write(b"*IDN?")
        self.assertEqual(pair.sync.received(), [])
        self.bench.device.waits[0].callback("late")
        interrupted, answer = pair.sync.received()
        self.assertEqual(interrupted[:3], (Type.INTERRUPTED, 0, number))
        self.assertEqual(answer, Message(Type.DATA_END, 0, number, IDENTITY))
        [told] = pair.asyn.received()
        self.assertEqual(told[:3], (Type.ASYNC_INTERRUPTED, 0, number))
        self.assertIn(b"-410", self.errors(pair))

    def test_quietly(self) -> None:
        self.bench = Bench(interrupted="quiet")
        pair = self.pair()
        pair.write(b"SLOW?")
        number = pair.write(b"*IDN?")
        self.bench.device.waits[0].callback("late")
        self.assertEqual(pair.sync.received(), [Message(Type.DATA_END, 0, number, IDENTITY)])
        self.assertEqual(pair.asyn.received(), [])
        self.assertIn(b"-410", self.errors(pair))

    def test_a_part_of_a_message_interrupts(self) -> None:
        pair = self.pair()
        pair.write(b"SLOW?")
        number = pair.write(b"*ID", kind=Type.DATA)
        self.bench.device.waits[0].callback("late")
        self.assertEqual([m[:3] for m in pair.sync.received()], [(Type.INTERRUPTED, 0, number)])
        self.assertEqual(pair.query(b"N?"), IDENTITY)

    def test_in_the_middle_of_an_answer(self) -> None:
        """What is unsent is dropped, but no message is cut."""
        pair = self.pair()
        number = pair.write(b"TEST:BLOC? %d" % (8 * PIECE))  # as much as is sent in a turn
        self.assertEqual({m.type for m in pair.sync.received()}, {Type.DATA})
        pair.sync.server.pauseProducing()
        self.bench.advance(0)
        later = pair.write(b"TEST:TRIG?")
        pair.sync.server.resumeProducing()
        interrupted, answer = pair.sync.received()
        self.assertEqual(interrupted[:3], (Type.INTERRUPTED, 0, later))
        self.assertEqual(answer, Message(Type.DATA_END, 0, later, b"0\n"))
        self.assertEqual(later, number + 2)
        self.assertEqual([m.type for m in pair.asyn.received()], [Type.ASYNC_INTERRUPTED])

    def test_an_answer_that_was_sent_and_not_read(self) -> None:
        """The standard's query error, and nothing is sent."""
        pair = self.pair()
        pair.query(b"*IDN?")
        self.assertEqual(pair.query(b"*IDN?"), IDENTITY)
        self.assertIn(b"-410", self.errors(pair))
        self.assertEqual(pair.asyn.received(), [])

    def test_a_client_that_always_says_delivered(self) -> None:
        pair = self.pair()
        for _ in range(3):
            pair.query(b"*CLS", 1)
            self.assertEqual(pair.query(b"*IDN?", 1), IDENTITY)
        self.assertEqual(self.errors(pair), NO_ERROR)

    def test_a_command_is_not_interrupted(self) -> None:
        pair = self.pair()
        pair.write(b"SLOW?")
        pair.write(b"*CLS")
        pair.write(b"LEV 3")
        self.bench.device.waits[0].callback("late")
        pair.sync.received()
        self.assertEqual(pair.query(b"LEV?"), b"3\n")

    def test_a_flood_waits(self) -> None:
        """No more is read than a session may have waiting."""
        pair = self.pair()
        pair.write(b"SLOW?")
        for _ in range(MAX_QUEUED + 10):
            pair.write(b"TEST:TRIG?")
        session = self.bench.factory.sessions[pair.number]
        self.assertTrue(session.exchange.backlogged)
        self.assertEqual(pair.sync.transport.producerState, "paused")
        self.bench.device.waits[0].callback("late")
        for _ in range(5):
            self.bench.advance(0)
        self.assertEqual(pair.sync.transport.producerState, "producing")
        answers = [m for m in pair.sync.received() if m.type == Type.DATA_END]
        self.assertEqual(answers[-1].parameter, pair.id - 2)


class OverlapTests(HislipCase):
    def overlapped(self) -> Pair:
        pair = self.pair()
        self.assertEqual(
            pair.ask(Type.ASYNC_DEVICE_CLEAR).type, Type.ASYNC_DEVICE_CLEAR_ACKNOWLEDGE
        )
        pair.sync.send(encode(Type.DEVICE_CLEAR_COMPLETE, 1))
        [agreed] = pair.sync.received()
        self.assertEqual(agreed[:2], (Type.DEVICE_CLEAR_ACKNOWLEDGE, 1))
        return pair

    def test_answers_in_order(self) -> None:
        pair = self.overlapped()
        pair.write(b"SLOW?")
        for size in (1, 2, 3):
            pair.write(b"TEST:BLOC? %d" % size)
        self.assertEqual(pair.sync.received(), [])
        self.bench.device.waits[0].callback("late")
        answers = pair.sync.received()
        self.assertEqual([m.parameter for m in answers], [FIRST, FIRST + 2, FIRST + 4, FIRST + 6])
        self.assertEqual([bytes(m.payload)[:3] for m in answers], [b'"la', b"#11", b"#12", b"#13"])
        self.assertEqual(self.errors_of(pair), NO_ERROR)

    def errors_of(self, pair: Pair) -> bytes:
        pair.write(b"SYST:ERR:ALL?")
        return b"".join(bytes(m.payload) for m in pair.sync.received())

    def test_parts_have_ids_of_their_own(self) -> None:
        pair = self.overlapped()
        pair.asyn.send(encode_size(Type.ASYNC_MAXIMUM_MESSAGE_SIZE, 1024))
        pair.asyn.received()
        pair.write(b"TEST:BLOC? 2500")
        ids = [m.parameter for m in pair.sync.received()]
        self.assertEqual(ids, [FIRST, FIRST + 2, FIRST + 4])

    def test_status(self) -> None:
        pair = self.overlapped()
        self.assertEqual(pair.status(number=NO_ID), 0)
        pair.write(b"*IDN?")
        self.assertEqual(pair.status(number=NO_ID), 0x10)
        self.assertEqual(pair.status(1, number=FIRST), 0)

    def test_answers_that_are_not_taken_stop_the_work(self) -> None:
        pair = self.overlapped()
        pair.sync.server.pauseProducing()
        pair.write(b"TEST:BLOC? 20000000")
        before = pair.write(b"TEST:TRIG?")
        self.assertFalse(self.bench.factory.sessions[pair.number].ended)
        self.assertEqual(pair.sync.received(), [])
        pair.sync.server.resumeProducing()
        for _ in range(40):
            self.bench.advance(0)
        answers = pair.sync.received()
        self.assertEqual(bytes(answers[-1].payload), b"0\n")
        self.assertGreater(before, FIRST)

    def test_back_to_synchronized(self) -> None:
        pair = self.overlapped()
        pair.query(b"*IDN?")
        pair.ask(Type.ASYNC_DEVICE_CLEAR)
        pair.sync.send(encode(Type.DEVICE_CLEAR_COMPLETE, 0))
        [agreed] = pair.sync.received()
        self.assertEqual(agreed[:2], (Type.DEVICE_CLEAR_ACKNOWLEDGE, 0))
        pair.id = 0xFFFFFF40
        self.assertEqual(pair.query(b"*IDN?"), IDENTITY)


class StatusTests(HislipCase):
    def test_message_available(self) -> None:
        """By the id of the last message, and by pyvisa-py's, which is the next one."""
        pair = self.pair()
        self.assertEqual(pair.status(number=NO_ID), 0)
        number = pair.write(b"*IDN?")
        self.assertEqual(pair.status(number=number), 0x10)
        self.assertEqual(pair.status(number=number + 2), 0x10)
        self.assertEqual(pair.status(number=number + 4), 0)
        self.assertEqual(pair.status(number=number - 2), 0)
        self.assertEqual(pair.status(1, number=number), 0)
        self.assertEqual(pair.status(number=number), 0)

    def test_delivered_is_told_once(self) -> None:
        """In the status query, and then not in the next message."""
        pair = self.pair()
        pair.query(b"*IDN?")
        pair.status(1)
        pair.query(b"*IDN?", 0)
        self.assertEqual(self.errors(pair), NO_ERROR)

    def test_summary_bits(self) -> None:
        pair = self.pair()
        pair.query(b"*ESE 32")
        pair.query(b"NO:SUCH")
        self.assertEqual(pair.status(), 0x24)

    def test_during_a_command(self) -> None:
        pair = self.pair()
        pair.write(b"SLOW?")
        self.assertEqual(pair.status(), 0)

    def test_service_request(self) -> None:
        """Only where the session has enabled it, once, until the status is read."""
        pair, other = self.pair(), self.pair()
        self.request_service(pair)
        self.assertEqual(pair.asyn.received(), [])
        pair.status()
        pair.query(b"*SRE 1")
        self.request_service(pair)
        [request] = pair.asyn.received()
        self.assertEqual(request[:2], (Type.ASYNC_SERVICE_REQUEST, 0x41))
        self.request_service(pair)
        self.assertEqual(pair.asyn.received(), [])
        self.assertEqual(pair.status(), 0x41)
        self.assertEqual(pair.status(), 0)
        self.request_service(pair)
        self.assertEqual(len(pair.asyn.received()), 1)
        self.assertEqual(other.asyn.received(), [])

    def request_service(self, pair: Pair) -> None:
        pair.query(b"TEST:SRQ")
        self.bench.advance(0)

    def test_service_request_for_an_answer(self) -> None:
        pair = self.pair()
        pair.query(b"*SRE 16")
        for _ in range(2):
            pair.query(b"*IDN?", 1)
            [request] = pair.asyn.received()
            self.assertEqual(request[:2], (Type.ASYNC_SERVICE_REQUEST, 0x50))
            self.assertEqual(pair.status(), 0x50)

    def test_trigger(self) -> None:
        pair = self.pair()
        for expected in (b"1\n", b"2\n"):
            pair.write(b"", kind=Type.TRIGGER)
            self.assertEqual(pair.query(b"TEST:TRIG?"), expected)
            pair.status(1)
        pair.query(b"*IDN?")
        pair.write(b"", kind=Type.TRIGGER)
        self.assertEqual(pair.status(number=pair.id - 2), 4)  # the unread answer was an error

    def test_remote_and_local(self) -> None:
        pair = self.pair()
        state = self.bench.factory.sessions[pair.number].remote
        expected = {
            RemoteLocal.DISABLE: (False, False, False),
            RemoteLocal.ENABLE: (True, False, False),
            RemoteLocal.ENABLE_LOCK_OUT_AND_GO_TO_REMOTE: (True, True, True),
            RemoteLocal.GO_TO_LOCAL: (True, True, False),
            RemoteLocal.ENABLE_AND_LOCK_OUT: (True, True, False),
            RemoteLocal.ENABLE_AND_GO_TO_REMOTE: (True, False, True),
            RemoteLocal.DISABLE_AND_GO_TO_LOCAL: (False, False, False),
        }
        for request, states in expected.items():
            answer = pair.ask(Type.ASYNC_REMOTE_LOCAL_CONTROL, request)
            self.assertEqual(answer.type, Type.ASYNC_REMOTE_LOCAL_RESPONSE)
            self.assertEqual((state.enabled, state.lockout, state.remote), states, request)
        pair.query(b"*IDN?")
        self.assertFalse(state.remote)
        pair.ask(Type.ASYNC_REMOTE_LOCAL_CONTROL, RemoteLocal.ENABLE)
        pair.query(b"*IDN?")
        self.assertTrue(state.remote)
        self.check_error(pair.ask(Type.ASYNC_REMOTE_LOCAL_CONTROL, 7), Code.UNRECOGNIZED_CONTROL)


class PolledDevice(Device):
    """Speaks messages itself and can be polled."""

    identity = Identity("A", "B", "C", "D")

    def __init__(self) -> None:
        self.polls: list[Deferred[int]] = []
        self.answers: list[Deferred[bytes]] = []
        self.clears = 0

    def message(self, data: bytes, expect_reply: bool) -> Deferred[bytes]:
        self.answers.append(Deferred())
        return self.answers[-1]

    def poll_status(self) -> Deferred[int]:
        self.polls.append(Deferred())
        return self.polls[-1]

    def clear(self) -> None:
        self.clears += 1


class PolledTests(SynchronousTestCase):
    """A device with a status byte of its own."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.addCleanup(self.bench.lab.stop)
        self.bench.lab.detach("sim")
        self.device = PolledDevice()
        self.bench.lab.attach("sim", self.device)

    def test_poll(self) -> None:
        pair = self.bench.pair()
        self.assertIsNone(pair.ask(Type.ASYNC_STATUS_QUERY, 0, pair.id))
        self.device.polls[0].callback(0xFF)
        [answer] = pair.asyn.received()
        self.assertEqual(answer.control, 0xEF)

    def test_a_poll_that_takes_too_long(self) -> None:
        pair = self.bench.pair()
        self.assertIsNone(pair.ask(Type.ASYNC_STATUS_QUERY, 0, pair.id))
        self.bench.advance(1.1)
        [answer] = pair.asyn.received()
        self.assertEqual(answer[:2], (Type.ASYNC_STATUS_RESPONSE, 0))

    def test_not_polled_during_a_message_or_under_a_lock(self) -> None:
        pair, other = self.bench.pair(), self.bench.pair()
        pair.write(b"ASK?")
        self.assertEqual(pair.status(), 0)
        self.device.answers[0].callback(b"answer")
        self.assertEqual(bytes(pair.sync.received()[0].payload), b"answer\n")
        self.assertEqual(other.lock(), 1)
        self.assertEqual(pair.status(), 0x10)
        self.assertEqual(self.device.polls, [])

    def test_a_clear_under_a_lock_is_not_for_the_device(self) -> None:
        pair, other = self.bench.pair(), self.bench.pair()
        other.lock()
        self.assertEqual(
            pair.ask(Type.ASYNC_DEVICE_CLEAR).type, Type.ASYNC_DEVICE_CLEAR_ACKNOWLEDGE
        )
        other.unlock(NO_ID)
        self.assertEqual(self.device.clears, 0)
        other.ask(Type.ASYNC_DEVICE_CLEAR)
        self.assertEqual(self.device.clears, 1)


class ErrorTests(HislipCase):
    options = {"max_message_size": 1024}

    def test_wrong_prologue(self) -> None:
        for channel in ("sync", "asyn"):
            pair = self.pair()
            getattr(pair, channel).send(b"GET / HTTP/1.1\r\n\r\n")
            self.check_fatal(pair.sync, Fatal.POORLY_FORMED)
            self.check_fatal(pair.asyn, Fatal.POORLY_FORMED)
        wire = self.wire()
        wire.send(b"GET / HTTP/1.1\r\n\r\n")
        self.check_fatal(wire, Fatal.POORLY_FORMED)

    def test_before_the_beginning(self) -> None:
        for kind in (*range(2, 17), *range(18, 40), 200):
            wire = self.wire()
            wire.send(encode(kind))
            self.check_fatal(wire, Fatal.INVALID_INITIALIZATION)

    def test_before_the_second_channel(self) -> None:
        wire = self.wire()
        wire.send(encode_initialize("hislip0"))
        wire.received()
        wire.send(encode(Type.DATA_END, 0, FIRST, b"*IDN?"))
        self.check_fatal(wire, Fatal.NOT_BOTH_CHANNELS)

    def test_not_understood(self) -> None:
        pair = self.pair()
        for wire, known in ((pair.sync, {6, 7, 8, 12}), (pair.asyn, {4, 10, 15, 19, 21, 24})):
            for kind in set(range(256)) - known - {0, 2, 3, 17}:
                wire.send(encode(kind, 0, 0, b"abc"))
                vendor = kind >= 128
                code = Code.UNRECOGNIZED_VENDOR if vendor else Code.UNRECOGNIZED_TYPE
                self.check_error(wire.next(), code)
        self.assertEqual(pair.query(b"*IDN?"), IDENTITY)

    def test_too_large(self) -> None:
        pair = self.pair()
        pair.sync.send(encode(Type.DATA_END, 0, FIRST, b"x" * 1025))
        self.check_error(pair.sync.next(), Code.TOO_LARGE)
        self.check_error(pair.ask(Type.ASYNC_LOCK, 1, 0, b"x" * 257), Code.TOO_LARGE)
        self.assertEqual(pair.query(b"*IDN?"), IDENTITY)

    def test_as_large_as_announced_without_the_header(self) -> None:
        pair = self.pair()
        pair.write(b"*CLS" + b" " * 1020)
        self.assertEqual(pair.query(b"*IDN?"), IDENTITY)
        self.assertEqual(self.errors(pair), NO_ERROR)

    def test_absurd_announcements(self) -> None:
        other = self.pair()
        for length in (1 << 40, 1 << 60, (1 << 64) - 1):
            for channel in ("sync", "asyn"):
                pair = self.pair()
                getattr(pair, channel).send(HEADER.pack(b"HS", 7, 0, FIRST, length))
                self.check_fatal(pair.sync, Fatal.POORLY_FORMED)
                self.check_fatal(pair.asyn, Fatal.POORLY_FORMED)
        wire = self.wire()
        wire.send(HEADER.pack(b"HS", 0, 0, 0, 1 << 60))
        self.check_fatal(wire, Fatal.POORLY_FORMED)
        self.assertEqual(other.query(b"*IDN?"), IDENTITY)

    def test_errors_of_the_client(self) -> None:
        pair = self.pair()
        pair.asyn.send(encode(Type.ERROR, 1, 0, b"what?"))
        pair.sync.send(encode(Type.ERROR, 1, 0, b"what?"))
        self.assertEqual(pair.query(b"*IDN?"), IDENTITY)
        pair.asyn.send(encode(Type.FATAL_ERROR, 0, 0, b"enough"))
        self.assertTrue(pair.sync.closed and pair.asyn.closed)

    def test_a_client_that_does_not_take_the_last_words(self) -> None:
        wire = self.wire()
        wire.send(b"GET / HTTP/1.1\r\n\r\n")
        self.bench.advance(5.1)
        self.assertTrue(wire.transport.disconnected or wire.transport.aborting)

    def test_answers_on_a_full_channel_are_not_made(self) -> None:
        """Who asks and asks and takes no answer is not listened to."""
        pair = self.pair()
        for wire in (pair.asyn, pair.sync):
            wire.server.pauseProducing()
            wire.send(encode(99) * 100)
            self.assertEqual(wire.received(), [])
            wire.server.resumeProducing()
            self.bench.advance(0)
            self.assertEqual(len(wire.received()), 100)


class DelayTests(HislipCase):
    options = {"async_delay": 0.002}

    def test_answers_come_later_in_order(self) -> None:
        pair = self.pair()
        pair.asyn.send(encode(Type.ASYNC_LOCK, 1) + encode(Type.ASYNC_LOCK_INFO) + encode(99))
        self.assertEqual([m.type for m in pair.asyn.received()], [Type.ERROR])
        self.bench.advance(0.002)
        kinds = [m.type for m in pair.asyn.received()]
        self.assertEqual(kinds, [Type.ASYNC_LOCK_RESPONSE, Type.ASYNC_LOCK_INFO_RESPONSE])
        pair.asyn.send(encode(Type.ASYNC_LOCK_INFO))
        pair.vanish()
        self.bench.advance(1)


class ListenTests(SynchronousTestCase):
    def served(self, **common: Any) -> Any:
        bench = Bench()
        self.addCleanup(bench.lab.stop)
        return Deferred.fromCoroutine(
            listen(bench.lab, "tcp:4880", ServeOptions(**common), Options(), bench.reactor)
        )

    def test_one_device(self) -> None:
        listener = self.successResultOf(self.served(device="sim"))
        self.assertIn("::hislip0", listener.example)

    def test_what_cannot_be_served(self) -> None:
        self.failureResultOf(self.served(device="nothing"), UnknownName)
        self.failureResultOf(self.served(), BadArguments)
        self.failureResultOf(self.served(devices={"a" * 257: "sim"}), BadArguments)

    def test_all_devices_come_and_go(self) -> None:
        bench = Bench()
        self.addCleanup(bench.lab.stop)
        common = ServeOptions(devices=AllDevices(lambda: bench.lab))
        for name in ("sim", "other"):
            bench.lab.detach(name)
        listening = listen(bench.lab, "tcp:4881", common, Options(), bench.reactor)
        listener = self.successResultOf(Deferred.fromCoroutine(listening))
        self.assertIn("::hislip0,4881::", listener.example)
        factory = bench.reactor.tcpServers[-1][1]._factory
        lone = Wire(factory)
        lone.send(encode_initialize("late"))
        [refused] = lone.received()
        self.assertEqual(refused[:2], (Type.FATAL_ERROR, 3))
        bench.lab.attach("late", Recorded(bench.reactor))
        self.assertEqual(Pair(factory, "late").query(b"*IDN?"), IDENTITY)
        self.assertEqual(Pair(factory, "").query(b"*IDN?"), IDENTITY)
        bench.lab.attach("worse", Colliding())
        wire = Wire(factory)
        wire.send(encode_initialize("worse"))
        [refused] = wire.received()
        self.assertEqual(refused[:2], (Type.FATAL_ERROR, 3))
        self.assertIn(b"LEVel", refused.payload)


class Colliding(Device):
    """Two headers that are the same."""

    level = parameter(float, initial=0.0, scpi="LEVel")
    other = parameter(float, initial=0.0, scpi="LEVel")
