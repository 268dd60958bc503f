"""Keys of a section for any class of the user's: from the arguments of its constructor.

Unlike a driver of labnet's own, such a class may have arguments without annotations, hand what it
does not know on to the constructors of its bases (``**kwargs``), or call an argument as a key that
all sections have; then it is written ``argument NAME``.
"""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import sys
import traceback
import typing
from collections.abc import Callable, Collection, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from labnet.device import Device
from labnet.errors import shorten
from labnet.inifile import Section, suggest
from labnet.options import Option, argument_helps, can_parse
from labnet.specs import hints_of
from labnet.values import ANY

PREFIX = "argument "
_MISSING = inspect.Parameter.empty
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)


class Literally:
    """A value of any type: a literal such as ``3``, ``true`` or ``[1, 2]``, else the text."""

    @staticmethod
    def from_text(text: str) -> Any:
        return ANY.parse(text)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What a class can be made with; `open`: it takes arguments of any other name too."""

    options: tuple[Option, ...]
    open: bool = False

    @property
    def required(self) -> frozenset[str]:
        """The arguments that must be given."""
        return frozenset(option.name for option in self.options if option.required)


def arguments_of(target: Any) -> Arguments:
    """The arguments of a class or function, those of the bases' constructors among them.

    Raises ValueError for one that must be given and that no text can stand for.
    """
    options: dict[str, Option] = {}
    hands_on = False
    for maker in _constructors(target):
        hints = hints_of(maker)
        helps = argument_helps(inspect.cleandoc(maker.__doc__ or target.__doc__ or ""))
        parameters = _parameters(maker)
        for item in parameters:
            if item.name not in options and _has_name(item):
                option = _option(item, hints.get(item.name), helps)
                if option is not None and not _is_clock(target, option):
                    options[item.name] = option
        hands_on = any(item.kind is item.VAR_KEYWORD for item in parameters)
        if not hands_on:
            break
    return Arguments(tuple(options.values()), open=hands_on)


def _constructors(target: Any) -> Iterator[Any]:
    if not isinstance(target, type):
        yield target
        return
    for base in target.__mro__[:-1]:
        if "__init__" in vars(base):
            yield vars(base)["__init__"]


def _parameters(maker: Any) -> list[inspect.Parameter]:
    try:
        found = list(inspect.signature(maker).parameters.values())
    except (TypeError, ValueError):  # written in C
        return []
    return found[1:] if inspect.isfunction(maker) and maker.__name__ == "__init__" else found


def _has_name(item: inspect.Parameter) -> bool:
    return item.kind not in (*_BY_POSITION, item.VAR_KEYWORD) and not item.name.startswith("_")


def _is_clock(target: Any, option: Option) -> bool:
    """Whether the lab itself gives this argument."""
    return option.name == "clock" and isinstance(target, type) and issubclass(target, Device)


def _option(item: inspect.Parameter, hint: Any, helps: dict[str, str]) -> Option | None:
    name = item.name
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    if not can_parse(hint):
        if isinstance(hint, type) and hint not in (object, Any):
            if item.default is _MISSING:
                raise ValueError(
                    f"the argument {name!r} is a {hint.__name__}, which no text can stand for;"
                    " name a function that makes the device from texts and numbers"
                )
            return None
        hint = Literally
    return Option(name, hint, item.default, help=helps.get(name, ""))


def argument_options(
    arguments: Arguments, section: Section, taken: Collection[str], known: Collection[str] = ()
) -> dict[str, Option]:
    """Each argument by its name, its option under the key that the section may set.

    `taken` are the keys that all sections have, `known` the arguments that need not be set. Raises
    `ConfigError` for an ``argument NAME`` that the class does not take.
    """
    chosen: dict[str, Option] = {}
    for option in arguments.options:
        named = PREFIX + option.name
        by_name = option.name not in taken and named not in section.entries
        default = None if option.name in known else option.default
        key = option.name if by_name else named
        chosen[option.name] = dataclasses.replace(option, name=key, default=default)
    for key in section.entries:
        name = key.removeprefix(PREFIX).strip()
        if not key.startswith(PREFIX) or name in chosen:
            continue
        if not arguments.open or not name.isidentifier():
            hint = suggest(name, chosen)
            raise section.error(f"unknown argument {shorten(name)!r}{hint}", key)
        chosen[name] = Option(key, Literally)
    return chosen


def load_class(target: str, folder: Path | None = None) -> Callable[..., Any]:
    """The class (or function) of a dotted name; modules may lie in `folder` too.

    Raises ValueError with a sentence: what is missing, or what went wrong in the user's module.
    """
    module_name, _, name = target.rpartition(".")
    if not all(part.isidentifier() for part in target.split(".")) or not module_name:
        raise ValueError(f"{shorten(target)!r} is no dotted name such as package.module.Class")
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))  # behind all others: it shadows nothing
    module = _import(module_name, folder)
    found = getattr(module, name, None)
    if found is None:
        raise ValueError(f"{_place(module)} has no class {name!r}{_near(name, _classes(module))}")
    if not callable(found):
        raise ValueError(f"{name!r} in {_place(module)} is no class")
    made: Callable[..., Any] = found
    return made


def _import(name: str, folder: Path | None) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if f"{name}.".startswith(f"{missing}."):
            hint = _near(missing.rpartition(".")[2], _neighbours(missing, folder))
            raise ValueError(f"there is no module {missing!r}{hint}") from None
        raise ValueError(f"{name} needs the Python package {missing}, not installed") from None
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} cannot be imported: {_what_happened(error)}") from None


def _what_happened(error: BaseException) -> str:
    """An exception in the user's own code: its class, text and line."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return text  # its text says where
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{text} ({last.filename} line {last.lineno})"


def _neighbours(missing: str, folder: Path | None) -> list[str]:
    """The modules that could have been meant."""
    parent = missing.rpartition(".")[0]
    if parent:
        paths = list(getattr(sys.modules.get(parent), "__path__", []))
    else:
        paths = [] if folder is None else [str(folder)]
    return [found.name for found in pkgutil.iter_modules(paths)]


def _place(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or module.__name__)


def _classes(module: ModuleType) -> list[str]:
    return [name for name, it in vars(module).items() if isinstance(it, type) and name[0] != "_"]


def _near(word: str, known: Collection[str]) -> str:
    hint = suggest(word, known)
    return hint if "did you mean" in hint or len(known) <= 10 else ""
