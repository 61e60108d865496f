"""After a fork: tells the objects whose locks, threads and connections belong to the parent."""

import os
from threading import RLock
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    def after_fork(self) -> None:
        """Forget, in a child process, what belongs to the parent."""


_forkables: WeakSet[Forkable] = WeakSet()
_pid = os.getpid()  #: of the process that all of them know
_locks: dict[int, RLock] = {}  #: by process, as a thread of the parent may hold the parent's


def tell_after_fork(forkable: Forkable) -> None:
    """Call `forkable.after_fork()` in every child process, for as long as the object lives."""
    _forkables.add(forkable)


def notice_fork() -> None:
    """Tell them now, if this process was forked by a program that did not say so to Python, as uWSGI may. O(1).

    Threads that come meanwhile wait until all are told: what they did before would be forgotten too.
    """
    pid = os.getpid()
    if pid != _pid:
        with _locks.setdefault(pid, RLock()):
            if pid != _pid:
                _after_fork()


def _after_fork() -> None:
    global _pid
    for forkable in list(_forkables):
        forkable.after_fork()
    _pid = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
