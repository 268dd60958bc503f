"""HiSLIP locks (IVI-6.1 section 6.5), device clear (6.12), lost connections, and garbage."""

from __future__ import annotations

from random import Random

from labnet.locks import Mode
from labnet.wires.hislip.codec import HEADER, NO_ID, Code, Fatal, Message, Type, encode
from tests.wires.hislip_toy import FIRST, Bench, Pair
from tests.wires.test_hislip_server import IDENTITY, NO_ERROR, HislipCase
from tests.wires.vectors import records

GRANTED, SHARED_RELEASED, FAILED, ERROR = 1, 2, 0, 3


class LockTests(HislipCase):
    def info(self, pair: Pair) -> tuple[int, int]:
        answer = pair.ask(Type.ASYNC_LOCK_INFO)
        self.assertEqual(answer.type, Type.ASYNC_LOCK_INFO_RESPONSE)
        return answer.control, answer.parameter

    def test_the_table(self) -> None:
        """Every row of the standard's table: state, request, outcome."""
        exclusive, k1, k2 = b"", b"K1", b"K2"
        holder_has: tuple[tuple[list[bytes], list[bytes], list[tuple[int, bytes, int]]], ...] = (
            ([], [], [(0, k1, 1)]),
            ([], [], [(0, exclusive, 1)]),
            ([exclusive], [], [(0, exclusive, 3), (0, k1, 3)]),
            ([exclusive], [], [(1, exclusive, 0), (1, k1, 0)]),
            ([k1], [], [(0, k1, 3), (0, k2, 3)]),
            ([k1], [], [(1, k2, 0), (1, exclusive, 0), (1, k1, 1)]),
            ([k1], [], [(0, exclusive, 1)]),
            ([k1], [k1], [(0, exclusive, 1), (1, exclusive, 0)]),
            ([k1, exclusive], [k1], [(0, k1, 3), (1, k1, 3), (0, exclusive, 3)]),
            ([k1, exclusive], [], [(1, k2, 0), (1, exclusive, 0), (1, k1, 1)]),
        )
        for first, second, requests in holder_has:
            pairs = self.pair(), self.pair()
            for pair, keys in zip(pairs, (first, second), strict=True):
                for key in keys:
                    self.assertEqual(pair.lock(key), GRANTED)
            for who, key, outcome in requests:
                self.assertEqual(pairs[who].lock(key), outcome, (first, second, who, key))
            for pair in pairs:
                pair.vanish()

    def test_releases(self) -> None:
        one, two = self.pair(), self.pair()
        self.assertEqual(one.unlock(), ERROR)
        one.lock(b"K")
        two.lock(b"K")
        one.lock()
        self.assertEqual(self.info(two), (1, 2))
        self.assertEqual(two.unlock(), SHARED_RELEASED)
        self.assertEqual(two.unlock(), ERROR)
        self.assertEqual(one.unlock(), GRANTED)
        self.assertEqual(self.info(two), (0, 1))
        self.assertEqual(one.unlock(), SHARED_RELEASED)
        self.assertEqual(self.info(two), (0, 0))

    def test_keys(self) -> None:
        """A NUL at the end of a key is not part of it; a key has at most 256 bytes."""
        one, two = self.pair(), self.pair()
        self.assertEqual(one.lock(b"K1\0"), GRANTED)
        self.assertEqual(two.lock(b"K1"), GRANTED)
        two.unlock()
        one.unlock()
        self.assertEqual(one.lock(b"x" * 256), GRANTED)

    def test_waiting(self) -> None:
        one, two = self.pair(), self.pair()
        one.lock()
        self.assertIsNone(two.lock(b"", 1000))
        self.bench.advance(0.9)
        self.assertEqual(two.asyn.received(), [])
        one.unlock()
        self.assertEqual(two.asyn.received(), [Message(Type.ASYNC_LOCK_RESPONSE, GRANTED)])
        self.assertIsNone(one.lock(b"", 1000))
        self.bench.advance(1.1)
        self.assertEqual(one.asyn.received(), [Message(Type.ASYNC_LOCK_RESPONSE, FAILED)])

    def test_what_is_answered_while_waiting(self) -> None:
        one, two = self.pair(), self.pair()
        one.lock()
        self.assertIsNone(two.lock(b"", 1000))
        self.assertEqual(two.status(), 0)
        self.assertEqual(self.info(two), (1, 1))
        self.check_error(two.ask(Type.ASYNC_LOCK, 1), Code.UNIDENTIFIED)
        self.check_error(two.ask(Type.ASYNC_LOCK, 0), Code.UNIDENTIFIED)
        self.bench.advance(2)

    def test_others_messages_wait(self) -> None:
        one, two = self.pair(), self.pair()
        one.lock()
        number = two.write(b"LEV 5;LEV?")
        self.assertEqual(two.sync.received(), [])
        self.assertEqual(two.status(), 0)
        self.bench.advance(100)
        self.assertEqual(one.query(b"LEV?"), b"1\n")
        one.unlock()
        self.assertEqual(two.sync.received(), [Message(Type.DATA_END, 0, number, b"5\n")])

    def test_parts_and_triggers_wait_too(self) -> None:
        """Nothing is taken of a session that another's lock shuts out, not even memory."""
        one, two = self.pair(), self.pair()
        one.lock()
        for _ in range(100):
            two.write(b" " * 60000, kind=Type.DATA)
        two.write(b"", kind=Type.TRIGGER)
        self.assertEqual(two.sync.transport.producerState, "paused")
        self.assertEqual(one.query(b"TEST:TRIG?"), b"0\n")
        one.unlock()
        for _ in range(5):
            self.bench.advance(0)
        self.assertEqual(two.sync.transport.producerState, "producing")
        self.assertEqual(one.query(b"TEST:TRIG?", 1), b"1\n")

    def test_its_own_lock_lets_it_go_on(self) -> None:
        """A session whose messages wait gets the lock, and they are carried out under it."""
        one, two = self.pair(), self.pair()
        one.lock()
        number = two.write(b"LEV?")
        self.assertIsNone(two.lock(b"", 5000))
        one.unlock()
        self.assertEqual(two.sync.received(), [Message(Type.DATA_END, 0, number, b"1\n")])
        self.assertEqual(two.asyn.received(), [Message(Type.ASYNC_LOCK_RESPONSE, GRANTED)])

    def test_a_release_waits_for_the_message_it_names(self) -> None:
        one, two = self.pair(), self.pair()
        one.lock()
        number = one.write(b"SLOW?")
        two.write(b"LEV?")
        self.assertIsNone(one.unlock(number))
        self.check_error(one.ask(Type.ASYNC_LOCK, 1), Code.UNIDENTIFIED)
        self.bench.device.waits[0].callback("done")
        self.assertEqual(one.asyn.received(), [Message(Type.ASYNC_LOCK_RESPONSE, GRANTED)])
        self.assertEqual(len(two.sync.received()), 1)

    def test_a_release_that_overtakes_its_message(self) -> None:
        """The two channels are two connections: the message may come later."""
        one = self.pair()
        one.lock()
        self.assertIsNone(one.unlock(FIRST))
        self.bench.advance(0.5)
        self.assertEqual(self.bench.lab.locks.count, 1)
        one.write(b"LEV 2")
        self.assertEqual(one.asyn.received(), [Message(Type.ASYNC_LOCK_RESPONSE, GRANTED)])

    def test_a_release_that_names_a_message_that_never_comes(self) -> None:
        one = self.pair()
        one.lock()
        self.assertIsNone(one.unlock(0x1234))
        self.bench.advance(1.1)
        self.assertEqual(one.asyn.received(), [Message(Type.ASYNC_LOCK_RESPONSE, GRANTED)])

    def test_other_wires_obey(self) -> None:
        """And their locks are obeyed and counted."""
        pair = self.pair()
        other = self.bench.lab.open_session("plesty", "elsewhere", name="scan", device="sim")
        pair.lock(b"K")
        refused = other.set("level", 2.0)
        self.assertIn("locked", self.failureResultOf(refused).getErrorMessage())
        pair.unlock()
        self.successResultOf(other.lock(["level"], mode=Mode.EXCLUSIVE))
        self.assertEqual(self.info(pair), (1, 1))
        self.assertEqual(pair.lock(), FAILED)
        pair.write(b"LEV?")
        self.assertEqual(pair.sync.received(), [])
        other.close()
        self.assertEqual(len(pair.sync.received()), 1)

    def test_a_token_is_a_key(self) -> None:
        """A program that works over two wires is one owner."""
        other = self.bench.lab.open_session("plesty", "elsewhere", name="scan", device="sim")
        self.successResultOf(other.lock(["sim"]))
        pair, third = self.pair(), self.pair()
        self.assertEqual(third.lock(b"K"), FAILED)
        self.assertEqual(pair.lock(other.token.encode()), GRANTED)
        self.assertEqual(pair.query(b"LEV?"), b"1\n")
        third.write(b"LEV?")
        self.assertEqual(third.sync.received(), [])
        other.close()
        self.assertEqual(pair.query(b"LEV?", 1), b"1\n")
        pair.vanish()
        self.bench.advance(11)  # for an owner with a name is waited for
        self.assertEqual(len(third.sync.received()), 1)

    def test_bad_control_code(self) -> None:
        self.check_error(self.pair().ask(Type.ASYNC_LOCK, 9), Code.UNRECOGNIZED_CONTROL)


