"""A PyMoDAQ module as lean as Python allows: so many connections, each answers any order alike.

usage: pymodaq_module.py PORT COUNT FILE

FILE holds as JSON, in hex, what each connection says first, an order, and the answer to that.
"""

import json
import selectors
import socket
import sys


def dial(port: int, hello: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(hello)
    return client


def answer(client: socket.socket, order: bytes, reply: bytes) -> bool:
    """Answer one order; False at the end of the connection. Orders come one at a time."""
    got = 0
    while got < len(order):
        data = client.recv(4096)
        if not data:
            return False
        got += len(data)
    client.sendall(reply)
    return True


def main(port: str, count: str, file: str) -> None:
    with open(file) as opened:
        hello, order, reply = map(bytes.fromhex, json.load(opened))
    clients = [dial(int(port), hello) for _ in range(int(count))]
    if len(clients) == 1:
        while answer(clients[0], order, reply):
            pass
        return
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if not answer(key.fileobj, order, reply):  # type: ignore[arg-type]
                return


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ConnectionResetError:
        pass  # who controls modules ends their connections so
