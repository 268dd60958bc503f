"""How close a `RouterPort` comes to a bare pyzmq loop: echoes a second, one outstanding a client.

    python benchmarks/zmq_floor.py [CLIENTS ...]

Each server runs in a process of its own. Both are measured in turn, several times, and the medians
compared; look at the spread before believing a ratio.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

import zmq

BODY = b'{"type": "query", "param": "wavelength", "timeout": null}'
SECONDS = 1.0
ROUNDS = 7


def serve_bare() -> None:
    router = zmq.Context(1).socket(zmq.ROUTER)
    print(router.bind_to_random_port("tcp://127.0.0.1"), flush=True)
    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    while True:
        poller.poll()
        try:
            while True:
                router.send_multipart(router.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            pass


def serve_labnet() -> None:
    from twisted.internet import reactor

    from labnet.transports.zmq import Parts, Peer, RouterPort, ZmqServerProtocol

    class Echo(ZmqServerProtocol):
        def messageReceived(self, peer: Peer, parts: Parts) -> None:
            self.port.reply(peer, parts)

    port = RouterPort(Echo(), "tcp://127.0.0.1:*", reactor=reactor)
    print(port.address.rpartition(":")[2], flush=True)
    reactor.run()  # type: ignore[attr-defined]


def measure(server: str, clients: int) -> float:
    """Echoes a second."""
    process = subprocess.Popen([sys.executable, __file__, server], stdout=subprocess.PIPE)
    assert process.stdout is not None
    address = f"tcp://127.0.0.1:{int(process.stdout.readline())}"
    context = zmq.Context(1)
    poller = zmq.Poller()
    dealers = [context.socket(zmq.DEALER) for _ in range(clients)]
    try:
        for number, dealer in enumerate(dealers):
            dealer.set(zmq.IDENTITY, b"client-%d" % number)
            dealer.connect(address)
            dealer.send(BODY)
            poller.register(dealer, zmq.POLLIN)
        for dealer in dealers:
            dealer.recv()
            dealer.send(BODY)
        return load(poller)
    finally:
        process.kill()
        process.wait()
        context.destroy(linger=0)


def load(poller: zmq.Poller) -> float:
    count = 0
    start = now = time.perf_counter()
    while now < start + SECONDS:
        for dealer, _ in poller.poll():
            dealer.recv()
            dealer.send(BODY)
            count += 1
        now = time.perf_counter()
    return count / (now - start)


def main(arguments: list[str]) -> None:
    if arguments in (["bare"], ["labnet"]):
        (serve_bare if arguments == ["bare"] else serve_labnet)()
    for clients in map(int, arguments or ["1", "8", "64"]):
        rates: dict[str, list[float]] = {"bare": [], "labnet": []}
        for _ in range(ROUNDS):
            for server, results in rates.items():
                results.append(measure(server, clients))
        shown = ", ".join(
            f"{server} {median(results):.0f}/s ({min(results):.0f} to {max(results):.0f})"
            for server, results in rates.items()
        )
        ratio = median(rates["labnet"]) / median(rates["bare"])
        print(f"{clients} clients: {shown}, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
