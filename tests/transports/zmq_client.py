"""A ZMQ client in a process of its own, for tests that kill or stop it.

    zmq_client.py ADDRESS IDENTITY    sends "hello", and then waits for ever
    zmq_client.py ADDRESS flood N     sends N messages as fast as they are taken
    zmq_client.py ADDRESS storm N     N clients in a row, of seven names, that send "hello" and go
"""

from __future__ import annotations

import sys
import time

import zmq


def client(address: str, identity: str) -> zmq.Socket[bytes]:
    socket = zmq.Context(1).socket(zmq.DEALER)
    socket.set(zmq.IDENTITY, identity.encode())
    socket.connect(address)
    return socket


def hello(address: str, identity: str) -> zmq.Socket[bytes]:
    socket = client(address, identity)
    socket.send(b"hello")
    return socket


def flood(address: str, count: int) -> zmq.Socket[bytes]:
    socket = client(address, "flood")
    for _ in range(count):
        socket.send(b"x" * 50)
    return socket


def storm(address: str, count: int) -> None:
    for number in range(count):
        socket = client(address, f"c{number % 7}")
        socket.send(b"hello")
        socket.close(2000)
        socket.context.term()


def main(address: str, what: str, count: str = "0") -> None:
    if what == "storm":
        storm(address, int(count))
    else:  # a socket is closed when nobody knows it any more
        kept = flood(address, int(count)) if what == "flood" else hello(address, what)
        assert not kept.closed
    print("sent", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
