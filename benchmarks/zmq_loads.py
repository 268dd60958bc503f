"""Clients with DEALER sockets, one request at a time each."""

from __future__ import annotations

import select
import time
from uuid import uuid4

import zmq

from benchmarks.loads import GIVE_UP
from benchmarks.rounds import Count

CONNECT = b'{"type": "connect", "resources": []}'
# Plain numbers: turning pyzmq's enumerations into them costs time at every call.
EVENTS, POLLIN, NOBLOCK = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.NOBLOCK)

Dealer = zmq.Socket[bytes]


class Clients:
    """`count` clients that stay connected from round to round."""

    def __init__(self, port: int, count: int) -> None:
        self._context: zmq.Context[Dealer] = zmq.Context()
        self._sockets = [self._connect(port) for _ in range(count)]
        for dealer in self._sockets:
            dealer.send(CONNECT)
        for dealer in self._sockets:
            dealer.recv()

    def _connect(self, port: int) -> Dealer:
        dealer: Dealer = self._context.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.identity = f"client-{uuid4().hex}".encode()
        dealer.connect(f"tcp://127.0.0.1:{port}")
        return dealer

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        for dealer in self._sockets:
            dealer.close()
        self._context.term()

    def ask(self, body: bytes, seconds: float) -> Count:
        """Requests for so many seconds."""
        if len(self._sockets) == 1:
            return self._one(self._sockets[0], body, seconds)
        return self._many(body, seconds)

    def _one(self, dealer: Dealer, body: bytes, seconds: float) -> Count:
        done, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) < begun + seconds:
            for _ in range(20):
                dealer.send(body)
                dealer.recv()
            done += 20
        return Count(done, now - begun)

    def _many(self, body: bytes, seconds: float) -> Count:
        done = 0
        by_descriptor = {int(dealer.get(zmq.FD)): dealer for dealer in self._sockets}
        answered: set[int] = set()
        with select.epoll() as poll:
            for descriptor in by_descriptor:
                poll.register(descriptor, select.EPOLLIN)
            begun = now = time.perf_counter()
            for dealer in self._sockets:
                dealer.send(body)
            ready = list(by_descriptor)
            while ready and now < begun + seconds:
                for descriptor in ready:
                    # The descriptor is edge-triggered, and silent until this has been asked.
                    dealer = by_descriptor[descriptor]
                    while dealer.get(EVENTS) & POLLIN:
                        dealer.recv(NOBLOCK)
                        dealer.send(body)
                        answered.add(descriptor)
                        done += 1
                ready = [descriptor for descriptor, _ in poll.poll(GIVE_UP)]
                now = time.perf_counter()
            self._collect()
        return Count(done, now - begun, served=len(answered))

    def _collect(self) -> None:
        """The last answers, so that the next round begins with none under way."""
        for dealer in self._sockets:
            if dealer.poll(int(GIVE_UP * 1000)):
                dealer.recv()
