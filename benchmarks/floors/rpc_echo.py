"""Plain sockets that answer VXI-11 calls with bytes made beforehand, looking at nothing.

The first reply is for device_write, the second one for whatever else. No links, no locks.
"""

import json
import socket
import sys
import threading


def serve(client: socket.socket, write: bytes, read: bytes) -> None:
    with client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while call := client.recv(1000):
            client.sendall(write if call[27] == 11 else read)


def main(write: str, read: str) -> None:
    replies = bytes.fromhex(write), bytes.fromhex(read)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client, *replies), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
