"""Ask a PLESTY device server over a plain REQ socket, as scripts without plesty-lib do.

usage: zmq_req.py ADDRESS

``request`` sends its argument as JSON and gives the reply; ``send_text`` sends it as it is.
"""

import json
import sys
from typing import Any

import zmq
from lines import Conversation


class Driver:
    def __init__(self, address: str) -> None:
        self._socket = zmq.Context().socket(zmq.REQ)
        self._socket.connect(address)

    def request(self, message: dict[str, Any]) -> Any:
        self._socket.send_json(message)
        return self._socket.recv_json()

    def send_text(self, text: str) -> Any:
        self._socket.send(text.encode())
        return json.loads(self._socket.recv())


def main(address: str) -> None:
    driver = Driver(address)
    conversation = Conversation()
    conversation.tell("ready")
    conversation.serve({"request": driver.request, "send_text": driver.send_text})


if __name__ == "__main__":
    main(*sys.argv[1:])
