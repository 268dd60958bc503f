"""What a PLESTY client is told about a device: operations, budgets, parameters, help.

The shapes are those of the device server's ``describe``: ``{"methods", "budgets", "doc"}``. A
parameter of a sub-device has the group of that sub-device; its key is the dotted path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from labnet.registry import CommandNode, DeviceNode, ParameterNode
from labnet.specs import ArgumentSpec, CommandSpec
from labnet.values import EnumKind, Kind, LabeledArray, Limits, OptionalKind
from labnet.wires.plesty.dialect import NotSerializable, json_text

MAX_SHOWN: Final = 1000
"""Longest array (items) or text (characters of JSON) that a description shows as a value."""

STOCK: Final[Mapping[str, tuple[tuple[tuple[str, str], ...], str, str]]] = {
    "identity": ((), "str", "Maker, model, serial number and firmware."),
    "write": ((("key", "str"), ("value", "Any")), "bool", "Sets a parameter."),
    "query": ((("key", "str"),), "Any", "Reads a parameter."),
    "get_config_list": ((), "list", "The keys of all parameters."),
    "get_group_list": ((), "list", "The groups of parameters."),
    "summary": ((), "str", "This device in words."),
    "check_operatability": ((), "bool", "Whether the device is connected."),
    "doc_model": ((), "dict", "This device as describe has it under doc."),
}
"""Operations of every device: arguments and their types, type of the result, description.

A command of the device of the same name takes the place of the stock one.
"""

_DTYPES: Final = {"any": "Any", "none": "None", "array": "list"}
_MOTIONS: Final = ("move", "home", "goto", "go_to", "jog")


def describe(node: DeviceNode) -> dict[str, Any]:
    """The result of ``describe``; a device that cannot be used has its ``condition`` there too."""
    condition = node.queue.condition
    result = {"methods": methods(node), "budgets": budgets(node), "doc": doc(node)}
    return result | {"condition": condition} if condition else result


def key_of(node: ParameterNode | CommandNode, device: DeviceNode) -> str:
    """The name of a parameter or operation as clients of `device` write it."""
    return node.path[len(device.path) + 1 :]


def methods(device: DeviceNode) -> list[str]:
    """The names of all operations, sorted."""
    return sorted({*STOCK, *(key_of(node, device) for node in device.commands())})


def budgets(device: DeviceNode) -> dict[str, float]:
    """The seconds that operations may need, where their authors say so."""
    return {
        key_of(node, device): float(node.spec.timeout)
        for node in device.commands()
        if node.spec.timeout is not None
    }


def config_list(device: DeviceNode) -> list[str]:
    """The keys of all parameters, in the order of declaration."""
    return [key_of(node, device) for node in device.parameters()]


def groups(device: DeviceNode) -> dict[str, list[ParameterNode]]:
    """Group to parameters; those of the device itself are in ``default``, which comes first."""
    found: dict[str, list[ParameterNode]] = {"default": []}
    for node in device.parameters():
        prefix = key_of(node, device).rpartition(".")[0]
        found.setdefault(prefix.lower() or "default", []).append(node)
    return found


def doc(device: DeviceNode) -> dict[str, Any]:
    """Parameters by group, the device's own operations, the stock operations."""
    return {
        "parameters": {
            group: [_parameter(node) for node in nodes] for group, nodes in groups(device).items()
        },
        "functions": [_function(node, device) for node in device.commands()],
        "standard_methods": [_stock(name) for name in STOCK],
    }


def _parameter(node: ParameterNode) -> dict[str, Any]:
    spec = node.spec
    limits = spec.limits or Limits()
    return {
        "name": node.name,
        "dtype": dtype(spec.kind),
        "unit": spec.unit or None,
        "default": shown(spec.initial),
        "value": shown(node.state.reading.value),
        "read_only": not spec.writable,
        "write_only": not spec.readable,
        "min_value": limits.low,
        "max_value": limits.high,
        "options": options(spec.kind),
        "description": spec.help or None,
    }


def dtype(kind: Kind) -> str:
    """The bare name of a type, as Python annotations write it."""
    if isinstance(kind, OptionalKind):
        return f"{dtype(kind.inner)} | None"
    if isinstance(kind, EnumKind):
        names = {type(choice).__name__ for choice in kind.choices}
        return names.pop() if len(names) == 1 else "Any"
    return _DTYPES.get(kind.name, kind.name)


def options(kind: Kind) -> list[Any] | None:
    """The values allowed, None where there is no list of them."""
    return [shown(choice) for choice in kind.choices] if isinstance(kind, EnumKind) else None


