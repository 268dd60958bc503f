"""One pair of wires: what gets through from a client of one to a device behind the other."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from twisted.internet.defer import Deferred

from labnet.errors import LabError
from tests.chain.far import DEVICE_WIRES, MOVER, SPECTRUM, FarEnd, NearEnd
from tests.chain.near import IMPATIENT, PEOPLE, PROGRAMS, NoWords, Person, PymodaqPerson


@dataclass(frozen=True)
class Outcome:
    """What got through."""

    read: bool
    write: bool
    command: bool
    array: bool
    error: bool
    lock: bool
    far_lock: bool
    loss: bool

    def missing(self) -> list[str]:
        """The names of what did not."""
        return [it.name for it in fields(self) if not getattr(self, it.name)]


class Chain:
    """A client of `client`, labnet, and a lamp behind `device`."""

    def __init__(self, client: str, device: str) -> None:
        self.client = client
        self.far = FarEnd(DEVICE_WIRES[device])
        self.near: Any = None
        self._people: list[Person] = []
        self._programs: list[PymodaqPerson] = []
        self._served: Any = None

    async def begin(self) -> None:
        """Both labs are up."""
        await self.far.start()
        if self.client in PROGRAMS:
            await self._begin_with_programs()
            return
        self.near = NearEnd(self.far.wire, self.far.port)
        await self.near.up()
        self._served = await self.near.serve(self.client)

    async def _begin_with_programs(self) -> None:
        """The clients are there first: it is the lab that connects to them."""
        self._programs = [PROGRAMS[self.client]() for _ in range(2)]
        self._people.extend(self._programs)
        sections = "".join(program.sections() for program in self._programs)
        self.near = NearEnd(self.far.wire, self.far.port, MOVER + sections)
        await self.near.up()
        for program in self._programs:
            await program.come()

    def person(self) -> Person:
        """One more client."""
        if self._programs:
            return self._programs.pop()
        self._people.append(PEOPLE[self.client](self._served))
        return self._people[-1]

    async def end(self) -> None:
        """All is put away."""
        for person in self._people:
            await person.leave()
        if self._served is not None:
            await self._served.stop()
        if self.near is not None:
            await self.near.service.stopService()
        await self.far.stop()

    async def outcome(self) -> Outcome:
        """Tries everything."""
        ann, ben = self.person(), self.person()
        self.far.lamp.level = 1.0
        read = await ann.read() == 1.0
        await ann.write(5.0)
        write = self.far.lamp.level == 5.0 and await ann.read() == 5.0
        command = await ann.double(3.0) == 6.0
        array = await ann.spectrum(by_command=self.far.wire.dials) == SPECTRUM
        error = "the lamp is broken" in await ann.burn()
        lock, far_lock = await self._locks(ann, ben)
        return Outcome(
            read, write, command, array, error, lock, far_lock, await self._loss_and_return(ann)
        )

    async def _locks(self, ann: Person, ben: Person) -> tuple[bool, bool]:
        """Whether a lock here keeps others out here, and others out there."""
        self.far.lamp.level = 5.0
        await ben.read()
        try:
            await ann.lock()
        except NoWords:
            await self._shut_out(ben)
            return False, False
        there = self.far.lab.open_session("test", "there", device="lamp", name="eve")
        far_lock = False
        try:
            await there.set("level", 66.0)
        except LabError:
            far_lock = True
        told = await ben.try_to_write(77.0)
        lock = bool(told) and self.far.lamp.level != 77.0
        await ben.leave()
        await ann.write(6.0)
        lock = lock and self.far.lamp.level == 6.0
        await ann.unlock()
        there.close()
        await self._free()
        return lock, far_lock

    async def _shut_out(self, ben: Person) -> None:
        """Who has no words for locks obeys those of others all the same."""
        eve = self.near.lab.open_session("test", "here", device="lamp", name="eve")
        await eve.lock(["lamp"])
        told = await ben.try_to_write(77.0)
        assert "eve" in told and self.far.lamp.level != 77.0, told
        eve.close()
        await ben.write(6.0)
        assert self.far.lamp.level == 6.0
        await ben.leave()
        await self._free()

    async def _free(self) -> None:
        """No lock is left here; the one there ends when the far server has been told."""
        assert not self.near.lab.locks.count
        while self.far.lab.locks.count:
            changed: Deferred[object] = Deferred()
            end = self.far.lab.locks.subscribe(
                lambda change, told=changed: None if told.called else told.callback(change)
            )
            await changed
            end()

    async def _loss_and_return(self, ann: Person) -> bool:
        await self.far.kill()
        await self.near.down()
        try:
            await ann.read(timeout=IMPATIENT)
        except LabError:
            failed = True
        else:
            failed = False
        self.far.lamp.level = 9.0
        await self.far.start()
        await self.near.up()
        return failed and await ann.read() == 9.0


ABILITIES = {
    "read": "read a parameter",
    "write": "set it",
    "command": "call a command with an argument and a result",
    "array": "read an array",
    "error": "be told what the device says when a command fails",
    "lock": "lock the device against other clients of this lab",
    "far_lock": "lock it against clients of the far server",
    "loss": "be told that the far server is gone, and go on when it is back",
}
