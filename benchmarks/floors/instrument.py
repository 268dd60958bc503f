"""An instrument on a raw socket that answers every line with the same number.

Its argument is how long it takes for that, in seconds.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time

ANSWER = b"633.0\n"


def talk(connection: socket.socket, takes: float) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(4096):
        if takes:
            time.sleep(takes)
        if data.startswith(b"*IDN?"):
            connection.sendall(b"labnet,FLOOR,0,1\n")
        else:
            connection.sendall(ANSWER * data.count(b"\n"))


def main() -> None:
    takes = float(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=talk, args=(connection, takes), daemon=True).start()


if __name__ == "__main__":
    main()