class LossTests(HislipCase):
    def test_either_channel_ends_the_session(self) -> None:
        for channel, rest in (("sync", "asyn"), ("asyn", "sync")):
            one, two = self.pair(), self.pair()
            one.lock()
            two.write(b"LEV?")
            getattr(one, channel).vanish()
            self.assertTrue(getattr(one, rest).closed)
            self.assertEqual(len(two.sync.received()), 1)
            self.assertEqual(list(self.bench.factory.sessions), [two.number])
            two.vanish()

    def test_waiting_requests_and_messages_go_with_it(self) -> None:
        one, two = self.pair(), self.pair()
        one.lock()
        two.lock(b"", 60000)
        two.write(b"LEV 7")
        two.asyn.vanish()
        one.unlock()
        self.assertEqual(one.query(b"LEV?"), b"1\n")
        self.assertEqual(self.bench.lab.locks.count, 0)

    def test_during_a_command_and_an_answer(self) -> None:
        one, two = self.pair(), self.pair()
        one.write(b"SLOW?")
        one.sync.vanish()
        two.write(b"TEST:BLOC? 5000000")
        two.sync.vanish()
        two.asyn.vanish()
        self.bench.device.waits[0].callback("late")
        self.assertEqual(self.pair().query(b"LEV?"), b"1\n")

    def test_a_pending_release(self) -> None:
        one = self.pair()
        one.lock()
        one.unlock(0x1234)
        one.sync.vanish()

    def test_the_lab_stops(self) -> None:
        one, two = self.pair(), self.pair()
        one.lock()
        two.write(b"LEV?")
        self.bench.lab.stop()
        self.check_fatal(two.sync, Fatal.UNIDENTIFIED)
        one.vanish()


