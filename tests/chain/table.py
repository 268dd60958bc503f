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
    abilities = [f"- {text}," for text in ABILITIES.values()]
    abilities[-1] = abilities[-1][:-1] + "."
    return INTRODUCTION + "\n".join(lines) + "\n" + EXPLANATION + "\n" + "\n".join(abilities) + "\n"


def _cell(outcome: Outcome) -> str:
    missing = outcome.missing()
    return "all" if not missing else f"all but {', '.join(missing)}".replace("_", " ")
