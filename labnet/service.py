"""The service tree: the lab, its devices, one listener a section.

`LabService` runs a whole configuration under ``twistd``; `Lab` is for scripts:

    lab = Lab()
    lab.add("powermeter", PowerMeter())
    lab.serve("plesty", "tcp://127.0.0.1:5555", device="powermeter").startService()
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    DeferredLock,
    TimeoutError,
    gatherResults,
    succeed,
)
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from labnet import lab as kernel
from labnet.config import Config, DeviceConfig, DialConfig, ServeConfig
from labnet.device import Device
from labnet.endpoints import complete_address
from labnet.errors import LabError, NotConnected, UnknownName
from labnet.inifile import ConfigError, Section
from labnet.lab import Listener, ServeOptions
from labnet.logs import Logger, set_levels
from labnet.polling import Nobody
from labnet.registry import DeviceNode
from labnet.session import Session
from labnet.supervision import Retry
from labnet.wires.table import Wire, find_wire

if TYPE_CHECKING:
    from labnet.discovery.service import Discovery

OPENING = 5.0  # seconds that a listener waits for its device to tell what it has
OPENING_OF_SEVERAL = 1.0  # the same, for one that serves the others too
DRAIN = 5.0  # seconds that a listener or the devices may take to stop


class ListenerService(Service):
    """One wire at one address; `started` fires when it listens, or with None when it cannot.

    What it could not do is told to `failed`, by default to the log.
    """

    log = Logger()
    key = "listen"

    def __init__(
        self,
        host: Callable[[], kernel.Lab],
        wire: Wire,
        address: str,
        common: ServeOptions,
        options: Any,
        *,
        section: Section | None = None,
        drain: float = DRAIN,
        failed: Callable[[str], None] | None = None,
    ) -> None:
        self.wire = wire
        self.address = address
        self.common = common
        self.options = options
        self.listener: Listener | None = None
        self.started: Deferred[Listener | None] = succeed(None)
        self._host = host
        self._section = section
        self._drain = drain
        self._failed = failed or self._log_failure
        self._unwatch: Callable[[], None] | None = None
        if common.name:
            self.setName(common.name)

    def startService(self) -> None:
        """Begins to listen."""
        super().startService()
        self.started = Deferred.fromCoroutine(self._start())

    def stopService(self) -> Deferred[None]:
        """Stops listening; fires when the connections have ended, or the time for it is over."""
        super().stopService()
        self._wait_no_more()
        self.started.cancel()
        return Deferred.fromCoroutine(self._stop())

    @property
    def shown_device(self) -> str:
        """The device that is served, or ``*`` for several."""
        return self.common.device or "*"

    async def _start(self) -> Listener | None:
        try:
            self.listener = await self._listen()
        except CancelledError:
            return None
        except NotConnected as error:
            self._wait_for_device(str(error))
        except ConfigError as error:
            self._failed(str(error))
        except (LabError, CannotListenError, OSError, ValueError) as error:
            self._failed(self._problem(_reason(error)))
        except Exception as error:
            if not hasattr(error, "strerror"):  # ZMQ's errors have it, but are no OSError
                self.log.failure("{address} cannot be listened at", address=self.address)
            self._failed(self._problem(_reason(error)))
        return self.listener

    def _wait_for_device(self, why: str) -> None:
        """What is served is known only when its device is connected: begins to listen then."""
        self.log.warn("{name} waits: {why}", name=self._title(), why=why)
        self._unwatch = self._host().watch(self._device_came, lambda node: None)

    def _device_came(self, node: DeviceNode) -> None:
        paths = (self.common.device, *self.common.devices.values())
        if node.name in {path.partition(".")[0] for path in paths if path}:
            self._wait_no_more()
            self.started = Deferred.fromCoroutine(self._start())

    def _wait_no_more(self) -> None:
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()

    async def _listen(self) -> Listener:
        host = self._host()
        paths = [path for path in (self.common.device, *self.common.devices.values()) if path]
        if not isinstance(self.common.devices, kernel.AllDevices):  # they come as they come
            patience = OPENING if self.common.device else OPENING_OF_SEVERAL
            await _described(host, {path.partition(".")[0] for path in paths}, patience)
        for path in paths:
            self._check_part(host, path)
        return await self._open(host)

    async def _open(self, host: kernel.Lab) -> Listener:
        module = self.wire.load_server()
        listener: Listener = await module.listen(
            host, self.address, self.common, self.options, host.reactor
        )
        return listener

    def _check_part(self, host: kernel.Lab, path: str) -> None:
        """Raises an error that names the key for a part that the device has not."""
        try:
            host.registry.find(path)
        except UnknownName as error:
            if self._section is None:
                raise
            raise self._section.bad("device" if self.common.device else "devices", str(error))

    async def _stop(self) -> None:
        listener, self.listener = self.listener, None
        if listener is None:
            return
        stopping = Deferred.fromCoroutine(listener.stop())
        try:
            # It ends by itself within `drain`; the rest is for one that does not.
            await stopping.addTimeout(self._drain + 1.0, self._host().reactor)
        except TimeoutError:
            self.log.warn(
                "{name} has not stopped within {drain} s", name=self._title(), drain=self._drain
            )
        except Exception:
            self.log.failure("{name} did not stop cleanly", name=self._title())

    @property
    def gave_up(self) -> bool:
        """Whether it could not listen, and waits for nothing."""
        waits = self._unwatch is not None or not self.started.called
        return bool(self.running) and self.listener is None and not waits

    def _title(self) -> str:
        return self.common.name or f"{self.wire.name} at {self.address}"

    def _problem(self, reason: str) -> str:
        if self._section is None:
            return f"{self.wire.name} at {self.address}: {reason}"
        shown = self._section.text(self.key, self.address)
        return str(self._section.bad(self.key, f"{shown}: {reason}"))

    def _log_failure(self, problem: str) -> None:
        # Critical: that is what Twisted writes even in a script that has no log.
        self.log.critical("{problem}", problem=problem)


class DiallerService(ListenerService):
    """Offers one device to the program at one address, whenever that is there."""

    key = "connect"

    async def _open(self, host: kernel.Lab) -> Listener:
        dialler: Listener = await self.wire.load_dialler().dial(
            host, self.address, self.common, self.options, host.reactor
        )
        return dialler


async def _described(host: kernel.Lab, names: Collection[str], patience: float) -> None:
    """Waits for devices whose members are known only when they have been opened.

    Clients that came earlier would find them empty. One that cannot be opened keeps nobody waiting
    any longer than that takes, and for `patience` seconds at most.
    """
    nodes = [node for name, node in host.devices().items() if name in names]
    waits = [
        node.device_queue.run(
            bool,
            caller=Nobody(),
            verb="poll",
            needs=(),
            what=f"the opening of {node.path}",
            timeout=patience,
        )
        for node in nodes
        if node.device.described_late or not node.device.members
    ]
    if waits:
        await DeferredList(waits, consumeErrors=True)


def _reason(error: Exception) -> str:
    """Why something could not be opened, in the system's words where it has some."""
    if isinstance(error, CannotListenError):
        error = error.socketError
    strerror = getattr(error, "strerror", None)
    return str(strerror or error or type(error).__name__)


