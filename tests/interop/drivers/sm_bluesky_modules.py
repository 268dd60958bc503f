"""Make sm_bluesky's client, command line and server base importable, unmodified.

The package's ``__init__`` modules import the beamlines with all that these need. The socket code
needs a logger and a version, nothing else; so in an environment without the rest, three modules are
stood in for: the two ``__init__`` and ``log``. In a full installation nothing is.
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType


def prepare() -> None:
    if importlib.util.find_spec("dodal") is None:
        root = _package("sm_bluesky", _root_directory())
        root.__dict__["__version__"] = importlib.metadata.version("sm-bluesky")
        _package("sm_bluesky.common.servers", _root_directory() / "common" / "servers")
        _logger()


def _root_directory() -> Path:
    spec = importlib.util.find_spec("sm_bluesky")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("sm-bluesky is not installed in this environment")
    return Path(next(iter(spec.submodule_search_locations)))


def _package(name: str, directory: Path) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = [str(directory)]
    # With a spec of its own, find_spec() still works on it.
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__spec__.submodule_search_locations = [str(directory)]
    sys.modules[name] = module
    return module


def _logger() -> None:
    log = ModuleType("sm_bluesky.log")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    log.__dict__.update(LOGGER=logging.getLogger("sm_bluesky"), logging=logging)
    sys.modules[log.__name__] = log