class ClearTests(HislipCase):
    def acknowledged(self, pair: Pair) -> None:
        [answer] = pair.asyn.received()
        self.assertEqual(answer[:2], (Type.ASYNC_DEVICE_CLEAR_ACKNOWLEDGE, 0))

    def complete(self, pair: Pair) -> None:
        pair.sync.send(encode(Type.DEVICE_CLEAR_COMPLETE))
        [answer] = pair.sync.received()
        self.assertEqual(answer[:2], (Type.DEVICE_CLEAR_ACKNOWLEDGE, 0))
        pair.id = FIRST

    def test_in_order(self) -> None:
        pair = self.pair()
        pair.write(b"SLOW?")
        pair.write(b"LEV 9")
        pair.asyn.send(encode(Type.ASYNC_DEVICE_CLEAR))
        self.acknowledged(pair)
        pair.write(b"LEV 10")
        self.complete(pair)
        self.assertEqual(pair.query(b"LEV?"), b"1\n")
        self.assertEqual(self.errors(pair), NO_ERROR)
        self.bench.device.waits[0].callback("late")
        self.assertEqual(pair.sync.received(), [])

    def test_completion_first(self) -> None:
        """The two come on different connections."""
        for before in (b"SLOW?", b"*CLS"):
            pair = self.pair()
            pair.write(before)
            pair.sync.send(encode(Type.DEVICE_CLEAR_COMPLETE))
            pair.sync.send(encode(Type.DATA_END, 0, FIRST, b"*IDN?"))
            self.assertEqual(pair.sync.received(), [])
            pair.asyn.send(encode(Type.ASYNC_DEVICE_CLEAR))
            self.acknowledged(pair)
            done, answer = pair.sync.received()
            self.assertEqual(done[:2], (Type.DEVICE_CLEAR_ACKNOWLEDGE, 0))
            self.assertEqual(answer, Message(Type.DATA_END, 0, FIRST, IDENTITY))

    def test_completion_alone(self) -> None:
        pair = self.pair()
        pair.sync.send(encode(Type.DEVICE_CLEAR_COMPLETE))
        pair.write(b"*IDN?")
        self.assertEqual(pair.sync.received(), [])
        self.bench.advance(1.1)
        error, answer = pair.sync.received()
        self.check_error(error, Code.UNIDENTIFIED)
        self.assertEqual(bytes(answer.payload), IDENTITY)

    def test_no_completion(self) -> None:
        pair = self.pair()
        pair.asyn.send(encode(Type.ASYNC_DEVICE_CLEAR))
        self.acknowledged(pair)
        self.bench.advance(59)
        self.assertFalse(pair.sync.closed)
        self.bench.advance(2)
        self.check_fatal(pair.sync, Fatal.UNIDENTIFIED)
        self.check_fatal(pair.asyn, Fatal.UNIDENTIFIED)

    def test_twice(self) -> None:
        pair = self.pair()
        for _ in range(2):
            pair.asyn.send(encode(Type.ASYNC_DEVICE_CLEAR))
            self.acknowledged(pair)
        self.complete(pair)
        self.assertEqual(pair.query(b"*IDN?"), IDENTITY)

    def test_half_a_message(self) -> None:
        pair = self.pair()
        pair.write(b"LEV 1;", kind=Type.DATA)
        message = encode(Type.DATA_END, 0, FIRST, b"LEV 3")
        pair.sync.send(message[:18])
        pair.asyn.send(encode(Type.ASYNC_DEVICE_CLEAR))
        self.acknowledged(pair)
        pair.sync.send(message[18:])
        self.complete(pair)
        self.assertEqual(pair.query(b"LEV?"), b"1\n")

    def test_the_rest_of_an_answer_is_dropped(self) -> None:
        pair = self.pair()
        pair.write(b"TEST:BLOC? 5000000")
        pair.sync.server.pauseProducing()
        self.bench.advance(0)
        self.assertNotIn(Type.DATA_END, [m.type for m in pair.sync.received()])
        pair.asyn.send(encode(Type.ASYNC_DEVICE_CLEAR))
        self.acknowledged(pair)
        pair.sync.server.resumeProducing()
        self.complete(pair)
        self.assertEqual(pair.query(b"*IDN?"), IDENTITY)

    def test_a_flood_is_read_away(self) -> None:
        pair = self.pair()
        pair.write(b"SLOW?")
        for _ in range(200):
            pair.write(b"LEV 9")
        self.assertEqual(pair.sync.transport.producerState, "paused")
        pair.asyn.send(encode(Type.ASYNC_DEVICE_CLEAR))
        self.acknowledged(pair)
        for _ in range(5):
            self.bench.advance(0)
        self.assertEqual(pair.sync.transport.producerState, "producing")
        self.complete(pair)
        self.assertEqual(pair.query(b"LEV?"), b"1\n")

    def test_ends_a_wait_for_a_lock_and_completes_a_release(self) -> None:
        one, two = self.pair(), self.pair()
        one.lock()
        two.write(b"LEV 9")
        self.assertIsNone(two.lock(b"", 10000))
        two.asyn.send(encode(Type.ASYNC_DEVICE_CLEAR))
        refused, _ = two.asyn.received()
        self.assertEqual(refused, Message(Type.ASYNC_LOCK_RESPONSE, FAILED))
        self.complete(two)
        number = one.write(b"SLOW?")
        self.assertIsNone(one.unlock(number))
        one.asyn.send(encode(Type.ASYNC_DEVICE_CLEAR))
        released, _ = one.asyn.received()
        self.assertEqual(released, Message(Type.ASYNC_LOCK_RESPONSE, GRANTED))
        self.complete(one)
        self.assertEqual(one.query(b"LEV?"), b"1\n")

    def test_keeps_locks_and_status(self) -> None:
        one, two = self.pair(), self.pair()
        one.lock()
        one.query(b"*SRE 32;*ESE 1")
        one.asyn.send(encode(Type.ASYNC_DEVICE_CLEAR))
        self.acknowledged(one)
        self.complete(one)
        self.assertEqual(two.lock(), FAILED)
        self.assertEqual(one.query(b"*SRE?;*ESE?"), b"32;1\n")
        self.assertEqual(one.status(1), 0)

    def test_message_available_begins_anew(self) -> None:
        pair = self.pair()
        pair.query(b"*IDN?")
        pair.asyn.send(encode(Type.ASYNC_DEVICE_CLEAR))
        self.acknowledged(pair)
        self.complete(pair)
        self.assertEqual(pair.status(number=NO_ID), 0)
        pair.query(b"*IDN?")
        self.assertEqual(self.errors(pair), NO_ERROR)


