"""The device that stands for an object which knows nothing of labnet."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from labnet.device import Device
from labnet.logs import Logger
from labnet.specs import Identity, first_paragraph

log = Logger()
#: Of pyserial, pyvisa, pyusb and paramiko.
_LOST = {"SerialException", "InvalidSession", "USBError", "NoValidConnectionsError"}
#: Seconds for closing an object that hangs, before another is made in its place.
CLOSING = 2.0
_Shell = TypeVar("_Shell", bound="ObjectDevice")


class ObjectDevice(Device):
    """Base of the adapters. The object is made when the device is opened, or was there before.

    All that touches the object runs in the device's own thread, its constructor too, since most
    such objects block; a class that says ``blocking = False`` has it in the reactor.
    """

    blocking = True
    word_headers = True
    #: Arguments of the constructor that a section need not set.
    defaults: Mapping[str, Any] = {}

    def __init__(self, cls: type, make: Callable[[], Any] | None, item: Any = None) -> None:
        self._cls = cls
        self._make = make
        self.described_late = make is not None
        self._item = item
        self._thread: int | None = None  # where it was opened
        self._described = False
        self.identity = Identity(cls.__module__.partition(".")[0], cls.__name__)
        self.describe_class(cls)
        if item is not None:
            self._describe()

    @classmethod
    def later(
        cls: type[_Shell], target: type, make: Callable[..., Any], /, **arguments: Any
    ) -> _Shell:
        """Stands for an object of the class `target`, which `make` makes when it is opened."""
        return cls(target, partial(make, **arguments))

    @classmethod
    def around(cls: type[_Shell], item: Any) -> _Shell:
        """Stands for an object that is there already."""
        return cls(type(item), None, item)

    @property
    def made_here(self) -> bool:
        """Whether the object's life is this device's business, from its constructor on."""
        return self._make is not None

    @property
    def item(self) -> Any:
        """The object; it is there whenever the device is open."""
        return self._item

    def connect(self) -> None:
        """Makes the object, anew if it has been open, and opens it."""
        if self._make is not None:
            self._put_away()
            self._item = self._make()
        self._thread = threading.get_ident()
        try:
            self.open(self._item)
            self._describe()
        except BaseException:
            self._drop()
            raise

    def disconnect(self) -> None:
        """Closes the object; one that the device has made is made anew when it is opened again."""
        if self._item is None:
            return
        try:
            if self._thread in (None, threading.get_ident()):
                self.close(self._item)
            else:
                self._close_aside(self._item)
        finally:
            self._drop()
            end_loop()

    def _close_aside(self, item: Any) -> None:
        """Closes an object in whose call the thread before this one hangs, if it lets itself be."""
        def close() -> None:
            try:
                self.close(item)
            except Exception as error:
                log.debug("{cls} did not close: {why}", cls=self._cls.__name__, why=str(error))
            finally:
                end_loop()

        closing = threading.Thread(target=close, daemon=True, name="labnet closing a device")
        closing.start()
        closing.join(CLOSING)

    def means_lost(self, error: BaseException) -> bool:
        """A connection that has ended, in the words of the usual libraries."""
        if self._make is None:
            return False  # nobody here can make the object anew
        lost = isinstance(error, ConnectionError | EOFError)
        return lost or any(cls.__name__ in _LOST for cls in type(error).__mro__)

    def _put_away(self) -> None:
        """Closes what is left of an object that was lost."""
        try:
            self.disconnect()
        except Exception as error:
            log.debug("{cls} did not close: {why}", cls=self._cls.__name__, why=str(error))

    def _drop(self) -> None:
        if self._make is not None:
            self._item = None
            self._described = False

    def _describe(self) -> None:
        if not self._described:
            self._described = True
            self.describe_object(self._item)

    # What an adapter says

    def describe_class(self, cls: type) -> None:
        """Adds the members that are known from the class alone."""

    def describe_object(self, item: Any) -> None:
        """Adds the members that only the object tells."""

    def open(self, item: Any) -> Any:
        """Opens the object."""

    def close(self, item: Any) -> Any:
        """Closes the object."""

    # What several adapters need

    def read_attribute(self, name: str) -> Any:
        """An attribute of the object."""
        return getattr(self._item, name)

    def write_attribute(self, name: str, value: Any) -> None:
        """Sets an attribute of the object."""
        setattr(self._item, name, value)

    def call_method(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a method of the object."""
        return getattr(self._item, name)(*args, **kwargs)


def call_first(item: Any, names: tuple[str, ...]) -> None:
    """Calls the first of these methods that the object has and that needs no argument."""
    for name in names:
        method = getattr(item, name, None)
        if callable(method) and needs_nothing(method):
            finish(method())
            return


def needs_nothing(method: Callable[..., Any]) -> bool:
    """Whether a method can be called without arguments."""
    try:
        inspect.signature(method).bind()
    except (TypeError, ValueError):
        return False
    return True


_loops = threading.local()


def finish(result: Any) -> Any:
    """The result of what may be a coroutine of asyncio, which runs to its end here.

    All those of one thread, and so of one device, run in the same event loop.
    """
    if not inspect.iscoroutine(result):
        return result
    loop: asyncio.AbstractEventLoop | None = getattr(_loops, "loop", None)
    if loop is None:
        loop = _loops.loop = asyncio.new_event_loop()
    return loop.run_until_complete(result)


def end_loop() -> None:
    """Puts this thread's event loop away, if it has had one."""
    loop: asyncio.AbstractEventLoop | None = getattr(_loops, "loop", None)
    if loop is not None:
        _loops.loop = None
        loop.close()


def read_identity(text: Any, default: Identity) -> Identity:
    """An identity from text such as an answer to ``*IDN?``; what it leaves out from `default`."""
    if isinstance(text, Identity):
        return text
    parts = [part.strip() for part in str(text).split(",", 3)]
    if len(parts) < 2:
        return default
    model, *rest = parts[1:]
    serial, firmware = (*rest, "", "")[:2]
    return Identity(
        parts[0] or default.maker,
        model or default.model,
        serial or default.serial,
        firmware or default.firmware,
    )


def help_of(thing: Any) -> str:
    """The first paragraph of a docstring."""
    return first_paragraph(getattr(thing, "__doc__", None))
