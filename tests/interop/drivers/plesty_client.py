"""Drive plesty-lib's real client: ``connect`` makes one with build_client.

usage: plesty_client.py
"""

from typing import Any

from lines import Conversation
from plesty.lib.service import build_client


class Driver:
    """At most one client at a time; ``connect`` again, after ``close``, makes another."""

    def __init__(self) -> None:
        self.client: Any = None

    def connect(self, address: str, **options: Any) -> Any:
        self.client = build_client(address, **options)
        return self.client.connection_info

    def describe(self) -> Any:
        return self.client.describe()

    def query(self, *args: Any, **kwargs: Any) -> Any:
        return self.client.query(*args, **kwargs)

    def write(self, *args: Any, **kwargs: Any) -> Any:
        return self.client.write(*args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self.client.call(*args, **kwargs)

    def proxy(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The method of that name, which the client has made from the description."""
        return getattr(self.client, name)(*args, **kwargs)

    def disconnect(self) -> Any:
        return self.client.disconnect_from_server()

    def reconnect(self, resources: Any) -> Any:
        """Ask for other resources over the same connection."""
        self.client.resources = resources
        return self.client.connect_to_server()

    def close(self) -> None:
        self.client.close()


def main() -> None:
    driver = Driver()
    conversation = Conversation()
    conversation.tell("ready")
    names = (name for name in dir(driver) if not name.startswith("_") and name != "client")
    conversation.serve({name: getattr(driver, name) for name in names})


if __name__ == "__main__":
    main()
