"""Load on a VXI-11 or VICP server by a client of another maker, or by labnet's own.

Runs in that client's environment: ``message_load.py CLIENT PORT LOAD SECONDS CLIENTS``. Reads lines
of standard input; for each it makes one round and prints ``{"done": ..., "seconds": ...}``.

CLIENT is python-vxi11, pyvisa-py, pyvicp, labnet (together, vicp), or sockets: the same bytes on a
plain one. LOAD is idn, or read or write with a number of bytes, such as read:1000000, of which the
count is in bytes.
"""

import json
import socket
import sys
import threading
import time
from typing import Any


class PythonVxi11:
    """python-vxi11, told the port."""

    def __init__(self, port: int) -> None:
        import vxi11

        self._instrument = vxi11.Instrument("127.0.0.1")
        self._instrument.client = vxi11.vxi11.CoreClient("127.0.0.1", port)
        self._instrument.open()

    def query(self) -> None:
        assert self._instrument.ask("*IDN?")

    def read(self, size: int) -> int:
        self._instrument.write_raw(b"TEST:BLOCK? %d" % size)
        return len(self._instrument.read_raw())

    def write(self, data: bytes) -> int:
        self._instrument.write_raw(data)
        return len(data)


class PyvisaPy:
    """pyvisa with pyvisa-py; chunks of 1 MiB for blocks."""

    def __init__(self, port: int) -> None:
        import pyvisa

        self._manager = pyvisa.ResourceManager("@py")
        name = f"TCPIP::127.0.0.1,{port}::inst0::INSTR"
        self._instrument: Any = self._manager.open_resource(name, open_timeout=5000, timeout=20_000)

    def query(self) -> None:
        assert self._instrument.query("*IDN?")

    def read(self, size: int) -> int:
        self._instrument.write(f"TEST:BLOCK? {size}")
        return len(self._instrument.read_raw(1 << 20))

    def write(self, data: bytes) -> int:
        self._instrument.write_raw(data)
        return len(data)


class Pyvicp:
    """pyvicp alone."""

    def __init__(self, port: int) -> None:
        import pyvicp

        self._client: Any = pyvicp.Client("127.0.0.1", port=port)

    def query(self) -> None:
        self._client.send(b"*IDN?")
        assert self._client.receive()

    def read(self, size: int) -> int:
        self._client.send(b"TEST:BLOCK? %d" % size)
        return len(self._client.receive())

    def write(self, data: bytes) -> int:
        self._client.send(data)
        self._client.send(b"*OPC?")  # nothing else says that it has come
        assert self._client.receive()
        return len(data)


class Sockets:
    """The calls of a query as bytes; blocks as `benchmarks.floors.blocks` has them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._buffer = bytearray(17 << 20)

    def begin(self) -> None:
        """A new connection: the server of blocks has one at a time."""
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def end(self) -> None:
        self._socket.close()

    def query(self) -> None:
        self._socket.sendall(WRITE)
        self._socket.recv(100)
        self._socket.sendall(READ)
        self._socket.recv(100)

    def read(self, size: int) -> int:
        self._socket.sendall(b"%010dr" % size)
        view = memoryview(self._buffer)[:size]
        while view:
            view = view[self._socket.recv_into(view) :]
        return size

    def write(self, data: bytes) -> int:
        self._socket.sendall(b"%010dw" % len(data))
        self._socket.sendall(data)
        self._socket.recv(2)
        return len(data)


class VicpSockets(Sockets):
    """The block of a query, which comes back as it is."""

    def query(self) -> None:
        self._socket.sendall(BLOCK)
        self._socket.recv(100)


BLOCK = bytes.fromhex("81010100 00000006 2a49444e3f0a")
# device_write of *IDN? and device_read
WRITE = bytes.fromhex(
    "80000044 00000002 00000000 00000002 000607af 00000001 0000000b 00000000 00000000 00000000"
    "00000000 00000001 00002710 00002710 00000008 00000005 2a49444e3f000000"
)
READ = bytes.fromhex(
    "80000040 00000003 00000000 00000002 000607af 00000001 0000000c 00000000 00000000 00000000"
    "00000000 00000001 00100000 00002710 00002710 00000000 00000000"
)
MAKERS = {
    "sockets": Sockets,
    "sockets, vicp": VicpSockets,
    "python-vxi11": PythonVxi11,
    "pyvisa-py": PyvisaPy,
    "pyvicp": Pyvicp,
}


def message(size: int) -> bytes:
    """A command with a block."""
    return b"TEST:LOAD #%d%d" % (len(str(size)), size) + bytes(size)


def one_client(client: Any, load: str, until: float) -> int:
    """Requests, or bytes, until that time."""
    kind, _, size = load.partition(":")
    done = 0
    data = message(int(size)) if kind == "write" else b""
    while time.perf_counter() < until:
        if kind == "idn":
            client.query()
            done += 1
        elif kind == "read":
            done += client.read(int(size))
        else:
            done += client.write(data)
    return done


def threads(clients: list[Any], load: str, seconds: float) -> tuple[int, float]:
    """All clients at once, each in a thread of its own."""
    begun = time.perf_counter()
    counts: list[int] = []

    def run(client: Any) -> None:
        counts.append(one_client(client, load, begun + seconds))

    running = [threading.Thread(target=run, args=(client,)) for client in clients]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counts), time.perf_counter() - begun


def blocking(name: str, port: int, load: str, seconds: float, count: int) -> None:
    """A client that blocks; several in threads."""
    clients = [MAKERS[name](port) for _ in range(count)]
    for _ in sys.stdin:
        for client in clients:
            getattr(client, "begin", bool)()
        done, spent = threads(clients, load, seconds)
        for client in clients:
            getattr(client, "end", bool)()
        print(json.dumps({"done": done, "seconds": spent}), flush=True)


def deferred(name: str, port: int, load: str, seconds: float, count: int) -> None:
    """labnet's own client; several in one thread."""
    from twisted.internet.defer import Deferred, gatherResults
    from twisted.internet.task import react

    from labnet.wires.vicp.client import VicpClient
    from labnet.wires.vxi11.client import Vxi11Client

    def make() -> Any:
        if name == "labnet vicp":
            return VicpClient("127.0.0.1", port, timeout=20)
        together = name == "labnet, together"
        return Vxi11Client("127.0.0.1", port=port, timeout=20, together=together)

    kind, _, size = load.partition(":")

    async def one(client: Any, until: float) -> int:
        done = 0
        data = bytes(int(size or 0))
        while time.perf_counter() < until:
            if kind == "idn":
                assert await client.query("*IDN?")
                done += 1
            elif kind == "read":
                done += len(await client.query_bytes(f"TEST:BLOCK? {size}"))
            else:
                await client.write_block("TEST:LOAD", data)
                if name == "labnet vicp":
                    await client.query("*OPC?")
                done += len(data)
        return done

    async def main(reactor: Any) -> None:
        clients = [make() for _ in range(count)]
        await gatherResults([client.connect() for client in clients])
        for _ in sys.stdin:
            begun = time.perf_counter()
            done = await gatherResults(
                [Deferred.fromCoroutine(one(client, begun + seconds)) for client in clients]
            )
            spent = time.perf_counter() - begun
            print(json.dumps({"done": sum(done), "seconds": spent}), flush=True)

    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))


def main(client: str, port: str, load: str, seconds: str, count: str) -> None:
    if client.startswith("labnet"):
        deferred(client, int(port), load, float(seconds), int(count))
    else:
        blocking(client, int(port), load, float(seconds), int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
