"""A program that speaks as PyMoDAQ's LabVIEW example does: no settings, big-endian doubles.

usage: labview_like.py ACTUATOR|GRABBER A|B PORT

Written from what is known of that example, of which two editions are in use: the one for PyMoDAQ up
to 3.6.8 sends lists without words (A), the later one with them (B). It knows the moves and ``Send
Data 0D``, ``1D``, ``2D``, sends every frame with two dimensions, and ignores any other word.
"""

from __future__ import annotations

import socket
import struct
import sys

from lines import Conversation

SHAPES = {"0D": (1, 1), "1D": (5, 1), "2D": (3, 4)}


class Program:
    """One connection, served until it ends."""

    def __init__(self, kind: str, generation: str, port: int, told: Conversation) -> None:
        self.generation = generation
        self.told = told
        self.place = 0.0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.send(text(kind))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                self.told.tell("ended")
                sys.exit()
            data += more
        return data

    def receive_text(self) -> str:
        (size,) = struct.unpack(">I", self.receive(4))
        return self.receive(size).decode()

    def receive_number(self) -> float:
        sign = self.receive_text()[0]
        (size,) = struct.unpack(">I", self.receive(4))
        (number,) = struct.unpack(f"{sign}d", self.receive(size))
        return float(number)

    def run(self) -> None:
        while True:
            word = self.receive_text()
            if word in ("move_abs", "move_rel"):
                number = self.receive_number()
                self.place = number if word == "move_abs" else self.place + number
                self.send(text("move_done") + scalar(self.place))
            elif word.removeprefix("Send Data ") in SHAPES:
                self.send(text("Done") + self.frame(*SHAPES[word.removeprefix("Send Data ")]))
            self.told.tell("ordered", word=word)

    def frame(self, rows: int, columns: int) -> bytes:
        """Two channels of counted numbers."""
        return struct.pack(">I", 2) + self.array(rows, columns, 0) + self.array(rows, columns, 1)

    def array(self, rows: int, columns: int, first: int) -> bytes:
        count = rows * columns
        word, sizes = b"", struct.pack(">II", rows, columns)
        if self.generation == "B":
            word, sizes = text("array"), struct.pack(">I", 2) + sizes
        numbers = struct.pack(f">{count}d", *range(first, first + count))
        return word + text(">f8") + struct.pack(">I", len(numbers)) + sizes + numbers


def text(word: str) -> bytes:
    """A string behind its length."""
    return struct.pack(">I", len(word)) + word.encode()


def scalar(number: float) -> bytes:
    """A big-endian double behind its type and its size."""
    return text(">f8") + struct.pack(">Id", 8, number)


def main() -> None:
    kind, generation, port = sys.argv[1:]
    Program(kind, generation, int(port), Conversation()).run()


if __name__ == "__main__":
    main()
