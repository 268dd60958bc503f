"""Remote and local control of an instrument (IVI-6.1 section 6.8, IEEE 488.1)."""

from __future__ import annotations

from labnet.wires.hislip.codec import RemoteLocal


class RemoteState:
    """RemoteEnable, LocalLockout and Remote (IVI-6.1 section 6.8)."""

    def __init__(self) -> None:
        self.enabled = True
        self.lockout = False
        self.remote = False

    def touch(self) -> None:
        """A message has come that puts an enabled device under remote control."""
        self.remote = self.remote or self.enabled

    def request(self, request: RemoteLocal) -> None:
        """What AsyncRemoteLocalControl asks for."""
        if request is RemoteLocal.GO_TO_LOCAL:
            self.remote = False
            return
        if request is RemoteLocal.ENABLE:
            self.enabled = True
            return
        self.enabled = request not in (RemoteLocal.DISABLE, RemoteLocal.DISABLE_AND_GO_TO_LOCAL)
        self.lockout = request in (
            RemoteLocal.ENABLE_AND_LOCK_OUT, RemoteLocal.ENABLE_LOCK_OUT_AND_GO_TO_REMOTE
        )  # fmt: skip
        if not self.enabled:
            self.remote = False
        elif request is not RemoteLocal.ENABLE_AND_LOCK_OUT:
            self.remote = True
