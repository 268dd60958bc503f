"""Who may import whom: read from the syntax trees, without importing anything."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1]
SHARED = {"labnet.errors", "labnet.literals", "labnet.values", "labnet.specs", "labnet.logs"}
UPSTAIRS = {
    "labnet",
    "labnet.__main__",
    "labnet.console",
    "labnet.config",
    "labnet.constructors",
    "labnet.control",
    "labnet.endpoints",
    "labnet.inifile",
    "labnet.options",
    "labnet.reload",
    "labnet.reference",
    "labnet.resources",
    "labnet.sections",
    "labnet.service",
    "labnet.tap",
    "labnet.testing",
    "labnet.device_sections",
}
TWISTED = {"twisted", "zope", "constantly", "txzmq", "zmq"}
CONFIG_MAY = {
    *SHARED,
    "labnet.constructors",
    "labnet.device_sections",
    "labnet.sections",
    "labnet.device",  # a key may name another device
    "labnet.endpoints",
    "labnet.inifile",
    "labnet.keys",
    "labnet.options",
    "labnet.devices.declared",  # what a section declares for its device
    "labnet.devices.table",
    "labnet.wires.table",
    "twisted",
    "constantly",
}

TRANSPORTS_MAY = {
    *SHARED,
    *TWISTED,
    "labnet.endpoints",
    "labnet.framing",
    "labnet.transports",
}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its dotted name."""
    found = {}
    for path in sorted((ROOT / "labnet").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(), str(path))
    return found


def is_type_checking(node: ast.AST) -> bool:
    """Whether `node` is an ``if TYPE_CHECKING:``."""
    if not isinstance(node, ast.If):
        return False
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def executed(tree: ast.AST, inside: bool = True) -> Iterator[ast.AST]:
    """The nodes that run; without `inside`, only those that run at import."""
    for node in ast.iter_child_nodes(tree):
        if is_type_checking(node):
            continue
        yield node
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if inside or not function:
            yield from executed(node, inside)


def names_imported(node: ast.AST) -> list[str]:
    """The dotted names that an import statement may bring in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports in labnet are absolute"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def as_module(name: str) -> str:
    """The module that an imported dotted name is, or comes from."""
    known = modules()
    return name if name in known else name.rpartition(".")[0] if name[:7] == "labnet." else name


def imports(module: str, inside: bool = True) -> set[str]:
    """What `module` imports: labnet's modules by their dotted names, others by their first word."""
    found = set()
    for node in executed(modules()[module], inside):
        for name in names_imported(node):
            found.add(as_module(name) if name.startswith("labnet") else name.partition(".")[0])
    return found - {"__future__"}


