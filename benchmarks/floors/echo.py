"""Sends back what comes, on plain sockets, a thread for each connection."""

import json
import socket
import threading
from contextlib import suppress


def serve(client: socket.socket) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client, suppress(ConnectionError):
        while data := client.recv(65536):
            client.sendall(data)


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main()
