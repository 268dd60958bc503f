"""Answers each request of 16 bytes with as many bytes as a frame has, by ``sendall``, nothing else.

The 11th letter of the request, ``0``, ``1`` or ``2``, is the number of the argument that says how
many.
"""

import json
import socket
import sys
import threading


def serve(client: socket.socket, blocks: list[bytes]) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client:
        while request := client.recv(16, socket.MSG_WAITALL):
            client.sendall(blocks[int(request[14:15])])


def main(*sizes: str) -> None:
    blocks = [bytes(int(size)) for size in sizes]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client, blocks), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
