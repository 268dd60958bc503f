"""Addresses of servers as users write them."""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import NotConnected, TooLarge, VisaStatus
from labnet.transports.dialing import client_endpoint, not_connected, shown_address


class AddressTests(SynchronousTestCase):
    def connected_to(self, address: str) -> tuple[str, int]:
        reactor = MemoryReactorClock()
        endpoint = client_endpoint(address, 7891, reactor)
        endpoint.connect(None)  # type: ignore[arg-type]
        host, port = reactor.tcpClients[0][:2]
        return host, port

    def test_numbers(self) -> None:
        for address, expected in {
            "10.0.0.7": ("10.0.0.7", 7891),
            " 10.0.0.7:5025 ": ("10.0.0.7", 5025),
            "[::1]": ("::1", 7891),
            "[fe80::1]:99": ("fe80::1", 99),
            "tcp:10.0.0.7:5025": ("10.0.0.7", 5025),
            "tcp:host=10.0.0.7:port=5025": ("10.0.0.7", 5025),
        }.items():
            self.assertEqual(self.connected_to(address), expected)

    def test_names(self) -> None:
        endpoint = client_endpoint("stage-pc:99", 7891, MemoryReactorClock())
        self.assertIn("stage-pc", repr(endpoint))
        self.assertIn("99", repr(endpoint))

    def test_an_endpoint_is_itself(self) -> None:
        endpoint = client_endpoint("localhost", 1, MemoryReactorClock())
        self.assertIs(client_endpoint(endpoint, 2, None), endpoint)

    def test_no_address(self) -> None:
        for address in ("", "host:70000", "host:0", "nonsense:a:b"):
            self.assertRaises(ValueError, client_endpoint, address, 7891, MemoryReactorClock())

    def test_shown(self) -> None:
        self.assertEqual(shown_address("stage-pc", 7891), "stage-pc:7891")
        self.assertEqual(shown_address("stage-pc:99", 7891), "stage-pc:99")
        self.assertEqual(shown_address("tls:stage-pc:99", 7891), "tls:stage-pc:99")
        endpoint = client_endpoint("localhost", 1, MemoryReactorClock())
        self.assertEqual(shown_address(endpoint, 7891), "the server")

    def test_errors(self) -> None:
        error = not_connected(ConnectionRefusedError("Connection refused"), "stage-pc:99")
        self.assertIs(type(error), NotConnected)
        self.assertIn("no connection to stage-pc:99: ", str(error))
        self.assertIn("refused", str(error))
        self.assertEqual(error.visa_status, VisaStatus.RSRC_NFOUND)
        own = TooLarge("x")
        self.assertIs(not_connected(own, "a"), own)
