"""Lists and objects of generations A, B and C1 to C4."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Any

from labnet.wires.pymodaq.generations import OBJECTS, PLAIN, Generation
from labnet.wires.pymodaq.objects import (
    ACTUATOR,
    DATA_CLASSES,
    DIMENSIONS,
    FROM_PLUGINS,
    SOURCES,
    Axis,
    Data,
    DataToExport,
    plain_frame,
    plain_position,
)
from labnet.wires.pymodaq.primitives import (
    Array,
    Malformed,
    Parts,
    Source,
    Steps,
    put_array,
    put_bytes,
    put_scalar,
    put_string,
    put_uint,
)

A, B, C1, C2, C3, C4 = list(Generation)[:6]
MAX_DEPTH = 8
"""Lists in lists."""


def read_position(source: Source) -> Steps[Data]:
    """What follows ``position_is``, ``move_done``, ``move_abs`` and ``move_rel``."""
    if source.generation is None and not source.among <= PLAIN:
        head: bytes = yield source.peek
        source.narrow(OBJECTS if head[3] > 4 else PLAIN)
    if source.among <= PLAIN:
        number = yield source.scalar
        return plain_position(number)
    return (yield from read_data(source))


def read_frame(source: Source) -> Steps[DataToExport]:
    """What follows ``Done``."""
    if source.generation is None and not source.among <= PLAIN:
        head: bytes = yield source.peek
        source.narrow(OBJECTS if head[4:] == b"Data" else PLAIN)
    if source.among <= OBJECTS:
        return (yield from read_export(source))
    elements = yield from read_list(source, bare=source.two_sizes)
    if not all(hasattr(element, "shape") for element in elements):
        raise Malformed("a frame that holds something else than arrays")
    return plain_frame(elements)


def read_path(source: Source) -> Steps[tuple[str, ...]]:
    """The names of a setting and the groups around it."""
    elements = yield from read_list(source, bare=source.string)
    if not all(isinstance(element, str) for element in elements):
        raise Malformed("a path that holds something else than names")
    return tuple(elements)


def read_axis_message(source: Source) -> Steps[Axis]:
    """What follows ``x_axis`` and ``y_axis`` in generations A and B."""
    if source.among <= OBJECTS:
        raise Malformed("an axis of its own, which generation C does not send")
    source.narrow(PLAIN)
    array = yield source.array if source.generation is B else source.two_sizes
    if source.generation is None and array.size > 1:
        # One dimension of n: B sends 1, n and A sends n, 1.
        source.narrow(frozenset({B if array.ndim == 2 and array.shape[0] == 1 else A}))
    label = yield source.string
    units = yield source.string
    return Axis(label, units, array.reshape(-1))


def read_list(source: Source, bare: Callable[[], Any], depth: int = 0) -> Steps[list[Any]]:
    """A list; `bare` is the step for an element of generation A."""
    count = yield source.count
    elements: list[Any] = []
    for _ in range(count):
        if source.generation is not A:
            if source.generation is None and A in source.among and not elements:
                yield from _narrow_list(source)
                if source.generation is A:
                    elements.append((yield bare))
                    continue
            word = yield source.string
            elements.append((yield from _element(source, word, depth)))
        else:
            elements.append((yield bare))
    return elements


def _narrow_list(source: Source) -> Steps[None]:
    """Whether the elements of a list have words before them, by the first."""
    head: bytes = yield source.peek
    words = (b"\0\0\0\5arra", b"\0\0\0\6scal", b"\0\0\0\6stri")
    source.narrow(source.among - {A} if head in words else frozenset({A}))


def _element(source: Source, word: str, depth: int) -> Steps[Any]:
    """What the word before an element of a list announces."""
    step = {
        "array": source.array,
        "scalar": source.scalar,
        "string": source.string,
        "bytes": source.blob,
        "bool": source.scalar,
    }.get(word)
    if step is not None:
        return (yield step)
    if word == "list" and depth < MAX_DEPTH:
        return (yield from read_list(source, source.string, depth + 1))
    larger = {"dwa": read_data, "axis": read_axis, "dte": read_export}.get(word)
    if larger is None or source.among <= PLAIN:
        raise Malformed(f"{word[:40]!r} in a list")
    return (yield from larger(source))


def _elements_of(source: Source, kind: type, what: str) -> Steps[tuple[Any, ...]]:
    elements = yield from read_list(source, source.string)
    for element in elements:
        if not isinstance(element, kind):
            raise Malformed(f"{what} that holds something else")
    return tuple(elements)


def _arrays_of(source: Source, what: str) -> Steps[tuple[Array, ...]]:
    elements = yield from read_list(source, source.string)
    for element in elements:
        if not hasattr(element, "shape"):
            raise Malformed(f"{what} that holds something else than arrays")
    return tuple(elements)


def read_axis(source: Source) -> Steps[Axis]:
    """An axis."""
    name = yield source.string
    if name != "Axis":
        raise Malformed(f"{name[:40]!r} instead of an axis")
    label = yield source.string
    units = yield source.string
    data = yield source.array
    index = yield source.scalar
    spread = yield source.scalar
    return Axis(label, units, data, _whole(index), _whole(spread))


def _whole(number: Any) -> int:
    if not isinstance(number, int):
        raise Malformed(f"{number!r} where a whole number was expected")
    return number


def _real(number: Any) -> float:
    if not isinstance(number, int | float):
        raise Malformed(f"{number!r} where a number was expected")
    return float(number)


def read_export(source: Source) -> Steps[DataToExport]:
    """All that a grab has given."""
    name = yield source.string
    if name != "DataToExport":
        raise Malformed(f"{name[:40]!r} instead of a frame")
    timestamp = yield source.scalar
    name = yield source.string
    data = yield from _elements_of(source, Data, "a frame")
    return DataToExport(name, data, _real(timestamp))


def read_data(source: Source) -> Steps[Data]:
    """Arrays with all that is known about them."""
    kind = yield source.string
    if kind not in DATA_CLASSES:
        raise Malformed(f"{kind[:40]!r} is no class of data")
    timestamp = yield source.scalar
    name = yield source.string
    units, origin_of, dim = yield from _read_units(source)
    if origin_of not in SOURCES or dim not in DIMENSIONS:
        raise Malformed(f"{origin_of[:40]!r}, {dim[:40]!r} where a source and dimensions belong")
    distribution = yield source.string
    data = yield from _arrays_of(source, "data")
    labels = yield from _elements_of(source, str, "a list of labels")
    origin = yield source.string
    nav = yield from _elements_of(source, int, "a list of indexes")
    axes = yield from _elements_of(source, Axis, "a list of axes")
    errors, extra = yield from _read_rest(source)
    return Data(
        name, data, kind, _real(timestamp), units, origin_of, dim, distribution, labels, origin,
        nav, axes, errors, extra,
    )  # fmt: skip


def _read_units(source: Source) -> Steps[tuple[str, str, str]]:
    """Units, source and dimensions; before generation C4 there are no units.

    A peer whose units are called as a source is, is told apart by what follows.
    """
    first = yield source.string
    second = yield source.string
    if source.generation is None:
        source.narrow(frozenset({C4}) if second in SOURCES else OBJECTS - {C4})
    if source.generation is not C4:
        return "", first, second
    third = yield source.string
    return first, second, third


def _read_rest(source: Source) -> Steps[tuple[tuple[Array, ...], Any]]:
    """Errors and attached attributes, as far as the generation has them.

    Nothing on the wire says how many lists there are: without better knowledge it is C3, and a
    list of strings in the place of the errors tells C2.
    """
    generation = source.generation
    if generation is C1:
        return (), MappingProxyType({})
    errors: list[Any] = []
    names: list[Any] = []
    if generation is not C2:
        errors = yield from read_list(source, source.string)
    if generation is None and errors and all(isinstance(error, str) for error in errors):
        source.narrow(frozenset({C2}))
        errors, names = [], errors
    else:
        if generation is None:
            source.narrow(frozenset({C3}))
        names = yield from read_list(source, source.string)
    if any(not hasattr(error, "shape") for error in errors):
        raise Malformed("a list of errors that holds something else than arrays")
    return tuple(errors), (yield from _read_extra(source, names))


def _read_extra(source: Source, names: list[Any]) -> Steps[Any]:
    extra: dict[str, Any] = {}
    for name in names:
        if not isinstance(name, str):
            raise Malformed("an attribute without a name")
        word = yield source.string
        extra[name] = yield from _element(source, word, 0)
    return MappingProxyType(extra)


# The other way.


def put_position(parts: Parts, data: Data, generation: Generation) -> None:
    """A position; ValueError for data without a number where a bare one is sent."""
    if generation.objects:
        put_data(parts, data, generation)
    elif not data.data or not data.data[0].size:
        raise ValueError("the data hold no number")
    else:
        put_scalar(parts, data.data[0].flat[0])


def put_frame(parts: Parts, frame: DataToExport, generation: Generation) -> None:
    """What follows ``Done``."""
    if generation.objects:
        put_export(parts, frame, generation)
        return
    put_uint(parts, len(frame.arrays))
    for array in frame.arrays:
        if generation is B:
            put_string(parts, "array")
        _put_array(parts, array, generation)


def put_path(parts: Parts, path: Iterable[str], generation: Generation) -> None:
    """The names of a setting and the groups around it."""
    if generation is A:
        names = list(path)
        put_uint(parts, len(names))
        for name in names:
            put_string(parts, name)
    else:
        put_list(parts, path, generation)


def put_axis_message(parts: Parts, axis: Axis, generation: Generation) -> None:
    """What follows ``x_axis`` and ``y_axis``; ValueError in generation C."""
    if generation.objects:
        raise ValueError("only generations A and B send an axis of its own")
    _put_array(parts, axis.data, generation)
    put_string(parts, axis.label)
    put_string(parts, axis.units)


def _put_array(parts: Parts, array: Array, generation: Generation) -> None:
    if array.ndim == 0:
        array = array.reshape(1)
    put_array(parts, array, two_sizes=generation is A)


def put_list(parts: Parts, elements: Iterable[Any], generation: Generation) -> None:
    """A list whose elements have words before them."""
    elements = list(elements)
    put_uint(parts, len(elements))
    for element in elements:
        put_element(parts, element, generation)


def put_element(parts: Parts, value: Any, generation: Generation) -> None:
    """A value behind the word for its kind; ValueError for what PyMoDAQ does not know."""
    if isinstance(value, str):
        put_string(parts, "string")
        put_string(parts, value)
    elif isinstance(value, bytes):
        put_string(parts, "bytes")
        put_bytes(parts, value)
    elif hasattr(value, "shape") and value.shape != ():
        put_string(parts, "array")
        put_array(parts, value)
    elif isinstance(value, list | tuple):
        put_string(parts, "list")
        put_list(parts, value, generation)
    elif isinstance(value, Data):
        put_string(parts, "dwa")
        put_data(parts, value, generation)
    elif isinstance(value, Axis):
        put_string(parts, "axis")
        put_axis(parts, value)
    else:
        put_string(parts, "bool" if isinstance(value, bool) and generation is C4 else "scalar")
        put_scalar(parts, value)


def put_axis(parts: Parts, axis: Axis) -> None:
    """An axis."""
    for text in ("Axis", axis.label, axis.units):
        put_string(parts, text)
    put_array(parts, axis.data)
    put_scalar(parts, axis.index)
    put_scalar(parts, axis.spread_order)


def put_export(parts: Parts, export: DataToExport, generation: Generation) -> None:
    """All that a grab has given; what is attached to it is not sent before generation D."""
    put_string(parts, "DataToExport")
    put_scalar(parts, float(export.timestamp))
    put_string(parts, export.name)
    put_list(parts, export.data, generation)


def put_data(parts: Parts, data: Data, generation: Generation) -> None:
    """Arrays with all that the generation lets know about them."""
    put_string(parts, data.kind)
    put_scalar(parts, float(data.timestamp))
    put_string(parts, data.name)
    if generation is C4:
        put_string(parts, data.units)
    for text in (data.source, data.dim, data.distribution):
        put_string(parts, text)
    put_list(parts, map(_with_size, data.data), generation)
    put_list(parts, data.labels, generation)
    put_string(parts, data.origin)
    put_list(parts, data.nav_indexes, generation)
    put_list(parts, data.axes, generation)
    if generation in (C3, C4):
        put_list(parts, map(_with_size, data.errors), generation)
    if generation is not C1:
        put_list(parts, data.extra, generation)
        for value in data.extra.values():
            put_element(parts, value, generation)


def _with_size(array: Array) -> Array:
    """PyMoDAQ knows no arrays without dimensions."""
    return array if array.ndim else array.reshape(1)


__all__ = [
    "ACTUATOR", "FROM_PLUGINS", "put_axis_message", "put_element", "put_frame", "put_list",
    "put_path", "put_position", "read_axis_message", "read_frame", "read_list", "read_path",
    "read_position",
]  # fmt: skip
