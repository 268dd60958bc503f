"""Drive python-vxi11, any number of instruments, each under a name of the test's choice.

usage: vxi11_client.py

Bytes go to and from the test as Latin-1 text, or as their length and CRC-32.
"""

import threading
import zlib
from typing import Any

import vxi11
from lines import Conversation


def pattern(size: int) -> bytes:
    """The block of that size that the link tester makes."""
    return bytes(range(256)) * (size // 256) + bytes(range(size % 256))


class Driver:
    def __init__(self) -> None:
        self._open: dict[str, Any] = {}
        self._links: list[Any] = []
        self._failure = ""
        self._asking: threading.Thread | None = None

    def open(
        self, name: str, host: str, device: str = "inst0", port: int = 0, timeout: float = 10
    ) -> None:
        """With `port` the port mapper is not asked."""
        instrument = vxi11.Instrument(host, device)
        instrument.timeout = timeout
        if port:
            instrument.client = vxi11.vxi11.CoreClient(host, port)
        instrument.open()
        self._open[name] = instrument

    def set(self, name: str, attribute: str, value: Any) -> None:
        setattr(self._open[name], attribute, value)

    def get(self, name: str, attribute: str) -> Any:
        return getattr(self._open[name], attribute)

    def do(self, name: str, method: str, *arguments: Any) -> Any:
        """A method of the instrument whose arguments and result are plain."""
        return getattr(self._open[name], method)(*arguments)

    def ask_sum(self, name: str, message: str) -> list[int]:
        """Length and CRC-32 of an answer."""
        self._open[name].write_raw(message.encode("latin-1"))
        answer = self._open[name].read_raw()
        return [len(answer), zlib.crc32(answer)]

    def load(self, name: str, size: int) -> None:
        """A command with a block of the link tester's pattern."""
        head = f"TEST:LOAD #{len(str(size))}{size}".encode()
        self._open[name].write_raw(head + pattern(size))

    def begin(self, name: str, message: str) -> None:
        """Asks in a thread, for `abort`."""

        def ask() -> None:
            try:
                self._open[name].ask(message)
            except Exception as error:
                self._failure = str(error)

        self._asking = threading.Thread(target=ask, daemon=True)
        self._asking.start()

    def abort(self, name: str) -> str:
        """Aborts until that has ended, since what has not begun is not aborted; says how it did."""
        assert self._asking is not None
        while self._asking.is_alive():
            self._open[name].abort()
            self._asking.join(0.05)
        return self._failure

    def links(self, host: str, port: int, count: int) -> list[str]:
        """That many links on one connection, and what each says that it is."""
        client = vxi11.vxi11.CoreClient(host, port)
        self._links.append(client)
        made = [client.create_link(number, 0, 0, b"inst1") for number in range(count)]
        answers = []
        for _, link, _, _ in made:
            client.device_write(link, 5000, 0, 8, b"*IDN?")
        for error, link, _, _ in made:
            assert not error
            answers.append(client.device_read(link, 1000, 5000, 0, 0, 0)[2].decode())
        return answers

    def devices(self, address: str) -> list[str]:
        """Who answers a broadcast."""
        return list(vxi11.list_devices(address))

    def close(self, name: str) -> None:
        self._open.pop(name).close()


def main() -> None:
    driver = Driver()
    conversation = Conversation()
    conversation.tell("ready")
    names = (name for name in dir(driver) if not name.startswith("_"))
    conversation.serve({name: getattr(driver, name) for name in names})


if __name__ == "__main__":
    main()
