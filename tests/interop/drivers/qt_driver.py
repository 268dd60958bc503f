"""A driver whose peer lives in Qt's event loop: questions are answered in Qt's thread.

Headless: the platform is Qt's own "offscreen" one. A home directory of its own keeps the peers'
configuration files apart, as the versions cannot read one another's.
"""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Callable, Mapping
from typing import Any

from lines import Conversation, Handler

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["HOME"] = os.environ["XDG_CONFIG_HOME"] = os.getcwd()  # the test's own directory


class QtDriver:
    """Runs the application; ``told`` is the way back to the test."""

    def __init__(self) -> None:
        from qtpy import QtCore, QtWidgets

        self.told = Conversation()
        self.application = QtWidgets.QApplication(sys.argv[:1])
        self._asked: queue.Queue[tuple[Callable[[], Any], queue.Queue[Any]]] = queue.Queue()
        driver = self

        class Bell(QtCore.QObject):
            rung = QtCore.Signal()

        self._bell = Bell()
        # Queued, as the bell belongs to this thread and is rung in another.
        self._bell.rung.connect(lambda: driver._answer(), QtCore.Qt.QueuedConnection)

    def run(self, handlers: Mapping[str, Handler]) -> None:
        """Answer questions until the test ends the process."""
        self.told.serve_in_thread({name: self._hop(it) for name, it in handlers.items()})
        self.told.tell("ready")
        sys.exit(getattr(self.application, "exec_", self.application.exec)())

    def _hop(self, handler: Handler) -> Handler:
        def ask(*args: Any, **kwargs: Any) -> Any:
            answer: queue.Queue[Any] = queue.Queue()
            self._asked.put((lambda: handler(*args, **kwargs), answer))
            self._bell.rung.emit()
            result = answer.get()
            if isinstance(result, Exception):
                raise result
            return result

        return ask

    def _answer(self) -> None:
        function, answer = self._asked.get()
        try:
            answer.put(function())
        except Exception as error:
            answer.put(error)


def verbs(driver: object) -> dict[str, Handler]:
    """The public methods of a driver, by their names."""
    names = (name for name in dir(driver) if not name.startswith("_"))
    return {name: it for name in names if callable(it := getattr(driver, name))}
