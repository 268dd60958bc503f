"""PyMoDAQ's hardware side: grabs of a raw controlling program from labnet, and from plain sockets.
"""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from functools import partial

from benchmarks.loads import connect
from benchmarks.processes import Server
from benchmarks.rounds import Count, Row, compare
from labnet.wires.pymodaq.codec import (
    FROM_HARDWARE,
    Decoder,
    Done,
    Generation,
    Infos,
    SendData,
    encode_bytes,
)

LOADS = (("0D, one number", 0.2), ("2D, 512 x 512 uint16", 0.3), ("2D, 2048 x 2048 float64", 0.4))


def accept(listener: socket.socket) -> tuple[socket.socket, int]:
    """Who dials, after its first words, and how many bytes its frames have."""
    client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    decoder = Decoder(FROM_HARDWARE, {Generation.C4})
    while not any(isinstance(message, Infos) for message in decoder.feed(client.recv(65536))):
        pass
    client.sendall(encode_bytes(SendData("2D"), Generation.C4))
    size = 0
    while True:
        data = client.recv(65536)
        size += len(data)
        if any(isinstance(message, Done) for message in decoder.feed(data)):
            return client, size


def grabs(client: socket.socket, number: int, size: int, seconds: float) -> Count:
    """One grab after the other, each read into the same place."""
    request = b"\0\0\0\x0cSend Data %dD" % number
    room = memoryview(bytearray(size))
    done, begun = 0, time.perf_counter()
    while (now := time.perf_counter()) < begun + seconds:
        client.sendall(request)
        left = room
        while left:
            got = client.recv_into(left)
            if not got:
                raise ConnectionError("the connection has ended")
            left = left[got:]
        done += 1
    return Count(done, now - begun)


def run(rounds: int, seconds: float) -> None:
    """Print the table."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in LOADS]
        ports = [str(listener.getsockname()[1]) for listener in listeners]
        stack.enter_context(Server("pymodaq_offered", *ports))
        labs = [accept(listener) for listener in listeners]
        sizes = [size for _, size in labs]
        floor = stack.enter_context(Server("floors.frames", *map(str, sizes)))
        bare = stack.enter_context(connect(("127.0.0.1", floor.told["port"])))
        bare.settimeout(None)
        rows = [
            Row(
                load,
                {
                    "sockets": partial(grabs, bare, number, size, seconds),
                    "labnet": partial(grabs, client, number, size, seconds),
                },
                "sockets",
                {"labnet": goal},
            )
            for number, ((load, goal), (client, size)) in enumerate(zip(LOADS, labs, strict=True))
        ]
        compare("PyMoDAQ: labnet offers detectors, to sendall of as many bytes", rows, rounds)