class Lab:
    """A lab for scripts: devices, and the wires that serve them.

    `policy` goes to the kernel's `labnet.lab.Lab`: ``reads_open``, ``stop_open``, ``grace`` (s).
    """

    def __init__(self, **policy: Any) -> None:
        self.host = kernel.Lab(**policy)

    def add(self, name: str, device: Any) -> DeviceNode:
        """Brings a device into the lab and opens it; ValueError for a name that is taken.

        `device` may be any object: an annotated one of yours, or one of PLESTY, sm_bluesky, QCoDeS
        or pymeasure.
        """
        if not isinstance(device, Device):
            from labnet.devices.objects.kinds import as_device

            device = as_device(device)
        return self.host.attach(name, device)

    def serve(
        self,
        wire: str,
        listen: str = "",
        *,
        device: str | None = None,
        devices: Mapping[str, str] | None = None,
        allow: Collection[kernel.Network] = (),
        timeout: float = 10.0,
        max_connections: int = 1000,
        **options: Any,
    ) -> ListenerService:
        """A service that serves one device, or several, over one wire; start it to listen.

        `listen` is a Twisted endpoint or a ZMQ address, by default the wire's usual port on
        127.0.0.1; `timeout` in seconds; `options` are the wire's own keys. Without `device` and
        `devices` all devices of the lab are served. Raises `UnknownName` for an unknown wire.
        """
        row = find_wire(wire)
        if device is None and devices is None and not row.brings:
            devices = {name: name for name in self.host.devices()}
        common = ServeOptions(
            device=device,
            devices=devices or {},
            allow=tuple(allow),
            timeout=timeout,
            max_connections=max_connections,
        )
        address = complete_address(listen or row.listen)
        chosen = row.load_server().Options(**options)
        return ListenerService(lambda: self.host, row, address, common, chosen)

    def dial(
        self,
        wire: str,
        connect: str = "",
        *,
        device: str,
        timeout: float = 10.0,
        **options: Any,
    ) -> DiallerService:
        """A service that offers one device to the program that waits at `connect`; start it to
        dial.

        `connect` is ``host:port`` or a Twisted endpoint, by default the wire's usual port on
        127.0.0.1; `timeout` in seconds; `options` are the wire's own keys. Raises `UnknownName` for
        an unknown wire, ValueError for one whose programs wait for no devices.
        """
        row = find_wire(wire)
        if not row.dialler:
            raise ValueError(f"programs of {wire} wait for no devices")
        module = row.load_dialler()
        common = ServeOptions(device=device, timeout=timeout)
        address = connect or f"127.0.0.1:{module.PORT}"
        chosen = module.Options(**options)
        return DiallerService(lambda: self.host, row, address, common, chosen)

    def session(self, name: str = "script", device: str | None = None) -> Session:
        """The script's own presence in the lab, to use its devices like any client."""
        return self.host.open_session("script", "this process", name=name, device=device)

    def stop(self, wait: float = DRAIN) -> Deferred[None]:
        """Closes all devices; fires when they are idle, or after `wait` seconds."""
        return self.host.stop(wait)


