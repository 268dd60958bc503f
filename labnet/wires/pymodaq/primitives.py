"""What all messages consist of: lengths, strings, numbers and arrays, read as they come.

A reader of something larger is a generator that yields *steps* (methods of `Source` without
arguments) and is sent their results; who drives it takes a step again when more has come. So a
message may be cut anywhere, and nothing that is complete is read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import lru_cache
from math import prod
from struct import Struct
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from labnet.wires.pymodaq.generations import ANY, Among, Generation

Array: TypeAlias = npt.NDArray[Any]
Step: TypeAlias = Callable[[], Any]
T = TypeVar("T")
Steps: TypeAlias = Generator[Step, Any, T]

MAX_MESSAGE = 64 << 20
"""Bytes of one message, unless a section says otherwise."""
MAX_STRING = 64 << 10
"""Bytes of a name, a label, a unit."""
MAX_XML = 4 << 20
MAX_SIZES = 16
"""Dimensions of an array."""
MAX_COUNT = 1 << 14
"""Elements of a list."""
MAX_EMPTY = 1 << 20
"""The product of the sizes, but for those of 0, of an array without numbers."""
LARGE = 1 << 14
"""From this size on (bytes) an array is not copied among the rest of its message."""

SHORT = 64
"""Letters of a string that is worth remembering as it is sent."""

_UINT = Struct(">I")
_FLOAT, _INT = Struct("<d"), Struct("<q")
_INT_LIMIT = 1 << 63
# What precedes a number: the length and name of its type, and its own length.
_FLOAT_HEAD, _INT_HEAD = b"\0\0\0\3<f8\0\0\0\x08", b"\0\0\0\3<i8\0\0\0\x08"
_BOOL_HEAD = b"\0\0\0\3|b1\0\0\0\1"
_SIZES = tuple(Struct(f">{count}I") for count in range(MAX_SIZES + 1))
_LETTERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
_DTYPES = {
    f"{sign}{letter}": np.dtype(f"{sign}{letter}")
    for letter in _LETTERS
    for sign in ("<>|" if letter.endswith("1") else "<>")
}


class Malformed(Exception):
    """The peer has sent what no message of its generation is; nothing after it can be read."""


class Short(Exception):
    """A step needs more bytes than have come."""


class Source:
    """Bytes that have come, and the steps that take values from them.

    `left` is how many more bytes may belong to the message (or the unit) that is being read: each
    length is checked against it before anything is allocated. `among` are the generations that
    the peer may be of.
    """

    __slots__ = (
        "_at", "_data", "_hole", "_kept", "_need", "_taken", "among", "generation", "left", "marks",
    )  # fmt: skip

    def __init__(self, among: Iterable[Generation] = ANY, limit: int = MAX_MESSAGE) -> None:
        self.among: Among = frozenset()
        self.generation: Generation | None = None
        self.left = limit
        #: Where numbers and arrays were found, with their types and values, if anybody asks.
        self.marks: list[tuple[int, int, Any, Any]] | None = None
        self._data = b""
        self._at = 0
        self._kept = bytearray()
        self._need = 1
        self._hole: memoryview | None = None  # of an array: what has not come yet
        self._taken: Array | None = None
        self._decide(frozenset(among))

    def narrow(self, among: Among) -> None:
        """The peer is of one of these generations; `Malformed` if that cannot be."""
        both = self.among & among
        if not both:
            sent = " or ".join(sorted(one.name for one in among))
            known = " or ".join(sorted(one.name for one in self.among))
            raise Malformed(f"this is generation {sent}, while {known} was expected")
        self._decide(both)

    def _decide(self, among: Among) -> None:
        self.among = among
        self.generation = next(iter(among)) if len(among) == 1 else None

    @property
    def pending(self) -> int:
        """Bytes held of what is not complete."""
        held = 0 if self._taken is None or self._hole is None else self._taken.nbytes
        return len(self._data) - self._at + len(self._kept) + held

    @property
    def done(self) -> bool:
        """Whether all that has come has been read."""
        return self._at == len(self._data) and not self._kept and self._hole is None

    @property
    def wanted(self) -> int:
        """Bytes that are still to come of the array that is being received."""
        return 0 if self._hole is None else len(self._hole)

    @property
    def room(self) -> memoryview | None:
        """Where the rest of the array that is being received belongs; tell by `took` what came."""
        return self._hole

    def took(self, size: int) -> bool:
        """So many bytes were put into `room`; whether the array is complete."""
        assert self._hole is not None
        self._hole = self._hole[size:]
        if self._hole:
            return False
        self._hole = None
        self._data, self._at = b"", 0
        return True

    def feed(self, data: bytes | memoryview) -> bool:
        """More bytes; whether the step that ran short may be tried again.

        A `memoryview` is taken only while at least as many bytes are `wanted`.
        """
        if self._hole is not None:
            size = min(len(self._hole), len(data))
            self._hole[:size] = memoryview(data)[:size]
            if not self.took(size):
                return False
            self._data = bytes(data[size:])
            return True
        if self._kept:
            self._kept += data
            if len(self._kept) < self._need:
                return False
            data = bytes(self._kept)
            self._kept.clear()
        self._data, self._at = bytes(data), 0
        if len(data) < self._need:
            self._keep()
            return False
        return True

    def _keep(self) -> None:
        self._kept += memoryview(self._data)[self._at :]
        self._data, self._at = b"", 0

    def _want(self, end: int) -> None:
        """Raises `Short` unless the bytes up to the index `end` are there."""
        if end > len(self._data):
            self._need = end - self._at
            self._keep()
            raise Short

    def _go(self, end: int) -> None:
        """What is before the index `end` has been read."""
        self.left -= end - self._at
        self._at = end

    def _length(self, at: int, limit: int, what: str) -> int:
        """A length at the index `at`, which must be at most `limit` and `left`."""
        self._want(at + 4)
        size: int = _UINT.unpack_from(self._data, at)[0]
        limit = min(limit, self.left)
        if size > limit:
            raise Malformed(f"{what} of {size} bytes, where at most {limit} are allowed")
        return size

    # Steps

    def uint(self) -> int:
        """A length or a count."""
        end = self._at + 4
        self._want(end)
        number: int = _UINT.unpack_from(self._data, self._at)[0]
        self._go(end)
        return number

    def count(self) -> int:
        """How many elements a list has."""
        number = self.uint()
        if number > MAX_COUNT:
            raise Malformed(f"a list of {number}; at most {MAX_COUNT} are allowed")
        return number

    def peek(self) -> bytes:
        """The next eight bytes, which stay."""
        self._want(self._at + 8)
        return self._data[self._at : self._at + 8]

    def _bytes(self, limit: int, what: str) -> bytes:
        at = self._at + 4
        end = at + self._length(self._at, limit, what)
        self._want(end)
        found = self._data[at:end]
        self._go(end)
        return found

    def string(self) -> str:
        """A name, a label, a unit."""
        return self._text(self._bytes(MAX_STRING, "a string"))

    def blob(self) -> bytes:
        """Bytes; they look like a string."""
        return self._bytes(MAX_XML, "a value")

    def xml(self) -> str:
        """A text that may be long."""
        return self._text(self._bytes(MAX_XML, "a text"))

    def _text(self, found: bytes) -> str:
        try:
            return found.decode()
        except UnicodeDecodeError:
            raise Malformed("a string that is not UTF-8") from None

    def _dtype(self) -> tuple[Any, int]:
        """A numpy type and the index behind it."""
        size = self._length(self._at, MAX_STRING, "a number's type")
        if size > 4:
            raise Malformed(f"a number's type of {size} letters")
        at = self._at + 4
        self._want(at + size)
        name = self._data[at : at + size].decode("latin-1")
        dtype = _DTYPES.get(name)
        if dtype is None:
            raise Malformed(f"{name!r} is no type of numbers")
        return dtype, at + size

    def scalar(self) -> Any:
        """A number, as Python's bool, int, float or complex."""
        dtype, at = self._dtype()
        size = self._length(at, 64, "a number")
        if size != dtype.itemsize:
            raise Malformed(f"a number of type {dtype.str} with {size} bytes")
        end = at + 4 + size
        self._want(end)
        value = np.frombuffer(self._data, dtype, 1, at + 4)[0].item()
        if self.marks is not None:
            self.marks.append((at + 4, end, dtype, value))
        self._go(end)
        return value

    def array(self) -> Array:
        """An array with the number of its dimensions."""
        dtype, at = self._dtype()
        size = self._length(at, self.left, "an array")
        self._want(at + 8)
        sizes: int = _UINT.unpack_from(self._data, at + 4)[0]
        if sizes > MAX_SIZES:
            raise Malformed(f"an array of {sizes} dimensions; at most {MAX_SIZES} are allowed")
        at += 8
        self._want(at + 4 * sizes)
        shape = _SIZES[sizes].unpack_from(self._data, at)
        _check_shape(shape, dtype, size)
        return self._body(dtype, shape, size, at + 4 * sizes)

    def two_sizes(self) -> Array:
        """An array of generation A: always with rows and columns, one column for a 1D array.

        A third dimension is not sent, but its numbers are.
        """
        dtype, at = self._dtype()
        size = self._length(at, self.left, "an array")
        self._want(at + 12)
        rows, columns = _SIZES[2].unpack_from(self._data, at + 4)
        shape = _two_sizes(rows, columns, size // dtype.itemsize)
        _check_shape(shape, dtype, size)
        return self._body(dtype, shape, size, at + 12)

    def _body(self, dtype: Any, shape: tuple[int, ...], size: int, at: int) -> Array:
        """The numbers that begin at the index `at`: a view of what has come, if all has."""
        if at - self._at + size > self.left:
            raise Malformed(f"an array of {size} bytes, where {self.left} are left")
        end = at + size
        if end > len(self._data):
            self._fill(dtype, shape, size, at)
            raise Short
        if size < LARGE:  # not worth keeping all that has come with it
            array = np.frombuffer(self._data[at:end], dtype)
        else:
            array = np.frombuffer(self._data, dtype, size // dtype.itemsize, at)
        array = array.reshape(shape)
        if self.marks is not None:
            self.marks.append((at, end, dtype, array))
        self._go(end)
        return array

    def _fill(self, dtype: Any, shape: tuple[int, ...], size: int, at: int) -> None:
        """Makes room for numbers that have not all come; the rest goes there as it comes."""
        room = np.empty(size, np.uint8)
        here = len(self._data) - at
        hole = _bytes_of(room)
        hole[:here] = memoryview(self._data)[at:]
        self._hole = hole[here:]
        self._taken = room.view(dtype).reshape(shape)
        self._taken.flags.writeable = False
        self.left -= at - self._at + size
        self._data, self._at = b"", 0

    def filled(self) -> Array | None:
        """The array that has been waited for, once."""
        taken = None if self._hole is not None else self._taken
        if taken is not None:
            self._taken = None
        return taken


def _bytes_of(array: Any) -> memoryview:
    return memoryview(array)


def _check_shape(shape: tuple[int, ...], dtype: Any, size: int) -> None:
    """Raises `Malformed` unless the numbers take just `size` bytes.

    Of an array without any, the other sizes are bounded too: who gives it axes would allocate them.
    """
    fits = prod(shape) * dtype.itemsize == size
    if not fits or (not size and prod(length or 1 for length in shape) > MAX_EMPTY):
        raise Malformed(f"an array of {shape} numbers of type {dtype.str} in {size} bytes")


def _two_sizes(rows: int, columns: int, count: int) -> tuple[int, ...]:
    """The shape of `count` numbers for which generation A gives two sizes."""
    plane = rows * columns
    if plane and count > plane and not count % plane:
        return rows, columns, count // plane
    return (rows,) if columns == 1 or (columns == 0 and rows == count) else (rows, columns)


# The other way: each puts something behind `parts`.

Parts: TypeAlias = list[bytes | memoryview]


def put_uint(parts: Parts, number: int) -> None:
    """A length or a count."""
    parts.append(_UINT.pack(number))


def put_bytes(parts: Parts, data: bytes) -> None:
    """Bytes behind their length."""
    parts.append(_UINT.pack(len(data)))
    parts.append(data)


@lru_cache(1024)
def _word(text: str) -> bytes:
    """A short string; most are the same in each message."""
    data = text.encode()
    return _UINT.pack(len(data)) + data


def put_string(parts: Parts, text: str) -> None:
    """A string."""
    if len(text) <= SHORT:
        parts.append(_word(text))
    else:
        put_bytes(parts, text.encode())


def put_scalar(parts: Parts, value: Any) -> None:
    """A number; ValueError for anything else."""
    kind = value.__class__
    if kind is float:
        parts.append(_FLOAT_HEAD + _FLOAT.pack(value))
        return
    if kind is bool:
        parts.append(_BOOL_HEAD + (b"\1" if value else b"\0"))
        return
    if kind is int and -_INT_LIMIT <= value < _INT_LIMIT:
        parts.append(_INT_HEAD + _INT.pack(value))
        return
    number = np.asarray(value)
    if number.ndim or number.dtype.str not in _DTYPES:
        raise ValueError(f"a {type(value).__name__} is no number that PyMoDAQ knows")
    put_string(parts, number.dtype.str)
    put_bytes(parts, number.tobytes())


def put_array(parts: Parts, array: Array, *, two_sizes: bool = False) -> None:
    """An array, with `two_sizes` as generation A has them; ValueError for what is no numbers."""
    if array.dtype.str not in _DTYPES:
        raise ValueError(f"PyMoDAQ knows no arrays of type {array.dtype}")
    if array.nbytes >= 1 << 32 or array.ndim > MAX_SIZES:
        raise ValueError(f"an array of {array.nbytes} bytes, {array.ndim}D, cannot be sent")
    put_string(parts, array.dtype.str)
    if two_sizes:
        sizes = _SIZES[2].pack(*(*array.shape, 1, 1)[:2])
    else:
        sizes = _UINT.pack(array.ndim) + _SIZES[array.ndim].pack(*array.shape)
    parts.append(_UINT.pack(array.nbytes) + sizes)
    if array.nbytes < LARGE:
        parts.append(array.tobytes())
    else:
        parts.append(_bytes_of(np.ascontiguousarray(array).reshape(-1).view(np.uint8)))


def size_of(parts: Parts) -> int:
    """Bytes of all parts."""
    return sum(map(len, parts))


def merged(parts: Parts) -> Parts:
    """The same bytes in as few parts as can be without copying what is large."""
    if max(map(len, parts), default=0) < LARGE:
        return [b"".join(parts)]
    whole: Parts = []
    small: Parts = []
    for part in parts:
        if len(part) < LARGE:
            small.append(part)
            continue
        if small:
            whole.append(b"".join(small))
            small = []
        whole.append(part)
    if small:
        whole.append(b"".join(small))
    return whole
