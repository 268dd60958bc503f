"""How a listener says that it cannot start."""

from __future__ import annotations

import errno
import os

from labnet.errors import LabError

_WHY = {
    errno.EADDRINUSE: "the port is in use by another program",
    errno.EACCES: "this user may not open it (ports below 1024 need a privilege)",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.ENODEV: "this machine has no such address or interface",
    errno.EINVAL: "this is not an address to listen at",
    errno.EPROTONOSUPPORT: "this kind of address is not supported",
}


class CannotListen(LabError):
    """An address cannot be listened at; the text is one line for the user, `strerror` the why."""

    def __init__(self, address: str, why: str) -> None:
        self.address = address
        self.strerror = why
        super().__init__(f"cannot listen at {address}: {why}")


def why_not(number: int | None) -> str:
    """An error number of the system, in words that say what to do."""
    if number is None:
        return "unknown reason"
    if number < 0:  # of getaddrinfo, which has numbers of its own
        return "no host of that name is known; give an address of this machine, such as 127.0.0.1"
    return _WHY.get(number) or os.strerror(number)
