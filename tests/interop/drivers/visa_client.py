"""Drive PyVISA with pyvisa-py, any number of sessions, each under a name of the test's choice.

usage: visa_client.py

A VISA error comes back with its ``abbreviation`` (``VI_ERROR_TMO``) and ``error_code``.
"""

from typing import Any

import pyvisa
from lines import Conversation


class Driver:
    def __init__(self) -> None:
        self._manager = pyvisa.ResourceManager("@py")
        self._sessions: dict[str, Any] = {}

    def open(self, name: str, resource: str, **options: Any) -> None:
        """``options`` are the session's attributes: timeout (ms), read_termination and so on."""
        self._sessions[name] = self._manager.open_resource(resource, **options)

    def resources(self, query: str = "?*::INSTR") -> list[str]:
        """What pyvisa-py finds on the network; takes some seconds."""
        return list(self._manager.list_resources(query))

    def set(self, name: str, attribute: str, value: Any) -> None:
        setattr(self._sessions[name], attribute, value)

    def get(self, name: str, attribute: str) -> Any:
        return getattr(self._sessions[name], attribute)

    def write(self, name: str, message: str) -> int:
        return int(self._sessions[name].write(message))

    def write_binary(self, name: str, message: str, values: list[Any], **options: Any) -> int:
        return int(self._sessions[name].write_binary_values(message, values, **options))

    def read(self, name: str) -> str:
        return str(self._sessions[name].read())

    def query(self, name: str, message: str) -> str:
        return str(self._sessions[name].query(message))

    def query_binary(self, name: str, message: str, **options: Any) -> list[Any]:
        return list(self._sessions[name].query_binary_values(message, **options))

    def read_stb(self, name: str) -> int:
        return int(self._sessions[name].read_stb())

    def clear(self, name: str) -> None:
        self._sessions[name].clear()

    def trigger(self, name: str) -> None:
        self._sessions[name].assert_trigger()

    def lock(self, name: str, timeout: float, key: str | None = None) -> str | None:
        """Exclusive, or shared under a key; ``timeout`` in milliseconds. Gives the key."""
        session = self._sessions[name]
        if key is None:
            session.lock_excl(timeout)
            return None
        return str(session.lock(timeout, key))

    def unlock(self, name: str) -> None:
        self._sessions[name].unlock()

    def close(self, name: str) -> None:
        self._sessions.pop(name).close()


def main() -> None:
    driver = Driver()
    conversation = Conversation()
    conversation.tell("ready")
    names = (name for name in dir(driver) if not name.startswith("_"))
    conversation.serve({name: getattr(driver, name) for name in names})


if __name__ == "__main__":
    main()
