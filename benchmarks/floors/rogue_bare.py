"""Bare pyzmq sockets in the places of a Rogue server's: REP, and PUB.

A request that is a number makes it publish for so many seconds; every other one is answered, and
then one update is published.
"""

import json
import time

import zmq

REPLY = bytes.fromhex("8004950a0000000000000047401e0000000000002e")
UPDATE = bytes(176)


def main() -> None:
    context = zmq.Context()
    replies, quiet, updates = (context.socket(kind) for kind in (zmq.REP, zmq.REP, zmq.PUB))
    ports = [
        socket.bind_to_random_port("tcp://127.0.0.1") for socket in (replies, quiet, updates)
    ]
    print(json.dumps(dict(zip(("pair", "rep", "pub"), ports, strict=True))), flush=True)
    poller = zmq.Poller()
    poller.register(replies, zmq.POLLIN)
    while True:
        # The plain REP blocks, as a server with nothing else to do would.
        request = quiet.recv()
        if request == b"pair":
            quiet.send(REPLY)
            pair(replies, quiet, updates)
        else:
            quiet.send(REPLY)


def pair(replies: zmq.Socket[bytes], quiet: zmq.Socket[bytes], updates: zmq.Socket[bytes]) -> None:
    """Answers on `replies` until it is told to end."""
    while (request := replies.recv()) != b"end":
        if request.isdigit():
            replies.send(REPLY)
            publish(updates, int(request) / 1000)
        else:
            replies.send(REPLY)
            updates.send(UPDATE)
    replies.send(REPLY)


def publish(updates: zmq.Socket[bytes], seconds: float) -> None:
    """One update after the other."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(100):
            updates.send(UPDATE)


if __name__ == "__main__":
    main()
