"""JSON lines between a driver, which runs in a peer's environment, and the test that started it.

A question is ``{"id": 1, "ask": "query", "args": [...], "kwargs": {...}}``; its answer has the same
id and either ``result`` or ``error`` (``type``, ``text`` and what the driver adds). A line with
``event`` comes unasked. Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

Handler = Callable[..., Any]


class Conversation:
    """The driver's end. Whatever the peer prints goes to standard error from here on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def tell(self, event: str, **fields: Any) -> None:
        self._send({"event": event, **fields})

    def _send(self, message: dict[str, Any]) -> None:
        with self._lock:
            self._out.write(json.dumps(message) + "\n")
            self._out.flush()

    def serve(self, handlers: Mapping[str, Handler]) -> None:
        """Answer questions until the test closes standard input, then end the process at once:
        a driver never outlives its test, and says no goodbye that the test did not ask for."""
        for line in sys.stdin:
            question = json.loads(line)
            self._send({"id": question["id"], **_answer(handlers, question)})
        os._exit(0)

    def serve_in_thread(self, handlers: Mapping[str, Handler]) -> None:
        threading.Thread(target=self.serve, args=(handlers,), daemon=True).start()


def _answer(handlers: Mapping[str, Handler], question: dict[str, Any]) -> dict[str, Any]:
    try:
        handler = handlers[question["ask"]]
        return {"result": handler(*question["args"], **question["kwargs"])}
    except Exception as error:
        return {"error": {**_details(error), "type": type(error).__name__, "text": str(error)}}


def _details(error: Exception) -> dict[str, Any]:
    """What a VISA error knows besides its text; the class of what lies beneath, if anything."""
    details: dict[str, Any] = {"cause": type(error.__cause__).__name__ if error.__cause__ else None}
    for name in ("abbreviation", "error_code"):
        if (value := getattr(error, name, None)) is not None:
            details[name] = value if isinstance(value, str) else int(value)
    return details
