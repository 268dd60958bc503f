"""How long the call in progress may take, and for whom it is made."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from labnet.errors import Cancelled, TimedOut


class Deadline:
    """How long the call in progress may still take; `check` it between the steps of a long one."""

    __slots__ = ("_seconds", "caller", "cancelled", "end", "limit")

    def __init__(
        self,
        limit: float | None,
        seconds: Callable[[], float] = time.monotonic,
        caller: Any = None,
    ) -> None:
        #: For whom the call is made.
        self.caller = caller
        self.limit = limit
        self.end = None if limit is None else seconds() + limit
        self.cancelled = False
        self._seconds = seconds

    def left(self) -> float:
        """Seconds left; infinite without a limit, 0 when the caller has gone."""
        if self.cancelled:
            return 0.0
        return float("inf") if self.end is None else max(0.0, self.end - self._seconds())

    def check(self, what: str) -> None:
        """Raises `Cancelled` when the caller has gone, `TimedOut` when the time has passed."""
        if self.cancelled:
            raise Cancelled(f"{what} was cancelled")
        if self.end is not None and self._seconds() >= self.end:
            raise TimedOut(what, self.limit)


_NO_DEADLINE = Deadline(None)
#: The deadline of the call in progress, in whichever thread or coroutine that is.
current_deadline: ContextVar[Deadline] = ContextVar("current_deadline", default=_NO_DEADLINE)
