"""Rogue clients: requests and updates, against bare sockets at the same bare server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial

import zmq

from benchmarks.floors.rogue_server import FLOOD, READ, START
from benchmarks.processes import ROOT, Server
from benchmarks.rounds import Count, Row, compare

#: requests under way, and the goal to a bare client
LOADS = ((1, 0.5), (8, 0.4), (64, 0.3))
HEARD = 0.05


def ours(base: int, *arguments: object) -> dict[str, float]:
    """What labnet's client did."""
    words = [sys.executable, "-m", "benchmarks.peers.rogue_load", str(base), *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, cwd=ROOT, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def our_round(base: int, *arguments: object) -> Count:
    told = ours(base, *arguments)
    return Count(int(told["done"]), told["seconds"])


def bare_requests(base: int, count: int, seconds: float) -> Count:
    """A DEALER socket that keeps `count` requests under way."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.connect(f"tcp://127.0.0.1:{base + 1}")
    for _ in range(count):
        dealer.send_multipart([b"", READ])
    done, begun = 0, time.perf_counter()
    while (now := time.perf_counter()) < begun + seconds:
        dealer.recv_multipart()
        dealer.send_multipart([b"", READ])
        done += 1
    dealer.close()
    context.term()
    return Count(done, now - begun)


def bare_updates(base: int) -> Count:
    """A SUB socket that takes a flood."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sub, req = context.socket(zmq.SUB), context.socket(zmq.REQ)
    sub.rcvhwm = 2 * FLOOD
    sub.subscribe(b"")
    sub.connect(f"tcp://127.0.0.1:{base}")
    req.connect(f"tcp://127.0.0.1:{base + 1}")
    for _ in range(200):  # meanwhile the subscription arrives
        req.send(READ)
        req.recv()
    req.send(START)
    req.recv()
    sub.recv()
    begun = time.perf_counter()
    for _ in range(FLOOD - 1):
        sub.recv()
    seconds = time.perf_counter() - begun
    for socket in (sub, req):
        socket.close()
    context.term()
    return Count(FLOOD, seconds)


def run(rounds: int, seconds: float) -> None:
    """Print the tables."""
    with Server("floors.rogue_server") as server:
        base = int(server.told["base"])
        rows = [
            Row(
                f"{count} under way",
                {
                    "bare": partial(bare_requests, base, count, seconds),
                    "labnet": partial(our_round, base, "ask", seconds, count),
                },
                "bare",
                {"labnet": goal},
            )
            for count, goal in LOADS
        ]
        heard = {
            "bare": partial(bare_updates, base),
            "labnet": partial(our_round, base, "hear"),
        }
        rows.append(Row("updates heard", heard, "bare", {"labnet": HEARD}))
        compare("Rogue clients, to bare sockets at a bare REP and PUB", rows, rounds)
        tree = ours(base, "load")
        print(
            f"a tree of {tree['done']:,.0f} nodes: {tree['seconds']:.2f} s,"
            f" {tree['bytes'] / tree['done']:,.0f} bytes a node"
        )
