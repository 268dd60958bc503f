"""PyMoDAQ's own classes on both ends, in their environment: 0D round trips, one at a time.

usage: real_pymodaq.py SECONDS

The server's socket and its serializers, without the timer of its plugin, which asks five times a
second at most; the client is the whole TCPClient, as the interop tests run it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["HOME"] = tempfile.mkdtemp()

DRIVER = Path(__file__).resolve().parents[2] / "tests" / "interop" / "drivers" / "pymodaq_client.py"


def main(seconds: str) -> None:
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what PyMoDAQ prints goes elsewhere
    import socket

    from pymodaq.utils.tcp_ip.mysocket import Socket  # type: ignore[import-not-found]
    from pymodaq.utils.tcp_ip.serializer import DeSerializer  # type: ignore[import-not-found]

    listener = Socket(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    client = subprocess.Popen(
        [sys.executable, str(DRIVER), "GRABBER", str(listener.getsockname()[1])],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=os.environ["HOME"], text=True,
    )  # fmt: skip
    assert client.stdin is not None
    client.stdin.write('{"id": 1, "ask": "dial", "args": [], "kwargs": {}}\n')
    client.stdin.flush()
    module, _ = listener.accept()
    reader = DeSerializer(module)
    for _ in range(3):
        reader.string_deserialization()  # GRABBER, Infos and the settings
    while sys.stdin.readline():
        done, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) < begun + float(seconds):
            module.check_sended_with_serializer("Send Data 0D")
            if reader.string_deserialization() != "Done":
                raise ConnectionError("no frame")
            reader.dte_deserialization()
            done += 1
        print(json.dumps({"done": done, "seconds": now - begun}), file=told, flush=True)
    client.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
