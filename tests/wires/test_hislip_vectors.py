"""The recorded exchanges of real HiSLIP clients, played to the server."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from labnet.wires.hislip.codec import HEADER, Message, Type
from tests.wires.hislip_toy import Bench, Pair, Wire, messages
from tests.wires.vectors import records

PUSHED = ("srq pushed", "stb after unread", "4: srq", "4: stb after srq")
"""Cases in which the recorded server asked for service without ``*SRE``, as labnet does not."""

TEXTS = (Type.ERROR, Type.FATAL_ERROR)


def clients() -> dict[str, list[dict[str, Any]]]:
    """The records by client."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records("hislip"):
        found.setdefault(record["case"].split(":")[0], []).append(record)
    return found


class Player:
    """Plays one client's connections to a server."""

    def __init__(self, test: SynchronousTestCase, case: list[dict[str, Any]], split: str) -> None:
        self.test = test
        self.split = split
        self.bench = Bench()
        self.wires: dict[int, Wire] = {}
        self.numbers: dict[int, int] = {}  # recorded session id to ours
        self.opened = {
            record["conn"]
            for record in case
            if record["value"].get("type") in (Type.INITIALIZE, Type.ASYNC_INITIALIZE)
        }
        self.bare = {
            record["conn"] for record in case if "before any initialize" in record["case"]
        }
        self.played = 0

    def wire(self, record: dict[str, Any]) -> Wire:
        """The connection of a record; one whose opening was not recorded is opened now."""
        number = record["conn"]
        if number not in self.wires:
            if number in self.opened or number in self.bare:
                self.wires[number] = self.bench.wire()
            else:
                sync = number if record["channel"] == "sync" else number - 1
                pair: Pair = self.bench.pair()
                self.wires[sync], self.wires[sync + 1] = pair.sync, pair.asyn
        return self.wires[number]

    def play(self, record: dict[str, Any]) -> None:
        wire, data = self.wire(record), bytes.fromhex(record["bytes"])
        if record["direction"] == "c2s":
            kind, session = data[2], int.from_bytes(data[4:8], "big")
            if kind == Type.ASYNC_INITIALIZE and session in self.numbers:
                data = data[:4] + self.numbers[session].to_bytes(4, "big") + data[8:]
            wire.send(data, self.split)
            return
        [expected] = messages(data)
        answer = wire.next()
        for _ in range(20):
            if answer is None:
                self.bench.advance(0.1)
                answer = wire.next()
        self.test.assertIsNotNone(answer, record)
        assert answer is not None
        self.compare(answer, expected, record)
        self.played += 1

    def compare(self, answer: Message, expected: Message, record: dict[str, Any]) -> None:
        if expected.type == Type.INITIALIZE_RESPONSE:
            self.numbers[expected.parameter & 0xFFFF] = answer.parameter & 0xFFFF
            answer = answer._replace(parameter=answer.parameter >> 16)
            expected = expected._replace(parameter=expected.parameter >> 16)
        if expected.type == Type.ASYNC_SERVICE_REQUEST:  # theirs left the reason out
            answer = answer._replace(control=answer.control & 64)
        if expected.type in TEXTS:
            self.test.assertTrue(answer.payload, record)
            answer, expected = answer._replace(payload=b""), expected._replace(payload=b"")
        self.test.assertEqual(answer, expected, record)


class RecordedTests(SynchronousTestCase):
    """Every recorded answer comes, whole or byte by byte."""

    def play(self, split: str) -> None:
        played = 0
        for case in clients().values():
            player = Player(self, case, split)
            for record in case:
                if not any(word in record["case"] for word in PUSHED):
                    player.play(record)
            for wire in player.wires.values():
                self.assertEqual(wire.received(), [])
                wire.vanish()
            self.assertEqual(player.bench.factory.sessions, {})
            self.assertEqual(player.bench.lab.locks.count, 0)
            player.bench.lab.stop()
            played += player.played
        self.assertEqual(played, 120)

    def test_whole(self) -> None:
        self.play("whole")

    def test_byte_by_byte(self) -> None:
        self.play("bytewise")

    def test_recorded_headers(self) -> None:
        """The recording itself is well formed, as far as it should be."""
        for record in records("hislip"):
            data = bytes.fromhex(record["bytes"])
            prologue, kind, _, _, length = HEADER.unpack(data[:16])
            if "bad prologue" in record["case"] and record["direction"] == "c2s":
                self.assertNotEqual(prologue, b"HS")
            else:
                self.assertEqual(length, len(data) - 16)
                self.assertEqual(kind, record["value"]["type"])