class LabService(MultiService):
    """A whole configuration; its children are the listeners and diallers, by their sections' names.

    Either all sections listen or none: when one fails, each failure is logged as one line and
    `end` is called with 1. `end` is called with 0 when a client that may do so ends the lab.
    With `raise_at_once` a failure that is known before `startService` returns is raised, too: so
    the process that becomes a daemon can still say it to whoever waits for it.
    """

    log = Logger()

    def __init__(
        self,
        config: Config,
        end: Callable[[int], None] | None = None,
        make_lab: Callable[..., kernel.Lab] = kernel.Lab,
        raise_at_once: bool = False,
    ) -> None:
        super().__init__()
        self._raise_at_once = raise_at_once
        self.config = config
        self.lab: kernel.Lab | None = None
        self.starting: Deferred[None] = succeed(None)
        self._end = end or (lambda status: None)
        self._make_lab = make_lab
        self._problems: list[str] = []
        self._reloading = DeferredLock()
        #: How the lab is found on the network, while it runs and its section says so.
        self.discovery: Discovery | None = None
        #: The devices of the configuration, by their names.
        self.made: dict[str, Device] = {}
        for serve in config.serves:
            self.listener(serve).setServiceParent(self)
        for dial in config.dials:
            self.dialler(dial).setServiceParent(self)

    def dialler(self, dial: DialConfig) -> DiallerService:
        """The service of a ``[dial NAME]``."""
        drain = self.config.lab.drain
        service = DiallerService(
            self._host,
            dial.wire,
            dial.connect,
            ServeOptions(dial.name, dial.device, timeout=dial.keys.timeout, drain=drain),
            dial.options,
            section=dial.section,
            drain=drain,
            failed=self._problems.append,
        )
        service.setName(dial.section.title)  # a [serve] may have the same name
        return service

    def listener(self, serve: ServeConfig) -> ListenerService:
        """The service of a ``[serve NAME]``."""
        common = replace(common_options(serve), drain=self.config.lab.drain)
        if serve.keys.devices == "*":
            common = replace(common, devices=kernel.AllDevices(self._host))
        return ListenerService(
            self._host,
            serve.wire,
            serve.listen,
            common,
            serve.options,
            section=serve.section,
            drain=self.config.lab.drain,
            failed=self._problems.append,
        )

    def _host(self) -> kernel.Lab:
        assert self.lab is not None, "the service has not been started"
        return self.lab

    def startService(self) -> None:
        """Makes the lab and its devices and begins to listen; `starting` fires when all is done.

        Raises `LabError` as `raise_at_once` says.
        """
        set_levels(self.config.log.default, self.config.log.by_name)
        self._problems.clear()
        locks = self.config.locks
        self.lab = self._make_lab(
            reads_open=locks.reads == "open",
            stop_open=locks.stop == "open",
            grace=locks.grace,
            may_break=locks.may_break,
            on_shut_down=lambda why: self._end(0),
        )
        self._add_devices(self.lab)
        if self._problems:
            Service.startService(self)
        else:
            super().startService()
        self.starting = Deferred.fromCoroutine(self._started())
        self.starting.addErrback(self._broken)
        if self._raise_at_once and self._problems:
            raise LabError(self._problems[0])

    def _add_devices(self, lab: kernel.Lab) -> None:
        self.made.clear()
        for device in self.config.devices:
            if not self.made.keys() >= set(device.parts.values()):
                continue  # why its part could not be made has been said
            try:
                self.made[device.name] = device.make(self.made, lab.clock, self.dial)
                self.attach(device)
            except LabError as error:
                self._problems.append(str(error))
        for serve in self.config.serves:
            self.bring(serve)

    def bring(self, serve: ServeConfig) -> None:
        """Brings the devices into the lab that the clients of a listener will be."""
        lab = self._host()
        for name, device in serve.brought().items():
            if name not in lab.devices():
                lab.attach(name, device, Retry(first=0.0))  # nobody here can make them come

    def attach(self, device: DeviceConfig) -> None:
        """Brings a device that was made into the lab."""
        retry = Retry(device.keys.retry, device.keys.longest_retry)
        node = self._host().attach(device.name, self.made[device.name], retry)
        node.device_queue.limit = device.keys.timeout

    def dial(self, wire: str, *args: Any, **options: Any) -> Any:
        """A client of a wire, for a device that is a server somewhere else."""
        return find_wire(wire).load_client()(*args, reactor=self._host().reactor, **options)

    async def _started(self) -> None:
        listeners = self.listeners()
        await gatherResults([service.started for service in listeners], consumeErrors=True)
        if not self.running:
            return
        if not self._problems:
            await self.announce()
        if self._problems:
            for problem in self._problems:
                self.log.error("{problem}", problem=problem)
            await self.stopService()
            self._end(1)
        else:
            self.log.info("{table}", table=start_table(self.config.lab.name, listeners))

    async def reload(self, config: Config) -> list[str]:
        """Changes what is different in `config`, and nothing else; what could not be done.

        Raises `LabError`, and changes nothing, if a device of it cannot be made.
        """
        from labnet.reload import apply

        await self.starting
        self._problems.clear()
        await self._reloading.run(apply, self, config)
        return list(self._problems)

    async def announce(self) -> None:
        """Lets the lab be found on the network, if its section says so."""
        discovery, self.discovery = self.discovery, None
        if discovery is not None:
            await discovery.stop()
        services, keys = self.listeners(), self.config.discovery
        if keys is None:
            return
        from labnet.discovery.service import Discovery, listening

        lab = self._host()
        self.discovery = Discovery(keys, self.config.lab.name, lab.devices(), lab.reactor)
        found = [
            listening(
                it.wire.name, it.listener.address, served_names(it.common, lab), it.listener.example
            )
            for it in services
            if it.listener is not None and not isinstance(it, DiallerService)
        ]
        try:
            await self.discovery.start([listener for listener in found if listener is not None])
        except LabError as error:
            self._problems.append(f"[discovery]: {error}")

    def _broken(self, failure: Failure) -> None:
        self.log.failure("the lab could not be started", failure)
        self._end(1)

    def listeners(self) -> list[ListenerService]:
        """The services of the listeners, in the order of their sections."""
        return [service for service in self.services if isinstance(service, ListenerService)]

    def stopService(self) -> Deferred[None]:
        """Stops the listeners, then the devices; fires within bounded time, whatever hangs."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        lab = self.lab
        begun = 0.0 if lab is None else lab.clock.seconds()
        discovery, self.discovery = self.discovery, None
        if discovery is not None:
            await discovery.stop()
        if self.running:
            await super().stopService()
        lab, self.lab = self.lab, None
        if lab is None:
            return
        # Calls in progress have had their time while the listeners stopped.
        drain = self.config.lab.drain
        drain = max(min(1.0, drain), drain - (lab.clock.seconds() - begun))
        try:
            await lab.stop(drain).addTimeout(drain + 1.0, lab.reactor)
        except TimeoutError:
            self.log.warn("devices have not stopped within {drain} s", drain=drain)


def common_options(serve: ServeConfig) -> ServeOptions:
    """What every wire's ``listen`` is told about its section."""
    return ServeOptions(
        name=serve.name,
        device=serve.device,
        devices=serve.devices,
        allow=serve.keys.allow,
        timeout=serve.keys.timeout,
        max_connections=serve.keys.max_connections,
        allow_shutdown=serve.keys.allow_shutdown,
    )


def served_names(common: ServeOptions, lab: kernel.Lab) -> Mapping[str, str]:
    """The devices of a listener by the wire's names for them; one alone may have none."""
    if common.device is not None:
        return {"": common.device}
    return common.devices or {name: name for name in lab.devices()}


def start_table(name: str, services: Sequence[ListenerService]) -> str:
    """What is served where, with a line to paste for each: one row a listener."""
    rows = [("device", "wire", "address", "try")]
    count = 0
    for service in services:
        listener = service.listener
        if listener is not None:
            count += not isinstance(service, DiallerService)
            rows.append(
                (service.shown_device, service.wire.name, listener.address, listener.example)
            )
    title = f"{name} serves at {count} address{'' if count == 1 else 'es'}"
    return "\n".join([title, *format_rows(rows)])


def format_rows(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """`rows` as lines, their columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
