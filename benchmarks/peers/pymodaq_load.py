"""The controlling side of one load: on plain sockets, or labnet's. A round for each line it reads.

usage: pymodaq_load.py SIDE FILE COUNT DIMENSION SECONDS

SIDE is ``sockets`` or ``labnet``; with more than one module each is grabbed 20 times a second.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PERIOD = 0.05  # s: 20 Hz


def start_modules(port: int, count: int, file: str) -> "subprocess.Popen[bytes]":
    script = str(Path(__file__).with_name("pymodaq_module.py"))
    return subprocess.Popen([sys.executable, script, str(port), str(count), file])


def sockets(file: str, seconds: float) -> None:
    """`sendall` of the order and `recv_into` of an answer of known length."""
    with open(file) as opened:
        hello, order, reply = map(bytes.fromhex, json.load(opened))
    listener = socket.create_server(("127.0.0.1", 0))
    start_modules(listener.getsockname()[1], 1, file)
    module, _ = listener.accept()
    module.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    module.recv(len(hello), socket.MSG_WAITALL)
    room = memoryview(bytearray(len(reply)))
    while sys.stdin.readline():
        done, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) < begun + seconds:
            module.sendall(order)
            left = room
            while left:
                left = left[module.recv_into(left) :]
            done += 1
        print(json.dumps({"done": done, "seconds": now - begun}), flush=True)


def labnet(file: str, count: int, dimension: Any, seconds: float) -> None:
    """Grabs through labnet: of one module as fast as it goes, of more at 20 Hz each."""
    from twisted.internet import reactor, threads
    from twisted.internet.defer import Deferred, gatherResults
    from twisted.internet.task import deferLater

    from labnet.wires.pymodaq.control import Grabber, Manners, Modules

    clock: Any = reactor
    modules = Modules(clock, Manners(introduction=0.0))
    port = clock.listenTCP(0, modules, interface="127.0.0.1").getHost().port
    start_modules(port, abs(count), file)

    async def fast(grabber: Grabber) -> dict[str, float]:
        done, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) < begun + seconds:
            await grabber.grab(dimension)
            done += 1
        return {"done": done, "seconds": now - begun}

    async def steady(grabber: Grabber, number: int) -> list[float]:
        taken = []
        due = time.perf_counter() + PERIOD * number / abs(count)
        end = due + seconds
        while due < end:
            await deferLater(clock, max(0.0, due - time.perf_counter()))
            begun = time.perf_counter()
            await grabber.grab(dimension)
            taken.append(time.perf_counter() - begun)
            due += PERIOD
        return taken

    async def run() -> None:
        grabbers = [await modules.grabber() for _ in range(abs(count))]
        while await threads.deferToThread(sys.stdin.readline):
            if count == 1:
                found = await fast(grabbers[0])
            else:
                every = await gatherResults(
                    [Deferred.fromCoroutine(steady(it, n)) for n, it in enumerate(grabbers)]
                )
                taken = sorted(time for each in every for time in each)
                found = {"done": 1, "seconds": taken[int(0.99 * len(taken))]}
            print(json.dumps(found), flush=True)

    def failed(failure: Any) -> None:
        failure.printTraceback()
        os._exit(1)

    Deferred.fromCoroutine(run()).addErrback(failed)
    clock.run()


def main(side: str, file: str, count: str, dimension: str, seconds: str) -> None:
    if side == "sockets":
        sockets(file, float(seconds))
    else:
        labnet(file, int(count), dimension, float(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
