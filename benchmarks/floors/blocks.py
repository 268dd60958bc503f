"""Blocks of bytes by ``sendall`` and ``recv_into``, nothing else.

A request is ten digits and a letter: ``r``, so many bytes are to be sent; ``w``, so many follow,
and are answered by a line when they have come.
"""

import json
import socket
import sys


def serve(client: socket.socket, block: bytes) -> None:
    kept = bytearray(len(block))
    while request := client.recv(11, socket.MSG_WAITALL):
        size = int(request[:10])
        if request[10:] == b"r":
            client.sendall(memoryview(block)[:size])
            continue
        view = memoryview(kept)[:size]
        while view:
            view = view[client.recv_into(view) :]
        client.sendall(b"1\n")


def main(longest: str) -> None:
    block = bytes(int(longest))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        while True:
            client, _ = listener.accept()
            with client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                serve(client, block)


if __name__ == "__main__":
    main(*sys.argv[1:])