class GarbageTests(HislipCase):
    """What is recorded, with bytes changed, left out, doubled and cut off."""

    MUTATIONS = 10_000

    def test_mutated_vectors(self) -> None:
        sent = [bytes.fromhex(r["bytes"]) for r in records("hislip") if r["direction"] == "c2s"]
        random = Random(20)
        other = self.pair("hislip1")
        pair = self.pair()
        pairs = 0
        for number in range(self.MUTATIONS):
            if pair.sync.closed or number % 50 == 0:
                pair.vanish()
                pair = Pair(self.bench.factory)
                pairs += 1
            data = mutated(random.choice(sent), random)
            random.choice((pair.sync, pair.asyn)).send(data)
            if number % 100 == 0:
                wire = self.bench.wire()
                wire.send(mutated(random.choice(sent), random))
                wire.vanish()
                self.bench.advance(0.5)
                self.assertEqual(other.query(b"*IDN?", 1), IDENTITY)
        pair.vanish()
        self.assertGreater(pairs, 500)
        self.assertEqual(list(self.bench.factory.sessions), [other.number])
        self.assertEqual(self.bench.lab.locks.count, 0)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_random_bytes(self) -> None:
        random = Random(21)
        other = self.pair()
        for _ in range(200):
            wire = self.bench.wire()
            wire.send(random.randbytes(random.randrange(100)))
            pair = self.bench.pair("hislip1")
            body = random.randbytes(20)
            kind = random.randrange(256)
            length = random.choice((0, 20, 1000, 1 << 20, 1 << 31, 1 << 63))
            channel = random.choice((pair.sync, pair.asyn))
            channel.send(HEADER.pack(b"HS", kind, body[0], body[1], length) + body)
            wire.vanish()
            pair.vanish()
        self.assertEqual(other.query(b"*IDN?"), IDENTITY)


