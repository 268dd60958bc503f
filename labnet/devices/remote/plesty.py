"""PLESTY device servers, and labnet's own, as devices here: described by ``describe``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed

from labnet.devices.declared import Declared, DeclaredParameter
from labnet.devices.remote.base import Clock, Dial, Found, RemoteDevice, or_nothing
from labnet.devices.remote.instrument import read_identity
from labnet.errors import DeviceFault, LabError, Locked
from labnet.specs import ArgumentSpec
from labnet.values import (
    ANY,
    BOOL,
    BYTES,
    COMPLEX,
    FLOAT,
    INT,
    NONE,
    STR,
    EnumKind,
    Kind,
    Limits,
    OptionalKind,
    kind_of,
)

_KINDS: Final[Mapping[str, Kind]] = {
    "bool": BOOL, "int": INT, "float": FLOAT, "complex": COMPLEX, "str": STR, "bytes": BYTES,
    "None": NONE, "list": kind_of(list), "dict": kind_of(dict),
}  # fmt: skip

#: Operations of every server that are something else here.
_STOCK: Final = frozenset(
    (
        "identity", "write", "query", "get_config_list", "get_group_list", "summary", "doc_model",
        "check_operatability", "connect", "disconnect", "describe", "help", "close",
    )
)  # fmt: skip

_LONG: Final = ("motion", "acquire")

SIGN_OF_LIFE: Final = 3.0
"""Seconds that a server has for a sign of life; it answers that past all calls of its device."""


class PlestyDevice(RemoteDevice):
    """A PLESTY device server.

    Args:
        address: the server's ZMQ address, such as tcp://192.168.1.5:5555
        client_id: the name by which the server and its other clients know this lab
        resources: what is locked there when somebody locks the whole device here; empty for a
            server that is not labnet: nothing
        poll: seconds between two readings of a parameter that somebody listens to; 0: none
        probe: seconds between two signs of life
    """

    wire = "plesty"

    def __init__(
        self,
        address: str,
        *,
        dial: Dial,
        clock: Clock,
        declared: Declared | None = None,
        client_id: str = "",
        resources: tuple[str, ...] = (),
        poll: float = 1.0,
        probe: float = 5.0,
    ) -> None:
        super().__init__(dial, clock)
        self.probe_interval = probe
        self._address = address
        self._client_id = client_id
        self._resources = resources
        self._poll = poll
        self._declared_members = declared or Declared()

    async def greet(self) -> Found:
        """Connects, and asks for the description and for the keys of all parameters."""
        client = self.new_client(self._address, client_id=self._client_id or None)
        self.client = client
        await client.connect()
        # Only labnet's servers describe this operation, and they have resources by path.
        labnet = "get_config_list" in client.methods
        self.locks_there = labnet or bool(self._resources)
        identity = await or_nothing(client.identity())
        if isinstance(identity, str):
            self.identity = read_identity(identity)
        keys = await or_nothing(client.get_config_list())
        return self._found(client.doc, keys if isinstance(keys, list) else [])

    async def drop(self, client: Any) -> None:
        """Without the goodbye that nobody would hear."""
        await client.abort()

    # Parameters and operations

    def _found(self, doc: Any, keys: Iterable[Any]) -> Found:
        found = Found()
        known = dict(_by_key(doc, list(map(str, keys))))
        declared = {it.name: it for it in self._declared_members.parameters}
        for key in [*known, *(str(key) for key in keys if str(key) not in known)]:
            if key not in declared:
                self._add_parameter(found, key, known.get(key, {}))
        for name, parameter in declared.items():
            self._add_declared(found, name, parameter)
        for name, entry in self._operations(doc):
            self._add_operation(found, name, entry)
        return found

    def _add_parameter(self, found: Found, key: str, entry: Mapping[str, Any]) -> None:
        kind = kind_from(entry)
        limits = Limits(_number(entry.get("min_value")), _number(entry.get("max_value")))
        readable, writable = not entry.get("write_only"), not entry.get("read_only")
        found.parameter(
            key,
            kind,
            getter=partial(self._query, key, kind) if readable else None,
            setter=partial(self._write, key) if writable else None,
            unit=_text(entry.get("unit")),
            limits=None if limits == Limits() else limits,
            help=_text(entry.get("description")),
            poll=self._poll or None,
            initial=_first(kind, entry.get("value")),
        )

    def _add_declared(self, found: Found, name: str, parameter: DeclaredParameter) -> None:
        """What the section declares: the key there for reading, KEY {value} for writing."""
        key = parameter.ask or (parameter.send or "").partition(" ")[0]
        found.parameter(
            name,
            parameter.kind,
            getter=partial(self._query, key, parameter.kind) if parameter.ask else None,
            setter=partial(self._write, key) if parameter.send else None,
            **{"poll": self._poll or None, **parameter.options},
        )

    def _operations(self, doc: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
        entries = _entries(doc, "functions") | _entries(doc, "standard_methods")
        for name in self.client.methods:
            if name not in _STOCK:
                yield name, entries.get(name, {})

    def _add_operation(self, found: Found, name: str, entry: Mapping[str, Any]) -> None:
        described = bool(entry)
        sort = entry.get("kind")
        sort = sort.get("kind") if isinstance(sort, Mapping) else ""
        outputs = [it for it in _list(entry.get("oparams")) if isinstance(it, Mapping)]
        last = name.rpartition(".")[2]
        budget = self.client.budgets.get(name)
        result = kind_from(outputs[0]) if len(outputs) == 1 else ANY
        found.command(
            name,
            partial(self._call, name, result),
            arguments=tuple(_arguments(entry)),
            variadic=None if described else ANY,
            keywords=None if described else ANY,
            result=result,
            unit=_text(outputs[0].get("unit")) if len(outputs) == 1 else "",
            help=_text(entry.get("description")),
            long=sort in _LONG or budget is not None,
            stop=last == "stop",
            urgent=last == "stop",
            reads=sort == "read",
            timeout=budget,
        )

    # Requests

    def _query(self, key: str, kind: Kind) -> Deferred[Any]:
        limit = self.seconds_left()
        value = self.ask(lambda client: client.query(key, timeout=limit))
        return value.addCallback(partial(from_json, kind))

    def _write(self, key: str, value: Any) -> Deferred[None]:
        limit = self.seconds_left()
        done = self.ask(lambda client: client.write(key, value, timeout=limit))
        return done.addCallback(_accepted, key)

    def _call(self, name: str, result: Kind, /, *args: Any, **kwargs: Any) -> Deferred[Any]:
        limit = self.seconds_left()
        # Not by the client's `call`: the operation may have an argument called timeout.
        fields = {"func": name, "args": args, "kwargs": kwargs, "timeout": limit}
        value = self.ask(lambda client: client.request("call", fields, name, limit))
        return value.addCallback(partial(from_json, result))

    def probe(self) -> Deferred[Any]:
        """The server answers; past the calls of its device, so that a busy one is no dead one."""
        if self.client is None:
            return succeed(None)
        alive = self.ask(lambda client: client.describe())
        return alive.addTimeout(SIGN_OF_LIFE, self._clock)  # type: ignore[arg-type]

    # Locks

    async def lock_there(self, path: str, holder: str, wait: float) -> None:
        """The resources of a path beside those that are held already; all or none."""
        wanted = dict.fromkeys([*self._locked_names(), *self._names(path)])
        try:
            await self.client.lock(list(wanted))
        except Locked as error:
            raise Locked(error.holder) from None  # whose text names the holder

    async def unlock_there(self, path: str) -> None:
        """Keeps the rest."""
        await self.client.lock(self._locked_names())

    def _locked_names(self) -> list[str]:
        return list(dict.fromkeys(name for path in self._held for name in self._names(path)))

    def _names(self, path: str) -> tuple[str, ...]:
        """A path as the server writes it."""
        if not path:
            return self._resources or ("",)
        return (path.replace(".", "/"),)


def _by_key(doc: Any, keys: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each described parameter by its full key; the description leaves out the prefix of a group.
    """
    parameters = doc.get("parameters") if isinstance(doc, Mapping) else None
    folded = {key.lower(): key for key in keys}
    for group, entries in (parameters if isinstance(parameters, Mapping) else {}).items():
        for entry in _list(entries):
            if isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
                plain = entry["name"]
                full = plain if group == "default" else f"{group}.{plain}"
                yield folded.get(full.lower(), full), entry


