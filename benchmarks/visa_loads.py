"""Clients of VISA resources in a process of their own: pyvisa-py in threads, or labnet's in a
reactor.

usage: python -m benchmarks.visa_loads pyvisa|labnet|echo hislip|socket PORT

Each line of input is a load, ``queries SESSIONS SECONDS``, or ``read``, ``write``, ``read_block``
or ``write_block`` with ``SIZE SECONDS``; each is answered by a JSON list, how many queries or bytes
in how many seconds. ``read`` and ``write`` are pyvisa's calls for bytes as they are; the other two
those for data blocks, which make and take apart the block's header, as labnet's do in either case.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from typing import Any


def main(side: str, wire: str, port: str) -> None:
    load = {"pyvisa": Visa, "labnet": Labnet, "echo": Echo}[side](wire, int(port))
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        kind, number, seconds = line.split()
        print(json.dumps(getattr(load, kind)(int(number), float(seconds))), flush=True)


class Threads:
    """Sessions that are each asked in a thread of its own."""

    def __init__(self, wire: str, port: int) -> None:
        self._wire = wire
        self._port = port
        self._open: list[Any] = []

    def open(self) -> Any:
        """A new session."""
        raise NotImplementedError

    def ask(self, session: Any) -> None:
        """One query."""
        raise NotImplementedError

    def sessions(self, count: int) -> list[Any]:
        while len(self._open) < count:
            self._open.append(self.open())
        return self._open[:count]

    def queries(self, sessions: int, seconds: float) -> tuple[int, float]:
        done = [0] * sessions
        opened = self.sessions(sessions)
        begun = time.perf_counter()
        end = begun + seconds

        def work(number: int, session: Any) -> None:
            while time.perf_counter() < end:
                self.ask(session)
                done[number] += 1

        threads = [threading.Thread(target=work, args=item) for item in enumerate(opened)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(done), time.perf_counter() - begun


class Echo(Threads):
    """As many bytes as a query has, header included, sent back by bare sockets."""

    def open(self) -> Any:
        session = socket.create_connection(("127.0.0.1", self._port))
        session.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return session

    def ask(self, session: Any) -> None:
        session.send(b"x" * 23)
        session.recv(4096)


class Visa(Threads):
    """PyVISA with pyvisa-py, as it is set when a session is opened, but for the time limit.

    On a socket the line feed ends answers, save for blocks: there it must be off, since it is among
    their bytes.
    """

    def __init__(self, wire: str, port: int) -> None:
        import pyvisa

        super().__init__(wire, port)
        self._manager = pyvisa.ResourceManager("@py")

    def open(self) -> Any:
        name = f"TCPIP::127.0.0.1::hislip0,{self._port}::INSTR"
        options: dict[str, Any] = {"timeout": 60_000}
        if self._wire == "socket":
            name = f"TCPIP::127.0.0.1::{self._port}::SOCKET"
            options.update(read_termination="\n", write_termination="\n")
        return self._manager.open_resource(name, **options)

    def ask(self, session: Any) -> None:
        session.query("*IDN?")

    def _session(self) -> Any:
        [session] = self.sessions(1)
        return session

    def read(self, size: int, seconds: float) -> tuple[int, float]:
        session = self._session()
        whole = size + len(f"#{len(str(size))}{size}\n")

        def step() -> None:
            session.write(f"TEST:BLOCK? {size}")
            if self._wire == "socket":
                session.read_termination = None
                answer = session.read_bytes(whole, chunk_size=1 << 20)
                session.read_termination = "\n"
            else:
                answer = session.read_raw(whole + 100)
            if len(answer) < size:
                raise ValueError("a block is too short")

        return _repeat(step, size, seconds)

    def read_block(self, size: int, seconds: float) -> tuple[int, float]:
        session = self._session()

        def step() -> None:
            message = f"TEST:BLOCK? {size}"
            block = session.query_binary_values(
                message, datatype="B", container=bytes, chunk_size=1 << 20
            )
            if len(block) != size:
                raise ValueError("a block is too short")

        return _repeat(step, size, seconds)

    def write(self, size: int, seconds: float) -> tuple[int, float]:
        session = self._session()
        message = b"TEST:LOAD #%d%d%b\n" % (len(str(size)), size, bytes(size))

        def step() -> None:
            session.write_raw(message)
            session.query("*OPC?")

        return _repeat(step, size, seconds)

    def write_block(self, size: int, seconds: float) -> tuple[int, float]:
        session = self._session()
        block = bytes(size)

        def step() -> None:
            session.write_binary_values("TEST:LOAD ", block, datatype="B")
            session.query("*OPC?")

        return _repeat(step, size, seconds)


def _repeat(step: Any, size: int, seconds: float) -> tuple[int, float]:
    done, begun = 0, time.perf_counter()
    while (now := time.perf_counter()) < begun + seconds:
        step()
        done += size
    return done, now - begun


class Labnet:
    """labnet's own client; the reactor runs in a thread, where all of it happens."""

    def __init__(self, wire: str, port: int) -> None:
        from twisted.internet import reactor

        self._reactor: Any = reactor
        self._wire = wire
        self._port = port
        self._open: list[Any] = []
        threading.Thread(target=self._reactor.run, args=(False,), daemon=True).start()

    def _client(self) -> Any:
        from labnet.wires.hislip.client import HislipClient
        from labnet.wires.scpi.client import ScpiClient

        if self._wire == "socket":
            return ScpiClient(f"127.0.0.1:{self._port}", timeout=60.0)
        return HislipClient("127.0.0.1", self._port, timeout=60.0)

    def _sessions(self, count: int) -> list[Any]:
        while len(self._open) < count:
            self._open.append(self._client())
        return self._open[:count]

    def _run(self, function: Any, *args: Any) -> tuple[int, float]:
        from twisted.internet.defer import ensureDeferred
        from twisted.internet.threads import blockingCallFromThread

        result: Any = blockingCallFromThread(
            self._reactor, lambda: ensureDeferred(function(*args))
        )
        return int(result[0]), float(result[1])

    def queries(self, sessions: int, seconds: float) -> tuple[int, float]:
        return self._run(self._queries, sessions, seconds)

    async def _queries(self, sessions: int, seconds: float) -> tuple[int, float]:
        from twisted.internet.defer import ensureDeferred, gatherResults

        opened = self._sessions(sessions)
        await gatherResults([client.connect() for client in opened])
        begun = time.perf_counter()
        end = begun + seconds

        async def ask(client: Any) -> int:
            done = 0
            while time.perf_counter() < end:
                await client.query("*IDN?")
                done += 1
            return done

        done = await gatherResults([ensureDeferred(ask(client)) for client in opened])
        return sum(done), time.perf_counter() - begun

    def read(self, size: int, seconds: float) -> tuple[int, float]:
        return self._run(self._blocks, size, seconds, False)

    def write(self, size: int, seconds: float) -> tuple[int, float]:
        return self._run(self._blocks, size, seconds, True)

    read_block, write_block = read, write

    async def _blocks(self, size: int, seconds: float, write: bool) -> tuple[int, float]:
        [client] = self._sessions(1)
        await client.connect()
        block = bytes(size)
        done, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) < begun + seconds:
            if write:
                await client.write_block("TEST:LOAD", block)
                await client.query("*OPC?")
            elif len(await client.query_block(f"TEST:BLOCK? {size}")) != size:
                raise ValueError("a block is too short")
            done += size
        return done, now - begun


if __name__ == "__main__":
    main(*sys.argv[1:])
