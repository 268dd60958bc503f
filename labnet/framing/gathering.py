"""Long byte strings that come in pieces."""

from __future__ import annotations

LONG = 16 * 1024
"""Pieces of so many bytes are kept as they are until all are joined."""


class Gathered:
    """Bytes in the order in which they come, joined once.

    Appending megabytes to a bytearray has it moved again and again, and one of the full length must
    be zeroed first. Short pieces, of which there may be millions, are joined as they come.
    """

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray | memoryview] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """One more piece, which nobody changes."""
        size = len(data)
        self._size += size
        pieces = self._pieces
        if size >= LONG:
            pieces.append(data)
        elif size:
            last = pieces[-1] if pieces else None
            if isinstance(last, bytearray) and len(last) < LONG:
                last += data
            else:
                pieces.append(bytearray(data))

    def head(self, size: int) -> bytes:
        """The first `size` bytes, or what there is of them."""
        head = b""
        for piece in self._pieces:
            head += piece[: size - len(head)]
            if len(head) == size:
                break
        return head

    def clear(self) -> None:
        """Forgets all."""
        self._pieces.clear()
        self._size = 0

    def take(self) -> bytearray:
        """All of it, in one; begins anew."""
        whole = bytearray().join(self._pieces)
        self.clear()
        return whole
