"""Clients of a Rogue server, or of bare sockets in its place."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import zmq

from benchmarks.rounds import Count

Socket = zmq.Socket[bytes]


class Clients:
    """`count` REQ sockets, each with one request under way."""

    def __init__(self, port: int, count: int) -> None:
        self._context: zmq.Context[Socket] = zmq.Context()
        self._sockets = [self._connect(port) for _ in range(count)]

    def _connect(self, port: int) -> Socket:
        req: Socket = self._context.socket(zmq.REQ)
        req.linger = 0
        req.connect(f"tcp://127.0.0.1:{port}")
        return req

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(0)

    def tell(self, body: bytes) -> bytes:
        """One request of the first client, and its reply."""
        self._sockets[0].send(body)
        return self._sockets[0].recv()

    def ask(self, body: bytes, seconds: float) -> Count:
        """Requests for so many seconds."""
        return self._one(body, seconds) if len(self._sockets) == 1 else self._many(body, seconds)

    def _one(self, body: bytes, seconds: float) -> Count:
        req = self._sockets[0]
        done, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) < begun + seconds:
            for _ in range(20):
                req.send(body)
                if not req.recv():
                    raise RuntimeError("an empty reply")
            done += 20
        return Count(done, now - begun)

    def _many(self, body: bytes, seconds: float) -> Count:
        poller = zmq.Poller()
        for req in self._sockets:
            poller.register(req, zmq.POLLIN)
            req.send(body)
        done, begun = 0, time.perf_counter()
        answered: set[int] = set()
        while (now := time.perf_counter()) < begun + seconds:
            for req, _ in poller.poll(1000):
                req.recv()
                req.send(body)
                answered.add(id(req))
                done += 1
        for req in self._sockets:
            req.recv()
        return Count(done, now - begun, served=len(answered))


class Pair:
    """A REQ socket that sets something, and a SUB socket that hears of it."""

    def __init__(self, request_port: int, update_port: int) -> None:
        self._context: zmq.Context[Socket] = zmq.Context()
        self.req: Socket = self._context.socket(zmq.REQ)
        self.req.connect(f"tcp://127.0.0.1:{request_port}")
        self.sub: Socket = self._context.socket(zmq.SUB)
        self.sub.subscribe(b"")
        self.sub.connect(f"tcp://127.0.0.1:{update_port}")

    def ask(self, body: bytes) -> bytes:
        """One request and its reply."""
        self.req.send(body)
        return self.req.recv()

    def wait_until_subscribed(self, body: bytes) -> None:
        """Asks until an update comes."""
        while not self.sub.poll(20):
            self.ask(body)
        self.drain()

    def drain(self) -> None:
        """Forgets what has come."""
        while self.sub.poll(50):
            self.sub.recv()

    def latency(self, bodies: Sequence[bytes], mark: bytes, seconds: float) -> Count:
        """Requests whose update is awaited; counts as many as the median time allows."""
        self.drain()
        times = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for body in bodies:
                begun = time.perf_counter()
                self.req.send(body)
                while mark not in self.sub.recv():
                    pass
                times.append(time.perf_counter() - begun)
                self.req.recv()
        return Count(len(times), median(times) * len(times))

    def delivered(self, start: bytes, mark: bytes, seconds: float) -> Count:
        """The updates that come while the server publishes one after the other."""
        self.drain()
        asking = threading.Thread(target=self.ask, args=(start,))
        asking.start()
        done = 0
        while mark not in self.sub.recv():
            pass
        begun = now = time.perf_counter()
        while now < begun + 0.8 * seconds:
            for _ in range(50):
                done += mark in self.sub.recv()
            now = time.perf_counter()
        asking.join()
        return Count(done, now - begun)

    def close(self) -> None:
        self._context.destroy(0)


@contextmanager
def pair(request_port: int, update_port: int) -> Iterator[Pair]:
    """A `Pair` that is closed in the end."""
    made = Pair(request_port, update_port)
    try:
        yield made
    finally:
        made.close()
