"""Drive sm_bluesky's real ``InstrumentClient``: ``send COMMAND ARGUMENT...`` gives the data.

usage: sm_bluesky_client.py HOST PORT [TIMEOUT]
"""

import sys

import sm_bluesky_modules
from lines import Conversation

sm_bluesky_modules.prepare()

from sm_bluesky.common.clients import InstrumentClient  # noqa: E402


def main(host: str, port: str, timeout: str = "2.0") -> None:
    client = InstrumentClient(host, int(port), float(timeout))
    conversation = Conversation()
    conversation.tell("ready")
    conversation.serve({"send": client.send_payload})


if __name__ == "__main__":
    main(*sys.argv[1:])