def shown(value: object) -> object:
    """`value` in a description: null where it is large or has no form in JSON."""
    data = value.data if isinstance(value, LabeledArray) else value
    if isinstance(data, np.ndarray) and data.size > MAX_SHOWN:
        return None
    try:
        return value if len(json_text(value)) <= 32 * MAX_SHOWN else None
    except NotSerializable:
        return None


def _function(node: CommandNode, device: DeviceNode) -> dict[str, Any]:
    spec = node.spec
    return {
        "name": key_of(node, device),
        "source": "custom",
        "description": spec.help,
        "iparams": [_argument(argument) for argument in spec.arguments],
        "oparams": [_result(dtype(spec.result), spec.unit)],
        "kind": _kind(spec, node.parent),
    }


def _stock(name: str) -> dict[str, Any]:
    arguments, result, description = STOCK[name]
    return {
        "name": name,
        "source": "standard",
        "description": description,
        "iparams": [_input(argument, of_type) for argument, of_type in arguments],
        "oparams": [_result(result)],
        "kind": _kind_of("read"),
    }


def _argument(spec: ArgumentSpec) -> dict[str, Any]:
    entry = _input(spec.name, dtype(spec.kind))
    entry["unit"] = spec.unit
    entry["default"] = shown(spec.default)
    entry["required"] = spec.required
    entry["options"] = options(spec.kind)
    if spec.limits is not None:
        entry["range"] = [spec.limits.low, spec.limits.high]
    return entry


def _input(name: str, of_type: str) -> dict[str, Any]:
    return {
        "name": name,
        "dtype": of_type,
        "unit": "",
        "default": None,
        "required": True,
        "options": None,
        "range": None,
        "shape": None,
        "item_dtype": None,
        "description": "",
    }


def _result(of_type: str, unit: str = "") -> dict[str, Any]:
    return {
        "name": "return",
        "dtype": of_type,
        "unit": unit,
        "required": True,
        "code_mapping": None,
        "range": None,
        "shape": None,
        "item_dtype": None,
        "headers": None,
        "description": "",
    }


def _kind(spec: CommandSpec, device: DeviceNode | None) -> dict[str, Any]:
    """What sort of operation it is: read, motion, acquire or control."""
    if spec.stop or spec.urgent:
        return _kind_of("control")
    if spec.name.startswith(_MOTIONS) and not spec.reads:
        has_position = device is not None and device.child("position") is not None
        return _kind_of("motion") | {
            "position_key": "position" if has_position else None,
            "target": spec.arguments[0].name if spec.arguments else None,
            "relative": "rel" in spec.name,
        }
    if spec.long or spec.timeout is not None:
        return _kind_of("acquire")
    return _kind_of("read" if spec.reads else "control")


def _kind_of(kind: str) -> dict[str, Any]:
    return {"kind": kind, "position_key": None, "target": None, "relative": False, "step": None}


def help_text(device: DeviceNode) -> str:
    """The device in words, for ``help`` and ``summary``."""
    lines = ["# Device Doc", str(device.identity)]
    if device.queue.condition:
        lines.append(f"This device is {device.queue.condition}.")
    lines += ["", "## Configuration Parameters"]
    for group, nodes in groups(device).items():
        lines += ["", f"[{group}]", *(_parameter_line(node, device) for node in nodes)]
    lines += ["", "## Operations", "", *_operation_lines(device)]
    return "\n".join(lines) + "\n"


def _parameter_line(node: ParameterNode, device: DeviceNode) -> str:
    spec = node.spec
    facts = [dtype(spec.kind), spec.unit]
    if spec.limits is not None:
        facts.append(f"{_bound(spec.limits.low)} to {_bound(spec.limits.high)}")
    if isinstance(spec.kind, EnumKind):
        facts.append("one of " + ", ".join(str(choice) for choice in spec.kind.choices))
    facts.append({"r": "read-only", "w": "write-only"}.get(spec.access, ""))
    text = f"{key_of(node, device)} ({', '.join(filter(None, facts))})"
    return f"{text}: {spec.help}" if spec.help else text


def _bound(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"


def _operation_lines(device: DeviceNode) -> Iterable[str]:
    for node in device.commands():
        prefix = key_of(node, device)[: -len(node.name)]
        text = prefix + node.spec.usage()
        yield f"{text}: {node.spec.help}" if node.spec.help else text
    for name, (arguments, _, description) in STOCK.items():
        yield f"{' '.join([name, *(argument for argument, _ in arguments)])}: {description}"
