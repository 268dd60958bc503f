"""The near end of a chain: what a client of each wire does with the lamp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from labnet.errors import LabError
from labnet.testing import Served
from labnet.wires.pymodaq import Modules
from labnet.wires.table import find_wire

#: Seconds that a client has for what nobody will answer.
IMPATIENT = 0.25


class NoWords(Exception):
    """The wire has no words for it."""


class Person(Protocol):
    """Somebody with a program for one wire."""

    async def read(self, timeout: float | None = None) -> float:
        """The level."""

    async def write(self, value: float) -> None:
        """Sets it."""

    async def double(self, x: float) -> float:
        """The command with an argument and a result."""

    async def spectrum(self, by_command: bool = False) -> list[float]:
        """The array, which is a parameter or what a command answers."""

    async def burn(self) -> str:
        """What is told of the command that fails."""

    async def lock(self) -> None:
        """Locks the lamp; raises `NoWords`."""

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

    def __init__(self, served: Served) -> None:
        self.client = served.client(persistent=True, timeout=5.0)
        self.token = ""

    async def read(self, timeout: float | None = None) -> float:
        return float((await self.client.get("level", timeout=timeout)).text)

    async def write(self, value: float) -> None:
        await self.client.set("level", value)

    async def double(self, x: float) -> float:
        return float((await self.client.send("double", x)).text)

    async def spectrum(self, by_command: bool = False) -> list[float]:
        return [float(field) for field in (await self.client.send("spectrum")).fields]

    async def burn(self) -> str:
        return await self.told(self.client.send("burn"))

    async def lock(self) -> None:
        self.token = await self.client.lock("lamp", "ann")

    async def unlock(self) -> None:
        await self.client.unlock(self.token)

    async def try_to_write(self, value: float) -> str:
        return await self.told(self.client.set("level", value))

    async def leave(self) -> None:
        await self.client.close()


class PlestyPerson(Telling):
    """PLESTY's JSON."""

    def __init__(self, served: Served) -> None:
        self.client = served.client(timeout=5.0)
        self.connected = False

    async def _client(self) -> Any:
        if not self.connected:
            self.connected = True
            await self.client.connect()
        return self.client

    async def read(self, timeout: float | None = None) -> float:
        return float(await (await self._client()).query("level", timeout=timeout))

    async def write(self, value: float) -> None:
        await (await self._client()).write("level", value)

    async def double(self, x: float) -> float:
        return float(await (await self._client()).call("double", x))

    async def spectrum(self, by_command: bool = False) -> list[float]:
        client = await self._client()
        ask = client.call if by_command else client.query
        array = await ask("spectrum")
        # A frame has a label, and perhaps axes, which come with it.
        return [float(item) for item in (array["data"] if isinstance(array, dict) else array)]

    async def burn(self) -> str:
        return await self.told((await self._client()).call("burn"))

    async def lock(self) -> None:
        await (await self._client()).lock(["lamp"])

    async def unlock(self) -> None:
        await self.client.lock([])

    async def try_to_write(self, value: float) -> str:
        return await self.told((await self._client()).write("level", value))

    async def leave(self) -> None:
        await self.client.close()


class RoguePerson(Telling):
    """PyRogue's pickles."""

    def __init__(self, served: Served) -> None:
        self.client = served.client(timeout=5.0)

    async def read(self, timeout: float | None = None) -> float:
        return float(await self.client.get("lab.lamp.level", timeout=timeout))

    async def write(self, value: float) -> None:
        await self.client.set("lab.lamp.level", value)

    async def double(self, x: float) -> float:
        return float(await self.client.exec("lab.lamp.double", x))

    async def spectrum(self, by_command: bool = False) -> list[float]:
        ask = self.client.exec if by_command else self.client.get
        return [float(item) for item in await ask("lab.lamp.spectrum")]

    async def burn(self) -> str:
        return await self.told(self.client.exec("lab.lamp.burn"))

    async def lock(self) -> None:
        await self.client.exec("lab.Locks.Lock", "lamp")

    async def unlock(self) -> None:
        await self.client.exec("lab.Locks.Unlock")

    async def try_to_write(self, value: float) -> str:
        return await self.told(self.client.set("lab.lamp.level", value))

    async def leave(self) -> None:
        await self.client.close()


