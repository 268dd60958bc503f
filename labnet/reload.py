"""Changing a lab that runs: what differs between two configurations, and only that.

Devices and listeners that are the same in both are left alone, with their clients, locks and
leases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList

from labnet.config import Config, DeviceConfig, DialConfig, ServeConfig
from labnet.errors import LabError
from labnet.logs import Logger, set_levels

if TYPE_CHECKING:
    from labnet.service import LabService

log = Logger()

T = TypeVar("T")

#: Keys of a device that change while it goes on.
_LIVE = ("timeout", "retry", "longest_retry")


@dataclass(frozen=True)
class Part:
    """What becomes of the sections of one kind, by their names."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def ended(self) -> frozenset[str]:
        """What does not go on as it is."""
        return frozenset((*self.removed, *self.changed))

    @property
    def begun(self) -> frozenset[str]:
        """What is new, or is as good as new."""
        return frozenset((*self.added, *self.changed))


@dataclass(frozen=True)
class Plan:
    """What a new configuration changes. `settings` are sections that stand once, by their titles.

    `live` are devices of which only keys change that need no new beginning.
    """

    devices: Part = Part()
    serves: Part = Part()
    dials: Part = Part()
    live: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The plan in words; empty if nothing changes."""
        return [
            *_say("device", self.devices, ("added", "removed", "made anew")),
            *(f"device {name}: time limits changed" for name in self.live),
            *_say("serve", self.serves, ("opened", "closed", "closed and opened anew")),
            *_say("dial", self.dials, ("begun", "ended", "begun anew")),
            *(f"[{title}] changed" for title in self.settings),
        ]


def _say(kind: str, part: Part, words: tuple[str, str, str]) -> Iterator[str]:
    for names, word in zip((part.added, part.removed, part.changed), words, strict=True):
        yield from (f"{kind} {name}: {word}" for name in names)


def compare(old: Config, new: Config) -> Plan:
    """What has to change for a lab that runs `old` to be one of `new`."""
    devices = _part(old.devices, new.devices, _device_facts)
    devices = replace(devices, changed=_with_dependents(devices, new.devices))
    before = {device.name: device for device in old.devices}
    live = (
        device.name
        for device in new.devices
        if device.name in before and before[device.name].keys != device.keys
    )
    # A longer drain is a matter of each listener; it counts for those that begin.
    return Plan(
        devices,
        _part(old.serves, new.serves, _serve_facts),
        _part(old.dials, new.dials, _dial_facts),
        tuple(name for name in live if name not in devices.changed),
        tuple(_settings(old, new)),
    )


def _part(old: Sequence[Any], new: Sequence[Any], facts: Callable[[Any], Any]) -> Part:
    before = {it.name: facts(it) for it in old}
    after = {it.name: facts(it) for it in new}
    return Part(
        tuple(name for name in after if name not in before),
        tuple(name for name in before if name not in after),
        tuple(name for name in after if name in before and before[name] != after[name]),
    )


def _device_facts(device: DeviceConfig) -> Any:
    keys = {it.name: getattr(device.keys, it.name) for it in fields(device.keys)}
    kept = {name: value for name, value in keys.items() if name not in _LIVE}
    return kept, _facts(device, "section", "keys")


def _serve_facts(serve: ServeConfig) -> Any:
    facts = _facts(serve, "section")
    if serve.keys.devices == "*":
        facts.pop("devices")  # follows the devices by itself
    return facts


def _dial_facts(dial: DialConfig) -> Any:
    return _facts(dial, "section")


def _facts(record: Any, *left_out: str) -> dict[str, Any]:
    """The fields of a dataclass but some, in a form that can be compared."""
    found = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if field.name not in left_out:
            found[field.name] = dict(value) if isinstance(value, Mapping) else value
    return found


def _with_dependents(part: Part, devices: Iterable[DeviceConfig]) -> tuple[str, ...]:
    """The changed devices, and those that are made of changed or new ones."""
    ended, changed = set(part.begun) | part.ended, set(part.changed)
    for device in devices:  # in an order in which each comes after its parts
        if device.name not in part.added and ended & set(device.parts.values()):
            ended.add(device.name)
            changed.add(device.name)
    return tuple(device.name for device in devices if device.name in changed)


def _settings(old: Config, new: Config) -> Iterator[str]:
    for title in ("lab", "locks", "log", "discovery"):
        if getattr(old, title) != getattr(new, title):
            yield title


def plan_of(service: LabService, new: Config) -> Plan:
    """What `new` changes in a running lab; what could not listen before is tried again."""
    plan = compare(service.config, new)
    failed = {it.name for it in service.listeners() if it.gave_up}
    return replace(
        plan,
        serves=_again(plan.serves, [it.name for it in new.serves if it.name in failed]),
        dials=_again(plan.dials, [it.name for it in new.dials if f"dial {it.name}" in failed]),
    )


def _again(part: Part, names: list[str]) -> Part:
    more = [name for name in names if name not in part.begun]
    return replace(part, changed=(*part.changed, *more))


async def apply(service: LabService, new: Config) -> None:
    """Makes a running lab one of `new`; raises `LabError`, and changes nothing, if that cannot be.

    What goes wrong later is told by the service; the rest goes on.
    """
    plan = plan_of(service, new)
    made = _made(service, new, plan)
    await _end(service, plan)
    service.config = new
    lab = service.lab
    if lab is None:
        return  # stopped meanwhile
    service.made.update(made)
    for device in new.devices:
        if device.name in made:
            service.attach(device)
        elif device.name in plan.live:
            node = lab.devices()[device.name]
            node.device_queue.limit = device.keys.timeout
            lab.change_retry(node, device.keys.retry, device.keys.longest_retry)
    _set(service, new)
    await _begin(service, plan)
    if plan.devices != Part() or plan.serves != Part() or {"lab", "discovery"} & {*plan.settings}:
        await service.announce()
    log.info("reloaded: {changes}", changes="; ".join(plan.lines()) or "nothing has changed")


def _made(service: LabService, new: Config, plan: Plan) -> dict[str, Any]:
    """The new devices, made and not yet in the lab."""
    assert service.lab is not None
    for name in plan.devices.added:
        if name in service.lab.devices():
            raise LabError(f"[device {name}]: a client has brought a device called {name}")
    made: dict[str, Any] = {}
    for device in new.devices:
        if device.name in plan.devices.begun:
            known = {**service.made, **made}
            made[device.name] = device.make(known, service.lab.clock, service.dial)
    return made


async def _end(service: LabService, plan: Plan) -> None:
    """Listeners first, so that no client sees a device go under it that goes with its listener."""
    titles = {*plan.serves.ended, *(f"dial {name}" for name in plan.dials.ended)}
    ending = [it for it in service.listeners() if it.name in titles]
    await _all(Deferred.fromCoroutine(_disowned(it)) for it in ending)
    lab = service.lab
    if lab is not None:
        gone = [name for name in plan.devices.ended if name in lab.devices()]
        await _all(lab.detach(name) for name in gone)
        for name in gone:
            service.made.pop(name, None)


async def _disowned(listener: Any) -> None:
    await listener.disownServiceParent()


async def _begin(service: LabService, plan: Plan) -> None:
    config = service.config
    serves = [it for it in config.serves if it.name in plan.serves.begun]
    for serve in serves:
        service.bring(serve)
    begun: list[Any] = [service.listener(it) for it in serves]
    begun += [service.dialler(it) for it in config.dials if it.name in plan.dials.begun]
    for it in begun:
        it.setServiceParent(service)
    await _all(it.started for it in begun)


async def _all(waits: Iterable[Deferred[Any]]) -> None:
    waiting = list(waits)
    if waiting:
        await DeferredList(waiting, consumeErrors=True)


def _set(service: LabService, new: Config) -> None:
    """What needs no new beginning."""
    assert service.lab is not None
    set_levels(new.log.default, new.log.by_name)
    service.lab.set_policy(
        reads_open=new.locks.reads == "open",
        stop_open=new.locks.stop == "open",
        grace=new.locks.grace,
        may_break=new.locks.may_break,
    )
