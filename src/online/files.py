"""State files, which keep data from one run to the next: replaced as a whole, by one process at a time.

Not here: their contents (state, places), and when they are written.

1. The file at the path is always complete. A new file replaces it in one step, once it is safe on the disk.
2. Only one process uses a file, from before reading it until after writing it. Otherwise the last process to stop would
   overwrite what the others saved.
3. Who is online where is private: only the owner may read and write a file.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from online.errors import StateError


def beside(path: Path, what: str) -> Path:
    """Return the path of the new file or the lock, next to the file. Follows symbolic links."""
    path = path.resolve()
    return path.with_name(f".{path.name}.{what}")


def create(path: Path) -> int:
    """Open an empty file for writing, with permissions for the owner only. Raises OSError."""
    return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def check_unused(path: Path, who: str, *, lock: Path | None = None) -> None:
    """Raise StateError where `hold` would find another process, or could not open its lock. Makes nothing."""
    what = "state file" if lock is None else "state directory"
    lock = lock or beside(path, "lock")
    try:
        descriptor = os.open(lock, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StateError(f"{what} {path} cannot be written: {error.strerror}: {lock}") from None
    try:
        _lock(descriptor, path, what, who, lock)
    finally:
        os.close(descriptor)


@contextmanager
def hold(path: Path, who: str, *, lock: Path | None = None) -> Iterator[None]:
    """Lock the state at `path` inside the context. `who` names its users in errors, such as "server".

    `lock`: of a directory, a file in it. Raises StateError if another process uses it, or if it cannot be locked.
    """
    what = "state file" if lock is None else "state directory"
    lock = lock or beside(path, "lock")
    try:
        descriptor = create(lock)
    except OSError as error:
        raise StateError(f"{what} {path} cannot be written: {error.strerror}: {lock}") from None
    try:
        # The lock is a separate file, because `replacing` replaces the file at the path. The kernel releases it
        # however the process ends. It is never deleted: another process may just have locked it, and a third would
        # then create and lock a new one.
        _lock(descriptor, path, what, who, lock)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, what: str, who: str, lock: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StateError(f"{what} {path} is in use by another {who}; give another path") from None
    except OSError as error:
        raise StateError(f"{what} {path} cannot be locked: {error.strerror}: {lock}") from None


def check(path: Path) -> None:
    """Check that a state file can be written at `path`. Raises StateError if not."""
    new = beside(path, "new")
    try:
        if path.exists() and not path.is_file():
            raise StateError(f"state file {path} is not a regular file")
        os.close(create(new))
        new.unlink()
    except OSError as error:
        raise StateError(f"state file {path} cannot be written: {error.strerror}") from None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file to write, which replaces the file at `path` at the end.

    Raises StateError, and then leaves the file at `path` unchanged.
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
