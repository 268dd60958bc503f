"""Rounds that take turns, and tables of the ratios that come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple


class Count(NamedTuple):
    """What one round did: requests answered, in how many seconds, and what went wrong.

    `served` is how many of the clients were answered at all.
    """

    done: int
    seconds: float
    served: int = 1
    failed: int = 0

    @property
    def rate(self) -> float:
        return self.done / self.seconds


Round = Callable[[], Count]


@dataclass(frozen=True)
class Row:
    """One comparison: sides by name, of which `reference` is what the others are divided by.

    `targets` has the least ratio for each other side. All of `clients` must be served by those.
    """

    load: str
    sides: Mapping[str, Round]
    reference: str
    targets: Mapping[str, float]
    clients: int = 1


def measure(row: Row, rounds: int) -> dict[str, list[Count]]:
    """Each side in turn, `rounds` times, after a round that warms up and is thrown away."""
    counts: dict[str, list[Count]] = {name: [] for name in row.sides}
    for number in range(rounds + 1):
        for name, side in row.sides.items():
            count = side()
            if number:
                counts[name].append(count)
    return counts


def ratios(row: Row, counts: Mapping[str, Sequence[Count]], side: str) -> list[float]:
    """The side's rate over the reference's, round by round, in order of size."""
    if not all(count.done for count in counts[row.reference]):
        raise RuntimeError(f"{row.load}: {row.reference} has answered nothing")
    pairs = zip(counts[side], counts[row.reference], strict=True)
    return sorted(ours.rate / theirs.rate for ours, theirs in pairs)


HEAD = (
    f"{'load':<28} {'side':<18} {'rate':>10} {'reference':>10} {'ratio':>7}"
    f" {'spread':>15} {'goal':>6}"
)


def show(row: Row, counts: Mapping[str, Sequence[Count]]) -> None:
    """The lines of the table for this row: medians of the rounds, and the spread of the ratio."""
    theirs = median(count.rate for count in counts[row.reference])
    for side, goal in row.targets.items():
        found = ratios(row, counts, side)
        middle = median(found)
        spread = f"{found[0]:.2f}..{found[-1]:.2f}"
        ours = median(count.rate for count in counts[side])
        print(
            f"{row.load:<28} {side:<18} {ours:>10,.0f} {theirs:>10,.0f} {middle:>7.2f}"
            f" {spread:>15} {goal:>6}{_remarks(row, counts[side], middle, goal)}",
            flush=True,
        )


def _remarks(row: Row, counts: Sequence[Count], ratio: float, goal: float) -> str:
    remarks = [] if ratio >= goal else [f"{ratio / goal:.0%} of the goal"]
    served = min(count.served for count in counts)
    if served < row.clients:
        remarks.append(f"only {served} of {row.clients} served")
    failed = sum(count.failed for count in counts)
    if failed:
        remarks.append(f"{failed} failed")
    return "  " + ", ".join(remarks) if remarks else ""


def compare(title: str, rows: Sequence[Row], rounds: int) -> None:
    """Measure and print one table."""
    print(f"\n{title}\n{HEAD}\n{'-' * len(HEAD)}", flush=True)
    for row in rows:
        show(row, measure(row, rounds))
