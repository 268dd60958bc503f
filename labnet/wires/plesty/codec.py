"""PLESTY device protocol: bodies to requests and replies, and back.

One request or reply is one ZeroMQ message frame holding one JSON object in UTF-8 (`dialect` has the
details of the JSON). Nothing here does any I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf, isnan
from typing import Any, Final

from labnet.errors import shorten
from labnet.wires.plesty.dialect import (
    MAX_DEPTH,
    SIMPLE,
    BadRequest,
    check_depth,
    json_text,
    json_type,
    loads,
)

MAX_BODY: Final = 16 * 1024 * 1024
"""Longest request, in bytes."""
MAX_REPLY: Final = 64 * 1024 * 1024
"""Longest reply, in bytes."""
MAX_RESOURCES: Final = 1000
"""Most resource names in one request."""
MAX_NAME: Final = 200
"""Longest name of a resource, and longest `id` that is echoed, in characters."""
MAX_CACHED: Final = 1024
"""Requests that a `RequestCache` remembers."""

DEVICE_TYPES: Final = frozenset({"query", "write", "call"})
"""Request types that the device itself answers, in turn and within the request's `timeout`."""
PEER_TYPES: Final = DEVICE_TYPES | {"connect", "disconnect", "describe", "help"}
"""Request types of a device server."""
BENCH_TYPES: Final = frozenset({"device", "exec", "fetch"})
"""Further request types of a bench agent, which serves many devices on one port."""

NO_VALUE: Final = object()


class BadReply(Exception):
    """The peer's reply breaks the protocol."""


# ---- requests --------------------------------------------------------------------------------


class Request:
    """One request of a client, checked.

    `name` is the parameter, the operation or (type ``device``) the device; `timeout` is in seconds,
    None for no limit; `resources` are paths as the client gave them, None where it gave none;
    `tail` ends the reply, with the request's `id` when it has one.
    """

    __slots__ = (
        "args", "inner", "kwargs", "metadata", "name", "resources", "tail", "timeout", "token",
        "type", "value",
    )  # fmt: skip

    def __init__(self, type: str) -> None:
        self.type = type
        self.name = ""
        self.value: Any = None
        self.args: list[Any] = []
        self.kwargs: dict[str, Any] = {}
        self.timeout: float | None = None
        self.resources: tuple[str, ...] | None = None
        self.metadata: dict[str, Any] = {}
        self.inner: Any = None
        self.token: Any = None
        self.tail = "}"


def parse_request(body: bytes, limit: int = MAX_BODY) -> Request:
    """The request in `body`, or `BadRequest` with what to answer."""
    if len(body) > limit:
        raise BadRequest("ValueError", f"the request is longer than {limit} bytes")
    value = loads(body)
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        check_depth(value)
    return request_of(value)


def request_of(value: object) -> Request:
    """The request that a JSON value stands for."""
    if not isinstance(value, dict):
        raise BadRequest(
            "AttributeError", f"the request must be a JSON object, not {json_type(value)}"
        )
    kind = value.get("type")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise BadRequest("ValueError", f"Unknown request type: {shorten(str(kind))}")
    request = Request(str(kind))
    request.tail = _tail(value)
    try:
        read(request, value)
    except BadRequest as error:
        error.tail = request.tail
        raise
    return request


def _tail(value: dict[str, Any]) -> str:
    """The end of the reply: ``}``, or ``, "id": ...}`` where the request has a plain `id`."""
    if "id" not in value:
        return "}"
    given = value["id"]
    small = isinstance(given, (int, float)) or given is None
    if small or (isinstance(given, str) and len(given) <= MAX_NAME):
        text = json_text(given)
        return f', "id": {text}}}' if len(text) <= 8 * MAX_NAME else "}"
    return "}"


def _need(value: dict[str, Any], key: str) -> Any:
    try:
        return value[key]
    except KeyError:
        raise BadRequest("KeyError", f"'{key}'") from None


