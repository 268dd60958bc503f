"""What a device does for one call of a session: read a parameter, write one, call a command."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred

from labnet.device import ParameterState, read
from labnet.values import AT_HAND, Reading, frozen


def read_state(state: ParameterState) -> Any:
    """A reading of a parameter, new if it has a getter (then perhaps a Deferred of it)."""
    value = read(state)
    if state.getter is None:
        return state.reading
    if value.__class__ in AT_HAND:
        return state.store(state.result(value))
    if isinstance(value, CoroutineType):
        value = Deferred.fromCoroutine(value)
    if isinstance(value, Deferred):
        return value.addCallback(lambda result: state.store(state.result(result)))
    return state.store(state.result(value))


def write_state(state: ParameterState, value: Any) -> Any:
    """Gives a parameter a checked value; a reading or a Deferred of it."""
    if state.setter is None:
        return state.store(value)
    taken = state.setter(value)
    if isinstance(taken, CoroutineType):
        taken = Deferred.fromCoroutine(taken)
    if isinstance(taken, Deferred):
        return taken.addCallback(lambda result: _taken(state, value, result))
    return _taken(state, value, taken)


def _taken(state: ParameterState, value: Any, result: Any) -> Reading:
    return state.store(value if result is None else state.result(result))


def call_state(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Calls a command; arrays in its result may be shared and so are read-only."""
    result = function(*args, **kwargs)
    return frozen(result) if isinstance(result, np.ndarray) else result
