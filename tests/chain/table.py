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
`pymodaq` is another sort of wire. Its devices are actuators and detectors, one a connection, and
its words are settings, moves and grabs. In this test a [composite device](devices.md) therefore
puts the lamp at the far end into these words: its level is the actuator's position and a setting,
its commands are `move_abs` (the result is the position that is reported at the end) and
`move_home`, and its array is what the detector grabs. On the device side another composite makes
one lamp of the two modules again; on the client side a program is offered both. What a cell does
not have, and what *all but* does not tell:

- *far lock*: the wire has no words for locks, so the far end hears nothing of a lock here.
- *lock*: a program of PyMoDAQ cannot lock anything, for the same reason. It obeys the locks of
  others: what it writes to a device that somebody holds is refused, which this test makes sure of.
- *command*: no others than those with the arguments and results of a move or a grab.
- *error*, *loss*: the reason travels as an `Info` line, as labnet sends it on the hardware side.
  PyMoDAQ's own modules say nothing when they refuse.

See [pymodaq](wires/pymodaq.md).
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
