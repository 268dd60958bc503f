"""PLESTY's device classes: whatever has ``query``, ``write``, ``identity``, ``get_config_list``.

Configuration keys become parameters, those of a group in a sub-device of its prefix; exposed
methods and operations of the schema become commands.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from labnet.device import Device
from labnet.devices.objects.kinds_of_value import (
    is_number,
    kind_of_choices,
    kind_of_type,
    limits_of,
)
from labnet.devices.objects.shell import ObjectDevice, call_first, finish, help_of, read_identity
from labnet.errors import DeviceFault
from labnet.specs import NAME, ArgumentSpec, CommandSpec, command_spec, first_paragraph
from labnet.values import ANY, Kind

#: How ``plesty.lib`` marks the methods that its own server publishes.
_EXPOSED = "__plesty_expose_in_api__"
_BUDGET = "__plesty_op_budget_s__"
#: What labnet does itself.
_OWN = {
    "query", "write", "identity", "get_config_list", "connect", "disconnect", "init", "doc_model",
    "check_operatability", "synchronize_param_from_device",
}  # fmt: skip


class PlestyDevice(ObjectDevice):
    """Stands for a PLESTY device."""

    def describe_object(self, item: Any) -> None:
        groups: dict[str, Device] = {}
        for key in finish(item.get_config_list()):
            prefix, _, name = key.rpartition(".")
            if NAME.match(name) and (not prefix or NAME.match(prefix)):
                holder = groups.setdefault(prefix, Device()) if prefix else self
                self._add_key(holder, name, key, _about(item, key))
        for prefix, group in groups.items():
            self.add_device(prefix, group)
        for spec in _commands(item):
            if spec.name not in self.members:
                self.add_command(spec.name, partial(self._operate, spec.name), spec=spec)

    def _add_key(self, holder: Device, name: str, key: str, about: Any) -> None:
        options = getattr(about, "options", None)
        kind = kind_of_choices(options) if options else kind_of_type(_of(about, "dtype"))
        reads, writes = not _of(about, "write_only"), not _of(about, "read_only")
        bounds = limits_of(_of(about, "min_value"), _of(about, "max_value"))
        holder.add_parameter(
            name,
            kind,
            getter=partial(self._query, key) if reads else None,
            setter=partial(self._write, key) if writes else None,
            access=f"{'r' if reads else ''}{'w' if writes else ''}",
            unit=_of(about, "unit") or "",
            limits=bounds if is_number(kind) else None,
            help=_of(about, "description") or "",
        )

    def _query(self, key: str) -> Any:
        return finish(self.item.query(key))

    def _write(self, key: str, value: Any) -> None:
        if finish(self.item.write(key, value)) is False:
            raise DeviceFault(f"{key} was not written; the device gave no reason")

    def _operate(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return finish(getattr(self.item, name)(*args, **kwargs))

    def open(self, item: Any) -> None:
        if self.made_here or not _is_open(item):
            enter = getattr(item, "__enter__", None)
            if callable(enter):
                enter()
            else:
                call_first(item, ("init",))
                call_first(item, ("connect", "open"))
        self.identity = read_identity(finish(item.identity()), self.identity)

    def close(self, item: Any) -> None:
        leave = getattr(item, "__exit__", None)
        if callable(leave):
            leave(None, None, None)
        else:
            call_first(item, ("disconnect", "close"))


def _is_open(item: Any) -> bool:
    """Whether somebody has opened the device before it came to labnet."""
    check = getattr(item, "check_operatability", None)
    try:
        return callable(check) and finish(check()) is True
    except Exception:
        return False


def _about(item: Any, key: str) -> Any:
    """The record of a key, where the device keeps one."""
    get = getattr(item, "get_config", None)
    return get(key) if callable(get) else None


def _of(about: Any, field: str) -> Any:
    return getattr(about, field, None)


def _commands(item: Any) -> Iterator[CommandSpec]:
    """The operations of a device: first those of its schema, then its exposed methods."""
    documented = getattr(item, "function_docs", None)
    for doc in documented() if callable(documented) else ():
        if doc.source == "schema" and NAME.match(doc.name):
            yield _of_schema(doc)
    for name in dir(type(item)):
        function = inspect.getattr_static(type(item), name, None)
        plain = getattr(function, "__func__", function)
        exposed = getattr(plain, _EXPOSED, False) and not isinstance(function, property)
        if exposed and name[0] != "_" and name not in _OWN:
            yield _of_method(name, getattr(item, name), plain)


def _of_method(name: str, method: Any, plain: Any) -> CommandSpec:
    """An exposed method; the keywords that PLESTY's own server hands in are no arguments."""
    spec = command_spec(name, method, timeout=getattr(plain, _BUDGET, None))
    return replace(spec, keywords=None, help=help_of(plain))


def _of_schema(doc: Any) -> CommandSpec:
    outputs = list(doc.oparams)
    one = outputs[0] if len(outputs) == 1 else None
    return CommandSpec(
        name=doc.name,
        arguments=tuple(_argument(it) for it in doc.iparams),
        result=ANY,
        unit="" if one is None else one.unit or "",
        help=first_paragraph(doc.description),
        stop=doc.name == "stop",
        urgent=doc.name == "stop",
    )


def _argument(item: Any) -> ArgumentSpec:
    kind: Kind = kind_of_choices(item.options) if item.options else kind_of_type(item.dtype)
    bounds = limits_of(*item.range) if item.range and is_number(kind) else None
    return ArgumentSpec(
        name=item.name,
        kind=kind,
        required=item.required,
        default=item.default,
        unit=item.unit or "",
        limits=bounds,
    )
