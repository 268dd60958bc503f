"""The near end of a chain: what a client of each wire does with the lamp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import reactor

from labnet.errors import LabError, TimedOut
from labnet.testing import Served
from labnet.wires.pymodaq.control import Modules
from labnet.wires.pymodaq.module import Manners
from labnet.wires.table import find_wire
from tests.chain.far import Names, dialled

#: Seconds that a client has for what nobody will answer.
IMPATIENT = 0.25


class Person(Protocol):
    """Somebody with a program for one wire."""

    async def read(self, timeout: float | None = None) -> float:
        """The level."""

    async def write(self, value: float) -> None:
        """Sets it."""

    async def double(self, x: float) -> float:
        """The command with an argument and a result."""

    async def spectrum(self) -> list[float]:
        """The array."""

    async def burn(self) -> str:
        """What is told of the command that fails."""

    async def lock(self) -> None:
        """Locks the lamp."""

    async def unlock(self) -> None:
        """Frees it."""

    async def try_to_write(self, value: float) -> str:
        """What is told when the lamp is another's."""

    async def leave(self) -> None:
        """Ends the connection."""


class Telling:
    """What all have in common: an error is told as its text."""

    async def told(self, work: Any) -> str:
        try:
            await work
        except LabError as error:
            return str(error) or type(error).__name__
        return ""


class TsvPerson(Telling):
    """sm_bluesky's lines; locks need a connection that stays."""

    def __init__(self, served: Any, names: Names) -> None:
        self.names = names
        self.client = served.client(persistent=True, timeout=5.0)
        self.token = ""

    async def read(self, timeout: float | None = None) -> float:
        return float((await self.client.get(self.names.level, timeout=timeout)).text)

    async def write(self, value: float) -> None:
        if self.names.setter:
            await self.client.send(self.names.setter, value)
        else:
            await self.client.set("level", value)

    async def double(self, x: float) -> float:
        return float((await self.client.send("double", x)).text)

    async def spectrum(self) -> list[float]:
        return [float(field) for field in (await self.client.send("spectrum")).fields]

    async def burn(self) -> str:
        return await self.told(self.client.send("burn"))

    async def lock(self) -> None:
        self.token = await self.client.lock("lamp", "ann")

    async def unlock(self) -> None:
        await self.client.unlock(self.token)

    async def try_to_write(self, value: float) -> str:
        return await self.told(self.write(value))

    async def leave(self) -> None:
        await self.client.close()


class PlestyPerson(Telling):
    """PLESTY's JSON."""

    def __init__(self, served: Any, names: Names) -> None:
        self.names = names
        self.client = served.client(timeout=5.0)
        self.connected = False

    async def _client(self) -> Any:
        if not self.connected:
            self.connected = True
            await self.client.connect()
        return self.client

    async def read(self, timeout: float | None = None) -> float:
        return float(await (await self._client()).query(self.names.level, timeout=timeout))

    async def write(self, value: float) -> None:
        client = await self._client()
        if self.names.setter:
            await client.call(self.names.setter, value)
        else:
            await client.write("level", value)

    async def double(self, x: float) -> float:
        return float(await (await self._client()).call("double", x))

    async def spectrum(self) -> list[float]:
        return [float(item) for item in await (await self._client()).query("spectrum")]

    async def burn(self) -> str:
        return await self.told((await self._client()).call("burn"))

    async def lock(self) -> None:
        await (await self._client()).lock(["lamp"])

    async def unlock(self) -> None:
        await self.client.lock([])

    async def try_to_write(self, value: float) -> str:
        return await self.told(self.write(value))

    async def leave(self) -> None:
        await self.client.close()


