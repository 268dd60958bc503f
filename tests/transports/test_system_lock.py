"""The lock that is asked for by messages, from scripted instruments."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import DeviceFault, Locked, NotAllowed, NotConnected, TimedOut
from labnet.transports.kept import ClientProtocol
from labnet.transports.system_lock import OWNER, RELEASE, REQUEST, SystemLock, request_lock


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

    def test_given_up(self) -> None:
        """It is said of a request that may still be granted, and of no other."""
        told: list[str] = []
        pending: Deferred[str] = Deferred()
        for answer, expected in (
            (fail(TimedOut("it", 2)), 1), (pending, 1), (succeed("1"), 0), (succeed("x"), 0)
        ):  # fmt: skip
            told.clear()
            done = request_lock(
                lambda message, timeout, answer=answer: answer,  # type: ignore[misc]
                "scope", self.clock, 2.0, 0.0, lambda: told.append("given up"),
            )  # fmt: skip
            done.cancel()
            done.addErrback(lambda failure: None)
            self.assertEqual(len(told), expected)


class ClientLockTests(SynchronousTestCase):
    """The lock of a client, with what it sends."""

    def setUp(self) -> None:
        self.sent: list[str] = []
        self.connection = ClientProtocol("scope")
        self.lock = SystemLock(
            self.query, self.write, "scope", Clock(), lambda: self.connection
        )

    def query(self, message: str, timeout: float | None) -> Deferred[str]:
        self.sent.append(message)
        self.answer: Deferred[str] = Deferred()
        return self.answer

    def write(self, message: str, timeout: float | None) -> Deferred[None]:
        self.sent.append(message)
        return succeed(None)

    def given_up(self) -> list[str]:
        """What is sent by and after a request that is cancelled."""
        self.sent.clear()
        done = self.lock.acquire(2.0, 0.0)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        return self.sent

    def test_a_request_that_is_given_up_is_taken_back(self) -> None:
        self.assertEqual(self.given_up(), [REQUEST, RELEASE])

    def test_the_lock_that_it_has_is_kept(self) -> None:
        done = self.lock.acquire(2.0, 0.0)
        self.answer.callback("1")
        self.successResultOf(done)
        self.assertEqual(self.given_up(), [REQUEST])
        self.lock.release()
        self.assertEqual(self.given_up(), [REQUEST, RELEASE])

    def test_a_lock_that_was_lost(self) -> None:
        self.lock.check(self.connection)
        done = self.lock.acquire(2.0, 0.0)
        self.answer.callback("1")
        self.successResultOf(done)
        self.lock.check(self.connection)
        other = ClientProtocol("scope")
        error = self.assertRaises(NotConnected, self.lock.check, other)
        self.assertIn("lock", str(error))
        self.lock.check(other)  # told once

    def test_nothing_is_left_of_a_connection_that_has_ended(self) -> None:
        self.connection.spent = True
        self.assertEqual(self.given_up(), [REQUEST])
