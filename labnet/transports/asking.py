"""The questions of clients whose answers come as whole messages."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from labnet.errors import quote, shorten
from labnet.framing.blocks import decode_text, take_block

Progress = Callable[[int, int], None]
"""Told how many bytes of a block have come or gone, and how many it has."""


class Asking:
    """What a client can ask, made of its own `_ask`."""

    def _ask(
        self, message: str | bytes, progress: Progress | None, timeout: float | None
    ) -> Deferred[bytearray]:
        """Sends a message and gives its whole answer."""
        raise NotImplementedError

    def query(self, message: str, timeout: float | None = None) -> Deferred[str]:
        """Sends a message and gives its answer as text, without the line end."""
        return self._ask(message, None, timeout).addCallback(decode_text)

    def query_bytes(self, message: str | bytes, timeout: float | None = None) -> Deferred[bytes]:
        """Sends a message and gives its whole answer, as it comes."""
        return self._ask(message, None, timeout).addCallback(bytes)

    def query_block(
        self, message: str, progress: Progress | None = None, timeout: float | None = None
    ) -> Deferred[bytearray]:
        """Sends a message that is answered by one data block, and gives the bytes of the block.

        A header before the block is left out. `progress` is called with the bytes that have come
        and their number in all.
        """
        return self._ask(message, progress, timeout).addCallback(take_block)


def shown(message: str | bytes) -> str:
    """A message for a text about it."""
    return repr(shorten(message)) if isinstance(message, str) else quote(message)
