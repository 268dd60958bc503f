"""Drive pyvicp alone, one connection.

usage: vicp_client.py HOST PORT

Bytes go to and from the test as Latin-1 text.
"""

import sys
import zlib

import pyvicp
from lines import Conversation


class Driver:
    def __init__(self, host: str, port: int) -> None:
        self._client = pyvicp.Client(host, port=port)

    def send(self, message: str) -> None:
        self._client.send(message.encode("latin-1"))

    def receive(self, length: int | None = None) -> str:
        return bytes(self._client.receive(length)).decode("latin-1")

    def query(self, message: str) -> str:
        self.send(message)
        return self.receive()

    def query_sum(self, message: str) -> list[int]:
        """Length and CRC-32 of an answer."""
        self.send(message)
        answer = bytes(self._client.receive())
        return [len(answer), zlib.crc32(answer)]

    def send_block(self, header: str, size: int) -> None:
        """A command with a block of the link tester's pattern."""
        data = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
        head = f"{header} #{len(str(size))}{size}".encode("latin-1")
        self._client.send(head + data)

    def clear(self) -> None:
        self._client.device_clear()

    def poll(self) -> int:
        """In band until an answer has been read, out of band afterwards."""
        return int(self._client.serial_poll())

    def poll_urgent(self) -> int:
        """The urgent poll as it would be if pyvicp's own worked where time limits are set."""
        wanted = self._client._socket
        wanted.sendall(b"S", 1)
        wanted.setblocking(False)
        try:
            while True:
                try:
                    return int(wanted.recv(1, 1)[0])
                except (BlockingIOError, OSError):
                    continue
        finally:
            wanted.settimeout(10)

    def timeout(self, seconds: float) -> None:
        self._client.timeout = seconds

    def close(self) -> None:
        self._client.close()


def main() -> None:
    driver = Driver(sys.argv[1], int(sys.argv[2]))
    conversation = Conversation()
    conversation.tell("ready")
    names = (name for name in dir(driver) if not name.startswith("_"))
    conversation.serve({name: getattr(driver, name) for name in names})


if __name__ == "__main__":
    main()
