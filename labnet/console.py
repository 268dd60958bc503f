"""The command ``labnet``: tells a lab that runs to read its configuration again, or asks how it is.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from labnet.control import LONGEST_LINE, socket_directory, socket_of

PATIENCE = 60.0
"""Seconds that the lab has for its answer."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out the command line; the exit status is 1 for what the lab refuses."""
    options = _parser().parse_args(arguments)
    try:
        path = _path(options)
        request = {"command": options.command, "check": getattr(options, "check", False)}
        answer = ask(path, request)
    except (OSError, ValueError) as error:
        print(f"labnet: {error}", file=sys.stderr)
        return 1
    ok = answer.get("ok") is True
    print(answer.get("text", ""), file=sys.stdout if ok else sys.stderr)
    return 0 if ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labnet", description="Control a lab that runs on this machine (twistd labnet)."
    )
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--lab", help="the name of the lab; needed where several run")
    where.add_argument("--socket", type=Path, help="its control socket, wherever that is")
    commands = parser.add_subparsers(dest="command", required=True)
    reload = commands.add_parser(
        "reload", parents=[where], help="read the configuration again and change what is different"
    )
    reload.add_argument("--check", action="store_true", help="only say what would change")
    commands.add_parser("status", parents=[where], help="show the devices and listeners")
    return parser


def _path(options: argparse.Namespace) -> Path:
    """The socket that is meant; ValueError where that is not clear."""
    if options.socket is not None:
        return Path(options.socket)
    if options.lab is not None:
        return socket_of(options.lab)
    directory = socket_directory()
    found = sorted(directory.glob("*.sock")) if directory.is_dir() else []
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(f"no lab of this user runs here (there is no socket in {directory})")
    names = ", ".join(path.stem for path in found)
    raise ValueError(f"several labs run here: {names}; say which with --lab NAME")


def ask(path: Path, request: dict[str, object]) -> dict[str, object]:
    """One request and its answer; OSError or ValueError where there is none."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(str(path))
        except OSError as error:
            raise OSError(f"no lab answers at {path}: {error.strerror or error}") from None
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as answers:
            line = answers.readline(64 * LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise ValueError("the lab ended the connection without an answer")
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError("the lab's answer is none")
    return answer


if __name__ == "__main__":
    sys.exit(main())