def _entries(doc: Any, part: str) -> dict[str, Mapping[str, Any]]:
    entries = _list(doc.get(part)) if isinstance(doc, Mapping) else []
    return {str(it.get("name")): it for it in entries if isinstance(it, Mapping)}


def _arguments(entry: Mapping[str, Any]) -> Iterator[ArgumentSpec]:
    for it in _list(entry.get("iparams")):
        if isinstance(it, Mapping) and str(it.get("name", "")).isidentifier():
            bounds = it.get("range")
            pair = isinstance(bounds, list) and len(bounds) == 2
            limits = Limits(*map(_number, bounds)) if pair else None  # type: ignore[arg-type]
            yield ArgumentSpec(
                name=str(it["name"]),
                kind=kind_from(it),
                required=bool(it.get("required", True)),
                default=it.get("default"),
                unit=_text(it.get("unit")),
                limits=limits,
            )


def kind_from(entry: Mapping[str, Any]) -> Kind:
    """The kind of a parameter, argument or result as the description gives it."""
    options = entry.get("options")
    if isinstance(options, list) and options and all(map(_plain, options)):
        return EnumKind(options)
    name, _, rest = str(entry.get("dtype", "Any")).partition(" | ")
    kind = _KINDS.get(name, ANY)
    return OptionalKind(kind) if rest == "None" else ANY if rest else kind


def from_json(kind: Kind, value: Any) -> Any:
    """A value as its kind has it, where JSON has no form of its own for that."""
    if kind is COMPLEX and isinstance(value, list) and len(value) == 2:
        return complex(*value)
    if kind is BYTES and isinstance(value, str):
        return value.encode("latin-1", "replace")
    return None if kind is NONE else value


def _accepted(done: Any, key: str) -> None:
    if done is False:
        raise DeviceFault(f"{key}: the device refused the value without a reason")


def _first(kind: Kind, value: Any) -> Any:
    try:
        return None if value is None else kind.check(from_json(kind, value))
    except LabError:
        return None


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