class RoguePerson(Telling):
    """PyRogue's pickles."""

    def __init__(self, served: Any, names: Names) -> None:
        self.names = names
        self.client = served.client(timeout=5.0)

    async def read(self, timeout: float | None = None) -> float:
        return float(await self.client.get(f"lab.lamp.{self.names.level}", timeout=timeout))

    async def write(self, value: float) -> None:
        if self.names.setter:
            await self.client.exec(f"lab.lamp.{self.names.setter}", value)
        else:
            await self.client.set("lab.lamp.level", value)

    async def double(self, x: float) -> float:
        return float(await self.client.exec("lab.lamp.double", x))

    async def spectrum(self) -> list[float]:
        return [float(item) for item in await self.client.get("lab.lamp.spectrum")]

    async def burn(self) -> str:
        return await self.told(self.client.exec("lab.lamp.burn"))

    async def lock(self) -> None:
        await self.client.exec("lab.Locks.Lock", "lamp")

    async def unlock(self) -> None:
        await self.client.exec("lab.Locks.Unlock")

    async def try_to_write(self, value: float) -> str:
        return await self.told(self.write(value))

    async def leave(self) -> None:
        await self.client.close()


class PymodaqPerson(Telling):
    """A program of PyMoDAQ's that listens, and is offered the level as an actuator."""

    def __init__(self, served: Any, names: Names) -> None:
        self.lab = served.lab
        self.device = "lamp.level" if names.level == "level" else "lamp"
        self.modules = Modules(reactor, Manners(quiet=0.05))  # type: ignore[arg-type]
        self._actuator: Any = None
        self._port: Any = None
        self._offer: Any = None

    async def actuator(self) -> Any:
        if self._actuator is None:
            self._port = reactor.listenTCP(0, self.modules, interface="127.0.0.1")  # type: ignore[attr-defined]
            port = self._port.getHost().port
            self._offer = await dialled("pymodaq", self.lab, port, self.device)
            self._actuator = await self.modules.actuator()
        return self._actuator

    async def read(self, timeout: float | None = None) -> float:
        reading = (await self.actuator()).position()
        return float(await reading.addTimeout(timeout or 5.0, reactor, _late))  # type: ignore[arg-type]

    async def write(self, value: float) -> None:
        await (await self.actuator()).move_abs(value)

    async def try_to_write(self, value: float) -> str:
        return await self.told(self.write(value))

    async def leave(self) -> None:
        if self._offer is not None:
            offer, self._offer = self._offer, None
            await offer.stop()
            self.modules.close()
            await self._port.stopListening()


def _late(result: Any, seconds: float) -> Any:
    raise TimedOut("the position", seconds)


class MessagePerson(Telling):
    """SCPI, over any of the wires that carry messages."""

    def __init__(self, served: Any, names: Names) -> None:
        self.names = names
        self.client = _message_client(served)
        self._header = names.level.upper()
        self._setter = (names.setter or names.level).replace("_", ":").upper()

    async def read(self, timeout: float | None = None) -> float:
        return float(await self.client.query(f"{self._header}?", timeout=timeout))

    async def write(self, value: float) -> None:
        await self.client.write(f"{self._setter} {value}")
        assert (await self.client.query("SYST:ERR?")).startswith("0")

    async def double(self, x: float) -> float:
        return float(await self.client.query(f"DOUBLE? {x}"))

    async def spectrum(self) -> list[float]:
        return [float(item) for item in (await self.client.query("SPECTRUM?")).split(",")]

    async def burn(self) -> str:
        await self.client.write("BURN")
        number, _, text = (await self.client.query("SYST:ERR?")).partition(",")
        return text if int(number) else ""

    async def lock(self) -> None:
        await self.client.lock()

    async def unlock(self) -> None:
        await self.client.unlock()
        await self.client.query("*IDN?")  # what a raw socket has sent has now been done

    async def try_to_write(self, value: float) -> str:
        message = f"{self._setter} {value};{self._header}?"
        return await self.told(self.client.query(message, timeout=IMPATIENT))

    async def leave(self) -> None:
        await self.client.close()


def _message_client(served: Served) -> Any:
    make = find_wire(served.wire).load_client()
    if served.wire == "vxi11":
        return make("127.0.0.1", port=served.port, timeout=5.0)
    if served.wire == "scpi":
        return make(f"127.0.0.1:{served.port}", timeout=5.0)
    return make("127.0.0.1", served.port, timeout=5.0)


PEOPLE: dict[str, Callable[[Any, Names], Any]] = {
    "tsv": TsvPerson,
    "plesty": PlestyPerson,
    "rogue": RoguePerson,
    "pymodaq": PymodaqPerson,
    "scpi": MessagePerson,
    "vxi11": MessagePerson,
    "hislip": MessagePerson,
    "vicp": MessagePerson,
}
