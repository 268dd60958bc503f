"""Clients on plain sockets, as lean as Python allows: what they cost hides what is measured."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.rounds import Count

Address = tuple[str, int]

GIVE_UP = 5.0
"""Seconds without any answer after which a round ends."""


def connect(address: Address) -> socket.socket:
    """A connection that sends at once."""
    client = socket.create_connection(address, timeout=GIVE_UP)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def one_at_a_time(address: Address, line: bytes, seconds: float) -> Count:
    """One connection; the next request follows the answer to the last one."""
    with connect(address) as client:
        client.settimeout(None)
        send, recv = client.send, client.recv
        done, begun = 0, time.perf_counter()
        end = begun + seconds
        while (now := time.perf_counter()) < end:
            for _ in range(20):
                send(line)
                if recv(4096)[-1:] != b"\n":
                    raise ConnectionError("an answer without its end")
            done += 20
    return Count(done, now - begun)


def in_flight(address: Address, line: bytes, depth: int, seconds: float) -> Count:
    """One connection with `depth` requests under way: a batch of them, all answers, the next."""
    batch = line * depth
    with connect(address) as client:
        client.settimeout(None)
        done, begun = 0, time.perf_counter()
        end = begun + seconds
        while (now := time.perf_counter()) < end:
            client.sendall(batch)
            missing = depth
            while missing:
                data = client.recv(65536)
                if not data:
                    raise ConnectionError("the server has closed the connection")
                missing -= data.count(b"\n")
            done += depth
    return Count(done, now - begun)


@contextmanager
def _closing(clients: dict[int, socket.socket]) -> Iterator[None]:
    try:
        yield
    finally:
        for client in clients.values():
            client.close()


def kept(address: Address, line: bytes, count: int, seconds: float) -> Count:
    """`count` connections that stay open, each with one request at a time."""
    poll = select.epoll()
    clients: dict[int, socket.socket] = {}
    answered: set[int] = set()
    done = 0
    with poll, _closing(clients):
        for _ in range(count):
            client = connect(address)
            clients[client.fileno()] = client
            poll.register(client, select.EPOLLIN)
        receive = {fd: client.recv for fd, client in clients.items()}
        send = {fd: client.send for fd, client in clients.items()}
        begun = now = time.perf_counter()
        for client in clients.values():
            client.send(line)
        while now < begun + seconds:
            ready = poll.poll(GIVE_UP)
            for fd, _ in ready:
                receive[fd](4096)
                send[fd](line)
            done += len(ready)
            answered.update(fd for fd, _ in ready)
            now = time.perf_counter()
            if not ready:
                break
    return Count(done, now - begun, served=len(answered))


def connecting(address: Address, line: bytes, seconds: float) -> Count:
    """One client that opens a connection for each request, and closes it after the answer."""
    done = failed = 0
    begun = now = time.perf_counter()
    while now < begun + seconds:
        with socket.socket() as client:
            client.settimeout(None)
            try:
                client.connect(address)
                client.send(line)
                answered = client.recv(4096)[-1:] == b"\n"
            except OSError:
                answered = False
        done += answered
        failed += not answered
        now = time.perf_counter()
    return Count(done, now - begun, failed=failed)


def all_connecting(address: Address, line: bytes, count: int, seconds: float) -> Count:
    """`count` such clients at once."""
    poll = select.epoll()
    clients: dict[int, socket.socket] = {}
    done = failed = 0
    with poll, _closing(clients):

        def begin() -> None:
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(address)
            clients[client.fileno()] = client
            poll.register(client, select.EPOLLOUT)
            send(client.fileno())

        def send(fd: int) -> None:
            try:
                clients[fd].send(line)
            except BlockingIOError:
                return  # not connected yet: epoll will tell
            except OSError:
                end(fd)
                return
            poll.modify(fd, select.EPOLLIN)

        def end(fd: int) -> bool:
            client = clients.pop(fd)
            try:
                return client.recv(4096)[-1:] == b"\n"
            except OSError:
                return False
            finally:
                client.close()

        for _ in range(count):
            begin()
        begun = now = time.perf_counter()
        while now < begun + seconds:
            ready = poll.poll(GIVE_UP)
            if not ready:
                break
            for fd, event in ready:
                if event & select.EPOLLOUT:
                    send(fd)
                    continue
                if end(fd):
                    done += 1
                else:
                    failed += 1
                begin()
            now = time.perf_counter()
    return Count(done, now - begun, served=count, failed=failed)


Load = Callable[[Address, bytes, float], Count]


def of_clients(one: Load, many: Callable[[Address, bytes, int, float], Count], count: int) -> Load:
    """`one` for a single client, else `many` with that count."""
    if count == 1:
        return one
    return lambda address, line, seconds: many(address, line, count, seconds)
