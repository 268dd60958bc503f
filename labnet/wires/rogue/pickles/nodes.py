"""Nodes and values of variables out of the mappings that a pickle gives for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labnet.errors import shorten
from labnet.wires.rogue.model import Func, NodeInfo, VariableValue
from labnet.wires.rogue.pickles.bounds import BadPickle

_MAX_KEPT = 1024
_SHORT = 64
_TEXTS = frozenset({str})
_NONE = type(None)

_lists: dict[tuple[str, ...], tuple[str, ...]] = {}
_functions: dict[Any, Mapping[str, Func]] = {}


def node_info(args: tuple[Any, ...]) -> NodeInfo:
    """What ``VirtualFactory(mapping)`` gives; all keys are compulsory."""
    if len(args) != 1 or type(args[0]) is not dict:
        raise BadPickle("a node is made of one mapping")
    (fields,) = args
    try:
        return NodeInfo(
            name=_text(fields["name"]),
            class_name=_text(fields["class"]),
            bases=_texts(fields["bases"]),
            description=_text(fields["description"]),
            groups=_texts(fields["groups"]),
            path=_text(fields["path"]),
            expand=fields["expand"] is True,
            gui_group=_optional(fields["guiGroup"]),
            nodes=_names(fields["nodes"]),
            props=_texts(fields["props"]),
            funcs=_funcs(fields["funcs"]),
        )
    except KeyError as error:
        raise BadPickle(f"a node without {shorten(str(error))}") from None


def build_value(value: VariableValue, state: Any) -> None:
    """Fills a `VariableValue` from its attributes; ``updated`` is missing in older servers."""
    if type(state) is not dict:
        raise BadPickle("a VariableValue without its attributes")
    value.value = state.get("value")
    value.value_disp = _text(state.get("valueDisp", ""))
    value.disp = _text(state.get("disp", ""))
    value.updated = state.get("updated", False) is True
    value.status = _text(state.get("status", "None"))
    value.severity = _text(state.get("severity", "None"))
    value.enum = state.get("enum")
    if type(value.enum) not in (dict, _NONE):
        raise BadPickle("the enum of a VariableValue is a mapping or None")


def _text(value: Any) -> str:
    if type(value) is not str:
        raise BadPickle("text of a node or of a variable's value is missing")
    return value


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)


def _texts(value: Any) -> tuple[str, ...]:
    """A list of texts; equal lists, as many nodes have them, are kept once."""
    if type(value) not in (list, tuple) or not _TEXTS.issuperset(map(type, value)):
        raise BadPickle("a list of a node holds something else than texts")
    texts = tuple(value)
    return _lists.get(texts) or _kept(texts)


def _kept(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The same, kept if that takes little memory."""
    if len(texts) <= _SHORT and sum(map(len, texts)) <= _SHORT * _SHORT:
        if len(_lists) >= _MAX_KEPT:
            _lists.clear()
        _lists[texts] = texts
    return texts


def _names(value: Any) -> tuple[str, ...]:
    if type(value) is not dict:
        raise BadPickle("the children of a node are a mapping")
    if not _TEXTS.issuperset(map(type, value)):
        raise BadPickle("the name of a node's child is no text")
    return tuple(value)


def _funcs(value: Any) -> Mapping[str, Func]:
    """The functions of a node; equal ones are kept once."""
    if type(value) is not dict or not _TEXTS.issuperset(map(type, value)):
        raise BadPickle("the functions of a node are a mapping")
    key = tuple((name, _arguments(func)) for name, func in value.items())
    kept = _functions.get(key)
    if kept is None:
        kept = {name: Func(*arguments) for name, arguments in key}
        if len(key) <= _SHORT and sum(_size(*item) for item in key) <= _SHORT * _SHORT:
            if len(_functions) >= _MAX_KEPT:
                _functions.clear()
            _functions[key] = kept
    return kept


def _size(name: str, lists: tuple[tuple[str, ...], ...]) -> int:
    return len(name) + sum(len(text) for texts in lists for text in texts)


def _arguments(func: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if type(func) is not dict:
        raise BadPickle("a function of a node is a mapping")
    return _texts(func["args"]), _texts(func["kwargs"])
