"""A script of a user: objects of four libraries, made here, added to a lab.

usage: added_objects.py

Tells ``done`` with what a client of the lab reads from them.
"""

import instruments
from lines import Conversation
from qcodes.instrument_drivers.mock_instruments import MockDAC
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from labnet import Lab


async def main(conversation: Conversation) -> None:
    lab = Lab()
    lab.add("dac", MockDAC("dac"))
    lab.add("bench", instruments.Bench())
    lab.add("motor", instruments.QuietMotor("127.0.0.1", 0, start=2.5))
    lab.add(
        "supply",
        instruments.Supply(
            "GPIB0::7::INSTR",
            visa_library=f"{__file__.rpartition('/')[0]}/supply.yaml@sim",
            read_termination="\n",
            write_termination="\n",
        ),
    )
    session = lab.session()
    for name in ("dac", "bench", "motor", "supply"):
        await session.connect(name)
    await session.set("dac.ch01.voltage", 1.25)
    await session.set("supply.ch_1.voltage", 2.0)
    await session.set("bench.MOTOR.position", 3.0)
    found = {
        "voltage": (await session.get("dac.ch01.voltage")).value,
        "supply": (await session.get("supply.ch_1.voltage")).value,
        "bench": (await session.get("bench.MOTOR.position")).value,
        "motor": await session.call("motor.position"),
        "identity": str(lab.host.devices()["supply"].identity),
    }
    await lab.stop()
    conversation.tell("done", **found)


if __name__ == "__main__":
    talk = Conversation()
    react(lambda reactor: Deferred.fromCoroutine(main(talk)))
