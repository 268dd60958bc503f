"""A real plesty-lib device behind the real ``build_server``.

usage: plesty_server.py

Tells ``listening`` with the ZMQ address. Answers ``values`` with what clients have written, and
``calls`` with the operations that have been carried out, in order.
"""

import asyncio
import os
import time
from typing import Any

import numpy as np
from lines import Conversation
from plesty.lib.device.base_device_sync import BaseDeviceSyncModel
from plesty.lib.device.device_utils import expose_to_api
from plesty.lib.device.funcs import FuncOutput, FuncParam
from plesty.lib.service import build_server

ERRORS = {cls.__name__: cls for cls in (ValueError, KeyError, RuntimeError, OSError, TimeoutError)}


class Bench(BaseDeviceSyncModel):
    """A power meter on a two-axis stage, with a laser: parameters of every kind."""

    def __init__(self) -> None:
        super().__init__(id="bench")
        self.values: dict[str, Any] = {}
        self.calls: list[str] = []
        self.register_resources(["axis/x", "axis/y", "laser"])
        self._add_parameters()
        self.register_func(
            "measure_power",
            iparams=[FuncParam(name="samples", dtype=int, default=10, required=False)],
            oparams=[FuncOutput(name="power", dtype=float, unit="W")],
            description="Mean optical power of some samples.",
        )
        self.bind_op_solver(self._operate)

    def _add_parameters(self) -> None:
        add = self.register_config
        add("wavelength", dtype=float, default=532.0, unit="nm", min_value=185.0, max_value=2500.0)
        add("averaging", dtype=int, default=10, min_value=1, max_value=3000)
        add("power_unit", dtype=str, default="W", options=["W", "DBM"])
        add("auto_range", dtype=bool, default=True, description="Ranging is automatic.")
        add("serial", dtype=str, default="B-0001", read_only=True)
        add("trigger", dtype=bool, default=False, write_only=True)
        self.register_config_group("motor", command_prefix="MOTOR")
        add("position", group="motor", dtype=float, default=0.0, unit="mm", min_value=-50.0)

    def _operate(self, request: dict[str, Any]) -> dict[str, Any]:
        samples = (request.get("params") or {}).get("samples", 10)
        self.calls.append(request["op"])
        return {"power": samples / 1000}

    def init(self, *args: Any) -> None:
        self.calls.append("init")

    def connect(self) -> bool:
        self.calls.append("connect")
        return True

    def disconnect(self) -> None:
        self.calls.append("disconnect")

    def check_operatability(self) -> bool:
        return True

    @expose_to_api
    def check_errors(self, **kwargs: Any) -> list[str]:
        return []

    @expose_to_api
    def identity(self, **kwargs: Any) -> str:
        return "Example,Bench,B-0001,1.0"

    def _write_(self, key: str, value: Any, **kwargs: Any) -> bool:
        self.values[key] = value
        return True

    def _query_(self, key: str, **kwargs: Any) -> Any:
        return self.values.get(key, self.get_config(key).default)

    @expose_to_api
    def add(self, a: float, b: float = 0, **kwargs: Any) -> float:
        """The sum of two numbers."""
        self.calls.append("add")
        return a + b

    @expose_to_api
    def echo(self, value: Any, **kwargs: Any) -> Any:
        self.calls.append("echo")
        return value

    @expose_to_api
    def nap(self, seconds: float, **kwargs: Any) -> str:
        """Hold the instrument for that long."""
        self.calls.append("nap")
        time.sleep(seconds)
        return "rested"

    @expose_to_api
    def boom(self, kind: str, text: str, **kwargs: Any) -> None:
        raise ERRORS[kind](text)

    @expose_to_api
    def image(self, **kwargs: Any) -> Any:
        """What the wire has no form for."""
        return np.zeros((2, 2))

    @expose_to_api
    def bare(self) -> int:
        """Takes no keywords, so plesty's own server cannot call it for a lock holder."""
        return 42


async def main() -> None:
    conversation = Conversation()
    bench = Bench()
    server = build_server(bench, address="tcp://127.0.0.1:*")
    conversation.serve_in_thread({"values": lambda: bench.values, "calls": lambda: bench.calls})
    conversation.tell("listening", address=server.address)
    await server.run()
    # It stops by itself on a request that it cannot read: the test is told, and sees status 0.
    conversation.tell("stopped")
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
