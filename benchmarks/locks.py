"""Locks in memory: how many are taken and given back in a second while many are held."""

from __future__ import annotations

import time
from functools import partial

from twisted.internet.task import Clock

from benchmarks.rounds import Count, Row, compare
from labnet import Device, parameter
from labnet.lab import Lab

HELD = 1000
PAIRS = 1000
GOAL = 100_000


class Item(Device):
    value = parameter(float, initial=0.0)


class Held:
    """A lab of which `HELD` devices are locked, each by a client of its own."""

    def __init__(self) -> None:
        self.lab = Lab(clock=Clock())
        for number in range(HELD + 1):
            self.lab.attach(f"device{number}", Item())
        self.clients = [self.lab.open_session("bench", f"client{n}") for n in range(HELD + 1)]
        for number in range(HELD):
            self.clients[number].lock([f"device{number}"], lease=3600.0)
        self.free = f"device{HELD}"

    def through_session(self, lease: float, seconds: float) -> Count:
        """As a wire does it: names, a Deferred, an answer."""
        client, path = self.clients[HELD], [self.free]
        done, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) < begun + seconds:
            for _ in range(PAIRS):
                client.lock(path, lease=lease)
                client.unlock(path)
            done += PAIRS
        return Count(done, now - begun)

    def nothing(self, seconds: float) -> Count:
        """The goal, so that the ratio is how many times it is reached."""
        return Count(int(GOAL * seconds), seconds)


def run(rounds: int, seconds: float) -> None:
    """Print the table."""
    held = Held()
    rows = [
        Row(
            load,
            {
                "goal": partial(held.nothing, seconds),
                "labnet": partial(held.through_session, lease, seconds),
            },
            "goal",
            {"labnet": 1.0},
        )
        for load, lease in (("lock and unlock", 0.0), ("the same with a lease", 60.0))
    ]
    compare(f"Locks, to {GOAL:,} pairs a second, with {HELD:,} nodes held", rows, rounds)
