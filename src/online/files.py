"""Files that remember between two runs: written whole, and by one process at a time.

Not its job: what is in them (state, places), and when they are written.

Invariants:
1. The file at the path is always a whole one: a new one replaces it in one step, once it is safe on the disk.
2. One process at a time has a file, from before it is read until after it is written: the last to end would
   else replace what the others saved.
3. Who is online where is nobody else's business: the owner alone may read and write.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from online.errors import StateError


def beside(path: Path, what: str) -> Path:
    """Where the new file or the lock is: beside the file, or beside what a link leads to."""
    path = path.resolve()
    return path.with_name(f".{path.name}.{what}")


def create(path: Path) -> int:
    """Open for writing, empty; for the owner alone. Raises OSError."""
    return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


@contextmanager
def hold(path: Path, who: str, *, lock: Path | None = None) -> Iterator[None]:
    """Keep others from the state at `path`, inside the context; `who` they are, as they will be told.

    `lock`: of a directory, a file in it. Raises StateError if another has it, or if it cannot be locked.
    """
    what = "state file" if lock is None else "state directory"
    lock = lock or beside(path, "lock")
    try:
        descriptor = create(lock)
    except OSError as error:
        raise StateError(f"{what} {path} cannot be written: {error.strerror}: {lock}") from None
    try:
        # A file of its own, since `replacing` puts another file at the path. The kernel lets go of it whatever
        # the process dies of. It stays behind: who removed it might remove the one that another process has
        # just locked, and a third would make and lock a new one.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StateError(f"{what} {path} is in use by another {who}; give another path") from None
    except OSError as error:
        os.close(descriptor)
        raise StateError(f"{what} {path} cannot be locked: {error.strerror}: {lock}") from None
    try:
        yield
    finally:
        os.close(descriptor)


def check(path: Path) -> None:
    """Make sure that a state file can be written at `path`. Raises StateError if not."""
    new = beside(path, "new")
    try:
        if path.exists() and not path.is_file():
            raise StateError(f"state file {path}: is no regular file")
        os.close(create(new))
        new.unlink()
    except OSError as error:
        raise StateError(f"state file {path} cannot be written: {error.strerror}") from None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a new file to write, and put it in the place of the one at `path` at the end.

    Raises StateError, leaving what was at `path` as it was.
    """
    new = beside(path, "new")
    try:
        with open(create(new), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.rename(path.resolve())
        _sync_folder(new)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise StateError(f"state file {path} cannot be written: {error.strerror}") from None


def _sync_folder(of: Path) -> None:
    folder = os.open(of.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