def _text(value: dict[str, Any], key: str) -> str:
    given = _need(value, key)
    if not isinstance(given, str):
        raise BadRequest("TypeError", f"{key} must be a string, not {json_type(given)}")
    return given


def _common(request: Request, value: dict[str, Any]) -> None:
    given = value.get("timeout")
    if given is not None:
        request.timeout = seconds_of(given)
    if "resources" in value:
        request.resources = resource_paths(value["resources"])


def seconds_of(given: object) -> float | None:
    """A request's `timeout`; positive infinity is no limit."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        what = json_type(given)
        raise BadRequest("TypeError", f"timeout must be a number of seconds or null, not {what}")
    try:
        seconds = float(given)
    except OverflowError:
        return None if given > 0 else -1.0
    if isnan(seconds):
        raise BadRequest("ValueError", "timeout must be a number of seconds or null, not NaN")
    return None if seconds == inf else seconds


def _read_query(request: Request, value: dict[str, Any]) -> None:
    request.name = _text(value, "param")
    _common(request, value)


def _read_write(request: Request, value: dict[str, Any]) -> None:
    request.name = _text(value, "param")
    request.value = _need(value, "value")
    _common(request, value)


def _read_call(request: Request, value: dict[str, Any]) -> None:
    request.name = _text(value, "func")
    request.args = _arguments(value.get("args", ()))
    request.kwargs = _keywords(value.get("kwargs", ()))
    _common(request, value)


def _arguments(given: Any) -> list[Any]:
    """Positional arguments; as with the peer, a string is its letters, an object its keys."""
    if isinstance(given, (list, tuple, str, dict)):
        return list(given)
    raise BadRequest("TypeError", f"args must be a list, not {json_type(given)}")


def _keywords(given: Any) -> dict[str, Any]:
    """Keyword arguments; like the peer, a list of pairs will do."""
    if isinstance(given, dict):
        return given
    pairs = isinstance(given, (list, tuple)) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in given
    )
    if pairs:
        return dict(given)
    raise BadRequest("TypeError", f"kwargs must be an object, not {json_type(given)}")


def _read_connect(request: Request, value: dict[str, Any]) -> None:
    request.resources = resource_paths(value.get("resources"))
    request.metadata = {
        key: item for key, item in value.items() if key not in ("type", "resources", "timeout")
    }


def _read_other(request: Request, value: dict[str, Any]) -> None:
    request.token = value.get("token")
    if "resources" in value:
        request.resources = resource_paths(value["resources"])


def _read_bench(request: Request, value: dict[str, Any]) -> None:
    request.token = value.get("token")
    if request.type == "device":
        request.name = _text(value, "name")
        request.inner = _need(value, "request")


_READERS: Final[dict[str, Callable[[Request, dict[str, Any]], None]]] = {
    "query": _read_query,
    "write": _read_write,
    "call": _read_call,
    "connect": _read_connect,
    "disconnect": _read_other,
    "describe": _read_other,
    "help": _read_other,
    "device": _read_bench,
    "exec": _read_bench,
    "fetch": _read_bench,
}


class RequestCache:
    """Parses requests, remembering the short ones: clients repeat the same bytes.

    Only requests that hold nothing mutable and no `id` are remembered.
    """

    __slots__ = ("_known", "_limit", "hit")

    def __init__(self, limit: int = MAX_BODY) -> None:
        self._known: dict[bytes, Request] = {}
        self._limit = limit
        self.hit = self._known.get

    def parse(self, body: bytes) -> Request:
        """`parse_request` of `body`, from memory where that is possible."""
        request = self.hit(body)
        if request is None:
            request = parse_request(body, self._limit)
            if len(body) <= 256 and _repeatable(request):
                if len(self._known) >= MAX_CACHED:
                    self._known.clear()
                self._known[body] = request
        return request


def _repeatable(request: Request) -> bool:
    if request.type not in DEVICE_TYPES or request.tail != "}":
        return False
    values = (request.value, *request.args, *request.kwargs.values())
    return all(type(item) in SIMPLE for item in values)


# ---- resources -------------------------------------------------------------------------------


def resource_paths(given: object) -> tuple[str, ...]:
    """The ``/``-joined paths that a `resources` key names, in order, each once.

    It may be null, a string, a list (nested and mixed) or a mapping: ``{"axis": ["x", "y"]}`` is
    ``axis/x`` and ``axis/y``; null as a value stands for the key itself, ``[]`` for nothing.
    """
    found: dict[str, None] = {}
    _collect(given, "", found, 0)
    return tuple(found)


def _collect(given: Any, prefix: str, found: dict[str, None], depth: int) -> None:
    if depth > 16:
        raise BadRequest("ValueError", "resources are nested deeper than 16 levels")
    if isinstance(given, dict):
        for key, item in given.items():
            path = _joined(prefix, key)
            if item is None:
                _add(path, found)
            else:
                _collect(item, path, found, depth + 1)
    elif isinstance(given, list):
        for item in given:
            _collect(item, prefix, found, depth + 1)
    elif given is not None:
        _add(_joined(prefix, str(given)), found)


def _joined(prefix: str, name: str) -> str:
    name = name.strip().strip("/").strip()
    return f"{prefix}/{name}" if prefix and name else prefix or name


def _add(path: str, found: dict[str, None]) -> None:
    if len(path) > MAX_NAME:
        raise BadRequest("ValueError", f"a resource name is longer than {MAX_NAME} characters")
    found[path] = None
    if len(found) > MAX_RESOURCES:
        raise BadRequest("ValueError", f"more than {MAX_RESOURCES} resources in one request")


# ---- replies ---------------------------------------------------------------------------------


def success(result: object, tail: str = "}") -> bytes:
    """The reply to a request that worked; `NotSerializable` where the result has no JSON."""
    return f'{{"status": "ok", "result": {json_text(result)}{tail}'.encode()


def failure(kind: str, text: str, tail: str = "}", result: object = NO_VALUE) -> bytes:
    """The reply to a request that failed, with the exception's bare class name `kind`.

    Only a refused ``connect`` has a `result` besides, and labnet's refusals that name a holder.
    """
    head = f'{{"status": "error", "error": {json_text(text)}, "type": {json_text(kind)}'
    if result is not NO_VALUE:
        head = f'{head}, "result": {json_text(result)}'
    return (head + tail).encode()


class Reply:
    """A server's reply: `result` when `failed` is False, else `kind` and `text` say what failed."""

    __slots__ = ("failed", "has_id", "id", "kind", "result", "text")

    def __init__(self, failed: bool, result: Any, kind: str, text: str) -> None:
        self.failed = failed
        self.result = result
        self.kind = kind
        self.text = text
        self.id: Any = None
        self.has_id = False


def parse_reply(body: bytes) -> Reply:
    """The reply in `body`; `BadReply` when there is none.

    Like the peer's client, any status but ``error`` is success.
    """
    try:
        value = loads(body)
    except BadRequest as error:
        raise BadReply(f"the server's reply is not JSON: {error.text}") from None
    if not isinstance(value, dict) or "status" not in value:
        raise BadReply("the server's reply has no status")
    failed = value["status"] == "error"
    kind, text = value.get("type", ""), value.get("error", "")
    reply = Reply(failed, value.get("result"), str(kind), str(text))
    if "id" in value:
        reply.id = value["id"]
        reply.has_id = True
    return reply


def encode_request(
    type: str, fields: Mapping[str, object] | Iterable[tuple[str, object]] = (), id: int = 0
) -> bytes:
    """A request: `type` first, then `fields` in their order, then `id` unless that is 0.

    Like the peer's client, fields come last and so may replace `type`.
    """
    body: dict[str, object] = {"type": type}
    body.update(fields)
    if id:
        body["id"] = id
    return json_text(body).encode()