def mutated(data: bytes, random: Random) -> bytes:
    """`data` after an accident or two."""
    found = bytearray(data)
    for _ in range(random.randrange(1, 3)):
        at = random.randrange(len(found)) if found else 0
        accident = random.randrange(6)
        if accident == 0 and found:
            found[at] ^= 1 << random.randrange(8)
        elif accident == 1 and len(found) > 3:
            found[random.randrange(2, min(len(found), 16))] = random.randrange(256)
        elif accident == 2:
            del found[at : at + random.randrange(1, 9)]
        elif accident == 3:
            found[at:at] = random.randbytes(random.randrange(1, 9))
        elif accident == 4:
            found += bytes(found)
        else:
            del found[at:]
    return bytes(found)


class PropertyTests(HislipCase):
    """Any order of what clients may do leaves a server that is as it should be."""

    def test_random_walks(self) -> None:
        for seed in range(30):
            self.walk(Random(seed))

    def walk(self, random: Random) -> None:
        bench = Bench()
        pairs = [bench.pair() for _ in range(3)]
        for _ in range(60):
            pair = random.choice(pairs)
            step = random.randrange(9)
            if step < 3:
                pair.write(random.choice((b"LEV?", b"LEV 2", b"SLOW?", b"TEST:BLOC? 3000000")))
            elif step == 3:
                pair.asyn.send(encode(Type.ASYNC_LOCK, 1, random.randrange(3000), b"K"[:step % 2]))
            elif step == 4:
                pair.asyn.send(encode(Type.ASYNC_LOCK, 0, pair.id - 2 & 0xFFFFFFFF))
            elif step == 5:
                pair.asyn.send(encode(Type.ASYNC_DEVICE_CLEAR))
                pair.sync.send(encode(Type.DEVICE_CLEAR_COMPLETE, random.randrange(2)))
                pair.id = FIRST
            elif step == 6 and bench.device.waits:
                bench.device.waits.pop(0).callback("x")
            elif step == 7:
                pair.asyn.send(encode(Type.ASYNC_STATUS_QUERY, 0, pair.id))
            else:
                bench.advance(random.random())
        for pair in pairs:
            self.assertFalse(pair.sync.closed or pair.asyn.closed)
            pair.asyn.send(encode(Type.ASYNC_DEVICE_CLEAR))
            pair.sync.send(encode(Type.DEVICE_CLEAR_COMPLETE))
            bench.advance(2)
            while pair.unlock(NO_ID) in (GRANTED, SHARED_RELEASED):
                pass
        for pair in pairs:
            pair.sync.received()
            pair.id = FIRST
        for waiting in bench.device.waits:
            waiting.callback("x")
        for pair in pairs:
            self.assertEqual(pair.query(b"*IDN?"), IDENTITY)
            pair.vanish()
        self.assertEqual(bench.lab.locks.count, 0)
        bench.lab.stop()
        bench.advance(100)
        self.assertEqual(bench.reactor.getDelayedCalls(), [])
