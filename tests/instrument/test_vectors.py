"""Recorded program messages, responses and errors: whole, byte by byte, and all on one channel."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.framing.program_message import MessageFault, ProgramMessageSplitter
from labnet.instrument.channel import MessageChannel
from labnet.instrument.status import ERROR_QUEUE
from tests.instrument.toy import Supply, channel_to
from tests.wires.vectors import records

#: Power-on state is asked for, not that after ``*CLS``.
POWER_ON = {"esr_power_on"}
#: Not about a raw socket: nothing is sent, or reading without asking is looked at.
NOT_ON_SOCKETS = {"query_unterminated", "query_deadlock"}


class Socket:
    """What a raw socket's server does with a channel and a splitter."""

    def __init__(self, channel: MessageChannel) -> None:
        self.channel = channel
        self.splitter = ProgramMessageSplitter()
        self.sent = b""

    def feed(self, data: bytes) -> None:
        for piece in self.splitter.feed(data):
            if isinstance(piece, MessageFault):
                self.channel.error(piece.number, piece.detail)
            else:
                done = self.channel.execute(piece, terminator=b"\n")
                assert isinstance(done.result, bytes)
                self.sent += done.result

    def end(self) -> None:
        """The client has waited in vain: a string that is still open is given up."""
        if self.splitter.waits_in_string:
            fault = self.splitter.give_up_string()
            self.channel.error(fault.number, fault.detail)

    def errors(self) -> list[int]:
        return [error.number for error in self.channel.status.all_errors()]


def cases() -> list[dict[str, Any]]:
    return [case for case in records("scpi") if case["case"] not in NOT_ON_SOCKETS]


HEADERS = ["VOLT", "SOUR2:VOLT?", "APPL", "DATA", "DATA?", "TRIG:SOUR", "*IDN?", "*OPC?", "*RST"]
HEADERS += ["*LRN?", "SYST:ERR?", "SYST:LOCK:REQ?", "STAT:OPER:ENAB", "FORM", "*ESE", "DISP:TEXT"]
DATA = ["", "1", "-1E30", "MAX", "NAN", "'a;b'", "#13abc", "#0x", "(@1:3)", "1 mV", "BUS", "#"]


class AnythingTests(SynchronousTestCase):
    """Whatever is sent, there are responses and errors, and the connection goes on."""

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.sampled_from(HEADERS), st.sampled_from(DATA)).map(" ".join),
                st.text(st.characters(max_codepoint=255), max_size=10),
            ),
            max_size=12,
        ),
        st.sampled_from([";", "\n", ";:", " ;"]),
    )
    @settings(max_examples=300, deadline=None)
    def test_any_message(self, units: list[str], separator: str) -> None:
        socket = Socket(channel_to(Supply())[2])
        socket.feed(separator.join(units).encode("latin-1") + b"\n")
        socket.end()
        socket.splitter.clear()
        errors = socket.errors()
        self.assertNotIn(-310, errors)
        self.assertLessEqual(len(errors), ERROR_QUEUE)
        socket.sent = b""
        socket.feed(b"*IDN?\n")
        self.assertEqual(socket.sent, b"ACME,PSU2,0,1.0\n")


class VectorTests(SynchronousTestCase):
    def fresh(self, case: dict[str, Any]) -> Socket:
        socket = Socket(channel_to(Supply())[2])
        if case["case"] not in POWER_ON:
            socket.feed(b"*CLS\n")
        return socket

    def check(self, case: dict[str, Any], socket: Socket) -> None:
        wanted = bytes.fromhex(case.get("socket_out", case["out"]))
        errors = case.get("socket_errors", case["errors"])
        got = socket.errors()
        if case.get("soft"):
            self.assertEqual(socket.sent.count(b"\n"), wanted.count(b"\n"), case["case"])
        else:
            self.assertEqual((socket.sent, got), (wanted, errors), case["case"])

    def test_there_are_vectors(self) -> None:
        self.assertGreater(len(cases()), 140)

    def test_whole(self) -> None:
        for case in cases():
            socket = self.fresh(case)
            for chunk in case["in"]:
                socket.feed(bytes.fromhex(chunk))
            socket.end()
            self.check(case, socket)

    def test_byte_by_byte(self) -> None:
        for case in cases():
            socket = self.fresh(case)
            for byte in b"".join(bytes.fromhex(chunk) for chunk in case["in"]):
                socket.feed(bytes([byte]))
            socket.end()
            self.check(case, socket)

    def test_joined(self) -> None:
        """All on one connection, each case after a reset of settings, status and masks."""
        socket = Socket(channel_to(Supply())[2])
        reset = b"*RST;*CLS;*ESE 0;*SRE 0;:STAT:PRES\n"
        for case in cases():
            if case["case"] in POWER_ON or not b"".join(map(bytes.fromhex, case["in"])).endswith(
                b"\n"
            ):
                continue
            socket.sent = b""
            socket.feed(reset + b"".join(bytes.fromhex(chunk) for chunk in case["in"]))
            socket.end()
            self.check(case, socket)
