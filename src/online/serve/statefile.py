"""The state file of a server: read before it listens, written after its last connection has ended.

Not its job: what is in the file (keep/state.py).

Invariant: the file is written after the last hit was answered, and never by a server that has failed.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from online import files
from online.core.sites import Sites
from online.core.wire import Service
from online.errors import OnlineError, StateError
from online.keep import state
from online.serve.parts import Part

logger = logging.getLogger("online")


class StateFile(Part):
    """The part of a server that keeps its sessions from one run to the next."""

    name = "state"

    def __init__(self, path: Path, sites: Sites, service: Service, now_ms: Callable[[], int]) -> None:
        """Nothing is read yet."""
        self._path = path
        self._sites = sites
        self._service = service
        self._now_ms = now_ms

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Read the file, and write it at the end. Raises StateError at the start, OnlineError at the end."""
        with state.hold(self._path):
            self._load()
            yield
            self._save()

    def _load(self) -> None:
        path = self._path
        files.check(path)
        loaded = state.load(path, self._sites, self._now_ms, clock_step_ms=self._service.clock_step_ms)
        if not loaded.is_found:
            logger.info("no state file %s yet, beginning empty", path)
            return
        if loaded.damage:
            kept = state.damaged(path)
            logger.warning("state file %s is damaged, it is now %s: %s", path, kept, loaded.damage)
        if loaded.refused:
            logger.warning("state file %s: %d users were refused at a limit", path, loaded.refused)
        logger.info(
            "read %d users from %s; %d more had left the window meanwhile", loaded.users, path, loaded.late
        )

    def _save(self) -> None:
        try:
            users = state.save(self._path, self._sites, clock_step_ms=self._service.clock_step_ms)
        except StateError as error:
            raise OnlineError(str(error)) from None
        logger.info("saved %d users to %s", users, self._path)
