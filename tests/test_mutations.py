"""Ten thousand damaged messages on each wire, while a good client goes on working."""

from __future__ import annotations

from random import Random
from time import perf_counter
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, parameter
from labnet.lab import Lab
from tests.wires.adapters import ADAPTERS, DIALLING, Adapter, Client
from tests.wires.pymodaq_module import FakeModule
from tests.wires.rogue_port import RoguePort

MUTATIONS = 10_000
#: Damaged messages that one bad client sends before it vanishes.
EACH = 20
LONGEST = 4096


class Bench(Device):
    """A device with a parameter that only the good client reads."""

    level = parameter(float, initial=1.0, access="r")
    target = parameter(float, initial=0.0)


def damaged(random: Random, cases: list[bytes]) -> bytes:
    """One of the messages after one to four accidents."""
    data = bytearray(random.choice(cases)[:LONGEST])
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(data) + 1)
        accident = random.randrange(6)
        if accident == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif accident == 1:
            data[at : at + random.randrange(16)] = b""
        elif accident == 2:
            data[at:at] = random.randbytes(random.randrange(1, 16))
        elif accident == 3:
            data[at:at] = data[at : at + random.randrange(64)]
        elif accident == 4:
            del data[at:]
        else:
            other = random.choice(cases)[:LONGEST]
            data[at:] = other[random.randrange(len(other) + 1) :]
    return bytes(data)


class MutationTests(SynchronousTestCase):
    """Each wire by itself, in memory."""

    log = Logger()

    def check(self, name: str, other: Adapter | None = None) -> None:
        wire = other or ADAPTERS[name]
        reactor: Any = MemoryReactorClock()
        lab = Lab(reactor, reactor)
        lab.attach("bench", Bench())
        self.addCleanup(lab.stop)
        new_client = wire.serve(lab, "bench")
        random = Random(name)
        cases = [
            piece
            for pieces in wire.cases()
            for piece in pieces
            if piece and b"disconnect_hardware" not in piece  # which does disconnect it for all
        ]
        cases += [wire.read(), wire.write(5.0)] * (len(cases) // 10)
        good, bad = new_client(), new_client()
        expected = good.tell(wire.read())
        self.assertTrue(wire.succeeded(expected))
        latencies, ended = [], 0
        for number in range(MUTATIONS):
            bad.tell(damaged(random, cases))
            if bad.ended or number % EACH == EACH - 1:
                ended += bad.ended
                bad.vanish()
                bad = new_client()
            if number % 10 == 0:
                if lab.locks.count:  # damaged or not, it asked for a lock, which others respect
                    bad.vanish()
                    bad = new_client()
                latencies.append(self.timed(wire, good, expected))
        bad.vanish()
        self.assertFalse(good.ended)
        self.assertEqual(lab.locks.count, 0)
        self.assertEqual(lab.registry.devices["bench"].device_queue.busy(), None)
        latencies.sort()
        self.log.info(
            "{wire}: {ended} connections closed; a good client's reads took {median:.0f} us"
            " (median), {most:.0f} us (longest)",
            wire=name,
            ended=ended,
            median=latencies[len(latencies) // 2] * 1e6,
            most=latencies[-1] * 1e6,
        )

    def timed(self, wire: Adapter, good: Client, expected: bytes) -> float:
        """Seconds that a read by the good client takes, whose answer must be as ever."""
        begun = perf_counter()
        answer = good.tell(wire.read())
        taken = perf_counter() - begun
        self.assertTrue(wire.succeeded(answer), (wire.name, answer))
        self.assertEqual(len(answer), len(expected), (wire.name, answer))
        return taken

    def test_tsv(self) -> None:
        self.check("tsv")

    def test_scpi(self) -> None:
        self.check("scpi")

    def test_plesty(self) -> None:
        self.check("plesty")

    def test_vicp(self) -> None:
        self.check("vicp")

    def test_vxi11(self) -> None:
        self.check("vxi11")

    def test_hislip(self) -> None:
        self.check("hislip")

    def test_rogue_pickles(self) -> None:
        self.check("rogue, binary port", RoguePort("bin"))

    def test_rogue_json(self) -> None:
        self.check("rogue, text port", RoguePort("str"))

    def test_pymodaq(self) -> None:
        """Here the clients are devices: the good one goes on being read and moved."""
        wire = DIALLING["pymodaq"]
        reactor: Any = MemoryReactorClock()
        lab = Lab(reactor, reactor)
        self.addCleanup(lab.stop)
        new_client = wire.serve(lab, "", max_message=1 << 20)
        good = FakeModule(reactor.tcpServers[-1][1])
        good.answer_questions(1.25)
        session = lab.open_session("test", "here", timeout=10.0)
        random = Random(wire.name)
        cases = wire.cases()
        bad, ended = new_client(), 0
        for number in range(MUTATIONS):
            case = random.choice(cases)
            bad.tell(case[0], damaged(random, [case[1]]))
            ended += bad.ended
            bad.vanish()
            bad = new_client()
            if number % 10 == 0:
                self.check_module(session, good, float(number))
            if number % 1000 == 0:
                reactor.advance(30)  # for those who have stopped inside a message
        bad.vanish()
        self.assertFalse(good.dropped)
        connected = [it for it in lab.devices().values() if it.device_queue.unavailable is None]
        self.assertEqual([it.name for it in connected], ["actuator1"])
        self.assertLess(len(lab.devices()), 10)  # places are used again
        self.assertGreater(ended, MUTATIONS // 10)
        self.log.info("pymodaq: {ended} connections closed", ended=ended)

    def check_module(self, session: Any, good: FakeModule, value: float) -> None:
        """A read and a move of the good module are as ever."""
        asked = session.get("actuator1.position")
        good.answer_questions(value)
        self.assertEqual(self.successResultOf(asked).value, value)
        moved = session.call("actuator1.move_abs", value + 1)
        good.has_moved(value + 1)
        self.assertEqual(self.successResultOf(moved), value + 1)