class MessagePerson(Telling):
    """SCPI, over any of the wires that carry messages."""

    def __init__(self, served: Served) -> None:
        self.client = _message_client(served)

    async def read(self, timeout: float | None = None) -> float:
        return float(await self.client.query("LEVEL?", timeout=timeout))

    async def write(self, value: float) -> None:
        await self.client.write(f"LEVEL {value}")
        error = await self.client.query("SYST:ERR?")
        assert error.startswith("0"), error

    async def double(self, x: float) -> float:
        return float(await self.client.query(f"DOUBLE? {x}"))

    async def spectrum(self, by_command: bool = False) -> list[float]:
        return [float(item) for item in (await self.client.query("SPECTRUM?")).split(",")]

    async def burn(self) -> str:
        await self.client.write("BURN")
        await self.client.query("*OPC?")  # it may take its time
        number, _, text = (await self.client.query("SYST:ERR?")).partition(",")
        return text if int(number) else ""

    async def lock(self) -> None:
        await self.client.lock()

    async def unlock(self) -> None:
        await self.client.unlock()
        await self.client.query("*IDN?")  # what a raw socket has sent has now been done

    async def try_to_write(self, value: float) -> str:
        return await self.told(self.client.query(f"LEVEL {value};LEVEL?", timeout=IMPATIENT))

    async def leave(self) -> None:
        await self.client.close()


class PymodaqPerson(Telling):
    """A program of PyMoDAQ, which waits for the modules that the lab offers it."""

    def __init__(self) -> None:
        clock: Any = reactor
        self.modules = Modules(clock)
        self._port = clock.listenTCP(0, self.modules, interface="127.0.0.1")
        self._actuator: Any = None
        self._detector: Any = None

    def sections(self) -> str:
        """What stands in the file of the lab that offers it the lamp."""
        port = self._port.getHost().port
        return _OFFERED_HERE.format(port=port)

    async def come(self) -> None:
        """Both modules are there."""
        self._actuator = await self.modules.actuator()
        self._detector = await self.modules.grabber()

    async def read(self, timeout: float | None = None) -> float:
        asked: Deferred[float] = self._actuator.position()
        return await asked

    async def write(self, value: float) -> None:
        await self._actuator.set(("level",), value)

    async def double(self, x: float) -> float:
        return float(await self._actuator.move_abs(x))

    async def spectrum(self, by_command: bool = False) -> list[float]:
        (array,) = (await self._detector.grab("1D")).arrays
        return [float(item) for item in array]

    async def burn(self) -> str:
        return await self.told(self._actuator.move_home())

    async def lock(self) -> None:
        raise NoWords

    async def unlock(self) -> None:
        raise NoWords

    async def try_to_write(self, value: float) -> str:
        return await self.told(self.write(value))

    async def leave(self) -> None:
        self.modules.close()
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()


_OFFERED_HERE = """
[dial mover-{port}]
wire = pymodaq
device = mover
connect = 127.0.0.1:{port}
[dial spectrum-{port}]
wire = pymodaq
device = lamp
as = GRABBER
channels = spectrum
connect = 127.0.0.1:{port}
"""

#: The wires whose programs wait for devices, as those do of which the lab is dialled.
PROGRAMS: dict[str, Callable[[], PymodaqPerson]] = {"pymodaq": PymodaqPerson}


def _message_client(served: Served) -> Any:
    make = find_wire(served.wire).load_client()
    if served.wire == "vxi11":
        return make("127.0.0.1", port=served.port, timeout=5.0)
    if served.wire == "scpi":
        return make(f"127.0.0.1:{served.port}", timeout=5.0)
    return make("127.0.0.1", served.port, timeout=5.0)


PEOPLE: dict[str, Callable[[Served], Person]] = {
    "tsv": TsvPerson,
    "plesty": PlestyPerson,
    "rogue": RoguePerson,
    "scpi": MessagePerson,
    "vxi11": MessagePerson,
    "hislip": MessagePerson,
    "vicp": MessagePerson,
}
