"""A real subclass of sm_bluesky's ``AbstractInstrumentServer``: a motor, with commands that err.

usage: sm_bluesky_server.py [--hardware-replies]

Tells ``listening`` with the port, ``slow`` when that command has begun, and ``stopped`` after a
shutdown. Answers ``requests`` with the commands it has carried out.
With --hardware-replies, connect_hardware and disconnect_hardware reply, as the pulse generator
does.
"""

import logging
import os
import sys
from time import sleep
from typing import Any

import sm_bluesky_modules
from lines import Conversation

sm_bluesky_modules.prepare()

from sm_bluesky.common.servers.abstract_instrument_server import (  # noqa: E402
    AbstractInstrumentServer,
    register_command,
)


class Motor(AbstractInstrumentServer):
    def __init__(self, conversation: Conversation, hardware_replies: bool) -> None:
        super().__init__("127.0.0.1", 0)
        self.conversation = conversation
        self.hardware_replies = hardware_replies
        self.value = 0.0
        self.requests: list[list[str]] = []

    def connect_hardware(self) -> bool:
        if self.hardware_replies:
            self._send_response(b"Hardware connected successfully")
        return True

    def disconnect_hardware(self) -> None:
        if self.hardware_replies:
            self._send_response(b"Hardware disconnected")

    def _handle_command(self, cmd: bytes, args_list: list[bytes]) -> None:
        self.requests.append([part.decode("latin-1") for part in (cmd, *args_list)])
        super()._handle_command(cmd, args_list)

    @register_command(b"move_abs")
    def move_absolute(self, position: bytes) -> None:
        self.value = float(position)
        self._send_response(b"Moved to " + position)

    @register_command(b"position")
    def position(self) -> None:
        self._send_response(str(self.value).encode())

    @register_command(b"limits")
    def limits(self) -> None:
        self._send_response(b"-10.0\t10.0\tmm")

    @register_command(b"echo")
    def echo(self, *texts: bytes) -> None:
        self._send_response(b"\t".join(texts))

    @register_command(b"argc")
    def count_arguments(self, *arguments: bytes) -> None:
        shown = [str(argument).encode() for argument in arguments]
        self._send_response(b"\t".join([str(len(arguments)).encode(), *shown]))

    @register_command(b"fail")
    def fail(self, text: bytes) -> None:
        raise RuntimeError(text.decode())

    @register_command(b"fail2")
    def fail_in_two_lines(self) -> None:
        raise RuntimeError("first line\nsecond line\twith tab")

    @register_command(b"oserr")
    def fail_in_the_system(self) -> None:
        raise OSError(5, "Input/output error")

    @register_command(b"oops")
    def time_out(self) -> None:
        raise TimeoutError("by hand")

    @register_command(b"slow")
    def slow(self, seconds: bytes) -> None:
        self.conversation.tell("slow")
        sleep(float(seconds))
        self._send_response(b"done")

    @register_command(b"silent")
    def silent(self) -> None:
        """Replies nothing, as reset_serial_buffer of the pulse generator."""

    @register_command(b"twice")
    def twice(self) -> None:
        self._send_response(b"one")
        self._send_response(b"two")

    @register_command(b"errthenok")
    def error_then_success(self) -> None:
        self._send_error("careful")
        self._send_response(b"went on")

    @register_command(b"nl")
    def line_break(self) -> None:
        self._send_response(b"line one\nline two")

    @register_command(b"raw")
    def raw(self) -> None:
        self._send_response(b"\xff\xfe")

    @register_command(b"big")
    def big(self, size: bytes) -> None:
        self._send_response(b"x" * int(size))

    @register_command(b"quit_hard")
    def quit_hard(self) -> None:
        raise SystemExit(3)


class TellPort(logging.Handler):
    """The class itself has no hook between listen() and the first accept(), but it logs there."""

    def __init__(self, server: Motor) -> None:
        super().__init__()
        self.server = server

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("Server started listening"):
            port = self.server._server_socket.getsockname()[1]
            self.server.conversation.tell("listening", port=port)


def main(*arguments: str) -> None:
    conversation = Conversation()
    server = Motor(conversation, "--hardware-replies" in arguments)
    answers: dict[str, Any] = {"requests": lambda: server.requests}
    logging.getLogger("sm_bluesky").addHandler(TellPort(server))
    conversation.serve_in_thread(answers)
    server.start()
    conversation.tell("stopped")
    sys.stderr.flush()
    # Not sys.exit(): the other thread sits in a read of standard input.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
