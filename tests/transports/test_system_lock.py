"""The lock that is asked for by messages, from scripted instruments."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import DeviceFault, Locked, NotAllowed, NotConnected, TimedOut
from labnet.transports.system_lock import OWNER, REQUEST, request_lock


class LockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.answers: list[str | Exception] = []
        self.asked: list[str] = []

    def query(self, message: str, timeout: float | None) -> Deferred[str]:
        self.asked.append(message)
        answer = self.answers.pop(0)
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def lock(self, *answers: str | Exception, wait: float = 0.0) -> Deferred[None]:
        self.answers = list(answers)
        return request_lock(self.query, "scope", self.clock, 2.0, wait)

    def test_taken(self) -> None:
        self.successResultOf(self.lock("1\n"))
        self.assertEqual(self.asked, [REQUEST])

    def test_held_by_another(self) -> None:
        refused = self.lock("0", '"scan (plesty 10.0.0.7:4000)"')
        holder = self.failureResultOf(refused, Locked).value.holder
        found = (holder.name, holder.wire, holder.peer)
        self.assertEqual(found, ("scan", "plesty", "10.0.0.7:4000"))
        self.assertEqual(self.asked, [REQUEST, OWNER])

    def test_held_by_somebody(self) -> None:
        for answer in ("LAN", NotConnected("gone")):
            error = self.failureResultOf(self.lock("0", answer), Locked).value
            self.assertIn("scope is locked", str(error))

    def test_waiting(self) -> None:
        done = self.lock("0", "0", "1", wait=1.0)
        self.assertNoResult(done)
        self.clock.pump([0.1] * 4)
        self.successResultOf(done)

    def test_waiting_in_vain(self) -> None:
        done = self.lock(*["0"] * 6, "somebody", wait=1.0)
        self.clock.pump([0.05] * 19)
        self.assertNoResult(done)
        self.clock.pump([0.05] * 2)
        self.failureResultOf(done, Locked)
        self.assertEqual(self.answers, [])

    def test_no_lock(self) -> None:
        self.failureResultOf(self.lock(TimedOut("it", 2)), NotAllowed)
        self.failureResultOf(self.lock("LECROY,SIM"), DeviceFault)
        self.failureResultOf(self.lock(NotConnected("gone")), NotConnected)
