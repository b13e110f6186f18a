"""What accel.load answers with: an engine that passed its smoke test, safe to hand to a service."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from accel.errors import CandidateBroken, UsageError
from accel.protocols import Session
from accel.values import Feed

_alive: weakref.WeakSet[Loaded] = weakref.WeakSet()


def _forked() -> None:
    """Never end an engine in a fork: it would wait for threads that stayed behind in the parent."""
    for one in list(_alive):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one._session))


os.register_at_fork(after_in_child=_forked)


class Loaded:
    """An engine that passed its smoke test: call it with a dict of arrays; close it, or use `with`.

    Threads may call it at once. A process forked after the load must load again: the engine's
    threads stay behind in the parent, and a call would wait for them for ever; to close or to drop
    the parent's there does nothing. Raises UsageError for a feed that does not fit, CandidateBroken
    after `close` and in a forked process."""

    def __init__(self, session: Session) -> None:
        self._session, self._home = session, os.getpid()
        _alive.add(self)

    def __call__(self, feed: Feed) -> dict[str, Any]:
        self._check(feed)
        return self._session(feed)

    def bind(self, feed: Feed) -> Callable[[], Any]:
        """A zero-argument callable that runs on these preallocated inputs; for one thread. It answers
        with what the engine has at hand, a dict or a sequence in the order of the outputs; it raises
        as a call does."""
        self._check(feed)
        call = self._session.bind(feed)

        def bound() -> Any:
            self._check(feed)
            return call()

        return bound

    def _check(self, feed: Any) -> None:
        if os.getpid() != self._home:
            raise CandidateBroken(
                f"Loaded in process {self._home}, called in its fork {os.getpid()}, where the "
                f"engine's threads do not exist. Call accel.load after the fork."
            )
        if not isinstance(feed, dict | Mapping):  # dict first: the abstract class is slow to ask
            raise UsageError(f"Call it with a dict of name -> array, not {type(feed).__name__}.")

    def close(self) -> None:
        """Give the engine's memory back."""
        if os.getpid() == self._home:
            self._session.close()

    def __enter__(self) -> Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
