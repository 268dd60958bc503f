"""Values and objects of generation D: each behind the name of its type, in units of known length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from labnet.wires.pymodaq.objects import DATA_CLASSES, DIMENSIONS, SOURCES, Axis, Data, DataToExport
from labnet.wires.pymodaq.primitives import (
    Malformed,
    Parts,
    Source,
    Steps,
    put_array,
    put_bytes,
    put_scalar,
    put_string,
    put_uint,
    size_of,
)

MAX_DEPTH = 8
"""Values in values."""


def read_unit(source: Source) -> Steps[Any]:
    """The next unit; its length must be just what its value takes."""
    length = yield source.uint
    if length > source.left:
        raise Malformed(f"{length} bytes, where at most {source.left} are allowed")
    after = source.left - length
    source.left = length
    value = yield from read_value(source)
    if source.left:
        raise Malformed(f"a unit of {length} bytes that does not end with its value")
    source.left = after
    return value


def read_text(source: Source) -> Steps[str]:
    """A unit that holds a string, or bytes that are one (so the settings are sent)."""
    value = yield from read_unit(source)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Malformed("a text that is not UTF-8") from None
    return _is(value, str, "a text")  # type: ignore[no-any-return]


def read_path(source: Source) -> Steps[tuple[str, ...]]:
    """A unit that holds the names of a setting and the groups around it."""
    names = yield from read_unit(source)
    return _all(names, str, "a path")


def read_position(source: Source) -> Steps[Data]:
    """A unit that holds a position."""
    value = yield from read_unit(source)
    return _is(value, Data, "a position")  # type: ignore[no-any-return]


def read_frame(source: Source) -> Steps[DataToExport]:
    """A unit that holds a frame."""
    value = yield from read_unit(source)
    return _is(value, DataToExport, "a frame")  # type: ignore[no-any-return]


def read_value(source: Source, depth: int = 0) -> Steps[Any]:
    """A value behind the name of its type."""
    name = yield source.string
    step = {
        "str": source.xml,
        "bytes": source.blob,
        "int": source.scalar,
        "float": source.scalar,
        "complex": source.scalar,
        "bool": source.scalar,
        "ndarray": source.array,
    }.get(name)
    if step is not None:
        return (yield step)
    if depth >= MAX_DEPTH:
        raise Malformed(f"values in values, more than {MAX_DEPTH} deep")
    if name in DATA_CLASSES:
        return (yield from _read_data(source, name, depth + 1))
    read: Callable[[Source, int], Steps[Any]] | None = _READERS.get(name)
    if read is None:
        raise Malformed(f"{name[:40]!r} is no type of values")
    return (yield from read(source, depth + 1))


def _read_nothing(source: Source, depth: int) -> Steps[None]:
    return None
    yield source.count


def _read_list(source: Source, depth: int) -> Steps[list[Any]]:
    count = yield source.count
    elements: list[Any] = []
    while len(elements) < count:
        elements.append((yield from read_value(source, depth)))
    return elements


def _read_dict(source: Source, depth: int) -> Steps[dict[str, Any]]:
    keys = yield from read_value(source, depth)
    found = {}
    for key in _all(keys, str, "the keys of a mapping"):
        found[key] = yield from read_value(source, depth)
    return found


def _read_axis(source: Source, depth: int) -> Steps[Axis]:
    label = yield from _expect(source, depth, str)
    units = yield from _expect(source, depth, str)
    data = yield from read_value(source, depth)
    if not hasattr(data, "shape"):
        raise Malformed("an axis without an array")
    index = yield from _expect(source, depth, int)
    spread = yield from _expect(source, depth, int)
    return Axis(label, units, data, index, spread)


def _read_export(source: Source, depth: int) -> Steps[DataToExport]:
    timestamp = yield from _expect(source, depth, int | float)
    name = yield from _expect(source, depth, str)
    data = yield from read_value(source, depth)
    extra = yield from _read_extra(source, depth)
    return DataToExport(name, _all(data, Data, "a frame"), float(timestamp), extra)


def _read_data(source: Source, kind: str, depth: int) -> Steps[Data]:
    timestamp = yield from _expect(source, depth, int | float)
    name = yield from _expect(source, depth, str)
    origin_of = yield from _expect(source, depth, str)
    dim = yield from _expect(source, depth, str)
    if origin_of not in SOURCES or dim not in DIMENSIONS:
        raise Malformed(f"{origin_of[:40]!r}, {dim[:40]!r} where a source and dimensions belong")
    distribution = yield from _expect(source, depth, str)
    data = yield from _read_arrays(source, depth, "data")
    units = yield from _expect(source, depth, str)
    labels = yield from read_value(source, depth)
    origin = yield from _expect(source, depth, str)
    nav = yield from read_value(source, depth)
    axes = yield from read_value(source, depth)
    errors = yield from _read_arrays(source, depth, "a list of errors")
    extra = yield from _read_extra(source, depth)
    return Data(
        name, data, kind, float(timestamp), units, origin_of, dim, distribution,
        _all(labels, str, "a list of labels"), origin, _all(nav, int, "a list of indexes"),
        _all(axes, Axis, "a list of axes"), errors, extra,
    )  # fmt: skip


def _read_arrays(source: Source, depth: int, what: str) -> Steps[tuple[Any, ...]]:
    arrays = yield from read_value(source, depth)
    if arrays is None:  # no errors are known
        return ()
    if not isinstance(arrays, list) or not all(hasattr(array, "shape") for array in arrays):
        raise Malformed(f"{what} that holds something else than arrays")
    return tuple(arrays)


def _read_extra(source: Source, depth: int) -> Steps[Mapping[str, Any]]:
    names = yield from read_value(source, depth)
    extra = {}
    for name in _all(names, str, "a list of attributes"):
        extra[name] = yield from read_value(source, depth)
    return MappingProxyType(extra)


def _expect(source: Source, depth: int, kind: Any) -> Steps[Any]:
    value = yield from read_value(source, depth)
    return _is(value, kind, "a value")


def _is(value: Any, kind: Any, what: str) -> Any:
    if not isinstance(value, kind):
        raise Malformed(f"{what} that is of another type than it should be")
    return value


def _all(values: Any, kind: type, what: str) -> tuple[Any, ...]:
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise Malformed(f"{what} that holds something else")
    return tuple(values)


_READERS: Mapping[str, Callable[[Source, int], Steps[Any]]] = {
    "NoneType": _read_nothing,
    "list": _read_list,
    "tuple": _read_list,
    "dict": _read_dict,
    "Axis": _read_axis,
    "DataToExport": _read_export,
}


# The other way.


def put_unit(parts: Parts, value: Any) -> None:
    """A value as a unit; ValueError for what PyMoDAQ does not know."""
    inside: Parts = []
    put_value(inside, value)
    put_uint(parts, size_of(inside))
    parts += inside


def put_value(parts: Parts, value: Any) -> None:
    """A value behind the name of its type."""
    if hasattr(value, "dtype"):
        if value.shape == ():
            put_value(parts, value.item())
            return
        put_string(parts, "ndarray")
        put_array(parts, value)
        return
    for kind, put in _WRITERS:
        if isinstance(value, kind):
            put(parts, value)
            return
    raise ValueError(f"a {type(value).__name__} is no value that PyMoDAQ knows")


def _put_nothing(parts: Parts, value: None) -> None:
    put_string(parts, "NoneType")


def _put_str(parts: Parts, value: str) -> None:
    put_string(parts, "str")
    put_string(parts, value)


def _put_bytes(parts: Parts, value: bytes) -> None:
    put_string(parts, "bytes")
    put_bytes(parts, value)


def _put_number(parts: Parts, value: Any) -> None:
    put_string(parts, next(k.__name__ for k in (bool, int, float, complex) if isinstance(value, k)))
    put_scalar(parts, value)


def _put_list(parts: Parts, values: Iterable[Any]) -> None:
    values = list(values)
    put_string(parts, "list")
    put_uint(parts, len(values))
    for value in values:
        put_value(parts, value)


def _put_dict(parts: Parts, value: Mapping[str, Any]) -> None:
    put_string(parts, "dict")
    _put_list(parts, value)
    for item in value.values():
        put_value(parts, item)


def _put_axis(parts: Parts, axis: Axis) -> None:
    put_string(parts, "Axis")
    for value in (axis.label, axis.units, axis.data, axis.index, axis.spread_order):
        put_value(parts, value)


def _put_export(parts: Parts, export: DataToExport) -> None:
    put_string(parts, "DataToExport")
    put_value(parts, float(export.timestamp))
    put_value(parts, export.name)
    put_value(parts, export.data)
    _put_extra(parts, export.extra)


def _put_data(parts: Parts, data: Data) -> None:
    put_string(parts, data.kind)
    put_value(parts, float(data.timestamp))
    for text in (data.name, data.source, data.dim, data.distribution):
        put_value(parts, text)
    _put_list(parts, (array if array.ndim else array.reshape(1) for array in data.data))
    for value in (data.units, data.labels, data.origin, data.nav_indexes, data.axes):
        put_value(parts, value)
    _put_list(parts, (array if array.ndim else array.reshape(1) for array in data.errors))
    _put_extra(parts, data.extra)


def _put_extra(parts: Parts, extra: Mapping[str, Any]) -> None:
    _put_list(parts, extra)
    for value in extra.values():
        put_value(parts, value)


_WRITERS: tuple[tuple[Any, Callable[[Parts, Any], None]], ...] = (
    (str, _put_str),
    (bytes, _put_bytes),
    (bool | int | float | complex, _put_number),
    (Data, _put_data),
    (Axis, _put_axis),
    (DataToExport, _put_export),
    (list | tuple, _put_list),
    (dict, _put_dict),
    (type(None), _put_nothing),
)
