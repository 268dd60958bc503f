"""Requests and replies of PyRogue's binary port (pickles) and text port (JSON and text).

A request is a mapping with ``path``, ``attr``, ``args`` and ``kwargs``. A reply is the pickle, or
the text, of the result; an error is a pickled exception, or text that begins with ``EXCEPTION: ``.
Both travel behind the envelope of a REQ socket.
"""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from labnet.errors import LabError, quote
from labnet.wires.rogue.model import NodeInfo, VariableValue
from labnet.wires.rogue.pickles.bounds import REQUEST, BadPickle, Bounds
from labnet.wires.rogue.pickles.node_pool import dumps_nodes
from labnet.wires.rogue.pickles.reader import read_request
from labnet.wires.rogue.pickles.writer import (
    PROTOCOL,
    NotPlain,
    dumps,
    dumps_exception,
    dumps_request,
    plain_value,
)
from labnet.wires.rogue.quick import quick_request

ROOT_PATH: Final = "__ROOT__"
EXCEPTION: Final = "EXCEPTION: "
MAX_REQUEST: Final = 16 * 1024 * 1024
MAX_REPLY: Final = 64 * 1024 * 1024
CACHED_LENGTH: Final = 256
CACHED: Final = 4096

_SAFE: Final = frozenset({str, int, float, bool, type(None)})


class BadRequest(LabError):
    """A request that cannot be understood; `kind` is ``module.name`` as PyRogue's errors have."""

    def __init__(self, text: str, kind: str = "builtins.TypeError") -> None:
        self.kind = kind
        super().__init__(text)


class Request:
    """What a client asks: `attr` of the node at `path`, called with `args` and `kwargs`."""

    __slots__ = ("args", "attr", "kwargs", "path")

    def __init__(
        self, path: str, attr: str | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self.path = path
        self.attr = attr
        self.args = args
        self.kwargs = kwargs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Request) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.path, self.attr))

    def _key(self) -> tuple[Any, ...]:
        return self.path, self.attr, self.args, dict(self.kwargs)

    def __repr__(self) -> str:
        return f"<Request {self.attr} of {self.path}>"


def request_of(body: Any) -> Request:
    """The request that a mapping is; raises `BadRequest`. Unknown keys are ignored."""
    if not isinstance(body, dict):
        raise BadRequest(f"the request must be a mapping, not {quote(body)}")
    path, attr = body.get("path"), body.get("attr")
    args, kwargs = body.get("args", ()), body.get("kwargs", {})
    if not isinstance(path, str):
        raise BadRequest(f"the path of a request must be text, not {quote(path)}")
    if attr is not None and not isinstance(attr, str):
        raise BadRequest(f"the attr of a request must be text, not {quote(attr)}")
    if not isinstance(args, list | tuple):
        raise BadRequest(f"the args of a request must be a list, not {quote(args)}")
    if not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
        raise BadRequest("the kwargs of a request must be a mapping from names")
    return Request(path, attr, tuple(args), kwargs)


def parse_binary(body: bytes, bounds: Bounds = REQUEST) -> Request:
    """A request from the binary port; raises `BadRequest`."""
    if not body:
        raise BadRequest("the request is empty", "_pickle.UnpicklingError")
    quick = quick_request(body)
    if quick is not None:
        return Request(*quick, {})
    try:
        return request_of(read_request(body, bounds))
    except BadPickle as error:
        raise BadRequest(str(error), "_pickle.UnpicklingError") from None


def parse_text(body: bytes) -> Request:
    """A request from the text port; raises `BadRequest`."""
    if not body:
        raise BadRequest("the request is empty", "json.decoder.JSONDecodeError")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        text = f"the request is not UTF-8 text, see byte {error.start}"
        raise BadRequest(text, "builtins.UnicodeDecodeError") from None
    try:
        return request_of(json.loads(text))
    except RecursionError:
        raise BadRequest("the request is nested too deeply", "builtins.RecursionError") from None
    except json.JSONDecodeError as error:
        raise BadRequest(str(error), "json.decoder.JSONDecodeError") from None
    except ValueError:  # of what else may be wrong, Python speaks of its own settings
        raise BadRequest("a number has too many digits", "builtins.ValueError") from None


def is_simple(request: Request) -> bool:
    """Whether a request may be remembered: nothing in it can be changed."""
    return not request.kwargs and _SAFE.issuperset(map(type, request.args))


class RequestCache:
    """Parses requests, and remembers the short ones that clients send again and again."""

    def __init__(self, parse: Callable[[bytes], Request], max_request: int = MAX_REQUEST) -> None:
        self._parse = parse
        self._max_request = max_request
        self._known: dict[bytes, Request] = {}

    def get(self, body: bytes) -> Request:
        """The request; raises `BadRequest`."""
        known = self._known.get(body)
        if known is not None:
            return known
        if len(body) > self._max_request:
            text = f"the request is longer than {self._max_request} bytes"
            raise BadRequest(text, "builtins.ValueError")
        request = self._parse(body)
        if is_simple(request) and len(body) <= CACHED_LENGTH:
            if len(self._known) >= CACHED:
                self._known.clear()
            self._known[body] = request
        return request


def binary_reply(result: Any) -> bytes:
    """A result as the binary port sends it, never empty; raises `NotPlain`."""
    if result.__class__ in _SAFE:
        return pickle.dumps(result, PROTOCOL)
    if result.__class__ is OrderedDict:
        return dumps_nodes(result.values())
    return dumps(result)


def binary_error(kind: str, text: str) -> bytes:
    """An error as the binary port sends it; `kind` is ``module.name``."""
    return dumps_exception(f"{kind}: {text}")


def text_reply(result: Any) -> bytes:
    """A result as the text port sends it: what ``str`` gives; empty for an empty text."""
    return as_text(result).encode("utf-8", "replace")


def text_error(kind: str, text: str) -> bytes:
    """An error as the text port sends it, without its class."""
    return f"{EXCEPTION}{text}".encode("utf-8", "replace")


def as_text(result: Any) -> str:
    """A result as text, the way Python's ``str`` writes it; raises `NotPlain`."""
    if isinstance(result, str):
        return result
    if isinstance(result, NodeInfo):
        return f"{result.bases[0]} - {result.path}"
    if isinstance(result, OrderedDict):
        items = ", ".join(f"({name!r}, {as_text(node)})" for name, node in result.items())
        return f"OrderedDict([{items}])" if items else "OrderedDict()"
    if result.__class__ is VariableValue:
        return result.value_disp
    return str(plain_value(result))


# ---- the other side --------------------------------------------------------------------------


def encode_binary(
    path: str, attr: str | None, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> bytes:
    """A request for the binary port; raises `NotPlain`."""
    return dumps_request(path, attr, args, kwargs)


def encode_text(path: str, attr: str, argument: str = "") -> bytes:
    """A request for the text port, escaped; it has an argument if that is not empty."""
    body: dict[str, Any] = {"attr": attr, "path": path}
    if argument:
        body["args"] = [argument]
    return json.dumps(body, separators=(",", ": ")).encode()


def envelope(number: int) -> list[bytes]:
    """The parts before a request of PyRogue's ``ZmqClient``: a counter that comes back."""
    return [(number & 0xFFFFFFFF).to_bytes(4, "little"), b""]


__all__ = [
    "EXCEPTION", "MAX_REPLY", "MAX_REQUEST", "ROOT_PATH", "BadRequest", "NotPlain", "Request",
    "RequestCache", "as_text", "binary_error", "binary_reply", "encode_binary", "encode_text",
    "envelope", "parse_binary", "parse_text", "request_of", "text_error", "text_reply",
]  # fmt: skip
