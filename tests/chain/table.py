"""The page of the documentation that says what gets through between which wires."""

from __future__ import annotations

from collections.abc import Mapping

from tests.chain.pairs import ABILITIES, Outcome

INTRODUCTION = """\
# Any wire to any wire

A device that is a server somewhere else ([remote devices](remote-devices.md)) is served like any
other, so labnet translates between any two wires. This page is made by a test
(`tests/test_chain.py`) that tries each pair with real connections: a client of the wire at the left
uses a device behind the wire at the top.

"""

EXPLANATION = """\

*all* means that a client can
"""


NOTES = """
`pymodaq` is another sort of wire: either side is one actuator or one detector. What is tried here
is an actuator, which has a position and can be moved to another; its wire has neither further
commands nor locks, so *write* is a move. Detectors and settings: see [pymodaq](wires/pymodaq.md).
"""


def as_page(outcomes: Mapping[tuple[str, str], Outcome]) -> str:
    """The page."""
    clients = list(dict.fromkeys(client for client, _ in outcomes))
    devices = list(dict.fromkeys(device for _, device in outcomes))
    clients.sort()
    devices.sort()
    lines = [
        f"| client \\ device | {' | '.join(devices)} |",
        "|---" * (len(devices) + 1) + "|",
        *(
            f"| **{client}** | {' | '.join(_cell(outcomes[client, it]) for it in devices)} |"
            for client in clients
        ),
    ]
    abilities = [f"- {text} (*{name.replace('_', ' ')}*)," for name, text in ABILITIES.items()]
    abilities[-1] = abilities[-1][:-1] + "."
    return "\n".join([INTRODUCTION + lines[0], *lines[1:], EXPLANATION, *abilities, NOTES])


def _cell(outcome: Outcome) -> str:
    missing = outcome.missing()
    if not missing:
        return "all"
    carried = [name for name in ABILITIES if name not in missing]
    few = len(carried) < len(missing) + 2
    words = ", ".join(carried if few else missing).replace("_", " ")
    return words if few else f"all but {words}"
