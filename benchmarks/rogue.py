"""Rogue: requests, updates and a large tree, against bare pyzmq REP and PUB."""

from __future__ import annotations

import pickle
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.processes import Server, resident_bytes
from benchmarks.rogue_loads import Clients, Pair, pair
from benchmarks.rounds import Row, compare
from labnet.wires.rogue.pickles.reader import read_reply

VARIABLES = 10_000
LEVEL = "lab.meter.level"


def request(path: str, attr: str | None, *args: Any) -> bytes:
    """A request as PyRogue's clients pickle it."""
    return pickle.dumps({"path": path, "attr": attr, "args": args, "kwargs": {}}, 4)


GET = request(LEVEL, "get")
READ = request("lab.meter.position", "get")
TEXT = b'{"attr": "getDisp","path": "lab.meter.level"}'
SETS = [request(LEVEL, "set", 600.0 + number) for number in range(20)]

#: clients, goal
LOADS = ((1, 0.65), (8, 0.65))


def run(rounds: int, seconds: float) -> None:
    """Print the tables."""
    with Server("rogue_lab", "0") as lab, Server("floors.rogue_bare") as bare:
        base = lab.told["base"]
        requests(bare.told["rep"], base, rounds, seconds)
        updates(bare.told, base, rounds, seconds)
    tree()


def requests(bare: int, base: int, rounds: int, seconds: float) -> None:
    """One request at a time each."""
    for clients, goal in LOADS:
        with ExitStack() as stack:
            def side(port: int, body: bytes, stack: ExitStack = stack, count: int = clients) -> Any:
                return partial(stack.enter_context(Clients(port, count)).ask, body, seconds)

            rep = side(bare, GET)
            rows = [
                Row("binary, get", {"REP": rep, "labnet": side(base + 1, GET)}, "REP",
                    {"labnet": goal}, clients),
                Row("binary, set", {"REP": rep, "labnet": side(base + 1, SETS[0])}, "REP",
                    {"labnet": goal}, clients),
                Row("binary, get that asks", {"REP": rep, "labnet": side(base + 1, READ)}, "REP",
                    {"labnet": goal}, clients),
                Row("text, getDisp", {"REP": rep, "labnet": side(base + 2, TEXT)}, "REP",
                    {"labnet": goal}, clients),
            ]  # fmt: skip
            compare(f"Rogue, {clients} clients, to a bare REP", rows, rounds)


def updates(bare: dict[str, int], base: int, rounds: int, seconds: float) -> None:
    """From a set to its update, and as many updates as there can be."""
    with pair(bare["pair"], bare["pub"]) as theirs, pair(base + 1, base) as ours:
        with Clients(bare["rep"], 1) as switch:
            switch.tell(b"pair")
        theirs.wait_until_subscribed(b"x")
        ours.wait_until_subscribed(SETS[0])
        mark = LEVEL.encode()
        latency = Row(
            "set to update, p50",
            {"bare": partial(theirs.latency, [b"x"] * 20, b"", seconds),
             "labnet": partial(ours.latency, SETS, mark, seconds)},
            "bare", {"labnet": 0.4},
        )  # fmt: skip
        loop = request("lab.meter.run", "__call__", seconds)
        delivered = Row(
            "updates in a loop",
            {"PUB": partial(theirs.delivered, b"%d" % (seconds * 1000), b"", seconds),
             "labnet": partial(ours.delivered, loop, mark, seconds)},
            "PUB", {"labnet": 0.2},
        )  # fmt: skip
        compare("Rogue, updates, to a bare pair of REP and PUB", [latency, delivered], rounds)


def tree() -> None:
    """A client that loads a large tree."""
    print(f"\nRogue, a tree of {VARIABLES:,} variables")
    with Server("rogue_lab", str(VARIABLES)) as lab:
        base = lab.told["base"]
        with pair(base + 1, base) as client:
            begun = time.perf_counter()
            for body in (request("__ROOT__", None), request("lab", "nodes"),
                         request("lab.Time", "value"), request("lab.large", "nodes")):  # fmt: skip
                reply = client.ask(body)
                read = time.perf_counter()
                found = read_reply(reply)
                reading = time.perf_counter() - read
            taken = time.perf_counter() - begun
            if len(found) < VARIABLES:
                raise RuntimeError("some variables are missing")
            print(
                f"loaded in {taken:.2f} s (goal 2), of which {reading:.2f} s were the client's for"
                f" reading {len(reply):,} bytes"
            )
            told = memory(lab, client)
        lab_own = (lab.told["filled"] - lab.told["empty"]) / VARIABLES
        print(
            f"memory: {told:,.0f} bytes a variable for its part in the tree, when it has been told"
            f" and published (goal 4,000), and {lab_own:,.0f} for the lab itself"
        )


def memory(lab: Server, client: Pair) -> float:
    """Bytes that each variable takes of the server once it has been used."""
    client.wait_until_subscribed(SETS[0])
    for _ in range(3):
        client.ask(request("lab.large.touch", "__call__", None))
        client.drain()
    return (resident_bytes(lab.pid) - lab.told["filled"]) / VARIABLES
