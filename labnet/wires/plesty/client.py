"""A client of PLESTY device servers, of labnet's own, and of PLESTY's bench agent.

    client = await PlestyClient("tcp://127.0.0.1:5555", resources=["stage"]).connect()
    wavelength = await client.query("wavelength")
    await client.zero(seconds=2.0)          # any operation that the server describes
    await client.close()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self
from uuid import uuid4

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from labnet.errors import DeviceFault, LabError, NotConnected, OutOfRange, TimedOut
from labnet.logs import Logger
from labnet.wires.plesty.catchup import CatchUp
from labnet.wires.plesty.conversation import Conversation, Link

DISCONNECT_TIMEOUT: Final = 30.0
"""Seconds that the server is given for ``disconnect``."""

PAUSE: Final = 0.2
"""Seconds between two connections under one name, for the server to take note of the first's end.

(libzmq does so in several steps; a new connection that comes in between is never read.)
"""


class Verbs:
    """What can be asked of one device, by whichever way requests travel.

    `methods` are the operations that the server describes, each also a method of this object;
    `budgets` the seconds that some of them may need; `doc` the description of parameters and
    operations, None where the server has none.
    """

    def __init__(self) -> None:
        self.methods: tuple[str, ...] = ()
        self.budgets: dict[str, float] = {}
        self.doc: dict[str, Any] | None = None
        self.description: dict[str, Any] = {}

    def request(
        self, type: str, fields: Mapping[str, Any], what: str = "", timeout: float | None = None
    ) -> Deferred[Any]:
        """Sends one request and gives its result; `timeout` (s) is the server's time for it."""
        raise NotImplementedError

    def query(self, param: str, timeout: float | None = None) -> Deferred[Any]:
        """The value of a parameter."""
        return self.request("query", {"param": param, "timeout": timeout}, param, timeout)

    def write(self, param: str, value: Any, timeout: float | None = None) -> Deferred[bool]:
        """Sets a parameter; False where the device refused without a reason."""
        fields = {"param": param, "value": value, "timeout": timeout}
        return self.request("write", fields, param, timeout)

    def call(
        self, func: str, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Deferred[Any]:
        """Runs an operation; without `timeout` (s), its budget is the time limit, if it has one."""
        seconds = self.budgets.get(func) if timeout is None else timeout
        fields = {"func": func, "args": args, "kwargs": kwargs, "timeout": seconds}
        return self.request("call", fields, func, seconds)

    def identity(self) -> Deferred[str]:
        """Maker, model, serial number and firmware of the device."""
        return self.call("identity")

    def get_config_list(self) -> Deferred[list[str]]:
        """The keys of all parameters."""
        return self.call("get_config_list")

    def help(self) -> Deferred[str]:
        """The device in words."""
        return self.request("help", {}, "help").addCallback(_help_of)

    def describe(self) -> Deferred[dict[str, Any]]:
        """Asks again what the server describes, and keeps it."""
        return self.request("describe", {}, "describe").addCallback(self.described)

    def described(self, result: Any) -> dict[str, Any]:
        """Keeps a description; `DeviceFault` when it is none."""
        if not isinstance(result, dict):
            raise DeviceFault("the server's description is not an object", "ProtocolError")
        names, budgets = result.get("methods"), result.get("budgets")
        self.description = result
        self.methods = tuple(map(str, names)) if isinstance(names, list) else ()
        self.budgets = _numbers(budgets) if isinstance(budgets, dict) else {}
        self.doc = result.get("doc")
        return result

    def __getattr__(self, name: str) -> Callable[..., Deferred[Any]]:
        if name in self.__dict__.get("methods", ()):
            return lambda *args, **kwargs: self.call(name, *args, **kwargs)
        raise AttributeError(f"the server describes no operation {name!r}")


class PlestyClient(Verbs):
    """A connection to one device server (DEALER socket, JSON).

    `resources` are locked by `connect`, all or none, and again after a lost connection.
    `client_id` is the name under which they are held (1 to 255 bytes of UTF-8; made up if None).
    `timeout` (s) is how long an answer may take where a request does not say. `connect_kwargs` go
    with ``connect`` as metadata: labnet's servers understand ``lease`` (s) and ``token``.

    All Deferreds fail with a `labnet.errors.LabError`: `TimedOut`, `NotConnected`, `Locked` or
    `NotAllowed` (a refused lock), `UnknownName`, `WrongType`, `OutOfRange`, `NotWritable`, and
    `DeviceFault` with the server's exception class as its `kind` for everything else.
    """

    _log = Logger()

    def __init__(
        self,
        address: str,
        *,
        resources: Any = (),
        client_id: str | None = None,
        timeout: float = 5.0,
        connect_kwargs: Mapping[str, Any] | None = None,
        reactor: Any = None,
    ) -> None:
        super().__init__()
        if reactor is None:
            from twisted.internet import reactor
        if client_id is not None and not 1 <= len(client_id.encode()) <= 255:
            raise ValueError("client_id must be 1 to 255 bytes long")
        self.address = address
        self.client_id = client_id or _made_up_name()
        self.timeout = timeout
        self.resources: tuple[str, ...] = ()
        self.connection_info: dict[str, Any] = {}
        self._wanted = list(resources) if isinstance(resources, (tuple, set)) else resources
        self._metadata = dict(connect_kwargs or {})
        self._named = client_id is not None
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._catching_up: CatchUp | None = None
        self._pause: Deferred[None] = succeed(None)
        self._announced = False
        self._on_lost: Callable[[], None] | None = None
        self._watched: Any = None
        self._state = "new"
        self._talk = Conversation(self._dial, self._worn, self._clock)

    # -- life --------------------------------------------------------------------------------

    async def connect(self) -> Self:
        """Announces this client, takes its locks, learns what the server can do.

        Falls back to a plain description for servers older than ``connect``. When it fails, the
        socket is closed and nothing stays locked.
        """
        if self._state != "new":
            raise NotConnected(f"this client of {self.address} was connected already")
        self._state = "greeting"
        try:
            self._talk.open()
            await self._greet()
        except BaseException as error:
            await self._abandon(error)
            raise
        self._state = "ready"
        self._talk.release()
        return self

    async def lock(self, resources: Sequence[str]) -> tuple[str, ...]:
        """Holds these resources instead of those held before, all or none; none frees them all.

        What the server calls them; they are taken again after a lost connection.
        """
        info = await self.request("connect", {"resources": list(resources)}, "connect")
        held = info.get("resources") if isinstance(info, dict) else None
        self._wanted = list(resources)
        self.resources = tuple(map(str, held)) if isinstance(held, list) else ()
        return self.resources

    async def close(self) -> None:
        """Gives the locks back, waits for the server's word, then closes the socket."""
        if self._state == "closed":
            return
        self._state = "closed"
        self._pause.cancel()
        self._talk.fail(self._not_connected())
        if self.resources and not self._talk.numbered and self._catching_up is None:
            await self._talk.quiet()  # else nobody could tell which answer is which
        if self._announced and self._talk.free:
            await self._say_goodbye()
        await self._talk.hang_up()

    def abort(self) -> Deferred[None]:
        """Closes the socket without a word, as when the server is gone; what waits fails."""
        self._state = "closed"
        self._pause.cancel()
        self._talk.fail(self._not_connected())
        return self._talk.hang_up()

    async def _greet(self) -> None:
        await self._announce()
        # labnet's servers echo the id; to the peer's own it is one of the keys that it ignores
        self.described(await self._talk.first("describe", {}, self.timeout, number=True))

    async def _announce(self) -> None:
        fields = {"resources": self._wanted, **self._metadata}
        try:
            info = await self._talk.first("connect", fields, self.timeout)
        except DeviceFault as error:
            if "unknown request type" not in str(error).lower():
                raise
            return  # a server of version 0.1: it has neither names of clients nor locks
        self._announced = True
        self.connection_info = info if isinstance(info, dict) else {}
        held = self.connection_info.get("resources")
        self.resources = tuple(map(str, held)) if isinstance(held, list) else ()

    async def _say_goodbye(self) -> None:
        self._announced = False
        try:
            limit = self.timeout
            await self._talk.first("disconnect", {"timeout": DISCONNECT_TIMEOUT}, limit)
        except LabError as error:
            self._log.debug("no goodbye from {address}: {error}", address=self.address, error=error)
        self.resources = ()

    async def _abandon(self, error: BaseException) -> None:
        """After a failed start: no lock stays behind, no socket stays open."""
        self._state = "new"
        if self._announced and not isinstance(error, TimedOut):
            await self._say_goodbye()
        self._announced = False
        await self._talk.hang_up()
        self._talk.fail(self._not_connected())

    # -- requests ----------------------------------------------------------------------------

    def request(
        self, type: str, fields: Mapping[str, Any], what: str = "", timeout: float | None = None
    ) -> Deferred[Any]:
        if self._state != "ready":
            return fail(self._not_connected())
        limit = self.timeout
        if timeout is not None:
            if not timeout > 0:
                return fail(OutOfRange("timeout", timeout, low=0.0))
            limit = max(limit, timeout + max(1.0, 0.2 * timeout))
        return self._talk.submit(type, fields, what or type, limit)

    def _not_connected(self) -> NotConnected:
        return NotConnected(f"not connected to {self.address}")

    # -- the socket --------------------------------------------------------------------------

    def _dial(self, received: Callable[[Sequence[bytes]], None]) -> Link:
        from labnet.transports.zmq import DealerConnection

        link = DealerConnection(
            self.address, received, identity=self.client_id.encode(), reactor=self._reactor
        )
        self._watched = link
        link.watch(self._on_lost)
        return link

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """Calls ``callback()`` when the connection has ended without this client's doing.

        The client connects again by itself; requests that are in flight are not answered any more.
        """
        self._on_lost = callback
        if self._watched is not None:
            self._watched.watch(callback)

    def _worn(self) -> None:
        """The socket was thrown away: a new one takes its place, under the same name if need be."""
        if self._state == "ready":
            restarted = Deferred.fromCoroutine(self._restart())
            restarted.addErrback(self._restart_failed)

    async def _restart(self) -> None:
        if self._catching_up is None or not self._catching_up.hopeful:
            await self._replace_link()
        if self._state != "ready":
            return
        if self._catching_up is not None:
            await self._catching_up.wait(self.timeout)
            self._catching_up, self._talk.owed = None, 0
        await self._greet()
        self._talk.release()

    async def _replace_link(self) -> None:
        """A new socket, under the same name if anything depends on that."""
        self._catching_up = None
        closed = self._talk.hang_up()
        same = self._named or bool(self.resources)
        if same:
            # two live connections of one name: the server would never read from the second one
            self._wanted = list(self.resources) or self._wanted
            await closed
            await self._rest()
        else:
            self.client_id, self._talk.owed = _made_up_name(), 0
        if self._state == "ready":
            self._talk.open()
            if same and not self._talk.numbered:
                self._catching_up = CatchUp(self._talk, self._clock)

    async def _rest(self) -> None:
        if self._state != "ready":
            return
        self._pause = deferLater(self._clock, PAUSE)
        try:
            await self._pause
        except CancelledError:
            pass  # closed meanwhile

    def _restart_failed(self, failure: Failure) -> None:
        """Whoever waits is told; the next request tries again."""
        error = failure.value
        if not isinstance(error, LabError):
            self._log.error("{error} at {address}", error=error, address=self.address)
        if isinstance(error, (TimedOut, NotConnected)) or not isinstance(error, LabError):
            error = NotConnected(f"no answer from {self.address} within {self.timeout:g} s")
        if self._catching_up is None or not self._catching_up.hopeful:
            self._catching_up = None
            self._talk.hang_up()
        self._talk.fail(error)


class PlestyBench(PlestyClient):
    """A connection to a bench agent, which passes requests on to many devices by name.

    `token` is sent with every request, as benches with a token ask for it.
    """

    def __init__(self, address: str, *, token: str = "", **options: Any) -> None:
        super().__init__(address, **options)
        self.token = token

    async def _announce(self) -> None:
        """An agent takes no announcement; it keeps neither names of clients nor locks."""

    def device(self, name: str) -> BenchDevice:
        """The device that the bench calls `name`; await its `describe` to use its operations."""
        return BenchDevice(self, name)


class BenchDevice(Verbs):
    """One device of a bench."""

    def __init__(self, bench: PlestyBench, name: str) -> None:
        super().__init__()
        self.bench = bench
        self.name = name

    def request(
        self, type: str, fields: Mapping[str, Any], what: str = "", timeout: float | None = None
    ) -> Deferred[Any]:
        outer: dict[str, Any] = {"name": self.name, "request": {"type": type, **fields}}
        if self.bench.token:
            outer["token"] = self.bench.token
        return self.bench.request("device", outer, f"{self.name}: {what or type}", timeout)


def _made_up_name() -> str:
    return f"client-{uuid4().hex}"


def _help_of(result: Any) -> str:
    return str(result.get("help", "")) if isinstance(result, dict) else str(result)


def _numbers(budgets: Mapping[str, Any]) -> dict[str, float]:
    return {
        str(name): float(seconds)
        for name, seconds in budgets.items()
        if isinstance(seconds, (int, float)) and 0 < seconds < 1e9
    }