def reach(start: str, package: str) -> set[str]:
    """`start` and the modules of `package` that it imports, directly or not."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module in modules() and module not in found:
            found.add(module)
            waiting += [name for name in imports(module) if name.startswith(f"{package}.")]
    return found


def in_room(module: str, *rooms: str) -> bool:
    """Whether `module` is one of `rooms` or lies in one."""
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def kernel() -> set[str]:
    """The modules of the kernel: what lies at the top, but not upstairs, and instrument/."""
    rooms = ("wires", "devices", "framing", "transports", "discovery")
    beside = [f"labnet.{room}" for room in rooms]
    return {name for name in modules() if not in_room(name, *beside) and name not in UPSTAIRS}


def wires() -> set[str]:
    """The packages below wires/."""
    parts = (name.split(".") for name in modules() if name.startswith("labnet.wires."))
    return {".".join(part[:3]) for part in parts} - {"labnet.wires.table"}


def strangers(module: str, *allowed: str) -> set[str]:
    """What `module` imports beyond the standard library and the rooms `allowed`."""
    beyond = imports(module) - sys.stdlib_module_names - {"labnet"}
    return {name for name in beyond if not in_room(name, *allowed)}


class RoomTests(SynchronousTestCase):
    """Each room imports only what it may."""

    def check(self, module: str, *allowed: str) -> None:
        self.assertEqual(strangers(module, *allowed), set(), f"{module} may not import these")

    def test_something_is_checked(self) -> None:
        self.assertLessEqual({"labnet.errors", "labnet.lab", "labnet.session"}, kernel())
        self.assertIn("labnet.wires.tsv", wires())
        self.assertIn("twisted", imports("labnet.lab"))
        self.assertIn("labnet.locks", imports("labnet.lab"))
        self.assertNotIn("labnet.service", imports("labnet"))

    def test_ground_floor(self) -> None:
        self.check("labnet.errors")
        self.check("labnet.literals", "numpy", "labnet.errors")
        self.check("labnet.values", "numpy", "labnet.errors", "labnet.literals")
        self.check("labnet.specs", "numpy", "labnet.errors", "labnet.values")
        self.check("labnet.logs", "labnet.errors", "twisted", "constantly")

    def test_framing(self) -> None:
        for module in modules():
            if in_room(module, "labnet.framing"):
                self.check(module, "numpy", "labnet.errors", "labnet.framing")

    def test_transports(self) -> None:
        for module in modules():
            if in_room(module, "labnet.transports"):
                self.check(module, *TRANSPORTS_MAY, "numpy")

    def test_kernel(self) -> None:
        for module in kernel():
            self.check(module, *kernel(), "labnet.framing", "numpy", *TWISTED)

    def test_kernel_imports_only_downward(self) -> None:
        below = {name: imports(name, inside=False) & kernel() for name in kernel()}
        while below:
            lowest = {name for name, needed in below.items() if not needed}
            self.assertTrue(lowest, f"these import each other in a circle: {below}")
            below = {
                name: needed - lowest for name, needed in below.items() if name not in lowest
            }

    def test_devices(self) -> None:
        may = (*SHARED, "labnet.device", "labnet.execution", "labnet.devices", "numpy", "twisted")
        for module in modules():
            if in_room(module, "labnet.devices"):
                self.check(module, *may, "labnet.framing", "pyvisa")

    def test_discovery(self) -> None:
        may = (*SHARED, *TWISTED, *kernel(), "labnet.transports", "labnet.discovery")
        for module in modules():
            if in_room(module, "labnet.discovery"):
                self.check(module, *may, "labnet.config", "zeroconf", "ifaddr")

    def test_config(self) -> None:
        for module in (
            "config", "constructors", "device_sections", "sections", "options", "inifile",
            "endpoints",
        ):
            self.check(f"labnet.{module}", *CONFIG_MAY)


class WireTests(SynchronousTestCase):
    """The rooms of a wire."""

    def sides(self, wire: str) -> Iterator[tuple[str, str]]:
        """Each module of a wire, and whether it is on the side of codec, client or server."""
        codec = reach(f"{wire}.codec", wire) - {wire}
        client = reach(f"{wire}.client", wire) - codec - {wire}
        for module in modules():
            if in_room(module, wire):
                side = "codec" if module in codec else "client" if module in client else "server"
                yield module, side

    def check(self, wire: str, side: str, *allowed: str) -> None:
        for module, its in self.sides(wire):
            if its == side:
                wrong = strangers(module, wire, "labnet.framing", "numpy", *allowed)
                self.assertEqual(wrong, set(), f"{module} may not import these")

    def test_codecs_know_only_bytes(self) -> None:
        for wire in wires():
            self.check(wire, "codec", "labnet.errors", "labnet.values", "labnet.literals")

    def test_clients_know_no_lab(self) -> None:
        for wire in wires():
            self.check(wire, "client", *SHARED, *TWISTED, "labnet.transports")

    def test_servers_know_the_lab_by_its_session(self) -> None:
        for wire in wires():
            self.check(wire, "server", *TRANSPORTS_MAY, *kernel())

    def test_client_and_server_share_only_the_codec(self) -> None:
        for wire in wires():
            client = reach(f"{wire}.client", wire)
            self.assertNotIn(f"{wire}.server", client)


class HabitTests(SynchronousTestCase):
    """What no module of labnet does."""

    def test_nothing_imports_the_reactor_at_import(self) -> None:
        for module, tree in modules().items():
            for node in executed(tree, inside=False):
                self.assertNotIn("twisted.internet.reactor", names_imported(node), module)

    def test_nothing_runs_text_as_code(self) -> None:
        for module, tree in modules().items():
            called = {
                node.func.id
                for node in ast.walk(tree)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            self.assertFalse(called & {"eval", "exec", "compile", "__import__"}, module)
            self.assertFalse(imports(module) & {"marshal", "shelve", "dill"}, module)

    def test_all_loggers_obey_the_levels(self) -> None:
        for module, tree in modules().items():
            if module != "labnet.logs":
                taken = {name for node in executed(tree) for name in names_imported(node)}
                self.assertNotIn("twisted.logger.Logger", taken, f"{module}: use labnet.logs")
