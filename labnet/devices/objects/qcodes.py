"""QCoDeS instruments: parameters with labels, units and validators; channels as sub-devices.

Functions and the annotated public methods of the instrument's own class become commands. The
limits of a parameter and its kind come from its validator; an array with setpoints gets them as
axes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from labnet.device import Device
from labnet.devices.objects.kinds_of_value import LOOSE, NUMBER, kind_of_choices, limits_of
from labnet.devices.objects.plain import is_published
from labnet.devices.objects.shell import ObjectDevice, help_of
from labnet.specs import NAME, Identity, command_spec, first_paragraph
from labnet.values import (
    ANY,
    BOOL,
    COMPLEX,
    INT,
    STR,
    ArrayKind,
    Axis,
    DictKind,
    Kind,
    LabeledArray,
    Limits,
    ListKind,
)

_NUMBERS: Mapping[str, Kind] = {
    "Numbers": NUMBER, "PermissiveMultiples": NUMBER, "Ints": INT, "Multiples": INT,
    "PermissiveInts": INT,
}  # fmt: skip
_KINDS: Mapping[str, Kind] = {
    "Bool": BOOL, "Strings": STR, "ComplexNumbers": COMPLEX, "Dict": DictKind(),
    "Lists": ListKind(), "Sequence": ListKind(), "Arrays": ArrayKind(),
}  # fmt: skip


class QcodesDevice(ObjectDevice):
    """Stands for a QCoDeS instrument."""

    def describe_object(self, item: Any) -> None:
        _describe(self, item)

    def open(self, item: Any) -> None:
        found: Mapping[str, Any] = getattr(item, "get_idn", dict)()
        named = {key: str(value) for key, value in found.items() if value}
        self.identity = Identity(
            named.get("vendor", self.identity.maker),
            named.get("model", self.identity.model),
            named.get("serial", self.identity.serial),
            named.get("firmware", self.identity.firmware),
        )

    def close(self, item: Any) -> None:
        if self.made_here:
            item.close()  # for good: QCoDeS cannot open it again


def _describe(device: Device, item: Any) -> None:
    for name, parameter in item.parameters.items():
        if NAME.match(name):
            _add_parameter(device, name, parameter)
    for name, channel in _channels(item):
        child = Device()
        _describe(child, channel)
        device.add_device(name, child)
    for name, function in item.functions.items():
        if NAME.match(name) and name not in device.members:
            _add_function(device, name, function)
    for name, method in _methods(item):
        if name not in device.members:
            device.add_command(name, method, spec=command_spec(name, method))


def _add_parameter(device: Device, name: str, parameter: Any) -> None:
    reads, writes = bool(parameter.gettable), bool(parameter.settable)
    kind, limits = _kind(parameter)
    device.add_parameter(
        name,
        kind,
        getter=partial(_get, parameter) if reads else None,
        setter=partial(_set, parameter) if writes else None,
        access=f"{'r' if reads else ''}{'w' if writes else ''}" or "r",
        unit=_text(parameter, "unit"),
        limits=limits,
        help=_help(name, parameter),
    )


def _get(parameter: Any) -> Any:
    value = parameter.get()
    setpoints = getattr(parameter, "setpoints", None)
    if isinstance(value, np.ndarray) and setpoints and all(map(_has_get, setpoints)):
        return _with_axes(value, parameter, setpoints)
    return value


def _set(parameter: Any, value: Any) -> None:
    parameter.set(value)


def _has_get(setpoint: Any) -> bool:
    return callable(getattr(setpoint, "get", None))


def _with_axes(value: Any, parameter: Any, setpoints: Any) -> Any:
    axes = tuple(
        Axis(_text(it, "label"), _text(it, "unit"), np.asarray(it.get())) for it in setpoints
    )
    if tuple(len(axis.values) for axis in axes) != value.shape:
        return value
    return LabeledArray(value, _text(parameter, "label"), _text(parameter, "unit"), axes)


def _text(parameter: Any, field: str) -> str:
    text = getattr(parameter, field, "")
    return text if isinstance(text, str) else ""


def _help(name: str, parameter: Any) -> str:
    """The label, where it says more than the name, and what the author wrote."""
    label = _text(parameter, "label")
    own = first_paragraph(getattr(parameter, "_docstring", None))
    return own or ("" if label == name else label)


def _kind(parameter: Any) -> tuple[Kind, Limits | None]:
    """Kind and limits by the validators, else by what the library converts answers to."""
    mapped = getattr(parameter, "val_mapping", None)
    if mapped:
        return kind_of_choices(mapped), None
    validators = getattr(parameter, "validators", ())
    for validator in (part for whole in validators for part in _parts(whole)):
        kind, limits = _kind_of_validator(validator)
        if kind is not ANY:
            return kind, limits
    own = {float: LOOSE, int: INT, str: STR}.get(getattr(parameter, "get_parser", None))  # type: ignore[arg-type]
    return own or (LOOSE if _text(parameter, "unit") else ANY), None


def _parts(validator: Any) -> Iterator[Any]:
    """A validator, or those of which all must agree."""
    if type(validator).__name__ == "MultiTypeAnd":
        yield from validator.validators
    else:
        yield validator


def _kind_of_validator(validator: Any) -> tuple[Kind, Limits | None]:
    for name in (base.__name__ for base in type(validator).__mro__):
        if name in _NUMBERS:
            low, high = (getattr(validator, f"{end}_value", None) for end in ("min", "max"))
            return _NUMBERS[name], limits_of(low, high)
        if name == "Enum":
            return kind_of_choices(sorted(validator.values, key=str)), None
        if name in _KINDS:
            return _KINDS[name], None
    return ANY, None


def _channels(item: Any) -> Iterator[tuple[str, Any]]:
    """The modules and channels by name; those of a list that are not there by one, numbered."""
    known = []
    lists = {}
    for name, module in item.submodules.items():
        if hasattr(module, "parameters"):
            known.append(module)
            yield name, module
        else:
            lists[name] = module
    for name, channels in lists.items():
        if NAME.match(f"{name}[0]"):
            for number, channel in enumerate(channels):
                if not any(channel is module for module in known):
                    yield f"{name}[{number}]", channel


def _add_function(device: Device, name: str, function: Any) -> None:
    def call(*args: Any) -> Any:
        return function(*args)

    call.__doc__ = function.__doc__
    kinds = [_kind_of_validator(validator)[0] for validator in getattr(function, "_args", ())]
    spec = command_spec(name, _with_arguments(kinds), help=help_of(function))
    device.add_command(name, call, spec=spec)


def _with_arguments(kinds: list[Kind]) -> Any:
    """A function whose signature has so many arguments, of these kinds."""
    def call(*args: Any) -> Any: ...

    items = [
        inspect.Parameter(f"arg{number}", inspect.Parameter.POSITIONAL_ONLY)
        for number in range(1, len(kinds) + 1)
    ]
    call.__signature__ = inspect.Signature(items)  # type: ignore[attr-defined]
    call.__annotations__ = dict(zip((it.name for it in items), kinds, strict=True))
    return call


def _methods(item: Any) -> Iterator[tuple[str, Any]]:
    """The annotated public methods of the classes that are not the library's own bases."""
    for base in type(item).__mro__:
        if base.__module__.startswith(("qcodes.instrument.", "qcodes.metadatable", "builtins")):
            continue
        for name, method in vars(base).items():
            if is_published(name, method) and name != "get_idn":
                yield name, getattr(item, name)
