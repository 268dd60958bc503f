"""Drive cPyHiSLIP, one session.

usage: cpyhislip_client.py HOST PORT

Bytes go to and from the test as Latin-1 text.
"""

import sys
import zlib

from cPyHiSLIP import HiSLIP
from lines import Conversation


class Driver:
    def __init__(self, host: str, port: int) -> None:
        self._session = HiSLIP()
        self._session.connect(host.encode(), b"hislip0", port)
        self._session.set_timeout(10_000)

    def write(self, message: str) -> None:
        self._session.write(message.encode("latin-1"))

    def read(self) -> str:
        return bytes(self._session.read()[1]).decode("latin-1")

    def query(self, message: str) -> str:
        return bytes(self._session.ask(message.encode("latin-1"))).decode("latin-1")

    def query_sum(self, message: str) -> list[int]:
        """Length and CRC-32 of an answer."""
        answer = bytes(self._session.ask(message.encode("latin-1")))
        return [len(answer), zlib.crc32(answer)]

    def send_block(self, header: str, size: int) -> None:
        """A command with a block of the link tester's pattern."""
        data = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
        head = f"{header} #{len(str(size))}{size}".encode("latin-1")
        self._session.write(head + data)

    def trigger(self) -> None:
        self._session.trigger_device()


def main() -> None:
    driver = Driver(sys.argv[1], int(sys.argv[2]))
    conversation = Conversation()
    conversation.tell("ready")
    names = (name for name in dir(driver) if not name.startswith("_"))
    conversation.serve({name: getattr(driver, name) for name in names})


if __name__ == "__main__":
    main()
