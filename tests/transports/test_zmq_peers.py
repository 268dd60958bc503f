"""Claims of descriptors by identities, in the orders that a storm of clients makes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from labnet.transports.zmq_peers import Peer, PeerTable


class PeerTableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lost: list[Peer] = []
        self.table = PeerTable(self.lost.append)

    def accept(self, descriptor: int) -> None:
        self.table.accepted(descriptor, f"127.0.0.1:{descriptor}", 0.0)

    def test_claim_and_loss(self) -> None:
        self.accept(7)
        self.assertEqual(self.table.unclaimed, [7])
        peer = self.table.claim(b"a", 7)
        self.assertEqual((peer.alive, peer.address), (True, "127.0.0.1:7"))
        self.assertIs(self.table.claim(b"a", 7), peer)
        self.assertIs(self.table.peer(b"a"), peer)
        self.assertEqual(self.table.unclaimed_count, 0)
        self.table.disconnected(7)
        self.assertFalse(peer.alive)
        self.assertEqual(self.lost, [])  # not before messages in hand are acted upon
        self.table.settle()
        self.table.settle()
        self.assertEqual(self.lost, [peer])
        self.assertIsNone(self.table.peer(b"a"))

    def test_descriptor_is_accepted_again(self) -> None:
        self.accept(7)
        old = self.table.claim(b"a", 7)
        self.accept(7)  # DISCONNECTED was missed
        new = self.table.claim(b"a", 7)
        self.table.settle()
        self.assertIsNot(new, old)
        self.assertEqual((self.lost, new.alive), ([old], True))

    def test_another_identity_displaces(self) -> None:
        self.accept(7)
        old = self.table.claim(b"a", 7)
        new = self.table.claim(b"b", 7)
        self.table.settle()
        self.assertEqual((self.lost, new.alive, old.alive), ([old], True, False))

    def test_identity_moves(self) -> None:
        self.accept(7)
        self.accept(8)
        old = self.table.claim(b"a", 7)
        new = self.table.claim(b"a", 8)
        self.table.settle()
        self.assertEqual(self.lost, [old])
        self.assertIs(self.table.peer(b"a"), new)
        self.assertEqual(self.table.unclaimed, [7])

    def test_message_of_somebody_already_gone(self) -> None:
        ghost = self.table.claim(b"a", 7)
        self.assertFalse(ghost.alive)
        self.assertIs(self.table.claim(b"a", 7), ghost)
        self.table.settle()
        self.assertEqual(self.lost, [ghost])
        self.assertEqual(self.table.claims, {})

    def test_last_words_come_before_the_news_of_death(self) -> None:
        self.accept(7)
        self.accept(8)
        talker, silent = self.table.claim(b"a", 7), self.table.claim(b"b", 8)
        self.table.disconnected(7)
        self.table.disconnected(8)
        self.table.settle([(b"a", 7)])
        self.assertEqual(self.lost, [silent])
        self.assertIs(self.table.claim(b"a", 7), talker)
        self.table.settle()
        self.assertEqual(self.lost, [silent, talker])

    def test_same_name_same_descriptor_new_connection(self) -> None:
        """A client that ends and starts again within a turn gets its answer."""
        self.accept(7)
        old = self.table.claim(b"a", 7)
        self.table.disconnected(7)
        self.accept(7)
        self.table.settle([(b"a", 7)])
        self.assertEqual(self.lost, [old])
        self.assertTrue(self.table.claim(b"a", 7).alive)

    def test_socket_says_there_is_no_such_peer(self) -> None:
        self.accept(7)
        peer = self.table.claim(b"a", 7)
        self.table.dead(b"a")
        self.table.dead(b"nobody")
        self.table.settle()
        self.assertEqual(self.lost, [peer])

    def test_clear(self) -> None:
        self.accept(7)
        self.accept(8)
        peer = self.table.claim(b"a", 7)
        self.table.clear()
        self.assertEqual((self.lost, self.table.open, self.table.claims), ([peer], {}, {}))

    def test_named(self) -> None:
        self.assertTrue(Peer(b"a", 1).named)
        self.assertFalse(Peer(b"\0abcd", 1).named)


class NewcomerTests(SynchronousTestCase):
    """Who of the silent ones may be a client that has come back."""

    def test_same_host_and_not_before(self) -> None:
        table = PeerTable(lambda peer: None)
        table.accepted(7, "10.0.0.1:5000", 1.0)
        table.accepted(8, "10.0.0.1:5001", 9.0)
        table.accepted(9, "10.0.0.2:5000", 9.0)
        self.assertEqual(table.silent_since("10.0.0.1:4000", 8.5), 1)
        self.assertEqual(table.silent_since("10.0.0.1:4000", 0.0), 2)
        table.claim(b"a", 8)
        self.assertEqual(table.silent_since("10.0.0.1:4000", 8.5), 0)
