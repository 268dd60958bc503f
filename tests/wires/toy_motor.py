"""A motor with the commands of the one behind the recorded sm_bluesky exchanges."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from labnet.device import Device, command, parameter
from labnet.values import BYTES


class ToyMotor(Device):
    """Moves at once; some commands misbehave, as real ones do."""

    position = parameter(float, initial=0.0, access="r")
    limits = parameter(list, initial=[-10.0, 10.0, "mm"], access="r")
    speed = parameter(float, initial=1.0, unit="mm/s", limits=(0.1, 5.0), help="along the axis")
    mode = parameter(choices=("slow", "fast"), initial="slow")

    def __init__(self, clock: Any) -> None:
        super().__init__()
        self.clock = clock
        self.log: list[str] = []

    @command
    def move_abs(self, position: float) -> str:
        """Moves to a position.

        At once.
        """
        self.store("position", position)
        self.log.append(f"move {position}")
        return f"Moved to {position:g}"

    @command
    def echo(self, *parts: bytes) -> list[bytes]:
        """Its arguments."""
        return list(parts)

    @command
    def argc(self, *parts: bytes) -> list[str]:
        """The number of arguments, and each as Python writes it."""
        return [str(len(parts)), *map(repr, parts)]

    @command
    def fail(self, text: str) -> None:
        """Fails with a text."""
        raise ValueError(text)

    @command
    def fail2(self) -> None:
        """Fails with two lines."""
        raise ValueError("first line\nsecond line\twith tab")

    @command
    def oserr(self) -> None:
        """Fails as a broken serial line does."""
        raise OSError(5, "Input/output error")

    @command
    def oops(self) -> None:
        """Fails as hardware that does not answer does."""
        raise TimeoutError("by hand")

    @command(long=True)
    def slow(self, seconds: float) -> Deferred[str]:
        """Takes its time."""
        self.log.append("slow begins")
        return deferLater(self.clock, seconds, lambda: "done")

    @command(timeout=0.2)
    def deadline(self, seconds: float) -> Deferred[str]:
        """Takes twice its time, with a limit of its own."""
        return deferLater(self.clock, 2 * seconds, lambda: "done")

    @command
    def silent(self) -> None:
        """Answers nothing."""

    @command
    def nl(self) -> str:
        """Two lines."""
        return "line one\nline two"

    @command
    def cr(self) -> str:
        """Other line breaks."""
        return "a\rb\vc\fd"

    @command
    def raw(self) -> bytes:
        """Bytes that are no text."""
        return b"\xff\xfe"

    @command
    def padded(self) -> str:
        """Blanks at the ends."""
        return "\t  mid  \t"

    @command
    def big(self, size: int) -> str:
        """Many letters."""
        return "x" * size

    @command
    def typed(self, f: float, n: int = 7) -> list[Any]:
        """A float and an int."""
        return [f, n]

    @command
    def stop(self) -> str:
        """Stops."""
        return "stopped"


assert ToyMotor(None).members["echo"].spec.variadic is BYTES  # type: ignore[union-attr]
